//! What calling a function does: harmless built-ins, known dangerous ones, and all the rest.
//!
//! # Security
//! The rest is what matters: a function in neither list, or in any schema but `pg_catalog`, runs code that the gateway
//! cannot see, so it is [`Effect::Execute`] and [`Effect::Unknown`].
//! A name without a schema is taken for the built-in. A user's function of the same name can win over it only where
//! its argument types match better, or where `search_path` puts its schema before `pg_catalog`; seeing that needs the
//! backend's catalog, which the classifier does not have. This is a limit. A name that came with a later PostgreSQL
//! counts as the built-in only on a backend that has it.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use crate::operation::{Effect, Effects};

use Effect::{Admin, Delete, Execute, Read, Session, Transfer, Unknown, Write};

/// What a call adds to the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Nothing.
    Harmless,
    /// These effects, and the reason when one of them is `unknown`.
    Known(Effects, Option<&'static str>),
    /// Changes a setting: the effects depend on its name.
    SetsSetting,
    /// Code that the gateway cannot see.
    Unseen,
}

/// What a call of the built-in `name` adds; `name` as PostgreSQL folds it.
pub(super) fn builtin(name: &str) -> Call {
    if name == "set_config" {
        return Call::SetsSetting;
    }
    if let Some(family) = FAMILIES.iter().find(|family| family.names.contains(&name)) {
        return Call::Known(family.effects.iter().copied().collect(), family.unknown);
    }
    if let Some((_, effects)) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return Call::Known(effects.iter().copied().collect(), None);
    }
    if HARMLESS.contains(name) { Call::Harmless } else { Call::Unseen }
}

/// What a built-in of this name does, and why it is unknown if it is; `None` where the name is none of the dangerous ones.
pub(in super::super) fn known_effects(name: &str) -> Option<(Effects, Option<&'static str>)> {
    match builtin(name) {
        Call::Known(effects, why) => Some((effects, why)),
        Call::SetsSetting => Some((Effects::of(Session).with(Unknown), Some("changes a setting"))),
        Call::Harmless | Call::Unseen => None,
    }
}

/// Every name whose built-in is more than harmless.
pub(in super::super) fn dangerous_names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.names).copied().chain(["set_config"])
}

/// How the names of further ones begin.
pub(in super::super) fn dangerous_starts() -> impl Iterator<Item = &'static str> {
    PREFIXES.iter().map(|(start, _)| *start)
}

/// Whether `name` takes a whole row, so that `row.name` hands over every column (PostgreSQL reads it as `name(row)`).
///
/// A function of `pg_catalog` takes one only where its first parameter is `record`, `any` or polymorphic, and no cast
/// leads from a row to another type; [`TAKES_ROW`] are those. What a later PostgreSQL brought counts unread.
pub(super) fn takes_row(name: &str) -> bool {
    TAKES_ROW.contains(&name) || since(name) > 0
}

/// The first PostgreSQL that has the harmless built-in `name`; 0 where every backend is taken to have it.
pub(super) fn since(name: &str) -> u32 {
    NEWER.iter().find(|(_, names)| names.contains(&name)).map_or(0, |(version, _)| *version)
}

/// Whether the session, another session or the database keeps what is given to the built-in `name`.
pub(super) fn keeps(name: &str) -> bool {
    KEEPERS.contains(&name) || name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_")
}

/// The names that a function of `pg_catalog` gives its columns when it stands in `FROM`.
pub(super) fn columns(name: &str) -> impl Iterator<Item = &'static str> {
    COLUMNS.get(name).into_iter().flatten().copied()
}

/// Whether an operator of `pg_catalog` is spelled so; others are somebody's own function. Words are syntax (`BETWEEN`).
pub(super) fn is_own_operator(name: &str) -> bool {
    name.starts_with(char::is_alphabetic) || OPERATORS.contains(&name)
}

/// Whether the first argument, if it is a literal, is the path of a file on the backend.
pub(super) fn names_file(name: &str) -> bool {
    FILES.contains(&name) || matches!(name, "lo_import" | "lo_export")
}

struct Family {
    names: &'static [&'static str],
    effects: &'static [Effect],
    unknown: Option<&'static str>,
}

const fn family(names: &'static [&'static str], effects: &'static [Effect]) -> Family {
    Family { names, effects, unknown: None }
}

const fn opaque(names: &'static [&'static str], effects: &'static [Effect], why: &'static str) -> Family {
    Family { names, effects, unknown: Some(why) }
}

const FILES: &[&str] = &[
    "pg_read_file",
    "pg_read_file_old",
    "pg_read_binary_file",
    "pg_ls_dir",
    "pg_stat_file",
    "pg_file_read",
    "pg_file_write",
    "pg_file_rename",
    "pg_file_unlink",
    "pg_file_sync",
    "pg_file_length",
];

