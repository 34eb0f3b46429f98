//! Rewrites what `COPY … TO STDOUT` sends, in text, CSV and binary form.
//!
//! PostgreSQL sends one row per CopyData message, but the protocol allows any cut, so rows are put together here:
//! what is not yet a whole row is held back, up to a bound. The server's own `\.` end mark is not part of protocol 3.
//!
//! # Security
//! A row that does not parse into exactly the announced columns ends the COPY with [`Unmaskable`]; it is never passed.

use std::borrow::Cow;

use bytes::{Buf as _, BytesMut};

use super::{
    CopyPlan, Cursor, Masker, Unmaskable,
    plan::{Column, Treatment},
    rows::write_value,
    value::Outcome,
};
use crate::mask::Replacement;

/// The most that is held back while a row is not whole: what a row of PostgreSQL can weigh in practice (bytes).
const LONGEST_ROW: usize = 64 << 20;
/// How a binary COPY starts (PostgreSQL: COPY, binary format).
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Client encodings in which the second byte of a character may look like a backslash, a quote or a delimiter.
const UNSAFE_ENCODINGS: [&str; 8] =
    ["SJIS", "SHIFT_JIS_2004", "SHIFTJIS2004", "BIG5", "GBK", "GB18030", "UHC", "JOHAB"];

/// The form that the COPY statement asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFormat {
    /// `FORMAT text`.
    Text {
        /// `DELIMITER`; tab unless stated.
        delimiter: u8,
        /// `NULL`; `\N` unless stated.
        null: Vec<u8>,
        /// `HEADER`.
        header: bool,
    },
    /// `FORMAT csv`. `FORCE_QUOTE` needs no mention: a quoted value stays quoted.
    Csv {
        /// `DELIMITER`; a comma unless stated.
        delimiter: u8,
        /// `NULL`; empty unless stated.
        null: Vec<u8>,
        /// `QUOTE`; `"` unless stated.
        quote: u8,
        /// `ESCAPE`; the quote unless stated.
        escape: u8,
        /// `HEADER`.
        header: bool,
    },
    /// `FORMAT binary`.
    Binary,
}

impl CopyFormat {
    /// `FORMAT text` as it is when nothing else is stated.
    pub fn text() -> Self {
        Self::Text { delimiter: b'\t', null: b"\\N".to_vec(), header: false }
    }

    /// `FORMAT csv` as it is when nothing else is stated.
    pub fn csv() -> Self {
        Self::Csv { delimiter: b',', null: Vec::new(), quote: b'"', escape: b'"', header: false }
    }
}

/// One COPY under way.
#[derive(Debug)]
pub struct CopyOut {
    plan: CopyPlan,
    format: CopyFormat,
    pending: BytesMut,
    /// The header line, or the binary header, is still to come.
    header: bool,
    /// The binary trailer was seen.
    ended: bool,
}

impl CopyOut {
    /// Starts one. `encoding` is the session's `client_encoding`.
    ///
    /// # Errors
    /// When text in this encoding cannot be cut into columns byte by byte.
    pub fn new(plan: CopyPlan, format: CopyFormat, encoding: &str) -> Result<Self, Unmaskable> {
        let binary = format == CopyFormat::Binary;
        if !binary && UNSAFE_ENCODINGS.iter().any(|name| name.eq_ignore_ascii_case(encoding)) {
            return Err(Unmaskable::Unsupported(format!("COPY as text in client_encoding {encoding}")));
        }
        let header = match format {
            CopyFormat::Text { header, .. } | CopyFormat::Csv { header, .. } => header,
            CopyFormat::Binary => true,
        };
        Ok(Self { plan, format, pending: BytesMut::new(), header, ended: false })
    }

    /// Takes the payload of one CopyData message and appends the masked rows that are now whole to `out`, which may
    /// stay as it is. Answers how many values or parts of values were masked.
    ///
    /// # Errors
    /// When it does not parse. The COPY must then be ended with an error, and what `out` got must not be sent.
    pub fn push(&mut self, masker: &Masker, payload: &[u8], out: &mut BytesMut) -> Result<u32, Unmaskable> {
        if self.pending.is_empty() {
            let (used, masked) = self.rows(masker, payload, out)?;
            self.hold(&payload[used..])?;
            return Ok(masked);
        }
        self.hold(payload)?;
        let mut pending = std::mem::take(&mut self.pending);
        let (used, masked) = self.rows(masker, &pending, out)?;
        pending.advance(used);
        self.pending = pending;
        Ok(masked)
    }

