//! What the witnesses saw, as facts: each says which effects account for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use holdpoint::operation::{Effect, Effects};

use Effect::{Admin, Delete, Execute, Privilege, Read, Schema, Session, Transfer, Unknown, Write};

/// Something that happened.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    what: String,
    /// One of these must be among the effects claimed.
    any: Effects,
    /// The table that it happened to, which must be named.
    table: Option<String>,
}

impl Fact {
    /// A fact that any of `effects` accounts for.
    pub(crate) fn new(what: impl Into<String>, effects: &[Effect]) -> Self {
        Self { what: what.into(), any: effects.iter().copied().collect(), table: None }
    }

    fn to(table: &str, what: impl Into<String>, effects: &[Effect]) -> Self {
        Self { table: Some(table.to_owned()), ..Self::new(what, effects) }
    }

    /// Whether it is no more than that code ran. What the code does is told of apart, so for a claim by the catalog,
    /// which says what that is, this is nothing.
    pub(crate) fn is_code(&self) -> bool {
        self.any == Effects::of(Execute)
    }

    /// Whether a statement with these effects, and these tables named, does not say so.
    /// One that is unknown says that it may do anything.
    pub(crate) fn exceeds(&self, claim: Effects, tables: &[&str]) -> bool {
        let named = |table: &str| tables.iter().any(|one| bare(one) == bare(table));
        !claim.contains(Unknown)
            && (!claim.intersects(self.any) || self.table.as_deref().is_some_and(|table| !named(table)))
    }
}

/// The last part of a name.
fn bare(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (wants {})", self.what, self.any.iter().map(Effect::as_str).collect::<Vec<_>>().join(" or "))
    }
}

/// What one look saw: kind and key → value.
pub(crate) type Look = BTreeMap<(String, String), String>;

/// What differs between two looks.
pub(crate) fn differences(before: &Look, after: &Look) -> Vec<Fact> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differ = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    let gone: Vec<_> = before.iter().filter(|(key, _)| !after.contains_key(key)).collect();
    // A table that is called otherwise now has the rows that it had.
    let renamed = |key: &(String, String)| {
        let was = |((kind, _), rows): &(&(String, String), &String)| *kind == key.0 && after.get(key) == Some(*rows);
        key.0 == "rows" && !before.contains_key(key) && gone.iter().any(was)
    };
    differ
        .filter(|key| !renamed(key))
        .flat_map(|key| {
            let Change { kind, name, before, after } =
                Change { kind: &key.0, name: &key.1, before: before.get(key), after: after.get(key) };
            change(kind, name, before, after)
        })
        .collect()
}

struct Change<'l> {
    kind: &'l str,
    name: &'l str,
    before: Option<&'l String>,
    after: Option<&'l String>,
}

fn change(kind: &str, name: &str, before: Option<&String>, after: Option<&String>) -> Vec<Fact> {
    let what = format!("{kind} {name}: {} -> {}", shown(before), shown(after));
    match kind {
        "rows" => rows(name, before, after),
        "view" => vec![Fact::new(what, &[Write, Schema])],
        // A sequence comes and goes by DDL, which is told of apart.
        "sequence" if before.is_none() || after.is_none() => Vec::new(),
        "sequence" => vec![Fact::new(what, &[Write, Schema])],
        "inserted" | "updated" | "deleted" => statistics(kind, name, what),
        "scanned" => vec![Fact::new(what, &[Read, Write, Delete, Schema, Admin])],
        "storage" if before.is_none() || after.is_none() => Vec::new(),
        "storage" => vec![Fact::new(what, &[Schema, Admin, Delete, Write])],
        // A thing comes with its rights and goes with them; only those of what stays are changed.
        "rights" if before.is_none() || after.is_none() => Vec::new(),
        "rights" | "who" => vec![Fact::new(what, &[Privilege])],
        "grants" if after.is_none() => vec![Fact::new(what, &[Privilege, Delete])],
        "grants" => vec![Fact::new(what, &[Privilege])],
        "operation" if name.starts_with("trigger") || name.starts_with("rule") => match (before, after) {
            (Some(_), Some(_)) => vec![Fact::new(what, &[Admin])],
            _ => vec![Fact::new(what, &[Schema])],
        },
        "operation" => vec![Fact::new(what, &[Admin])],
        "road" => vec![Fact::new(what, &[Transfer, Delete])],
        "session" if name.ends_with("session_replication_role") => vec![Fact::new(what, &[Admin])],
        "session" => vec![Fact::new(what, &[Session])],
        "lock" if name.contains("RowExclusiveLock") && !name.contains("ShareRowExclusiveLock") => {
            // What is planned and then not run takes it too, and it keeps nobody from reading or writing rows.
            vec![Fact::new(what, &[Read, Write, Delete, Schema, Privilege, Session, Admin])]
        }
        "lock" => vec![Fact::new(what, &[Schema, Admin, Delete, Privilege, Write])],
        "transaction" => vec![Fact::new(what, &[Write, Delete, Schema, Privilege, Execute, Transfer, Admin])],
        "file" => vec![Fact::new(what, &[Transfer, Admin])],
        _ => panic!("a witness tells of {kind}, which nobody expects"),
    }
}

