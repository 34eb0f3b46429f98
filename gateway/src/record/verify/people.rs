//! What people did, as the record has it: decisions, what they signed, broken glass and its reviews.

use super::{Walk, course::Given};
use crate::{
    operation::{RequestId, ReviewId},
    policy::Who,
    record::{
        entry::{Body, BrokenGlass, Timestamp},
        signed::{self, Meant},
    },
};

impl Walk<'_> {
    pub(super) fn decided(&mut self, position: u64, at: Timestamp, body: &Body) {
        let Body::Decided { request, by, uid, approve, reason, digest, person, proof, counts, .. } = body else {
            return;
        };
        // Records of an older gateway have users of the machine alone.
        let person = person.clone().or_else(|| uid.map(|uid| format!("machine:{uid}"))).unwrap_or_else(|| by.clone());
        let short = request.short();
        let lent = counts.as_ref().and_then(|counts| counts.lent.as_ref());
        let delegated = lent.and_then(|lent| self.delegations.get(&lent.delegation)?.1.as_ref());
        let what = match self.requests.get_mut(request) {
            None => format!("a decision on request {short}, which was never opened"),
            Some(case) if case.closed.is_some() => format!("a decision on request {short} after it had ended"),
            Some(case) if case.digest != *digest => format!("a decision on request {short} for another digest"),
            Some(_) if !approve => return,
            Some(case) => {
                let given = Given {
                    by,
                    person: &person,
                    uid: *uid,
                    reason: reason.as_deref(),
                    signed: proof.is_some(),
                    counts: counts.as_deref(),
                    lent: delegated.filter(|delegated| at < delegated.until),
                };
                match case.course.approved(&given) {
                    Some(wrong) => format!("an approval of request {short} {wrong}"),
                    None => return,
                }
            }
        };
        self.find(Some(position), what);
    }

    /// A decision that its maker signed must be theirs, and be what they signed.
    pub(super) fn signed(&mut self, position: u64, body: &Body) {
        let Some((meant, proof)) = Meant::recorded(body) else { return };
        let short = meant.request.short();
        let what = match self.keys.get(&proof.key) {
            None => format!("a decision on request {short}, signed with a passkey that was not enrolled before"),
            Some(key) if key.person != meant.person => {
                format!("a decision on request {short} by {}, signed with a passkey of {}", meant.person, key.person)
            }
            Some(key) => match signed::check(&meant, proof, key, None) {
                Ok(()) => {
                    self.signatures += 1;
                    return;
                }
                Err(why) => format!("a decision on request {short} that its maker did not sign so: {why}"),
            },
        };
        self.find(Some(position), what);
    }

    pub(super) fn asks(&mut self, position: u64, request: RequestId, step: u32, places: &[u32], who: &[Who]) {
        let wrong = match self.requests.get_mut(&request).filter(|case| case.closed.is_none()) {
            Some(case) => case.course.asked(step, places, who),
            None => Some("was not open when people were asked"),
        };
        if let Some(wrong) = wrong {
            self.find(Some(position), format!("request {} {wrong}", request.short()));
        }
    }

    pub(super) fn broke_glass(&mut self, position: u64, broken: &BrokenGlass) {
        let wrong = match self.requests.get_mut(&broken.request).filter(|case| case.closed.is_none()) {
            Some(case) if case.digest == broken.digest => case.course.broken(broken),
            Some(_) => Some("for another digest"),
            None => Some("which was not open"),
        };
        if let Some(wrong) = wrong {
            self.find(Some(position), format!("glass broken for request {}, {wrong}", broken.request.short()));
        }
        self.reviews.insert(broken.review, (position, broken.person.clone(), true));
    }

    pub(super) fn reviewed(&mut self, position: u64, review: ReviewId, person: &str) {
        let what = match self.reviews.get_mut(&review) {
            Some((_, breaker, open)) if *open => {
                *open = false;
                (breaker == person).then_some("was written by whoever broke the glass")
            }
            _ => Some("was not open"),
        };
        if let Some(what) = what {
            self.find(Some(position), format!("review {} {what}", review.short()));
        }
    }
}
