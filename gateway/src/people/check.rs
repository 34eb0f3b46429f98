//! A check is a value: what is checked of some evidence is a list, and nothing else is.
//!
//! So a test can leave one out, and see that what it is there for gets through.

/// One thing that must be so of some evidence; `W` says why it is not.
pub(super) struct Check<E, W> {
    /// What it is called.
    #[cfg_attr(not(test), expect(dead_code, reason = "it names the check where it is read"))]
    pub(super) name: &'static str,
    pub(super) holds: fn(&E) -> Result<(), W>,
}

impl<E, W> Clone for Check<E, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E, W> Copy for Check<E, W> {}

/// Makes every check, in order.
///
/// # Errors
/// The first that does not hold.
pub(super) fn verify<E, W>(checks: &[Check<E, W>], evidence: &E) -> Result<(), W> {
    checks.iter().try_for_each(|check| (check.holds)(evidence))
}

/// A refusal where something is not so.
pub(super) fn must<W>(holds: bool, otherwise: impl FnOnce() -> W) -> Result<(), W> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// How far clocks may be apart, in seconds.
pub(super) const LEEWAY: u64 = 60;
