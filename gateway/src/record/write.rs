//! Appending: encode, queue, then link and write everything queued, under one short lock.
//!
//! The lock is what makes the chain: a position, its hash and its write belong together. It is held for one RocksDB
//! write into the kernel, a few microseconds, and never across an await or a sync. A write costs more than what it
//! carries, so connections that are busy at the same moment share one: each queues, and the first of them writes for
//! all once the others have had their turn.
//!
//! # Correctness
//! Entries are linked in the order in which they were queued, and the queue is taken under the chain's lock: whoever
//! gets that lock finds its own entry written by itself or answered by the writer before it.

use std::{
    collections::HashMap,
    mem,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};

use super::{
    Options, RecordError,
    chain::{HEADER, Head},
    encoding,
    entry::{Body, Entry},
    outbox::concerns_the_desk,
    session::Summary,
    store::{
        Batch, Direction, Store,
        column::{DeskEntries, Entries, OpenRequests, RequestEntries, SessionEntries, Sessions},
    },
};
use crate::operation::{Id, RequestId, SessionId};

/// The open record with its newest link.
pub(super) struct Log {
    queue: Mutex<Vec<Queued>>,
    tail: Mutex<Tail>,
    options: Options,
}

/// An entry that is not linked yet, and who waits for it.
struct Queued {
    entry: Entry,
    /// Room for the header, then the payload.
    value: Vec<u8>,
    done: oneshot::Sender<Result<Place, RecordError>>,
}

/// Answered when a queued entry is written; an answer that is missing means that the writer panicked.
pub(super) type Answer = oneshot::Receiver<Result<Place, RecordError>>;

struct Tail {
    /// `None` after a failed write, until it could be opened again.
    store: Option<Arc<Store>>,
    head: Head,
    /// Summaries of sessions that are not over.
    open: HashMap<SessionId, Summary>,
    failure: Option<Failure>,
    /// Moves with every entry that concerns the desk.
    desk: watch::Sender<u64>,
    /// How often the record was opened again: positions before and after need not mean the same entries.
    reopened: u64,
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) position: u64,
    /// How often the record had been opened again after a failed write.
    pub(super) reopened: u64,
}

struct Failure {
    error: RecordError,
    /// When opening again may next be tried; `None` for never.
    again: Option<Instant>,
}

/// What an entry of a short statement or its answer takes with its header, bytes.
const ORDINARY: usize = 512;

/// Between attempts to open the record again after a failed write.
const PAUSE: Duration = Duration::from_millis(500);

impl Log {
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Self, RecordError> {
        let tail = Tail::at_end_of(Store::open(dir, options)?)?;
        Ok(Self { queue: Mutex::default(), tail: Mutex::new(tail), options: options.clone() })
    }

    pub(super) fn in_memory() -> Self {
        let tail = Store::in_memory().and_then(Tail::at_end_of).expect("memory has no disk that could fail");
        Self { queue: Mutex::default(), tail: Mutex::new(tail), options: Options::default() }
    }

    /// Appends; the entry is in the kernel when this returns, and so is everything queued before it.
    pub(super) fn append(&self, entry: Entry) -> Result<Place, RecordError> {
        let (mut answer, _) = self.queue(entry);
        self.write_queued();
        answer.try_recv().unwrap_or(Err(RecordError::Broken))
    }

    /// Queues, and says whether the queue was empty: then the caller is the one to write it.
    pub(super) fn queue(&self, entry: Entry) -> (Answer, bool) {
        // Grown once for most entries.
        let mut value = Vec::with_capacity(ORDINARY);
        value.resize(HEADER, 0);
        encoding::encode(&entry, &mut value);
        let (done, answer) = oneshot::channel();
        let mut queue = self.queued();
        queue.push(Queued { entry, value, done });
        (answer, queue.len() == 1)
    }

    /// Writes what is queued and answers those who wait for it.
    pub(super) fn write_queued(&self) {
        match self.lock() {
            Ok(mut tail) => {
                let queue = mem::take(&mut *self.queued());
                tail.append(queue, &self.options);
            }
            Err(_) => drop(mem::take(&mut *self.queued())),
        }
    }

