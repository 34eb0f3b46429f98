//! The host's side of a workload's veth: what comes out of a namespace, whatever made it.
//!
//! Packet sockets pass by every hook inside the namespace, its nftables included, but what they send comes out here. A
//! packet to a governed destination goes on only if there is a socket behind it that the gateway made: the kernel is asked
//! for the socket of these addresses in the workload's namespace, and what the gateway alone can attach to a socket. A dead
//! gateway has none, so nothing goes on.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_TCP_LISTEN, bpf_sock_tuple, tcx_action_base::TCX_NEXT},
    helpers::{bpf_sk_lookup_tcp, bpf_sk_release, bpf_sk_storage_get, bpf_skb_load_bytes},
    macros::classifier,
    programs::TcContext,
};
use gateway_ebpf::{Action, Endpoint, Reason};

use crate::{
    connect::{IPPROTO_TCP, look_up},
    maps, refusal,
};

/// What a packet says of itself. Ports are in network order, and zero where its protocol has none.
#[derive(Clone, Copy)]
struct Packet {
    v4: bool,
    protocol: u32,
    from: [u32; 4],
    to: [u32; 4],
    from_port: u16,
    to_port: u16,
    /// Whether it has been read to its ports.
    whole: bool,
}

#[classifier]
pub(crate) fn veth(ctx: TcContext) -> i32 {
    // SAFETY: the context is this hook's own.
    let kind = unsafe { (&raw const (*ctx.skb.skb).protocol).read_volatile() };
    if is_tag(kind) {
        // The kernel has taken one tag away already, and would take this one away behind us.
        return stop();
    }
    let Some(packet) = read(&ctx, kind) else { return TCX_NEXT };
    if !packet.whole {
        return stop();
    }
    let to = if packet.v4 {
        Endpoint::v4(packet.to[3], u16::from_be(packet.to_port))
    } else {
        Endpoint::new(packet.to, u16::from_be(packet.to_port))
    };
    let governed = match maps::RULES.get(0) {
        Some(rules) => look_up(rules, &to).is_some_and(|rule| rule.action != Action::Pass as u32),
        None => true,
    };
    if !governed || (packet.protocol == IPPROTO_TCP && is_the_gateways(&ctx, &packet)) {
        return TCX_NEXT;
    }
    stop()
}

#[inline(always)]
fn stop() -> i32 {
    refusal::count_for(refusal::EVERYBODY, Reason::Packet as u32);
    DROP
}

/// Whether what follows is another tag of a VLAN.
#[inline(always)]
fn is_tag(kind: u32) -> bool {
    kind == u32::from(ETH_P_8021Q.to_be()) || kind == u32::from(ETH_P_8021AD.to_be())
}

/// Whether a socket of the workload's namespace has sent this, and the gateway has claimed that socket for its own.
#[inline(always)]
fn is_the_gateways(ctx: &TcContext, packet: &Packet) -> bool {
    // SAFETY: the context is this hook's own.
    let interface = unsafe { (&raw const (*ctx.skb.skb).ifindex).read_volatile() };
    // SAFETY: the gateway writes an entry before it attaches this program, and never over it.
    let Some(netns) = (unsafe { maps::VETHS.get(interface) }) else { return false };
    let netns = u64::from(*netns);
    // SAFETY: all zeros is a tuple.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    // As the answer to this packet would have them: from where it goes, to where it comes from.
    let size = if packet.v4 {
        tuple.__bindgen_anon_1.ipv4.saddr = packet.to[3];
        tuple.__bindgen_anon_1.ipv4.daddr = packet.from[3];
        tuple.__bindgen_anon_1.ipv4.sport = packet.to_port;
        tuple.__bindgen_anon_1.ipv4.dport = packet.from_port;
        TUPLE_V4
    } else {
        tuple.__bindgen_anon_1.ipv6.saddr = packet.to;
        tuple.__bindgen_anon_1.ipv6.daddr = packet.from;
        tuple.__bindgen_anon_1.ipv6.sport = packet.to_port;
        tuple.__bindgen_anon_1.ipv6.dport = packet.from_port;
        TUPLE_V6
    };
    // SAFETY: the context is this hook's own, the tuple as large as said; what is found is released below.
    unsafe {
        let socket = bpf_sk_lookup_tcp(ctx.skb.skb.cast(), &raw mut tuple, size, netns, 0);
        if socket.is_null() {
            return false;
        }
        let storage = (&raw const maps::OURS).cast_mut();
        let ours = !bpf_sk_storage_get(storage.cast(), socket.cast(), core::ptr::null_mut(), 0).is_null();
        bpf_sk_release(socket.cast());
        ours
    }
}

