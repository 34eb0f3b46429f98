//! An open request, and who may decide on it.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::{DecideError, Ended, Requester, Terms};
use crate::{
    operation::{Digest, Impact},
    people::Person,
    policy::{Approval, Who},
    record::entry::Requested,
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
    pub(super) approvals: Vec<Approved>,
    pub(super) waiter: Option<oneshot::Sender<Ended>>,
}

/// One person's approval.
pub(super) struct Approved {
    pub(super) person: Person,
    /// The grant that it is meant to become.
    pub(super) grant: Option<Terms>,
}

impl Open {
    pub(super) fn may_decide(
        &self,
        person: &Person,
        approve: bool,
        reason: Option<&str>,
        digest: Option<&str>,
    ) -> Result<(), DecideError> {
        let short = self.requested.request.short();
        if person.uid == Some(self.requester.uid) {
            return Err(DecideError::OwnRequest(short, person.name.clone()));
        }
        if digest.is_some_and(|seen| seen != self.seen.to_string()) {
            return Err(DecideError::OtherDigest(short));
        }
        self.may_at_this_time(person)?;
        if !approve {
            return Ok(());
        }
        if let Some(approved) = self.approvals.iter().find(|approved| !person.is_surely_another(&approved.person)) {
            let same = approved.person.id == person.id;
            let other = approved.person.name.clone();
            return Err(if same { DecideError::Twice(short) } else { DecideError::PerhapsTwice(short, other) });
        }
        let no_reason = reason.is_none_or(|reason| reason.trim().is_empty());
        if self.requested.approval.reason_required && no_reason {
            return Err(DecideError::ReasonRequired);
        }
        Ok(())
    }

    fn may_at_this_time(&self, person: &Person) -> Result<(), DecideError> {
        let short = self.requested.request.short();
        let after =
            self.requested.approval.from.iter().filter(|step| person.is(&step.who)).map(|step| step.after).min();
        let Some(after) = after else {
            return Err(DecideError::NotAnApprover(person.name.clone(), short, self.approvers().join(", ")));
        };
        let waited = self.opened.elapsed();
        if waited < after {
            let left = after - waited;
            // Rounded up: who comes back then may decide.
            let left = Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0));
            return Err(DecideError::NotYet(person.name.clone(), short, humantime::format_duration(left)));
        }
        Ok(())
    }

    pub(super) fn approvers(&self) -> Vec<String> {
        approvers_in_words(&self.requested.approval)
    }
}

/// Whom a rule asks, for people.
pub(super) fn approvers_in_words(approval: &Approval) -> Vec<String> {
    let words = approval.from.iter().map(|step| {
        let who = match &step.who {
            Who::User(name) => format!("user {name}"),
            Who::Group(name) => format!("group {name}"),
        };
        if step.after.is_zero() { who } else { format!("{who} after {}", humantime::format_duration(step.after)) }
    });
    words.collect()
}
