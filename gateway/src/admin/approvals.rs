//! Requests over HTTP: people list, look at and decide what waits.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path as InPath, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Admin, CONSOLE, Caller, May, PEOPLE, Problem, Route, get_with, grants,
    matching::{IfMatch, Tagged},
    post_with, route, says,
    signin::{Given, Signed, question},
};
use crate::{
    hold::{self, DecideError, Decided, Terms, View},
    operation::RequestId,
    people::{Person, Role},
    record::{
        entry::{Enrolled, Outcome, Proof},
        signed::{self, Meant},
    },
};

pub(super) fn routes() -> Vec<Route> {
    let one = "/api/v1/approvals/{request}";
    vec![
        route(
            "/api/v1/approvals",
            May::Concerned,
            PEOPLE,
            get_with(list, says("listRequests", "The open requests", &[])),
        ),
        route(one, May::Concerned, PEOPLE, get_with(show, says("showRequest", "One open request, whole", &[404, 409]))),
        route(
            "/api/v1/approvals/{request}/decision",
            May::Concerned,
            PEOPLE,
            post_with(decide, says("decideRequest", "Approve or deny it", &[404, 409, 412, 428])),
        ),
        route(
            "/api/v1/approvals/{request}/challenge",
            May::Concerned,
            CONSOLE,
            post_with(
                challenge,
                says("challengeDecision", "What a passkey is to sign for a decision", &[404, 409, 412]),
            ),
        ),
        route(
            "/api/v1/requests/{request}/outcome",
            May::Users,
            PEOPLE,
            get_with(outcome, says("outcomeOfRequest", "How it stands, in one word, for whoever has its name", &[404])),
        ),
    ]
}

impl IntoResponse for DecideError {
    fn into_response(self) -> Response {
        let (status, title) = match &self {
            DecideError::Grant(error) => grants::said(error),
            DecideError::Unknown(_) => (StatusCode::NOT_FOUND, "no such request"),
            DecideError::Ambiguous(_) => (StatusCode::BAD_REQUEST, "ambiguous"),
            DecideError::Ended(..) => (StatusCode::CONFLICT, "already ended"),
            DecideError::Twice(_)
            | DecideError::PerhapsTwice(..)
            | DecideError::Spent(..)
            | DecideError::PlaceTaken(..)
            | DecideError::StepOver(..) => (StatusCode::CONFLICT, "already approved"),
            DecideError::OtherDigest(_) => (StatusCode::PRECONDITION_FAILED, "another digest"),
            DecideError::OwnRequest(..)
            | DecideError::NotAnApprover(..)
            | DecideError::NotYet(..)
            | DecideError::StepNotYet(..)
            | DecideError::Barred(..)
            | DecideError::NoGlass(_)
            | DecideError::MayNotBreak(..) => (StatusCode::FORBIDDEN, "not allowed"),
            DecideError::ReasonRequired => (StatusCode::UNPROCESSABLE_ENTITY, "reason required"),
            DecideError::TicketRequired(_) => (StatusCode::UNPROCESSABLE_ENTITY, "ticket required"),
            DecideError::PasskeyRequired(_) => (StatusCode::PRECONDITION_REQUIRED, "passkey required"),
            DecideError::Remark => (StatusCode::UNPROCESSABLE_ENTITY, "no remark"),
            DecideError::Record(_) => (StatusCode::SERVICE_UNAVAILABLE, "cannot record"),
        };
        Problem::response(status, title, self)
    }
}

/// People see the requests that they may decide on, and all of them with a role for that.
pub(super) fn may_see(person: &Person, view: &View) -> bool {
    sees_all(person) || view.asks(person)
}

/// Whether somebody sees every request, whomever it asks.
pub(super) fn sees_all(person: &Person) -> bool {
    [Role::Viewer, Role::Auditor, Role::Admin].iter().any(|role| person.roles.contains(role))
}

/// A request, by its name.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Named {
    /// In short or whole.
    pub(super) request: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Since {
    /// Answer when the version is another, and after 30 seconds at the latest.
    since: Option<u64>,
    /// Only those that came after this one, by its full name: `next` of the answer before.
    after: Option<RequestId>,
    /// So many at most.
    #[schemars(range(min = 1, max = 10_000))]
    limit: Option<NonZeroU16>,
}

/// The open requests, and a number to wait on: with `?since=NUMBER` the answer comes when something has changed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Approvals<T> {
    /// Counts up with every change.
    pub version: u64,
    /// The open requests, oldest first.
    pub requests: Vec<T>,
    /// Where there are more: what to ask for next as `after`.
    #[serde(default)]
    pub next: Option<RequestId>,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Query(Since { since, after, limit }): Query<Since>,
) -> Result<Json<Approvals<View>>, Response> {
    let person = caller.person;
    let mut changes = admin.desk.watch();
    if let Some(since) = since {
        let _ = tokio::time::timeout(LONG_POLL, changes.wait_for(|version| *version != since)).await;
    }
    let version = *changes.borrow_and_update();
    let whom = (!sees_all(&person)).then_some(&person);
    let most = limit.map_or(MOST_LISTED, |limit| usize::from(limit.get()).min(MOST_LISTED));
    let (requests, all) = admin.desk.after(whom, after, most);
    let next = requests.last().map(|last| last.request).filter(|_| all > most);
    Ok(Json(Approvals { version, requests, next }))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(Named { request }): InPath<Named>,
) -> Result<Tagged<View>, Response> {
    let person = caller.person;
    let view = admin.desk.show(&request).map_err(IntoResponse::into_response)?;
    if !may_see(&person, &view) {
        return Err(DecideError::Unknown(request).into_response());
    }
    Ok(Tagged(view.digest, view))
}

/// How long to wait for it.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Patience {
    /// Seconds.
    #[serde(default)]
    wait: u64,
}

