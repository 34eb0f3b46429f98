//! What the gateway logs in with in a bot's place: kept sealed, opened for one login, never shown again.
//!
//! Each credential is sealed with a key of its own, and that key by a [`KeySource`]. What can be seen without a key is the
//! name, the user it is for, and how often and when it was changed; all of that is bound to what is sealed, so none of
//! it can be exchanged on disk.
//!
//! # Security
//! *Invariant:* there is no way from here to a credential's value but [`Vault::open`], which is for
//! the gate, and [`Opener`], which it gives to protocols. It is in no
//! log, error, record or answer of the API; [`Secret`] has no way to be printed, and is wiped when it is dropped.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

mod key;
mod seal;
#[cfg(test)]
mod tests;

pub use key::{FileKey, KeySource};
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
    key: Box<dyn KeySource>,
    held: Mutex<BTreeMap<String, Sealed>>,
}

/// Opens credentials; its big sister can change them.
#[derive(Clone, Default)]
pub struct Opener(Option<Vault>);

impl Opener {
    /// Opens one.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open(&self, name: &str) -> Result<Credential, VaultError> {
        self.0.as_ref().ok_or_else(|| VaultError::Unknown(name.to_owned()))?.open(name)
    }
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
    /// Those in `directory`, sealed by `key`.
    ///
    /// # Errors
    /// The directory cannot be read or made, or a file in it is no credential.
    pub fn open_at(directory: &Path, key: Box<dyn KeySource>) -> Result<Self, VaultError> {
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
        if !held.is_empty() {
            key.ready().map_err(|why| VaultError::Key { from: key.describe(), why })?;
        }
        Ok(Self(Arc::new(Inner { directory: directory.to_owned(), key, held: Mutex::new(held) })))
    }

    /// What there is.
    pub fn list(&self) -> Vec<About> {
        self.held().values().map(|sealed| sealed.about.clone()).collect()
    }

    /// Keeps `value` under `name`. Logins from now on use it; connections that are open stay as they are.
    ///
    /// # Errors
    /// The name or the value cannot be one, there is none to rotate, or it cannot be sealed or written.
    pub fn put(&self, name: &str, user: Option<String>, value: &Secret, put: Put) -> Result<About, VaultError> {
        if !is_name(name) {
            return Err(VaultError::BadName(name.to_owned()));
        }
        if value.expose().is_empty() || value.expose().contains(&0) || value.expose().len() > LONGEST {
            return Err(VaultError::BadValue);
        }
        let mut held = self.held();
        let before = held.get(name).map(|sealed| &sealed.about);
        if put == Put::Rotate && before.is_none() {
            return Err(VaultError::Unknown(name.to_owned()));
        }
        let about = About {
            name: name.to_owned(),
            user: user.or_else(|| before.filter(|_| put == Put::Rotate).and_then(|before| before.user.clone())),
            version: before.map_or(0, |before| before.version) + 1,
            changed: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        };
        let sealed = self.sealing(Sealed::seal(&*self.0.key, about.clone(), value))?;
        let path = file(&self.0.directory, name);
        let bytes = serde_json::to_vec(&sealed).expect("it is plain data");
        crate::net::tls::write_private(&path, &bytes).map_err(|source| VaultError::File { path, source })?;
        held.insert(name.to_owned(), sealed);
        Ok(about)
    }

    /// Forgets a credential; whatever needs it is refused from now on.
    ///
    /// # Errors
    /// There is none, or it cannot be removed.
    pub fn delete(&self, name: &str) -> Result<About, VaultError> {
        let mut held = self.held();
        let about = held.get(name).map(|sealed| sealed.about.clone());
        let about = about.ok_or_else(|| VaultError::Unknown(name.to_owned()))?;
        let path = file(&self.0.directory, name);
        fs::remove_file(&path).map_err(|source| VaultError::File { path, source })?;
        held.remove(name);
        Ok(about)
    }

    /// Opens a credential, for the gate.
    ///
    /// # Errors
    /// There is none, or it cannot be opened with this key.
    pub fn open(&self, name: &str) -> Result<Credential, VaultError> {
        let sealed = self.held().get(name).cloned().ok_or_else(|| VaultError::Unknown(name.to_owned()))?;
        let value = self.sealing(sealed.open(&*self.0.key))?;
        Ok(Credential { user: sealed.about.user, value, version: sealed.about.version })
    }

    /// What may open credentials, and nothing else.
    pub fn opener(&self) -> Opener {
        Opener(Some(self.clone()))
    }

    fn sealing<T>(&self, done: Result<T, String>) -> Result<T, VaultError> {
        done.map_err(|why| VaultError::Key { from: self.0.key.describe(), why })
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
}
