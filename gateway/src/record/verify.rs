//! Proving that the record is whole: the chain of hashes, the indexes, and that what was forwarded had been allowed.
//!
//! Works offline on the store's files and needs no key. It finds entries that were changed, dropped, added or moved,
//! operations that went through without the approval they needed, and index entries that would hide an entry from the
//! lists. Dropping the *newest* entries leaves a shorter, whole record: that is found against a [`Head`] that was
//! kept elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use serde::Serialize;

use super::{
    RecordError, Records,
    chain::{Head, Sealed},
    encoding,
    entry::{
        Asked, Body, Connected, Delegated, Enrolled, Entry, Granted, Operated, Outcome, Requested, Shape, Timestamp,
    },
    store::{
        Direction, Store,
        column::{Entries, OpenRequests, SessionEntries, Sessions},
    },
    write::indexed,
};
use crate::{
    operation::{DelegationId, Digest, GrantId, Impact, OperationId, RequestId, ReviewId, SessionId},
    policy::Decide,
};

mod course;
mod people;

use course::Course;

/// What verifying found.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// Entries read.
    pub entries: u64,
    /// Operations among them.
    pub operations: u64,
    /// Decisions that people signed, whose signatures hold.
    pub signatures: u64,
    /// Approval requests among them.
    pub requests: u64,
    /// Requests without an end.
    pub open: u64,
    /// The newest entry; keep it elsewhere.
    pub head: Head,
    /// What is wrong, in order; empty when the record is whole.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// At which entry; `None` for what concerns the whole record.
    pub position: Option<u64>,
    /// What, in words.
    pub what: String,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

/// After this many findings the rest is not listed.
const ENOUGH: usize = 1_000;

/// Verifies everything; with `against`, also that nothing up to that older head was changed or dropped.
pub fn verify(records: &Records, against: Option<Head>) -> Result<Verification, RecordError> {
    let store = records.store();
    let mut walk = Walk::new(store, against)?;
    for item in store.scan::<Entries>(None, Direction::Forward) {
        match item {
            Ok((position, value)) => walk.visit(position, &value)?,
            Err(error) => {
                walk.find(Some(walk.head.position + 1), format!("the store cannot be read any further: {error}"));
                break;
            }
        }
        if walk.findings.len() >= ENOUGH {
            walk.find(None, format!("more than {ENOUGH} findings; the rest of the record was not looked at"));
            break;
        }
    }
    walk.finish()
}

struct Walk<'a> {
    store: &'a Store,
    head: Head,
    against: Option<Head>,
    entries: u64,
    operations: u64,
    signatures: u64,
    indexed: u64,
    /// Those seen so far.
    sessions: HashSet<SessionId>,
    requests: BTreeMap<RequestId, Case>,
    grants: BTreeMap<GrantId, GrantCase>,
    /// Passkeys enrolled so far.
    keys: HashMap<Bytes, Enrolled>,
    /// What was lent, each with where that stands; `None`: it has ended.
    delegations: BTreeMap<DelegationId, (u64, Option<Delegated>)>,
    /// Who broke the glass, each with where that stands, and whether nobody has reviewed it.
    reviews: BTreeMap<ReviewId, (u64, String, bool)>,
    /// Whose connection a session is, to which resource.
    connected: HashMap<SessionId, (String, String)>,
    /// As which user.
    users: HashMap<SessionId, u32>,
    findings: Vec<Finding>,
}

/// What the record says about one request.
struct Case {
    position: u64,
    asked: Asked,
    workload: String,
    resource: String,
    shape: Option<Shape>,
    waits: bool,
    /// What people approve.
    digest: Digest,
    /// Whether what it would touch is part of that.
    previewed: bool,
    course: Course,
    closed: Option<Outcome>,
    released_at: Option<u64>,
}

