//! What the gateway knows of a backend database's catalog: which stored columns are masked, under every name they have.
//!
//! [`lookup_sql`] is one statement; its rows go through a [`CatalogReader`] and become a [`Catalog`]. A column is masked
//! when a rule names it, when it is the same column of a partition or inheritance relative, and when it is a column of a
//! view that shows a masked one, or generated from one. The planner statistics of `pg_catalog` hold samples of all columns and are masked too.
//!
//! # Security
//! A relation that is not in the catalog was made since, and is masked as a whole until the catalog is read again.
//! The statement names everything with its schema, operators included, so that no `search_path` gives it another
//! meaning, and it holds neither a backslash nor an escape, so that `standard_conforming_strings` does not matter.

use std::collections::{HashMap, HashSet};

use super::{Unmaskable, body, lineage};
use crate::mask::{Masks, Method};

/// OIDs below this are made by `initdb` (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16384;
/// A view's tree longer than this (bytes) is not read; the view is masked whole.
const LONGEST_TREE: usize = 1 << 20;
/// System columns that hold values of other columns.
const SAMPLES: [&str; 11] = [
    "most_common_vals",
    "most_common_elems",
    "histogram_bounds",
    "range_bounds_histogram",
    "stavalues1",
    "stavalues2",
    "stavalues3",
    "stavalues4",
    "stavalues5",
    "stxdmcv",
    "stxdexpr",
];

/// One stored column.
#[derive(Debug, Clone)]
struct Attribute {
    attnum: i16,
    name: String,
    type_oid: u32,
    generated: bool,
    method: Option<Method>,
}

impl Attribute {
    fn named(&self) -> NamedColumn<'_> {
        NamedColumn { name: &self.name, type_oid: self.type_oid, method: self.method }
    }
}

/// A relation with its attributes, kept only when one of them is masked.
#[derive(Debug, Clone)]
struct Relation {
    schema: String,
    attributes: Vec<Attribute>,
}

/// Where a result column comes from, as far as masking cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Known, and no rule masks it.
    Open,
    /// Masked so.
    Masked(Method),
    /// Not in the catalog: made since, or never shown. Treat as masked, and read the catalog again.
    Unknown,
}

/// A column of a relation, by name: what COPY needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedColumn<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub type_oid: u32,
    /// How it is masked, if it is.
    pub method: Option<Method>,
}

/// What is known of one database, for one set of mask rules.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    known: HashSet<u32>,
    /// How many relations have this name, in any schema.
    names: HashMap<String, u32>,
    columns: HashMap<(u32, i16), Method>,
    masked: Vec<Relation>,
    with_masked: HashSet<u32>,
    by_name: HashMap<String, Vec<usize>>,
    rowtypes: HashSet<u32>,
    row_functions: HashSet<String>,
}

impl Catalog {
    /// How a stored column is masked; number 0 is the whole row.
    pub fn origin(&self, table: u32, attnum: i16) -> Origin {
        if let Some(method) = self.columns.get(&(table, attnum)) {
            return Origin::Masked(*method);
        }
        if attnum == 0 && self.with_masked.contains(&table) {
            return Origin::Masked(Method::Redact);
        }
        if table < FIRST_USER_OID || self.known.contains(&table) { Origin::Open } else { Origin::Unknown }
    }

    /// Whether a type is the row type of a relation with masked columns, or an array of it.
    pub fn is_masked_rowtype(&self, type_oid: u32) -> bool {
        self.rowtypes.contains(&type_oid)
    }

    /// Whether the table of this name has a masked column, or is not known. Without a schema: any table of the name.
    pub fn may_be_masked(&self, schema: Option<&str>, name: &str) -> bool {
        !self.knows(name) || self.named(schema, name).next().is_some()
    }

