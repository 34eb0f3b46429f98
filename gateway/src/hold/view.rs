//! An open request, as people see it: everything that could deceive an eye is made visible.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::time::Instant;

use super::Open;
use crate::{
    operation::{Digest, Effects, Impact, RequestId, SessionId},
    people::Person,
    policy::Who,
    record::entry::Requested,
    visible::{cautions, visible},
};

/// An open request, as people see it.
#[derive(Debug, Clone, Serialize)]
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
    /// How many must approve, and how many have.
    pub quorum: u32,
    /// How many have.
    pub approvals: usize,
    /// Whether a reason is required.
    pub reason_required: bool,
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
#[derive(Debug, Clone, serde::Serialize)]
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
}

impl View {
    /// Whether `person` is among those who are asked, now or later.
    pub fn asks(&self, person: &Person) -> bool {
        self.asked.iter().any(|who| person.is(who))
    }
}

impl Open {
    pub(super) fn view(&self) -> View {
        let Requested { request, asked, digest: _, approval, workload, resource, waits, shape } = &self.requested;
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
            approvers: self.approvers(),
            asked: approval.from.iter().map(|step| step.who.clone()).collect(),
            quorum: approval.quorum,
            approvals: self.approvals.len(),
            reason_required: approval.reason_required,
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
