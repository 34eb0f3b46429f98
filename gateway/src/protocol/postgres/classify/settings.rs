//! What changing a setting does.
//!
//! Settings that only shape the session are [`Effect::Session`]; a few change who acts, what runs or what the backend
//! logs, and a name that is neither known nor an application's own (`app.tenant`) is [`Effect::Unknown`] too.
//! An application's own setting is `session`, although row security may read it: policy can match the object
//! `setting app.tenant`.

use crate::operation::{Effect, Effects};

/// What setting `name` (any case) does, and why it is unknown if it is.
pub(super) fn setting(name: &str) -> (Effects, Option<String>) {
    let name = name.to_ascii_lowercase();
    let session = Effects::of(Effect::Session);
    if let Some((_, effects)) = MARKED.iter().find(|(names, _)| names.contains(&name.as_str())) {
        return (effects.iter().fold(session, |all, effect| all.with(*effect)), None);
    }
    if let Some((prefix, rest)) = name.split_once('.') {
        return extension(prefix, rest, session);
    }
    if PLAIN.contains(&name.as_str()) || PLAIN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return (session, None);
    }
    if name.starts_with("log_") || name.starts_with("track_") {
        return (session.with(Effect::Admin), None);
    }
    (session.with(Effect::Unknown), Some(format!("changes the setting {name}, which this gateway does not know")))
}

/// Settings with a dot belong to extensions or to the application.
fn extension(prefix: &str, rest: &str, session: Effects) -> (Effects, Option<String>) {
    let runs_code = prefix.starts_with("pl") && (rest.contains("init") || rest.contains("start_proc"));
    if runs_code {
        return (session.with(Effect::Execute).with(Effect::Admin), None);
    }
    match prefix {
        "pgaudit" | "set_user" | "sepgsql" | "auto_explain" | "pg_stat_statements" | "credcheck" | "anon" => {
            (session.with(Effect::Admin), None)
        }
        _ => (session, None),
    }
}

/// Settings that reach beyond the session's own convenience.
const MARKED: &[(&[&str], &[Effect])] = &[
    (&["role", "session_authorization"], &[Effect::Privilege]),
    (&["lo_compat_privileges", "createrole_self_grant"], &[Effect::Privilege]),
    (
        &[
            "session_replication_role",
            "allow_system_table_mods",
            "ignore_checksum_failure",
            "ignore_system_indexes",
            "zero_damaged_pages",
            "allow_in_place_tablespaces",
            "wal_consistency_checking",
            "ignore_invalid_pages",
            "update_process_title",
            "compute_query_id",
            "event_triggers",
            "max_stack_depth",
            "deadlock_timeout",
            "temp_file_limit",
            "commit_delay",
            "wal_compression",
            "wal_init_zero",
            "wal_recycle",
            "debug_discard_caches",
            "backtrace_functions",
            "extension_control_path",
        ],
        &[Effect::Admin],
    ),
    (
        &[
            "local_preload_libraries",
            "session_preload_libraries",
            "dynamic_library_path",
            "shared_preload_libraries",
            "jit_provider",
            "output_plugin_libraries",
            "extension_destdir",
        ],
        &[Effect::Execute, Effect::Admin],
    ),
];

const PLAIN_PREFIXES: &[&str] = &[
    "enable_",
    "geqo",
    "jit",
    "lc_",
    "vacuum_",
    "tcp_",
    "default_",
    "cpu_",
    "debug_print",
    "transaction_",
    "max_parallel_",
];

/// Settings that any user may change and that shape only the session, from PostgreSQL 15 to 18.
/// `row_security` only turns hidden rows into an error. `search_path`, `default_transaction_read_only` and their like are here: they change nothing by themselves, and the
/// session's state is part of what is approved.
const PLAIN: &[&str] = &[
    "application_name",
    "array_nulls",
    "backend_flush_after",
    "backslash_quote",
    "bytea_output",
    "check_function_bodies",
    "client_connection_check_interval",
    "client_encoding",
    "names",
    "client_min_messages",
    "commit_siblings",
    "constraint_exclusion",
    "cursor_tuple_fraction",
    "datestyle",
    "debug_parallel_query",
    "debug_pretty_print",
    "effective_cache_size",
    "effective_io_concurrency",
    "escape_string_warning",
    "exit_on_error",
    "extra_float_digits",
    "force_parallel_mode",
    "from_collapse_limit",
    "gin_fuzzy_search_limit",
    "gin_pending_list_limit",
    "hash_mem_multiplier",
    "icu_validation_level",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "io_combine_limit",
    "join_collapse_limit",
    "lock_timeout",
    "logical_decoding_work_mem",
    "maintenance_io_concurrency",
    "maintenance_work_mem",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "password_encryption",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "restrict_nonsystem_relation_kind",
    "row_security",
    "recursive_worktable_factor",
    "scram_iterations",
    "search_path",
    "schema",
    "seed",
    "seq_page_cost",
    "session characteristics",
    "standard_conforming_strings",
    "statement_timeout",
    "stats_fetch_consistency",
    "synchronize_seqscans",
    "synchronous_commit",
    "temp_buffers",
    "temp_tablespaces",
    "timezone",
    "timezone_abbreviations",
    "trace_notify",
    "trace_sort",
    "transaction",
    "transaction snapshot",
    "transform_null_equals",
    "wal_sender_timeout",
    "wal_skip_threshold",
    "work_mem",
    "xmlbinary",
    "xmloption",
    "idle_replication_slot_timeout",
    "file_copy_method",
];
