//! The hash chain: what makes an entry's place and content provable.
//!
//! A stored value is `[layout: 1 byte][hash: 32 bytes][payload]`. The hash covers a domain separator, the position,
//! the previous entry's hash and the payload; before the first entry stands the genesis, made from the node's random
//! key, so that a chain cannot be grafted onto another node's. Changing, dropping, adding or moving an entry breaks
//! the chain at that entry. Dropping the newest entries does not: for that, keep a [`Head`] elsewhere.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use crate::operation::Digest;

/// The layout of a stored value. A change here is a new store format.
pub(super) const LAYOUT: u8 = 1;

/// Bytes before the payload.
pub(super) const HEADER: usize = 1 + 32;

/// A point of the chain: an entry's position and its hash. Whoever keeps one can later prove that nothing up to it
/// was changed or dropped. Written `POSITION:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The newest entry's position; 0 before the first.
    pub position: u64,
    /// Its hash; the genesis before the first.
    pub hash: Digest,
}

impl Head {
    /// Where the chain of the node with this key begins.
    pub(super) fn genesis(node: &[u8; 32]) -> Self {
        let hash = Sha256::new().chain_update(b"holdpoint record genesis\0").chain_update(node).finalize();
        Self { position: 0, hash: Digest(hash.into()) }
    }

    /// The head after one more entry.
    pub(super) fn next(&self, payload: &[u8]) -> Self {
        let position = self.position + 1;
        let mut hash = Sha256::new();
        hash.update(b"holdpoint entry\0");
        hash.update([LAYOUT]);
        hash.update(position.to_be_bytes());
        hash.update(self.hash.0);
        hash.update(payload);
        Self { position, hash: Digest(hash.finalize().into()) }
    }

    /// Puts this entry's header into the first [`HEADER`] bytes of `value`.
    pub(super) fn seal(&self, value: &mut [u8]) {
        value[0] = LAYOUT;
        value[1..HEADER].copy_from_slice(&self.hash.0);
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.position, self.hash)
    }
}

/// The text is no [`Head`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not POSITION:HASH as `holdpoint verify` prints it")]
pub struct NotAHead(String);

impl FromStr for Head {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAHead(text.to_owned());
        let (position, hex) = text.trim().split_once(':').ok_or_else(wrong)?;
        let position = position.parse().map_err(|_| wrong())?;
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(wrong());
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self { position, hash: Digest(hash) })
    }
}

/// A stored value, cut into its parts.
pub(super) struct Sealed<'a> {
    /// The hash that it claims.
    pub(super) hash: Digest,
    /// The entry's bytes.
    pub(super) payload: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Cuts; says in words what is wrong with the header.
    pub(super) fn cut(value: &'a [u8]) -> Result<Self, String> {
        match value.split_first() {
            Some((&LAYOUT, rest)) => {
                let (hash, payload) = rest.split_first_chunk::<32>().ok_or("shorter than its header")?;
                Ok(Self { hash: Digest(*hash), payload })
            }
            Some((layout, _)) => Err(format!("layout {layout} is unknown")),
            None => Err("empty".to_owned()),
        }
    }
}
