//! One request's way from asked to ended, as a pure machine: an event and a time go in, the next state and what is to be
//! recorded come out. It has no clock, no lock and no disk; the desk is its shell, and lets a state count only when what
//! led to it is on record.
//!
//! # Correctness
//! - A request ends once; nothing happens to it afterwards.
//! - It is approved when each step, in order, was satisfied by people of whom each is surely another than all others of
//!   the whole request, or when one person of the rule's own group broke the glass.
//! - Nobody counts before they were asked ([`Transition::Asked`]), after the request's time, or where they are kept out.
//! - What is lent is one vote: whoever lent it and whoever decides by it do not both count.

use std::{sync::Arc, time::Duration};

use super::{DecideError, Terms, words};
use crate::{
    operation::DelegationId,
    people::Person,
    policy::{Approval, Step, Who},
    record::entry::{Counts, Lent, Outcome},
};

/// One request, between two events. Times are since it was opened.
#[derive(Debug, Clone)]
pub(super) struct Workflow {
    pub(super) approval: Arc<Approval>,
    /// The request, as people name it.
    short: String,
    parties: Arc<Parties>,
    /// The open step.
    step: usize,
    /// When it was opened.
    since: Duration,
    /// Which of its places are asked.
    asked: Vec<u32>,
    approvals: Vec<Approved>,
    remarks: usize,
    ended: Option<Outcome>,
}

/// Who stands behind a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Parties {
    /// The user of the process that asks.
    pub(super) uid: u32,
    /// The names of those who may not decide beside them.
    pub(super) barred: Vec<String>,
    /// The names of those who answer for the workload.
    pub(super) owners: Vec<String>,
}

/// One person's approval.
#[derive(Debug, Clone)]
pub(super) struct Approved {
    pub(super) person: Person,
    pub(super) counts: Counts,
    /// Who lent them the right to it.
    lender: Option<Person>,
    /// The grant that it is meant to become.
    pub(super) grant: Option<Terms>,
}

/// Somebody, with all that they may at this moment.
#[derive(Debug, Clone)]
pub(super) struct Decider {
    pub(super) person: Person,
    /// The rotations in which it is their turn.
    pub(super) on_call: Vec<String>,
    /// What others lent them.
    pub(super) loans: Vec<Loan>,
}

/// What somebody lent.
#[derive(Debug, Clone)]
pub(super) struct Loan {
    pub(super) delegation: DelegationId,
    /// Who, with no more groups than they lent.
    pub(super) lender: Person,
    /// The rotations in which it is the lender's turn.
    pub(super) on_call: Vec<String>,
}

/// What happens to a request.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// Somebody says yes.
    Approve {
        by: &'a Decider,
        reason: Option<&'a str>,
        ticket: Option<&'a str>,
        /// Whether there is a passkey's signature under it.
        signed: bool,
        grant: Option<&'a Terms>,
    },
    /// Somebody says no.
    Deny { by: &'a Decider },
    /// Somebody releases it alone.
    BreakGlass { by: &'a Decider, reason: Option<&'a str>, signed: bool },
    /// Somebody says something that decides nothing.
    Say { by: &'a Decider, text: &'a str },
    /// Time has passed.
    Time,
    /// The client takes it back.
    Withdraw,
    /// The gateway stops.
    Stop,
}

/// What is to be recorded before the next state counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transition {
    /// These places of the open step are asked from now on.
    Asked { step: u32, places: Vec<u32> },
    /// The approval counts.
    Counted(Counts),
    /// The denial counts.
    Denied,
    /// It was released by one person alone, as one of this group.
    BrokeGlass(String),
    /// It was said.
    Said,
    /// The request has ended.
    Ended(Outcome),
}

/// The next state, and what led to it.
pub(super) type Next = (Workflow, Vec<Transition>);

impl Workflow {
    /// A request that was just opened; [`Event::Time`] asks the first people.
    pub(super) fn open(approval: Arc<Approval>, short: String, parties: Parties) -> Self {
        let (parties, since) = (Arc::new(parties), Duration::ZERO);
        let (asked, approvals) = (Vec::new(), Vec::new());
        Self { approval, short, parties, step: 0, since, asked, approvals, remarks: 0, ended: None }
    }

