//! The reviewer's side: list, search and replay sessions, and prove that the record is whole.

use std::time::{Duration, Instant};

use tests::{Lab, Postgres, Rules};

/// Three sessions of two bots, one with a refusal in it.
fn reviewed(name: &str) -> (Lab, Postgres) {
    let (lab, pg) = Lab::with_shop(name, &Rules::allowing().refuse("no-schema", "schema"));
    lab.bot("ci").psql(&pg.url(), "SELECT 'needle in ' || name, email FROM customers").ok();
    lab.bot("ci").psql(&pg.url(), "DROP TABLE target").failed();
    lab.bot("nightly").psql(&pg.url(), "SELECT 'hay'").ok();
    (lab, pg)
}

#[test]
fn sessions_are_listed_shown_and_searched() {
    let (lab, _pg) = reviewed("sessions");
    let sessions = lab.record().sessions;
    assert_eq!(sessions.len(), 3);
    let listed = lab.holdpoint(&["sessions", "list"]).ok().says(&["ci", "nightly", "shop"]);
    for session in &sessions {
        let dashless = session.id.replace('-', "");
        assert!(listed.stdout.contains(&dashless[24..]), "{} is not listed: {listed}", session.id);
    }
    let shown = lab.holdpoint(&["sessions", "show", &sessions[0].id]).ok();
    shown.says(&["ci", "shop", "psql", "nobody", "127.0.0.1"]);
    let found = lab.holdpoint(&["sessions", "search", "needle"]).ok().says(&["needle"]);
    assert!(!found.all().contains("hay"), "{found}");
    // As typed by a person: the short form.
    let short = sessions[1].id.replace('-', "")[24..].to_owned();
    lab.holdpoint(&["sessions", "show", &short]).ok().says(&["DROP TABLE target"]);
    lab.holdpoint(&["sessions", "show", "ffffffff"]).failed().says(&["ffffffff"]);
}

#[test]
fn replay_shows_what_was_asked_and_what_was_answered_after_masking() {
    let (lab, _pg) = reviewed("replay");
    let sessions = lab.record().sessions;
    let first =
        lab.holdpoint(&["replay", &sessions[0].id, "--no-wait"]).ok().says(&["SELECT 'needle in '", "needle in Ada"]);
    for canary in Postgres::CANARIES {
        assert!(!first.all().contains(canary), "{canary} is replayed: {first}");
    }
    lab.holdpoint(&["replay", &sessions[1].id, "--no-wait"]).ok().says(&["DROP TABLE target", "refused", "no-schema"]);
    let json = lab.holdpoint(&["replay", &sessions[0].id, "--no-wait", "-o", "json"]).ok();
    let parsed: Vec<serde_json::Value> = match serde_json::from_str(&json.stdout) {
        Ok(serde_json::Value::Array(values)) => values,
        _ => serde_json::Deserializer::from_str(&json.stdout)
            .into_iter()
            .map(|value| value.expect("JSON lines"))
            .collect(),
    };
    assert!(parsed.len() >= 4, "connected, operation, response, disconnected at least: {json}");
}

#[test]
fn replay_takes_the_time_that_it_took_or_a_part_of_it() {
    let (lab, pg) = Lab::with_shop("replay-time", &Rules::allowing());
    lab.bot("ci").psql(&pg.url(), "SELECT pg_sleep(2)").ok();
    let session = lab.record().sessions[0].id.clone();
    let timed = |arguments: &[&str]| {
        let started = Instant::now();
        lab.holdpoint(&[&["replay", session.as_str()], arguments].concat()).ok();
        started.elapsed()
    };
    let whole = timed(&[]);
    assert!(whole >= Duration::from_millis(1_900) && whole < Duration::from_secs(6), "as it was: {whole:?}");
    let fast = timed(&["--speed", "4"]);
    assert!(fast >= Duration::from_millis(450) && fast < Duration::from_millis(1_900), "four times as fast: {fast:?}");
    assert!(timed(&["--no-wait"]) < Duration::from_millis(450));
}

#[test]
fn verify_names_what_was_altered_or_removed() {
    let (lab, _pg) = reviewed("verify");
    lab.stop().ok();
    let whole = lab.verify();
    let entries = lab.record().events.len() as u64;
    assert!(whole.stdout.contains(&entries.to_string()), "it says how many entries it looked at ({entries}): {whole}");

    let position = 5_u64;
    let bytes = with_entries(&lab, |store, entries| {
        let bytes =
            store.get_cf(entries, position.to_be_bytes()).expect("readable").expect("there are more than five entries");
        let mut altered = bytes.clone();
        let middle = altered.len() / 2;
        altered[middle] ^= 1;
        store.put_cf(entries, position.to_be_bytes(), altered).expect("writable");
        bytes
    });
    lab.holdpoint(&["verify"]).failed().says(&["5"]);
    with_entries(&lab, |store, entries| store.put_cf(entries, position.to_be_bytes(), &bytes).expect("writable"));
    lab.verify();

    with_entries(&lab, |store, entries| store.delete_cf(entries, position.to_be_bytes()).expect("writable"));
    lab.holdpoint(&["verify"]).failed().says(&["5"]);
}

/// Past the gateway's own code, as somebody would who has root and a grudge.
fn with_entries<T>(lab: &Lab, act: impl FnOnce(&rocksdb::DB, &rocksdb::ColumnFamily) -> T) -> T {
    let dir = lab.store();
    let options = rocksdb::Options::default();
    let columns = rocksdb::DB::list_cf(&options, &dir).expect("the store is there and nobody has it open");
    let store = rocksdb::DB::open_cf(&options, &dir, columns).expect("the store can be opened");
    let entries = store.cf_handle("entries").expect("the format has this column");
    let done = act(&store, entries);
    store.flush_wal(true).expect("the disk takes it");
    done
}
