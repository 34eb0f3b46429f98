//! `sendmsg4` and `sendmsg6`: UDP that is sent without having been connected.
//!
//! The same rules as for connections count. The gateway takes no datagrams, so where they intercept, these are refused;
//! a client that tries QUIC falls back to TCP.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use gateway_ebpf::{Action, Endpoint};

use crate::{
    connect::{Decision, GO, address4, address6, decide, decide6, port},
    refusal,
};

/// Also runs where an IPv6 socket sends to an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let to = Endpoint::v4(address4(&ctx), port(&ctx)).effective();
    verdict(decide(&ctx, &to))
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let asked = Endpoint::new(address6(&ctx), port(&ctx));
    let (_, decision) = decide6(&ctx, &asked);
    verdict(decision)
}

#[inline(always)]
fn verdict(decision: Decision) -> i32 {
    if decision.is(Action::Pass) { GO } else { refusal::refuse(decision.reason) }
}
