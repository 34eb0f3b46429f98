//! The one place that waits for people.
//!
//! A [`Desk`] holds every open approval request. A request is durable before anybody is asked, ends exactly once, and
//! its end is on disk before the operation behind it moves.
//!
//! # Correctness
//! *Invariant:* an open request is in `State::open`; whoever takes it out, under the one short lock, has ended it, and
//! the decision and the end are appended to the record under that same lock, so the record's order is the order in
//! which things were decided. Nothing waits while the lock is held.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

use crate::{
    operation::{Digest, GrantId, Impact, RequestId},
    people::{OnCall, Person},
    record::{
        Appending, Durability, Lookup, RecordError, Recorder,
        entry::{Body, Entry, Granted, Outcome, Requested, Timestamp},
    },
};

mod decide;
mod delegation;
mod error;
mod grant;
mod open;
mod review;
#[cfg(test)]
mod tests;
mod view;
mod workflow;

pub use crate::record::entry::Remark;
pub use decide::{Decided, Decision};
pub use delegation::{DelegateError, DelegationView};
pub use error::{DecideError, OpenError};
pub use grant::{AnyValue, GrantError, GrantView, Revoked, Terms};
use open::{Open, approvers_in_words};
pub use review::{ReviewError, ReviewView};
pub use view::{AskedView, RemarkView, Requester, StepState, StepView, View};
use workflow::Event;

/// The open requests, and who decides on them. A cheap handle.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    recorder: Recorder,
    on_call: OnCall,
    state: Mutex<State>,
    /// Wakes the timer when an earlier deadline arrives.
    deadline_changed: Notify,
    /// Counts changes, for those who watch.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    open: HashMap<RequestId, Open>,
    /// Digests of `retry` operations whose request is on its way to the disk.
    opening: HashMap<Digest, RequestId>,
    /// Approved `retry` operations that wait to be sent again, by digest.
    approved: HashMap<Digest, (RequestId, Instant)>,
    /// How requests ended lately, so that a late decision can be told what happened.
    ended: BTreeMap<RequestId, Outcome>,
    grants: grant::Grants,
    delegations: delegation::Delegations,
    reviews: review::Reviews,
    stopped: bool,
}

/// How a held operation's wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Enough people approved what has this digest.
    Approved {
        /// What they approved.
        digest: Digest,
    },
    /// Somebody said no.
    Denied {
        /// Who.
        by: String,
        /// Their words.
        reason: Option<String>,
    },
    /// Time ran out.
    Expired {
        /// The step that nobody answered, in words; `None` where there is only one.
        waiting_for: Option<String>,
    },
    /// The client took it back.
    Withdrawn,
    /// The gateway stops.
    Stopping,
    /// The end could not be recorded.
    Unrecorded,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Approved { .. } => f.write_str("approved"),
            Ended::Denied { by, reason: Some(reason) } => write!(f, "denied by {by}: {reason}"),
            Ended::Denied { by, reason: None } => write!(f, "denied by {by}"),
            Ended::Expired { waiting_for: None } => f.write_str("nobody approved it in time"),
            Ended::Expired { waiting_for: Some(step) } => write!(f, "nobody approved it in time: it waited for {step}"),
            Ended::Withdrawn => f.write_str("the client withdrew it"),
            Ended::Stopping => f.write_str("the gateway is stopping; send it again when it is back"),
            Ended::Unrecorded => f.write_str("the decision could not be recorded, so it does not count"),
        }
    }
}

/// A held operation's place at the desk. Dropping it withdraws the request.
#[must_use]
pub struct Waiting {
    desk: Desk,
    request: RequestId,
    deadline: Instant,
    ended: oneshot::Receiver<Ended>,
    over: bool,
}

