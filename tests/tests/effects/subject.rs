//! A plain connection to the server: sends one text, and keeps everything that came back.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use tests::wire::{self, Message};

/// One session.
pub(crate) struct Subject {
    stream: TcpStream,
    pending: Vec<u8>,
    /// The backend's process.
    pub(crate) pid: u32,
}

/// What came back for one text.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// Rows, or lines of COPY.
    pub(crate) rows: Vec<Vec<Option<String>>>,
    /// Their messages.
    pub(crate) messages: Vec<Vec<u8>>,
    /// Data of COPY came.
    pub(crate) copied_out: bool,
    /// The first error.
    pub(crate) error: Option<String>,
    /// Messages of level INFO, which the server sends whatever the session's settings.
    pub(crate) told: Vec<String>,
    /// Notifications: channel and payload.
    pub(crate) notified: usize,
}

impl Subject {
    /// Logs in.
    pub(crate) fn log_in(port: u16, user: &str, database: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket takes a timeout");
        stream.set_nodelay(true).expect("a socket takes the option");
        let mut subject = Self { stream, pending: Vec::new(), pid: 0 };
        let startup = [("user", user), ("database", database), ("application_name", database)];
        subject.send(&wire::startup(&startup));
        let reply = subject.listen();
        assert_eq!(reply.error, None, "{user} cannot log in to {database}");
        subject
    }

    /// Runs `sql` as one simple Query.
    pub(crate) fn query(&mut self, sql: &str) -> Reply {
        self.send(&wire::query(sql));
        self.listen()
    }

    /// Runs `sql` by the extended protocol, executing the portal once for each limit of rows (0: no limit).
    pub(crate) fn extended(&mut self, sql: &str, limits: &[u32]) -> Reply {
        let mut messages = [wire::parse("", sql), wire::bind("", "", &[])].concat();
        limits.iter().for_each(|limit| messages.extend(wire::execute("", *limit)));
        messages.extend(wire::sync());
        self.send(&messages);
        self.listen()
    }

    /// Runs `sql`, which must work, and gives its rows.
    #[track_caller]
    pub(crate) fn must(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let reply = self.query(sql);
        assert_eq!(reply.error, None, "{sql}");
        reply.rows
    }

    fn send(&mut self, bytes: &[u8]) {
        // A session that was ended cannot be written to; that shows when its answer is read.
        let _gone = self.stream.write_all(bytes);
    }

    fn listen(&mut self) -> Reply {
        let mut reply = Reply::default();
        loop {
            let Some(message) = self.message() else {
                reply.error.get_or_insert_with(|| "the session ended".to_owned());
                return reply;
            };
            if message.kind == b'Z' {
                return reply;
            }
            self.heard(&message, &mut reply);
        }
    }

    fn heard(&mut self, message: &Message, reply: &mut Reply) {
        match message.kind {
            b'K' => self.pid = number(&message.body),
            b'D' => {
                reply.rows.push(columns(&message.body));
                reply.messages.push(wire::message(b'D', &message.body));
            }
            b'd' => reply.copied_out = true,
            b'G' => self.send(&[wire::message(b'd', COPIED_IN), wire::message(b'c', &[])].concat()),
            b'A' => reply.notified += 1,
            b'N' if message.field(b'S').as_deref() == Some("INFO") => reply.told.extend(message.field(b'M')),
            b'E' => {
                let what = message.field(b'M').unwrap_or_default();
                reply.error.get_or_insert(what);
            }
            _ => {}
        }
    }

    fn message(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = wire::take(&mut self.pending) {
                return Some(message);
            }
            let mut piece = [0; 16 * 1024];
            let length = self.stream.read(&mut piece).ok().filter(|length| *length > 0)?;
            self.pending.extend_from_slice(&piece[..length]);
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.send(&wire::terminate());
    }
}

/// What every `COPY … FROM STDIN` of the corpus is sent.
const COPIED_IN: &[u8] = b"901\tcopied\t1\n";

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().copied().map_or(0, u32::from_be_bytes)
}

/// The values of a DataRow.
fn columns(body: &[u8]) -> Vec<Option<String>> {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut columns = Vec::new();
    while let Some((length, value)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        columns.push(length.map(|length| String::from_utf8_lossy(&value[..length]).into_owned()));
        rest = &value[length.unwrap_or(0)..];
    }
    columns
}
