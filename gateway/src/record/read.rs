//! Reading the record: in the gateway for approvals, beside it (or without it) for people.

use std::{path::Path, sync::Arc};

use serde::Serialize;

use super::{
    RecordError,
    chain::{Head, Sealed},
    encoding,
    entry::{Body, BrokenGlass, Delegated, Entry, Granted, Outcome, Remark, Requested, Timestamp},
    session::Summary,
    store::{
        Direction, Store,
        column::{Entries, OpenRequests, RequestEntries, Sessions},
    },
    write::{indexed, positions_of},
};
use crate::operation::{Digest, GrantId, Id, Impact, RequestId, SessionId};

/// An entry with its position.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recorded {
    /// Where it stands, from 1.
    pub position: u64,
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
}

/// A request with everything that happened to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestHistory {
    /// In which session.
    pub session: Option<SessionId>,
    /// When it was opened.
    pub at: Timestamp,
    /// As opened.
    pub requested: Requested,
    /// What it would touch, where that became known.
    pub impact: Option<Impact>,
    /// What people said, in order.
    pub decisions: Vec<Decision>,
    /// What they said beside that, in order.
    pub said: Vec<Said>,
    /// Who released it alone, where somebody did.
    pub broken: Option<BrokenGlass>,
    /// How and when it ended; `None` while it is open.
    pub closed: Option<(Timestamp, Outcome)>,
}

/// A grant with what it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GrantHistory {
    /// As made.
    pub granted: Granted,
    /// When.
    pub at: Timestamp,
    /// The request whose approval it is.
    pub requested: Requested,
    /// How often it was used.
    pub used: u32,
}

/// One person's word on a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Their user id on this machine, where they have one.
    pub uid: Option<u32>,
    /// Yes or no.
    pub approve: bool,
    /// Their words.
    pub reason: Option<String>,
    /// What they decided on.
    pub digest: Digest,
}

/// One person's word about a request that decides nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Said {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What it is.
    pub kind: Remark,
    /// Their words.
    pub text: String,
}

/// What a name that somebody typed stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// Exactly one.
    One(T),
    /// None.
    None,
    /// Several, newest first (not necessarily all).
    Many(Vec<T>),
}

/// A view of a record.
pub struct Records {
    store: Arc<Store>,
}

impl Records {
    /// Opens the record in `dir` to read: beside a running gateway or without one. Needs to read its files and to
    /// write to the temporary directory; changes nothing in `dir`.
    pub fn open(dir: &Path) -> Result<Self, RecordError> {
        Store::open_to_read(dir).map(|store| Self { store: Arc::new(store) })
    }

    pub(super) fn over(store: Arc<Store>) -> Self {
        Self { store }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Sees what was appended since.
    pub fn refresh(&self) -> Result<(), RecordError> {
        self.store.catch_up()
    }

    /// The newest entry's position and hash, as stored.
    pub fn head(&self) -> Result<Head, RecordError> {
        head(&self.store)
    }

    /// The entry at a position.
    pub fn entry(&self, position: u64) -> Result<Option<Recorded>, RecordError> {
        let value = self.store.fetch::<Entries>(&position)?;
        value.map(|value| open(position, &value)).transpose()
    }

    /// All entries from `from` on, in order.
    pub fn entries(&self, from: u64) -> impl Iterator<Item = Result<Recorded, RecordError>> + '_ {
        self.store.scan::<Entries>(Some(&from), Direction::Forward).map(|item| {
            let (position, value) = item?;
            open(position, &value)
        })
    }

