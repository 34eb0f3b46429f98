//! What statements mean in this session: how a text is read, and what the names in it and around it stand for.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    classify::{self, Classified, Lexical, Sense, Statement},
    dialect::PostgresDialect,
    names::unknown,
    portal::{Portal, Prepared},
};
use crate::operation::Meaning;

impl PostgresDialect {
    pub(super) fn prepare(&mut self, text: Bytes, parameter_types: Vec<u32>) -> Arc<Prepared> {
        let classified = self.classify(&text);
        let sense = self.resolve(&classified, text.len());
        let sense = self.on_this_backend(sense);
        Arc::new(Prepared { text, classified, sense, parameter_types, past: Some(self.history.changes()) })
    }

    /// What ran since the backend last said that it is ready may have changed how a text is read: the backend says so
    /// only then. Until then both readings of a backslash count, and where the encoding may have changed, a text
    /// beyond ASCII cannot be read.
    fn classify(&self, text: &[u8]) -> Arc<Classified> {
        let read = |lexical: Lexical| self.shared.classifier.classify(text, &lexical);
        if self.since.runs == 0 {
            return read(self.lexical);
        }
        if self.since.encoding && !text.is_ascii() {
            return read(Lexical { utf8: false, ..self.lexical });
        }
        let one = read(self.lexical);
        if !text.contains(&b'\\') {
            return one;
        }
        let standard_conforming_strings = !self.lexical.standard_conforming_strings;
        let other = read(Lexical { standard_conforming_strings, ..self.lexical });
        if *one == *other { one } else { Arc::new(one.or(&other)) }
    }

    /// What a text means once the names in it (`EXECUTE`, `FETCH`) stand for what they were made from; learns the
    /// names that it makes.
    fn resolve(&mut self, classified: &Classified, bytes: usize) -> Arc<Sense> {
        let sense = classified.resolve(|name| self.recall(name), |name| self.recall(name));
        for statement in &classified.statements {
            self.sql_names.learn(statement, bytes);
        }
        sense
    }

    /// What a name in SQL may stand for: in SQL and in the protocol, statements and cursors share their names.
    fn recall(&self, name: &str) -> Option<Arc<Sense>> {
        let by_sql = self.sql_names.find(name.as_bytes());
        let statement = self.names.statement(name.as_bytes());
        let portal = self.names.portal(name.as_bytes());
        let mut all: Vec<_> = by_sql.into_iter().collect();
        all.extend(statement.all().map(|prepared| prepared.sense.clone()));
        all.extend(portal.all().map(|portal| sense_of(portal)));
        if statement.anything || portal.anything {
            all.push(forgotten());
        }
        match &all[..] {
            [] => None,
            [one] => Some(one.clone()),
            all => Some(Arc::new(Sense::any_of(all.iter().map(|sense| &**sense)))),
        }
    }

    /// What a statement's name stands for when it is bound; everything that it may stand for, where that is not certain.
    pub(super) fn statement(&self, name: &[u8]) -> Option<Arc<Prepared>> {
        let standing = self.names.statement(name);
        let by_sql = self.named_by_sql(name);
        if let (Some(only), None) = (standing.only(), &by_sql) {
            return Some(only.clone());
        }
        let known = standing.all().map(|prepared| (prepared.text.clone(), prepared.sense.clone()));
        self.one_of(known.chain(by_sql), standing.anything)
    }

    /// The same for a portal.
    pub(super) fn portal(&self, name: &[u8]) -> Arc<Portal> {
        let standing = self.names.portal(name);
        let by_sql = self.named_by_sql(name);
        if let (Some(only), None) = (standing.only(), &by_sql) {
            return only.clone();
        }
        let known = standing.all().map(|portal| (text_of(portal), sense_of(portal)));
        let prepared = self.one_of(known.chain(by_sql), standing.anything);
        let parameters = standing.all().next().map_or_else(Vec::new, |portal| portal.parameters.clone());
        Portal::new(prepared, parameters)
    }

    /// What SQL has made under a name that the protocol uses: a statement that was prepared in SQL can be bound, and a
    /// cursor that was declared in SQL can be executed.
    fn named_by_sql(&self, name: &[u8]) -> Option<(Bytes, Arc<Sense>)> {
        let name = if name.is_empty() { return None } else { &name[..name.len().min(63)] };
        let sense = self.sql_names.find(name)?;
        let text = format!("EXECUTE \"{}\"", String::from_utf8_lossy(name).replace('"', "\"\""));
        Some((text.into(), sense))
    }

