//! Joins a [`Dialect`] to its [`Gate`]: one task per connection, both directions in one loop.
//!
//! # Correctness
//! While an operation is held nothing behind it is even read as a request, so order is kept; replies to what went
//! before still flow, and the client's hang-up and cancel are seen. Either side's full pipe stops reading from the
//! other, never the whole loop, so two peers that both wait for room cannot lock each other.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::time::{Instant, sleep_until};

use super::{Dialect, Malformed, Preview, Side, Start, Step};
use crate::{
    drain::{self, Drain},
    gate::{Broken, Cleared, Ended, Gate, Held, Insecure, RecordError, Recorded, Reply, Settled, Settling, Unmaskable},
    net::{ReadHalf, tls::Upstream},
    operation::{Frame, Impact},
};

/// Serves one connection to its end.
pub async fn drive<D: Dialect>(dialect: D, client: ReadHalf, gate: Gate, drain: Drain, remind: Duration) {
    let mut driver = Driver {
        dialect,
        gate,
        client: Some(client),
        upstream: None,
        input: BytesMut::new(),
        reply: Reply::default(),
        held: None,
        previewed: Instant::now(),
        wants_preview: false,
        remind,
        draining: false,
    };
    let end = driver.run(drain).await;
    driver.finish(end).await;
}

/// What a client may send ahead of a held or unanswered request, in bytes. Beyond it the client waits, not the memory.
const AHEAD: usize = 64 * 1024;

/// Beyond so many bytes that one side has not taken, the other side is not read.
const HIGH_WATER: usize = 512 * 1024;

/// How long the backend may take to say what a held operation would touch. Its own limits are far below.
const PREVIEW: Duration = Duration::from_secs(10);

/// How long a handshake may take: PostgreSQL's own `authentication_timeout`.
const HANDSHAKE: Duration = Duration::from_secs(60);

struct Driver<D> {
    dialect: D,
    gate: Gate,
    /// `None` after a handshake that failed.
    client: Option<ReadHalf>,
    upstream: Option<ReadHalf>,
    input: BytesMut,
    reply: Reply,
    held: Option<Box<Held>>,
    /// When the backend was last asked what a held operation would touch, and whether it still has to be.
    previewed: Instant,
    wants_preview: bool,
    remind: Duration,
    draining: bool,
}

