//! `connect_unix`: UNIX sockets behind which somebody would dial for the bot (a container runtime, above all).
//!
//! An automaton over the path's bytes, made by the gateway from its patterns, decides. What is judged is the path as it
//! is dialled: a symbolic link, hard link or bind mount under another name is another path.
//!
//! The program is loaded for `connect_unix` and for `sendmsg_unix` by the gateway's own loader: the section's name is that
//! of another hook, because the library's loader knows neither (Linux 6.7).

use aya_ebpf::{helpers::bpf_probe_read_kernel_buf, macros::cgroup_sock_addr, programs::SockAddrContext};
use gateway_ebpf::{Reason, UNIX_PATH_BYTES, UNIX_REFUSED};

use crate::{connect::GO, maps, refusal};

/// `struct bpf_sock_addr_kern`, which the context really is, up to the address's length. The gateway makes sure, by the
/// running kernel's own types, that it is laid out like this.
#[repr(C)]
#[derive(Clone, Copy)]
struct Context {
    sock: u64,
    address: u64,
    scratch: u64,
    more: u64,
    length: u32,
    padding: u32,
}

/// Bytes of a `sockaddr_un` before its path.
const FAMILY: usize = 2;

#[cgroup_sock_addr(connect4)]
pub(crate) fn unix(ctx: SockAddrContext) -> i32 {
    if is_refused(&ctx) { refusal::refuse(Reason::Unix as u32) } else { GO }
}

/// Whatever cannot be read is refused.
#[inline(always)]
fn is_refused(ctx: &SockAddrContext) -> bool {
    let mut raw = [0_u8; size_of::<Context>()];
    // SAFETY: the helper checks the address and fails rather than faults.
    if unsafe { bpf_probe_read_kernel_buf(ctx.sock_addr.cast_const().cast(), &mut raw) }.is_err() {
        return true;
    }
    // SAFETY: as long as the array, and every bit pattern is one of it.
    let context: Context = unsafe { core::mem::transmute(raw) };
    let mut path = [0_u8; UNIX_PATH_BYTES];
    let length = (context.length as usize).saturating_sub(FAMILY);
    if length == 0 {
        // Without a path there is nothing to connect to.
        return false;
    }
    // The kernel keeps addresses in buffers of their greatest length, so what lies behind a shorter one can be read.
    let from = context.address.wrapping_add(FAMILY as u64) as *const u8;
    // SAFETY: the helper checks the address and fails rather than faults.
    if unsafe { bpf_probe_read_kernel_buf(from, &mut path) }.is_err() {
        return true;
    }
    let mut state = 0_u32;
    let mut before = 0_u8;
    let mut at = 0;
    // An abstract name begins with a zero byte, is written with an `@` in its place, and ends with the address.
    let is_abstract = path[0] == 0;
    while at < UNIX_PATH_BYTES && at < length {
        let mut byte = path[at];
        at += 1;
        if byte == 0 {
            if !is_abstract {
                break;
            }
            byte = b'@';
        }
        // The kernel takes any number of slashes for one.
        if byte == b'/' && before == b'/' {
            continue;
        }
        before = byte;
        let Some(row) = maps::UNIX_PATHS.get(state) else { return true };
        state = u32::from(row.next[byte as usize]);
    }
    maps::UNIX_PATHS.get(state).is_none_or(|row| row.next[0] == UNIX_REFUSED)
}
