//! What the gateway logs in with in a bot's place: kept sealed, opened for one login, never shown again.
//!
//! Each credential is sealed with a key of its own, and that key by a [`KeySource`]. What can be seen without a key is the
//! name, the user it is for, and how often and when it was changed; all of that is bound to what is sealed, so none of
//! it can be exchanged on disk.
//!
//! # Security
//! *Invariant:* there is no way from here to a credential's value but [`Vault::open`], which is for the gate. It is in no
//! log, error, record or answer of the API; [`Secret`] has no way to be printed, and is wiped when it is dropped.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

mod key;
mod remote;
mod seal;
#[cfg(test)]
mod tests;

pub use key::{Doing, FileKey, KeySource, Keys};
pub use remote::RemoteKey;
use seal::Sealed;

/// A secret's bytes. Wiped when dropped, and never printed.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a secret over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for whoever proves something with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// A credential, opened.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Whom the backend knows it by; `None`: whoever the client says it is.
    pub user: Option<String>,
    /// The password, or what a server keeps of one.
    pub value: Secret,
    /// How often it has been set.
    pub version: u64,
}

/// What everybody with access to the API may know of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its name in resources.
    pub name: String,
    /// Whom the backend knows it by.
    pub user: Option<String>,
    /// How often it has been set.
    pub version: u64,
    /// When it was set last, in seconds since 1970.
    pub changed: u64,
}

/// All credentials of this node. A cheap handle.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    keys: Keys,
    held: Mutex<BTreeMap<String, Sealed>>,
    /// Held by whoever changes what is held: sealing takes its time.
    changing: tokio::sync::Mutex<()>,
    /// What the key last said of itself, and when.
    said: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
}

/// How sealing stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What seals.
    pub sealed_with: String,
    /// What only opens, until all are sealed anew.
    pub before: Option<String>,
    /// Why what seals cannot be used now.
    pub away: Option<String>,
    /// How many credentials there are.
    pub credentials: usize,
}

/// What was sealed anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resealed {
    /// How many.
    pub credentials: usize,
    /// What seals them now.
    pub sealed_with: String,
}

/// Whether a credential must be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It may be new.
    Set,
    /// It must be there; what is not said anew stays.
    Rotate,
}

