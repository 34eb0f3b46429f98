//! What was found, as lines for a person to edit.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Tally,
    catalog::{Catalog, Column, Id, Looked, Relation, What},
    clue::{Words, mark},
    judge::{self, Opinion},
};
use crate::{
    mask::{Detector, Masks, Method, written},
    policy::amend::{MaskLine, quoted},
    visible::visible,
};

/// What is proposed.
#[derive(Debug, Default)]
pub struct Proposal {
    /// For the end of the resource's `mask` list.
    pub lines: Vec<MaskLine>,
    /// What the lines in force mask, and how: schema, table, column.
    pub columns: Vec<(String, String, String, Method)>,
    /// What the lines in force look for in every value.
    pub detectors: Vec<Detector>,
    /// How many lines a person has to decide about.
    pub open: usize,
}

/// Of this part of a column's values, an address in the middle of text is no accident.
const OFTEN: f64 = 0.05;

/// Proposes masks beside those that there are. `looked` has what came of looking at values; what is missing there was not
/// meant to be looked at.
pub fn propose(catalog: &Catalog, masks: &Masks, looked: &BTreeMap<Id, Looked>) -> Proposal {
    let by_id: BTreeMap<Id, &Relation> = catalog.relations.iter().map(|relation| (relation.id, relation)).collect();
    let mut draft =
        Draft { masks, by_id, looked, done: Proposal::default(), masked: BTreeSet::new(), inside: BTreeMap::new() };
    // What shows a masked column is masked with it, so only a kept view that shows none has values of its own.
    let (kept, tables): (Vec<_>, Vec<_>) = catalog.relations.iter().partition(|relation| relation.what == What::Kept);
    tables.iter().filter(|relation| relation.what != What::View).for_each(|relation| draft.table(relation));
    for relation in kept {
        if !draft.views(catalog).contains_key(&relation.id) {
            draft.table(relation);
        }
    }
    draft.detectors();
    draft.about_views(catalog);
    draft.about_what_is_missing(catalog);
    draft.done
}

struct Draft<'d> {
    masks: &'d Masks,
    by_id: BTreeMap<Id, &'d Relation>,
    looked: &'d BTreeMap<Id, Looked>,
    done: Proposal,
    /// Columns that are masked, or will be.
    masked: BTreeSet<(Id, i16)>,
    /// What detectors find amid other text: in which columns, of how many values in how many.
    inside: BTreeMap<&'static str, (Detector, Vec<(String, u32, u32)>)>,
}

impl<'d> Draft<'d> {
    fn table(&mut self, relation: &'d Relation) {
        let mut lines = Vec::new();
        let mut already = Vec::new();
        for column in &relation.columns {
            if let Some(with) = self.masks.for_column(&relation.schema, &relation.name, &column.name) {
                self.masked.insert((relation.id, column.number));
                already.push(format!("{} ({})", visible(column.name.as_bytes()), with.as_str()));
                continue;
            }
            lines.extend(self.column(relation, column));
        }
        let marked = mark(&Words::of(&relation.comment)).filter(|_| relation.parent.is_none());
        if lines.is_empty() && already.is_empty() && marked.is_none() {
            return;
        }
        self.say(format!("-- {}", shown(relation)));
        if let Some(word) = marked {
            self.say(format!("the table's comment says \"{word}\": look at each of its columns"));
        }
        self.done.lines.extend(lines);
        if !already.is_empty() {
            self.say(format!("masked already: {}", already.join(", ")));
        }
    }

    fn column(&mut self, relation: &'d Relation, column: &Column) -> Vec<MaskLine> {
        let root = self.root(relation);
        let of_root = root.columns.iter().find(|one| one.name == column.name);
        let (asked, of) = of_root.map_or((column, relation), |column| (column, root));
        let tally = match self.looked.get(&of.id) {
            Some(Looked::At(tallies)) => tallies.get(&asked.number),
            _ => None,
        };
        let mut opinion = judge::column(of, asked, tally);
        if opinion.as_ref().is_none_or(|opinion| !opinion.sure)
            && let Some(tally) = tally
        {
            let found = self.found_inside(of, asked, tally, relation.id == of.id);
            opinion = opinion.or(found);
        }
        let Some(mut opinion) = opinion else { return Vec::new() };
        if of.id != relation.id {
            opinion.why.push_str(&format!("; a part of {}", shown(of)));
        }
        if let Some(detector) = opinion.covered.filter(|detector| looks_for(self.masks, *detector)) {
            opinion.sure = false;
            opinion.why.push_str(&format!("; `detect: {}` masks such values already", detector.as_str()));
        }
        vec![self.rule(relation, column, opinion)]
    }

    fn rule(&mut self, relation: &Relation, column: &Column, Opinion { with, sure, why, .. }: Opinion) -> MaskLine {
        let name = quoted(&written(&relation.schema, &relation.name, &column.name));
        // Without quotes it is YAML's own null, which is read too, but looks like a slip.
        let method = if with == Method::Null { "\"null\"" } else { with.as_str() };
        let rule = format!("{{ column: {name}, with: {method} }}");
        if !sure {
            self.done.open += 1;
            return MaskLine::Comment(format!("- {rule}  # {why}"));
        }
        self.masked.insert((relation.id, column.number));
        self.done.columns.push((relation.schema.clone(), relation.name.clone(), column.name.clone(), with));
        MaskLine::Rule { rule, why }
    }

