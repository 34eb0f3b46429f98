//! `holdpoint approvals`: see what waits, and decide.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::{Output, client::Socket, grants::numbered};
use crate::{
    admin::Approvals,
    hold::{AnyValue, Terms},
    visible::visible,
};

mod workflow;

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
    /// What waits for a decision
    List,
    /// One request, whole
    Show {
        /// The request, in short or whole
        request: String,
    },
    /// Show each request as it comes
    Watch,
    /// Release an operation
    Approve(Approve),
    /// Refuse an operation
    Deny(Decide),
    #[command(flatten)]
    More(workflow::Command),
}

#[derive(Debug, clap::Args)]
struct Decide {
    /// The request, in short or whole
    request: String,
    /// Why, for the record
    #[arg(long)]
    reason: Option<String>,
    /// The digest that `show` printed: refused if the request is another one by now
    #[arg(long)]
    digest: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Approve {
    #[command(flatten)]
    decide: Decide,
    /// The ticket that it is for, where the rule wants one
    #[arg(long)]
    ticket: Option<String>,
    /// Let the same workload do the same again without asking
    #[arg(long)]
    grant: bool,
    /// How often, with --grant
    #[arg(long, value_name = "NUMBER", default_value = "10", requires = "grant")]
    uses: u32,
    /// For how long, with --grant
    #[arg(long = "for", value_name = "TIME", default_value = "1h", requires = "grant", value_parser = humantime::parse_duration)]
    lasts: Duration,
    /// Let values be any: `all`, or numbers from `show` (`1,3`); otherwise all are as they are now
    #[arg(long, value_name = "VALUES", requires = "grant", value_parser = any_value)]
    any_value: Option<AnyValue>,
}

impl Approve {
    fn terms(&self) -> Option<Terms> {
        let any = self.any_value.clone().unwrap_or_default();
        self.grant.then_some(Terms { uses: self.uses, seconds: self.lasts.as_secs(), any })
    }
}

/// `all`, or places from 1.
fn any_value(typed: &str) -> Result<AnyValue, String> {
    if typed == "all" {
        return Ok(AnyValue::All);
    }
    let places = typed.split(',').map(|place| place.trim().parse::<u32>());
    let places = places.collect::<Result<Vec<_>, _>>();
    places.map(AnyValue::At).map_err(|_| "expected `all` or numbers such as 1,3".to_owned())
}

/// Runs it.
///
/// # Errors
/// No gateway answers, or it says no.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List => list(args)?,
        Command::Show { request } => show(args, request)?,
        Command::Watch => watch(args)?,
        Command::Approve(approve) => decided(args, &approve.decide, Some(approve))?,
        Command::Deny(decide) => decided(args, decide, None)?,
        Command::More(command) => workflow::run(args, command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &Args) -> anyhow::Result<()> {
    let open: Approvals<Value> = args.socket.ask(&Method::GET, "/api/v1/approvals", None)?;
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&open.requests)?);
        return Ok(());
    }
    if open.requests.is_empty() {
        println!("nothing waits for you");
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["REQUEST", "LEFT", "WORKLOAD", "RESOURCE", "EFFECTS", "STATEMENT"]);
    for request in &open.requests {
        table.add_row([
            word(&request["short"]),
            left(request),
            visible(word(&request["workload"]).as_bytes()),
            word(&request["resource"]),
            words(&request["effects"]),
            shortened(&word(&request["statement"])),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn show(args: &Args, request: &str) -> anyhow::Result<()> {
    let request: Value = args.socket.ask(&Method::GET, &format!("/api/v1/approvals/{}", path_word(request)), None)?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&request)?),
        Output::Table => print!("{}", card(&request)),
    }
    Ok(())
}

fn watch(args: &Args) -> anyhow::Result<()> {
    let mut seen: Vec<String> = Vec::new();
    let mut version = None;
    loop {
        let path = version
            .map_or_else(|| "/api/v1/approvals".to_owned(), |version| format!("/api/v1/approvals?since={version}"));
        let open: Approvals<Value> = args.socket.ask(&Method::GET, &path, None)?;
        version = Some(open.version);
        for request in &open.requests {
            let id = word(&request["request"]);
            if !seen.contains(&id) {
                match args.output {
                    Output::Json => println!("{request}"),
                    Output::Table => println!("{}", card(request)),
                }
                seen.push(id);
            }
        }
        seen.retain(|id| open.requests.iter().any(|request| word(&request["request"]) == *id));
    }
}

