//! What the kernel says is attached, and what it costs.

use std::time::Duration;

use super::Refused;
use crate::workload::CgroupId;

/// A guarded cgroup, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Guard {
    /// The cgroup.
    pub cgroup: CgroupId,
    /// Its path below the mount; `None` once it is gone.
    pub path: Option<String>,
    /// The programs.
    pub programs: Vec<ProgramState>,
    /// Those of this gateway that are not attached here, or only as an earlier gateway's.
    pub missing: Vec<&'static str>,
    /// What was refused to processes in it.
    pub refused: Refused,
}

impl Guard {
    /// Whether every program is attached, is this gateway's, and outlives it.
    pub fn is_whole(&self) -> bool {
        self.programs.iter().all(ProgramState::is_whole)
    }

    /// What is wrong with which program, in words.
    pub fn faults(&self) -> Vec<String> {
        self.programs.iter().filter_map(|state| state.fault().map(|fault| format!("{} {fault}", state.name))).collect()
    }
}

/// One program on one cgroup, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProgramState {
    /// Its name.
    pub name: String,
    /// The link's id in the kernel.
    pub link: u32,
    /// The program's id in the kernel.
    pub program: u32,
    /// Whether the link holds on to its cgroup still.
    pub attached: bool,
    /// Whether the program is the one that this gateway has loaded.
    pub current: bool,
    /// Whether the link outlives the gateway.
    pub pinned: bool,
}

impl ProgramState {
    /// Whether all of that is so.
    pub fn is_whole(&self) -> bool {
        self.guards() && self.pinned
    }

    /// Whether it does its work now.
    pub(super) fn guards(&self) -> bool {
        self.attached && self.current
    }

    fn fault(&self) -> Option<&'static str> {
        match (self.attached, self.current, self.pinned) {
            (false, ..) => Some("is detached"),
            (_, false, _) => Some("is exchanged for another program"),
            (.., false) => Some("is not pinned"),
            _ => None,
        }
    }
}

/// What one program has cost since it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Its name.
    pub program: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// How long that took, all in all.
    pub busy: Duration,
}
