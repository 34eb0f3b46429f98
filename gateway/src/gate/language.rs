//! What the gate needs of a protocol: to find the values in replies, and to speak to the client in its own words.

use std::sync::Arc;

use bytes::BytesMut;

use super::commit::Place;
use crate::{
    mask::Masks,
    operation::{Digest, Frame, Impact, Operation, RequestId, Shape},
};

/// A protocol's side of the road back. Synchronous, no I/O.
pub trait Language {
    /// The masks in force from here on: what a request must ask of the backend so that its answer can be masked
    /// depends on them.
    fn masks(&mut self, masks: &Arc<Masks>);

    /// Takes the whole frames at the front of `reply`, puts every value in them through `masks`, and appends what the
    /// client may see to `out`. Bytes of a frame that is not whole yet stay in `reply`.
    ///
    /// # Errors
    /// The backend broke the protocol, or a value cannot be masked: nothing of that frame is in `out`.
    fn mask(&mut self, reply: &mut BytesMut, masks: &Arc<Masks>, out: &mut BytesMut) -> Result<Exchange, Unmaskable>;

    /// The shape of the operation just submitted, for grants; `None` where two operations that look alike could do
    /// different things.
    fn shape(&self, _operation: &Operation) -> Option<Shape> {
        None
    }

    /// What the session has been through that could give the operation just submitted another meaning, beside
    /// [`Operation::state`]: equal only where that is equal. For an approval that is used by another connection.
    fn past(&self) -> Digest {
        Digest::of(b"")
    }

    /// Where the operation just submitted stands to the transaction that is open.
    fn place(&self, _operation: &Operation) -> Place {
        Place::UNKNOWN
    }

    /// Appends what the gateway has to say to the client now, in order with the replies already given.
    fn answers(&mut self, out: &mut BytesMut);
}

/// What a batch of replies meant for the exchange.
#[derive(Debug, Default)]
pub struct Exchange {
    /// How many operations it finished.
    pub finished: usize,
    /// How many values were masked.
    pub masked: u32,
    /// What the gateway itself must now ask of the backend, with a word for the record.
    pub own: Option<(&'static str, Frame)>,
    /// What the held operation would touch, as the backend now said.
    pub impact: Option<Impact>,
    /// How many rows it changed or gave, for those of the finished, counted from 0, of which the backend said so.
    pub rows: Vec<(usize, u64)>,
    /// No transaction is open, and nothing is under way that could have begun one: what was not committed never will be.
    pub rests: bool,
}

/// An operation is refused: what the client is told.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Why, for people.
    pub reason: String,
    /// The rule that decided.
    pub rule: Arc<str>,
    /// The approval request, where there was one.
    pub request: Option<RequestId>,
    /// The client itself cancelled it: protocols say this in other words than a refusal.
    pub cancelled: bool,
    /// It would have committed what must not be: the transaction is to be rolled back.
    pub rolls_back: bool,
}

/// A reply that cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum Unmaskable {
    /// The backend's bytes are not its protocol.
    #[error("the backend broke the protocol: {0}")]
    Malformed(String),
    /// The bytes are well formed, but what they hold cannot be masked.
    #[error("a reply was withheld because it cannot be masked: {0}")]
    Withheld(String),
}
