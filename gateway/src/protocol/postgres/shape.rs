//! The shape of a statement, for grants: the same text but for its literals, in a session with the same past.
//!
//! # Security
//! `pg_query`'s fingerprint alone is no shape. It gives one name to `DELETE FROM a.orders o` and `DELETE FROM b.users o`,
//! to `orders_01` and `orders_99`, and to lists in another order. So it is only the name that people see; the form is
//! every token of the text in order, the literals aside, and the literals are values.
//!
//! What the state does not name can change what a text means as well (`datestyle`, a setting that a row policy reads, a
//! temporary table), so what changed the session is part of the form: see [`History`]. So are the definitions of the
//! code behind its names. There is no shape where two that look alike could differ: names that stand for other
//! statements, COPY data, several statements, a portal or a statement from before the session's last change, a reading
//! that depends on what is still unanswered, and whatever the gateway cannot see through.

use std::sync::Arc;

use bytes::Bytes;
use pg_query::{FingerprintOptions, ParserOptions, protobuf::Token};

use super::{classify::Statement, dialect::PostgresDialect, pending::What, portal::Portal};
use crate::operation::{Digest, Effect, Effects, Operation, Parameter, Shape};

impl PostgresDialect {
    /// The shape of what was just submitted.
    pub(super) fn shape_of(&self, operation: &Operation) -> Option<Shape> {
        let submitted = self.submitted.as_ref().filter(|submitted| !submitted.binds_others)?;
        let portal = submitted.runs.as_ref()?;
        let prepared = portal.prepared.as_ref()?;
        let is_settled = self.pending.is_empty() && self.since.runs == 0 && !self.skipping && !self.copying_in;
        let reads_plainly = self.lexical.standard_conforming_strings && self.lexical.utf8;
        // Prepared earlier it may have been read under another `standard_conforming_strings`.
        let is_read_now = operation.kind == "query" || !prepared.text.contains(&b'\\');
        // A portal keeps the names' meaning of when it was bound, a statement may keep that of when it was prepared.
        let is_bound_now =
            operation.kind == "query" || submitted.awaited.iter().any(|one| matches!(one.what, What::Bind));
        let is_new = is_bound_now && prepared.past == Some(self.history.changes());
        let is_begun = !self.access.looks_inside || !self.history.wants_beginning();
        if !is_settled || !reads_plainly || !is_read_now || !is_new || !is_begun {
            return None;
        }
        let is_seen = !operation.meaning.effects.contains(Effect::Unknown);
        if !is_seen || prepared.classified.statements != [Statement::Other] {
            return None;
        }
        let (mut form, mut values) = cut(&prepared.text)?;
        form.extend(self.definitions_behind(prepared)?.0);
        for kind in &prepared.parameter_types {
            form.extend(kind.to_be_bytes());
        }
        form.extend((portal.parameters.len() as u64).to_be_bytes());
        for parameter in &portal.parameters {
            put(&mut form, parameter.kind.as_bytes());
            values.push(value(parameter));
        }
        form.extend(self.history.now()?.0);
        let text = str::from_utf8(&prepared.text).ok()?;
        let options = ParserOptions::DISABLE_ESCAPE_STRING_WARNING;
        let fingerprint = pg_query::fingerprint(text, options, FingerprintOptions::default()).ok()?.hex;
        let names = |kind: &u32| REGS.contains(kind);
        let only_data = prepared.sense.inside.only_data()
            && !prepared.parameter_types.iter().any(names)
            && !self.runs_when_planned(prepared);
        Some(Shape { fingerprint, form: Digest::of(&form), values, only_data })
    }
}

impl PostgresDialect {
    /// What changed the session before what was just submitted, and what stands behind the names in that, as far as it
    /// is known.
    pub(super) fn past_of_submitted(&self) -> Digest {
        let past = self.history.here(self.session.as_bytes());
        let portal = self.submitted.as_ref().and_then(|submitted| submitted.runs.as_ref());
        let prepared = portal.and_then(|portal| portal.prepared.as_ref());
        let behind = prepared.and_then(|prepared| self.definitions_behind(prepared)).unwrap_or(Digest([0; 32]));
        Digest::of(&[past.0, behind.0].concat())
    }
}

