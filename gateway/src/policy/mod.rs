//! What may happen: resources, rules and the pure function [`Scope::judge`].
//!
//! Judging touches no clock, no network and no store: the same policy, workload and operation always give the same
//! verdict, which is what lets `holdpoint policy test` and `explain` answer for production.
//!
//! # Correctness
//! The strictest matching verdict wins; no match takes the resource's `default`; a rule whose `when` cannot be
//! evaluated holds, or refuses if the rule refuses. Nothing here can answer "allow" because of an error.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// What to do with an operation, from lenient to strict: `max` is the stricter one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decide {
    /// Forward it.
    Allow,
    /// Ask a person first.
    Hold,
    /// Refuse it.
    Refuse,
}

/// Whether a policy acts or only says what it would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The verdict is carried out.
    #[default]
    Enforce,
    /// The verdict is recorded as what would have happened, and the operation goes on without it.
    Observe,
}

/// What the client of a held operation sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnHold {
    /// It waits inside the live connection.
    #[default]
    Wait,
    /// It is refused at once with the request's id; the identical operation, sent again after approval, is released once.
    Retry,
}

/// Who may approve, and from when on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approver {
    /// A person or a group.
    #[serde(flatten)]
    pub who: Who,
    /// How long after the request was opened they may first decide (escalation). Zero: at once.
    pub after: Duration,
}

/// A person or a group, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// One person: here the name of a user of this machine.
    User(String),
    /// A group of this machine.
    Group(String),
}

/// The human part of a hold verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who may decide.
    pub from: Vec<Approver>,
    /// How many distinct people must approve; at least 1.
    pub quorum: u32,
    /// After this the answer is no.
    pub timeout: Duration,
    /// Whether an approval must carry a reason.
    pub reason_required: bool,
}

/// What policy says about one operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What to do.
    pub decide: Decide,
    /// The rule that decided: a policy's name, or `default of NAME` for the resource's default.
    pub rule: Arc<str>,
    /// Why, in words for the approver and for the bot's error.
    pub reason: Arc<str>,
    /// Present exactly when `decide` is [`Decide::Hold`].
    pub approval: Option<Arc<Approval>>,
    /// What the client of a held operation sees.
    pub on_hold: OnHold,
    /// What a policy in observe mode would have decided, with its name, when that is stricter than `decide`.
    pub observed: Option<(Decide, Arc<str>)>,
}