    fn queued(&self) -> MutexGuard<'_, Vec<Queued>> {
        // The list is whole at every point where a holder could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest entry.
    pub(super) fn head(&self) -> Result<Head, RecordError> {
        Ok(self.lock()?.head)
    }

    /// The store, to read from or to sync.
    pub(super) fn store(&self) -> Result<Arc<Store>, RecordError> {
        self.lock()?.store()
    }

    /// Moves with every entry that concerns the desk.
    pub(super) fn desk(&self) -> Result<watch::Receiver<u64>, RecordError> {
        Ok(self.lock()?.desk.subscribe())
    }

    /// The store and how far it was written.
    pub(super) fn written(&self) -> Result<(Arc<Store>, Place), RecordError> {
        let tail = self.lock()?;
        Ok((tail.store()?, tail.place()))
    }

    /// No append succeeds any more: the disk did not keep what it was given.
    pub(super) fn give_up(&self, error: RecordError) {
        if let Ok(mut tail) = self.tail.lock() {
            tail.failure = Some(Failure { error, again: None });
        }
    }

    pub(super) fn break_on_purpose(&self) {
        self.give_up(RecordError::Write { dir: "memory".into(), why: "told to fail".to_owned() });
    }

    fn lock(&self) -> Result<MutexGuard<'_, Tail>, RecordError> {
        // A panic while linking may have left head and store apart; a chain on that would be a lie.
        self.tail.lock().map_err(|_| RecordError::Broken)
    }
}

impl Tail {
    fn at_end_of(store: Store) -> Result<Self, RecordError> {
        let head = super::read::head(&store)?;
        let (store, desk) = (Some(Arc::new(store)), watch::Sender::new(head.position));
        Ok(Self { store, head, open: HashMap::new(), failure: None, desk, reopened: 0 })
    }

    fn store(&self) -> Result<Arc<Store>, RecordError> {
        match (&self.store, &self.failure) {
            (Some(store), _) => Ok(store.clone()),
            (None, Some(failure)) => Err(failure.error.clone()),
            (None, None) => Err(RecordError::Broken),
        }
    }

    fn place(&self) -> Place {
        Place { position: self.head.position, reopened: self.reopened }
    }

    fn append(&mut self, mut queue: Vec<Queued>, options: &Options) {
        if queue.is_empty() {
            return;
        }
        let first = self.write(&mut queue, options);
        for (after, Queued { done, .. }) in (0..).zip(queue) {
            let place = first.clone().map(|first| Place { position: first.position + after, ..first });
            // Whoever hung up does not want the answer.
            let _ = done.send(place);
        }
    }

    /// Links and writes as one. Answers where the first of them stands.
    fn write(&mut self, queue: &mut [Queued], options: &Options) -> Result<Place, RecordError> {
        self.recover(options)?;
        let store = self.store()?;
        let first = Place { position: self.head.position + 1, reopened: self.reopened };
        let mut head = self.head;
        let mut of_the_desk = false;
        let mut batch = store.batch();
        for Queued { entry, value, .. } in queue {
            head = head.next(&value[HEADER..]);
            head.seal(value);
            batch.put_bytes::<Entries>(&head.position, value);
            if let Some(session) = entry.session {
                batch.put::<SessionEntries>(&(session, head.position), &());
                self.summarise(session, head.position, entry, &store, &mut batch)?;
            }
            index_request(&entry.body, head.position, &mut batch);
            if concerns_the_desk(&entry.body) {
                batch.put::<DeskEntries>(&head.position, &());
                of_the_desk = true;
            }
        }
        match store.write(batch) {
            Ok(()) => {
                self.head = head;
                if of_the_desk {
                    self.desk.send_replace(head.position);
                }
                Ok(first)
            }
            Err(error) => {
                // Whether the entries are in the log is not known: what the disk says after opening again is the truth.
                self.store = None;
                self.open.clear();
                self.failure = Some(Failure { error: error.clone(), again: Some(Instant::now()) });
                Err(error)
            }
        }
    }

