//! `holdpoint status`: how the gateway is, as the kernel and the record have it at this moment.

use std::process::ExitCode;

use hyper::Method;
use serde_json::Value;

use super::client::Socket;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    socket: Socket,
}

/// Prints it; exits with 1 when the gateway is not whole.
///
/// # Errors
/// No gateway answers.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let status: Value = args.socket.ask(&Method::GET, "/api/v1/status", None)?;
    println!("{}", serde_json::to_string_pretty(&status)?);
    Ok(if status["healthy"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
