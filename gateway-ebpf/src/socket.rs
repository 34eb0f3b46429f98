//! `sock_create`: only sockets whose connections the other hooks see.
//!
//! The kernel runs this for the families `AF_INET` and `AF_INET6` and for no other: `AF_UNIX` and `AF_NETLINK`, which
//! ordinary programs need, are let be, and `AF_PACKET` and `AF_VSOCK` cannot be stopped here.

use aya_ebpf::{macros::cgroup_sock, programs::SockContext};
use gateway_ebpf::Reason;

use crate::{
    connect::{GO, IPPROTO_MPTCP, IPPROTO_TCP, IPPROTO_UDP},
    process, refusal,
};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;

const IPPROTO_ICMP: u32 = 1;
const IPPROTO_ICMPV6: u32 = 58;

#[cgroup_sock(sock_create)]
pub(crate) fn sock_create(ctx: SockContext) -> i32 {
    // The verifier wants each of these to be one word at a constant offset.
    // SAFETY: the context is this hook's own.
    let (kind, protocol) =
        unsafe { ((&raw const (*ctx.sock).type_).read_volatile(), (&raw const (*ctx.sock).protocol).read_volatile()) };
    let stream = kind == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
    // A datagram socket for ICMP is what an unprivileged `ping` uses; it can send nothing but echo requests.
    let datagram =
        kind == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6);
    if stream || datagram || process::is_gateway() {
        return GO;
    }
    refusal::refuse(Reason::Socket as u32)
}
