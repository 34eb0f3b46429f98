//! What the programs have to say, in the gateway's own log.

use std::io;

use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use tokio::io::{Interest, unix::AsyncFd};

/// Lines from the kernel programs, not yet read.
#[must_use = "the kernel's lines are dropped unless `run` reads them"]
pub struct KernelLog(pub(super) EbpfLogger<Lines>);

impl KernelLog {
    /// Hands lines on to `tracing`, for ever.
    ///
    /// # Errors
    /// There is no runtime with an I/O driver, or it has stopped.
    pub async fn run(self) -> io::Result<()> {
        // SAFETY: the logger owns its ring buffer's descriptor and closes it only when dropped.
        let mut buffer = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) }?;
        loop {
            let mut ready = buffer.readable_mut().await?;
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }
}

/// Hands each line to `tracing`.
pub(super) struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: TARGET, "{line}"),
            Level::Warn => tracing::warn!(target: TARGET, "{line}"),
            Level::Info => tracing::info!(target: TARGET, "{line}"),
            Level::Debug => tracing::debug!(target: TARGET, "{line}"),
            Level::Trace => tracing::trace!(target: TARGET, "{line}"),
        }
    }

    fn flush(&self) {}
}

/// The `tracing` target of the programs' lines.
const TARGET: &str = "holdpoint::kernel";