/// The addresses of a packet that can begin something: `None` for what is no IP, and for all but the first fragment.
#[inline(always)]
fn read(ctx: &TcContext, kind: u32) -> Option<Packet> {
    if kind == u32::from(ETH_P_IP.to_be()) {
        read4(ctx)
    } else if kind == u32::from(ETH_P_IPV6.to_be()) {
        read6(ctx)
    } else {
        None
    }
}

#[inline(always)]
fn read4(ctx: &TcContext) -> Option<Packet> {
    let header: [u32; 5] = load(ctx, ETHERNET)?;
    let words = u32::from_be(header[0]) >> 24 & 0xf;
    if u32::from_be(header[1]) & 0x1fff != 0 {
        return None;
    }
    let protocol = u32::from_be(header[2]) >> 16 & 0xff;
    let (from_port, to_port) = ports(ctx, ETHERNET + words * 4);
    let (from, to) = ([0, 0, 0, header[3]], [0, 0, 0, header[4]]);
    Some(Packet { v4: true, protocol, from, to, from_port, to_port, whole: true })
}

#[inline(always)]
fn read6(ctx: &TcContext) -> Option<Packet> {
    let header: [u32; 10] = load(ctx, ETHERNET)?;
    let mut protocol = u32::from_be(header[1]) >> 8 & 0xff;
    let mut at = ETHERNET + 40;
    let mut extensions = 0;
    while extensions < EXTENSIONS {
        if protocol == FRAGMENT {
            let header: [u32; 2] = load(ctx, at)?;
            let word = u32::from_be(header[0]);
            if word & 0xfff8 != 0 {
                return None;
            }
            protocol = word >> 24;
            at += 8;
        } else if is_option(protocol) {
            let header: [u32; 2] = load(ctx, at)?;
            let word = u32::from_be(header[0]);
            protocol = word >> 24;
            at += ((word >> 16 & 0xff) + 1) * 8;
        } else {
            break;
        }
        extensions += 1;
    }
    let (from_port, to_port) = ports(ctx, at);
    let from = [header[2], header[3], header[4], header[5]];
    let to = [header[6], header[7], header[8], header[9]];
    let whole = protocol != FRAGMENT && !is_option(protocol);
    Some(Packet { v4: false, protocol, from, to, from_port, to_port, whole })
}

#[inline(always)]
fn is_option(protocol: u32) -> bool {
    protocol == HOP_BY_HOP || protocol == ROUTING || protocol == OPTIONS
}

/// The transport protocols that have ports have them first.
#[inline(always)]
fn ports(ctx: &TcContext, at: u32) -> (u16, u16) {
    let Some([both]) = load::<1>(ctx, at) else { return (0, 0) };
    (both as u16, (both >> 16) as u16)
}

#[inline(always)]
fn load<const WORDS: usize>(ctx: &TcContext, at: u32) -> Option<[u32; WORDS]> {
    let mut words = [0; WORDS];
    let skb: *const __sk_buff = ctx.skb.skb;
    // SAFETY: the context is this hook's own, and the words are there to be written.
    let read = unsafe { bpf_skb_load_bytes(skb.cast(), at, words.as_mut_ptr().cast(), WORDS as u32 * 4) };
    (read == 0).then_some(words)
}

/// `TC_ACT_SHOT`
const DROP: i32 = 2;
/// An Ethernet header, in bytes.
const ETHERNET: u32 = 14;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const OPTIONS: u32 = 60;
/// IPv6 extension headers that are looked behind. What has more is stopped: nobody honest sends it.
const EXTENSIONS: u32 = 6;
const TUPLE_V4: u32 = 12;
const TUPLE_V6: u32 = 36;