    /// Whether any relation has this name.
    pub fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether this name could be a masked column of one of these tables. A table that is not known has only masked ones.
    pub fn is_masked_in<'a>(&self, mut tables: impl Iterator<Item = (Option<&'a str>, &'a str)>, column: &str) -> bool {
        tables.any(|(schema, name)| !self.knows(name) || self.has_masked(schema, name, column))
    }

    /// Whether a relation of this name has this column, masked.
    pub fn has_masked(&self, schema: Option<&str>, name: &str, column: &str) -> bool {
        let is_it = |attribute: &Attribute| attribute.method.is_some() && attribute.name == column;
        self.named(schema, name).any(|table| table.attributes.iter().any(is_it))
    }

    /// The columns that `COPY name TO` sends, in order; `None` when it is not certain which relation is meant.
    pub(super) fn copied(&self, schema: Option<&str>, name: &str) -> Option<Vec<NamedColumn<'_>>> {
        let mut relations = self.named(schema, name);
        let relation = relations.next()?;
        let certain = relations.next().is_none() && (schema.is_some() || self.names.get(name) == Some(&1));
        let sent = relation.attributes.iter().filter(|attribute| !attribute.generated);
        certain.then(|| sent.map(Attribute::named).collect())
    }

    /// Whether a function of this name that is not PostgreSQL's own takes a row, so that `row.name` may call it.
    pub(in super::super) fn has_row_function(&self, name: &str) -> bool {
        self.row_functions.contains(name)
    }

    /// How many relations are known and how many columns are masked: for a log line.
    pub fn size(&self) -> (usize, usize) {
        (self.known.len(), self.columns.len())
    }

    fn named(&self, schema: Option<&str>, name: &str) -> impl Iterator<Item = &Relation> {
        let places = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        let relations = places.iter().map(|place| &self.masked[*place]);
        let schema = schema.map(str::to_owned);
        relations.filter(move |relation| schema.as_deref().is_none_or(|schema| relation.schema == schema))
    }
}

/// Whether this is a column of the planner's statistics, which hold values of other columns.
pub fn holds_samples(column: &str) -> bool {
    SAMPLES.contains(&column)
}

/// The statement that reads a database's catalog for these masks; `None` when no rule needs one.
///
/// It reads only `pg_catalog`, changes nothing, and answers seven columns of text. For PostgreSQL 12 to 18.
pub fn lookup_sql(masks: &Masks) -> Option<String> {
    let rules: Vec<_> =
        masks.column_patterns().map(|(schema, table, column)| rule_sql(schema, table, column)).collect();
    let samples = SAMPLES.join(",");
    (!rules.is_empty()).then(|| {
        LOOKUP
            .replace("$RULES", &rules.join(" OR "))
            .replace("$SAMPLES", &samples)
            .replace("$LONGEST", &LONGEST_TREE.to_string())
            .replace(" == ", " OPERATOR(pg_catalog.=) ")
            .replace(" <> ", " OPERATOR(pg_catalog.<>) ")
            .replace(" >> ", " OPERATOR(pg_catalog.>) ")
            .replace(" <= ", " OPERATOR(pg_catalog.<=) ")
            .replace(" ~~ ", " OPERATOR(pg_catalog.~~) ")
    })
}

/// `==`, `<>`, `>>`, `<=` and `~~` stand for the operators of `pg_catalog`. Fixed OIDs: 1259 is `pg_class`,
/// 2618 `pg_rewrite`, 2604 `pg_attrdef`, 11 the schema `pg_catalog`.
///
/// `kin`: relations with a masked column by rule, and their relatives by inheritance and partitioning.
/// `reach`: those, and views over them, and views over these.
const LOOKUP: &str = r#"WITH RECURSIVE
edge(a, b) AS (SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i
  UNION ALL SELECT i.inhparent, i.inhrelid FROM pg_catalog.pg_inherits i),
seed(o) AS (SELECT DISTINCT a.attrelid FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid == a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid == c.relnamespace
  WHERE c.relkind == ANY ('{r,p,f,v,m}'::pg_catalog."char"[]) AND a.attnum >> 0::pg_catalog.int2
  AND NOT a.attisdropped AND ($RULES)),
kin(o) AS (SELECT s.o FROM seed s UNION SELECT e.b FROM kin k JOIN edge e ON e.a == k.o),
dep(v, r, s) AS (SELECT DISTINCT w.ev_class, d.refobjid, d.refobjsubid FROM pg_catalog.pg_rewrite w
  JOIN pg_catalog.pg_depend d ON d.classid == 2618::pg_catalog.oid AND d.objid == w.oid
  AND d.refclassid == 1259::pg_catalog.oid AND d.refobjid <> w.ev_class
  JOIN pg_catalog.pg_class c ON c.oid == w.ev_class AND c.relkind == ANY ('{v,m}'::pg_catalog."char"[])),
reach(o) AS (SELECT k.o FROM kin k UNION SELECT d.v FROM reach x JOIN dep d ON d.r == x.o)
SELECT 'r'::pg_catalog.text, c.oid::pg_catalog.text, c.relkind::pg_catalog.text, n.nspname::pg_catalog.text,
  c.relname::pg_catalog.text, c.reltype::pg_catalog.text, t.typarray::pg_catalog.text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid == c.relnamespace
  LEFT JOIN pg_catalog.pg_type t ON t.oid == c.reltype
  WHERE c.relkind == ANY ('{r,p,f,v,m,S}'::pg_catalog."char"[])
