//! The walk over one statement's whole parse tree: what it found, and what expressions and data statements mean.
//!
//! The walk only ever adds. Nothing that it meets can take an effect away again, with one exception that is spelled out
//! where it happens: `EXPLAIN` without `ANALYZE` plans its statement and does not run it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use pg_query::{NodeEnum, protobuf as pb};
use serde_json::{Value, json};

use super::{
    Called, Inside, References, Sense, Statement, Table,
    functions::{self, Call},
    notation::{self, Source},
    plain::is_plain_type,
    settings,
    tree::{Branch, Visit},
};
use crate::operation::{Effect, Effects, Meaning, Object};

/// What was found, and where in the tree the walk is.
#[derive(Default)]
pub(super) struct Walk {
    effects: Effects,
    objects: BTreeSet<Object>,
    unknown: BTreeSet<String>,
    /// Calls of what the text alone does not show.
    pub(super) opaque: BTreeSet<Called>,
    /// Every operator, as written.
    pub(super) operators: BTreeSet<Called>,
    /// Why an `EXECUTE` or `FETCH` is unknown as long as nobody says what the name stands for.
    pub(super) deferred: BTreeSet<String>,
    tables: BTreeSet<Table>,
    targets: BTreeSet<Table>,
    functions: BTreeSet<String>,
    /// Every type that the grammar does not spell itself.
    types: BTreeSet<Called>,
    /// Whether tables that refer to those named are emptied with them.
    pub(super) cascades: bool,
    pub(super) where_missing: bool,
    pub(super) references: References,
    /// Names by which expressions can mean a whole row: tables, aliases, CTEs.
    ranges: BTreeSet<String>,
    /// Column lists that rename what is below them.
    renames: bool,
    /// The CTEs in scope, innermost last.
    scope: Vec<String>,
    /// Whether the next query or data statement returns its rows to the client as they are.
    pub(super) outermost: bool,
    /// Whether relations met now are only read.
    pub(super) reading: bool,
    /// What the session tracker must know of the statement.
    pub(super) tracked: Option<Statement>,
    /// Settings that `set_config` was called for; `None` where the name is computed.
    pub(super) set_by_call: Vec<Option<String>>,
    /// Columns as `qualifier.name`, until the whole statement tells what the qualifiers are.
    pub(super) qualified: BTreeSet<(String, String)>,
    /// The functions in `FROM`.
    pub(super) sources: Vec<Source>,
    /// Calls that keep what they are given, with values that are computed.
    pub(super) kept: BTreeSet<String>,
    /// Whether what is met now is stored by the statement.
    pub(super) storing: bool,
    /// Inside an `ON CONFLICT`, where `excluded` is what was to be inserted, and its columns that are used.
    pub(super) on_conflict: bool,
    excluded: BTreeSet<String>,
    /// The only setting whose row of `pg_settings` the query in hand selects.
    pub(super) selected_setting: Option<String>,
    /// Whether a name could carry what is stored past the columns that are named where it is stored.
    renames_stored: bool,
}

impl Walk {
    /// Adds one effect.
    pub(super) fn add(&mut self, effect: Effect) {
        self.effects.insert(effect);
    }

    /// Adds several effects.
    pub(super) fn add_all(&mut self, effects: &[Effect]) {
        effects.iter().for_each(|effect| self.add(*effect));
    }

    /// Makes the statement unknown, saying why.
    pub(super) fn unknown(&mut self, why: impl Into<String>) {
        self.add(Effect::Unknown);
        self.unknown.insert(why.into());
    }

    /// Makes the statement unknown because of a part of the tree that this gateway does not know.
    pub(super) fn unseen(&mut self, what: &str) {
        self.unknown(format!("contains {what}, which this gateway does not know"));
    }

    /// Notes something touched.
    pub(super) fn object(&mut self, kind: &'static str, schema: Option<&str>, name: impl Into<String>) {
        self.objects.insert(Object { kind: kind.into(), schema: schema.map(str::to_owned), name: name.into() });
    }

