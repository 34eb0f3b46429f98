//! What an SQL text does: effects, objects and facts for policy, and the few things that the session tracker needs.
//!
//! The text is parsed by PostgreSQL's own parser (`pg_query`, PostgreSQL 18's grammar) under the session's lexical
//! settings, and the whole tree is walked, so what hides in a CTE, a sub-select or a `COPY` counts like what stands in
//! front. Several statements in one text have the union of their effects.
//!
//! [`Classifier::classify`] never fails: what is not UTF-8, does not parse, is too large or nests too deeply is
//! [`Effect::Unknown`] with a reason for people.
//!
//! # Fields for `when`
//! | field | type | what |
//! |---|---|---|
//! | `tables` | list of `{schema, name}` | every relation named; `schema` is empty where the text states none |
//! | `targets` | list of `{schema, name}` | those of `tables` that the text changes, defines or drops |
//! | `functions` | list of strings | every function called, as written and folded (`pg_catalog.now`, `count`) |
//! | `statements` | list of strings | the kind of each statement in order: `select`, `insert`, `drop_table`, `alter_table`, … |
//! | `statement_count` | number | how many |
//! | `computed` | list of strings | columns used other than as a result as they are: in a predicate, an expression, a sub-select |
//! | `where_missing` | bool | an `UPDATE` or `DELETE` anywhere in the text has no `WHERE` |
//!
//! # Limits
//! The classifier has no catalog. It takes an unqualified built-in's name for the built-in, an operator spelled as one
//! of PostgreSQL's own for that one, a cast for its type's own, and `table.name` for a column, although users can
//! define functions behind each of these (the session asks the catalog about the last, see `on_this_backend`); views, triggers, rules and column defaults run what their definitions say.
//! A statement nested deeper than about a hundred levels of the parse tree (some fifty nested calls or chained `||`) is
//! unknown, and so is a text beyond 256 KiB or with runs of thousands of operator characters.
//!
//! # Security
//! PostgreSQL parses a whole simple-query text before it runs any of it, so one lexical state holds for the text.
//! It decodes the client's encoding first: where that is not UTF-8, a text with a byte above ASCII is unknown, since in
//! encodings such as Shift-JIS a backslash can be half a letter.

mod cache;
mod functions;
mod notation;
mod plain;
mod resolve;
mod settings;
mod statements;
mod tree;
mod union;
mod walk;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError},
};

use pg_query::ParserOptions;
use serde_json::json;

use crate::operation::{Effect, Effects, Meaning, Object};
use cache::Cache;
pub(super) use functions::{dangerous_names, dangerous_starts, known_effects};
use plain::is_plain_type;
pub(super) use union::gather;
pub use union::union;
use walk::Walk;

/// The session's state that decides how a text is cut into tokens.
///
/// `backslash_quote` is not here: where it forbids `\'`, PostgreSQL refuses the text, so reading it is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lexical {
    /// `standard_conforming_strings`: whether a backslash in `'…'` is an ordinary character.
    pub standard_conforming_strings: bool,
    /// Whether the client's encoding is UTF-8 (`client_encoding` is `UTF8`, or `SQL_ASCII` with a UTF-8 database).
    pub utf8: bool,
}

impl Default for Lexical {
    fn default() -> Self {
        Self { standard_conforming_strings: true, utf8: true }
    }
}

/// A relation as a text names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// Empty where the text states none.
    pub schema: String,
    /// The last part of the name, folded as PostgreSQL folds it.
    pub name: String,
}