/// `approve`: with what; otherwise it is denied.
fn decided(args: &Args, decide: &Decide, approve: Option<&Approve>) -> anyhow::Result<()> {
    let path = format!("/api/v1/approvals/{}/decision", path_word(&decide.request));
    let body = json!({
        "approve": approve.is_some(),
        "reason": decide.reason,
        "digest": decide.digest,
        "grant": approve.and_then(Approve::terms),
        "ticket": approve.and_then(|approve| approve.ticket.as_ref()),
    });
    let decided: Value = args.socket.ask(&Method::POST, &path, Some(&body))?;
    match (args.output, word(&decided["decided"]).as_str()) {
        (Output::Json, _) => println!("{decided}"),
        (Output::Table, "counted") => println!("counted; {} more must approve", decided["missing"]),
        (Output::Table, "granted") => println!(
            "approved: request {}; grant {} releases more like it until `holdpoint grants revoke {1}`, its end or its last use",
            visible(decide.request.as_bytes()),
            word(&decided["grant"]),
        ),
        (Output::Table, what) => println!("{what}: request {}", visible(decide.request.as_bytes())),
    }
    Ok(())
}

/// What an approver needs to see, the question first.
fn card(request: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<12}{}", value.replace('\n', "\n            "));
        }
    };
    line("request", &format!("{}   {} left", word(&request["short"]), left(request)));
    line("who", &who(request));
    line("where", &format!("{} ({})", word(&request["resource"]), word(&request["requester"]["destination"])));
    line("effects", &words(&request["effects"]));
    line("touches", &words(&request["objects"]));
    line("it would", &joined(&request["impact_lines"], "\n"));
    line("unknown", &words(&request["unknown"]));
    line("rule", &format!("{}: {}", word(&request["rule"]), word(&request["why"])));
    line("statement", &word(&request["statement"]));
    line("", &size(request));
    line("beware", &beware(request));
    line("parameters", &words(&request["parameters"]));
    line("values", &numbered(&request["values"]));
    line("fingerprint", &word(&request["fingerprint"]));
    line("state", &state(&request["state"]));
    line("asked", &workflow::steps(request));
    line("approvals", &format!("{} of {}", request["approvals"], request["quorum"]));
    line("only", &workflow::rules(request));
    line("said", &workflow::remarks(request));
    line("digest", &word(&request["digest"]));
    line("approve", &format!("holdpoint approvals approve {}{}", word(&request["short"]), reason(request)));
    if request["fingerprint"].is_string() {
        let again = "--grant --uses 10 --for 1h [--any-value all|1,3]";
        line(
            "or grant",
            &format!("holdpoint approvals approve {}{} {again}", word(&request["short"]), reason(request)),
        );
    }
    line("deny", &format!("holdpoint approvals deny {}", word(&request["short"])));
    out
}

fn who(request: &Value) -> String {
    let requester = &request["requester"];
    let user =
        requester["user"].as_str().map_or_else(|| format!("uid {}", requester["uid"]), |user| format!("user {user}"));
    let executable =
        requester["executable"].as_str().map_or_else(String::new, |path| format!(", {}", visible(path.as_bytes())));
    format!("{} ({user}{executable})", visible(word(&request["workload"]).as_bytes()))
}

fn reason(request: &Value) -> &'static str {
    match (request["reason_required"] == true, request["ticket"].is_string()) {
        (true, true) => " --reason \"…\" --ticket …",
        (true, false) => " --reason \"…\"",
        (false, true) => " --ticket …",
        (false, false) => "",
    }
}

/// A long statement's end is where something could hide.
fn size(request: &Value) -> String {
    match request["bytes"].as_u64() {
        Some(bytes) if bytes > 2000 => format!("({bytes} bytes: read all of it)"),
        _ => String::new(),
    }
}

/// What the statement's letters could hide from an eye.
fn beware(request: &Value) -> String {
    let cautions = words(&request["cautions"]);
    if cautions.is_empty() { cautions } else { format!("the statement {cautions}") }
}

pub(super) fn state(state: &Value) -> String {
    let Some(state) = state.as_object() else { return String::new() };
    state.iter().map(|(name, value)| format!("{name}={}", word(value))).collect::<Vec<_>>().join(" ")
}

pub(super) fn left(request: &Value) -> String {
    let seconds = request["seconds_left"].as_u64().unwrap_or(0);
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

pub(super) fn word(value: &Value) -> String {
    value.as_str().map_or_else(String::new, str::to_owned)
}

pub(super) fn words(value: &Value) -> String {
    joined(value, ", ")
}

fn joined(value: &Value, by: &str) -> String {
    value.as_array().map_or_else(String::new, |words| words.iter().map(word).collect::<Vec<_>>().join(by))
}

pub(super) fn shortened(statement: &str) -> String {
    let one_line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    }
}

/// What a person typed, as part of a path: identifiers have no other characters.
pub(super) fn path_word(typed: &str) -> String {
    typed.chars().filter(|char| char.is_ascii_alphanumeric() || *char == '-').collect()
}
