//! What people do with open requests: each deed is taken to the request's machine, recorded, and only then counts, all
//! under the desk's one lock.

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    DecideError, Desk, Ended, GrantError, Open, RemarkView, State, Terms,
    open::asked,
    words,
    workflow::{Decider, Event, Next, Transition},
};
use crate::{
    operation::{RequestId, ReviewId},
    people::Person,
    policy::Who,
    record::entry::{Body, BrokenGlass, Outcome, Proof, Remark},
    visible::visible,
};

/// A person's word on a request.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub reason: Option<String>,
    /// The ticket that an approval names.
    pub ticket: Option<String>,
    /// The digest of what they saw; refused where it is another's.
    pub digest: Option<String>,
    /// The grant that the approval is to become.
    pub grant: Option<Terms>,
    /// Their passkey's signature, verified.
    pub proof: Option<Proof>,
}

/// What a decision did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "decided")]
pub enum Decided {
    /// The operation is released.
    Approved,
    /// It counts, and more people are needed.
    Counted {
        /// How many more.
        missing: u32,
    },
    /// The operation is released, and a grant releases more like it.
    Granted {
        /// The grant's name, as people type it.
        grant: String,
    },
    /// The operation is refused.
    Denied,
}

impl Desk {
    /// A person's decision on the request that `typed` names. `digest`, where given, is what they saw.
    ///
    /// # Errors
    /// It does nothing, and says why.
    pub fn decide(
        &self,
        typed: &str,
        person: &Person,
        approve: bool,
        reason: Option<String>,
        digest: Option<&str>,
    ) -> Result<Decided, DecideError> {
        let digest = digest.map(str::to_owned);
        self.decide_on(typed, person, Decision { approve, reason, digest, ..Decision::default() })
    }

    /// A person's approval that is to become a grant: once everybody who is needed has approved it on these terms.
    ///
    /// # Errors
    /// It does nothing, and says why.
    pub fn grant(
        &self,
        typed: &str,
        person: &Person,
        reason: Option<String>,
        digest: Option<&str>,
        terms: Terms,
    ) -> Result<Decided, DecideError> {
        let (digest, grant) = (digest.map(str::to_owned), Some(terms));
        self.decide_on(typed, person, Decision { approve: true, reason, digest, grant, ..Decision::default() })
    }

    /// A person's decision, with all that may be said with it.
    ///
    /// Decides, records and releases under the one lock; see the module's *Correctness*.
    ///
    /// # Errors
    /// It does nothing, and says why.
    pub fn decide_on(&self, typed: &str, person: &Person, decision: Decision) -> Result<Decided, DecideError> {
        let Decision { approve, reason, ticket, digest, grant: terms, proof } = decision;
        let mut state = self.state();
        let request = self.due(&mut state, typed)?;
        let by = self.decider(&state, request, person);
        let State { open: requests, grants, .. } = &mut *state;
        let open = requests.get_mut(&request).ok_or_else(|| DecideError::Unknown(typed.to_owned()))?;
        open.was_seen(digest.as_deref())?;
        let event = match approve {
            true => Event::Approve {
                by: &by,
                reason: reason.as_deref(),
                ticket: ticket.as_deref(),
                signed: proof.is_some(),
                grant: terms.as_ref(),
            },
            false => Event::Deny { by: &by },
        };
        let (then, transitions) = open.workflow.on(&event, open.opened.elapsed())?;
        let any = terms.as_ref().map(|terms| open.may_grant(terms)).transpose()?;
        let given = open.workflow.approvals();
        if let Some(other) = given.iter().find(|other| terms.is_some() && other.grant != terms) {
            return Err(GrantError::OtherTerms(other.person.name.clone(), request.short()).into());
        }
        let counts = transitions.iter().find_map(|transition| match transition {
            Transition::Counted(counts) => Some(Box::new(counts.clone())),
            _ => None,
        });
        let decided = Body::Decided {
            request,
            by: person.name.clone(),
            uid: person.uid,
            approve,
            reason: reason.clone(),
            digest: open.seen,
            person: Some(person.id.to_string()),
            proof: proof.map(Box::new),
            terms: terms.as_ref().map(Terms::to_string),
            counts,
        };
        let _ = self.0.recorder.append_written(open.entry(decided))?;
        open.workflow = then;
        if !approve {
            self.close(&mut state, request, Ended::Denied { by: person.name.clone(), reason });
            return Ok(Decided::Denied);
        }
        if !transitions.contains(&Transition::Ended(Outcome::Approved)) {
            let missing = u32::try_from(open.workflow.people_missing()).unwrap_or(u32::MAX);
            self.ask(open);
            drop(state);
            self.0.deadline_changed.notify_one();
            self.changed();
            return Ok(Decided::Counted { missing });
        }
        let digest = open.requested.digest;
        let granted = match (terms, any) {
            (Some(terms), Some(any)) => Some(self.make_grant(grants, open, &terms, any)),
            _ => None,
        };
        // All who were needed have approved, whatever becomes of the grant.
        self.close(&mut state, request, Ended::Approved { digest });
        Ok(granted.transpose()?.map_or(Decided::Approved, |grant| Decided::Granted { grant: grant.short() }))
    }

