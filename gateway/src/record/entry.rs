//! What the record keeps: one [`Entry`] per thing that happened, in the order in which it happened.
//!
//! The layout is the store's contract with every later version: fields carry explicit numbers, numbers are never
//! reused, and an unknown [`Body`] reads as an error, never as something harmless.

use bytes::Bytes;
use serde::Serialize;

use crate::operation::{Digest, Effects, Object, OperationId, Parameter, RequestId, SessionId, State};
use crate::policy::{Approval, Decide};
use crate::workload::{Process, Workload};

/// Nanoseconds since the Unix epoch, by the wall clock. Order in the record is by position, never by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// In which session; `None` for what concerns the whole gateway.
    pub session: Option<SessionId>,
    /// What.
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// The gateway started.
    Started {
        /// Its version.
        version: String,
        /// The node's name.
        node: String,
    },
    /// The gateway stopped in order.
    Stopped,
    /// A policy set was loaded.
    PolicyLoaded {
        /// Digest of all its files' bytes in name order.
        digest: Digest,
        /// How many rules it has.
        rules: u32,
    },
    /// A guarded connection was accepted.
    Connected(Box<Connected>),
    /// An operation was let through (about to be forwarded) or refused.
    Operation(Box<Operated>),
    /// Bytes that belong to an operation already let through (COPY data).
    Continued {
        /// The operation.
        of: OperationId,
        /// The bytes as forwarded.
        wire: Bytes,
    },
    /// Handshake or protocol control, forwarded. Secrets are left out.
    Control {
        /// In words: `startup`, `password`, `parse`, `sync`, …
        what: String,
        /// The bytes as forwarded, or what stands in for a secret.
        wire: Bytes,
    },
    /// Bytes delivered to the client, after masking.
    Response {
        /// The operation they answer, where there is one.
        of: Option<OperationId>,
        /// The bytes as delivered.
        wire: Bytes,
        /// How many values were masked in them.
        masked: u32,
    },
    /// An approval request was opened. Durable before anybody is asked.
    Requested(Box<Requested>),
    /// A person decided.
    Decided {
        /// The request.
        request: RequestId,
        /// Who: the authenticated name.
        by: String,
        /// Their user id on this machine.
        uid: u32,
        /// Yes or no.
        approve: bool,
        /// Their words.
        reason: Option<String>,
        /// The digest of what they decided on.
        digest: Digest,
    },
    /// A request ended.
    Closed {
        /// The request.
        request: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// The connection ended.
    Disconnected {
        /// Why, in words.
        reason: String,
    },
    /// Something that people should see: malformed bytes, a reply that could not be masked, a limit reached.
    Incident {
        /// What and whose fault, in words.
        what: String,
    },
}

/// How an approval request ended. Each request ends exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Enough people approved; the operation was released.
    Approved,
    /// Somebody said no.
    Denied,
    /// Time ran out.
    Expired,
    /// The client cancelled or hung up.
    Withdrawn,
    /// The gateway stopped or restarted while it was held.
    Restarted,
}

/// The facts of a connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Connected {
    /// Who.
    pub workload: Workload,
    /// The process that connected.
    pub process: Process,
    /// The client's own address.
    pub client: String,
    /// Where it meant to go: address and port.
    pub destination: String,
    /// The resource's name, where policy knows the destination.
    pub resource: Option<String>,
    /// The protocol spoken.
    pub protocol: String,
}

/// What was asked, as judged: shared by [`Operated`] and [`Requested`].
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The operation.
    pub operation: OperationId,
    /// The protocol's word for it.
    pub kind: String,
    /// The statement, exactly as sent.
    pub text: Bytes,
    /// The wire bytes (secrets left out).
    pub wire: Bytes,
    /// Bound parameters.
    pub parameters: Vec<Parameter>,
    /// What the classifier made of it.
    pub effects: Effects,
    /// What it touches.
    pub objects: Vec<Object>,
    /// Why it is unknown, if it is.
    pub unknown: Vec<String>,
    /// Session state that gives it meaning.
    pub state: State,
    /// What policy said.
    pub decide: Decide,
    /// By which rule.
    pub rule: String,
    /// Why, in the rule's words.
    pub why: String,
    /// What a policy in observe mode would have decided, and its name.
    pub observed: Option<(Decide, String)>,
}

/// An operation's end at the gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Operated {
    /// What was asked.
    pub asked: Asked,
    /// Whether it goes on to the backend.
    pub forwarded: bool,
    /// The request that held it, if it was held.
    pub request: Option<RequestId>,
    /// Why it was refused, in words; empty when forwarded.
    pub refusal: String,
}

/// An approval request, as opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Requested {
    /// Its name.
    pub request: RequestId,
    /// What was asked.
    pub asked: Asked,
    /// What an approver approves: see `gate::digest`.
    pub digest: Digest,
    /// Who may decide, how many, until when.
    pub approval: Approval,
    /// The workload's name, for people.
    pub workload: String,
    /// The resource's name.
    pub resource: String,
    /// Whether the client waits inside its connection or was told to come back.
    pub waits: bool,
}