/// Functions whose effects are known. `pg_sleep` holds a connection and the locks of its transaction: it *runs*.
/// Advisory locks are named by their users and die with the session, hence `session`.
static FAMILIES: &[Family] = &[
    family(FILES, &[Read, Transfer, Admin]),
    family(&["nextval", "setval"], &[Write]),
    family(&["pg_sleep", "pg_sleep_for", "pg_sleep_until"], &[Execute]),
    family(&["pg_notify"], &[Transfer]),
    family(
        &[
            "pg_terminate_backend",
            "pg_cancel_backend",
            "pg_reload_conf",
            "pg_rotate_logfile",
            "pg_rotate_logfile_old",
            "pg_switch_wal",
            "pg_switch_xlog",
            "pg_create_restore_point",
            "pg_backup_start",
            "pg_backup_stop",
            "pg_start_backup",
            "pg_stop_backup",
            "pg_promote",
            "pg_wal_replay_pause",
            "pg_wal_replay_resume",
            "pg_log_backend_memory_contexts",
            "pg_log_standby_snapshot",
            "pg_stop_making_pinned_objects",
            "pg_nextoid",
            "pg_import_system_collations",
            "pg_stat_force_next_flush",
            "pg_extension_config_dump",
            "brin_summarize_new_values",
            "brin_summarize_range",
            "brin_desummarize_range",
            "gin_clean_pending_list",
            "pg_restore_relation_stats",
            "pg_restore_attribute_stats",
            "pg_clear_relation_stats",
            "pg_clear_attribute_stats",
        ],
        &[Admin],
    ),
    family(
        &[
            "pg_hba_file_rules",
            "pg_ident_file_mappings",
            "pg_show_all_file_settings",
            "pg_current_logfile",
            "pg_get_backend_memory_contexts",
            "pg_get_shmem_allocations",
            "pg_logdir_ls",
        ],
        &[Read, Admin],
    ),
    family(
        &[
            "pg_create_logical_replication_slot",
            "pg_create_physical_replication_slot",
            "pg_drop_replication_slot",
            "pg_copy_logical_replication_slot",
            "pg_copy_physical_replication_slot",
            "pg_replication_slot_advance",
            "pg_logical_emit_message",
            "pg_sync_replication_slots",
        ],
        &[Transfer, Admin],
    ),
    family(&["pg_export_snapshot"], &[Session]),
    family(&["lo_import"], &[Write, Transfer, Admin]),
    family(&["lo_export"], &[Read, Transfer, Admin]),
    family(&["lo_create", "lo_creat", "lo_from_bytea", "lo_put", "lowrite", "lo_truncate", "lo_truncate64"], &[Write]),
    family(&["lo_unlink"], &[Delete]),
    family(&["lo_get", "loread", "lo_open", "lo_close", "lo_lseek", "lo_lseek64", "lo_tell", "lo_tell64"], &[Read]),
    opaque(
        &[
            "query_to_xml",
            "query_to_xmlschema",
            "query_to_xml_and_xmlschema",
            "ts_stat",
            "ts_rewrite",
            "xpath_table",
            "crosstab",
            "crosstab2",
            "crosstab3",
            "crosstab4",
            "crosstabn",
            "connectby",
        ],
        &[Read, Execute, Unknown],
        "runs SQL given to it as text",
    ),
    opaque(
        &[
            "cursor_to_xml",
            "cursor_to_xmlschema",
            "table_to_xml",
            "table_to_xmlschema",
            "table_to_xml_and_xmlschema",
            "schema_to_xml",
            "schema_to_xmlschema",
            "schema_to_xml_and_xmlschema",
            "database_to_xml",
            "database_to_xmlschema",
            "database_to_xml_and_xmlschema",
        ],
        &[Read, Transfer, Unknown],
        "reads tables that it is told of as text",
    ),
    opaque(
        &[
            "dblink",
            "dblink_exec",
            "dblink_connect",
            "dblink_connect_u",
            "dblink_open",
            "dblink_fetch",
            "dblink_close",
            "dblink_send_query",
            "dblink_get_result",
            "dblink_build_sql_insert",
            "dblink_build_sql_update",
            "dblink_build_sql_delete",
            "dblink_cancel_query",
            "dblink_disconnect",
            "dblink_get_notify",
        ],
        &[Execute, Transfer, Unknown],
        "runs SQL on another server",
    ),
    opaque(&["pg_execute_server_program"], &[Execute, Admin, Unknown], "runs a program"),
    opaque(&["currtid", "currtid2"], &[Read, Unknown], "reads a table that it is told of as text"),
];

/// Families whose members share the start of their name.
const PREFIXES: &[(&str, &[Effect])] = &[
    ("pg_advisory_", &[Session]),
    ("pg_try_advisory_", &[Session]),
    ("pg_ls_", &[Read, Admin]),
    ("pg_stat_reset", &[Admin]),
    ("pg_logical_slot_", &[Read, Transfer, Admin]),
    ("pg_replication_origin_session", &[Transfer, Admin]),
    ("pg_replication_origin_xact", &[Transfer, Admin]),
    ("pg_replication_origin_advance", &[Transfer, Admin]),
    ("pg_replication_origin_create", &[Transfer, Admin]),
    ("pg_replication_origin_drop", &[Transfer, Admin]),
    ("binary_upgrade_", &[Admin]),
];

