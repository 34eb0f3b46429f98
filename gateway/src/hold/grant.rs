//! Grants: an approval that also releases what has the same shape, for a time and a number of uses.
//!
//! A grant covers an operation of the same workload, user and executable, on the same resource, of the same form and
//! in the same state of the session, with the values that were approved but for those that may be any, held by the
//! same rule, with no effect and no object beyond those that were approved.
//!
//! # Correctness
//! - Policy is asked first, every time: a grant stands in people's place where policy holds. What policy refuses
//!   stays refused, and where the rule now asks more people, or others, than gave the grant, people are asked.
//! - A use is counted and appended under the desk's one lock, and on disk before the operation is recorded as
//!   forwarded. One that cannot be recorded is lost, never given back: uses are never exceeded.
//! - The monotonic clock and the wall clock both end a grant, whichever is first; so does a wall clock that was set
//!   back to before the grant.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Desk, Open, approvers_in_words};
use crate::{
    operation::{Effect, Effects, GrantId, RequestId, SessionId},
    people::Person,
    policy::Approval,
    record::{
        Appending, Durability, GrantHistory, RecordError,
        entry::{Body, Entry, Granted, Requested, Shape, Timestamp},
    },
    visible::visible,
};

/// What an approver who makes a grant allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// How many more operations it releases.
    pub uses: u32,
    /// For how many seconds.
    pub seconds: u64,
    /// Which values may be any.
    #[serde(default)]
    pub any: AnyValue,
}

/// Which values of an operation a grant leaves open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnyValue {
    /// None: all as approved.
    #[default]
    None,
    /// All of them.
    All,
    /// Those at these places, from 1.
    At(Vec<u32>),
}

impl std::fmt::Display for Terms {
    /// As the record has them, and as a passkey signs them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { uses, seconds, any } = self;
        write!(f, "{uses} uses within {seconds} seconds, with ")?;
        match any {
            AnyValue::None => f.write_str("the values approved"),
            AnyValue::All => f.write_str("any values"),
            AnyValue::At(places) => write!(f, "any values at {places:?}"),
        }
    }
}

/// Why there is no grant, or nothing was done with one.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The operation has no shape.
    #[error(
        "request {0} cannot become a grant: only a single statement can that the gateway sees through, that changes \
         nothing of its session and moves no COPY data, with nothing unanswered before it, and after nothing whose \
         traces in the session cannot be compared; approve it without --grant"
    )]
    NoShape(String),
    /// Too many or too few uses, or too long or short a time.
    #[error("a grant has 1 to {MOST_USES} uses and lasts from a second to thirty days")]
    Bounds,
    /// A place that is none.
    #[error("request {0} has {1} values, so there is no value {2}; `holdpoint approvals show` numbers them")]
    NoSuchValue(String, usize, u32),
    /// Values of what is not plain data.
    #[error(
        "a grant for what has the effects {0} covers the values that were approved and no others: they can change what \
         it does; leave out --any-value"
    )]
    FixedValues(Effects),
    /// Values that may name something.
    #[error(
        "the values of request {0} go to a function or a type that may take one for the name of something or for code, \
         so a grant covers those that were approved and no others; leave out --any-value"
    )]
    NamingValues(String),
    /// Somebody else approved something else.
    #[error("{0} approved request {1} without this grant, so it cannot become one; approve it on the same terms")]
    OtherTerms(String, String),
    /// No such grant, now or lately.
    #[error("there is no grant {0}; `holdpoint grants list` shows those in force")]
    Unknown(String),
    /// The typed form fits several.
    #[error("{0} names several grants; type more of it")]
    Ambiguous(String),
    /// It has ended.
    #[error("grant {0} has already ended: {1}; nothing was done")]
    Ended(String, &'static str),
    /// Not one of those who could have given it.
    #[error("{0} may not revoke grant {1}: the rule asks {2}")]
    NotAnApprover(String, String, String),
    /// It cannot be recorded.
    #[error("this cannot be recorded: {0}")]
    Record(#[from] RecordError),
}

/// How a grant ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    UsedUp,
    Expired,
    Revoked,
}

impl End {
    const fn words(self) -> &'static str {
        match self {
            End::UsedUp => "its uses were used up",
            End::Expired => "its time ran out",
            End::Revoked => "it was revoked",
        }
    }
}

