//! No secret in any byte that reached a client: every channel of PostgreSQL, by real clients, with the bytes on the
//! client's own socket as the witness.
//!
//! Each channel runs twice, past the gateway and through it. Past it each must bring a secret to the client, which
//! shows that the channel is one and that the search finds what there is to find; through it none may.

use std::{collections::BTreeMap, time::Duration};

use tests::{Lab, Outcome, Postgres, Rules, Running, venv};

/// Everything is allowed here, even what cannot be seen through: what is tested is what masks do with what policy lets
/// pass.
fn lab() -> (Lab, Postgres) {
    venv();
    let lab = Lab::new("canaries");
    let pg = Postgres::start(&lab);
    pg.admin(VAULT);
    let rules = Rules::allowing().policy(EVERYTHING);
    let mask = |(column, with)| format!("  - {{ column: \"public.{column}\", with: {with} }}\n");
    let masks: String = COLUMNS.map(mask).concat();
    let resource = rules.resource(pg.port()).replacen("mask:\n", &format!("mask:\n{masks}"), 1);
    lab.policies(&resource, &rules.policies());
    lab.start();
    (lab, pg)
}

/// A secret in one of its forms.
struct Pattern {
    name: String,
    bytes: Vec<u8>,
}

fn patterns(pg: &Postgres) -> Vec<Pattern> {
    let rows = pg.admin(PATTERNS);
    let pattern = |row: &str| {
        let (name, hex) = row.rsplit_once('|').expect("three columns");
        Pattern { name: name.to_owned(), bytes: unhex(hex) }
    };
    rows.lines().map(pattern).collect()
}

/// What each channel's client heard and said.
fn heard(said: &Outcome) -> BTreeMap<String, Vec<u8>> {
    assert!(said.stdout.contains("all done"), "{said}");
    let mut heard: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for line in said.stdout.lines() {
        let Some((what, hex)) = line.split_once('\t') else { continue };
        let (_, channel) = what.split_once(' ').expect("bytes or said, then the channel");
        heard.entry(channel.to_owned()).or_default().extend(unhex(hex));
    }
    heard
}

/// The names of the secrets in `bytes`.
fn found<'a>(patterns: &'a [Pattern], bytes: &[u8]) -> Vec<&'a str> {
    let is_in = |pattern: &&Pattern| bytes.windows(pattern.bytes.len()).any(|window| window == pattern.bytes);
    patterns.iter().filter(is_in).map(|pattern| pattern.name.as_str()).collect()
}

#[test]
fn p15_v16_no_canary_reaches_a_client_by_any_channel() {
    let (lab, pg) = lab();
    let patterns = patterns(&pg);
    assert!(patterns.iter().all(|pattern| pattern.bytes.len() >= 6), "too short to be told from chance");
    let python = lab.path("venv/bin/python").display().to_string();

    let mut past = Running::start(&mut lab.command(&[&python, "-u", "-c", CLIENTS, &pg.url()]));
    past.write(CHANNELS);
    let past = heard(&past.finish(LIMIT).ok());
    let silent: Vec<_> = past.iter().filter(|(_, bytes)| found(&patterns, bytes).is_empty()).collect();
    let silent: Vec<_> =
        silent.iter().map(|(channel, bytes)| format!("{channel}: {}", String::from_utf8_lossy(bytes))).collect();
    assert!(silent.is_empty(), "these channels bring nothing even past the gateway:\n{}", silent.join("\n"));
    assert!(past.len() >= 75, "only {} channels", past.len());

    let mut through = lab.bot("ci").start_python(CLIENTS, &pg.url());
    through.write(CHANNELS);
    let through = heard(&through.finish(LIMIT).ok());
    assert!(past.keys().eq(through.keys()), "not the same channels");
    let leaks = through.iter().map(|(channel, bytes)| (channel, found(&patterns, bytes), bytes));
    let leaks: Vec<_> = leaks
        .filter(|(_, found, _)| !found.is_empty())
        .map(|(channel, found, bytes)| format!("{channel}: {found:?} in {}", String::from_utf8_lossy(bytes)))
        .collect();
    assert!(leaks.is_empty(), "secrets reached a client:\n{}", leaks.join("\n"));
    assert!(through["columns"].windows(4).any(|window| window == b"open"), "what is no secret comes through");
    let record = lab.record();
    let texts = patterns.iter().filter_map(|pattern| Some((&pattern.name, str::from_utf8(&pattern.bytes).ok()?)));
    let kept: Vec<_> = texts.filter(|(_, text)| record.contains(text)).collect();
    assert!(kept.is_empty(), "the record holds secrets: {kept:?}");
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits a byte");
    (0..hex.len() / 2).map(|index| digit(index * 2)).collect()
}

/// The secret columns and what stands in their place.
const COLUMNS: [(&str, &str); 13] = [
    ("vault.secret", "redact"),
    ("vault.code", "redact"),
    ("vault.uid", "redact"),
    ("vault.raw", "redact"),
    ("vault.doc", "redact"),
    ("vault.tags", "redact"),
    ("vault.who", "\"null\""),
    ("vault.others", "redact"),
    ("vault.born", "redact"),
    ("vault.amount", "\"null\""),
    ("ledger.secret", "redact"),
    ("parts.secret", "redact"),
    ("wide.secret", "redact"),
];

const EVERYTHING: &str = "policy: everything
match:
  resource: shop
  effects: [read, write, delete, schema, privilege, execute, session, transfer, admin, reveal, unknown]
decide: allow
";

const VAULT: &str = include_str!("canaries/vault.sql");
const PATTERNS: &str = include_str!("canaries/patterns.sql");
const CHANNELS: &str = include_str!("canaries/channels.sql");
const CLIENTS: &str = include_str!("canaries/clients.py");

/// Some hundred connections on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