    /// After a failed write: opens the record again, now and then, until that succeeds.
    fn recover(&mut self, options: &Options) -> Result<(), RecordError> {
        let Some(failure) = &mut self.failure else { return Ok(()) };
        let dir = match (&failure.error, failure.again) {
            (
                RecordError::Write { dir, .. } | RecordError::Full { dir } | RecordError::Damaged { dir, .. },
                Some(again),
            ) if again <= Instant::now() => dir.clone(),
            _ => return Err(failure.error.clone()),
        };
        match Store::open(&dir, options).and_then(Self::at_end_of) {
            Ok(tail) => {
                tracing::warn!(position = tail.head.position, "recording goes on after a failed write");
                *self = Self { reopened: self.reopened + 1, desk: self.desk.clone(), ..tail };
                Ok(())
            }
            Err(_) => {
                // The first error says what went wrong; that opening fails as well only says that it still does.
                failure.again = Some(Instant::now() + PAUSE);
                Err(failure.error.clone())
            }
        }
    }

    /// Keeps the session's summary: stored at its first entry and at its end, counted in memory in between.
    fn summarise(
        &mut self,
        session: SessionId,
        position: u64,
        entry: &Entry,
        store: &Store,
        batch: &mut Batch<'_>,
    ) -> Result<(), RecordError> {
        let ends = matches!(entry.body, Body::Disconnected { .. });
        if let Some(summary) = self.open.get_mut(&session) {
            summary.count(entry);
            if ends {
                batch.put::<Sessions>(&session, summary);
                self.open.remove(&session);
            }
            return Ok(());
        }
        // A straggler after the end, or after this process took over from a killed one, changes nothing stored.
        if store.fetch::<Sessions>(&session)?.is_none() {
            let mut summary = Summary::begin(session, position, entry);
            summary.count(entry);
            batch.put::<Sessions>(&session, &summary);
            if !ends {
                self.open.insert(session, summary);
            }
        }
        Ok(())
    }
}

fn index_request(body: &Body, position: u64, batch: &mut Batch<'_>) {
    let mut belongs = |request: &RequestId| batch.put::<RequestEntries>(&(*request, position), &());
    match body {
        Body::Requested(requested) => {
            belongs(&requested.request);
            batch.put::<OpenRequests>(&requested.request, &position);
        }
        Body::Decided { request, .. }
        | Body::Previewed { request, .. }
        | Body::Asked { request, .. }
        | Body::Said { request, .. } => belongs(request),
        Body::Closed { request, .. } => {
            belongs(request);
            batch.delete::<OpenRequests>(request);
        }
        Body::Granted(granted) => {
            let grant = indexed(granted.grant);
            batch.put::<RequestEntries>(&(grant, position), &());
            batch.put::<OpenRequests>(&grant, &position);
        }
        Body::BrokeGlass(broken) => {
            belongs(&broken.request);
            batch.put::<OpenRequests>(&indexed(broken.review), &position);
        }
        Body::Reviewed { review, .. } => batch.delete::<OpenRequests>(&indexed(*review)),
        Body::Delegated(delegated) => batch.put::<OpenRequests>(&indexed(delegated.delegation), &position),
        Body::DelegationEnded { delegation, .. } => batch.delete::<OpenRequests>(&indexed(*delegation)),
        Body::GrantUsed { grant, left, .. } => {
            batch.put::<RequestEntries>(&(indexed(*grant), position), &());
            if *left == 0 {
                batch.delete::<OpenRequests>(&indexed(*grant));
            }
        }
        Body::GrantEnded { grant, .. } => {
            batch.put::<RequestEntries>(&(indexed(*grant), position), &());
            batch.delete::<OpenRequests>(&indexed(*grant));
        }
        _ => {}
    }
}

/// Grants, delegations and reviews share the requests' indexes: all are named at random, and are open until they end.
pub(super) fn indexed<T>(id: Id<T>) -> RequestId {
    RequestId::from_bytes(*id.as_bytes())
}

/// Positions of a session's entries, from `from` on.
pub(super) fn positions_of(
    store: &Store,
    session: SessionId,
    from: u64,
) -> impl Iterator<Item = Result<u64, RecordError>> + '_ {
    let scan = store.scan::<SessionEntries>(Some(&(session, from)), Direction::Forward);
    scan.map_while(move |item| match item {
        Ok(((found, position), ())) if found == session => Some(Ok(position)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}