impl Vault {
    /// Those in `directory`, sealed by one of `keys`, which are not asked yet.
    ///
    /// # Errors
    /// The directory cannot be read or made, or a file in it is no credential.
    pub fn open_at(directory: &Path, keys: Keys) -> Result<Self, VaultError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let failed = |source| VaultError::File { path: directory.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let mut held = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|kind| kind != SEALED) {
                continue;
            }
            let bytes = fs::read(&path).map_err(|source| VaultError::File { path: path.clone(), source })?;
            let sealed: Sealed =
                serde_json::from_slice(&bytes).map_err(|_| VaultError::NotSealed { path: path.clone() })?;
            if path != file(directory, &sealed.about.name) {
                return Err(VaultError::NotSealed { path });
            }
            held.insert(sealed.about.name.clone(), sealed);
        }
        let (directory, held) = (directory.to_owned(), Mutex::new(held));
        Ok(Self(Arc::new(Inner { directory, keys, held, changing: Default::default(), said: Default::default() })))
    }

    /// Whether what there is can be opened, as far as the key itself is concerned.
    ///
    /// # Errors
    /// The key cannot be used, and is not one that comes back by itself: of that the log tells.
    pub async fn check(&self) -> Result<(), VaultError> {
        let Keys { now, before } = &self.0.keys;
        if self.held().is_empty() {
            return Ok(());
        }
        match self.sealing(now.ready().await) {
            Err(error) if now.may_be_away() || before.is_some() => {
                tracing::error!(%error, "credentials may not be opened until this is mended; logins that need them are refused");
                Ok(())
            }
            done => done,
        }
    }

    /// How sealing stands. What the key says is remembered for a moment, since everybody may ask.
    pub async fn standing(&self) -> Standing {
        let Keys { now, before } = &self.0.keys;
        let credentials = self.held().len();
        let mut said = self.0.said.lock().await;
        let away = match said.as_ref().filter(|(at, _)| at.elapsed() < REMEMBERED) {
            Some((_, said)) => said.clone().err(),
            // Where nothing is sealed the gateway's own key may not have been made.
            None if credentials == 0 && !now.may_be_away() => None,
            None => said.insert((Instant::now(), now.ready().await)).1.clone().err(),
        };
        let before = before.as_ref().map(|before| before.describe());
        Standing { sealed_with: now.describe(), before, away, credentials }
    }

    /// What there is.
    pub fn list(&self) -> Vec<About> {
        self.held().values().map(|sealed| sealed.about.clone()).collect()
    }

    /// Keeps `value` under `name`. Logins from now on use it; connections that are open stay as they are.
    ///
    /// # Errors
    /// The name or the value cannot be one, there is none to rotate, or it cannot be sealed or written.
    pub async fn put(&self, name: &str, user: Option<String>, value: &Secret, put: Put) -> Result<About, VaultError> {
        if !is_name(name) {
            return Err(VaultError::BadName(name.to_owned()));
        }
        if value.expose().is_empty() || value.expose().contains(&0) || value.expose().len() > LONGEST {
            return Err(VaultError::BadValue);
        }
        let _alone = self.0.changing.lock().await;
        let before = self.held().get(name).map(|sealed| sealed.about.clone());
        if put == Put::Rotate && before.is_none() {
            return Err(VaultError::Unknown(name.to_owned()));
        }
        let about = About {
            name: name.to_owned(),
            user: user
                .or_else(|| before.as_ref().filter(|_| put == Put::Rotate).and_then(|before| before.user.clone())),
            version: before.as_ref().map_or(0, |before| before.version) + 1,
            changed: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        };
        let sealed = self.sealing(Sealed::seal(&self.0.keys, about.clone(), value).await)?;
        self.keep(sealed)?;
        Ok(about)
    }

    /// Seals all of them anew with the newest key, one after the other. Each is at every moment sealed by one of the keys,
    /// whole, so this may be stopped and begun again.
    ///
    /// # Errors
    /// One cannot be opened, sealed or written; those before it are done.
    pub async fn reseal(&self) -> Result<Resealed, VaultError> {
        let _alone = self.0.changing.lock().await;
        let all: Vec<Sealed> = self.held().values().cloned().collect();
        for (done, sealed) in all.iter().enumerate() {
            let name = &sealed.about.name;
            let stopped = |why| VaultError::Stopped { done, of: all.len(), name: name.clone(), why: Box::new(why) };
            let again = self.sealing(sealed.reseal(&self.0.keys).await).map_err(stopped)?;
            self.keep(again).map_err(stopped)?;
        }
        Ok(Resealed { credentials: all.len(), sealed_with: self.0.keys.now.describe() })
    }

    /// On disk first, and durably: the key that opens what was there before may be destroyed next.
    fn keep(&self, sealed: Sealed) -> Result<(), VaultError> {
        let path = file(&self.0.directory, &sealed.about.name);
        let bytes = serde_json::to_vec(&sealed).expect("it is plain data");
        let written =
            crate::net::tls::write_private(&path, &bytes).and_then(|()| fs::File::open(&self.0.directory)?.sync_all());
        written.map_err(|source| VaultError::File { path, source })?;
        self.held().insert(sealed.about.name.clone(), sealed);
        Ok(())
    }

    /// Forgets a credential; whatever needs it is refused from now on.
    ///
    /// # Errors
    /// There is none, or it cannot be removed.
    pub async fn delete(&self, name: &str) -> Result<About, VaultError> {
        let _alone = self.0.changing.lock().await;
        let mut held = self.held();
        let about = held.get(name).map(|sealed| sealed.about.clone());
        let about = about.ok_or_else(|| VaultError::Unknown(name.to_owned()))?;
        let path = file(&self.0.directory, name);
        fs::remove_file(&path).map_err(|source| VaultError::File { path, source })?;
        held.remove(name);
        Ok(about)
    }

    /// Opens a credential, for the gate. Takes as long as its key does.
    ///
    /// # Errors
    /// There is none, or it cannot be opened with this key.
    pub async fn open(&self, name: &str) -> Result<Credential, VaultError> {
        let sealed = self.held().get(name).cloned().ok_or_else(|| VaultError::Unknown(name.to_owned()))?;
        let value = self.sealing(sealed.open(&self.0.keys).await)?;
        Ok(Credential { user: sealed.about.user, value, version: sealed.about.version })
    }

    fn sealing<T>(&self, done: Result<T, String>) -> Result<T, VaultError> {
        done.map_err(|why| VaultError::Key { from: self.0.keys.now.describe(), why })
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Sealed>> {
        self.0.held.lock().expect("nothing panics while it holds this lock")
    }
}

/// Parts of letters, digits, `.`, `_` and `-`, separated by `/`: `orders-db/app`.
pub fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    name.len() <= 120 && name.split('/').all(part)
}

/// A `/` stands as `+`, which no name has.
fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{}.{SEALED}", name.replace('/', "+")))
}

/// How long what a key says of itself is remembered.
const REMEMBERED: Duration = Duration::from_secs(2);

/// What a sealed credential's file ends with.
const SEALED: &str = "sealed";

/// The longest value, in bytes: a private key is the longest that anybody means.
const LONGEST: usize = 64 * 1024;

/// Why a credential cannot be kept or opened. Never has a value in it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is none of that name.
    #[error("there is no credential {0:?}; `holdpoint credentials list` shows those that there are, `set` makes one")]
    Unknown(String),
    /// It can be no name.
    #[error(
        "{0:?} is no name for a credential; expected letters, digits, `.`, `_`, `-` and `/`, such as `orders-db/app`"
    )]
    BadName(String),
    /// It can be no value.
    #[error("the value is empty, has a zero byte in it, or is longer than 64 KiB")]
    BadValue,
    /// A file.
    #[error("cannot keep credentials in {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not one of ours.
    #[error("{path} is no sealed credential, or another's under this name; restore it, or remove it", path = path.display())]
    NotSealed {
        /// Which.
        path: PathBuf,
    },
    /// The key.
    #[error("credentials are sealed with {from}: {why}")]
    Key {
        /// Where it comes from.
        from: String,
        /// What is wrong.
        why: String,
    },
    /// Not all were sealed anew.
    #[error(
        "{done} of {of} credentials were sealed anew; {name} was not: {why}; nothing is lost, since each can be opened while \
         both keys are set: mend it, and run `holdpoint credentials reseal` again"
    )]
    Stopped {
        /// How many were.
        done: usize,
        /// Of how many.
        of: usize,
        /// Which was not.
        name: String,
        /// Why.
        why: Box<VaultError>,
    },
}
