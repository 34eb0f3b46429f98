//! One credential as it is on disk.

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    About, Secret,
    key::{self, Keys},
};

/// A credential, sealed. Its format is part of what is sealed.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Sealed {
    format: u32,
    #[serde(flatten)]
    pub(super) about: About,
    /// The key that opens `sealed`, itself sealed by a [`KeySource`](super::KeySource).
    key: String,
    sealed: String,
}

/// History: 1 is the first.
const FORMAT: u32 = 1;

impl Sealed {
    pub(super) async fn seal(keys: &Keys, about: About, value: &Secret) -> Result<Self, String> {
        let own = key::random()?;
        let bound = bound(FORMAT, &about);
        let sealed = BASE64_STANDARD.encode(key::seal(&key_of(&own)?, value.expose(), &bound)?);
        let key = BASE64_STANDARD.encode(keys.now.wrap(&own, &bound).await?);
        Ok(Self { format: FORMAT, about, key, sealed })
    }

    pub(super) async fn open(&self, keys: &Keys) -> Result<Secret, String> {
        let own = self.own_key(keys).await?;
        key::open(&key_of(&own)?, &decoded(&self.sealed)?, &bound(self.format, &self.about)).map(Secret)
    }

    /// The same value under the same key of its own, which the newest key now seals. What was sealed so has been opened
    /// again before it is given out: a key that may seal and not open would lose everything.
    pub(super) async fn reseal(&self, keys: &Keys) -> Result<Self, String> {
        let own = self.own_key(keys).await?;
        let bound = bound(self.format, &self.about);
        let wrapped = keys.now.wrap(&own, &bound).await?;
        if *keys.now.unwrap(&wrapped, &bound).await? != *own {
            return Err("it opens something else than it has sealed".to_owned());
        }
        Ok(Self { key: BASE64_STANDARD.encode(wrapped), ..self.clone() })
    }

    async fn own_key(&self, keys: &Keys) -> Result<Zeroizing<[u8; 32]>, String> {
        if self.format != FORMAT {
            return Err(format!("{} was sealed by another version of this gateway", self.about.name));
        }
        keys.unwrap(&decoded(&self.key)?, &bound(self.format, &self.about)).await
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(text).map_err(|_| "a file was changed".to_owned())
}

fn key_of(bytes: &[u8; 32]) -> Result<RandomizedNonceKey, String> {
    RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| "a key of 32 bytes is none".to_owned())
}

/// What the sealed bytes are bound to: everything about them that can be read.
fn bound(format: u32, about: &About) -> Vec<u8> {
    serde_json::to_vec(&("holdpoint credential", format, about)).expect("it is plain data")
}
