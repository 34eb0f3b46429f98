//! A replayed session, line by line.

use bytes::Bytes;

use super::*;
use crate::record::{
    Recorder,
    entry::{Entry, Outcome},
    samples,
};

struct Upper;

impl Renderer for Upper {
    fn response(&mut self, wire: &[u8]) -> Vec<String> {
        vec![visible(wire).to_uppercase()]
    }
}

fn replayed(entries: &[Entry], options: &[&str]) -> String {
    let recorder = Recorder::in_memory();
    for (number, entry) in entries.iter().enumerate() {
        let mut entry = entry.clone();
        entry.at.0 += number as u64 * 1_500_000_000;
        let _ = recorder.append_written(entry).expect("written");
    }
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }
    let typed = ["replay", "session", "--no-wait"].iter().chain(options);
    let args = <Cli as clap::Parser>::parse_from(typed).args;
    let renderers = |_: &ProtocolName| Some(Box::new(Upper) as Box<dyn Renderer>);
    let records = recorder.records().expect("readable");
    let mut player =
        Player { records: &records, renderers: &renderers, renderer: None, first: None, last: None, args: &args };
    let mut out = Vec::new();
    for recorded in records.session(samples::SESSION, 0) {
        player.play(&recorded.expect("readable"), &mut out).expect("played");
    }
    String::from_utf8(out).expect("text")
}

fn held_session() -> Vec<Entry> {
    let held = samples::asked("DROP TABLE\n\torders -- \u{202e}x\x1b[2K", Decide::Hold);
    let response = Body::Response { of: None, wire: Bytes::from_static(b"done\x07"), masked: 1 };
    vec![
        samples::connected(),
        samples::requested(held.clone(), 1),
        samples::decided(7, true),
        samples::closed(Outcome::Approved),
        samples::operated(held, true, Some(samples::REQUEST)),
        samples::entry(response),
        samples::disconnected(),
    ]
}

#[test]
fn a5_a_held_operation_is_told_from_request_to_release() {
    let told = replayed(&held_session(), &[]);
    for line in [
        "     +0.000  connected at 2025-11-24 16:00:00Z",
        "             workload    nightly (/guarded/nightly)",
        "     +1.500  > DROP TABLE",
        "             >     orders -- \\u{202e}x\\x1b[2K",
        "             !! the statement has terminal escape sequences",
        "             -- HELD by reads: reading is fine [read]",
        "             -- request 33333333 wants 1 of group dba, user ada after 1s 500ms, with a reason, within 15m",
        "     +3.000  -- approved by user 7 (uid 7): looks right",
        "     +4.500  -- request 33333333 ended: approved by user 7 after 3.0 s",
        "             -- released, held by reads, request 33333333 [read]",
        "     +7.500  < DONE\\X07",
        "             -- 1 value masked",
        "     +9.000  -- disconnected after 9.0 s: the client hung up",
    ] {
        assert!(told.lines().any(|told| told == line), "no line `{line}` in\n{told}");
    }
    assert!(!told.chars().any(|c| c.is_control() && c != '\n'));
}

#[test]
fn a5_json_is_one_ascii_line_an_entry() {
    let told = replayed(&held_session(), &["-o", "json"]);
    assert!(told.is_ascii());
    let entries: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).expect("one JSON value a line")).collect();
    assert_eq!(entries.len(), 7);
    assert_eq!(entries[1]["body"]["type"], "requested");
    assert_eq!(entries[1]["body"]["asked"]["text"], "DROP TABLE\n\torders -- \u{202e}x\u{1b}[2K");
    assert_eq!(entries[5]["rendered"][0], "DONE\\X07");
}
