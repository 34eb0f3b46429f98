//! The lists as people and programs get them.

use clap::Parser;

use super::*;
use crate::record::{
    Recorder,
    entry::{Entry, Outcome},
    samples,
};

fn recorded() -> Records {
    let held = samples::asked("DROP TABLE\n  orders -- \u{202e}x", Decide::Hold);
    let entries: [Entry; 7] = [
        samples::connected(),
        samples::allowed("SELECT 1"),
        samples::requested(held.clone(), 1),
        samples::decided(7, false),
        samples::closed(Outcome::Denied),
        samples::operated(held, false, Some(samples::REQUEST)),
        samples::disconnected(),
    ];
    let recorder = Recorder::in_memory();
    for (number, mut entry) in entries.into_iter().enumerate() {
        entry.at.0 += number as u64 * 2_000_000_000;
        let _ = recorder.append_written(entry).expect("written");
    }
    recorder.records().expect("readable")
}

fn printed(print: impl FnOnce(&mut Vec<u8>) -> anyhow::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).expect("printed");
    let text = String::from_utf8(out).expect("text");
    assert!(!text.contains('\u{202e}'), "{text}");
    text
}

fn filter(typed: &[&str]) -> Filter {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        filter: Filter,
    }
    Cli::parse_from([&["list"], typed].concat()).filter
}

fn words(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect()
}

#[test]
fn the_store_may_be_named_before_or_after_the_command() {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }
    for typed in [["sessions", "list", "--store", "/somewhere"], ["sessions", "--store", "/somewhere", "list"]] {
        assert_eq!(Cli::parse_from(typed).args.store.dir(), std::path::Path::new("/somewhere"));
    }
}

#[test]
fn the_list_counts_each_session() {
    let records = recorded();
    let listed = |typed: &[&str]| printed(|out| list(&records, &filter(typed), Output::Table, out));
    let all = listed(&[]);
    let row = words(all.lines().nth(1).expect("one session"));
    assert_eq!(row, ["11111111", "2025-11-24 16:00:00Z", "12.0 s", "nightly", "orders-db", "2", "1", "1"]);
    assert_eq!(listed(&["--workload", "night*", "--since", "2025-11-24"]), all);
    for nothing in [["--workload", "ci-*"], ["--resource", "billing"], ["--since", "1h"]] {
        assert_eq!(listed(&nothing), "no session matches\n");
    }
    let error = filter(&["--since", "yesterday"]).matcher().err().expect("no moment").to_string();
    assert!(error.contains("neither a time span (`2h`) nor a moment"), "{error}");
}

#[test]
fn a5_a_session_is_shown_with_facts_and_verdicts() {
    let records = recorded();
    let shown = printed(|out| show(&records, samples::SESSION, Output::Table, out));
    for part in [
        "process     psql (pid 77, user bot)",
        "executable  /usr/bin/psql (sha256 4444",
        "to          orders-db at 127.0.0.1:5432 (postgres)",
        "allowed by reads",
        "held by reads: denied by user 7 after 4.0 s",
        "DROP TABLE orders -- \\u{202e}x",
        "the client hung up",
    ] {
        assert!(shown.contains(part), "no `{part}` in\n{shown}");
    }
}

#[test]
fn search_finds_statements_and_objects() {
    let records = recorded();
    let found = |text: &str, output| printed(|out| search(&records, text, &filter(&[]), output, out));
    assert_eq!(found("drop table", Output::Table).lines().count(), 2);
    assert_eq!(found("PUBLIC.orders", Output::Table).lines().count(), 3);
    assert_eq!(found("nothing", Output::Table), "no operation mentions `nothing`\n");
    let json = found("drop", Output::Json);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["position"], 6);
    assert_eq!(json[0]["time"], "2025-11-24T16:00:10Z");
    assert_eq!(json[0]["body"]["forwarded"], false);
}
