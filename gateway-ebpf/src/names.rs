//! Queries for names: UDP to a name server goes to the gateway, which asks that server and learns from the answer.
//!
//! The hooks that see the destination do not know the client's port yet, and those that see the port do not know the
//! destination any more. So the first leave the server with the socket, and `egress` files it under the addresses that
//! the gateway will see, just before the datagram is there.
//!
//! What is filed is wanted for as long as the datagram takes over the loopback. Then it is in nobody's way: the oldest go
//! first, so no bot can take the room of another for longer than that.

use aya_ebpf::{
    helpers::{bpf_get_netns_cookie, bpf_sk_storage_get},
    programs::{SkBuffContext, SockAddrContext},
};
use gateway_ebpf::{Asked, Endpoint, Reason, Tuple};

use crate::{
    connect::{GO, IPPROTO_UDP},
    maps, process, refusal,
};

/// `ETH_P_IP` and `ETH_P_IPV6`, in network order.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// Leaves with the socket which server is asked. Whether there was room.
#[inline(always)]
pub(crate) fn remember(ctx: &SockAddrContext, server: &Endpoint) -> bool {
    // SAFETY: the context is this hook's own.
    let netns = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    let mut asked = Asked { cgroup: process::cgroup(), netns, server: *server, padding: 0 };
    // SAFETY: the socket is the context's own.
    let kept = unsafe { maps::ASKED.get_or_insert_ptr_mut(ctx, Some(&mut asked)) };
    if kept.is_null() {
        return false;
    }
    // SAFETY: it lives as long as the socket; of two threads that send on one socket at a time, either may be the last.
    unsafe { (&raw mut (*kept).server).write(*server) };
    true
}

/// A packet that is no SYN leaves a guarded socket.
#[inline(always)]
pub(crate) fn egress(ctx: &SkBuffContext) -> i32 {
    // SAFETY: the context is this hook's own, and the verifier wants a word at a constant offset.
    let family = unsafe { (&raw const (*ctx.skb.skb).protocol).read_volatile() };
    let at = if family == IPV4 { 9 } else { 6 };
    // Almost everything is TCP, and this is all that it costs.
    if !maps::names() || (family != IPV4 && family != IPV6) || ctx.load::<u8>(at).ok() != Some(IPPROTO_UDP as u8) {
        return GO;
    }
    let parts = if family == IPV4 { parts4(ctx) } else { parts6(ctx) };
    let Some((from, to)) = parts else { return GO };
    if !to.takes_from(maps::listener()) {
        return GO;
    }
    file(ctx, &from, &to)
}

/// What no socket of ours has asked for, the gateway could not know the server of.
#[inline(always)]
fn file(ctx: &SkBuffContext, from: &Endpoint, to: &Endpoint) -> i32 {
    // SAFETY: the context is this hook's own, and the verifier wants a word at a constant offset.
    let socket = unsafe { (&raw const (*ctx.skb.skb).__bindgen_anon_2.sk).read_volatile() };
    if socket.is_null() {
        return refusal::drop(ctx, Reason::Port as u32);
    }
    let storage = (&raw const maps::ASKED).cast_mut();
    // SAFETY: the socket is the packet's own, and lives as long as that is here.
    let asked = unsafe { bpf_sk_storage_get(storage.cast(), socket.cast(), core::ptr::null_mut(), 0) };
    if asked.is_null() {
        return refusal::drop(ctx, Reason::Port as u32);
    }
    // SAFETY: the storage holds such a value.
    let asked = unsafe { &*asked.cast::<Asked>() };
    let key =
        Tuple { netns: asked.netns, client: from.addr, client_port: from.port, gateway_port: to.port, padding: 0 };
    if maps::QUERIES.insert(key, asked, 0).is_ok() { GO } else { refusal::drop(ctx, Reason::Full as u32) }
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
