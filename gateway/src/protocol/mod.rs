//! The languages that bots and backends speak, and the two traits that one language implements.
//!
//! [`Protocol`] is the asynchronous edge: a name, what it claims, how it serves. [`Dialect`] is the synchronous core
//! of a protocol made of frames: bytes in, a closed [`Step`] out; there is no step that passes bytes as they are.
//! [`drive`] joins a dialect to a gate and is the only place that moves bytes for framed protocols.
//!
//! A new protocol is one folder and one line in [`all`].

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::sync::Notify;

use crate::{
    drain::Drain,
    gate::{Credential, Gate, Language, Refusal, Unmaskable},
    mask::Masks,
    net::{ReadHalf, tls::Secured},
    operation::{Frame, Operation, ProtocolName},
};

mod drive;
pub mod postgres;
pub mod reader;
mod stranger;

pub use drive::drive;

/// Every protocol that this gateway speaks.
pub fn all() -> Vec<Arc<dyn Protocol>> {
    vec![Arc::new(postgres::Postgres::new())]
}

/// The protocol of that name.
pub fn named(name: &ProtocolName) -> Option<Arc<dyn Protocol>> {
    all().into_iter().find(|protocol| protocol.name() == *name)
}

/// A protocol's asynchronous edge.
pub trait Protocol: Send + Sync {
    /// Its name in resource files.
    fn name(&self) -> ProtocolName;

    /// Reads its own settings from a resource's untyped sections.
    ///
    /// # Errors
    /// What is wrong with them, for the operator.
    fn check(&self, settings: &serde_json::Map<String, serde_json::Value>) -> Result<(), Wrong>;

    /// Serves one connection to its end.
    fn serve(
        self: Arc<Self>,
        client: ReadHalf,
        gate: Gate,
        drain: Drain,
        remind: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// The operation that `statement` would be on a resource with these masks, for `policy test` and `policy explain`.
    fn operation(&self, statement: &str, masks: &Masks) -> Operation;

    /// Turns recorded responses into lines for people.
    fn renderer(&self) -> Box<dyn Renderer>;
}

/// What is wrong with what a resource says to its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The resource's key that it is about.
    pub section: &'static str,
    /// What is wrong, and what was expected.
    pub message: String,
}

/// Turns a session's recorded responses into lines for people. Stateful: a row is read with the description before it.
pub trait Renderer {
    /// The lines for one recorded response. Never fails: what is not understood is shown as it is, made visible.
    fn response(&mut self, wire: &[u8]) -> Vec<String>;
}

/// How what a held operation would touch is found out.
pub enum Preview {
    /// Not now: something is under way.
    Later,
    /// By this question, with a word for the record.
    Ask(&'static str, Frame),
    /// Not at all, and why; nothing is said where there is nothing to touch.
    Never(String),
}

/// The synchronous core of a protocol made of frames.
pub trait Dialect: Language + Send {
    /// Reads the next thing the client wants. Called again until it answers [`Step::More`] or [`Step::Wait`]; never
    /// while an operation that it submitted is neither [`Dialect::forwarded`] nor [`Dialect::refused`].
    ///
    /// # Errors
    /// The bytes are not the protocol: the connection ends with what [`Language::answers`] then has to say.
    fn request(&mut self, input: &mut BytesMut) -> Result<Step, Malformed>;

    /// The credential that it must be handed before it reads on, on either side.
    fn needs(&self) -> Option<&str> {
        None
    }

    /// What [`Dialect::needs`] named, or why it cannot be had.
    fn opened(&mut self, _opened: Result<Credential, String>) {}

    /// TLS is up with one side.
    fn secured(&mut self, _side: Side, _with: &Secured) {}

    /// What asks a fresh backend for TLS. `None`: this protocol has no such question.
    fn ask_for_tls(&mut self) -> Option<Frame> {
        None
    }

    /// The backend's answer to that, all that came: whether TLS begins now.
    ///
    /// # Errors
    /// It is no answer, or more than one: what follows it in clear must not be taken for what comes through TLS.
    fn answered_tls(&mut self, _answer: &[u8]) -> Result<bool, Unmaskable> {
        Ok(false)
    }

    /// The protocol's word in ALPN.
    fn alpn(&self) -> &'static [u8] {
        b""
    }

    /// The operation just submitted goes to the backend.
    fn forwarded(&mut self);

    /// The operation just submitted does not. What is answered, if anything, goes to the backend in its place, so
    /// that the backend's state is what it would be had it raised the error itself.
    fn refused(&mut self, refusal: &Refusal) -> Option<(&'static str, Frame)>;

    /// The operation just submitted waits for people; the client may be told `notice`.
    fn holding(&mut self, notice: &str);

    /// What the held operation would touch, to be asked of the backend on this connection. Asked again for as long as
    /// the answer is [`Preview::Later`].
    fn preview(&mut self) -> Preview {
        Preview::Never(String::new())
    }

    /// Whether the backend is being asked that: until it has answered, the operation neither moves nor is refused.
    fn is_previewing(&self) -> bool {
        false
    }

    /// The gateway ends the connection; the client may be told why.
    fn farewell(&mut self, why: &str);

    /// Whether nothing is under way: no handshake, no transaction, no unanswered request.
    fn is_idle(&self) -> bool;

    /// Whether the handshake is over.
    fn is_established(&self) -> bool;

    /// How many bytes of client input it may need at once, at most, to make progress.
    fn appetite(&self) -> usize;

    /// Rings when the client cancels what it waits for by other means than its connection.
    fn interrupt(&self) -> Arc<Notify>;
}

/// What a client's bytes mean. Closed on purpose: there is no "pass as is".
#[derive(Debug)]
pub enum Step {
    /// Not a whole request yet.
    More,
    /// The backend must answer something first.
    Wait,
    /// An operation: to be judged.
    Submit(Operation, Frame),
    /// An operation that this protocol never lets through, and why.
    Forbid(Operation, Frame, String),
    /// Handshake or control that by itself makes the backend do nothing; with a word for the record.
    Control(&'static str, Frame),
    /// More bytes of the operation before.
    Continue(Frame),
    /// The dialect has an answer of its own for the client.
    Answer,
    /// It needs a credential, and is asked again once it has been handed it.
    Open,
    /// A handshake with the client begins.
    StartTls(Start),
    /// The client ends the connection; why, for the record.
    End(&'static str),
}

/// How a client's handshake begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The client asked for it, and is told yes with the dialect's next answer. No byte may have come since.
    Agreed,
    /// With the client's first byte, which is still in the input: the handshake itself must name the protocol.
    AtOnce,
}

/// One of a connection's two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The guarded client.
    Client,
    /// The backend.
    Backend,
}

/// A client's bytes are not the protocol that its resource speaks.
#[derive(Debug, thiserror::Error)]
#[error("the client broke the protocol: {0}")]
pub struct Malformed(pub String);

impl From<reader::OutOfFrame> for Malformed {
    fn from(error: reader::OutOfFrame) -> Self {
        Self(error.to_string())
    }
}
