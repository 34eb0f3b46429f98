//! Ctrl-C as a value: waits end early with an error, so that guards clean up in their own order.
//!
//! # Correctness
//! [`watch`] must run before any other thread starts: the signals are blocked for all threads and read by one.
//! Children do not inherit the block, the standard library clears the mask before `exec`.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Starts to watch for Ctrl-C and termination. A second signal ends the process on the spot.
///
/// # Errors
/// The kernel does not let the signals be blocked.
pub(crate) fn watch() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("cannot block signals")?;
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                #[expect(clippy::disallowed_methods, reason = "the user asked twice: leave without cleaning up")]
                std::process::exit(130);
            }
            eprintln!("\ninterrupted: cleaning up (again to leave at once)");
        }
    });
    Ok(())
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
