//! The house, as tables: which module may use which, where each outside crate lives, which files may be long.
//!
//! The first table is that of `ARCHITECTURE.md`; a change here is a change of the design and needs its reason there.

use super::source::{Source, Use};

/// The library's name in its own binary's paths.
const LIBRARY: &str = "holdpoint";

/// Words that any module may use: they know nothing of the road.
const COMMON: &[&str] = &["operation", "visible", "clock", "drain", "metrics"];

/// Module → what it may use beside itself, in the order in which data meets it. `*`: everything.
const MODULES: &[(&str, &[&str])] = &[
    ("operation", &[]),
    ("visible", &[]),
    ("clock", &[]),
    ("crowd", &[]),
    ("damage", &[]),
    // Pure: what an authenticator says.
    ("passkey", &[]),
    ("drain", &[]),
    ("metrics", &[]),
    ("config", &["operation"]),
    ("net", &["clock"]),
    // Writes its files as `net` writes its key, and asks a Vault that the settings name.
    ("credentials", &["config", "net"]),
    ("workload", &["operation"]),
    ("mask", &["operation"]),
    ("policy", &["operation", "workload", "mask"]),
    ("record", &["operation", "passkey", "workload", "policy", "clock"]),
    // Who decides; policy has the words for them.
    ("people", &["operation", "config", "net", "passkey", "policy", "record"]),
    ("hold", &["operation", "workload", "people", "policy", "record", "clock"]),
    // Tells of what is on record; decides through a trait that `app` gives it.
    ("channels", &["operation", "config", "net", "policy", "record"]),
    (
        "gate",
        &[
            "operation",
            "clock",
            "drain",
            "metrics",
            "config",
            "net",
            "workload",
            "policy",
            "mask",
            "record",
            "hold",
            // Its tests approve.
            "people",
            "credentials",
        ],
    ),
    ("protocol", &["operation", "net", "mask", "gate"]),
    // One language: never a sibling's, never `policy`, `record`, `hold` or `intercept`. `mask` says what stands in the
    // place of a value; where the values are, only the language knows.
    ("protocol::*", &["operation", "net", "mask", "gate"]),
    ("intercept", &["workload", "net", "damage"]),
    // From policy's resources to addresses for the kernel.
    ("resources", &["config", "net", "policy", "intercept"]),
    // Asks a backend outside of any bot's connection, so the gate has no part in it.
    ("discover", &["credentials", "net", "policy", "mask"]),
    ("rulebook", &["intercept", "net", "resources"]),
    ("dns", &["crowd", "drain", "intercept", "net", "resources", "rulebook", "workload"]),
    // Who is connected now, for people.
    ("live", &["drain", "record"]),
    ("accept", &["crowd", "dns", "live", "intercept", "workload", "protocol", "gate", "net", "drain", "resources"]),
    // Selectors have policy's globs.
    ("guards", &["config", "damage", "policy", "workload", "intercept"]),
    ("namespaces", &["accept", "damage", "guards", "intercept", "net", "workload"]),
    // Reads of processes, and compares with what the kernel and the namespaces say.
    ("assess", &["intercept", "namespaces", "net", "workload"]),
    // Pages: data in, HTML out.
    ("console", &["assess", "hold", "live", "people", "policy"]),
    // Health asks the kernel itself, and status names the policies in force.
    (
        "admin",
        &[
            "assess",
            "console",
            "channels",
            "credentials",
            "crowd",
            "damage",
            "guards",
            "hold",
            "record",
            "workload",
            "metrics",
            "config",
            "intercept",
            "live",
            "namespaces",
            "net",
            "passkey",
            "people",
            "policy",
            "rulebook",
        ],
    ),
    ("app", &["*"]),
    ("main", &["*"]),
    ("cli", &["*"]),
];

/// Outside crate → the modules that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("rocksdb", &["record::store"]),
    ("minicbor", &["record", "passkey"]),
    ("lz4_flex", &["record"]),
    ("aya", &["intercept"]),
    ("aya_log", &["intercept"]),
    ("aya_obj", &["intercept"]),
    ("gateway_ebpf", &["intercept"]),
    ("netlink_packet_core", &["net"]),
    ("netlink_packet_route", &["net"]),
    ("nftnl", &["intercept"]),
    ("mnl", &["intercept"]),
    ("hickory_proto", &["dns"]),
    ("pg_query", &["protocol::postgres"]),
    ("cel", &["policy"]),
    ("kube", &["workload::kubernetes"]),
    ("k8s_openapi", &["workload::kubernetes"]),
    ("globset", &["policy", "mask", "cli"]),
    ("aho_corasick", &["mask"]),
    ("axum", &["admin"]),
    ("maud", &["console"]),
    ("hyper", &["admin", "cli", "net"]),
    ("hyper_util", &["admin", "cli", "net"]),
    ("oauth2", &["people::oidc"]),
    ("jsonwebtoken", &["people::oidc"]),
    ("roxmltree", &["people::saml"]),
    ("sd_notify", &["app", "net"]),
    ("lettre", &["channels"]),
    ("rustls", &["net"]),
    ("tokio_rustls", &["net"]),
    ("rustls_native_certs", &["net"]),
    ("aws_lc_rs", &["net", "channels", "credentials", "passkey", "people::saml", "protocol::postgres"]),
    ("tokio_postgres", &["discover::postgres"]),
    ("rpassword", &["cli"]),
    ("clap", &["cli", "main"]),
    ("comfy_table", &["cli"]),
    ("serde_saphyr", &["config", "policy"]),
    ("notify", &["app", "policy"]),
    ("tracing_subscriber", &["app", "main", "cli"]),
];

