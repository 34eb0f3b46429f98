//! Holding at commit: statements run inside their transaction, and what would keep them waits for people.
//!
//! # Security
//! Only what a rollback takes back runs before people were asked, and only inside a transaction that is open for
//! certain; everything else waits itself, as with `decide: hold`. Until the transaction is known to be over, whatever
//! may commit it is held.

use std::{sync::Arc, time::Duration};

use crate::{
    operation::{Impact, Operation, OperationId, Ran},
    policy::{Approval, Decide, OnHold, Verdict},
    visible::{visible, visible_start},
};

/// Where an operation stands to the transaction that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// It runs inside a transaction that is open for certain, and a rollback takes all of it back.
    pub taken_back: bool,
    /// It may commit what ran in that transaction before it.
    pub may_commit: bool,
}

impl Place {
    /// Nothing is known.
    pub const UNKNOWN: Place = Place { taken_back: false, may_commit: true };
}

/// What an operation is to the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing.
    None,
    /// It runs now; its commit is held.
    Runs,
    /// It may commit what ran, so it is held for that.
    Commits,
}

/// What ran in the transaction that is open, and must not be committed before people have approved it.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    /// In order; nothing is in here before the first that a policy wants held at commit.
    ran: Vec<(OperationId, Ran)>,
    /// How many more ran than are kept here.
    more: usize,
    terms: Option<Terms>,
}

/// On whose approval the commit waits.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    rule: Arc<str>,
    reason: Arc<str>,
    approval: Arc<Approval>,
    lock_time: Duration,
}

impl Terms {
    fn of(verdict: &Verdict) -> Option<Self> {
        let approval = verdict.approval.clone()?;
        let (rule, reason) = (verdict.rule.clone(), verdict.reason.clone());
        Some(Self { rule, reason, approval, lock_time: verdict.lock_time })
    }

    /// Those that ask more of people; time for all of them together is the shortest.
    fn and(self, other: Self) -> Self {
        let lock_time = self.lock_time.min(other.lock_time);
        let stricter = if other.approval.strictness() > self.approval.strictness() { other } else { self };
        Self { lock_time, ..stricter }
    }

    fn verdict(self, observed: Option<(Decide, Arc<str>)>) -> Verdict {
        let timeout = self.approval.timeout.min(self.lock_time);
        let time = humantime::format_duration(timeout);
        let reason = format!("{}; what ran is rolled back unless it is approved within {time}", self.reason);
        Verdict {
            decide: Decide::Hold,
            rule: self.rule,
            reason: reason.into(),
            approval: Some(Arc::new(Approval { timeout, ..(*self.approval).clone() })),
            lock_time: self.lock_time,
            on_hold: OnHold::Wait,
            observed,
        }
    }
}

impl Uncommitted {
    pub(super) fn is_empty(&self) -> bool {
        self.terms.is_none()
    }

    /// What a verdict comes to at this place.
    pub(super) fn place(&self, verdict: Verdict, place: Place) -> (Verdict, Part) {
        match (verdict.decide, &self.terms) {
            (Decide::Refuse, _) => (verdict, Part::None),
            (_, Some(terms)) if place.may_commit => {
                let own = if verdict.decide.asks_people() { Terms::of(&verdict) } else { None };
                let terms = own.into_iter().fold(terms.clone(), Terms::and);
                (terms.verdict(verdict.observed), Part::Commits)
            }
            (Decide::HoldCommit, _) if place.taken_back && !place.may_commit => (verdict, Part::Runs),
            (Decide::HoldCommit, _) => {
                let why = "no open transaction would take it back, so it waits itself";
                let reason = format!("{}; {why}", verdict.reason).into();
                (Verdict { decide: Decide::Hold, reason, ..verdict }, Part::None)
            }
            _ => (verdict, Part::None),
        }
    }

    /// An operation goes to the backend. What only reads is not worth an approver's time.
    pub(super) fn runs(&mut self, id: OperationId, operation: &Operation, verdict: &Verdict, part: Part) {
        if part == Part::Runs {
            let terms = Terms::of(verdict);
            self.terms = match (self.terms.take(), terms) {
                (Some(one), Some(other)) => Some(one.and(other)),
                (one, other) => one.or(other),
            };
        }
        if self.terms.is_none() || part != Part::Runs && operation.meaning.effects.within(super::ONLY_READS) {
            return;
        }
        if self.ran.len() >= MOST {
            self.more += 1;
            return;
        }
        self.ran.push((id, Ran { statement: shown(operation), rows: None }));
    }

    /// An operation is answered; how many rows it changed or gave, where the backend said so.
    pub(super) fn answered(&mut self, id: OperationId, rows: Option<u64>) {
        if let Some((_, ran)) = self.ran.iter_mut().find(|(ran, _)| *ran == id) {
            ran.rows = rows;
        }
    }

    /// The transaction is over, one way or the other.
    pub(super) fn is_over(&mut self) {
        *self = Self::default();
    }

    /// What ran, for people, beside what the backend said of the operation that would commit it.
    pub(super) fn shown_with(&self, mut impact: Impact) -> Impact {
        impact.ran = self.ran.iter().map(|(_, ran)| ran.clone()).collect();
        if self.more > 0 {
            let more = Ran { statement: format!("… and {} more; the session has them all", self.more), rows: None };
            impact.ran.push(more);
        }
        impact
    }
}

fn shown(operation: &Operation) -> String {
    let mut statement = visible_start(&operation.text, LONGEST);
    if !operation.parameters.is_empty() {
        let value = |value: &bytes::Bytes| visible_start(value, LONGEST / 10);
        let values = operation.parameters.iter().take(MOST);
        let values = values.map(|one| one.value.as_ref().map_or_else(|| "NULL".to_owned(), value));
        statement.push_str(&format!(" -- with {}", values.collect::<Vec<_>>().join(", ")));
    }
    visible(statement.as_bytes())
}

/// So many operations of a transaction are shown.
const MOST: usize = 50;

/// So many characters of one.
const LONGEST: usize = 2000;
