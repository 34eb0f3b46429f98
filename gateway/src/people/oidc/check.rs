//! A check is a value: what is checked of some evidence is a list, and nothing else is.
//!
//! So a test can leave one out, and see that what it is there for gets through.

use super::error::Why;

/// One thing that must be so.
pub(super) struct Check<E> {
    /// What it is called.
    #[cfg_attr(not(test), expect(dead_code, reason = "it names the check where it is read"))]
    pub(super) name: &'static str,
    pub(super) holds: fn(&E) -> Result<(), Why>,
}

impl<E> Clone for Check<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Check<E> {}

/// Makes every check, in order.
///
/// # Errors
/// The first that does not hold.
pub(super) fn verify<E>(checks: &[Check<E>], evidence: &E) -> Result<(), Why> {
    checks.iter().try_for_each(|check| (check.holds)(evidence))
}

/// A refusal where something is not so.
pub(super) fn must(holds: bool, otherwise: impl FnOnce() -> Why) -> Result<(), Why> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// How far clocks may be apart, in seconds.
pub(super) const LEEWAY: u64 = 60;