    /// A session's entries from position `from` on (0: all), in order.
    pub fn session(&self, id: SessionId, from: u64) -> impl Iterator<Item = Result<Recorded, RecordError>> + '_ {
        positions_of(&self.store, id, from).map(|position| self.existing(position?))
    }

    /// Sessions, newest first.
    pub fn sessions(&self) -> impl Iterator<Item = Result<Summary, RecordError>> + '_ {
        self.store.scan::<Sessions>(None, Direction::Backward).map(|item| self.counted(item?.1))
    }

    /// One session's summary.
    pub fn summary(&self, id: SessionId) -> Result<Option<Summary>, RecordError> {
        self.store.fetch::<Sessions>(&id)?.map(|summary| self.counted(summary)).transpose()
    }

    /// The session that a person means by a full or short identifier.
    pub fn find_session(&self, typed: &str) -> Result<Lookup<SessionId>, RecordError> {
        let ids = self.store.scan::<Sessions>(None, Direction::Backward).map(|item| Ok(item?.0));
        find(typed, ids)
    }

    /// The request that a person means by a full or short identifier.
    pub fn find_request(&self, typed: &str) -> Result<Lookup<RequestId>, RecordError> {
        let mut last = None;
        let ids = self.store.scan::<RequestEntries>(None, Direction::Backward).filter_map(move |item| match item {
            Ok(((id, _), ())) => (last.replace(id) != Some(id)).then_some(Ok(id)),
            Err(error) => Some(Err(error)),
        });
        find(typed, ids)
    }

    /// Requests without an end, oldest first.
    pub fn open_requests(&self) -> Result<Vec<Requested>, RecordError> {
        let mut requests = Vec::new();
        for item in self.store.scan::<OpenRequests>(None, Direction::Forward) {
            let (_, position) = item?;
            match self.existing(position)?.entry.body {
                Body::Requested(requested) => requests.push(*requested),
                Body::Granted(_) | Body::Delegated(_) | Body::BrokeGlass(_) => {}
                _ => return Err(unreadable(position, "the index of open requests names an entry of another kind")),
            }
        }
        Ok(requests)
    }

    /// Grants without an end, oldest first, each with what it was asked for and how often it was used.
    pub fn open_grants(&self) -> Result<Vec<GrantHistory>, RecordError> {
        let mut grants = Vec::new();
        for item in self.store.scan::<OpenRequests>(None, Direction::Forward) {
            let (_, position) = item?;
            let Entry { at, body, .. } = self.existing(position)?.entry;
            let Body::Granted(granted) = body else { continue };
            let history = self
                .request(granted.request)?
                .ok_or_else(|| unreadable(position, "a grant names a request that is not in the record"))?;
            let used = self.uses_of(granted.grant)?;
            grants.push(GrantHistory { granted: *granted, at, requested: history.requested, used });
        }
        Ok(grants)
    }

    /// What is lent and not taken back, oldest first, with when that was. Its time may have run out.
    pub fn open_delegations(&self) -> Result<Vec<(Timestamp, Delegated)>, RecordError> {
        self.open_of(|entry| match entry.body {
            Body::Delegated(delegated) => Some((entry.at, *delegated)),
            _ => None,
        })
    }

    /// What somebody released alone and nobody has reviewed, oldest first, with when that was.
    pub fn open_reviews(&self) -> Result<Vec<(Timestamp, BrokenGlass)>, RecordError> {
        self.open_of(|entry| match entry.body {
            Body::BrokeGlass(broken) => Some((entry.at, *broken)),
            _ => None,
        })
    }

    fn open_of<T>(&self, wanted: impl Fn(Entry) -> Option<T>) -> Result<Vec<T>, RecordError> {
        let mut found = Vec::new();
        for item in self.store.scan::<OpenRequests>(None, Direction::Forward) {
            let (_, position) = item?;
            found.extend(wanted(self.existing(position)?.entry));
        }
        Ok(found)
    }

    fn uses_of(&self, grant: GrantId) -> Result<u32, RecordError> {
        let id = indexed(grant);
        let mut used = 0;
        for item in self.store.scan::<RequestEntries>(Some(&(id, 0)), Direction::Forward) {
            let ((found, position), ()) = item?;
            if found != id {
                break;
            }
            used += u32::from(matches!(self.existing(position)?.entry.body, Body::GrantUsed { .. }));
        }
        Ok(used)
    }

    /// The names of the newest requests and grants, newest first.
    pub fn newest_requests(&self) -> impl Iterator<Item = Result<RequestId, RecordError>> + '_ {
        let mut before = None;
        self.store.scan::<RequestEntries>(None, Direction::Backward).filter_map(move |item| match item {
            Ok(((id, _), ())) if before == Some(id) => None,
            Ok(((id, _), ())) => {
                before = Some(id);
                Some(Ok(id))
            }
            Err(error) => Some(Err(error)),
        })
    }

    /// A request with everything that happened to it.
    pub fn request(&self, id: RequestId) -> Result<Option<RequestHistory>, RecordError> {
        let mut history: Option<RequestHistory> = None;
        for item in self.store.scan::<RequestEntries>(Some(&(id, 0)), Direction::Forward) {
            let ((found, position), ()) = item?;
            if found != id {
                break;
            }
            let entry = self.existing(position)?.entry;
            match (entry.body, &mut history) {
                (Body::Requested(requested), None) => {
                    let (session, at) = (entry.session, entry.at);
                    let requested = *requested;
                    history = Some(RequestHistory {
                        session,
                        at,
                        requested,
                        impact: None,
                        decisions: Vec::new(),
                        said: Vec::new(),
                        broken: None,
                        closed: None,
                    });
                }
                (Body::Decided { by, uid, approve, reason, digest, .. }, Some(history)) => {
                    history.decisions.push(Decision { at: entry.at, by, uid, approve, reason, digest });
                }
                (Body::Previewed { impact, .. }, Some(history)) => history.impact = Some(impact),
                (Body::Asked { .. }, Some(_)) => {}
                (Body::Said { by, kind, text, .. }, Some(history)) => {
                    history.said.push(Said { at: entry.at, by, kind, text });
                }
                (Body::BrokeGlass(broken), Some(history)) => history.broken = Some(*broken),
                (Body::Closed { outcome, .. }, Some(history)) => history.closed = Some((entry.at, outcome)),
                // The name is a grant's.
                (Body::Granted(_), None) => return Ok(None),
                _ => return Err(unreadable(position, "a request's entries are out of order; run `holdpoint verify`")),
            }
        }
        Ok(history)
    }

    fn existing(&self, position: u64) -> Result<Recorded, RecordError> {
        self.entry(position)?.ok_or_else(|| unreadable(position, "an index names it but it is missing"))
    }

    /// A summary of a session that is not over is counted now.
    fn counted(&self, mut summary: Summary) -> Result<Summary, RecordError> {
        if summary.ended.is_none() {
            summary.totals = Default::default();
            for recorded in self.session(summary.session, summary.first) {
                summary.count(&recorded?.entry);
            }
        }
        Ok(summary)
    }
}

