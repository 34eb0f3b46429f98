//! `holdpoint wait`: returns once a request has ended, and says by its exit code how. For scripts and bots that were told
//! to come back.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hyper::Method;
use serde_json::Value;

use super::{approvals::path_word, client::Socket};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The request, as the bot was told it
    request: String,
    /// For how long at most
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    socket: Socket,
}

/// Exit code of a request that somebody denied.
const DENIED: u8 = 3;

/// Exit code of one that ended in another way: in time, taken back, or with its gateway.
const OVER: u8 = 4;

/// Exit code of one that is still open.
const OPEN: u8 = 5;

/// Waits.
///
/// # Errors
/// No gateway answers, or it knows no such request.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let until = Instant::now() + args.timeout;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Asked again before the gateway's own patience ends.
        let wait = left.min(Duration::from_secs(20)).as_secs();
        let path = format!("/api/v1/requests/{}/outcome?wait={wait}", path_word(&args.request));
        let said: Value = args.socket.ask(&Method::GET, &path, None)?;
        let state = said["state"].as_str().context("the gateway's answer has no state")?;
        let code = match state {
            "approved" => ExitCode::SUCCESS,
            "denied" => ExitCode::from(DENIED),
            "open" if wait > 0 => continue,
            "open" => ExitCode::from(OPEN),
            _ => ExitCode::from(OVER),
        };
        println!("{state}");
        return Ok(code);
    }
}
