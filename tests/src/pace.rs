//! Repeatable randomness: a test that fails names its seed, and the seed brings the failure back.

/// A small generator (xorshift64*). Good for shuffling tests, for nothing that needs secrecy.
#[derive(Debug, Clone)]
pub struct Pace(u64);

impl Pace {
    /// A stream of numbers of its own for each `seed`.
    pub fn new(seed: u64) -> Self {
        // An all-zero state would stay zero for ever.
        let mut pace = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        pace.next();
        pace
    }

    /// The next 64 bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless stream; an iterator's Option would only be in the way"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// `count` bytes.
    pub fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}
