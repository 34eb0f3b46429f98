//! An open request, as people see it: everything that could deceive an eye is made visible.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::{Desk, Open, State};
use crate::{
    operation::{Digest, Effects, Impact, RequestId, SessionId},
    people::Person,
    policy::{Approver, Need, Who},
    record::entry::{Remark, Requested},
    visible::{cautions, visible},
};

/// An open request, as people see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct View {
    /// Its full name.
    pub request: RequestId,
    /// The form that people type.
    pub short: String,
    /// Who asks.
    pub workload: String,
    /// More about who asks.
    pub requester: Requester,
    /// What it would act on.
    pub resource: String,
    /// The protocol's word for it.
    pub kind: String,
    /// The statement with everything that could deceive an eye made visible.
    pub statement: String,
    /// Its length as sent, in bytes.
    pub bytes: usize,
    /// What to know before trusting one's eyes.
    pub cautions: Vec<String>,
    /// Parameters, made visible.
    pub parameters: Vec<String>,
    /// What it would do.
    pub effects: Effects,
    /// To what.
    pub objects: Vec<String>,
    /// Why it is unknown, if it is.
    pub unknown: Vec<String>,
    /// Session state that gives it meaning.
    pub state: BTreeMap<String, String>,
    /// The rule that holds it.
    pub rule: String,
    /// Why, in the rule's words.
    pub why: String,
    /// Who may decide, in words.
    pub approvers: Vec<String>,
    #[serde(skip)]
    asked: Vec<Who>,
    /// How many must approve, in all steps.
    pub quorum: usize,
    /// How many have.
    pub approvals: usize,
    /// The steps, in order.
    pub steps: Vec<StepView>,
    /// Whether a reason is required.
    pub reason_required: bool,
    /// What the ticket that an approval names must match.
    pub ticket: Option<String>,
    /// Whether a decision must be signed by a passkey.
    pub passkey: bool,
    /// Who may deny at any time, in words.
    pub veto: Vec<String>,
    /// The group of which one person may release it alone.
    pub break_glass: Option<String>,
    /// Who may not decide, beside the user of the process.
    pub barred: Vec<String>,
    /// What people said that decides nothing, made visible. The words of one person to another: nothing decides by them.
    pub remarks: Vec<RemarkView>,
    /// Seconds left until the answer is no.
    pub seconds_left: u64,
    /// What it would touch, as far as that is known by now.
    pub impact: Option<Impact>,
    /// The same for people, a line each.
    pub impact_lines: Vec<String>,
    /// What is approved.
    pub digest: Digest,
    /// Whether the client waits, or will come back.
    pub waits: bool,
    /// The protocol's name for its shape; `None` where it cannot become a grant.
    pub fingerprint: Option<String>,
    /// Its values, as a grant numbers them.
    pub values: Vec<String>,
}

/// Who asks: what an approver must see and must not be.
#[derive(Debug, Clone, serde::Serialize, JsonSchema)]
pub struct Requester {
    /// The session in which it waits.
    pub session: SessionId,
    /// The user id of the process that asks.
    pub uid: u32,
    /// That user's name.
    pub user: Option<String>,
    /// The executable.
    pub executable: Option<String>,
    /// Where the operation goes.
    pub destination: String,
    /// Who answers for the workload, as its labels say.
    pub owners: Vec<String>,
}

/// A step, as people see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StepView {
    /// Whom it asks, in words, each with whether they are asked by now.
    pub from: Vec<AskedView>,
    /// Whether one person is needed for each of these.
    pub all: bool,
    /// How many people are needed.
    pub people: usize,
    /// Whether it waits, is asked now, or is through.
    pub state: StepState,
    /// Who has approved in it, and in whose stead.
    pub answered: Vec<String>,
}

/// One entry of a step.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AskedView {
    /// Who, in words.
    pub who: String,
    /// Whether they are asked by now.
    pub asked: bool,
    /// In how many seconds they will be; `None` where that is not known or over.
    pub in_seconds: Option<u64>,
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// It is through.
    Done,
    /// Its people are asked.
    Asked,
    /// It comes later.
    Next,
}

/// What somebody said, made visible.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RemarkView {
    /// Who.
    pub by: String,
    /// What it is.
    pub kind: Remark,
    /// Their words.
    pub text: String,
}

impl View {
    /// Whether `person` is among those who are asked, now or later.
    pub fn asks(&self, person: &Person) -> bool {
        self.asked.iter().any(|who| person.is(who))
    }
}

