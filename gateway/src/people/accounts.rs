//! People whom the gateway itself knows: their names, groups and roles, and the passkeys with which they sign in.
//!
//! There are no passwords. An administrator makes an account and gets a link that works once, for a quarter of an hour,
//! with which its owner enrols a passkey. One small file, written whole.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use nix::unistd::User;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Person, PersonId, Role, machine_groups, token::Token};

/// Somebody whom the gateway itself knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Their name, as policies write it.
    pub name: String,
    /// The user of this machine who they are as well.
    #[serde(default)]
    pub user: Option<String>,
    /// Their e-mail address: what providers and channels know them by.
    #[serde(default)]
    pub email: Option<String>,
    /// Their groups, beside those of `user`.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// What they may use.
    #[serde(default)]
    pub roles: BTreeSet<Role>,
    /// Whether they may sign in no more.
    #[serde(default)]
    pub disabled: bool,
}

/// A passkey that somebody signs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passkey {
    /// Whose: their id in words.
    pub person: String,
    /// Its name.
    #[serde(with = "base64")]
    pub key: Vec<u8>,
    /// Its public half, as COSE has it.
    #[serde(with = "base64")]
    pub public: Vec<u8>,
}

/// Everybody the gateway itself knows.
pub struct Accounts {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Kept,
    /// Hashes of links that enrol a passkey → whose, and until when.
    links: HashMap<[u8; 32], (String, Instant)>,
}

/// What the file has.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    accounts: BTreeMap<String, Account>,
    #[serde(default)]
    passkeys: Vec<Passkey>,
}

/// Why an account is not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a name.
    #[error("`{0}` is no name for an account: letters, digits, `.`, `_` and `-`, at most 64 of them")]
    BadName(String),
    /// No such account.
    #[error("there is no account {0}; `holdpoint people list` shows them")]
    Unknown(String),
    /// The user is another account's.
    #[error("{0} `{1}` belongs to account {2} already: one human has one account")]
    Taken(&'static str, String, String),
    /// A user of this machine has the name.
    #[error(
        "this machine has a user {0}: an account of that name must be theirs, or policies could not tell them apart; \
         add --user {0}, or choose another name"
    )]
    NameOfUser(String),
    /// No such user.
    #[error("this machine has no user {0}")]
    NoUser(String),
    /// A link that is none.
    #[error("this link has been used, is too old, or never was one; ask for another with `holdpoint people enrol`")]
    NoLink,
}

