//! What the service manager is told: that the gateway serves, that it stops, that it still turns.
//!
//! All of it does nothing where nobody has set `NOTIFY_SOCKET`. A manager that does not listen blocks whoever tells it
//! something, so that is done apart from the threads that serve.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{task::spawn_blocking, time::timeout};

/// The gateway serves.
pub(super) async fn ready() {
    // The process is named, since after a handover it is not the one that the manager started.
    tell(vec![NotifyState::Ready, NotifyState::MainPid(std::process::id())]).await;
    if let Some(within) = sd_notify::watchdog_enabled() {
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(within / 2);
            loop {
                beat.tick().await;
                tell(vec![NotifyState::Watchdog]).await;
            }
        });
    }
}

/// The gateway stops.
pub(super) async fn stopping() {
    tell(vec![NotifyState::Stopping]).await;
}

async fn tell(state: Vec<NotifyState<'static>>) {
    let told = timeout(PATIENCE, spawn_blocking(move || sd_notify::notify(&state))).await;
    match told {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the service manager cannot be told how the gateway is"),
        Ok(Err(_)) | Err(_) => tracing::warn!("the service manager does not listen to how the gateway is"),
    }
}

/// How long the gateway waits for the manager to take a word.
const PATIENCE: Duration = Duration::from_millis(500);