    /// Notes a table, and that the statement changes it unless `reading`.
    pub(super) fn table(&mut self, schema: &str, name: &str) {
        let table = Table { schema: schema.to_owned(), name: name.to_owned() };
        self.object("table", (!schema.is_empty()).then_some(schema), name);
        self.ranges.insert(name.to_owned());
        self.renames_stored |= name == EXCLUDED;
        self.references.tables.insert(table.clone());
        if !self.reading {
            self.targets.insert(table.clone());
        }
        self.tables.insert(table);
    }

    /// Notes a relation, unless it is a CTE in scope. Targets never are: PostgreSQL refuses to change a CTE.
    fn relation(&mut self, relation: &pb::RangeVar) {
        let is_cte = self.reading && relation.schemaname.is_empty() && self.scope.contains(&relation.relname);
        if is_cte {
            self.ranges.insert(relation.relname.clone());
        } else {
            self.table(&relation.schemaname, &relation.relname);
        }
    }

    /// Notes the relation that a data statement changes.
    pub(super) fn target(&mut self, relation: &Option<pb::RangeVar>) {
        let reading = mem::replace(&mut self.reading, false);
        relation.visit(self);
        self.reading = reading;
        let catalog =
            relation.iter().any(|r| matches!(r.schemaname.as_str(), "" | "pg_catalog") && r.relname.starts_with("pg_"));
        if catalog {
            self.add_all(&[Effect::Privilege, Effect::Admin]);
        }
    }

    /// Walks `below` with relations taken as read.
    pub(super) fn reading(&mut self, below: impl FnOnce(&mut Self)) {
        let reading = mem::replace(&mut self.reading, true);
        below(self);
        self.reading = reading;
    }

    /// Walks `below` with the names of `with` in scope.
    fn within(&mut self, with: &Option<pb::WithClause>, below: impl FnOnce(&mut Self)) {
        let outer = self.scope.len();
        with.visit(self);
        below(self);
        self.scope.truncate(outer);
    }

    /// A column, by the last part of its name.
    fn column(&mut self, name: &str, computed: bool) {
        self.references.columns.insert(name.to_owned());
        if computed {
            self.references.computed.insert(name.to_owned());
        }
        if self.storing {
            self.references.stored.insert(name.to_owned());
        }
    }

    /// A name by which expressions can mean a whole row.
    pub(super) fn row(&mut self, name: &str) {
        self.ranges.insert(name.to_owned());
    }

    /// Whether a relation is named anywhere.
    pub(super) fn reads_tables(&self) -> bool {
        !self.tables.is_empty()
    }

    /// The items of a select list or `RETURNING`. In the outermost one, a bare column keeps its lineage.
    fn items(&mut self, items: &[pb::Node], outermost: bool) {
        for item in items {
            match bare_column(item) {
                Some(column) if is_star(column) => self.references.inner_star |= !outermost,
                Some(column) => {
                    let name = last_name(column).unwrap_or_default();
                    self.column(name, !outermost);
                    self.dotted(column);
                }
                None => item.visit(self),
            }
        }
    }

    /// A call of the function with these name parts.
    pub(super) fn call(&mut self, name: &[&str], arguments: &[pb::Node]) {
        self.functions.insert(name.join("."));
        match name {
            [name] | ["pg_catalog", name] => self.builtin(name, arguments),
            ["information_schema", name] if name.starts_with("_pg_") => {}
            _ => self.opaque_call(name),
        }
    }

    fn builtin(&mut self, name: &str, arguments: &[pb::Node]) {
        // Named arguments stand in any order, so only a positional first one is known to be the setting.
        let named = arguments.iter().any(|argument| matches!(argument.node, Some(NodeEnum::NamedArgExpr(_))));
        let first = arguments.first().filter(|_| !named);
        let selected = self.selected_setting.clone().filter(|_| first.is_some_and(notation::is_settings_name));
        self.keep(name, &arguments[usize::from(selected.is_some())..]);
        self.references.newest = self.references.newest.max(functions::since(name));
        match functions::builtin(name) {
            Call::Harmless => {}
            Call::Known(effects, why) => {
                self.effects = self.effects.union(effects);
                self.object("function", None, name);
                if let Some(why) = why {
                    self.unknown(format!("calls {name}, which {why}"));
                }
                if functions::names_file(name) {
                    arguments.iter().filter_map(literal).for_each(|path| self.object("file", None, path));
                }
            }
            Call::SetsSetting => self.set_config(first.and_then(literal).or(selected.as_deref())),
            Call::Unseen => self.opaque_call(&[name]),
        }
    }

