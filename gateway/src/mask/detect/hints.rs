//! The cheap first pass: which detectors could possibly find something.
//!
//! Every test is a comparison of bytes at fixed offsets, OR-ed together without a branch, so that the compiler turns
//! the loop into vector instructions.

/// What a value contains that a detector needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// How many ASCII digits; of very many, not all are counted.
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
/// The fewest digits that a detector of numbers asks for (an IBAN of Malta).
const FEWEST_DIGITS: usize = 7;
/// Positions tested at once: a vector register of every x86-64 and AArch64.
const LANES: usize = 16;
/// A block is what the patterns at these positions can reach; patterns are three bytes long.
const BLOCK: usize = LANES + 2;

impl Hints {
    pub(super) fn of(value: &[u8]) -> Self {
        if value.len() < SHORTEST {
            return Self::default();
        }
        let mut lanes = Lanes::default();
        for at in (0..value.len()).step_by(LANES) {
            let rest = &value[at..];
            match rest.first_chunk() {
                Some(block) => lanes.add(block),
                None => lanes.add(&padded(rest)),
            }
        }
        let bits = lanes.bits.iter().fold(0, |all, bits| all | bits);
        Self {
            digits: lanes.digits.iter().map(|count| usize::from(*count)).sum(),
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

fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// What was seen at positions that are equal modulo [`LANES`].
#[derive(Default)]
struct Lanes {
    bits: [u8; LANES],
    digits: [u8; LANES],
}

impl Lanes {
    /// Tests the first [`LANES`] positions of `block`, one bit per pattern.
    #[inline(always)]
    fn add(&mut self, block: &[u8; BLOCK]) {
        let bit = |present: bool, bit: u8| u8::from(present).wrapping_neg() & bit;
        for lane in 0..LANES {
            let (a, b, c) = (block[lane], block[lane + 1], block[lane + 2]);
            let (lower_a, lower_b, lower_c) = (a | 0x20, b | 0x20, c | 0x20);
            self.digits[lane] = self.digits[lane].saturating_add(u8::from(a.wrapping_sub(b'0') < 10));
            self.bits[lane] |= bit(a == b'@', 1)
                | bit((a == b'e') & (b == b'y') & (c == b'J'), 2)
                | bit(((a == b'K') | (a == b'S')) & (b == b'I') & (c == b'A'), 4)
                | bit((lower_a == b'e') & (lower_b == b'c') & (lower_c == b'r'), 8)
                | bit((lower_a == b'a') & (lower_b == b'w') & (lower_c == b's'), 8)
                | bit((a == b'-') & (b == b'-') & (c == b'-'), 16)
                | bit((c == b'_') & ((a == b'h') | (b == b'b')), 32)
                | bit((a == b'x') & (((b == b'o') & (c == b'x')) | ((b == b'a') & (c == b'p'))), 64);
        }
    }
}