/// What masking must know of a text beyond the lineage of its result columns. Names are folded as PostgreSQL folds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Every column name that occurs anywhere, by its last part; also names that column lists give.
    pub columns: BTreeSet<String>,
    /// Those that occur other than as a bare item of the outermost select list or `RETURNING`: in a predicate, an
    /// expression, a sub-select. Their values can shape the result without being in it.
    pub computed: BTreeSet<String>,
    /// A whole row is used as a value (`row_to_json(t)`, `t.*` in an expression, `t.to_json`), or columns are renamed
    /// where no name shows it (`t AS x(a, b)`, a natural join). A column that has its table's name counts too.
    pub whole_row: bool,
    /// A `*` stands in a select list other than the outermost: columns flow on without being named.
    pub inner_star: bool,
    /// `UNION`, `INTERSECT` or `EXCEPT`: result columns have no lineage.
    pub set_operation: bool,
    /// The relations named.
    pub tables: BTreeSet<Table>,
    /// Last parts of qualified column names. Where the relation has no such column they call functions.
    pub dotted: BTreeSet<String>,
    /// The statement stores values that it computes or copies, and could hand them out under the new column's name.
    pub stores: bool,
    /// The columns that such values come from.
    pub stored: BTreeSet<String>,
    /// The first PostgreSQL that has all the built-ins called, if that matters: on an older one they are unknown.
    pub newest: u32,
    /// What it reads cannot be seen, and it may store it: no parse tree, or a name that may stand for anything.
    pub unseen: bool,
}

impl References {
    fn absorb(&mut self, other: &References) {
        self.columns.extend(other.columns.iter().cloned());
        self.computed.extend(other.computed.iter().cloned());
        self.tables.extend(other.tables.iter().cloned());
        self.whole_row |= other.whole_row;
        self.inner_star |= other.inner_star;
        self.set_operation |= other.set_operation;
        self.dotted.extend(other.dotted.iter().cloned());
        self.stores |= other.stores;
        self.stored.extend(other.stored.iter().cloned());
        self.newest = self.newest.max(other.newest);
        self.unseen |= other.unseen;
    }
}

/// The data format of a `COPY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// Lines with delimiters and backslash escapes.
    Text,
    /// Comma-separated values.
    Csv,
    /// PostgreSQL's own binary form.
    Binary,
    /// A format that this gateway does not know.
    Other,
}

/// What the session tracker must know of one statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `PREPARE name AS …`, with what `EXECUTE name` will stand for.
    Prepare {
        /// The prepared statement's name.
        name: String,
        /// What executing it does.
        sense: Arc<Sense>,
    },
    /// `EXECUTE name`, also inside `EXPLAIN` or `CREATE TABLE AS`.
    Execute {
        /// The prepared statement's name.
        name: String,
    },
    /// `DEALLOCATE name`; `None` is `ALL`.
    Deallocate {
        /// The prepared statement's name.
        name: Option<String>,
    },
    /// `DECLARE name CURSOR FOR …`.
    DeclareCursor {
        /// The cursor's name.
        name: String,
        /// What its query does.
        sense: Arc<Sense>,
        /// `WITH HOLD`: it outlasts its transaction.
        holds: bool,
    },
    /// `FETCH` or `MOVE`.
    Fetch {
        /// The cursor's name.
        cursor: String,
    },
    /// `CLOSE name`; `None` is `ALL`.
    CloseCursor {
        /// The cursor's name.
        name: Option<String>,
    },
    /// `BEGIN` or `START TRANSACTION`.
    Begin,
    /// `COMMIT` or `END`.
    Commit {
        /// `AND CHAIN`: a new transaction begins at once.
        chain: bool,
    },
    /// `ROLLBACK` or `ABORT`.
    Rollback {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `SAVEPOINT name`.
    Savepoint {
        /// The savepoint's name.
        name: String,
    },
    /// `RELEASE name`.
    Release {
        /// The savepoint's name.
        name: String,
    },
    /// `ROLLBACK TO name`.
    RollbackTo {
        /// The savepoint's name.
        name: String,
    },
    /// `PREPARE TRANSACTION`: the session's transaction ends here and lives on elsewhere.
    PrepareTransaction,
    /// `SET name …`. `value` is `None` for `DEFAULT`, `FROM CURRENT` and what is not a literal: the value is then not known.
    Set {
        /// The setting, in lower case; `transaction` and `session characteristics` for those forms.
        name: String,
        /// The value as text, list items joined by `, `.
        value: Option<String>,
        /// `SET LOCAL`.
        local: bool,
    },
    /// `RESET name`.
    Reset {
        /// The setting, in lower case.
        name: String,
    },
    /// `RESET ALL`.
    ResetAll,
    /// Calls `set_config`, so these settings may have changed; `None` is a computed name: any may have.
    MaySet {
        /// The settings, in lower case.
        names: Vec<Option<String>>,
    },
    /// `DISCARD ALL`.
    DiscardAll,
    /// `SET ROLE`, `SET SESSION AUTHORIZATION` and their `RESET`.
    SetRole {
        /// The role; `None` is `NONE`, `DEFAULT` or a reset.
        role: Option<String>,
        /// Whether it is the session's user rather than the current role.
        session: bool,
        /// `SET LOCAL`.
        local: bool,
    },
    /// `COPY`.
    Copy {
        /// Rows go to the client.
        to_stdout: bool,
        /// Rows come from the client.
        from_stdin: bool,
        /// The relation: its schema where stated, and name. `None` for a query.
        relation: Option<(Option<String>, String)>,
        /// The columns stated; empty means all.
        columns: Vec<String>,
        /// `COPY (query) TO`.
        query: bool,
        /// The data's format.
        format: CopyFormat,
        /// The options as stated (`delimiter`, `null`, `header`, `quote`, `escape`, `encoding`, …); a bare one is empty.
        options: BTreeMap<String, String>,
    },
    /// What could not be read: it may be any of these, and several.
    Unread,
    /// Anything else.
    Other,
}

