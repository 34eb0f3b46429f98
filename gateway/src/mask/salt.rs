//! The node's masking key and HMAC-SHA-256 over it (RFC 2104), so that equal values show equal hashes on one node
//! and a hash says nothing to whoever lacks the key.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// SHA-256's block, in bytes (FIPS 180-4 §1).
const BLOCK: usize = 64;

/// The key of every [`Method::Hash`](super::Method::Hash) on this node. Never printed.
#[derive(Clone)]
pub struct Salt {
    inner: Sha256,
    outer: Sha256,
}

impl Salt {
    /// A salt from 32 random bytes, which the node keeps as long as its hashes shall stay comparable.
    pub fn new(key: &[u8; 32]) -> Self {
        Self::keyed(key)
    }

    fn keyed(key: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        if key.len() > BLOCK {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        Self {
            inner: Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)),
            outer: Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)),
        }
    }

    /// HMAC-SHA-256 of `value`.
    pub fn mac(&self, value: &[u8]) -> [u8; 32] {
        let inner = self.inner.clone().chain_update(value).finalize();
        self.outer.clone().chain_update(inner).finalize().into()
    }

    /// The first 64 bits of the MAC, as 16 lower-case hex digits.
    pub fn hex(&self, value: &[u8]) -> String {
        self.mac(value)[..8].iter().fold(String::with_capacity(16), |mut hex, byte| {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is below 16"));
            }
            hex
        })
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 §4.3 and §4.7 (a key longer than a block).
    #[test]
    fn agrees_with_the_rfc() {
        let hex = |mac: [u8; 32]| mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(Salt::keyed(b"Jefe").mac(b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(Salt::keyed(&[0xaa; 131]).mac(b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn shows_nothing_of_the_key() {
        assert_eq!(format!("{:?}", Salt::new(&[7; 32])), "Salt(…)");
        assert_eq!(Salt::new(&[7; 32]).hex(b"x").len(), 16);
    }
}
