//! `egress` and `sock_release`: files a redirected connection under the addresses that the gateway's accepted socket
//! will show, and forgets it when it has ended.
//!
//! What leaves a guarded socket is the one place that sees a connection with both its addresses before the gateway can,
//! and a query for a name as well. (`sock_ops` would see the first; it runs five times for every connection of a guarded
//! workload, governed or not.)

use aya_ebpf::{
    bindings::{BPF_TCP_CLOSE, BPF_TCP_SYN_SENT, bpf_sock},
    helpers::bpf_get_socket_cookie,
    macros::{cgroup_skb, cgroup_sock},
    programs::{SkBuffContext, SockContext},
};
use aya_log_ebpf::warn;
use gateway_ebpf::{Endpoint, Reason};

use crate::{connect::GO, maps, names, refusal};

const AF_INET: u32 = 2;

/// A packet leaves a guarded socket.
#[cgroup_skb(egress)]
pub(crate) fn egress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the context is this hook's own, and the verifier wants a word at a constant offset.
    let socket = unsafe { (&raw const (*ctx.skb.skb).__bindgen_anon_2.sk).read_volatile() };
    // SAFETY: the socket is the packet's own, and lives as long as that is here.
    if !socket.is_null() && unsafe { (&raw const (*socket).state).read_volatile() } == BPF_TCP_SYN_SENT {
        arrive(&ctx, socket);
        return GO;
    }
    names::egress(&ctx)
}

/// A SYN is about to leave: the client's own address is known. One that is sent again finds nothing to do.
#[inline(always)]
fn arrive(ctx: &SkBuffContext, socket: *mut bpf_sock) {
    // SAFETY: the context is this hook's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    let Some(facts) = maps::DIALLED.get_ptr_mut(cookie) else { return };
    // SAFETY: the socket is locked while this runs, so nobody else writes or removes its entry.
    let facts = unsafe { &mut *facts };
    let (listener, port) = (maps::listener(), gateway_port(socket));
    if port != listener.v4 && port != listener.v6 {
        // Connected elsewhere since: what it dialled before says nothing about this connection.
        let _gone = maps::DIALLED.remove(cookie);
        return;
    }
    if facts.armed != 1 {
        return;
    }
    facts.armed = 0;
    let client = client(socket);
    facts.arrival.client = client.addr;
    facts.arrival.client_port = client.port;
    facts.arrival.gateway_port = port;
    let arrival = facts.arrival;
    if maps::ARRIVALS.insert(arrival, &*facts, 0).is_err() {
        warn!(ctx, "an intercepted connection will be closed: too many wait for the gateway");
    }
}

/// A socket is closed for good. Most have nothing here.
///
/// If it was never established nobody will accept it, so nobody would take the arrival; otherwise the arrival stays: the
/// client may have sent all it wanted and gone before the gateway looks. A connection that has ended on both sides was
/// accepted. (What a socket leaves that fails and is connected again, the gateway sweeps.)
#[cgroup_sock(sock_release)]
pub(crate) fn sock_release(ctx: SockContext) -> i32 {
    // SAFETY: the context is this hook's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.sock.cast()) };
    let Some(facts) = maps::DIALLED.get_ptr_mut(cookie) else { return GO };
    // SAFETY: the socket is the process's own until this returns, so nobody else writes or removes its entry; and the
    // context is this hook's own, of which the verifier wants a word at a constant offset.
    let (armed, arrival, state) =
        unsafe { ((*facts).armed, (*facts).arrival, (&raw const (*ctx.sock).state).read_volatile()) };
    let _gone = maps::DIALLED.remove(cookie);
    let unanswered = armed == 0 && (state == BPF_TCP_CLOSE || state == BPF_TCP_SYN_SENT);
    if unanswered && maps::ARRIVALS.remove(arrival).is_ok() {
        // The last to let go of a socket need not be whose it was.
        refusal::count_for(refusal::EVERYBODY, Reason::Unanswered as u32);
    }
    GO
}

// The verifier wants every access to a socket to be one word at a constant offset: hence the volatile accesses.

#[inline(always)]
fn client(socket: *mut bpf_sock) -> Endpoint {
    // Both addresses are read whatever the family: of a branch the compiler makes one read through a chosen pointer.
    // SAFETY: the socket is the packet's own, and lives as long as that is here.
    let (family, v4, v6, port) = unsafe {
        (
            (&raw const (*socket).family).read_volatile(),
            (&raw const (*socket).src_ip4).read_volatile(),
            [
                (&raw const (*socket).src_ip6[0]).read_volatile(),
                (&raw const (*socket).src_ip6[1]).read_volatile(),
                (&raw const (*socket).src_ip6[2]).read_volatile(),
                (&raw const (*socket).src_ip6[3]).read_volatile(),
            ],
            // This one is in the host's order.
            (&raw const (*socket).src_port).read_volatile() as u16,
        )
    };
    if family == AF_INET { Endpoint::v4(v4, port) } else { Endpoint::new(v6, port) }
}

#[inline(always)]
fn gateway_port(socket: *mut bpf_sock) -> u16 {
    // SAFETY: the socket is the packet's own, and lives as long as that is here.
    u16::from_be(unsafe { (&raw const (*socket).dst_port).read_volatile() })
}