/// Files that may be longer than the limit, each with its reason.
pub(super) const LONG_FILES: &[(&str, &str)] = &[
    ("gateway/src/protocol/postgres/classify/statements.rs", "one match over all of PostgreSQL's statements"),
    ("gateway/src/protocol/postgres/classify/walk.rs", "one walk over all of PostgreSQL's expressions"),
    ("gateway/src/gate/mod.rs", "the stages' fields are private to it: in two files they would be open to both"),
    ("gateway/src/protocol/postgres/requests.rs", "one state of the request side, from the first packet to the last"),
    ("gateway/src/protocol/postgres/classify/tests.rs", "one short test for each trick"),
    ("tests/tests/bypass.rs", "one short test for each row of the bypass table"),
    ("tests/tests/grants.rs", "one short test for each way past a grant"),
];

/// Uses that the table does not allow.
pub(super) fn edges(source: &Source) -> Vec<String> {
    let Some(user) = resident(source) else { return Vec::new() };
    let uses = source.inner(LIBRARY);
    uses.iter().filter_map(|used| edge(user, source, used)).collect()
}

fn edge(user: &str, source: &Source, used: &Use) -> Option<String> {
    let target = used.path.first()?;
    let known = MODULES.iter().any(|(name, _)| name == target);
    if !known || may_use(user, &source.module, &used.path) {
        return None;
    }
    Some(format!(
        "{}:{}: `{user}` may not use `{}`; the table is in xtask/src/tidy/house.rs and ARCHITECTURE.md says why",
        source.name,
        used.line,
        used.path.join("::")
    ))
}

fn may_use(user: &str, module: &[String], path: &[String]) -> bool {
    let target = path[0].as_str();
    let in_protocol = module.first().is_some_and(|first| first == "protocol");
    if in_protocol && target == "protocol" {
        return sibling_is_absent(module, path);
    }
    let own = module.first().is_some_and(|first| first == target);
    let allowed = MODULES.iter().find(|(name, _)| *name == user).map_or(&[][..], |(_, allowed)| allowed);
    own || COMMON.contains(&target) && !COMMON.contains(&user)
        || allowed.iter().any(|name| *name == "*" || *name == target)
}

/// A protocol may use what all share (`protocol` itself) and its own folder; the shared part may name each, to list it.
fn sibling_is_absent(module: &[String], path: &[String]) -> bool {
    let (Some(own), Some(other)) = (module.get(1), path.get(1)) else { return true };
    let is_folder = FOLDERS.contains(&other.as_str());
    !FOLDERS.contains(&own.as_str()) || !is_folder || own == other
}

/// The protocols' folders.
const FOLDERS: &[&str] = &["postgres", "mysql", "redis", "mongodb", "kubernetes", "ssh", "http"];

/// The row of the table that a file of the gateway lives in.
fn resident(source: &Source) -> Option<&'static str> {
    if !source.name.starts_with("gateway/src/") {
        return None;
    }
    let first = source.module.first()?;
    let in_folder =
        first == "protocol" && source.module.get(1).is_some_and(|second| FOLDERS.contains(&second.as_str()));
    let row = if in_folder { "protocol::*" } else { first.as_str() };
    MODULES.iter().map(|(name, _)| *name).find(|name| *name == row)
}

/// Outside crates that are named away from home.
pub(super) fn homes(source: &Source) -> Vec<String> {
    if !source.name.starts_with("gateway/src/") {
        return Vec::new();
    }
    let module = source.module.join("::");
    let at_home = |homes: &[&str]| homes.iter().any(|home| module == *home || module.starts_with(&format!("{home}::")));
    let strangers = HOMES.iter().filter(|(_, homes)| !at_home(homes));
    let found = strangers.flat_map(|(name, homes)| source.outer(name).into_iter().map(move |line| (name, homes, line)));
    found
        .map(|(name, homes, line)| format!("{}:{line}: `{name}` lives in {}, not here", source.name, homes.join(", ")))
        .collect()
}

/// Files of the gateway whose top module the table does not know.
pub(super) fn unknown(source: &Source) -> Option<String> {
    let in_gateway = source.name.starts_with("gateway/src/") && !source.module.is_empty();
    let missing = in_gateway && resident(source).is_none();
    missing.then(|| format!("{}:1: module `{}` has no row in xtask/src/tidy/house.rs", source.name, source.module[0]))
}