    /// What an event makes of it.
    ///
    /// # Errors
    /// It does nothing, and says why.
    pub(super) fn on(&self, event: &Event<'_>, at: Duration) -> Result<Next, DecideError> {
        if let Some(outcome) = self.ended {
            return Err(DecideError::Ended(self.short.clone(), words(outcome)));
        }
        match event {
            Event::Withdraw => Ok(self.end(Outcome::Withdrawn)),
            Event::Stop => Ok(self.end(Outcome::Restarted)),
            Event::Time if at >= self.approval.timeout => Ok(self.end(Outcome::Expired)),
            _ if at >= self.approval.timeout => Err(DecideError::Ended(self.short.clone(), words(Outcome::Expired))),
            Event::Time => Ok(self.ask(at)),
            Event::Approve { by, reason, ticket, signed, grant } => {
                let (counts, lender) = self.counts(by, at)?;
                self.with_all_that_is_required(*reason, *ticket, *signed)?;
                let counts = Counts { ticket: ticket.map(str::to_owned), ..counts };
                let (person, grant) = (by.person.clone(), grant.cloned());
                Ok(self.approved(Approved { person, counts, lender, grant }, at))
            }
            Event::Deny { by } => {
                self.may_deny(by, at)?;
                let (then, mut transitions) = self.end(Outcome::Denied);
                transitions.insert(0, Transition::Denied);
                Ok((then, transitions))
            }
            Event::BreakGlass { by, reason, signed } => {
                let group = self.may_break_glass(by, *reason, *signed)?;
                let (then, mut transitions) = self.end(Outcome::Approved);
                transitions.insert(0, Transition::BrokeGlass(group));
                Ok((then, transitions))
            }
            Event::Say { by, text } => {
                self.may_say(by, text)?;
                Ok((Self { remarks: self.remarks + 1, ..self.clone() }, vec![Transition::Said]))
            }
        }
    }

    fn end(&self, outcome: Outcome) -> Next {
        (Self { ended: Some(outcome), ..self.clone() }, vec![Transition::Ended(outcome)])
    }

    /// Asks those whose time has come.
    fn ask(&self, at: Duration) -> Next {
        let due = |(_, after): &(u32, Duration)| self.since + *after <= at;
        let places: Vec<u32> = self.unasked().filter(due).map(|(place, _)| place).collect();
        let mut then = self.clone();
        then.asked.extend(&places);
        let asked = Transition::Asked { step: number(self.step), places };
        let news = then.asked.len() > self.asked.len();
        (then, news.then_some(asked).into_iter().collect())
    }

    /// Places of the open step that are not asked yet, and from when on in it.
    fn unasked(&self) -> impl Iterator<Item = (u32, Duration)> {
        let places = (0..).zip(&self.open_step().from).map(|(place, approver)| (place, approver.after));
        places.filter(|(place, _)| !self.asked.contains(place))
    }

    /// When time alone next changes something.
    pub(super) fn next_change(&self) -> Duration {
        let asks = self.unasked().map(|(_, after)| self.since + after).min();
        asks.map_or(self.approval.timeout, |at| at.min(self.approval.timeout))
    }

    fn approved(&self, approved: Approved, at: Duration) -> Next {
        let mut then = self.clone();
        let mut transitions = vec![Transition::Counted(approved.counts.clone())];
        then.approvals.push(approved);
        if !self.open_step().is_satisfied(&then.places_in(self.step)) {
            return (then, transitions);
        }
        if self.step + 1 == self.approval.steps.len() {
            then.ended = Some(Outcome::Approved);
            transitions.push(Transition::Ended(Outcome::Approved));
        } else {
            (then.step, then.since, then.asked) = (self.step + 1, at, Vec::new());
        }
        (then, transitions)
    }

    /// As what an approval of this person counts.
    fn counts(&self, by: &Decider, at: Duration) -> Result<(Counts, Option<Person>), DecideError> {
        self.may_decide_at_all(&by.person)?;
        if let Some(other) = self.approvals.iter().find(|other| !by.person.is_surely_another(&other.person)) {
            let (short, name) = (self.short.clone(), other.person.name.clone());
            let same = other.person.id == by.person.id;
            return Err(if same { DecideError::Twice(short) } else { DecideError::PerhapsTwice(short, name) });
        }
        let in_their_place =
            |other: &&Approved| other.lender.as_ref().is_some_and(|lender| !by.person.is_surely_another(lender));
        if let Some(other) = self.approvals.iter().find(in_their_place) {
            return Err(DecideError::Spent(other.person.name.clone(), self.short.clone()));
        }
        let mut taken = false;
        for right in self.rights(by) {
            let places: Vec<u32> = right.places(self.open_step()).filter(|at| self.asked.contains(at)).collect();
            if places.is_empty() || right.loan.is_some_and(|loan| self.has_voted(&loan.lender)) {
                continue;
            }
            let mut with = self.places_in(self.step);
            let before = self.open_step().counting(&with);
            with.push(&places);
            if self.open_step().counting(&with) > before {
                let lent = right.loan.map(Loan::lent);
                let counts = Counts { step: number(self.step), places, ticket: None, lent };
                return Ok((counts, right.loan.map(|loan| loan.lender.clone())));
            }
            taken = true;
        }
        if taken {
            Err(DecideError::PlaceTaken(self.short.clone(), self.missing()))
        } else {
            Err(self.not_asked(by, at))
        }
    }

