//! Which guarded processes are in which network namespaces, and waiting for that to change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use crate::net::NamespaceId;

/// Who is in a namespace.
pub(super) struct Inside {
    /// One of the processes.
    pub(super) pid: u32,
    /// The cgroups that have processes there.
    pub(super) cgroups: Vec<PathBuf>,
}

/// Every namespace with a process of these cgroups in it.
pub(super) fn occupied(cgroups: &BTreeSet<PathBuf>) -> BTreeMap<NamespaceId, Inside> {
    let mut found: BTreeMap<_, Inside> = BTreeMap::new();
    for directory in cgroups {
        let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().filter_map(|line| line.parse().ok()) {
            if let Ok(id) = NamespaceId::of(pid) {
                let inside = found.entry(id).or_insert(Inside { pid, cgroups: Vec::new() });
                if inside.cgroups.last() != Some(directory) {
                    inside.cgroups.push(directory.clone());
                }
            }
        }
    }
    found
}

/// A cgroup and all below it.
pub(super) fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(directory) = found.get(next) {
        let below = fs::read_dir(directory).into_iter().flatten().flatten();
        let below: Vec<_> =
            below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect();
        found.extend(below);
        next += 1;
    }
    found
}

/// The guarded cgroups; wakes when one appears, or the first process enters one.
pub(super) struct Cgroups {
    notify: Option<Inotify>,
    watched: BTreeSet<PathBuf>,
}

impl Cgroups {
    pub(super) fn new() -> Self {
        let notify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let notify = notify.inspect_err(|error| tracing::warn!(%error, "cgroups are looked at by the clock only")).ok();
        Self { notify, watched: BTreeSet::new() }
    }

    /// Those that are there now. Watched from here on, so that what changes after the answer wakes.
    pub(super) fn below(&mut self, guards: &[PathBuf]) -> &BTreeSet<PathBuf> {
        let present: BTreeSet<PathBuf> = guards.iter().flat_map(|guard| tree(guard)).collect();
        if let Some(notify) = &self.notify {
            for new in present.difference(&self.watched) {
                // One that is gone again is not looked for the next time.
                let _ = notify.add_watch(new, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE);
                let _ = notify.add_watch(&new.join("cgroup.events"), AddWatchFlags::IN_MODIFY);
            }
        }
        self.watched = present;
        &self.watched
    }

    /// Waits for something to happen, at most for `limit`.
    pub(super) fn wait(&self, limit: Duration) {
        let Some(notify) = &self.notify else { return std::thread::park_timeout(limit) };
        let mut waiting = [PollFd::new(notify.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut waiting, limit);
        while notify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}
