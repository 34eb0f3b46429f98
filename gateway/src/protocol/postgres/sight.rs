//! What a text means on this very backend, and what its computed columns may show, where the text alone does not tell.

use std::{collections::BTreeSet, sync::Arc};

use bytes::BytesMut;

use super::{
    classify::{Sense, Statement},
    code::lookup_sql,
    dialect::{Phase, PostgresDialect},
    lookup::FRESH,
    mask::References,
    portal::{Portal, Prepared},
    replies::Fate,
    reveal::{revealed, revealing},
    wire,
};
use crate::{
    gate::Unmaskable,
    operation::{Digest, Effect, Effects, Frame, Meaning},
    protocol::Step,
};

impl PostgresDialect {
    /// `sense`, unknown where the backend makes a call of what elsewhere is a column or harmless: a `row.name` that
    /// its catalog has a function for, and a built-in that is newer than it is and so may be anybody's.
    pub(super) fn on_this_backend(&self, sense: Arc<Sense>) -> Arc<Sense> {
        let reads = &sense.reads;
        let mut why = Vec::new();
        if reads.newest > self.server_version {
            why.push(format!("calls a function that PostgreSQL has since version {} only", reads.newest));
        }
        if !reads.dotted.is_empty()
            && self.masker.masks.has_columns()
            && let Some(catalog) = self.catalog()
        {
            let called = reads.dotted.iter().filter(|name| catalog.has_row_function(name));
            why.extend(called.map(|name| format!("reads the column {name}, or calls the function of that name")));
        }
        if why.is_empty() {
            return sense;
        }
        let mut meaning = (*sense.meaning).clone();
        meaning.effects = meaning.effects.with(Effect::Execute).with(Effect::Unknown);
        meaning.unknown.extend(why);
        Arc::new(Sense { meaning: Arc::new(meaning), ..(*sense).clone() })
    }

    /// What a statement is judged by: what it means, with what stands behind the names in it as far as that is known.
    ///
    /// Masking does not use this: what it cannot see in the text it masks whole.
    pub(super) fn means(&self, prepared: &Prepared) -> Arc<Meaning> {
        let meaning = self.behind_names(prepared);
        let masks = &self.masker.masks;
        let is_kept = |statement: &Statement| matches!(statement, Statement::Prepare { .. });
        if !masks.has_columns() || prepared.classified.statements.iter().all(is_kept) {
            // Nothing to reveal, or nothing that runs now: what is prepared is judged when it is executed.
            return meaning;
        }
        revealing(meaning, &revealed(&prepared.sense.reads, masks, self.catalog().as_deref()))
    }

    fn behind_names(&self, prepared: &Prepared) -> Arc<Meaning> {
        let meaning = &prepared.sense.meaning;
        if !self.access.looks_inside {
            return meaning.clone();
        }
        let known = self.shared.codes.of(&self.backend);
        let is_fresh = known.as_ref().is_some_and(|(_, is_fresh)| *is_fresh);
        let meaning = known.map_or_else(
            || meaning.clone(),
            |(code, _)| code.see_through(&prepared.sense, &prepared.classified, is_fresh, &self.shared.classifier),
        );
        if is_fresh || self.blind_since.is_none() || !prepared.sense.names_anything() {
            return meaning;
        }
        // Whoever can make the look fail (`statement_timeout`) must not gain by it.
        let mut meaning = (*meaning).clone();
        meaning.effects.insert(Effect::Unknown);
        meaning.unknown.push("names what the backend's catalog could not be asked about".to_owned());
        Arc::new(meaning)
    }

    /// The definitions of the code behind the names in a statement. `None` where they are not known for certain.
    pub(super) fn definitions_behind(&self, prepared: &Prepared) -> Option<Digest> {
        if !self.access.looks_inside || !prepared.sense.names_anything() {
            return Some(Digest([0; 32]));
        }
        let (code, is_fresh) = self.shared.codes.of(&self.backend)?;
        is_fresh.then(|| code.definitions(&prepared.sense, &self.shared.classifier))
    }

    /// Whether planning it may run code that users have made, as far as that is known.
    pub(super) fn runs_when_planned(&self, prepared: &Prepared) -> bool {
        let known = self.shared.codes.of(&self.backend).filter(|_| self.access.looks_inside);
        known.is_some_and(|(code, _)| code.runs_when_planned(&prepared.sense, &self.shared.classifier))
    }

