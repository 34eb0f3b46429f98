//! Whom a hold asks, in which order, and what counts as their answer. Pure: who somebody is and what time it is comes
//! from whoever asks.

use std::{cmp::Reverse, collections::BTreeMap, fmt, time::Duration};

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hours::{Hours, Otherwise};

/// A person, a group, whoever is on call, or a program, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// One person.
    User(String),
    /// A group.
    Group(String),
    /// The person whose turn it is in a rotation of the settings' `on_call:`.
    OnCall(String),
    /// A program with a token of this name.
    #[serde(rename = "token")]
    Program(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::User(name) => write!(f, "user {name}"),
            Who::Group(name) => write!(f, "group {name}"),
            Who::OnCall(name) => write!(f, "on call {name}"),
            Who::Program(name) => write!(f, "token {name}"),
        }
    }
}

/// Who may approve, and from when on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approver {
    /// A person, a group, or whoever is on call.
    #[serde(flatten)]
    pub who: Who,
    /// How long after their step was opened they may first decide (escalation). Zero: at once.
    pub after: Duration,
}

impl fmt::Display for Approver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.after.is_zero() {
            true => self.who.fmt(f),
            false => write!(f, "{} after {}", self.who, humantime::format_duration(self.after)),
        }
    }
}

/// How many of those whom a step asks must approve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// So many, at least 1, whichever.
    Number(u32),
    /// One for each entry.
    All,
}

/// People who are asked at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Who may decide.
    pub from: Vec<Approver>,
    /// How many of them must approve.
    pub need: Need,
}

impl Step {
    /// How many people must approve.
    pub fn people(&self) -> usize {
        match self.need {
            Need::Number(number) => number.max(1) as usize,
            Need::All => self.from.len(),
        }
    }

    /// How many of the approvals count, each given by the places in `from` that it may take: all of them, or, where each
    /// place needs somebody of its own, as many as there are different places for at most.
    pub fn counting(&self, approvals: &[&[u32]]) -> usize {
        match self.need {
            Need::Number(_) => approvals.len(),
            Need::All => matched(approvals, self.from.len()),
        }
    }

    /// Whether these approvals are all that is needed.
    pub fn is_satisfied(&self, approvals: &[&[u32]]) -> bool {
        self.counting(approvals) >= self.people()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from: Vec<_> = self.from.iter().map(Approver::to_string).collect();
        match self.need {
            Need::All if self.from.len() > 1 => write!(f, "each of {}", from.join(", ")),
            Need::All => f.write_str(&from.join(", ")),
            Need::Number(number) => write!(f, "{number} of {}", from.join(", ")),
        }
    }
}

/// How many approvals can have a place of their own: a largest matching, by augmenting paths.
fn matched(approvals: &[&[u32]], places: usize) -> usize {
    fn place(who: usize, approvals: &[&[u32]], taken: &mut [Option<usize>], tried: &mut [bool]) -> bool {
        for at in approvals[who].iter().filter_map(|at| usize::try_from(*at).ok()) {
            if at >= taken.len() || std::mem::replace(&mut tried[at], true) {
                continue;
            }
            if taken[at].is_none_or(|other| place(other, approvals, taken, tried)) {
                taken[at] = Some(who);
                return true;
            }
        }
        false
    }
    let mut taken = vec![None; places];
    (0..approvals.len()).filter(|who| place(*who, approvals, &mut taken, &mut vec![false; places])).count()
}

/// Who may not decide, beside the user of the process that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Separation {
    /// The workload's owner.
    Owner,
    /// Its author.
    Author,
}

impl Separation {
    /// The word in policies and in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Separation::Owner => "owner",
            Separation::Author => "author",
        }
    }

    /// The people whom a workload's labels name as this: `owner.holdpoint.io` and `holdpoint.io/owner`, with commas or
    /// spaces between several.
    pub fn named_in(self, labels: &BTreeMap<String, String>) -> Vec<String> {
        let role = self.as_str();
        let labels = [format!("{role}.holdpoint.io"), format!("holdpoint.io/{role}")].map(|label| labels.get(&label));
        let names = labels.into_iter().flatten().flat_map(|names| names.split([',', ' ']));
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// Every role.
    pub const ALL: [Separation; 2] = [Separation::Owner, Separation::Author];
}

/// The human part of a hold verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who is asked, in order; at least one step. Nobody counts in two of them.
    pub steps: Vec<Step>,
    /// After this the answer is no.
    pub timeout: Duration,
    /// Whether an approval must carry a reason.
    pub reason_required: bool,
    /// What the ticket that an approval names must match, as a whole.
    pub ticket: Option<String>,
    /// Who may not decide.
    pub separation: Vec<Separation>,
    /// Who may deny at any time.
    pub veto: Vec<Who>,
    /// When people are asked at all.
    pub hours: Option<Hours>,
    /// The group of which one person alone may release it in an emergency.
    pub break_glass: Option<String>,
    /// Whether a decision must be signed by a passkey.
    pub passkey: bool,
}

impl Approval {
    /// So many of these, within this time; nothing more is asked.
    pub fn simple(from: Vec<Approver>, quorum: u32, timeout: Duration) -> Self {
        Self {
            steps: vec![Step { from, need: Need::Number(quorum) }],
            timeout,
            reason_required: false,
            ticket: None,
            separation: Vec::new(),
            veto: Vec::new(),
            hours: None,
            break_glass: None,
            passkey: false,
        }
    }

    /// How many people must approve in all.
    pub fn people(&self) -> usize {
        self.steps.iter().map(Step::people).sum()
    }