/// What the record says about one grant.
struct GrantCase {
    position: u64,
    request: RequestId,
    left: u32,
    /// The places of values that may be any.
    any: Vec<u32>,
    expires: Timestamp,
    ended: bool,
    /// Operations that it is said to be used for and that have not been seen yet.
    announced: BTreeSet<OperationId>,
}

impl<'a> Walk<'a> {
    fn new(store: &'a Store, against: Option<Head>) -> Result<Self, RecordError> {
        let head = Head::genesis(&store.node()?);
        Ok(Self {
            store,
            head,
            against,
            entries: 0,
            operations: 0,
            signatures: 0,
            keys: HashMap::new(),
            indexed: 0,
            sessions: HashSet::new(),
            requests: BTreeMap::new(),
            grants: BTreeMap::new(),
            delegations: BTreeMap::new(),
            reviews: BTreeMap::new(),
            connected: HashMap::new(),
            users: HashMap::new(),
            findings: Vec::new(),
        })
    }

    fn find(&mut self, position: Option<u64>, what: impl Into<String>) {
        self.findings.push(Finding { position, what: what.into() });
    }

    fn visit(&mut self, position: u64, value: &[u8]) -> Result<(), RecordError> {
        self.entries += 1;
        self.missing_before(position);
        let sealed = match Sealed::cut(value) {
            Ok(sealed) => sealed,
            Err(why) => {
                self.find(Some(position), format!("not an entry: {why}"));
                return Ok(());
            }
        };
        self.link(position, &sealed);
        match encoding::decode(sealed.payload) {
            Ok(entry) => {
                self.look_up(position, &entry)?;
                self.judge(position, entry);
            }
            Err(bad) => self.find(Some(position), format!("cannot be read: {bad}")),
        }
        Ok(())
    }

    fn missing_before(&mut self, position: u64) {
        let expected = self.head.position + 1;
        if position == expected {
            return;
        }
        match position.checked_sub(1) {
            Some(last) if last == expected => self.find(Some(expected), "missing"),
            Some(last) => self.find(Some(expected), format!("missing, with all up to {last}")),
            None => self.find(Some(0), "an entry before the first position"),
        }
        // Nothing is known of the link over a gap; what follows is checked from here on.
        self.head.position = position.saturating_sub(1);
    }

    fn link(&mut self, position: u64, sealed: &Sealed<'_>) {
        let after_gap = self.findings.last().is_some_and(|last| last.what.starts_with("missing"))
            && self.findings.last().and_then(|last| last.position) < Some(position);
        let computed = self.head.next(sealed.payload);
        if computed.hash != sealed.hash {
            let what = if after_gap {
                "does not follow from the last entry before the gap"
            } else {
                "altered, replaced or moved: its hash does not follow from the entry before it"
            };
            self.find(Some(position), what);
        }
        // Going on from the stored hash shows every further break as one of its own.
        self.head = Head { position, hash: sealed.hash };
        if let Some(kept) = self.against.filter(|kept| kept.position == position && kept.hash != sealed.hash) {
            self.find(Some(position), format!("differs from the head that was kept: {kept}"));
        }
    }

    /// The indexes must lead to this entry, or the lists would not show it.
    fn look_up(&mut self, position: u64, entry: &Entry) -> Result<(), RecordError> {
        let Some(session) = entry.session else { return Ok(()) };
        self.indexed += 1;
        if self.store.fetch::<SessionEntries>(&(session, position))?.is_none() {
            self.find(Some(position), format!("missing from the index of session {}", session.short()));
        }
        if self.sessions.insert(session) && self.store.fetch::<Sessions>(&session)?.is_none() {
            self.find(Some(position), format!("session {} is missing from the list of sessions", session.short()));
        }
        Ok(())
    }