    /// Something with these effects goes to the backend, which may change what stands behind names. What was known then
    /// only adds.
    pub(super) fn may_define(&mut self, effects: Effects) {
        if self.access.looks_inside && effects.intersects(DEFINES) {
            self.defines = true;
            self.shared.codes.doubt(&self.backend);
        }
    }

    /// Whether the catalog must be asked before the next request is read: only where nothing is under way, since what
    /// is asked inside a transaction would begin its snapshot.
    pub(super) fn wants_inspection(&self) -> bool {
        self.access.looks_inside
            && self.rested
            && self.lexical.utf8
            && self.transaction == b'I'
            && self.pending.is_empty()
            && self.blind_since.is_none_or(|since| since.elapsed() > FRESH)
            && (self.history.wants_beginning() || self.shared.codes.is_wanted(&self.backend))
    }

    /// Asks. The request that waits for it stays where it is.
    pub(super) fn inspect(&mut self) -> Step {
        let mut inspection = self.shared.codes.inspection(&self.backend);
        let mut out = BytesMut::new();
        if self.history.wants_beginning() {
            inspection.asks_beginning();
            wire::ask(&mut out, &self.apart, BEGINNING.as_bytes(), &[], &[]);
        }
        match self.shared.codes.is_wanted(&self.backend) {
            true => wire::ask_apart(&mut out, &self.apart, &lookup_sql()),
            false => {
                inspection.looks = false;
                wire::message(&mut out, b'S', |_| {});
            }
        }
        self.rested = false;
        self.phase = Phase::LookingInside(Box::new(inspection));
        Step::Control("catalog lookup: what stands behind names", Frame::new(out.freeze()))
    }

    /// A part of the answer; the client hears nothing of it.
    pub(super) fn inspected(&mut self, message: &[u8]) -> Result<Fate, Unmaskable> {
        let Phase::LookingInside(inspection) = &mut self.phase else {
            unreachable!("only called while looking inside")
        };
        match message[0] {
            b'D' => inspection.row(message),
            b'C' => inspection.answered(),
            b'1' | b'2' | b'3' => {}
            other => {
                return Err(Unmaskable::Malformed(format!(
                    "a message of type {:?} during a catalog lookup",
                    char::from(other)
                )));
            }
        }
        Ok(Fate::Swallow)
    }

    /// What a statement's computed columns may be made of. A column that only stands for itself in the outermost list
    /// is masked by its lineage and computes nothing, unless a set operation takes the lineage away.
    pub(super) fn computes(&self, portal: &Portal) -> References {
        let reads = self.reads(portal);
        if reads.opaque {
            // What cannot be seen may be an UPDATE that stores a masked column under another name.
            let stores = portal.prepared.as_ref().is_none_or(|prepared| {
                let Sense { meaning, reads, .. } = &*prepared.sense;
                reads.stores || reads.unseen || meaning.effects.contains(Effect::Write)
            });
            return References { stored: stores.then(BTreeSet::new), ..reads };
        }
        match &portal.prepared {
            Some(prepared) if !reads.set_operation => {
                References { columns: prepared.sense.reads.computed.clone(), ..reads }
            }
            _ => reads,
        }
    }

    /// The major version of what a backend calls its `server_version`; one that cannot be read is older than all.
    pub(super) fn major(version: &str) -> u32 {
        let digits = version.split(|char: char| !char.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
    }
}

/// What a session's roles and database have set for it, which no startup message says. Read alike whatever is set.
const BEGINNING: &str = "/* holdpoint: what the session began with */ SELECT pg_catalog.current_setting('search_path'), \
     (SELECT pg_catalog.string_agg(pg_catalog.concat_ws('|', s.setdatabase, s.setrole, s.setconfig), '|' ORDER BY s.setdatabase, s.setrole) \
     FROM pg_catalog.pg_db_role_setting s)";

/// What may change what stands behind names: definitions, catalogs written by hand, and whatever cannot be seen.
const DEFINES: Effects =
    Effects::of(Effect::Schema).with(Effect::Execute).with(Effect::Unknown).with(Effect::Privilege).with(Effect::Admin);
