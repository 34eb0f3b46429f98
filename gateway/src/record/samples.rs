//! Entries for tests: one of each kind, and any at all.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};

use super::entry::{
    Asked, Body, BrokenGlass, Connected, Counts, Delegated, Enrolled, Entry, Granted, Lent, Operated, Outcome, Proof,
    Remark, Requested, Shape, Timestamp,
};
use crate::operation::{
    DelegationId, Digest, Effect, Effects, Estimate, GrantId, Id, Impact, Object, OperationId, Parameter, Ran,
    RequestId, ReviewId, SessionId, Touched,
};
use crate::policy::{Approval, Approver, Decide, Hours, Need, Otherwise, Separation, Step, Who};
use crate::workload::{CgroupId, Process, Workload};

pub(crate) const SESSION: SessionId = Id::from_bytes([0x11; 16]);
pub(crate) const OPERATION: OperationId = Id::from_bytes([0x22; 16]);
pub(crate) const REQUEST: RequestId = Id::from_bytes([0x33; 16]);
pub(crate) const GRANT: GrantId = Id::from_bytes([0x77; 16]);
pub(crate) const DELEGATION: DelegationId = Id::from_bytes([0x88; 16]);
pub(crate) const REVIEW: ReviewId = Id::from_bytes([0x99; 16]);

/// An entry of the sample session.
pub(crate) fn entry(body: Body) -> Entry {
    Entry { at: Timestamp(1_764_000_000_000_000_000), session: Some(SESSION), body }
}

/// A simple query: `Q`, length, text, NUL; the text is a slice of the wire bytes.
pub(crate) fn asked(statement: &str, decide: Decide) -> Asked {
    let mut wire = vec![b'Q'];
    wire.extend(u32::try_from(statement.len() + 5).expect("a short statement").to_be_bytes());
    wire.extend(statement.as_bytes());
    wire.push(0);
    let wire = Bytes::from(wire);
    Asked {
        operation: OPERATION,
        kind: "query".to_owned(),
        text: wire.slice(5..wire.len() - 1),
        wire,
        parameters: Vec::new(),
        effects: Effects::of(Effect::Read),
        objects: vec![Object { kind: Cow::Borrowed("table"), schema: Some("public".into()), name: "orders".into() }],
        unknown: Vec::new(),
        state: BTreeMap::from([("database".into(), "shop".to_owned()), ("role".into(), "bot".to_owned())]),
        decide,
        rule: "reads".to_owned(),
        why: "reading is fine".to_owned(),
        observed: None,
    }
}

pub(crate) fn connected() -> Entry {
    entry(Body::Connected(Box::new(Connected {
        workload: Workload {
            cgroup: CgroupId(4242),
            name: "nightly".to_owned(),
            path: "/guarded/nightly".to_owned(),
            unit: Some("nightly.service".to_owned()),
            labels: BTreeMap::from([("team".to_owned(), "data".to_owned())]),
        },
        process: Process {
            pid: 77,
            uid: 1000,
            gid: 1000,
            user: Some("bot".to_owned()),
            comm: "psql".to_owned(),
            executable: Some("/usr/bin/psql".into()),
            sha256: Some(Digest([0x44; 32])),
            verified: true,
            command_line: vec!["psql".to_owned(), "-c".to_owned()],
        },
        client: "127.0.0.1:50000".to_owned(),
        destination: "127.0.0.1:5432".to_owned(),
        resource: Some("orders-db".to_owned()),
        protocol: "postgres".to_owned(),
    })))
}

/// An operation that policy lets through.
pub(crate) fn allowed(statement: &str) -> Entry {
    operated(asked(statement, Decide::Allow), true, None)
}

pub(crate) fn operated(asked: Asked, forwarded: bool, request: Option<RequestId>) -> Entry {
    let refusal = if forwarded { String::new() } else { "denied".to_owned() };
    entry(Body::Operation(Box::new(Operated { asked, forwarded, request, refusal, grant: None })))
}