    /// What detectors find in the middle of this column's values, which is not masked otherwise.
    fn found_inside(&mut self, relation: &Relation, column: &Column, tally: &Tally, counts: bool) -> Option<Opinion> {
        let mut found = Vec::new();
        for detector in Detector::ALL {
            let count = tally.inside[detector as usize];
            if count == 0 || looks_for(self.masks, detector) {
                continue;
            }
            found.push(format!("{} in {count}", detector.as_str()));
            if counts {
                let name = format!("{}.{}", shown(relation), visible(column.name.as_bytes()));
                self.inside.entry(detector.as_str()).or_insert((detector, Vec::new())).1.push((
                    name,
                    count,
                    tally.values,
                ));
            }
        }
        let why =
            format!("of {} sampled values, amid other text: {}; see `detect` below", tally.values, found.join(", "));
        (!found.is_empty()).then_some(Opinion { with: Method::Redact, sure: false, why, covered: None })
    }

    fn detectors(&mut self) {
        if self.inside.is_empty() {
            return;
        }
        self.say(
            "-- found amid other text; `detect` masks just that, in every column and message of this resource".into(),
        );
        for (word, (detector, columns)) in std::mem::take(&mut self.inside) {
            let often = columns.iter().any(|(_, count, of)| *count >= 3 && f64::from(*count) >= OFTEN * f64::from(*of));
            // All others have a checksum, or a mark that nobody writes by accident.
            let sure = often || detector != Detector::Email;
            let each: Vec<_> = columns
                .iter()
                .take(5)
                .map(|(name, count, of)| format!("{count} of {of} sampled values of {name}"))
                .collect();
            let more =
                if columns.len() > 5 { format!(" and in {} columns more", columns.len() - 5) } else { String::new() };
            let (rule, why) =
                (format!("{{ detect: [{word}], with: redact }}"), format!("in {}{more}", each.join(", ")));
            if sure {
                self.done.detectors.push(detector);
                self.done.lines.push(MaskLine::Rule { rule, why });
            } else {
                self.done.open += 1;
                self.say(format!("- {rule}  # {why}"));
            }
        }
    }

    /// Views, and what of masked columns each reads, by itself or by another view.
    fn views(&self, catalog: &Catalog) -> BTreeMap<Id, BTreeSet<String>> {
        let mut views: BTreeMap<Id, BTreeSet<String>> = BTreeMap::new();
        loop {
            let before: usize = views.values().map(BTreeSet::len).sum();
            for (view, of, number) in &catalog.reads {
                let Some(relation) = self.by_id.get(of) else { continue };
                let mut read = BTreeSet::new();
                if self.masked.contains(&(*of, *number)) {
                    let column = relation.columns.iter().find(|column| column.number == *number);
                    read.extend(
                        column.map(|column| format!("{}.{}", shown(relation), visible(column.name.as_bytes()))),
                    );
                }
                read.extend(views.get(of).into_iter().flatten().cloned());
                if !read.is_empty() {
                    views.entry(*view).or_default().extend(read);
                }
            }
            if views.values().map(BTreeSet::len).sum::<usize>() == before {
                return views;
            }
        }
    }

    fn about_views(&mut self, catalog: &Catalog) {
        let views = self.views(catalog);
        if views.is_empty() {
            return;
        }
        self.say("-- views that read columns which are masked, or would be; the gateway masks these there too".into());
        for (view, columns) in views {
            if let Some(view) = self.by_id.get(&view) {
                let columns: Vec<_> = columns.into_iter().collect();
                self.say(format!("{}: {}", shown(view), columns.join(", ")));
            }
        }
    }

    fn about_what_is_missing(&mut self, catalog: &Catalog) {
        let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for relation in &catalog.relations {
            match self.looked.get(&relation.id) {
                Some(Looked::Not(why)) => missing.entry(why).or_default().push(shown(relation)),
                Some(Looked::At(_)) => {
                    let unread = relation.columns.iter().filter(|column| column.holds.tells() && !column.readable);
                    let names = unread.map(|column| format!("{}.{}", shown(relation), visible(column.name.as_bytes())));
                    missing.entry(UNREADABLE).or_default().extend(names);
                }
                None => {}
            }
        }
        missing.retain(|_, names| !names.is_empty());
        if missing.is_empty() {
            return;
        }
        self.say("-- values that were not looked at: names and comments alone speak for these".into());
        for (why, names) in missing {
            self.say(format!("{why}: {}", names.join(", ")));
        }
    }

    fn root(&self, relation: &'d Relation) -> &'d Relation {
        let mut root = relation;
        while let Some(parent) = root.parent.and_then(|id| self.by_id.get(&id)) {
            root = parent;
        }
        root
    }

    fn say(&mut self, text: String) {
        self.done.lines.push(MaskLine::Comment(text));
    }
}

/// Why a table or column is not sampled whose `SELECT` is not granted.
pub const UNREADABLE: &str = "no permission";

fn looks_for(masks: &Masks, detector: Detector) -> bool {
    masks.detectors().is_some_and(|detectors| detectors.looks_for(detector))
}

/// A relation's name as a person may look at it.
fn shown(relation: &Relation) -> String {
    format!("{}.{}", visible(relation.schema.as_bytes()), visible(relation.name.as_bytes()))
}
