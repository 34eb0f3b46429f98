//! Stopping in order: one signal that every connection hears, once.

use tokio::sync::watch;

/// Hears that the gateway stops.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<bool>);

/// Says that the gateway stops.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// A fresh pair.
pub fn channel() -> (Stop, Drain) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Drain(receiver))
}

impl Stop {
    /// From now on every [`Drain`] says so.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    /// Waits for the signal. Cancel safe. A gateway that vanished without a word counts as stopping.
    pub async fn signalled(&mut self) {
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}
