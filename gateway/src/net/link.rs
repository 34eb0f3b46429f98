//! The network interfaces of a namespace, and what is at the other end of a veth.

use std::{io, os::fd::AsRawFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage},
};
use nix::sys::{
    socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt},
    time::TimeVal,
};

use super::Namespace;

/// The host's side of an interface of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostSide {
    /// The interface's number on the host.
    pub interface: u32,
    /// The number that the host has given the workload's namespace.
    pub namespace: u32,
}

/// An interface.
#[derive(Debug, Default)]
struct Link {
    index: u32,
    name: String,
    loopback: bool,
    veth: bool,
    peer: Option<u32>,
    peer_namespace: Option<u32>,
}

/// Where what leaves `namespace` comes out in the gateway's own: for every interface but loopbacks. `Err` inside: the name
/// of one that is no veth, or one whose other end is elsewhere.
///
/// # Errors
/// The kernel's own.
pub fn host_sides(namespace: &Namespace) -> io::Result<Vec<Result<HostSide, String>>> {
    let inside = namespace.within(links)?;
    let mut outside = None;
    let mut found = Vec::new();
    for link in inside.into_iter().filter(|link| !link.loopback) {
        let host = match &outside {
            Some(host) => host,
            None => outside.insert(links()?),
        };
        let other = host
            .iter()
            .find(|other| link.veth && other.veth && Some(other.index) == link.peer && other.peer == Some(link.index));
        let side = other.and_then(|other| Some(HostSide { interface: other.index, namespace: other.peer_namespace? }));
        found.push(side.ok_or(link.name));
    }
    Ok(found)
}

/// Those of the calling thread's namespace.
fn links() -> io::Result<Vec<Link>> {
    let route = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    setsockopt(&route, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_SECONDS, 0))?;
    let mut header = NetlinkHeader::default();
    (header.flags, header.sequence_number) = (NLM_F_REQUEST | NLM_F_DUMP, 1);
    let request = NetlinkPayload::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
    let mut request = NetlinkMessage::new(header, request);
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    send(route.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = recv(route.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => found.push(Link::from(link)),
                _ => {}
            }
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let loopback = message.header.link_layer_type == LinkLayerType::Loopback;
        let mut link = Link { index: message.header.index, loopback, ..Link::default() };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Link(peer) => link.peer = Some(peer),
                LinkAttribute::LinkNetNsId(id) => link.peer_namespace = u32::try_from(id).ok(),
                LinkAttribute::LinkInfo(info) => link.veth = info.contains(&LinkInfo::Kind(InfoKind::Veth)),
                _ => {}
            }
        }
        link
    }
}

/// The kernel's own largest message for a dump.
const BUFFER: usize = 64 * 1024;

/// How long an answer of the kernel may take.
const PATIENCE_SECONDS: i64 = 10;
