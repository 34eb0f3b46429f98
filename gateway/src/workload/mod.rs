//! Who is calling, as the kernel says: cgroup id → [`Workload`], connecting process → [`Process`].
//!
//! An unknown workload is an identity of its own, never an error that lets traffic pass.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;

use crate::operation::Digest;

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
