//! What this process may do, and how the programs know it for the gateway.

use gateway_ebpf::Own;

use super::InterceptError;
use crate::workload::{CgroupId, Hierarchy, powers::capabilities, process};

/// Whether this process has what the programs and links need.
pub(super) fn allowed() -> Result<(), InterceptError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing(capabilities(&status, "CapEff:").unwrap_or(0));
    if missing.is_empty() { Ok(()) } else { Err(InterceptError::NotAllowed { missing: missing.join(", ") }) }
}

/// What of it is not in a set of capabilities.
fn missing(held: u64) -> Vec<&'static str> {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    /// Beside `CAP_BPF`, for programs that read the kernel's own structures.
    const PERFMON: u64 = 1 << 38;
    const BPF: u64 = 1 << 39;
    // Since Linux 5.8 two stand for the one, as far as programs go: guarding workloads in namespaces of their own is
    // refused later, where namespaces are entered.
    let loads = held & SYS_ADMIN != 0 || held & (BPF | PERFMON) == BPF | PERFMON;
    let asked = [(loads, "CAP_SYS_ADMIN"), (held & NET_ADMIN != 0, "CAP_NET_ADMIN")];
    asked.into_iter().filter(|(has, _)| !has).map(|(_, name)| name).collect()
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

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn what_is_missing_is_what_the_gateway_is_to_be_given() {
        let (net_admin, sys_admin, perfmon, bpf) = (1 << 12, 1 << 21, 1 << 38, 1 << 39);
        assert_eq!(missing(0), ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
        assert_eq!(missing(net_admin | bpf), ["CAP_SYS_ADMIN"]);
        assert!(missing(net_admin | sys_admin).is_empty() && missing(net_admin | bpf | perfmon).is_empty());
    }
}
