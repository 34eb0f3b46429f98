//! Where things are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result};

use crate::run;

/// The checkout that cargo was called in. Asked at run time: checkouts share a target directory, so this very program may
/// have been compiled in another one.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).filter(|path| path.ends_with("xtask"));
        let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        package.parent().expect("this package is a directory of the workspace").to_owned()
    })
}

/// Makes the target directory this checkout's.
///
/// Cargo tells a fresh artifact from a stale one by the sources' times, and knows a workspace's own packages by name:
/// in a directory that another checkout built in last it would take that one's code for ours. What is not ours is
/// thrown away; the dependencies, which take the time, stay.
///
/// # Errors
/// Cargo or the file system fails.
pub(crate) fn claim_target() -> Result<()> {
    let stamp = target().join("checkout");
    let ours = root().as_os_str().as_encoded_bytes();
    match fs::read(&stamp) {
        Ok(owner) if owner == ours => return Ok(()),
        Ok(_) => {
            // All but this very program, which cargo has just made and which starts itself again.
            let packages = ["gateway", "gateway-ebpf", "fuzz", "tests"];
            let packages = packages.iter().flat_map(|package| ["--package", package]);
            run::step("another checkout built here last: cleaning", run::cargo().arg("clean").args(packages))?;
            if target().join("ebpf").exists() {
                fs::remove_dir_all(target().join("ebpf"))
                    .context("cannot remove the other checkout's kernel programs")?;
            }
        }
        Err(_) => {}
    }
    fs::create_dir_all(target()).with_context(|| format!("cannot make {}", target().display()))?;
    fs::write(&stamp, ours).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Where everything is built: `CARGO_TARGET_DIR`, or `~/.cache/holdpoint/target`. Outside the checkout, so that a fresh
/// clone (and CI, which starts from one each time) finds what is compiled already.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(target) if !target.is_empty() => root().join(target),
        _ => cache().join("target"),
    }
}

/// Tools that are no dependencies of the workspace.
pub(crate) fn tools() -> PathBuf {
    cache().join("tools")
}

/// `~/.cache/holdpoint`.
pub(crate) fn cache() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_else(env::temp_dir).join("holdpoint")
}
