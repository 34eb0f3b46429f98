//! The paths past a naive guard, each tried from inside: what the probe's own process does.
//!
//! It only says what it did. What arrived is seen by the listeners of the process that started it, and counts alone.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{FromRawFd, OwnedFd},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::libc;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{
    place::{self, Plan, Ways},
    wire,
};

/// What should become of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expected {
    /// The gateway gets it.
    Intercepted,
    /// It fails, or is dropped.
    Refused,
}

/// What the probe did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Did {
    /// A connection was made, and something sent.
    Connected,
    /// Something was sent without an error.
    Sent,
    /// The kernel said no.
    Refused(String),
    /// This kernel or this workload has no such thing.
    Absent(String),
}

/// One path.
pub(super) struct Path {
    /// In words.
    pub(super) name: &'static str,
    /// What should become of it.
    pub(super) expected: Expected,
    tried: fn(&mut Inside) -> io::Result<Did>,
}

/// Every path, in the order in which they are tried.
pub(super) const PATHS: [Path; 21] = [
    Path { name: "TCP over IPv4", expected: Expected::Intercepted, tried: |inside| inside.tcp(V4, V4) },
    Path { name: "TCP over IPv6", expected: Expected::Intercepted, tried: |inside| inside.tcp(V6, V6) },
    Path { name: "TCP, IPv4-mapped address", expected: Expected::Intercepted, tried: |inside| inside.tcp(V6, MAPPED) },
    Path { name: "TCP, non-blocking", expected: Expected::Intercepted, tried: Inside::non_blocking },
    Path { name: "TCP, MSG_FASTOPEN", expected: Expected::Intercepted, tried: Inside::fast_open },
    Path { name: "TCP, TCP_FASTOPEN_CONNECT", expected: Expected::Intercepted, tried: Inside::fast_open_connect },
    Path { name: "TCP, io_uring", expected: Expected::Intercepted, tried: Inside::ring },
    Path { name: "MPTCP", expected: Expected::Intercepted, tried: Inside::mptcp },
    Path { name: "UDP, connected", expected: Expected::Refused, tried: Inside::udp_connected },
    Path { name: "UDP, sendto over IPv4", expected: Expected::Refused, tried: |inside| inside.udp(V4, V4) },
    Path { name: "UDP, sendto over IPv6", expected: Expected::Refused, tried: |inside| inside.udp(V6, V6) },
    Path { name: "UDP, sendto a mapped address", expected: Expected::Refused, tried: |inside| inside.udp(V6, MAPPED) },
    Path { name: "raw IP", expected: Expected::Refused, tried: Inside::raw },
    Path { name: "packet socket", expected: Expected::Refused, tried: Inside::packet },
    Path { name: "SCTP", expected: Expected::Refused, tried: Inside::sctp },
    Path { name: "vsock", expected: Expected::Refused, tried: Inside::vsock },
    Path { name: "UNIX socket of a container runtime", expected: Expected::Refused, tried: Inside::unix },
    Path { name: "socket made outside and handed in", expected: Expected::Refused, tried: Inside::handed_in },
    Path { name: "process moved out of the cgroup", expected: Expected::Refused, tried: Inside::moved },
    Path { name: "connection from before", expected: Expected::Refused, tried: Inside::before },
    Path { name: "TCP over IPv4, once more", expected: Expected::Intercepted, tried: |inside| inside.tcp(V4, V4) },
];

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const MAPPED: IpAddr = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());

/// `IPPROTO_SCTP`
const SCTP: i32 = 132;

/// How long a connection may take that may never be made: a dropped packet tells nobody.
const LIMIT: Duration = Duration::from_millis(400);

/// The probe's own process.
struct Inside {
    plan: Plan,
    ways: Ways,
    before: io::Result<Socket>,
    handed: Option<Socket>,
}

