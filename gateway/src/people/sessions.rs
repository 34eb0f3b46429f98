//! Who is signed in at the console: in memory, so that a restart signs everybody out.
//!
//! # Security
//! A cookie's value is kept as a hash. A session ends when nobody uses it, after a time in any case, when its owner signs
//! out, when the provider that vouches for them says so, and at once where the account is gone or disabled; what somebody
//! may do is asked anew with every request.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{Person, Subject, oidc::LoggedOut, token::Token};

/// Who is signed in.
pub struct Sessions {
    idle: Duration,
    absolute: Duration,
    held: Mutex<HashMap<[u8; 32], Held>>,
}

struct Held {
    person: Person,
    /// What a provider said of them, where one did.
    subject: Option<Subject>,
    csrf: Token,
    begun: Instant,
    used: Instant,
    /// When the provider wants it to end.
    ends: Option<Instant>,
}

/// Somebody's session, found by its cookie.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who signed in, as they were then.
    pub person: Person,
    /// What a page must say to change something.
    pub csrf: Token,
    /// Whether a provider vouched for them.
    pub vouched: bool,
}

impl Sessions {
    /// Sessions that end after so long without use, and after so long in any case.
    pub fn new(idle: Duration, absolute: Duration) -> Self {
        Self { idle, absolute, held: Mutex::default() }
    }

    /// Begins a session; gives the cookie's value.
    pub fn begin(&self, person: Person) -> Token {
        self.begin_with(person, None)
    }

    /// The same for somebody for whom a provider vouches.
    pub fn begin_with(&self, person: Person, subject: Option<Subject>) -> Token {
        let (token, now) = (Token::random(), Instant::now());
        let mut held = self.held();
        held.retain(|_, held| self.is_alive(held, now));
        if held.len() >= MOST {
            // Whoever has not used theirs for the longest signs in again.
            let oldest = held.iter().min_by_key(|(_, held)| held.used).map(|(hash, _)| *hash);
            oldest.and_then(|hash| held.remove(&hash));
        }
        let ends = subject.as_ref().and_then(|subject| subject.ends).map(|ends| {
            let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
            now + left.min(self.absolute)
        });
        held.insert(token.hash(), Held { person, subject, csrf: Token::random(), begun: now, used: now, ends });
        token
    }

    /// The session of a cookie's value, which counts as used.
    pub fn find(&self, cookie: &str) -> Option<Session> {
        let (key, now) = (hash(cookie), Instant::now());
        let mut all = self.held();
        let held = all.get_mut(&key)?;
        if !self.is_alive(held, now) {
            all.remove(&key);
            return None;
        }
        held.used = now;
        Some(Session { person: held.person.clone(), csrf: held.csrf.clone(), vouched: held.subject.is_some() })
    }

    /// Ends a session; says whose it was.
    pub fn end(&self, cookie: &str) -> Option<Person> {
        self.held().remove(&hash(cookie)).map(|held| held.person)
    }

    /// Ends every session of somebody of whom a provider says that they signed out; says how many.
    pub fn end_at_provider(&self, gone: &LoggedOut) -> usize {
        let mut held = self.held();
        let before = held.len();
        held.retain(|_, held| !held.subject.as_ref().is_some_and(|subject| gone.ends(subject)));
        before - held.len()
    }

    /// How long a session lives at most.
    pub fn absolute(&self) -> Duration {
        self.absolute
    }

    fn is_alive(&self, held: &Held, now: Instant) -> bool {
        now.duration_since(held.used) < self.idle
            && now.duration_since(held.begun) < self.absolute
            && held.ends.is_none_or(|ends| now < ends)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<[u8; 32], Held>> {
        self.held.lock().expect("nothing panics while it holds this lock")
    }
}

fn hash(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie.as_bytes()).into()
}

/// Open sessions at most.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_by_idleness_by_age_and_by_signing_out() {
        let sessions = Sessions::new(Duration::from_secs(60), Duration::from_secs(150));
        let ada = Person::machine(7, "ada".to_owned(), Vec::new());
        let cookie = sessions.begin(ada.clone());
        for _ in 0..2 {
            tokio::time::advance(Duration::from_secs(59)).await;
            assert_eq!(sessions.find(cookie.reveal()).map(|session| session.person), Some(ada.clone()));
        }
        // Used all the time, and too old.
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(sessions.find(cookie.reveal()).is_none());
        let idle = sessions.begin(ada.clone());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(sessions.find(idle.reveal()).is_none());
        let out = sessions.begin(ada.clone());
        assert_eq!(sessions.end(out.reveal()), Some(ada));
        assert!(sessions.find(out.reveal()).is_none() && sessions.find("").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_the_provider_wants_it_to() {
        let sessions = Sessions::new(Duration::from_secs(600), Duration::from_secs(600));
        let ada = Person::machine(7, "ada".to_owned(), Vec::new());
        let until = SystemTime::now() + Duration::from_secs(100);
        let subject = |ends| Subject {
            provider: "corp".to_owned(),
            issuer: "https://id.example".to_owned(),
            subject: "ada".to_owned(),
            name: "ada".to_owned(),
            email: None,
            groups: Vec::new(),
            sid: None,
            auth_time: None,
            acr: None,
            amr: Vec::new(),
            until,
            ends,
            id_token: None,
        };
        let short = sessions.begin_with(ada.clone(), Some(subject(Some(until))));
        let over = sessions.begin_with(ada.clone(), Some(subject(Some(SystemTime::UNIX_EPOCH))));
        let long = sessions.begin_with(ada, Some(subject(None)));
        assert!(sessions.find(short.reveal()).is_some() && sessions.find(over.reveal()).is_none());
        tokio::time::advance(Duration::from_secs(101)).await;
        assert!(sessions.find(short.reveal()).is_none() && sessions.find(long.reveal()).is_some());
    }
}
