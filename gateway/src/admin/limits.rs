//! How many connections people may have open: the socket is open to everybody, descriptors are not.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        UnixListener, UnixStream,
        unix::{SocketAddr, UCred},
    },
};

use crate::crowd::{Crowd, Place};

/// The socket, with a bound on what each user has open. A connection beyond it is closed at once.
pub(super) struct Limited {
    listener: UnixListener,
    users: Crowd<u32>,
}

/// A connection that counts for as long as it is open.
pub(super) struct Counted {
    stream: UnixStream,
    peer: Option<UCred>,
    _place: Place<u32>,
}

/// Connections of one user: a few terminals that watch.
const PER_USER: usize = 32;

/// Connections of all users together but the superuser, who must always get in.
const TOGETHER: usize = 512;

impl Limited {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, users: Crowd::default() }
    }
}

impl axum::serve::Listener for Limited {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        loop {
            let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
            let peer = stream.peer_cred().ok();
            if let Some(place) = enter(&self.users, uid(peer)) {
                return (Counted { stream, peer, _place: place }, address);
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

fn enter(users: &Crowd<u32>, uid: u32) -> Option<Place<u32>> {
    users.enter(uid, |open| {
        let together: usize = open.iter().filter(|(uid, _)| **uid != 0).map(|(_, count)| count).sum();
        uid == 0 || (open.get(&uid).is_none_or(|count| *count < PER_USER) && together < TOGETHER)
    })
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
        let users = Crowd::default();
        let mut one: Vec<_> = (0..100).filter_map(|_| enter(&users, 1000)).collect();
        assert_eq!(one.len(), PER_USER);
        let others: Vec<_> =
            (0..100_u32).flat_map(|uid| [uid + 2000; 40]).filter_map(|uid| enter(&users, uid)).collect();
        assert_eq!(others.len(), TOGETHER - PER_USER);
        assert!(enter(&users, 5000).is_none() && enter(&users, 0).is_some());
        one.pop();
        let last = enter(&users, 5000);
        assert!(last.is_some() && enter(&users, 5000).is_none());
    }
}
