//! `holdpoint exec`: a command as a guarded workload of its own.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use hyper::Method;
use serde_json::Value;

use super::{Settings, client::Socket, trust};
use crate::{
    intercept,
    workload::{Hierarchy, exec},
};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// The workload's name in policies and in the record [default: the command's name]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// The guarded cgroup below which the workload's own is made [default: the first in the settings]
    #[arg(long, value_name = "CGROUP")]
    guard: Option<PathBuf>,
    /// Point the usual variables (PGSSLROOTCERT, SSL_CERT_FILE, …) at the gateway's authority and the machine's
    #[arg(long)]
    trust: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs it; the exit code is the command's.
///
/// # Errors
/// There is no guard, or the command cannot be started.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.settings.load()?;
    if !nix::unistd::Uid::effective().is_root() {
        anyhow::bail!(
            "only root may put a command into a guarded cgroup: run this with sudo, and let the command change its user (runuser, setpriv)"
        );
    }
    let guard = args
        .guard
        .as_deref()
        .or(config.cgroups().next())
        .ok_or_else(|| anyhow::anyhow!("the settings name no guarded cgroup"))?;
    let guard = Hierarchy::find()?.resolve(guard);
    if !intercept::is_guarded(&config.bpffs, &guard)? {
        anyhow::bail!(
            "{} is not guarded: a command run there would talk to its backends directly, so it is not run; \
             start the gateway first (holdpoint run), with the same settings",
            guard.display()
        );
    }
    // So that the command's first connection finds the gateway in its network namespace. Without a running gateway it
    // is refused there, as everywhere.
    let _ = Socket::at(config.socket()).ask::<Value>(&Method::POST, "/api/v1/namespaces", None);
    let (command, arguments) = args.command.split_first().expect("the parser requires one");
    let named =
        || PathBuf::from(command).file_name().map_or_else(|| "exec".into(), |name| name.to_string_lossy().into_owned());
    let name = args.name.clone().unwrap_or_else(named);
    let variables = if args.trust { trust::variables(&config).to_vec() } else { Vec::new() };
    let code = match exec::run(&guard, &name, command, arguments, &variables) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdpoint: {error}");
            error.exit_code()
        }
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
