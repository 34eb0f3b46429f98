//! What classifying costs: by the text alone and by the catalog, for what is new and for what is known.
//!
//! A measurement; `cargo xtask bench classify` runs it.
//!
//! *New* is the dearest that a statement can be: nothing is in the cache, and no function's body has been read.
//! *Known* is what nearly every statement is: the text is in the cache (with other numbers, where pgbench writes them
//! into it), the bodies have been read, and what stands behind the names is put together again, which is not cached.

use std::{hint::black_box, sync::Arc, time::Instant};

use holdpoint::protocol::postgres::{
    classify::{Classifier, Lexical},
    code::Code,
};

use crate::{
    corpus::{self, Entry},
    stage::{self, Stage},
};

#[test]
#[ignore = "a measurement: `cargo xtask bench classify`"]
fn what_classifying_costs() {
    let stage = Stage::set("effects-costs");
    let asked = Instant::now();
    let rows = stage.lookup();
    let answered = asked.elapsed();
    let code = stage::read(&rows);
    let (functions, operators, relations) = code.size();
    println!(
        "\nthe catalog, asked and read once a minute: {functions} functions, {operators} operators and {relations} relations that matter,"
    );
    println!("{:.1} ms until the answer, {:.0} µs to read it", answered.as_secs_f64() * 1e3, reading(&rows));

    let corpus: Vec<Subject> = corpus::entries().into_iter().map(Subject::of_the_corpus).collect();
    let pgbench: Vec<Subject> = PGBENCH.iter().map(|text| Subject::of_pgbench(text)).collect();
    let corpus_costs = costs(&corpus, &rows, &code);
    let pgbench_costs = costs(&pgbench, &rows, &code);
    println!(
        "\n{} statements of the corpus, µs    {:>9} {:>9} {:>9} {:>9}",
        corpus.len(),
        "p50",
        "p99",
        "most",
        "mean"
    );
    for (name, cost) in WHAT {
        let mut all: Vec<f64> = corpus_costs.iter().map(cost).collect();
        all.sort_by(f64::total_cmp);
        let at = |share: usize| all[(all.len() - 1) * share / 100];
        let mean = all.iter().sum::<f64>() / float(all.len());
        println!("{name:<34} {:>9.2} {:>9.2} {:>9.2} {mean:>9.2}", at(50), at(99), at(100));
    }
    println!("\nstatements of pgbench, µs\n{:>9} {:>9} {:>9} {:>9}", "text new", "known", "catalog", "read");
    for (text, cost) in PGBENCH.iter().zip(&pgbench_costs) {
        let [text_new, text_known, catalog_new, catalog_known] = WHAT.map(|(_, of)| of(cost));
        println!("{text_new:>9.2} {text_known:>9.2} {catalog_new:>9.2} {catalog_known:>9.2}  {text}");
    }
}

/// What `pgbench` sends, simple and prepared; `{n}` is another number each time.
const PGBENCH: [&str; 9] = [
    "BEGIN;",
    "UPDATE pgbench_accounts SET abalance = abalance + {n} WHERE aid = {n};",
    "SELECT abalance FROM pgbench_accounts WHERE aid = {n};",
    "UPDATE pgbench_tellers SET tbalance = tbalance + {n} WHERE tid = {n};",
    "UPDATE pgbench_branches SET bbalance = bbalance + {n} WHERE bid = {n};",
    "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ({n}, {n}, {n}, {n}, CURRENT_TIMESTAMP);",
    "END;",
    "SELECT abalance FROM pgbench_accounts WHERE aid = $1;",
    "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2;",
];

/// A statement to be measured.
struct Subject {
    entry: Entry,
    lexical: Lexical,
    /// As it comes again and again.
    texts: Vec<String>,
}

impl Subject {
    fn of_the_corpus(entry: Entry) -> Self {
        Self { lexical: entry.lexical(), texts: vec![entry.neutral()], entry }
    }

