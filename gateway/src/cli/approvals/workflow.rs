//! `holdpoint approvals`: what people do beside deciding, and the part of a request's card that shows its steps.

use std::time::Duration;

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::{Args, joined, path_word, word, words};
use crate::{cli::Output, visible::visible};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say something about a request to everybody who is asked
    Comment(Remark),
    /// Ask the requester's owner something
    Ask(Remark),
    /// Answer a question
    Answer(Remark),
    /// Release an operation alone, in an emergency; a review by somebody else is open from then on
    BreakGlass {
        /// The request, in short or whole
        request: String,
        /// Why: everybody who was not asked reads it
        #[arg(long)]
        reason: String,
        /// The digest that `show` printed: refused if the request is another one by now
        #[arg(long)]
        digest: Option<String>,
    },
    /// Lend what you may decide to somebody
    Delegate {
        /// To whom, by the name that policies would give them
        to: String,
        /// For how long, thirty days at most
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        lasts: Duration,
        /// Only in this group; otherwise in all groups of yours
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// What you lent, and what you were lent
    Delegations,
    /// End a delegation now
    Undelegate {
        /// The delegation, in short or whole
        delegation: String,
    },
    /// What somebody released alone and nobody has reviewed
    Reviews,
    /// Write a review
    Review {
        /// The review, or the request that was released, in short or whole
        review: String,
        /// What there is to say about it, for the record
        #[arg(long)]
        text: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Remark {
    /// The request, in short or whole
    request: String,
    /// The words
    text: String,
}

pub(super) fn run(args: &Args, command: &Command) -> anyhow::Result<()> {
    let post = |path: &str, body: &Value| args.socket.ask::<Value>(&Method::POST, path, Some(body));
    let say = |kind: &str, remark: &Remark| -> anyhow::Result<(Value, String)> {
        let path = format!("/api/v1/approvals/{}/remarks", path_word(&remark.request));
        let said = post(&path, &json!({ "kind": kind, "text": remark.text }))?;
        Ok((said, format!("said, on request {}", visible(remark.request.as_bytes()))))
    };
    let (answer, told) = match command {
        Command::Comment(remark) => say("comment", remark)?,
        Command::Ask(remark) => say("question", remark)?,
        Command::Answer(remark) => say("answer", remark)?,
        Command::BreakGlass { request, reason, digest } => {
            let path = format!("/api/v1/approvals/{}/break-glass", path_word(request));
            let released = post(&path, &json!({ "reason": reason, "digest": digest }))?;
            let told = format!(
                "released: request {}; review {} is open until somebody else writes it",
                visible(request.as_bytes()),
                word(&released["short"])
            );
            (released, told)
        }
        Command::Delegate { to, lasts, groups } => {
            let groups = (!groups.is_empty()).then_some(groups);
            let body = json!({ "to": to, "seconds": lasts.as_secs(), "groups": groups });
            let lent = post("/api/v1/delegations", &body)?;
            let (to, short) = (visible(to.as_bytes()), word(&lent["short"]));
            let lasts = humantime::format_duration(Duration::from_secs(lasts.as_secs()));
            let told = format!("{to} may decide for you for {lasts}, until `holdpoint approvals undelegate {short}`");
            (lent, told)
        }
        Command::Undelegate { delegation } => {
            let ended = post(&format!("/api/v1/delegations/{}/end", path_word(delegation)), &json!({}))?;
            (ended, format!("ended: delegation {}", visible(delegation.as_bytes())))
        }
        Command::Review { review, text } => {
            let reviewed = post(&format!("/api/v1/reviews/{}", path_word(review)), &json!({ "text": text }))?;
            (reviewed, format!("reviewed: {}", visible(review.as_bytes())))
        }
        Command::Delegations => return list(args, "/api/v1/delegations", "no delegations", &DELEGATIONS),
        Command::Reviews => return list(args, "/api/v1/reviews", "no review is open", &REVIEWS),
    };
    match args.output {
        Output::Json => println!("{answer}"),
        Output::Table => println!("{told}"),
    }
    Ok(())
}

/// A column's head, and its cell.
type Column = (&'static str, fn(&Value) -> String);

const DELEGATIONS: [Column; 5] = [
    ("DELEGATION", |one| word(&one["short"])),
    ("LEFT", super::left),
    ("FROM", |one| visible(word(&one["from"]).as_bytes())),
    ("TO", |one| visible(word(&one["to"]).as_bytes())),
    ("GROUPS", |one| visible(words(&one["groups"]).as_bytes())),
];

const REVIEWS: [Column; 5] = [
    ("REVIEW", |one| word(&one["short"])),
    ("REQUEST", |one| word(&one["request"])),
    ("BY", |one| visible(word(&one["by"]).as_bytes())),
    ("AS", |one| visible(word(&one["group"]).as_bytes())),
    ("REASON", |one| word(&one["reason"])),
];

fn list(args: &Args, path: &str, none: &str, columns: &[Column]) -> anyhow::Result<()> {
    let found: Vec<Value> = args.socket.ask(&Method::GET, path, None)?;
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(());
    }
    if found.is_empty() {
        println!("{none}");
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(columns.iter().map(|(head, _)| *head));
    for one in &found {
        table.add_row(columns.iter().map(|(_, cell)| cell(one)));
    }
    println!("{table}");
    Ok(())
}

/// The steps of a request, a line each: whom it asks, who has answered, and what comes next.
pub(super) fn steps(request: &Value) -> String {
    let Some(steps) = request["steps"].as_array() else { return String::new() };
    let line = |(number, step): (usize, &Value)| {
        let from: Vec<String> = step["from"].as_array().into_iter().flatten().map(asked).collect();
        let need = match (step["all"] == true, step["people"].as_u64()) {
            (true, _) => "each of ".to_owned(),
            (false, Some(people)) => format!("{people} of "),
            (false, None) => String::new(),
        };
        let answered = joined(&step["answered"], ", ");
        let answered = if answered.is_empty() { String::new() } else { format!("; approved by {answered}") };
        let state = match word(&step["state"]).as_str() {
            "done" => "through",
            "asked" => "asked now",
            _ => "comes next",
        };
        format!("{number}. {state}: {need}{}{answered}", from.join(", "))
    };
    (1..).zip(steps).map(line).collect::<Vec<_>>().join("\n")
}

fn asked(entry: &Value) -> String {
    match entry["in_seconds"].as_u64() {
        Some(left) => format!("{} (in {})", word(&entry["who"]), humantime::format_duration(Duration::from_secs(left))),
        None => word(&entry["who"]),
    }
}

/// What people said, a line each.
pub(super) fn remarks(request: &Value) -> String {
    let line = |one: &Value| format!("{} by {}: {}", word(&one["kind"]), word(&one["by"]), word(&one["text"]));
    request["remarks"].as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

/// What a decision must have beside a yes, and who else may end it.
pub(super) fn rules(request: &Value) -> String {
    let list = |name: &str, before: &str| {
        let words = words(&request[name]);
        (!words.is_empty()).then(|| format!("{before} {words}"))
    };
    let text = |name: &str, before: &str| request[name].as_str().map(|text| format!("{before} {text}"));
    let passkey = (request["passkey"] == true).then(|| "signed with a passkey, at the console".to_owned());
    let rules = [
        text("ticket", "a ticket that matches"),
        passkey,
        list("barred", "not by"),
        list("veto", "veto of"),
        text("break_glass", "in an emergency alone by group"),
    ];
    rules.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
