//! Requests over HTTP: people list, look at and decide what waits.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path as InPath, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{Admin, Caller, Problem, grants};
use crate::{
    hold::{self, DecideError, Decided, Terms, View},
    people::{Person, Role},
};

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
            DecideError::PasskeyRequired(_) => (StatusCode::UNPROCESSABLE_ENTITY, "passkey required"),
            DecideError::Remark => (StatusCode::UNPROCESSABLE_ENTITY, "no remark"),
            DecideError::Record(_) => (StatusCode::SERVICE_UNAVAILABLE, "cannot record"),
        };
        Problem::response(status, title, self)
    }
}

/// People see the requests that they may decide on, and all of them with a role for that.
pub(super) fn may_see(person: &Person, view: &View) -> bool {
    view.asks(person) || [Role::Viewer, Role::Auditor, Role::Admin].iter().any(|role| person.roles.contains(role))
}

#[derive(Debug, Deserialize)]
pub(super) struct Since {
    since: Option<u64>,
}

/// The open requests, and a number to wait on: with `?since=NUMBER` the answer comes when something has changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Approvals<T> {
    /// Counts up with every change.
    pub version: u64,
    /// The open requests, oldest first.
    pub requests: Vec<T>,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Query(since): Query<Since>,
) -> Result<Json<Approvals<View>>, Response> {
    let person = caller.person;
    let mut changes = admin.desk.watch();
    if let Some(since) = since.since {
        let _ = tokio::time::timeout(LONG_POLL, changes.wait_for(|version| *version != since)).await;
    }
    let version = *changes.borrow_and_update();
    let requests = admin.desk.list().into_iter().filter(|view| may_see(&person, view)).collect();
    Ok(Json(Approvals { version, requests }))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(request): InPath<String>,
) -> Result<Json<View>, Response> {
    let person = caller.person;
    let view = admin.desk.show(&request).map_err(IntoResponse::into_response)?;
    if !may_see(&person, &view) {
        return Err(DecideError::Unknown(request).into_response());
    }
    Ok(Json(view))
}

/// A decision, as sent.
#[derive(Debug, Serialize, Deserialize)]
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
}

pub(super) async fn decide(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(request): InPath<String>,
    Json(decision): Json<Decision>,
) -> Result<Json<Decided>, Response> {
    let person = caller.person;
    let Decision { approve, reason, digest, grant, ticket } = decision;
    if grant.is_some() && !approve {
        let detail = "a denial cannot become a grant; leave `grant` out";
        return Err(Problem::response(StatusCode::BAD_REQUEST, "no grant", detail));
    }
    let decision = hold::Decision { approve, reason, ticket, digest, grant, proof: None };
    admin.desk.decide_on(&request, &person, decision).map(Json).map_err(IntoResponse::into_response)
}

/// How long a waiting list request may wait.
const LONG_POLL: Duration = Duration::from_secs(30);
