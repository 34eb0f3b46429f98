//! The packets that come before any typed message: what a client may say while nobody knows yet who it is.
//! ("Message Formats": SSLRequest, GSSENCRequest, CancelRequest, StartupMessage.)

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::wire::LONGEST_STARTUP;
use crate::protocol::{Malformed, reader::Reader, stranger};

/// A packet without a type byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Startup {
    /// The client would like TLS.
    Ssl,
    /// The client would like GSSAPI encryption.
    GssEnc,
    /// The client wants to cancel what another connection does; the key it was given there.
    Cancel(Bytes),
    /// The client says who it is and what it wants, by name.
    Session {
        /// The protocol version, major in the upper half.
        version: u32,
        /// `user`, `database`, `options`, …
        parameters: BTreeMap<String, String>,
    },
}

/// What asks for TLS.
pub(super) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The first byte of a TLS handshake, which is no packet's: its length would be beyond all bounds.
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

/// The first packet's length, once it is known.
///
/// # Errors
/// It is no length that such a packet can have. What speaks HTTP, SOCKS or SSH is told apart, for the person who reads
/// the error; at once, since SOCKS says three bytes and waits.
pub(super) fn packet_len(buffer: &[u8]) -> Result<Option<usize>, Malformed> {
    if let Some(other) = stranger::named(buffer) {
        return Err(Malformed(format!("the client speaks {other}, and no PostgreSQL")));
    }
    let Some(header) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*header) as usize;
    if !(8..=LONGEST_STARTUP).contains(&length) {
        return Err(Malformed(format!(
            "the first packet says that it is {length} bytes long, which no PostgreSQL client sends"
        )));
    }
    Ok(Some(length))
}

/// Reads a whole packet, header included.
///
/// # Errors
/// It is none of the four.
pub(super) fn read(packet: &[u8]) -> Result<Startup, Malformed> {
    let mut reader = Reader::new(packet);
    reader.take(4)?;
    match reader.u32()? {
        80_877_103 => reader.finish().map(|()| Startup::Ssl).map_err(Malformed::from),
        80_877_104 => reader.finish().map(|()| Startup::GssEnc).map_err(Malformed::from),
        80_877_102 => match reader.rest() {
            // Process id, then a key of at least one byte: PostgreSQL 18's are up to 256 bytes long.
            key if (5..=260).contains(&key.len()) => Ok(Startup::Cancel(Bytes::copy_from_slice(key))),
            key => Err(Malformed(format!("a cancel request carries a key of {} bytes", key.len()))),
        },
        version if version >> 16 == 3 => parameters(reader).map(|parameters| Startup::Session { version, parameters }),
        version => {
            Err(Malformed(format!("protocol version {}.{} is not spoken here", version >> 16, version & 0xffff)))
        }
    }
}

/// A startup message with these parameters.
pub(super) fn packet(version: u32, parameters: &BTreeMap<String, String>) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u32(version);
    for (name, value) in parameters {
        for text in [name, value] {
            body.put_slice(text.as_bytes());
            body.put_u8(0);
        }
    }
    body.put_u8(0);
    let mut out = BytesMut::with_capacity(body.len() + 4);
    out.put_u32(u32::try_from(body.len() + 4).expect("it was read from a packet of bounded length"));
    out.unsplit(body);
    out.freeze()
}

/// Name and value pairs up to an empty name, which must be the packet's last byte. (pgbouncer CVE-2026-107349: an
/// empty name with something behind it must neither spin nor be skipped.)
fn parameters(mut reader: Reader<'_>) -> Result<BTreeMap<String, String>, Malformed> {
    let mut parameters = BTreeMap::new();
    loop {
        let name = reader.cstr()?;
        if name.is_empty() {
            reader.finish()?;
            return Ok(parameters);
        }
        let value = reader.cstr()?;
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("a startup parameter is not UTF-8".into()))
        };
        let name = text(name)?;
        if parameters.insert(name.clone(), text(value)?).is_some() {
            // Which of the two the backend takes is its business; judging one and forwarding both is not ours.
            return Err(Malformed(format!("the startup parameter {name:?} is given twice")));
        }
    }
}

/// The settings that a startup message makes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Name and value, in the order in which the backend takes them.
    pub(super) known: Vec<(String, String)>,
    /// Server options that set something in another way.
    pub(super) unread: Vec<String>,
}

/// Every parameter but a few is a setting; `options` is a command line of the server with more of them.
pub(super) fn settings(parameters: &BTreeMap<String, String>) -> Settings {
    let mut settings = Settings::default();
    if let Some(options) = parameters.get("options") {
        settings.options(&words(options));
    }
    let own = |name: &str| matches!(name, "user" | "database" | "options" | "replication") || name.starts_with("_pq_.");
    let others = parameters.iter().filter(|(name, _)| !own(name));
    settings.known.extend(others.map(|(name, value)| (name.clone(), value.clone())));
    settings
}

impl Settings {
    /// PostgreSQL's `process_postgres_switches`, as far as it takes settings: `-c name=value`, `-cname=value`,
    /// `--name=value`.
    fn options(&mut self, words: &[String]) {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let assignment = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
                Some("") if word == "-c" => words.next().map(String::as_str),
                found => found,
            };
            match assignment.and_then(|assignment| assignment.split_once('=')) {
                // `ParseLongOption` takes dashes in names for underscores.
                Some((name, value)) if !name.is_empty() => {
                    self.known.push((name.replace('-', "_"), value.to_owned()));
                }
                _ => self.unread.push(format!("the server option {word}")),
            }
        }
    }
}

/// PostgreSQL's `pg_split_opts`: words between white space; a backslash takes the next character as it is.
fn words(options: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}
