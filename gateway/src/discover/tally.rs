//! Counting what sampled values look like. The values themselves are not kept.
//!
//! # Security
//! *Invariant:* a [`Tally`] is numbers. Keys of documents are data too: they are compared with our own words and dropped.

use std::sync::LazyLock;

use serde_json::Value;

use super::clue::{CLUES, COUNT, Words};
use crate::mask::{Detector, Detectors, Method};

/// The most leaves of one document that are looked at.
const MOST_LEAVES: usize = 500;

/// What a column's sampled values look like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there were, NULLs and empty ones left out.
    pub(super) values: u32,
    /// How many were documents.
    pub(super) documents: u32,
    /// For each kind, how many looked like it.
    pub(super) kinds: [Seen; COUNT],
    /// For each detector, in how many values it found something that is not the whole of it.
    pub(super) inside: [u32; Detector::ALL.len()],
}

/// How many values look like one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whole values.
    pub(super) whole: u32,
    /// Whole values, where the column's name says what they are.
    pub(super) named: u32,
    /// Documents that have a value under a name of this kind.
    pub(super) under_name: u32,
}

/// One detector each: in all.
static SINGLE: LazyLock<[Detectors; Detector::ALL.len()]> =
    LazyLock::new(|| Detector::ALL.map(|detector| Detectors::new(&[detector], Method::Redact)));

impl Tally {
    /// Counts a value in its text form.
    pub fn add(&mut self, value: &str) {
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        self.values += 1;
        let document = value.starts_with(['{', '[']).then(|| serde_json::from_str::<Value>(value).ok()).flatten();
        for detector in Detector::ALL {
            let single = &SINGLE[detector as usize];
            if single.hit(value.as_bytes()) && !single.is_all_of(value.as_bytes()) {
                self.inside[detector as usize] += 1;
            }
        }
        if let Some(document) = document {
            self.documents += 1;
            let mut under_name = [false; COUNT];
            walk(&document, &mut { MOST_LEAVES }, &mut under_name);
            for (seen, found) in self.kinds.iter_mut().zip(under_name) {
                seen.under_name += u32::from(found);
            }
            return;
        }
        for (seen, clue) in self.kinds.iter_mut().zip(&CLUES) {
            let Some(looks) = clue.looks else { continue };
            let detected =
                looks.detectors.iter().any(|detector| SINGLE[*detector as usize].is_all_of(value.as_bytes()));
            seen.whole += u32::from(detected || (looks.fits)(value));
            seen.named += u32::from(detected || (looks.fits_named)(value));
        }
    }
}

/// Marks each kind that a key of the document is named for, with something under it.
fn walk(value: &Value, left: &mut usize, under_name: &mut [bool; COUNT]) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                if *left == 0 {
                    return;
                }
                *left -= 1;
                if has_content(value) {
                    let words = Words::of(key);
                    for (found, clue) in under_name.iter_mut().zip(&CLUES) {
                        *found |= clue.any_sure(&words);
                    }
                }
                walk(value, left, under_name);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| walk(value, left, under_name)),
        _ => {}
    }
}

fn has_content(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        Value::Array(values) => values.iter().any(has_content),
        Value::Null | Value::Bool(_) | Value::Object(_) => false,
    }
}
