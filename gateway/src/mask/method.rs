//! One value → its replacement.
//!
//! # Correctness
//! The replacement is always a valid value of the same type in the same format, or NULL.

use std::borrow::Cow;

use super::Salt;

/// What stands where a value was.
pub const MASKED: &str = "[masked]";

/// A value with fewer characters than this shows none of them under [`Method::Partial`].
const PARTIAL_FROM: usize = 8;
/// How many of its last characters a longer one keeps.
const PARTIAL_KEEPS: usize = 4;

/// How a value is masked; later ones reveal less, so `max` of two methods is the safe choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// A few characters stay: the last four of at least eight; an address keeps its first character and domain.
    Partial,
    /// A keyed hash: equal values stay equal, nothing else stays.
    Hash,
    /// A constant; NULL where the type has none.
    Redact,
    /// NULL.
    Null,
}

impl Method {
    /// All methods.
    pub const ALL: [Method; 4] = [Method::Redact, Method::Partial, Method::Hash, Method::Null];

    /// The method's word in a resource file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Partial => "partial",
            Method::Hash => "hash",
            Method::Redact => "redact",
            Method::Null => "null",
        }
    }
}

/// What kind of value it is: whether a replacement text is valid in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Any text is valid, and its bytes are the same in text and binary form.
    Text,
    /// Exactly one byte.
    Char,
    /// JSON text.
    Json,
    /// A UUID: 16 bytes in binary form, RFC 9562 §4 text otherwise.
    Uuid,
    /// Opaque bytes, whose text form is the protocol's own.
    Bytes,
    /// A number.
    Number,
    /// Anything else: dates, arrays, composites, ranges, types of extensions.
    Other,
}

/// What to send in a value's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// These bytes, in the format that the value had.
    Value(Cow<'static, [u8]>),
    /// NULL.
    Null,
}

/// Replaces `value`, a non-NULL value of `kind` in binary or text form.
pub fn apply(method: Method, kind: Kind, binary: bool, value: &[u8], salt: &Salt) -> Replacement {
    match (kind, method) {
        (_, Method::Null) | (Kind::Bytes | Kind::Number | Kind::Other, _) => Replacement::Null,
        (Kind::Text, _) => Replacement::Value(text(method, value, salt)),
        (Kind::Char, Method::Redact | Method::Partial) => Replacement::Value(Cow::Borrowed(b"*")),
        (Kind::Char, Method::Hash) => Replacement::Null,
        (Kind::Json, _) => Replacement::Value(Cow::Owned(json(method, value, salt))),
        (Kind::Uuid, Method::Hash) => uuid_hash(binary, value, salt),
        (Kind::Uuid, Method::Redact | Method::Partial) => Replacement::Value(uuid_bytes(uuid::Uuid::nil(), binary)),
    }
}

fn text(method: Method, value: &[u8], salt: &Salt) -> Cow<'static, [u8]> {
    match method {
        Method::Hash => Cow::Owned(salt.hex(value).into_bytes()),
        Method::Partial => Cow::Owned(partial(value).into_bytes()),
        Method::Redact | Method::Null => Cow::Borrowed(MASKED.as_bytes()),
    }
}

/// A JSON string with the replacement; only a JSON string can be shown in part.
fn json(method: Method, value: &[u8], salt: &Salt) -> Vec<u8> {
    let shown = match method {
        Method::Hash => salt.hex(value),
        Method::Partial => serde_json::from_slice::<String>(value)
            .map_or_else(|_| MASKED.to_owned(), |content| partial(content.as_bytes())),
        Method::Redact | Method::Null => MASKED.to_owned(),
    };
    serde_json::Value::String(shown).to_string().into_bytes()
}

/// Both forms of one UUID hash alike; the result is a version 8 UUID (RFC 9562 §5.8).
fn uuid_hash(binary: bool, value: &[u8], salt: &Salt) -> Replacement {
    let parsed = if binary { uuid::Uuid::from_slice(value) } else { uuid::Uuid::try_parse_ascii(value) };
    let Ok(parsed) = parsed else { return Replacement::Null };
    let mac = salt.mac(parsed.as_bytes());
    let mut bytes: [u8; 16] = mac[..16].try_into().expect("16 of 32 bytes");
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Replacement::Value(uuid_bytes(uuid::Uuid::from_bytes(bytes), binary))
}

fn uuid_bytes(uuid: uuid::Uuid, binary: bool) -> Cow<'static, [u8]> {
    Cow::Owned(if binary { uuid.as_bytes().to_vec() } else { uuid.hyphenated().to_string().into_bytes() })
}

/// The part of `value` that may be seen. Its length is not shown either.
pub(super) fn partial(value: &[u8]) -> String {
    let Ok(value) = std::str::from_utf8(value) else { return MASKED.to_owned() };
    let value = value.trim_end();
    if let Some(address) = partial_email(value) {
        return address;
    }
    let count = value.chars().count();
    if count < PARTIAL_FROM {
        return "***".to_owned();
    }
    format!("***{}", value.chars().skip(count - PARTIAL_KEEPS).collect::<String>())
}

/// `jane@example.com` → `j***@example.com`; a local part of one or two characters shows none of them.
fn partial_email(value: &str) -> Option<String> {
    let (local, domain) = value.rsplit_once('@')?;
    let simple =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if local.is_empty()
        || local.contains(char::is_whitespace)
        || !domain.contains('.')
        || !domain.split('.').all(simple)
    {
        return None;
    }
    let first = if local.chars().count() > 2 { local.chars().next() } else { None };
    Some(first.into_iter().chain("***@".chars()).chain(domain.chars()).collect())
}

#[cfg(test)]
mod tests;
