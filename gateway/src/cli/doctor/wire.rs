//! What no library sends: headers by hand, and a connect through io_uring.

use std::{io, os::fd::AsRawFd, time::Duration};

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// A UDP header and what it carries, from port 9 (discard), so that nobody answers.
pub(super) fn udp(to: u16, payload: &[u8], checksum: u16) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a token is short");
    [&9_u16.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &checksum.to_be_bytes(), payload].concat()
}

/// The same in an IPv6 packet from `::1` to `::1`.
pub(super) fn udp_over_ipv6(to: u16, payload: &[u8]) -> Vec<u8> {
    const UDP: u8 = 17;
    const HOPS: u8 = 1;
    let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
    let bare = udp(to, payload, 0);
    let length = u16::try_from(bare.len()).expect("a token is short").to_be_bytes();
    let pseudo = [&loopback[..], &loopback, &[0, 0], &length, &[0, 0, 0, UDP], &bare].concat();
    let checksum = sum(&pseudo);
    [&[0x60, 0, 0, 0][..], &length, &[UDP, HOPS], &loopback, &loopback, &udp(to, payload, checksum)].concat()
}

/// RFC 1071; zero is sent as all ones, since over IPv6 there is no "none".
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !u16::try_from(sum).expect("folded") {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// `ETH_P_IPV6`
const IPV6: u16 = 0x86dd;

/// A socket below all of IP.
pub(super) fn packet_socket() -> io::Result<Socket> {
    Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(IPV6.to_be()))))
}

/// The loopback, as such a socket names it.
pub(super) fn loopback_link() -> io::Result<SockAddr> {
    let index = nix::net::if_::if_nametoindex("lo")?;
    // SAFETY: the closure fills a `sockaddr_ll` into storage that is large enough for every address, and says its length.
    let made = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = u16::try_from(libc::AF_PACKET).expect("a family fits");
            (*link).sll_protocol = IPV6.to_be();
            (*link).sll_ifindex = i32::try_from(index).expect("an index fits");
            (*link).sll_halen = 6;
            *length = u32::try_from(size_of::<libc::sockaddr_ll>()).expect("an address is short");
            Ok(())
        })?
    };
    Ok(made.1)
}

/// Why a ring did not connect.
pub(super) enum Ring {
    /// There are no rings here.
    Absent(String),
    /// The kernel said no, or nobody answered in time.
    Refused(io::Error),
}

/// Connects through io_uring, within `limit`.
pub(super) fn ring_connect(socket: &Socket, to: &SockAddr, limit: Duration) -> Result<(), Ring> {
    use io_uring::{IoUring, opcode, squeue::Flags, types};
    let mut ring = IoUring::new(4).map_err(|error| Ring::Absent(error.to_string()))?;
    let time = types::Timespec::from(limit);
    let connect = opcode::Connect::new(types::Fd(socket.as_raw_fd()), to.as_ptr().cast(), to.len())
        .build()
        .user_data(1)
        .flags(Flags::IO_LINK);
    let timeout = opcode::LinkTimeout::new(&raw const time).build().user_data(2);
    // SAFETY: socket, address and time live until both have completed, which is awaited below.
    let pushed = unsafe { ring.submission().push_multiple(&[connect, timeout]) };
    pushed.map_err(|error| Ring::Absent(error.to_string()))?;
    ring.submit_and_wait(2).map_err(Ring::Refused)?;
    let result = ring.completion().find(|done| done.user_data() == 1).map(|done| done.result());
    match result {
        Some(0..) => Ok(()),
        Some(error) => Err(Ring::Refused(io::Error::from_raw_os_error(-error))),
        None => Err(Ring::Absent("the ring did not answer".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_carries_a_checksum_that_adds_up() {
        let packet = udp_over_ipv6(4711, b"token");
        assert_eq!((packet.len(), packet[6]), (40 + 8 + 5, 17));
        let length = [packet[4], packet[5]];
        let pseudo = [&packet[8..40], &[0, 0], &length[..], &[0, 0, 0, 17], &packet[40..]].concat();
        // With the checksum in it, the sum is all ones, whose complement is sent as all ones.
        assert_eq!(sum(&pseudo), 0xffff);
    }
}
