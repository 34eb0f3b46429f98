//! `approval:` as far as it is written, in a policy or in a resource.

use std::time::Duration;

use super::{
    Approval, Approver, Hours, Need, Separation, Step, Who, approval,
    fields::{self, Fields, Notes},
    hours,
    yaml::{Node, Tree, brief},
};

/// How long people have where nothing says otherwise.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// For how long what ran may keep its locks while its commit waits, where nothing says otherwise.
const LOCK_TIME: Duration = Duration::from_secs(60);

/// More people than anybody asks.
const MOST_PEOPLE: u32 = 20;

/// More steps than anybody asks in.
const MOST_STEPS: usize = 10;

/// `approval:` as far as it is written; the rest comes from the resource, then from the product.
#[derive(Debug, Clone, Default)]
pub(super) struct ApprovalTerms {
    from: Vec<Approver>,
    quorum: Option<u32>,
    /// In the place of `from` and `quorum`.
    steps: Vec<Step>,
    timeout: Option<Duration>,
    lock_time: Option<Duration>,
    reason_required: Option<bool>,
    /// `Some(None)`, here and below: written as `none`, whatever is inherited.
    ticket: Option<Option<String>>,
    separation: Option<Vec<Separation>>,
    veto: Option<Vec<Who>>,
    hours: Option<Option<Hours>>,
    break_glass: Option<Option<String>>,
    passkey: Option<bool>,
    /// Something was written and could not be read: an error that is noted already.
    unsound: bool,
}

impl ApprovalTerms {
    /// Whether everything that was written could be read.
    pub(super) fn is_sound(&self) -> bool {
        !self.unsound
    }

    /// Those who are named here.
    pub(super) fn approvers(&self) -> impl Iterator<Item = Who> {
        let asked = self.from.iter().chain(self.steps.iter().flat_map(|step| &step.from));
        let asked = asked.map(|approver| approver.who.clone());
        let stand_in = self.hours.iter().flatten().filter_map(|hours| hours.otherwise.who());
        let alone = self.break_glass.clone().flatten().map(Who::Group);
        asked.chain(self.veto.clone().unwrap_or_default()).chain(stand_in).chain(alone)
    }

    /// For how long what ran may keep its locks while its commit waits.
    pub(super) fn lock_time(&self, inherited: &ApprovalTerms) -> Duration {
        self.lock_time.or(inherited.lock_time).unwrap_or(LOCK_TIME)
    }

    /// Whether `quorum` would say how many of those whom the inherited terms ask in steps, which say it themselves.
    pub(super) fn counts_inherited_steps(&self, inherited: &ApprovalTerms) -> bool {
        self.quorum.is_some() && self.from.is_empty() && self.steps.is_empty() && !inherited.steps.is_empty()
    }

    /// Whom to ask and how; `None` where neither these terms nor the inherited ones name anybody.
    pub(super) fn settle(self, inherited: &ApprovalTerms) -> Option<Approval> {
        let quorum = self.quorum.or(inherited.quorum).unwrap_or(1);
        let all_of = |from: Vec<Approver>| vec![Step { from, need: Need::Number(quorum) }];
        let steps = match () {
            () if !self.steps.is_empty() => self.steps,
            () if !self.from.is_empty() => all_of(self.from),
            () if !inherited.steps.is_empty() => inherited.steps.clone(),
            () if !inherited.from.is_empty() => all_of(inherited.from.clone()),
            () => return None,
        };
        Some(Approval {
            steps,
            timeout: self.timeout.or(inherited.timeout).unwrap_or(TIMEOUT),
            reason_required: self.reason_required.or(inherited.reason_required).unwrap_or(false),
            ticket: self.ticket.or_else(|| inherited.ticket.clone()).flatten(),
            separation: self.separation.or_else(|| inherited.separation.clone()).unwrap_or_default(),
            veto: self.veto.or_else(|| inherited.veto.clone()).unwrap_or_default(),
            hours: self.hours.or_else(|| inherited.hours.clone()).flatten(),
            break_glass: self.break_glass.or_else(|| inherited.break_glass.clone()).flatten(),
            passkey: self.passkey.or(inherited.passkey).unwrap_or(false),
        })
    }
}

const KEYS: [&str; 12] = [
    "from",
    "quorum",
    "steps",
    "timeout",
    "lock_time",
    "reason",
    "ticket",
    "separation",
    "veto",
    "hours",
    "break_glass",
    "passkey",
];

