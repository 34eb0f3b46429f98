//! Waiting for something to become true, always with an end. The only place of the lab that lets time pass.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Asks `probe` again and again until it answers, and returns the answer.
///
/// # Panics
/// When `limit` has passed; the message names `what`.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// Asks `probe` for the whole of `span`, and fails as soon as it answers: for what must not happen.
///
/// # Panics
/// When the probe answers; the message names `what` and the answer.
#[track_caller]
pub fn never<T: std::fmt::Debug>(what: &str, span: Duration, mut probe: impl FnMut() -> Option<T>) {
    let started = Instant::now();
    while started.elapsed() < span {
        if let Some(answer) = probe() {
            panic!("{what}: {answer:?}");
        }
        thread::sleep(PAUSE);
    }
}

/// Short enough not to be felt in a test, long enough to leave the processors to the processes under test.
const PAUSE: Duration = Duration::from_millis(3);
