//! Listeners that an earlier gateway left: handed over by it, or kept by the service manager.

use std::{
    collections::BTreeMap,
    net::TcpListener as StdListener,
    os::fd::{AsRawFd, OwnedFd},
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::TcpListener;

use crate::net::{Namespace, NamespaceId};

/// By network namespace.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// The gateway's own: IPv4, then IPv6 if there is one.
    pub(super) own: Option<(TcpListener, Option<TcpListener>)>,
    /// Those of workloads.
    pub(super) others: Vec<(Namespace, Vec<TcpListener>)>,
}

impl Inherited {
    /// Sorts `descriptors`. What is no listening TCP socket is closed, and so are listeners on another port than those
    /// in the gateway's own namespace: the kernel programs will send nobody there.
    ///
    /// # Errors
    /// The kernel does not say in which namespace a socket is.
    pub(super) fn sort(descriptors: Vec<OwnedFd>) -> Result<Self> {
        let own = Namespace::Own.id().context("the gateway's own network namespace is unknown")?;
        let mut found: BTreeMap<NamespaceId, (Namespace, Vec<TcpListener>)> = BTreeMap::new();
        for listener in descriptors.into_iter().filter_map(listener) {
            let namespace = Namespace::of_socket(&listener).context("a listener does not say where it is")?;
            let listener = TcpListener::from_std(listener).context("cannot accept from an inherited listener")?;
            let id = namespace.id().context("a network namespace without a number")?;
            found.entry(id).or_insert_with(|| (namespace, Vec::new())).1.push(listener);
        }
        let (v4, v6) = found.remove(&own).map(|(_, listeners)| pair(listeners)).unwrap_or_default();
        let Some(v4) = v4 else { return Ok(Self::default()) };
        let ports = [Some(port(&v4)), v6.as_ref().map(port)];
        let mut others: Vec<_> = found.into_values().collect();
        for (_, listeners) in &mut others {
            let (v4, v6) = pair(std::mem::take(listeners));
            listeners.extend(v4.filter(|v4| Some(port(v4)) == ports[0]));
            listeners.extend(v6.filter(|v6| Some(port(v6)) == ports[1]));
        }
        // One that serves IPv6 alone is made again whole.
        others.retain(|(_, listeners)| listeners.first().is_some_and(|first| Some(port(first)) == ports[0]));
        Ok(Self { own: Some((v4, v6)), others })
    }
}

/// A listening TCP socket, ready to wait without blocking.
fn listener(descriptor: OwnedFd) -> Option<StdListener> {
    let listening = getsockopt(&descriptor, sockopt::AcceptConn).unwrap_or(false);
    let listener = StdListener::from(descriptor);
    let usable = listening && listener.local_addr().is_ok() && listener.set_nonblocking(true).is_ok();
    if !usable {
        tracing::warn!(
            descriptor = listener.as_raw_fd(),
            "closed an inherited descriptor that does not listen for TCP"
        );
    }
    usable.then_some(listener)
}

/// The first of each family.
fn pair(listeners: Vec<TcpListener>) -> (Option<TcpListener>, Option<TcpListener>) {
    let is_v4 = |listener: &TcpListener| listener.local_addr().is_ok_and(|addr| addr.is_ipv4());
    let (v4, v6): (Vec<_>, Vec<_>) = listeners.into_iter().partition(is_v4);
    (v4.into_iter().next(), v6.into_iter().next())
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().map_or(0, |addr| addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listeners_are_told_from_other_descriptors_and_sorted_by_family() {
        let v4 = StdListener::bind("127.0.0.1:0").expect("loopback");
        let port = v4.local_addr().expect("it is bound").port();
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
        let inherited = Inherited::sort(vec![file.into(), client.into(), v4.into()]);
        // Without CAP_NET_ADMIN nobody is told where a socket is.
        let Ok(inherited) = inherited else { return assert!(!nix::unistd::geteuid().is_root()) };
        let (v4, v6) = inherited.own.expect("it is in our namespace");
        assert_eq!((super::port(&v4), v6.is_none(), inherited.others.len()), (port, true, 0));
    }
}