    /// One statement that stands for all of these: what it does is what any of them does, what it reads cannot be told.
    fn one_of(&self, known: impl Iterator<Item = (Bytes, Arc<Sense>)>, or_anything: bool) -> Option<Arc<Prepared>> {
        let (mut texts, mut senses): (Vec<_>, Vec<_>) = known.unzip();
        if or_anything {
            texts.push(Bytes::from_static(b"-- a name that this gateway no longer knows"));
            senses.push(forgotten());
        }
        if senses.is_empty() {
            return None;
        }
        let text = texts.join(&b"\n-- or, under the same name:\n"[..]).into();
        Some(self.opaque(text, Sense::any_of(senses.iter().map(|sense| &**sense))))
    }

    /// A statement of which only what it does is known: masking takes it to read everything.
    fn opaque(&self, text: Bytes, sense: Sense) -> Arc<Prepared> {
        let classified = self.shared.classifier.classify(b"EXECUTE unseen", &Lexical::default());
        let sense = Arc::new(sense.unseen());
        Arc::new(Prepared { text, classified, sense, parameter_types: Vec::new(), past: None })
    }

    /// Code that cannot be seen into has run. It may have closed a named portal and opened a cursor under its name;
    /// what that does, the code could do itself, but what it reads is not what the portal was seen to read.
    pub(super) fn doubt_names(&mut self) {
        self.sql_names.doubt();
        let mut portals = std::mem::take(&mut self.names.portals);
        portals.renew(|name, portal| {
            let prepared = portal.prepared.as_ref().filter(|_| !name.is_empty())?;
            let opaque = self.opaque(prepared.text.clone(), (*prepared.sense).clone());
            Some(Portal::new(Some(opaque), portal.parameters.clone()))
        });
        self.names.portals = portals;
    }

    /// The portal as this bundle executes it. What an earlier description said of it is not believed again: by now
    /// the name may be another's.
    pub(super) fn portal_again(&mut self, name: &[u8]) -> Arc<Portal> {
        let portal = self.portal(name);
        let is_bound = || self.bundle.bound.iter().any(|bound| Arc::ptr_eq(bound, &portal));
        if self.masker.masks.is_empty() || is_bound() || self.bundle.describes(&portal) {
            return portal;
        }
        let again = portal.again();
        self.names.portals.replace(name, &portal, &again);
        again
    }

    /// What executing `portal` means, and what binding the others in the same bundle means.
    pub(super) fn meaning_of_all(&self, portal: &Portal, others: &[Arc<Portal>]) -> Arc<Meaning> {
        let means = |portal: &Portal| {
            portal.prepared.as_ref().map_or_else(|| sense_of(portal).meaning.clone(), |one| self.means(one))
        };
        let meaning = means(portal);
        if others.is_empty() {
            return meaning;
        }
        let others: Vec<_> = others.iter().map(|other| means(other)).collect();
        Arc::new(classify::union([&meaning].into_iter().chain(&others).map(|meaning| &**meaning)))
    }

    /// What the answer to a `DEALLOCATE` that worked says of names.
    pub(super) fn deallocated(&mut self, portal: &Portal) {
        let Some(prepared) = &portal.prepared else { return };
        match &prepared.classified.statements[..] {
            [Statement::Deallocate { name: Some(name) }] => self.names.statements.forget(name.as_bytes()),
            [Statement::Deallocate { name: None }] => self.names.statements.forget_all(),
            [Statement::DiscardAll] => {
                self.names.statements.forget_all();
            }
            _ => {}
        }
    }
}

fn sense_of(portal: &Portal) -> Arc<Sense> {
    match &portal.prepared {
        Some(prepared) => prepared.sense.clone(),
        None => unknown("executes a portal that this session was not seen to bind"),
    }
}

fn text_of(portal: &Portal) -> Bytes {
    portal.prepared.as_ref().map_or_else(Bytes::new, |prepared| prepared.text.clone())
}

fn forgotten() -> Arc<Sense> {
    unknown("uses a name that this session gave more often than this gateway remembers")
}