impl Accounts {
    /// Those in `file`; none where it is not there yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(file: &Path) -> Result<Self, AccountError> {
        let failed = |source| AccountError::File { doing: "read", path: file.to_owned(), source };
        let kept = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(io::Error::other(error)))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { file: file.to_owned(), state: Mutex::new(State { kept, links: HashMap::new() }) })
    }

    /// Everybody, by name.
    pub fn list(&self) -> Vec<Account> {
        self.state().kept.accounts.values().cloned().collect()
    }

    /// Makes or changes an account, with its groups and roles as given.
    ///
    /// # Errors
    /// It cannot be kept, or is another human's.
    pub fn put(&self, account: Account) -> Result<(), AccountError> {
        if !is_name(&account.name) {
            return Err(AccountError::BadName(account.name));
        }
        if let Some(user) = &account.user
            && !matches!(User::from_name(user), Ok(Some(_)))
        {
            return Err(AccountError::NoUser(user.clone()));
        }
        if matches!(User::from_name(&account.name), Ok(Some(_))) && account.user.as_ref() != Some(&account.name) {
            return Err(AccountError::NameOfUser(account.name));
        }
        let mut state = self.state();
        let others = || state.kept.accounts.values().filter(|other| other.name != account.name);
        if let Some(user) = &account.user
            && let Some(other) = others().find(|other| other.user.as_ref() == Some(user))
        {
            return Err(AccountError::Taken("user", user.clone(), other.name.clone()));
        }
        let same = |theirs: &String| account.email.as_ref().is_some_and(|ours| ours.eq_ignore_ascii_case(theirs));
        if let Some(other) = others().find(|other| other.email.as_ref().is_some_and(same)) {
            let email = account.email.clone().unwrap_or_default();
            return Err(AccountError::Taken("e-mail address", email, other.name.clone()));
        }
        let mut kept = state.kept.clone();
        kept.accounts.insert(account.name.clone(), account);
        self.keep(&mut state, kept)
    }

    /// Removes an account with its passkeys.
    ///
    /// # Errors
    /// There is none, or that cannot be kept.
    pub fn delete(&self, name: &str) -> Result<(), AccountError> {
        let mut state = self.state();
        let mut kept = state.kept.clone();
        kept.accounts.remove(name).ok_or_else(|| AccountError::Unknown(name.to_owned()))?;
        let id = PersonId::Local(name.to_owned()).to_string();
        kept.passkeys.retain(|passkey| passkey.person != id);
        state.links.retain(|_, (owner, _)| owner != name);
        self.keep(&mut state, kept)
    }

    /// A link's secret part, with which the account's owner enrols a passkey: once, within [`LINK_LIFE`].
    ///
    /// # Errors
    /// There is no such account.
    pub fn link(&self, name: &str) -> Result<Token, AccountError> {
        let mut state = self.state();
        if state.kept.accounts.get(name).is_none_or(|account| account.disabled) {
            return Err(AccountError::Unknown(name.to_owned()));
        }
        let token = Token::random();
        let now = Instant::now();
        state.links.retain(|_, (_, until)| *until > now);
        state.links.insert(token.hash(), (name.to_owned(), now + LINK_LIFE));
        Ok(token)
    }

    /// Whose link it is, which stays good.
    pub fn linked(&self, typed: &str) -> Option<String> {
        let state = self.state();
        let (name, until) = state.links.get(&hash(typed))?;
        (Instant::now() < *until).then(|| name.clone())
    }

    /// Keeps the passkey that the owner of a link enrolled; the link is used up.
    ///
    /// # Errors
    /// The link is good no more, or that cannot be kept.
    pub fn enrol(&self, typed: &str, key: Vec<u8>, public: Vec<u8>) -> Result<Person, AccountError> {
        let mut state = self.state();
        let (name, until) = state.links.remove(&hash(typed)).ok_or(AccountError::NoLink)?;
        let account = state.kept.accounts.get(&name).cloned();
        let Some(account) = account.filter(|_| Instant::now() < until) else { return Err(AccountError::NoLink) };
        let person = person(&account);
        let mut kept = state.kept.clone();
        kept.passkeys.retain(|passkey| passkey.key != key);
        kept.passkeys.push(Passkey { person: person.id.to_string(), key, public });
        self.keep(&mut state, kept)?;
        Ok(person)
    }

    /// The passkey with this name, and whose it is.
    pub fn passkey(&self, key: &[u8]) -> Option<Passkey> {
        self.state().kept.passkeys.iter().find(|passkey| passkey.key == key).cloned()
    }

    /// The passkeys of a person.
    pub fn passkeys(&self, person: &PersonId) -> Vec<Passkey> {
        let id = person.to_string();
        self.state().kept.passkeys.iter().filter(|passkey| passkey.person == id).cloned().collect()
    }

    /// The person of this account, who may sign in.
    pub fn person(&self, name: &str) -> Option<Person> {
        self.state().kept.accounts.get(name).filter(|account| !account.disabled).map(person)
    }

    /// The account whose user of this machine this is.
    pub fn of_user(&self, user: &str) -> Option<Person> {
        let state = self.state();
        let mut accounts = state.kept.accounts.values().filter(|account| !account.disabled);
        accounts.find(|account| account.user.as_deref() == Some(user)).map(person)
    }

    /// The account with this e-mail address.
    pub fn of_email(&self, email: &str) -> Option<Person> {
        let state = self.state();
        let mut accounts = state.kept.accounts.values().filter(|account| !account.disabled);
        let same = |account: &&Account| account.email.as_ref().is_some_and(|ours| ours.eq_ignore_ascii_case(email));
        accounts.find(same).map(person)
    }

    fn keep(&self, state: &mut State, kept: Kept) -> Result<(), AccountError> {
        let failed = |source| AccountError::File { doing: "write", path: self.file.clone(), source };
        let bytes = serde_json::to_vec_pretty(&kept).map_err(|error| failed(io::Error::other(error)))?;
        crate::net::tls::write_private(&self.file, &bytes).map_err(failed)?;
        state.kept = kept;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

fn person(account: &Account) -> Person {
    let user = account.user.as_deref().and_then(|user| User::from_name(user).ok().flatten());
    let mut groups: BTreeSet<String> = user.iter().flat_map(machine_groups).collect();
    groups.extend(account.groups.iter().cloned());
    Person {
        id: PersonId::Local(account.name.clone()),
        name: account.name.clone(),
        also: account.user.iter().chain(&account.email).cloned().collect(),
        uid: user.map(|user| user.uid.as_raw()),
        email: account.email.clone(),
        groups: groups.into_iter().collect(),
        roles: account.roles.clone(),
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(fits)
}

fn hash(typed: &str) -> [u8; 32] {
    Sha256::digest(typed.as_bytes()).into()
}

mod base64 {
    //! Bytes as people's files have them.
    use ::base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| D::Error::custom("not base64"))
    }
}

/// For how long a link enrols.
pub const LINK_LIFE: Duration = Duration::from_secs(15 * 60);
