//! Where the key comes from that seals the credentials' own keys.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

/// A key that seals others. It may be far away, so it seals and opens itself rather than being handed out.
pub trait KeySource: Send + Sync {
    /// What it is, for people.
    fn describe(&self) -> String;

    /// Whether it can be used now.
    ///
    /// # Errors
    /// Why not.
    fn ready(&self) -> Result<(), String>;

    /// Seals a credential's key, bound to `about`.
    ///
    /// # Errors
    /// Why not.
    fn wrap(&self, key: &[u8; 32], about: &[u8]) -> Result<Vec<u8>, String>;

    /// Opens what [`KeySource::wrap`] has sealed.
    ///
    /// # Errors
    /// Why not: another key, or something else that it is bound to.
    fn unwrap(&self, wrapped: &[u8], about: &[u8]) -> Result<Zeroizing<[u8; 32]>, String>;
}

/// 32 bytes in a file: one of the gateway's own, made when it is needed first, or one that is brought; systemd's
/// credentials (`LoadCredentialEncrypted=`) are such a file.
#[derive(Debug)]
pub struct FileKey {
    path: PathBuf,
    /// Whether it is made where it is missing.
    own: bool,
}

impl FileKey {
    /// The gateway's own.
    pub fn own(path: &Path) -> Self {
        Self { path: path.to_owned(), own: true }
    }

    /// One that somebody else looks after.
    pub fn brought(path: &Path) -> Self {
        Self { path: path.to_owned(), own: false }
    }

    fn read(&self) -> Result<RandomizedNonceKey, String> {
        let bytes = std::fs::read(&self.path).map(Zeroizing::new);
        let bytes = bytes.map_err(|error| format!("it cannot be read: {error}"))?;
        let found = bytes.len();
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| format!("it is {found} bytes long, and must be 32"))
    }

    fn make(&self) -> Result<(), String> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(|error| format!("there are no random numbers: {error}"))?;
        crate::net::tls::write_private(&self.path, &*key).map_err(|error| format!("it cannot be written: {error}"))
    }
}

impl KeySource for FileKey {
    fn describe(&self) -> String {
        format!("the key in {}", self.path.display())
    }

    fn ready(&self) -> Result<(), String> {
        self.read().map(drop)
    }

    fn wrap(&self, key: &[u8; 32], about: &[u8]) -> Result<Vec<u8>, String> {
        if self.own && std::fs::metadata(&self.path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.make()?;
        }
        seal(&self.read()?, key, about)
    }

    fn unwrap(&self, wrapped: &[u8], about: &[u8]) -> Result<Zeroizing<[u8; 32]>, String> {
        let opened = open(&self.read()?, wrapped, about)?;
        let key = opened.as_slice().try_into().map_err(|_| "what it opens is no key".to_owned())?;
        Ok(Zeroizing::new(key))
    }
}

/// AES-256-GCM under a random nonce, which stands in front.
pub(super) fn seal(key: &RandomizedNonceKey, bytes: &[u8], about: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = bytes.to_vec();
    let nonce = key.seal_in_place_append_tag(Aad::from(about), &mut out).map_err(|_| "it cannot seal".to_owned())?;
    Ok([&nonce.as_ref()[..], &out].concat())
}

/// Opens what [`seal`] has sealed.
pub(super) fn open(key: &RandomizedNonceKey, sealed: &[u8], about: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let wrong = || "it does not open them: it is another key, or a file was changed".to_owned();
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let length = key.open_in_place(nonce, Aad::from(about), &mut bytes).map_err(|_| wrong())?.len();
    bytes.truncate(length);
    Ok(bytes)
}
