//! Group commit: one thread syncs the log while others go on appending, and every sync releases everybody whose entry
//! was written before it began.
//!
//! # Correctness
//! A waiter's entry is written before it registers, and a sync reads the newest position before it begins: whoever it
//! releases was written before it. A failed sync is final: the kernel may
//! have dropped the pages that it could not write and would report success the next time, so nothing is tried again;
//! all waiters and all later appends get the error.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    RecordError,
    write::{Log, Place},
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
    /// At how many waiters the thread wants to be woken.
    wanted: AtomicUsize,
}

struct Waiter {
    place: Place,
    done: oneshot::Sender<Result<(), RecordError>>,
}

/// How long a sync waits for those who were released together; a third of what a sync takes.
const GATHER: Duration = Duration::from_micros(100);

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
            wanted: AtomicUsize::new(1),
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

    /// Waits until everything up to `place` is on the disk; it was written before.
    pub(super) fn wait_for(&self, place: Place) -> Waiting {
        let (done, waiting) = oneshot::channel();
        let mut waiters = self.shared.waiters();
        waiters.push(Waiter { place, done });
        let enough = waiters.len() >= self.shared.wanted.load(Ordering::SeqCst);
        drop(waiters);
        self.shared.idle.store(false, Ordering::SeqCst);
        if enough {
            self.unpark();
        }
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
        let mut company = 0;
        loop {
            let stop = self.stop.load(Ordering::SeqCst);
            self.gather(company);
            let began = Instant::now();
            let released = self.sync(log);
            if stop {
                self.refuse(&RecordError::Broken, |_| true);
                return;
            }
            match released {
                Some(released) => {
                    company = released;
                    // An entry that is only written waits for company as long as it may: what is left is for a sync
                    // that takes four times as long as this one did.
                    let pause = within.saturating_sub(4 * began.elapsed()).max(within / 2);
                    self.sleep_unless_waited_for(began + pause);
                }
                None => self.sleep_until_written(log),
            }
        }
    }

    /// Those who were released together come back together: waiting a moment for all of them saves a sync for the
    /// second half.
    fn gather(&self, company: usize) {
        if company < 2 {
            return;
        }
        let until = Instant::now() + GATHER;
        self.wanted.store(company, Ordering::SeqCst);
        while (1..company).contains(&self.waiters().len()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        self.wanted.store(1, Ordering::SeqCst);
    }

    /// Syncs once. Answers how many waited for it; `None` when there was nothing to do.
    fn sync(&self, log: &Log) -> Option<usize> {
        let (store, place) = match log.written() {
            Ok(written) => written,
            Err(error) => {
                self.refuse(&error, |_| true);
                return None;
            }
        };
        // Who waited while a write failed may wait for an entry that is not there any more.
        self.refuse(&RecordError::Reopened, |waiter| waiter.reopened < place.reopened);
        if place.position <= self.synced.load(Ordering::SeqCst) && self.waiters().is_empty() {
            return None;
        }
        match store.sync() {
            Ok(()) => {
                self.synced.store(place.position, Ordering::SeqCst);
                Some(self.release(place))
            }
            Err(error) => {
                tracing::error!(%error, "the record could not be made durable");
                log.give_up(error.clone());
                self.refuse(&error, |_| true);
                None
            }
        }
    }

    /// Answers those who wait for what a sync that began at `synced` put on the disk.
    fn release(&self, synced: Place) -> usize {
        let on_disk = |place: Place| place.position <= synced.position && place.reopened == synced.reopened;
        let released: Vec<Waiter> = self.waiters().extract_if(.., |waiter| on_disk(waiter.place)).collect();
        let count = released.len();
        for waiter in released {
            // Whoever hung up does not want the answer.
            let _ = waiter.done.send(Ok(()));
        }
        count
    }

    fn refuse(&self, error: &RecordError, which: impl Fn(Place) -> bool) {
        let refused: Vec<Waiter> = self.waiters().extract_if(.., |waiter| which(waiter.place)).collect();
        for waiter in refused {
            let _ = waiter.done.send(Err(error.clone()));
        }
    }

    fn sleep_until_written(&self, log: &Log) {
        self.idle.store(true, Ordering::SeqCst);
        let behind = log.written().is_ok_and(|written| written.1.position > self.synced.load(Ordering::SeqCst));
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
