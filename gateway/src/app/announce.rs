//! What the service manager is told: that the gateway serves, that it stops, that it still turns.
//!
//! All of it does nothing where nobody has set `NOTIFY_SOCKET`.

use sd_notify::NotifyState;

/// The gateway serves.
pub(super) fn ready() {
    // The process is named, since after a handover it is not the one that the manager started.
    tell(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
    if let Some(within) = sd_notify::watchdog_enabled() {
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(within / 2);
            loop {
                beat.tick().await;
                tell(&[NotifyState::Watchdog]);
            }
        });
    }
}

/// The gateway stops.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told how the gateway is");
    }
}