impl Desk {
    /// A desk over `recorder`. Requests that a former gateway left open are ended as [`Outcome::Restarted`]: what was
    /// held is never run later behind a client's back.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub fn open_on(recorder: Recorder) -> Result<Self, RecordError> {
        Self::open_with(recorder, OnCall::default())
    }

    /// The same, with who is on call.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub fn open_with(recorder: Recorder, on_call: OnCall) -> Result<Self, RecordError> {
        for left in recorder.open_requests()? {
            let body = Body::Closed { request: left.request, outcome: Outcome::Restarted };
            let _ = recorder.append_written(Entry { at: Timestamp::now(), session: None, body })?;
            tracing::info!(request = %left.request.short(), "refused: the gateway restarted while it was held");
        }
        let inner = Inner {
            recorder,
            on_call,
            state: Mutex::default(),
            deadline_changed: Notify::new(),
            changes: watch::Sender::new(0),
        };
        let desk = Self(Arc::new(inner));
        desk.take_up_grants()?;
        desk.take_up_delegations()?;
        desk.take_up_reviews()?;
        Ok(desk)
    }

    /// Opens a request whose client waits. Durable when this returns.
    ///
    /// # Errors
    /// It cannot be recorded, or nobody is asked at this hour: the operation must be refused.
    pub async fn open(&self, (requested, requester): (Requested, Requester)) -> Result<Waiting, OpenError> {
        let (sender, ended) = oneshot::channel();
        let (request, deadline) = self.enter(requested, requester, Some(sender)).await?;
        Ok(Waiting { desk: self.clone(), request, deadline, ended, over: false })
    }

    /// Opens a request whose client will come back with the identical operation. Where one for it is open, or about
    /// to be, this one joins it and pages nobody.
    ///
    /// # Errors
    /// It cannot be recorded, or nobody is asked at this hour: the operation must be refused.
    pub async fn open_for_retry(&self, (requested, requester): (Requested, Requester)) -> Result<RequestId, OpenError> {
        match self.claim(requested.digest, requested.request) {
            Ok(_opening) => self.enter(requested, requester, None).await.map(|(request, _)| request),
            Err(already) => Ok(already),
        }
    }

    /// Takes the right to open a request for this digest, or says which there is.
    fn claim(&self, digest: Digest, request: RequestId) -> Result<Opening<'_>, RequestId> {
        let mut state = self.state();
        let open = state.open.values().find(|open| open.requested.digest == digest).map(|open| open.requested.request);
        match open.or_else(|| state.opening.get(&digest).copied()) {
            Some(already) => Err(already),
            None => {
                state.opening.insert(digest, request);
                Ok(Opening { desk: self, digest })
            }
        }
    }

    async fn enter(
        &self,
        mut requested: Requested,
        requester: Requester,
        waiter: Option<oneshot::Sender<Ended>>,
    ) -> Result<(RequestId, Instant), OpenError> {
        let request = requested.request;
        // What holds at this moment is what is recorded, and what holds to the request's end.
        match requested.approval.at(jiff::Timestamp::now()) {
            Some(approval) => requested.approval = approval,
            None => return Err(OpenError::outside(&requested.approval)),
        }
        let body = Body::Requested(Box::new(requested.clone()));
        let entry = Entry { at: Timestamp::now(), session: Some(requester.session), body };
        let _ = self.0.recorder.append(entry, Durability::Synced).await?;
        tracing::info!(
            request = %request.short(),
            workload = requested.workload,
            resource = requested.resource,
            rule = requested.asked.rule,
            "held for approval"
        );
        let mut open = Open::new(requested, requester, waiter);
        let deadline = open.deadline;
        let stopped = {
            let mut state = self.state();
            if !state.stopped {
                self.ask(&mut open);
            }
            state.open.insert(request, open);
            state.stopped
        };
        if stopped {
            self.end(&mut self.state(), request, &Event::Stop, Ended::Stopping);
        }
        self.0.deadline_changed.notify_one();
        self.changed();
        Ok((request, deadline))
    }

    /// Everybody who was needed approved on these terms. In the record before it releases anything.
    fn make_grant(
        &self,
        grants: &mut grant::Grants,
        open: &Open,
        terms: &Terms,
        any: Vec<u32>,
    ) -> Result<GrantId, RecordError> {
        let request = open.requested.request;
        let (grant, at) = (GrantId::now(), Timestamp::now());
        let granted = Granted {
            grant,
            request,
            uses: terms.uses,
            expires: at.after(Duration::from_secs(terms.seconds)),
            any,
            by: open.workflow.approvals().iter().map(|approved| approved.person.name.clone()).collect(),
        };
        let body = Body::Granted(Box::new(granted.clone()));
        let _ = self.0.recorder.append_written(Entry { at, session: Some(open.requester.session), body })?;
        tracing::info!(grant = %grant.short(), request = %request.short(), uses = terms.uses, "an approval is a grant");
        grants.begin(granted, &open.requested, at);
        self.0.deadline_changed.notify_one();
        Ok(grant)
    }

    /// What the operation of a request would touch is known: from now on people see it, and approve it with the rest.
    ///
    /// What cannot be recorded is not shown: nobody shall approve what the record does not have.
    fn preview(&self, request: RequestId, impact: Impact) {
        let mut state = self.state();
        let Some(open) = state.open.get_mut(&request).filter(|open| open.impact.is_none()) else { return };
        let body = Body::Previewed { request, impact: impact.clone() };
        let session = Some(open.requester.session);
        if let Err(error) = self.0.recorder.append_written(Entry { at: Timestamp::now(), session, body }) {
            tracing::error!(%error, request = %request.short(), "cannot record what an operation would touch");
            return;
        }
        open.seen = impact.bound_to(&open.requested.digest);
        open.impact = Some(impact);
        drop(state);
        self.changed();
    }

    /// Ends a request that is still open by an event that nobody may be kept from.
    fn end(&self, state: &mut State, request: RequestId, event: &Event<'_>, ended: Ended) {
        let Some(open) = state.open.get_mut(&request) else { return };
        if let Ok((then, _)) = open.workflow.on(event, open.opened.elapsed()) {
            open.workflow = then;
            self.close(state, request, ended);
        }
    }

    /// The end of a request whose machine has come to it: recorded under the lock, told to its waiter once it is on disk.
    fn close(&self, state: &mut State, request: RequestId, ended: Ended) {
        let Some(outcome) = state.open.get(&request).and_then(|open| open.workflow.outcome()) else { return };
        let Some(open) = state.open.remove(&request) else { return };
        tracing::info!(request = %request.short(), %ended, "a request ended");
        // Appended now, in order; only the wait for the disk comes later.
        let closing = self.0.recorder.append(open.entry(Body::Closed { request, outcome }), Durability::Synced);
        state.remember(request, outcome);
        tokio::spawn(self.clone().tell(open, closing, ended));
        self.changed();
    }

    /// Tells the one who waits, once the end is on disk.
    async fn tell(self, open: Open, closing: Appending, ended: Ended) {
        let request = open.requested.request;
        let ended = match closing.await {
            Ok(_) => ended,
            Err(error) => {
                tracing::error!(%error, request = %request.short(), "cannot record how a request ended: it counts as refused");
                Ended::Unrecorded
            }
        };
        match (open.waiter, ended) {
            // Whoever waited may be gone; then nothing is forwarded.
            (Some(waiter), ended) => drop(waiter.send(ended)),
            (None, Ended::Approved { digest }) => {
                // An approval that nobody comes back for lapses after the time that the rule gives.
                let until = Instant::now() + open.requested.approval.timeout;
                self.state().approved.insert(digest, (request, until));
            }
            (None, _) => {}
        }
    }

    /// Takes the approval for the identical operation, once.
    pub fn spend(&self, digest: Digest) -> Option<RequestId> {
        let (request, until) = self.state().approved.remove(&digest)?;
        (Instant::now() < until).then_some(request)
    }

    /// Every open request, oldest first.
    pub fn list(&self) -> Vec<View> {
        self.first(None, usize::MAX).0
    }

    /// The oldest `most` of the open requests that concern `person` (`None`: of all), and how many there are in all. Only
    /// those are made ready for people: nobody decides meanwhile.
    pub fn first(&self, person: Option<&Person>, most: usize) -> (Vec<View>, usize) {
        self.after(person, None, most)
    }

    /// The same of those that are younger than the request `after`, whether or not that is open still.
    pub fn after(&self, person: Option<&Person>, after: Option<RequestId>, most: usize) -> (Vec<View>, usize) {
        let state = self.state();
        let concerns =
            |open: &Open| person.is_none_or(|person| self.concerned(&state, open).iter().any(|who| person.is(who)));
        let younger = |request: &RequestId| after.is_none_or(|after| *request > after);
        let mut found: Vec<_> =
            state.open.iter().filter(|(request, open)| younger(request) && concerns(open)).collect();
        found.sort_by_key(|(request, _)| **request);
        let views = found.iter().take(most).map(|(_, open)| self.view(&state, open)).collect();
        (views, found.len())
    }

    /// How many requests are open.
    pub fn open_count(&self) -> usize {
        self.state().open.len()
    }

    /// The open request that `typed` names.
    ///
    /// # Errors
    /// None, or several, or it has ended.
    pub fn show(&self, typed: &str) -> Result<View, DecideError> {
        let state = self.state();
        let request = state.named(typed).map_err(|error| self.remembered(error))?;
        let open = state.open.get(&request).ok_or_else(|| DecideError::Unknown(typed.to_owned()))?;
        Ok(self.view(&state, open))
    }

    /// How the request that `typed` names ended; `None` while it is open.
    ///
    /// # Errors
    /// There is none, or several.
    pub fn outcome(&self, typed: &str) -> Result<Option<Outcome>, DecideError> {
        let state = self.state();
        if state.named(typed).is_ok() {
            return Ok(None);
        }
        let mut ended = state.ended.iter().filter(|(id, _)| id.is_named(typed));
        match (ended.next(), ended.next()) {
            (Some((_, outcome)), None) => return Ok(Some(*outcome)),
            (None, _) => {}
            (Some(_), Some(_)) => return Err(DecideError::Ambiguous(typed.to_owned())),
        }
        drop(state);
        let records = self.0.recorder.records()?;
        match records.find_request(typed)? {
            Lookup::One(request) => {
                let history = records.request(request)?;
                Ok(history.and_then(|history| history.closed).map(|(_, outcome)| outcome))
            }
            Lookup::Many(_) => Err(DecideError::Ambiguous(typed.to_owned())),
            Lookup::None => Err(DecideError::Unknown(typed.to_owned())),
        }
    }

    /// A request that this gateway never had open may have been an earlier one's: the record knows how it ended.
    fn remembered(&self, error: DecideError) -> DecideError {
        let DecideError::Unknown(typed) = &error else { return error };
        let ended = || {
            let records = self.0.recorder.records().ok()?;
            let Lookup::One(request) = records.find_request(typed).ok()? else { return None };
            let (_, outcome) = records.request(request).ok()??.closed?;
            Some(DecideError::Ended(request.short(), words(outcome)))
        };
        ended().unwrap_or(error)
    }

    /// Counts up with every change at the desk.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Asks whose time has come and refuses what is past its deadline, for as long as the gateway runs. Timers are
    /// monotonic: changing the machine's clock neither hurries nor delays them.
    pub async fn keep_time(self) {
        loop {
            let next = [self.advance(), self.expire_grants(), self.expire_delegations()].into_iter().flatten().min();
            let wait = next.map_or(IDLE_CHECK, |next| next.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.deadline_changed.notified() => {}
            }
        }
    }

    /// Does with every request what time alone does; says when that next changes something.
    fn advance(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        state.approved.retain(|_, (_, until)| *until > now);
        let late: Vec<_> = state.open.iter().filter(|(_, open)| open.deadline <= now).map(|(id, _)| *id).collect();
        for request in late {
            if let Some(ended) = state.open.get(&request).map(Open::expired) {
                self.end(&mut state, request, &Event::Time, ended);
            }
        }
        let (mut asked, mut recorded) = (false, true);
        for open in state.open.values_mut().filter(|open| open.opened + open.workflow.next_change() <= now) {
            asked = true;
            recorded &= self.ask(open);
        }
        let next = state.open.values().map(|open| open.opened + open.workflow.next_change()).min();
        drop(state);
        if asked {
            self.changed();
        }
        if recorded { next } else { next.map(|next| next.max(now + TRY_AGAIN)) }
    }

    /// Refuses everything that is held, and from now on whatever asks: the gateway stops.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        let open: Vec<_> = state.open.keys().copied().collect();
        for request in open {
            self.end(&mut state, request, &Event::Stop, Ended::Stopping);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while it holds the desk's lock")
    }
}

