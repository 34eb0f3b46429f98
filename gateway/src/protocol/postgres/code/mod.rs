//! What stands behind names: functions, operators, triggers, rules, views and keys that users have made, as the
//! backend's catalog has them.
//!
//! The text says what is called and touched by name ([`Inside`]); [`Code::see_through`] says what that does. Bodies in
//! SQL are classified like any text, simple PL/pgSQL statement by statement (`body`), and so on down to built-ins.
//!
//! # Security
//! - A name stands for everything that has it, in every schema and for all types of arguments, and a name of
//!   PostgreSQL's own also for what a user has called so: neither `search_path` nor PostgreSQL's choice among
//!   candidates is imitated, so neither can be played with.
//! - What cannot be followed is unknown: other languages, dynamic SQL, a body that can be read in two ways.
//!   C is trusted only in extensions whose functions compute and do nothing else.
//! - Knowing more takes `unknown` away only while it is fresh (see [`super::lookup`]); what it adds it always adds.
//! - A type of users' own (not an extension's) stands for all that its checks, casts and parts may run, wherever it is
//!   named, in a column of what is named, or in what is called.
//! - What this does not see: functions behind a column's name, and those of operator classes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use serde_json::Value;

use super::classify::{self, Called, Classified, Classifier, Inside, Lexical, Sense, Table};
use crate::operation::{Digest, Effect, Effects, Meaning, Object};

mod body;
mod reader;

pub use reader::{CodeReader, lookup_sql};

/// What is known of one database.
#[derive(Debug, Default)]
pub struct Code {
    functions: HashMap<u32, Function>,
    functions_by_name: HashMap<String, Vec<u32>>,
    operators: HashMap<String, Vec<Operator>>,
    relations: HashMap<String, Vec<Relation>>,
    types: HashMap<u32, Type>,
    types_by_name: HashMap<String, Vec<u32>>,
    /// What event triggers call.
    on_definition: Vec<u32>,
}

/// A type, as far as using it runs code.
#[derive(Debug, Default)]
struct Type {
    schema: String,
    /// Its casts, checks and the like, as a text that changes with them.
    definition: String,
    functions: Vec<u32>,
    /// The types that it is made of.
    parts: Vec<u32>,
}

/// A function, procedure or aggregate.
#[derive(Debug, Default)]
struct Function {
    schema: String,
    name: String,
    language: String,
    extension: Option<String>,
    /// Runs with its owner's rights.
    is_definer: bool,
    /// `None`: too long, or in a language that is not read.
    body: Option<String>,
    /// Its arguments' defaults, as expressions.
    defaults: Option<String>,
    /// Settings that it runs with, as `name=value,…`.
    settings: Option<String>,
    /// What an aggregate is made of; `None` for other functions.
    parts: Option<Vec<u32>>,
    /// Users' types among its arguments and results.
    types: Vec<u32>,
    /// What reading it has shown.
    seen: OnceLock<Seen>,
}

/// An operator.
#[derive(Debug)]
struct Operator {
    schema: String,
    function: u32,
    /// A built-in function is behind it.
    is_builtin: bool,
    is_extensions: bool,
}

/// What using a relation sets off.
#[derive(Debug, Default)]
struct Relation {
    schema: String,
    /// Its rules, policies, defaults, checks and triggers, as a text that changes with them.
    definition: String,
    /// Users' types among its columns.
    types: Vec<u32>,
    /// Those that refer to it by a key, which `TRUNCATE … CASCADE` empties as well.
    referring: Vec<Table>,
    /// Whatever is done with it.
    always: Behind,
    /// When rows are added or changed.
    on_write: Behind,
    /// When rows are removed.
    on_delete: Behind,
}

#[derive(Debug, Default)]
struct Behind {
    functions: Vec<u32>,
    /// The same, which planning runs in no case.
    triggers: Vec<u32>,
    relations: Vec<(Table, Via)>,
    effects: Effects,
}