/// The grants in force, and how others ended lately.
#[derive(Default)]
pub(super) struct Grants {
    open: BTreeMap<GrantId, Grant>,
    ended: BTreeMap<GrantId, End>,
}

/// One grant in force.
pub(super) struct Grant {
    granted: Granted,
    /// What was approved.
    requested: Requested,
    shape: Shape,
    made: Timestamp,
    until: Instant,
    used: u32,
    /// Which connections it released something in, since this gateway started.
    users: BTreeSet<SessionId>,
}

/// A grant that somebody took back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The grant.
    pub grant: GrantId,
    /// Which connections it released something in.
    pub users: BTreeSet<SessionId>,
}

/// A grant, as people see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct GrantView {
    /// Its full name.
    pub grant: GrantId,
    /// The form that people type.
    pub short: String,
    /// The request whose approval it is.
    pub request: RequestId,
    /// Whose operations it releases.
    pub workload: String,
    /// On what.
    pub resource: String,
    /// The protocol's word for what it releases.
    pub kind: String,
    /// What was approved, with everything that could deceive an eye made visible.
    pub statement: String,
    /// The protocol's name for its shape.
    pub fingerprint: String,
    /// Its values, each as approved, or `any`.
    pub values: Vec<String>,
    /// What it may do at most.
    pub effects: Effects,
    /// To what.
    pub objects: Vec<String>,
    /// The session's state that it is for.
    pub state: BTreeMap<String, String>,
    /// The rule in whose place it stands.
    pub rule: String,
    /// Who gave it.
    pub by: Vec<String>,
    /// How many uses it had.
    pub uses: u32,
    /// How many are gone.
    pub used: u32,
    /// Seconds left.
    pub seconds_left: u64,
    #[serde(skip)]
    approval: Approval,
}

impl GrantView {
    /// Whether `person` is among those whom the rule asks.
    pub fn asks(&self, person: &Person) -> bool {
        asks(&self.approval, person)
    }
}

impl Desk {
    /// Takes up the grants that a former gateway left.
    pub(super) fn take_up_grants(&self) -> Result<(), RecordError> {
        let left = self.0.recorder.records()?.open_grants()?;
        let mut state = self.state();
        for GrantHistory { granted, at, requested, used } in left {
            let Some(shape) = requested.shape.clone() else { continue };
            let until = Instant::now() + granted.expires.since(Timestamp::now()).min(granted.expires.since(at));
            let grant = Grant { shape, requested, made: at, until, used, granted, users: BTreeSet::new() };
            state.grants.open.insert(grant.granted.grant, grant);
        }
        drop(state);
        self.expire_grants();
        Ok(())
    }

    /// Uses a grant that covers `wanted`, if there is one. Counted now; to be forwarded only once the use is on disk.
    pub fn use_grant(&self, wanted: &Requested, session: SessionId) -> Option<(GrantId, Appending)> {
        let now = Now::read();
        let mut state = self.state();
        if state.stopped {
            return None;
        }
        // Outside of the hours in which people are asked, a grant stands in nobody's place.
        let asked = wanted.approval.at(jiff::Timestamp::now())?;
        let mut grants = state.grants.open.values_mut();
        let grant = grants.find(|grant| grant.is_in_force(now) && grant.covers(wanted, &asked))?;
        grant.used += 1;
        grant.users.insert(session);
        let (id, left) = (grant.granted.grant, grant.left());
        let body = Body::GrantUsed { grant: id, operation: wanted.asked.operation, left, shape: wanted.shape.clone() };
        let entry = Entry { at: now.clock, session: Some(session), body };
        let recording = self.0.recorder.append(entry, Durability::Synced);
        if left == 0 {
            state.grants.end(id, End::UsedUp);
        }
        drop(state);
        tracing::info!(grant = %id.short(), left, "a grant releases an operation");
        Some((id, recording))
    }

    /// Every grant in force, oldest first.
    pub fn grants(&self) -> Vec<GrantView> {
        let now = Now::read();
        self.state().grants.open.values().filter(|grant| grant.is_in_force(now)).map(|grant| grant.view(now)).collect()
    }

