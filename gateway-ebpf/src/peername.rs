//! `getpeername4` and `getpeername6`: the client sees the address that it dialled.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use gateway_ebpf::Endpoint;

use crate::{
    connect::{name4, name6, port, socket},
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
    // SAFETY: null, or storage of this very socket, which the kernel keeps while this program runs.
    unsafe { maps::dialled(socket(ctx)).as_ref() }.map(|facts| facts.dialled)
}
