//! `kill -9` of the gateway at random points under load, checked against PostgreSQL's own log.
//!
//! A few kills by default; all two hundred with `HOLDPOINT_KILLS=200 cargo xtask test-root crash`.
//! `HOLDPOINT_SEED` repeats a run's points in time as far as the machine allows.

#![allow(clippy::disallowed_methods, reason = "a random moment is waited for; nobody tells when it is there")]

use std::{
    collections::BTreeMap,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use tests::{Event, Lab, Pace, Postgres, Record, Rules, Running, Statement};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn killed_at_random_points_nothing_is_unrecorded_unapproved_or_direct() {
    let kills = number("HOLDPOINT_KILLS", 40);
    let seed = number("HOLDPOINT_SEED", u64::from(std::process::id()));
    eprintln!("{kills} kills, HOLDPOINT_SEED={seed}");
    let rules = Rules::allowing().hold_for("deletes", "delete", "from: [{ user: root }], timeout: 5s");
    let (lab, pg) = Lab::with_shop("crash", &rules);
    pg.admin("CREATE TABLE crash_log (mark text); CREATE TABLE crash_held (mark text); GRANT ALL ON crash_log, crash_held TO app");

    let started = Instant::now();
    let load = lab.bot("load").start(&[&lab.tool("load_client"), "127.0.0.1", &pg.port().to_string(), "4"]);
    let ended = AtomicBool::new(false);
    let mut told = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| decide(&lab, seed, &ended));
        told = kill_again_and_again(&lab, &load, kills, seed);
        ended.store(true, Ordering::Relaxed);
    });
    eprintln!("{kills} kills in {:?}", started.elapsed());
    drop(load);
    lab.stop().ok();
    lab.verify();
    let recorded = Recorded::from(&lab.record());
    check(&pg, &recorded, &told);

    // The check itself must see what went past the gateway, or it proves nothing.
    let past = Command::new("psql").args(["-X", "-c", "SELECT 'mark-past'", &pg.url()]).output();
    assert!(past.expect("psql is installed").status.success());
    assert_eq!(unrecorded(&pg.logged_statements(), &recorded).len(), 1);
}

/// Kills and starts the gateway; returns what the load told meanwhile.
fn kill_again_and_again(lab: &Lab, load: &Running, kills: u64, seed: u64) -> Vec<String> {
    let mut pace = Pace::new(seed);
    let mut told = Vec::new();
    for kill in 0..kills {
        // Not after a time but after a number of answers, so that the load has certainly got somewhere; then a little
        // further, into the middle of the next ones.
        let mut answers = 1 + pace.below(30);
        while answers > 0 {
            let lines = load.take_lines(Duration::from_secs(20));
            assert!(!lines.is_empty(), "the load makes no progress before kill {kill}: {load}");
            answers = answers.saturating_sub(lines.iter().filter(|line| !line.starts_with("down")).count() as u64);
            told.extend(lines);
        }
        let until = Instant::now() + Duration::from_micros(pace.below(3_000));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        lab.kill();
        wait_for_down(load, &mut told);
        lab.start();
    }
    told
}

/// While no gateway lives, guarded clients are refused: seen at least once before it is started again.
fn wait_for_down(load: &Running, told: &mut Vec<String>) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let lines = load.take_lines(Duration::from_secs(1));
        let down = lines.iter().any(|line| line.starts_with("down"));
        told.extend(lines);
        if down {
            return;
        }
        assert!(Instant::now() < until, "no guarded client was refused after the gateway's death: {load}");
    }
}