    fn judge(&mut self, position: u64, entry: Entry) {
        self.signed(position, &entry.body);
        match entry.body {
            Body::Requested(requested) => self.requested(position, entry.session, *requested),
            Body::Decided { .. } => self.decided(position, entry.at, &entry.body),
            Body::Asked { request, step, places, who, .. } => self.asks(position, request, step, &places, &who),
            Body::Said { request, .. } if self.requests.get(&request).is_none_or(|case| case.closed.is_some()) => {
                self.find(Some(position), format!("a remark on request {}, which was not open", request.short()));
            }
            Body::BrokeGlass(broken) => self.broke_glass(position, &broken),
            Body::Reviewed { review, person, .. } => self.reviewed(position, review, &person),
            Body::Delegated(delegated) => {
                self.delegations.insert(delegated.delegation, (position, Some(*delegated)));
            }
            Body::DelegationEnded { delegation, .. } => {
                let lent = self.delegations.get_mut(&delegation).and_then(|(_, delegated)| delegated.take());
                if lent.is_none() {
                    let short = delegation.short();
                    self.find(Some(position), format!("the end of delegation {short}, which was not in force"));
                }
            }
            Body::Previewed { request, impact } => self.previewed(position, request, &impact),
            Body::Closed { request, outcome } => self.closed(position, request, outcome),
            Body::Operation(operated) => self.operated(position, entry.session, &operated),
            Body::Connected(connected) => {
                let Connected { workload, resource, process, .. } = *connected;
                self.users.extend(entry.session.map(|session| (session, process.uid)));
                let known = (workload.name, resource.unwrap_or_default());
                self.connected.extend(entry.session.map(|session| (session, known)));
            }
            Body::Disconnected { .. } => {
                entry.session.and_then(|session| self.connected.remove(&session));
                entry.session.and_then(|session| self.users.remove(&session));
            }
            Body::Granted(granted) => self.granted(position, &granted),
            Body::GrantUsed { grant, operation, left, shape } => {
                self.grant_used((position, entry.at), grant, operation, left);
                self.shape_used(position, grant, shape.as_ref());
            }
            Body::Enrolled(enrolled) => drop(self.keys.insert(enrolled.key.clone(), *enrolled)),
            Body::GrantEnded { grant, .. } => match self.grants.get_mut(&grant) {
                Some(case) if !case.ended => case.ended = true,
                _ => self.find(Some(position), format!("the end of grant {}, which was not open", grant.short())),
            },
            _ => {}
        }
    }

    fn requested(&mut self, position: u64, session: Option<SessionId>, requested: Requested) {
        let uid = session.and_then(|session| self.users.get(&session).copied());
        let case = Case {
            position,
            waits: requested.waits,
            digest: requested.digest,
            previewed: false,
            course: Course::new(requested.approval, requested.barred.unwrap_or_default(), uid),
            asked: requested.asked,
            workload: requested.workload,
            resource: requested.resource,
            shape: requested.shape,
            closed: None,
            released_at: None,
        };
        let short = requested.request.short();
        if self.requests.insert(requested.request, case).is_some() {
            self.find(Some(position), format!("request {short} was opened twice"));
        }
    }

    /// From here on people approve this as well.
    fn previewed(&mut self, position: u64, request: RequestId, impact: &Impact) {
        match self.requests.get_mut(&request) {
            Some(case) if case.closed.is_none() && !case.previewed => {
                (case.digest, case.previewed) = (impact.bound_to(&case.digest), true);
            }
            _ => self.find(Some(position), format!("an impact of request {}, which awaits none", request.short())),
        }
    }

    fn closed(&mut self, position: u64, request: RequestId, outcome: Outcome) {
        let short = request.short();
        let what = match self.requests.get_mut(&request) {
            None => format!("the end of request {short}, which was never opened"),
            Some(Case { closed: Some(_), .. }) => format!("request {short} ended twice"),
            Some(case) => {
                case.closed = Some(outcome);
                if outcome != Outcome::Approved || case.course.is_approved() {
                    return;
                }
                format!("request {short} ended approved with {}", case.course.standing())
            }
        };
        self.find(Some(position), what);
    }

