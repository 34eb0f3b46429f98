//! Grants at the desk: what they cover, that they end, and that they are never used more often than given.

use super::*;
use crate::{
    operation::{Effects, GrantId, OperationId},
    policy::Need,
    record::entry::Shape,
};

fn shaped(values: &[&str]) -> Requested {
    let (requested, _) = held(&dba(1));
    let shape = Shape {
        fingerprint: "f00d".to_owned(),
        covers: Digest([7; 32]),
        values: values.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect(),
        only_data: Some(true),
    };
    let asked = Asked { operation: OperationId::now(), effects: Effects::of(Effect::Delete), ..requested.asked };
    Requested { shape: Some(shape), asked, ..requested }
}

fn terms(uses: u32, any: AnyValue) -> Terms {
    Terms { uses, seconds: 600, any }
}

/// Holds `requested` and has Ada make it a grant.
async fn granted(desk: &Desk, requested: Requested, terms: Terms) -> Result<Decided, DecideError> {
    let id = requested.request;
    let mut waiting = desk.open((requested, requester())).await.expect("recorded");
    let decided = desk.grant(&id.short(), &person("ada"), None, None, terms);
    if decided.is_ok() {
        assert!(matches!(end_of(&mut waiting).await, Some(Ended::Approved { .. })));
    }
    decided
}

