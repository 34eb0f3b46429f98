//! `sock_ops`: files a redirected connection under the addresses that the gateway's accepted socket will show, and
//! forgets it when it never arrives.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE,
        BPF_TCP_SYN_SENT, bpf_sock, bpf_sock_ops,
    },
    helpers::{bpf_get_netns_cookie, bpf_ktime_get_ns},
    macros::sock_ops,
    programs::SockOpsContext,
};
use aya_log_ebpf::warn;
use gateway_ebpf::{Endpoint, FULL_FOR_NS, Tuple};

use crate::maps;

const AF_INET: u32 = 2;

#[sock_ops]
pub(crate) fn sock_ops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => arrive(&ctx),
        BPF_SOCK_OPS_STATE_CB => settle(&ctx),
        _ => {}
    }
    1
}

/// The SYN is about to leave: the client's own address is known.
#[inline(always)]
fn arrive(ctx: &SockOpsContext) {
    let sk = socket(ctx);
    if sk.is_null() {
        return;
    }
    // SAFETY: null, or storage of this very socket, which the kernel keeps while this program runs.
    let Some(facts) = (unsafe { maps::dialled(sk).as_mut() }) else { return };
    if facts.armed != 1 {
        // Connected elsewhere since; what it dialled before says nothing about this connection.
        return;
    }
    facts.armed = 0;
    if maps::ARRIVALS.insert(tuple(ctx), &*facts, 0).is_err() {
        // The gateway will find no entry and close. Those that come next are refused at once.
        // SAFETY: takes nothing.
        let until = unsafe { bpf_ktime_get_ns() } + FULL_FOR_NS;
        let _full = maps::FULL.set(0, until, 0);
        warn!(ctx, "connection will be closed: too many wait for the gateway");
        return;
    }
    let _watched = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
}

/// The SYN was answered: nothing more to watch. Or it never will be: nobody will accept, so nobody will take the entry.
#[inline(always)]
fn settle(ctx: &SockOpsContext) {
    if ctx.arg(0) != BPF_TCP_SYN_SENT {
        return;
    }
    if ctx.arg(1) == BPF_TCP_CLOSE {
        let _gone = maps::ARRIVALS.remove(tuple(ctx));
    }
    let _unwatched = ctx.set_cb_flags((ctx.cb_flags() & !BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
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

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> *mut bpf_sock {
    // SAFETY: the context is this hook's own.
    unsafe { (&raw const (*ctx.ops).__bindgen_anon_2.sk).read_volatile() }
}
