//! `holdpoint doctor`: whether this machine, and each workload on it, is what the gateway needs. Found out by trying.

mod checks;
mod machine;
mod paths;
mod place;
mod probe;
mod wire;

use std::process::ExitCode;

use serde::Serialize;

use super::{Output, Settings, client::Socket};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// The gateway's administration socket [default: the settings' one]
    #[arg(long, value_name = "PATH", env = "HOLDPOINT_SOCKET")]
    socket: Option<std::path::PathBuf>,
    /// Try every way round the guard from inside this workload: its name, a process number, or a cgroup's path
    #[arg(long, value_name = "WORKLOAD")]
    probe: Option<String>,
    /// How it is printed
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// What a probe's own process is told
    #[arg(long, hide = true)]
    inside: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    name: &'static str,
    outcome: Outcome,
    says: String,
    /// What to do about it; empty where there is nothing.
    todo: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Warn,
    Fail,
}

impl Check {
    fn ok(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, says: says.into(), todo: String::new() }
    }

    fn warn(name: &'static str, says: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warn, says: says.into(), todo: todo.into() }
    }

    fn fail(name: &'static str, says: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Fail, says: says.into(), todo: todo.into() }
    }
}

/// Checks, or probes; exits with 1 when something fails, or a probe gets through.
///
/// # Errors
/// The settings are wrong, or the probe cannot be made.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(plan) = &args.inside {
        return paths::run(plan);
    }
    let config = args.settings.load()?;
    let socket = Socket::at(args.socket.clone().unwrap_or_else(|| config.socket()));
    if let Some(workload) = &args.probe {
        return probe::run(&socket, workload, args.output);
    }
    let checks = checks::all(&config, &socket);
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&checks)?),
        Output::Table => print!("{}", lines(&checks)),
    }
    let failed = checks.iter().any(|check| check.outcome == Outcome::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn lines(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { name, outcome, says, todo } in checks {
        let word = match outcome {
            Outcome::Ok => "ok  ",
            Outcome::Warn => "warn",
            Outcome::Fail => "FAIL",
        };
        text += &format!("{word}  {name}: {says}\n");
        if !todo.is_empty() {
            text += &format!("      → {todo}\n");
        }
    }
    let count = |wanted| checks.iter().filter(|check| check.outcome == wanted).count();
    text + &format!(
        "{} failed, {} to look at, {} fine\n",
        count(Outcome::Fail),
        count(Outcome::Warn),
        count(Outcome::Ok)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_says_what_to_do() {
        let checks = [Check::ok("kernel", "6.18"), Check::fail("disk", "full", "make room")];
        assert_eq!(
            lines(&checks),
            "ok    kernel: 6.18\nFAIL  disk: full\n      → make room\n1 failed, 0 to look at, 1 fine\n"
        );
    }
}