pub(crate) fn requested(asked: Asked, quorum: u32) -> Entry {
    entry(Body::Requested(Box::new(Requested {
        request: REQUEST,
        asked,
        digest: Digest([0x55; 32]),
        approval: Approval { reason_required: true, ..Approval::simple(people(), quorum, Duration::from_secs(900)) },
        workload: "nightly".to_owned(),
        resource: "orders-db".to_owned(),
        waits: true,
        shape: None,
        barred: None,
    })))
}

fn people() -> Vec<Approver> {
    vec![
        Approver { who: Who::Group("dba".to_owned()), after: Duration::ZERO },
        Approver { who: Who::User("ada".to_owned()), after: Duration::from_millis(1_500) },
    ]
}

pub(crate) fn decided(uid: u32, approve: bool) -> Entry {
    entry(Body::Decided {
        request: REQUEST,
        by: format!("user {uid}"),
        uid: Some(uid),
        approve,
        reason: Some("looks right".to_owned()),
        digest: Digest([0x55; 32]),
        person: None,
        proof: None,
        terms: None,
        counts: None,
    })
}

/// A decision with a signature under it.
fn signed() -> Entry {
    let mut signed = decided(0, true);
    if let Body::Decided { person, uid, proof, .. } = &mut signed.body {
        (*person, *uid) = (Some("local:ada".to_owned()), None);
        *proof = Some(Box::new(self::proof()));
    }
    signed
}

fn proof() -> Proof {
    Proof {
        key: Bytes::from_static(b"key"),
        authenticator: Bytes::from_static(b"authenticator"),
        client: Bytes::from_static(b"client"),
        signature: Bytes::from_static(b"signature"),
    }
}

/// An approval of everything that there is to one.
fn whole_approval() -> Approval {
    let on_call = Approver { who: Who::OnCall("databases".to_owned()), after: Duration::from_secs(300) };
    let two = Step { from: people(), need: Need::All };
    let hours = Hours {
        days: [true, true, true, true, true, false, false],
        from: 480,
        to: 1080,
        zone: "Europe/Berlin".to_owned(),
        otherwise: Otherwise::OnCall("databases".to_owned()),
    };
    Approval {
        steps: vec![Step { from: vec![on_call], need: Need::Number(1) }, two],
        timeout: Duration::from_secs(900),
        reason_required: true,
        ticket: Some("OPS-[0-9]+".to_owned()),
        separation: Separation::ALL.into(),
        veto: vec![Who::Group("security".to_owned())],
        hours: Some(hours),
        break_glass: Some("incident".to_owned()),
        passkey: true,
    }
}

/// What the workflow records, in the order of the numbers.
fn of_workflow() -> Vec<Entry> {
    let who = vec![Who::Group("dba".to_owned()), Who::OnCall("databases".to_owned())];
    let (by, person) = ("ada".to_owned(), "machine:1".to_owned());
    let mut whole = requested(asked("DROP TABLE orders", Decide::Hold), 1);
    if let Body::Requested(requested) = &mut whole.body {
        (requested.approval, requested.barred) = (whole_approval(), Some(vec!["cy".to_owned()]));
    }
    let lent = Lent { delegation: DELEGATION, by: "bob".to_owned(), person: "machine:2".to_owned() };
    let mut counted = decided(1, true);
    if let Body::Decided { counts, .. } = &mut counted.body {
        let ticket = Some("OPS-7".to_owned());
        *counts = Some(Box::new(Counts { step: 1, places: vec![0, 1], ticket, lent: Some(lent) }));
    }
    let broken = BrokenGlass {
        review: REVIEW,
        request: REQUEST,
        by: by.clone(),
        uid: Some(1),
        person: person.clone(),
        group: "incident".to_owned(),
        reason: "the shop is down".to_owned(),
        digest: Digest([0x55; 32]),
        skipped: who.clone(),
        proof: None,
    };
    let delegated = Delegated {
        delegation: DELEGATION,
        from: by.clone(),
        person: person.clone(),
        uid: Some(1),
        to: "bob".to_owned(),
        until: Timestamp(u64::MAX),
        groups: vec!["dba".to_owned()],
    };
    let said =
        |kind| Body::Said { request: REQUEST, by: by.clone(), person: person.clone(), kind, text: "why?".to_owned() };
    let asked = Body::Asked { request: REQUEST, step: 0, places: vec![0, 1], who, on_call: vec![by.clone()] };
    let ended = Body::DelegationEnded { delegation: DELEGATION, by: Some(by.clone()), person: Some(person.clone()) };
    let text = "it was right".to_owned();
    let reviewed = Body::Reviewed { review: REVIEW, by: by.clone(), person: person.clone(), text };
    let global = |body| Entry { session: None, ..entry(body) };
    vec![
        whole,
        counted,
        entry(asked),
        entry(said(Remark::Comment)),
        entry(said(Remark::Question)),
        entry(said(Remark::Answer)),
        entry(Body::BrokeGlass(Box::new(broken))),
        global(reviewed),
        global(Body::Delegated(Box::new(delegated))),
        global(ended),
    ]
}

