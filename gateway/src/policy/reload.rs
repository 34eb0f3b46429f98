//! The policies in force, replaced as a whole while connections live on.
//!
//! # Correctness
//! A new set takes the old one's place in one step, and only when every file is right: whatever is wrong leaves the
//! old set in force. The watcher only saves waiting; nothing depends on it but how soon a change is seen.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher as _};

use super::{Inspector, PolicyErrors, PolicySet};
use crate::operation::Digest;

/// Editors, `git` and Kubernetes write in bursts; a burst is over when nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(200);

/// A burst that does not end is loaded all the same.
const LONGEST_BURST: Duration = Duration::from_secs(2);

/// How often files are compared even when nothing was announced: network file systems announce nothing, and a link
/// that a watch followed may have been swapped.
const EVERY: Duration = Duration::from_secs(10);

/// The policies in force.
pub struct Policies {
    path: PathBuf,
    inspect: Box<Inspector>,
    current: ArcSwap<PolicySet>,
    generation: AtomicU64,
    /// Held while loading, so that of two reloads the later one also ends later.
    loading: Mutex<()>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which load this is, from 1. Stays the same where the files say what they said before.
    pub generation: u64,
    /// The digest of all files.
    pub digest: Digest,
    /// How many resources there are.
    pub resources: usize,
    /// How many policies there are.
    pub rules: usize,
    /// Whether anything is different from before.
    pub changed: bool,
}

impl Policies {
    /// Loads `path` for the first time.
    ///
    /// # Errors
    /// Everything that is wrong in any of the files.
    pub fn open(path: &Path, inspect: Box<Inspector>) -> Result<Self, PolicyErrors> {
        let set = PolicySet::load_inspected(path, &*inspect)?.with_generation(1);
        Ok(Self {
            path: path.to_owned(),
            inspect,
            current: ArcSwap::from_pointee(set),
            generation: AtomicU64::new(1),
            loading: Mutex::new(()),
        })
    }

    /// The set in force.
    pub fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }

    /// Which load is in force; cheap enough to ask before every operation.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Loads the files again and puts them in force.
    ///
    /// # Errors
    /// Everything that is wrong in any of the files; the old set stays in force.
    pub fn reload(&self) -> Result<Report, PolicyErrors> {
        // What the lock guards is order, not data: a panic elsewhere leaves nothing half done.
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let set = PolicySet::load_inspected(&self.path, &*self.inspect)?;
        let before = self.generation();
        if set.digest() == self.current.load().digest() {
            return Ok(report(&set, before, false));
        }
        let set = set.with_generation(before + 1);
        let report = report(&set, before + 1, true);
        self.current.store(Arc::new(set));
        // After the set: who sees the new number finds the new set.
        self.generation.store(before + 1, Ordering::Release);
        Ok(report)
    }

    /// Reloads whenever the files change, and logs what came of it. Ends with the returned guard.
    ///
    /// `after` is called after every reload that changed something.
    ///
    /// # Errors
    /// The thread cannot be started. Without announcements from the kernel the files are still compared regularly.
    pub fn watch(self: &Arc<Self>, after: impl Fn(&Report) + Send + 'static) -> std::io::Result<Watch> {
        let (stop, events) = mpsc::channel();
        let policies = Arc::clone(self);
        let announce = stop.clone();
        std::thread::Builder::new().name("policy-watch".to_owned()).spawn(move || {
            // Held, because watching ends with it.
            let _watcher = announced(&policies.path, announce);
            policies.follow(&events, &after);
        })?;
        Ok(Watch { stop })
    }

    fn follow(&self, events: &mpsc::Receiver<Event>, after: &dyn Fn(&Report)) {
        let mut complained = None;
        // The first time at once: what changed before the kernel announced changes was announced to nobody.
        let mut wait = Duration::ZERO;
        loop {
            match events.recv_timeout(wait) {
                Ok(Event::Changed) => {
                    if !settled(events) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            wait = EVERY;
            match self.reload() {
                Ok(report) => {
                    if report.changed {
                        let Report { generation, digest, resources, rules, .. } = &report;
                        tracing::info!(generation, %digest, resources, rules, "policies reloaded");
                        after(&report);
                    } else if complained.is_some() {
                        tracing::info!(
                            generation = report.generation,
                            "policy files are as they were before the errors"
                        );
                    }
                    complained = None;
                }
                // Said once, not every ten seconds.
                Err(errors) if complained.as_ref() == Some(&errors) => {}
                Err(errors) => {
                    for error in errors.iter() {
                        tracing::error!(at = %error.at, message = %error.message, "policy file refused");
                    }
                    tracing::error!(generation = self.generation(), "the policies loaded before stay in force");
                    complained = Some(errors);
                }
            }
        }
    }
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").field("path", &self.path).field("generation", &self.generation()).finish()
    }
}

/// Watching ends when this is dropped.
#[derive(Debug)]
#[must_use = "watching ends when this is dropped"]
pub struct Watch {
    stop: mpsc::Sender<Event>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread may have ended already; then there is nothing to stop.
        let _ = self.stop.send(Event::Stop);
    }
}

#[derive(Debug)]
enum Event {
    Changed,
    Stop,
}

fn report(set: &PolicySet, generation: u64, changed: bool) -> Report {
    let (digest, resources, rules) = (set.digest(), set.resources().len(), set.rule_count());
    Report { generation, digest, resources, rules, changed }
}

/// Has the kernel announce changes below `path`; `None` where it cannot.
fn announced(path: &Path, events: mpsc::Sender<Event>) -> Option<notify::RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        // Reading the files is an event as well, and must not be answered by reading them.
        if event.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        // The receiver is gone only when watching ends.
        let _ = events.send(Event::Changed);
    };
    let watched = notify::recommended_watcher(handler).and_then(|mut watcher| {
        let (path, mode) = match path.is_dir() {
            true => (path, RecursiveMode::Recursive),
            // A file is replaced by renaming: watch what it stands in.
            false => (path.parent().unwrap_or(path), RecursiveMode::NonRecursive),
        };
        watcher.watch(path, mode)?;
        Ok(watcher)
    });
    watched.inspect_err(|error| tracing::warn!(%error, "policy changes are only seen every {EVERY:?}")).ok()
}

/// Waits until a burst of changes is over; `false` when it is time to stop.
fn settled(events: &mpsc::Receiver<Event>) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < LONGEST_BURST {
        match events.recv_timeout(QUIET) {
            Ok(Event::Changed) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}