UNION ALL SELECT 'a'::pg_catalog.text, a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text,
  a.attname::pg_catalog.text, a.atttypid::pg_catalog.text, a.attgenerated::pg_catalog.text, NULL::pg_catalog.text
  FROM pg_catalog.pg_attribute a JOIN reach x ON x.o == a.attrelid
  WHERE a.attnum >> 0::pg_catalog.int2 AND NOT a.attisdropped
UNION ALL SELECT 'a'::pg_catalog.text, a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text,
  a.attname::pg_catalog.text, a.atttypid::pg_catalog.text, ''::pg_catalog.text, NULL::pg_catalog.text
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid == a.attrelid
  WHERE c.relnamespace == 11::pg_catalog.oid AND a.attname == ANY ('{$SAMPLES}'::pg_catalog.name[])
UNION ALL SELECT 'i'::pg_catalog.text, e.a::pg_catalog.text, e.b::pg_catalog.text,
  NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text
  FROM edge e JOIN kin k ON k.o == e.a
UNION ALL SELECT 'v'::pg_catalog.text, w.ev_class::pg_catalog.text,
  CASE WHEN pg_catalog.length(w.ev_action::pg_catalog.text) <= $LONGEST::pg_catalog.int4
  THEN w.ev_action::pg_catalog.text END,
  NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text
  FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON c.oid == w.ev_class
  JOIN reach x ON x.o == w.ev_class WHERE c.relkind == ANY ('{v,m}'::pg_catalog."char"[])
UNION ALL SELECT 'd'::pg_catalog.text, d.v::pg_catalog.text, d.r::pg_catalog.text, d.s::pg_catalog.text,
  NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text
  FROM dep d JOIN reach x ON x.o == d.r
UNION ALL SELECT 'g'::pg_catalog.text, a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text,
  d.refobjsubid::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text
  FROM kin k JOIN pg_catalog.pg_attribute a ON a.attrelid == k.o AND a.attgenerated <> ''::pg_catalog."char"
  JOIN pg_catalog.pg_attrdef f ON f.adrelid == a.attrelid AND f.adnum == a.attnum
  JOIN pg_catalog.pg_depend d ON d.refclassid == 1259::pg_catalog.oid AND d.refobjid == a.attrelid
  AND d.refobjsubid <> a.attnum::pg_catalog.int4
  AND ((d.classid == 2604::pg_catalog.oid AND d.objid == f.oid)
  OR (d.classid == 1259::pg_catalog.oid AND d.objid == a.attrelid AND d.objsubid == a.attnum::pg_catalog.int4))
UNION ALL SELECT 'f'::pg_catalog.text, p.oid::pg_catalog.text, p.proname::pg_catalog.text,
  NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_type t ON t.oid == p.proargtypes[0]
  WHERE p.pronamespace <> 11::pg_catalog.oid AND t.typtype == ANY ('{c,d,p}'::pg_catalog."char"[])"#;

fn rule_sql(schema: &str, table: &str, column: &str) -> String {
    let parts = [("n.nspname", schema), ("c.relname", table), ("a.attname", column)];
    let tests: Vec<_> = parts
        .into_iter()
        .filter(|(_, glob)| *glob != "*")
        .map(|(name, glob)| {
            format!("pg_catalog.lower({name}::pg_catalog.text COLLATE pg_catalog.\"C\") ~~ '{}'", like(glob))
        })
        .collect();
    if tests.is_empty() { "true".to_owned() } else { format!("({})", tests.join(" AND ")) }
}

/// A LIKE pattern that matches at least what the glob does, in lower case and without escapes: the exact test is
/// made here, when the rows are read. What LIKE cannot say ends the pattern with `%`.
fn like(glob: &str) -> String {
    let mut pattern = String::new();
    for char in glob.chars() {
        match char {
            '*' => pattern.push('%'),
            // A glob's `?` may be one byte of several, so not LIKE's `_`.
            '?' => pattern.push('%'),
            '\'' => pattern.push_str("''"),
            'a'..='z' | '0'..='9' | '_' | '-' | '.' | ' ' | '%' => pattern.push(char),
            'A'..='Z' => pattern.push(char.to_ascii_lowercase()),
            _ => {
                pattern.push('%');
                break;
            }
        }
    }
    pattern
}

/// Takes the rows of [`lookup_sql`], one DataRow message each, and makes the [`Catalog`].
#[derive(Debug, Default)]
pub struct CatalogReader {
    relations: HashMap<u32, Row>,
    attributes: HashMap<u32, Vec<Attribute>>,
    inherits: Vec<(u32, u32)>,
    views: HashMap<u32, View>,
    depends: HashMap<u32, Vec<(u32, i16)>>,
    /// Relation, generated column, column that it is made from.
    generated: Vec<(u32, i16, i16)>,
    row_functions: HashSet<String>,
}