    fn set_config(&mut self, name: Option<&str>) {
        self.set_by_call.push(name.map(str::to_ascii_lowercase));
        match name {
            Some(name) => self.setting(name),
            None => {
                self.add_all(&[Effect::Session, Effect::Privilege]);
                self.unknown("changes a setting whose name is computed");
            }
        }
    }

    /// A call of a function that is in no list.
    pub(super) fn opaque_call(&mut self, name: &[&str]) {
        let called = Called::new(name, false);
        self.object("function", called.schema.as_deref(), called.name.clone());
        self.opaque.insert(called);
    }

    /// A change of the setting `name`, by whatever way.
    pub(super) fn setting(&mut self, name: &str) {
        let (effects, why) = settings::setting(name);
        self.effects = self.effects.union(effects);
        self.object("setting", None, name.to_ascii_lowercase());
        if let Some(why) = why {
            self.unknown(why);
        }
    }

    /// Walks `below` apart from this walk, as a statement of its own that runs later or never.
    pub(super) fn apart(&mut self, below: impl FnOnce(&mut Walk)) -> Walk {
        let mut inner =
            Walk { outermost: self.outermost, reading: self.reading, scope: self.scope.clone(), ..Walk::default() };
        below(&mut inner);
        inner.settle();
        inner
    }

    /// Takes over what `inner` touches and refers to, but none of its effects.
    pub(super) fn touch(&mut self, inner: &Walk) {
        self.types.extend(inner.types.iter().cloned());
        self.objects.extend(inner.objects.iter().cloned());
        self.tables.extend(inner.tables.iter().cloned());
        self.targets.extend(inner.targets.iter().cloned());
        self.functions.extend(inner.functions.iter().cloned());
        self.operators.extend(inner.operators.iter().cloned());
        self.references.absorb(&inner.finished_references());
    }

    /// Takes over everything of `inner`: it runs with this statement.
    pub(super) fn take(&mut self, inner: &Walk) {
        self.touch(inner);
        self.effects = self.effects.union(inner.effects);
        self.unknown.extend(inner.unknown.iter().cloned());
        self.opaque.extend(inner.opaque.iter().cloned());
        self.deferred.extend(inner.deferred.iter().cloned());
        self.where_missing |= inner.where_missing;
        self.set_by_call.extend(inner.set_by_call.iter().cloned());
        self.cascades |= inner.cascades;
    }

    /// Takes over of `inner`, which is planned and not run, what the planner itself would run: functions declared
    /// immutable, which may be anybody's.
    pub(super) fn plan(&mut self, inner: &Walk) {
        self.touch(inner);
        self.deferred.extend(inner.deferred.iter().cloned());
        self.opaque.extend(inner.opaque.iter().cloned());
        if inner.effects.contains(Effect::Unknown) {
            self.effects = self.effects.with(Effect::Unknown);
            self.unknown.extend(inner.unknown.iter().cloned());
            if inner.effects.contains(Effect::Execute) {
                self.add(Effect::Execute);
            }
        }
    }

    /// What masking must know, with what only the whole statement tells.
    pub(super) fn finished_references(&self) -> References {
        let mut references = self.references.clone();
        references.whole_row |= references.columns.iter().any(|column| self.ranges.contains(column));
        references.whole_row |= self.renames && references.inner_star;
        if self.renames_stored {
            references.computed.extend(self.excluded.iter().cloned());
            references.stored.extend(references.columns.iter().cloned());
        }
        references
    }

    /// All that is known of it.
    pub(super) fn sense(&self, kinds: &[String]) -> Sense {
        Sense { meaning: Arc::new(self.meaning(kinds)), reads: self.finished_references(), inside: self.inside(kinds) }
    }

