//! What a client's names stand for: prepared statements and portals of the protocol, and what SQL itself has named.
//!
//! # Security
//! A change is assumed when it is sent. Behind a `Sync` it may already have failed without anybody here knowing, so
//! until its answer is there a name stands for what it stood for before as well. Within the same stretch up to a
//! `Sync` the newest assumption is exact: had it failed, the backend would discard what uses it.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::{
    classify::{Sense, Statement},
    pending::Await,
    portal::{Portal, Prepared},
};
use crate::operation::{Effect, Effects, Meaning};

/// The client's prepared statements and portals by name, as the gateway assumes they will be.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) statements: Table<Prepared>,
    pub(super) portals: Table<Portal>,
    /// Counts the client's `Sync`s.
    stretch: u64,
}

/// How to take an assumption back.
#[derive(Debug)]
pub(super) enum Undo {
    Nothing,
    Statement(Bytes, Option<Arc<Prepared>>),
    Portal(Bytes, Option<Arc<Portal>>),
}

impl<T: Weigh> Default for Table<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self { statements: Table::new(MOST_STATEMENTS), portals: Table::new(MOST_PORTALS), stretch: 1 }
    }
}

impl Names {
    /// Assumes that a statement now has this name (or that none has).
    pub(super) fn assume_statement(&mut self, name: Bytes, prepared: Option<Arc<Prepared>>) -> Undo {
        let before = self.statements.assume(key(&name), prepared, self.stretch);
        Undo::Statement(name, before)
    }

    /// Assumes that a portal now has this name (or that none has).
    pub(super) fn assume_portal(&mut self, name: Bytes, portal: Option<Arc<Portal>>) -> Undo {
        let before = self.portals.assume(key(&name), portal, self.stretch);
        Undo::Portal(name, before)
    }

    /// What a statement's name may stand for now.
    pub(super) fn statement(&self, name: &[u8]) -> Standing<'_, Prepared> {
        self.statements.find(key(name), self.stretch)
    }

    /// What a portal's name may stand for now.
    pub(super) fn portal(&self, name: &[u8]) -> Standing<'_, Portal> {
        self.portals.find(key(name), self.stretch)
    }

    /// The client sent a `Sync`: what was assumed before it may have failed when what follows is read.
    pub(super) fn sync(&mut self) {
        self.stretch += 1;
    }

    /// The backend did as was assumed.
    pub(super) fn confirm(&mut self, undo: &Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Statement(name, _) => self.statements.confirm(key(name)),
            Undo::Portal(name, _) => self.portals.confirm(key(name)),
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Statement(name, before) => self.statements.undo(key(&name), before),
            Undo::Portal(name, before) => self.portals.undo(key(&name), before),
        }
    }

    /// Takes back `awaited`, newest first; says how many operations were among them.
    pub(super) fn undo_all(&mut self, awaited: impl DoubleEndedIterator<Item = Await>) -> usize {
        let mut operations = 0;
        for one in awaited.rev() {
            operations += usize::from(one.ends_operation);
            self.undo(one.undo);
        }
        operations
    }
}

/// PostgreSQL compares names by no more than `NAMEDATALEN - 1` bytes.
fn key(name: &[u8]) -> &[u8] {
    &name[..name.len().min(63)]
}

/// What one kind of names stands for. Bounded by weight: what is too much is forgotten, and may then be anything.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: HashMap<Box<[u8]>, Entry<T>>,
    weight: usize,
    most: usize,
    /// Something was forgotten: a name that is not here may stand for anything.
    lost: bool,
}

#[derive(Debug)]
struct Entry<T> {
    now: Option<Arc<T>>,
    /// The stretch in which `now` was assumed; 0 when it was not.
    since: u64,
    /// How many assumptions about this name are not answered.
    open: usize,
    /// What the name stood for before the oldest of these, and meanwhile.
    formers: Vec<Arc<T>>,
    /// There were more of them.
    crowded: bool,
}

/// Everything that a name may stand for.
#[derive(Debug)]
pub(super) struct Standing<'t, T> {
    now: Option<&'t Arc<T>>,
    formers: &'t [Arc<T>],
    /// Or anything at all.
    pub(super) anything: bool,
}

impl<'t, T> Standing<'t, T> {
    /// When it is one thing for certain.
    pub(super) fn only(&self) -> Option<&'t Arc<T>> {
        self.now.filter(|_| self.formers.is_empty() && !self.anything)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &'t Arc<T>> + use<'t, T> {
        self.now.into_iter().chain(self.formers)
    }
}

/// What is remembered of a named thing, in bytes.
pub(super) trait Weigh {
    fn weight(&self) -> usize;
}

impl<T: Weigh> Table<T> {
    fn new(most: usize) -> Self {
        Self { entries: HashMap::new(), weight: 0, most, lost: false }
    }

