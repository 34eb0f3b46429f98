//! One value of a known type → what the client gets instead.

use std::borrow::Cow;

use super::{
    Cursor, Masker, Unmaskable,
    plan::{Column, Treatment},
    types::{self, Scan},
};
use crate::mask::{Detectors, Found, Kind, Method, Replacement, apply};

/// Arrays and composites nested deeper than this (binary form) count as a hit.
const DEEPEST: usize = 6;
/// An integer below this has too few digits for any detector.
const FEWEST: u64 = 1_000_000_000_000;

/// What became of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It goes as it is.
    Same,
    /// It is replaced; so many things were masked in it.
    Changed(Replacement, u32),
}

const NULLED: Outcome = Outcome::Changed(Replacement::Null, 1);

impl Masker {
    /// Treats one value that is not NULL.
    pub(super) fn value(&self, column: Column, value: &[u8]) -> Outcome {
        match column.treatment {
            Treatment::Pass => Outcome::Same,
            Treatment::Mask(method) => Outcome::Changed(self.masked(column, method, value), 1),
            Treatment::Detect => match self.masks.detectors() {
                Some(detectors) => self.detect(detectors, column, value),
                None => Outcome::Same,
            },
        }
    }

    fn masked(&self, column: Column, method: Method, value: &[u8]) -> Replacement {
        let kind = types::kind(column.type_oid);
        if column.type_oid == 0 && method != Method::Null {
            return Replacement::Null;
        }
        if !(column.binary && column.type_oid == types::JSONB) {
            return apply(method, kind, column.binary, value, &self.salt);
        }
        match (value.split_first(), apply(method, Kind::Json, false, value.get(1..).unwrap_or_default(), &self.salt)) {
            (Some((version, _)), Replacement::Value(json)) => {
                Replacement::Value([&[*version], &json[..]].concat().into())
            }
            _ => Replacement::Null,
        }
    }

    fn detect(&self, detectors: &Detectors, column: Column, value: &[u8]) -> Outcome {
        let null_on = |hit: bool| if hit { NULLED } else { Outcome::Same };
        match (types::scan(column.type_oid), column.binary) {
            (Scan::Never, _) => Outcome::Same,
            (Scan::Text, _) | (Scan::TextArray, false) => self.in_place(detectors, value, |_| true),
            (Scan::Json, _) | (Scan::Jsonb, false) => self.in_place(detectors, value, is_json),
            (Scan::Jsonb, true) => self.in_place(detectors, value, |json| json.get(1..).is_some_and(is_json)),
            (Scan::Unknown, false) => self.in_place(detectors, value, |new| fits_as_before(value, new)),
            (Scan::Bytea, false) => null_on(hex_hits(detectors, value)),
            (Scan::Integer | Scan::Numeric | Scan::Float | Scan::Opaque, false) => null_on(detectors.hit(value)),
            (_, true) => null_on(binary_hits(detectors, column.type_oid, value, 0)),
        }
    }

    /// Replaces what is found, or the whole by NULL when the result would not be `valid`.
    fn in_place(&self, detectors: &Detectors, value: &[u8], valid: impl Fn(&[u8]) -> bool) -> Outcome {
        match detectors.scan(value, &self.salt) {
            Found::Nothing => Outcome::Same,
            Found::Replaced { value, hits } if valid(&value) => {
                Outcome::Changed(Replacement::Value(Cow::Owned(value)), hits)
            }
            Found::Replaced { .. } | Found::Null => NULLED,
        }
    }
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

/// Of a value whose type is not known: a number is not replaced by stars, and JSON stays JSON.
fn fits_as_before(old: &[u8], new: &[u8]) -> bool {
    let is_number = old.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e'));
    !is_number && (!is_json(old) || is_json(new))
}

/// `bytea` in text form: hexadecimal behind `\x`, or else the escape form.
fn hex_hits(detectors: &Detectors, value: &[u8]) -> bool {
    let Some(hex) = value.strip_prefix(b"\\x") else { return detectors.hit(value) };
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> = hex
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        })
        .collect();
    bytes.is_none_or(|bytes| detectors.hit(&bytes))
}