impl Desk {
    /// A request with those whom it concerns at this moment.
    pub(super) fn view(&self, state: &State, open: &Open) -> View {
        View { asked: self.concerned(state, open), ..open.view() }
    }

    /// Whom a request concerns at this moment, whoever is on call and to whom somebody lent their word included.
    pub(super) fn concerned(&self, state: &State, open: &Open) -> Vec<Who> {
        let now = jiff::Timestamp::now();
        let on_call = |who: Who| match who {
            Who::OnCall(rota) => self.0.on_call.who(&rota, now).map(|name| Who::User(name.to_owned())),
            who => Some(who),
        };
        let mut concerned: Vec<Who> = open.workflow.approval.everybody().filter_map(on_call).collect();
        let lent = state.delegations.in_force().filter(|(lender, _)| concerned.iter().any(|who| lender.is(who)));
        let lent: Vec<Who> = lent.map(|(_, to)| Who::User(to.to_owned())).collect();
        concerned.extend(lent);
        concerned.extend(open.requester.owners.iter().cloned().map(Who::User));
        concerned
    }
}

impl Open {
    fn steps(&self) -> Vec<StepView> {
        let (open, asked) = self.workflow.asked();
        let since = self.opened + self.workflow.since();
        let steps = self.workflow.approval.steps.iter().enumerate();
        let view = steps.map(|(at, step)| {
            let state = match at.cmp(&open) {
                std::cmp::Ordering::Less => StepState::Done,
                std::cmp::Ordering::Equal => StepState::Asked,
                std::cmp::Ordering::Greater => StepState::Next,
            };
            let from = (0..).zip(&step.from).map(|(place, approver): (u32, &Approver)| {
                let is_asked = state == StepState::Done || (state == StepState::Asked && asked.contains(&place));
                let left = (since + approver.after).saturating_duration_since(Instant::now());
                let in_seconds = (state == StepState::Asked && !is_asked).then_some(left.as_secs());
                AskedView { who: visible(approver.who.to_string().as_bytes()), asked: is_asked, in_seconds }
            });
            let here = self.workflow.approvals().iter().filter(|approved| approved.counts.step as usize == at);
            let answered = here.map(|approved| match &approved.counts.lent {
                Some(lent) => visible(format!("{} for {}", approved.person.name, lent.by).as_bytes()),
                None => visible(approved.person.name.as_bytes()),
            });
            StepView {
                from: from.collect(),
                all: step.need == Need::All,
                people: step.people(),
                state,
                answered: answered.collect(),
            }
        });
        view.collect()
    }

    fn view(&self) -> View {
        let Requested { request, asked, digest: _, approval, workload, resource, waits, shape, barred } =
            &self.requested;
        View {
            request: *request,
            short: request.short(),
            workload: workload.clone(),
            requester: self.requester.clone(),
            resource: resource.clone(),
            kind: asked.kind.clone(),
            statement: visible(&asked.text),
            bytes: asked.text.len(),
            cautions: cautions(&asked.text),
            parameters: asked
                .parameters
                .iter()
                .map(|parameter| parameter.value.as_ref().map_or_else(|| "NULL".to_owned(), |value| visible(value)))
                .collect(),
            effects: asked.effects,
            objects: asked.objects.iter().map(|object| visible(object.to_string().as_bytes())).collect(),
            unknown: asked.unknown.clone(),
            state: asked.state.iter().map(|(name, value)| (name.to_string(), visible(value.as_bytes()))).collect(),
            rule: asked.rule.clone(),
            why: asked.why.clone(),
            approvers: self.workflow.approvers(),
            asked: Vec::new(),
            quorum: approval.people(),
            approvals: self.workflow.approvals().len(),
            steps: self.steps(),
            reason_required: approval.reason_required,
            ticket: approval.ticket.clone(),
            passkey: approval.passkey,
            veto: approval.veto.iter().map(Who::to_string).collect(),
            break_glass: approval.break_glass.clone(),
            barred: barred.iter().flatten().map(|name| visible(name.as_bytes())).collect(),
            remarks: self.said.clone(),
            seconds_left: self.deadline.saturating_duration_since(Instant::now()).as_secs(),
            impact: self.impact.clone(),
            impact_lines: self.impact.iter().flat_map(Impact::lines).map(|line| visible(line.as_bytes())).collect(),
            digest: self.seen,
            waits: *waits,
            fingerprint: shape.as_ref().map(|shape| shape.fingerprint.clone()),
            values: shape.iter().flat_map(|shape| &shape.values).map(|value| visible(value)).collect(),
        }
    }
}
