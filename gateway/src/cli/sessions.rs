//! `holdpoint sessions`: which sessions there were, what happened in one, and where a text occurs.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use hyper::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Output,
    approvals::path_word,
    client::Socket,
    store::{Filter, Store, clock, rfc3339, session, span, table},
};
use crate::{
    operation::SessionId,
    policy::Decide,
    record::{
        Recorded, Records, RequestHistory, Summary,
        entry::{Asked, Body, Connected, Operated, Timestamp},
    },
    visible::{ascii_json, visible, visible_lines, visible_start},
};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    store: Store,
    /// How it is printed
    #[arg(short, long, value_enum, default_value = "table", global = true)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Sessions, newest first
    List(Filter),
    /// One session: who, where, and every operation with its verdict
    Show {
        /// The session, in short or whole
        session: String,
    },
    /// Connections that are open now
    Live {
        #[command(flatten)]
        socket: Socket,
    },
    /// End a connection that is open now
    End {
        /// The session, in short or whole
        session: String,
        /// Why: its client is told, and the record has it
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        socket: Socket,
    },
    /// Operations whose statement, objects or refusal contain a text, newest session first
    Search {
        /// The text; upper and lower case are the same
        text: String,
        #[command(flatten)]
        filter: Filter,
    },
}

/// Runs it.
///
/// # Errors
/// The record cannot be read, or the session is not in it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let records = || args.store.open();
    match &args.command {
        Command::List(filter) => list(&records()?, filter, args.output, &mut out)?,
        Command::Show { session: typed } => {
            let records = records()?;
            show(&records, session(&records, typed)?, args.output, &mut out)?;
        }
        Command::Search { text, filter } => search(&records()?, text, filter, args.output, &mut out)?,
        Command::Live { socket } => live(socket, args.output, &mut out)?,
        Command::End { session, reason, socket } => end(session, reason.as_deref(), socket, &mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn live(socket: &Socket, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    let open: Vec<Value> = socket.ask(&Method::GET, "/api/v1/sessions/live", None)?;
    if output == Output::Json {
        writeln!(out, "{}", ascii_json(&open, true)?)?;
        return Ok(());
    }
    if open.is_empty() {
        writeln!(out, "no guarded connection is open")?;
        return Ok(());
    }
    let now = Timestamp::now();
    let mut rows = table(["SESSION", "FOR", "WORKLOAD", "USER", "RESOURCE", "DESTINATION"]);
    for one in &open {
        let text = |field: &str| visible(one[field].as_str().unwrap_or("-").as_bytes());
        let since = one["since"].as_u64().map_or(now, Timestamp);
        rows.add_row([
            text("short"),
            span(since, now),
            text("workload"),
            text("user"),
            text("resource"),
            text("destination"),
        ]);
    }
    writeln!(out, "{rows}")?;
    Ok(())
}

fn end(session: &str, reason: Option<&str>, socket: &Socket, out: &mut impl Write) -> anyhow::Result<()> {
    let path = format!("/api/v1/sessions/{}/termination", path_word(session));
    let ended: Value = socket.ask(&Method::POST, &path, Some(&json!({ "reason": reason })))?;
    writeln!(out, "ended: session {}", ended["terminated"].as_str().unwrap_or(session))?;
    Ok(())
}

fn list(records: &Records, filter: &Filter, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    let matcher = filter.matcher()?;
    let sessions = matcher.sessions(records).take(filter.limit).collect::<Result<Vec<_>, _>>()?;
    if output == Output::Json {
        writeln!(out, "{}", ascii_json(&sessions, true)?)?;
        return Ok(());
    }
    if sessions.is_empty() {
        writeln!(out, "no session matches")?;
        return Ok(());
    }
    let mut rows = table(["SESSION", "STARTED", "LASTED", "WORKLOAD", "RESOURCE", "OPERATIONS", "HELD", "REFUSED"]);
    for summary in &sessions {
        rows.add_row([
            summary.session.short(),
            clock(summary.started),
            summary.ended.map_or_else(|| "open".to_owned(), |ended| span(summary.started, ended)),
            shown(summary.facts.as_ref().map(|facts| facts.workload.as_str())),
            resource(summary),
            summary.totals.operations.to_string(),
            summary.totals.held.to_string(),
            summary.totals.refused.to_string(),
        ]);
    }
    writeln!(out, "{rows}")?;
    Ok(())
}

fn shown(name: Option<&str>) -> String {
    name.map_or_else(|| "-".to_owned(), |name| visible(name.as_bytes()))
}

fn resource(summary: &Summary) -> String {
    let facts = summary.facts.as_ref();
    shown(facts.map(|facts| facts.resource.as_deref().unwrap_or(&facts.destination)))
}

fn show(records: &Records, id: SessionId, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    let entries = records.session(id, 0).collect::<Result<Vec<_>, _>>()?;
    if output == Output::Json {
        writeln!(out, "{}", ascii_json(&entries.iter().map(Timed::of).collect::<Vec<_>>(), true)?)?;
        return Ok(());
    }
    writeln!(out, "session     {id}")?;
    let first = entries.first().map(|recorded| recorded.entry.at);
    let mut rows = table(["ENTRY", "AT", "VERDICT", "EFFECTS", "STATEMENT"]);
    for Recorded { position, entry } in &entries {
        let at = first.map_or_else(String::new, |first| format!("+{}", span(first, entry.at)));
        let mut row = |verdict: String, effects: String, text: String| {
            rows.add_row([position.to_string(), at.clone(), verdict, effects, text]);
        };
        match &entry.body {
            Body::Connected(connected) => {
                for (name, fact) in facts(connected) {
                    writeln!(out, "{name:<12}{fact}")?;
                }
                writeln!(out, "started     {}", clock(entry.at))?;
            }
            Body::Operation(operated) => {
                row(verdict(records, operated)?, operated.asked.effects.to_string(), statement(&operated.asked));
            }
            Body::Incident { what } => row("incident".to_owned(), String::new(), visible(what.as_bytes())),
            Body::Disconnected { reason } => row("ended".to_owned(), String::new(), visible(reason.as_bytes())),
            _ => {}
        }
    }
    writeln!(out, "\n{rows}\n\n`holdpoint replay {}` shows it with its responses.", id.short())?;
    Ok(())
}

/// A connection's facts by name, harmless to print.
pub(super) fn facts(connected: &Connected) -> Vec<(&'static str, String)> {
    let Connected { workload, process, client, destination, resource, protocol } = connected;
    let mut facts = vec![("workload", format!("{} ({})", shown(Some(&workload.name)), shown(Some(&workload.path))))];
    if let Some(unit) = &workload.unit {
        facts.push(("unit", visible(unit.as_bytes())));
    }
    for (name, value) in &workload.labels {
        facts.push(("label", format!("{}={}", visible(name.as_bytes()), visible(value.as_bytes()))));
    }
    let user = process.user.as_deref().map_or_else(|| process.uid.to_string(), |user| visible(user.as_bytes()));
    facts.push(("process", format!("{} (pid {}, user {user})", visible(process.comm.as_bytes()), process.pid)));
    if let Some(executable) = &process.executable {
        let sha256 = process.sha256.map_or_else(|| "not hashed".to_owned(), |sha256| format!("sha256 {sha256}"));
        let doubt = if process.verified { "" } else { ", may have been replaced since" };
        let path = visible(executable.as_os_str().as_encoded_bytes());
        facts.push(("executable", format!("{path} ({sha256}{doubt})")));
    }
    if !process.command_line.is_empty() {
        facts.push(("command", visible(process.command_line.join(" ").as_bytes())));
    }
    let name = resource.as_deref().map_or_else(|| "no resource".to_owned(), |name| visible(name.as_bytes()));
    facts.push(("to", format!("{name} at {} ({})", visible(destination.as_bytes()), visible(protocol.as_bytes()))));
    facts.push(("from", visible(client.as_bytes())));
    facts
}

/// The verdict on an operation with, if it was held, who decided and how long that took.
fn verdict(records: &Records, operated: &Operated) -> anyhow::Result<String> {
    let rule = visible(operated.asked.rule.as_bytes());
    let history = operated.request.map(|request| records.request(request)).transpose()?.flatten();
    Ok(match (operated.forwarded, operated.asked.decide, history) {
        (_, _, Some(history)) => format!("held by {rule}: {}", decided(&history)),
        (true, Decide::Allow, None) => format!("allowed by {rule}"),
        (true, Decide::HoldCommit, None) => format!("ran, its commit held by {rule}"),
        (true, _, None) => format!("forwarded ({rule})"),
        (false, _, None) => format!("refused by {rule}"),
    })
}

/// How a request ended, by whom, after how long.
pub(super) fn decided(history: &RequestHistory) -> String {
    let people: Vec<_> = history.decisions.iter().map(|decision| visible(decision.by.as_bytes())).collect();
    let by = if people.is_empty() { String::new() } else { format!(" by {}", people.join(", ")) };
    match (history.closed, &history.broken) {
        (Some((at, _)), Some(broken)) => {
            format!("released by {} alone after {}", visible(broken.by.as_bytes()), span(history.at, at))
        }
        (Some((at, outcome)), None) => format!("{}{by} after {}", outcome.as_str(), span(history.at, at)),
        (None, _) => "still waiting".to_owned(),
    }
}

/// A statement on one line; one without a text goes by its kind.
fn statement(asked: &Asked) -> String {
    if asked.text.is_empty() {
        visible(asked.kind.as_bytes())
    } else {
        visible_start(squeezed(&asked.text).as_bytes(), 200)
    }
}

/// Layout is no content in a table's cell: runs of spaces and line breaks become one space.
fn squeezed(text: &[u8]) -> String {
    visible_lines(text).split([' ', '\n', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn search(records: &Records, text: &str, filter: &Filter, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    let matcher = filter.matcher()?;
    let wanted = text.to_lowercase();
    let mut rows = table(["SESSION", "ENTRY", "WHEN", "WORKLOAD", "VERDICT", "STATEMENT"]);
    let mut hits = Vec::new();
    'sessions: for summary in matcher.sessions(records) {
        let summary = summary?;
        for recorded in records.session(summary.session, 0) {
            let recorded = recorded?;
            let Body::Operation(operated) = &recorded.entry.body else { continue };
            if !mentions(operated, &wanted) {
                continue;
            }
            rows.add_row([
                summary.session.short(),
                recorded.position.to_string(),
                clock(recorded.entry.at),
                shown(summary.facts.as_ref().map(|facts| facts.workload.as_str())),
                verdict(records, operated)?,
                statement(&operated.asked),
            ]);
            hits.push(recorded);
            if hits.len() == filter.limit {
                break 'sessions;
            }
        }
    }
    match output {
        Output::Json => writeln!(out, "{}", ascii_json(&hits.iter().map(Timed::of).collect::<Vec<_>>(), true)?)?,
        Output::Table if hits.is_empty() => writeln!(out, "no operation mentions `{}`", visible(text.as_bytes()))?,
        Output::Table => writeln!(out, "{rows}")?,
    }
    Ok(())
}

fn mentions(operated: &Operated, wanted: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(wanted);
    let asked = &operated.asked;
    has(&String::from_utf8_lossy(&asked.text))
        || has(&operated.refusal)
        || asked.objects.iter().any(|object| has(&object.to_string()))
        || asked.parameters.iter().flat_map(|p| &p.value).any(|value| has(&String::from_utf8_lossy(value)))
}

/// An entry for programs, with its moment in words beside the nanoseconds.
#[derive(Serialize)]
pub(super) struct Timed<'a> {
    time: String,
    #[serde(flatten)]
    recorded: &'a Recorded,
    /// A response as its protocol reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rendered: Option<Vec<String>>,
}

impl<'a> Timed<'a> {
    pub(super) fn of(recorded: &'a Recorded) -> Self {
        Self { time: rfc3339(recorded.entry.at), recorded, rendered: None }
    }
}

#[cfg(test)]
mod tests;
