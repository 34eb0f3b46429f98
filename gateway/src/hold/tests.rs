//! The desk as people and clients use it: who may decide, how a request ends, and that it ends once.
//!
//! Data through one door: [`check`] takes what the rule asks of people and a script of what they do, each step with
//! its outcome. Time is paused and moves only where a script says so.

use std::time::Duration;

use bytes::Bytes;
use tokio::time;

use super::*;
use crate::{
    operation::{Effect, Object, SessionId},
    people::Person,
    policy::{Approval, Approver, Decide, Who},
    record::{
        entry::{Asked, Operated},
        samples::{asked, connected, impact},
        verify::verify,
    },
};

mod grants;
mod races;
mod workflow;

#[tokio::test(start_paused = true)]
async fn what_it_would_touch_is_part_of_what_is_approved_from_then_on() {
    let (desk, recorder) = desk();
    let opened = held(&dba(2));
    let (id, bare) = (opened.0.request, opened.0.digest);
    let mut waiting = desk.open(opened).await.expect("recorded");
    let decide = |name: &str, seen: Digest| {
        desk.decide(&id.short(), &person(name), true, None, Some(&seen.to_string())).map_err(|error| error.to_string())
    };
    decide("ada", bare).expect("nothing more is known yet");
    waiting.previewed(impact());
    let view = desk.show(&id.short()).expect("open");
    assert_eq!((view.digest, &view.impact), (impact().bound_to(&bare), &Some(impact())));
    assert!(view.impact_lines.iter().any(|line| line == "delete about 12 rows of public.orders"), "{view:?}");
    assert!(decide("bob", bare).expect_err("it has changed").contains("look at it again"));
    // A second one changes nothing that people saw.
    waiting.previewed(Impact::unknown("too late"));
    assert_eq!(desk.show(&id.short()).expect("open").digest, view.digest);
    assert_eq!(decide("bob", view.digest), Ok(Decided::Approved));
    assert!(matches!(end_of(&mut waiting).await, Some(Ended::Approved { digest }) if digest == bare));
    waiting.previewed(impact());
    let found = verify(&recorder.records().expect("readable"), None).expect("readable").findings;
    assert_eq!(found, []);
    let history = recorder.records().expect("readable").request(id).expect("readable").expect("it is there");
    assert_eq!(history.impact, Some(impact()));
}

#[tokio::test(start_paused = true)]
async fn what_it_would_touch_is_not_shown_where_it_cannot_be_recorded() {
    let (desk, recorder) = desk();
    let opened = held(&dba(1));
    let id = opened.0.request;
    let waiting = desk.open(opened).await.expect("recorded");
    recorder.fail_from_now_on();
    waiting.previewed(impact());
    assert_eq!(desk.show(&id.short()).expect("open").impact, None);
}

#[tokio::test(start_paused = true)]
async fn verifying_finds_an_approval_of_another_impact() {
    let (desk, recorder) = desk();
    let opened = held(&dba(1));
    let (request, digest) = (opened.0.request, opened.0.digest);
    let _waiting = desk.open(opened).await.expect("recorded");
    let session = Some(requester().session);
    let append = |body| drop(recorder.append_written(Entry { at: Timestamp::now(), session, body }).expect("written"));
    append(Body::Previewed { request, impact: impact() });
    let (by, reason) = ("ada".to_owned(), None);
    append(Body::Decided {
        request,
        by,
        uid: Some(1),
        approve: true,
        reason,
        digest,
        person: None,
        proof: None,
        terms: None,
        counts: None,
    });
    append(Body::Previewed { request, impact: impact() });
    let found = verify(&recorder.records().expect("readable"), None).expect("readable").findings;
    let found: Vec<_> = found.iter().map(|finding| &*finding.what).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("for another digest") && found[1].contains("awaits none"), "{found:?}");
}

