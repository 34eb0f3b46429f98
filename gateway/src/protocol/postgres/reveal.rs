//! Which masked columns a statement reads otherwise than to hand them out masked: expressions, predicates, orders,
//! joins. Their values shape what comes back without being in it, so they can be guessed a piece at a time.
//!
//! # Security
//! By name, as the text has them: a column counts where a relation in the text has a masked column of that name, and
//! the whole row where such a relation's row is used as a value. What cannot be seen through is `unknown` already. Of a
//! relation that the catalog does not know the rules' own patterns tell.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;

use super::{
    classify::References,
    mask::{Catalog, holds_samples},
};
use crate::{
    mask::Masks,
    operation::{Effect, Meaning},
};

/// The masked columns among those that a statement computes with; `*` for a whole row.
pub(super) fn revealed(reads: &References, masks: &Masks, catalog: Option<&Catalog>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if !masks.has_columns() || reads.tables.is_empty() || (reads.computed.is_empty() && !reads.whole_row) {
        return found;
    }
    let tables =
        || reads.tables.iter().map(|table| (Some(table.schema.as_str()).filter(|s| !s.is_empty()), &*table.name));
    let known = |table: &str| catalog.filter(|catalog| catalog.knows(table));
    let is_masked = |column: &&String| {
        let in_table = |(schema, table): (Option<&str>, &str)| match known(table) {
            Some(catalog) => catalog.has_masked(schema, table, column),
            None => masks.could_mask(schema, table, Some(column)),
        };
        holds_samples(column) || tables().any(in_table)
    };
    found.extend(reads.computed.iter().filter(is_masked).cloned());
    let has_masked = |(schema, table): (Option<&str>, &str)| match known(table) {
        Some(catalog) => catalog.may_be_masked(schema, table),
        None => masks.could_mask(schema, table, None),
    };
    if reads.whole_row && tables().any(has_masked) {
        found.insert("*".to_owned());
    }
    found
}

/// `meaning` of a statement that reveals these columns.
pub(super) fn revealing(meaning: Arc<Meaning>, columns: &BTreeSet<String>) -> Arc<Meaning> {
    if columns.is_empty() {
        return meaning;
    }
    let mut meaning = (*meaning).clone();
    meaning.effects.insert(Effect::Reveal);
    meaning.fields.insert("revealed", json!(columns));
    Arc::new(meaning)
}
