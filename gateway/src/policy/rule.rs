//! What people decide beforehand: a [`Rule`], read from a `policy:` document.

use std::{sync::Arc, time::Duration};

use super::{
    Approval, Approver, Decide, Mode, OnHold, Who,
    condition::{self, Condition, Name, transposed},
    error::Origin,
    fields::{self, Fields, Notes},
    trial::{self, Trial},
    yaml::{Node, Tree},
};
use crate::operation::{Effect, Effects};

/// The words of `decide` and `default`.
pub(super) const DECIDE: [(&str, Decide); 4] =
    [("allow", Decide::Allow), ("hold", Decide::Hold), ("hold_commit", Decide::HoldCommit), ("refuse", Decide::Refuse)];

/// The words of `on_hold`.
pub(super) const ON_HOLD: [(&str, OnHold); 2] = [("wait", OnHold::Wait), ("retry", OnHold::Retry)];

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];

/// How long people have where nothing says otherwise.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// For how long what ran may keep its locks while its commit waits, where nothing says otherwise.
const LOCK_TIME: Duration = Duration::from_secs(60);

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
    let terms = fields.find("approval").map(|node| read_approval(node, notes));
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

/// `approval:` as far as it is written; the rest comes from the resource, then from the product.
#[derive(Debug, Clone, Default)]
pub(super) struct ApprovalTerms {
    from: Vec<Approver>,
    quorum: Option<u32>,
    timeout: Option<Duration>,
    lock_time: Option<Duration>,
    reason_required: Option<bool>,
    /// `from` was written and could not be read: an error that is noted already.
    unsound: bool,
}

impl ApprovalTerms {
    /// Whether everything that was written could be read.
    pub(super) fn is_sound(&self) -> bool {
        !self.unsound
    }

    /// Those who are named here.
    pub(super) fn approvers(&self) -> impl Iterator<Item = &Who> {
        self.from.iter().map(|approver| &approver.who)
    }

    /// For how long what ran may keep its locks while its commit waits.
    pub(super) fn lock_time(&self, inherited: &ApprovalTerms) -> Duration {
        self.lock_time.or(inherited.lock_time).unwrap_or(LOCK_TIME)
    }

    /// Whom to ask and how; `None` where neither these terms nor the inherited ones name anybody.
    pub(super) fn settle(self, inherited: &ApprovalTerms) -> Option<Approval> {
        let from = if self.from.is_empty() { inherited.from.clone() } else { self.from };
        if from.is_empty() {
            return None;
        }
        Some(Approval {
            from,
            quorum: self.quorum.or(inherited.quorum).unwrap_or(1),
            timeout: self.timeout.or(inherited.timeout).unwrap_or(TIMEOUT),
            reason_required: self.reason_required.or(inherited.reason_required).unwrap_or(false),
        })
    }
}

/// Reads `approval:`.
pub(super) fn read_approval(node: &Node, notes: &mut Notes) -> Option<ApprovalTerms> {
    const MOST_PEOPLE: u32 = 20;
    let fields = Fields::read(node, "approval", &["from", "quorum", "timeout", "lock_time", "reason"], notes)?;
    let from: Vec<Approver> = match fields.find("from") {
        Some(node) => fields::one_or_many(node).iter().filter_map(|node| read_approver(node, notes)).collect(),
        None => Vec::new(),
    };
    if let Some(node) = fields.find("from").filter(|node| matches!(&node.tree, Tree::List(nodes) if nodes.is_empty())) {
        notes.note(node.at, "`from` is empty, so nobody could approve; expected `{ user: NAME }` or `{ group: NAME }`");
    }
    let timeout = fields.find("timeout").map(|node| (node, fields::duration(node, "timeout", notes)));
    if let Some((node, Some(timeout))) = timeout
        && !from.is_empty()
        && from.iter().all(|approver| approver.after >= timeout)
    {
        notes.note(node.at, "`timeout` ends before anybody in `from` may decide; make it longer than their `after`");
    }
    Some(ApprovalTerms {
        unsound: fields.find("from").is_some() && from.is_empty(),
        from,
        quorum: fields.find("quorum").and_then(|node| fields::count(node, "quorum", MOST_PEOPLE, notes)),
        timeout: timeout.and_then(|(_, timeout)| timeout),
        lock_time: fields.find("lock_time").and_then(|node| fields::duration(node, "lock_time", notes)),
        reason_required: fields.word("reason", &[("required", true), ("optional", false)], notes),
    })
}

fn read_approver(node: &Node, notes: &mut Notes) -> Option<Approver> {
    let fields = Fields::read(node, "from", &["user", "group", "after"], notes)?;
    let after = match fields.find("after") {
        // "At once" is a fair thing to write out.
        Some(Node { tree: Tree::Text(text), .. }) if matches!(text.as_str(), "0" | "0s" | "0m") => Duration::ZERO,
        Some(node) => fields::duration(node, "after", notes)?,
        None => Duration::ZERO,
    };
    let who = match (fields.find("user"), fields.find("group")) {
        (Some(user), None) => Who::User(fields::name(user, "user", notes)?.to_owned()),
        (None, Some(group)) => Who::Group(fields::name(group, "group", notes)?.to_owned()),
        _ => {
            notes.note(node.at, "an approver is exactly one of `user: NAME` or `group: NAME`");
            return None;
        }
    };
    Some(Approver { who, after })
}
