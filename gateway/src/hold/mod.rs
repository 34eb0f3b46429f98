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

use serde::Serialize;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

use crate::{
    operation::{Digest, GrantId, Impact, RequestId},
    people::Person,
    record::{
        Appending, Durability, Lookup, RecordError, Recorder,
        entry::{Body, Entry, Granted, Outcome, Requested, Timestamp},
    },
};

mod error;
mod grant;
mod open;
#[cfg(test)]
mod tests;
mod view;

pub use error::DecideError;
pub use grant::{AnyValue, GrantError, GrantView, Terms};
use open::{Approved, Open, approvers_in_words};
pub use view::{Requester, View};

/// The open requests, and who decides on them. A cheap handle.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    recorder: Recorder,
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
    Expired,
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
            Ended::Expired => f.write_str("nobody approved it in time"),
            Ended::Withdrawn => f.write_str("the client withdrew it"),
            Ended::Stopping => f.write_str("the gateway is stopping; send it again when it is back"),
            Ended::Unrecorded => f.write_str("the decision could not be recorded, so it does not count"),
        }
    }
}

/// What a decision did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
        for left in recorder.open_requests()? {
            let body = Body::Closed { request: left.request, outcome: Outcome::Restarted };
            let _ = recorder.append_written(Entry { at: Timestamp::now(), session: None, body })?;
            tracing::info!(request = %left.request.short(), "refused: the gateway restarted while it was held");
        }
        let inner = Inner {
            recorder,
            state: Mutex::default(),
            deadline_changed: Notify::new(),
            changes: watch::Sender::new(0),
        };
        let desk = Self(Arc::new(inner));
        desk.take_up_grants()?;
        Ok(desk)
    }

    /// Opens a request whose client waits. Durable when this returns.
    ///
    /// # Errors
    /// It cannot be recorded: the operation must be refused.
    pub async fn open(&self, (requested, requester): (Requested, Requester)) -> Result<Waiting, RecordError> {
        let (sender, ended) = oneshot::channel();
        let (request, deadline) = self.enter(requested, requester, Some(sender)).await?;
        Ok(Waiting { desk: self.clone(), request, deadline, ended, over: false })
    }

    /// Opens a request whose client will come back with the identical operation. Where one for it is open, or about
    /// to be, this one joins it and pages nobody.
    ///
    /// # Errors
    /// It cannot be recorded: the operation must be refused.
    pub async fn open_for_retry(
        &self,
        (requested, requester): (Requested, Requester),
    ) -> Result<RequestId, RecordError> {
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
        requested: Requested,
        requester: Requester,
        waiter: Option<oneshot::Sender<Ended>>,
    ) -> Result<(RequestId, Instant), RecordError> {
        let request = requested.request;
        let body = Body::Requested(Box::new(requested.clone()));
        let entry = Entry { at: Timestamp::now(), session: Some(requester.session), body };
        let _ = self.0.recorder.append(entry, Durability::Synced).await?;
        let opened = Instant::now();
        let deadline = opened + requested.approval.timeout;
        tracing::info!(
            request = %request.short(),
            workload = requested.workload,
            resource = requested.resource,
            rule = requested.asked.rule,
            "held for approval"
        );
        let seen = requested.digest;
        let open = Open { requested, requester, impact: None, seen, opened, deadline, approvals: Vec::new(), waiter };
        let stopped = {
            let mut state = self.state();
            state.open.insert(request, open);
            state.stopped
        };
        if stopped {
            self.end(request, Outcome::Restarted, Ended::Stopping);
        }
        self.0.deadline_changed.notify_one();
        self.changed();
        Ok((request, deadline))
    }

    /// A person's decision on the request that `typed` names. `digest`, where given, is what they saw.
    ///
    /// Decides, records and releases under the one lock; see the module's *Correctness*.
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
        self.decided(typed, person, approve, reason, digest, None)
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
        self.decided(typed, person, true, reason, digest, Some(terms))
    }

    fn decided(
        &self,
        typed: &str,
        person: &Person,
        approve: bool,
        reason: Option<String>,
        digest: Option<&str>,
        terms: Option<Terms>,
    ) -> Result<Decided, DecideError> {
        let mut state = self.state();
        let request = state.named(typed).map_err(|error| self.remembered(error))?;
        let open = state.open.get_mut(&request).ok_or_else(|| DecideError::Unknown(typed.to_owned()))?;
        if open.deadline <= Instant::now() {
            // However late the timer is, nobody decides after the deadline.
            self.finish(state, request, Outcome::Expired, Ended::Expired);
            return Err(DecideError::Ended(request.short(), words(Outcome::Expired)));
        }
        open.may_decide(person, approve, reason.as_deref(), digest)?;
        let any = match &terms {
            Some(terms) => Some(open.may_grant(terms)?),
            None => None,
        };
        if let Some(other) = open.approvals.iter().find(|other| terms.is_some() && other.grant != terms) {
            return Err(GrantError::OtherTerms(other.person.name.clone(), request.short()).into());
        }
        let decision = Body::Decided {
            request,
            by: person.name.clone(),
            uid: person.uid,
            approve,
            reason: reason.clone(),
            digest: open.seen,
            person: Some(person.id.to_string()),
            proof: None,
            terms: None,
        };
        let entry = Entry { at: Timestamp::now(), session: Some(open.requester.session), body: decision };
        let _ = self.0.recorder.append_written(entry)?;
        if !approve {
            self.finish(state, request, Outcome::Denied, Ended::Denied { by: person.name.clone(), reason });
            return Ok(Decided::Denied);
        }
        open.approvals.push(Approved { person: person.clone(), grant: terms.clone() });
        let missing =
            open.requested.approval.quorum.saturating_sub(u32::try_from(open.approvals.len()).unwrap_or(u32::MAX));
        if missing > 0 {
            return Ok(Decided::Counted { missing });
        }
        let digest = open.requested.digest;
        let granted = match (terms, any) {
            (Some(terms), Some(any)) => Some(self.make_grant(&mut state, request, &terms, any)?),
            _ => None,
        };
        self.finish(state, request, Outcome::Approved, Ended::Approved { digest });
        Ok(granted.map_or(Decided::Approved, |grant| Decided::Granted { grant: grant.short() }))
    }

    /// Everybody who was needed approved on these terms. In the record before it releases anything.
    fn make_grant(
        &self,
        state: &mut State,
        request: RequestId,
        terms: &Terms,
        any: Vec<u32>,
    ) -> Result<GrantId, RecordError> {
        let State { open, grants, .. } = state;
        let open = open.get(&request).expect("it is being decided on, under the lock");
        let (grant, at) = (GrantId::now(), Timestamp::now());
        let granted = Granted {
            grant,
            request,
            uses: terms.uses,
            expires: at.after(Duration::from_secs(terms.seconds)),
            any,
            by: open.approvals.iter().map(|approved| approved.person.name.clone()).collect(),
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

    /// Ends a request that is still open; says whether this call ended it.
    pub fn end(&self, request: RequestId, outcome: Outcome, ended: Ended) -> bool {
        let state = self.state();
        self.finish(state, request, outcome, ended)
    }

    /// The end of a request: recorded under the lock, told to its waiter once it is on disk.
    fn finish(&self, mut state: MutexGuard<'_, State>, request: RequestId, outcome: Outcome, ended: Ended) -> bool {
        let Some(open) = state.open.remove(&request) else { return false };
        tracing::info!(request = %request.short(), %ended, "a request ended");
        let body = Body::Closed { request, outcome };
        let entry = Entry { at: Timestamp::now(), session: Some(open.requester.session), body };
        // Appended now, in order; only the wait for the disk comes later.
        let closing = self.0.recorder.append(entry, Durability::Synced);
        state.remember(request, outcome);
        drop(state);
        tokio::spawn(self.clone().tell(open, closing, ended));
        self.changed();
        true
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
        let state = self.state();
        let mut views: Vec<_> = state.open.values().map(Open::view).collect();
        views.sort_by_key(|view| view.request);
        views
    }

    /// The open request that `typed` names.
    ///
    /// # Errors
    /// None, or several, or it has ended.
    pub fn show(&self, typed: &str) -> Result<View, DecideError> {
        let state = self.state();
        let request = state.named(typed).map_err(|error| self.remembered(error))?;
        state.open.get(&request).map(Open::view).ok_or_else(|| DecideError::Unknown(typed.to_owned()))
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

    /// Refuses what is past its deadline, for as long as the gateway runs. Timers are monotonic: changing the
    /// machine's clock neither hurries nor delays them.
    pub async fn keep_time(self) {
        loop {
            let next = [self.expire(), self.expire_grants()].into_iter().flatten().min();
            let wait = next.map_or(IDLE_CHECK, |next| next.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.deadline_changed.notified() => {}
            }
        }
    }

    /// Ends what is past its deadline; gives the next deadline.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let (late, next) = {
            let mut state = self.state();
            state.approved.retain(|_, (_, until)| *until > now);
            let late: Vec<_> = state.open.iter().filter(|(_, open)| open.deadline <= now).map(|(id, _)| *id).collect();
            (late, state.open.values().map(|open| open.deadline).filter(|deadline| *deadline > now).min())
        };
        for request in late {
            self.end(request, Outcome::Expired, Ended::Expired);
        }
        next
    }

    /// Refuses everything that is held, and from now on whatever asks: the gateway stops.
    pub fn stop(&self) {
        let open: Vec<_> = {
            let mut state = self.state();
            state.stopped = true;
            state.open.keys().copied().collect()
        };
        for request in open {
            self.end(request, Outcome::Restarted, Ended::Stopping);
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
            self.desk.end(self.request, Outcome::Withdrawn, Ended::Withdrawn);
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

/// How often the timer looks when nothing is open.
const IDLE_CHECK: Duration = Duration::from_secs(60);