async fn is_covered(desk: &Desk, wanted: &Requested) -> bool {
    match desk.use_grant(wanted, requester().session) {
        Some((_, recording)) => recording.await.is_ok(),
        None => false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_covers_no_more_than_was_approved() {
    let (desk, _) = desk();
    let first = shaped(&["1", "'x'"]);
    let decided = granted(&desk, first.clone(), terms(100, AnyValue::At(vec![2]))).await.expect("a grant");
    assert!(matches!(decided, Decided::Granted { .. }));
    assert!(is_covered(&desk, &first).await, "the same again");
    assert!(is_covered(&desk, &shaped(&["1", "'other'"])).await, "the second value may be any");
    let with = |change: &dyn Fn(&mut Requested)| {
        let mut wanted = shaped(&["1", "'x'"]);
        change(&mut wanted);
        wanted
    };
    let of_shape = |change: &dyn Fn(&mut Shape)| with(&|wanted| change(wanted.shape.as_mut().expect("it has one")));
    let table = Object { kind: "table".into(), schema: None, name: "payments".to_owned() };
    for (what, wanted) in [
        ("another first value", shaped(&["2", "'x'"])),
        ("a value more", shaped(&["1", "'x'", "3"])),
        ("a value less", shaped(&["1"])),
        ("no shape", with(&|wanted| wanted.shape = None)),
        ("another caller, form or state", of_shape(&|shape| shape.covers = Digest([8; 32]))),
        ("another fingerprint", of_shape(&|shape| shape.fingerprint = "beef".to_owned())),
        ("an effect more", with(&|wanted| wanted.asked.effects.insert(Effect::Write))),
        ("an object more", with(&|wanted| wanted.asked.objects.push(table.clone()))),
        ("a reason more to be unknown", with(&|wanted| wanted.asked.unknown.push("calls f".to_owned()))),
        ("another rule", with(&|wanted| wanted.asked.rule = "stricter".to_owned())),
        ("a greater quorum", with(&|wanted| wanted.approval.steps[0].need = Need::Number(2))),
        ("other approvers", with(&|wanted| wanted.approval.steps[0].from.truncate(0))),
        ("a reason asked for", with(&|wanted| wanted.approval.reason_required = true)),
    ] {
        assert!(!is_covered(&desk, &wanted).await, "{what}");
    }
    assert_eq!(desk.grants()[0].used, 2);
}

#[tokio::test(start_paused = true)]
async fn a_grant_cannot_be_asked_for_where_it_could_mean_too_much() {
    let (desk, recorder) = desk();
    let with_effect = |effect| {
        let mut wanted = shaped(&["1"]);
        wanted.asked.effects.insert(effect);
        wanted
    };
    let zero = Terms { seconds: 0, ..terms(1, AnyValue::None) };
    let no_shape = Requested { shape: None, ..shaped(&[]) };
    for (requested, terms) in [
        (no_shape, terms(1, AnyValue::None)),
        (shaped(&["1"]), terms(0, AnyValue::None)),
        (shaped(&["1"]), terms(1001, AnyValue::None)),
        (shaped(&["1"]), zero),
        (shaped(&["1"]), terms(1, AnyValue::At(vec![0]))),
        (shaped(&["1"]), terms(1, AnyValue::At(vec![2]))),
        (with_effect(Effect::Unknown), terms(1, AnyValue::All)),
        (with_effect(Effect::Execute), terms(1, AnyValue::All)),
        (with_effect(Effect::Privilege), terms(1, AnyValue::At(vec![1]))),
    ] {
        let error = granted(&desk, requested, terms).await.expect_err("no grant");
        assert!(matches!(error, DecideError::Grant(_)), "{error}");
    }
    assert!(desk.grants().is_empty());
    let decided = |one: &crate::record::Recorded| matches!(one.entry.body, Body::Decided { .. });
    let records = recorder.records().expect("readable");
    assert!(!records.entries(1).any(|one| decided(&one.expect("readable"))), "nobody decided anything");
}

#[tokio::test(start_paused = true)]
async fn uses_are_counted_before_they_are_written_and_survive_a_restart() {
    let (before, recorder) = desk();
    let wanted = shaped(&["1"]);
    granted(&before, wanted.clone(), terms(3, AnyValue::None)).await.expect("a grant");
    // Two connections at once: neither has waited for the disk when the other asks.
    let one = before.use_grant(&shaped(&["1"]), requester().session).expect("a use");
    let two = before.use_grant(&shaped(&["1"]), requester().session).expect("another");
    assert!(one.1.await.is_ok() && two.1.await.is_ok());
    let after = Desk::open_on(recorder.clone()).expect("opens");
    assert_eq!((after.grants()[0].used, after.grants()[0].uses), (2, 3));
    assert!(after.use_grant(&wanted, requester().session).is_some());
    assert!(after.use_grant(&wanted, requester().session).is_none(), "three uses are three");
    assert!(after.grants().is_empty());
    let again = Desk::open_on(recorder).expect("opens");
    assert!(again.grants().is_empty() && again.use_grant(&wanted, requester().session).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_use_that_cannot_be_recorded_releases_nothing_and_is_lost() {
    let (desk, recorder) = desk();
    granted(&desk, shaped(&["1"]), terms(1, AnyValue::None)).await.expect("a grant");
    recorder.fail_from_now_on();
    assert!(!is_covered(&desk, &shaped(&["1"])).await);
    assert!(desk.use_grant(&shaped(&["1"]), requester().session).is_none());
}

#[tokio::test(start_paused = true)]
async fn time_and_people_end_a_grant() {
    let (desk, recorder) = desk();
    granted(&desk, shaped(&["1"]), terms(5, AnyValue::None)).await.expect("a grant");
    time::sleep(Duration::from_secs(599)).await;
    assert!(is_covered(&desk, &shaped(&["1"])).await);
    time::sleep(Duration::from_secs(1)).await;
    assert!(!is_covered(&desk, &shaped(&["1"])).await, "not a moment longer");
    assert!(desk.grants().is_empty());

    granted(&desk, shaped(&["1"]), terms(5, AnyValue::None)).await.expect("a grant");
    let name = desk.grants()[0].short.clone();
    assert!(desk.revoke(&name, &person("eve"), None).is_err());
    desk.revoke(&name, &person("bob"), Some("enough".to_owned())).expect("an approver revokes");
    assert!(!is_covered(&desk, &shaped(&["1"])).await);
    assert!(matches!(desk.revoke(&name, &person("bob"), None), Err(GrantError::Ended(..))));
    let ended = |one: crate::record::Recorded| matches!(one.entry.body, Body::GrantEnded { .. });
    let entries = recorder.records().expect("readable");
    assert_eq!(entries.entries(1).filter(|one| ended(one.clone().expect("readable"))).count(), 2);
    let found = verify(&recorder.records().expect("readable"), None).expect("readable").findings;
    assert_eq!(found, []);
}

#[tokio::test(start_paused = true)]
async fn verifying_finds_uses_that_no_grant_allows() {
    let (desk, recorder) = desk();
    granted(&desk, shaped(&["1"]), terms(1, AnyValue::None)).await.expect("a grant");
    let grant = desk.grants()[0].grant;
    assert!(is_covered(&desk, &shaped(&["1"])).await);
    let session = Some(requester().session);
    let append = |body| drop(recorder.append_written(Entry { at: Timestamp::now(), session, body }).expect("written"));
    append(Body::GrantUsed { grant, operation: OperationId::now(), left: 0, shape: None });
    append(Body::GrantUsed { grant: GrantId::now(), operation: OperationId::now(), left: 0, shape: None });
    let operated = |grant| {
        let (request, refusal) = (None, String::new());
        let asked = asked("DELETE FROM orders", Decide::Hold);
        Body::Operation(Box::new(Operated { asked, forwarded: true, request, refusal, grant: Some(grant) }))
    };
    append(operated(grant));
    let found = verify(&recorder.records().expect("readable"), None).expect("readable").findings;
    let found: Vec<_> = found.iter().map(|finding| finding.what.replace(&grant.short(), "G")).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("a use of grant G after it had ended"), "{found:?}");
    assert!(found[1].contains("which was never made"), "{found:?}");
    assert!(found[2].contains("forwarded under grant G without a recorded use"), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn verifying_finds_uses_for_something_else_than_was_granted() {
    let (desk, recorder) = desk();
    let wanted = shaped(&["1", "2"]);
    granted(&desk, wanted.clone(), terms(9, AnyValue::At(vec![2]))).await.expect("a grant");
    let grant = desk.grants()[0].grant;
    let session = Some(requester().session);
    let append = |body| drop(recorder.append_written(Entry { at: Timestamp::now(), session, body }).expect("written"));
    let granted_shape = wanted.shape.clone().expect("a shape");
    let mut left = 9;
    let mut used = |shape: Shape, asked: Asked| {
        left -= 1;
        append(Body::GrantUsed { grant, operation: asked.operation, left, shape: Some(shape) });
        let (request, refusal) = (None, String::new());
        append(Body::Operation(Box::new(Operated { asked, forwarded: true, request, refusal, grant: Some(grant) })));
    };
    let values =
        |all: [&'static [u8]; 2]| Shape { values: all.map(Bytes::from_static).into(), ..granted_shape.clone() };
    let again = || Asked { operation: OperationId::now(), ..wanted.asked.clone() };
    // As granted, with another value where any may be.
    used(values([b"1", b"7"]), again());
    used(values([b"3", b"2"]), again());
    used(Shape { covers: Digest([8; 32]), ..granted_shape.clone() }, again());
    let beyond = crate::operation::Object { kind: "table".into(), schema: None, name: "elsewhere".into() };
    used(granted_shape.clone(), Asked { objects: vec![beyond], ..again() });
    used(granted_shape.clone(), Asked { rule: "another".into(), ..again() });
    let found = verify(&recorder.records().expect("readable"), None).expect("readable").findings;
    let found: Vec<_> = found.iter().map(|finding| finding.what.replace(&grant.short(), "G")).collect();
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[..2].iter().all(|what| what.contains("for another shape or other values")), "{found:?}");
    assert!(found[2..].iter().all(|what| what.contains("it does more than was granted")), "{found:?}");
}
