//! Sign-ins that were begun, until somebody comes back from the provider: each once, and for a while.
//!
//! # Security
//! An answer comes in two steps, since a browser that posts from another site's page sends no cookie of ours
//! (`SameSite=Lax`): what the provider says is verified where it is posted, and kept under the hash of the cookie with
//! which it was begun; whoever then comes with that cookie is signed in. An answer that somebody else's browser began
//! signs nobody in here, whatever page posts it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use crate::people::{Subject, Token};

/// A sign-in that was begun.
pub(super) struct Asked {
    /// At which provider.
    pub(super) provider: String,
    /// The `ID` of the request.
    pub(super) request: String,
    /// Seconds since 1970.
    pub(super) begun: u64,
    /// The hash of the browser's cookie.
    pub(super) cookie: [u8; 32],
    until: Instant,
}

impl Asked {
    pub(super) fn new(provider: &str, request: String, begun: u64, cookie: &Token) -> Self {
        let until = Instant::now() + PATIENCE;
        Self { provider: provider.to_owned(), request, begun, cookie: cookie.hash(), until }
    }
}

/// Those that wait.
#[derive(Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Default)]
struct State {
    /// By the hash of what the provider sends back (`RelayState`).
    asked: HashMap<[u8; 32], Asked>,
    /// Who has come back and is about to fetch their session, by the hash of their cookie.
    arrived: HashMap<[u8; 32], (Subject, Instant)>,
}

impl Waiting {
    /// Keeps one; gives what the provider is to send back.
    pub(super) fn keep(&self, asked: Asked) -> Token {
        let (relay, now) = (Token::random(), Instant::now());
        let mut state = self.state();
        state.asked.retain(|_, asked| now < asked.until);
        if state.asked.len() >= MOST {
            // Whoever floods this pushes out who has not come back for the longest.
            let oldest = state.asked.iter().min_by_key(|(_, asked)| asked.until).map(|(hash, _)| *hash);
            oldest.and_then(|hash| state.asked.remove(&hash));
        }
        state.asked.insert(relay.hash(), asked);
        relay
    }

    /// The one that this answers, which is gone then.
    pub(super) fn take(&self, relay: &str) -> Option<Asked> {
        self.state().asked.remove(&Token::returned(relay).hash()).filter(|asked| Instant::now() < asked.until)
    }

    /// Somebody has come back.
    pub(super) fn arrive(&self, cookie: [u8; 32], subject: Subject) {
        let now = Instant::now();
        let mut state = self.state();
        state.arrived.retain(|_, (_, until)| now < *until);
        // Each was begun here, so there are no more of them than of those.
        state.arrived.insert(cookie, (subject, now + FETCH));
    }

    /// Whoever has come back to the browser with this cookie, once.
    pub(super) fn fetch(&self, cookie: &str) -> Option<Subject> {
        let (subject, until) = self.state().arrived.remove(&Token::returned(cookie).hash())?;
        (Instant::now() < until).then_some(subject)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

/// The assertions that were used: their `ID`, and until when that matters (seconds since 1970).
#[derive(Default)]
pub(super) struct Used(HashMap<String, u64>);

impl Used {
    pub(super) fn is_new(&self, id: &str) -> bool {
        !self.0.contains_key(id)
    }

    /// Remembers one, and forgets those that have expired.
    pub(super) fn add(&mut self, id: String, until: u64, now: u64) {
        self.0.retain(|_, until| *until > now);
        if self.0.len() >= MOST {
            // Only the provider itself can fill this, and each answers one question of ours, which is used up.
            let oldest = self.0.iter().min_by_key(|(_, until)| **until).map(|(id, _)| id.clone());
            oldest.and_then(|id| self.0.remove(&id));
        }
        self.0.insert(id, until);
    }
}

/// How long somebody may take at the provider.
pub const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// How long a browser may take from one page to the next.
const FETCH: Duration = Duration::from_secs(60);

/// Sign-ins at once, and assertions that are remembered, at most.
const MOST: usize = 10_000;
