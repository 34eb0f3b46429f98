//! The pods that were known last, in a file: for a gateway that starts while the API is away.

use std::{collections::BTreeMap, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{Pod, Pods};

/// The file's contents.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    node: String,
    pub(super) pods: Vec<Pod>,
    pub(super) handlers: BTreeMap<String, String>,
}

/// 1: the first.
const VERSION: u32 = 1;

/// What was kept for `node`; nothing where nothing was, or only for another node or by another version.
pub(super) fn read(file: &Path, node: &str) -> io::Result<Option<Kept>> {
    let bytes = match std::fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let kept: Kept = serde_json::from_slice(&bytes)?;
    Ok(Some(kept).filter(|kept| kept.version == VERSION && kept.node == node))
}

/// Keeps what is known, whole or not at all.
pub(super) fn write(pods: &Pods) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let kept = {
        let known = pods.known();
        let pods_now = known.pods.values().map(|pod| Pod::clone(pod)).collect();
        Kept { version: VERSION, node: pods.0.node.clone(), pods: pods_now, handlers: known.handlers.clone() }
    };
    let aside = pods.0.file.with_extension("json.new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&serde_json::to_vec(&kept)?)?;
    file.sync_all()?;
    std::fs::rename(&aside, &pods.0.file)
}
