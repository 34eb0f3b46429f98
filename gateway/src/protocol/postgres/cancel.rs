//! Cancel requests: the gateway gives each session a key of its own, so a backend's real key never reaches a bot, and
//! a cancel that arrives on another connection is known to be about a session of the same workload.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::operation::SessionId;

/// The sessions that can be cancelled, by the key that their client was given.
#[derive(Debug, Default)]
pub(super) struct Cancels(Mutex<HashMap<Bytes, Arc<Cancellable>>>);

/// One session that can be cancelled.
#[derive(Debug)]
pub(super) struct Cancellable {
    pub(super) session: SessionId,
    /// Whose session: nobody else may cancel it, whatever key they show.
    pub(super) owner: String,
    /// The backend's own key, process id first.
    pub(super) real: Bytes,
    pub(super) is_held: Mutex<bool>,
    pub(super) interrupt: Arc<Notify>,
}

/// A session's entry; dropping it takes the key back.
#[derive(Debug)]
pub(super) struct Registered {
    cancels: Arc<Cancels>,
    key: Bytes,
    pub(super) session: Arc<Cancellable>,
}

impl Cancels {
    /// Registers a session under a fresh key of the same length as the backend's.
    pub(super) fn register(self: &Arc<Self>, session: Cancellable) -> Result<(Bytes, Registered), getrandom::Error> {
        let mut key = vec![0; session.real.len()];
        getrandom::fill(&mut key)?;
        // Process ids are positive, and clients print them.
        key[0] &= 0x7f;
        let key = Bytes::from(key);
        let session = Arc::new(session);
        self.sessions().insert(key.clone(), session.clone());
        Ok((key.clone(), Registered { cancels: self.clone(), key, session }))
    }

    /// The session with this key, if `owner` owns it.
    pub(super) fn find(&self, key: &Bytes, owner: &str) -> Option<Arc<Cancellable>> {
        self.sessions().get(key).filter(|session| session.owner == owner).cloned()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Bytes, Arc<Cancellable>>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

impl Cancellable {
    /// Says whether an operation is held. A cancel that came too late for the one before is forgotten.
    pub(super) fn set_held(&self, held: bool) {
        let mut is_held = self.held();
        *is_held = held;
        if !held {
            pin!(self.interrupt.notified()).enable();
        }
    }

    /// Withdraws what the session holds, if it holds something; says whether it did.
    pub(super) fn withdraw(&self) -> bool {
        let is_held = self.held();
        if *is_held {
            self.interrupt.notify_one();
        }
        *is_held
    }

    fn held(&self) -> MutexGuard<'_, bool> {
        self.is_held.lock().expect("nothing panics while it holds this lock")
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.cancels.sessions().remove(&self.key);
    }
}
