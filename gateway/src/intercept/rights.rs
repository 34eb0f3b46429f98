//! What this process may do, and how the programs know it for the gateway.

use gateway_ebpf::Own;

use super::InterceptError;
use crate::workload::{CgroupId, Hierarchy, powers::capabilities, process};

/// Whether this process has what the programs and links need.
pub(super) fn allowed() -> Result<(), InterceptError> {
    const SYS_ADMIN: u32 = 21;
    const NEEDED: [(u32, &str); 3] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON")];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = capabilities(&status, "CapEff:").unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    // Before Linux 5.8 there was only the one.
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(bit, name)| !has(*bit) && (*name == "CAP_NET_ADMIN" || !has(SYS_ADMIN)))
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(InterceptError::NotAllowed { missing: missing.join(", ") }) }
}

/// This process, as the programs will see it. Nobody, where they would see it under another number.
pub(super) fn own(hierarchy: &Hierarchy) -> Own {
    let stat = std::fs::read("/proc/self/stat").unwrap_or_default();
    match (in_first_pid_namespace(), hierarchy.own(), process::started(&stat)) {
        (true, Ok(CgroupId(cgroup)), Some(started_ticks)) => {
            Own { cgroup, started_ticks, pid: std::process::id(), padding: 0 }
        }
        _ => {
            tracing::warn!("the gateway's own number in the kernel is not known: keep it out of guarded cgroups");
            Own::default()
        }
    }
}

fn in_first_pid_namespace() -> bool {
    /// `PROC_PID_INIT_INO`
    const FIRST: u64 = 0xefff_fffc;
    let found = std::fs::metadata("/proc/self/ns/pid");
    found.is_ok_and(|found| std::os::unix::fs::MetadataExt::ino(&found) == FIRST)
}