    fn has_voted(&self, lender: &Person) -> bool {
        self.approvals.iter().any(|other| {
            !lender.is_surely_another(&other.person)
                || other.lender.as_ref().is_some_and(|other| !lender.is_surely_another(other))
        })
    }

    /// Why somebody whose word does not count now is not asked now.
    fn not_asked(&self, by: &Decider, at: Duration) -> DecideError {
        let (name, short) = (by.person.name.clone(), self.short.clone());
        let places_in =
            |step: &Step| self.rights(by).flat_map(|right| right.places(step).collect::<Vec<_>>()).collect();
        let here: Vec<u32> = places_in(self.open_step());
        let later = self.unasked().filter(|(place, _)| here.contains(place)).map(|(_, after)| self.since + after).min();
        if let Some(from) = later {
            let left = from.saturating_sub(at);
            // Rounded up: who comes back then may decide.
            let left = Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0));
            return DecideError::NotYet(name, short, humantime::format_duration(left));
        }
        if !here.is_empty() {
            // They are asked, by what was lent to them, and that vote was given.
            return DecideError::PlaceTaken(short, self.missing());
        }
        let asked_in = |(_, step): &(usize, &Step)| !places_in(step).is_empty();
        match self.approval.steps.iter().enumerate().find(asked_in) {
            Some((at, _)) if at < self.step => DecideError::StepOver(name, short, at + 1, self.missing()),
            Some((at, _)) => DecideError::StepNotYet(name, short, at + 1, self.missing()),
            None => DecideError::NotAnApprover(name, short, self.approvers().join(", ")),
        }
    }

    fn may_decide_at_all(&self, person: &Person) -> Result<(), DecideError> {
        if person.uid == Some(self.parties.uid) {
            return Err(DecideError::OwnRequest(self.short.clone(), person.name.clone()));
        }
        if self.parties.bar(person) {
            return Err(DecideError::Barred(person.name.clone(), self.short.clone()));
        }
        Ok(())
    }

    fn with_all_that_is_required(
        &self,
        reason: Option<&str>,
        ticket: Option<&str>,
        signed: bool,
    ) -> Result<(), DecideError> {
        if self.approval.reason_required && is_empty(reason) {
            return Err(DecideError::ReasonRequired);
        }
        if !self.approval.accepts_ticket(ticket) {
            return Err(DecideError::TicketRequired(self.approval.ticket.clone().unwrap_or_default()));
        }
        self.signed(signed)
    }

    fn signed(&self, signed: bool) -> Result<(), DecideError> {
        if self.approval.passkey && !signed { Err(DecideError::PasskeyRequired(self.short.clone())) } else { Ok(()) }
    }

    /// Whoever is asked may deny, also where their step is through; whoever has a veto, at any time.
    fn may_deny(&self, by: &Decider, at: Duration) -> Result<(), DecideError> {
        self.may_decide_at_all(&by.person)?;
        let steps = &self.approval.steps;
        let may = self.rights(by).any(|right| {
            self.approval.veto.iter().any(|who| right.is(who))
                || right.places(self.open_step()).any(|place| self.asked.contains(&place))
                || steps.iter().take(self.step).any(|step| right.places(step).next().is_some())
        });
        if may { Ok(()) } else { Err(self.not_asked(by, at)) }
    }

    fn may_break_glass(&self, by: &Decider, reason: Option<&str>, signed: bool) -> Result<String, DecideError> {
        self.may_decide_at_all(&by.person)?;
        let Some(group) = &self.approval.break_glass else {
            return Err(DecideError::NoGlass(self.short.clone()));
        };
        // In their own right alone: nobody lends this.
        if !by.person.groups.contains(group) {
            return Err(DecideError::MayNotBreak(by.person.name.clone(), self.short.clone(), group.clone()));
        }
        if is_empty(reason) {
            return Err(DecideError::ReasonRequired);
        }
        self.signed(signed)?;
        Ok(group.clone())
    }

    fn may_say(&self, by: &Decider, text: &str) -> Result<(), DecideError> {
        let person = &by.person;
        let stands_behind = person.uid == Some(self.parties.uid) || is_named(person, &self.parties.owners);
        let concerned = self.rights(by).any(|right| self.approval.everybody().any(|who| right.is(&who)));
        if !stands_behind && !concerned && !person.is_root() {
            let approvers = self.approvers().join(", ");
            return Err(DecideError::NotAnApprover(person.name.clone(), self.short.clone(), approvers));
        }
        if text.trim().is_empty() || text.len() > LONGEST_REMARK || self.remarks >= MOST_REMARKS {
            return Err(DecideError::Remark);
        }
        Ok(())
    }

    /// In whose right somebody may decide: their own, then what was lent by those who may themselves.
    fn rights<'a>(&'a self, by: &'a Decider) -> impl Iterator<Item = Right<'a>> {
        let own = Right { person: &by.person, on_call: &by.on_call, loan: None };
        let may = |loan: &&Loan| self.may_decide_at_all(&loan.lender).is_ok();
        let lent = by.loans.iter().filter(may);
        let lent = lent.map(|loan| Right { person: &loan.lender, on_call: &loan.on_call, loan: Some(loan) });
        std::iter::once(own).chain(lent)
    }

    fn open_step(&self) -> &Step {
        &self.approval.steps[self.step]
    }

    fn places_in(&self, step: usize) -> Vec<&[u32]> {
        let here = self.approvals.iter().filter(|approved| approved.counts.step == number(step));
        here.map(|approved| &approved.counts.places[..]).collect()
    }

    // ---- what people see ----

    /// How it ended, if it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.ended
    }

    /// Who has approved, in order.
    pub(super) fn approvals(&self) -> &[Approved] {
        &self.approvals
    }

    /// How many more people are needed, in this step and in those behind it.
    pub(super) fn people_missing(&self) -> usize {
        let behind: usize = self.approval.steps.iter().skip(self.step + 1).map(Step::people).sum();
        let here = self.open_step();
        here.people().saturating_sub(here.counting(&self.places_in(self.step))) + behind
    }

    /// The open step, from 0, and which of its places are asked.
    pub(super) fn asked(&self) -> (usize, &[u32]) {
        (self.step, &self.asked)
    }

    /// When the open step was opened.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// Whom it waits for, in words.
    pub(super) fn missing(&self) -> String {
        match self.approval.steps.len() {
            1 => self.open_step().to_string(),
            steps => format!("step {} of {steps} ({})", self.step + 1, self.open_step()),
        }
    }

    /// Whom the rule asks, in words.
    pub(super) fn approvers(&self) -> Vec<String> {
        super::open::approvers_in_words(&self.approval)
    }
}

