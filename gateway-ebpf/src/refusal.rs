//! What was refused, counted: by guarded cgroup and by reason, for `holdpoint status`.
//!
//! Where a guarded cgroup is inside another, the programs of both run, and both count.

use aya_ebpf::{
    helpers::{bpf_get_current_ancestor_cgroup_id, bpf_skb_ancestor_cgroup_id},
    programs::SkBuffContext,
};
use gateway_ebpf::{Reason, Refusals};

use crate::{connect::EPERM, maps};

/// The entry for what cannot be told apart by cgroup.
pub(crate) const EVERYBODY: u64 = 0;

/// How deep below the root a guarded cgroup is looked for. Refusals in deeper ones count for everybody.
const DEPTH: i32 = 12;

/// Counts, and is the verdict at the same time, so that nothing is refused uncounted.
#[inline(always)]
pub(crate) fn refuse(reason: u32) -> i32 {
    // SAFETY: takes a number, and answers 0 below the process's own cgroup.
    count_for(guard(|level| unsafe { bpf_get_current_ancestor_cgroup_id(level) }), reason);
    EPERM
}

/// The same for a packet, whose sender is its socket's cgroup.
#[inline(always)]
pub(crate) fn drop(packet: &SkBuffContext, reason: u32) -> i32 {
    let skb = packet.skb.skb.cast();
    // SAFETY: the context is the hook's own; 0 is answered below the socket's own cgroup.
    count_for(guard(|level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) }), reason);
    EPERM
}

/// One more for `guard`. An entry that is not there is no reason to do anything else.
#[inline(always)]
pub(crate) fn count_for(guard: u64, reason: u32) {
    let Some(refusals) = maps::REFUSED.get_ptr_mut(guard) else { return };
    if reason <= Reason::Packet as u32 {
        // SAFETY: the entry is this processor's own, and the reason is in its bounds. Another program that interrupts
        // this one may lose a count, and nothing else.
        unsafe {
            (&raw mut (*refusals.cast::<Refusals>()).count[reason as usize]).write_volatile(read(refusals, reason) + 1)
        };
    }
}

#[inline(always)]
fn read(refusals: *const Refusals, reason: u32) -> u64 {
    // SAFETY: as in `count_for`.
    unsafe { (&raw const (*refusals).count[reason as usize]).read_volatile() }
}

/// The outermost guarded cgroup among those that `ancestor` gives, from the root down.
#[inline(always)]
fn guard(ancestor: impl Fn(i32) -> u64) -> u64 {
    let mut level = 1;
    while level <= DEPTH {
        let cgroup = ancestor(level);
        if cgroup == 0 {
            return EVERYBODY;
        }
        if maps::REFUSED.get_ptr(cgroup).is_some() {
            return cgroup;
        }
        level += 1;
    }
    EVERYBODY
}
