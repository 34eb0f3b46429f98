//! Delegations: an approver lends what they may decide to somebody by name, until a moment.
//!
//! # Security
//! What is lent is the lender's name and groups as they were then; what somebody was lent they cannot lend on, since it
//! never becomes a group of theirs. Whoever decides by it is themselves for every count, and lender and borrower are one
//! vote ([`super::workflow`]).

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::{Desk, grant::Now, workflow::Loan};
use crate::{
    operation::DelegationId,
    people::{Person, PersonId},
    record::{
        RecordError,
        entry::{Body, Delegated, Entry, Timestamp},
    },
};

/// Why there is no delegation, or nothing was done with one.
#[derive(Debug, thiserror::Error)]
pub enum DelegateError {
    /// Nobody lends.
    #[error("a program lends nothing: what it may decide is what a rule names it for")]
    Program,
    /// Too long or too short.
    #[error("what one may decide is lent for a minute to thirty days")]
    Bounds,
    /// To nobody else.
    #[error("{0} is no name to lend to; name somebody else as policies do")]
    ToWhom(String),
    /// Not a group of theirs.
    #[error("{0} is not in group {1}, so it cannot be lent; what one was lent oneself cannot be lent on")]
    NotYours(String, String),
    /// Too many at once.
    #[error("{0} has lent to {MOST} people already; end one of those first with `holdpoint approvals undelegate`")]
    TooMany(String),
    /// No such delegation.
    #[error("there is no delegation {0}; `holdpoint approvals delegations` lists those in force")]
    Unknown(String),
    /// The typed form fits several.
    #[error("{0} names several delegations; type more of it")]
    Ambiguous(String),
    /// Neither theirs nor to them.
    #[error("only {1}, {2} and root may end delegation {0}")]
    NotTheirs(String, String, String),
    /// It cannot be recorded.
    #[error("this cannot be recorded: {0}")]
    Record(#[from] RecordError),
}

/// A delegation in force, as people see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DelegationView {
    /// Its full name.
    pub delegation: DelegationId,
    /// The form that people type.
    pub short: String,
    /// Who lends.
    pub from: String,
    /// To whom.
    pub to: String,
    /// In which groups the other may decide, beside the lender's own name.
    pub groups: Vec<String>,
    /// Seconds left.
    pub seconds_left: u64,
}

/// Those in force.
#[derive(Default)]
pub(super) struct Delegations(BTreeMap<DelegationId, Delegation>);

struct Delegation {
    delegated: Delegated,
    made: Timestamp,
    lender: Person,
    /// By the monotonic clock: whichever clock is first ends it.
    until: Instant,
}

impl Delegations {
    /// What is lent to a person now, with the rotations in which it is the lender's turn.
    pub(super) fn to(&self, person: &Person, turns: impl Fn(&Person) -> Vec<String>) -> Vec<Loan> {
        let now = Now::read();
        let theirs = self.0.values().filter(|one| person.is_called(&one.delegated.to) && one.is_in_force(now));
        let loan = |one: &Delegation| Loan {
            delegation: one.delegated.delegation,
            lender: one.lender.clone(),
            on_call: turns(&one.lender),
        };
        theirs.map(loan).collect()
    }

    /// Who lends to whom now.
    pub(super) fn in_force(&self) -> impl Iterator<Item = (&Person, &str)> {
        let now = Now::read();
        self.0.values().filter(move |one| one.is_in_force(now)).map(|one| (&one.lender, one.delegated.to.as_str()))
    }

    fn begin(&mut self, delegated: Delegated, made: Timestamp, now: Timestamp) {
        let until = Instant::now() + delegated.until.since(now).min(delegated.until.since(made));
        let Delegated { from, person, uid, groups, .. } = &delegated;
        let lender = recorded(person, from, *uid, groups);
        self.0.insert(delegated.delegation, Delegation { delegated, made, lender, until });
    }

    fn named(&self, typed: &str) -> Result<&Delegation, DelegateError> {
        let now = Now::read();
        let mut found = self.0.values().filter(|one| one.is_in_force(now) && one.delegated.delegation.is_named(typed));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(DelegateError::Ambiguous(typed.to_owned())),
            (None, _) => Err(DelegateError::Unknown(typed.to_owned())),
        }
    }
}

impl Delegation {
    fn is_in_force(&self, now: Now) -> bool {
        now.steady < self.until && now.clock < self.delegated.until && now.clock >= self.made
    }

    fn view(&self, now: Now) -> DelegationView {
        let Delegated { delegation, from, to, groups, .. } = &self.delegated;
        DelegationView {
            delegation: *delegation,
            short: delegation.short(),
            from: from.clone(),
            to: to.clone(),
            groups: groups.clone(),
            seconds_left: self.until.saturating_duration_since(now.steady).as_secs(),
        }
    }
}

impl Desk {
    /// Takes up what a former gateway left.
    pub(super) fn take_up_delegations(&self) -> Result<(), RecordError> {
        let left = self.0.recorder.records()?.open_delegations()?;
        let mut state = self.state();
        let now = Timestamp::now();
        for (made, delegated) in left {
            state.delegations.begin(delegated, made, now);
        }
        drop(state);
        self.expire_delegations();
        Ok(())
    }