pub(crate) fn closed(outcome: Outcome) -> Entry {
    entry(Body::Closed { request: REQUEST, outcome })
}

pub(crate) fn disconnected() -> Entry {
    entry(Body::Disconnected { reason: "the client hung up".to_owned() })
}

pub(crate) fn granted(uses: u32) -> Entry {
    let (expires, by) = (Timestamp(u64::MAX), vec!["ada".to_owned()]);
    entry(Body::Granted(Box::new(Granted { grant: GRANT, request: REQUEST, uses, expires, any: vec![2], by })))
}

pub(crate) fn grant_used(operation: OperationId, left: u32) -> Entry {
    entry(Body::GrantUsed { grant: GRANT, operation, left, shape: None })
}

/// An impact with something in each place.
pub(crate) fn impact() -> Impact {
    let estimate = Estimate { what: "delete".to_owned(), on: "public.orders".to_owned(), rows: 12 };
    let locks = vec!["RowExclusiveLock".to_owned()];
    let touched = Touched { name: "public.orders".to_owned(), rows: Some(4000), bytes: None, locks };
    Impact { estimates: vec![estimate], touched: vec![touched], missing: "nothing".to_owned(), ran: Vec::new() }
}

/// One of each kind, in the order of their numbers.
pub(crate) fn one_of_each() -> Vec<Entry> {
    let mut all = first_kinds();
    all.extend(of_workflow());
    all
}

fn first_kinds() -> Vec<Entry> {
    let wire = Bytes::from_static(b"\x00wire");
    let of = OPERATION;
    let held = asked("DROP TABLE orders", Decide::Hold);
    let ran = Ran { statement: "DELETE FROM orders".to_owned(), rows: Some(7) };
    let global = |body| Entry { session: None, ..entry(body) };
    vec![
        global(Body::Started { version: "0.1.0".to_owned(), node: "node-1".to_owned() }),
        global(Body::Stopped),
        global(Body::PolicyLoaded { digest: Digest([0x66; 32]), rules: 12 }),
        connected(),
        operated(Asked { observed: Some((Decide::Refuse, "strict".into())), ..held.clone() }, true, Some(REQUEST)),
        entry(Body::Continued { of, wire: wire.clone() }),
        entry(Body::Control { what: "startup".to_owned(), wire: wire.clone() }),
        entry(Body::Response { of: Some(of), wire, masked: 3 }),
        requested(held, 2),
        decided(0, true),
        closed(Outcome::Approved),
        disconnected(),
        entry(Body::Incident { what: "malformed: the client".to_owned() }),
        granted(3),
        grant_used(OPERATION, 2),
        global(Body::GrantEnded { grant: GRANT, by: Some("ada".to_owned()), uid: Some(1), reason: None }),
        entry(Body::Previewed { request: REQUEST, impact: impact() }),
        operated(asked("DELETE FROM orders", Decide::HoldCommit), true, None),
        entry(Body::Previewed { request: REQUEST, impact: Impact { ran: vec![ran], ..impact() } }),
        signed(),
        global(Body::Administered {
            by: "ada".to_owned(),
            person: "local:ada".to_owned(),
            what: "signed in".to_owned(),
        }),
        global(Body::Enrolled(Box::new(Enrolled {
            person: "local:ada".to_owned(),
            name: "ada".to_owned(),
            key: Bytes::from_static(b"key"),
            public: Bytes::from_static(b"\xa5cose"),
            party: "holdpoint.example".to_owned(),
        }))),
    ]
}

