//! Load for the tests of restarts: connects as often as it is told, and tells what it was like.
//!
//! Arguments: HOST PORT THREADS RATE NAME ASKS. RATE is for all threads together, in connections a second. Every
//! connection binds `CLIENT` first, so that the destination knows who came past the gateway. One in ASKS logs in and sends
//! one statement that says NAME and a number; the others hang up at once. For each line of its input it prints a line of
//! JSON about the time since the last one.

#![allow(clippy::disallowed_methods, reason = "a load is paced, and ends whatever its threads are doing")]

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    process,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};
use serde_json::json;
use tests::{CLIENT, wire};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [host, port, threads, rate, name, asks] = &arguments[..] else {
        panic!("usage: gap_client HOST PORT THREADS RATE NAME ASKS")
    };
    let host: Ipv4Addr = host.parse().expect("the lab writes addresses");
    let to = SocketAddr::from((host, port.parse().expect("the lab writes ports")));
    let threads: u32 = threads.parse().expect("the lab writes counts");
    let pause = Duration::from_secs(1) * threads / rate.parse::<u32>().expect("the lab writes rates");
    let asks: u64 = asks.parse().expect("the lab writes counts");
    let seen = Arc::new(Mutex::new(Seen::new()));
    let number = Arc::new(AtomicU64::new(0));
    for _ in 0..threads {
        let (seen, number, name) = (Arc::clone(&seen), Arc::clone(&number), name.clone());
        thread::spawn(move || run(to, pause, &seen, &number, &name, asks));
    }
    for _line in io::stdin().lock().lines().map_while(Result::ok) {
        let taken = std::mem::replace(&mut *locked(&seen), Seen::new());
        let mut out = io::stdout().lock();
        let _nobody_listens = writeln!(out, "{}", taken.json()).and_then(|()| out.flush());
    }
    process::exit(0);
}

fn run(to: SocketAddr, pause: Duration, seen: &Mutex<Seen>, number: &AtomicU64, name: &str, asks: u64) {
    let mut next = Instant::now();
    loop {
        let began = Instant::now();
        match open(to) {
            Ok(stream) => {
                locked(seen).connected(began);
                let number = number.fetch_add(1, Ordering::Relaxed);
                if number.is_multiple_of(asks) {
                    let asked = Instant::now();
                    let answered = ask(stream, &format!("SELECT 'gap {name} {number}'"));
                    locked(seen).asked(asked, answered);
                }
            }
            Err(error) => locked(seen).refused(error),
        }
        next += pause;
        let now = Instant::now();
        match next.checked_duration_since(now) {
            Some(early) => thread::sleep(early),
            // Whatever was missed is not made up for, or the next moment would not be like the others.
            None => next = now,
        }
    }
}

fn open(to: SocketAddr) -> nix::Result<TcpStream> {
    let SocketAddr::V4(to) = to else { return Err(nix::errno::Errno::EAFNOSUPPORT) };
    let made: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // A connection that is over leaves nothing behind, or the ports would be used up within seconds.
    setsockopt(&made, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    let [a, b, c, d] = CLIENT.octets();
    bind(made.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0))?;
    connect(made.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(TcpStream::from(made))
}

fn ask(mut stream: TcpStream, sql: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&wire::startup(&[("user", "app"), ("database", "shop")]))?;
    let mut bytes = Vec::new();
    ready(&mut stream, &mut bytes)?;
    stream.write_all(&wire::query(sql))?;
    ready(&mut stream, &mut bytes)
}

fn ready(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 4096];
    loop {
        while let Some(message) = wire::take(bytes) {
            match message.kind {
                b'Z' => return Ok(()),
                b'E' => return Err(io::Error::other(message.field(b'M').unwrap_or_default())),
                _ => {}
            }
        }
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// What happened since the last line.
struct Seen {
    since: Instant,
    connected: u64,
    answered: u64,
    refused: u64,
    /// Why connects failed, and why connections that asked got no answer.
    why: BTreeMap<String, u64>,
    cut: BTreeMap<String, u64>,
    refused_since: Option<Instant>,
    longest_refused: Duration,
    longest_connect: Duration,
    longest_answer: Duration,
}

impl Seen {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            connected: 0,
            answered: 0,
            refused: 0,
            why: BTreeMap::new(),
            cut: BTreeMap::new(),
            refused_since: None,
            longest_refused: Duration::ZERO,
            longest_connect: Duration::ZERO,
            longest_answer: Duration::ZERO,
        }
    }

    fn connected(&mut self, began: Instant) {
        self.connected += 1;
        self.longest_connect = self.longest_connect.max(began.elapsed());
        if let Some(since) = self.refused_since.take() {
            self.longest_refused = self.longest_refused.max(since.elapsed());
        }
    }

    fn refused(&mut self, error: nix::Error) {
        self.refused += 1;
        *self.why.entry(error.to_string()).or_default() += 1;
        self.refused_since.get_or_insert_with(Instant::now);
    }

    fn asked(&mut self, asked: Instant, answered: io::Result<()>) {
        match answered {
            Ok(()) => {
                self.answered += 1;
                self.longest_answer = self.longest_answer.max(asked.elapsed());
            }
            Err(error) => *self.cut.entry(error.to_string()).or_default() += 1,
        }
    }

    fn json(&self) -> serde_json::Value {
        let still = self.refused_since.map_or(Duration::ZERO, |since| since.elapsed());
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        json!({
            "seconds": self.since.elapsed().as_secs_f64(),
            "connected": self.connected,
            "answered": self.answered,
            "refused": self.refused,
            "why": self.why,
            "cut": self.cut,
            "longest_refused_ms": milliseconds(self.longest_refused.max(still)),
            "longest_connect_ms": milliseconds(self.longest_connect),
            "longest_answer_ms": milliseconds(self.longest_answer),
        })
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("no thread panics with this lock")
}
