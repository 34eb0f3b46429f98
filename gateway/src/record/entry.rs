//! What the record keeps: one [`Entry`] per thing that happened, in the order in which it happened.
//!
//! The layout is the store's contract with every later version: fields carry explicit numbers, numbers are never
//! reused, and an unknown [`Body`] reads as an error, never as something harmless. Types of other modules are laid
//! out in `encoding`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use minicbor::{Decode, Encode};
use schemars::JsonSchema;
use serde::Serialize;

mod workflow;

pub use workflow::{BrokenGlass, Counts, Delegated, Lent, Remark};

use super::{encoding, json};
use crate::operation::{
    DelegationId, Digest, Effects, GrantId, Impact, Object, OperationId, Parameter, RequestId, ReviewId, SessionId,
    State,
};
use crate::policy::{Approval, Decide, Who};
use crate::workload::{Process, Workload};

/// Nanoseconds since the Unix epoch, by the wall clock. Order in the record is by position, never by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Encode, Decode, JsonSchema)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] pub u64);

impl Timestamp {
    /// The wall clock, now. Before 1970 and after 2554 it stands still.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// So much later.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; nothing where it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Encode, Decode)]
pub struct Entry {
    /// When.
    #[n(0)]
    pub at: Timestamp,
    /// In which session; `None` for what concerns the whole gateway.
    #[cbor(n(1), with = "encoding::optional_id")]
    pub session: Option<SessionId>,
    /// What.
    #[n(2)]
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Encode, Decode)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// The gateway started.
    #[n(0)]
    Started {
        /// Its version.
        #[n(0)]
        version: String,
        /// The node's name.
        #[n(1)]
        node: String,
    },
    /// The gateway stopped in order.
    #[n(1)]
    Stopped,
    /// A policy set was loaded.
    #[n(2)]
    PolicyLoaded {
        /// Digest of all its files' bytes in name order.
        #[cbor(n(0), with = "encoding::digest")]
        digest: Digest,
        /// How many rules it has.
        #[n(1)]
        rules: u32,
    },
    /// A guarded connection was accepted.
    #[n(3)]
    Connected(#[n(0)] Box<Connected>),
    /// An operation was let through (about to be forwarded) or refused.
    #[n(4)]
    Operation(#[n(0)] Box<Operated>),
    /// Bytes that belong to an operation already let through (COPY data).
    #[n(5)]
    Continued {
        /// The operation.
        #[cbor(n(0), with = "encoding::id")]
        of: OperationId,
        /// The bytes as forwarded.
        #[cbor(n(1), with = "encoding::bytes")]
        #[serde(serialize_with = "json::bytes")]
        wire: Bytes,
    },
    /// Handshake or protocol control, forwarded. Secrets are left out.
    #[n(6)]
    Control {
        /// In words: `startup`, `password`, `parse`, `sync`, …
        #[n(0)]
        what: String,
        /// The bytes as forwarded, or what stands in for a secret.
        #[cbor(n(1), with = "encoding::bytes")]
        #[serde(serialize_with = "json::bytes")]
        wire: Bytes,
    },
    /// Bytes delivered to the client, after masking.
    #[n(7)]
    Response {
        /// The operation they answer, where there is one.
        #[cbor(n(0), with = "encoding::optional_id")]
        of: Option<OperationId>,
        /// The bytes as delivered.
        #[cbor(n(1), with = "encoding::bytes")]
        #[serde(serialize_with = "json::bytes")]
        wire: Bytes,
        /// How many values were masked in them.
        #[n(2)]
        masked: u32,
    },
    /// An approval request was opened. Durable before anybody is asked.
    #[n(8)]
    Requested(#[n(0)] Box<Requested>),
    /// A person decided.
    #[n(9)]
    Decided {
        /// The request.
        #[cbor(n(0), with = "encoding::id")]
        request: RequestId,
        /// Who: the authenticated name.
        #[n(1)]
        by: String,
        /// Their user id on this machine, where they have one.
        #[n(2)]
        uid: Option<u32>,
        /// Yes or no.
        #[n(3)]
        approve: bool,
        /// Their words.
        #[n(4)]
        reason: Option<String>,
        /// The digest of what they decided on.
        #[cbor(n(5), with = "encoding::digest")]
        digest: Digest,
        /// Which human. `None` in records of an older gateway, which knew users of the machine alone.
        #[n(6)]
        person: Option<String>,
        /// What they signed, where they did: [`signed::challenge`](super::signed::challenge) of all of this.
        #[n(7)]
        proof: Option<Box<Proof>>,
        /// The grant that it was to become, in words, where it was.
        #[n(8)]
        terms: Option<String>,
        /// As what an approval counts. `None` in a denial, and in records of an older gateway.
        #[n(9)]
        counts: Option<Box<Counts>>,
    },
    /// A request ended.
    #[n(10)]
    Closed {
        /// The request.
        #[cbor(n(0), with = "encoding::id")]
        request: RequestId,
        /// How.
        #[n(1)]
        outcome: Outcome,
    },
    /// The connection ended.
    #[n(11)]
    Disconnected {
        /// Why, in words.
        #[n(0)]
        reason: String,
    },
    /// Something that people should see: malformed bytes, a reply that could not be masked, a limit reached.
    #[n(12)]
    Incident {
        /// What and whose fault, in words.
        #[n(0)]
        what: String,
    },
    /// An approval became a grant.
    #[n(13)]
    Granted(#[n(0)] Box<Granted>),
    /// A grant is about to release an operation. With none left the grant has ended.
    #[n(14)]
    GrantUsed {
        /// The grant.
        #[cbor(n(0), with = "encoding::id")]
        grant: GrantId,
        /// What it releases.
        #[cbor(n(1), with = "encoding::id")]
        operation: OperationId,
        /// How many uses are left.
        #[n(2)]
        left: u32,
        /// The operation's shape, to be compared with the grant's. `None` in records of an older gateway.
        #[n(3)]
        shape: Option<Shape>,
    },
    /// A grant ended before its last use.
    #[n(15)]
    GrantEnded {
        /// The grant.
        #[cbor(n(0), with = "encoding::id")]
        grant: GrantId,
        /// Who revoked it; `None`: its time ran out.
        #[n(1)]
        by: Option<String>,
        /// Their user id on this machine.
        #[n(2)]
        uid: Option<u32>,
        /// Their words.
        #[n(3)]
        reason: Option<String>,
    },
    /// What the operation of an open request would touch is known, and part of what is approved from here on.
    #[n(16)]
    Previewed {
        /// The request.
        #[cbor(n(0), with = "encoding::id")]
        request: RequestId,
        /// What it would touch.
        #[cbor(n(1), with = "encoding::impact")]
        impact: Impact,
    },
    /// Somebody used the console, or changed who may.
    #[n(17)]
    Administered {
        /// Who: their name.
        #[n(0)]
        by: String,
        /// Which human.
        #[n(1)]
        person: String,
        /// What they did, in words.
        #[n(2)]
        what: String,
    },
    /// A person's passkey was enrolled: from here on it signs for them.
    #[n(18)]
    Enrolled(#[n(0)] Box<Enrolled>),
    /// People are asked from here on: their step was opened, or their turn in it has come.
    #[n(20)]
    Asked {
        /// The request.
        #[cbor(n(0), with = "encoding::id")]
        request: RequestId,
        /// In which step, from 0.
        #[n(1)]
        step: u32,
        /// Their places in the step, from 0.
        #[n(2)]
        places: Vec<u32>,
        /// Who stands there.
        #[cbor(n(3), with = "encoding::many_who")]
        who: Vec<Who>,
        /// Those of them who are on call now, by name.
        #[n(4)]
        on_call: Vec<String>,
    },
    /// Somebody said something about an open request that decides nothing.
    #[n(21)]
    Said {
        /// The request.
        #[cbor(n(0), with = "encoding::id")]
        request: RequestId,
        /// Who: the authenticated name.
        #[n(1)]
        by: String,
        /// Which human.
        #[n(2)]
        person: String,
        /// What it is.
        #[n(3)]
        kind: Remark,
        /// Their words.
        #[n(4)]
        text: String,
    },
    /// One person released an operation alone, in an emergency.
    #[n(22)]
    BrokeGlass(#[n(0)] Box<BrokenGlass>),
    /// Somebody else wrote what to think of that.
    #[n(23)]
    Reviewed {
        /// What was open.
        #[cbor(n(0), with = "encoding::id")]
        review: ReviewId,
        /// Who: the authenticated name.
        #[n(1)]
        by: String,
        /// Which human.
        #[n(2)]
        person: String,
        /// Their words.
        #[n(3)]
        text: String,
    },
    /// An approver lent what they may decide.
    #[n(24)]
    Delegated(#[n(0)] Box<Delegated>),
    /// What was lent was taken or given back before its time.
    #[n(25)]
    DelegationEnded {
        /// Which.
        #[cbor(n(0), with = "encoding::id")]
        delegation: DelegationId,
        /// Who ended it; `None`: its time ran out.
        #[n(1)]
        by: Option<String>,
        /// Which human.
        #[n(2)]
        person: Option<String>,
    },
}

/// A person's own signature under a decision: what their passkey answered to a challenge that is a hash of the decision
/// (Web Authentication Level 3, section 7.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Proof {
    /// The passkey's name, as enrolled.
    #[cbor(n(0), with = "encoding::bytes")]
    #[serde(serialize_with = "json::bytes")]
    pub key: Bytes,
    /// The authenticator data.
    #[cbor(n(1), with = "encoding::bytes")]
    #[serde(serialize_with = "json::bytes")]
    pub authenticator: Bytes,
    /// The client data, as the browser wrote it.
    #[cbor(n(2), with = "encoding::bytes")]
    #[serde(serialize_with = "json::bytes")]
    pub client: Bytes,
    /// The signature over both.
    #[cbor(n(3), with = "encoding::bytes")]
    #[serde(serialize_with = "json::bytes")]
    pub signature: Bytes,
}

/// A passkey, as enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Enrolled {
    /// Whose it is.
    #[n(0)]
    pub person: String,
    /// Their name.
    #[n(1)]
    pub name: String,
    /// The passkey's name.
    #[cbor(n(2), with = "encoding::bytes")]
    #[serde(serialize_with = "json::bytes")]
    pub key: Bytes,
    /// Its public half, as COSE has it (RFC 9052).
    #[cbor(n(3), with = "encoding::bytes")]
    #[serde(serialize_with = "json::bytes")]
    pub public: Bytes,
    /// Which console it signs for: the relying party's name.
    #[n(4)]
    pub party: String,
}

/// A grant, as made. What it covers is what was asked in its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Granted {
    /// Its name.
    #[cbor(n(0), with = "encoding::id")]
    pub grant: GrantId,
    /// The request whose approval it is.
    #[cbor(n(1), with = "encoding::id")]
    pub request: RequestId,
    /// How many more operations it releases.
    #[n(2)]
    pub uses: u32,
    /// When it ends.
    #[n(3)]
    pub expires: Timestamp,
    /// Which values may be any, counted from 1; all others are as approved.
    #[n(4)]
    pub any: Vec<u32>,
    /// The names of those who gave it.
    #[n(5)]
    pub by: Vec<String>,
}

/// What a grant made from a request would cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Shape {
    /// The protocol's name for it.
    #[n(0)]
    pub fingerprint: String,
    /// Who asks what of whom in which state of the session: all but the values. See `gate::digest`.
    #[cbor(n(1), with = "encoding::digest")]
    pub covers: Digest,
    /// The values, in order.
    #[cbor(n(2), with = "encoding::many_bytes")]
    #[serde(serialize_with = "json::many_bytes")]
    pub values: Vec<Bytes>,
    /// Whether every value is data, and none could name something or be code. `None` in records of an older gateway.
    #[n(3)]
    pub only_data: Option<bool>,
}

/// How an approval request ended. Each request ends exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Encode, Decode, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Outcome {
    /// Enough people approved; the operation was released.
    #[n(0)]
    Approved,
    /// Somebody said no.
    #[n(1)]
    Denied,
    /// Time ran out.
    #[n(2)]
    Expired,
    /// The client cancelled or hung up.
    #[n(3)]
    Withdrawn,
    /// The gateway stopped or restarted while it was held.
    #[n(4)]
    Restarted,
}

impl Outcome {
    /// The outcome in one word, as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Approved => "approved",
            Outcome::Denied => "denied",
            Outcome::Expired => "expired",
            Outcome::Withdrawn => "withdrawn",
            Outcome::Restarted => "restarted",
        }
    }
}

