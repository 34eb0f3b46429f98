//! The cheap first pass: which detectors could possibly find something.
//!
//! Every test is a comparison of bytes at fixed offsets, OR-ed together without a branch, so that the compiler turns
//! the loop into vector instructions.

/// What a value contains that a detector needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// How many ASCII digits; at most 255 are counted.
    pub(super) digits: usize,
    /// An `@`.
    pub(super) at: bool,
    /// `eyJ`, which is how base64url of `{"` starts.
    pub(super) jwt: bool,
    /// `KIA` or `SIA`.
    pub(super) aws_id: bool,
    /// `ecr` or `aws` in any case: a word beside a secret.
    pub(super) aws_context: bool,
    /// `---`.
    pub(super) dashes: bool,
    /// `gh?_` or `hub_`.
    pub(super) github: bool,
    /// `xox` or `xap`.
    pub(super) slack: bool,
}

/// No detector finds anything in fewer bytes (an address needs six: `a@b.cd`).
const SHORTEST: usize = 6;
/// Digits are counted in a byte per chunk.
const CHUNK: usize = 128;
/// The fewest digits that a detector of numbers asks for (an IBAN of Malta).
const FEWEST_DIGITS: usize = 7;

impl Hints {
    pub(super) fn of(value: &[u8]) -> Self {
        if value.len() < SHORTEST {
            return Self::default();
        }
        let mut digits = 0_usize;
        for chunk in value.chunks(CHUNK) {
            let count = chunk.iter().fold(0_u8, |count, byte| count + u8::from(byte.wrapping_sub(b'0') < 10));
            digits += usize::from(count);
        }
        let bits = triples(value) | u8::from(value[..2].contains(&b'@'));
        Self {
            digits,
            at: bits & 1 != 0,
            jwt: bits & 2 != 0,
            aws_id: bits & 4 != 0,
            aws_context: bits & 8 != 0,
            dashes: bits & 16 != 0,
            github: bits & 32 != 0,
            slack: bits & 64 != 0,
        }
    }

    /// Whether no detector needs to look.
    pub(super) fn is_empty(&self) -> bool {
        let Self { digits, at, jwt, aws_id, aws_context, dashes, github, slack } = *self;
        digits < FEWEST_DIGITS && !(at | jwt | aws_id | aws_context | dashes | github | slack)
    }
}

/// One bit per pattern of three bytes that occurs.
fn triples(value: &[u8]) -> u8 {
    let bit = |present: bool, bit: u8| u8::from(present) << bit;
    value.iter().zip(&value[1..]).zip(&value[2..]).fold(0, |bits, ((&a, &b), &c)| {
        let (lower_a, lower_b, lower_c) = (a | 0x20, b | 0x20, c | 0x20);
        bits | bit(c == b'@', 0)
            | bit((a == b'e') & (b == b'y') & (c == b'J'), 1)
            | bit(((a == b'K') | (a == b'S')) & (b == b'I') & (c == b'A'), 2)
            | bit((lower_a == b'e') & (lower_b == b'c') & (lower_c == b'r'), 3)
            | bit((lower_a == b'a') & (lower_b == b'w') & (lower_c == b's'), 3)
            | bit((a == b'-') & (b == b'-') & (c == b'-'), 4)
            | bit((c == b'_') & ((a == b'h') | (b == b'b')), 5)
            | bit((a == b'x') & (((b == b'o') & (c == b'x')) | ((b == b'a') & (c == b'p'))), 6)
    })
}
