//! What a text means without saying it in the usual form: calls written as columns, operators that are somebody's
//! function, and values that a statement puts somewhere and could hand out from there.
//!
//! # Security
//! PostgreSQL reads `a.b` as `b(a)` where `a` has no column `b`. Of a function in `FROM` the columns are known, so any
//! other name is a call. Of a table they are not: there a built-in counts as called, and the names go to the session,
//! which asks the backend's catalog for functions that take a row ([`super::References::dotted`]).

use std::mem;

use pg_query::{NodeEnum, protobuf as pb};

use super::{
    Called,
    functions::{self, Call},
    tree::{Branch, Visit},
    walk::{Walk, literal, strings},
};
use crate::operation::Effect;

/// The setting whose row of `pg_settings` is all that a query sees: `FROM pg_settings WHERE name = 'one'` and nothing
/// else, as `pg_dump` writes it. Whatever relation has that name, its column `name` is then this.
pub(super) fn selected_setting(from: &[pb::Node], condition: &Option<Box<pb::Node>>) -> Option<String> {
    let [pb::Node { node: Some(NodeEnum::RangeVar(relation)) }] = from else { return None };
    let is_settings = relation.relname == SETTINGS && matches!(relation.schemaname.as_str(), "" | "pg_catalog");
    let Some(NodeEnum::AExpr(test)) = &condition.as_ref()?.node else { return None };
    let is_equal = test.kind() == pb::AExprKind::AexprOp && strings(&test.name) == ["="];
    let (left, right) = (test.lexpr.as_ref()?, test.rexpr.as_ref()?);
    let is_plain = is_settings && is_equal && relation.alias.is_none() && is_settings_name(left);
    let Some(NodeEnum::AConst(_)) = &right.node else { return None };
    literal(right).filter(|_| is_plain).map(str::to_owned)
}

/// Whether this is the column `name` of `pg_settings`.
pub(super) fn is_settings_name(node: &pb::Node) -> bool {
    let Some(NodeEnum::ColumnRef(column)) = &node.node else { return false };
    matches!(strings(&column.fields)[..], ["name"] | [SETTINGS, "name"]) && column.fields.len() <= 2
}

const SETTINGS: &str = "pg_settings";

/// A function in `FROM`, under the name that its columns are qualified with.
#[derive(Debug, Clone)]
pub(super) struct Source {
    name: String,
    columns: Vec<String>,
}

impl Walk {
    /// A column as a text names it; `row.to_json` is a call of `to_json(row)`.
    pub(super) fn dotted(&mut self, column: &pb::ColumnRef) {
        let parts = strings(&column.fields);
        let [.., qualifier, name] = parts[..] else { return };
        if column.fields.len() != parts.len() {
            return;
        }
        self.references.whole_row |= functions::takes_row(name);
        self.references.dotted.insert(name.to_owned());
        if matches!(functions::builtin(name), Call::Known(..) | Call::SetsSetting) {
            self.attribute(name, &None);
        } else if parts.len() == 2 {
            self.qualified.insert((qualifier.to_owned(), name.to_owned()));
        }
    }

    /// What only the whole statement tells. To be called once at its end.
    pub(super) fn settle(&mut self) {
        for (qualifier, name) in mem::take(&mut self.qualified) {
            let of_it = |source: &&Source| source.name == qualifier;
            if self.sources.iter().filter(of_it).any(|source| !source.columns.contains(&name)) {
                self.attribute(&name, &None);
            }
        }
        if !self.kept.is_empty() && self.reads_tables() {
            self.add(Effect::Transfer);
            for name in mem::take(&mut self.kept) {
                self.unknown(format!("gives {name} values that it computes, which can be read from there unmasked"));
            }
        }
    }

    /// Walks `below`, whose values the statement stores and may hand out again.
    pub(super) fn storing(&mut self, below: impl FnOnce(&mut Self)) {
        self.references.stores = true;
        let storing = mem::replace(&mut self.storing, true);
        below(self);
        self.storing = storing;
    }