    /// Takes the end of the data (CopyDone).
    ///
    /// # Errors
    /// When a row is not whole.
    pub fn finish(&mut self, masker: &Masker, out: &mut BytesMut) -> Result<u32, Unmaskable> {
        let pending = std::mem::take(&mut self.pending);
        match (&self.format, pending.is_empty()) {
            (_, true) => Ok(0),
            (CopyFormat::Binary, false) => Err(Unmaskable::Malformed("COPY ends inside a row")),
            // A last line without its line end.
            (_, false) => self.line(masker, &pending, out),
        }
    }

    fn hold(&mut self, rest: &[u8]) -> Result<(), Unmaskable> {
        if self.pending.len() + rest.len() > LONGEST_ROW {
            return Err(Unmaskable::TooLong(LONGEST_ROW));
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    /// Treats the whole rows at the start of `data`; answers how many bytes they were.
    fn rows(&mut self, masker: &Masker, data: &[u8], out: &mut BytesMut) -> Result<(usize, u32), Unmaskable> {
        let (mut used, mut masked) = (0, 0_u32);
        loop {
            let rest = &data[used..];
            let length = match &self.format {
                CopyFormat::Text { .. } => text_line(rest),
                CopyFormat::Csv { quote, escape, .. } => csv_line(rest, *quote, *escape),
                CopyFormat::Binary => self.binary_row(rest)?,
            };
            let Some(length) = length else { return Ok((used, masked)) };
            let row = &rest[..length];
            masked = masked.saturating_add(match self.format {
                CopyFormat::Binary => self.binary(masker, row, out)?,
                _ => {
                    let masked = self.line(masker, &row[..length - 1], out)?;
                    out.extend_from_slice(b"\n");
                    masked
                }
            });
            used += length;
        }
    }

    /// One line without its line end.
    fn line(&mut self, masker: &Masker, line: &[u8], out: &mut BytesMut) -> Result<u32, Unmaskable> {
        let columns = &self.plan.columns;
        let is_header = std::mem::take(&mut self.header);
        if columns.is_empty() && line.is_empty() {
            return Ok(0);
        }
        let fields = match &self.format {
            CopyFormat::Text { delimiter, .. } => text_fields(line, *delimiter),
            CopyFormat::Csv { delimiter, quote, escape, .. } => csv_fields(line, *delimiter, *quote, *escape)?,
            CopyFormat::Binary => return Err(Unmaskable::Malformed("a binary COPY has no lines")),
        };
        if fields.len() != columns.len() {
            return Err(Unmaskable::Columns { got: fields.len(), expected: columns.len() });
        }
        if is_header {
            out.extend_from_slice(line);
            return Ok(0);
        }
        let mut masked = 0_u32;
        for (place, (field, column)) in fields.into_iter().zip(columns).enumerate() {
            if place > 0 {
                out.extend_from_slice(&[self.delimiter()]);
            }
            masked = masked.saturating_add(self.field(masker, *column, field, out));
        }
        Ok(masked)
    }

    fn delimiter(&self) -> u8 {
        match self.format {
            CopyFormat::Text { delimiter, .. } | CopyFormat::Csv { delimiter, .. } => delimiter,
            CopyFormat::Binary => 0,
        }
    }

    fn field(&self, masker: &Masker, column: Column, field: &[u8], out: &mut BytesMut) -> u32 {
        let null = match &self.format {
            CopyFormat::Text { null, .. } | CopyFormat::Csv { null, .. } => null,
            CopyFormat::Binary => &Vec::new(),
        };
        let outcome = match column.treatment {
            Treatment::Pass => Outcome::Same,
            _ if field == null.as_slice() => Outcome::Same,
            _ => masker.value(column, &self.plain(field)),
        };
        match outcome {
            Outcome::Same => out.extend_from_slice(field),
            Outcome::Changed(Replacement::Null, hits) => {
                out.extend_from_slice(null);
                return hits;
            }
            Outcome::Changed(Replacement::Value(value), hits) => {
                self.write(&value, field, null, out);
                return hits;
            }
        }
        0
    }

    /// The value without the format's quoting.
    fn plain<'a>(&self, field: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.format {
            CopyFormat::Text { .. } => text_plain(field),
            CopyFormat::Csv { quote, escape, .. } => csv_plain(field, *quote, *escape),
            CopyFormat::Binary => Cow::Borrowed(field),
        }
    }

