//! An accepted connection, and what the kernel knew when it was made.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use gateway_ebpf::{Asked, Facts, Tuple};
use nix::libc;

use super::rules;
use crate::workload::{Caller, CgroupId, process};

/// An accepted connection, named as the kernel programs filed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The client's address.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
    /// The cookie of the socket's network namespace.
    pub netns: u64,
}

impl Arrival {
    /// Of an accepted socket, with the peer that `accept` named: a client that has gone again cannot be asked for, but
    /// its arrival is to be taken all the same. Linux 5.14.
    ///
    /// # Errors
    /// It is no TCP socket.
    pub fn of(socket: &impl AsFd, peer: SocketAddr) -> io::Result<Self> {
        let fd = socket.as_fd().as_raw_fd();
        let own: nix::sys::socket::SockaddrStorage = nix::sys::socket::getsockname(fd)?;
        let v4 = own.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
        let local = v4.or_else(|| own.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())));
        let local = local.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Self { peer, local, netns: netns_cookie(socket)? })
    }

    pub(super) fn tuple(&self) -> Tuple {
        let client = rules::endpoint(self.peer);
        Tuple {
            netns: self.netns,
            client: client.addr,
            client_port: client.port,
            gateway_port: self.local.port(),
            padding: 0,
        }
    }
}

/// What the kernel knew when the client connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intercepted {
    /// Where the client meant to go. Never IPv4-mapped.
    pub dialled: SocketAddr,
    /// Who connected.
    pub caller: Caller,
    /// The client's socket, by a number that is unique until the machine restarts.
    pub cookie: u64,
    /// When, on the monotonic clock.
    pub at: Duration,
    /// Which replacement of the rules intercepted it.
    pub generation: u32,
}

impl From<&Facts> for Intercepted {
    fn from(facts: &Facts) -> Self {
        let executable = process::FileId {
            major: facts.exe_device >> 20,
            minor: facts.exe_device & 0xf_ffff,
            inode: facts.exe_inode,
        };
        let caller = Caller {
            cgroup: CgroupId(facts.cgroup),
            pid: facts.pid,
            tid: facts.tid,
            uid: facts.uid,
            gid: facts.gid,
            comm: facts.comm,
            started: (facts.started_ns != 0).then_some(facts.started_ns / gateway_ebpf::TICK_NS),
            executable: (facts.exe_inode != 0).then_some(executable),
        };
        Self {
            dialled: rules::socket_addr(&facts.dialled),
            caller,
            cookie: facts.cookie,
            at: Duration::from_nanos(facts.at_ns),
            generation: facts.generation,
        }
    }
}

/// The kernel programs know nothing of an accepted connection. It must be closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection from {peer} was not intercepted: nothing is known of where it was going, so it is closed")]
pub struct NoEntry {
    /// The client's address.
    pub peer: SocketAddr,
    /// The kernel's complaint, if it was not simply missing.
    pub source: Option<io::Error>,
}

/// A query for a name, and where the client meant to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queried {
    /// The name server.
    pub server: SocketAddr,
    /// Who asks.
    pub cgroup: CgroupId,
}

impl From<&Asked> for Queried {
    fn from(asked: &Asked) -> Self {
        Self { server: rules::socket_addr(&asked.server), cgroup: CgroupId(asked.cgroup) }
    }
}

/// The cookie of a socket's network namespace.
///
/// # Errors
/// It is no socket, or the kernel is older than 5.14.
pub fn netns_cookie(socket: &impl AsFd) -> io::Result<u64> {
    /// `SO_NETNS_COOKIE`
    const NETNS_COOKIE: libc::c_int = 71;
    let fd = socket.as_fd().as_raw_fd();
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: value and length are ours, and the length is the value's.
    let answer =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut length) };
    if answer == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
