//! What a text means on this very backend, and what its computed columns may show, where the text alone does not tell.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    classify::{Classified, Statement},
    dialect::PostgresDialect,
    mask::References,
    portal::{Portal, Prepared},
};
use crate::operation::{Effect, Meaning};

impl PostgresDialect {
    /// `meaning`, unknown where the backend makes a call of what elsewhere is a column or harmless: a `row.name` that
    /// its catalog has a function for, and a built-in that is newer than it is and so may be anybody's.
    pub(super) fn on_this_backend(&self, classified: &Classified, meaning: Arc<Meaning>) -> Arc<Meaning> {
        let reads = &classified.reads;
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
            return meaning;
        }
        let mut meaning = (*meaning).clone();
        meaning.effects = meaning.effects.with(Effect::Execute).with(Effect::Unknown);
        meaning.unknown.extend(why);
        Arc::new(meaning)
    }

    /// What a statement's computed columns may be made of. A column that only stands for itself in the outermost list
    /// is masked by its lineage and computes nothing, unless a set operation takes the lineage away.
    pub(super) fn computes(&self, portal: &Portal) -> References {
        let reads = self.reads(portal);
        if reads.opaque {
            // What cannot be seen may be an UPDATE that stores a masked column under another name.
            let stores = portal.prepared.as_ref().is_none_or(|prepared| {
                let effects = prepared.meaning.effects;
                prepared.classified.reads.stores
                    || effects.contains(Effect::Write)
                    || (effects.contains(Effect::Unknown) && runs_what_is_elsewhere(prepared))
            });
            return References { stored: stores.then(BTreeSet::new), ..reads };
        }
        match &portal.prepared {
            Some(prepared) if !reads.set_operation => {
                References { columns: prepared.classified.reads.computed.clone(), ..reads }
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

/// Whether a statement runs one whose text is not in it.
pub(super) fn runs_what_is_elsewhere(prepared: &Prepared) -> bool {
    let elsewhere = |statement: &Statement| matches!(statement, Statement::Execute { .. } | Statement::Fetch { .. });
    prepared.classified.statements.iter().any(elsewhere)
}
