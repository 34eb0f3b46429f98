//! What a held statement would touch: asked of the backend with `EXPLAIN`, on the bot's own connection.
//!
//! On the same connection because only there the statement means what it will mean: its role, its search path, its
//! temporary tables, its prepared statements, what its transaction did before. Nobody else's credentials are needed.
//!
//! # Security
//! Nothing of the statement runs. `EXPLAIN` stands before it with its options in parentheses, so no `ANALYZE` in it is
//! one, and as an extended query, which takes one statement. Planning may run functions: so it is asked only where
//! no code of users' own is in reach of the planner, in a transaction that is read only, with little time and no patience for
//! locks. Afterwards that transaction, or the savepoint inside the client's own, is rolled back, and the session is as
//! it was.

use std::sync::Arc;

use bytes::BytesMut;
use pg_query::protobuf::Token;
use serde_json::Value;

use super::{
    classify::Statement,
    dialect::{Phase, PostgresDialect, Submission},
    pending::{Await, What},
    portal::{Portal, Prepared},
    replies::Fate,
    wire,
};
use crate::{
    gate::{Exchange, Unmaskable},
    operation::{Effect, Effects, Estimate, Frame, Impact, Object, Touched},
    protocol::{Preview, reader::Reader},
};

/// A look at what a held statement would touch, under way.
#[derive(Debug)]
pub(super) struct Look {
    /// The transaction's status before it.
    before: u8,
    stage: Stage,
    /// What is asked in this stage, in order, and how many of that are answered.
    asked: Vec<Question>,
    answered: usize,
    apart: wire::Apart,
    /// What is explained, if anything is.
    statement: Option<Explained>,
    /// The names of tables, as an array of SQL's.
    tables: String,
    is_failed: bool,
    found: Impact,
}

#[derive(Debug)]
struct Explained {
    sql: Vec<u8>,
    types: Vec<u32>,
    portal: Arc<Portal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Inside a transaction: which kind it is.
    Isolation,
    /// The questions themselves, in a place of their own.
    Asking,
    /// Back to where the session was.
    Leaving,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Its answer says nothing.
    Nothing,
    Isolation,
    Tables,
    Plan,
    Locks,
}

impl PostgresDialect {
    /// What to ask about what was just submitted.
    pub(super) fn look(&mut self) -> Preview {
        let never = |why: &str| Preview::Never(why.to_owned());
        let Some(submitted) = &self.submitted else { return never("") };
        if matches!(submitted.kind, Submission::Connect | Submission::Cancel) {
            return never("");
        }
        let answers = |one: &Await| {
            matches!(one.what, What::Query(_) | What::PoisonQuery(_) | What::RolledBack { .. } | What::Sync)
        };
        if self.pending.iter().any(answers) {
            return Preview::Later;
        }
        if !self.access.previews {
            return never("");
        }
        let Some((portal, prepared)) =
            submitted.runs.as_ref().and_then(|portal| Some((portal.clone(), portal.prepared.clone()?)))
        else {
            return never("what it stands for is not known");
        };
        if prepared.classified.statements.iter().all(Statement::ends_transaction) {
            return never("");
        }
        if self.transaction == b'E' {
            return never("the transaction has failed, so the backend answers nothing");
        }
        if !self.lexical.utf8 {
            return never("the session's encoding is not UTF-8");
        }
        if self.skipping || self.copying_in {
            return never("it is part of an exchange that cannot be interrupted");
        }
        let is_first = matches!(self.phase, Phase::Ready) && self.pending.is_empty() && self.since.runs == 0;
        if !is_first {
            // What came before it is not answered, or a pipeline's transaction is under way that has no end yet.
            return never("it is in the middle of a pipeline");
        }
        let meaning = self.means(&prepared);
        let why_not = why_not(meaning.effects, &prepared.classified.statements)
            .or_else(|| self.runs_when_planned(&prepared).then_some("planning it could already run code of users' own"))
            .or_else(|| runs_arguments(&prepared).then_some("explaining EXECUTE runs what its arguments compute"));
        let (statement, missing) = match why_not {
            None => {
                let sql = [EXPLAIN, &prepared.text].concat();
                (Some(Explained { sql, types: prepared.parameter_types.clone(), portal }), String::new())
            }
            Some(why) => (None, why.to_owned()),
        };
        let tables: Vec<_> = meaning.objects.iter().filter(|object| object.kind == "table").take(MOST).collect();
        // In a transaction even the sizes would be its first look at the data, before the client has said how isolated
        // it is to be.
        if statement.is_none() && (tables.is_empty() || self.transaction == b'T') {
            return never(&missing);
        }
        let mut look = Look {
            before: self.transaction,
            stage: Stage::Isolation,
            apart: self.apart.clone(),
            asked: Vec::new(),
            answered: 0,
            statement,
            tables: array(&tables),
            is_failed: false,
            found: Impact::unknown(&missing),
        };
        let frame = if self.transaction == b'T' { look.isolation() } else { look.questions() };
        self.phase = Phase::Previewing(Box::new(look));
        Preview::Ask("what a held operation would touch", frame)
    }

