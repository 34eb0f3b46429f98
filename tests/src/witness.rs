//! A governed destination that tells who came to it directly.
//!
//! The lab's clients bind [`CLIENT`] before they connect, and the gateway dials from the address that the kernel picks:
//! so whoever arrives from [`CLIENT`] has not come through the gateway. It speaks as much of PostgreSQL as letting
//! everybody in and answering every statement takes, and has no catalog: its resources say `classify: text`.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
};

use crate::{Net, flood, wire};

/// From where clients connect; every loopback has it.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Some listeners, each by the name of its place.
#[derive(Debug)]
pub struct Witness {
    runtime: Runtime,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    direct: u64,
    proxied: u64,
    /// Statement → the places at which it arrived.
    statements: BTreeMap<String, Vec<String>>,
}

impl Default for Witness {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { runtime: runtime.expect("threads can be started"), seen: Arc::default() }
    }
}

impl Witness {
    /// Listens at 127.0.0.1 in `net`, or in the test's own namespace, until the witness is dropped. `port` 0 is any.
    /// Says at which port.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn listen(&self, place: &str, net: Option<&Net>, port: u16) -> u16 {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
        let listener = net.map_or_else(bind, |net| net.within(bind));
        // With the usual 128 places a burst would let the gateway wait a second for its next attempt.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096).expect("a length")).expect("a socket");
        listener.set_nonblocking(true).expect("a socket");
        let bound = listener.local_addr().expect("it is bound").port();
        let (seen, place) = (Arc::clone(&self.seen), place.to_owned());
        self.runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket that does not block");
            loop {
                // Out of descriptors, or a client that has gone.
                let Ok((stream, peer)) = listener.accept().await else { continue };
                match peer.ip() == IpAddr::V4(CLIENT) {
                    true => locked(&seen).direct += 1,
                    false => locked(&seen).proxied += 1,
                }
                let (seen, place) = (Arc::clone(&seen), place.clone());
                tokio::spawn(async move { serve(stream, &seen, &place).await });
            }
        });
        bound
    }

    /// How many connections came past the gateway.
    pub fn direct(&self) -> u64 {
        locked(&self.seen).direct
    }

    /// How many came through it.
    pub fn proxied(&self) -> u64 {
        locked(&self.seen).proxied
    }

    /// Every statement, and at which places it arrived.
    pub fn statements(&self) -> BTreeMap<String, Vec<String>> {
        locked(&self.seen).statements.clone()
    }
}

/// Peers end as they like; what was said before counts.
async fn serve(mut stream: TcpStream, seen: &Mutex<Seen>, place: &str) -> io::Result<()> {
    loop {
        let length = usize::try_from(stream.read_u32().await?).unwrap_or(0);
        let mut startup = vec![0; length.saturating_sub(4).min(4096)];
        stream.read_exact(&mut startup).await?;
        if startup != wire::ssl_request()[4..] {
            break;
        }
        // It has no TLS.
        stream.write_all(b"N").await?;
    }
    stream.write_all(&flood::welcome()).await?;
    let mut bytes = Vec::new();
    loop {
        while let Some(message) = wire::take(&mut bytes) {
            if message.kind == b'Q' {
                let statement = message.text().trim_end_matches('\0').to_owned();
                locked(seen).statements.entry(statement).or_default().push(place.to_owned());
                let answer = [wire::message(b'C', &wire::text("SELECT 0")), wire::message(b'Z', b"I")].concat();
                stream.write_all(&answer).await?;
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("no task panics with this lock")
}