    fn operated(&mut self, position: u64, session: Option<SessionId>, operated: &Operated) {
        self.operations += 1;
        if !operated.forwarded {
            return;
        }
        if operated.asked.decide == Decide::Refuse {
            self.find(Some(position), "forwarded although policy refused it");
        }
        if let Some(grant) = operated.grant {
            self.released_by_grant((position, session), operated, grant);
            return;
        }
        match operated.request {
            Some(request) => self.released(position, operated, request),
            None if operated.asked.decide == Decide::Hold => {
                self.find(Some(position), "forwarded although policy held it, without a request");
            }
            None => {}
        }
    }

    fn released(&mut self, position: u64, operated: &Operated, request: RequestId) {
        let short = request.short();
        let Some(case) = self.requests.get_mut(&request) else {
            self.find(Some(position), format!("forwarded under request {short}, which was never opened"));
            return;
        };
        let mut wrong = Vec::new();
        if let Some(before) = case.released_at.replace(position) {
            wrong.push(format!("forwarded under request {short}, which had released entry {before} already"));
        }
        if !case.course.is_approved() {
            wrong.push(format!("forwarded under request {short} with {}", case.course.standing()));
        }
        if !is_what_was_asked(&operated.asked, case) {
            wrong.push(format!("forwarded under request {short}, but it is not what was asked there"));
        }
        for what in wrong {
            self.find(Some(position), what);
        }
    }

    fn granted(&mut self, position: u64, granted: &Granted) {
        let short = granted.grant.short();
        let what = match self.requests.get(&granted.request) {
            None => Some(format!("grant {short} comes from a request that was never opened")),
            Some(case) if !case.course.is_approved() => {
                Some(format!("grant {short} was made with {}", case.course.standing()))
            }
            Some(_) => None,
        };
        let Granted { request, uses: left, expires, .. } = *granted;
        let any = granted.any.clone();
        let case = GrantCase { position, request, left, any, expires, ended: left == 0, announced: BTreeSet::new() };
        let twice = self.grants.insert(granted.grant, case).map(|_| format!("grant {short} was made twice"));
        what.into_iter().chain(twice).for_each(|what| self.find(Some(position), what));
    }

    fn grant_used(&mut self, (position, at): (u64, Timestamp), grant: GrantId, operation: OperationId, left: u32) {
        let short = grant.short();
        let what = match self.grants.get_mut(&grant) {
            None => format!("a use of grant {short}, which was never made"),
            Some(case) if case.ended || at >= case.expires => format!("a use of grant {short} after it had ended"),
            Some(case) if case.left.checked_sub(1) != Some(left) => {
                format!("a use of grant {short} that leaves {left}, with {} left before it", case.left)
            }
            Some(case) => {
                (case.left, case.ended) = (left, left == 0);
                case.announced.insert(operation);
                return;
            }
        };
        self.find(Some(position), what);
    }

    /// What a use was for has the form that was granted, with its values but for those that may be any.
    fn shape_used(&mut self, position: u64, grant: GrantId, used: Option<&Shape>) {
        let Some(case) = self.grants.get(&grant) else { return };
        let granted = self.requests.get(&case.request).and_then(|request| request.shape.as_ref());
        let (Some(used), Some(granted)) = (used, granted) else { return };
        let same_values = || {
            let mut pairs = (1..).zip(used.values.iter().zip(&granted.values));
            pairs.all(|(place, (value, approved))| value == approved || case.any.contains(&place))
        };
        let is_granted = used.fingerprint == granted.fingerprint
            && used.covers == granted.covers
            && used.values.len() == granted.values.len()
            && same_values();
        if !is_granted {
            let short = grant.short();
            self.find(Some(position), format!("a use of grant {short} for another shape or other values than granted"));
        }
    }

