//! Group commit: one thread syncs the log while others go on appending, and every sync releases everybody whose entry
//! was written before it began.
//!
//! # Correctness
//! A waiter registers before it checks what is synced, so none can be missed. A failed sync is final: the kernel may
//! have dropped the pages that it could not write and would report success the next time, so nothing is tried again;
//! all waiters and all later appends get the error.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    RecordError,
    write::{Log, Written},
};

/// The syncing thread's handle; dropping it syncs what is left and ends the thread.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    waiters: Mutex<Vec<Waiter>>,
    /// Everything up to this position is on the disk.
    synced: AtomicU64,
    /// Whether the thread sleeps until somebody writes.
    idle: AtomicBool,
    stop: AtomicBool,
}

struct Waiter {
    position: u64,
    done: oneshot::Sender<Result<(), RecordError>>,
}

/// Ready when an entry is on the disk.
pub(super) struct Waiting(oneshot::Receiver<Result<(), RecordError>>);

impl Future for Waiting {
    type Output = Result<(), RecordError>;

    fn poll(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(ctx).map(|answer| answer.unwrap_or(Err(RecordError::Broken)))
    }
}

impl Syncer {
    pub(super) fn start(log: Arc<Log>, within: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waiters: Mutex::new(Vec::new()),
            synced: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let run = {
            let shared = shared.clone();
            move || shared.run(&log, within)
        };
        let thread = thread::Builder::new().name("record-sync".to_owned()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Something was written: it will be synced in time. One load when the thread is awake.
    pub(super) fn note_written(&self) {
        if self.shared.idle.load(Ordering::SeqCst) && self.shared.idle.swap(false, Ordering::SeqCst) {
            self.unpark();
        }
    }

    /// Waits until everything up to `position` is on the disk; it was written before.
    pub(super) fn wait_for(&self, position: u64) -> Waiting {
        let (done, waiting) = oneshot::channel();
        let mut waiters = self.shared.waiters();
        if self.shared.synced.load(Ordering::SeqCst) >= position {
            // The receiver is at hand, so this cannot fail.
            let _ = done.send(Ok(()));
        } else {
            waiters.push(Waiter { position, done });
        }
        drop(waiters);
        self.shared.idle.store(false, Ordering::SeqCst);
        self.unpark();
        Waiting(waiting)
    }

    fn unpark(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.unpark();
        if let Some(thread) = self.thread.take() {
            // A panic there has answered its waiters already, by dropping them.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, log: &Log, within: Duration) {
        // A written entry waits half its time for company; the sync itself takes part of the other half.
        let pause = within / 2;
        let mut reopened = 0;
        loop {
            let stop = self.stop.load(Ordering::SeqCst);
            let began = Instant::now();
            let clean = self.sync(log, &mut reopened);
            if stop {
                self.release(u64::MAX, &Err(RecordError::Broken));
                return;
            }
            if clean {
                self.sleep_until_written(log);
            } else {
                self.sleep_unless_waited_for(began + pause);
            }
        }
    }

    /// Syncs once. Answers whether there was nothing to do.
    fn sync(&self, log: &Log, reopened: &mut u64) -> bool {
        let Written { store, position, reopened: now } = match log.written() {
            Ok(written) => written,
            Err(error) => {
                self.release(u64::MAX, &Err(error));
                return true;
            }
        };
        if std::mem::replace(reopened, now) != now {
            // Whoever waits may wait for an entry that did not survive the failed write.
            self.release(u64::MAX, &Err(RecordError::Reopened));
        }
        if position <= self.synced.load(Ordering::SeqCst) {
            return true;
        }
        match store.sync() {
            Ok(()) => {
                self.synced.store(position, Ordering::SeqCst);
                self.release(position, &Ok(()));
            }
            Err(error) => {
                tracing::error!(%error, "the record could not be made durable");
                log.give_up(error.clone());
                self.release(u64::MAX, &Err(error));
            }
        }
        false
    }

    /// Answers those who wait for positions up to `position`.
    fn release(&self, position: u64, answer: &Result<(), RecordError>) {
        let released: Vec<Waiter> = self.waiters().extract_if(.., |waiter| waiter.position <= position).collect();
        for waiter in released {
            // Whoever hung up does not want the answer.
            let _ = waiter.done.send(answer.clone());
        }
    }

    fn sleep_until_written(&self, log: &Log) {
        self.idle.store(true, Ordering::SeqCst);
        let behind = log.written().is_ok_and(|written| written.position > self.synced.load(Ordering::SeqCst));
        if behind || !self.waiters().is_empty() || self.stop.load(Ordering::SeqCst) {
            self.idle.store(false, Ordering::SeqCst);
            return;
        }
        // Looked at again now and then, since a wake-up costs little and a missed one an operation's durability.
        while self.idle.load(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst) {
            thread::park_timeout(Duration::from_secs(1));
        }
    }

    fn sleep_unless_waited_for(&self, until: Instant) {
        while self.waiters().is_empty() && !self.stop.load(Ordering::SeqCst) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Waiter>> {
        // The list is whole at every point where a holder could panic.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