    /// What policy sees where nobody can say more than the text does: what is called may do anything.
    pub(super) fn meaning(&self, kinds: &[String]) -> Meaning {
        let mut meaning = self.without_calls(kinds);
        for called in &self.opaque {
            meaning.effects = meaning.effects.with(Effect::Execute).with(Effect::Unknown);
            meaning.unknown.push(called.unseen());
        }
        meaning.unknown.sort();
        meaning.unknown.truncate(MOST_REASONS);
        meaning
    }

    /// What is to be asked of the backend's catalog.
    pub(super) fn inside(&self, kinds: &[String]) -> Inside {
        Inside {
            meaning: (!self.opaque.is_empty()).then(|| Arc::new(self.without_calls(kinds))),
            opaque: self.opaque.iter().cloned().collect(),
            functions: self
                .functions
                .iter()
                .map(|name| Called::new(&name.split('.').collect::<Vec<_>>(), false))
                .collect(),
            operators: self.operators.iter().cloned().collect(),
            tables: self.tables.iter().map(|table| (table.clone(), self.targets.contains(table))).collect(),
            types: self.types.iter().cloned().collect(),
            cascades: self.cascades,
            defines: self.defines(kinds),
        }
    }

    /// Whether event triggers may fire: not where a role is set, or a privilege only needed.
    fn defines(&self, kinds: &[String]) -> bool {
        let is_quiet = |kind: &String| matches!(kind.as_str(), "set" | "reset" | "select");
        self.effects.contains(Effect::Schema) || self.effects.contains(Effect::Privilege) && !kinds.iter().all(is_quiet)
    }

    /// What the text itself does, without what it calls.
    fn without_calls(&self, kinds: &[String]) -> Meaning {
        Meaning {
            effects: self.effects,
            objects: self.objects.iter().cloned().collect(),
            unknown: self.unknown.iter().cloned().collect(),
            fields: BTreeMap::from([
                ("tables", tables(&self.tables)),
                ("targets", tables(&self.targets)),
                ("functions", json!(self.functions)),
                ("statements", json!(kinds)),
                ("statement_count", json!(kinds.len())),
                ("where_missing", json!(self.where_missing)),
                ("computed", json!(self.references.computed)),
            ]),
        }
    }
}

/// By which `ON CONFLICT DO UPDATE` names the row that was to be inserted.
const EXCLUDED: &str = "excluded";

/// A person reads the reasons; more than this helps nobody.
const MOST_REASONS: usize = 16;

fn tables(tables: &BTreeSet<Table>) -> Value {
    tables.iter().map(|table| json!({ "schema": table.schema, "name": table.name })).collect()
}

/// The strings of a list of name parts.
pub(super) fn strings(parts: &[pb::Node]) -> Vec<&str> {
    parts.iter().filter_map(string).collect()
}

fn string(node: &pb::Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::String(part)) => Some(&part.sval),
        _ => None,
    }
}

/// The text of a string literal, through casts.
pub(super) fn literal(node: &pb::Node) -> Option<&str> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            pb::a_const::Val::Sval(text) => Some(&text.sval),
            _ => None,
        },
        NodeEnum::TypeCast(cast) => literal(cast.arg.as_ref()?),
        NodeEnum::NamedArgExpr(argument) => literal(argument.arg.as_ref()?),
        _ => None,
    }
}

fn last_name(column: &pb::ColumnRef) -> Option<&str> {
    column.fields.last().and_then(string)
}

fn is_star(column: &pb::ColumnRef) -> bool {
    column.fields.last().is_some_and(|field| matches!(field.node, Some(NodeEnum::AStar(_))))
}

/// The column that a select item is, if it is nothing but a column.
fn bare_column(item: &pb::Node) -> Option<&pb::ColumnRef> {
    let Some(NodeEnum::ResTarget(target)) = &item.node else { return None };
    match &target.val.as_ref()?.node {
        Some(NodeEnum::ColumnRef(column)) if target.indirection.is_empty() => Some(column),
        _ => None,
    }
}

impl Visit for pb::SelectStmt {
    fn visit(&self, walk: &mut Walk) {
        let outermost = mem::take(&mut walk.outermost);
        if self.values_lists.is_empty() || outermost {
            walk.add(Effect::Read);
        }
        if !self.locking_clause.is_empty() {
            // Row locks keep every writer out, and PostgreSQL itself refuses them in a read-only transaction.
            walk.add(Effect::Write);
        }
        self.into_clause.visit(walk);
        walk.reading(|walk| walk.within(&self.with_clause, |walk| select_body(self, outermost, walk)));
    }
}

