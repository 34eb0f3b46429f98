//! Who is connecting: read from the running task, where it cannot be argued with.

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel,
};
use gateway_ebpf::TICK_NS;

use crate::maps;

/// Whether the gateway itself is connecting.
#[inline(always)]
pub(crate) fn is_gateway() -> bool {
    let own = maps::own();
    if own.pid == 0 || (bpf_get_current_pid_tgid() >> 32) as u32 != own.pid || cgroup() != own.cgroup {
        return false;
    }
    own.started_ticks == 0 || started_ns() / TICK_NS == own.started_ticks
}

#[inline(always)]
pub(crate) fn cgroup() -> u64 {
    // SAFETY: takes nothing and reads the running task.
    unsafe { bpf_get_current_cgroup_id() }
}

/// Nanoseconds since boot at which the process started; 0 where the kernel's types are not known.
#[inline(always)]
pub(crate) fn started_ns() -> u64 {
    let offsets = maps::offsets();
    if !offsets.known() {
        return 0;
    }
    let ids = bpf_get_current_pid_tgid();
    // Most processes connect from their first thread, which is its own leader.
    let leader = if ids >> 32 == ids & 0xffff_ffff { Some(task()) } else { read(task(), offsets.task_leader) };
    leader.and_then(|leader| read(leader, offsets.task_started)).unwrap_or(0)
}

/// A file. All zero is none.
#[derive(Default)]
pub(crate) struct File {
    pub(crate) inode: u64,
    pub(crate) device: u32,
}

/// The executable. `None` for kernel threads, or where the kernel's types are not known.
#[inline(always)]
pub(crate) fn executable() -> Option<File> {
    let offsets = maps::offsets();
    if !offsets.known() {
        return None;
    }
    let mm = read::<u64>(task(), offsets.task_mm)?;
    let file = read::<u64>(mm, offsets.mm_exe_file)?;
    let inode = read::<u64>(file, offsets.file_inode)?;
    let super_block = read::<u64>(inode, offsets.inode_super)?;
    Some(File { inode: read(inode, offsets.inode_number)?, device: read(super_block, offsets.super_device)? })
}

#[inline(always)]
fn task() -> u64 {
    // SAFETY: takes nothing; the address is only ever given to `bpf_probe_read_kernel`, which checks it.
    unsafe { bpf_get_current_task() }
}

/// What lies `offset` bytes into the kernel structure at `base`.
#[inline(always)]
fn read<T>(base: u64, offset: u32) -> Option<T> {
    let address = base.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address and fails rather than faults; every `T` here is an integer.
    unsafe { bpf_probe_read_kernel(address) }.ok()
}
