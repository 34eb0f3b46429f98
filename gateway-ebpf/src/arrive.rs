//! `sock_ops` and `sock_release`: files a redirected connection under the addresses that the gateway's accepted socket
//! will show, and forgets it when it has ended.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE,
        BPF_TCP_SYN_SENT, bpf_sock_ops,
    },
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    macros::{cgroup_sock, sock_ops},
    programs::{SockContext, SockOpsContext},
};
use aya_log_ebpf::warn;
use gateway_ebpf::{Endpoint, Reason, Tuple};

use crate::{maps, refusal};

const AF_INET: u32 = 2;

#[sock_ops]
pub(crate) fn sock_ops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => arrive(&ctx),
        BPF_SOCK_OPS_STATE_CB => end(&ctx),
        _ => {}
    }
    1
}

/// A socket is closed for good. Most have nothing here; one whose connect failed early has, and nothing else says so.
#[cgroup_sock(sock_release)]
pub(crate) fn sock_release(ctx: SockContext) -> i32 {
    // SAFETY: the context is this hook's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.sock.cast()) };
    let _mostly_not_there = maps::DIALLED.remove(cookie);
    1
}

/// The SYN is about to leave: the client's own address is known.
#[inline(always)]
fn arrive(ctx: &SockOpsContext) {
    let cookie = cookie(ctx);
    let Some(facts) = maps::DIALLED.get_ptr_mut(cookie) else { return };
    // SAFETY: the socket is locked while this runs, so nobody else writes or removes its entry.
    let facts = unsafe { &mut *facts };
    let (listener, port) = (maps::listener(), gateway_port(ctx));
    if facts.armed != 1 || (port != listener.v4 && port != listener.v6) {
        // Connected elsewhere since: what it dialled before says nothing about this connection.
        let _gone = maps::DIALLED.remove(cookie);
        return;
    }
    facts.armed = 0;
    if maps::ARRIVALS.insert(tuple(ctx), &*facts, 0).is_err() {
        warn!(ctx, "an intercepted connection will be closed: too many wait for the gateway");
    }
    let _watched = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
}

/// The connection has ended. If it was never established nobody will accept it, so nobody would take the arrival;
/// otherwise the arrival stays: the client may have sent all it wanted and gone before the gateway looks.
#[inline(always)]
fn end(ctx: &SockOpsContext) {
    if ctx.arg(1) != BPF_TCP_CLOSE {
        return;
    }
    let _gone = maps::DIALLED.remove(cookie(ctx));
    if ctx.arg(0) == BPF_TCP_SYN_SENT {
        // The answer may come while any task runs, so nothing here says whose it was.
        refusal::count_for(refusal::EVERYBODY, Reason::Unanswered as u32);
        let _gone = maps::ARRIVALS.remove(tuple(ctx));
    }
}

#[inline(always)]
fn cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the context is this hook's own.
    unsafe { bpf_get_socket_cookie(ctx.ops.cast()) }
}

#[inline(always)]
fn tuple(ctx: &SockOpsContext) -> Tuple {
    let client = client(ctx);
    // SAFETY: the context is this hook's own.
    let netns = unsafe { bpf_get_netns_cookie(ctx.ops.cast()) };
    Tuple { netns, client: client.addr, client_port: client.port, gateway_port: gateway_port(ctx), padding: 0 }
}

// The verifier wants every access to the context to be one word at a constant offset: hence the volatile accesses.

#[inline(always)]
fn client(ctx: &SockOpsContext) -> Endpoint {
    let ops: *mut bpf_sock_ops = ctx.ops;
    // Both addresses are read whatever the family: of a branch the compiler makes one read through a chosen pointer
    // ("dereference of modified ctx ptr R2 off=60 disallowed").
    // SAFETY: the context is this hook's own.
    let (family, v4, v6, port) = unsafe {
        (
            (&raw const (*ops).family).read_volatile(),
            (&raw const (*ops).local_ip4).read_volatile(),
            [
                (&raw const (*ops).local_ip6[0]).read_volatile(),
                (&raw const (*ops).local_ip6[1]).read_volatile(),
                (&raw const (*ops).local_ip6[2]).read_volatile(),
                (&raw const (*ops).local_ip6[3]).read_volatile(),
            ],
            // This one is in the host's order.
            (&raw const (*ops).local_port).read_volatile() as u16,
        )
    };
    if family == AF_INET { Endpoint::v4(v4, port) } else { Endpoint::new(v6, port) }
}

#[inline(always)]
fn gateway_port(ctx: &SockOpsContext) -> u16 {
    // SAFETY: the context is this hook's own. The field holds the port in network order in its last two bytes.
    (u32::from_be(unsafe { (&raw const (*ctx.ops).remote_port).read_volatile() })) as u16
}
