//! How many connections people may have open: the socket is open to everybody, descriptors are not.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        UnixListener, UnixStream,
        unix::{SocketAddr, UCred},
    },
};

/// The socket, with a bound on what each user has open. A connection beyond it is closed at once.
pub(super) struct Limited {
    listener: UnixListener,
    open: Open,
}

/// A connection that counts for as long as it is open.
pub(super) struct Counted {
    stream: UnixStream,
    peer: Option<UCred>,
    open: Open,
}

/// User id → connections.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<BTreeMap<u32, usize>>>);

/// Connections of one user: a few terminals that watch.
const PER_USER: usize = 32;

/// Connections of all users together but the superuser, who must always get in.
const TOGETHER: usize = 512;

impl Limited {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, open: Open::default() }
    }
}

impl axum::serve::Listener for Limited {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        loop {
            let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
            let peer = stream.peer_cred().ok();
            if self.open.enter(uid(peer)) {
                return (Counted { stream, peer, open: self.open.clone() }, address);
            }
            tracing::debug!(uid = uid(peer), "too many connections to the administration socket: closed one");
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Counted {
    /// Who is at the other end, as the kernel says.
    pub(super) fn peer(&self) -> Option<UCred> {
        self.peer
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.leave(uid(self.peer));
    }
}

impl Open {
    fn enter(&self, uid: u32) -> bool {
        let mut open = self.lock();
        let together: usize = open.iter().filter(|(uid, _)| **uid != 0).map(|(_, count)| count).sum();
        let own = open.entry(uid).or_default();
        let room = uid == 0 || (*own < PER_USER && together < TOGETHER);
        *own += usize::from(room);
        room
    }

    fn leave(&self, uid: u32) {
        let mut open = self.lock();
        if let Some(count) = open.get_mut(&uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&uid);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        // The counts are whole at every point where a holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom the kernel does not name counts as one user.
fn uid(peer: Option<UCred>) -> u32 {
    peer.map_or(u32::MAX, |peer| peer.uid())
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others_and_all_leave_room_for_root() {
        let open = Open::default();
        assert_eq!((0..100).filter(|_| open.enter(1000)).count(), PER_USER);
        assert_eq!(
            (0..100_u32).flat_map(|uid| [uid + 2000; 40]).filter(|uid| open.enter(*uid)).count(),
            TOGETHER - PER_USER
        );
        assert!(!open.enter(5000) && open.enter(0));
        open.leave(1000);
        assert!(open.enter(5000) && !open.enter(5000));
    }
}
