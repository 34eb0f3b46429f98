//! Recorded replies for people: rows as `id | name`, tags, errors and notices, in the order in which they were
//! delivered.
//!
//! PostgreSQL protocol 3.x, backend messages (section "Message Formats"). Robust to any bytes: what is not understood is
//! shown as it is, made visible. Only what was delivered is here, so masked values are masked.

use crate::{
    protocol::Renderer,
    visible::{visible, visible_start},
};

/// Reads one session's replies. A message may be recorded in pieces; a row needs the description before it.
#[derive(Debug, Default)]
pub struct Rows {
    pending: Vec<u8>,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    kind: u32,
    binary: bool,
}

/// Longer messages are not waited for: they are shown as bytes. Bytes.
const LONGEST: usize = 64 << 20;

/// Of a value that is longer, only the start is shown. Characters.
const SHOWN: usize = 400;

impl Renderer for Rows {
    fn response(&mut self, wire: &[u8]) -> Vec<String> {
        // The answer to SSLRequest and GSSENCRequest is a single byte that is no message.
        if self.pending.is_empty() && matches!(wire, [b'N' | b'S' | b'G']) {
            let word = if wire == b"N" { "encryption refused" } else { "encryption accepted" };
            return vec![word.to_owned()];
        }
        self.pending.extend_from_slice(wire);
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        let mut lines = Vec::new();
        while let Some((&[kind, a, b, c, d], body)) = rest.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if !(4..=LONGEST).contains(&length) || !kind.is_ascii_alphanumeric() {
                lines.push(format!("bytes that are no message: {}", visible_start(rest, SHOWN)));
                return lines;
            }
            let Some((body, after)) = body.split_at_checked(length - 4) else { break };
            lines.extend(self.message(kind, body));
            rest = after;
        }
        self.pending = rest.to_vec();
        lines
    }
}

impl Rows {
    fn message(&mut self, kind: u8, body: &[u8]) -> Option<String> {
        let known = match kind {
            b'T' => self.description(body),
            b'D' => self.row(body),
            b'C' => text(body),
            b'E' | b'N' => fields(body),
            b'R' => authentication(body),
            b'S' => parameter(body),
            b'A' => notification(body),
            b'I' => Some("empty query".to_owned()),
            b's' => Some("suspended: more rows can be asked for".to_owned()),
            b'd' => Some(visible_start(body.strip_suffix(b"\n").unwrap_or(body), SHOWN)),
            b'G' => Some("copy in: the backend takes data".to_owned()),
            b'H' => Some("copy out".to_owned()),
            b'W' => Some("copy both".to_owned()),
            b'v' => Some("protocol version negotiated".to_owned()),
            b'V' => Some(format!("function result: {}", visible_start(body, SHOWN))),
            // Ready, parse, bind and close complete, copy done, no data, parameter description, cancel key.
            b'Z' | b'1' | b'2' | b'3' | b'c' | b'n' | b't' | b'K' => return None,
            _ => None,
        };
        Some(known.unwrap_or_else(|| format!("message `{}`: {}", char::from(kind), visible_start(body, SHOWN))))
    }

    /// `RowDescription`.
    fn description(&mut self, body: &[u8]) -> Option<String> {
        let mut reader = Reader(body);
        let count = reader.u16()?;
        let columns = (0..count).map(|_| {
            let name = visible(reader.until_nul()?);
            reader.take(6)?;
            let kind = reader.u32()?;
            reader.take(6)?;
            Some(Column { name, kind, binary: reader.u16()? == 1 })
        });
        let columns: Vec<Column> = columns.collect::<Option<_>>()?;
        self.columns = columns;
        Some(self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(" | "))
    }

    /// `DataRow`.
    fn row(&self, body: &[u8]) -> Option<String> {
        let mut reader = Reader(body);
        let count = usize::from(reader.u16()?);
        let values = (0..count).map(|number| {
            let length = reader.u32()?;
            // A length of -1 is NULL.
            if length == u32::MAX {
                return Some("NULL".to_owned());
            }
            let value = reader.take(length as usize)?;
            Some(self.value(number, value))
        });
        values.collect::<Option<Vec<_>>>().map(|values| values.join(" | "))
    }

    fn value(&self, number: usize, value: &[u8]) -> String {
        match self.columns.get(number) {
            Some(Column { binary: true, kind, .. }) => binary(*kind, value)
                .unwrap_or_else(|| value.iter().fold("\\x".to_owned(), |hex, b| format!("{hex}{b:02x}"))),
            _ => visible_start(value, SHOWN),
        }
    }
}

/// Common types in binary form, by OID (`pg_type`).
fn binary(kind: u32, value: &[u8]) -> Option<String> {
    Some(match kind {
        16 => match value {
            [0] => "f".to_owned(),
            [1] => "t".to_owned(),
            _ => return None,
        },
        20 => i64::from_be_bytes(value.try_into().ok()?).to_string(),
        21 => i16::from_be_bytes(value.try_into().ok()?).to_string(),
        23 => i32::from_be_bytes(value.try_into().ok()?).to_string(),
        26 => u32::from_be_bytes(value.try_into().ok()?).to_string(),
        700 => f32::from_be_bytes(value.try_into().ok()?).to_string(),
        701 => f64::from_be_bytes(value.try_into().ok()?).to_string(),
        2950 => uuid::Uuid::from_bytes(value.try_into().ok()?).to_string(),
        // text, name, varchar, bpchar, json, unknown.
        25 | 19 | 1043 | 1042 | 114 | 705 => visible_start(value, SHOWN),
        _ => return None,
    })
}

fn text(body: &[u8]) -> Option<String> {
    Reader(body).until_nul().map(visible)
}

/// `ErrorResponse` and `NoticeResponse`: `ERROR 42501: message`, then detail and hint.
fn fields(body: &[u8]) -> Option<String> {
    let (mut severity, mut code, mut message, mut further) =
        (String::new(), String::new(), String::new(), String::new());
    let mut reader = Reader(body);
    loop {
        let value = match reader.take(1)? {
            [0] => break,
            [field] => (*field, visible(reader.until_nul()?)),
            _ => return None,
        };
        match value {
            (b'S', value) => severity = value,
            (b'C', value) => code = value,
            (b'M', value) => message = value,
            (b'D', value) => further.push_str(&format!("; DETAIL: {value}")),
            (b'H', value) => further.push_str(&format!("; HINT: {value}")),
            _ => {}
        }
    }
    Some(format!("{severity} {code}: {message}{further}"))
}

fn authentication(body: &[u8]) -> Option<String> {
    Some(match Reader(body).u32()? {
        0 => "authenticated".to_owned(),
        3 => "asks for the password in clear".to_owned(),
        5 => "asks for the password as MD5".to_owned(),
        10 => "asks for SASL".to_owned(),
        11 => "SASL goes on".to_owned(),
        12 => "SASL is complete".to_owned(),
        other => format!("asks for authentication {other}"),
    })
}

fn parameter(body: &[u8]) -> Option<String> {
    let mut reader = Reader(body);
    Some(format!("{} = {}", visible(reader.until_nul()?), visible(reader.until_nul()?)))
}

fn notification(body: &[u8]) -> Option<String> {
    let mut reader = Reader(body);
    let pid = reader.u32()?;
    let (channel, payload) = (visible(reader.until_nul()?), visible_start(reader.until_nul()?, SHOWN));
    Some(format!("notification on {channel} from backend {pid}: {payload}"))
}

/// Reads inside one message; `None` where it ends too soon.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn until_nul(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests;
