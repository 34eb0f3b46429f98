//! Where things are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a directory of the workspace")
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