/// How a request stands: one word, for whoever has its name, a guarded bot included. Nothing else is told here.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Standing {
    request: String,
    /// `open`, or how it ended.
    state: &'static str,
}

pub(super) async fn outcome(
    State(admin): State<Arc<Admin>>,
    InPath(Named { request }): InPath<Named>,
    Query(Patience { wait }): Query<Patience>,
) -> Result<Json<Standing>, Response> {
    let until = tokio::time::Instant::now() + Duration::from_secs(wait).min(LONG_POLL);
    let mut changes = admin.desk.watch();
    loop {
        let _ = changes.borrow_and_update();
        let outcome = admin.desk.outcome(&request).map_err(IntoResponse::into_response)?;
        let moved =
            async { tokio::time::timeout_at(until, changes.changed()).await.is_ok_and(|changed| changed.is_ok()) };
        if outcome.is_none() && moved.await {
            continue;
        }
        return Ok(Json(Standing { request, state: outcome.map_or("open", Outcome::as_str) }));
    }
}

/// A decision, as sent.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Yes or no.
    pub approve: bool,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// The digest of what the person saw; refused where it is another's.
    #[serde(default)]
    pub digest: Option<String>,
    /// The grant that the approval is to become.
    #[serde(default)]
    pub grant: Option<Terms>,
    /// The ticket that an approval names.
    #[serde(default)]
    pub ticket: Option<String>,
    /// What the person's passkey answered to [`challenge`]: as `PublicKeyCredential.toJSON()` has it.
    #[serde(default)]
    pub proof: Option<Value>,
}

pub(super) async fn decide(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(Named { request }): InPath<Named>,
    IfMatch(seen): IfMatch,
    Json(mut decision): Json<Decision>,
) -> Result<Json<Decided>, Response> {
    let person = caller.person;
    if let Some(seen) = seen
        && *decision.digest.get_or_insert_with(|| seen.clone()) != seen
    {
        return Err(DecideError::OtherDigest(request).into_response());
    }
    if !person.roles.contains(&Role::Approver) {
        let detail = "this is for people with the role `approver`";
        return Err(Problem::response(StatusCode::FORBIDDEN, "not allowed", detail));
    }
    let proof = decision.proof.clone().map(|given| proved(&admin, &request, &person, &decision, given)).transpose()?;
    let Decision { approve, reason, digest, grant, ticket, proof: _ } = decision;
    if grant.is_some() && !approve {
        let detail = "a denial cannot become a grant; leave `grant` out";
        return Err(Problem::response(StatusCode::BAD_REQUEST, "no grant", detail));
    }
    let decision = hold::Decision { approve, reason, ticket, digest, grant, proof };
    admin.desk.decide_on(&request, &person, decision).map(Json).map_err(IntoResponse::into_response)
}

/// What a passkey is to sign for this decision, by this person, now.
pub(super) async fn challenge(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(Named { request }): InPath<Named>,
    Json(decision): Json<Decision>,
) -> Result<Json<Value>, Response> {
    let person = caller.person;
    let challenge = meant(&admin, &request, &person, &decision, signed::challenge)?;
    let keys = admin.people.accounts.passkeys(&person.id);
    if keys.is_empty() {
        let detail = "you have no passkey here; an administrator gives you a link with `holdpoint people enrol`";
        return Err(Problem::response(StatusCode::CONFLICT, "no passkey", detail));
    }
    Ok(Json(serde_json::json!({ "publicKey": question(&admin, &challenge, &keys) })))
}

/// Hands what this person means by this decision to `then`: on the request as it is now.
fn meant<T>(
    admin: &Admin,
    request: &str,
    person: &Person,
    decision: &Decision,
    then: impl FnOnce(&Meant<'_>) -> T,
) -> Result<T, Response> {
    let view = admin.desk.show(request).map_err(IntoResponse::into_response)?;
    if !may_see(person, &view) {
        return Err(DecideError::Unknown(request.to_owned()).into_response());
    }
    if decision.digest.as_ref() != Some(&view.digest.to_string()) {
        return Err(DecideError::OtherDigest(view.short).into_response());
    }
    let (id, terms) = (person.id.to_string(), decision.grant.as_ref().map(Terms::to_string));
    Ok(then(&Meant {
        request: view.request,
        approve: decision.approve,
        reason: decision.reason.as_deref(),
        digest: view.digest,
        person: &id,
        terms: terms.as_deref(),
    }))
}

/// The signature under a decision, if it is this person's, for this decision.
fn proved(admin: &Admin, request: &str, person: &Person, decision: &Decision, given: Value) -> Result<Proof, Response> {
    let wrong = |why: &dyn std::fmt::Display| Problem::response(StatusCode::FORBIDDEN, "not signed", why);
    let given: Given<Signed> = serde_json::from_value(given).map_err(|error| wrong(&error))?;
    let proof = given.proof()?;
    let key = admin.people.accounts.passkey(&proof.key).filter(|key| key.person == person.id.to_string());
    let key = key.ok_or_else(|| wrong(&"this passkey is not one of yours"))?;
    let origin = admin.people.origin.as_ref().ok_or_else(|| wrong(&"there is no console here"))?;
    let key = Enrolled {
        person: key.person,
        name: person.name.clone(),
        key: proof.key.clone(),
        public: key.public.into(),
        party: origin.host.clone(),
    };
    let checked =
        meant(admin, request, person, decision, |meant| signed::check(meant, &proof, &key, Some(&origin.url)))?;
    checked.map_err(|error| wrong(&error))?;
    Ok(proof)
}

/// Requests in one answer.
const MOST_LISTED: usize = 10_000;

/// How long a waiting list request may wait.
const LONG_POLL: Duration = Duration::from_secs(30);
