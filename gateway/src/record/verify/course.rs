//! A request's course through its steps, followed offline from what the record says of it: the same rules as the desk's,
//! as far as the record has what is needed. Which groups somebody was in is not in it, nor is the monotonic clock.

use std::collections::BTreeSet;

use crate::{
    policy::{Approval, Need, Step, Who},
    record::entry::{BrokenGlass, Counts, Delegated},
};

/// How far a request has come.
pub(super) struct Course {
    approval: Approval,
    barred: Vec<String>,
    /// The user of the process that asks, where the record has it.
    uid: Option<u32>,
    /// The open step; as many as there are when all are through.
    step: usize,
    /// Which of its places are asked.
    asked: BTreeSet<u32>,
    /// The places that those who approved in it may take.
    here: Vec<Vec<u32>>,
    /// Who has given their vote, themselves or by whom they lent it to.
    votes: BTreeSet<String>,
    /// How many approved as an older gateway recorded it.
    old: usize,
    broken: bool,
}

/// An approval, as recorded.
pub(super) struct Given<'a> {
    pub(super) by: &'a str,
    pub(super) person: &'a str,
    pub(super) uid: Option<u32>,
    pub(super) reason: Option<&'a str>,
    pub(super) signed: bool,
    pub(super) counts: Option<&'a Counts>,
    /// The delegation that it names, where that is in force.
    pub(super) lent: Option<&'a Delegated>,
}

impl Course {
    pub(super) fn new(approval: Approval, barred: Vec<String>, uid: Option<u32>) -> Self {
        Self {
            approval,
            barred,
            uid,
            step: 0,
            asked: BTreeSet::new(),
            here: Vec::new(),
            votes: BTreeSet::new(),
            old: 0,
            broken: false,
        }
    }

    /// Whether everything that was needed is there.
    pub(super) fn is_approved(&self) -> bool {
        let as_of_old = match &self.approval.steps[..] {
            [Step { need: Need::Number(number), .. }] => self.old >= (*number).max(1) as usize,
            _ => false,
        };
        self.step == self.approval.steps.len() || as_of_old || self.broken
    }

    /// How far it has come, in words.
    pub(super) fn standing(&self) -> String {
        let given = self.old.max(self.votes.len());
        match self.approval.steps.len() {
            1 => format!("{given} of {} approvals", self.approval.people()),
            steps => format!("step {} of {steps} open", self.step + 1),
        }
    }

    fn open_step(&self) -> Option<&Step> {
        self.approval.steps.get(self.step)
    }

    /// People are asked; says what is wrong with that.
    pub(super) fn asked(&mut self, step: u32, places: &[u32], who: &[Who]) -> Option<&'static str> {
        let open = self.open_step().filter(|_| usize::try_from(step) == Ok(self.step));
        let there = |place: &u32| Some(&open?.from.get(usize::try_from(*place).ok()?)?.who);
        let named: Option<Vec<&Who>> = places.iter().map(there).collect();
        if named.is_none_or(|named| !named.into_iter().eq(who)) {
            return Some("asks people whom its open step does not name");
        }
        self.asked.extend(places);
        None
    }

    /// Somebody approves; says what is wrong with that.
    pub(super) fn approved(&mut self, given: &Given<'_>) -> Option<&'static str> {
        if self.barred.iter().any(|name| name == given.by) || (given.uid.is_some() && given.uid == self.uid) {
            return Some("by somebody who may not decide on it");
        }
        let Some(counts) = given.counts else {
            self.old += usize::from(self.votes.insert(given.person.to_owned()));
            return None;
        };
        let wrong = self.is_wrong(given, counts);
        if wrong.is_some() {
            return wrong;
        }
        self.votes.insert(given.person.to_owned());
        self.votes.extend(counts.lent.iter().map(|lent| lent.person.clone()));
        self.here.push(counts.places.clone());
        let places: Vec<&[u32]> = self.here.iter().map(Vec::as_slice).collect();
        if self.open_step().is_some_and(|step| step.is_satisfied(&places)) {
            (self.step, self.asked, self.here) = (self.step + 1, BTreeSet::new(), Vec::new());
        }
        None
    }

    fn is_wrong(&self, given: &Given<'_>, counts: &Counts) -> Option<&'static str> {
        let Some(step) = self.open_step().filter(|_| usize::try_from(counts.step) == Ok(self.step)) else {
            return Some("in a step that is not open");
        };
        if counts.places.is_empty() || !counts.places.iter().all(|place| self.asked.contains(place)) {
            return Some("by somebody who was not asked");
        }
        let voted = |person: &str| self.votes.contains(person);
        if voted(given.person) || counts.lent.as_ref().is_some_and(|lent| voted(&lent.person)) {
            return Some("by somebody whose vote was given already");
        }
        let mut places: Vec<&[u32]> = self.here.iter().map(Vec::as_slice).collect();
        let before = step.counting(&places);
        places.push(&counts.places);
        if step.counting(&places) == before {
            return Some("that no place in its step is left for");
        }
        if let Some(lent) = &counts.lent {
            let may = |place: &u32| {
                let who = usize::try_from(*place).ok().and_then(|place| step.from.get(place)).map(|one| &one.who);
                given.lent.is_some_and(|delegated| match who {
                    Some(Who::Group(group)) => delegated.groups.contains(group),
                    Some(Who::User(user)) => *user == delegated.from,
                    Some(Who::OnCall(_)) => true,
                    Some(Who::Program(_)) | None => false,
                })
            };
            let theirs = given.lent.is_some_and(|one| one.to == given.by && one.person == lent.person);
            if !theirs || !counts.places.iter().all(may) {
                return Some("by a delegation that is not in force or does not cover it");
            }
        }
        if self.approval.reason_required && given.reason.is_none_or(|reason| reason.trim().is_empty()) {
            return Some("without the reason that it requires");
        }
        if !self.approval.accepts_ticket(counts.ticket.as_deref()) {
            return Some("without a ticket that it requires");
        }
        (self.approval.passkey && !given.signed).then_some("without the passkey that it requires")
    }

    /// Somebody releases it alone; says what is wrong with that.
    pub(super) fn broken(&mut self, glass: &BrokenGlass) -> Option<&'static str> {
        if self.approval.break_glass.as_ref() != Some(&glass.group) {
            return Some("as one of a group that may not");
        }
        if self.barred.contains(&glass.by) || (glass.uid.is_some() && glass.uid == self.uid) {
            return Some("by somebody who may not decide on it");
        }
        if glass.reason.trim().is_empty() {
            return Some("without a reason");
        }
        if self.approval.passkey && glass.proof.is_none() {
            return Some("without the passkey that it requires");
        }
        self.broken = true;
        None
    }
}
