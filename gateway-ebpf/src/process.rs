//! Who is connecting: read from the running task, where it cannot be argued with.

use aya_ebpf::{
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task,
        bpf_get_current_uid_gid, bpf_probe_read_kernel,
    },
};
use gateway_ebpf::{Facts, Offsets, TICK_NS};

use crate::maps;

/// Whether the gateway itself is connecting.
#[inline(always)]
pub(crate) fn is_gateway() -> bool {
    let own = maps::own();
    if own.pid == 0 || (bpf_get_current_pid_tgid() >> 32) as u32 != own.pid || cgroup() != own.cgroup {
        return false;
    }
    own.started_ticks == 0 || started_ns(&maps::offsets()) / TICK_NS == own.started_ticks
}

/// Fills in all that says who is connecting.
#[inline(always)]
pub(crate) fn describe(facts: &mut Facts) {
    let ids = bpf_get_current_pid_tgid();
    facts.pid = (ids >> 32) as u32;
    facts.tid = ids as u32;
    let ids = bpf_get_current_uid_gid();
    facts.uid = ids as u32;
    facts.gid = (ids >> 32) as u32;
    facts.cgroup = cgroup();
    facts.comm = bpf_get_current_comm().unwrap_or([0; 16]);
    let offsets = maps::offsets();
    facts.started_ns = started_ns(&offsets);
    (facts.exe_inode, facts.exe_device) = executable(&offsets).unwrap_or((0, 0));
}

#[inline(always)]
fn cgroup() -> u64 {
    // SAFETY: takes nothing and reads the running task.
    unsafe { bpf_get_current_cgroup_id() }
}

#[inline(always)]
fn task() -> u64 {
    // SAFETY: takes nothing; the address is only ever given to `bpf_probe_read_kernel`, which checks it.
    unsafe { bpf_get_current_task() }
}

/// Nanoseconds since boot at which the process started, or 0.
#[inline(always)]
fn started_ns(offsets: &Offsets) -> u64 {
    if !offsets.known() {
        return 0;
    }
    read::<u64>(task(), offsets.task_leader).and_then(|leader| read(leader, offsets.task_started)).unwrap_or(0)
}

/// Inode and device of the executable. `None` for kernel threads, or where the kernel's types are not known.
#[inline(always)]
fn executable(offsets: &Offsets) -> Option<(u64, u32)> {
    if !offsets.known() {
        return None;
    }
    let mm = read::<u64>(task(), offsets.task_mm)?;
    let file = read::<u64>(mm, offsets.mm_exe_file)?;
    let inode = read::<u64>(file, offsets.file_inode)?;
    let super_block = read::<u64>(inode, offsets.inode_super)?;
    Some((read(inode, offsets.inode_number)?, read(super_block, offsets.super_device)?))
}

/// What lies `offset` bytes into the kernel structure at `base`.
#[inline(always)]
fn read<T>(base: u64, offset: u32) -> Option<T> {
    let address = base.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address and fails rather than faults; every `T` here is an integer.
    unsafe { bpf_probe_read_kernel(address) }.ok()
}
