//! Queries for names: UDP to a name server goes to the gateway, which asks that server and learns from the answer.
//!
//! The hooks that see the destination do not know the client's port yet, and those that see the port do not know the
//! destination any more. So the first leave the server under the socket's cookie, and [`egress`] files it under the
//! addresses that the gateway will see, just before the datagram is there.

use aya_ebpf::{
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    macros::cgroup_skb,
    programs::{SkBuffContext, SockAddrContext},
};
use gateway_ebpf::{Asked, Endpoint, Reason, Tuple};

use crate::{
    connect::{IPPROTO_UDP, cookie},
    maps, process, refusal,
};

/// The packet goes on.
const GO: i32 = 1;

/// `ETH_P_IP` and `ETH_P_IPV6`, in network order.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// Leaves under the socket's cookie which server is asked. Whether there was room.
#[inline(always)]
pub(crate) fn remember(ctx: &SockAddrContext, server: &Endpoint) -> bool {
    let key = cookie(ctx);
    if let Some(asked) = maps::ASKED.get_ptr_mut(key) {
        // The place from which it was filed stays, so that it can be forgotten.
        // SAFETY: of two threads that send on one socket at a time, either may be the last.
        unsafe { (&raw mut (*asked).server).write(*server) };
        return true;
    }
    // SAFETY: the context is this hook's own.
    let netns = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    let from = Tuple { netns, client: [0; 4], client_port: 0, gateway_port: 0, padding: 0 };
    let asked = Asked { cgroup: process::cgroup(), from, server: *server, padding: 0 };
    maps::ASKED.insert(key, &asked, 0).is_ok()
}

/// The socket is closed for good.
#[inline(always)]
pub(crate) fn forget(cookie: u64) {
    // SAFETY: copied at once; nobody sends on a socket that is being released.
    let Some(from) = unsafe { maps::ASKED.get(cookie) }.map(|asked| asked.from) else { return };
    let _mostly_there = maps::QUERIES.remove(from);
    let _gone = maps::ASKED.remove(cookie);
}

/// A packet leaves a guarded socket.
#[cgroup_skb(egress)]
pub(crate) fn egress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the context is this hook's own, and the verifier wants a word at a constant offset.
    let family = unsafe { (&raw const (*ctx.skb.skb).protocol).read_volatile() };
    let at = if family == IPV4 { 9 } else { 6 };
    // Almost everything is TCP, and this is all that it costs.
    if !maps::names() || (family != IPV4 && family != IPV6) || ctx.load::<u8>(at).ok() != Some(IPPROTO_UDP as u8) {
        return GO;
    }
    let parts = if family == IPV4 { parts4(&ctx) } else { parts6(&ctx) };
    let Some((from, to)) = parts else { return GO };
    if !to.takes_from(maps::listener()) {
        return GO;
    }
    file(&ctx, &from, &to)
}

/// What no socket of ours has asked for, the gateway could not know the server of.
#[inline(always)]
fn file(ctx: &SkBuffContext, from: &Endpoint, to: &Endpoint) -> i32 {
    // SAFETY: the context is this hook's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    let Some(asked) = maps::ASKED.get_ptr_mut(cookie) else {
        return refusal::drop(ctx, Reason::Port as u32);
    };
    // SAFETY: the socket is sending, so its entry is not being removed.
    let asked = unsafe { &mut *asked };
    asked.from.client = from.addr;
    asked.from.client_port = from.port;
    asked.from.gateway_port = to.port;
    let key = asked.from;
    if maps::QUERIES.insert(key, &*asked, 0).is_ok() { GO } else { refusal::drop(ctx, Reason::Full as u32) }
}

#[inline(always)]
fn parts4(ctx: &SkBuffContext) -> Option<(Endpoint, Endpoint)> {
    let first: u8 = ctx.load(0).ok()?;
    let source: u32 = ctx.load(12).ok()?;
    let destination: u32 = ctx.load(16).ok()?;
    let ports: [u16; 2] = ctx.load(usize::from(first & 15) * 4).ok()?;
    Some((Endpoint::v4(source, u16::from_be(ports[0])), Endpoint::v4(destination, u16::from_be(ports[1]))))
}

#[inline(always)]
fn parts6(ctx: &SkBuffContext) -> Option<(Endpoint, Endpoint)> {
    let source: [u32; 4] = ctx.load(8).ok()?;
    let destination: [u32; 4] = ctx.load(24).ok()?;
    let ports: [u16; 2] = ctx.load(40).ok()?;
    Some((Endpoint::new(source, u16::from_be(ports[0])), Endpoint::new(destination, u16::from_be(ports[1]))))
}