/// What a text does, or what a name in a text stands for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sense {
    /// What policy sees.
    pub meaning: Arc<Meaning>,
    /// What masking must know.
    pub reads: References,
    /// What the backend's catalog can say more about.
    pub(super) inside: Inside,
}

impl Sense {
    /// What may be any of these: never less than each.
    pub(super) fn any_of<'s>(all: impl IntoIterator<Item = &'s Sense> + Clone) -> Sense {
        let meaning = Arc::new(union(all.clone().into_iter().map(|one| &*one.meaning)));
        let mut any = Sense { meaning, ..Sense::default() };
        for one in all {
            any.reads.absorb(&one.reads);
            any.inside.absorb(&one.inside);
        }
        any
    }

    /// The same, where what is read is not certain.
    pub(super) fn unseen(mut self) -> Sense {
        self.reads.unseen = true;
        self
    }
}

/// What the classifier made of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// What it does. With an `EXECUTE` or `FETCH` in the text that is unknown: use [`Classified::resolve`].
    pub sense: Arc<Sense>,
    /// One per statement in the text, in order.
    pub statements: Vec<Statement>,
    /// The meaning without what is unknown only because names of prepared statements and cursors are.
    base: Arc<Meaning>,
}

impl std::ops::Deref for Classified {
    type Target = Sense;

    fn deref(&self) -> &Sense {
        &self.sense
    }
}

/// A function or an operator as a text names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Called {
    pub(super) schema: Option<String>,
    pub(super) name: String,
    pub(super) is_operator: bool,
}

/// What a text calls and touches by name, for whoever knows what is behind the names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Inside {
    /// The meaning without what it calls in `opaque`; `None` where that is nothing.
    pub(super) meaning: Option<Arc<Meaning>>,
    /// The calls that make it unknown.
    pub(super) opaque: Vec<Called>,
    /// All functions called, these and built-ins.
    pub(super) functions: Vec<Called>,
    /// All operators used.
    pub(super) operators: Vec<Called>,
    /// All relations named, and whether the text changes them.
    pub(super) tables: Vec<(Table, bool)>,
    /// All types named, but those that the grammar spells.
    pub(super) types: Vec<Called>,
    /// Whether it empties, with a table, all that refer to it.
    pub(super) cascades: bool,
    /// Whether it defines something, for which event triggers may fire.
    pub(super) defines: bool,
}

impl Inside {
    /// Takes over what is named in `other`; what the text does without its calls is then no longer one text's.
    fn absorb(&mut self, other: &Inside) {
        let Inside { meaning: _, opaque, functions, operators, tables, types, cascades, defines } = other;
        self.meaning = None;
        self.cascades |= cascades;
        self.defines |= defines;
        for (ours, theirs) in [
            (&mut self.opaque, opaque),
            (&mut self.functions, functions),
            (&mut self.operators, operators),
            (&mut self.types, types),
        ] {
            ours.extend(theirs.iter().cloned());
            ours.sort();
            ours.dedup();
        }
        self.tables.extend(tables.iter().cloned());
        self.tables.sort();
        self.tables.dedup();
    }
}