    fn write(&self, value: &[u8], was: &[u8], null: &[u8], out: &mut BytesMut) {
        match &self.format {
            CopyFormat::Text { delimiter, .. } => text_write(value, *delimiter, out),
            CopyFormat::Csv { delimiter, quote, escape, .. } => {
                let special = |byte: &u8| [*delimiter, *quote, *escape, b'\n', b'\r', b' ', b'\\'].contains(byte);
                let quoted = was.first() == Some(quote) || value == null || value.iter().any(special);
                csv_write(value, quoted, *quote, *escape, out);
            }
            CopyFormat::Binary => {}
        }
    }

    /// The length of the header, row or trailer at the start of `data`, once it is whole.
    fn binary_row(&self, data: &[u8]) -> Result<Option<usize>, Unmaskable> {
        let mut cursor = Cursor::new(data);
        if self.ended {
            return if data.is_empty() { Ok(None) } else { Err(Unmaskable::Malformed("COPY goes on behind its end")) };
        }
        if self.header {
            let start = &data[..data.len().min(SIGNATURE.len())];
            if !SIGNATURE.starts_with(start) {
                return Err(Unmaskable::Malformed("a binary COPY does not start as one"));
            }
            return Ok(binary_header(&mut cursor)?.then_some(cursor.at));
        }
        if data.len() < 2 {
            return Ok(None);
        }
        let count = cursor.i16()?;
        if count == -1 {
            return Ok(Some(2));
        }
        let expected = self.plan.columns.len();
        let got = usize::try_from(count).map_err(|_| Unmaskable::Malformed("a count is negative"))?;
        if got != expected {
            return Err(Unmaskable::Columns { got, expected });
        }
        for _ in 0..got {
            if data.len() - cursor.at < 4 {
                return Ok(None);
            }
            let length = cursor.i32()?;
            let length = if length == -1 { 0 } else { length };
            let length = usize::try_from(length).map_err(|_| Unmaskable::Malformed("a length is negative"))?;
            if data.len() - cursor.at < length {
                return Ok(None);
            }
            cursor.take(length)?;
        }
        Ok(Some(cursor.at))
    }

    fn binary(&mut self, masker: &Masker, row: &[u8], out: &mut BytesMut) -> Result<u32, Unmaskable> {
        if std::mem::take(&mut self.header) {
            out.extend_from_slice(row);
            return Ok(0);
        }
        let mut cursor = Cursor::new(row);
        let count = cursor.i16()?;
        out.extend_from_slice(&count.to_be_bytes());
        if count == -1 {
            self.ended = true;
            return Ok(0);
        }
        let mut masked = 0_u32;
        for column in &self.plan.columns {
            let start = cursor.at;
            let outcome = cursor.value()?.map_or(Outcome::Same, |value| masker.value(*column, value));
            match outcome {
                Outcome::Same => out.extend_from_slice(&row[start..cursor.at]),
                Outcome::Changed(replacement, hits) => {
                    write_value(&replacement, out)?;
                    masked = masked.saturating_add(hits);
                }
            }
        }
        Ok(masked)
    }
}

/// Signature, flags, extension; whether all of it is there.
fn binary_header(cursor: &mut Cursor<'_>) -> Result<bool, Unmaskable> {
    if cursor.bytes.len() < SIGNATURE.len() + 8 {
        return Ok(false);
    }
    cursor.take(SIGNATURE.len())?;
    let flags = cursor.u32()?;
    // Bits 16 to 31 are critical; the only one ever used (16) puts an OID before each row.
    if flags >> 16 != 0 {
        return Err(Unmaskable::Malformed("a binary COPY has flags that are not known"));
    }
    let extension = usize::try_from(cursor.i32()?).map_err(|_| Unmaskable::Malformed("a length is negative"))?;
    if extension > LONGEST_ROW {
        return Err(Unmaskable::TooLong(LONGEST_ROW));
    }
    Ok(cursor.take(extension).is_ok())
}

