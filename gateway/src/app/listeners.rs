//! The listeners to which intercepted connections are sent.
//!
//! # Security
//!
//! While the gateway is away its port is free. The kernel programs keep guarded processes from binding it, but they do not
//! see a port that the kernel picks by itself, as `listen` without `bind` makes it do, nor one that was bound before and
//! waits to be listened on. So the gateway picks one outside the range from which the kernel picks, and one that nobody
//! has bound.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpListener;

use crate::{
    config::Config,
    net::{Namespace, automatic_ports, is_nobodys, listen},
};

/// Listens on both loopback addresses; without the second where the machine has no IPv6. `last` are the ports of the gateway
/// before, to which pinned programs still send connections, or 0.
pub(super) fn open(namespace: &Namespace, port: u16, last: [u16; 2]) -> Result<(TcpListener, Option<TcpListener>)> {
    let automatic = automatic_ports();
    if port != 0 && automatic.is_some_and(|(low, high)| (low..=high).contains(&port)) {
        tracing::warn!(
            port,
            "the kernel gives this port out by itself, so while no gateway runs a guarded process may come to listen on it: \
             set `port:` to one outside net.ipv4.ip_local_port_range"
        );
    }
    let v4 = one(namespace, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), last[0], automatic)?;
    let v6 = one(namespace, SocketAddr::from((Ipv6Addr::LOCALHOST, port)), last[1], automatic);
    match v6 {
        Err(error) if kind(&error) == Some(io::ErrorKind::AddrNotAvailable) => {
            tracing::warn!("this machine has no IPv6 loopback: guarded IPv6 connections are refused");
            Ok((v4, None))
        }
        v6 => Ok((v4, Some(v6?))),
    }
}

/// The ports of the gateway before, where its programs are still pinned; else zeros.
pub(super) fn last(config: &Config) -> [u16; 2] {
    let pinned = std::fs::read_dir(config.bpffs.join("links")).is_ok_and(|mut links| links.next().is_some());
    let text = std::fs::read_to_string(config.run.join(PORTS)).unwrap_or_default();
    let mut ports = text.split_ascii_whitespace().map(|port| port.parse().unwrap_or(0));
    if pinned { [ports.next().unwrap_or(0), ports.next().unwrap_or(0)] } else { [0; 2] }
}

/// Keeps the ports for the gateway after this one. Without them it takes others, and refuses until it has told the kernel.
pub(super) fn remember(config: &Config, [v4, v6]: [u16; 2]) {
    if let Err(error) = std::fs::write(config.run.join(PORTS), format!("{v4} {v6}\n")) {
        tracing::warn!(%error, "cannot keep the ports for the next start");
    }
}

/// The file with the ports, in the run directory: like the pins it does not outlive the machine's uptime.
const PORTS: &str = "ports";

fn one(
    namespace: &Namespace,
    mut address: SocketAddr,
    last: u16,
    automatic: Option<(u16, u16)>,
) -> Result<TcpListener> {
    if address.port() == 0 && last != 0 {
        // Nobody was asked whether the port is free: connections of the gateway before linger there. Guarded processes
        // could not bind it meanwhile, since its programs are pinned.
        address.set_port(last);
        match listen(namespace, address) {
            Err(error) => tracing::info!(%error, port = last, "the port of the gateway before is not to be had"),
            done => return done.with_context(|| format!("cannot listen on {address}")),
        }
        address.set_port(0);
    }
    if address.port() == 0 {
        for port in candidates(automatic)?.into_iter().filter(|port| is_nobodys(namespace, *port)) {
            address.set_port(port);
            match listen(namespace, address) {
                Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {}
                done => return done.with_context(|| format!("cannot listen on {address}")),
            }
        }
        tracing::warn!("no port is free outside net.ipv4.ip_local_port_range: taking one that the kernel picks");
        address.set_port(0);
    }
    match listen(namespace, address) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
            "cannot listen on {address}: {error}; if this process is in a cgroup that an earlier gateway guards, start it \
             outside, or set `port:` to another"
        ),
        done => done.with_context(|| {
            format!("cannot listen on {address}; if another program has the port, set `port:` to a free one, or to 0 for any")
        }),
    }
}

/// Some ports outside the range from which the kernel picks, chosen by chance so that gateways do not meet.
fn candidates(automatic: Option<(u16, u16)>) -> Result<Vec<u16>> {
    let Some((low, _)) = automatic else { return Ok(Vec::new()) };
    let first = low.saturating_sub(BELOW).max(FIRST);
    let count = low.saturating_sub(first);
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut chance = [0; 2 * TRIES];
    getrandom::fill(&mut chance).context("no random numbers for a port")?;
    let ports = chance.chunks_exact(2).map(|two| first + u16::from_ne_bytes([two[0], two[1]]) % count);
    Ok(ports.collect())
}

fn kind(error: &anyhow::Error) -> Option<io::ErrorKind> {
    error.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// How far below the kernel's range a port may be: away from the small numbers, which services have.
const BELOW: u16 = 8192;
/// Ports below this one are for services.
const FIRST: u16 = 1024;
/// Far more than can be taken by chance.
const TRIES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_outside_what_the_kernel_picks_and_nobodys() {
        for port in candidates(Some((32768, 60999))).expect("there is chance") {
            assert!((32768 - BELOW..32768).contains(&port), "{port}");
        }
        assert!(candidates(Some((1024, 65535))).expect("there is chance").is_empty());
        // Bound by somebody who would let it be shared, and who does not listen yet.
        use nix::sys::socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, bind, getsockname, setsockopt, socket,
        };
        let made = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("a socket");
        setsockopt(&made, nix::sys::socket::sockopt::ReuseAddr, &true).expect("a socket");
        let at = std::os::fd::AsRawFd::as_raw_fd(&made);
        bind(at, &SockaddrStorage::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).expect("loopback");
        let bound: SockaddrStorage = getsockname(at).expect("it is bound");
        let port = bound.as_sockaddr_in().expect("IPv4").port();
        assert!(!is_nobodys(&Namespace::Own, port));
        drop(made);
        assert!(is_nobodys(&Namespace::Own, port));
    }
}
