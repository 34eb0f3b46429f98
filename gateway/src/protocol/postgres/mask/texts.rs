//! Errors, notices and notifications: text that may carry values.
//!
//! Detectors look into every text. Where the resource masks columns, five things more:
//! - text that a function raised (`RAISE NOTICE '%', ssn`) is replaced whole, and so are the names that it gave
//!   (`USING COLUMN = ssn`): nothing says what is in them;
//! - messages that have to do with a masked column are replaced whole, unless they are of a kind that holds no values
//!   but in quotes ([`Report::is_plain`]): of these the quoted values are;
//! - a DETAIL that lists keys or a failing row loses its values;
//! - a notification's payload is replaced whole: whoever sent it, through the gateway or not, may have read anything;
//! - so is a setting that the backend reports after a statement that may have put a masked value into it.
//!
//! # Security
//! When in doubt the whole DETAIL goes. Names that PostgreSQL itself puts in quotes stay only where they are known to be names:
//! because the message's own fields or the statement say so.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::{Catalog, Cursor, Masker, References, Unmaskable, body, close};
use crate::mask::{Found, MASKED};

/// What a session's statement lets be known about the messages it causes.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What the statement refers to.
    pub references: &'a References,
    /// The catalog, once it is there.
    pub catalog: Option<&'a Catalog>,
}

/// Opening and closing quotes of PostgreSQL's translations.
const QUOTES: [(&str, &str); 8] =
    [("\"", "\""), ("'", "'"), ("«", "»"), ("»", "«"), ("„", "“"), ("“", "”"), ("‘", "’"), ("「", "」")];
/// Error fields that hold text for people: message, detail, hint, context, internal query.
const TEXTS: [u8; 5] = *b"MDHWq";

/// Error fields that hold names: schema, table, column, data type, constraint.
const NAMES: [u8; 5] = *b"stcdn";

/// SQLSTATEs, or the classes that they begin with, of messages without values.
const PLAIN_CODES: [&[u8]; 12] =
    [b"08", b"23", b"25", b"26", b"28", b"34", b"3B", b"40", b"42501", b"55P03", b"57014", b"57P"];
/// Messages without values whose SQLSTATE others share.
const PLAIN_WORDS: [&[u8]; 8] = [
    b"division by zero",
    b"integer out of range",
    b"bigint out of range",
    b"smallint out of range",
    b"numeric field overflow",
    b"cached plan must not change result type",
    b"more than one row returned by a subquery used as an expression",
    b"extra data after last expected column",
];

/// Reported settings whose values are words or numbers that the backend itself knows.
const CLOSED_SETTINGS: [&[u8]; 10] = [
    b"client_encoding",
    b"DateStyle",
    b"default_transaction_read_only",
    b"in_hot_standby",
    b"integer_datetimes",
    b"IntervalStyle",
    b"is_superuser",
    b"server_encoding",
    b"server_version",
    b"standard_conforming_strings",
];

impl Masker {
    /// Appends one whole ErrorResponse or NoticeResponse message to `out`, masked, and says how many things were.
    ///
    /// # Errors
    /// When the bytes are not such a message.
    pub fn report(&self, message: &[u8], context: Context<'_>, out: &mut BytesMut) -> Result<u32, Unmaskable> {
        let tag = *message.first().filter(|tag| matches!(tag, b'E' | b'N')).ok_or(NO_REPORT)?;
        let fields = read(body(message, tag)?)?;
        if self.masks.is_empty() {
            out.extend_from_slice(message);
            return Ok(0);
        }
        let report = Report::new(&fields, self, context);
        let start = out.len();
        out.extend_from_slice(&[tag, 0, 0, 0, 0]);
        let mut masked = 0_u32;
        for (code, text) in &fields {
            let shown = match code {
                code if TEXTS.contains(code) => report.text(*code, text),
                code if NAMES.contains(code) => report.name(text),
                _ => None,
            };
            masked += u32::from(shown.is_some());
            out.extend_from_slice(&[*code]);
            out.extend_from_slice(shown.as_deref().unwrap_or(text));
            out.extend_from_slice(&[0]);
        }
        out.extend_from_slice(&[0]);
        close(out, start)?;
        Ok(masked)
    }