    /// A part of the answer; the client hears nothing of it.
    pub(super) fn looked_at(&mut self, message: &[u8]) -> Result<Fate, Unmaskable> {
        let Phase::Previewing(look) = &mut self.phase else { unreachable!("only called while previewing") };
        match message[0] {
            b'D' => look.row(message),
            b'C' => look.answered += 1,
            b'E' => look.failed(message),
            b'1' | b'2' | b'3' | b'N' => {}
            other => {
                let other = char::from(other);
                return Err(Unmaskable::Malformed(format!(
                    "a message of type {other:?} while a statement is looked at"
                )));
            }
        }
        Ok(Fate::Swallow)
    }

    /// The backend has answered a stage.
    pub(super) fn looked(&mut self, status: u8, exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        let Phase::Previewing(look) = &mut self.phase else { unreachable!("only called while previewing") };
        let next = match look.stage {
            Stage::Isolation if look.is_failed => None,
            Stage::Isolation => Some(look.questions()),
            // What should have begun a place of its own did not, and changed nothing.
            Stage::Asking if status == b'I' => None,
            Stage::Asking => Some(look.way_back()),
            Stage::Leaving => None,
        };
        if let Some(frame) = next {
            exchange.own = Some(("what a held operation would touch", frame));
            return Ok(Fate::Swallow);
        }
        if status != look.before {
            // Nobody can say what the client's transaction is now.
            return Err(Unmaskable::Malformed("the session could not be put back after a look at a statement".into()));
        }
        exchange.impact = Some(std::mem::take(&mut look.found));
        // The statement itself is still to come, perhaps without an end of its own.
        self.phase = Phase::Ready;
        Ok(Fate::Swallow)
    }
}

impl Look {
    fn isolation(&mut self) -> Frame {
        self.ask(Stage::Isolation, &[(Question::Isolation, "SHOW transaction_isolation")])
    }