static HARMLESS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("harmless.txt").lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect()
});

/// What [`columns`] knows.
static COLUMNS: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let lines = include_str!("columns.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).map(|(name, all)| (name, all.split(' ').collect())).collect()
});

/// Harmless functions that came after PostgreSQL 15: on an older backend the name is free for anybody.
pub(super) const NEWER: [(u32, &[&str]); 3] = [
    (
        16,
        &[
            "any_value",
            "array_sample",
            "array_shuffle",
            "date_add",
            "date_subtract",
            "erf",
            "erfc",
            "json_agg_strict",
            "json_object_agg_strict",
            "json_object_agg_unique",
            "json_object_agg_unique_strict",
            "jsonb_agg_strict",
            "jsonb_object_agg_strict",
            "jsonb_object_agg_unique",
            "jsonb_object_agg_unique_strict",
            "pg_input_error_info",
            "pg_input_is_valid",
            "pg_split_walfile_name",
            "pg_stat_get_backend_subxact",
            "pg_stat_get_io",
            "pg_stat_get_lastscan",
            "random_normal",
            "system_user",
        ],
    ),
    (
        17,
        &[
            "icu_unicode_version",
            "json_serialize",
            "pg_available_wal_summaries",
            "pg_basetype",
            "pg_get_wait_events",
            "pg_stat_get_checkpointer_buffers_written",
            "pg_stat_get_checkpointer_num_requested",
            "pg_stat_get_checkpointer_num_timed",
            "pg_stat_get_checkpointer_stat_reset_time",
            "pg_stat_get_checkpointer_sync_time",
            "pg_stat_get_checkpointer_write_time",
            "to_bin",
            "to_oct",
            "to_regtypemod",
            "unicode_assigned",
            "unicode_version",
            "uuid_extract_timestamp",
            "uuid_extract_version",
            "xmltext",
        ],
    ),
    (
        18,
        &[
            "array_reverse",
            "array_sort",
            "casefold",
            "crc32",
            "crc32c",
            "gamma",
            "has_largeobject_privilege",
            "lgamma",
            "pg_get_acl",
            "pg_stat_get_backend_io",
            "pg_stat_get_backend_wal",
            "pg_stat_get_checkpointer_num_performed",
            "uuidv4",
            "uuidv7",
        ],
    ),
];

/// From `pg_proc`: callable with one argument, whose type is `record`, `any` or polymorphic; less those whose result
/// tells nothing of the row (`count`, `pg_typeof`, ranks).
pub(super) const TAKES_ROW: [&str; 34] = [
    "any_out",
    "any_value",
    "anycompatible_out",
    "anycompatiblenonarray_out",
    "anyelement_out",
    "anynonarray_out",
    "array_agg",
    "concat",
    "concat_ws",
    "first_value",
    "format",
    "hash_record",
    "hstore",
    "json_agg",
    "json_agg_strict",
    "json_build_array",
    "json_build_object",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_build_array",
    "jsonb_build_object",
    "lag",
    "last_value",
    "lead",
    "max",
    "min",
    "mode",
    "quote_literal",
    "quote_nullable",
    "record_out",
    "record_send",
    "row_to_json",
    "to_json",
    "to_jsonb",
];

/// See [`keeps`].
const KEEPERS: [&str; 12] = [
    "lo_create",
    "lo_export",
    "lo_from_bytea",
    "lo_import",
    "lo_put",
    "lowrite",
    "pg_file_write",
    "pg_logical_emit_message",
    "pg_notify",
    "set_config",
    "setseed",
    "setval",
];

/// `SELECT DISTINCT oprname FROM pg_operator` of PostgreSQL 15, with what the grammar turns into others.
#[rustfmt::skip]
const OPERATORS: [&str; 75] = [
    "!!", "!~", "!~*", "!~~", "!~~*", "#", "##", "#-", "#>", "#>>", "%", "&", "&&", "&<", "&<|", "&>", "*",
    "*<", "*<=", "*<>", "*=", "*>", "*>=", "+", "-", "->", "->>", "-|-", "/", "<", "<->", "<<", "<<=", "<<|",
    "<=", "<>", "<@", "<^", "=", ">", ">=", ">>", ">>=", ">^", "?", "?#", "?&", "?-", "?-|", "?|", "?||", "@",
    "@-@", "@>", "@?", "@@", "@@@", "^", "^@", "|", "|&>", "|/", "|>>", "||", "||/", "~", "~*", "~<=~", "~<~",
    "~=", "~>=~", "~>~", "~~", "~~*", "!=",
];
