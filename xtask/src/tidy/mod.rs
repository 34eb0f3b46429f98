//! `cargo xtask tidy`: the house rules that no compiler knows, checked on the sources as they are.
//!
//! - Modules use only what the [`house`] table allows, and each outside crate is used in its one home.
//! - Every file says what it is (`//!`), stays readable in length, and has no `unwrap()` outside tests.
//! - No file carries a path, host or registry of the machine that it was written on.
//! - Every dependency comes from crates.io and has a licence that `deny.toml` allows.
//!
//! # Correctness
//! Paths are read from tokens, with comments and strings taken out, so neither can hide or fake a use.
//! Code under `#[cfg(test)]` and in `tests.rs` is left out of the table: a test may look anywhere.

mod house;
mod licences;
mod source;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use self::source::Source;
use crate::{command, paths};

/// How long a file may be before it should be two, in lines.
const LONGEST: usize = 600;

/// The same for tests, which are read one at a time.
const LONGEST_TESTS: usize = 1000;

/// Check the house rules
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Checks everything and prints each finding with file and line.
///
/// # Errors
/// There is a finding, or the sources cannot be read.
pub(crate) fn run(_: &Args) -> Result<()> {
    let files = tracked_files(paths::root())?;
    let mut findings = Vec::new();
    for name in &files {
        let bytes = fs::read(paths::root().join(name)).with_context(|| format!("cannot read {name}"))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        findings.extend(check(name, &text));
    }
    findings.extend(licences::check(paths::root())?);
    findings.iter().for_each(|finding| println!("{finding}"));
    match findings.len() {
        0 => {
            println!("tidy: {} files in order", files.len());
            Ok(())
        }
        count => bail!("{count} findings"),
    }
}

/// Every finding in one file, as `file:line: what`.
fn check(name: &str, text: &str) -> Vec<String> {
    let mut findings = machine_words(name, text);
    if name.ends_with(".rs") {
        let source = Source::read(name, text);
        findings.extend(opening(name, text));
        findings.extend(length(name, text));
        findings.extend(unwraps(&source));
        findings.extend(house::unknown(&source));
        findings.extend(house::edges(&source));
        findings.extend(house::homes(&source));
    }
    findings
}

fn opening(name: &str, text: &str) -> Option<String> {
    let missing = !text.starts_with("//!");
    missing.then(|| {
        format!("{name}:1: starts without `//!`; say what the file is, what it promises and what it leaves to others")
    })
}

fn length(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    let excused = house::LONG_FILES.iter().any(|(file, _)| *file == name);
    let longest = if source::is_test_file(name) { LONGEST_TESTS } else { LONGEST };
    (lines > longest && !excused).then(|| {
        format!(
            "{name}:{lines}: longer than {longest} lines; split it, or list it with a reason in xtask/src/tidy/house.rs"
        )
    })
}

fn unwraps(source: &Source) -> Vec<String> {
    let calls = source.sequences(&[".", "unwrap", "(", ")"]);
    calls
        .into_iter()
        .map(|line| format!("{}:{line}: unwrap(); write expect(\"why this holds\")", source.name))
        .collect()
}

/// Words that only make sense where somebody wrote the file. Put together here, so that this file passes.
fn machine_words(name: &str, text: &str) -> Vec<String> {
    let words = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/tmp", "/w/")];
    let mut findings = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let path = words.into_iter().find(|word| content.contains(word));
        findings.extend(path.map(|word| format!("{name}:{}: `{word}` is a path of one machine", line + 1)));
        findings.extend(registry(name, content).map(|what| format!("{name}:{}: {what}", line + 1)));
    }
    findings
}

/// Cargo's files may name crates.io and nothing else.
fn registry(name: &str, line: &str) -> Option<String> {
    if !name.ends_with(".toml") && !name.ends_with(".lock") {
        return None;
    }
    let elsewhere = ["sparse+", "replace-with", "registry-index"].into_iter().find(|word| line.contains(word));
    let source = line.strip_prefix("source = ").filter(|from| !from.contains("github.com/rust-lang/crates.io-index"));
    elsewhere.or(source).map(|what| format!("`{what}`: dependencies come from crates.io"))
}

/// What git tracks or would track; without git (a tarball), every file.
fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root).args(["-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]);
    let mut names: Vec<String> = match command::output(&mut git) {
        Ok(listed) => listed.lines().map(str::to_owned).collect(),
        Err(_) => walk(root, root)?,
    };
    names.retain(|name| root.join(name).is_file());
    names.sort();
    names.dedup();
    Ok(names)
}

fn walk(root: &Path, dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        let skipped = path.file_name().is_some_and(|name| name == "target" || name == ".git");
        if path.is_dir() && !skipped {
            names.extend(walk(root, &path)?);
        } else if path.is_file() {
            names.extend(path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
