//! Ctrl-C as a value: waits end early with an error, so that guards clean up in their own order.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Starts to watch for Ctrl-C and termination. A second signal ends the process on the spot.
///
/// # Errors
/// The kernel does not take the handler.
pub(crate) fn watch() -> Result<()> {
    // A handler, not a blocked signal: children inherit what is blocked, and start afresh with handlers.
    let handler = SigHandler::Handler(interrupted);
    let action = SigAction::new(handler, SaFlags::SA_RESTART | SaFlags::SA_RESETHAND, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
        unsafe { sigaction(signal, &action) }.context("cannot watch for signals")?;
    }
    Ok(())
}

extern "C" fn interrupted(_: nix::libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Fails once the user has interrupted.
///
/// # Errors
/// The user has interrupted.
pub(crate) fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) { bail!("interrupted") } else { Ok(()) }
}

/// Waits for `time`, or until the user interrupts.
///
/// # Errors
/// The user has interrupted.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        breathe(left);
    }
}

/// Waits a moment (20 ms, or `limit`) before the next look at something that sends no signal.
pub(crate) fn breathe(limit: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the one pause between two looks; every caller has a deadline")]
    std::thread::sleep(limit.min(Duration::from_millis(20)));
}

/// Tries until `ready` answers something.
///
/// # Errors
/// `limit` is over, the user has interrupted, or `ready` itself fails.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("{what} did not happen within {} s", limit.as_secs());
        }
        pause(Duration::from_millis(20))?;
    }
}
