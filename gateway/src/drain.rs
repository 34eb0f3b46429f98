//! Stopping in order: one signal that every connection hears, once, and one for each connection alone.

use std::sync::Arc;

use tokio::sync::watch;

/// Hears that the gateway stops, and, in a connection, that somebody ends it.
#[derive(Debug, Clone)]
pub struct Drain {
    stopping: watch::Receiver<bool>,
    ended: Option<Ended>,
}

/// Hears that somebody ends a connection, and why.
#[derive(Debug, Clone)]
pub struct Ended(watch::Receiver<Option<Arc<str>>>);

/// Says that the gateway stops.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// A fresh pair.
pub fn channel() -> (Stop, Drain) {
    let (sender, stopping) = watch::channel(false);
    (Stop(sender), Drain { stopping, ended: None })
}

impl Stop {
    /// From now on every [`Drain`] says so.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Ended {
    pub(crate) fn new(told: watch::Receiver<Option<Arc<str>>>) -> Self {
        Self(told)
    }

    /// Waits until somebody ends this connection, and gives why. Cancel safe.
    pub async fn told(&mut self) -> Arc<str> {
        if let Ok(why) = self.0.wait_for(Option::is_some).await
            && let Some(why) = why.as_ref()
        {
            return why.clone();
        }
        // Nobody can end it any more.
        std::future::pending().await
    }
}

impl Drain {
    /// The same, for a connection that somebody may end.
    #[must_use]
    pub fn of_connection(self, ended: Ended) -> Self {
        Self { ended: Some(ended), ..self }
    }

    /// Waits for the signal. Cancel safe. A gateway that vanished without a word counts as stopping.
    pub async fn signalled(&mut self) {
        let _ = self.stopping.wait_for(|stopping| *stopping).await;
    }

    /// What hears that somebody ends this connection; of one that nobody can end, nothing does.
    pub fn of_this(&self) -> Ended {
        self.ended.clone().unwrap_or_else(|| Ended(watch::channel(None).1))
    }
}