    /// One person releases an operation alone, in an emergency. Everybody who would have been asked is told, and a review
    /// is open until somebody else has written it.
    ///
    /// # Errors
    /// It does nothing, and says why.
    pub fn break_glass(&self, typed: &str, person: &Person, decision: Decision) -> Result<ReviewId, DecideError> {
        let Decision { reason, digest, proof, .. } = decision;
        let mut state = self.state();
        let request = self.due(&mut state, typed)?;
        let by = self.decider(&state, request, person);
        let open = state.open.get_mut(&request).ok_or_else(|| DecideError::Unknown(typed.to_owned()))?;
        open.was_seen(digest.as_deref())?;
        let event = Event::BreakGlass { by: &by, reason: reason.as_deref(), signed: proof.is_some() };
        let (then, transitions) = open.workflow.on(&event, open.opened.elapsed())?;
        let Some(Transition::BrokeGlass(group)) = transitions.into_iter().next() else {
            return Err(DecideError::NoGlass(request.short()));
        };
        let skipped = open.workflow.approval.approvers().map(|approver| approver.who.clone());
        let broken = BrokenGlass {
            review: ReviewId::now(),
            request,
            by: person.name.clone(),
            uid: person.uid,
            person: person.id.to_string(),
            group,
            reason: reason.unwrap_or_default(),
            digest: open.seen,
            skipped: skipped.chain(open.workflow.approval.veto.iter().cloned()).collect(),
            proof: proof.map(Box::new),
        };
        let entry = open.entry(Body::BrokeGlass(Box::new(broken.clone())));
        let at = entry.at;
        let _ = self.0.recorder.append_written(entry)?;
        open.workflow = then;
        tracing::warn!(request = %request.short(), by = person.name, "somebody broke the glass");
        let (review, digest) = (broken.review, open.requested.digest);
        state.reviews.begin(at, broken);
        self.close(&mut state, request, Ended::Approved { digest });
        Ok(review)
    }

    /// A comment, a question, or an answer to one: it decides nothing, and everybody who is asked sees it.
    ///
    /// # Errors
    /// It is not kept, and says why.
    pub fn say(&self, typed: &str, person: &Person, kind: Remark, text: &str) -> Result<(), DecideError> {
        let mut state = self.state();
        let request = self.due(&mut state, typed)?;
        let by = self.decider(&state, request, person);
        let open = state.open.get_mut(&request).ok_or_else(|| DecideError::Unknown(typed.to_owned()))?;
        let (then, _said) = open.workflow.on(&Event::Say { by: &by, text }, open.opened.elapsed())?;
        let (name, text) = (person.name.clone(), text.trim().to_owned());
        let said = RemarkView { by: visible(name.as_bytes()), kind, text: visible(text.as_bytes()) };
        let body = Body::Said { request, by: name, person: person.id.to_string(), kind, text };
        let _ = self.0.recorder.append_written(open.entry(body))?;
        open.workflow = then;
        open.said.push(said);
        drop(state);
        self.changed();
        Ok(())
    }

    /// The open request that `typed` names, with everybody asked whose time has come; ended where its own time is over:
    /// however late the timer is, nobody decides after the deadline.
    fn due(&self, state: &mut std::sync::MutexGuard<'_, State>, typed: &str) -> Result<RequestId, DecideError> {
        let request = state.named(typed).map_err(|error| self.remembered(error))?;
        let open = state.open.get_mut(&request).ok_or_else(|| DecideError::Unknown(typed.to_owned()))?;
        if open.deadline <= Instant::now() {
            let ended = open.expired();
            self.end(state, request, &Event::Time, ended);
            return Err(DecideError::Ended(request.short(), words(Outcome::Expired)));
        }
        self.ask(open);
        Ok(request)
    }

    /// Asks those whose time has come, as far as that can be recorded; says whether it could.
    pub(super) fn ask(&self, open: &mut Open) -> bool {
        let next: Result<Next, _> = open.workflow.on(&Event::Time, open.opened.elapsed());
        let Ok((then, transitions)) = next else { return true };
        for (step, places) in transitions.iter().filter_map(asked) {
            let body = open.asks(step, places, &self.0.on_call);
            if let Err(error) = self.0.recorder.append_written(open.entry(body)) {
                tracing::error!(%error, request = %open.requested.request.short(), "cannot record who is asked");
                return false;
            }
            open.workflow = then.clone();
        }
        true
    }

    /// A person with all that they may now as far as this request names it.
    fn decider(&self, state: &State, request: RequestId, person: &Person) -> Decider {
        let named = state.open.get(&request).into_iter().flat_map(|open| open.workflow.approval.everybody());
        let rotas: Vec<String> = named
            .filter_map(|who| match who {
                Who::OnCall(rota) => Some(rota),
                Who::User(_) | Who::Group(_) | Who::Program(_) => None,
            })
            .collect();
        let now = jiff::Timestamp::now();
        let turns = |person: &Person| {
            let is_theirs = |rota: &&String| self.0.on_call.who(rota, now).is_some_and(|name| person.is_called(name));
            rotas.iter().filter(is_theirs).cloned().collect::<Vec<_>>()
        };
        Decider { person: person.clone(), on_call: turns(person), loans: state.delegations.to(person, turns) }
    }
}

impl Open {
    fn was_seen(&self, digest: Option<&str>) -> Result<(), DecideError> {
        if digest.is_some_and(|seen| seen != self.seen.to_string()) {
            return Err(DecideError::OtherDigest(self.requested.request.short()));
        }
        Ok(())
    }

    /// How it ends when nobody has answered.
    pub(super) fn expired(&self) -> Ended {
        let steps = self.workflow.approval.steps.len();
        Ended::Expired { waiting_for: (steps > 1).then(|| self.workflow.missing()) }
    }
}
