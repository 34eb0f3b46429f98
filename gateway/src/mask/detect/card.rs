//! Payment card numbers (ISO/IEC 7812).

use std::ops::Range;

/// Digits of the shortest card number.
pub(super) const SHORTEST: usize = 13;
/// Digits of the longest.
const LONGEST: usize = 19;
/// A token of hex digits this long is a digest or an identifier, not a card with letters around it.
const HEX_TOKEN: usize = 20;

/// Calls `found` with every card number in `value`.
pub(super) fn find(value: &[u8], found: &mut dyn FnMut(Range<usize>)) {
    let mut at = 0;
    while at < value.len() {
        if !value[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        let mut digits = 0;
        let end = run(value, start, |group| digits += group.len());
        if digits >= SHORTEST {
            let mut groups = Vec::new();
            run(value, start, |group| groups.push(group));
            windows(value, &groups, found);
        }
        at = end;
    }
}

/// Cuts the digits from `start` on into groups with one space or dash between; returns where they end.
fn run(value: &[u8], start: usize, mut group: impl FnMut(Range<usize>)) -> usize {
    let mut at = start;
    loop {
        let from = at;
        while value.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        group(from..at);
        let separated = matches!(value.get(at), Some(b' ' | b'-')) && value.get(at + 1).is_some_and(u8::is_ascii_digit);
        if !separated {
            return at;
        }
        at += 1;
    }
}

/// Tries every stretch of whole groups; after a hit goes on behind it.
fn windows(value: &[u8], groups: &[Range<usize>], found: &mut dyn FnMut(Range<usize>)) {
    let mut first = 0;
    while first < groups.len() {
        first = match window(value, &groups[first..]) {
            Some((at, used)) => {
                found(at);
                first + used
            }
            None => first + 1,
        };
    }
}

fn window(value: &[u8], groups: &[Range<usize>]) -> Option<(Range<usize>, usize)> {
    let mut digits = [0_u8; LONGEST];
    let mut count = 0;
    for (used, group) in groups.iter().enumerate() {
        if count + group.len() > LONGEST {
            return None;
        }
        for (slot, byte) in digits[count..].iter_mut().zip(&value[group.clone()]) {
            *slot = byte - b'0';
        }
        count += group.len();
        let at = groups[0].start..group.end;
        if count >= SHORTEST && issued(&digits[..count]) && luhn(&digits[..count]) && !in_hex_token(value, &at) {
            return Some((at, used + 1));
        }
    }
    None
}

/// ISO/IEC 7812-1 annex B: every second digit from the right doubled, the sum a multiple of ten.
fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit < 5 { digit * 2 } else { digit * 2 - 9 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| u32::from(if place % 2 == 1 { doubled(*digit) } else { *digit }))
        .sum();
    sum.is_multiple_of(10)
}

/// Whether a number of this length is issued in this range.
fn issued(digits: &[u8]) -> bool {
    let prefix = digits[..4].iter().fold(0_u32, |prefix, digit| prefix * 10 + u32::from(*digit));
    matches!(
        (prefix, digits.len()),
        (4000..=4999, 13 | 16 | 19)
            | (2221..=2720 | 5100..=5599, 16)
            | (3400..=3499 | 3700..=3799, 15)
            | (3000..=3059 | 3095 | 3600..=3699 | 3800..=3999, 14..=19)
            | (3528..=3589, 16..=19)
            | (5000..=5099 | 5600..=6999, 13..=19)
            | (2200..=2204 | 8100..=8171 | 9792, 16..=19)
    )
}

/// Whether the number is a piece of a long hexadecimal token.
fn in_hex_token(value: &[u8], at: &Range<usize>) -> bool {
    let before = value[..at.start].iter().rev().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let after = value[at.end..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    before + after > 0 && before + at.len() + after >= HEX_TOKEN
}
