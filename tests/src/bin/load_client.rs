//! Load for the crash test: threads that connect, run marked statements, and connect again when the connection dies.
//!
//! Arguments: HOST PORT THREADS. Output, one event a line: `ok MARK`, `refused MARK`, `lost MARK`, `down REASON`.
//! Each mark is used for one statement only, so the backend's log and the record can be compared statement by statement.

#![allow(clippy::disallowed_methods, reason = "a load is paced, and ends whatever its threads are doing")]

use std::{
    env,
    io::{self, Read, Write},
    net::TcpStream,
    process, thread,
    time::Duration,
};

use tests::{
    Pace,
    wire::{self, Message},
};

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [host, port, threads] = &arguments[..] else { panic!("usage: load_client HOST PORT THREADS") };
    let port: u16 = port.parse().expect("the lab writes ports");
    let threads: u64 = threads.parse().expect("the lab writes counts");
    for thread in 0..threads {
        let host = host.clone();
        thread::spawn(move || Load { host, port, thread, count: 0, pace: Pace::new(thread) }.run());
    }
    // The lab ends this program by closing its input.
    let _end = io::stdin().read_to_end(&mut Vec::new());
    process::exit(0);
}

struct Load {
    host: String,
    port: u16,
    thread: u64,
    count: u64,
    pace: Pace,
}

impl Load {
    fn run(mut self) {
        loop {
            match self.connect() {
                Ok(mut server) => while self.statement(&mut server) {},
                Err(error) => {
                    say(&format!("down {error}"));
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    fn connect(&self) -> io::Result<Server> {
        let mut server = Server { stream: TcpStream::connect((self.host.as_str(), self.port))?, bytes: Vec::new() };
        server.stream.write_all(&wire::startup(&[("user", "app"), ("database", "shop")]))?;
        server.until_ready()?;
        Ok(server)
    }

    /// One statement; `false` when the connection is of no more use.
    fn statement(&mut self, server: &mut Server) -> bool {
        let mark = format!("mark-{}-{}", self.thread, self.count);
        self.count += 1;
        let sql = match self.pace.below(20) {
            0..13 => format!("SELECT '{mark}'"),
            13..18 => format!("INSERT INTO crash_log VALUES ('{mark}')"),
            _ => format!("DELETE FROM crash_held WHERE mark = '{mark}'"),
        };
        let answered = server.stream.write_all(&wire::query(&sql)).and_then(|()| server.until_ready());
        match answered {
            Ok(refused) => say(&format!("{} {mark}", if refused { "refused" } else { "ok" })),
            Err(_) => say(&format!("lost {mark}")),
        }
        answered.is_ok()
    }
}

struct Server {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Server {
    /// Reads to ReadyForQuery; the answer is whether an error came before it.
    fn until_ready(&mut self) -> io::Result<bool> {
        let mut refused = false;
        loop {
            match self.message()?.kind {
                b'Z' => return Ok(refused),
                b'E' => refused = true,
                _ => {}
            }
        }
    }

    fn message(&mut self) -> io::Result<Message> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(message) = wire::take(&mut self.bytes) {
                return Ok(message);
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.bytes.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _nobody_listens = writeln!(out, "{line}").and_then(|()| out.flush());
}