fn id<T: 'static>() -> impl Strategy<Value = Id<T>> {
    any::<[u8; 16]>().prop_map(Id::from_bytes)
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..64).prop_map(Bytes::from)
}

fn any_parameter() -> impl Strategy<Value = Parameter> {
    (any::<String>(), any::<bool>(), option::of(bytes())).prop_map(|(kind, binary, value)| Parameter {
        kind,
        binary,
        value,
    })
}

fn any_decide() -> impl Strategy<Value = Decide> {
    prop_oneof![Just(Decide::Allow), Just(Decide::HoldCommit), Just(Decide::Hold), Just(Decide::Refuse)]
}

fn any_object() -> impl Strategy<Value = Object> {
    (any::<String>(), option::of(any::<String>()), any::<String>()).prop_map(|(kind, schema, name)| Object {
        kind: kind.into(),
        schema,
        name,
    })
}

/// Texts and values are sometimes slices of the wire bytes and sometimes not.
fn any_asked() -> impl Strategy<Value = Asked> {
    let content = (bytes(), bytes(), any::<Option<(u8, u8)>>(), vec(any_parameter(), 0..3));
    let meaning = (0u16..0x400, vec(any_object(), 0..3), vec(any::<String>(), 0..3));
    let verdict = (any_decide(), any::<String>(), any::<String>(), option::of((any_decide(), any::<String>())));
    let state = proptest::collection::btree_map(any::<String>().prop_map(Cow::Owned), any::<String>(), 0..3);
    (id(), any::<String>(), content, meaning, state, verdict).prop_map(
        |(operation, kind, (wire, text, cut, mut parameters), meaning, state, verdict)| {
            let slice = cut.map(|(a, b)| {
                let (a, b) = (usize::from(a) % (wire.len() + 1), usize::from(b) % (wire.len() + 1));
                wire.slice(a.min(b)..a.max(b))
            });
            if let (Some(first), Some(slice)) = (parameters.first_mut(), &slice) {
                first.value = Some(slice.clone());
            }
            let (effects, objects, unknown) = meaning;
            let (decide, rule, why, observed) = verdict;
            Asked {
                operation,
                kind,
                text: slice.unwrap_or(text),
                wire,
                parameters,
                effects: Effects::from_bits(effects),
                objects,
                unknown,
                state,
                decide,
                rule,
                why,
                observed,
            }
        },
    )
}

fn any_who() -> impl Strategy<Value = Who> {
    (0..4, any::<String>()).prop_map(|(kind, name)| match kind {
        0 => Who::User(name),
        1 => Who::Group(name),
        2 => Who::OnCall(name),
        _ => Who::Program(name),
    })
}

fn any_approval() -> impl Strategy<Value = Approval> {
    let duration = || (any::<u64>(), 0u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n));
    let approver = move || (any_who(), duration()).prop_map(|(who, after)| Approver { who, after });
    let simple = (vec(approver(), 0..3), any::<u32>(), duration(), any::<bool>());
    let simple = simple.prop_map(|(from, quorum, timeout, reason_required)| Approval {
        reason_required,
        ..Approval::simple(from, quorum, timeout)
    });
    let need = option::of(any::<u32>()).prop_map(|number| number.map_or(Need::All, Need::Number));
    let step = (vec(approver(), 0..3), need).prop_map(|(from, need)| Step { from, need });
    let otherwise = option::of(any::<String>());
    let otherwise = otherwise.prop_map(|name| name.map_or(Otherwise::Refuse, Otherwise::OnCall));
    let hours = (any::<([bool; 7], u16, u16, String)>(), otherwise);
    let hours = hours.prop_map(|((days, from, to, zone), otherwise)| Hours { days, from, to, zone, otherwise });
    let roles = vec(prop_oneof![Just(Separation::Owner), Just(Separation::Author)], 0..3);
    let whole = (vec(step, 0..4), duration(), any::<(bool, Option<String>, Option<String>, bool)>());
    let whole = (whole, roles, vec(any_who(), 0..3), option::of(hours)).prop_map(
        |((steps, timeout, (reason_required, ticket, break_glass, passkey)), separation, veto, hours)| Approval {
            steps,
            timeout,
            reason_required,
            ticket,
            separation,
            veto,
            hours,
            break_glass,
            passkey,
        },
    );
    prop_oneof![simple, whole]
}

