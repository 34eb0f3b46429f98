//! What the session is set to, as the digest and `when` see it, and what ran since the backend last said so.
//!
//! A setting is assumed changed when a statement that changes it is forwarded, beside what it was before: until the
//! answer is there it may be either. It is one value again when a `SET` that ran alone has worked, or the backend has
//! reported it. What a transaction set may be taken back with it.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::{
    classify::Statement,
    dialect::PostgresDialect,
    portal::{Portal, Prepared},
};
use crate::operation::{Effect, Effects};

/// What was forwarded since the backend last was ready with nothing left to answer. Only then does it report settings.
#[derive(Debug, Default)]
pub(super) struct Since {
    /// Executions, and portals bound: binding plans, and planning runs code too.
    pub(super) runs: usize,
    /// The first of them, if it was executed.
    first: Option<Arc<Portal>>,
    /// One of them, or what belongs to it, failed.
    pub(super) failed: bool,
    /// A transaction or part of one may have ended.
    ended: bool,
    /// The client's encoding may be another than was reported.
    pub(super) encoding: bool,
    /// A setting may be another.
    sets: bool,
    /// One of them may take COPY data from the client.
    pub(super) copies: bool,
    /// One of them may have put a masked value into a setting.
    pub(super) keeps_masked: bool,
}

impl Since {
    /// The gateway rolled the transaction back.
    pub(super) fn rolled_back(&mut self) {
        self.runs += 1;
        (self.failed, self.ended, self.sets) = (true, true, true);
    }

    /// Whether the one thing that ran ended a transaction and began the next.
    pub(super) fn chained(&self) -> bool {
        let prepared = self.first.as_ref().and_then(|portal| portal.prepared.as_ref());
        let is_chain = prepared.is_some_and(|prepared| {
            let statements = &prepared.classified.statements[..];
            matches!(statements, [Statement::Commit { chain: true } | Statement::Rollback { chain: true }])
        });
        self.runs == 1 && !self.failed && is_chain
    }
}

/// What one setting may be.
#[derive(Debug)]
struct Setting {
    now: Vec<String>,
    /// What it may become again when the transaction ends.
    before: Vec<String>,
    /// Whether the transaction set it for longer than itself.
    outlasts: bool,
    reported: Option<String>,
}