/// Reads `approval:`.
pub(super) fn read(node: &Node, notes: &mut Notes) -> Option<ApprovalTerms> {
    let fields = Fields::read(node, "approval", &KEYS, notes)?;
    let from = fields.find("from").map(|node| read_from(node, Duration::ZERO, notes)).unwrap_or_default();
    let steps = fields.find("steps").map(|node| read_steps(node, notes)).unwrap_or_default();
    if let Some(node) = fields.find("steps").filter(|_| fields.find("from").or(fields.find("quorum")).is_some()) {
        notes.note(
            node.at,
            "`steps` stand in the place of `from` and `quorum`; write who is asked first as the first step",
        );
    }
    let timeout = fields.find("timeout").map(|node| (node, fields::duration(node, "timeout", notes)));
    if let Some((node, Some(timeout))) = timeout {
        in_time(node, timeout, &from, &steps, notes);
    }
    let separation = fields.find("separation").map(|node| {
        let words = Separation::ALL.map(|role| (role.as_str(), role));
        fields::one_or_many(node).iter().filter_map(|node| fields::word(node, "separation", &words, notes)).collect()
    });
    let veto: Option<Vec<Who>> = fields.find("veto").map(|node| {
        fields::one_or_many(node)
            .iter()
            .filter_map(|node| {
                let fields = Fields::read(node, "veto", &["user", "group", "on_call", "token"], notes)?;
                read_who(&fields, notes)
            })
            .collect()
    });
    let required = [("required", true), ("optional", false)];
    let unread = |key: &str, empty: bool| fields.find(key).is_some() && empty;
    Some(ApprovalTerms {
        unsound: unread("from", from.is_empty()) || unread("steps", steps.is_empty()),
        from,
        steps,
        quorum: fields.find("quorum").and_then(|node| fields::count(node, "quorum", MOST_PEOPLE, notes)),
        timeout: timeout.and_then(|(_, timeout)| timeout),
        lock_time: fields.find("lock_time").and_then(|node| fields::duration(node, "lock_time", notes)),
        reason_required: fields.word("reason", &required, notes),
        ticket: unless_none(&fields, "ticket", |node| read_ticket(node, notes)),
        separation,
        veto,
        hours: unless_none(&fields, "hours", |node| hours::read(node, notes)),
        break_glass: unless_none(&fields, "break_glass", |node| {
            let fields = Fields::read(node, "break_glass", &["group"], notes)?;
            let group = fields.need("group", "`group: NAME`, one person of which may release it alone", notes)?;
            fields::name(group, "group", notes).map(str::to_owned)
        }),
        passkey: fields.word("passkey", &required, notes),
    })
}

/// `none` says that what is inherited does not hold; what cannot be read is noted and nothing.
fn unless_none<'n, T>(fields: &Fields<'n>, key: &str, read: impl FnOnce(&'n Node) -> Option<T>) -> Option<Option<T>> {
    let node = fields.find(key)?;
    match &node.tree {
        Tree::Text(text) if text == "none" => Some(None),
        _ => read(node).map(Some),
    }
}

fn read_from(node: &Node, after: Duration, notes: &mut Notes) -> Vec<Approver> {
    if matches!(&node.tree, Tree::List(nodes) if nodes.is_empty()) {
        notes.note(node.at, "`from` is empty, so nobody could approve; expected `{ user: NAME }` or `{ group: NAME }`");
    }
    fields::one_or_many(node).iter().filter_map(|node| read_approver(node, after, notes)).collect()
}

fn read_steps(node: &Node, notes: &mut Notes) -> Vec<Step> {
    let Tree::List(nodes) = &node.tree else {
        let found = node.noun();
        notes.note(
            node.at,
            format!("expected a list for `steps`, such as `- {{ from: [{{ group: dba }}] }}`, found {found}"),
        );
        return Vec::new();
    };
    if nodes.is_empty() || nodes.len() > MOST_STEPS {
        notes.note(node.at, format!("`steps` are 1 to {MOST_STEPS}; found {}", nodes.len()));
        return Vec::new();
    }
    let steps: Vec<_> = nodes.iter().filter_map(|node| Some((node.at, read_step(node, notes)?))).collect();
    // Nobody counts twice, so whoever alone can take a place cannot take another one.
    let mut needed: Vec<&str> = Vec::new();
    for (at, step) in &steps {
        for name in needed_alone(step) {
            if needed.contains(&name) {
                let name = brief(name);
                notes.note(
                    *at,
                    format!("`{name}` would have to approve twice, and nobody counts twice; ask somebody else as well"),
                );
            }
            needed.push(name);
        }
    }
    if steps.len() < nodes.len() { Vec::new() } else { steps.into_iter().map(|(_, step)| step).collect() }
}