/// Up to and with the line end that no backslash precedes.
fn text_line(data: &[u8]) -> Option<usize> {
    let mut escaped = false;
    data.iter()
        .position(|byte| {
            let ends = *byte == b'\n' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        })
        .map(|at| at + 1)
}

fn text_fields(line: &[u8], delimiter: u8) -> Vec<&[u8]> {
    let mut escaped = false;
    line.split(|byte| {
        let ends = *byte == delimiter && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })
    .collect()
}

/// Undoes the escapes that COPY writes; a backslash before anything else means that character.
fn text_plain(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => *other,
                None => b'\\',
            },
            other => *other,
        });
    }
    Cow::Owned(plain)
}

fn text_write(value: &[u8], delimiter: u8, out: &mut BytesMut) {
    for byte in value {
        match byte {
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            11 => out.extend_from_slice(b"\\v"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            other if *other == delimiter => out.extend_from_slice(&[b'\\', *other]),
            other => out.extend_from_slice(&[*other]),
        }
    }
}

/// Up to and with the line end that is outside quotes.
fn csv_line(data: &[u8], quote: u8, escape: u8) -> Option<usize> {
    let mut inside = Inside::new(quote, escape);
    data.iter()
        .enumerate()
        .find(|(at, byte)| {
            let quoted = inside.step(**byte, data.get(at + 1).copied());
            **byte == b'\n' && !quoted
        })
        .map(|(at, _)| at + 1)
}

/// Fields as written; each is quoted whole or not at all, as the server writes them.
fn csv_fields(line: &[u8], delimiter: u8, quote: u8, escape: u8) -> Result<Vec<&[u8]>, Unmaskable> {
    let mut inside = Inside::new(quote, escape);
    let mut fields = Vec::new();
    let mut start = 0;
    for (at, byte) in line.iter().enumerate() {
        let quoted = inside.step(*byte, line.get(at + 1).copied());
        if *byte == delimiter && !quoted {
            fields.push(&line[start..at]);
            start = at + 1;
        }
    }
    fields.push(&line[start..]);
    let is_whole = |field: &&[u8]| match field.first() {
        Some(first) if *first == quote => field.len() >= 2 && field.last() == Some(&quote),
        _ => !field.contains(&quote),
    };
    let whole = !inside.quoted && fields.iter().all(is_whole);
    if whole { Ok(fields) } else { Err(Unmaskable::Malformed("a line of CSV is not quoted as the server does")) }
}

/// Follows the quotes of a line.
struct Inside {
    quote: u8,
    escape: u8,
    quoted: bool,
    skip: bool,
}

impl Inside {
    fn new(quote: u8, escape: u8) -> Self {
        Self { quote, escape, quoted: false, skip: false }
    }

    /// Whether `byte` is content of a quoted value (or a quote).
    fn step(&mut self, byte: u8, next: Option<u8>) -> bool {
        if std::mem::take(&mut self.skip) {
            return true;
        }
        let escapes =
            self.quoted && byte == self.escape && next.is_some_and(|next| next == self.quote || next == self.escape);
        if escapes {
            self.skip = true;
        } else if byte == self.quote {
            self.quoted = !self.quoted;
            return true;
        }
        self.quoted
    }
}

fn csv_plain(field: &[u8], quote: u8, escape: u8) -> Cow<'_, [u8]> {
    if field.first() != Some(&quote) || field.len() < 2 {
        return Cow::Borrowed(field);
    }
    let content = &field[1..field.len() - 1];
    if !content.contains(&escape) {
        return Cow::Borrowed(content);
    }
    let mut plain = Vec::with_capacity(content.len());
    let mut at = 0;
    while let Some(byte) = content.get(at) {
        let escapes = *byte == escape && content.get(at + 1).is_some_and(|next| *next == quote || *next == escape);
        at += usize::from(escapes);
        plain.push(content[at]);
        at += 1;
    }
    Cow::Owned(plain)
}

fn csv_write(value: &[u8], quoted: bool, quote: u8, escape: u8, out: &mut BytesMut) {
    if !quoted {
        out.extend_from_slice(value);
        return;
    }
    out.extend_from_slice(&[quote]);
    for byte in value {
        if *byte == quote || *byte == escape {
            out.extend_from_slice(&[escape]);
        }
        out.extend_from_slice(&[*byte]);
    }
    out.extend_from_slice(&[quote]);
}

#[cfg(test)]
mod tests;
