//! The guarded connections that are open now, and the word that ends one of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    drain::Ended,
    operation::SessionId,
    record::entry::{Connected, Timestamp},
};

/// The connections that are open now. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Mutex<BTreeMap<SessionId, Open>>>);

#[derive(Debug)]
struct Open {
    about: About,
    end: watch::Sender<Option<Arc<str>>>,
}

/// An open connection, as people see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct About {
    /// Its session in the record.
    pub session: SessionId,
    /// The form that people type.
    pub short: String,
    /// Since when, nanoseconds since 1970.
    pub since: Timestamp,
    /// Who.
    pub workload: String,
    /// The user of the process that connected.
    pub user: String,
    /// Its executable.
    pub executable: Option<String>,
    /// To what.
    pub resource: Option<String>,
    /// Where that is.
    pub destination: String,
    /// In which protocol.
    pub protocol: String,
}

/// A connection's place among those that are open; leaving it to drop takes the connection out.
#[derive(Debug)]
pub struct Presence {
    live: Live,
    session: SessionId,
}

impl Live {
    /// A connection opens: its place, and what it hears when somebody ends it.
    pub fn enter(&self, session: SessionId, facts: &Connected) -> (Presence, Ended) {
        let process = &facts.process;
        let about = About {
            session,
            short: session.short(),
            since: Timestamp::now(),
            workload: facts.workload.name.clone(),
            user: process.user.clone().unwrap_or_else(|| process.uid.to_string()),
            executable: process.executable.as_ref().map(|path| path.display().to_string()),
            resource: facts.resource.clone(),
            destination: facts.destination.clone(),
            protocol: facts.protocol.clone(),
        };
        let (end, ended) = watch::channel(None);
        self.open().insert(session, Open { about, end });
        (Presence { live: self.clone(), session }, Ended::new(ended))
    }

    /// Every open connection, oldest first.
    pub fn list(&self) -> Vec<About> {
        self.open().values().map(|open| open.about.clone()).collect()
    }

    /// The open connection whose session `typed` names: the only one.
    pub fn named(&self, typed: &str) -> Option<SessionId> {
        let open = self.open();
        let mut named = open.keys().filter(|session| session.is_named(typed));
        match (named.next(), named.next()) {
            (Some(one), None) => Some(*one),
            _ => None,
        }
    }

    /// Ends a connection: `why` goes to its client and into the record. Says whether it was open.
    pub fn end(&self, session: SessionId, why: &str) -> bool {
        let open = self.open();
        let Some(open) = open.get(&session) else { return false };
        open.end.send_replace(Some(why.into()));
        true
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<SessionId, Open>> {
        // The map is whole at every point where a holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.live.open().remove(&self.session);
    }
}