    /// The grant in force that `typed` names.
    ///
    /// # Errors
    /// None, or several, or it has ended.
    pub fn show_grant(&self, typed: &str) -> Result<GrantView, GrantError> {
        let now = Now::read();
        let state = self.state();
        let id = state.grants.named(typed, now)?;
        state.grants.open.get(&id).map(|grant| grant.view(now)).ok_or_else(|| GrantError::Unknown(typed.to_owned()))
    }

    /// Ends a grant. Whoever could approve may, and the superuser.
    ///
    /// # Errors
    /// It does nothing, and says why.
    pub fn revoke(&self, typed: &str, person: &Person, reason: Option<String>) -> Result<Revoked, GrantError> {
        let mut state = self.state();
        let grant = state.grants.named(typed, Now::read())?;
        let open = state.grants.open.get(&grant).ok_or_else(|| GrantError::Unknown(typed.to_owned()))?;
        let approval = &open.requested.approval;
        if !person.is_root() && !asks(approval, person) {
            let asked = approvers_in_words(approval).join(", ");
            return Err(GrantError::NotAnApprover(person.name.clone(), grant.short(), asked));
        }
        let users = open.users.clone();
        let body = Body::GrantEnded { grant, by: Some(person.name.clone()), uid: person.uid, reason };
        let recorded = self.0.recorder.append_written(Entry { at: Timestamp::now(), session: None, body });
        // Ended whether or not that can be recorded: a grant that somebody takes back must not release anything more.
        state.grants.end(grant, End::Revoked);
        drop(state);
        let _ = recorded?;
        tracing::info!(grant = %grant.short(), by = person.name, "a grant was revoked");
        Ok(Revoked { grant, users })
    }

    /// Ends what is past its time; gives the next time.
    pub(super) fn expire_grants(&self) -> Option<Instant> {
        let now = Now::read();
        let mut state = self.state();
        let late: Vec<_> =
            state.grants.open.values().filter(|grant| !grant.is_in_force(now)).map(|one| one.granted.grant).collect();
        for grant in late {
            let body = Body::GrantEnded { grant, by: None, uid: None, reason: None };
            if let Err(error) = self.0.recorder.append_written(Entry { at: now.clock, session: None, body }) {
                tracing::error!(%error, grant = %grant.short(), "cannot record the end of a grant");
            }
            state.grants.end(grant, End::Expired);
        }
        state.grants.open.values().map(|grant| grant.until).min()
    }
}

impl Open {
    /// Whether this may become a grant on these terms: the places whose values may be any.
    pub(super) fn may_grant(&self, terms: &Terms) -> Result<Vec<u32>, GrantError> {
        let short = self.requested.request.short();
        let shape = self.requested.shape.as_ref().ok_or_else(|| GrantError::NoShape(short.clone()))?;
        if !(1..=MOST_USES).contains(&terms.uses) || !(1..=LONGEST.as_secs()).contains(&terms.seconds) {
            return Err(GrantError::Bounds);
        }
        let mut any = match &terms.any {
            AnyValue::None => Vec::new(),
            AnyValue::All => (1..).take(shape.values.len()).collect(),
            AnyValue::At(places) => places.clone(),
        };
        any.sort_unstable();
        any.dedup();
        let beyond = |place: &&u32| **place == 0 || usize::try_from(**place).is_ok_and(|at| at > shape.values.len());
        if let Some(place) = any.iter().find(beyond) {
            return Err(GrantError::NoSuchValue(short, shape.values.len(), *place));
        }
        let effects = self.requested.asked.effects;
        if !any.is_empty() && !effects.within(DATA) {
            return Err(GrantError::FixedValues(effects));
        }
        if !any.is_empty() && shape.only_data == Some(false) {
            return Err(GrantError::NamingValues(short));
        }
        Ok(any)
    }
}

impl Grants {
    /// A grant that is on record is in force.
    pub(super) fn begin(&mut self, granted: Granted, requested: &Requested, made: Timestamp) {
        let Some(shape) = requested.shape.clone() else { return };
        let until = Instant::now() + granted.expires.since(made);
        let grant =
            Grant { shape, requested: requested.clone(), made, until, used: 0, granted, users: BTreeSet::new() };
        self.open.insert(grant.granted.grant, grant);
    }