/// What the workflow records beside decisions.
fn any_of_workflow() -> impl Strategy<Value = Body> {
    let names = || any::<(String, String, String)>();
    let kind = prop_oneof![Just(Remark::Comment), Just(Remark::Question), Just(Remark::Answer)];
    prop_oneof![
        (id(), any::<(u32, Vec<u32>)>(), vec(any_who(), 0..3), any::<Vec<String>>())
            .prop_map(|(request, (step, places), who, on_call)| Body::Asked { request, step, places, who, on_call }),
        (id(), names(), kind).prop_map(|(request, (by, person, text), kind)| Body::Said {
            request,
            by,
            person,
            kind,
            text
        }),
        (id(), id(), names(), any::<(Option<u32>, String)>(), digest(), vec(any_who(), 0..3)).prop_map(
            |(review, request, (by, person, group), (uid, reason), digest, skipped)| {
                let proof = uid.is_some().then(|| Box::new(proof()));
                let broken = BrokenGlass { review, request, by, uid, person, group, reason, digest, skipped, proof };
                Body::BrokeGlass(Box::new(broken))
            }
        ),
        (id(), names()).prop_map(|(review, (by, person, text))| Body::Reviewed { review, by, person, text }),
        (id(), names(), any::<(Option<u32>, u64, Vec<String>)>()).prop_map(
            |(delegation, (from, person, to), (uid, until, groups))| {
                let until = Timestamp(until);
                Body::Delegated(Box::new(Delegated { delegation, from, person, uid, to, until, groups }))
            }
        ),
        (id(), any::<(Option<String>, Option<String>)>())
            .prop_map(|(delegation, (by, person))| Body::DelegationEnded { delegation, by, person }),
        (id(), digest(), names(), any::<(u32, Vec<u32>, Option<String>)>(), option::of(id())).prop_map(
            |(request, digest, (by, person, lender), (step, places, ticket), delegation)| {
                let lent = |delegation| Lent { delegation, by: lender.clone(), person: lender.clone() };
                let counts = Some(Box::new(Counts { step, places, ticket, lent: delegation.map(lent) }));
                let (person, proof) = (Some(person), Some(Box::new(proof())));
                let (uid, reason, terms) = (None, None, Some(lender.clone()));
                Body::Decided { request, by, uid, approve: true, reason, digest, person, proof, terms, counts }
            }
        ),
    ]
}

fn any_connected() -> impl Strategy<Value = Connected> {
    let labels = proptest::collection::btree_map(any::<String>(), any::<String>(), 0..3);
    let workload = (any::<u64>(), any::<String>(), any::<String>(), option::of(any::<String>()), labels)
        .prop_map(|(cgroup, name, path, unit, labels)| Workload { cgroup: CgroupId(cgroup), name, path, unit, labels });
    let file = (option::of(any::<String>()), option::of(digest()), any::<bool>(), vec(any::<String>(), 0..3));
    let process = (any::<(u32, u32, u32)>(), option::of(any::<String>()), any::<String>(), file).prop_map(
        |((pid, uid, gid), user, comm, (executable, sha256, verified, command_line))| Process {
            pid,
            uid,
            gid,
            user,
            comm,
            executable: executable.map(Into::into),
            sha256,
            verified,
            command_line,
        },
    );
    let names = (any::<String>(), any::<String>(), option::of(any::<String>()), any::<String>());
    (workload, process, names).prop_map(|(workload, process, (client, destination, resource, protocol))| Connected {
        workload,
        process,
        client,
        destination,
        resource,
        protocol,
    })
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Approved),
        Just(Outcome::Denied),
        Just(Outcome::Expired),
        Just(Outcome::Withdrawn),
        Just(Outcome::Restarted)
    ]
}

