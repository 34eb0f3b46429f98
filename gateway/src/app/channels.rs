//! The channels: read and checked before anything is taken over, told once the record is open.

use anyhow::Result;

use crate::{
    channels::{self, Prepared},
    config::Config,
};

/// Checks the settings, and reads the files that they name.
pub(super) fn prepare(config: &Config, node: &str) -> Result<Prepared> {
    let console = config.console.as_ref().and_then(|console| match &console.url {
        Some(url) => Some(url.clone()),
        None if console.listen.port() != 0 => Some(format!("http://localhost:{}", console.listen.port())),
        None => None,
    });
    Ok(channels::prepare(&config.channels, node, console.as_deref())?)
}
