//! What people decide beforehand: a [`Rule`], read from a `policy:` document.

use std::sync::Arc;

use super::{
    Decide, Mode, OnHold,
    condition::{self, Condition, Name, transposed},
    error::Origin,
    fields::{self, Fields, Notes},
    terms::{self, ApprovalTerms},
    trial::{self, Trial},
    yaml::Node,
};
use crate::operation::{Effect, Effects};

/// The words of `decide` and `default`.
pub(super) const DECIDE: [(&str, Decide); 4] =
    [("allow", Decide::Allow), ("hold", Decide::Hold), ("hold_commit", Decide::HoldCommit), ("refuse", Decide::Refuse)];

/// The words of `on_hold`.
pub(super) const ON_HOLD: [(&str, OnHold); 2] = [("wait", OnHold::Wait), ("retry", OnHold::Retry)];

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];

/// One policy.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Name,
    pub(super) origin: Origin,
    pub(super) condition: Condition,
    pub(super) exceptions: Vec<Condition>,
    pub(super) decide: Decide,
    pub(super) mode: Mode,
    pub(super) on_hold: OnHold,
    pub(super) terms: ApprovalTerms,
    pub(super) reason: Arc<str>,
    pub(super) trials: Vec<Trial>,
}

const KEYS: [&str; 12] = [
    "policy",
    "match",
    "when",
    "unless",
    "decide",
    "mode",
    "on_hold",
    "approval",
    "reason",
    "tests",
    "description",
    "owner",
];

/// Reads a `policy:` document.
pub(super) fn read(node: &Node, notes: &mut Notes) -> Option<Rule> {
    let fields = Fields::read(node, "policy", &KEYS, notes)?;
    let name = fields.find("policy").and_then(|node| fields::name(node, "policy", notes));
    let condition = match fields.need("match", "`match: { resource: NAME }` or more: what the policy is about", notes) {
        Some(node) => Condition::read_match(node, notes),
        None => None,
    };
    let when = fields.find("when").map(|node| condition::read_when(node, notes));
    let exceptions = fields.find("unless").map(|node| Condition::read_exceptions(node, notes)).unwrap_or_default();
    let decide = fields
        .need("decide", "`decide: allow`, `hold`, `hold_commit` or `refuse`", notes)
        .and_then(|node| fields::word(node, "decide", &DECIDE, notes));
    let terms = fields.find("approval").map(|node| terms::read(node, notes));
    let reason = fields.text("reason", notes);
    let mode = fields.word("mode", &MODES, notes).unwrap_or_default();
    let on_hold = fields.word("on_hold", &ON_HOLD, notes);
    if let Some(decide) = decide.filter(|decide| !decide.asks_people()) {
        only_for_hold(&fields, decide, notes);
    }
    let trials = trial::read_all(&fields, notes);
    let mut condition = condition?;
    condition.when = transposed(when)?;
    if decide == Some(Decide::Allow) && condition.effects.is_none() {
        // Leaving effects out means everything but what must be asked for by name.
        condition.effects = Some(Effect::ALL.into_iter().filter(|effect| !effect.must_be_named()).collect());
    }
    let name: Name = name?.into();
    let decide = decide?;
    let reason = reason.map_or_else(|| said_of(&name, decide, condition.effects), str::to_owned);
    Some(Rule {
        name,
        origin: notes.origin(node.at),
        condition,
        exceptions,
        decide,
        mode,
        on_hold: on_hold.unwrap_or_default(),
        terms: transposed(terms)?.unwrap_or_default(),
        reason: reason.trim().into(),
        trials,
    })
}

/// `approval` on a rule that never asks is a rule that its author misreads.
fn only_for_hold(fields: &Fields<'_>, decide: Decide, notes: &mut Notes) {
    for key in ["approval", "on_hold"] {
        if let Some(node) = fields.find(key) {
            let word = DECIDE.iter().find(|(_, d)| *d == decide).map_or("", |(word, _)| *word);
            notes.note(
                node.at,
                format!("`{key}` has no meaning with `decide: {word}`; expected `decide: hold` or `hold_commit`"),
            );
        }
    }
}

/// What people are told where the policy gives no reason of its own.
fn said_of(name: &str, decide: Decide, effects: Option<Effects>) -> String {
    let what = effects.filter(|effects| !effects.is_empty()).map(|effects| format!(" ({effects})")).unwrap_or_default();
    match decide {
        Decide::Allow => format!("policy {name} allows this{what}"),
        Decide::Hold => format!("policy {name} asks for a person's approval{what}"),
        Decide::HoldCommit => format!("policy {name} asks for a person's approval before this is committed{what}"),
        Decide::Refuse => format!("policy {name} refuses this{what}"),
    }
}
