//! Byte streams, and addresses with a role: what is read from and written to, never what it means.
//!
//! Two rules live here. A stream is split once into a [`ReadHalf`] and a [`WriteHalf`]; write halves go to the gate
//! and nowhere else. And every socket is made in a stated network [`Namespace`], because the listeners and the
//! upstream connections of a workload belong to the workload's namespace.

use std::{
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub mod http;
pub mod keep;
pub mod link;
pub mod namespace;
pub mod tls;

pub use link::{HostSide, host_sides};
pub use namespace::{Namespace, NamespaceId, ask, automatic_ports, dial, is_nobodys, listen, listen_udp};

/// Where a guarded client's connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddr(pub SocketAddr);

/// Where a guarded client meant to go, as the kernel saw it at connect. The gateway dials this and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OriginalDst(pub SocketAddr);

/// The receiving half of a stream.
pub struct ReadHalf {
    source: Box<dyn AsyncRead + Send + Unpin>,
    /// Whether it is TLS.
    private: bool,
}

/// The sending half of a stream, with what is still to be sent.
///
/// Bytes are queued first and flushed when the peer takes them, so that a peer that does not read never keeps the
/// gateway from reading the other side: two full pipes cannot wait for each other.
pub struct WriteHalf {
    sink: Box<dyn AsyncWrite + Send + Unpin>,
    queued: BytesMut,
    /// Whether the sink may hold bytes back: TLS does, while the peer takes none.
    unflushed: bool,
}

/// Splits a TCP stream. Small writes are sent at once: operations and answers are small and somebody waits for them.
pub fn split_tcp(stream: tokio::net::TcpStream) -> io::Result<(ReadHalf, WriteHalf)> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok((ReadHalf { source: Box::new(read), private: false }, WriteHalf::new(Box::new(write))))
}

/// Splits any stream (TLS, a test's in-memory pipe).
pub fn split<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> (ReadHalf, WriteHalf) {
    let (read, write) = tokio::io::split(stream);
    (ReadHalf { source: Box::new(read), private: false }, WriteHalf::new(Box::new(write)))
}

/// How much one read takes at most, in bytes. One page run of a busy socket; measured on a 1 GiB result, more gains nothing.
const READ_CHUNK: usize = 64 * 1024;

thread_local! {
    // One buffer per worker thread instead of one per connection: an idle connection then holds no read buffer at all.
    static SCRATCH: std::cell::RefCell<Box<[u8; READ_CHUNK]>> = std::cell::RefCell::new(Box::new([0; READ_CHUNK]));
}

impl ReadHalf {
    /// Appends what is there to `buffer` and says how many bytes that were; 0 is the end of the stream.
    ///
    /// Cancel safe: a dropped future has taken nothing.
    ///
    /// # Errors
    /// The stream's own.
    pub async fn read_some(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            SCRATCH.with(|scratch| {
                let mut scratch = scratch.borrow_mut();
                let mut chunk = ReadBuf::new(&mut scratch[..]);
                let read = if self.private {
                    self.poll_records(cx, &mut chunk)
                } else {
                    Pin::new(&mut self.source).poll_read(cx, &mut chunk)
                };
                read.map_ok(|()| {
                    buffer.extend_from_slice(chunk.filled());
                    chunk.filled().len()
                })
            })
        })
        .await
    }

    /// TLS gives one record at a time; behind a full one there is likely another.
    fn poll_records(&mut self, cx: &mut Context<'_>, chunk: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let before = chunk.filled().len();
            match Pin::new(&mut self.source).poll_read(cx, chunk) {
                // What was read before goes out first: the next read meets the same end.
                Poll::Pending | Poll::Ready(Err(_)) if before > 0 => return Poll::Ready(Ok(())),
                // A peer that hangs up without saying so inside TLS has hung up. What it left unfinished is no message.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if chunk.filled().len() - before >= FULL_RECORD && chunk.remaining() > 0 => {}
                read => return read,
            }
        }
    }
}