/// Approves most of what is held and denies the rest, whichever gateway asks.
fn decide(lab: &Lab, seed: u64, ended: &AtomicBool) {
    let mut pace = Pace::new(!seed);
    while !ended.load(Ordering::Relaxed) {
        let listed = lab.holdpoint(&["approvals", "list", "-o", "json"]);
        if !listed.status.success() {
            // The gateway is dead in this instant.
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        let ids = tests::request_ids(&listed.stdout);
        if ids.is_empty() {
            thread::sleep(Duration::from_millis(5));
        }
        for id in ids {
            let word = if pace.below(10) < 7 { "approve" } else { "deny" };
            // It may have been withdrawn, or the gateway may have died; the record will say.
            let _told = lab.holdpoint(&["approvals", word, &id, "--reason", "crash test"]);
        }
    }
}

/// The three claims, statement by statement.
fn check(pg: &Postgres, recorded: &Recorded, told: &[String]) {
    let statements = pg.logged_statements();
    let marked: Vec<_> = statements.iter().filter_map(|statement| Some((mark(&statement.text)?, statement))).collect();
    let answered = told.iter().filter(|line| line.starts_with("ok ")).count();
    eprintln!(
        "{} marked statements in the backend's log, {} operations in the record, {answered} answered",
        marked.len(),
        recorded.forwarded.len()
    );
    assert!(answered > 0 && marked.len() >= answered, "the backend logged less than was answered");

    let mut seen = BTreeMap::new();
    for (mark, statement) in marked {
        *seen.entry(mark).or_insert(0) += 1;
        let at =
            recorded.forwarded.get(mark).unwrap_or_else(|| panic!("the backend ran what no record has: {statement:?}"));
        // The backend's log has whole milliseconds, cut off.
        assert!(*at <= (statement.at_ms + 1) * 1_000_000, "recorded at {at}, after the backend ran it: {statement:?}");
        if statement.text.contains("crash_held") {
            assert_eq!(
                recorded.approvals.get(mark),
                Some(&1),
                "held, and run without one valid approval: {statement:?}"
            );
        }
    }
    assert!(seen.values().all(|times| *times == 1), "a statement ran twice: {seen:?}");
    let held = recorded.approvals.len();
    assert!(held > 0, "nothing was ever approved, so the test showed nothing about holding");
    for line in told {
        let Some(mark) = line.strip_prefix("ok ") else { continue };
        assert!(seen.contains_key(mark), "answered, but never run: {mark}");
    }
}

/// The statements that were run without a record, or before it.
fn unrecorded<'s>(statements: &'s [Statement], recorded: &Recorded) -> Vec<&'s Statement> {
    let earlier = |statement: &Statement| {
        let at = recorded.forwarded.get(mark(&statement.text)?)?;
        // The backend's log has whole milliseconds, cut off.
        (*at <= (statement.at_ms + 1) * 1_000_000).then_some(())
    };
    let marked = statements.iter().filter(|statement| mark(&statement.text).is_some());
    marked.filter(|statement| earlier(statement).is_none()).collect()
}

/// What the record says, by mark.
#[derive(Default)]
struct Recorded {
    /// When each was recorded as forwarded, in nanoseconds since the Unix epoch.
    forwarded: BTreeMap<String, u64>,
    /// How many approvals each has.
    approvals: BTreeMap<String, u32>,
}

impl Recorded {
    fn from(record: &Record) -> Self {
        let mut recorded = Self::default();
        let mut requests: BTreeMap<String, String> = BTreeMap::new();
        for event in record.events() {
            recorded.take(event, &mut requests);
        }
        recorded
    }

    fn take(&mut self, event: &Event, requests: &mut BTreeMap<String, String>) {
        let text = event.text("text");
        if event.is("operation") && event.flag("forwarded") {
            if let Some(mark) = mark(&text) {
                let before = self.forwarded.insert(mark.to_owned(), event.at());
                assert!(before.is_none(), "recorded as forwarded twice: {text}");
            }
        } else if event.is("requested") {
            if let Some(mark) = mark(&text) {
                requests.insert(event.text("request"), mark.to_owned());
            }
        } else if event.is("decided")
            && event.flag("approve")
            && let Some(mark) = requests.get(&event.text("request"))
        {
            *self.approvals.entry(mark.clone()).or_default() += 1;
        }
    }
}

fn mark(text: &str) -> Option<&str> {
    let from = text.find("mark-")?;
    text[from..].split('\'').next()
}