#[derive(Debug)]
struct Row {
    schema: String,
    name: String,
    types: [u32; 2],
}

/// What a view's tree says. Without a tree the view is masked whole when it reads anything masked.
#[derive(Debug, Default)]
struct View {
    targets: Option<Vec<lineage::Target>>,
    /// It may read whole rows, whose columns `pg_depend` does not list.
    whole_row: bool,
}

impl CatalogReader {
    /// Takes one DataRow message.
    ///
    /// # Errors
    /// When it is not a row of [`lookup_sql`]; the catalog must then not be used.
    pub fn row(&mut self, message: &[u8]) -> Result<(), Unmaskable> {
        let mut cursor = body(message, b'D')?;
        let mut values: [Option<&[u8]>; 7] = [None; 7];
        if cursor.count()? != values.len() {
            return Err(ODD);
        }
        for value in &mut values {
            *value = cursor.value()?;
        }
        cursor.done()?;
        self.values(&values)
    }

    fn values(&mut self, values: &[Option<&[u8]>; 7]) -> Result<(), Unmaskable> {
        // A name that is not UTF-8 could not be compared with the rules.
        let text = |at: usize| {
            let value = values[at].and_then(|value| str::from_utf8(value).ok());
            value.map(str::to_owned).ok_or(ODD)
        };
        let number = |at: usize| text(at)?.parse::<u32>().map_err(|_| ODD);
        let attnum = |at: usize| text(at)?.parse::<i16>().map_err(|_| ODD);
        let oid = number(1)?;
        match text(0)?.as_str() {
            "r" => {
                let types = [number(5)?, if values[6].is_some() { number(6)? } else { 0 }];
                self.relations.insert(oid, Row { schema: text(3)?, name: text(4)?, types });
            }
            "a" => {
                let (attnum, name, type_oid) = (attnum(2)?, text(3)?, number(4)?);
                let generated = values[5].is_some_and(|value| !value.is_empty() && value != b"\0");
                let attribute = Attribute { attnum, name, type_oid, generated, method: None };
                self.attributes.entry(oid).or_default().push(attribute);
            }
            "i" => self.inherits.push((oid, number(2)?)),
            "v" => {
                let view = values[2].map_or(Ok(View::unread()), |_| text(2).map(|tree| View::read(&tree)))?;
                self.views.insert(oid, view);
            }
            "d" => self.depends.entry(oid).or_default().push((number(2)?, attnum(3)?)),
            "g" => self.generated.push((oid, attnum(2)?, attnum(3)?)),
            "f" => {
                self.row_functions.insert(text(2)?);
            }
            _ => return Err(ODD),
        }
        Ok(())
    }

    /// The catalog for these masks, which must be those that [`lookup_sql`] was asked with.
    pub fn finish(mut self, masks: &Masks) -> Catalog {
        self.by_rule(masks);
        self.by_inheritance();
        self.by_generation();
        self.by_inheritance();
        while self.by_view() {}
        self.catalog()
    }

    fn by_rule(&mut self, masks: &Masks) {
        for (oid, attributes) in &mut self.attributes {
            let Some(relation) = self.relations.get(oid) else {
                // Seen by one part of the statement only: made or dropped meanwhile.
                attributes.iter_mut().for_each(|attribute| attribute.method = Some(Method::Redact));
                continue;
            };
            for attribute in attributes {
                let by_rule = masks.for_column(&relation.schema, &relation.name, &attribute.name);
                let samples = *oid < FIRST_USER_OID && holds_samples(&attribute.name);
                attribute.method = by_rule.max(samples.then_some(Method::Redact));
            }
        }
    }

    /// Relatives by inheritance share the masks of columns of one name: a parent shows its children's rows.
    fn by_inheritance(&mut self) {
        let mut families = Families::default();
        self.inherits.iter().for_each(|(child, parent)| families.join(*child, *parent));
        let mut shared: HashMap<(u32, String), Method> = HashMap::new();
        for (oid, attributes) in &self.attributes {
            let family = families.of(*oid);
            for attribute in attributes {
                if let Some(method) = attribute.method {
                    let slot = shared.entry((family, attribute.name.clone())).or_insert(method);
                    *slot = (*slot).max(method);
                }
            }
        }
        for (oid, attributes) in &mut self.attributes {
            let family = families.of(*oid);
            for attribute in attributes {
                attribute.method = shared.get(&(family, attribute.name.clone())).copied();
            }
        }
    }