/// Why a connection ends.
enum End {
    /// Somebody ended it in order; who, for the record.
    Ordered(&'static str),
    /// A person ended it; who and why.
    Told(Arc<str>),
    /// The client's fault.
    Client(Malformed),
    /// The backend's fault, or its bytes could not be masked.
    Backend(Unmaskable),
    /// The backend cannot be reached.
    Unreachable(std::io::Error),
    /// There is no TLS where there must be.
    Insecure(String),
    /// A stream broke.
    Broken(Broken),
    /// The record failed: nothing more may move.
    Record(RecordError),
}

impl From<Malformed> for End {
    fn from(error: Malformed) -> Self {
        Self::Client(error)
    }
}
impl From<Unmaskable> for End {
    fn from(error: Unmaskable) -> Self {
        Self::Backend(error)
    }
}
impl From<Broken> for End {
    fn from(error: Broken) -> Self {
        Self::Broken(error)
    }
}
impl From<Insecure> for End {
    fn from(error: Insecure) -> Self {
        match error {
            Insecure::Handshake(error) => Self::Insecure(error.to_string()),
            Insecure::Broken(broken) => Self::Broken(broken),
            Insecure::Record(error) => Self::Record(error),
        }
    }
}
impl From<RecordError> for End {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

/// What woke the loop.
enum Event {
    Sent,
    Replied,
    BackendClosed,
    Asked,
    ClientClosed,
    Ended(Ended),
    Interrupted,
    Remind,
    HandshakeOver,
    Unanswered,
    Drain,
    Told(Arc<str>),
}

impl<D: Dialect> Driver<D> {
    async fn run(&mut self, mut drain: Drain) -> End {
        let mut told = drain.of_this();
        let mut handshake = Instant::now() + HANDSHAKE;
        let mut remind_at = Instant::now();
        loop {
            if let Err(end) = self.requests().await {
                return end;
            }
            if let Err(end) = self.preview().await {
                return end;
            }
            if self.draining && self.held.is_none() && self.dialect.is_idle() {
                return End::Ordered("the gateway is stopping");
            }
            if self.held.is_none() {
                remind_at = Instant::now() + self.remind;
            }
            let event = match self.event(&mut drain, &mut told, handshake, remind_at).await {
                Ok(event) => event,
                Err(end) => return end,
            };
            let outcome = match event {
                Event::Sent | Event::Asked => Ok(()),
                Event::Replied => self.replied().await,
                Event::BackendClosed => Err(End::Ordered("the backend closed the connection")),
                Event::ClientClosed => Err(End::Ordered("the client closed the connection")),
                Event::Ended(ended) => {
                    // How long people took to let a connection through is not the client's delay.
                    handshake = Instant::now() + HANDSHAKE;
                    self.hold_ended(&ended).await
                }
                Event::Interrupted => self.interrupted().await,
                Event::Remind => {
                    remind_at = Instant::now() + self.remind;
                    self.remind().await
                }
                Event::Unanswered => Err(End::Backend(Unmaskable::Malformed(format!(
                    "it did not say within {} what a held operation would touch",
                    humantime::format_duration(PREVIEW)
                )))),
                Event::HandshakeOver => Err(End::Client(Malformed("the handshake took too long".into()))),
                Event::Told(why) => Err(End::Told(why)),
                Event::Drain => {
                    self.draining = true;
                    Ok(())
                }
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    /// Waits for the next thing to happen, on any side.
    async fn event(
        &mut self,
        drain: &mut Drain,
        told: &mut drain::Ended,
        handshake: Instant,
        remind_at: Instant,
    ) -> Result<Event, End> {
        let (to_client, to_upstream) = self.gate.queued();
        let room = if self.held.is_some() { AHEAD } else { self.dialect.appetite().max(AHEAD) };
        let Self { gate, client, upstream, input, reply, held, dialect, .. } = self;
        let interrupt = dialect.interrupt();
        let is_held = held.is_some();
        // The backend's answer to the gateway's own question comes first: what is released or refused follows it.
        let is_previewing = dialect.is_previewing();
        let unanswered = self.previewed + PREVIEW;
        tokio::select! {
            // A person's word before everything; then what empties buffers before what fills them: memory falls before it rises.
            biased;
            why = told.told() => Ok(Event::Told(why)),
            sent = gate.flush(), if to_client + to_upstream > 0 => { sent?; Ok(Event::Sent) }
            ended = async { held.as_mut().expect("the branch is off without a held operation").ended().await }, if is_held && !is_previewing => Ok(Event::Ended(ended)),
            () = interrupt.notified(), if is_held && !is_previewing => Ok(Event::Interrupted),
            read = async { upstream.as_mut().expect("the branch is off before dialling").read_some(&mut reply.0).await },
                if upstream.is_some() && to_client < HIGH_WATER =>
            {
                match read.map_err(Broken::Upstream)? { 0 => Ok(Event::BackendClosed), _ => Ok(Event::Replied) }
            }
            read = async { client.as_mut().expect("a handshake that fails ends the loop").read_some(input).await }, if input.len() < room && to_upstream < HIGH_WATER => {
                match read.map_err(Broken::Client)? { 0 => Ok(Event::ClientClosed), _ => Ok(Event::Asked) }
            }
            () = sleep_until(remind_at), if is_held => Ok(Event::Remind),
            () = sleep_until(unanswered), if is_previewing => Ok(Event::Unanswered),
            () = sleep_until(handshake), if !dialect.is_established() && !is_held => Ok(Event::HandshakeOver),
            () = drain.signalled(), if !self.draining => Ok(Event::Drain),
        }
    }

    /// Takes requests from the client's bytes for as long as nothing is held.
    async fn requests(&mut self) -> Result<(), End> {
        while self.held.is_none() && self.gate.queued().1 < HIGH_WATER {
            self.gate.renew(&mut self.dialect);
            match self.dialect.request(&mut self.input)? {
                Step::More | Step::Wait => break,
                Step::Submit(operation, frame) => {
                    let judged = self.gate.judge(operation, frame, &self.dialect);
                    match self.gate.settle(judged).await {
                        Settling::Settled(settled) => self.settled(*settled).await?,
                        Settling::Held(held) => {
                            self.held = Some(held);
                            self.wants_preview = true;
                            self.remind().await?;
                        }
                    }
                }
                Step::Forbid(operation, frame, reason) => {
                    let settled = self.gate.forbid(operation, frame, &reason);
                    self.settled(settled).await?;
                }
                Step::Control(what, frame) => {
                    let cleared = self.gate.control(what, &frame).await?;
                    self.forward(cleared).await?;
                }
                Step::Continue(frame) => {
                    let cleared = self.gate.continuation(&frame).await?;
                    self.forward(cleared).await?;
                }
                Step::Answer => self.answer().await?,
                Step::Open => self.open().await,
                Step::StartTls(start) => self.secure_client(start).await?,
                Step::End(why) => {
                    self.answer().await?;
                    return Err(End::Ordered(why));
                }
            }
        }
        if self.input.is_empty() && self.input.capacity() > 0 {
            self.input = BytesMut::new();
        }
        Ok(())
    }

    async fn settled(&mut self, settled: Settled) -> Result<(), End> {
        match self.gate.record(settled).await {
            Recorded::Cleared(cleared) => {
                self.dialect.forwarded();
                self.forward(cleared).await
            }
            Recorded::Refused(refusal) => {
                if let Some((what, frame)) = self.dialect.refused(&refusal) {
                    self.own(what, &frame).await?;
                }
                self.answer().await
            }
        }
    }

    async fn forward(&mut self, cleared: Cleared) -> Result<(), End> {
        if let Some(read) = self.gate.dial().await.map_err(End::Unreachable)? {
            let secured = tokio::time::timeout(HANDSHAKE, self.secure_upstream(read)).await;
            let slow = || End::Insecure("the backend took too long over the TLS handshake".into());
            self.upstream = Some(secured.map_err(|_| slow())??);
        }
        self.gate.forward(cleared).map_err(|error| End::Broken(Broken::Upstream(error)))
    }

    /// The client's side becomes private.
    async fn secure_client(&mut self, start: Start) -> Result<(), End> {
        self.answer().await?;
        let prefix = std::mem::take(&mut self.input);
        if start == Start::Agreed && !prefix.is_empty() {
            return Err(Malformed("bytes follow an encryption request before its answer".into()).into());
        }
        let read = self.client.take().expect("a handshake that fails ends the loop");
        let must_name = start == Start::AtOnce;
        let handshake = self.gate.secure_client(read, prefix, self.dialect.alpn(), must_name);
        let slow = |_| End::Insecure("the client took too long over the TLS handshake".into());
        let (read, secured) = tokio::time::timeout(HANDSHAKE, handshake).await.map_err(slow)??;
        self.client = Some(read);
        self.dialect.secured(Side::Client, &secured);
        Ok(())
    }

    /// The backend's side becomes private, as the resource says and the backend can.
    async fn secure_upstream(&mut self, mut read: ReadHalf) -> Result<ReadHalf, End> {
        let wanted = self.gate.tls().upstream();
        if wanted == Upstream::Disable {
            return Ok(read);
        }
        let Some(ask) = self.dialect.ask_for_tls() else { return Ok(read) };
        let cleared = self.gate.control("asks the backend for TLS", &ask).await?;
        self.gate.forward(cleared).map_err(Broken::Upstream)?;
        while self.gate.queued().1 > 0 {
            self.gate.flush().await?;
        }
        let mut answer = BytesMut::new();
        if read.read_some(&mut answer).await.map_err(Broken::Upstream)? == 0 {
            return Err(End::Insecure("the backend hung up when it was asked for TLS".into()));
        }
        if self.dialect.answered_tls(&answer)? {
            let (read, secured) = self.gate.secure_upstream(read, self.dialect.alpn()).await?;
            self.dialect.secured(Side::Backend, &secured);
            return Ok(read);
        }
        match wanted {
            Upstream::Prefer => Ok(read),
            _ => Err(End::Insecure(
                "the backend has no TLS, and the resource's `tls: { upstream: … }` requires it".into(),
            )),
        }
    }

    /// Something that the gateway itself asks of the backend: recorded like everything else.
    async fn own(&mut self, what: &'static str, frame: &Frame) -> Result<(), End> {
        let cleared = self.gate.control(what, frame).await?;
        self.forward(cleared).await
    }

    /// Hands the dialect the credential that it needs. Its key may be far away: the vault bounds how long that takes, and
    /// only this connection waits.
    async fn open(&mut self) {
        if let Some(name) = self.dialect.needs() {
            let opened = self.gate.open_credential(name).await.map_err(|error| error.to_string());
            self.dialect.opened(opened);
        }
    }

    async fn replied(&mut self) -> Result<(), End> {
        self.open().await;
        let (masked, exchange) = self.gate.mask(&mut self.reply, &mut self.dialect)?;
        let deliverable = self.gate.record_reply(masked).await?;
        self.gate.deliver(deliverable).map_err(Broken::Client)?;
        if self.reply.0.is_empty() && self.reply.0.capacity() > 0 {
            self.reply = Reply::default();
        }
        if let (Some(impact), Some(held)) = (exchange.impact, &self.held) {
            self.gate.previewed(held, impact);
        }
        if let Some((what, frame)) = exchange.own {
            let cleared = self.gate.control(what, &frame).await?;
            self.gate.forward(cleared).map_err(Broken::Upstream)?;
        }
        Ok(())
    }

    async fn answer(&mut self) -> Result<(), End> {
        let masked = self.gate.answers(&mut self.dialect);
        let deliverable = self.gate.record_reply(masked).await?;
        self.gate.deliver(deliverable).map_err(Broken::Client)?;
        Ok(())
    }

    async fn remind(&mut self) -> Result<(), End> {
        if let Some(held) = &self.held {
            self.dialect.holding(&held.notice());
        }
        self.answer().await
    }

    /// While an operation waits for people: asks the backend what it would touch, once nothing else is under way.
    async fn preview(&mut self) -> Result<(), End> {
        let Some(held) = self.held.as_ref().filter(|_| self.wants_preview) else { return Ok(()) };
        match self.dialect.preview() {
            Preview::Later => return Ok(()),
            Preview::Never(why) => self.gate.previewed(held, Impact::unknown(&why)),
            Preview::Ask(what, frame) => {
                self.previewed = Instant::now();
                self.own(what, &frame).await?;
            }
        }
        self.wants_preview = false;
        Ok(())
    }

    async fn hold_ended(&mut self, ended: &Ended) -> Result<(), End> {
        let held = self.held.take().expect("only a held operation ends its hold");
        let settled = held.released(self.gate.connection(), ended);
        self.settled(settled).await
    }

    async fn interrupted(&mut self) -> Result<(), End> {
        let held = self.held.take().expect("only a held operation is interrupted");
        self.settled(held.withdrawn("cancelled by the client")).await
    }

    /// Says farewell as the end deserves, and closes.
    async fn finish(mut self, end: End) {
        // What nobody waits for any more is withdrawn and refused before the connection's end is recorded.
        if let Some(held) = self.held.take() {
            let _ = self.gate.record(held.withdrawn("the connection ended while it was held")).await;
        }
        let (reason, incident, farewell) = match end {
            End::Ordered(why) => (why.to_owned(), false, (why == "the gateway is stopping").then(|| why.to_owned())),
            End::Told(why) => (why.to_string(), false, Some(why.to_string())),
            End::Client(error) => (error.to_string(), true, Some(error.to_string())),
            End::Backend(error) => (error.to_string(), true, Some(error.to_string())),
            End::Unreachable(error) => {
                let why = format!("the backend cannot be reached: {error}");
                (why.clone(), true, Some(why))
            }
            // A client whose handshake failed hears nothing more; one whose backend's failed does.
            End::Insecure(why) => (why.clone(), true, self.client.is_some().then_some(why)),
            End::Broken(error) => (error.to_string(), false, None),
            End::Record(error) => {
                let why = format!("the gateway cannot record, so it moves nothing: {error}");
                (why.clone(), true, Some(why))
            }
        };
        if incident {
            self.gate.incident(&reason);
        }
        if let Some(farewell) = farewell {
            self.dialect.farewell(&farewell);
            // Even the farewell is recorded first; where the record is what failed, the client gets none.
            let _ = self.answer().await;
        }
        self.gate.close(&reason).await;
    }
}
