//! Many connections, fast: with malformed bytes of its own, or well-behaved towards a backend that is not.
//!
//! Arguments: `client|backend` HOST PORT COUNT THREADS. Prints `answered N stuck N refused N` at the end, and
//! `progress N` on the way.

use std::{
    env,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use tests::{client_frames, wire};

static NEXT: AtomicU64 = AtomicU64::new(0);
static STUCK: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [mode, host, port, count, threads] = &arguments[..] else {
        panic!("usage: flood_client MODE HOST PORT COUNT THREADS")
    };
    let port: u16 = port.parse().expect("the lab writes ports");
    let count: u64 = count.parse().expect("the lab writes counts");
    let threads: u64 = threads.parse().expect("the lab writes counts");
    let malformed = mode == "client";
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(host, port, count, malformed));
        }
    });
    let stuck = STUCK.load(Ordering::Relaxed);
    let refused = REFUSED.load(Ordering::Relaxed);
    println!("answered {} stuck {stuck} refused {refused}", count - stuck - refused);
}

fn work(host: &str, port: u16, count: u64, malformed: bool) {
    loop {
        let index = NEXT.fetch_add(1, Ordering::Relaxed);
        if index >= count {
            return;
        }
        if index.is_multiple_of(10_000) {
            println!("progress {index}");
        }
        let Ok(stream) = TcpStream::connect((host, port)) else {
            REFUSED.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        stream.set_read_timeout(Some(STUCK_AFTER)).expect("the time is not zero");
        let ended = if malformed { misbehave(stream, index) } else { behave(stream) };
        if ended.is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)) {
            STUCK.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends malformed bytes and an end of file, and reads what comes until the other side closes.
fn misbehave(mut stream: TcpStream, index: u64) -> io::Result<()> {
    // The other side may close in the middle, as it should.
    let _closed = stream.write_all(&client_frames(index)).and_then(|()| stream.shutdown(Shutdown::Write));
    drain(&mut stream, |_, _| Ok(()))
}

/// Logs in, asks one thing once it may, and reads until the other side closes.
fn behave(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(&wire::startup(&[("user", "app"), ("database", "shop")]))?;
    let mut asked = false;
    drain(&mut stream, |stream, kind| {
        if kind == b'Z' && !asked {
            asked = true;
            stream.write_all(&wire::query("SELECT 1"))?;
        }
        Ok(())
    })
}

fn drain(stream: &mut TcpStream, mut told: impl FnMut(&mut TcpStream, u8) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
        while let Some(message) = wire::take(&mut bytes) {
            told(stream, message.kind)?;
        }
    }
}

/// The gateway closes a malformed connection at once; on a busy machine that is well within this.
const STUCK_AFTER: Duration = Duration::from_secs(10);