/// Every field of a `SELECT` but `WITH` and `INTO`, which its `visit` sees to.
fn select_body(select: &pb::SelectStmt, outermost: bool, walk: &mut Walk) {
    let pb::SelectStmt {
        distinct_clause,
        into_clause: _,
        target_list,
        from_clause,
        where_clause,
        group_clause,
        group_distinct: _,
        having_clause,
        window_clause,
        values_lists,
        sort_clause,
        limit_offset,
        limit_count,
        limit_option: _,
        locking_clause,
        with_clause: _,
        op: _,
        all: _,
        larg,
        rarg,
    } = select;
    let outer = mem::replace(&mut walk.selected_setting, notation::selected_setting(from_clause, where_clause));
    walk.items(target_list, outermost);
    walk.selected_setting = outer;
    // Plain DISTINCT is a list of one empty place.
    distinct_clause.iter().filter(|node| node.node.is_some()).for_each(|node| node.visit(walk));
    from_clause.visit(walk);
    where_clause.visit(walk);
    group_clause.visit(walk);
    having_clause.visit(walk);
    window_clause.visit(walk);
    values_lists.visit(walk);
    sort_clause.visit(walk);
    limit_offset.visit(walk);
    limit_count.visit(walk);
    meant_by_place_or_name(select, walk);
    locking_clause.visit(walk);
    walk.references.set_operation |= larg.is_some() || rarg.is_some();
    larg.visit(walk);
    rarg.visit(walk);
}

/// `ORDER BY 2` and `ORDER BY alias` compare what stands in the select list, of every branch of a `UNION`; `GROUP BY` and
/// `DISTINCT ON` likewise. What is no bare column there counts as computed anyway.
fn meant_by_place_or_name(select: &pb::SelectStmt, walk: &mut Walk) {
    let pb::SelectStmt { distinct_clause, group_clause, sort_clause, .. } = select;
    let mut meant: Vec<&NodeEnum> = [distinct_clause, group_clause, sort_clause]
        .into_iter()
        .flatten()
        .filter_map(|node| node.node.as_ref())
        .collect();
    if meant.is_empty() {
        return;
    }
    let (mut by_place, mut by_name) = (HashMap::<usize, Vec<&pb::ColumnRef>>::new(), HashMap::<_, Vec<_>>::new());
    let mut branches = vec![select];
    while let Some(branch) = branches.pop() {
        branches.extend([&branch.larg, &branch.rarg].into_iter().filter_map(Option::as_deref));
        for (place, item) in branch.target_list.iter().enumerate() {
            let (Some(column), Some(NodeEnum::ResTarget(named))) = (bare_column(item), &item.node) else { continue };
            by_place.entry(place).or_default().push(column);
            by_name.entry(named.name.as_str()).or_default().push(column);
        }
    }
    let has_star = by_place.values().flatten().any(|column| is_star(column));
    while let Some(node) = meant.pop() {
        let columns = match node {
            NodeEnum::SortBy(sort) => {
                meant.extend(sort.node.iter().filter_map(|node| node.node.as_ref()));
                continue;
            }
            NodeEnum::GroupingSet(set) => {
                meant.extend(set.content.iter().filter_map(|node| node.node.as_ref()));
                continue;
            }
            NodeEnum::RowExpr(row) => {
                meant.extend(row.args.iter().filter_map(|node| node.node.as_ref()));
                continue;
            }
            NodeEnum::AConst(pb::AConst { val: Some(pb::a_const::Val::Ival(place)), .. }) => {
                // Which column that is behind a star only the catalog knows.
                walk.references.whole_row |= has_star;
                usize::try_from(place.ival).ok().and_then(|place| by_place.get(&place.checked_sub(1)?))
            }
            NodeEnum::ColumnRef(column) => match &strings(&column.fields)[..] {
                [name] if column.fields.len() == 1 => by_name.get(name),
                _ => None,
            },
            _ => None,
        };
        for name in columns.into_iter().flatten().filter_map(|column| last_name(column)) {
            walk.column(name, true);
        }
    }
}

