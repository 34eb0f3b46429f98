//! A lab's own cgroup v2 subtree.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::Pid;

use crate::eventually;

/// A cgroup directory that this process made. Processes in it are killed and it is removed when [`Cgroup::remove`] is called.
#[derive(Debug)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes `name` below the cgroup2 mount.
    pub(crate) fn make(name: &str) -> Self {
        let path = mount().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make the cgroup {}: {error}", path.display()));
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Every process in `directory` and below.
    pub(crate) fn processes(directory: &Path) -> Vec<Pid> {
        let own = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        let mut found: Vec<_> = own.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect();
        for child in children(directory) {
            found.extend(Self::processes(&child));
        }
        found
    }

    /// Kills what is in the subtree and removes it.
    ///
    /// # Errors
    /// What would not go, in words.
    pub(crate) fn remove(&self) -> Result<(), String> {
        // One write kills the whole subtree, and nothing in it can fork its way out.
        fs::write(self.0.join("cgroup.kill"), "1")
            .map_err(|error| format!("cannot kill {}: {error}", self.0.display()))?;
        eventually("the cgroup is empty", Duration::from_secs(10), || {
            Self::processes(&self.0).is_empty().then_some(())
        });
        remove_tree(&self.0).map_err(|error| format!("cannot remove {}: {error}", self.0.display()))
    }
}

/// Removes cgroups of labs whose process is gone: a test that was killed could not do it itself.
pub(crate) fn sweep(prefix: &str) {
    for stale in children(&mount()) {
        let name = stale.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _best_effort = Cgroup(stale).remove();
        }
    }
}

/// Where cgroup v2 is mounted: found by file-system type, since hybrid set-ups have it beside version 1.
fn mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("procfs is mounted");
    let found =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&"cgroup2"));
    PathBuf::from(found.expect("cgroup v2 is mounted; try: mount -t cgroup2 none /sys/fs/cgroup")[1])
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for child in children(directory) {
        remove_tree(&child)?;
    }
    // A cgroup stays busy for an instant after its last process has ended.
    for _ in 0..200 {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(Duration::from_millis(5)),
            done => return done,
        }
    }
    fs::remove_dir(directory)
}
