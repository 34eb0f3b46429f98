//! What was asked of a passkey at sign-in or enrolment, until it answers: each question once, and for a moment.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::token::Token;

/// Why a passkey was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To sign in.
    SignIn,
    /// To be enrolled by this link.
    Enrol(String),
}

/// The questions that are open.
#[derive(Default)]
pub struct Ceremonies(Mutex<HashMap<[u8; 32], (Purpose, Instant)>>);

impl Ceremonies {
    /// Asks; gives the challenge.
    pub fn begin(&self, purpose: Purpose) -> Token {
        let (challenge, now) = (Token::random(), Instant::now());
        let mut open = self.open();
        open.retain(|_, (_, until)| *until > now);
        if open.len() >= MOST {
            // Whoever floods this pushes out what nobody has answered for the longest.
            let oldest = open.iter().min_by_key(|(_, (_, until))| *until).map(|(hash, _)| *hash);
            oldest.and_then(|hash| open.remove(&hash));
        }
        open.insert(challenge.hash(), (purpose, now + LIFE));
        challenge
    }

    /// Takes the question that this challenge was, once.
    pub fn take(&self, challenge: &Token) -> Option<Purpose> {
        let (purpose, until) = self.open().remove(&challenge.hash())?;
        (Instant::now() < until).then_some(purpose)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Purpose, Instant)>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

/// How long a person may take to find their key.
const LIFE: Duration = Duration::from_secs(5 * 60);

const MOST: usize = 10_000;
