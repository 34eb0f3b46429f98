//! What the names of prepared statements and cursors in a text stand for.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{Classified, Sense, Statement, union, unresolved};

impl Classified {
    /// What the text does with every `EXECUTE` and `FETCH` replaced by what it stands for: what the text itself prepares
    /// or declares before it, else what `prepared` and `cursor` answer. A name that nobody knows stays unknown.
    pub fn resolve(
        &self,
        prepared: impl Fn(&str) -> Option<Arc<Sense>>,
        cursor: impl Fn(&str) -> Option<Arc<Sense>>,
    ) -> Arc<Sense> {
        if self.names_nothing_prepared() {
            return self.sense.clone();
        }
        let mut meaning = (*self.base).clone();
        let reasons = meaning.unknown.len();
        let (mut statements, mut cursors) = (Names::default(), Names::default());
        let mut found: Vec<Arc<Sense>> = Vec::new();
        let mut seen = HashSet::new();
        let mut stands_for = |one: Arc<Sense>| {
            if seen.insert(Arc::as_ptr(&one)) {
                found.push(one);
            }
        };
        for statement in &self.statements {
            match statement {
                Statement::Prepare { name, sense } => statements.define(name, sense),
                Statement::Deallocate { name } => statements.forget(name.as_deref()),
                Statement::DeclareCursor { name, sense, .. } => cursors.define(name, sense),
                Statement::CloseCursor { name } => cursors.forget(name.as_deref()),
                Statement::DiscardAll => {
                    statements.forget(None);
                    cursors.forget(None);
                }
                Statement::Execute { name } => match statements.find(name, &prepared) {
                    Some(one) => stands_for(one),
                    None => unresolved(
                        &mut meaning,
                        format!("executes the prepared statement {name}, which this gateway did not see prepared"),
                    ),
                },
                Statement::Fetch { cursor: name } => match cursors.find(name, &cursor) {
                    Some(one) => stands_for(one),
                    None => unresolved(
                        &mut meaning,
                        format!("fetches from the cursor {name}, which this gateway did not see declared"),
                    ),
                },
                _ => {}
            }
        }
        let mut reads = self.reads.clone();
        reads.unseen |= meaning.unknown.len() > reasons;
        // The kinds of statements stay those of the text.
        union::gather(&mut meaning, found.iter().map(|one| &*one.meaning), &["statements"]);
        let mut inside = self.inside.clone();
        for one in found {
            reads.absorb(&one.reads);
            inside.absorb(&one.inside);
        }
        Arc::new(Sense { meaning: Arc::new(meaning), reads, inside })
    }
}

/// Names that a text defines and forgets on its way; what it says nothing of is asked outside.
#[derive(Default)]
struct Names {
    known: BTreeMap<String, Option<Arc<Sense>>>,
    all_forgotten: bool,
}

impl Names {
    fn define(&mut self, name: &str, sense: &Arc<Sense>) {
        self.known.insert(name.to_owned(), Some(sense.clone()));
    }

    fn forget(&mut self, name: Option<&str>) {
        match name {
            Some(name) => {
                self.known.insert(name.to_owned(), None);
            }
            None => {
                self.known.clear();
                self.all_forgotten = true;
            }
        }
    }

    fn find(&self, name: &str, outside: impl Fn(&str) -> Option<Arc<Sense>>) -> Option<Arc<Sense>> {
        match self.known.get(name) {
            Some(found) => found.clone(),
            None if self.all_forgotten => None,
            None => outside(name),
        }
    }
}