/// Goes inside, says so, and tries one path whenever it is told to.
///
/// # Errors
/// The place cannot be entered.
pub(super) fn run(plan: &str) -> Result<ExitCode> {
    let plan: Plan = serde_json::from_str(plan).context("this is for `holdpoint doctor --probe` itself")?;
    let ways = place::enter(&plan)?;
    let mut inside = Inside { before: Err(io::ErrorKind::NotFound.into()), handed: None, ways, plan };
    inside.before = inside.connected(Socket::new(Domain::IPV4, Type::STREAM, None)?, V4);
    say(&Did::Connected)?;
    inside.handed = Some(take_socket()?.into());
    for path in &PATHS {
        io::stdin().read_exact(&mut [0])?;
        say(&(path.tried)(&mut inside).unwrap_or_else(|error| did_not(&error)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn say(did: &Did) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(did)?)?;
    out.flush()
}

/// Something that this kernel lacks is no refusal.
fn did_not(error: &io::Error) -> Did {
    const LACKING: [i32; 7] = [
        libc::EPROTONOSUPPORT,
        libc::ESOCKTNOSUPPORT,
        libc::EAFNOSUPPORT,
        libc::ENOPROTOOPT,
        libc::ENOSYS,
        libc::ENODEV,
        libc::EADDRNOTAVAIL,
    ];
    match error.raw_os_error() {
        Some(number) if LACKING.contains(&number) => Did::Absent(error.to_string()),
        _ => Did::Refused(error.to_string()),
    }
}

/// The socket that is handed in: with the first byte that comes.
fn take_socket() -> Result<OwnedFd> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
    let mut byte = [0];
    let mut buffer = [io::IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let message = recvmsg::<UnixAddr>(0, &mut buffer, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let found = message.cmsgs()?.find_map(|one| match one {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let fd = found.context("no socket was handed in")?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Inside {
    fn token(&self) -> &[u8] {
        self.plan.token.as_bytes()
    }

    fn at(&self, ip: IpAddr) -> SockAddr {
        SocketAddr::new(ip, self.plan.port).into()
    }

    /// A connection within [`LIMIT`].
    fn connected(&self, socket: Socket, to: IpAddr) -> io::Result<Socket> {
        socket.connect_timeout(&self.at(to), LIMIT)?;
        Ok(socket)
    }

    fn then_send(&self, socket: &Socket) -> io::Result<Did> {
        // Whoever was intercepted may be closed already.
        let _ = socket.send_with_flags(self.token(), libc::MSG_NOSIGNAL);
        Ok(Did::Connected)
    }

    fn tcp(&mut self, family: IpAddr, to: IpAddr) -> io::Result<Did> {
        let socket = Socket::new(domain(family), Type::STREAM, None)?;
        // A blocking connect that ends.
        socket.set_write_timeout(Some(LIMIT))?;
        socket.connect(&self.at(to))?;
        self.then_send(&socket)
    }

    fn non_blocking(&mut self) -> io::Result<Did> {
        let socket = self.connected(Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?, V4)?;
        self.then_send(&socket)
    }

    fn fast_open(&mut self) -> io::Result<Did> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_write_timeout(Some(LIMIT))?;
        socket.send_to_with_flags(self.token(), &self.at(V4), libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL)?;
        Ok(Did::Connected)
    }

    fn fast_open_connect(&mut self) -> io::Result<Did> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_write_timeout(Some(LIMIT))?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::TcpFastOpenConnect, &true)?;
        socket.connect(&self.at(V4))?;
        self.then_send(&socket)
    }

    fn ring(&mut self) -> io::Result<Did> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        match wire::ring_connect(&socket, &self.at(V4), LIMIT) {
            Ok(()) => self.then_send(&socket),
            Err(wire::Ring::Absent(why)) => Ok(Did::Absent(why)),
            Err(wire::Ring::Refused(error)) => Err(error),
        }
    }

    fn mptcp(&mut self) -> io::Result<Did> {
        let socket = self.connected(Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP))?, V4)?;
        self.then_send(&socket)
    }

    fn udp_connected(&mut self) -> io::Result<Did> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.connect(&self.at(V4))?;
        socket.send(self.token())?;
        Ok(Did::Sent)
    }

    fn udp(&mut self, family: IpAddr, to: IpAddr) -> io::Result<Did> {
        let socket = Socket::new(domain(family), Type::DGRAM, None)?;
        socket.send_to(self.token(), &self.at(to))?;
        Ok(Did::Sent)
    }

    fn raw(&mut self) -> io::Result<Did> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?;
        socket.send_to(&wire::udp(self.plan.port, self.token(), 0), &self.at(V4))?;
        Ok(Did::Sent)
    }

    /// A frame on the loopback, built by hand. Over IPv6, since the kernel takes no 127.0.0.1 that it has not routed.
    fn packet(&mut self) -> io::Result<Did> {
        let socket = wire::packet_socket()?;
        let frame = wire::udp_over_ipv6(self.plan.port, self.token());
        socket.send_to(&frame, &wire::loopback_link()?)?;
        Ok(Did::Sent)
    }

    fn sctp(&mut self) -> io::Result<Did> {
        let socket = self.connected(Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(SCTP)))?, V4)?;
        self.then_send(&socket)
    }

    fn vsock(&mut self) -> io::Result<Did> {
        /// `VMADDR_CID_LOCAL`: this machine.
        const LOCAL: u32 = 1;
        let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
        socket.connect_timeout(&SockAddr::vsock(LOCAL, self.plan.port.into()), LIMIT)?;
        self.then_send(&socket)
    }

    fn unix(&mut self) -> io::Result<Did> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.connect(&SockAddr::unix(&self.plan.unix)?)?;
        self.then_send(&socket)
    }

    fn handed_in(&mut self) -> io::Result<Did> {
        let Some(socket) = self.handed.take() else { return Ok(Did::Absent("no socket was handed in".to_owned())) };
        let socket = self.connected(socket, V4)?;
        self.then_send(&socket)
    }

    fn moved(&mut self) -> io::Result<Did> {
        self.ways.out()?;
        let made = Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| self.connected(socket, V4));
        let done = made.and_then(|socket| self.then_send(&socket));
        self.ways.back()?;
        done
    }

    fn before(&mut self) -> io::Result<Did> {
        match &self.before {
            Ok(socket) => socket.send_with_flags(self.token(), libc::MSG_NOSIGNAL).map(|_| Did::Sent),
            Err(error) => Ok(Did::Absent(format!("there was none: {error}"))),
        }
    }
}

fn domain(ip: IpAddr) -> Domain {
    if ip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }
}
