//! Secrets that the gateway gives out once and keeps only a hash of.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// 256 random bits, as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one.
    ///
    /// # Panics
    /// The kernel has no random numbers, which it always has once it has booted.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the kernel has random numbers");
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// A new one that begins with a word by which people and their tools know it.
    pub fn marked(mark: &str) -> Self {
        Self(format!("{mark}{}", Self::random().0))
    }

    /// What is kept of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// One that came back.
    pub fn returned(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// To be given out, once.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}
