//! `getpeername4`, `getpeername6`, `recvmsg4` and `recvmsg6`: the client sees the address that it dialled, and answers
//! for names come from the server that was asked.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use gateway_ebpf::Endpoint;

use crate::{
    connect::{address4, address6, cookie, name4, name6, port},
    maps,
};

/// These hooks cannot refuse.
const GO: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(dialled) = dialled(&ctx) {
        name4(&ctx, &dialled);
    }
    GO
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(dialled) = dialled(&ctx) {
        name6(&ctx, &dialled);
    }
    GO
}

#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg4(ctx: SockAddrContext) -> i32 {
    if let Some(server) = asked(&ctx, &Endpoint::v4(address4(&ctx), port(&ctx))) {
        name4(&ctx, &server);
    }
    GO
}

#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(ctx: SockAddrContext) -> i32 {
    if let Some(server) = asked(&ctx, &Endpoint::new(address6(&ctx), port(&ctx))) {
        name6(&ctx, &server);
    }
    GO
}

/// Which name server the socket asked, if the datagram is from the gateway.
#[inline(always)]
fn asked(ctx: &SockAddrContext, from: &Endpoint) -> Option<Endpoint> {
    if !from.takes_from(maps::listener()) {
        return None;
    }
    server(ctx)
}

/// What was dialled, if the socket's peer is the gateway because of it. The port tells a socket that was connected
/// elsewhere since.
#[inline(always)]
fn dialled(ctx: &SockAddrContext) -> Option<Endpoint> {
    let listener = maps::listener();
    let port = port(ctx);
    if port != listener.v4 && port != listener.v6 {
        return None;
    }
    // SAFETY: copied at once; a socket that is being asked for its peer is open, so its entry is not being removed.
    let dialled = unsafe { maps::DIALLED.get(cookie(ctx)) }.map(|facts| facts.dialled);
    dialled.or_else(|| server(ctx))
}

/// Which name server the socket asked last.
#[inline(always)]
fn server(ctx: &SockAddrContext) -> Option<Endpoint> {
    // SAFETY: the socket is the context's own.
    let asked = unsafe { maps::ASKED.get_ptr_mut(ctx) };
    if asked.is_null() {
        return None;
    }
    // SAFETY: copied at once; it lives as long as the socket.
    Some(unsafe { (*asked).server })
}