impl Visit for pb::InsertStmt {
    fn visit(&self, walk: &mut Walk) {
        let pb::InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = self;
        let outermost = mem::take(&mut walk.outermost);
        walk.add(Effect::Write);
        walk.within(with_clause, |walk| {
            walk.target(relation);
            walk.reading(|walk| {
                assigned(cols, walk);
                walk.storing(|walk| select_stmt.visit(walk));
                on_conflict_clause.visit(walk);
                returning(returning_clause, outermost, walk);
            });
        });
    }
}

impl Visit for pb::OnConflictClause {
    fn visit(&self, walk: &mut Walk) {
        let pb::OnConflictClause { action: _, infer, target_list, where_clause, location: _ } = self;
        infer.visit(walk);
        // The row that was to be inserted.
        walk.row(EXCLUDED);
        let outer = mem::replace(&mut walk.on_conflict, true);
        assigned(target_list, walk);
        where_clause.visit(walk);
        walk.on_conflict = outer;
    }
}

impl Visit for pb::UpdateStmt {
    fn visit(&self, walk: &mut Walk) {
        let pb::UpdateStmt { relation, target_list, where_clause, from_clause, returning_clause, with_clause } = self;
        let outermost = mem::take(&mut walk.outermost);
        walk.add(Effect::Write);
        walk.where_missing |= where_clause.is_none();
        if relation.as_ref().is_some_and(|relation| relation.relname == "pg_settings") {
            // The view's rule calls set_config for each row.
            walk.set_config(None);
        }
        walk.within(with_clause, |walk| {
            walk.target(relation);
            walk.reading(|walk| {
                walk.storing(|walk| sources(from_clause, walk));
                assigned(target_list, walk);
                where_clause.visit(walk);
                returning(returning_clause, outermost, walk);
            });
        });
    }
}

impl Visit for pb::DeleteStmt {
    fn visit(&self, walk: &mut Walk) {
        let pb::DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } = self;
        let outermost = mem::take(&mut walk.outermost);
        walk.add(Effect::Delete);
        walk.where_missing |= where_clause.is_none();
        walk.within(with_clause, |walk| {
            walk.target(relation);
            walk.reading(|walk| {
                sources(using_clause, walk);
                where_clause.visit(walk);
                returning(returning_clause, outermost, walk);
            });
        });
    }
}

impl Visit for pb::MergeStmt {
    fn visit(&self, walk: &mut Walk) {
        let pb::MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = self;
        let outermost = mem::take(&mut walk.outermost);
        walk.add(Effect::Read);
        walk.within(with_clause, |walk| {
            walk.target(relation);
            walk.reading(|walk| {
                walk.storing(|walk| source_relation.visit(walk));
                join_condition.visit(walk);
                merge_when_clauses.visit(walk);
                returning(returning_clause, outermost, walk);
            });
        });
    }
}

impl Visit for pb::MergeWhenClause {
    fn visit(&self, walk: &mut Walk) {
        match self.command_type() {
            pb::CmdType::CmdInsert | pb::CmdType::CmdUpdate => walk.add(Effect::Write),
            pb::CmdType::CmdDelete => walk.add(Effect::Delete),
            pb::CmdType::CmdNothing => {}
            other => walk.unseen(&format!("a MERGE action ({})", other.as_str_name())),
        }
        assigned(&self.target_list, walk);
        self.condition.visit(walk);
        walk.storing(|walk| self.values.visit(walk));
    }
}

/// Tables that a data statement reads beside its target.
fn sources(from: &[pb::Node], walk: &mut Walk) {
    if !from.is_empty() {
        walk.add(Effect::Read);
    }
    from.iter().for_each(|item| item.visit(walk));
}

/// Columns that are assigned, with what is assigned to them.
fn assigned(targets: &[pb::Node], walk: &mut Walk) {
    for target in targets {
        if let Some(NodeEnum::ResTarget(target)) = &target.node {
            walk.not_storing(|walk| walk.column(&target.name, false));
        }
        walk.storing(|walk| target.visit(walk));
    }
}