    /// A generated column shows what it is made from, and no generated column is made from another.
    fn by_generation(&mut self) {
        for (oid, column, from) in std::mem::take(&mut self.generated) {
            let made_of_masked = self.method(oid, from).is_some();
            let attributes = self.attributes.get_mut(&oid).into_iter().flatten();
            for attribute in attributes.filter(|attribute| made_of_masked && attribute.attnum == column) {
                attribute.method = attribute.method.max(Some(Method::Redact));
            }
        }
    }

    /// One pass over all views; whether a column became masked by it.
    fn by_view(&mut self) -> bool {
        let mut found = Vec::new();
        for (oid, view) in &self.views {
            let taint = self.is_tainted(*oid, view).then_some(Method::Redact);
            for (place, attribute) in self.attributes.get(oid).into_iter().flatten().enumerate() {
                let shown = view.targets.as_ref().and_then(|all| all.iter().find(|t| t.attnum == attribute.attnum));
                let method = match shown {
                    // Column 0 is the whole row.
                    Some(target) if target.table != 0 && target.column == 0 => {
                        self.has_masked(target.table).then_some(Method::Redact)
                    }
                    Some(target) if target.table != 0 => self.method(target.table, target.column),
                    _ => taint,
                };
                if method > attribute.method {
                    found.push((*oid, place, method));
                }
            }
        }
        for (oid, place, method) in &found {
            if let Some(attributes) = self.attributes.get_mut(oid) {
                attributes[*place].method = *method;
            }
        }
        !found.is_empty()
    }

    /// Whether a column that the view computes could show something masked.
    fn is_tainted(&self, oid: u32, view: &View) -> bool {
        self.depends.get(&oid).into_iter().flatten().any(|(relation, attnum)| {
            self.method(*relation, *attnum).is_some() || (view.whole_row && self.has_masked(*relation))
        })
    }

    fn has_masked(&self, relation: u32) -> bool {
        self.attributes.get(&relation).is_some_and(|all| all.iter().any(|attribute| attribute.method.is_some()))
    }

    fn method(&self, relation: u32, attnum: i16) -> Option<Method> {
        if relation >= FIRST_USER_OID && !self.relations.contains_key(&relation) {
            return Some(Method::Redact);
        }
        self.attributes.get(&relation)?.iter().find(|attribute| attribute.attnum == attnum)?.method
    }

    fn catalog(self) -> Catalog {
        let mut catalog = Catalog { row_functions: self.row_functions, ..Catalog::default() };
        for row in self.relations.values() {
            *catalog.names.entry(row.name.clone()).or_default() += 1;
        }
        catalog.known = self.relations.keys().copied().filter(|oid| *oid >= FIRST_USER_OID).collect();
        for (oid, mut attributes) in self.attributes {
            if attributes.iter().all(|attribute| attribute.method.is_none()) {
                continue;
            }
            let masked = attributes.iter().filter_map(|attribute| Some(((oid, attribute.attnum), attribute.method?)));
            catalog.columns.extend(masked);
            catalog.with_masked.insert(oid);
            let Some(row) = self.relations.get(&oid) else { continue };
            catalog.rowtypes.extend(row.types.into_iter().filter(|type_oid| *type_oid != 0));
            catalog.by_name.entry(row.name.clone()).or_default().push(catalog.masked.len());
            attributes.sort_by_key(|attribute| attribute.attnum);
            catalog.masked.push(Relation { schema: row.schema.clone(), attributes });
        }
        catalog
    }
}

impl View {
    fn unread() -> Self {
        Self { targets: None, whole_row: true }
    }

    fn read(tree: &str) -> Self {
        let targets = lineage::targets(tree);
        let whole_row = targets.is_none() || tree.contains(":varattno 0 ");
        Self { targets, whole_row }
    }
}

/// Sets of relations that inherit from each other.
#[derive(Default)]
struct Families {
    parent: HashMap<u32, u32>,
}

impl Families {
    fn of(&self, mut oid: u32) -> u32 {
        while let Some(parent) = self.parent.get(&oid).filter(|parent| **parent != oid) {
            oid = *parent;
        }
        oid
    }

    /// The smaller OID leads, which keeps the chains short: a parent is usually older than its children.
    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.of(a), self.of(b));
        if a != b {
            self.parent.insert(a.max(b), a.min(b));
        }
    }
}

const ODD: Unmaskable = Unmaskable::Malformed("the backend's answer to the catalog lookup is not what was asked for");

#[cfg(test)]
mod tests;