/// How another relation is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Via {
    /// It is below a view: what is done to the view is done to it.
    View,
    /// It is below a materialized view, which only reads it.
    Copy,
    /// It is a partition or a child; a row that moves is deleted here and inserted there.
    Child,
    /// It refers to the rows by a key that does this to its own.
    Key(Effects),
}

/// What reading a function has shown.
#[derive(Debug)]
enum Seen {
    /// It does what these texts do.
    Texts(Vec<Arc<Classified>>),
    /// It does this.
    Does(Effects, Option<&'static str>),
    /// It cannot be followed, and why.
    Not(String),
}

impl Code {
    /// `meaning`, which is what `classified` means in this session, with what stands behind the names in it.
    ///
    /// Where it is not `is_fresh`, what stands behind a name adds to the meaning, and takes no `unknown` away.
    pub fn see_through(
        &self,
        sense: &Arc<Sense>,
        classified: &Classified,
        is_fresh: bool,
        classifier: &Classifier,
    ) -> Arc<Meaning> {
        let Sense { meaning, inside, .. } = &**sense;
        let mut search = Search::new(self, classifier);
        let base = match &inside.meaning {
            Some(base) if is_fresh && Arc::ptr_eq(sense, &classified.sense) => {
                inside.opaque.iter().for_each(|called| search.call(called));
                base
            }
            _ => meaning,
        };
        search.around(inside, base.effects);
        if search.found.is_empty() && search.why.is_empty() {
            return base.clone();
        }
        let mut all = (**base).clone();
        classify::gather(&mut all, search.found.iter().map(|one| &**one), &[]);
        if !search.why.is_empty() {
            all.effects = all.effects.with(Effect::Execute).with(Effect::Unknown);
        }
        for why in search.why {
            if !all.unknown.contains(&why) && all.unknown.len() < MOST_REASONS {
                all.unknown.push(why);
            }
        }
        Arc::new(all)
    }

    /// The definitions of all code that `sense` may run, in an order of their own: another sum is other code.
    pub fn definitions(&self, sense: &Sense, classifier: &Classifier) -> Digest {
        let search = self.search(sense, classifier, false);
        let functions = search.done.iter().filter_map(|oid| self.functions.get(oid));
        let mut definitions: Vec<_> = functions.map(Function::definition).chain(search.definitions).collect();
        definitions.sort_unstable();
        Digest::of(definitions.concat().as_bytes())
    }

    /// Whether planning what `sense` stands for may run code that users have made: all but triggers.
    pub fn runs_when_planned(&self, sense: &Sense, classifier: &Classifier) -> bool {
        let search = self.search(sense, classifier, true);
        let made = |oid: &u32| self.functions.get(oid).is_some_and(|function| function.is_users());
        !search.why.is_empty() || search.done.iter().any(made)
    }

    fn search<'c>(&'c self, sense: &Sense, classifier: &'c Classifier, plans: bool) -> Search<'c> {
        let mut search = Search { plans, ..Search::new(self, classifier) };
        sense.inside.opaque.iter().for_each(|called| search.call(called));
        search.around(&sense.inside, sense.meaning.effects);
        search
    }

    /// How many functions, operators and relations are known.
    pub fn size(&self) -> (usize, usize, usize) {
        (self.functions.len(), self.operators.len(), self.relations.len())
    }

    fn functions(&self, called: &Called) -> impl Iterator<Item = (u32, &Function)> {
        let named = self.functions_by_name.get(&called.name).into_iter().flatten();
        let functions = named.filter_map(|oid| Some((*oid, self.functions.get(oid)?)));
        let schema = called.schema.clone();
        functions.filter(move |(_, function)| schema.as_deref().is_none_or(|schema| function.schema == schema))
    }