    /// Appends one whole NotificationResponse message to `out`, its payload masked whole where columns are, else gone
    /// through the detectors.
    ///
    /// # Errors
    /// When the bytes are not such a message.
    pub fn notification(&self, message: &[u8], out: &mut BytesMut) -> Result<u32, Unmaskable> {
        let mut cursor = body(message, b'A')?;
        cursor.take(4)?;
        cursor.string()?;
        self.last_string(message, cursor, self.masks.has_columns(), out)
    }

    /// Appends one whole ParameterStatus message to `out`, its value gone through the detectors; masked whole where it
    /// `may_be_masked` and the backend takes more for it than a few words of its own.
    ///
    /// # Errors
    /// When the bytes are not such a message.
    pub fn setting(&self, message: &[u8], may_be_masked: bool, out: &mut BytesMut) -> Result<u32, Unmaskable> {
        let mut cursor = body(message, b'S')?;
        let name = cursor.string()?;
        let whole = may_be_masked && self.masks.has_columns() && !CLOSED_SETTINGS.contains(&name);
        self.last_string(message, cursor, whole, out)
    }

    /// Appends `message` to `out`, the string that is left in it replaced whole or gone through the detectors.
    fn last_string(
        &self,
        message: &[u8],
        mut cursor: Cursor<'_>,
        whole: bool,
        out: &mut BytesMut,
    ) -> Result<u32, Unmaskable> {
        let before = message.len() - cursor.bytes.len() + cursor.at;
        let text = cursor.string()?;
        cursor.done()?;
        let masked = (whole && !text.is_empty()).then(|| MASKED.as_bytes().to_vec());
        let Some(shown) = masked.or_else(|| self.detected(text)) else {
            out.extend_from_slice(message);
            return Ok(0);
        };
        let start = out.len();
        out.extend_from_slice(&message[..before]);
        out.extend_from_slice(&shown);
        out.extend_from_slice(&[0]);
        close(out, start)?;
        Ok(1)
    }

    fn detected(&self, text: &[u8]) -> Option<Vec<u8>> {
        match self.masks.detectors()?.scan(text, &self.salt) {
            Found::Nothing => None,
            Found::Replaced { value, .. } => Some(value),
            Found::Null => Some(MASKED.into()),
        }
    }
}

const NO_REPORT: Unmaskable = Unmaskable::Malformed("a message is neither an error nor a notice");

/// Fields in order, as sent.
fn read(mut cursor: Cursor<'_>) -> Result<Vec<(u8, &[u8])>, Unmaskable> {
    let mut fields = Vec::new();
    loop {
        match cursor.byte()? {
            0 => break,
            code => fields.push((code, cursor.string()?)),
        }
    }
    cursor.done()?;
    Ok(fields)
}

/// What is known about one message before its texts are looked at.
struct Report<'a> {
    masker: &'a Masker,
    context: Context<'a>,
    fields: BTreeMap<u8, &'a [u8]>,
    /// Written by a function's author, so it may hold anything.
    raised: bool,
    /// It has to do with a masked column.
    concerned: bool,
}

