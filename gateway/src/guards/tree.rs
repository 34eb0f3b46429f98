//! The directories in which pods' and units' cgroups appear, and being woken when one does.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use crate::workload::{self, Hierarchy, Roots};

/// Looks through the tree. What changes in a directory after it was looked at wakes.
pub(super) struct Tree {
    hierarchy: Hierarchy,
    notify: Option<AsyncFd<Notify>>,
}

/// A cgroup directory that is a pod's.
pub(super) struct Found {
    /// The pod's id.
    pub(super) uid: String,
    /// The directory.
    pub(super) directory: PathBuf,
}

impl Tree {
    /// To be made on a runtime.
    pub(super) fn new(hierarchy: Hierarchy) -> Self {
        let notify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(io::Error::from);
        // SAFETY: the descriptor is open for as long as `Notify` lives, and never exchanged.
        let notify = notify.and_then(|notify| Ok(unsafe { AsyncFd::register(Notify(notify))? }));
        let notify = notify.inspect_err(|error| tracing::warn!(%error, "cgroups are looked at by the clock only")).ok();
        Self { hierarchy, notify }
    }

    /// Every pod's cgroup that is there.
    pub(super) fn pods(&mut self, roots: &Roots) -> Vec<Found> {
        let mut found = Vec::new();
        for root in roots.iter().map(str::to_owned).collect::<Vec<_>>() {
            let directory = self.hierarchy.resolve(Path::new(&root));
            if !self.watch_down_to(&directory) {
                continue;
            }
            // Pods are in it, or in a directory for their class of service.
            for child in self.children(&directory) {
                match self.pod(roots, &child) {
                    Some(pod) => found.push(pod),
                    None => {
                        let below = self.children(&child);
                        found.extend(below.iter().filter_map(|child| self.pod(roots, child)));
                    }
                }
            }
        }
        found
    }

    fn pod(&self, roots: &Roots, directory: &Path) -> Option<Found> {
        let path = self.hierarchy.below(directory);
        let pod = roots.pod(&path)?;
        // A directory within a pod's is none of its own.
        (pod.path == path).then(|| Found { uid: pod.uid.into_owned(), directory: directory.to_owned() })
    }

    /// Every unit that is there, with its name.
    pub(super) fn units(&mut self) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        let mut slices = vec![self.hierarchy.root().to_owned()];
        while let Some(slice) = slices.pop() {
            for child in self.children(&slice) {
                let is_slice = child.extension().is_some_and(|kind| kind == "slice");
                let path = self.hierarchy.below(&child);
                match workload::unit(&path) {
                    Some(unit) => found.push((child, unit.name.to_owned())),
                    None if is_slice => slices.push(child),
                    None => {}
                }
            }
        }
        found
    }

    /// Watches each directory on the way to `directory`, so that one that is made later wakes. Says whether it is there.
    fn watch_down_to(&mut self, directory: &Path) -> bool {
        let root = self.hierarchy.root().to_owned();
        let way: Vec<_> = directory.ancestors().skip(1).take_while(|above| above.starts_with(&root)).collect();
        way.into_iter().rev().all(|above| self.watch(above)) && directory.is_dir()
    }

    /// The directories in `directory`. Watched before they are listed: none can appear in between.
    fn children(&mut self, directory: &Path) -> Vec<PathBuf> {
        if !self.watch(directory) {
            return Vec::new();
        }
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
    }

    fn watch(&mut self, directory: &Path) -> bool {
        // Again and again: a directory that was removed and made again is another, and adding twice changes nothing.
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR;
        let added = self.notify.as_ref().is_none_or(|notify| notify.get_ref().0.add_watch(directory, flags).is_ok());
        added && directory.is_dir()
    }

    /// Waits until something has changed; for ever where nothing tells.
    pub(super) async fn changed(&self) {
        let Some(notify) = &self.notify else { return std::future::pending().await };
        if let Ok(mut ready) = notify.readable().await {
            while notify.get_ref().0.read_events().is_ok_and(|events| !events.is_empty()) {}
            ready.clear_ready();
        }
    }
}

struct Notify(Inotify);

impl std::os::fd::AsRawFd for Notify {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsFd as _;
        self.0.as_fd().as_raw_fd()
    }
}
