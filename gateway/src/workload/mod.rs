//! Who is calling, as the kernel says: cgroup id → [`Workload`], connecting process → [`Process`].
//!
//! An unknown workload is an identity of its own, never an error that lets traffic pass.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use crate::operation::Digest;

pub mod cgroup;
pub mod exec;
pub mod powers;
pub mod process;
mod secret;
mod systemd;

pub use cgroup::{Hierarchy, leave_namespace};
pub use process::{Caller, Processes};

/// A cgroup v2 directory's id: the inode number that `bpf_get_current_cgroup_id` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

/// A guarded workload: what policy selects on and what people read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// The name that people use: `holdpoint exec --as NAME`, the systemd unit, or the last part of the path.
    pub name: String,
    /// The cgroup's path below the cgroup2 mount; empty when it is not known.
    pub path: String,
    /// The systemd unit, where there is one.
    pub unit: Option<String>,
    /// Further facts by name (namespace, service account, image, …), where a source knows them.
    pub labels: BTreeMap<String, String>,
}

/// The process that connected, captured by the kernel at connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Process id (thread group id) in the host's namespace.
    pub pid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The user's name, where the host has one.
    pub user: Option<String>,
    /// The kernel's short name for the thread.
    pub comm: String,
    /// The executable's path, where it could still be read.
    pub executable: Option<PathBuf>,
    /// The executable's SHA-256.
    pub sha256: Option<Digest>,
    /// Whether the hashed file is the one that the kernel saw at connect.
    pub verified: bool,
    /// The command line's arguments, bounded.
    pub command_line: Vec<String>,
}

/// Finds the workload behind a cgroup. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workloads {
    hierarchy: Hierarchy,
    /// The directories in which `holdpoint exec` makes cgroups, below the mount, with a leading slash.
    guards: Arc<[String]>,
}

impl Workloads {
    /// Workloads of `hierarchy`; `guards` are the directories (absolute, or below the mount) in which `holdpoint exec`
    /// makes its cgroups. Names are read from nowhere else, since elsewhere others may make directories.
    pub fn new(hierarchy: Hierarchy, guards: &[PathBuf]) -> Self {
        let below = |guard: &PathBuf| below(hierarchy.root(), &hierarchy.resolve(guard));
        let guards = guards.iter().map(below).collect();
        Self { hierarchy, guards }
    }

    /// The workload in `cgroup`, as it is now.
    pub fn find(&self, cgroup: CgroupId) -> Workload {
        match self.hierarchy.path(cgroup) {
            Some(path) => identify(cgroup, path, &self.guards),
            None => unknown(cgroup),
        }
    }
}

impl Workloads {
    /// Whether the process `pid` is in a guarded cgroup.
    ///
    /// # Errors
    /// It is gone, or its cgroup cannot be read.
    pub fn guards_process(&self, pid: i32) -> std::io::Result<bool> {
        let path = cgroup::path_of(pid)?;
        Ok(self.guards.iter().any(|guard| is_below(&path, guard)))
    }
}

/// Whether the cgroup `path` is `guard` or below it.
fn is_below(path: &str, guard: &str) -> bool {
    guard == "/" || path.strip_prefix(guard).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path of `directory` below `root`, with a leading slash.
fn below(root: &Path, directory: &Path) -> String {
    let below = directory.strip_prefix(root).unwrap_or(directory);
    format!("/{}", below.to_string_lossy().trim_matches('/'))
}

/// A cgroup that is gone, or not visible from here.
fn unknown(cgroup: CgroupId) -> Workload {
    let name = format!("unknown (cgroup {})", cgroup.0);
    Workload { cgroup, name, path: String::new(), unit: None, labels: BTreeMap::new() }
}

fn identify(cgroup: CgroupId, path: String, guards: &[String]) -> Workload {
    let mut labels = BTreeMap::new();
    let unit = systemd::unit(&path);
    if let Some(slice) = unit.and_then(|unit| unit.slice) {
        labels.insert("slice".to_owned(), slice.to_owned());
    }
    let unit = unit.map(|unit| unit.name.to_owned());
    let name = exec::name(&path, guards).or_else(|| unit.clone()).unwrap_or_else(|| last_part(&path));
    Workload { cgroup, name, path, unit, labels }
}

fn last_part(path: &str) -> String {
    match path.rsplit('/').next() {
        Some("") | None => "/".to_owned(),
        Some(last) => last.to_owned(),
    }
}

#[cfg(test)]
mod tests;
