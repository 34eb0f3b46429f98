//! `holdpoint channels`: how people hear of what waits, and whether they do.

use std::process::ExitCode;

use hyper::Method;
use serde_json::Value;

use super::{Output, client::Socket};
use crate::visible::visible;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    socket: Socket,
    /// How lists are printed
    #[arg(short, long, value_enum, default_value = "table", global = true)]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the channels: what each has told, and has yet to tell
    List,
    /// Send a test message through a channel, and say what came back
    Test {
        /// The channel
        name: String,
    },
}

/// Runs it.
///
/// # Errors
/// No gateway answers, it knows no such channel, or the message was not taken.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List => {
            let channels: Vec<Value> = args.socket.ask(&Method::GET, "/api/v1/channels", None)?;
            match args.output {
                Output::Json => println!("{}", serde_json::to_string_pretty(&channels)?),
                Output::Table => list(&channels),
            }
        }
        Command::Test { name } => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            anyhow::ensure!(name.bytes().all(fits), "there is no channel {}", visible(name.as_bytes()));
            let tested: Value = args.socket.ask(&Method::POST, &format!("/api/v1/channels/{name}/test"), None)?;
            match args.output {
                Output::Json => println!("{tested}"),
                Output::Table => println!("taken: {}", visible(text(&tested["said"]).as_bytes())),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(channels: &[Value]) {
    if channels.is_empty() {
        println!("no channels; `channels:` in the settings makes them");
        return;
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["CHANNEL", "KIND", "LAST TOLD", "TO TELL", "PASSED OVER", "STATE"]);
    for channel in channels {
        table.add_row([
            text(&channel["name"]).to_owned(),
            text(&channel["kind"]).to_owned(),
            channel["delivered"].as_u64().map_or_else(|| "not yet".to_owned(), ago),
            channel["backlog"].to_string(),
            channel["passed_over"].to_string(),
            state(channel),
        ]);
    }
    println!("{table}");
}

/// Why a channel tells nothing, in words; for `status` as well.
pub(super) fn state(channel: &Value) -> String {
    let failing = &channel["failing"];
    match failing["why"].as_str() {
        None => "works".to_owned(),
        Some(why) => {
            let since = failing["since"].as_u64().map(ago).unwrap_or_default();
            format!("FAILS since {since}, {} tries: {}", failing["tries"], visible(why.as_bytes()))
        }
    }
}

fn ago(at: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let passed = now.saturating_sub(std::time::Duration::from_nanos(at));
    format!("{} ago", humantime::format_duration(std::time::Duration::from_secs(passed.as_secs())))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
