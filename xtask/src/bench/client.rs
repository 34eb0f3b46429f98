//! The bench's own client: opens connections, holds statements, says when an answer came. Runs in a guarded cgroup.
//!
//! It speaks the smallest part of PostgreSQL's protocol (version 3.0, trust authentication, simple queries), blocking
//! and by hand, so that the time it takes is the road's and not a driver's.

use std::{
    io::{BufRead, Read, Write},
    net::TcpStream,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use nix::unistd::{User, geteuid, setgid, setgroups, setuid};

/// A statement that the bench's policy holds and that costs PostgreSQL next to nothing.
pub(super) const HELD: &str = "DELETE FROM probe WHERE false";

/// What the client does.
#[derive(clap::Subcommand)]
pub(super) enum Task {
    /// Open connections, say `ready`, keep them until stdin ends
    Idle {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        count: usize,
    },
    /// Open connections with a held statement in each, say `ready`, keep them until stdin ends
    Held {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        count: usize,
    },
    /// Connect, ask, leave, again and again; print how many a second
    Connect {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        seconds: u64,
        /// How many do so at a time
        #[arg(long, default_value_t = 1)]
        threads: usize,
    },
    /// Connect and hang up `count` times; print how many a second
    Dial {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        count: u32,
    },
    /// Send a held statement for each line of stdin; print its request's id, then when its result came
    Release {
        #[arg(long)]
        port: u16,
    },
    /// Ask once, read the answer; print its rows, its bytes and the seconds that it took
    Read {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        sql: String,
    },
    /// The held statement's time without a gateway: print µs for each of `count` runs
    Direct {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        count: usize,
    },
}

pub(super) fn run(task: &Task) -> Result<()> {
    be_nobody()?;
    match *task {
        Task::Read { port, ref sql } => read(port, sql),
        Task::Idle { port, count } => keep(port, count, |session| session.ask("SELECT 1")),
        Task::Held { port, count } => {
            keep(port, count, |session| session.send(HELD).and_then(|()| session.notice().map(drop)))
        }
        Task::Connect { port, seconds, threads } => connect(port, Duration::from_secs(seconds), threads),
        Task::Dial { port, count } => dial(port, count),
        Task::Release { port } => release(port),
        Task::Direct { port, count } => direct(port, count),
    }
}

/// Whoever asks may not approve: the bench approves as root, so its client is another user before it connects.
fn be_nobody() -> Result<()> {
    if geteuid().is_root() {
        let nobody = User::from_name("nobody")?.context("there is no user `nobody`")?;
        setgroups(&[])?;
        setgid(nobody.gid)?;
        setuid(nobody.uid)?;
    }
    Ok(())
}

fn keep(port: u16, count: usize, settle: impl Fn(&mut Session) -> Result<()>) -> Result<()> {
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        let mut session = Session::open(port)?;
        settle(&mut session)?;
        sessions.push(session);
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn connect(port: u16, time: Duration, threads: usize) -> Result<()> {
    let began = Instant::now();
    let one = || -> Result<u32> {
        let mut count = 0;
        while began.elapsed() < time {
            let mut session = Session::open(port)?;
            session.ask("SELECT 1")?;
            session.leave()?;
            count += 1;
        }
        Ok(count)
    };
    let counts = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().expect("a client does not panic")).collect::<Result<Vec<_>>>()
    });
    println!("{:.1}", f64::from(counts?.iter().sum::<u32>()) / began.elapsed().as_secs_f64());
    Ok(())
}

fn dial(port: u16, count: u32) -> Result<()> {
    let began = Instant::now();
    for _ in 0..count {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
        // What is over leaves nothing behind, or the ports would be used up.
        let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &reset)?;
    }
    println!("{:.1}", f64::from(count) / began.elapsed().as_secs_f64());
    Ok(())
}

fn release(port: u16) -> Result<()> {
    let mut session = Session::open(port)?;
    for line in std::io::stdin().lock().lines() {
        line?;
        session.send(HELD)?;
        println!("held {}", session.notice()?);
        session.until(b'C')?;
        println!("done {}", now());
        session.until(b'Z')?;
    }
    Ok(())
}

fn read(port: u16, sql: &str) -> Result<()> {
    let mut session = Session::open(port)?;
    let mut piece = vec![0; 256 * 1024];
    let (mut answer, mut bytes) = (Answer::default(), 0);
    let began = Instant::now();
    session.send(sql)?;
    while !answer.is_whole {
        let length = session.0.read(&mut piece)?;
        if length == 0 {
            bail!("the other side ended in the middle of the answer, after {bytes} bytes");
        }
        bytes += length;
        answer.read(&piece[..length])?;
    }
    println!("{} {bytes} {:.4}", answer.rows, began.elapsed().as_secs_f64());
    session.leave()
}