    /// Lends what `person` may decide, in `groups` of theirs or in all of them, and by their name, to whoever is called
    /// `to`, for so long.
    ///
    /// # Errors
    /// Nothing is lent, and why.
    pub fn delegate(
        &self,
        person: &Person,
        to: &str,
        groups: Option<Vec<String>>,
        lasts: Duration,
    ) -> Result<DelegationView, DelegateError> {
        if !(SHORTEST..=LONGEST).contains(&lasts) {
            return Err(DelegateError::Bounds);
        }
        if person.is_program() {
            return Err(DelegateError::Program);
        }
        if to.trim().is_empty() || to.trim() != to || to.len() > 200 || person.is_called(to) {
            return Err(DelegateError::ToWhom(to.to_owned()));
        }
        let groups = groups.unwrap_or_else(|| person.groups.clone());
        if let Some(group) = groups.iter().find(|group| !person.groups.contains(group)) {
            return Err(DelegateError::NotYours(person.name.clone(), group.clone()));
        }
        let mut state = self.state();
        if state.delegations.in_force().filter(|(lender, _)| lender.id == person.id).count() >= MOST {
            return Err(DelegateError::TooMany(person.name.clone()));
        }
        let at = Timestamp::now();
        let delegated = Delegated {
            delegation: DelegationId::now(),
            from: person.name.clone(),
            person: person.id.to_string(),
            uid: person.uid,
            to: to.to_owned(),
            until: at.after(lasts),
            groups,
        };
        let body = Body::Delegated(Box::new(delegated.clone()));
        let _ = self.0.recorder.append_written(Entry { at, session: None, body })?;
        let delegation = delegated.delegation;
        state.delegations.begin(delegated, at, at);
        let view = state.delegations.named(&delegation.to_string())?.view(Now::read());
        drop(state);
        tracing::info!(delegation = %delegation.short(), from = person.name, to, "an approver lends what they may decide");
        self.0.deadline_changed.notify_one();
        self.changed();
        Ok(view)
    }

    /// Every delegation in force, oldest first.
    pub fn delegations(&self) -> Vec<DelegationView> {
        let now = Now::read();
        let state = self.state();
        state.delegations.0.values().filter(|one| one.is_in_force(now)).map(|one| one.view(now)).collect()
    }

    /// Ends a delegation. Whoever lent may, whom it was lent to, and the superuser.
    ///
    /// # Errors
    /// It does nothing, and says why.
    pub fn end_delegation(&self, typed: &str, person: &Person) -> Result<DelegationId, DelegateError> {
        let mut state = self.state();
        let one = state.delegations.named(typed)?;
        let Delegated { delegation, from, to, .. } = one.delegated.clone();
        if !person.is_root() && one.lender.id != person.id && !person.is_called(&to) {
            return Err(DelegateError::NotTheirs(delegation.short(), from, to));
        }
        let (by, id) = (Some(person.name.clone()), Some(person.id.to_string()));
        let body = Body::DelegationEnded { delegation, by, person: id };
        let recorded = self.0.recorder.append_written(Entry { at: Timestamp::now(), session: None, body });
        // Ended whether or not that can be recorded: what somebody takes back must not decide anything more.
        state.delegations.0.remove(&delegation);
        drop(state);
        self.changed();
        let _ = recorded?;
        Ok(delegation)
    }

    /// Ends what is past its time; gives the next time.
    pub(super) fn expire_delegations(&self) -> Option<Instant> {
        let now = Now::read();
        let mut state = self.state();
        let late: Vec<_> =
            state.delegations.0.iter().filter(|(_, one)| !one.is_in_force(now)).map(|(id, _)| *id).collect();
        for delegation in late {
            let body = Body::DelegationEnded { delegation, by: None, person: None };
            if let Err(error) = self.0.recorder.append_written(Entry { at: now.clock, session: None, body }) {
                tracing::error!(%error, delegation = %delegation.short(), "cannot record the end of a delegation");
            }
            state.delegations.0.remove(&delegation);
        }
        state.delegations.0.values().map(|one| one.until).min()
    }
}

/// Somebody as the record has them.
pub(super) fn recorded(id: &str, name: &str, uid: Option<u32>, groups: &[String]) -> Person {
    let (also, email, roles) = (Vec::new(), None, Default::default());
    Person { id: id_of(id), name: name.to_owned(), also, uid, email, groups: groups.to_vec(), roles }
}

/// A human's id as the record has it: the inverse of its `Display`.
fn id_of(text: &str) -> PersonId {
    let machine = text.strip_prefix("machine:").and_then(|uid| uid.parse().ok()).map(PersonId::Machine);
    let local = || text.strip_prefix("local:").map(|name| PersonId::Local(name.to_owned()));
    let program = || text.strip_prefix("token:").map(|name| PersonId::Program(name.to_owned()));
    machine.or_else(local).or_else(program).unwrap_or_else(|| {
        let (issuer, subject) = text.split_once('#').unwrap_or(("", text));
        PersonId::Provider { issuer: issuer.to_owned(), subject: subject.to_owned() }
    })
}

const SHORTEST: Duration = Duration::from_secs(60);

const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// To how many people somebody may lend at once.
const MOST: usize = 20;
