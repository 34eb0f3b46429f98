//! `holdpoint ready`: whether the gateway of this container serves, for a readiness probe.
//!
//! Two gateways of a node may share its network, its run directory and so whatever answers there while one takes over from
//! the other. Only the kernel tells whose answer it is: by the cgroup of the process behind the socket.

use std::process::ExitCode;

use anyhow::bail;
use hyper::Method;
use serde_json::Value;

use super::{Settings, client::Socket};
use crate::workload::cgroup::path_of;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,
}

/// Fails unless it serves.
///
/// # Errors
/// No gateway answers, the one that does is in another container, or something is wrong with it.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let socket = Socket::at(args.settings.load()?.socket());
    let own = path_of(nix::unistd::getpid().as_raw())?;
    match socket.peer().map(path_of).transpose() {
        Ok(Some(theirs)) if theirs == own => {}
        Ok(Some(theirs)) => bail!("the gateway that serves is not the one in this cgroup but in {theirs}"),
        Ok(None) | Err(_) => bail!("no gateway answers"),
    }
    let answer: Value = socket.ask(&Method::GET, "/readyz", None)?;
    if answer["ready"] != true {
        bail!("not ready: {}", answer["problems"]);
    }
    Ok(ExitCode::SUCCESS)
}
