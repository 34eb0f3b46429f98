//! Sockets made inside a stated network namespace, from outside it.
//!
//! A namespace belongs to a thread, so a socket for another one is made by a thread that enters it, makes the socket
//! and ends; the socket stays in the namespace in which it was made, whoever uses it.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use serde::Serialize;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::OriginalDst;

/// A network namespace.
#[derive(Debug, Clone, Default)]
pub enum Namespace {
    /// The gateway's own.
    #[default]
    Own,
    /// Another, by an open `/proc/PID/ns/net`.
    Other(Arc<OwnedFd>),
}

/// A network namespace's number, its own until the namespace is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct NamespaceId(pub u64);

impl NamespaceId {
    /// The one that a process is in.
    ///
    /// # Errors
    /// The process is gone.
    pub fn of(pid: u32) -> io::Result<Self> {
        std::fs::metadata(format!("/proc/{pid}/ns/net")).map(|found| Self(found.ino()))
    }
}

impl Namespace {
    /// The namespace at `path` (`/proc/PID/ns/net`).
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::Other(Arc::new(std::fs::File::open(path)?.into())))
    }

    /// The namespace's number, by which people know it (`lsns -t net`).
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn id(&self) -> io::Result<NamespaceId> {
        let found = match self {
            Self::Own => std::fs::metadata("/proc/self/ns/net")?.ino(),
            Self::Other(open) => nix::sys::stat::fstat(open.as_fd())?.st_ino,
        };
        Ok(NamespaceId(found))
    }

    /// Runs `make` inside.
    pub(crate) fn within<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let Self::Other(namespace) = self else { return make() };
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                make()
            });
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
        })
    }
}

/// Every network namespace that a process is in.
///
/// # Errors
/// The processes cannot be listed.
pub fn all() -> io::Result<BTreeMap<NamespaceId, Namespace>> {
    let mut found = BTreeMap::new();
    for process in std::fs::read_dir("/proc")?.flatten() {
        // Not every entry is a process, and a process may end at any time.
        let path = process.path().join("ns/net");
        if let Ok(id) = std::fs::metadata(&path).map(|file| NamespaceId(file.ino()))
            && !found.contains_key(&id)
            && let Ok(namespace) = Namespace::open(&path)
        {
            found.insert(id, namespace);
        }
    }
    Ok(found)
}

/// Listens on `address` inside `namespace`. An IPv6 listener is IPv6 only, so both families can share a port.
///
/// # Errors
/// The address is taken or not there.
pub fn listen(namespace: &Namespace, address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener: TcpListener = namespace.within(|| {
        use nix::sys::socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
        };
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = socket(family, SockType::Stream, flags, None)?;
        setsockopt(&made, sockopt::ReuseAddr, &true)?;
        if address.is_ipv6() {
            setsockopt(&made, sockopt::Ipv6V6Only, &true)?;
        }
        bind(std::os::fd::AsRawFd::as_raw_fd(&made), &SockaddrStorage::from(address))?;
        listen(&made, Backlog::new(4096)?)?;
        Ok(TcpListener::from(made))
    })?;
    tokio::net::TcpListener::from_std(listener)
}

/// Takes datagrams on `address` inside `namespace`.
///
/// # Errors
/// The address is taken or not there.
pub fn listen_udp(namespace: &Namespace, address: SocketAddr) -> io::Result<UdpSocket> {
    let made = namespace.within(|| std::net::UdpSocket::bind(address))?;
    made.set_nonblocking(true)?;
    UdpSocket::from_std(made)
}

/// A socket inside `namespace` that takes datagrams from `server` only.
///
/// # Errors
/// The network's own.
pub async fn ask(namespace: &Namespace, server: SocketAddr) -> io::Result<UdpSocket> {
    let any = if server.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0_u16; 8], 0)) };
    let socket = listen_udp(namespace, any)?;
    socket.connect(server).await?;
    Ok(socket)
}

/// Whether nobody has bound `port` in `namespace`, on whatever address. [`listen`] would not notice somebody who has bound
/// it and does not listen yet.
pub fn is_nobodys(namespace: &Namespace, port: u16) -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
    let bound = namespace.within(|| {
        // A machine without IPv6 has nobody there.
        let any_v6 = SocketAddr::from(([0_u16; 8], port));
        for (family, any) in [(AddressFamily::Inet, ([0; 4], port).into()), (AddressFamily::Inet6, any_v6)] {
            for kind in [SockType::Stream, SockType::Datagram] {
                let Ok(made) = socket(family, kind, SockFlag::SOCK_CLOEXEC, None) else { continue };
                bind(std::os::fd::AsRawFd::as_raw_fd(&made), &SockaddrStorage::from(any))?;
            }
        }
        Ok(())
    });
    bound.is_ok()
}

/// Connects to `destination` from inside `namespace`.
///
/// # Errors
/// The network's own, or [`io::ErrorKind::TimedOut`] after [`DIAL_LIMIT`].
pub async fn dial(namespace: &Namespace, OriginalDst(destination): OriginalDst) -> io::Result<TcpStream> {
    let socket = namespace.within(|| if destination.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() })?;
    tokio::time::timeout(DIAL_LIMIT, socket.connect(destination))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// How long a backend may take to answer a connect. Shorter than most clients' own limit, so they hear our reason.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
