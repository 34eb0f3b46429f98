//! What the approval workflow records of people.

use minicbor::{Decode, Encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Proof, Timestamp};
use crate::{
    operation::{DelegationId, Digest, RequestId, ReviewId},
    policy::Who,
    record::encoding,
};

/// As what an approval counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Counts {
    /// In which step, from 0.
    #[n(0)]
    pub step: u32,
    /// The places in it that this person may take, from 0.
    #[n(1)]
    pub places: Vec<u32>,
    /// The ticket that they named.
    #[n(2)]
    pub ticket: Option<String>,
    /// What they were lent, where they may take these places only by that.
    #[n(3)]
    pub lent: Option<Lent>,
}

/// By whose leave somebody decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Lent {
    /// The delegation.
    #[cbor(n(0), with = "encoding::id")]
    pub delegation: DelegationId,
    /// Who lent it: their name.
    #[n(1)]
    pub by: String,
    /// Which human that is.
    #[n(2)]
    pub person: String,
}

/// What somebody says about a request without deciding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Remark {
    /// A remark.
    #[n(0)]
    Comment,
    /// A question to the requester's owner.
    #[n(1)]
    Question,
    /// An answer to one.
    #[n(2)]
    Answer,
}

impl Remark {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Remark::Comment => "comment",
            Remark::Question => "question",
            Remark::Answer => "answer",
        }
    }
}

/// One person's release of an operation in an emergency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct BrokenGlass {
    /// The review that is open from here on.
    #[cbor(n(0), with = "encoding::id")]
    pub review: ReviewId,
    /// The request.
    #[cbor(n(1), with = "encoding::id")]
    pub request: RequestId,
    /// Who: the authenticated name.
    #[n(2)]
    pub by: String,
    /// Their user id on this machine, where they have one.
    #[n(3)]
    pub uid: Option<u32>,
    /// Which human.
    #[n(4)]
    pub person: String,
    /// The group in which they may.
    #[n(5)]
    pub group: String,
    /// Why.
    #[n(6)]
    pub reason: String,
    /// The digest of what they released.
    #[cbor(n(7), with = "encoding::digest")]
    pub digest: Digest,
    /// Everybody who would have been asked, and is to be told.
    #[cbor(n(8), with = "encoding::many_who")]
    pub skipped: Vec<Who>,
    /// What they signed, where they did.
    #[n(9)]
    pub proof: Option<Box<Proof>>,
}

/// What an approver lent to somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Delegated {
    /// Its name.
    #[cbor(n(0), with = "encoding::id")]
    pub delegation: DelegationId,
    /// Who lends: the authenticated name, in which the other may decide.
    #[n(1)]
    pub from: String,
    /// Which human.
    #[n(2)]
    pub person: String,
    /// Their user id on this machine, where they have one.
    #[n(3)]
    pub uid: Option<u32>,
    /// To whom, by name.
    #[n(4)]
    pub to: String,
    /// Up to when.
    #[n(5)]
    pub until: Timestamp,
    /// The groups in which the other may decide.
    #[n(6)]
    pub groups: Vec<String>,
}