/// The facts of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Encode, Decode)]
pub struct Connected {
    /// Who.
    #[cbor(n(0), with = "encoding::workload")]
    pub workload: Workload,
    /// The process that connected.
    #[cbor(n(1), with = "encoding::process")]
    pub process: Process,
    /// The client's own address.
    #[n(2)]
    pub client: String,
    /// Where it meant to go: address and port.
    #[n(3)]
    pub destination: String,
    /// The resource's name, where policy knows the destination.
    #[n(4)]
    pub resource: Option<String>,
    /// The protocol spoken.
    #[n(5)]
    pub protocol: String,
}

/// What was asked, as judged: shared by [`Operated`] and [`Requested`]. Laid out in `encoding`, because a text that
/// lies inside the wire bytes is stored once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// The operation.
    pub operation: OperationId,
    /// The protocol's word for it.
    pub kind: String,
    /// The statement, exactly as sent.
    #[serde(serialize_with = "json::bytes")]
    pub text: Bytes,
    /// The wire bytes (secrets left out).
    #[serde(serialize_with = "json::bytes")]
    pub wire: Bytes,
    /// Bound parameters.
    #[serde(serialize_with = "json::parameters")]
    pub parameters: Vec<Parameter>,
    /// What the classifier made of it.
    pub effects: Effects,
    /// What it touches.
    pub objects: Vec<Object>,
    /// Why it is unknown, if it is.
    pub unknown: Vec<String>,
    /// Session state that gives it meaning. Empty in an operation that was allowed: as in the one before it.
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
#[derive(Debug, Clone, PartialEq, Serialize, Encode, Decode)]
pub struct Operated {
    /// What was asked.
    #[n(0)]
    pub asked: Asked,
    /// Whether it goes on to the backend.
    #[n(1)]
    pub forwarded: bool,
    /// The request that held it, if it was held.
    #[cbor(n(2), with = "encoding::optional_id")]
    pub request: Option<RequestId>,
    /// Why it was refused, in words; empty when forwarded.
    #[n(3)]
    pub refusal: String,
    /// The grant that released it, if one did.
    #[cbor(n(4), with = "encoding::optional_id")]
    pub grant: Option<GrantId>,
}

/// An approval request, as opened.
#[derive(Debug, Clone, PartialEq, Serialize, Encode, Decode)]
pub struct Requested {
    /// Its name.
    #[cbor(n(0), with = "encoding::id")]
    pub request: RequestId,
    /// What was asked.
    #[n(1)]
    pub asked: Asked,
    /// What an approver approves: see `gate::digest`.
    #[cbor(n(2), with = "encoding::digest")]
    pub digest: Digest,
    /// Who may decide, how many, until when.
    #[cbor(n(3), with = "encoding::approval")]
    pub approval: Approval,
    /// The workload's name, for people.
    #[n(4)]
    pub workload: String,
    /// The resource's name.
    #[n(5)]
    pub resource: String,
    /// Whether the client waits inside its connection or was told to come back.
    #[n(6)]
    pub waits: bool,
    /// What a grant would cover; `None` where it cannot be a grant.
    #[n(7)]
    pub shape: Option<Shape>,
    /// Who may not decide, by name. `None`: nobody is kept out by name.
    #[n(8)]
    pub barred: Option<Vec<String>>,
}
