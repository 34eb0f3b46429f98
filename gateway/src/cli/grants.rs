//! `holdpoint grants`: see what approvals go on releasing, and take it back.

use std::{fmt::Write as _, process::ExitCode};

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::{
    Output,
    approvals::{left, path_word, shortened, state, word, words},
    client::Socket,
};
use crate::visible::visible;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    socket: Socket,
    /// How lists are printed
    #[arg(short, long, value_enum, default_value = "table", global = true)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Grants in force
    List,
    /// One grant, whole
    Show {
        /// The grant, in short or whole
        grant: String,
    },
    /// End a grant now
    Revoke {
        /// The grant, in short or whole
        grant: String,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Runs it.
///
/// # Errors
/// No gateway answers, or it says no.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List => list(args)?,
        Command::Show { grant } => {
            let grant: Value = args.socket.ask(&Method::GET, &format!("/api/v1/grants/{}", path_word(grant)), None)?;
            match args.output {
                Output::Json => println!("{}", serde_json::to_string_pretty(&grant)?),
                Output::Table => print!("{}", card(&grant)),
            }
        }
        Command::Revoke { grant, reason } => {
            let path = format!("/api/v1/grants/{}/revocation", path_word(grant));
            let revoked: Value = args.socket.ask(&Method::POST, &path, Some(&json!({ "reason": reason })))?;
            match args.output {
                Output::Json => println!("{revoked}"),
                Output::Table => {
                    println!("revoked: grant {}", visible(grant.as_bytes()));
                    let ended = revoked["ended"].as_array().map_or(0, Vec::len);
                    if ended > 0 {
                        println!("ended: {ended} open connections in which it had released something");
                    }
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &Args) -> anyhow::Result<()> {
    let grants: Vec<Value> = args.socket.ask(&Method::GET, "/api/v1/grants", None)?;
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&grants)?);
        return Ok(());
    }
    if grants.is_empty() {
        println!("no grants");
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["GRANT", "LEFT", "USED", "WORKLOAD", "RESOURCE", "BY", "STATEMENT"]);
    for grant in &grants {
        table.add_row([
            word(&grant["short"]),
            left(grant),
            used(grant),
            visible(word(&grant["workload"]).as_bytes()),
            word(&grant["resource"]),
            words(&grant["by"]),
            shortened(&word(&grant["statement"])),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn card(grant: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<12}{}", value.replace('\n', "\n            "));
        }
    };
    line("grant", &format!("{}   {} left", word(&grant["short"]), left(grant)));
    line("used", &used(grant));
    line("who", &visible(word(&grant["workload"]).as_bytes()));
    line("where", &word(&grant["resource"]));
    line("effects", &words(&grant["effects"]));
    line("touches", &words(&grant["objects"]));
    line("rule", &word(&grant["rule"]));
    line("statement", &word(&grant["statement"]));
    line("values", &numbered(&grant["values"]));
    line("fingerprint", &word(&grant["fingerprint"]));
    line("state", &state(&grant["state"]));
    line("given by", &words(&grant["by"]));
    line("request", &word(&grant["request"]));
    line("revoke", &format!("holdpoint grants revoke {}", word(&grant["short"])));
    out
}

fn used(grant: &Value) -> String {
    format!("{} of {}", grant["used"], grant["uses"])
}

/// Values with the numbers that `--any-value` takes.
pub(super) fn numbered(values: &Value) -> String {
    let Some(values) = values.as_array() else { return String::new() };
    (1..).zip(values).map(|(place, value)| format!("{place}: {}", word(value))).collect::<Vec<_>>().join("  ")
}
