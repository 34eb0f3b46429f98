//! Two halves as one stream again, which a handshake needs; with what was read of it before, and reading ahead.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::{ReadHalf, WriteHalf};

/// A stream of two halves.
pub(super) struct Joined {
    read: ReadHalf,
    write: WriteHalf,
    /// Read from below and not yet taken.
    ahead: BytesMut,
}

impl Joined {
    /// What is in `prefix` was read already, and comes first.
    pub(super) fn new(read: ReadHalf, write: WriteHalf, prefix: BytesMut) -> Self {
        Self { read, write, ahead: prefix }
    }
}

/// How much is read at once. The library asks for 4 KiB at a time, which is four system calls for one record.
const CHUNK: usize = 64 * 1024;

thread_local! {
    // As in `net`: one for each worker instead of one for each connection. Not the same, since a read through TLS is
    // in the middle of using that one.
    static AHEAD: RefCell<Box<[u8; CHUNK]>> = RefCell::new(Box::new([0; CHUNK]));
}

impl AsyncRead for Joined {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            ready!(AHEAD.with_borrow_mut(|chunk| {
                let mut chunk = ReadBuf::new(&mut chunk[..]);
                ready!(Pin::new(&mut this.read.source).poll_read(cx, &mut chunk))?;
                let (now, later) = chunk.filled().split_at(chunk.filled().len().min(buffer.remaining()));
                buffer.put_slice(now);
                this.ahead.extend_from_slice(later);
                Poll::Ready(io::Result::Ok(()))
            }))?;
            return Poll::Ready(Ok(()));
        }
        let count = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead[..count]);
        this.ahead.advance(count);
        if this.ahead.is_empty() {
            // Give the memory back: most connections are idle most of the time.
            this.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Joined {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().write.sink).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().write.sink).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.write.sink.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write.sink).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write.sink).poll_shutdown(cx)
    }
}
