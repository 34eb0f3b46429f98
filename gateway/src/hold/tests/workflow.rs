//! What a rule may ask of people, at the desk: each setting with what would happen without it.

use super::*;
use crate::{
    config::Rota,
    people::OnCall,
    policy::{Hours, Need, Otherwise, Separation, Step as PolicyStep},
    record::entry::{Proof, Remark},
};

fn step(need: Need, groups: &[(&'static str, u64)]) -> PolicyStep {
    let [from] = &terms(groups, 1).steps[..] else { panic!("one step") };
    PolicyStep { from: from.from.clone(), need }
}

fn steps(steps: Vec<PolicyStep>) -> Approval {
    Approval { steps, ..dba(1) }
}

fn user(name: &str) -> PolicyStep {
    let from = vec![Approver { who: Who::User(name.to_owned()), after: Duration::ZERO }];
    PolicyStep { from, need: Need::Number(1) }
}

/// A desk with one request open.
struct Case {
    desk: Desk,
    recorder: Recorder,
    id: RequestId,
    waiting: Waiting,
}

async fn case(approval: Approval) -> Case {
    case_of(approval, None).await
}

async fn case_of(approval: Approval, barred: Option<&str>) -> Case {
    let (desk, recorder) = desk();
    let (mut requested, mut requester) = held(&approval);
    requested.barred = barred.map(|name| vec![name.to_owned()]);
    requester.owners = barred.map(str::to_owned).into_iter().collect();
    let id = requested.request;
    let waiting = desk.open((requested, requester)).await.expect("recorded");
    Case { desk, recorder, id, waiting }
}

impl Case {
    fn decide(&self, name: &str, decision: Decision) -> Result<Decided, String> {
        let decided = self.desk.decide_on(&self.id.to_string(), &person(name), decision);
        decided.map_err(|error| error.to_string().replace(&self.id.short(), "R"))
    }

    fn approve(&self, name: &str) -> Result<Decided, String> {
        self.decide(name, Decision { approve: true, ..Decision::default() })
    }

    #[track_caller]
    fn refuses(&self, name: &str, why: &str) {
        let error = self.approve(name).expect_err("it does not count");
        assert!(error.contains(why), "{error}");
    }

    /// The record is whole, and says so.
    async fn whole(&self) {
        settle().await;
        let found = verify(&self.recorder.records().expect("readable"), None).expect("readable").findings;
        assert_eq!(found, []);
    }

    async fn approved(mut self) {
        assert!(matches!(end_of(&mut self.waiting).await, Some(Ended::Approved { .. })));
        self.whole().await;
    }
}

#[tokio::test(start_paused = true)]
async fn v15_steps_are_asked_in_order() {
    let case = case(steps(vec![step(Need::Number(1), &[("dba", 0)]), step(Need::Number(1), &[("oncall", 0)])])).await;
    case.refuses("cy", "in step 2, and it waits for step 1 of 2 (1 of group dba) first");
    assert_eq!(case.approve("bob"), Ok(Decided::Counted { missing: 1 }));
    case.refuses("bob", "already approved");
    case.refuses("owner", "the person who asks");
    let view = case.desk.show(&case.id.to_string()).expect("open");
    let states: Vec<_> = view.steps.iter().map(|step| (step.answered.join(","), step.from[0].asked)).collect();
    assert_eq!(states, [("bob".to_owned(), true), (String::new(), true)]);
    assert_eq!(case.approve("cy"), Ok(Decided::Approved));
    let asked = |one: &Result<crate::record::Recorded, _>| {
        matches!(one.as_ref().map(|one| &one.entry.body), Ok(Body::Asked { .. }))
    };
    assert_eq!(case.recorder.records().expect("readable").entries(1).filter(asked).count(), 2, "once for each step");
    case.approved().await;
}

#[tokio::test(start_paused = true)]
async fn v15_all_means_one_for_each() {
    let case = case(steps(vec![step(Need::All, &[("dba", 0), ("oncall", 0)])])).await;
    assert_eq!(case.approve("ada"), Ok(Decided::Counted { missing: 1 }));
    // Ada could be either: whoever comes next decides which.
    assert_eq!(case.approve("cy"), Ok(Decided::Approved));
    case.approved().await;
    let case = self::case(steps(vec![PolicyStep {
        from: [step(Need::All, &[("oncall", 0)]).from, user("bob").from].concat(),
        need: Need::All,
    }]))
    .await;
    assert_eq!(case.approve("ada"), Ok(Decided::Counted { missing: 1 }));
    case.refuses("cy", "in your place");
    assert_eq!(case.approve("bob"), Ok(Decided::Approved));
    case.approved().await;
}

#[tokio::test(start_paused = true)]
async fn v15_a_fallback_is_counted_from_when_its_step_was_opened() {
    let case =
        case(steps(vec![step(Need::Number(1), &[("dba", 0)]), step(Need::Number(1), &[("dba", 0), ("oncall", 5)])]))
            .await;
    time::sleep(Duration::from_secs(360)).await;
    case.refuses("cy", "waits for step 1 of 2");
    assert_eq!(case.approve("bob"), Ok(Decided::Counted { missing: 1 }));
    case.refuses("cy", "only 5m from now");
    time::sleep(Duration::from_secs(299)).await;
    case.refuses("cy", "only 1s from now");
    time::sleep(Duration::from_secs(2)).await;
    let view = case.desk.show(&case.id.to_string()).expect("open");
    assert!(view.steps[1].from[1].asked, "the timer asked");
    assert_eq!(case.approve("cy"), Ok(Decided::Approved));
    case.approved().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_answers_and_the_end_says_which_step() {
    let mut case = case(steps(vec![step(Need::Number(1), &[("dba", 0)]), step(Need::All, &[("oncall", 0)])])).await;
    case.approve("bob").expect("counts");
    time::sleep(Duration::from_secs(15 * 60)).await;
    let ended = end_of(&mut case.waiting).await.expect("it has ended").to_string();
    assert_eq!(ended, "nobody approved it in time: it waited for step 2 of 2 (group oncall)");
    case.whole().await;
}

#[tokio::test(start_paused = true)]
async fn v15_a_ticket_must_match_and_is_recorded() {
    let case = case(Approval { ticket: Some("OPS-[0-9]+".to_owned()), ..dba(1) }).await;
    case.refuses("ada", "requires a ticket that matches OPS-[0-9]+");
    let with = |ticket: &str| Decision { approve: true, ticket: Some(ticket.to_owned()), ..Decision::default() };
    assert!(case.decide("ada", with("OPS-1x")).is_err());
    assert_eq!(case.decide("ada", with("OPS-12")), Ok(Decided::Approved));
    let recorded =
        case.recorder.records().expect("readable").entries(1).any(|one| match one.expect("readable").entry.body {
            Body::Decided { counts: Some(counts), .. } => counts.ticket.as_deref() == Some("OPS-12"),
            _ => false,
        });
    assert!(recorded);
    case.approved().await;
}

#[tokio::test(start_paused = true)]
async fn v15_owner_and_author_are_kept_out() {
    let case = case_of(Approval { separation: vec![Separation::Owner], ..dba(1) }, Some("ada")).await;
    case.refuses("ada", "its owner or author");
    let denied = case.decide("ada", Decision::default());
    assert!(denied.is_err_and(|error| error.contains("its owner or author")));
    case.desk.say(&case.id.to_string(), &person("ada"), Remark::Answer, "it is right").expect("owners answer");
    assert_eq!(case.approve("bob"), Ok(Decided::Approved));
    case.approved().await;
}

#[tokio::test(start_paused = true)]
async fn v15_a_veto_counts_at_any_time() {
    let approval = || steps(vec![step(Need::Number(1), &[("dba", 0)]), step(Need::Number(1), &[("oncall", 0)])]);
    let without = case(approval()).await;
    assert!(without.decide("cy", Decision::default()).is_err(), "not before their step");
    let mut with = case(Approval { veto: vec![Who::Group("oncall".to_owned())], ..approval() }).await;
    assert_eq!(with.decide("cy", Decision::default()), Ok(Decided::Denied));
    assert!(matches!(end_of(&mut with.waiting).await, Some(Ended::Denied { .. })));
    with.whole().await;
}

#[tokio::test(start_paused = true)]
async fn v15_nobody_is_asked_outside_of_hours() {
    let hours = |days: [bool; 7], otherwise| Approval {
        hours: Some(Hours { days, from: 0, to: 24 * 60, zone: "UTC".to_owned(), otherwise }),
        ..dba(1)
    };
    case(hours([true; 7], Otherwise::Refuse)).await;
    let (desk, _recorder) = desk();
    let refused = desk.open(held(&hours([false; 7], Otherwise::Refuse))).await.err().expect("not at this hour");
    assert!(refused.to_string().starts_with("people are asked only"), "{refused}");
    assert!(desk.list().is_empty());
    let (outside, recorder) = on_call_desk("cy");
    let opened = held(&hours([false; 7], Otherwise::OnCall("databases".to_owned())));
    let id = opened.0.request.to_string();
    let _waiting = outside.open(opened).await.expect("somebody is on call");
    assert!(outside.decide(&id, &person("ada"), true, None, None).is_err(), "not at this hour");
    assert_eq!(outside.decide(&id, &person("cy"), true, None, None).expect("on call"), Decided::Approved);
    settle().await;
    assert_eq!(verify(&recorder.records().expect("readable"), None).expect("readable").findings, []);
}

/// A desk where it is always one person's turn.
fn on_call_desk(name: &str) -> (Desk, Recorder) {
    let recorder = Recorder::in_memory();
    let _ = recorder.append_written(connected()).expect("written");
    let rota = format!("{{people: [{name}], every: 7d, starts: '2020-01-01T00:00[UTC]'}}");
    let rota: Rota = serde_saphyr::from_str(&rota).expect("a rotation");
    let on_call = OnCall::of([("databases".to_owned(), rota)].into());
    (Desk::open_with(recorder.clone(), on_call).expect("opens"), recorder)
}

#[tokio::test(start_paused = true)]
async fn v15_whoever_is_on_call_is_asked() {
    let from = vec![Approver { who: Who::OnCall("databases".to_owned()), after: Duration::ZERO }];
    let approval = Approval::simple(from, 1, Duration::from_secs(60));
    let (desk, recorder) = on_call_desk("eve");
    let opened = held(&approval);
    let id = opened.0.request.to_string();
    let _waiting = desk.open(opened).await.expect("recorded");
    assert!(desk.show(&id).expect("open").asks(&person("eve")));
    assert!(desk.decide(&id, &person("ada"), true, None, None).is_err());
    assert_eq!(desk.decide(&id, &person("eve"), true, None, None).expect("her turn"), Decided::Approved);
    let named = recorder.records().expect("readable").entries(1).any(|one| match one.expect("readable").entry.body {
        Body::Asked { on_call, .. } => on_call == ["eve"],
        _ => false,
    });
    assert!(named, "the record says who that was");
}

#[tokio::test(start_paused = true)]
async fn v15_a_passkey_is_demanded() {
    let case = case(Approval { passkey: true, ..dba(1) }).await;
    case.refuses("ada", "must be decided with a passkey");
    let none = bytes::Bytes::new();
    let proof = Proof { key: none.clone(), authenticator: none.clone(), client: none.clone(), signature: none };
    let signed = Decision { approve: true, proof: Some(proof), ..Decision::default() };
    assert_eq!(case.decide("ada", signed), Ok(Decided::Approved));
    let denied = self::case(Approval { passkey: true, ..dba(1) }).await;
    assert_eq!(denied.decide("ada", Decision::default()), Ok(Decided::Denied), "no is always safe");
}

#[tokio::test(start_paused = true)]
async fn v15_one_of_the_group_may_break_the_glass_and_somebody_else_reviews_it() {
    let approval = Approval { break_glass: Some("oncall".to_owned()), ..dba(2) };
    let because = || Decision { reason: Some("the shop is down".to_owned()), ..Decision::default() };
    let plain = case(dba(2)).await;
    let id = plain.id.to_string();
    let none = plain.desk.break_glass(&id, &person("cy"), because()).expect_err("no such way");
    assert!(none.to_string().contains("names nobody who may break the glass"), "{none}");
    let mut case = case(approval).await;
    let id = case.id.to_string();
    let not = |name: &str, with| case.desk.break_glass(&id, &person(name), with).expect_err("not so").to_string();
    assert!(not("bob", because()).contains("only group oncall may"));
    assert!(not("cy", Decision::default()).contains("requires a reason"));
    let review = case.desk.break_glass(&id, &person("cy"), because()).expect("an emergency");
    assert!(matches!(end_of(&mut case.waiting).await, Some(Ended::Approved { .. })));
    case.whole().await;
    // It is open until somebody else writes it, and after a restart.
    let after = Desk::open_on(case.recorder.clone()).expect("opens");
    for desk in [&case.desk, &after] {
        let [open] = &desk.reviews()[..] else { panic!("one review is open") };
        assert_eq!((open.review, &*open.by, &*open.reason), (review, "cy", "the shop is down"));
    }
    let refused =
        |name: &str, text: &str| after.review(&review.short(), &person(name), text).expect_err("no").to_string();
    assert!(refused("cy", "fine").contains("by another person"));
    assert!(refused("eve", "fine").contains("may not write"));
    assert!(refused("bob", " ").contains("1 to"));
    after.review(&case.id.to_string(), &person("bob"), "it was right").expect("somebody else");
    assert!(after.reviews().is_empty() && Desk::open_on(case.recorder.clone()).expect("opens").reviews().is_empty());
    case.whole().await;
}

#[tokio::test(start_paused = true)]
async fn remarks_are_kept_made_visible_and_bounded() {
    let case = case(dba(1)).await;
    let id = case.id.to_string();
    let say = |name: &str, text: &str| case.desk.say(&id, &person(name), Remark::Question, text);
    say("ada", "why\u{202e} now?").expect("she is asked");
    assert!(say("eve", "me too").is_err() && say("ada", "  ").is_err() && say("ada", &"x".repeat(5000)).is_err());
    let view = case.desk.show(&id).expect("open");
    let [said] = &view.remarks[..] else { panic!("one remark") };
    assert!(said.by == "ada" && !said.text.contains('\u{202e}'), "{said:?}");
    for _ in 1..100 {
        say("ada", "and?").expect("not too many yet");
    }
    assert!(say("ada", "and?").is_err());
    let history = case.recorder.request(case.id).expect("readable").expect("known");
    assert_eq!((history.said.len(), &*history.said[0].text), (100, "why\u{202e} now?"));
    case.whole().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_lent_is_one_vote_and_ends() {
    let hour = Duration::from_secs(3600);
    let case = case(dba(2)).await;
    let (desk, eve) = (&case.desk, person("eve"));
    case.refuses("eve", "may not decide");
    assert!(desk.delegate(&person("ada"), "eve", None, Duration::from_secs(31 * 24 * 3600)).is_err());
    assert!(desk.delegate(&person("ada"), "ada", None, hour).is_err(), "not to herself");
    assert!(desk.delegate(&eve, "cy", Some(vec!["dba".to_owned()]), hour).is_err(), "not hers to lend");
    let lent = desk.delegate(&person("ada"), "eve", Some(vec!["dba".to_owned()]), hour).expect("hers to lend");
    assert!(desk.delegate(&eve, "cy", Some(vec!["dba".to_owned()]), hour).is_err(), "not to be lent on");
    assert!(desk.show(&case.id.to_string()).expect("open").asks(&eve));
    assert_eq!(case.approve("eve"), Ok(Decided::Counted { missing: 1 }));
    case.refuses("ada", "by what you lent them, and that is one vote");
    let view = desk.show(&case.id.to_string()).expect("open");
    assert_eq!(view.steps[0].answered, ["eve for ada"]);
    assert_eq!(case.approve("bob"), Ok(Decided::Approved));
    // It outlives the gateway, and ends: by the lender or the borrower, or by itself.
    let after = Desk::open_on(case.recorder.clone()).expect("opens");
    assert_eq!(after.delegations().iter().map(|one| &*one.to).collect::<Vec<_>>(), ["eve"]);
    assert!(after.end_delegation(&lent.short, &person("bob")).is_err());
    after.end_delegation(&lent.short, &person("ada")).expect("hers");
    assert!(
        after.delegations().is_empty() && Desk::open_on(case.recorder.clone()).expect("opens").delegations().is_empty()
    );
    case.approved().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_lent_for_a_while_ends_by_itself() {
    let (desk, recorder) = desk();
    desk.delegate(&person("ada"), "eve", None, Duration::from_secs(60)).expect("hers to lend");
    let opened = held(&dba(1));
    let id = opened.0.request.to_string();
    let _waiting = desk.open(opened).await.expect("recorded");
    time::sleep(Duration::from_secs(61)).await;
    assert!(desk.delegations().is_empty());
    assert!(desk.decide(&id, &person("eve"), true, None, None).is_err());
    let ended = recorder
        .records()
        .expect("readable")
        .entries(1)
        .any(|one| matches!(one.expect("readable").entry.body, Body::DelegationEnded { by: None, .. }));
    assert!(ended, "and the record says so");
}

#[tokio::test(start_paused = true)]
async fn somebody_who_is_kept_out_lends_nothing() {
    let case = case_of(Approval { separation: vec![Separation::Owner], ..dba(1) }, Some("ada")).await;
    case.desk.delegate(&person("ada"), "eve", None, Duration::from_secs(3600)).expect("hers to lend");
    case.desk.delegate(&person("owner"), "eve", None, Duration::from_secs(3600)).expect("theirs to lend");
    case.refuses("eve", "may not decide");
}

// ---- what verifying finds ----

#[tokio::test(start_paused = true)]
async fn verifying_finds_what_the_desk_would_have_refused() {
    let two = || steps(vec![step(Need::Number(1), &[("dba", 0)]), step(Need::Number(1), &[("oncall", 0)])]);
    type Forge = fn(&mut Vec<Body>);
    let cases: [(&str, Forge); 8] = [
        ("ended approved with step 2 of 2 open", |bodies| bodies.truncate(2)),
        ("by somebody whose vote was given already", |bodies| {
            let Body::Decided { person, uid, .. } = &mut bodies[3] else { panic!("a decision") };
            (*person, *uid) = (Some("machine:2".to_owned()), Some(2));
        }),
        ("in a step that is not open", |bodies| {
            let Body::Decided { counts: Some(counts), .. } = &mut bodies[3] else { panic!("a decision") };
            counts.step = 0;
        }),
        ("by somebody who was not asked", |bodies| drop(bodies.remove(2))),
        ("asks people whom its open step does not name", |bodies| {
            let Body::Asked { who, .. } = &mut bodies[2] else { panic!("who is asked") };
            *who = vec![Who::User("eve".to_owned())];
        }),
        ("without a ticket that it requires", |bodies| {
            let Body::Decided { counts: Some(counts), .. } = &mut bodies[3] else { panic!("a decision") };
            counts.ticket = None;
        }),
        ("without the reason that it requires", |bodies| {
            let Body::Decided { reason, .. } = &mut bodies[1] else { panic!("a decision") };
            *reason = None;
        }),
        ("by a delegation that is not in force", |bodies| {
            let Body::Decided { counts: Some(counts), .. } = &mut bodies[3] else { panic!("a decision") };
            let delegation = crate::operation::DelegationId::now();
            let (by, person) = ("ada".to_owned(), "machine:1".to_owned());
            counts.lent = Some(crate::record::entry::Lent { delegation, by, person });
        }),
    ];
    let rule = Approval { ticket: Some("OPS-1".to_owned()), reason_required: true, ..two() };
    let with = || Decision {
        approve: true,
        reason: Some("why not".to_owned()),
        ticket: Some("OPS-1".to_owned()),
        ..Decision::default()
    };
    let honest = case(rule).await;
    honest.decide("bob", with()).expect("counts");
    honest.decide("cy", with()).expect("counts");
    honest.whole().await;
    let entries: Vec<_> =
        honest.recorder.records().expect("readable").entries(1).collect::<Result<_, _>>().expect("readable");
    // Connected, requested, then what is forged, then the end.
    for (wanted, forge) in cases {
        let recorder = Recorder::in_memory();
        let mut bodies: Vec<Body> = entries[2..entries.len() - 1].iter().map(|one| one.entry.body.clone()).collect();
        forge(&mut bodies);
        let ends = [&entries[..2], &entries[entries.len() - 1..]].map(|part| part.iter().map(|one| one.entry.clone()));
        let [before, after] = ends;
        let session = entries[1].entry.session;
        let forged = bodies.into_iter().map(|body| Entry { at: Timestamp::now(), session, body });
        for entry in before.chain(forged).chain(after) {
            let _ = recorder.append_written(entry).expect("memory");
        }
        let found = verify(&recorder.records().expect("readable"), None).expect("readable").findings;
        assert!(found.iter().any(|finding| finding.what.contains(wanted)), "{wanted}: {found:#?}");
    }
}
