//! The console's pages: fetches what they show, and hands it to `console`.
//!
//! The record is read off the thread that people need, and within bounds.

use std::sync::Arc;

use axum::{
    extract::{Path as InPath, Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use super::{Admin, CONSOLE, Caller, May, Route, approvals, grants, route};
use crate::{
    console::{self, Asset, Page, Past, Row, Viewer},
    people::{Person, Role},
    record::{
        Lookup, RecordError, Records, RequestHistory,
        entry::{Body, Timestamp},
    },
    visible::{visible, visible_start},
};

pub(super) fn routes() -> Vec<Route> {
    let auditor = May::Role(Role::Auditor);
    vec![
        route("/signin", May::Anybody, CONSOLE, get(sign_in)),
        route("/enrol/{code}", May::Anybody, CONSOLE, get(enrol)),
        route("/assets/{name}", May::Anybody, CONSOLE, get(asset)),
        route("/", May::Concerned, CONSOLE, get(inbox)),
        route("/inbox", May::Concerned, CONSOLE, get(open_requests)),
        route("/requests/{request}", May::Concerned, CONSOLE, get(request)),
        route("/grants", May::Concerned, CONSOLE, get(list_grants)),
        route("/live", auditor, CONSOLE, get(live)),
        route("/sessions", auditor, CONSOLE, get(sessions)),
        route("/sessions/{session}", auditor, CONSOLE, get(session)),
        route("/audit", auditor, CONSOLE, get(audit)),
    ]
}

fn page(page: Page) -> Response {
    Html(page.into_string()).into_response()
}

/// Asked before anything else of the page is: what changes meanwhile is then newer than what the page has seen.
fn viewer(admin: &Admin, caller: &Caller) -> Viewer {
    Viewer::of(&caller.person, caller.csrf(), *admin.desk.watch().borrow())
}

async fn sign_in(State(admin): State<Arc<Admin>>) -> Response {
    let oidc = admin.people.providers.iter().map(|provider| ("oidc", provider.name()));
    let saml = admin.people.saml.iter().map(|provider| ("saml", provider.name()));
    page(console::sign_in(&oidc.chain(saml).collect::<Vec<_>>()))
}

async fn asset(InPath(name): InPath<String>) -> Response {
    let Some(Asset { kind, bytes, .. }) = console::ASSETS.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // Asked for again after each start of another version.
    let headers = [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")];
    let mut response = (headers, *bytes).into_response();
    response
        .headers_mut()
        .insert(header::ETAG, HeaderValue::from_static(concat!("\"", env!("CARGO_PKG_VERSION"), "\"")));
    response
}

async fn enrol(State(admin): State<Arc<Admin>>, InPath(code): InPath<String>) -> Response {
    let name = admin.people.accounts.linked(&code);
    // A code that is a link's has no other characters, and the page has it in an attribute.
    let code: String = code.chars().filter(|char| char.is_ascii_alphanumeric() || "-_".contains(*char)).collect();
    page(console::enrol(&code, name.as_deref()))
}

async fn inbox(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    page(console::inbox(&viewer(&admin, &caller), &waiting(&admin, &caller.person)))
}

async fn open_requests(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    page(console::open_requests(&waiting(&admin, &caller.person)))
}

fn waiting(admin: &Admin, person: &Person) -> Vec<crate::hold::View> {
    admin.desk.list().into_iter().filter(|view| approvals::may_see(person, view)).collect()
}

async fn request(State(admin): State<Arc<Admin>>, caller: Caller, InPath(typed): InPath<String>) -> Response {
    let viewer = viewer(&admin, &caller);
    if let Ok(view) = admin.desk.show(&typed)
        && approvals::may_see(&caller.person, &view)
    {
        let may_decide = view.asks(&caller.person) && caller.person.roles.contains(&Role::Approver);
        let workload = view.workload.clone();
        let past = read(&admin, move |records| past(&records, &workload)).await.unwrap_or_default();
        return page(console::request(&viewer, &view, may_decide, &past));
    }
    let person = caller.person.clone();
    let found =
        read(&admin, move |records| Ok(find(&records, &typed)?.filter(|found| may_see_ended(&person, found)))).await;
    match found {
        Ok(Some(history)) => ended(&viewer, &history),
        Ok(None) => missing(&viewer, "There is no such request", "Or it is none of yours."),
        Err(error) => unreadable(&viewer, &error),
    }
}

fn may_see_ended(person: &Person, history: &RequestHistory) -> bool {
    let asked = history.requested.approval.everybody().any(|who| person.is(&who));
    asked || [Role::Viewer, Role::Auditor, Role::Admin].iter().any(|role| person.roles.contains(role))
}

fn find(records: &Records, typed: &str) -> Result<Option<RequestHistory>, RecordError> {
    match records.find_request(typed)? {
        Lookup::One(request) => records.request(request),
        Lookup::None | Lookup::Many(_) => Ok(None),
    }
}

fn ended(viewer: &Viewer, history: &RequestHistory) -> Response {
    let requested = &history.requested;
    let outcome = history.closed.map_or("open", |(_, outcome)| outcome.as_str());
    let mut lines = vec![
        ("Workload".to_owned(), visible(requested.workload.as_bytes())),
        ("Resource".to_owned(), requested.resource.clone()),
        ("Rule".to_owned(), format!("{}: {}", requested.asked.rule, requested.asked.why)),
        ("Opened".to_owned(), clock(history.at)),
    ];
    for decision in &history.decisions {
        let word = if decision.approve { "Approved by" } else { "Denied by" };
        let why = decision.reason.as_deref().map_or_else(String::new, |why| format!(": {}", visible(why.as_bytes())));
        lines.push((word.to_owned(), format!("{} at {}{why}", visible(decision.by.as_bytes()), clock(decision.at))));
    }
    lines.extend(history.closed.map(|(at, _)| ("Ended".to_owned(), clock(at))));
    lines.extend(history.session.map(|session| ("Session".to_owned(), session.to_string())));
    lines.push(("Digest".to_owned(), requested.digest.to_string()));
    page(console::ended(viewer, &requested.request.short(), outcome, &lines, &visible(&requested.asked.text)))
}

/// What this workload asked for before, newest first.
fn past(records: &Records, workload: &str) -> Result<Vec<Past>, RecordError> {
    let mut past = Vec::new();
    for id in records.newest_requests().take(LOOKED_AT) {
        let Some(history) = records.request(id?)? else { continue };
        let Some((at, outcome)) = history.closed.filter(|_| history.requested.workload == workload) else { continue };
        past.push(Past {
            request: history.requested.request.to_string(),
            at: clock(at),
            statement: visible_start(&history.requested.asked.text, 120),
            outcome: outcome.as_str().to_owned(),
            by: history.decisions.iter().map(|one| visible(one.by.as_bytes())).collect::<Vec<_>>().join(", "),
        });
        if past.len() >= PAST {
            break;
        }
    }
    Ok(past)
}

async fn list_grants(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    let all = admin.desk.grants();
    let seen: Vec<_> = all.into_iter().filter(|grant| grants::may_see(&caller.person, grant)).collect();
    page(console::grants(&viewer(&admin, &caller), &seen))
}

async fn live(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    page(console::live(&viewer(&admin, &caller), &admin.live.list()))
}

#[derive(Debug, Deserialize)]
struct Sought {
    #[serde(default)]
    q: String,
}

async fn sessions(State(admin): State<Arc<Admin>>, caller: Caller, Query(Sought { q }): Query<Sought>) -> Response {
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
            let lasted = summary.ended.map(|ended| ended.since(summary.started).as_secs());
            let lasted =
                lasted.map(std::time::Duration::from_secs).map(|time| humantime::format_duration(time).to_string());
            rows.push(Row {
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
        Ok(rows) => page(console::sessions(&viewer, &rows, &q)),
        Err(error) => unreadable(&viewer, &error),
    }
}

#[derive(Debug, Deserialize)]
struct From {
    #[serde(default)]
    from: u64,
}

async fn session(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(typed): InPath<String>,
    Query(From { from }): Query<From>,
) -> Response {
    let viewer = viewer(&admin, &caller);
    let read = read(&admin, move |records| {
        let Lookup::One(id) = records.find_session(&typed)? else { return Ok(None) };
        let (mut rows, mut facts, mut more) = (Vec::new(), Vec::new(), None);
        for recorded in records.session(id, from) {
            let recorded = recorded?;
            if rows.len() >= LISTED {
                more = Some(format!("/sessions/{id}?from={}", recorded.position));
                break;
            }
            if let Body::Connected(connected) = &recorded.entry.body {
                facts.push(("Workload".to_owned(), visible(connected.workload.name.as_bytes())));
                facts.push(("Resource".to_owned(), connected.resource.clone().unwrap_or_default()));
                facts.push(("Destination".to_owned(), connected.destination.clone()));
                facts.push(("User".to_owned(), connected.process.user.clone().unwrap_or_default()));
            }
            rows.extend(line(recorded.entry.at, &recorded.entry.body));
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
fn line(at: Timestamp, body: &Body) -> Option<Row> {
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
    Some(Row { to: None, cells: vec![clock(at), what, text] })
}

async fn audit(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
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
            rows.push(Row { to: None, cells });
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

/// Reads the record on a thread of its own.
async fn read<T: Send + 'static>(
    admin: &Admin,
    work: impl FnOnce(Records) -> Result<T, RecordError> + Send + 'static,
) -> Result<T, String> {
    let records = admin.recorder.records().map_err(|error| error.to_string())?;
    match tokio::task::spawn_blocking(move || work(records)).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn missing(viewer: &Viewer, title: &str, words: &str) -> Response {
    (StatusCode::NOT_FOUND, page(console::note(Some(viewer), title, words))).into_response()
}

fn unreadable(viewer: &Viewer, error: &str) -> Response {
    let words = format!("{error}. `holdpoint verify` says more.");
    (StatusCode::SERVICE_UNAVAILABLE, page(console::note(Some(viewer), "The record cannot be read", &words)))
        .into_response()
}

/// A moment as people read it: UTC, to the second.
fn clock(at: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(at.0)) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => format!("{} ns", at.0),
    }
}

/// Requests looked at for a bot's past.
const LOOKED_AT: usize = 500;

/// Of a bot's past, requests shown.
const PAST: usize = 10;

/// Lines on one page.
const LISTED: usize = 200;

/// Of a statement in a list, bytes.
const SHOWN: usize = 2000;

/// Entries looked at for the console's own audit.
const AUDITED: u64 = 50_000;