/// The people without whom a step cannot be satisfied.
fn needed_alone(step: &Step) -> impl Iterator<Item = &str> {
    let all_needed = step.people() >= step.from.len();
    step.from.iter().filter_map(move |approver| match &approver.who {
        Who::User(name) if all_needed => Some(name.as_str()),
        _ => None,
    })
}

fn read_step(node: &Node, notes: &mut Notes) -> Option<Step> {
    let fields = Fields::read(node, "step", &["from", "need", "after"], notes)?;
    let after = fields.find("after").map_or(Some(Duration::ZERO), |node| read_after(node, notes));
    let from = fields.need("from", "whom it asks, such as `from: [{ group: dba }]`", notes);
    let from = read_from(from?, after?, notes);
    let need = match fields.find("need") {
        None => Need::Number(1),
        Some(Node { tree: Tree::Text(word), .. }) if word == "any" => Need::Number(1),
        Some(Node { tree: Tree::Text(word), .. }) if word == "all" => Need::All,
        Some(node @ Node { tree: Tree::Number(_), .. }) => {
            Need::Number(fields::count(node, "need", MOST_PEOPLE, notes)?)
        }
        Some(node) => {
            notes.note(node.at, format!("`need` is `any`, `all` or a number of people; found {}", node.noun()));
            return None;
        }
    };
    let step = Step { from, need };
    let only_users = step.from.iter().all(|approver| matches!(approver.who, Who::User(_)));
    if only_users && !step.from.is_empty() && step.people() > step.from.len() {
        notes.note(node.at, format!("this step needs {} people and names {}", step.people(), step.from.len()));
    }
    (!step.from.is_empty()).then_some(step)
}

/// Whether everybody whose word is needed may give it before time runs out.
fn in_time(node: &Node, timeout: Duration, from: &[Approver], steps: &[Step], notes: &mut Notes) {
    let is_late = |approver: &Approver| approver.after >= timeout;
    if !from.is_empty() && from.iter().all(is_late) {
        notes.note(node.at, "`timeout` ends before anybody in `from` may decide; make it longer than their `after`");
    }
    let late_step = |step: &Step| match step.need {
        Need::All => step.from.iter().any(is_late),
        Need::Number(_) => step.from.iter().all(is_late),
    };
    if let Some(at) = steps.iter().position(late_step) {
        let number = at + 1;
        notes.note(
            node.at,
            format!("`timeout` ends before step {number} can be satisfied; make it longer than its `after`"),
        );
    }
}

fn read_ticket(node: &Node, notes: &mut Notes) -> Option<String> {
    let pattern = fields::text(node, "ticket", notes)?;
    if pattern.len() > 500 {
        notes.note(node.at, "`ticket` is longer than any name of a ticket; the longest pattern is 500 bytes");
        return None;
    }
    if let Err(error) = approval::whole(pattern) {
        let why = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let shown = brief(pattern);
        notes.note(node.at, format!("`{shown}` is no pattern for `ticket` ({why}); expected one such as `OPS-[0-9]+`"));
        return None;
    }
    Some(pattern.to_owned())
}

fn read_approver(node: &Node, otherwise: Duration, notes: &mut Notes) -> Option<Approver> {
    let fields = Fields::read(node, "from", &["user", "group", "on_call", "token", "after"], notes)?;
    let after = fields.find("after").map_or(Some(otherwise), |node| read_after(node, notes))?;
    Some(Approver { who: read_who(&fields, notes)?, after })
}

fn read_after(node: &Node, notes: &mut Notes) -> Option<Duration> {
    match &node.tree {
        // "At once" is a fair thing to write out.
        Tree::Text(text) if matches!(text.as_str(), "0" | "0s" | "0m") => Some(Duration::ZERO),
        _ => fields::duration(node, "after", notes),
    }
}

fn read_who(fields: &Fields<'_>, notes: &mut Notes) -> Option<Who> {
    let kinds = [
        ("user", Who::User as fn(String) -> Who),
        ("group", Who::Group),
        ("on_call", Who::OnCall),
        ("token", Who::Program),
    ];
    let mut written = kinds.into_iter().filter_map(|(key, kind)| Some((key, kind, fields.find(key)?)));
    match (written.next(), written.next()) {
        (Some((key, kind, node)), None) => fields::name(node, key, notes).map(|name| kind(name.to_owned())),
        _ => {
            notes.note(
                fields.at,
                "an approver is exactly one of `user: NAME`, `group: NAME`, `on_call: NAME` or `token: NAME`",
            );
            None
        }
    }
}
