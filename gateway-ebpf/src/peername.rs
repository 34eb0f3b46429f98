//! `getpeername4` and `getpeername6`: the client sees the address that it dialled.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use gateway_ebpf::Endpoint;

use crate::{
    connect::{cookie, name4, name6, port},
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
    unsafe { maps::DIALLED.get(cookie(ctx)) }.map(|facts| facts.dialled)
}
