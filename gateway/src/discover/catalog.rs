//! What a backend says of itself: relations, columns, comments, and which views read which columns.

use std::collections::BTreeMap;

use super::Tally;

/// A relation's number in its catalog.
pub type Id = u32;

/// A database's relations, in the order of their names.
#[derive(Debug, Default)]
pub struct Catalog {
    /// All of them.
    pub relations: Vec<Relation>,
    /// Which columns a view reads: the view, the relation, the column's number there.
    pub reads: Vec<(Id, Id, i16)>,
}

/// A table or view.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Its number.
    pub id: Id,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub what: What,
    /// The table that it is a part of.
    pub parent: Option<Id>,
    /// What people say of it.
    pub comment: String,
    /// How many rows it has, as the server estimates.
    pub rows: f64,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It has rows of its own.
    Table,
    /// Its parts have the rows.
    Partitioned,
    /// A view that keeps its rows.
    Kept,
    /// A view.
    View,
    /// Its rows are elsewhere.
    Foreign,
}

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its number in the relation.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// What people say of it.
    pub comment: String,
    /// What its values are.
    pub holds: Holds,
    /// Whether its text form may be asked for by a cast, because its type is the server's own.
    pub plain: bool,
    /// Whether this user may read it.
    pub readable: bool,
}

/// What a column's values are, as far as it matters to what they may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Text, or lists of it.
    Text,
    /// Documents.
    Json,
    /// Numbers that may be identifiers.
    Number,
    /// Days and times.
    Date,
    /// Network addresses.
    Network,
    /// Bytes and UUIDs.
    Bytes,
    /// Truth values, fractions and the rest.
    Other,
}

impl Holds {
    /// Whether looking at values tells anything.
    pub fn tells(self) -> bool {
        matches!(self, Holds::Text | Holds::Json | Holds::Number | Holds::Network)
    }
}

/// What came of looking at a relation's values.
#[derive(Debug)]
pub enum Looked {
    /// Counts for the columns that were looked at, by number.
    At(BTreeMap<i16, Tally>),
    /// It could not be, and why.
    Not(String),
}

impl Catalog {
    /// Whether a part of it, or of its parts, is elsewhere.
    pub fn has_foreign_part(&self, id: Id) -> bool {
        let parts = self.relations.iter().filter(|relation| relation.parent == Some(id));
        parts.into_iter().any(|part| part.what == What::Foreign || self.has_foreign_part(part.id))
    }
}

impl Relation {
    /// The columns whose values are worth a look and may be seen.
    pub fn worth_sampling(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.readable && column.holds.tells())
    }
}
