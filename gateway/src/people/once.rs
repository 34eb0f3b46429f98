//! What was begun and waits for somebody to come back with its token: each once, for a while, and only so many.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::token::Token;

/// Things that wait, each under the hash of its token.
pub struct Once<T>(Mutex<HashMap<[u8; 32], (T, Instant)>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Once<T> {
    /// Keeps one for at most `life`; gives its token.
    pub fn keep(&self, one: T, life: Duration) -> Token {
        let (token, now) = (Token::random(), Instant::now());
        let mut waiting = self.waiting();
        waiting.retain(|_, (_, until)| now < *until);
        if waiting.len() >= MOST {
            // Whoever floods this pushes out what would have ended first.
            let oldest = waiting.iter().min_by_key(|(_, (_, until))| *until).map(|(hash, _)| *hash);
            oldest.and_then(|hash| waiting.remove(&hash));
        }
        waiting.insert(token.hash(), (one, now + life));
        token
    }

    /// The one of a token, which is gone then.
    pub fn take(&self, token: &Token) -> Option<T> {
        let (one, until) = self.waiting().remove(&token.hash())?;
        (Instant::now() < until).then_some(one)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<[u8; 32], (T, Instant)>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

/// How many wait at once.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_is_there_once_and_for_a_while() {
        let (once, life) = (Once::default(), Duration::from_secs(60));
        let token = once.keep("a", life);
        assert_eq!(once.take(&Token::returned("guessed")), None);
        assert_eq!((once.take(&token), once.take(&token)), (Some("a"), None));
        let late = once.keep("b", life);
        tokio::time::advance(life).await;
        assert_eq!(once.take(&late), None);
    }

    #[test]
    fn a_flood_pushes_out_the_oldest_and_takes_no_more_memory() {
        let once = Once::default();
        let first = once.keep(0, Duration::from_secs(60));
        let last = (1..=MOST).map(|one| once.keep(one, Duration::from_secs(61))).last().expect("there are some");
        assert_eq!((once.take(&first), once.take(&last)), (None, Some(MOST)));
    }
}
