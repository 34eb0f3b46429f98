//! Appending: encode, link, write, under one short lock.
//!
//! The lock is what makes the chain: a position, its hash and its write belong together. It is held for one RocksDB
//! write into the kernel, a few microseconds, and never across an await or a sync.

use std::{
    cell::RefCell,
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{
    Options, RecordError,
    chain::{HEADER, Head},
    encoding,
    entry::{Body, Entry},
    session::Summary,
    store::{
        Batch, Direction, Store,
        column::{Entries, OpenRequests, RequestEntries, SessionEntries, Sessions},
    },
};
use crate::operation::{RequestId, SessionId};

/// The open record with its newest link.
pub(super) struct Log {
    tail: Mutex<Tail>,
    options: Options,
}

struct Tail {
    /// `None` after a failed write, until it could be opened again.
    store: Option<Arc<Store>>,
    head: Head,
    /// Summaries of sessions that are not over.
    open: HashMap<SessionId, Summary>,
    failure: Option<Failure>,
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

/// Between attempts to open the record again after a failed write.
const PAUSE: Duration = Duration::from_millis(500);

/// Above this a thread's encoding buffer is given back after use, bytes.
const KEPT_BUFFER: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Log {
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Self, RecordError> {
        let tail = Tail::at_end_of(Store::open(dir, options)?)?;
        Ok(Self { tail: Mutex::new(tail), options: options.clone() })
    }

    pub(super) fn in_memory() -> Self {
        let tail = Store::in_memory().and_then(Tail::at_end_of).expect("memory has no disk that could fail");
        Self { tail: Mutex::new(tail), options: Options::default() }
    }

    /// Appends; the entry is in the kernel when this returns.
    pub(super) fn append(&self, entry: &Entry) -> Result<Place, RecordError> {
        BUFFER.with_borrow_mut(|value| {
            value.clear();
            value.resize(HEADER, 0);
            encoding::encode(entry, value);
            let appended = self.lock()?.append(entry, value, &self.options);
            if value.capacity() > KEPT_BUFFER {
                *value = Vec::new();
            }
            appended
        })
    }

    /// The newest entry.
    pub(super) fn head(&self) -> Result<Head, RecordError> {
        Ok(self.lock()?.head)
    }

    /// The store, to read from or to sync.
    pub(super) fn store(&self) -> Result<Arc<Store>, RecordError> {
        self.lock()?.store()
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
        Ok(Self { store: Some(Arc::new(store)), head, open: HashMap::new(), failure: None, reopened: 0 })
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

    /// `value` has room for the header, then the payload.
    fn append(&mut self, entry: &Entry, value: &mut [u8], options: &Options) -> Result<Place, RecordError> {
        self.recover(options)?;
        let store = self.store()?;
        let head = self.head.next(&value[HEADER..]);
        head.seal(value);
        let mut batch = store.batch();
        batch.put_bytes::<Entries>(&head.position, value);
        if let Some(session) = entry.session {
            batch.put::<SessionEntries>(&(session, head.position), &());
            self.summarise(session, head.position, entry, &store, &mut batch)?;
        }
        index_request(&entry.body, head.position, &mut batch);
        match store.write(batch) {
            Ok(()) => {
                self.head = head;
                Ok(self.place())
            }
            Err(error) => {
                // Whether the entry is in the log is not known: what the disk says after opening again is the truth.
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
                *self = Self { reopened: self.reopened + 1, ..tail };
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
        Body::Decided { request, .. } => belongs(request),
        Body::Closed { request, .. } => {
            belongs(request);
            batch.delete::<OpenRequests>(request);
        }
        _ => {}
    }
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