impl Parties {
    fn bar(&self, person: &Person) -> bool {
        is_named(person, &self.barred)
    }
}

/// By name, or by the address that somebody vouches for.
fn is_named(person: &Person, names: &[String]) -> bool {
    let email = person.email.as_deref();
    names.iter().any(|name| person.is_called(name) || email.is_some_and(|email| email.eq_ignore_ascii_case(name)))
}

/// Somebody's right to decide: their own, or one that was lent.
struct Right<'a> {
    person: &'a Person,
    on_call: &'a [String],
    loan: Option<&'a Loan>,
}

impl Right<'_> {
    fn is(&self, who: &Who) -> bool {
        match who {
            Who::OnCall(rota) => self.on_call.contains(rota),
            who => self.person.is(who),
        }
    }

    fn places(&self, step: &Step) -> impl Iterator<Item = u32> {
        (0..).zip(&step.from).filter(|(_, approver)| self.is(&approver.who)).map(|(place, _)| place)
    }
}

impl Loan {
    fn lent(&self) -> Lent {
        let Loan { delegation, lender, .. } = self;
        Lent { delegation: *delegation, by: lender.name.clone(), person: lender.id.to_string() }
    }
}

fn is_empty(text: Option<&str>) -> bool {
    text.is_none_or(|text| text.trim().is_empty())
}

fn number(step: usize) -> u32 {
    u32::try_from(step).unwrap_or(u32::MAX)
}

/// The longest remark, in bytes.
const LONGEST_REMARK: usize = 4000;

/// The most remarks on one request.
const MOST_REMARKS: usize = 100;

#[cfg(test)]
mod tests;
