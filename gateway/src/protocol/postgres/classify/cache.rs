//! Remembers what texts meant, so that the hot path does not parse.
//!
//! # Security
//! The key is the exact text with the lexical settings, with one exception that pays for itself with every client that
//! writes its numbers into the text (pgbench sends a new integer each time): in plain data statements, integer
//! constants of up to nine digits are all read as `1`.
//! Such a constant is one token (`ICONST`) whatever its digits, the grammar decides by tokens alone, and nothing that
//! [`super::Classified`] holds for a data statement depends on an integer's value. Zero is no exception: where PostgreSQL
//! minds the value at all (`float(0)`) it refuses the text, which needs no protection.
//! Nothing else is ever folded: letters, quotes, spaces and longer or fractional numbers all keep two texts apart.

use std::{borrow::Cow, sync::Arc};

use quick_cache::{Equivalent, Weighter, sync};

use super::{Classified, Lexical};

/// The cache; as large as its bytes, not its entries.
pub(super) struct Cache(sync::Cache<Key, Arc<Classified>, Weight>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    lexical: Lexical,
    text: Box<[u8]>,
}

#[derive(Hash)]
struct Borrowed<'t> {
    lexical: Lexical,
    text: &'t [u8],
}

impl Equivalent<Key> for Borrowed<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.lexical == key.lexical && *self.text == *key.text
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Arc<Classified>> for Weight {
    /// An estimate: the text, and what was found in it with the pointers and tree nodes around it.
    fn weight(&self, key: &Key, value: &Arc<Classified>) -> u64 {
        let meaning = &value.meaning;
        let names = meaning.objects.len() * 4 + value.reads.columns.len() * 2 + value.statements.len();
        let reasons: usize = meaning.unknown.iter().map(String::len).sum();
        (key.text.len() * 2 + names * 96 + reasons + 2048) as u64
    }
}

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        let entries = (capacity / 4096).max(16);
        Self(sync::Cache::with_weighter(entries, capacity as u64, Weight))
    }

    /// The remembered result for `text`, or what `examine` makes of it.
    pub(super) fn fetch(
        &self,
        text: &[u8],
        lexical: &Lexical,
        examine: impl FnOnce(&[u8]) -> Classified,
    ) -> Arc<Classified> {
        if text.len() > LARGEST_KEPT {
            return Arc::new(examine(text));
        }
        let text = folded(text);
        let borrowed = Borrowed { lexical: *lexical, text: &text };
        if let Some(known) = self.0.get(&borrowed) {
            return known;
        }
        // What is remembered is what the folded text means, so it does not matter whose digits came first.
        let found = Arc::new(examine(&text));
        self.0.insert(Key { lexical: *lexical, text: text.into() }, found.clone());
        found
    }

    /// How many results are remembered.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.0.len()
    }
}

/// Longer texts come once and would push out what comes often. Bytes.
const LARGEST_KEPT: usize = 16 * 1024;

/// Longer texts are not folded. Bytes.
const LARGEST_FOLDED: usize = 4096;

/// `text` with its integer constants read as `1`, where that is safe.
pub(super) fn folded(text: &[u8]) -> Cow<'_, [u8]> {
    if text.len() > LARGEST_FOLDED || !is_data_statement(text) || !is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut folded = Vec::with_capacity(text.len());
    let places = places_from(text);
    let mut rest = 0;
    while let Some(start) = text[rest..].iter().position(u8::is_ascii_digit).map(|found| rest + found) {
        let end = start + text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        folded.extend_from_slice(&text[rest..start]);
        match is_integer(text, start, end) && (start < places || !may_be_place(&text[..start])) {
            true => folded.push(b'1'),
            false => folded.extend_from_slice(&text[start..end]),
        }
        rest = end;
    }
    folded.extend_from_slice(&text[rest..]);
    Cow::Owned(folded)
}

/// Whether the digits from `start` to `end` are an integer constant that fits: no part of a name, a parameter or another number.
fn is_integer(text: &[u8], start: usize, end: usize) -> bool {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$');
    let before = start > 0 && part(text[start - 1]);
    let after = text.get(end).is_some_and(|byte| part(*byte));
    end - start <= 9 && !before && !after
}

/// Where in the text the first `BY` or `ON` ends: integers behind it may be places in the select list.
fn places_from(text: &[u8]) -> usize {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut at = 0;
    for word in text.split(|byte| !is_part(byte)) {
        at += word.len();
        if word.eq_ignore_ascii_case(b"by") || word.eq_ignore_ascii_case(b"on") {
            return at;
        }
        at += 1;
    }
    text.len()
}

/// Whether an integer behind this may be a place, as in `ORDER BY 1, 2`: then it carries meaning.
fn may_be_place(before: &[u8]) -> bool {
    let before = before.trim_ascii_end();
    let ends_with = |word: &[u8]| before.len() >= 2 && before[before.len() - 2..].eq_ignore_ascii_case(word);
    matches!(before.last(), Some(b',' | b'(')) || ends_with(b"by") || ends_with(b"on")
}

/// Whether the text is one statement that begins as a data statement. Others carry integers in what the tracker is told
/// (`SET statement_timeout = 5000`).
fn is_data_statement(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let text = text.strip_suffix(b";").unwrap_or(text);
    let word = text.split(|byte| !byte.is_ascii_alphabetic()).next().unwrap_or_default();
    let known = [&b"select"[..], b"insert", b"update", b"delete", b"with", b"values", b"merge"];
    known.iter().any(|data| word.eq_ignore_ascii_case(data)) && !text.contains(&b';')
}

/// Whether digits in the text can only be numbers or names: no quotes, escapes, parameters or comments, nothing beyond ASCII.
fn is_plain(text: &[u8]) -> bool {
    let clean = |byte: &u8| byte.is_ascii() && !matches!(byte, b'\'' | b'"' | b'$' | b'\\');
    text.iter().all(clean) && !text.windows(2).any(|pair| pair == b"--" || pair == b"/*")
}