    fn of_pgbench(text: &str) -> Self {
        let texts = (1..=TIMES).map(|n| text.replace("{n}", &(n * 997).to_string())).collect();
        Self { entry: Entry::bare(text), lexical: Lexical::default(), texts }
    }
}

/// Times of one statement, µs.
#[derive(Default)]
struct Cost {
    text_new: f64,
    text_known: f64,
    /// On top of the text.
    catalog_new: f64,
    catalog_known: f64,
}

const WHAT: [(&str, fn(&Cost) -> f64); 4] = [
    ("text, new", |cost| cost.text_new),
    ("text, known", |cost| cost.text_known),
    ("catalog on top, bodies not read", |cost| cost.catalog_new),
    ("catalog on top, bodies read", |cost| cost.catalog_known),
];

/// How often everything is measured; medians count.
const ROUNDS: usize = 9;

/// How often what is known is measured in a round, since one time is too short for the clock.
const TIMES: usize = 100;

fn costs(subjects: &[Subject], rows: &[Vec<u8>], code: &Code) -> Vec<Cost> {
    let mut rounds: Vec<Vec<Cost>> = subjects.iter().map(|_| Vec::new()).collect();
    // All are known to this one, as to a gateway that has been up for a while.
    let warm = Classifier::new(64 << 20);
    for subject in subjects {
        warm.classify(subject.texts[0].as_bytes(), &subject.lexical);
    }
    for _ in 0..ROUNDS {
        for (subject, costs) in subjects.iter().zip(&mut rounds) {
            let (text_new, catalog_new) = new(subject, rows);
            let (text_known, catalog_known) = known(subject, &warm, code);
            costs.push(Cost { text_new, text_known, catalog_new, catalog_known });
        }
    }
    let median = |costs: &[Cost], of: fn(&Cost) -> f64| {
        let mut all: Vec<f64> = costs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let [a, b, c, d] = WHAT.map(|(_, of)| of);
    let middle = |costs: &Vec<Cost>| Cost {
        text_new: median(costs, a),
        text_known: median(costs, b),
        catalog_new: median(costs, c),
        catalog_known: median(costs, d),
    };
    rounds.iter().map(middle).collect()
}

fn new(subject: &Subject, rows: &[Vec<u8>]) -> (f64, f64) {
    let (classifier, code) = (Classifier::new(8 << 20), stage::read(rows));
    let names = subject.entry.known(&classifier);
    let (classified, text) = timed(|| classifier.classify(subject.texts[0].as_bytes(), &subject.lexical));
    let sense = names.resolve(&classified);
    let (_, catalog) = timed(|| code.see_through(&sense, &classified, true, &classifier));
    (text, catalog)
}

fn known(subject: &Subject, warm: &Classifier, code: &Code) -> (f64, f64) {
    let names = subject.entry.known(warm);
    let classified = warm.classify(subject.texts[0].as_bytes(), &subject.lexical);
    let ((), text) = timed(|| {
        for text in subject.texts.iter().cycle().take(TIMES) {
            let again = warm.classify(text.as_bytes(), &subject.lexical);
            assert!(Arc::ptr_eq(&again, &classified), "{} was not known", subject.entry);
            black_box(again);
        }
    });
    let sense = names.resolve(&classified);
    code.see_through(&sense, &classified, true, warm);
    let ((), catalog) = timed(|| {
        (0..TIMES).for_each(|_| drop(black_box(code.see_through(&sense, &classified, true, warm))));
    });
    (text / float(TIMES), catalog / float(TIMES))
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("few"))
}

/// How long the rows of a lookup take to be read, µs.
fn reading(rows: &[Vec<u8>]) -> f64 {
    (0..ROUNDS).map(|_| timed(|| stage::read(rows)).1).fold(f64::INFINITY, f64::min)
}

/// What `work` gives, and how long it takes, µs.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let began = Instant::now();
    let done = black_box(work());
    (done, began.elapsed().as_secs_f64() * 1e6)
}