    fn end(&mut self, grant: GrantId, how: End) {
        self.open.remove(&grant);
        self.ended.insert(grant, how);
        while self.ended.len() > REMEMBERED {
            self.ended.pop_first();
        }
    }

    fn named(&self, typed: &str, now: Now) -> Result<GrantId, GrantError> {
        let mut open = self.open.values().filter(|grant| grant.granted.grant.is_named(typed));
        match (open.next(), open.next()) {
            (Some(one), None) if one.is_in_force(now) => return Ok(one.granted.grant),
            (Some(one), None) => return Err(GrantError::Ended(one.granted.grant.short(), End::Expired.words())),
            (Some(_), Some(_)) => return Err(GrantError::Ambiguous(typed.to_owned())),
            (None, _) => {}
        }
        match self.ended.iter().rev().find(|(id, _)| id.is_named(typed)) {
            Some((id, how)) => Err(GrantError::Ended(id.short(), how.words())),
            None => Err(GrantError::Unknown(typed.to_owned())),
        }
    }
}

impl Grant {
    fn left(&self) -> u32 {
        self.granted.uses.saturating_sub(self.used)
    }

    fn is_in_force(&self, now: Now) -> bool {
        let in_time = now.steady < self.until && now.clock < self.granted.expires && now.clock >= self.made;
        in_time && self.left() > 0
    }

    /// `asked_now` is whom the rule asks at this hour.
    fn covers(&self, wanted: &Requested, asked_now: &Approval) -> bool {
        let Some(shape) = &wanted.shape else { return false };
        let (approved, asked) = (&self.requested.asked, &wanted.asked);
        shape.covers == self.shape.covers
            && shape.fingerprint == self.shape.fingerprint
            && self.covers_values(shape)
            && asked.effects.within(approved.effects)
            && asked.objects.iter().all(|object| approved.objects.contains(object))
            && asked.unknown.iter().all(|why| approved.unknown.contains(why))
            && asked.rule == approved.rule
            && [&wanted.approval, asked_now].iter().any(|now| now.is_no_stricter_than(&self.requested.approval))
            && !wanted.barred.iter().flatten().any(|name| self.granted.by.contains(name))
    }

    fn covers_values(&self, shape: &Shape) -> bool {
        let pairs = (1..).zip(shape.values.iter().zip(&self.shape.values));
        shape.values.len() == self.shape.values.len()
            && pairs
                .into_iter()
                .all(|(place, (value, approved))| value == approved || self.granted.any.binary_search(&place).is_ok())
    }

    fn view(&self, now: Now) -> GrantView {
        let Requested { asked, workload, resource, approval, .. } = &self.requested;
        let values = (1..).zip(&self.shape.values).map(|(place, value)| match self.granted.any.contains(&place) {
            true => "any".to_owned(),
            false => visible(value),
        });
        GrantView {
            grant: self.granted.grant,
            short: self.granted.grant.short(),
            request: self.granted.request,
            workload: workload.clone(),
            resource: resource.clone(),
            kind: asked.kind.clone(),
            statement: visible(&asked.text),
            fingerprint: self.shape.fingerprint.clone(),
            values: values.collect(),
            effects: asked.effects,
            objects: asked.objects.iter().map(|object| visible(object.to_string().as_bytes())).collect(),
            state: asked.state.iter().map(|(name, value)| (name.to_string(), visible(value.as_bytes()))).collect(),
            rule: asked.rule.clone(),
            by: self.granted.by.clone(),
            uses: self.granted.uses,
            used: self.used,
            seconds_left: self.until.saturating_duration_since(now.steady).as_secs(),
            approval: approval.clone(),
        }
    }
}

/// Both clocks, read once.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) steady: Instant,
    pub(super) clock: Timestamp,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { steady: Instant::now(), clock: Timestamp::now() }
    }
}

fn asks(approval: &Approval, person: &Person) -> bool {
    approval.approvers().any(|approver| person.is(&approver.who))
}

/// What changes rows and nothing else: values cannot make it do something of another kind.
const DATA: Effects = Effects::of(Effect::Read).with(Effect::Write).with(Effect::Delete);

const MOST_USES: u32 = 1000;

const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many ended grants are remembered by name.
const REMEMBERED: usize = 10_000;