/// A TLS record of about so many bytes is a full one.
const FULL_RECORD: usize = 16_000;

impl WriteHalf {
    fn new(sink: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self { sink, queued: BytesMut::new(), unflushed: false }
    }

    /// One that leads nowhere: in the place of a half whose stream is being changed.
    pub fn closed() -> Self {
        Self::new(Box::new(tokio::io::sink()))
    }

    /// How many bytes wait to be sent. What the sink holds back counts as one more.
    pub fn queued(&self) -> usize {
        self.queued.len() + usize::from(self.unflushed)
    }

    /// Queues `bytes`.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        self.queued.extend_from_slice(bytes);
    }

    /// Sends part of what is queued; pending while nothing is. Cancel safe.
    ///
    /// # Errors
    /// The stream's own.
    pub async fn flush_some(&mut self) -> io::Result<()> {
        if !self.queued.is_empty() {
            return self.write_once().await;
        }
        if !self.unflushed {
            return std::future::pending().await;
        }
        std::future::poll_fn(|cx| Pin::new(&mut self.sink).poll_flush(cx)).await?;
        self.unflushed = false;
        Ok(())
    }

    /// Sends what can be sent without waiting: on the common path this saves a turn through the scheduler.
    ///
    /// # Errors
    /// The stream's own.
    pub fn flush_now(&mut self) -> io::Result<()> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while !self.queued.is_empty() {
            match Pin::new(&mut self.sink).poll_write(&mut cx, &self.queued) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(sent)) => self.sent(sent),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        if self.queued.is_empty() && self.unflushed {
            match Pin::new(&mut self.sink).poll_flush(&mut cx) {
                Poll::Pending => {}
                Poll::Ready(flushed) => {
                    flushed?;
                    self.unflushed = false;
                }
            }
        }
        Ok(())
    }

    /// Sends everything and ends the stream.
    ///
    /// # Errors
    /// The stream's own.
    pub async fn finish(&mut self) -> io::Result<()> {
        while !self.queued.is_empty() {
            self.write_once().await?;
        }
        std::future::poll_fn(|cx| Pin::new(&mut self.sink).poll_shutdown(cx)).await
    }

    async fn write_once(&mut self) -> io::Result<()> {
        let sent = std::future::poll_fn(|cx| Pin::new(&mut self.sink).poll_write(cx, &self.queued)).await?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.sent(sent);
        Ok(())
    }

    fn sent(&mut self, count: usize) {
        self.queued.advance(count);
        self.unflushed = true;
        if self.queued.is_empty() {
            // Give the memory back: most connections are idle most of the time.
            self.queued = BytesMut::new();
        }
    }
}

/// Dials one connection's backend, when and only when the first byte goes there: a held connection then costs one descriptor.
#[derive(Clone)]
pub struct Dialer(Arc<dyn Fn() -> DialFuture + Send + Sync>);

/// Makes a socket known for the gateway's own before it connects.
pub type Claim = Arc<dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync>;

/// What a [`Dialer`] gives: both halves, or why not.
pub type DialFuture = Pin<Box<dyn Future<Output = io::Result<(ReadHalf, WriteHalf)>> + Send>>;

impl Dialer {
    /// Dials `destination` from inside `namespace`, with a socket that `claim` has seen.
    pub fn tcp(namespace: Namespace, destination: OriginalDst, claim: Claim) -> Self {
        Self(Arc::new(move || {
            let (namespace, claim) = (namespace.clone(), claim.clone());
            Box::pin(async move { split_tcp(dial(&namespace, destination, &claim).await?) })
        }))
    }

    /// Whatever `connect` makes; for tests over in-memory pipes.
    pub fn new(connect: impl Fn() -> DialFuture + Send + Sync + 'static) -> Self {
        Self(Arc::new(connect))
    }

    /// Dials.
    ///
    /// # Errors
    /// The network's own.
    pub async fn dial(&self) -> io::Result<(ReadHalf, WriteHalf)> {
        (self.0)().await
    }
}
