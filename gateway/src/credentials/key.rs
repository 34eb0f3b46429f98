//! Where the key comes from that seals the credentials' own keys.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    pin::Pin,
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

/// What a key source does, or why it cannot.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// A key that seals others. It may be far away, so it seals and opens itself rather than being handed out, and within a
/// bounded time: a bot's login waits for it.
pub trait KeySource: Send + Sync {
    /// What it is, for people.
    fn describe(&self) -> String;

    /// Whether it may be away for a while and come back by itself: then a gateway starts without it.
    fn may_be_away(&self) -> bool {
        false
    }

    /// Whether it can be used now; else why not.
    fn ready(&self) -> Doing<'_, ()>;

    /// Seals a credential's key, bound to `about`.
    fn wrap<'a>(&'a self, key: &'a [u8; 32], about: &'a [u8]) -> Doing<'a, Vec<u8>>;

    /// Opens what [`KeySource::wrap`] has sealed. It fails for another key, or where it is bound to something else.
    fn unwrap<'a>(&'a self, wrapped: &'a [u8], about: &'a [u8]) -> Doing<'a, Zeroizing<[u8; 32]>>;
}

/// The keys in use: one that seals, and while credentials move from one to the other, the one before, which only opens.
pub struct Keys {
    /// Seals, and opens.
    pub now: Box<dyn KeySource>,
    /// Opens what `now` does not.
    pub before: Option<Box<dyn KeySource>>,
}

impl Keys {
    /// One alone.
    pub fn one(now: impl KeySource + 'static) -> Self {
        Self { now: Box::new(now), before: None }
    }

    /// Opens what either has sealed.
    pub(super) async fn unwrap(&self, wrapped: &[u8], about: &[u8]) -> Result<Zeroizing<[u8; 32]>, String> {
        let why = match self.now.unwrap(wrapped, about).await {
            Ok(key) => return Ok(key),
            Err(why) => why,
        };
        let Some(before) = &self.before else { return Err(why) };
        let other = |also: String| format!("{why}; nor does {} open it: {also}", before.describe());
        before.unwrap(wrapped, about).await.map_err(other)
    }
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
        let key = random()?;
        crate::net::tls::write_private(&self.path, &*key).map_err(|error| format!("it cannot be written: {error}"))
    }
}

impl KeySource for FileKey {
    fn describe(&self) -> String {
        format!("the key in {}", self.path.display())
    }

    fn ready(&self) -> Doing<'_, ()> {
        Box::pin(async { self.read().map(drop) })
    }

    fn wrap<'a>(&'a self, key: &'a [u8; 32], about: &'a [u8]) -> Doing<'a, Vec<u8>> {
        Box::pin(async move {
            if self.own && std::fs::metadata(&self.path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                self.make()?;
            }
            seal(&self.read()?, key, about)
        })
    }

    fn unwrap<'a>(&'a self, wrapped: &'a [u8], about: &'a [u8]) -> Doing<'a, Zeroizing<[u8; 32]>> {
        Box::pin(async move { open_key(&self.read()?, wrapped, about) })
    }
}

/// A new key.
pub(super) fn random() -> Result<Zeroizing<[u8; 32]>, String> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(|error| format!("there are no random numbers: {error}"))?;
    Ok(key)
}

/// Opens a key that [`seal`] has sealed.
pub(super) fn open_key(key: &RandomizedNonceKey, wrapped: &[u8], about: &[u8]) -> Result<Zeroizing<[u8; 32]>, String> {
    let opened = open(key, wrapped, about)?;
    opened.as_slice().try_into().map(Zeroizing::new).map_err(|_| "what it opens is no key".to_owned())
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