    fn operators(&self, called: &Called) -> impl Iterator<Item = &Operator> {
        let named = self.operators.get(&called.name).into_iter().flatten();
        let schema = called.schema.clone();
        named.filter(move |operator| schema.as_deref().is_none_or(|schema| operator.schema == schema))
    }
}

impl Function {
    fn see(&self, classifier: &Classifier) -> &Seen {
        self.seen.get_or_init(|| self.read(classifier))
    }

    fn read(&self, classifier: &Classifier) -> Seen {
        let is_c = matches!(self.language.as_str(), "c" | "internal");
        if is_c && let Some((effects, why)) = classify::known_effects(&self.name) {
            // PostgreSQL's own dangerous ones, and those of dblink and adminpack.
            return Seen::Does(effects, why);
        }
        if is_c && self.extension.as_deref().is_some_and(|name| COMPUTING.contains(&name)) {
            return Seen::Does(Effects::NONE, None);
        }
        if self.body.iter().chain(&self.defaults).any(|text| text.contains('\\')) {
            // What a backslash means is decided by a setting of the session that calls.
            return Seen::Not("in which a backslash can be read in two ways".to_owned());
        }
        let texts = match (self.language.as_str(), &self.body) {
            ("sql", Some(body)) if !body.trim().is_empty() => Ok(vec![body.clone()]),
            ("sql", Some(_)) => Err("whose body is kept as a tree, which this gateway does not read".to_owned()),
            ("plpgsql", Some(body)) => body::texts(body).map_err(|why| format!("in which {why}")),
            ("sql" | "plpgsql", None) => Err("whose body is too long to be read".to_owned()),
            (language, _) => Err(format!("which is written in {language}")),
        };
        match texts {
            Ok(texts) => {
                let defaults = self.defaults.iter().map(|defaults| format!("SELECT {defaults}"));
                let all = texts.into_iter().chain(defaults);
                Seen::Texts(all.map(|text| classifier.classify(text.as_bytes(), &Lexical::default())).collect())
            }
            Err(why) => Seen::Not(why),
        }
    }

    /// Neither PostgreSQL's nor an extension's.
    fn is_users(&self) -> bool {
        self.extension.is_none() && self.schema != "pg_catalog"
    }

    fn named(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// All that is known of what it does, as a text that no other function has.
    fn definition(&self) -> String {
        let Self { schema, name, language, extension, is_definer, body, defaults, settings, parts, types, seen: _ } =
            self;
        let made = (schema, name, language, extension, is_definer, body, defaults, settings, parts, types);
        format!("{made:?}\n")
    }

    /// What it does before its body does anything.
    fn frame(&self) -> Meaning {
        let mut effects = Effects::NONE;
        if self.is_definer {
            effects.insert(Effect::Privilege);
        }
        for setting in self.settings.iter().flat_map(|settings| settings.split(',')) {
            let name = setting.split('=').next().unwrap_or_default();
            if matches!(name, "role" | "session_authorization" | "session_replication_role" | "row_security") {
                effects = effects.with(Effect::Privilege).with(Effect::Admin);
            }
        }
        let object = Object { kind: "function".into(), schema: Some(self.schema.clone()), name: self.name.clone() };
        let fields = [("functions", Value::from(vec![self.named()]))].into();
        Meaning { effects, objects: vec![object], unknown: Vec::new(), fields }
    }
}

/// One statement's way through the code.
struct Search<'c> {
    code: &'c Code,
    classifier: &'c Classifier,
    found: Vec<Arc<Meaning>>,
    why: Vec<String>,
    done: HashSet<u32>,
    touched: HashSet<(Table, Effects)>,
    types: HashSet<u32>,
    definitions: BTreeSet<String>,
    /// Only what planning may run.
    plans: bool,
}

impl<'c> Search<'c> {
    fn new(code: &'c Code, classifier: &'c Classifier) -> Self {
        Self {
            code,
            classifier,
            found: Vec::new(),
            why: Vec::new(),
            done: HashSet::new(),
            touched: HashSet::new(),
            types: HashSet::new(),
            definitions: BTreeSet::new(),
            plans: false,
        }
    }