/// `RETURNING` gives stored data back.
fn returning(clause: &Option<pb::ReturningClause>, outermost: bool, walk: &mut Walk) {
    let Some(pb::ReturningClause { options, exprs }) = clause else { return };
    walk.add(Effect::Read);
    // The rows before and after, since PostgreSQL 18; `WITH (OLD AS o)` gives them other names.
    walk.row("old");
    walk.row("new");
    options.visit(walk);
    walk.items(exprs, outermost);
}

impl Visit for pb::ReturningClause {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Effect::Read);
        self.children(walk);
    }
}

impl Visit for pb::IntoClause {
    fn visit(&self, walk: &mut Walk) {
        walk.add_all(&[Effect::Schema, Effect::Write]);
        let reading = mem::replace(&mut walk.reading, false);
        self.children(walk);
        walk.reading = reading;
    }
}

impl Visit for pb::WithClause {
    fn visit(&self, walk: &mut Walk) {
        let pb::WithClause { ctes, recursive, location: _ } = self;
        let names = |cte: &pb::Node| match &cte.node {
            Some(NodeEnum::CommonTableExpr(cte)) => Some(cte.ctename.clone()),
            _ => None,
        };
        if *recursive {
            walk.scope.extend(ctes.iter().filter_map(names));
            ctes.visit(walk);
            return;
        }
        // Without RECURSIVE a CTE sees the ones before it, not itself: in `WITH t AS (SELECT * FROM t)` the inner t is a table.
        for cte in ctes {
            cte.visit(walk);
            walk.scope.extend(names(cte));
        }
    }
}

impl Visit for pb::CommonTableExpr {
    fn visit(&self, walk: &mut Walk) {
        walk.ranges.insert(self.ctename.clone());
        walk.renames_stored = true;
        walk.renames |= !self.aliascolnames.is_empty();
        walk.references.columns.extend(strings(&self.aliascolnames).into_iter().map(str::to_owned));
        walk.reading(|walk| self.children(walk));
    }
}

impl Visit for pb::LockingClause {
    /// The names after `OF` are those of the `FROM` list, which the walk sees there.
    fn visit(&self, walk: &mut Walk) {
        walk.add(Effect::Write);
    }
}

impl Visit for pb::RangeVar {
    fn visit(&self, walk: &mut Walk) {
        walk.relation(self);
        if let Some(alias) = &self.alias {
            // `customers AS c(a, b)` gives columns names that no rule knows.
            walk.references.whole_row |= !alias.colnames.is_empty();
        }
        self.children(walk);
    }
}

impl Visit for pb::Alias {
    fn visit(&self, walk: &mut Walk) {
        walk.ranges.insert(self.aliasname.clone());
        walk.renames_stored |= self.aliasname == EXCLUDED;
        walk.references.columns.extend(strings(&self.colnames).into_iter().map(str::to_owned));
        self.children(walk);
    }
}

impl Visit for pb::JoinExpr {
    fn visit(&self, walk: &mut Walk) {
        for column in strings(&self.using_clause) {
            walk.column(column, true);
        }
        if self.is_natural || !self.using_clause.is_empty() {
            walk.implied_operators(&["="]);
        }
        // A natural join compares every column that both sides have, without naming it.
        walk.references.whole_row |= self.is_natural;
        walk.references.whole_row |= self.alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty());
        self.children(walk);
    }
}

impl Visit for pb::RangeSubselect {
    fn visit(&self, walk: &mut Walk) {
        walk.renames |= self.alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty());
        self.children(walk);
    }
}

impl Visit for pb::RangeTableSample {
    fn visit(&self, walk: &mut Walk) {
        let method = strings(&self.method);
        if !matches!(method[..], ["system" | "bernoulli"] | ["pg_catalog", "system" | "bernoulli"]) {
            walk.add(Effect::Execute);
            walk.unknown(format!("samples with {}, which this gateway cannot see through", method.join(".")));
        }
        self.children(walk);
    }
}

