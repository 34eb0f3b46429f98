//! What npm has for the tests, made once per machine: Node's driver, and the newest PostgreSQL server.

use std::{fs, path::PathBuf};

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
    let install = ["npm", "install", "--prefix", &path, "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
    fs::create_dir_all(&node).expect("the cache directory can be written to");
    python::must_run(&[&install[..], &["pg@8"]].concat());
    fs::write(node.join(COMPLETE), "").expect("the directory was just made");
    node
}

/// The packages, where they are complete.
pub(crate) fn made() -> Option<PathBuf> {
    let node = python::cache().join("node");
    node.join(COMPLETE).exists().then_some(node)
}

/// There when everything is.
const COMPLETE: &str = ".complete-1";
