//! What a gateway becomes that has handed over, where its end would have it started again: a process that waits for its
//! `SIGTERM`.
//!
//! # Correctness
//! It is another program in the same process: threads, locks, sockets and the record's files of the gateway are gone when it
//! begins, by the kernel's doing and not by anybody's remembering. It never takes anything back.

use std::{convert::Infallible, io, os::unix::process::CommandExt, process::ExitCode};

use nix::{
    libc,
    sys::signal::{SigSet, Signal},
};

/// Waits until it is told to end.
///
/// # Errors
/// Signals cannot be waited for.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    let ends: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    // Blocked first, or one would end the process in the other way.
    ends.thread_block()?;
    eprintln!("holdpoint: another gateway has taken over; this process does nothing but wait for its end");
    ends.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// Makes this process the one that waits.
///
/// # Errors
/// The program cannot be started again.
pub(super) fn become_idle() -> io::Result<Infallible> {
    // SAFETY: marks descriptors; whatever would stay open by mistake would be taken for a gateway that lives.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked != 0 {
        return Err(io::Error::last_os_error());
    }
    Err(std::process::Command::new("/proc/self/exe").arg0("holdpoint").arg(super::IDLE).exec())
}
