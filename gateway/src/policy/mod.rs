//! What may happen: resources, rules and the pure function [`Scope::judge`].
//!
//! Judging touches no clock, no network and no store: the same policy, workload and operation always give the same
//! verdict, which is what lets `holdpoint policy test` and `explain` answer for production.
//!
//! A directory of YAML files becomes a [`PolicySet`], whole or not at all; a [`PolicySet`] with a caller and a resource
//! becomes a [`Scope`], which lives beside a connection and judges its operations. [`Policies`] is the set in force.
//!
//! # Correctness
//! - The strictest matching rule decides: refuse over hold over hold at commit over allow. Of several that hold, the one that asks more of
//!   people ([`Approval::strictness`]: how many, in how many steps, with what; then the shorter time), then the one
//!   written first.
//! - A rule that **holds or refuses** matches on *any* effect or object that it shares with the operation. A rule that
//!   **allows** must cover *all* of the operation's effects, and all of its objects of the kinds that it names:
//!   `effects: [read]` does not allow a `SELECT` with a writing CTE, whose effects are `{read, write}`.
//! - [`Effect::Unknown`](crate::operation::Effect::Unknown) holds by default. Only a matching rule that names `unknown`
//!   allows it; leaving `effects` out of a rule that allows means every effect *but* `unknown`. A `default: allow` holds
//!   what is unknown, and refuses it where the resource names no approvers. An operation about which the
//!   classifier said nothing at all counts as unknown; one that it says has no effect (an empty statement) is covered
//!   by any rule that allows.
//! - No match takes the resource's `default`. A destination that no resource names is refused, by rule
//!   [`NO_RESOURCE`].
//! - What cannot be told counts on the strict side: a `when` that fails, an executable that could not be verified, a
//!   workload that could not be identified, a table whose schema depends on the search path. It matches a rule that
//!   holds or refuses, does not match one that allows, and never makes an exception.
//! - A rule in `mode: observe` never decides; it is reported beside the verdict where it would have been stricter.
//!
//! Nothing here can answer "allow" because of an error.

pub mod amend;
mod approval;
mod condition;
mod error;
mod fields;
mod files;
mod hours;
mod pattern;
mod reload;
mod resource;
mod rule;
mod scope;
mod set;
mod subject;
mod terms;
mod trial;
mod when;
mod yaml;

pub use approval::{Approval, Approver, Need, Separation, Step, Who};
pub use error::{Origin, PolicyError, PolicyErrors};
pub use hours::{Hours, Otherwise};
pub use pattern::Pattern;
pub use reload::{Policies, Report, Watch};
pub use resource::{Endpoint, Inspector, Objection, Resource};
pub use scope::{Considered, Explanation, NO_RESOURCE, Scope};
pub use set::{PolicySet, RuleView};
pub use subject::Caller;
pub use trial::{Classify, Failure, TrialFailure, TrialReport};

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// What to do with an operation, from lenient to strict: `max` is the stricter one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decide {
    /// Forward it.
    Allow,
    /// Let it run inside its transaction, and ask a person before that is committed; where that cannot be, as [`Decide::Hold`].
    #[serde(rename = "hold_commit")]
    HoldCommit,
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

/// What policy says about one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What to do.
    pub decide: Decide,
    /// The rule that decided: a policy's name, or `default of NAME` for the resource's default.
    pub rule: Arc<str>,
    /// Why, in words for the approver and for the bot's error.
    pub reason: Arc<str>,
    /// Present exactly when `decide` asks people.
    pub approval: Option<Arc<Approval>>,
    /// For how long what ran may keep its locks while its commit waits.
    pub lock_time: Duration,
    /// What the client of a held operation sees.
    pub on_hold: OnHold,
    /// What a policy in observe mode would have decided, with its name, when that is stricter than `decide`.
    pub observed: Option<(Decide, Arc<str>)>,
}

impl Decide {
    /// Whether people are asked, now or before the commit.
    pub const fn asks_people(self) -> bool {
        matches!(self, Decide::Hold | Decide::HoldCommit)
    }

    /// The word in policies and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Decide::Allow => "allow",
            Decide::HoldCommit => "hold_commit",
            Decide::Hold => "hold",
            Decide::Refuse => "refuse",
        }
    }
}

impl fmt::Display for Decide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
