//! One door: [`effects`] says what a text does; the corpus under `tests/corpus` goes through it line by line.

use std::{collections::BTreeSet, fmt::Write as _, thread, time::Instant};

use pg_query::NodeRef;
use proptest::prelude::*;

use super::*;

const CORPUS: &str = include_str!("../../../../../tests/corpus/postgres-effects.txt");

fn look(text: &str) -> Classified {
    examine(text.as_bytes(), &Lexical::default())
}

fn effects(text: &str) -> String {
    look(text).meaning.effects.to_string()
}

fn objects(text: &str) -> Vec<String> {
    look(text).meaning.objects.iter().map(ToString::to_string).collect()
}

fn field(text: &str, name: &str) -> Value {
    look(text).meaning.fields[name].clone()
}

struct Line<'c> {
    id: &'c str,
    lexical: Lexical,
    expected: Effects,
    text: String,
}

fn corpus() -> impl Iterator<Item = Line<'static>> {
    CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let mut parts = line.splitn(3, '|');
        let mut next = || parts.next().expect("a corpus line has three parts").trim();
        let (head, expected, text) = (next(), next(), next());
        let mut words = head.split(' ');
        let id = words.next().expect("split yields one item at least");
        let lexical = Lexical { standard_conforming_strings: words.next() != Some("off"), utf8: true };
        let words = expected.split(',').map(str::trim).filter(|word| *word != "none");
        let expected = words.map(|word| word.parse::<Effect>().expect("the corpus names effects")).collect();
        Line { id, lexical, expected, text: text.replace("\\n", "\n") }
    })
}

#[test]
fn corpus_has_the_expected_effects() {
    let mut wrong = String::new();
    let mut count = 0;
    for Line { id, lexical, expected, text } in corpus() {
        count += 1;
        let found = examine(text.as_bytes(), &lexical).meaning;
        if found.effects != expected {
            writeln!(wrong, "{id}: {text}\n    expected {expected}\n    found    {} {:?}", found.effects, found.unknown)
                .expect("a String takes all");
        }
    }
    assert!(count >= 250, "the corpus has only {count} lines");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn zz_clients() {
    let Ok(text) = std::fs::read_to_string("/tmp/clients.json") else { return };
    let all: Vec<String> = serde_json::from_str(&text).expect("json");
    for sql in all {
        let meaning = look(&sql).meaning;
        if meaning.effects != Effects::of(Effect::Read) {
            println!("{} {:?}\n      {}", meaning.effects, meaning.unknown, &sql.replace('\n', " ").chars().take(300).collect::<String>());
        }
    }
}
