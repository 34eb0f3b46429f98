//! Every fuzz target in one program; `HOLDPOINT_FUZZ` says which one runs.
//!
//! A target takes any bytes and must not panic, hang or use memory without bound. What it answers does not matter.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| target()(bytes));

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| match std::env::var("HOLDPOINT_FUZZ").as_deref() {
        Ok("postgres-client") => holdpoint::protocol::postgres::fuzz::client,
        Ok("postgres-backend") => holdpoint::protocol::postgres::fuzz::backend,
        Ok("policy") => policy,
        Ok("record") => record,
        Ok("saml") => saml,
        other => panic!("HOLDPOINT_FUZZ must name a target, not {other:?}; `cargo xtask fuzz` sets it"),
    })
}

fn policy(bytes: &[u8]) {
    let _ = holdpoint::policy::PolicySet::parse([("fuzz.yaml", bytes)]);
}

fn record(bytes: &[u8]) {
    let _ = holdpoint::record::decodes(bytes);
}

fn saml(bytes: &[u8]) {
    holdpoint::people::saml::decodes(bytes);
}
