//! What a statement does on a real server against what the classifier says it does.
//!
//! The corpus (`tests/corpus/effects/*.sql`) states for each statement the effects and objects that the classifier must
//! find. Each statement then runs, in a transaction that is rolled back or in a database of its own, and witnesses that
//! the classifier knows nothing of (row statistics, contents, event triggers, catalogs, locks, settings, files, other
//! sessions) tell what happened: nothing may have happened that the effects do not say.
//!
//! A statement that does more and whose entry says so (`beyond:`) is a known limit: the test fails when it no longer
//! does more, so the list cannot grow stale.

mod corpus;
mod costs;
mod facts;
mod stage;
mod subject;

use std::fmt::Write as _;

use corpus::{Claim, Entry};
use facts::Fact;
use holdpoint::operation::{Effect, Effects};
use stage::Stage;

#[test]
fn the_classifier_finds_what_the_corpus_says() {
    let mut wrong = String::new();
    let entries = corpus::entries();
    for entry in &entries {
        let claim = entry.claim(None);
        let missing: Vec<_> =
            entry.objects.iter().filter(|object| !claim.objects.iter().any(|found| found == *object)).collect();
        if claim.effects != entry.effects || !missing.is_empty() {
            let (effects, objects, why) = (claim.effects, &claim.objects, &claim.unknown);
            writeln!(wrong, "{entry}\n    expected {}\n    found    {effects} {objects:?} {why:?}", entry.effects)
                .expect("a String takes all");
        }
        if claim.effects.contains(Effect::Unknown) && claim.unknown.is_empty() {
            writeln!(wrong, "{entry}\n    is unknown without a reason").expect("a String takes all");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(entries.len() >= LEAST, "the corpus has only {} statements", entries.len());
}

/// So many are there, and none gets lost.
const LEAST: usize = 550;

#[test]
fn no_statement_does_more_than_its_effects_say() {
    let stage = Stage::set("effects");
    let code = stage.code();
    let mut wrong = String::new();
    let mut caught: Vec<(Effect, usize)> = Effect::ALL.into_iter().map(|effect| (effect, 0)).collect();
    for entry in corpus::entries() {
        let seen = stage.perform(&entry);
        let claim = entry.claim(None);
        let by_catalog = entry.claim(Some(&code));
        let expected = entry.inside.unwrap_or(entry.effects);
        if by_catalog.effects != expected {
            let (found, why) = (by_catalog.effects, &by_catalog.unknown);
            writeln!(
                wrong,
                "{entry}
    by the catalog expected {expected}
    found {found} {why:?}"
            )
            .expect("a String takes all");
        }
        let ran = match (&seen.error, entry.fails) {
            (Some(error), false) => format!("did not run: {error}"),
            (None, true) => "ran, although its entry says that it fails".to_owned(),
            _ => String::new(),
        };
        let all: Vec<&Fact> = seen.facts.iter().collect();
        let deeds: Vec<&Fact> = seen.facts.iter().filter(|fact| !fact.is_code()).collect();
        let lines =
            [ran, excess(&claim, &all, &entry.beyond, "beyond"), excess(&by_catalog, &deeds, &entry.still, "still")];
        for line in lines.iter().filter(|line| !line.is_empty()) {
            writeln!(
                wrong,
                "{entry}
    {line}"
            )
            .expect("a String takes all");
        }
        let tables = claim.tables();
        for (effect, count) in &mut caught {
            let without: Effects = claim.effects.iter().filter(|one| one != effect).collect();
            let noticed = claim.effects.contains(*effect) && !claim.effects.contains(Effect::Unknown);
            *count += usize::from(noticed && seen.facts.iter().any(|fact| fact.exceeds(without, &tables)));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    // The witnesses are not blind: a claim that leaves this effect out would have been noticed so many times.
    println!("claims that would be caught, by the effect left out: {caught:?}");
    for (effect, least) in BLIND_BELOW {
        let count = caught.iter().find(|(one, _)| one == effect).map_or(0, |(_, count)| *count);
        assert!(count >= *least, "only {count} statements would show that `{effect}` is missing: {caught:?}");
    }
}

/// What is wrong with a claim, in view of what was seen; empty when nothing is.
fn excess(claim: &Claim, seen: &[&Fact], known: &Option<String>, option: &str) -> String {
    let tables = claim.tables();
    let excess: Vec<_> = seen.iter().filter(|fact| fact.exceeds(claim.effects, &tables)).collect();
    match (known, excess.is_empty()) {
        (None, false) => format!("did more than {}: {excess:?} ({option})", claim.effects),
        (Some(_), true) => format!("does no more than {}: its `{option}` can go", claim.effects),
        _ => String::new(),
    }
}

/// How many statements must show each effect so clearly that leaving it out of the claim would fail the test.
const BLIND_BELOW: &[(Effect, usize)] = &[
    (Effect::Read, 100),
    (Effect::Write, 50),
    (Effect::Delete, 60),
    (Effect::Schema, 80),
    (Effect::Privilege, 40),
    (Effect::Session, 30),
    (Effect::Transfer, 12),
    (Effect::Admin, 30),
];

#[test]
fn a_wrong_claim_is_caught() {
    let stage = Stage::set("effects-lie");
    for (text, lie) in LIES {
        let entry = Entry::bare(text);
        let seen = stage.perform(&entry);
        assert_eq!(seen.error, None, "{text}");
        let lie: Effects = lie.iter().copied().collect();
        assert!(
            seen.facts.iter().any(|fact| fact.exceeds(lie, &["t", "u", "log", "archive"])),
            "{text}: {:?}",
            seen.facts
        );
        let honest = entry.claim(None).effects;
        assert!(
            !seen.facts.iter().any(|fact| fact.exceeds(honest, &["t", "u", "log", "archive"])),
            "{text}: {:?}",
            seen.facts
        );
    }
    let named = stage.perform(&Entry::bare("UPDATE t SET total = 9"));
    let claim = Effects::of(Effect::Write);
    assert!(named.facts.iter().any(|fact| fact.exceeds(claim, &["u"])), "a table that is not named goes unnoticed");
}

/// Statements with claims that are too small.
const LIES: &[(&str, &[Effect])] = &[
    ("DELETE FROM u WHERE id = 1", &[Effect::Read, Effect::Write]),
    ("UPDATE t SET total = 9 WHERE id = 1", &[Effect::Read]),
    ("INSERT INTO log VALUES ('x')", &[Effect::Read]),
    ("WITH d AS (DELETE FROM u RETURNING *) SELECT count(*) FROM d", &[Effect::Read]),
    ("TRUNCATE log", &[Effect::Write]),
    ("CREATE TABLE made (id int)", &[Effect::Read, Effect::Write]),
    ("DROP TABLE archive", &[Effect::Schema]),
    ("GRANT SELECT ON t TO clerk", &[Effect::Schema]),
    ("SET ROLE clerk", &[Effect::Session]),
    ("SET search_path = evil", &[Effect::Read]),
    ("SELECT nextval('s')", &[Effect::Read]),
    ("SELECT pg_advisory_lock(7)", &[Effect::Read]),
    ("SELECT pg_terminate_backend({victim})", &[Effect::Read]),
    ("SELECT id FROM t", &[Effect::Write]),
    ("COPY t TO '{dir}/out/lie'", &[Effect::Read]),
    ("VACUUM FULL t", &[Effect::Read]),
    ("ALTER SYSTEM SET work_mem = '5MB'", &[Effect::Session]),
];
