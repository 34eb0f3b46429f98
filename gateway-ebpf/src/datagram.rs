//! `sendmsg4` and `sendmsg6`: UDP that is sent without having been connected.
//!
//! The same rules as for connections count. The gateway takes no datagrams but queries for names, so where they intercept,
//! these are refused; a client that tries QUIC falls back to TCP.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use gateway_ebpf::{Action, Endpoint, Reason};

use crate::{
    connect::{GO, address4, address6, decide, decide6, port, redirect4, redirect6},
    maps, names, refusal,
};

/// Also runs where an IPv6 socket sends to an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let to = Endpoint::v4(address4(&ctx), port(&ctx)).effective();
    let decision = decide(&ctx, &to);
    if decision.is(Action::Pass) {
        return GO;
    }
    if decision.is(Action::Refuse) {
        return refusal::refuse(decision.reason);
    }
    if !names::remember(&ctx, &to) {
        return refusal::refuse(Reason::Full as u32);
    }
    redirect4(&ctx, maps::listener().v4);
    GO
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let asked = Endpoint::new(address6(&ctx), port(&ctx));
    let (to, decision) = decide6(&ctx, &asked);
    if decision.is(Action::Pass) {
        return GO;
    }
    if decision.is(Action::Refuse) {
        return refusal::refuse(decision.reason);
    }
    if !names::remember(&ctx, &to) {
        return refusal::refuse(Reason::Full as u32);
    }
    // The kernel takes no IPv4 address from this hook, and what is sent to one runs the other.
    redirect6(&ctx, &Endpoint::loopback_v6(maps::listener().v6));
    GO
}
