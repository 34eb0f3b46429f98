//! A guarded program that sends whatever bytes the test says, and tells what comes back.
//!
//! The sockets are the program's (`src/bin/raw_client.rs`), since only a process in the guarded cgroup is intercepted;
//! what they say is decided here.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, Instant},
};

use crate::{
    Running,
    wire::{self, Message},
};

/// The program. Its connections are numbered from 0.
#[derive(Debug)]
pub struct Raw {
    running: Running,
    conns: BTreeMap<usize, Heard>,
}

/// Names one of a [`Raw`]'s connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conn(usize);

#[derive(Debug, Default)]
struct Heard {
    bytes: Vec<u8>,
    opened: bool,
    ended: Option<String>,
}

impl Raw {
    pub(crate) fn new(running: Running) -> Self {
        Self { running, conns: BTreeMap::new() }
    }

    /// Opens a connection; whether it succeeds shows in what is heard.
    pub fn open(&mut self, host: &str, port: u16) -> Conn {
        let conn = self.conns.len();
        self.conns.insert(conn, Heard::default());
        self.running.write(&format!("open {conn} {host} {port}\n"));
        Conn(conn)
    }

    /// Opens a connection as role `app` of the shop and waits until it is ready. Returns what was heard on the way.
    #[track_caller]
    pub fn log_in(&mut self, port: u16) -> (Conn, Vec<Message>) {
        let conn = self.open("127.0.0.1", port);
        self.send(conn, &wire::startup(&[("user", "app"), ("database", "shop")]));
        let heard = self.until(conn, b'Z');
        (conn, heard)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, conn: Conn, bytes: &[u8]) {
        // One line per piece: a pipe takes lines of any length, but not all at once.
        for piece in bytes.chunks(8 * 1024) {
            let mut line = format!("send {} ", conn.0);
            for byte in piece {
                write!(line, "{byte:02x}").expect("a String takes everything");
            }
            line.push('\n');
            self.running.write(&line);
        }
    }

    /// Sends `count` bytes of `byte`, faster than spelling them out.
    pub fn send_many(&mut self, conn: Conn, byte: u8, count: usize) {
        self.running.write(&format!("fill {} {byte:02x} {count}\n", conn.0));
    }

    /// Closes a connection.
    pub fn close(&mut self, conn: Conn) {
        self.running.write(&format!("close {}\n", conn.0));
    }

    /// One simple query and everything up to ReadyForQuery.
    #[track_caller]
    pub fn query(&mut self, conn: Conn, sql: &str) -> Vec<Message> {
        self.send(conn, &wire::query(sql));
        self.until(conn, b'Z')
    }

    /// Messages up to and with one of type `kind`.
    ///
    /// # Panics
    /// When it does not come; the message has what came instead.
    #[track_caller]
    pub fn until(&mut self, conn: Conn, kind: u8) -> Vec<Message> {
        let mut heard = Vec::new();
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            while let Some(message) = wire::take(&mut self.heard(conn).bytes) {
                let found = message.kind == kind;
                heard.push(message);
                if found {
                    return heard;
                }
            }
            if self.heard(conn).ended.is_some() {
                break;
            }
            self.listen(Duration::from_millis(100));
        }
        let rest = self.heard(conn);
        panic!("no {:?} on the connection, but {}; then {rest:?}", char::from(kind), shown(&heard));
    }

    /// Everything until the other side closes: the messages, and any bytes that are none.
    ///
    /// # Panics
    /// When it does not close.
    #[track_caller]
    pub fn until_closed(&mut self, conn: Conn) -> (Vec<Message>, Vec<u8>) {
        let until = Instant::now() + LIMIT;
        while self.heard(conn).ended.is_none() {
            assert!(Instant::now() < until, "the connection is not closed: {:?}", self.heard(conn));
            self.listen(Duration::from_millis(100));
        }
        let heard = self.heard(conn);
        let mut messages = Vec::new();
        while let Some(message) = wire::take(&mut heard.bytes) {
            messages.push(message);
        }
        (messages, std::mem::take(&mut heard.bytes))
    }

    /// The next `count` bytes, framed or not.
    #[track_caller]
    pub fn bytes(&mut self, conn: Conn, count: usize) -> Vec<u8> {
        let until = Instant::now() + LIMIT;
        while self.heard(conn).bytes.len() < count {
            assert!(
                Instant::now() < until && self.heard(conn).ended.is_none(),
                "too few bytes: {:?}",
                self.heard(conn)
            );
            self.listen(Duration::from_millis(100));
        }
        self.heard(conn).bytes.drain(..count).collect()
    }

    /// Whether the connection was made; waits for the answer.
    #[track_caller]
    pub fn opened(&mut self, conn: Conn) -> bool {
        let until = Instant::now() + LIMIT;
        while !self.heard(conn).opened && self.heard(conn).ended.is_none() {
            assert!(Instant::now() < until, "the connection is neither made nor refused");
            self.listen(Duration::from_millis(100));
        }
        self.heard(conn).opened
    }

    /// Whether the other side has closed by now, or the connection was never made.
    pub fn is_closed(&mut self, conn: Conn) -> bool {
        self.listen(Duration::ZERO);
        self.heard(conn).ended.is_some()
    }

    fn heard(&mut self, conn: Conn) -> &mut Heard {
        self.conns.get_mut(&conn.0).expect("this program opened it")
    }

    /// Takes in what the program has told since.
    fn listen(&mut self, limit: Duration) {
        for line in self.running.take_lines(limit) {
            let mut words = line.splitn(3, ' ');
            let (Some(what), Some(conn)) = (words.next(), words.next()) else { continue };
            let rest = words.next().unwrap_or_default();
            let Some(heard) = conn.parse().ok().and_then(|conn: usize| self.conns.get_mut(&conn)) else { continue };
            match what {
                "open" => heard.opened = true,
                "data" => heard.bytes.extend(unhex(rest)),
                "end" => heard.ended = Some(rest.to_owned()),
                other => panic!("raw_client said {other}: {line}"),
            }
        }
    }
}

/// Messages as a person reads them in a failure.
pub fn shown(messages: &[Message]) -> String {
    let each: Vec<_> =
        messages.iter().map(|message| format!("{}{:?}", char::from(message.kind), message.text())).collect();
    each.join(" ")
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("raw_client writes hex");
    (0..hex.len() / 2).map(|index| digit(index * 2)).collect()
}

/// Longer than any answer takes that does not wait for a person.
const LIMIT: Duration = Duration::from_secs(20);