    fn assume(&mut self, name: &[u8], now: Option<Arc<T>>, stretch: u64) -> Option<Arc<T>> {
        let before = self.put(name, now);
        let Some(entry) = self.entries.get_mut(name) else { return before };
        (entry.since, entry.open) = (stretch, entry.open + 1);
        if let Some(before) = &before {
            match entry.formers.len() < MOST_FORMERS {
                true => entry.formers.push(before.clone()),
                false => entry.crowded = true,
            }
        }
        before
    }

    fn find(&self, name: &[u8], stretch: u64) -> Standing<'_, T> {
        let Some(entry) = self.entries.get(name) else {
            return Standing { now: None, formers: &[], anything: self.lost };
        };
        let exact = entry.since == stretch;
        Standing {
            now: entry.now.as_ref(),
            formers: if exact { &[] } else { &entry.formers },
            anything: !exact && entry.crowded || entry.now.is_none() && self.lost,
        }
    }

    fn confirm(&mut self, name: &[u8]) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.answered();
            self.tidy(name);
        }
    }

    fn undo(&mut self, name: &[u8], before: Option<Arc<T>>) {
        self.put(name, before);
        if let Some(entry) = self.entries.get_mut(name) {
            entry.since = 0;
            entry.answered();
            self.tidy(name);
        }
    }

    /// Puts `now` under `name`; answers what was there. The unnamed is one, and weighs nothing.
    fn put(&mut self, name: &[u8], now: Option<Arc<T>>) -> Option<Arc<T>> {
        let weigh = |one: &Arc<T>| if name.is_empty() { 0 } else { ENTRY + one.weight() };
        if !self.entries.contains_key(name) {
            self.entries.insert(name.into(), Entry::default());
        }
        let entry = self.entries.get_mut(name)?;
        let before = entry.now.take();
        self.weight -= before.as_ref().map_or(0, weigh);
        let weight = now.as_ref().map_or(0, weigh);
        if self.weight + weight > self.most {
            self.lost = true;
        } else {
            self.weight += weight;
            entry.now = now;
        }
        before
    }

    /// Nothing is remembered of a name without a thing.
    fn tidy(&mut self, name: &[u8]) {
        if self.entries.get(name).is_some_and(|entry| entry.now.is_none() && entry.open == 0) {
            self.entries.remove(name);
        }
    }

    /// The backend forgot the name; a later assumption about it stays.
    pub(super) fn forget(&mut self, name: &[u8]) {
        if self.entries.get(name).is_some_and(|entry| entry.open == 0) {
            self.put(name, None);
            self.tidy(name);
        }
    }

    /// The backend forgot every name; later assumptions stay.
    pub(super) fn forget_all(&mut self) {
        let names: Vec<_> = self.entries.keys().cloned().collect();
        names.iter().for_each(|name| self.forget(name));
        self.lost &= !self.entries.is_empty();
    }

    /// Puts another view of the same thing under each name that `renewed` has one for.
    pub(super) fn renew(&mut self, renewed: impl Fn(&[u8], &Arc<T>) -> Option<Arc<T>>) {
        for (name, entry) in &mut self.entries {
            if let Some(now) = &mut entry.now
                && let Some(fresh) = renewed(name, now)
            {
                *now = fresh;
            }
        }
    }

    /// Puts another view of the same thing under its name.
    pub(super) fn replace(&mut self, name: &[u8], old: &Arc<T>, fresh: &Arc<T>) {
        if let Some(Entry { now: Some(now), .. }) = self.entries.get_mut(key(name))
            && Arc::ptr_eq(now, old)
        {
            *now = fresh.clone();
        }
    }
}

impl<T> Default for Entry<T> {
    fn default() -> Self {
        Self { now: None, since: 0, open: 0, formers: Vec::new(), crowded: false }
    }
}

impl<T> Entry<T> {
    fn answered(&mut self) {
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.formers = Vec::new();
            self.crowded = false;
        }
    }
}

/// What SQL-level `PREPARE` and `DECLARE` made, by name: everything that a name may stand for.
///
/// A statement that was sent may have failed, so what it makes only adds. One that was seen to work, with nothing else
/// under way, leaves the name for what it made alone: PostgreSQL refuses to give a name that is taken, and neither
/// brings back what was closed.
#[derive(Debug, Default)]
pub(super) struct SqlNames {
    statements: HashMap<String, Given>,
    cursors: HashMap<String, Given>,
    weight: usize,
    /// Something was too much to remember: any name may stand for anything.
    lost: bool,
    /// Code that cannot be seen into has run: what has not been seen to work since may be something else.
    doubted: bool,
}

/// What one name stands for.
#[derive(Debug, Clone)]
struct Given {
    sense: Arc<Sense>,
    /// Bytes.
    weight: usize,
    doubted: bool,
    /// A cursor that outlasts its transaction.
    holds: bool,
}