/// At most so much of a value.
fn shown(value: Option<&String>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{:?}", value.chars().take(60).collect::<String>()))
}

/// Rows that are gone were deleted or changed, rows that are new were written. A table that came is told of by its
/// definition.
fn rows(table: &str, before: Option<&String>, after: Option<&String>) -> Vec<Fact> {
    let (Some(old), Some(new)) = (before, after) else {
        let filled = after.is_some_and(|rows| !rows.is_empty());
        return filled.then(|| Fact::new(format!("{table} is new and has rows"), &[Write])).into_iter().collect();
    };
    let list = |text: &str| text.split('\u{1e}').filter(|row| !row.is_empty()).count();
    let mut facts = Vec::new();
    if list(new) < list(old) {
        facts.push(Fact::to(table, format!("{table} has fewer rows"), &[Delete]));
    } else {
        facts.push(Fact::to(table, format!("{table} has other rows"), &[Write, Schema]));
    }
    facts
}

/// Statistics of this transaction.
fn statistics(kind: &str, table: &str, what: String) -> Vec<Fact> {
    let Some(catalog) = table.strip_prefix("pg_catalog.") else {
        let effect = if kind == "deleted" { Delete } else { Write };
        // Names of tables that the statement makes are its own business.
        return vec![Fact::to(table, what, &[effect])];
    };
    let any: &[Effect] = match catalog {
        "pg_authid" | "pg_auth_members" | "pg_default_acl" | "pg_shseclabel" | "pg_seclabel" => &[Privilege],
        "pg_policy" => &[Privilege, Schema],
        "pg_largeobject" | "pg_largeobject_metadata" if kind == "deleted" => &[Delete],
        "pg_largeobject" | "pg_largeobject_metadata" => &[Write, Privilege],
        "pg_statistic" | "pg_statistic_ext_data" => &[Admin, Schema, Delete],
        "pg_db_role_setting" | "pg_tablespace" | "pg_database" => &[Admin, Privilege],
        "pg_replication_origin" | "pg_subscription" | "pg_publication" | "pg_foreign_server" | "pg_user_mapping" => {
            &[Transfer, Schema, Privilege]
        }
        // TRUNCATE gives a table a new file.
        "pg_class" if kind == "updated" => &[Schema, Privilege, Admin, Delete, Write],
        // REFRESH MATERIALIZED VIEW and CLUSTER make a table that does not stay.
        "pg_class" | "pg_type" | "pg_index" => &[Schema, Admin, Write],
        // Rights on a column stand beside it, and what hangs on what stands beside everything.
        "pg_attribute" | "pg_depend" => &[Schema, Admin, Write, Privilege, Transfer],
        _ => &[Schema, Privilege, Admin, Transfer],
    };
    vec![Fact::new(what, any)]
}

/// What was told while the statement ran.
pub(crate) fn told(line: &str) -> Option<Fact> {
    let said = line.strip_prefix("witness: ")?;
    let (kind, rest) = said.split_once(' ').expect("the witness says what and which");
    let any: &[Effect] = match (kind, rest) {
        ("ran", _) => &[Execute],
        ("command", "GRANT" | "REVOKE" | "ALTER DEFAULT PRIVILEGES" | "SECURITY LABEL") => &[Privilege],
        ("command", "REFRESH MATERIALIZED VIEW") => &[Write],
        ("command", tag)
            if ["SERVER", "USER MAPPING", "PUBLICATION", "SUBSCRIPTION", "WRAPPER"]
                .iter()
                .any(|end| tag.ends_with(end)) =>
        {
            &[Transfer, Admin]
        }
        ("command", "REINDEX") => &[Admin],
        ("command", _) => &[Schema],
        ("dropped", "table" | "table column" | "schema" | "sequence" | "materialized view" | "foreign table") => {
            &[Delete]
        }
        ("dropped", _) => &[Schema, Delete, Transfer],
        _ => panic!("the witness says something else: {line}"),
    };
    Some(Fact::new(said, any))
}
