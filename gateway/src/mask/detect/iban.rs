//! International bank account numbers (ISO 13616).

use std::ops::Range;

/// The fewest digits that an IBAN can have: Malta's, whose account part may be all letters.
pub(super) const FEWEST_DIGITS: usize = 7;

/// Country and length, from the registry that SWIFT keeps (release 99).
const LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// Calls `found` with every IBAN in `value`.
pub(super) fn find(value: &[u8], found: &mut dyn FnMut(Range<usize>)) {
    let mut at = 0;
    while at + 4 <= value.len() {
        match candidate(value, at) {
            Some(end) => {
                found(at..end);
                at = end;
            }
            None => at += 1,
        }
    }
}

/// Where the IBAN that starts at `at` ends, if one does.
fn candidate(value: &[u8], at: usize) -> Option<usize> {
    let [a, b, c, d] = value[at..].first_chunk::<4>()?;
    if !(c.is_ascii_digit() && d.is_ascii_digit() && a.is_ascii_alphabetic() && b.is_ascii_alphabetic()) {
        return None;
    }
    if at > 0 && value[at - 1].is_ascii_alphanumeric() {
        return None;
    }
    let country = [a.to_ascii_uppercase(), b.to_ascii_uppercase()];
    let length = LENGTHS.iter().find(|(known, _)| **known == country)?.1;
    let end = collect(value, at, length)?;
    let plain = value[at..end].iter().filter(|byte| byte.is_ascii_alphanumeric());
    (remainder(plain.clone().skip(4).chain(plain.take(4))) == 1).then_some(end)
}

/// The end of `length` letters and digits with at most one space or dash between two of them.
fn collect(value: &[u8], start: usize, length: usize) -> Option<usize> {
    let mut at = start;
    for taken in 0..length {
        if taken > 0 && matches!(value.get(at), Some(b' ' | b'-')) {
            at += 1;
        }
        if !value.get(at)?.is_ascii_alphanumeric() {
            return None;
        }
        at += 1;
    }
    let ends = value.get(at).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    ends.then_some(at)
}

/// ISO 7064 MOD 97-10, a letter counting as two digits (A = 10).
fn remainder<'a>(plain: impl Iterator<Item = &'a u8>) -> u32 {
    plain.fold(0, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.to_ascii_uppercase() - b'A') + 10) % 97,
    })
}
