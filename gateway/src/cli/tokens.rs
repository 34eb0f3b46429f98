//! `holdpoint tokens`: which programs may ask the API.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::{
    Output,
    approvals::{word, words},
    client::Socket,
    people::Role,
};

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
    /// Which programs have one
    List,
    /// Make one, and print it: this once
    Create {
        /// What policies (`from: [{ token: NAME }]`) and the record call the program
        name: String,
        /// What it may use; may be given again. It approves nothing but where a rule names it
        #[arg(long = "role", value_enum, default_values = ["viewer"])]
        roles: Vec<Role>,
        /// For how long
        #[arg(long = "for", value_name = "TIME", default_value = "90days", value_parser = humantime::parse_duration)]
        lasts: Duration,
    },
    /// Let a program in no more
    Delete {
        /// Its name
        name: String,
    },
}

/// Runs it.
///
/// # Errors
/// No gateway answers, or it says no.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List => list(args)?,
        Command::Create { name, roles, lasts } => {
            let roles: BTreeSet<_> = roles.iter().map(|role| role.word()).collect();
            let wanted = json!({ "name": name, "roles": roles, "seconds": lasts.as_secs() });
            let made: Value = args.socket.ask(&Method::POST, "/api/v1/tokens", Some(&wanted))?;
            if args.output == Output::Json {
                println!("{}", serde_json::to_string_pretty(&made)?);
                return Ok(ExitCode::SUCCESS);
            }
            println!("{}", word(&made["token"]));
            eprintln!("this token is shown once; a program says it as `Authorization: Bearer hpt_…`");
            match made["url"].as_str() {
                Some(url) => eprintln!("it asks {url}/api/v1/approvals, and what else `holdpoint api` prints"),
                None => eprintln!("nobody can ask with it yet: there is no `console:` in the settings"),
            }
        }
        Command::Delete { name } => {
            let deleted: Value =
                args.socket.ask(&Method::POST, "/api/v1/tokens/delete", Some(&json!({ "name": name })))?;
            println!("deleted: token {}", word(&deleted["deleted"]));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &Args) -> anyhow::Result<()> {
    let programs: Vec<Value> = args.socket.ask(&Method::GET, "/api/v1/tokens", None)?;
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&programs)?);
        return Ok(());
    }
    if programs.is_empty() {
        println!("no program has a token; make one with `holdpoint tokens create NAME`");
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["NAME", "ROLES", "UNTIL"]);
    for one in &programs {
        let until = one["until"].as_i64().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        let until = until.map_or_else(String::new, |until| until.to_string());
        table.add_row([word(&one["name"]), words(&one["roles"]), until]);
    }
    println!("{table}");
    Ok(())
}
