//! The record as its users see it: encoding, chain, verifying, group commit, bad disks and killed processes.

mod disk;
mod speed;

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    Durability, Head, Options, Recorder, Records,
    chain::HEADER,
    encoding,
    entry::{Body, Entry, Outcome},
    samples::*,
    store::{
        Store,
        column::{Entries, SessionEntries, Sessions},
    },
    verify::{Verification, verify},
};
use crate::policy::Decide;

fn bytes_of(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoding::encode(entry, &mut bytes);
    bytes
}

proptest! {
    #[test]
    fn any_entry_comes_back_as_it_was(entry in any_entry()) {
        prop_assert_eq!(encoding::decode(&bytes_of(&entry)).expect("what was encoded decodes"), entry);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = encoding::decode(&bytes);
    }

    #[test]
    fn a_cut_entry_is_refused(entry in any_entry(), cut in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&entry);
        prop_assert!(encoding::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }
}

/// The format's contract: these bytes must decode for ever. A change here is a new store format.
#[test]
fn the_bytes_of_each_kind() {
    let lines: Vec<String> = one_of_each()
        .iter()
        .map(|entry| {
            let hex: String = bytes_of(entry).iter().map(|byte| format!("{byte:02x}")).collect();
            let name = format!("{:?}", entry.body);
            let name = name.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
            format!("{name}\n  {hex}")
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn an_unknown_kind_is_an_error() {
    let known = bytes_of(&Entry { session: None, ..entry(Body::Stopped) });
    // `[at, null, [1, []]]`: the kind's number is the last byte but one.
    let at = known.len() - 2;
    assert_eq!(known[at], 1, "{known:02x?}");
    let mut newer = known;
    // A number beyond 23 takes two bytes.
    newer.splice(at..=at, [0x18, 250]);
    let error = encoding::decode(&newer).expect_err("kind 250 does not exist");
    assert!(error.to_string().contains("unknown"), "{error}");
}

#[test]
fn a_text_inside_the_wire_bytes_is_stored_once() {
    let statement = "SELECT ".repeat(100);
    let inside = asked(&statement, Decide::Allow);
    let mut apart = inside.clone();
    apart.text = bytes::Bytes::copy_from_slice(&inside.text);
    let (inside, apart) = (bytes_of(&operated(inside, true, None)), bytes_of(&operated(apart, true, None)));
    assert!(apart.len() - inside.len() > statement.len() - 10, "{} and {}", apart.len(), inside.len());
    assert_eq!(encoding::decode(&inside).expect("decodes"), encoding::decode(&apart).expect("decodes"));
}

fn response(wire: impl Into<bytes::Bytes>) -> Entry {
    entry(Body::Response { of: None, wire: wire.into(), masked: 0 })
}

#[test]
fn a_long_answer_is_stored_shorter_where_that_can_be() {
    let length = 64 << 10;
    let mut random = vec![0; length];
    getrandom::fill(&mut random).expect("there are random numbers");
    for (wire, most) in [(b"one row and ".repeat(length / 12), length / 50), (random, length + 100)] {
        let entry = response(wire);
        let bytes = bytes_of(&entry);
        assert!(bytes.len() < most, "{} bytes of at most {most}", bytes.len());
        assert_eq!(encoding::decode(&bytes).expect("what was encoded decodes"), entry);
    }
}

#[test]
fn a_compressed_answer_whose_length_is_wrong_is_refused() {
    let right = bytes_of(&response(vec![7; 64 << 10]));
    // The tag, an array of two, and a length of four bytes.
    let before = [0xd9, 0x6f, 0x54, 0x82, 0x1a];
    let at = right.windows(before.len()).position(|some| some == before).expect("it is compressed") + before.len();
    assert_eq!(right[at..at + 4], (64_u32 << 10).to_be_bytes());
    for wrong in [0_u32, (64 << 10) - 1, (64 << 10) + 1, u32::MAX] {
        let mut bytes = right.clone();
        bytes[at..at + 4].copy_from_slice(&wrong.to_be_bytes());
        assert!(encoding::decode(&bytes).is_err(), "{wrong}");
    }
}

#[test]
fn positions_count_from_one_and_the_head_follows() {
    let recorder = Recorder::in_memory();
    let genesis = recorder.head().expect("readable");
    assert_eq!(genesis.position, 0);
    for position in 1..=5 {
        assert_eq!(recorder.append_written(allowed("SELECT 1")).expect("written").position(), position);
    }
    let head = recorder.head().expect("readable");
    assert_eq!(head.position, 5);
    assert_ne!(head.hash, genesis.hash);
    assert_eq!(head.to_string().parse::<Head>().expect("what it prints, it reads"), head);
    assert_eq!(recorder.records().expect("readable").head().expect("readable"), head);
}

#[test]
fn two_nodes_have_chains_of_their_own() {
    let (one, other) = (Recorder::in_memory(), Recorder::in_memory());
    assert_ne!(one.head().expect("readable").hash, other.head().expect("readable").hash);
}

#[test]
fn told_to_fail_every_append_fails() {
    let recorder = Recorder::in_memory();
    assert!(recorder.append_written(allowed("SELECT 1")).is_ok());
    recorder.fail_from_now_on();
    for _ in 0..3 {
        assert!(recorder.append_written(allowed("SELECT 1")).is_err());
    }
    assert_eq!(recorder.head().expect("readable").position, 1);
}

#[test]
fn open_requests_are_those_without_an_end() {
    let recorder = Recorder::in_memory();
    append(&recorder, &[connected(), requested(asked("DROP TABLE orders", Decide::Hold), 1), decided(7, true)]);
    let open = recorder.open_requests().expect("readable");
    assert_eq!(open.iter().map(|requested| requested.request).collect::<Vec<_>>(), [REQUEST]);
    append(&recorder, &[closed(Outcome::Approved)]);
    assert_eq!(recorder.open_requests().expect("readable"), []);
    let history = recorder.request(REQUEST).expect("readable").expect("known");
    assert_eq!(history.session, Some(SESSION));
    assert_eq!(history.decisions.iter().map(|decision| decision.uid).collect::<Vec<_>>(), [Some(7)]);
    assert_eq!(history.closed.map(|(_, outcome)| outcome), Some(Outcome::Approved));
}

#[test]
fn a_session_is_counted_while_open_and_after() {
    let recorder = Recorder::in_memory();
    let denied = operated(asked("DROP TABLE orders", Decide::Hold), false, None);
    append(&recorder, &[connected(), allowed("SELECT 1"), denied]);
    let summary = |recorder: &Recorder| {
        let records = recorder.records().expect("readable");
        records.sessions().next().expect("one session").expect("readable")
    };
    let open = summary(&recorder);
    assert_eq!((open.totals.operations, open.totals.refused, open.ended), (2, 1, None));
    append(&recorder, &[disconnected()]);
    let over = summary(&recorder);
    assert_eq!((over.totals, over.ended.is_some()), (open.totals, true));
    assert_eq!(over.facts.expect("connected").workload, "nightly");
}

#[test]
fn what_a_whole_record_holds_is_found_whole() {
    let recorder = Recorder::in_memory();
    append(&recorder, &approved_session());
    let found = verified(&recorder);
    assert_eq!((found.findings.as_slice(), found.entries, found.operations, found.requests), (&[][..], 8, 2, 1));
}

/// Connected, a read, a hold that is approved and goes through, the end.
fn approved_session() -> Vec<Entry> {
    let held = asked("DROP TABLE orders", Decide::Hold);
    vec![
        connected(),
        allowed("SELECT 1"),
        requested(held.clone(), 2),
        decided(7, true),
        decided(8, true),
        closed(Outcome::Approved),
        operated(held, true, Some(REQUEST)),
        disconnected(),
    ]
}

fn append(recorder: &Recorder, entries: &[Entry]) {
    for entry in entries {
        let _ = recorder.append_written(entry.clone()).expect("written");
    }
}

fn verified(recorder: &Recorder) -> Verification {
    verify(&recorder.records().expect("readable"), None).expect("readable")
}

/// Records the session with a change, and expects a finding with these words at this position.
fn finds(change: impl FnOnce(&mut Vec<Entry>), position: u64, words: &str) {
    let mut entries = approved_session();
    change(&mut entries);
    let recorder = Recorder::in_memory();
    append(&recorder, &entries);
    expect_finding(&verified(&recorder), Some(position), words);
}

#[track_caller]
fn expect_finding(found: &Verification, position: Option<u64>, words: &str) {
    let hit = found.findings.iter().any(|finding| finding.position == position && finding.what.contains(words));
    assert!(hit, "expected `{words}` at {position:?}, found {:#?}", found.findings);
}

#[test]
fn verify_finds_what_went_through_without_its_approval() {
    finds(|session| drop(session.remove(2)), 6, "never opened");
    finds(|session| drop(session.remove(3)), 6, "with 1 of 2 approvals");
    finds(|session| session[4] = decided(7, true), 7, "with 1 of 2 approvals");
    finds(|session| drop(session.remove(5)), 6, "did not end approved");
    finds(|session| session[5] = closed(Outcome::Expired), 7, "did not end approved");
    finds(|session| session.insert(6, closed(Outcome::Denied)), 7, "ended twice");
    finds(|session| session.insert(7, session[6].clone()), 8, "had released entry 7 already");
    finds(|session| session.insert(6, decided(9, true)), 7, "after it had ended");
    let another = asked("DROP TABLE customers", Decide::Hold);
    finds(|session| session[6] = operated(another, true, Some(REQUEST)), 7, "not what was asked");
    let held = asked("DROP TABLE orders", Decide::Hold);
    finds(|session| session[6] = operated(held, true, None), 7, "without a request");
    let refused = asked("DROP TABLE orders", Decide::Refuse);
    finds(|session| session[6] = operated(refused, true, None), 7, "policy refused it");
}

#[test]
fn a_decision_on_another_digest_is_no_approval() {
    let Body::Decided { request, by, uid, approve, reason, person, proof, terms, .. } = decided(8, true).body else {
        unreachable!()
    };
    let digest = crate::operation::Digest([0; 32]);
    let counts = None;
    let other = entry(Body::Decided { request, by, uid, approve, reason, digest, person, proof, terms, counts });
    finds(|session| session[4] = other.clone(), 5, "for another digest");
    finds(|session| session[4] = other, 7, "with 1 of 2 approvals");
}

/// Records the session on disk, lets somebody with the tools change the store, and answers what verifying finds.
fn tampered(change: impl FnOnce(&Store), against: Option<Head>) -> Verification {
    let dir = TempDir::new().expect("a temporary directory");
    let recorder = Recorder::open(dir.path(), &Options::default()).expect("opens");
    append(&recorder, &approved_session());
    drop(recorder);
    let store = Store::open(dir.path(), &Options::default()).expect("opens");
    change(&store);
    store.sync().expect("synced");
    drop(store);
    verify(&Records::open(dir.path()).expect("opens"), against).expect("readable")
}

fn raw(store: &Store, position: u64) -> Vec<u8> {
    store.fetch::<Entries>(&position).expect("readable").expect("present")
}

fn put(store: &Store, position: u64, value: &[u8]) {
    let mut batch = store.batch();
    batch.put_bytes::<Entries>(&position, value);
    store.write(batch).expect("written");
}

fn delete(store: &Store, position: u64) {
    let mut batch = store.batch();
    batch.delete::<Entries>(&position);
    store.write(batch).expect("written");
}

#[test]
fn verify_finds_an_entry_changed_by_one_bit_anywhere() {
    for position in 1..=8 {
        for place in [1, HEADER - 1, HEADER, HEADER + 12] {
            let flip = |store: &Store| {
                let mut value = raw(store, position);
                let place = place.min(value.len() - 1);
                value[place] ^= 0x40;
                put(store, position, &value);
            };
            let found = tampered(flip, None);
            expect_finding(&found, Some(position), "");
        }
    }
}

#[test]
fn verify_finds_a_changed_entry_with_a_hash_made_anew() {
    let forge = |store: &Store| {
        let mut value = raw(store, 3);
        let before =
            Head { position: 2, hash: crate::operation::Digest(raw(store, 2)[1..HEADER].try_into().expect("a hash")) };
        let last = value.len() - 1;
        value[last] ^= 1;
        before.next(&value[HEADER..]).seal(&mut value);
        put(store, 3, &value);
    };
    expect_finding(&tampered(forge, None), Some(4), "altered, replaced or moved");
}

#[test]
fn verify_finds_missing_moved_and_added_entries() {
    expect_finding(&tampered(|store| delete(store, 4), None), Some(4), "missing");
    let first_two = |store: &Store| {
        delete(store, 1);
        delete(store, 2);
    };
    expect_finding(&tampered(first_two, None), Some(1), "missing, with all up to 2");
    let swap = |store: &Store| {
        let (one, other) = (raw(store, 4), raw(store, 5));
        put(store, 4, &other);
        put(store, 5, &one);
    };
    expect_finding(&tampered(swap, None), Some(4), "altered, replaced or moved");
    let again = |store: &Store| {
        let value = raw(store, 8);
        put(store, 9, &value);
    };
    expect_finding(&tampered(again, None), Some(9), "altered, replaced or moved");
}

#[test]
fn verify_finds_dropped_newest_entries_against_a_head_that_was_kept() {
    let mut kept = None;
    let cut = |store: &Store| {
        kept = Some(super::read::head(store).expect("readable"));
        delete(store, 8);
        let mut batch = store.batch();
        batch.delete::<SessionEntries>(&(SESSION, 8));
        store.write(batch).expect("written");
    };
    assert!(tampered(cut, None).is_whole(), "a shorter record is whole in itself");
    // Each store has its own genesis, so the position alone is what can be compared here.
    let kept = Some(Head { position: 8, ..kept.expect("read before the cut") });
    let found = tampered(|store| delete(store, 8), kept);
    expect_finding(&found, Some(8), "were dropped");
    expect_finding(&tampered(|_| {}, kept), Some(8), "differs from the head that was kept");
}

#[test]
fn verify_finds_an_index_that_hides_an_entry() {
    let hide = |store: &Store| {
        let mut batch = store.batch();
        batch.delete::<SessionEntries>(&(SESSION, 2));
        store.write(batch).expect("written");
    };
    expect_finding(&tampered(hide, None), Some(2), "missing from the index");
    let unlist = |store: &Store| {
        let mut batch = store.batch();
        batch.delete::<Sessions>(&SESSION);
        store.write(batch).expect("written");
    };
    expect_finding(&tampered(unlist, None), Some(1), "missing from the list of sessions");
}

#[tokio::test]
async fn entries_queued_together_keep_their_order_and_whoever_writes_next_writes_them() {
    let recorder = Recorder::in_memory();
    let one = recorder.append(allowed("SELECT 1"), Durability::Written);
    let two = recorder.append(allowed("SELECT 2"), Durability::Written);
    let three = recorder.append_written(allowed("SELECT 3")).expect("written").position();
    let (one, two) = (one.await.expect("written").position(), two.await.expect("written").position());
    assert_eq!((one, two, three), (1, 2, 3));
}

#[tokio::test]
async fn who_was_to_write_and_is_dropped_has_written() {
    let recorder = Recorder::in_memory();
    let first = recorder.append(allowed("SELECT 1"), Durability::Written);
    let second = recorder.append(allowed("SELECT 2"), Durability::Written);
    drop(first);
    assert_eq!(second.await.expect("written").position(), 2);
}

#[tokio::test]
async fn what_is_queued_when_the_record_fails_is_answered_with_the_failure() {
    let recorder = Recorder::in_memory();
    let first = recorder.append(allowed("SELECT 1"), Durability::Written);
    let second = recorder.append(allowed("SELECT 2"), Durability::Written);
    recorder.fail_from_now_on();
    assert!(first.await.is_err() && second.await.is_err());
    assert_eq!(recorder.head().expect("a head").position, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synced_appends_from_many_tasks_all_get_their_receipt() {
    let dir = TempDir::new().expect("a temporary directory");
    let recorder = Recorder::open(dir.path(), &Options::default()).expect("opens");
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let recorder = recorder.clone();
            tokio::spawn(async move {
                let mut positions = Vec::new();
                for turn in 0..20 {
                    let durability = if turn % 3 == 0 { Durability::Written } else { Durability::Synced };
                    let receipt = recorder.append(allowed("SELECT 1"), durability).await.expect("recorded");
                    positions.push(receipt.position());
                }
                positions
            })
        })
        .collect();
    let mut positions = Vec::new();
    for task in tasks {
        positions.extend(task.await.expect("no panic"));
    }
    positions.sort_unstable();
    assert_eq!(positions, (1..=320).collect::<Vec<_>>());
    assert!(verified(&recorder).is_whole());
}

#[test]
fn a_reader_beside_the_writer_sees_what_is_appended() {
    let dir = TempDir::new().expect("a temporary directory");
    let recorder = Recorder::open(dir.path(), &Options::default()).expect("opens");
    append(&recorder, &[connected(), allowed("SELECT 1")]);
    let records = Records::open(dir.path()).expect("opens beside the writer");
    let seen = |records: &Records| records.session(SESSION, 0).collect::<Result<Vec<_>, _>>().expect("readable").len();
    assert_eq!(seen(&records), 2);
    append(&recorder, &[allowed("SELECT 2"), disconnected()]);
    records.refresh().expect("catches up");
    assert_eq!(seen(&records), 4);
    assert!(verify(&records, Some(recorder.head().expect("readable"))).expect("readable").is_whole());
    drop(recorder);
    let offline = Records::open(dir.path()).expect("opens without a writer");
    assert_eq!(offline.entries(1).collect::<Result<Vec<_>, _>>().expect("readable").len(), 4);
}

#[test]
fn a_record_goes_on_where_it_ended() {
    let dir = TempDir::new().expect("a temporary directory");
    for run in 0..3 {
        let recorder = Recorder::open(dir.path(), &Options::default()).expect("opens");
        assert_eq!(recorder.head().expect("readable").position, run * 2);
        append(&recorder, &[allowed("SELECT 1"), allowed("SELECT 2")]);
    }
    let records = Records::open(dir.path()).expect("opens");
    let found = verify(&records, None).expect("readable");
    assert!(found.is_whole() && found.entries == 6, "{found:#?}");
    // Appending is by one process, reading by many.
    let others: Vec<_> = (0..3).map(|_| Records::open(dir.path()).expect("opens")).collect();
    assert!(others.iter().all(|other| other.head().expect("readable") == found.head));
}