impl SqlNames {
    /// Learns the name that `statement` gives if it works, from a text of so many bytes.
    pub(super) fn learn(&mut self, statement: &Statement, bytes: usize) {
        let doubted = self.doubted;
        let Some((names, name, sense, holds)) = self.named_by(statement) else { return };
        let given = Given { sense: sense.clone(), weight: bytes + ENTRY, doubted, holds };
        let both = match names.remove(name) {
            None => given,
            Some(known) => {
                let is_new = !Arc::ptr_eq(&known.sense, sense) && known.sense != *sense;
                let sense = if is_new { Arc::new(Sense::any_of([&*known.sense, sense])) } else { known.sense };
                let weight = known.weight + if is_new { given.weight } else { 0 };
                self.weight -= known.weight;
                Given { sense, weight, doubted: doubted || known.doubted, holds: holds || known.holds }
            }
        };
        self.put(statement, both);
    }

    /// `statement` was seen to work, with nothing else under way.
    pub(super) fn worked(&mut self, statement: &Statement) {
        match statement {
            Statement::Deallocate { name: Some(name) } => self.keep(|one| one != name, |_, _| true),
            Statement::Deallocate { name: None } => self.keep(|_| false, |_, _| true),
            Statement::CloseCursor { name: Some(name) } => self.keep(|_| true, |one, _| one != name),
            Statement::CloseCursor { name: None } => self.keep(|_| true, |_, _| false),
            Statement::DiscardAll => *self = Self::default(),
            _ => {
                let Some((names, name, sense, holds)) = self.named_by(statement) else { return };
                let weight = names.remove(name).map_or(ENTRY, |known| known.weight);
                let given = Given { sense: sense.clone(), weight, doubted: false, holds };
                self.weight = self.weight.saturating_sub(weight);
                self.put(statement, given);
            }
        }
    }

    /// The transaction is over, with nothing else under way.
    pub(super) fn transaction_ended(&mut self) {
        if !self.cursors.is_empty() {
            self.keep(|_| true, |_, given| given.holds);
        }
    }

    /// Code that cannot be seen into runs. Policy need not mind: what it puts behind a name, it could do itself.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
        let all = self.statements.values_mut().chain(self.cursors.values_mut());
        all.for_each(|given| given.doubted = true);
    }

    /// What the name may stand for, as far as SQL has made it.
    pub(super) fn find(&self, name: &[u8]) -> Option<Arc<Sense>> {
        if self.lost {
            return Some(unknown("uses a name in a session that prepared more than this gateway remembers"));
        }
        if self.statements.is_empty() && self.cursors.is_empty() {
            return None;
        }
        let name = str::from_utf8(name).ok()?;
        let sense = |given: &Given| match given.doubted {
            true => Arc::new((*given.sense).clone().unseen()),
            false => given.sense.clone(),
        };
        match (self.statements.get(name).map(sense), self.cursors.get(name).map(sense)) {
            (Some(statement), Some(cursor)) => Some(Arc::new(Sense::any_of([&*statement, &*cursor]))),
            (one, other) => one.or(other),
        }
    }

    fn named_by<'s>(
        &mut self,
        statement: &'s Statement,
    ) -> Option<(&mut HashMap<String, Given>, &'s String, &'s Arc<Sense>, bool)> {
        match statement {
            Statement::Prepare { name, sense } => Some((&mut self.statements, name, sense, false)),
            Statement::DeclareCursor { name, sense, holds } => Some((&mut self.cursors, name, sense, *holds)),
            _ => None,
        }
    }

    fn put(&mut self, statement: &Statement, given: Given) {
        let weight = given.weight;
        if self.weight + weight > MOST_STATEMENTS {
            self.lost = true;
            return;
        }
        self.weight += weight;
        if let Some((names, name, ..)) = self.named_by(statement) {
            names.insert(name.clone(), given);
        }
    }

    fn keep(&mut self, statement: impl Fn(&String) -> bool, cursor: impl Fn(&String, &Given) -> bool) {
        self.statements.retain(|name, _| statement(name));
        self.cursors.retain(|name, given| cursor(name, given));
        self.weight = self.statements.values().chain(self.cursors.values()).map(|given| given.weight).sum();
    }
}

/// The sense of what cannot be known.
pub(super) fn unknown(why: &str) -> Arc<Sense> {
    let meaning =
        Meaning { effects: Effects::of(Effect::Unknown), unknown: vec![why.to_owned()], ..Meaning::default() };
    Arc::new(Sense { meaning: Arc::new(meaning), ..Sense::default() }.unseen())
}

/// How many former meanings of one name are kept apart.
const MOST_FORMERS: usize = 8;

/// What a name costs beside its text, in bytes; about.
const ENTRY: usize = 512;

/// Bytes of named statements that one session may make the gateway remember; parsed, they take a few times as much.
const MOST_STATEMENTS: usize = 8 * 1024 * 1024;

/// The same for bound values.
const MOST_PORTALS: usize = 64 * 1024 * 1024;