/// The right to open a request for a digest, for as long as that takes.
struct Opening<'a> {
    desk: &'a Desk,
    digest: Digest,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.desk.state().opening.remove(&self.digest);
    }
}

impl State {
    /// The one request that `typed` names, open or lately ended.
    fn named(&self, typed: &str) -> Result<RequestId, DecideError> {
        let mut open = self.open.keys().filter(|id| id.is_named(typed));
        match (open.next(), open.next()) {
            (Some(one), None) => return Ok(*one),
            (Some(_), Some(_)) => return Err(DecideError::Ambiguous(typed.to_owned())),
            (None, _) => {}
        }
        match self.ended.iter().rev().find(|(id, _)| id.is_named(typed)) {
            Some((id, outcome)) => Err(DecideError::Ended(id.short(), words(*outcome))),
            None => Err(DecideError::Unknown(typed.to_owned())),
        }
    }

    fn remember(&mut self, request: RequestId, outcome: Outcome) {
        self.ended.insert(request, outcome);
        while self.ended.len() > REMEMBERED {
            self.ended.pop_first();
        }
    }
}

impl Waiting {
    /// The request.
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// What the operation would touch is known: people see it from now on, and approve it with the rest.
    pub fn previewed(&self, impact: Impact) {
        self.desk.preview(self.request, impact);
    }