    /// Walks `below`, whose values are not stored even where what is around it is.
    pub(super) fn not_storing(&mut self, below: impl FnOnce(&mut Self)) {
        let storing = mem::replace(&mut self.storing, false);
        below(self);
        self.storing = storing;
    }

    /// A call that hands its arguments on, unless they stand in the text or come with it.
    pub(super) fn keep(&mut self, name: &str, arguments: &[pb::Node]) {
        if functions::keeps(name) && !arguments.iter().all(is_given) {
            self.kept.insert(name.to_owned());
        }
    }

    /// An operator with a schema other than `pg_catalog`, or with a spelling that PostgreSQL has not, is a function.
    pub(super) fn operator(&mut self, name: &[pb::Node]) {
        self.named_operator(&strings(name));
    }

    /// The operators that a construct of the grammar stands for: they are looked up by the search path like any other.
    pub(super) fn implied_operators(&mut self, spellings: &[&str]) {
        spellings.iter().for_each(|spelling| self.named_operator(&[spelling]));
    }

    fn named_operator(&mut self, name: &[&str]) {
        let Some((spelling, schema)) = name.split_last() else { return };
        let called = Called::new(name, true);
        if !matches!(schema, [] | ["pg_catalog"]) || !functions::is_own_operator(spelling) {
            self.opaque.insert(called.clone());
        }
        self.operators.insert(called);
    }

    /// `(value).name`, which is a field or a call.
    pub(super) fn attribute(&mut self, name: &str, value: &Option<Box<pb::Node>>) {
        if functions::builtin(name) == Call::Unseen {
            self.add(Effect::Execute);
            self.unknown(format!("reads the field {name} of a value, or calls a function of that name"));
            return;
        }
        let argument: Vec<pb::Node> = value.iter().map(|value| (**value).clone()).collect();
        self.call(&[name], &argument);
        if value.is_none() && functions::keeps(name) {
            self.kept.insert(name.to_owned());
        }
    }
}

/// A literal or a parameter, through casts.
fn is_given(node: &pb::Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_given),
        Some(NodeEnum::NamedArgExpr(argument)) => argument.arg.as_deref().is_some_and(is_given),
        _ => false,
    }
}

impl Visit for pb::RangeFunction {
    fn visit(&self, walk: &mut Walk) {
        walk.sources.extend(source(self));
        self.children(walk);
    }
}

/// The name and columns of a function in `FROM`; `None` where it gives a row of a table's type, as a table does.
fn source(range: &pb::RangeFunction) -> Option<Source> {
    let function = range.functions.first().and_then(|item| match &item.node {
        Some(NodeEnum::List(list)) => list.items.first(),
        _ => None,
    });
    let function = match function.and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::FuncCall(call)) => strings(&call.funcname).last().copied().unwrap_or_default(),
        _ => "",
    };
    if function.starts_with("json") && function.contains("_populate_record") {
        return None;
    }
    let alias = range.alias.as_ref();
    let name = alias.map_or(function, |alias| &alias.aliasname).to_owned();
    let mut columns: Vec<String> =
        alias.map_or_else(Vec::new, |alias| strings(&alias.colnames).into_iter().map(str::to_owned).collect());
    let mut own: Vec<&str> = functions::columns(function).collect();
    if own.is_empty() {
        // What gives one value gives it under its own name, or the alias.
        own.push(&name);
    }
    if range.ordinality {
        own.push("ordinality");
    }
    columns.extend(own.into_iter().skip(columns.len()).map(str::to_owned));
    let listed = range.functions.iter().chain(&range.coldeflist);
    columns.extend(listed.flat_map(definitions));
    Some(Source { name, columns })
}

/// The names in a column definition list (`AS x(a int)`), wherever the grammar put it.
fn definitions(node: &pb::Node) -> Vec<String> {
    match &node.node {
        Some(NodeEnum::ColumnDef(column)) => vec![column.colname.clone()],
        Some(NodeEnum::List(list)) => list.items.iter().flat_map(definitions).collect(),
        _ => Vec::new(),
    }
}