    /// Everybody who is asked in a step.
    pub fn approvers(&self) -> impl Iterator<Item = &Approver> {
        self.steps.iter().flat_map(|step| &step.from)
    }

    /// Everybody whom this names.
    pub fn everybody(&self) -> impl Iterator<Item = Who> {
        let of_steps = self.approvers().map(|approver| &approver.who);
        let stand_in = self.hours.as_ref().and_then(|hours| hours.otherwise.who());
        of_steps.chain(&self.veto).cloned().chain(self.break_glass.clone().map(Who::Group)).chain(stand_in)
    }

    /// Whether `ticket` is one that this asks for; any is where none is asked for.
    pub fn accepts_ticket(&self, ticket: Option<&str>) -> bool {
        match &self.ticket {
            None => true,
            // A pattern that cannot be read never comes from a policy, and matches nothing.
            Some(pattern) => ticket.is_some_and(|ticket| whole(pattern).is_ok_and(|regex| regex.is_match(ticket))),
        }
    }

    /// What holds at this moment: `None` outside of hours, where nobody is asked then; another person where one is on
    /// call then.
    pub fn at(&self, now: jiff::Timestamp) -> Option<Self> {
        let Some(hours) = self.hours.as_ref().filter(|hours| !hours.contain(now)) else { return Some(self.clone()) };
        let who = match &hours.otherwise {
            Otherwise::Refuse => return None,
            Otherwise::OnCall(name) => Who::OnCall(name.clone()),
        };
        let step = Step { from: vec![Approver { who, after: Duration::ZERO }], need: Need::Number(1) };
        Some(Self { steps: vec![step], ..self.clone() })
    }

    /// Orders approvals by how much they ask of people: how many, in how many steps, with a passkey, a ticket, a reason;
    /// then who is kept out, at which hours, who may say no, and whether nobody may pass alone; then the shorter time.
    pub fn strictness(&self) -> impl Ord + use<> {
        (
            (self.people(), self.steps.len(), self.passkey, self.ticket.is_some(), self.reason_required),
            (self.separation.len(), self.hours.is_some(), self.veto.len(), self.break_glass.is_none()),
            Reverse(self.timeout),
        )
    }

    /// Whether those who satisfied `given` would satisfy this as well.
    pub fn is_no_stricter_than(&self, given: &Approval) -> bool {
        let step_is_no_stricter = |(now, given): (&Step, &Step)| {
            now.from == given.from
                && match (now.need, given.need) {
                    (Need::Number(now), Need::Number(given)) => now <= given,
                    (now, given) => now == given,
                }
        };
        self.steps.len() == given.steps.len()
            && self.steps.iter().zip(&given.steps).all(step_is_no_stricter)
            && (given.reason_required || !self.reason_required)
            && (given.passkey || !self.passkey)
            && (self.ticket.is_none() || self.ticket == given.ticket)
            && self.separation.iter().all(|role| given.separation.contains(role))
            && self.veto.iter().all(|who| given.veto.contains(who))
            && (self.hours.is_none() || self.hours == given.hours)
            && (self.break_glass.is_some() || given.break_glass.is_none())
    }
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.steps.iter().map(Step::to_string).collect();
        f.write_str(&steps.join(", then "))?;
        let with =
            [(self.reason_required, "a reason"), (self.ticket.is_some(), "a ticket"), (self.passkey, "a passkey")];
        let with: Vec<_> = with.iter().filter(|(wanted, _)| *wanted).map(|(_, what)| *what).collect();
        if !with.is_empty() {
            write!(f, ", with {}", with.join(" and "))?;
        }
        write!(f, ", within {}", humantime::format_duration(self.timeout))
    }
}

/// A ticket's pattern, which must match all of it.
pub(super) fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(need: Need, places: u32) -> Step {
        let from = (0..places).map(|place| Approver { who: Who::Group(place.to_string()), after: Duration::ZERO });
        Step { from: from.collect(), need }
    }

    #[test]
    fn each_place_needs_somebody_of_its_own() {
        let all = |places, approvals: &[&[u32]]| step(Need::All, places).is_satisfied(approvals);
        assert!(!all(2, &[&[0], &[0]]));
        assert!(all(2, &[&[0, 1], &[0]]), "the first takes the other place");
        assert!(all(3, &[&[0, 1], &[0, 2], &[0]]));
        assert!(!all(3, &[&[0, 1], &[0, 1], &[0, 1]]));
        assert!(!all(2, &[&[0, 7], &[7]]), "no such place");
        assert_eq!(step(Need::All, 2).counting(&[&[0], &[0], &[1]]), 2);
        assert!(step(Need::Number(2), 1).is_satisfied(&[&[0], &[0]]));
        assert!(!step(Need::Number(2), 1).is_satisfied(&[&[0]]));
    }

    #[test]
    fn a_ticket_matches_whole() {
        let approval =
            |ticket: &str| Approval { ticket: Some(ticket.to_owned()), ..Approval::simple(vec![], 1, Duration::ZERO) };
        let ops = approval("OPS-[0-9]+|INC-1");
        for (ticket, accepted) in [
            ("OPS-12", true),
            ("INC-1", true),
            ("xOPS-12", false),
            ("OPS-12 and more", false),
            ("OPS-1\n", false),
            ("", false),
        ] {
            assert_eq!(ops.accepts_ticket(Some(ticket)), accepted, "{ticket}");
        }
        assert!(!ops.accepts_ticket(None) && !approval("(").accepts_ticket(Some("(")));
    }
}