    /// How long is left until the answer is no, in whole seconds.
    pub fn left(&self) -> Duration {
        // Half a second more, so that a wait of fifteen minutes does not read as 14m 59s.
        let left = self.deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(500);
        Duration::from_secs(left.as_secs())
    }

    /// Waits until the request ends. Cancel safe.
    pub async fn ended(&mut self) -> Ended {
        let ended = (&mut self.ended).await.unwrap_or(Ended::Stopping);
        self.over = true;
        ended
    }
}

impl Drop for Waiting {
    /// The client cancelled, hung up, or its connection's task ended: the request is withdrawn.
    fn drop(&mut self) {
        if !self.over {
            self.desk.end(&mut self.desk.state(), self.request, &Event::Withdraw, Ended::Withdrawn);
        }
    }
}

fn words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Approved => "it was approved",
        Outcome::Denied => "it was denied",
        Outcome::Expired => "nobody approved it in time",
        Outcome::Withdrawn => "the client withdrew it",
        Outcome::Restarted => "the gateway stopped while it was held",
    }
}

/// How many ended requests are remembered by name, so that a late decision hears what happened.
const REMEMBERED: usize = 10_000;

/// When those are asked again whose asking could not be recorded.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// How often the timer looks when nothing is open.
const IDLE_CHECK: Duration = Duration::from_secs(60);
