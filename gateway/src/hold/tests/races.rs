//! Ten thousand requests, each with several threads that want to end it at the same moment: approve, deny, time out, take
//! it back, stop the gateway. Each ends one way, and the record, the desk and whoever waits agree which.

use std::{
    collections::HashMap,
    sync::{
        Arc as Shared, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::*;
use crate::record::Options;

/// How many requests race in one round.
const ROUND: usize = 250;

fn asks_two() -> Approval {
    let step = |group: &str| crate::policy::Step {
        from: vec![Approver { who: Who::Group(group.to_owned()), after: Duration::ZERO }],
        need: crate::policy::Need::Number(1),
    };
    Approval { steps: vec![step("dba"), step("oncall")], ..Approval::simple(Vec::new(), 1, Duration::from_millis(40)) }
}

/// One round: every request with threads that approve in both steps, deny, and, by its number, hang up; time runs out for
/// those whom nobody was quick enough for. With `stop` the gateway stops in the middle.
async fn round(desk: &Desk, recorder: &Recorder, stop: bool) -> HashMap<&'static str, usize> {
    let mut ids = Vec::new();
    let mut waits = Vec::new();
    let go = Shared::new(tokio::sync::Notify::new());
    for number in 0..ROUND {
        let opened = held(&asks_two());
        ids.push(opened.0.request);
        let mut waiting = desk.open(opened).await.expect("recorded");
        waits.push(tokio::spawn(async move {
            if number % 7 == 3 {
                // The client hangs up at about the moment at which people decide.
                let patience = Duration::from_micros((number as u64 * 37) % 20_000);
                return time::timeout(patience, waiting.ended()).await.ok();
            }
            Some(waiting.ended().await)
        }));
    }
    let ids = Shared::new(ids);
    let (barrier, said) = (Shared::new(Barrier::new(4)), Shared::new(AtomicUsize::new(0)));
    let people = [("bob", true), ("cy", true), ("ada", false)].map(|(name, approve)| {
        let (desk, ids, barrier, said) = (desk.clone(), ids.clone(), barrier.clone(), said.clone());
        let runtime = tokio::runtime::Handle::current();
        thread::spawn(move || {
            let _entered = runtime.enter();
            let who = person(name);
            barrier.wait();
            for (number, id) in ids.iter().enumerate() {
                // She denies every third, and leaves every fifth to time.
                let wants = if approve { number % 5 != 4 } else { number % 3 == 1 };
                if wants && desk.decide(&id.to_string(), &who, approve, None, None).is_ok() {
                    said.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    let stopper = {
        let (desk, barrier) = (desk.clone(), barrier.clone());
        let runtime = tokio::runtime::Handle::current();
        thread::spawn(move || {
            let _entered = runtime.enter();
            barrier.wait();
            if stop {
                desk.stop();
            }
        })
    };
    go.notify_waiters();
    let mut told = Vec::new();
    for wait in waits {
        told.push(wait.await.expect("no panic"));
    }
    for thread in people.into_iter().chain([stopper]) {
        thread.join().expect("no panic");
    }
    let mut ends = HashMap::new();
    for (id, told) in ids.iter().zip(told) {
        let history = recorder.request(*id).expect("readable").expect("known");
        let (_, outcome) = history.closed.expect("it ended");
        let by_waiter = match told {
            Some(Ended::Approved { .. }) => Outcome::Approved,
            Some(Ended::Denied { .. }) => Outcome::Denied,
            Some(Ended::Expired { .. }) => Outcome::Expired,
            Some(Ended::Stopping) => Outcome::Restarted,
            Some(Ended::Withdrawn | Ended::Unrecorded) => panic!("nobody waits for that"),
            // It hung up: whatever came first.
            None => outcome,
        };
        assert_eq!(outcome, by_waiter, "the record and the one who waits");
        let by_desk = desk.show(&id.to_string()).expect_err("it has ended").to_string();
        assert!(by_desk.contains(words(outcome)), "{by_desk}: {outcome:?}");
        let approvals = history.decisions.iter().filter(|decision| decision.approve).count();
        let denials = history.decisions.len() - approvals;
        match outcome {
            Outcome::Approved => assert_eq!((approvals, denials), (2, 0)),
            Outcome::Denied => assert_eq!(denials, 1),
            _ => assert!(approvals < 2 && denials == 0),
        }
        *ends.entry(outcome.as_str()).or_default() += 1;
    }
    ends
}

/// The record of a desk whose last tasks may still be on their way.
async fn open_when_let_go(dir: &std::path::Path) -> Recorder {
    let opened = async {
        loop {
            match Recorder::open(dir, &Options::default()) {
                Ok(recorder) => return recorder,
                Err(crate::record::RecordError::InUse { .. }) => settle().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    time::timeout(Duration::from_secs(10), opened).await.expect("every task ends")
}

fn add(all: &mut HashMap<&'static str, usize>, more: HashMap<&'static str, usize>) {
    for (outcome, count) in more {
        *all.entry(outcome).or_default() += count;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_races_end_one_way_each() {
    let mut ends = HashMap::new();
    let recorder = Recorder::in_memory();
    let _ = recorder.append_written(connected()).expect("written");
    let desk = Desk::open_on(recorder.clone()).expect("opens");
    let timer = tokio::spawn(desk.clone().keep_time());
    for _ in 0..36 {
        add(&mut ends, round(&desk, &recorder, false).await);
    }
    timer.abort();
    let whole = verify(&recorder.records().expect("readable"), None).expect("readable");
    assert!(whole.is_whole() && whole.open == 0, "{:#?}", whole.findings);
    // A gateway that stops, and is killed, over a real disk.
    let dir = tempfile::tempdir().expect("a temporary directory");
    for _ in 0..4 {
        let recorder = open_when_let_go(dir.path()).await;
        let _ = recorder.append_written(connected()).expect("written");
        let desk = Desk::open_on(recorder.clone()).expect("opens");
        let timer = tokio::spawn(desk.clone().keep_time());
        let killed =
            desk.open(held(&Approval { timeout: Duration::from_secs(900), ..dba(1) })).await.expect("recorded");
        let left = killed.request();
        add(&mut ends, round(&desk, &recorder, true).await);
        timer.abort();
        let history = recorder.request(left).expect("readable").expect("known");
        assert_eq!(history.closed.map(|(_, outcome)| outcome), Some(Outcome::Restarted));
        // Whoever waited for it hangs up too late to withdraw anything.
        drop(killed);
        let whole = verify(&recorder.records().expect("readable"), None).expect("readable");
        assert!(whole.is_whole() && whole.open == 0, "{:#?}", whole.findings);
        drop((desk, recorder));
    }
    assert_eq!(ends.values().sum::<usize>(), 10_000);
    for outcome in ["approved", "denied", "expired", "withdrawn", "restarted"] {
        assert!(ends.contains_key(outcome), "no request was {outcome}: {ends:?}");
    }
}