/// Whether anything is found in a value in binary form, or in what it contains.
fn binary_hits(detectors: &Detectors, type_oid: u32, value: &[u8], depth: usize) -> bool {
    if depth > DEEPEST {
        return true;
    }
    match types::scan(type_oid) {
        Scan::Never => false,
        Scan::Integer => integer_hits(detectors, value),
        Scan::Numeric => numeric(value).is_none_or(|digits| detectors.hit(&digits)),
        Scan::Float => float_hits(detectors, value),
        Scan::Text | Scan::Json | Scan::Jsonb | Scan::Bytea => detectors.hit(value),
        Scan::TextArray | Scan::Opaque => detectors.hit(value) || nested_hits(detectors, value, depth),
        Scan::Unknown => {
            let as_number = value.len() == 8 && integer_hits(detectors, value);
            as_number
                || detectors.hit(value)
                || numeric(value).is_some_and(|digits| detectors.hit(&digits))
                || nested_hits(detectors, value, depth)
        }
    }
}

fn integer_hits(detectors: &Detectors, value: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 8]>::try_from(value) else { return true };
    let number = i64::from_be_bytes(bytes).unsigned_abs();
    number >= FEWEST && detectors.hit(number.to_string().as_bytes())
}

fn float_hits(detectors: &Detectors, value: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 8]>::try_from(value) else { return true };
    let number = f64::from_be_bytes(bytes).abs();
    (1e12..1e20).contains(&number) && detectors.hit(format!("{number:.0}").as_bytes())
}

/// The digits before the point (`numeric_send`: digit count, weight, sign, scale, base-10000 digits).
fn numeric(value: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(value);
    let count = cursor.count().ok()?;
    let weight = cursor.i16().ok()?;
    let _sign_and_scale = cursor.take(4).ok()?;
    let mut digits = Vec::new();
    for place in 0..count {
        let digit = cursor.i16().ok()?;
        if !(0..10_000).contains(&digit) {
            return None;
        }
        if usize::try_from(weight).is_ok_and(|weight| place <= weight) {
            digits.extend_from_slice(format!("{digit:04}").as_bytes());
        }
    }
    // Digits that are not sent are zero. More than a few of them are no number that anybody looks for.
    let missing = usize::try_from(weight).map_or(0, |weight| (weight + 1).saturating_sub(count)).min(8);
    digits.extend(std::iter::repeat_n(b'0', missing * 4));
    let leading = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..leading);
    cursor.is_done().then_some(digits)
}

/// Reads the value as an array and as a composite, whichever it is; neither is no hit.
fn nested_hits(detectors: &Detectors, value: &[u8], depth: usize) -> bool {
    array_hits(detectors, value, depth).unwrap_or(false) || record_hits(detectors, value, depth).unwrap_or(false)
}

/// `array_send`: dimensions, flags, element type, per dimension size and bound, elements.
fn array_hits(detectors: &Detectors, value: &[u8], depth: usize) -> Result<bool, Unmaskable> {
    let mut cursor = Cursor::new(value);
    let dimensions = cursor.u32()?;
    let _flags = cursor.u32()?;
    let type_oid = cursor.u32()?;
    if dimensions > 6 {
        return Ok(false);
    }
    cursor.take(dimensions as usize * 8)?;
    while !cursor.is_done() {
        if cursor.value()?.is_some_and(|element| binary_hits(detectors, type_oid, element, depth + 1)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `record_send`: count, then type and value of each column.
fn record_hits(detectors: &Detectors, value: &[u8], depth: usize) -> Result<bool, Unmaskable> {
    let mut cursor = Cursor::new(value);
    for _ in 0..cursor.u32()? {
        let type_oid = cursor.u32()?;
        if cursor.value()?.is_some_and(|column| binary_hits(detectors, type_oid, column, depth + 1)) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