impl<'a> Report<'a> {
    fn new(fields: &[(u8, &'a [u8])], masker: &'a Masker, context: Context<'a>) -> Self {
        let fields: BTreeMap<_, _> = fields.iter().copied().collect();
        let mut report = Self { masker, context, fields, raised: false, concerned: false };
        if masker.masks.has_columns() {
            report.raised = report.is_raised();
            report.concerned = report.is_concerned();
        }
        report
    }

    fn field(&self, code: u8) -> &'a [u8] {
        self.fields.get(&code).copied().unwrap_or_default()
    }

    /// Raised by PL/pgSQL or another language's functions: known by source file and routine, or by SQLSTATE class P0.
    fn is_raised(&self) -> bool {
        let file = self.field(b'F');
        let languages: [&[u8]; 5] = [b"pl_exec.c", b"plperl.c", b"pltcl.c", b"plpy_", b"pl_"];
        self.field(b'R') == b"exec_stmt_raise"
            || self.field(b'R') == b"exec_stmt_assert"
            || languages.iter().any(|language| file.starts_with(language))
            || self.field(b'C').starts_with(b"P0")
            || self.field(b'F').is_empty()
    }

    fn is_concerned(&self) -> bool {
        let references = self.context.references;
        let in_text = |code: u8| self.mentions(self.field(code));
        let table = String::from_utf8_lossy(self.field(b't')).into_owned();
        let schema = String::from_utf8_lossy(self.field(b's')).into_owned();
        let of_masked_table = !table.is_empty()
            && self.context.catalog.is_none_or(|catalog| catalog.may_be_masked(Some(&schema), &table));
        of_masked_table
            || references.may_show_masked(&self.masker.masks, self.context.catalog)
            || TEXTS.iter().chain(b"nc").any(|code| in_text(*code))
    }

    /// Whether a word of `text`, or a piece of one between underscores (as in a constraint's name), is a masked column.
    fn mentions(&self, text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        let is_name = |char: char| char.is_alphanumeric() || matches!(char, '_' | '$');
        text.split(|char| !is_name(char)).filter(|word| !word.is_empty()).any(|word| self.mentions_word(word))
    }

    fn mentions_word(&self, word: &str) -> bool {
        let starts = std::iter::once(0).chain(word.match_indices('_').map(|(at, _)| at + 1));
        let ends: Vec<_> = word.match_indices('_').map(|(at, _)| at).chain([word.len()]).collect();
        // A word longer than a name of PostgreSQL (63 bytes) is none, and a longer one would take quadratic time.
        word.len() <= 128
            && starts.take(64).any(|start| {
                ends.iter().filter(|end| **end > start).any(|end| self.masker.masks.mentions(&word[start..*end]))
            })
    }

    /// What is sent instead of one of the texts; `None`: as it is.
    fn text(&self, code: u8, text: &[u8]) -> Option<Vec<u8>> {
        let masked = || Some(MASKED.as_bytes().to_vec());
        let by_rule = match code {
            _ if text.is_empty() => None,
            b'M' | b'D' | b'H' if self.raised => masked(),
            b'D' if self.concerned => self.detail(text),
            b'M' | b'H' if self.concerned && self.is_plain() => self.unquoted(text),
            // Dynamic SQL with its literals, the lines of a COPY, and what an input function was reading.
            b'M' | b'H' | b'W' | b'q' if self.concerned => masked(),
            b'W' | b'q' if self.raised => self.unquoted(text),
            _ => None,
        };
        let detected = self.masker.detected(by_rule.as_deref().unwrap_or(text));
        detected.or(by_rule)
    }

    /// What is sent instead of a name in a field of its own; `None`: as it is. Whoever raises may call anything a name.
    fn name(&self, text: &[u8]) -> Option<Vec<u8>> {
        let masked = self.raised && !text.is_empty();
        let by_rule = masked.then(|| MASKED.as_bytes().to_vec());
        by_rule.or_else(|| self.masker.detected(text))
    }

    /// Whether the message is of a kind whose words are PostgreSQL's own but for what stands in quotes.
    ///
    /// A position in the statement comes with what is found before anything runs: all that it can quote is the text
    /// that the client sent. The rest goes by SQLSTATE: errors of the connection, of integrity, of transactions, of
    /// privileges and of an operator's doing; and by words, for what arithmetic says without naming a number.
    fn is_plain(&self) -> bool {
        let before_running = !self.field(b'P').is_empty() && self.field(b'q').is_empty() && self.field(b'W').is_empty();
        let (code, words) = (self.field(b'C'), self.field(b'M'));
        before_running
            || PLAIN_CODES.iter().any(|plain| code.starts_with(plain))
            || PLAIN_WORDS.contains(&words)
            || words.starts_with(b"value too long for type ")
    }

    /// `Key (a, b)=(1, 2) …` keeps its names, and its values when no name is a masked column's; everything else goes.
    fn detail(&self, text: &[u8]) -> Option<Vec<u8>> {
        let whole = || Some(MASKED.as_bytes().to_vec());
        let Ok(text) = std::str::from_utf8(text) else { return whole() };
        let Some(split) = text.find(")=(") else { return whole() };
        let names = &text[..split];
        if names.matches('(').count() == 1 && !self.mentions(names.as_bytes()) && self.knows_columns(names) {
            return None;
        }
        let Some(end) = text.rfind(')').filter(|end| *end > split + 1) else { return whole() };
        let tail = if self.is_plain_tail(&text[end..]) { &text[end..] } else { ")" };
        Some(format!("{names})=({MASKED}{tail}").into_bytes())
    }

    /// Whether the words before the values are a plain list of columns, none of them masked under another name.
    fn knows_columns(&self, names: &str) -> bool {
        let Some((_, list)) = names.split_once('(') else { return false };
        let table = String::from_utf8_lossy(self.field(b't')).into_owned();
        let schema = String::from_utf8_lossy(self.field(b's')).into_owned();
        let Some(catalog) = self.context.catalog.filter(|_| !table.is_empty()) else { return false };
        list.split(", ").all(|column| {
            let plain = column.chars().all(|char| char.is_alphanumeric() || char == '_');
            plain && !catalog.is_masked_in(std::iter::once((Some(schema.as_str()), table.as_str())), column)
        })
    }

    /// `) already exists.`, `) is not present in table "x".`
    fn is_plain_tail(&self, tail: &str) -> bool {
        let quoted = tail.split('"').skip(1).step_by(2);
        tail.chars().all(|char| char.is_alphanumeric() || ") .\"_".contains(char))
            && quoted.into_iter().all(|name| self.is_name(name))
    }

    /// Replaces everything from the first quoted value to the last quote: a value may itself hold quotes.
    fn unquoted(&self, text: &[u8]) -> Option<Vec<u8>> {
        let Ok(text) = std::str::from_utf8(text) else { return Some(MASKED.as_bytes().to_vec()) };
        let mut from = 0;
        while let Some((open, close)) = first_quote(&text[from..]) {
            let start = from + open.0 + open.1.len();
            let Some(length) = text[start..].find(close) else {
                return Some(format!("{}{MASKED}", &text[..start]).into_bytes());
            };
            if !self.is_name(&text[start..start + length]) {
                let end = text.rfind(close).filter(|end| *end >= start + length).unwrap_or(text.len());
                return Some(format!("{}{MASKED}{}", &text[..start], &text[end..]).into_bytes());
            }
            from = start + length + close.len();
        }
        None
    }

    /// Whether a quoted word is a name that the message's fields or the statement give.
    fn is_name(&self, word: &str) -> bool {
        let references = self.context.references;
        let in_fields = !self.raised && NAMES.iter().any(|code| self.field(*code) == word.as_bytes());
        let in_statement = references.columns.contains(word) || references.tables.iter().any(|(_, name)| name == word);
        in_fields || in_statement || self.context.catalog.is_some_and(|catalog| catalog.knows(word))
    }
}

/// The first opening quote, where it is, and the quote that closes it.
fn first_quote(text: &str) -> Option<((usize, &'static str), &'static str)> {
    // An apostrophe inside a word (`can't`) opens nothing.
    let opens = |at: usize, open: &str| {
        !matches!(open, "'" | "’" | "‘") || !text[..at].chars().next_back().is_some_and(char::is_alphanumeric)
    };
    let places = QUOTES.iter().filter_map(|(open, close)| {
        let at = text.match_indices(open).map(|(at, _)| at).find(|at| opens(*at, open))?;
        Some(((at, *open), *close))
    });
    places.min_by_key(|((at, _), _)| *at)
}

#[cfg(test)]
mod tests;
