//! An open request, and what the desk records of it.

use std::sync::Arc;

use tokio::{sync::oneshot, time::Instant};

use super::{
    Ended, Requester,
    workflow::{Parties, Transition, Workflow},
};
use crate::{
    operation::{Digest, Impact},
    people::OnCall,
    policy::{Approval, Approver, Who},
    record::entry::{Body, Entry, Requested, Timestamp},
};

/// A request that nobody has ended.
pub(super) struct Open {
    pub(super) requested: Requested,
    pub(super) requester: Requester,
    /// What it would touch, once that is known.
    pub(super) impact: Option<Impact>,
    /// What people approve: the request's digest, and the impact's with it once that is known.
    pub(super) seen: Digest,
    pub(super) opened: Instant,
    pub(super) deadline: Instant,
    pub(super) workflow: Workflow,
    /// What people said that decides nothing.
    pub(super) said: Vec<super::RemarkView>,
    pub(super) waiter: Option<oneshot::Sender<Ended>>,
}

impl Open {
    pub(super) fn new(requested: Requested, requester: Requester, waiter: Option<oneshot::Sender<Ended>>) -> Self {
        let barred = requested.barred.clone().unwrap_or_default();
        let parties = Parties { uid: requester.uid, barred, owners: requester.owners.clone() };
        let approval = Arc::new(requested.approval.clone());
        let opened = Instant::now();
        Self {
            opened,
            deadline: opened + approval.timeout,
            workflow: Workflow::open(approval, requested.request.short(), parties),
            impact: None,
            seen: requested.digest,
            said: Vec::new(),
            requested,
            requester,
            waiter,
        }
    }

    pub(super) fn entry(&self, body: Body) -> Entry {
        Entry { at: Timestamp::now(), session: Some(self.requester.session), body }
    }

    /// What the record says of it when people are asked.
    pub(super) fn asks(&self, step: u32, places: &[u32], on_call: &OnCall) -> Body {
        let now = jiff::Timestamp::now();
        let step_of = usize::try_from(step).ok().and_then(|step| self.workflow.approval.steps.get(step));
        let place = |at: &u32| step_of?.from.get(usize::try_from(*at).ok()?).map(|approver| approver.who.clone());
        let who: Vec<Who> = places.iter().filter_map(place).collect();
        let on_call = who.iter().filter_map(|who| match who {
            Who::OnCall(rota) => on_call.who(rota, now).map(str::to_owned),
            Who::User(_) | Who::Group(_) | Who::Program(_) => None,
        });
        let on_call = on_call.collect();
        Body::Asked { request: self.requested.request, step, places: places.to_vec(), who, on_call }
    }
}

/// Whether a transition says that people are asked.
pub(super) fn asked(transition: &Transition) -> Option<(u32, &[u32])> {
    match transition {
        Transition::Asked { step, places } => Some((*step, places)),
        _ => None,
    }
}

/// Whom a rule asks, for people.
pub(super) fn approvers_in_words(approval: &Approval) -> Vec<String> {
    approval.approvers().map(Approver::to_string).collect()
}