    fn released_by_grant(&mut self, at: (u64, Option<SessionId>), operated: &Operated, grant: GrantId) {
        let (position, session) = at;
        let connected = session.and_then(|session| self.connected.get(&session));
        let short = grant.short();
        let asked = &operated.asked;
        let announced = self.grants.get_mut(&grant);
        let request = announced.and_then(|case| case.announced.remove(&asked.operation).then_some(case.request));
        let what = match request.and_then(|request| self.requests.get(&request)) {
            None => format!("forwarded under grant {short} without a recorded use of it"),
            Some(case) if !is_within(asked, &case.asked) => {
                format!("forwarded under grant {short}, but it does more than was granted")
            }
            Some(case) if connected.is_some_and(|(who, what)| *who != case.workload || *what != case.resource) => {
                format!("forwarded under grant {short}, which is another workload's or for another resource")
            }
            Some(_) => return,
        };
        self.find(Some(position), what);
    }

    fn finish(mut self) -> Result<Verification, RecordError> {
        let mut wrong = Vec::new();
        for (request, case) in &self.requests {
            if let Some(at) = case.released_at.filter(|_| case.closed != Some(Outcome::Approved)) {
                wrong.push((at, format!("forwarded under request {}, which did not end approved", request.short())));
            }
            let listed = self.store.fetch::<OpenRequests>(request)?.is_some();
            if listed != case.closed.is_none() {
                let short = request.short();
                wrong.push((case.position, format!("the index of open requests is wrong about request {short}")));
            }
        }
        for (grant, case) in &self.grants {
            if self.store.fetch::<OpenRequests>(&indexed(*grant))?.is_some() == case.ended {
                wrong.push((case.position, format!("the index of open grants is wrong about grant {}", grant.short())));
            }
        }
        for (delegation, (position, delegated)) in &self.delegations {
            if self.store.fetch::<OpenRequests>(&indexed(*delegation))?.is_some() != delegated.is_some() {
                let short = delegation.short();
                wrong.push((*position, format!("the index of delegations is wrong about delegation {short}")));
            }
        }
        for (review, (position, _, open)) in &self.reviews {
            if self.store.fetch::<OpenRequests>(&indexed(*review))?.is_some() != *open {
                wrong.push((*position, format!("the index of open reviews is wrong about review {}", review.short())));
            }
        }
        for (position, what) in wrong {
            self.find(Some(position), what);
        }
        self.count_indexes()?;
        if let Some(kept) = self.against.filter(|kept| kept.position > self.head.position) {
            let (from, to) = (self.head.position + 1, kept.position);
            self.find(Some(from), format!("entries {from} to {to} were dropped: the head that was kept is {kept}"));
        }
        Ok(Verification {
            entries: self.entries,
            operations: self.operations,
            signatures: self.signatures,
            requests: self.requests.len() as u64,
            open: self.requests.values().filter(|case| case.closed.is_none()).count() as u64,
            head: self.head,
            findings: self.findings,
        })
    }

    /// Every entry was looked up, so an index with more than those leads to entries that are not there.
    fn count_indexes(&mut self) -> Result<(), RecordError> {
        let found = self.store.scan::<SessionEntries>(None, Direction::Forward);
        let found = found.map(|item| item.map(|_| 1)).sum::<Result<u64, _>>()?;
        if self.findings.is_empty() && found != self.indexed {
            let what = format!("the index of sessions has {found} entries, the record {}", self.indexed);
            self.find(None, what);
        }
        Ok(())
    }
}

/// Whether an operation is of the same kind as the one that was granted, held by the same rule, and does no more to no
/// more.
fn is_within(asked: &Asked, granted: &Asked) -> bool {
    asked.kind == granted.kind
        && asked.rule == granted.rule
        && asked.effects.within(granted.effects)
        && asked.objects.iter().all(|object| granted.objects.contains(object))
}

/// A held client's operation is the very one; one sent again after approval is a new operation with the same content.
fn is_what_was_asked(forwarded: &Asked, case: &Case) -> bool {
    let asked = &case.asked;
    let same = forwarded.text == asked.text && forwarded.parameters == asked.parameters;
    same && (!case.waits || (forwarded.operation == asked.operation && forwarded.wire == asked.wire))
}
