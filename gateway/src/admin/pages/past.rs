//! What is over, as the record has it: sessions, one of them to play, and what people did at the console.

use std::sync::Arc;

use axum::{
    extract::{Path as InPath, Query, State},
    response::Response,
};
use serde::Deserialize;

use super::{LISTED, LOOKED_AT, clock, missing, page, read, time_of_day, unreadable, viewer};
use crate::{
    admin::{Admin, Caller},
    console::{self, Moment, Only, Row},
    record::{
        Lookup,
        entry::{Body, Timestamp},
    },
    visible::{visible, visible_start},
};

/// What somebody looks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sought {
    q: String,
    only: Only,
}

pub(super) async fn sessions(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Query(Sought { q, only }): Query<Sought>,
) -> Response {
    let viewer = viewer(&admin, &caller);
    let wanted = q.to_lowercase();
    let rows = read(&admin, move |records| {
        let mut rows = Vec::new();
        for summary in records.sessions().take(LOOKED_AT * 10) {
            let summary = summary?;
            let facts = summary.facts.as_ref();
            let workload = facts.map(|facts| facts.workload.clone()).unwrap_or_default();
            let resource = facts.and_then(|facts| facts.resource.clone()).unwrap_or_default();
            if !workload.to_lowercase().contains(&wanted) && !resource.to_lowercase().contains(&wanted) {
                continue;
            }
            let passes = match only {
                Only::All => true,
                Only::Held => summary.totals.held > 0,
                Only::Refused => summary.totals.refused > 0,
                Only::Open => summary.ended.is_none(),
            };
            if !passes {
                continue;
            }
            let lasted = summary.ended.map(|ended| ended.since(summary.started).as_secs());
            let lasted =
                lasted.map(std::time::Duration::from_secs).map(|time| humantime::format_duration(time).to_string());
            rows.push(Row {
                moment: None,
                to: Some(format!("/sessions/{}", summary.session)),
                cells: vec![
                    summary.session.short(),
                    clock(summary.started),
                    lasted.unwrap_or_else(|| "open".to_owned()),
                    visible(workload.as_bytes()),
                    resource,
                    summary.totals.operations.to_string(),
                    summary.totals.held.to_string(),
                    summary.totals.refused.to_string(),
                ],
            });
            if rows.len() >= LISTED {
                break;
            }
        }
        Ok(rows)
    });
    match rows.await {
        Ok(rows) => page(console::sessions(&viewer, &rows, &q, only)),
        Err(error) => unreadable(&viewer, &error),
    }
}

/// Where a page of a session begins.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    from: u64,
}

pub(super) async fn session(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(typed): InPath<String>,
    Query(From { from }): Query<From>,
) -> Response {
    let viewer = viewer(&admin, &caller);
    let read = read(&admin, move |records| {
        let Lookup::One(id) = records.find_session(&typed)? else { return Ok(None) };
        let (mut rows, mut facts, mut more, mut began) = (Vec::new(), Vec::new(), None, None);
        for recorded in records.session(id, from) {
            let recorded = recorded?;
            if rows.len() >= LISTED {
                more = Some(format!("/sessions/{id}?from={}", recorded.position));
                break;
            }
            if let Body::Connected(connected) = &recorded.entry.body {
                facts.push(("Began".to_owned(), clock(recorded.entry.at)));
                facts.push(("Workload".to_owned(), visible(connected.workload.name.as_bytes())));
                facts.push(("Resource".to_owned(), connected.resource.clone().unwrap_or_default()));
                facts.push(("Destination".to_owned(), connected.destination.clone()));
                facts.push(("User".to_owned(), connected.process.user.clone().unwrap_or_default()));
            }
            let began = *began.get_or_insert(recorded.entry.at);
            rows.extend(line(began, recorded.entry.at, &recorded.entry.body));
        }
        Ok(Some((id, rows, facts, more)))
    });
    match read.await {
        Ok(Some((id, rows, facts, more))) => {
            page(console::transcript(&viewer, &format!("Session {}", id.short()), &facts, &rows, more.as_deref()))
        }
        Ok(None) => missing(&viewer, "There is no such session", "Type more of its name, or look for it in the list."),
        Err(error) => unreadable(&viewer, &error),
    }
}

/// One thing that happened in a session.
fn line(began: Timestamp, at: Timestamp, body: &Body) -> Option<Row> {
    let (what, text) = match body {
        Body::Operation(operated) => {
            let how = if operated.forwarded { "ran" } else { "refused" };
            (format!("{} {how}", operated.asked.kind), visible_start(&operated.asked.text, SHOWN))
        }
        Body::Requested(requested) => (format!("held as {}", requested.request.short()), requested.asked.rule.clone()),
        Body::Decided { by, approve, reason, .. } => {
            let word = if *approve { "approved" } else { "denied" };
            let why = reason.as_deref().unwrap_or_default();
            (word.to_owned(), visible(format!("{by} {why}").as_bytes()))
        }
        Body::Closed { outcome, .. } => ("request ended".to_owned(), outcome.as_str().to_owned()),
        Body::Response { wire, masked, .. } => {
            ("answer".to_owned(), format!("{} bytes, {masked} values masked", wire.len()))
        }
        Body::Incident { what } => ("incident".to_owned(), visible(what.as_bytes())),
        Body::Disconnected { reason } => ("disconnected".to_owned(), visible(reason.as_bytes())),
        _ => return None,
    };
    let after = u64::try_from(at.since(began).as_millis()).unwrap_or(u64::MAX);
    let moment = Some(Moment { after, hold: matches!(body, Body::Requested(_)) });
    Some(Row { moment, to: None, cells: vec![time_of_day(at), what, text] })
}

pub(super) async fn audit(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    let viewer = viewer(&admin, &caller);
    let rows = read(&admin, |records| {
        let newest = records.head()?.position;
        let mut rows = Vec::new();
        for recorded in records.entries(newest.saturating_sub(AUDITED).max(1)) {
            let recorded = recorded?;
            let (who, what) = match recorded.entry.body {
                Body::Administered { by, what, .. } => (by, what),
                Body::Enrolled(enrolled) => (enrolled.name, "has a new passkey".to_owned()),
                _ => continue,
            };
            let cells = vec![clock(recorded.entry.at), visible(who.as_bytes()), visible(what.as_bytes())];
            rows.push(Row { moment: None, to: None, cells });
        }
        rows.reverse();
        rows.truncate(LISTED);
        Ok(rows)
    });
    match rows.await {
        Ok(rows) => page(console::audit(&viewer, &rows)),
        Err(error) => unreadable(&viewer, &error),
    }
}

/// Of a statement in a list, bytes.
const SHOWN: usize = 2000;

/// Entries looked at for the console's own audit.
const AUDITED: u64 = 50_000;