fn any_impact() -> impl Strategy<Value = Impact> {
    let estimate = any::<(String, String, u64)>().prop_map(|(what, on, rows)| Estimate { what, on, rows });
    let touched = any::<(String, Option<u64>, Option<u64>, Vec<String>)>();
    let touched = touched.prop_map(|(name, rows, bytes, locks)| Touched { name, rows, bytes, locks });
    let ran = any::<(String, Option<u64>)>().prop_map(|(statement, rows)| Ran { statement, rows });
    let parts = (vec(estimate, 0..3), vec(touched, 0..3), any::<String>(), vec(ran, 0..3));
    parts.prop_map(|(estimates, touched, missing, ran)| Impact { estimates, touched, missing, ran })
}

fn any_body() -> impl Strategy<Value = Body> {
    let operated = (any_asked(), any::<bool>(), option::of(id()), any::<String>(), option::of(id())).prop_map(
        |(asked, forwarded, request, refusal, grant)| {
            Body::Operation(Box::new(Operated { asked, forwarded, request, refusal, grant }))
        },
    );
    let shape = || {
        let shape = (any::<String>(), digest(), vec(bytes(), 0..3), any::<Option<bool>>());
        shape.prop_map(|(fingerprint, covers, values, only_data)| Shape { fingerprint, covers, values, only_data })
    };
    let names = (any::<(String, String, bool)>(), option::of(shape()));
    let requested = (id(), any_asked(), digest(), any_approval(), names).prop_map(
        |(request, asked, digest, approval, ((workload, resource, waits), shape))| {
            let barred = approval.passkey.then(|| vec![workload.clone()]);
            let requested = Requested { request, asked, digest, approval, workload, resource, waits, shape, barred };
            Body::Requested(Box::new(requested))
        },
    );
    let granted = (id(), id(), any::<(u32, u64, Vec<u32>, Vec<String>)>()).prop_map(
        |(grant, request, (uses, expires, any, by))| {
            Body::Granted(Box::new(Granted { grant, request, uses, expires: Timestamp(expires), any, by }))
        },
    );
    prop_oneof![
        any::<(String, String)>().prop_map(|(version, node)| Body::Started { version, node }),
        Just(Body::Stopped),
        (digest(), any::<u32>()).prop_map(|(digest, rules)| Body::PolicyLoaded { digest, rules }),
        any_connected().prop_map(|connected| Body::Connected(Box::new(connected))),
        operated,
        (id(), bytes()).prop_map(|(of, wire)| Body::Continued { of, wire }),
        (any::<String>(), bytes()).prop_map(|(what, wire)| Body::Control { what, wire }),
        (option::of(id()), bytes(), any::<u32>()).prop_map(|(of, wire, masked)| Body::Response { of, wire, masked }),
        requested,
        (id(), any::<(String, Option<u32>, bool, Option<String>, Option<String>)>(), digest()).prop_map(
            |(request, (by, uid, approve, reason, person), digest)| Body::Decided {
                request,
                by,
                uid,
                approve,
                reason,
                digest,
                person,
                proof: None,
                terms: None,
                counts: None,
            }
        ),
        (id(), any_outcome()).prop_map(|(request, outcome)| Body::Closed { request, outcome }),
        any::<String>().prop_map(|reason| Body::Disconnected { reason }),
        any::<String>().prop_map(|what| Body::Incident { what }),
        granted,
        (id(), id(), any::<u32>(), option::of(shape())).prop_map(|(grant, operation, left, shape)| Body::GrantUsed {
            grant,
            operation,
            left,
            shape
        }),
        (id(), any::<(Option<String>, Option<u32>, Option<String>)>())
            .prop_map(|(grant, (by, uid, reason))| Body::GrantEnded { grant, by, uid, reason }),
        (id(), any_impact()).prop_map(|(request, impact)| Body::Previewed { request, impact }),
        any::<(String, String, String)>().prop_map(|(by, person, what)| Body::Administered { by, person, what }),
        any_of_workflow(),
    ]
}

/// Any entry at all.
pub(crate) fn any_entry() -> impl Strategy<Value = Entry> {
    (any::<u64>(), option::of(id()), any_body()).prop_map(|(at, session, body)| Entry {
        at: Timestamp(at),
        session,
        body,
    })
}
