//! A session's summary: what the list of sessions shows, and what searches go through first.

use minicbor::{Decode, Encode};
use serde::Serialize;

use super::{
    encoding,
    entry::{Body, Connected, Entry, Timestamp},
};
use crate::operation::SessionId;

/// What a session was and how much happened in it.
///
/// Stored when the session begins and again when it ends; in between it is counted from the entries.
#[derive(Debug, Clone, PartialEq, Serialize, Encode, Decode)]
pub struct Summary {
    /// The session.
    #[cbor(n(0), with = "encoding::id")]
    pub session: SessionId,
    /// Position of its first entry.
    #[n(1)]
    pub first: u64,
    /// When it began.
    #[n(2)]
    pub started: Timestamp,
    /// Who connected where; `None` if the connection's facts were never recorded.
    #[n(3)]
    pub facts: Option<Facts>,
    /// How much happened.
    #[n(4)]
    pub totals: Totals,
    /// When it ended; `None` while it is open, or if the gateway died under it.
    #[n(5)]
    pub ended: Option<Timestamp>,
}

/// A connection's facts, as far as a list shows them.
#[derive(Debug, Clone, PartialEq, Serialize, Encode, Decode)]
pub struct Facts {
    /// The workload's name.
    #[n(0)]
    pub workload: String,
    /// The resource's name, where policy knows one.
    #[n(1)]
    pub resource: Option<String>,
    /// Where it went.
    #[n(2)]
    pub destination: String,
    /// The protocol spoken.
    #[n(3)]
    pub protocol: String,
    /// The user of the machine, by name or number.
    #[n(4)]
    pub user: String,
}

/// Counts over a session's entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Totals {
    /// Operations, forwarded or refused.
    #[n(0)]
    pub operations: u64,
    /// Approval requests.
    #[n(1)]
    pub held: u64,
    /// Operations refused, by policy, by a person or for lack of time.
    #[n(2)]
    pub refused: u64,
    /// Values masked.
    #[n(3)]
    pub masked: u64,
    /// Incidents.
    #[n(4)]
    pub incidents: u64,
}

impl Summary {
    /// The summary of a session that begins with `entry`.
    pub(super) fn begin(session: SessionId, first: u64, entry: &Entry) -> Self {
        let facts = match &entry.body {
            Body::Connected(connected) => Some(Facts::of(connected)),
            _ => None,
        };
        Self { session, first, started: entry.at, facts, totals: Totals::default(), ended: None }
    }

    /// Counts one more entry.
    pub(super) fn count(&mut self, entry: &Entry) {
        let totals = &mut self.totals;
        match &entry.body {
            Body::Connected(connected) => self.facts = Some(Facts::of(connected)),
            Body::Operation(operated) => {
                totals.operations += 1;
                totals.refused += u64::from(!operated.forwarded);
            }
            Body::Requested(_) => totals.held += 1,
            Body::Response { masked, .. } => totals.masked += u64::from(*masked),
            Body::Incident { .. } => totals.incidents += 1,
            Body::Disconnected { .. } => self.ended = Some(entry.at),
            _ => {}
        }
    }
}

impl Facts {
    fn of(connected: &Connected) -> Self {
        let process = &connected.process;
        Self {
            workload: connected.workload.name.clone(),
            resource: connected.resource.clone(),
            destination: connected.destination.clone(),
            protocol: connected.protocol.clone(),
            user: process.user.clone().unwrap_or_else(|| process.uid.to_string()),
        }
    }
}
