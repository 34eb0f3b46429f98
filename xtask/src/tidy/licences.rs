//! Where every dependency comes from and what it may be used for: the part of `cargo deny` that needs no `cargo deny`.
//!
//! The allowed licences and banned crates are those of `deny.toml`, so that there is one list.

use std::{collections::HashSet, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Every finding in the resolved dependencies.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let deny = fs::read_to_string(root.join("deny.toml")).context("cannot read deny.toml")?;
    let allowed = list(&deny, "allow");
    let banned = list(&deny, "deny");
    let metadata = command::output(command::cargo().args(["metadata", "--format-version=1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata wrote no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let built = built()?;
    let packages = packages.iter().filter(|package| built.contains(&identity(package)));
    Ok(packages.flat_map(|package| findings(package, &allowed, &banned)).collect())
}

/// `NAME vVERSION` of every package that is compiled for Linux. The lock file names more: those of other systems, and
/// optional ones that nobody asks for (rustls names `ring` beside `aws-lc-rs`).
fn built() -> Result<HashSet<String>> {
    let mut tree = command::cargo();
    tree.args(["tree", "--workspace", "--locked", "--prefix=none", "--no-dedupe", "--format={p}"]);
    TARGETS.iter().for_each(|target| _ = tree.args(["--target", target]));
    let lines = command::output(&mut tree)?;
    let identity = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Ok(lines.lines().map(identity).collect())
}

fn identity(package: &Value) -> String {
    let field = |name: &str| package[name].as_str().unwrap_or_default();
    format!("{} v{}", field("name"), field("version"))
}

/// The systems that the gateway is built for; `deny.toml` names the same.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

fn findings(package: &Value, allowed: &[String], banned: &[String]) -> Vec<String> {
    let field = |name: &str| package[name].as_str().unwrap_or_default();
    let who = format!("Cargo.lock: {} {}", field("name"), field("version"));
    let mut found = Vec::new();
    if package["source"].as_str().is_some_and(|source| source != CRATES_IO) {
        found.push(format!("{who} comes from {}, not from crates.io", field("source")));
    }
    if !may_be_used(field("license"), allowed) {
        found.push(format!("{who} has the licence `{}`, which deny.toml does not allow", field("license")));
    }
    if banned.iter().any(|name| name == field("name")) {
        found.push(format!("{who} is banned in deny.toml"));
    }
    found
}

/// Whether an SPDX expression can be met with `allowed` alone: some alternative has all of its parts allowed.
fn may_be_used(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    // `(A OR B) AND C` is `A AND C OR B AND C`; taking brackets away would read it as `A OR B AND C`.
    let Some(inner) = expression.split_once('(') else {
        return expression.split(" OR ").any(|branch| branch.split(" AND ").all(|part| is_allowed(part, allowed)));
    };
    let Some((group, after)) = inner.1.split_once(')') else { return false };
    group.split(" OR ").any(|choice| may_be_used(&format!("{}{choice}{after}", inner.0), allowed))
}

fn is_allowed(licence: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|name| name == licence.trim())
}

/// The quoted words of the list `key = [ … ]`; in `deny` the names of the crates.
fn list(toml: &str, key: &str) -> Vec<String> {
    let lines = toml.lines().skip_while(|line| !line.starts_with(&format!("{key} = ["))).skip(1);
    let lines = lines.take_while(|line| !line.starts_with(']'));
    lines.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{list, may_be_used};

    #[test]
    fn reads_expressions() {
        let allowed = ["MIT", "Apache-2.0"].map(str::to_owned);
        for good in ["MIT", "GPL-2.0 OR MIT", "MIT/Apache-2.0", "MIT AND Apache-2.0", "(MIT OR GPL-2.0) AND Apache-2.0"]
        {
            assert!(may_be_used(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-2.0", "MIT AND GPL-2.0", "(MIT OR Apache-2.0) AND GPL-2.0"] {
            assert!(!may_be_used(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn reads_lists() {
        let toml = "[licenses]\nallow = [\n    \"MIT\", # why\n    \"ISC\",\n]\ndeny = [\n    { crate = \"x\" },\n]\n";
        assert_eq!(list(toml, "allow"), ["MIT", "ISC"]);
        assert_eq!(list(toml, "deny"), ["x"]);
    }
}
