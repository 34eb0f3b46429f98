//! Sockets made inside a stated network namespace, from outside it.
//!
//! A namespace belongs to a thread, so a socket for another one is made by a thread that enters it. Listeners, which are
//! rare, have a thread each that ends; for dialling one thread goes from namespace to namespace. The socket stays in the
//! namespace in which it was made, whoever uses it.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    sync::{Arc, OnceLock, mpsc},
    time::Duration,
};

use nix::{
    libc,
    sched::{CloneFlags, setns},
};
use serde::Serialize;
use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    sync::oneshot,
};

use super::{Claim, OriginalDst};

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

    /// The one in which a socket was made.
    ///
    /// # Errors
    /// The kernel does not say (it wants `CAP_NET_ADMIN` there).
    pub fn of_socket(socket: &impl AsFd) -> io::Result<Self> {
        /// `SIOCGSKNS`
        const NAMESPACE_OF_SOCKET: libc::Ioctl = 0x894c;
        // SAFETY: the call takes no argument.
        let fd = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), NAMESPACE_OF_SOCKET) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(Self::Other(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// A new one with nothing in it, for as long as this lives.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn fresh() -> io::Result<Self> {
        let made = std::thread::spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
            Self::open(Path::new("/proc/thread-self/ns/net"))
        });
        made.join().unwrap_or_else(|_| Err(io::Error::other("the thread that made it panicked")))
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
            // It may have gone to another one between the two.
            && let Ok(id) = namespace.id()
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

/// Takes datagrams on `address` inside `namespace`. Another gateway of the same user may have the address as well: one
/// that is about to end, and that is given its share until then.
///
/// # Errors
/// The address is taken or not there.
pub fn listen_udp(namespace: &Namespace, address: SocketAddr) -> io::Result<UdpSocket> {
    let made = namespace.within(|| {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    })?;
    UdpSocket::from_std(made.into())
}

/// A socket inside `namespace` that takes datagrams from `server` only, and that `claim` has seen.
///
/// # Errors
/// The network's own.
pub async fn ask(namespace: &Namespace, server: SocketAddr, claim: &Claim) -> io::Result<UdpSocket> {
    let any = if server.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0_u16; 8], 0)) };
    let make = move || {
        let made = std::net::UdpSocket::bind(any)?;
        made.set_nonblocking(true)?;
        Ok(made)
    };
    let made = match namespace {
        Namespace::Own => make()?,
        Namespace::Other(inside) => visit(inside.clone(), make).await?,
    };
    claim(made.as_fd())?;
    let socket = UdpSocket::from_std(made)?;
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

/// From where to where the kernel picks ports by itself (`net.ipv4.ip_local_port_range`), in the gateway's own namespace.
pub fn automatic_ports() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut words = text.split_ascii_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

/// Connects to `destination` from inside `namespace`, once `claim` has seen the socket.
///
/// # Errors
/// The network's own, or [`io::ErrorKind::TimedOut`] after [`DIAL_LIMIT`].
pub async fn dial(
    namespace: &Namespace,
    OriginalDst(destination): OriginalDst,
    claim: &Claim,
) -> io::Result<TcpStream> {
    let make = move || if destination.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = match namespace {
        Namespace::Own => make()?,
        Namespace::Other(inside) => visit(inside.clone(), make).await?,
    };
    claim(socket.as_fd())?;
    tokio::time::timeout(DIAL_LIMIT, socket.connect(destination))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// How long a backend may take to answer a connect. Shorter than most clients' own limit, so they hear our reason.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// Lets the traveller enter `inside` and `make` something there that does not wait. No thread of the runtime is kept.
async fn visit<T: Send + 'static>(
    inside: Arc<OwnedFd>,
    make: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let gone = || io::Error::other("the thread that enters network namespaces has ended");
    let (done, made) = oneshot::channel();
    // Whoever hung up does not want it, and it is closed with the answer.
    let make = Box::new(move |entered: io::Result<()>| _ = done.send(entered.and_then(|()| make())));
    traveller()?.send(Visit { inside, make }).map_err(|_| gone())?;
    made.await.map_err(|_| gone())?
}

struct Visit {
    inside: Arc<OwnedFd>,
    make: Box<dyn FnOnce(io::Result<()>) + Send>,
}

/// The thread that makes sockets for dialling: started with the first one. Entering costs it a few microseconds; a
/// thread for each socket cost a hundred.
fn traveller() -> io::Result<&'static mpsc::Sender<Visit>> {
    static TRAVELLER: OnceLock<Result<mpsc::Sender<Visit>, io::ErrorKind>> = OnceLock::new();
    let started = TRAVELLER.get_or_init(|| {
        let (ask, visits) = mpsc::channel();
        let home = std::fs::File::open("/proc/thread-self/ns/net").map_err(|error| error.kind())?;
        let travel = move || travel(&home, &visits);
        std::thread::Builder::new().name("traveller".into()).spawn(travel).map_err(|error| error.kind())?;
        Ok(ask)
    });
    started.as_ref().map_err(|kind| io::Error::from(*kind))
}

fn travel(home: &std::fs::File, visits: &mpsc::Receiver<Visit>) {
    while let Ok(first) = visits.recv() {
        let mut next = Some(first);
        while let Some(Visit { inside, make }) = next {
            make(setns(&*inside, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
            next = visits.try_recv().ok();
        }
        // Home again, since a thread inside would keep a namespace alive that everybody else has left. Where that fails
        // nothing is lost but this: each visit enters its own.
        let _stays = setns(home, CloneFlags::CLONE_NEWNET);
    }
}