    /// In a place of its own: what the tables are, the plan, and the locks that it took.
    fn questions(&mut self) -> Frame {
        let enter: &[(Question, &str)] = if self.before == b'T' {
            &[
                (Question::Nothing, "SAVEPOINT holdpoint_preview"),
                (Question::Nothing, "SET LOCAL transaction_read_only = on"),
            ]
        } else {
            &[(Question::Nothing, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")]
        };
        let limits = [
            (Question::Nothing, "SET LOCAL statement_timeout = 2000"),
            (Question::Nothing, "SET LOCAL lock_timeout = 200"),
            (Question::Tables, TABLES),
        ];
        let mut all = [enter, &limits].concat();
        if self.statement.is_some() {
            all.extend([(Question::Plan, ""), (Question::Locks, LOCKS)]);
        }
        self.ask(Stage::Asking, &all)
    }

    fn way_back(&mut self) -> Frame {
        let back: &[(Question, &str)] = if self.before == b'T' {
            &[
                (Question::Nothing, "ROLLBACK TO SAVEPOINT holdpoint_preview"),
                (Question::Nothing, "RELEASE SAVEPOINT holdpoint_preview"),
            ]
        } else {
            &[(Question::Nothing, "ROLLBACK")]
        };
        self.ask(Stage::Leaving, back)
    }

    fn ask(&mut self, stage: Stage, questions: &[(Question, &str)]) -> Frame {
        (self.stage, self.answered) = (stage, 0);
        self.asked = questions.iter().map(|(question, _)| *question).collect();
        let mut out = BytesMut::new();
        for (question, sql) in questions {
            let sql = ["/* holdpoint: impact */ ", sql].concat();
            match (question, &self.statement) {
                (Question::Plan, Some(Explained { sql, types, portal })) => {
                    wire::ask(&mut out, &self.apart, sql, types, &portal.parameters);
                }
                (Question::Tables, _) => {
                    let names = [wire::text_parameter(self.tables.clone())];
                    wire::ask(&mut out, &self.apart, sql.as_bytes(), &[], &names);
                }
                _ => wire::ask(&mut out, &self.apart, sql.as_bytes(), &[], &[]),
            }
        }
        wire::message(&mut out, b'S', |_| {});
        Frame::new(out.freeze())
    }

    fn row(&mut self, message: &[u8]) {
        let question = self.asked.get(self.answered).copied();
        let read = || -> Option<Vec<Option<String>>> {
            let mut reader = Reader::new(message.get(5..)?);
            let count = usize::try_from(reader.i16().ok()?).ok()?;
            let mut values = Vec::with_capacity(count);
            for _ in 0..count {
                let length = usize::try_from(reader.i32().ok()?).ok();
                let value = length.map(|length| reader.take(length).ok()).map(|value| str::from_utf8(value?).ok());
                values.push(match value {
                    None => None,
                    Some(value) => Some(value?.to_owned()),
                });
            }
            Some(values)
        };
        let Some(values) = read() else {
            self.misses("the backend answered what cannot be read");
            return;
        };
        let text = |at: usize| values.get(at).cloned().flatten().unwrap_or_default();
        let number = |at: usize| text(at).parse::<u64>().ok();
        match question {
            Some(Question::Isolation) if text(0) != "read committed" => {
                self.is_failed = true;
                self.misses("its transaction's isolation is not READ COMMITTED, and a look would take its snapshot");
            }
            Some(Question::Tables) => {
                let touched = Touched { name: text(0), rows: number(1), bytes: number(2), locks: Vec::new() };
                self.found.touched.push(touched);
            }
            Some(Question::Plan) => match serde_json::from_str(&text(0)) {
                Ok(plan) => self.found.estimates = estimates(&plan),
                Err(_) => self.misses("the backend's plan cannot be read"),
            },
            Some(Question::Locks) => match self.found.touched.iter_mut().find(|one| one.name == text(0)) {
                Some(touched) => touched.locks.push(text(1)),
                None => {
                    let rows = number(2);
                    self.found.touched.push(Touched { name: text(0), rows, bytes: number(3), locks: vec![text(1)] });
                }
            },
            _ => {}
        }
    }

    fn failed(&mut self, message: &[u8]) {
        let question = self.asked.get(self.answered).copied();
        self.is_failed = true;
        let (code, words) = wire::said(message);
        let is_explained = question == Some(Question::Plan);
        match code.as_str() {
            // Not every statement can be explained, and the grammar says so.
            "42601" if is_explained => self.misses(NOT_EXPLAINED),
            "55P03" => self.misses("somebody holds a lock that it needs"),
            _ => self.misses(&format!("the backend says: {words}")),
        }
    }

    fn misses(&mut self, why: &str) {
        if self.found.missing.is_empty() {
            why.clone_into(&mut self.found.missing);
        }
    }
}

/// Why a statement with these effects is not explained.
fn why_not(effects: Effects, statements: &[Statement]) -> Option<&'static str> {
    if effects.contains(Effect::Unknown) {
        return Some("what it does cannot be seen through, and planning it could already run some of it");
    }
    if !matches!(statements, [Statement::Other | Statement::Execute { .. }]) {
        return Some("only a single statement can be explained, and one that sets nothing");
    }
    if effects.contains(Effect::Execute) {
        return Some("it calls functions, and planning it could already run them");
    }
    (!effects.within(DATA)).then_some(NOT_EXPLAINED)
}

/// Whether these are an `EXECUTE` with arguments that are more than literals: `EXPLAIN` evaluates them.
fn runs_arguments(prepared: &Prepared) -> bool {
    let is_execute = matches!(prepared.classified.statements[..], [Statement::Execute { .. }]);
    is_execute
        && str::from_utf8(&prepared.text).ok().and_then(|text| pg_query::scan_tokens(text).ok()).is_none_or(|tokens| {
            let opens = tokens.iter().filter(|token| token.token() == Token::Ascii40).count();
            opens > 1 || tokens.iter().any(|token| matches!(token.token(), Token::Typecast | Token::Op))
        })
}

/// What a plan says that it would do.
fn estimates(plan: &Value) -> Vec<Estimate> {
    let mut found = Vec::new();
    // Rules make several plans of one statement.
    for plan in plan.as_array().into_iter().flatten() {
        changes(&plan["Plan"], &mut found, 0);
    }
    if found.is_empty() {
        found.push(Estimate { what: "return".to_owned(), on: String::new(), rows: rows(&plan[0]["Plan"]) });
    }
    found
}

/// Every change in a plan: one at the top, and those in its `WITH`.
fn changes(node: &Value, found: &mut Vec<Estimate>, depth: usize) {
    let parts = || node["Plans"].as_array().into_iter().flatten();
    if node["Node Type"] == "ModifyTable" {
        let feeds = |part: &&Value| matches!(part["Parent Relationship"].as_str(), Some("Outer" | "Member"));
        let word = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
        found.push(Estimate {
            what: word("Operation").to_lowercase(),
            on: [word("Schema"), word("Relation Name")].join("."),
            rows: parts().filter(feeds).map(rows).sum(),
        });
    }
    if depth < DEEPEST {
        parts().for_each(|part| changes(part, found, depth + 1));
    }
}

fn rows(node: &Value) -> u64 {
    node["Plan Rows"].as_u64().unwrap_or_default()
}

/// Names as one array of SQL's, each quoted as an identifier.
fn array(tables: &[&Object]) -> String {
    let identifier = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let names = tables.iter().map(|table| {
        let schema = table.schema.as_deref().map_or_else(String::new, |schema| format!("{}.", identifier(schema)));
        let name = format!("{schema}{}", identifier(&table.name));
        format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    });
    format!("{{{}}}", names.collect::<Vec<_>>().join(","))
}

const NOT_EXPLAINED: &str = "PostgreSQL explains SELECT, INSERT, UPDATE, DELETE and MERGE alone; DROP, TRUNCATE and \
                             most of ALTER TABLE lock what they touch against everybody (ACCESS EXCLUSIVE)";

/// Reads and changes rows.
const DATA: Effects = Effects::of(Effect::Read).with(Effect::Write).with(Effect::Delete).with(Effect::Reveal);

const EXPLAIN: &[u8] = b"/* holdpoint: impact */ EXPLAIN (VERBOSE, FORMAT JSON) ";

/// Without a lock on any of them: the size is what the catalog remembers.
const TABLES: &str = "SELECT n.nspname::pg_catalog.text OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) c.relname::pg_catalog.text, \
     CASE WHEN c.reltuples OPERATOR(pg_catalog.>=) 0::pg_catalog.float4 THEN c.reltuples::pg_catalog.int8 END, \
     CASE WHEN c.reltuples OPERATOR(pg_catalog.>=) 0::pg_catalog.float4 AND c.relkind OPERATOR(pg_catalog.<>) 'p'::pg_catalog.\"char\" THEN c.relpages::pg_catalog.int8 OPERATOR(pg_catalog.*) pg_catalog.current_setting('block_size')::pg_catalog.int8 END \
     FROM pg_catalog.unnest($1::pg_catalog.text[]) AS asked(name) \
     JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(asked.name) \
     JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace";

/// The locks that planning took are those that the statement takes; in a transaction, with those it already has.
const LOCKS: &str = "SELECT n.nspname::pg_catalog.text OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) c.relname::pg_catalog.text, l.mode, \
     CASE WHEN c.reltuples OPERATOR(pg_catalog.>=) 0::pg_catalog.float4 THEN c.reltuples::pg_catalog.int8 END, \
     CASE WHEN c.reltuples OPERATOR(pg_catalog.>=) 0::pg_catalog.float4 AND c.relkind OPERATOR(pg_catalog.<>) 'p'::pg_catalog.\"char\" THEN c.relpages::pg_catalog.int8 OPERATOR(pg_catalog.*) pg_catalog.current_setting('block_size')::pg_catalog.int8 END \
     FROM pg_catalog.pg_locks l \
     JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.relation AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f}'::pg_catalog.\"char\"[]) \
     JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
     WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.locktype OPERATOR(pg_catalog.=) 'relation'::pg_catalog.text \
     AND n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,pg_toast}'::pg_catalog.name[]) \
     ORDER BY 1, 2 LIMIT 50";

/// So many tables are looked at.
const MOST: usize = 50;

/// So deep a plan is read.
const DEEPEST: usize = 40;
