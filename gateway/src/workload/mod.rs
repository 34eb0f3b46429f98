//! Who is calling, as the kernel says: cgroup id → [`Workload`], connecting process → [`Process`].
//!
//! Each way to know it is one file behind one trait, [`Source`]: commands of `holdpoint exec`, pods, containers, units.
//! An unknown workload is an identity of its own, never an error that lets traffic pass.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::Serialize;

use crate::operation::Digest;

pub mod cgroup;
mod container;
pub mod exec;
pub mod kubernetes;
pub mod labels;
pub mod powers;
pub mod process;
mod secret;
mod systemd;

pub use cgroup::{Hierarchy, leave_namespace};
pub use container::{PodCgroup, Roots};
pub use kubernetes::Pods;
pub use process::{Caller, Processes};
pub use systemd::{Unit, unit};

/// A cgroup v2 directory's id: the inode number that `bpf_get_current_cgroup_id` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

/// A guarded workload: what policy selects on and what people read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// The name that people use: `holdpoint exec --as NAME`, the pod, the systemd unit, or the last part of the path.
    pub name: String,
    /// The cgroup's path below the cgroup2 mount; empty when it is not known.
    pub path: String,
    /// The systemd unit, where there is one.
    pub unit: Option<String>,
    /// Further facts by name ([`labels`]), where a source knows them, and a pod's own labels beside them.
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

/// One way to know who is in a cgroup. It is asked on every connection, so it answers from memory and never waits.
trait Source: std::fmt::Debug + Send + Sync {
    /// Adds what it knows of the cgroup at `path` (below the mount, with a leading slash).
    fn describe(&self, path: &str, facts: &mut Facts);
}

/// What the sources have said so far.
#[derive(Debug, Default)]
struct Facts {
    name: Option<String>,
    unit: Option<String>,
    labels: BTreeMap<String, String>,
}

impl Facts {
    /// A name for people, where no source before has given one.
    fn name(&mut self, name: impl FnOnce() -> String) {
        self.name.get_or_insert_with(name);
    }

    fn label(&mut self, label: &str, value: &str) {
        self.labels.insert(label.to_owned(), value.to_owned());
    }
}

/// Finds the workload behind a cgroup. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workloads {
    hierarchy: Hierarchy,
    sources: Arc<[Box<dyn Source>]>,
}

impl Workloads {
    /// Workloads of `hierarchy`; `guards` are the directories (absolute, or below the mount) in which `holdpoint exec`
    /// makes its cgroups. Names are read from nowhere else, since elsewhere others may make directories.
    pub fn new(hierarchy: Hierarchy, guards: &[PathBuf]) -> Self {
        let roots = Roots::usual(hierarchy.own_path().as_deref());
        let sources = sources(&hierarchy, guards, roots, None);
        Self { hierarchy, sources }
    }

    /// The same, with what Kubernetes says of the `pods` that the kubelet keeps in `roots`.
    pub fn with_pods(hierarchy: Hierarchy, guards: &[PathBuf], roots: Roots, pods: Pods) -> Self {
        let sources = sources(&hierarchy, guards, roots, Some(pods));
        Self { hierarchy, sources }
    }

    /// The workload in `cgroup`, as it is now.
    pub fn find(&self, cgroup: CgroupId) -> Workload {
        match self.hierarchy.path(cgroup) {
            Some(path) => identify(cgroup, path, &self.sources),
            None => unknown(cgroup),
        }
    }
}

impl Workload {
    /// Why it is not known who this is, where it is not: its cgroup is gone, or its pod has not been heard of.
    pub fn doubt(&self) -> Option<&str> {
        if self.path.is_empty() {
            return Some("its cgroup is gone");
        }
        self.labels.get(labels::DOUBT).map(String::as_str)
    }
}

/// Why the kernel programs cannot guard `workload`: its sockets are not this kernel's.
pub fn unguardable(workload: &Workload) -> Option<&str> {
    workload.labels.get(labels::UNGUARDABLE).map(String::as_str)
}

/// The sources in the order of asking: the first that has a name gives it.
fn sources(hierarchy: &Hierarchy, guards: &[PathBuf], roots: Roots, pods: Option<Pods>) -> Arc<[Box<dyn Source>]> {
    let below = |guard: &PathBuf| hierarchy.below(&hierarchy.resolve(guard));
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(exec::Commands(guards.iter().map(below).collect()))];
    if let Some(pods) = pods {
        sources.push(Box::new(kubernetes::InPods::new(pods, roots.clone())));
    }
    sources.push(Box::new(container::Containers(roots)));
    sources.push(Box::new(systemd::Units));
    sources.into()
}

/// A cgroup that is gone, or not visible from here.
fn unknown(cgroup: CgroupId) -> Workload {
    let name = format!("unknown (cgroup {})", cgroup.0);
    Workload { cgroup, name, path: String::new(), unit: None, labels: BTreeMap::new() }
}

fn identify(cgroup: CgroupId, path: String, sources: &[Box<dyn Source>]) -> Workload {
    let mut facts = Facts::default();
    sources.iter().for_each(|source| source.describe(&path, &mut facts));
    let Facts { name, unit, labels } = facts;
    let name = name.unwrap_or_else(|| last_part(&path));
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