    /// A call that the text alone cannot see through.
    fn call(&mut self, called: &Called) {
        let code = self.code;
        let mut is_known = false;
        if called.is_operator {
            for operator in code.operators(called) {
                is_known = true;
                self.operator(called, operator);
            }
        } else {
            for (oid, _) in code.functions(called) {
                is_known = true;
                self.function(oid);
            }
        }
        if !is_known {
            self.why.push(called.unseen());
        }
    }

    fn operator(&mut self, called: &Called, operator: &Operator) {
        self.definitions.insert(format!("{}.{} {}\n", operator.schema, called.name, operator.function));
        if !operator.is_builtin {
            self.function(operator.function);
        }
    }

    /// A value of this type is made, read or cast.
    fn kind(&mut self, oid: u32) {
        let code = self.code;
        let Some(own) = code.types.get(&oid).filter(|_| self.types.insert(oid)) else { return };
        if !own.definition.is_empty() {
            self.definitions.insert(format!("{}\n", own.definition));
        }
        for oid in &own.functions {
            if code.functions.get(oid).is_some_and(|function| function.extension.is_none()) {
                self.function(*oid);
            }
        }
        own.parts.iter().for_each(|part| self.kind(*part));
    }

    fn function(&mut self, oid: u32) {
        let Some(function) = self.code.functions.get(&oid) else { return };
        if !self.done.insert(oid) {
            return;
        }
        if self.done.len() > MOST_FUNCTIONS {
            self.why.push("calls more functions than this gateway follows".to_owned());
            return;
        }
        self.found.push(Arc::new(function.frame()));
        function.types.iter().for_each(|kind| self.kind(*kind));
        if let Some(parts) = &function.parts {
            parts.iter().for_each(|part| self.function(*part));
            return;
        }
        match function.see(self.classifier) {
            Seen::Texts(texts) => texts.iter().for_each(|text| self.text(text)),
            Seen::Does(effects, why) => {
                self.found.push(Arc::new(Meaning { effects: *effects, ..Meaning::default() }));
                self.why.extend(why.iter().map(|why| format!("calls {}, which {why}", function.named())));
            }
            Seen::Not(why) => self.why.push(format!("calls {}, {why}", function.named())),
        }
    }

    /// A text that runs with the statement.
    fn text(&mut self, text: &Classified) {
        let inside = &text.inside;
        let base = match &inside.meaning {
            Some(base) if text.names_nothing_prepared() => {
                inside.opaque.iter().for_each(|called| self.call(called));
                base
            }
            _ => &text.meaning,
        };
        self.found.push(base.clone());
        self.around(inside, base.effects);
    }

    /// What is set off without being called: what a user has given a name of PostgreSQL's own, and what stands behind
    /// relations.
    fn around(&mut self, inside: &Inside, effects: Effects) {
        let code = self.code;
        for called in inside.functions.iter().filter(|called| called.schema.is_none()) {
            for (oid, _) in code.functions(called).filter(|(_, function)| function.is_users()) {
                self.function(oid);
            }
        }
        for called in inside.operators.iter().filter(|called| called.schema.is_none()) {
            for operator in code.operators(called).filter(|operator| !operator.is_extensions) {
                self.operator(called, operator);
            }
        }
        for named in &inside.types {
            for oid in code.types_by_name.get(&named.name).into_iter().flatten() {
                if named.schema.as_deref().is_none_or(|schema| code.types[oid].schema == schema) {
                    self.kind(*oid);
                }
            }
        }
        if inside.defines && !self.plans {
            code.on_definition.iter().for_each(|oid| self.function(*oid));
        }
        if !effects.intersects(USES) {
            // Only what a table is changes, not what is in it.
            return;
        }
        let changes: Effects = effects.iter().filter(|effect| CHANGES.contains(*effect)).collect();
        for (table, is_target) in &inside.tables {
            self.relation(table, if *is_target { changes } else { Effects::NONE });
            if inside.cascades && *is_target {
                self.referring(table);
            }
        }
    }

