//! What a text means on this very backend, where its text alone does not tell.

use std::sync::Arc;

use super::{classify::Classified, dialect::PostgresDialect};
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

    /// The major version of what a backend calls its `server_version`; one that cannot be read is older than all.
    pub(super) fn major(version: &str) -> u32 {
        let digits = version.split(|char: char| !char.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
    }
}
