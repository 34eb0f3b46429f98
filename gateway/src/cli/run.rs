//! `holdpoint run`: the gateway and the approval desk on one machine.

use std::process::ExitCode;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::{Settings, idle};
use crate::app;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// How log lines are written
    #[arg(long, value_enum, default_value = "text")]
    log: Log,
    /// Once another gateway has taken over, wait for SIGTERM instead of ending: for containers, which would be started again
    #[arg(long)]
    stay: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Log {
    Text,
    Json,
}

/// Runs it.
///
/// # Errors
/// What is missing or wrong.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_env("HOLDPOINT_LOG").unwrap_or_else(|_| EnvFilter::new(USUAL_LOG));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log {
        Log::Text => lines.with_ansi(false).init(),
        Log::Json => lines.json().init(),
    }
    // Held until the process has become another one: its end tells the successor that the record is free.
    let handed_over = app::run(args.settings.load()?)?;
    if handed_over.is_some() && args.stay {
        let Err(error) = idle::become_idle();
        tracing::error!(%error, "cannot stay once handed over, so this process ends");
    }
    Ok(ExitCode::SUCCESS)
}

/// The Kubernetes client logs every failed request beside returning its error, which is logged once.
const USUAL_LOG: &str = "info,kube_client::client::builder=off";