/// Cuts a text into its form and its literals. Comments and the semicolon at the end mean nothing, so they are neither.
fn cut(text: &[u8]) -> Option<(Vec<u8>, Vec<Bytes>)> {
    let text = str::from_utf8(text).ok().filter(|text| text.len() <= LARGEST)?;
    let (mut form, mut values) = (Vec::with_capacity(2 * text.len()), Vec::new());
    let mut tokens = pg_query::scan_tokens(text).ok()?;
    tokens.retain(|token| !matches!(token.token(), Token::SqlComment | Token::CComment));
    while tokens.last().is_some_and(|token| token.token() == Token::Ascii59) {
        tokens.pop();
    }
    let of_cursor =
        |pair: &[pg_query::protobuf::ScanToken]| pair[0].token() == Token::CurrentP && pair[1].token() == Token::Of;
    if tokens.windows(2).any(of_cursor) {
        // Where the cursor stands is in no text.
        return None;
    }
    for token in tokens {
        let of_text = usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?;
        let word = text.get(of_text)?;
        if HANDLES.contains(&word.trim_matches('"').to_ascii_lowercase().as_str()) {
            return None;
        }
        match token.token() {
            Token::Sconst | Token::Usconst | Token::Bconst | Token::Xconst | Token::Fconst | Token::Iconst => {
                form.extend(token.token.to_be_bytes());
                values.push(Bytes::copy_from_slice(word.as_bytes()));
            }
            _ => {
                form.extend(token.token.to_be_bytes());
                put(&mut form, word.as_bytes());
            }
        }
    }
    form.extend((values.len() as u64).to_be_bytes());
    Some((form, values))
}

fn put(form: &mut Vec<u8>, field: &[u8]) {
    form.extend((field.len() as u64).to_be_bytes());
    form.extend(field);
}

/// A bound value that reads as no other: `NULL`, `text:…` or `binary:…`.
fn value(parameter: &Parameter) -> Bytes {
    match &parameter.value {
        None => Bytes::from_static(b"NULL"),
        Some(value) => [if parameter.binary { &b"binary:"[..] } else { b"text:" }, value].concat().into(),
    }
}

/// Functions whose answer, or whose descriptor, depends on what the session did before, by statements that change nothing
/// else in it.
const HANDLES: [&str; 13] = [
    "currval",
    "lastval",
    "lo_close",
    "lo_lseek",
    "lo_lseek64",
    "lo_tell",
    "lo_tell64",
    "lo_truncate",
    "lo_truncate64",
    "loread",
    "lowrite",
    "pg_get_serial_sequence",
    "txid_current_if_assigned",
];

/// The types whose values are names: `regproc`, `regprocedure`, `regoper`, `regoperator`, `regclass`, `regtype`,
/// `regconfig`, `regdictionary`, `regnamespace`, `regrole`, `regcollation`.
const REGS: [u32; 11] = [24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191];

/// Texts above this have no shape. Bytes.
const LARGEST: usize = 64 * 1024;

/// What changed the session since it began, in order, as one sum: equal sums are sessions that were treated alike.
#[derive(Debug, Default)]
pub(super) struct History {
    sum: Sum,
    /// How many there were.
    count: u64,
    /// What the startup message set.
    start: Sum,
    /// What its roles and database had set for it.
    beginning: Option<Digest>,
    /// What was changed may have been taken back or have failed: the sum says nothing any more.
    is_lost: bool,
    /// Something was changed in a transaction that is not over.
    is_fresh: bool,
    /// So may what no `DISCARD ALL` takes back.
    is_lost_for_good: bool,
}

#[derive(Debug, Clone, Copy)]
struct Sum(Digest);

impl Default for Sum {
    fn default() -> Self {
        Self(Digest([0; 32]))
    }
}

impl Sum {
    fn add(&mut self, parts: &[&[u8]]) {
        let mut bytes = self.0.0.to_vec();
        parts.iter().for_each(|part| put(&mut bytes, part));
        self.0 = Digest::of(&bytes);
    }
}

impl History {
    /// What its roles and database had set for the session.
    pub(super) fn began(&mut self, beginning: &[u8]) {
        self.beginning.get_or_insert_with(|| Digest::of(beginning));
    }

    /// Whether that is not known.
    pub(super) fn wants_beginning(&self) -> bool {
        self.beginning.is_none()
    }

    /// The client asked for this when it connected.
    pub(super) fn starts(&mut self, name: &str, value: &str) {
        self.start.add(&[name.as_bytes(), value.as_bytes()]);
        self.sum = self.start;
    }

