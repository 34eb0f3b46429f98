//! The rules on small fixtures: one door, [`finds`].

use super::check;

const HEAD: &str = "//! A file.\n";

/// The findings in `code`, as if it stood in the file `name`.
fn finds(name: &str, code: &str) -> Vec<String> {
    check(name, &format!("{HEAD}{code}"))
}

#[track_caller]
fn one(name: &str, code: &str, expected: &str) {
    let findings = finds(name, code);
    assert!(findings.len() == 1 && findings[0].contains(expected), "{code}: {findings:?}");
}

#[track_caller]
fn none(name: &str, code: &str) {
    assert_eq!(finds(name, code), Vec::<String>::new(), "{code}");
}

#[test]
fn a_module_uses_only_what_its_row_allows() {
    none("gateway/src/policy/judge.rs", "use crate::workload::Workload;");
    one("gateway/src/policy/judge.rs", "use crate::record::Entry;", "`policy` may not use `record::Entry`");
    one("gateway/src/policy/judge.rs", "fn f() { crate::gate::pass() }", "`policy` may not use `gate::pass`");
    one("gateway/src/record/mod.rs", "use crate::{operation::Id, hold::{Desk as D}};", "may not use `hold::Desk`");
    none("gateway/src/app.rs", "use crate::{intercept, admin};");
}

#[test]
fn super_reaches_no_further_than_crate() {
    none("gateway/src/policy/judge.rs", "use super::Verdict;");
    one("gateway/src/policy/judge.rs", "use super::super::record::Entry;", "record::Entry");
    one("gateway/src/policy/mod.rs", "use super::record::Entry;", "record::Entry");
}

#[test]
fn a_protocol_knows_no_sibling() {
    none("gateway/src/protocol/postgres/frame.rs", "use crate::protocol::{Dialect, postgres::Frame};");
    one("gateway/src/protocol/postgres/frame.rs", "use crate::protocol::mysql::Frame;", "protocol::mysql");
    one("gateway/src/protocol/postgres/frame.rs", "use super::super::mysql::Frame;", "protocol::mysql");
    one("gateway/src/protocol/postgres/frame.rs", "use crate::policy::Decide;", "`protocol::*` may not use");
    none("gateway/src/protocol/mod.rs", "use crate::protocol::postgres::Postgres;");
}

#[test]
fn outside_crates_stay_at_home() {
    none("gateway/src/record/store/mod.rs", "use rocksdb::DB;");
    one("gateway/src/record/mod.rs", "use rocksdb::DB;", "`rocksdb` lives in record::store");
    one("gateway/src/gate/mod.rs", "fn f() -> aya::Ebpf { x }", "`aya` lives in intercept");
    none("xtask/src/ebpf.rs", "use aya::Ebpf;");
}

#[test]
fn comments_strings_and_tests_do_not_count() {
    none("gateway/src/policy/judge.rs", "// crate::record::Entry\nconst X: &str = \"crate::record::Entry\";");
    none("gateway/src/policy/judge.rs", "#[cfg(test)]\nmod tests { use crate::record::Entry; fn f() { x.unwrap() } }");
    none("gateway/src/policy/tests.rs", "use crate::record::Entry;");
    one("gateway/src/policy/judge.rs", "#[cfg(test)]\nmod tests;\nuse crate::record::Entry;", "judge.rs:4");
}

#[test]
fn unwrap_is_found_where_it_counts() {
    one("gateway/src/gate/mod.rs", "fn f() { x.unwrap() }", "mod.rs:2: unwrap()");
    none("gateway/src/gate/mod.rs", "fn f() { x.unwrap_or_default(); y.expect(\"it is there\") }");
}

#[test]
fn files_open_with_what_they_are_and_stay_short() {
    assert!(check("xtask/src/x.rs", "fn f() {}")[0].contains("starts without `//!`"));
    one("xtask/src/x.rs", &"// line\n".repeat(600), "longer than 600 lines");
}

#[test]
fn machine_paths_and_registries_are_found() {
    one("README.md", concat!("see /ro", "ot/x"), "path of one machine");
    one("Cargo.lock", "source = \"registry+https://mirror.example/index\"", "dependencies come from crates.io");
    none("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"");
}

#[test]
fn a_module_without_a_row_is_found() {
    one("gateway/src/surprise.rs", "fn f() {}", "has no row");
}