impl Called {
    fn new(parts: &[&str], is_operator: bool) -> Self {
        let (name, schema) = parts.split_last().expect("the grammar has no call without a name");
        Self { schema: schema.last().map(|schema| (*schema).to_owned()), name: (*name).to_owned(), is_operator }
    }

    /// Why a statement with this call is unknown.
    pub(super) fn unseen(&self) -> String {
        let verb = if self.is_operator { "uses the operator" } else { "calls" };
        format!("{verb} {self}, which this gateway cannot see through")
    }
}

impl fmt::Display for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema.iter().flat_map(|schema| [schema.as_str(), "."]);
        schema.chain([self.name.as_str()]).try_for_each(|part| f.write_str(part))
    }
}

impl Statement {
    /// Whether all it does is to end a transaction.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Statement::Commit { .. } | Statement::Rollback { .. } | Statement::PrepareTransaction)
    }
}

impl Classified {
    /// A text that is read either as this or as `other`: never less than either. Names in it are not followed.
    pub(super) fn or(&self, other: &Classified) -> Classified {
        let sense = Sense::any_of([&**self, &**other]);
        let statements = self.statements.iter().chain(&other.statements).cloned().collect();
        Classified { base: sense.meaning.clone(), sense: Arc::new(sense), statements }
    }

    /// Whether no name in it stands for another text.
    pub(super) fn names_nothing_prepared(&self) -> bool {
        Arc::ptr_eq(&self.base, &self.meaning)
    }
}

impl Sense {
    /// Whether it names a function, an operator, a relation, or a type that may be users' own.
    pub(super) fn names_anything(&self) -> bool {
        let Inside { functions, operators, tables, types, .. } = &self.inside;
        let is_own = |named: &Called| named.schema.is_some() || !is_plain_type(&named.name);
        !functions.is_empty() || !operators.is_empty() || !tables.is_empty() || types.iter().any(is_own)
    }
}

/// What changing these settings does.
pub(super) fn changes<'n>(names: impl Iterator<Item = &'n str>) -> Meaning {
    let mut meaning = Meaning::default();
    for name in names {
        let (effects, why) = settings::setting(name);
        meaning.effects = meaning.effects.union(effects);
        meaning.unknown.extend(why);
        meaning.objects.push(Object { kind: "setting".into(), schema: None, name: name.to_ascii_lowercase() });
    }
    meaning
}

fn unresolved(meaning: &mut Meaning, why: String) {
    meaning.effects = meaning.effects.with(Effect::Execute).with(Effect::Unknown);
    meaning.unknown.push(why);
}

/// Classifies texts, remembering the latest; one is shared by all connections.
pub struct Classifier {
    cache: Cache,
    /// Held while a large text is parsed: its tree takes a few hundred times the text's size, so only one at a time.
    large: Mutex<()>,
}

impl Classifier {
    /// A classifier that remembers results of about `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self { cache: Cache::new(capacity), large: Mutex::new(()) }
    }

    /// What `text` does under `lexical`. Blocks for the time of a parse: microseconds, or some ten milliseconds for the largest.
    pub fn classify(&self, text: &[u8], lexical: &Lexical) -> Arc<Classified> {
        self.cache.fetch(text, lexical, |text| {
            let _one_at_a_time =
                (text.len() > LARGE).then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
            examine(text, lexical)
        })
    }
}

/// Texts above this are unknown: nothing that a person could approve is longer. Bytes.
pub const LARGEST: usize = 256 * 1024;

/// Texts above this are parsed one at a time. Bytes.
const LARGE: usize = 16 * 1024;

/// What `text` does, without the cache.
fn examine(text: &[u8], lexical: &Lexical) -> Classified {
    match parse(text, lexical) {
        Ok(tree) => survey(&tree),
        Err(why) => opaque(why),
    }
}

