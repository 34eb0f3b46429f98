//! The client's other sockets: datagrams, listeners, UNIX sockets, io_uring, and kinds that most programs never make.
//!
//! What a call answers is `done`; what fails, fails with the kernel's own word.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            net::{UnixDatagram, UnixStream},
        },
    },
    path::Path,
    ptr,
};

use nix::{libc, sys::socket};

/// Sends one datagram from an unconnected socket of family 4 or 6; `6to4` is an IPv6 socket that sends to a mapped address.
pub(crate) fn send(kind: &str, to: SocketAddr) -> io::Result<String> {
    let own = if kind == "4" { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(own)?.send_to(b"datagram", to)?;
    Ok("done".to_owned())
}

/// Binds and listens: as `tcp`, as `mptcp`, or as `only6`, which takes no IPv4 connections.
pub(crate) fn listen(kind: &str, at: SocketAddr) -> io::Result<TcpListener> {
    const MPTCP: libc::c_int = 262;
    let family = if at.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let fd = made(family, libc::SOCK_STREAM, if kind == "mptcp" { MPTCP } else { 0 })?;
    socket::setsockopt(&fd, socket::sockopt::ReuseAddr, &true)?;
    if kind == "only6" {
        socket::setsockopt(&fd, socket::sockopt::Ipv6V6Only, &true)?;
    }
    socket::bind(fd.as_raw_fd(), &socket::SockaddrStorage::from(at))?;
    socket::listen(&fd, socket::Backlog::new(16)?)?;
    Ok(fd.into())
}

/// Answers the first client of `listener`, as the gateway would.
pub(crate) fn pretend(listener: &TcpListener) -> io::Result<String> {
    let (mut client, _) = listener.accept()?;
    client.write_all(b"stolen")?;
    Ok("done".to_owned())
}

/// Makes a socket by its three numbers and closes it.
pub(crate) fn make(family: &str, kind: &str, protocol: &str) -> io::Result<String> {
    let number = |word: &str| word.parse().expect("a number");
    made(number(family), number(kind), number(protocol)).map(|_| "done".to_owned())
}

/// Connects to a UNIX socket by its path; `@` in front is an abstract name.
pub(crate) fn unix(path: &str) -> io::Result<String> {
    match path.strip_prefix('@') {
        None => UnixStream::connect(path).map(drop)?,
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            let addr = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            UnixStream::connect_addr(&addr).map(drop)?;
        }
    }
    Ok("done".to_owned())
}

/// Sends a datagram to a UNIX socket without connecting.
pub(crate) fn unix_datagram(path: &str) -> io::Result<String> {
    UnixDatagram::unbound()?.send_to(b"x", path)?;
    Ok("done".to_owned())
}

/// As [`unix`], from inside the socket's directory.
pub(crate) fn unix_relative(path: &str) -> io::Result<String> {
    let path = Path::new(path);
    std::env::set_current_dir(path.parent().expect("it is in a directory"))?;
    let name = path.file_name().expect("it has a name");
    unix(std::str::from_utf8(name.as_bytes()).expect("text"))
}

/// Connects with `TCP_FASTOPEN_CONNECT`: the call returns at once, and the first write sends the SYN.
pub(crate) fn fast_open_connect(to: SocketAddr) -> io::Result<TcpStream> {
    let fd = made(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let on: libc::c_int = 1;
    // SAFETY: value and size belong together.
    let answer = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, (&raw const on).cast(), 4)
    };
    checked(answer)?;
    socket::connect(fd.as_raw_fd(), &socket::SockaddrStorage::from(to))?;
    let mut stream = TcpStream::from(fd);
    stream.write_all(b"x")?;
    Ok(stream)
}

/// Connects through io_uring, whose system call is not `connect`.
pub(crate) fn uring(to: SocketAddr) -> io::Result<TcpStream> {
    const SETUP: libc::c_long = 425;
    const ENTER: libc::c_long = 426;
    const CONNECT: u8 = 16;
    const GETEVENTS: libc::c_uint = 1;
    /// Where the kernel maps the submission queue, the completion queue and the entries.
    const PLACES: [libc::off_t; 3] = [0, 0x800_0000, 0x1000_0000];
    const PAGE: usize = 4096;

    let fd = made(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    // `struct io_uring_params`: ten words, and the offsets of the two queues, ten words each.
    let mut parameters = [0_u32; 30];
    // SAFETY: the call fills in the parameters and makes a descriptor.
    let ring = checked(unsafe { libc::syscall(SETUP, 1, parameters.as_mut_ptr()) })?;
    // SAFETY: the call has just made it for us.
    let ring = unsafe { OwnedFd::from_raw_fd(i32::try_from(ring).expect("a descriptor")) };
    let [submitted, completed, entries] = PLACES.map(|place| {
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping, where the kernel likes it. One page holds each queue of one entry.
        let at = unsafe { libc::mmap(ptr::null_mut(), PAGE, rights, flags, ring.as_raw_fd(), place) };
        assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        at.cast::<u8>()
    });
    let storage = socket::SockaddrStorage::from(to);
    let entry = entries.cast::<u64>();
    // SAFETY: offsets and layouts are the kernel's own; the one entry is ours until it is submitted.
    unsafe {
        // Operation and descriptor; the address's length where an offset would be; the address; nothing else.
        entry.write(u64::from(CONNECT) | u64::try_from(fd.as_raw_fd()).expect("a descriptor") << 32);
        entry.add(1).write(u64::from(socket::SockaddrLike::len(&storage)));
        entry.add(2).write(socket::SockaddrLike::as_ptr(&storage) as u64);
        (3..8).for_each(|word| entry.add(word).write(0));
        let offset = |word: usize| parameters[word] as usize;
        // The array's first place names entry 0; the tail says that one is there.
        submitted.add(offset(16)).cast::<u32>().write(0);
        submitted.add(offset(11)).cast::<u32>().write_volatile(1);
        checked(libc::syscall(ENTER, ring.as_raw_fd(), 1, 1, GETEVENTS, 0, 0))?;
        let result = completed.add(offset(25)).cast::<i32>().add(2).read_volatile();
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
    }
    Ok(fd.into())
}

fn made(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes three numbers.
    let fd = checked(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the call has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn checked<T: Into<i64> + Copy>(answer: T) -> io::Result<T> {
    if answer.into() < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
