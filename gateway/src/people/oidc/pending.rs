//! Sign-ins that were begun, until somebody comes back from the provider: each once, and for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use oauth2::PkceCodeVerifier;
use tokio::time::Instant;

use crate::people::Token;

/// A sign-in that was begun. It is used up by its end.
pub struct Pending {
    pub(super) provider: String,
    pub(super) state: Token,
    pub(super) nonce: Token,
    pub(super) verifier: PkceCodeVerifier,
    /// Seconds since 1970.
    pub(super) begun: u64,
    /// In seconds.
    pub(super) max_age: Option<u64>,
    pub(super) subject: Option<String>,
    pub(super) until: Instant,
}

impl Pending {
    /// The provider's name.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    pub(super) fn is_overdue(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// Those that wait, each for the browser that has its cookie.
#[derive(Default)]
pub struct Waiting(Mutex<HashMap<[u8; 32], Pending>>);

impl Waiting {
    /// Keeps one; gives the cookie's value.
    pub fn keep(&self, pending: Pending) -> Token {
        let cookie = Token::random();
        let mut all = self.all();
        all.retain(|_, pending| !pending.is_overdue());
        if all.len() >= MOST {
            // Whoever floods this pushes out who has not come back for the longest.
            let oldest = all.iter().min_by_key(|(_, pending)| pending.until).map(|(hash, _)| *hash);
            oldest.and_then(|hash| all.remove(&hash));
        }
        all.insert(cookie.hash(), pending);
        cookie
    }

    /// The one of a cookie's value, which is gone then.
    pub fn take(&self, cookie: &str) -> Option<Pending> {
        self.all().remove(&Token::returned(cookie).hash()).filter(|pending| !pending.is_overdue())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<[u8; 32], Pending>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

/// How long somebody may take at the provider.
pub const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Sign-ins at once, at most.
const MOST: usize = 10_000;
