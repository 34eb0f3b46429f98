//! A backend that is not to be trusted: it answers with whatever the test makes up.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{flood, wire};

/// What it says on connection number *n*.
type Script = dyn Fn(u64) -> Vec<u8> + Send + Sync;

/// What it does once it has said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Closes.
    HangUp,
    /// Listens until the other side closes.
    Listen,
}

/// A listener on a free loopback port. Ends when dropped.
#[derive(Debug)]
pub struct FakeBackend {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
}

/// What it says when it is asked for TLS.
type TlsAnswer = &'static [u8];

impl FakeBackend {
    /// Starts; on each connection it reads what comes first, sends the script's bytes, and closes.
    pub fn start(script: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::listen(script, Then::HangUp, b"N")
    }

    /// Starts one that lets everybody in as PostgreSQL would, and then listens: a backend that costs next to nothing.
    pub fn welcoming() -> Self {
        Self::listen(|_| flood::welcome(), Then::Listen, b"N")
    }

    /// Starts one that answers the request for TLS with `answer`, and lets everybody in who goes on after that.
    pub fn answering_tls(answer: &'static [u8]) -> Self {
        Self::listen(|_| flood::welcome(), Then::Listen, answer)
    }

    fn listen(script: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static, then: Then, tls: TlsAnswer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let addr = listener.local_addr().expect("it is bound");
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let listener = Arc::new(listener);
        let script: Arc<Script> = Arc::new(script);
        for _ in 0..WORKERS {
            let (listener, script) = (Arc::clone(&listener), Arc::clone(&script));
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    serve(stream, &*script, then, tls, served.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        Self { addr, stop, served }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// How many connections it has had.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for FakeBackend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for _ in 0..WORKERS {
            // Wakes a worker that waits for a connection.
            let _gone = TcpStream::connect(self.addr);
        }
    }
}

/// Peers misbehave here on both sides, so errors are part of the game.
fn serve(mut stream: TcpStream, script: &Script, then: Then, tls: TlsAnswer, number: u64) {
    let _bounded = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut chunk = [0; 4096];
    match stream.read(&mut chunk) {
        Ok(count) if chunk[..count] == wire::ssl_request() => {
            let answered = stream.write_all(tls);
            if answered.is_err() || !matches!(stream.read(&mut chunk), Ok(1..)) {
                return;
            }
        }
        Ok(1..) => {}
        _ => return,
    }
    let _closed = stream.write_all(&script(number)).and_then(|()| match then {
        Then::HangUp => stream.shutdown(Shutdown::Write),
        Then::Listen => Ok(()),
    });
    while let Ok(1..) = stream.read(&mut chunk) {}
}

/// More than the gateway has connections open at once in the flood, so that none waits for another.
const WORKERS: usize = 24;