impl Visit for pb::ColumnRef {
    fn visit(&self, walk: &mut Walk) {
        match (last_name(self), &strings(&self.fields)[..]) {
            // What was to be inserted is stored anyway: its sources are known where they stand. It is the statement's
            // own value, unless something else has that name.
            (Some(name), [EXCLUDED, _]) => {
                let own = walk.on_conflict;
                walk.not_storing(|walk| walk.column(name, !own));
                walk.excluded.insert(name.to_owned());
            }
            (Some(name), _) => walk.column(name, true),
            (None, _) => walk.references.whole_row = true,
        }
        walk.dotted(self);
        self.children(walk);
    }
}

impl Visit for pb::AStar {
    fn visit(&self, walk: &mut Walk) {
        walk.references.whole_row = true;
    }
}

impl Visit for pb::ReturningOption {
    fn visit(&self, walk: &mut Walk) {
        walk.row(&self.value);
        self.children(walk);
    }
}

impl Visit for pb::ResTarget {
    fn visit(&self, walk: &mut Walk) {
        self.children(walk);
    }
}

impl Visit for pb::TypeName {
    fn visit(&self, walk: &mut Walk) {
        let names = strings(&self.names);
        let is_spelled =
            matches!(names[..], [] | ["pg_catalog", _]) && names.last().is_none_or(|name| is_plain_type(name));
        if !is_spelled {
            walk.types.insert(Called::new(&names, false));
        }
        self.children(walk);
    }
}

impl Visit for pb::FuncCall {
    fn visit(&self, walk: &mut Walk) {
        walk.call(&strings(&self.funcname), &self.args);
        self.children(walk);
    }
}

impl Visit for pb::AIndirection {
    /// `(value).name` is a field or a call: PostgreSQL runs `('/etc/passwd'::text).pg_read_file` as `pg_read_file(…)`.
    fn visit(&self, walk: &mut Walk) {
        for name in strings(&self.indirection) {
            if functions::takes_row(name) {
                walk.references.whole_row = true;
            }
            walk.column(name, true);
            // Fields of information_schema._pg_expandarray, which drivers' catalog queries read.
            if !matches!(name, "n" | "x") {
                walk.attribute(name, &self.arg);
            }
        }
        self.children(walk);
    }
}

impl Visit for pb::AExpr {
    fn visit(&self, walk: &mut Walk) {
        use pb::AExprKind;
        match self.kind() {
            AExprKind::AexprBetween | AExprKind::AexprBetweenSym => walk.implied_operators(&[">=", "<="]),
            AExprKind::AexprNotBetween | AExprKind::AexprNotBetweenSym => walk.implied_operators(&["<", ">"]),
            _ => walk.operator(&self.name),
        }
        self.children(walk);
    }
}

impl Visit for pb::CaseExpr {
    fn visit(&self, walk: &mut Walk) {
        if self.arg.is_some() {
            walk.implied_operators(&["="]);
        }
        self.children(walk);
    }
}

impl Visit for pb::SortBy {
    fn visit(&self, walk: &mut Walk) {
        walk.operator(&self.use_op);
        self.children(walk);
    }
}

impl Visit for pb::SubLink {
    fn visit(&self, walk: &mut Walk) {
        match self.sub_link_type() {
            // `IN (SELECT …)`
            pb::SubLinkType::AnySublink if self.oper_name.is_empty() => walk.implied_operators(&["="]),
            _ => walk.operator(&self.oper_name),
        }
        self.children(walk);
    }
}

impl Visit for pb::RoleSpec {
    fn visit(&self, walk: &mut Walk) {
        if !self.rolename.is_empty() {
            walk.object("role", None, self.rolename.clone());
        }
    }
}

impl Visit for pb::List {
    /// Empty places in lists of lists are the grammar's own (a function in FROM without a column list).
    fn visit(&self, walk: &mut Walk) {
        self.items.iter().filter(|item| item.node.is_some()).for_each(|item| item.visit(walk));
    }
}

impl Visit for pb::ObjectWithArgs {
    /// A missing operand of an operator is an empty place.
    fn visit(&self, walk: &mut Walk) {
        let pb::ObjectWithArgs { objname, objargs, objfuncargs, args_unspecified: _ } = self;
        objname.visit(walk);
        objargs.iter().filter(|argument| argument.node.is_some()).for_each(|argument| argument.visit(walk));
        objfuncargs.visit(walk);
    }
}
