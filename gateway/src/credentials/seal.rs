//! One credential as it is on disk.

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{About, KeySource, Secret, key};

/// A credential, sealed. Its format is part of what is sealed.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Sealed {
    format: u32,
    #[serde(flatten)]
    pub(super) about: About,
    /// The key that opens `sealed`, itself sealed by the [`KeySource`].
    key: String,
    sealed: String,
}

/// History: 1 is the first.
const FORMAT: u32 = 1;

impl Sealed {
    pub(super) fn seal(source: &dyn KeySource, about: About, value: &Secret) -> Result<Self, String> {
        let mut own = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *own).map_err(|error| format!("there are no random numbers: {error}"))?;
        let bound = bound(FORMAT, &about);
        let sealed = key::seal(&key_of(&own)?, value.expose(), &bound)?;
        let wrapped = source.wrap(&own, &bound)?;
        Ok(Self { format: FORMAT, about, key: BASE64_STANDARD.encode(wrapped), sealed: BASE64_STANDARD.encode(sealed) })
    }

    pub(super) fn open(&self, source: &dyn KeySource) -> Result<Secret, String> {
        if self.format != FORMAT {
            return Err(format!("{} was sealed by another version of this gateway", self.about.name));
        }
        let decoded = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| "a file was changed".to_owned());
        let bound = bound(self.format, &self.about);
        let own = source.unwrap(&decoded(&self.key)?, &bound)?;
        key::open(&key_of(&own)?, &decoded(&self.sealed)?, &bound).map(Secret)
    }
}

fn key_of(bytes: &[u8; 32]) -> Result<RandomizedNonceKey, String> {
    RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| "a key of 32 bytes is none".to_owned())
}

/// What the sealed bytes are bound to: everything about them that can be read.
fn bound(format: u32, about: &About) -> Vec<u8> {
    serde_json::to_vec(&("holdpoint credential", format, about)).expect("it is plain data")
}