/// The chain's newest point, as stored; the genesis where there is no entry.
pub(super) fn head(store: &Store) -> Result<Head, RecordError> {
    match store.newest::<Entries>()? {
        Some((position, value)) => {
            let sealed = Sealed::cut(&value).map_err(|why| unreadable(position, &why))?;
            Ok(Head { position, hash: sealed.hash })
        }
        None => Ok(Head::genesis(&store.node()?)),
    }
}

/// Reads a stored value; its place in the chain is [`super::verify`]'s to check.
pub(super) fn open(position: u64, value: &[u8]) -> Result<Recorded, RecordError> {
    let sealed = Sealed::cut(value).map_err(|why| unreadable(position, &why))?;
    let entry = encoding::decode(sealed.payload).map_err(|bad| unreadable(position, &bad.to_string()))?;
    Ok(Recorded { position, entry })
}

fn unreadable(position: u64, why: &str) -> RecordError {
    RecordError::Unreadable { position, why: why.to_owned() }
}

fn find<T>(typed: &str, ids: impl Iterator<Item = Result<Id<T>, RecordError>>) -> Result<Lookup<Id<T>>, RecordError> {
    let mut found = Vec::new();
    for id in ids {
        let id = id?;
        if id.is_named(typed) {
            found.push(id);
            if found.len() == 8 {
                break;
            }
        }
    }
    Ok(match found.as_slice() {
        [] => Lookup::None,
        [one] => Lookup::One(*one),
        _ => Lookup::Many(found),
    })
}