fn parse(text: &[u8], lexical: &Lexical) -> Result<pg_query::protobuf::ParseResult, String> {
    if text.len() > LARGEST {
        return Err(format!("is {} bytes long; this gateway reads no more than {LARGEST}", text.len()));
    }
    if !lexical.utf8 && !text.is_ascii() {
        return Err("has characters beyond ASCII in an encoding other than UTF-8".to_owned());
    }
    if rescans(text) > MOST_RESCANS {
        return Err("has runs of operator characters too long to be read".to_owned());
    }
    let text = str::from_utf8(text).map_err(|_| "is not UTF-8".to_owned())?;
    let mut options = ParserOptions::DISABLE_ESCAPE_STRING_WARNING;
    if !lexical.standard_conforming_strings {
        options |= ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS;
    }
    // The crate around the parser keeps summaries of its own that assert things about trees; a panic there is one more
    // text that was not understood.
    match panic::catch_unwind(AssertUnwindSafe(|| pg_query::parse(text, options))) {
        Ok(Ok(result)) => Ok(result.protobuf),
        Ok(Err(pg_query::Error::Decode(_))) => Err("is nested too deeply to be read".to_owned()),
        Ok(Err(pg_query::Error::Parse(why)))
            if why.contains("stack depth") || why.contains("nested too deeply") || why.contains("memory exhausted") =>
        {
            Err("is nested too deeply to be read".to_owned())
        }
        Ok(Err(pg_query::Error::Parse(why))) => Err(format!("does not parse as SQL ({why})")),
        Ok(Err(_)) | Err(_) => Err("does not parse as SQL".to_owned()),
    }
}

/// How often PostgreSQL's lexer may look at characters again: it takes a run of operator characters as one token, gives
/// most of it back (`+++`, `/*/*`), and takes the rest, so a run costs its length squared; 200 kB of `/*` cost a minute.
/// The sum of the squares, whatever the runs stand in.
fn rescans(text: &[u8]) -> usize {
    text.split(|byte| !OPERATOR_CHARACTERS.contains(byte)).map(|run| run.len() * run.len()).sum()
}

/// `op_chars` of PostgreSQL's `scan.l`.
const OPERATOR_CHARACTERS: &[u8] = b"~!@#^&|`?+-*/%<>=";

/// One run of 4096, or as much time in shorter ones: some ten milliseconds.
const MOST_RESCANS: usize = 4096 * 4096;

/// The meaning of a text that could not be read.
fn opaque(why: String) -> Classified {
    let fields = BTreeMap::from([
        ("tables", json!([])),
        ("targets", json!([])),
        ("functions", json!([])),
        ("statements", json!(["unknown"])),
        ("statement_count", json!(1)),
        ("where_missing", json!(false)),
        ("computed", json!([])),
    ]);
    let meaning = Arc::new(Meaning {
        effects: Effects::of(Effect::Unknown),
        objects: Vec::new(),
        unknown: vec![format!("the statement {why}")],
        fields,
    });
    let reads = References {
        whole_row: true,
        inner_star: true,
        set_operation: true,
        stores: true,
        unseen: true,
        ..References::default()
    };
    let sense = Sense { meaning: meaning.clone(), reads, inside: Inside::default() };
    Classified { base: meaning, sense: Arc::new(sense), statements: vec![Statement::Unread] }
}

/// Walks every statement of a text.
fn survey(tree: &pg_query::protobuf::ParseResult) -> Classified {
    let mut all = Walk::default();
    let mut reads = References::default();
    let (mut kinds, mut statements) = (Vec::new(), Vec::new());
    for statement in &tree.stmts {
        let mut walk = Walk::default();
        let (kind, tracked) = statements::outermost(statement, &mut walk);
        all.take(&walk);
        reads.absorb(&walk.finished_references());
        kinds.push(kind);
        statements.push(tracked);
    }
    let base = Arc::new(all.meaning(&kinds));
    let meaning = match all.deferred.is_empty() {
        true => base.clone(),
        false => {
            let mut meaning = (*base).clone();
            all.deferred.iter().for_each(|why| unresolved(&mut meaning, why.clone()));
            Arc::new(meaning)
        }
    };
    let inside = all.inside(&kinds);
    Classified { sense: Arc::new(Sense { meaning, reads, inside }), statements, base }
}
