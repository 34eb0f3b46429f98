//! `bind4` and `bind6`: nobody who is guarded sits down where the gateway listens.
//!
//! While the gateway is away its port is free, and guarded connections are still sent there: whoever listened would be
//! given them, first bytes, passwords and all.
//! A port that the kernel picks by itself is no business of this hook; the gateway listens outside that range.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use gateway_ebpf::{Endpoint, Reason};

use crate::{
    connect::{GO, IPPROTO_MPTCP, IPPROTO_TCP, IPPROTO_UDP, address4, address6, port, protocol},
    maps, process, refusal,
};

#[cgroup_sock_addr(bind4)]
pub(crate) fn bind4(ctx: SockAddrContext) -> i32 {
    sit_down(&ctx, Endpoint::v4(address4(&ctx), port(&ctx)))
}

#[cgroup_sock_addr(bind6)]
pub(crate) fn bind6(ctx: SockAddrContext) -> i32 {
    sit_down(&ctx, Endpoint::new(address6(&ctx), port(&ctx)))
}

#[inline(always)]
fn sit_down(ctx: &SockAddrContext, at: Endpoint) -> i32 {
    let protocol = protocol(ctx);
    let taken = protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP || protocol == IPPROTO_UDP;
    if !taken || !at.takes_from(maps::listener()) || process::is_gateway() {
        return GO;
    }
    refusal::refuse(Reason::Port as u32)
}