/// The settings that change what a statement means, as far as anything set them.
#[derive(Debug, Default)]
pub(super) struct Settings(BTreeMap<&'static str, Setting>);

impl Settings {
    /// At startup, or reported with nothing under way: that is it.
    fn is(&mut self, name: &str, value: &str) {
        if let Some(setting) = self.entry(name) {
            setting.now = vec![value.to_owned()];
        }
    }

    /// It may be this as well.
    fn may_be(&mut self, name: &str, value: &str) {
        if let Some(setting) = self.entry(name) {
            join(&mut setting.now, &[value.to_owned()]);
        }
    }

    /// It was set to this, and in a transaction may become again what it was.
    fn was_set(&mut self, name: &str, value: &str, local: bool, in_transaction: bool) {
        let Some(setting) = self.entry(name) else { return };
        if in_transaction {
            let others: Vec<_> = setting.now.iter().filter(|known| *known != value).cloned().collect();
            join(&mut setting.before, if others.is_empty() { &setting.now } else { &others });
            setting.outlasts |= !local;
        } else if local {
            return;
        }
        setting.now = vec![value.to_owned()];
    }

    /// What a transaction set was kept, taken back, or one of the two.
    fn ended(&mut self, how: End) {
        for setting in self.0.values_mut().filter(|setting| !setting.before.is_empty()) {
            match how {
                End::Kept if setting.outlasts && setting.before.len() == 1 => {}
                End::TakenBack => setting.now.clone_from(&setting.before),
                End::Kept if !setting.outlasts => setting.now.clone_from(&setting.before),
                End::Kept | End::Either => join(&mut setting.now, &setting.before),
            }
            if how != End::Either {
                setting.before.clear();
                setting.outlasts = false;
            }
        }
    }

    fn entry(&mut self, name: &str) -> Option<&mut Setting> {
        let name = STATE_SETTINGS.into_iter().find(|known| name.eq_ignore_ascii_case(known))?;
        let unset = || Setting { now: vec![DEFAULT.into()], before: Vec::new(), outlasts: false, reported: None };
        Some(self.0.entry(name).or_insert_with(unset))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Kept,
    TakenBack,
    Either,
}

/// Adds values that are new; too many are none.
fn join(values: &mut Vec<String>, others: &[String]) {
    for value in others {
        if values.len() >= MOST_VALUES {
            *values = vec!["one of many values".to_owned()];
            return;
        }
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
}

impl PostgresDialect {
    /// The client asked for this value when it connected.
    pub(super) fn starts_with_setting(&mut self, name: &str, value: &str) {
        self.settings_known.is(name, value);
        self.show_settings();
    }

    /// The backend reported a setting. With executions under way it may already be older than what they set.
    pub(super) fn reported_setting(&mut self, name: &str, value: &str) {
        if let Some(setting) = self.settings_known.entry(name) {
            setting.reported = Some(value.to_owned());
        }
        match self.since.runs {
            0 => self.settings_known.is(name, value),
            _ => {
                self.since.sets = true;
                self.settings_known.may_be(name, value);
            }
        }
        self.show_settings();
    }

    /// A portal goes to the backend, to be executed or only bound.
    pub(super) fn ran(&mut self, portal: &Arc<Portal>, is_executed: bool) {
        self.since.runs += 1;
        let meant = portal.prepared.as_ref().map_or(ANYTHING, |prepared| self.means(prepared).effects);
        self.may_define(meant);
        self.history.ran(portal, meant, is_executed);
        if self.since.runs == 1 && is_executed {
            self.since.first = Some(portal.clone());
        }
        let effects = portal.prepared.as_ref().map_or(CODE, |prepared| prepared.sense.meaning.effects);
        if effects.intersects(CODE) && self.masker.masks.has_columns() {
            self.doubt_names();
        }
        let Some(prepared) = portal.prepared.clone() else {
            (self.since.encoding, self.since.copies, self.since.sets) = (true, true, true);
            self.since.keeps_masked = true;
            return;
        };
        let from_client = |statement: &Statement| matches!(statement, Statement::Copy { from_stdin: true, .. });
        self.since.copies |=
            effects.contains(Effect::Unknown) || prepared.classified.statements.iter().any(from_client);
        self.since.ended |= effects.intersects(CODE);
        self.since.encoding |= effects.intersects(CODE);
        self.since.sets |= effects.intersects(CODE.with(Effect::Session));
        if effects.intersects(CODE.with(Effect::Session)) && self.masker.masks.has_columns() {
            let catalog = self.catalog();
            self.since.keeps_masked |= self.reads(portal).may_show_masked(&self.masker.masks, catalog.as_deref());
        }
        if effects.contains(Effect::Session) && is_executed {
            self.may_set(&prepared);
            self.show_settings();
        }
    }

    fn may_set(&mut self, prepared: &Prepared) {
        let settings = &mut self.settings_known;
        let mut by_function = false;
        for statement in &prepared.classified.statements {
            match statement {
                Statement::Set { name, value, .. } => settings.may_be(name, value.as_deref().unwrap_or(DEFAULT)),
                Statement::Reset { name } => settings.may_be(name, DEFAULT),
                Statement::SetRole { role, session, .. } => {
                    settings.may_be(role_setting(*session), role.as_deref().unwrap_or(DEFAULT));
                    settings.may_be("role", role.as_deref().filter(|_| !session).unwrap_or(DEFAULT));
                }
                Statement::ResetAll | Statement::DiscardAll => {
                    let known: Vec<_> = settings.0.keys().copied().collect();
                    known.into_iter().for_each(|name| settings.may_be(name, DEFAULT));
                }
                Statement::MaySet { names } if names.contains(&None) => {
                    STATE_SETTINGS.into_iter().for_each(|name| settings.may_be(name, BY_FUNCTION));
                }
                Statement::MaySet { .. } | Statement::Execute { .. } | Statement::Fetch { .. } => by_function = true,
                Statement::Commit { .. }
                | Statement::Rollback { .. }
                | Statement::RollbackTo { .. }
                | Statement::PrepareTransaction => self.since.ended = true,
                _ => {}
            }
        }
        for object in prepared.sense.meaning.objects.iter().filter(|object| object.kind == "setting") {
            self.since.encoding |= matches!(object.name.as_str(), "client_encoding" | "names");
            if by_function {
                settings.may_be(&object.name, BY_FUNCTION);
            }
        }
    }

    /// The backend is ready, with nothing left to answer, where it was in a transaction or not before and is now.
    pub(super) fn settle(&mut self, before: u8) {
        let since = mem::take(&mut self.since);
        self.since.encoding = self.other_encoding;
        let in_transaction = before != b'I' || self.transaction != b'I';
        let only = since.first.as_ref().filter(|_| since.runs == 1);
        self.history.settled(only, since.failed, self.transaction);
        let alone = since.first.filter(|_| since.runs == 1 && !since.failed);
        let prepared = alone.as_ref().and_then(|portal| portal.prepared.as_ref());
        let statement = match prepared.map(|prepared| &prepared.classified.statements[..]) {
            Some([statement]) => statement,
            _ => &Statement::Other,
        };
        if self.bundle.len == 0 {
            self.sql_names.worked(statement);
            if self.transaction == b'I' {
                self.sql_names.transaction_ended();
            }
        }
        if since.runs == 0 || !since.sets && !in_transaction {
            return;
        }
        let is_over = self.transaction == b'I';
        let settings = &mut self.settings_known;
        match statement {
            Statement::Set { name, value, local } => {
                settings.was_set(name, value.as_deref().unwrap_or(DEFAULT), *local, !is_over);
            }
            Statement::Reset { name } => settings.was_set(name, DEFAULT, false, !is_over),
            Statement::SetRole { role, session, local } => {
                let value = role.as_deref().unwrap_or(DEFAULT);
                settings.was_set(role_setting(*session), value, *local, !is_over);
            }
            Statement::DiscardAll => {
                settings.0.values_mut().for_each(|setting| setting.now = vec![DEFAULT.to_owned()]);
            }
            Statement::Commit { chain: false } if before == b'T' && is_over => settings.ended(End::Kept),
            Statement::Rollback { chain: false } if is_over => settings.ended(End::TakenBack),
            _ if since.ended || self.transaction == b'E' => settings.ended(End::Either),
            _ => {}
        }
        for setting in settings.0.values_mut() {
            if is_over && !setting.before.is_empty() {
                let before = mem::take(&mut setting.before);
                join(&mut setting.now, &before);
                setting.outlasts = false;
            }
            if let Some(reported) = &setting.reported {
                setting.now = vec![reported.clone()];
            }
        }
        self.show_settings();
    }

    fn show_settings(&mut self) {
        for (name, setting) in &self.settings_known.0 {
            let value = setting.now.join(" or ");
            if self.state.get(*name) != Some(&value) {
                Arc::make_mut(&mut self.state).insert((*name).into(), value);
            }
        }
    }
}

fn role_setting(session: bool) -> &'static str {
    if session { "session_authorization" } else { "role" }
}

/// What a setting is that nothing has set.
const DEFAULT: &str = "default";

const BY_FUNCTION: &str = "set by a function";

/// How many values of one setting are kept apart.
const MOST_VALUES: usize = 8;

/// Runs code that may set, close and open anything.
const CODE: Effects = Effects::of(Effect::Unknown).with(Effect::Execute);

/// What a portal does of which nothing is known.
const ANYTHING: Effects = CODE.with(Effect::Schema).with(Effect::Privilege).with(Effect::Admin).with(Effect::Session);

/// The settings that change what a statement means.
const STATE_SETTINGS: [&str; 8] = [
    "search_path",
    "role",
    "session_authorization",
    "standard_conforming_strings",
    "default_transaction_read_only",
    "row_security",
    "session_replication_role",
    "timezone",
];
