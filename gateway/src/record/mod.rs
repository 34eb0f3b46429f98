//! The record: `append(Entry) -> Receipt`. Every operation is here before its backend sees it.
//!
//! Entries form one hash chain per node, from the first one on ([`chain`]). RocksDB is known only inside `store`.
//! [`Recorder`] writes; [`Records`] reads, in the gateway or beside it; [`verify`] proves that nothing was changed.
//!
//! # Correctness
//! A [`Receipt`] can only be made here, and only for an entry that is durable at its declared level; the gate cannot
//! make a cleared operation without one. When a write fails the recorder answers errors, and so every operation is
//! refused, until a write succeeds again. When a sync fails it answers errors until the gateway is restarted: after
//! that nobody can say what is on the disk.

pub mod chain;
mod encoding;
pub mod entry;
mod error;
mod json;
mod outbox;
mod read;
pub mod session;
pub mod signed;
mod store;
mod sync;
pub mod verify;
mod write;

use std::{
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

pub use self::{
    chain::Head,
    error::RecordError,
    outbox::{Delivered, Outbox, concerns_the_desk},
    read::{GrantHistory, Lookup, Recorded, Records, RequestHistory},
    session::Summary,
};
use self::{
    entry::{Entry, Requested},
    sync::{Syncer, Waiting},
    write::{Answer, Log},
};
use crate::operation::RequestId;

/// Where a gateway keeps its record unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/holdpoint/record";

/// Whether `bytes` decode as an entry: the decoder's door for fuzzing.
pub fn decodes(bytes: &[u8]) -> bool {
    encoding::decode(bytes).is_ok()
}

/// When an append counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In the kernel: survives a killed gateway. On the disk within [`Options::sync_within`].
    Written,
    /// On the disk: survives power loss.
    Synced,
}

/// How the record is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long an entry that is only written may wait for the disk.
    pub sync_within: Duration,
    /// Bytes of newest entries held in memory before they go to a sorted file; up to three times as much is used.
    pub memtable_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { sync_within: Duration::from_millis(10), memtable_bytes: 16 << 20 }
    }
}

/// Proof that an entry is durable at its declared level. Only the recorder makes one; it cannot be copied.
#[derive(Debug)]
#[must_use = "a receipt is what allows an operation to go on"]
pub struct Receipt {
    position: u64,
}

impl Receipt {
    /// The entry's position in the record, from 1.
    pub const fn position(&self) -> u64 {
        self.position
    }
}

/// Appends to the record. A cheap handle: clones share one record, which is closed, synced, with the last of them.
#[derive(Clone)]
pub struct Recorder {
    log: Arc<Log>,
    /// Ends the syncing thread with the last handle; `None` where there is no disk.
    syncer: Option<Arc<Syncer>>,
}

impl Recorder {
    /// Opens the record in `dir` for writing, and makes it where there is none. One process at a time.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, RecordError> {
        let log = Arc::new(Log::open(dir, options)?);
        let syncer = Syncer::start(log.clone(), options.sync_within)
            .map_err(|error| RecordError::Write { dir: dir.to_owned(), why: error.to_string() })?;
        Ok(Self { log, syncer: Some(Arc::new(syncer)) })
    }

    /// The same chain and the same interface over memory, for tests of what stands on the record.
    pub fn in_memory() -> Self {
        Self { log: Arc::new(Log::in_memory()), syncer: None }
    }

    /// From now on every append fails, as on a broken disk. For tests of what must then not happen.
    pub fn fail_from_now_on(&self) {
        self.log.break_on_purpose();
    }

    /// Appends, in the kernel when this returns.
    pub fn append_written(&self, entry: Entry) -> Result<Receipt, RecordError> {
        let place = self.log.append(entry)?;
        self.note_written();
        Ok(Receipt { position: place.position })
    }

    /// Appends, in order of calls. The future is ready when the entry is durable at the level.
    ///
    /// What must be synced is in the kernel when this returns. What must only be written shares a write with the
    /// tasks that are about to append as well: at the latest when the future of the first of them is polled twice, or
    /// dropped.
    pub fn append(&self, entry: Entry, durability: Durability) -> Appending {
        Appending(match (durability, &self.syncer) {
            (Durability::Written, _) => {
                let (answer, first) = self.log.queue(entry);
                Progress::Queued { answer, writer: first.then(|| Writer { recorder: self.clone(), yielded: false }) }
            }
            (Durability::Synced, Some(syncer)) => match self.log.append(entry) {
                Ok(place) => Progress::Syncing(syncer.wait_for(place), place.position),
                Err(error) => Progress::Ready(Some(Err(error))),
            },
            (Durability::Synced, None) => Progress::Ready(Some(self.append_written(entry))),
        })
    }

    fn note_written(&self) {
        if let Some(syncer) = &self.syncer {
            syncer.note_written();
        }
    }

    /// The newest entry's position and hash.
    pub fn head(&self) -> Result<Head, RecordError> {
        self.log.head()
    }

    /// A view to read from. It sees every entry appended before each call.
    ///
    /// Let go of it soon: the record cannot be opened again after a failed write while somebody reads it.
    pub fn records(&self) -> Result<Records, RecordError> {
        self.log.store().map(Records::over)
    }

    /// Requests without an end, oldest first.
    pub fn open_requests(&self) -> Result<Vec<Requested>, RecordError> {
        self.records()?.open_requests()
    }

    /// A request with everything that happened to it.
    pub fn request(&self, id: RequestId) -> Result<Option<RequestHistory>, RecordError> {
        self.records()?.request(id)
    }
}

/// An append on its way to its durability.
#[must_use = "an append that nobody waits for proves nothing"]
pub struct Appending(Progress);

enum Progress {
    Queued { answer: Answer, writer: Option<Writer> },
    Syncing(Waiting, u64),
    Ready(Option<Result<Receipt, RecordError>>),
}

/// Held by whoever queued first: its duty to write the queue, after one turn for everybody else who is ready. Dropping
/// it does the duty, so nobody ever waits for a task that is gone.
struct Writer {
    recorder: Recorder,
    yielded: bool,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.recorder.log.write_queued();
        self.recorder.note_written();
    }
}

impl Future for Appending {
    type Output = Result<Receipt, RecordError>;

    fn poll(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Progress::Ready(done) => Poll::Ready(done.take().expect("a future is not polled after it was ready")),
            Progress::Queued { answer, writer } => {
                if let Some(first) = writer {
                    if !std::mem::replace(&mut first.yielded, true) {
                        // To the end of the scheduler's queue, behind the tasks that may want to share the write.
                        ctx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    *writer = None;
                }
                let answer = ready!(Pin::new(answer).poll(ctx)).unwrap_or(Err(RecordError::Broken));
                Poll::Ready(answer.map(|place| Receipt { position: place.position }))
            }
            Progress::Syncing(waiting, position) => {
                let position = *position;
                Pin::new(waiting).poll(ctx).map(|synced| synced.map(|()| Receipt { position }))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
