//! `holdpoint credentials`: what the gateway logs in with in bots' place.
//!
//! # Security
//! A value is read from standard input, or asked for without being shown; never an argument, which every user of the
//! machine could see. Nothing prints one.

use std::{
    io::{IsTerminal as _, Read as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use comfy_table::Table;
use hyper::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Output, client::Socket};
use crate::credentials::{About, Resealed};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    socket: Socket,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Keep a credential; its value is read from standard input, or asked for
    Set {
        /// Its name in resources, such as orders-db/app
        name: String,
        /// Whom the backend knows it by [default: whoever the client says it is]
        #[arg(long)]
        user: Option<String>,
    },
    /// Give a credential that is there another value; open connections stay as they are
    Rotate {
        /// Its name
        name: String,
        /// Another user as well
        #[arg(long)]
        user: Option<String>,
    },
    /// Show which there are, without their values
    List {
        /// How
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Seal all anew with `credentials_key:`, after it was changed or rotated; values stay as they are
    Reseal,
    /// Forget a credential; what needs it is refused from then on
    Delete {
        /// Its name
        name: String,
    },
}

/// Asks the gateway.
///
/// # Errors
/// No gateway answers, it says no, or there is no value.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Set { name, user } => put(args, name, user.as_deref(), false)?,
        What::Rotate { name, user } => put(args, name, user.as_deref(), true)?,
        What::List { output } => list(args, *output)?,
        What::Reseal => {
            let done: Resealed = args.socket.ask(&Method::POST, "/api/v1/credentials/reseal", None)?;
            println!("{} credentials are sealed with {}", done.credentials, done.sealed_with);
        }
        What::Delete { name } => {
            let body = json!({ "name": name });
            let about: About = args.socket.ask(&Method::POST, "/api/v1/credentials/delete", Some(&body))?;
            println!("{} is deleted", about.name);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn put(args: &Args, name: &str, user: Option<&str>, rotate: bool) -> anyhow::Result<()> {
    let value = value(name)?;
    let body = json!({ "name": name, "user": user, "value": *value, "rotate": rotate });
    let about: About = args.socket.ask(&Method::POST, "/api/v1/credentials", Some(&body))?;
    println!("{} is set, version {}", about.name, about.version);
    Ok(())
}

fn list(args: &Args, output: Output) -> anyhow::Result<()> {
    let all: Vec<About> = args.socket.ask(&Method::GET, "/api/v1/credentials", None)?;
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&all)?),
        Output::Table => {
            let mut table = Table::new();
            table.load_style(comfy_table::presets::NOTHING).set_header(["NAME", "USER", "VERSION", "CHANGED"]);
            for about in all {
                let changed = i64::try_from(about.changed).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
                let changed = changed.map_or_else(String::new, |at| at.to_string());
                let user = about.user.unwrap_or_else(|| "the client's".into());
                table.add_row([about.name, user, about.version.to_string(), changed]);
            }
            println!("{table}");
        }
    }
    Ok(())
}

/// The value: all of standard input but one line's end, or what a person types unseen.
fn value(name: &str) -> anyhow::Result<Zeroizing<String>> {
    let input = std::io::stdin();
    let mut value = Zeroizing::new(String::new());
    if input.is_terminal() {
        let typed = rpassword::prompt_password(format!("value of {name}: "));
        value = typed.map(Zeroizing::new).context("cannot ask without showing what is typed; use a pipe")?;
    } else {
        input.lock().read_to_string(&mut value).context("the value is not UTF-8")?;
    }
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    if value.is_empty() {
        bail!("the value is empty; give it on standard input: holdpoint credentials set {name} < FILE");
    }
    Ok(value)
}