/// Counts an answer's rows on the way, without keeping any, so that the client costs next to nothing.
#[derive(Default)]
struct Answer {
    rows: u64,
    /// The backend is ready for the next request.
    is_whole: bool,
    head: [u8; 5],
    /// How much of the head has come.
    begun: usize,
    /// What is still to come of the message.
    left: usize,
}

impl Answer {
    fn read(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            let passed = self.left.min(bytes.len());
            self.left -= passed;
            bytes = &bytes[passed..];
            let more = (self.head.len() - self.begun).min(bytes.len());
            self.head[self.begun..self.begun + more].copy_from_slice(&bytes[..more]);
            self.begun += more;
            bytes = &bytes[more..];
            if self.begun < self.head.len() {
                return Ok(());
            }
            self.begun = 0;
            let length = u32::from_be_bytes([self.head[1], self.head[2], self.head[3], self.head[4]]);
            self.left = usize::try_from(length)?.checked_sub(4).context("a message shorter than its own length")?;
            match self.head[0] {
                b'D' => self.rows += 1,
                b'E' => bail!("refused: {}", String::from_utf8_lossy(bytes).replace('\0', " ")),
                b'Z' => self.is_whole = true,
                _ => {}
            }
        }
    }
}

fn direct(port: u16, count: usize) -> Result<()> {
    let mut session = Session::open(port)?;
    for _ in 0..count {
        let began = Instant::now();
        session.send(HELD)?;
        session.until(b'C')?;
        println!("{:.1}", began.elapsed().as_secs_f64() * 1e6);
        session.until(b'Z')?;
    }
    Ok(())
}

/// The machine's wall clock, ns: two processes of one machine read the same one.
pub(super) fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970").as_nanos()
}

struct Session(TcpStream);

impl Session {
    fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut session = Self(stream);
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        startup.extend_from_slice(b"user\0bench\0database\0bench\0application_name\0bench\0\0");
        session.0.write_all(&framed(None, &startup))?;
        session.until(b'Z').context("cannot log in")?;
        Ok(session)
    }

    fn send(&mut self, sql: &str) -> Result<()> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        Ok(self.0.write_all(&framed(Some(b'Q'), &body))?)
    }

    fn ask(&mut self, sql: &str) -> Result<()> {
        self.send(sql)?;
        self.until(b'Z').map(drop)
    }

    fn leave(&mut self) -> Result<()> {
        Ok(self.0.write_all(&framed(Some(b'X'), &[]))?)
    }

    /// The id of the request that the next notice names.
    fn notice(&mut self) -> Result<String> {
        let body = self.until(b'N')?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let after = text.split_once("request ").with_context(|| format!("a notice names no request: {text}"))?.1;
        Ok(after.chars().take_while(char::is_ascii_hexdigit).collect())
    }

    /// Reads messages up to one of the kind `wanted`; an error from the other side is an error.
    fn until(&mut self, wanted: u8) -> Result<Vec<u8>> {
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).context("the other side ended")?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let length = usize::try_from(length)?.checked_sub(4).context("a message shorter than its own length")?;
            let mut body = vec![0; length];
            self.0.read_exact(&mut body)?;
            match head[0] {
                kind if kind == wanted => return Ok(body),
                b'E' => bail!("refused: {}", String::from_utf8_lossy(&body).replace('\0', " ")),
                b'R' if body[..4] != [0; 4] => bail!("a password is asked for"),
                _ => {}
            }
        }
    }
}

fn framed(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("the bench sends short messages");
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(body);
    message
}

#[cfg(test)]
mod tests {
    use super::{Answer, framed};

    #[test]
    fn an_answer_is_counted_however_it_is_cut() {
        let kinds = [(b'T', 20), (b'D', 7), (b'D', 0), (b'N', 3), (b'D', 300), (b'C', 9), (b'Z', 1)];
        let bytes: Vec<u8> =
            kinds.iter().flat_map(|(kind, length)| framed(Some(*kind), &vec![b'D'; *length])).collect();
        for size in 1..bytes.len() {
            let mut answer = Answer::default();
            for piece in bytes.chunks(size) {
                answer.read(piece).expect("an answer");
            }
            assert!(answer.is_whole && answer.rows == 3, "in pieces of {size}: {} rows", answer.rows);
            let mut cut = Answer::default();
            cut.read(&bytes[..bytes.len() - 6]).expect("a part of it");
            assert!(!cut.is_whole);
        }
        let mut refused = Answer::default();
        assert!(refused.read(&framed(Some(b'E'), b"SERROR")).is_err());
    }
}
