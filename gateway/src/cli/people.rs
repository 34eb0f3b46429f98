//! `holdpoint people`: who may sign in at the console.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Value, json};

use super::{
    Output,
    approvals::{word, words},
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
    /// Who has an account
    List,
    /// Make an account, or change one; prints a link with which its owner enrols a passkey
    Set(Set),
    /// Print another link with which the owner of an account enrols a passkey
    Enrol {
        /// The account
        name: String,
    },
    /// Delete an account and its passkeys
    Delete {
        /// The account
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Set {
    /// What policies and the record call them
    name: String,
    /// The user of this machine who they are as well
    #[arg(long)]
    user: Option<String>,
    /// Their e-mail address
    #[arg(long)]
    email: Option<String>,
    /// A group of approvers; may be given again
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// What they may use; may be given again
    #[arg(long = "role", value_enum, default_values = ["viewer", "approver"])]
    roles: Vec<Role>,
    /// They may sign in no more
    #[arg(long)]
    disabled: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Role {
    /// Sees requests, policies and workloads
    Viewer,
    /// Decides, where a rule asks them
    Approver,
    /// Sees sessions and the console's own audit
    Auditor,
    /// Ends sessions, keeps people and grants
    Admin,
}

impl Role {
    pub(super) fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Approver => "approver",
            Role::Auditor => "auditor",
            Role::Admin => "admin",
        }
    }
}

/// Runs it.
///
/// # Errors
/// No gateway answers, or it says no.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List => list(args)?,
        Command::Set(set) => {
            let roles: Vec<_> = set.roles.iter().map(|role| role.word()).collect();
            let account = json!({
                "name": set.name, "user": set.user, "email": set.email,
                "groups": set.groups, "roles": roles, "disabled": set.disabled,
            });
            linked(args, &args.socket.ask(&Method::POST, "/api/v1/people", Some(&account))?);
        }
        Command::Enrol { name } => {
            let named = json!({ "name": name });
            linked(args, &args.socket.ask(&Method::POST, "/api/v1/people/link", Some(&named))?);
        }
        Command::Delete { name } => {
            let deleted: Value =
                args.socket.ask(&Method::POST, "/api/v1/people/delete", Some(&json!({ "name": name })))?;
            println!("deleted: account {}", visible(word(&deleted["deleted"]).as_bytes()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &Args) -> anyhow::Result<()> {
    let people: Vec<Value> = args.socket.ask(&Method::GET, "/api/v1/people", None)?;
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&people)?);
        return Ok(());
    }
    if people.is_empty() {
        println!("nobody has an account; make one with `holdpoint people set NAME --group GROUP`");
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["NAME", "USER", "E-MAIL", "GROUPS", "ROLES", "PASSKEYS"]);
    for one in &people {
        let passkeys = match (one["disabled"] == true, one["passkeys"].as_u64()) {
            (true, _) => "disabled".to_owned(),
            (false, Some(0) | None) => "none yet".to_owned(),
            (false, Some(count)) => count.to_string(),
        };
        table.add_row([
            word(&one["name"]),
            word(&one["user"]),
            visible(word(&one["email"]).as_bytes()),
            visible(words(&one["groups"]).as_bytes()),
            words(&one["roles"]),
            passkeys,
        ]);
    }
    println!("{table}");
    Ok(())
}

fn linked(args: &Args, linked: &Value) {
    let name = word(&linked["name"]);
    match (args.output, linked["url"].as_str()) {
        (Output::Json, _) => println!("{linked}"),
        (Output::Table, Some(url)) => {
            let minutes = linked["seconds"].as_u64().unwrap_or_default() / 60;
            println!("{name} enrols a passkey at this link, once, within {minutes} minutes:\n{url}");
        }
        (Output::Table, None) => println!("kept: account {name}"),
    }
}
