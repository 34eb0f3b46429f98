//! The console's pages: fetches what they show, and hands it to `console`.
//!
//! The record is read off the thread that people need, and within bounds.

mod past;
mod standing;

use std::sync::Arc;

use axum::{
    extract::{Path as InPath, State},
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};

use super::{Admin, CONSOLE, Caller, May, Route, approvals, grants, route};
use crate::{
    console::{self, Asset, Page, Past, Viewer},
    people::{Person, Role},
    record::{Lookup, RecordError, Records, RequestHistory, entry::Timestamp},
    visible::{visible, visible_start},
};

pub(super) fn routes() -> Vec<Route> {
    let (viewer, auditor) = (May::Role(Role::Viewer), May::Role(Role::Auditor));
    vec![
        route("/signin", May::Anybody, CONSOLE, get(sign_in)),
        route("/enrol/{code}", May::Anybody, CONSOLE, get(enrol)),
        route("/assets/{name}", May::Anybody, CONSOLE, get(asset)),
        route("/", May::Concerned, CONSOLE, get(inbox)),
        route("/inbox", May::Concerned, CONSOLE, get(open_requests)),
        route("/requests/{request}", May::Concerned, CONSOLE, get(request)),
        route("/grants", May::Concerned, CONSOLE, get(list_grants)),
        route("/live", auditor, CONSOLE, get(live)),
        route("/delegations", May::Concerned, CONSOLE, get(standing::delegations)),
        route("/reviews", May::Concerned, CONSOLE, get(standing::reviews)),
        route("/policies", viewer, CONSOLE, get(standing::policies)),
        route("/workloads", viewer, CONSOLE, get(standing::workloads)),
        route("/sessions", auditor, CONSOLE, get(past::sessions)),
        route("/sessions/{session}", auditor, CONSOLE, get(past::session)),
        route("/audit", auditor, CONSOLE, get(past::audit)),
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
    let viewer = viewer(&admin, &caller);
    let (open, all) = waiting(&admin, &caller.person);
    page(console::inbox(&viewer, &open, all))
}

async fn open_requests(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    let (open, all) = waiting(&admin, &caller.person);
    page(console::open_requests(&open, all))
}

/// The oldest of those that this person sees, and how many there are.
fn waiting(admin: &Admin, person: &Person) -> (Vec<crate::hold::View>, usize) {
    admin.desk.first((!approvals::sees_all(person)).then_some(person), WAITING)
}

async fn request(State(admin): State<Arc<Admin>>, caller: Caller, InPath(typed): InPath<String>) -> Response {
    let viewer = viewer(&admin, &caller);
    if let Ok(view) = admin.desk.show(&typed)
        && approvals::may_see(&caller.person, &view)
    {
        let may_decide = view.asks(&caller.person) && caller.person.roles.contains(&Role::Approver);
        let (person, workload) = (caller.person.clone(), view.workload.clone());
        let past = read(&admin, move |records| asked_before(&records, &person, &workload)).await.unwrap_or_default();
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
    approvals::sees_all(person) || history.requested.approval.everybody().any(|who| person.is(&who))
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

/// What this workload asked for before, newest first, as far as it concerns this person.
fn asked_before(records: &Records, person: &Person, workload: &str) -> Result<Vec<Past>, RecordError> {
    let mut past = Vec::new();
    for id in records.newest_requests().take(LOOKED_AT) {
        let Some(history) = records.request(id?)? else { continue };
        let Some((at, outcome)) =
            history.closed.filter(|_| history.requested.workload == workload && may_see_ended(person, &history))
        else {
            continue;
        };
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

/// The same without the day.
fn time_of_day(at: Timestamp) -> String {
    clock(at).split_once(' ').map_or_else(String::new, |(_, time)| time.to_owned())
}

/// Requests looked at for a bot's past.
const LOOKED_AT: usize = 500;

/// Of a bot's past, requests shown.
const PAST: usize = 10;

/// Requests in the inbox. Whoever has more looks at the oldest first.
const WAITING: usize = 100;

/// Lines on one page.
const LISTED: usize = 200;