    /// `TRUNCATE … CASCADE`: all that refer to this, and to those.
    fn referring(&mut self, table: &Table) {
        let code = self.code;
        let (mut emptied, mut next) = (HashSet::new(), vec![table]);
        while let Some(table) = next.pop().filter(|_| emptied.len() <= MOST_RELATIONS) {
            let named = code.relations.get(&table.name).into_iter().flatten();
            let meant = named.filter(|relation| table.schema.is_empty() || relation.schema == table.schema);
            for other in meant.flat_map(|relation| &relation.referring) {
                if emptied.insert(other) {
                    self.found.push(Arc::new(named_table(other, true)));
                    self.relation(other, Effects::of(Effect::Delete));
                    next.push(other);
                }
            }
        }
    }

    /// A relation that is read, and in which `changes` happen.
    fn relation(&mut self, table: &Table, changes: Effects) {
        if !self.touched.insert((table.clone(), changes)) {
            return;
        }
        if self.touched.len() > MOST_RELATIONS {
            self.why.push("touches more relations than this gateway follows".to_owned());
            return;
        }
        let named = self.code.relations.get(&table.name).into_iter().flatten();
        let meant = named.filter(|relation| table.schema.is_empty() || relation.schema == table.schema);
        for relation in meant {
            self.definitions.insert(format!("{}.{} {}\n", relation.schema, table.name, relation.definition));
            relation.types.iter().for_each(|kind| self.kind(*kind));
            self.behind(&relation.always, changes);
            if changes.contains(Effect::Write) || self.plans {
                self.behind(&relation.on_write, changes);
            }
            if changes.contains(Effect::Delete) {
                self.behind(&relation.on_delete, changes);
            }
        }
    }

    fn behind(&mut self, behind: &Behind, changes: Effects) {
        if !behind.effects.is_empty() {
            self.found.push(Arc::new(Meaning { effects: behind.effects, ..Meaning::default() }));
        }
        behind.functions.iter().for_each(|oid| self.function(*oid));
        if !self.plans {
            behind.triggers.iter().for_each(|oid| self.function(*oid));
        }
        for (table, via) in &behind.relations {
            let changes = match via {
                Via::View => changes,
                Via::Copy => Effects::NONE,
                Via::Child if changes.is_empty() => changes,
                Via::Child => CHANGES,
                Via::Key(effects) => *effects,
            };
            self.found.push(Arc::new(named_table(table, !changes.is_empty())));
            self.relation(table, changes);
        }
    }
}

/// A table that is touched without being named.
fn named_table(table: &Table, is_target: bool) -> Meaning {
    let object = Object { kind: "table".into(), schema: Some(table.schema.clone()), name: table.name.clone() };
    let named = Value::from(vec![serde_json::json!({ "schema": table.schema, "name": table.name })]);
    let mut fields = std::collections::BTreeMap::from([("tables", named.clone())]);
    if is_target {
        fields.insert("targets", named);
    }
    Meaning { objects: vec![object], fields, ..Meaning::default() }
}

/// Uses what is in a table.
const USES: Effects = CHANGES.with(Effect::Read).with(Effect::Transfer).with(Effect::Execute).with(Effect::Unknown);

/// Changes rows.
const CHANGES: Effects = Effects::of(Effect::Write).with(Effect::Delete);

/// A person reads the reasons; more than this helps nobody.
const MOST_REASONS: usize = 16;

/// How many functions one statement is followed through.
const MOST_FUNCTIONS: usize = 256;

/// The same for relations.
const MOST_RELATIONS: usize = 1024;

/// Extensions whose functions in C compute and do nothing else.
const COMPUTING: &[&str] = &[
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "dict_xsyn",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "plpgsql",
    "seg",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
    "vector",
];

#[cfg(test)]
mod tests;