    /// A portal that may have these effects goes to the backend.
    pub(super) fn ran(&mut self, portal: &Portal, effects: Effects, is_executed: bool) {
        let Some(prepared) = &portal.prepared else {
            self.is_lost_for_good = true;
            self.count += 1;
            return;
        };
        let statements = &prepared.classified.statements;
        let takes_back = |one: &Statement| matches!(one, Statement::Rollback { .. } | Statement::RollbackTo { .. });
        self.is_lost |= self.is_fresh && statements.iter().any(takes_back);
        let ends = |one: &Statement| matches!(one, Statement::Commit { .. } | Statement::PrepareTransaction);
        if self.is_fresh && (statements.iter().any(ends) || statements.iter().any(takes_back)) {
            // What was set for the transaction alone ends with it.
            self.count += 1;
            self.sum.add(&[b"end", &prepared.text]);
        }
        if !effects.intersects(CHANGES) || statements.iter().all(only_moves_on) {
            return;
        }
        self.count += 1;
        self.is_fresh = true;
        self.is_lost_for_good |= effects.contains(Effect::Unknown);
        // What code does, what a name stands for and what is computed is not in the text.
        let by_text = prepared.sense.meaning.effects;
        self.is_lost |= by_text.intersects(CODE)
            || !effects.within(by_text)
            || statements.iter().any(|one| match one {
                Statement::Execute { .. } | Statement::Fetch { .. } => true,
                Statement::MaySet { .. } => !sets_as_written(&prepared.text),
                _ => false,
            });
        let values: Vec<_> = portal.parameters.iter().map(value).collect();
        let how: &[u8] = if is_executed { b"execute" } else { b"bind" };
        let parts: Vec<&[u8]> =
            [how, &prepared.text].into_iter().chain(values.iter().map(|value| &value[..])).collect();
        self.sum.add(&parts);
    }

    /// The backend is ready and has answered everything: what ran alone, whether anything failed, and the transaction.
    pub(super) fn settled(&mut self, alone: Option<&Arc<Portal>>, failed: bool, transaction: u8) {
        self.is_lost |= self.is_fresh && (failed || transaction == b'E');
        self.is_fresh &= transaction != b'I';
        let statements = alone.and_then(|portal| portal.prepared.as_ref()).map(|one| &one.classified.statements[..]);
        if statements == Some(&[Statement::DiscardAll]) && !failed && !self.is_lost_for_good {
            *self = Self {
                sum: self.start,
                start: self.start,
                beginning: self.beginning,
                count: self.count,
                ..Self::default()
            };
        }
    }

    /// How many changes there were: between two that differ the session was changed.
    pub(super) fn changes(&self) -> u64 {
        self.count
    }

    /// A sum that no other session has, and this one only for as long as nothing more changes it, where it is lost.
    pub(super) fn here(&self, session: &[u8]) -> Digest {
        self.now().unwrap_or_else(|| Digest::of(&[session, &self.count.to_be_bytes()].concat()))
    }

    fn now(&self) -> Option<Digest> {
        let mut sum = self.sum;
        self.beginning.iter().for_each(|beginning| sum.add(&[b"began", &beginning.0]));
        (!self.is_lost && !self.is_lost_for_good).then_some(sum.0)
    }
}

/// What neither changes a setting nor makes an object. What a transaction is in is in the state.
fn only_moves_on(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Begin
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint { .. }
            | Statement::Release { .. }
            | Statement::RollbackTo { .. }
            | Statement::Prepare { .. }
            | Statement::Deallocate { .. }
            | Statement::CloseCursor { .. }
    )
}

/// Whether this is `SELECT set_config('name', 'value', false)`, with nothing in it that is computed.
fn sets_as_written(text: &[u8]) -> bool {
    let Some(tokens) = str::from_utf8(text).ok().and_then(|text| Some((text, pg_query::scan_tokens(text).ok()?)))
    else {
        return false;
    };
    let (text, tokens) = tokens;
    tokens.iter().all(|token| {
        let of_text = usize::try_from(token.start).unwrap_or(usize::MAX)..usize::try_from(token.end).unwrap_or(0);
        let word = text.get(of_text).unwrap_or_default().to_ascii_lowercase();
        let is_value = matches!(token.token(), Token::Sconst | Token::Param);
        is_value || WRITTEN.contains(&word.as_str())
    })
}

/// The words of a setting as written.
const WRITTEN: [&str; 10] = ["select", "pg_catalog", ".", "set_config", "(", ")", ",", ";", "true", "false"];

/// Runs code.
const CODE: Effects = Effects::of(Effect::Unknown).with(Effect::Execute);

/// May set settings, or make what stands in front of something else.
const CHANGES: Effects =
    Effects::of(Effect::Unknown).with(Effect::Session).with(Effect::Schema).with(Effect::Privilege).with(Effect::Admin);

#[cfg(test)]
mod tests;
