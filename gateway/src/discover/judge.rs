//! Weighing the evidence about one column.
//!
//! A name that says it by itself, values that prove it, or a comment that marks it is enough for a rule in force. Less is
//! a line that a person may uncomment. Values that look like something else speak against a name.

use super::{
    Tally,
    catalog::{Column, Holds, Relation},
    clue::{CLUES, Clue, Says, Words, mark},
};
use crate::mask::{Detector, Method};

/// What is proposed for a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opinion {
    pub(super) with: Method,
    /// Whether the rule should be in force; otherwise a person decides.
    pub(super) sure: bool,
    /// What it is thought to be, and why: our own words and numbers.
    pub(super) why: String,
    /// What masks its values by their looks alone.
    pub(super) covered: Option<Detector>,
}

/// The weight at which a rule is in force.
const ENOUGH: i32 = 3;
/// Of this part of all values, what they look like is what the column is for.
const MOST: f64 = 0.6;
/// From so many values on, that none fits speaks against a name.
const ENOUGH_VALUES: u32 = 20;
/// Values of which hardly any fits: this part.
const HARDLY: f64 = 0.05;
/// Documents of which this part has such a value are a reason to mask them whole.
const HALF: f64 = 0.5;

/// What should happen to a column, if anything.
pub(super) fn column(relation: &Relation, column: &Column, tally: Option<&Tally>) -> Option<Opinion> {
    let names = (Words::of(&column.name), Words::of(&relation.name), Words::of(&column.comment));
    let tally = tally.filter(|tally| tally.values > 0);
    let weighed = CLUES
        .iter()
        .enumerate()
        .filter(|(_, clue)| clue.holds.contains(&column.holds))
        .map(|(at, clue)| weigh(clue, at, &names, tally));
    let best = weighed.chain(marked(&names.2)).fold(None, |best: Option<(i32, Opinion)>, next| match &best {
        Some((weight, _)) if *weight >= next.0 => best,
        _ => Some(next),
    });
    let best = best.filter(|(weight, _)| *weight > 0);
    let in_documents = tally.filter(|_| matches!(column.holds, Holds::Json | Holds::Text)).and_then(documents);
    match (best, in_documents) {
        (Some((weight, best)), Some(documents)) if weight >= ENOUGH || !documents.sure => Some(best),
        (_, Some(documents)) => Some(documents),
        (best, None) => best.map(|(_, opinion)| opinion),
    }
}

fn weigh(
    clue: &'static Clue,
    at: usize,
    (name, relation, comment): &(Words, Words, Words),
    tally: Option<&Tally>,
) -> (i32, Opinion) {
    let mut weight = 0;
    let mut reasons = Vec::new();
    let named = clue.named(name, relation);
    if named > Says::Nothing {
        weight += if named == Says::Sure { ENOUGH } else { 1 };
        reasons.push("name".to_owned());
    }
    if let Some(word) = clue.spoken_of(comment) {
        weight += if named == Says::Maybe { 2 } else { 1 };
        reasons.push(format!("comment says \"{word}\""));
    }
    let mut covered = None;
    if let (Some(tally), Some(looks)) = (tally, clue.looks) {
        let seen = &tally.kinds[at];
        let fitting = if named == Says::Nothing { seen.whole } else { seen.named };
        let part = f64::from(fitting) / f64::from(tally.values);
        let many = fitting >= 3 || fitting == tally.values;
        if let ([only], true) = (looks.detectors, part >= MOST) {
            covered = Some(*only);
        }
        weight += match (part >= MOST && many, looks.proof) {
            (true, true) => ENOUGH,
            (true, false) => 2,
            (false, true) if part >= HARDLY => 1,
            _ if looks.every && part < HARDLY && tally.values >= ENOUGH_VALUES && tally.documents == 0 => -2,
            _ => 0,
        };
        if fitting > 0 || !reasons.is_empty() {
            reasons.push(format!("{fitting} of {} sampled values look like it", tally.values));
        }
    }
    if let Some(word) = mark(comment) {
        weight += if weight > 0 { ENOUGH } else { 0 };
        reasons.push(format!("comment says \"{word}\""));
    }
    let why = format!("{}: {}", clue.many, reasons.join("; "));
    (weight, Opinion { with: clue.with, sure: weight >= ENOUGH, why, covered })
}

/// What a comment marks, whatever it is.
fn marked(comment: &Words) -> Option<(i32, Opinion)> {
    let word = mark(comment)?;
    let why = format!("comment says \"{word}\"");
    Some((ENOUGH, Opinion { with: Method::Redact, sure: true, why, covered: None }))
}

/// Documents with something in them that detectors may not find: only the whole can be masked.
fn documents(tally: &Tally) -> Option<Opinion> {
    let is_found = |clue: &Clue| clue.looks.is_some_and(|looks| !looks.detectors.is_empty() && looks.every);
    let found: Vec<_> =
        tally.kinds.iter().zip(&CLUES).filter(|(seen, clue)| seen.under_name > 0 && !is_found(clue)).collect();
    let most = found.iter().map(|(seen, _)| seen.under_name).max()?;
    let each: Vec<_> = found.iter().map(|(seen, clue)| format!("{} in {}", clue.many, seen.under_name)).collect();
    let sure = most >= 3 && f64::from(most) >= HALF * f64::from(tally.values);
    let why = format!("of {} sampled documents, by the names inside: {}", tally.documents, each.join(", "));
    Some(Opinion { with: Method::Redact, sure, why, covered: None })
}
