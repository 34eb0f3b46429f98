//! What npm has for the tests, made once per machine: Node's driver, and the newest PostgreSQL server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::python;

/// Fetches the packages where they are missing, and returns the directory that has `node_modules` in it. Call before
/// `Lab::new`.
///
/// # Panics
/// When npm or the packages cannot be had; the message has the command that failed.
pub fn node() -> PathBuf {
    let _one_at_a_time = python::lock("node");
    if let Some(node) = made() {
        return node;
    }
    let node = python::cache().join("node");
    let path = node.display().to_string();
    fs::create_dir_all(&node).expect("the cache directory can be written to");
    python::must_run(&[&INSTALL[..], &["--prefix", &path, "pg@8", &format!("{}@{NEWEST}", package())]].concat());
    // The server's package leaves its links out and makes them in a script of its own; only that one is run.
    let server = newest_postgres(&node).parent().expect("it is inside its package").display().to_string();
    python::must_run(&["env", "-C", &server, "node", "scripts/hydrate-symlinks.js"]);
    fs::write(node.join(COMPLETE), "").expect("the directory was just made");
    node
}

/// What drives a browser, and what says whether everybody can use a page. Call before `Lab::new`.
///
/// # Panics
/// As [`node`].
pub fn browser() -> PathBuf {
    packages("browser", &["playwright-core@1.65.1", "axe-core@4.14.1"])
}

/// A directory of that name that has these packages in its `node_modules`; each list of packages needs a name of its own.
pub(crate) fn packages(name: &str, packages: &[&str]) -> PathBuf {
    let _one_at_a_time = python::lock(name);
    let node = python::cache().join(name);
    if node.join(COMPLETE).exists() {
        return node;
    }
    let path = node.display().to_string();
    fs::create_dir_all(&node).expect("the cache directory can be written to");
    python::must_run(&[&INSTALL[..], &["--prefix", &path], packages].concat());
    fs::write(node.join(COMPLETE), "").expect("the directory was just made");
    node
}

/// PostgreSQL's own tree (`bin`, `lib`, `share`) in what [`node`] returned.
pub(crate) fn newest_postgres(node: &Path) -> PathBuf {
    node.join("node_modules").join(package()).join("native")
}

/// PostgreSQL as npm has it: the newest that can be had built, for any Linux.
fn package() -> String {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    format!("@embedded-postgres/linux-{arch}")
}

/// Its version.
pub(crate) const NEWEST: &str = "18.4.0-beta.17";

/// The packages, where they are complete.
pub(crate) fn made() -> Option<PathBuf> {
    let node = python::cache().join("node");
    node.join(COMPLETE).exists().then_some(node)
}

const INSTALL: [&str; 6] = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];

/// There when everything is.
const COMPLETE: &str = ".complete-2";