/// A group of approvers, and from when on in minutes.
type Step = (&'static str, u64);

fn terms(from: &[Step], quorum: u32) -> Approval {
    let from = from.iter().map(|(group, after)| Approver {
        who: Who::Group((*group).to_owned()),
        after: Duration::from_secs(after * 60),
    });
    Approval::simple(from.collect(), quorum, Duration::from_secs(15 * 60))
}

fn dba(quorum: u32) -> Approval {
    terms(&[("dba", 0)], quorum)
}

/// Ada has two names on this machine; the bot's owner is one of the approvers.
fn person(name: &str) -> Person {
    let (uid, groups): (u32, &[&str]) = match name {
        "ada" => (1, &["dba", "oncall"]),
        "ada-admin" => (1, &["dba"]),
        "bob" => (2, &["dba"]),
        "cy" => (3, &["oncall"]),
        "eve" => (4, &[]),
        "owner" => (1000, &["dba"]),
        other => panic!("nobody is called {other}"),
    };
    Person::machine(uid, name.to_owned(), groups.iter().map(|group| (*group).to_owned()).collect())
}

fn requester() -> Requester {
    let crate::record::entry::Entry { session, .. } = connected();
    Requester {
        session: session.expect("the sample has a session"),
        uid: 1000,
        user: Some("bot".to_owned()),
        executable: Some("/usr/bin/psql".to_owned()),
        destination: "127.0.0.1:5432".to_owned(),
        owners: Vec::new(),
    }
}

fn request(request: RequestId, asked: Asked, approval: &Approval, waits: bool) -> (Requested, Requester) {
    let requested = Requested {
        request,
        digest: Digest::of(&asked.wire),
        asked,
        approval: approval.clone(),
        workload: "nightly".to_owned(),
        resource: "orders-db".to_owned(),
        waits,
        shape: None,
        barred: None,
    };
    (requested, requester())
}

fn held(approval: &Approval) -> (Requested, Requester) {
    request(RequestId::now(), asked("DROP TABLE orders", Decide::Hold), approval, true)
}

/// A desk with its timer running, over a record that begins with the session.
fn desk() -> (Desk, Recorder) {
    let recorder = Recorder::in_memory();
    let _ = recorder.append_written(connected()).expect("written");
    let desk = Desk::open_on(recorder.clone()).expect("memory is readable");
    drop(tokio::spawn(desk.clone().keep_time()));
    (desk, recorder)
}

/// Lets everything that can happen now happen: paused time moves only when nothing else can.
async fn settle() {
    time::sleep(Duration::from_millis(1)).await;
}

/// How a request ended, if it has.
async fn end_of(waiting: &mut Waiting) -> Option<Ended> {
    settle().await;
    time::timeout(Duration::ZERO, waiting.ended()).await.ok()
}

/// One held operation, and what happens to it. A step is `NAME approves|denies [REASON]`, `wait MINUTES`, `hang up`,
/// `stop` or `disk fails`; its outcome is what the person is told, and ` → ` what the operation is told.
async fn check(approval: Approval, script: &[(&str, &str)]) {
    let (desk, recorder) = desk();
    let opened = held(&approval);
    let id = opened.0.request;
    let mut waiting = Some(desk.open(opened).await.expect("recorded"));
    let mut seen = Vec::new();
    let mut broken = false;
    for (step, _) in script {
        let words: Vec<&str> = step.split(' ').collect();
        let mut outcome = match words[..] {
            ["wait", minutes] => {
                time::sleep(Duration::from_secs(60 * minutes.parse::<u64>().expect("minutes"))).await;
                String::new()
            }
            ["hang", "up"] => {
                drop(waiting.take());
                String::new()
            }
            ["stop"] => {
                desk.stop();
                String::new()
            }
            ["disk", "fails"] => {
                broken = true;
                recorder.fail_from_now_on();
                String::new()
            }
            [name, verb, ..] => {
                let reason = words.get(2..).filter(|words| !words.is_empty()).map(|words| words.join(" "));
                match desk.decide(&id.short(), &person(name), verb == "approves", reason, None) {
                    Ok(decided) => format!("{decided:?}").to_lowercase(),
                    Err(error) => error.to_string().replace(&id.short(), "R"),
                }
            }
            _ => panic!("`{step}` is no step"),
        };
        if let Some(place) = &mut waiting
            && let Some(ended) = end_of(place).await
        {
            outcome.push_str(&format!(" → {ended}"));
            waiting = None;
        }
        seen.push(((*step).to_owned(), outcome.trim_start().to_owned()));
    }
    let expected: Vec<_> = script.iter().map(|(step, told)| ((*step).to_owned(), (*told).to_owned())).collect();
    assert_eq!(seen, expected);
    settle().await;
    if !broken {
        let records = recorder.records().expect("readable");
        let found = verify(&records, None).expect("readable");
        assert!(found.is_whole(), "{:#?}", found.findings);
        let closed = records.entries(1).filter(
            |one| matches!(one.as_ref().map(|one| &one.entry.body), Ok(Body::Closed { request, .. }) if *request == id),
        );
        assert_eq!(closed.count() as u64 + found.open, 1, "a request is open, or ended once");
        assert_eq!(desk.list().len() as u64, found.open, "the desk and the record say the same");
    }
}

// ---- who decides ----

#[tokio::test(start_paused = true)]
async fn one_approver_is_enough_for_a_quorum_of_one() {
    check(dba(1), &[("ada approves", "approved → approved")]).await;
}

#[tokio::test(start_paused = true)]
async fn v14_a_quorum_is_of_distinct_people() {
    let twice = "you have already approved request R; it needs other people too";
    check(
        dba(2),
        &[
            ("ada approves", "counted { missing: 1 }"),
            ("ada approves", twice),
            ("ada-admin approves", twice),
            ("bob approves", "approved → approved"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn v14_one_person_in_two_groups_is_one_person() {
    check(
        terms(&[("dba", 0), ("oncall", 0)], 2),
        &[
            ("ada approves", "counted { missing: 1 }"),
            ("ada approves", "you have already approved request R; it needs other people too"),
            ("cy approves", "approved → approved"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_those_who_are_asked_decide() {
    let not_asked = "eve may not decide on request R: the rule asks group dba";
    check(dba(1), &[("eve approves", not_asked), ("eve denies", not_asked)]).await;
}

#[tokio::test(start_paused = true)]
async fn a4_nobody_decides_on_what_runs_as_themselves() {
    let own = "the person who asks may not decide: request R comes from a process of yours (user owner)";
    check(dba(1), &[("owner approves", own), ("owner denies", own), ("bob approves", "approved → approved")]).await;
}

#[tokio::test(start_paused = true)]
async fn one_denial_ends_it_whatever_others_said() {
    check(
        dba(3),
        &[
            ("ada approves", "counted { missing: 2 }"),
            ("bob denies not on a friday", "denied → denied by bob: not on a friday"),
            ("ada approves", "request R has already ended: it was denied; nothing was done"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_who_approved_may_still_deny() {
    check(dba(2), &[("ada approves", "counted { missing: 1 }"), ("ada denies", "denied → denied by ada")]).await;
}

#[tokio::test(start_paused = true)]
async fn v15_a_required_reason_is_required() {
    let missing = "this rule requires a reason: add --reason \"…\"";
    check(
        Approval { reason_required: true, ..dba(1) },
        &[("ada approves", missing), ("ada approves  ", missing), ("ada approves ticket 42", "approved → approved")],
    )
    .await;
    check(Approval { reason_required: true, ..dba(1) }, &[("ada denies", "denied → denied by ada")]).await;
}

#[tokio::test(start_paused = true)]
async fn v15_escalation_asks_the_next_group_when_its_time_has_come() {
    check(
        terms(&[("dba", 0), ("oncall", 5)], 1),
        &[
            ("cy approves", "cy may decide on request R only 5m from now"),
            ("cy denies", "cy may decide on request R only 5m from now"),
            ("wait 5", ""),
            ("cy approves", "approved → approved"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a1_an_approval_of_another_digest_does_not_count() {
    let (desk, _recorder) = desk();
    let opened = held(&dba(1));
    let (id, digest) = (opened.0.request, opened.0.digest);
    let mut waiting = desk.open(opened).await.expect("recorded");
    let decide = |seen: &str| desk.decide(&id.short(), &person("ada"), true, None, Some(seen));
    let other = decide(&Digest::of(b"another").to_string()).expect_err("not what is held");
    assert_eq!(
        other.to_string(),
        format!("request {} has another digest than the one given; look at it again", id.short())
    );
    assert_eq!(end_of(&mut waiting).await, None);
    assert_eq!(decide(&digest.to_string()).expect("what is held"), Decided::Approved);
    assert_eq!(end_of(&mut waiting).await, Some(Ended::Approved { digest }));
}

// ---- how it ends ----

#[tokio::test(start_paused = true)]
async fn v15_nobody_answers_and_the_answer_is_no() {
    check(
        dba(1),
        &[
            ("wait 14", ""),
            ("wait 1", "→ nobody approved it in time"),
            ("ada approves", "request R has already ended: nobody approved it in time; nothing was done"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_approval_short_of_the_quorum_does_not_stop_the_clock() {
    check(
        dba(2),
        &[
            ("wait 14", ""),
            ("ada approves", "counted { missing: 1 }"),
            ("wait 1", "→ nobody approved it in time"),
            ("bob approves", "request R has already ended: nobody approved it in time; nothing was done"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_withdraws_it() {
    check(
        dba(1),
        &[("hang up", ""), ("ada approves", "request R has already ended: the client withdrew it; nothing was done")],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_after_its_end_withdraws_nothing() {
    check(dba(1), &[("ada approves", "approved → approved"), ("hang up", "")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_stopping_gateway_refuses_what_is_held() {
    let late = "request R has already ended: the gateway stopped while it was held; nothing was done";
    check(dba(1), &[("stop", "→ the gateway is stopping; send it again when it is back"), ("ada approves", late)])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_stopping_gateway_holds_nothing_more() {
    let (desk, recorder) = desk();
    desk.stop();
    let mut waiting = desk.open(held(&dba(1))).await.expect("recorded");
    assert_eq!(end_of(&mut waiting).await, Some(Ended::Stopping));
    assert_eq!(recorder.open_requests().expect("readable"), []);
}

#[tokio::test(start_paused = true)]
async fn a8_a_decision_that_cannot_be_recorded_does_not_count() {
    check(
        dba(1),
        &[
            ("disk fails", ""),
            (
                "ada approves",
                "the decision cannot be recorded, so it does not count: cannot write the record in memory: told to fail; operations are refused until a write succeeds again",
            ),
            ("wait 15", "→ the decision could not be recorded, so it does not count"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a8_a_request_that_cannot_be_recorded_is_not_opened() {
    let (desk, recorder) = desk();
    recorder.fail_from_now_on();
    assert!(desk.open(held(&dba(1))).await.is_err());
    assert!(desk.list().is_empty(), "nobody is asked about what is not on the record");
}

#[tokio::test(start_paused = true)]
async fn a7_a_restart_refuses_what_was_held() {
    let (before, recorder) = desk();
    let opened = held(&dba(1));
    let id = opened.0.request;
    // The process is killed: this place is never given back.
    let _killed = before.open(opened).await.expect("recorded");
    let after = Desk::open_on(recorder.clone()).expect("opens");
    assert!(after.list().is_empty());
    let late = after.decide(&id.short(), &person("ada"), true, None, None).expect_err("it has ended");
    assert_eq!(
        late.to_string(),
        format!("request {} has already ended: the gateway stopped while it was held; nothing was done", id.short())
    );
    let history = recorder.request(id).expect("readable").expect("known");
    assert_eq!(history.closed.map(|(_, outcome)| outcome), Some(Outcome::Restarted));
    // Opened once more, it finds nothing left to end.
    let head = recorder.head().expect("readable");
    let _again = Desk::open_on(recorder.clone()).expect("opens");
    assert_eq!(recorder.head().expect("readable"), head);
}

#[tokio::test(start_paused = true)]
async fn a7_each_request_ends_at_its_own_time_while_others_come_and_go() {
    let (desk, _recorder) = desk();
    let minutes = |minutes: u64| Approval { timeout: Duration::from_secs(60 * minutes), ..dba(1) };
    let mut long = desk.open(held(&minutes(10))).await.expect("recorded");
    time::sleep(Duration::from_secs(60)).await;
    // Later, with an earlier deadline.
    let mut short = desk.open(held(&minutes(1))).await.expect("recorded");
    for _ in 0..59 {
        let busy = desk.open(held(&minutes(30))).await.expect("recorded");
        time::sleep(Duration::from_secs(1)).await;
        drop(busy);
    }
    assert_eq!(end_of(&mut short).await, None, "a second early");
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(end_of(&mut short).await, Some(Ended::Expired { waiting_for: None }));
    time::sleep(Duration::from_secs(8 * 60 - 2)).await;
    assert_eq!(end_of(&mut long).await, None, "a second early");
    time::sleep(Duration::from_secs(2)).await;
    assert_eq!(end_of(&mut long).await, Some(Ended::Expired { waiting_for: None }));
}

#[tokio::test(start_paused = true)]
async fn v15_nobody_decides_after_the_deadline_however_late_the_timer_is() {
    // A desk whose timer never runs.
    let recorder = Recorder::in_memory();
    let _ = recorder.append_written(connected()).expect("written");
    let desk = Desk::open_on(recorder).expect("opens");
    let opened = held(&dba(1));
    let id = opened.0.request;
    let mut waiting = desk.open(opened).await.expect("recorded");
    time::sleep(Duration::from_secs(15 * 60)).await;
    let late = desk.decide(&id.short(), &person("ada"), true, None, None).expect_err("too late");
    assert!(late.to_string().contains("nobody approved it in time"), "{late}");
    assert_eq!(end_of(&mut waiting).await, Some(Ended::Expired { waiting_for: None }));
}

// ---- names ----

#[tokio::test(start_paused = true)]
async fn a_name_means_one_request_or_nothing() {
    let (desk, _recorder) = desk();
    let with = |byte: u8| RequestId::from_bytes([byte, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte, 0, 0xab, 0xcd]);
    let open = |byte: u8| desk.open(request(with(byte), asked("SELECT 1", Decide::Hold), &dba(1), true));
    let (_one, _other) = (open(1).await.expect("recorded"), open(2).await.expect("recorded"));
    let ada = person("ada");
    let told = |typed: &str| match desk.decide(typed, &ada, true, None, None) {
        Ok(decided) => format!("{decided:?}"),
        Err(error) => error.to_string(),
    };
    assert_eq!(told("abcd"), "abcd names several requests; type more of it");
    let unknown = |typed: &str| format!("there is no request {typed}; `holdpoint approvals list` shows the open ones");
    for typed in ["", "cd", "0300abcd", "zzzz"] {
        assert_eq!(told(typed), unknown(typed));
        assert_eq!(desk.show(typed).expect_err("unknown").to_string(), unknown(typed));
    }
    assert_eq!(told("0100ABCD"), "Approved");
    assert_eq!(told(&with(2).to_string()), "Approved");
    assert_eq!(told("0200abcd"), "request 0200abcd has already ended: it was approved; nothing was done");
}

// ---- approvals for later ----

#[tokio::test(start_paused = true)]
async fn an_approval_for_later_is_spent_once_and_lapses() {
    let (desk, _recorder) = desk();
    let open = || request(RequestId::now(), asked("DROP TABLE orders", Decide::Hold), &dba(1), false);
    let digest = open().0.digest;
    let approve = || async {
        let opened = open();
        let id = opened.0.request;
        assert_eq!(desk.open_for_retry(opened).await.expect("recorded"), id);
        assert_eq!(desk.open_for_retry(open()).await.expect("recorded"), id, "the same again joins it");
        assert_eq!(desk.spend(digest), None, "not yet");
        desk.decide(&id.short(), &person("ada"), true, None, None).expect("decides");
        settle().await;
        id
    };
    let first = approve().await;
    assert_eq!(desk.spend(Digest::of(b"another")), None);
    assert_eq!(desk.spend(digest), Some(first));
    assert_eq!(desk.spend(digest), None, "once");
    approve().await;
    time::sleep(Duration::from_secs(15 * 60)).await;
    assert_eq!(desk.spend(digest), None, "it has lapsed");
}

#[tokio::test(start_paused = true)]
async fn a_denial_or_the_end_of_time_releases_nothing_later() {
    let (desk, _recorder) = desk();
    let open = || request(RequestId::now(), asked("DROP TABLE orders", Decide::Hold), &dba(1), false);
    let denied = open();
    let (id, digest) = (denied.0.request, denied.0.digest);
    desk.open_for_retry(denied).await.expect("recorded");
    desk.decide(&id.short(), &person("ada"), false, None, None).expect("decides");
    settle().await;
    assert_eq!(desk.spend(digest), None);
    desk.open_for_retry(open()).await.expect("recorded");
    time::sleep(Duration::from_secs(15 * 60)).await;
    settle().await;
    assert_eq!(desk.spend(digest), None);
    assert!(desk.list().is_empty());
}

/// On a real disk, where opening a request takes its time.
#[tokio::test]
async fn a2_many_who_ask_the_same_at_once_page_people_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let recorder = Recorder::open(dir.path(), &crate::record::Options::default()).expect("opens");
    let desk = Desk::open_on(recorder).expect("opens");
    let open = || desk.open_for_retry(request(RequestId::now(), asked("SELECT 1", Decide::Hold), &dba(1), false));
    let (one, two, three) = tokio::join!(open(), open(), open());
    let one = one.expect("recorded");
    assert_eq!((two.expect("recorded"), three.expect("recorded")), (one, one));
    assert_eq!(desk.list().len(), 1);
    // Somebody who gave up on the way is in nobody's way.
    desk.decide(&one.short(), &person("ada"), false, None, None).expect("decides");
    drop(time::timeout(Duration::ZERO, open()).await);
    assert_ne!(open().await.expect("recorded"), one);
}

// ---- what people see ----

#[tokio::test(start_paused = true)]
async fn a5_what_could_deceive_an_eye_is_made_visible() {
    let (desk, _recorder) = desk();
    let hidden = "DROP TABLE о\u{202e}rders\r-- \0\u{200b}\u{1b}[2K SELECT 1";
    let long = format!("SELECT 1{}; DROP TABLE orders", " ".repeat(100_000));
    let view = |text: &str| {
        let mut asked = asked(text, Decide::Hold);
        asked.text = Bytes::copy_from_slice(text.as_bytes());
        let opened = request(RequestId::now(), asked, &dba(1), true);
        let (desk, short) = (desk.clone(), opened.0.request.short());
        async move {
            let waiting = desk.open(opened).await.expect("recorded");
            let view = desk.show(&short).expect("open");
            drop(waiting);
            view
        }
    };
    let seen = view(hidden).await;
    let deceives = |c: char| c.is_control() || "\u{202e}\u{200b}".contains(c);
    assert!(!seen.statement.contains(deceives), "{}", seen.statement);
    assert_eq!(seen.bytes, hidden.len());
    let words = seen.cautions.join("\n");
    for expected in ["look like Latin", "change the order", "carriage returns", "NUL", "cannot be seen", "terminal"] {
        assert!(words.contains(expected), "`{expected}` in\n{words}");
    }
    let seen = view(&long).await;
    assert!(seen.statement.ends_with("; DROP TABLE orders"), "nothing is cut off");
    assert_eq!(seen.bytes, long.len());
    assert_eq!(seen.digest, Digest::of(&asked(&long, Decide::Hold).wire), "the whole of it is what is approved");
    assert!(view("SELECT 1").await.cautions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn those_who_watch_hear_of_every_change() {
    let (desk, _recorder) = desk();
    let mut watch = desk.watch();
    let opened = held(&dba(1));
    let id = opened.0.request;
    let _waiting = desk.open(opened).await.expect("recorded");
    assert!(watch.has_changed().expect("the desk is there"));
    watch.mark_unchanged();
    desk.decide(&id.short(), &person("ada"), false, None, None).expect("decides");
    assert!(watch.has_changed().expect("the desk is there"));
    let later: Vec<SessionId> = desk.list().iter().map(|view| view.requester.session).collect();
    assert_eq!(later, []);
}
