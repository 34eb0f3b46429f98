//! Programs that speak to the API: each with a token, roles of its own, and an end.
//!
//! # Security
//! A token is shown once and kept as a hash. A program is nobody: it has no user, no group and no turn on call, it lends
//! and borrows nothing, and it never counts as one human beside another. It decides only where a rule names it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Person, PersonId, Role, Token, accounts::is_name};

/// A program that may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name, as policies write it.
    pub name: String,
    /// What it may use.
    pub roles: BTreeSet<Role>,
    /// Until when, seconds since 1970.
    pub until: u64,
}

/// Every program that may ask.
pub struct Programs {
    file: PathBuf,
    kept: Mutex<BTreeMap<String, Kept>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    program: Program,
    /// Of its token, in hexadecimal.
    hash: String,
}

/// Why a program is not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
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
    #[error("`{0}` is no name for a token: letters, digits, `.`, `_` and `-`, at most 64 of them")]
    BadName(String),
    /// Not a time.
    #[error("a token lives for a minute to a year")]
    Bounds,
    /// There is one.
    #[error("there is a token {0} already; delete it first, so that what it let in is let in no more")]
    Taken(String),
    /// There is none.
    #[error("there is no token {0}; `holdpoint tokens list` shows them")]
    Unknown(String),
}

impl Programs {
    /// Those in `file`; none where it is not there yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(file: &Path) -> Result<Self, ProgramError> {
        let failed = |source| ProgramError::File { doing: "read", path: file.to_owned(), source };
        let kept = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(io::Error::other(error)))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { file: file.to_owned(), kept: Mutex::new(kept) })
    }

    /// Each, by name, with those whose time is over.
    pub fn list(&self) -> Vec<Program> {
        self.kept().values().map(|kept| kept.program.clone()).collect()
    }

    /// Lets a program in for so long; gives its token, once.
    ///
    /// # Errors
    /// The name is none or taken, or it cannot be kept.
    pub fn admit(&self, name: &str, roles: BTreeSet<Role>, lasts: Duration) -> Result<(Program, Token), ProgramError> {
        if !is_name(name) {
            return Err(ProgramError::BadName(name.to_owned()));
        }
        if !(SHORTEST..=LONGEST).contains(&lasts) {
            return Err(ProgramError::Bounds);
        }
        let mut kept = self.kept();
        if kept.contains_key(name) {
            return Err(ProgramError::Taken(name.to_owned()));
        }
        let token = Token::marked(MARK);
        let until = now().saturating_add(lasts.as_secs());
        let program = Program { name: name.to_owned(), roles, until };
        let mut more = kept.clone();
        more.insert(name.to_owned(), Kept { program: program.clone(), hash: hex(&token.hash()) });
        self.keep(&mut kept, more)?;
        Ok((program, token))
    }

    /// Lets it in no more.
    ///
    /// # Errors
    /// There is none, or that cannot be kept.
    pub fn dismiss(&self, name: &str) -> Result<(), ProgramError> {
        let mut kept = self.kept();
        let mut fewer = kept.clone();
        fewer.remove(name).ok_or_else(|| ProgramError::Unknown(name.to_owned()))?;
        self.keep(&mut kept, fewer)
    }

    /// Whose token this is, while its time lasts.
    pub fn of_token(&self, typed: &str) -> Option<Person> {
        // What is compared is a hash of 256 random bits: how long that takes tells nothing of them.
        let hash = hex(&Token::returned(typed).hash());
        let kept = self.kept();
        let found = kept.values().find(|kept| kept.hash == hash && now() < kept.program.until)?;
        let Program { name, roles, .. } = found.program.clone();
        Some(Person {
            name: format!("token:{name}"),
            id: PersonId::Program(name),
            also: Vec::new(),
            uid: None,
            email: None,
            groups: Vec::new(),
            roles,
        })
    }

    fn keep(&self, kept: &mut BTreeMap<String, Kept>, then: BTreeMap<String, Kept>) -> Result<(), ProgramError> {
        let failed = |source| ProgramError::File { doing: "write", path: self.file.clone(), source };
        let bytes = serde_json::to_vec_pretty(&then).map_err(|error| failed(io::Error::other(error)))?;
        crate::net::tls::write_private(&self.file, &bytes).map_err(failed)?;
        *kept = then;
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().expect("nothing panics while it holds this lock")
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// By which scanners for leaked secrets know one.
const MARK: &str = "hpt_";

const SHORTEST: Duration = Duration::from_secs(60);

const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Who;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_program_is_let_in_by_its_token_until_it_is_dismissed() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("tokens.json");
        let programs = Programs::open(&file).expect("there is none yet");
        let (program, token) = programs.admit("chat", [Role::Viewer].into(), HOUR).expect("a name");
        assert!(token.reveal().starts_with("hpt_") && token.reveal().len() > 40);
        assert!(program.until > now() + 3500);
        let kept = std::fs::read_to_string(&file).expect("it is kept");
        assert!(!kept.contains(token.reveal()), "a hash is kept, and no token: {kept}");

        let again = Programs::open(&file).expect("it is there");
        let person = again.of_token(token.reveal()).expect("it is let in");
        assert_eq!((person.id.to_string(), person.roles), ("token:chat".to_owned(), [Role::Viewer].into()));
        assert_eq!(again.of_token("hpt_other"), None);
        assert_eq!(again.of_token(""), None);
        assert!(matches!(again.admit("chat", [].into(), HOUR), Err(ProgramError::Taken(_))));
        assert!(matches!(again.admit("a b", [].into(), HOUR), Err(ProgramError::BadName(_))));
        assert!(matches!(again.admit("long", [].into(), LONGEST * 2), Err(ProgramError::Bounds)));
        again.dismiss("chat").expect("it is there");
        assert_eq!(again.of_token(token.reveal()), None);
        assert!(matches!(again.dismiss("chat"), Err(ProgramError::Unknown(_))));
    }

    #[test]
    fn a_program_is_let_in_no_more_when_its_time_is_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let programs = Programs::open(&directory.path().join("tokens.json")).expect("there is none yet");
        let (_, token) = programs.admit("chat", [].into(), HOUR).expect("a name");
        let mut kept = programs.kept();
        kept.get_mut("chat").expect("it is there").program.until = now();
        drop(kept);
        assert_eq!(programs.of_token(token.reveal()), None);
    }

    #[test]
    fn a_program_is_nobody_whom_people_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let programs = Programs::open(&directory.path().join("tokens.json")).expect("there is none yet");
        let (_, token) = programs.admit("ada", Role::ALL.into(), HOUR).expect("a name");
        let program = programs.of_token(token.reveal()).expect("it is let in");
        assert!(program.is(&Who::Program("ada".to_owned())) && !program.is(&Who::Program("bob".to_owned())));
        for who in [Who::User("ada".to_owned()), Who::User("token:ada".to_owned()), Who::Group(String::new())] {
            assert!(!program.is(&who), "{who}");
        }
        let ada = Person { id: PersonId::Local("ada".to_owned()), name: "ada".to_owned(), ..program.clone() };
        assert!(!ada.is(&Who::Program("ada".to_owned())));
        let (_, other) = programs.admit("bob", [].into(), HOUR).expect("a name");
        let other = programs.of_token(other.reveal()).expect("it is let in");
        for human in [&ada, &other] {
            assert!(!program.is_surely_another(human) && !human.is_surely_another(&program), "{human:?}");
        }
    }
}
