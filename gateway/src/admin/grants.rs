//! Grants over the administration socket: those whom the rule asks, and the superuser, see and revoke them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path as InPath, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Admin, Caller, May, PEOPLE, Problem, Route, get_with, post_with, route, says};
use crate::{
    hold::{GrantError, GrantView},
    operation::{GrantId, SessionId},
    people::{Person, Role},
};

pub(super) fn routes() -> Vec<Route> {
    let concerned = |path, methods| route(path, May::Concerned, PEOPLE, methods);
    vec![
        concerned("/api/v1/grants", get_with(list, says("listGrants", "The grants in force", &[]))),
        concerned("/api/v1/grants/{grant}", get_with(show, says("showGrant", "One grant", &[404, 409]))),
        concerned(
            "/api/v1/grants/{grant}/revocation",
            post_with(revoke, says("revokeGrant", "Take it back, and end what it let through", &[404, 409])),
        ),
    ]
}

/// A grant, by its name.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Named {
    /// In short or whole.
    grant: String,
}

impl IntoResponse for GrantError {
    fn into_response(self) -> Response {
        let (status, title) = said(&self);
        Problem::response(status, title, self)
    }
}

/// An error as HTTP has it.
pub(super) fn said(error: &GrantError) -> (StatusCode, &'static str) {
    match error {
        GrantError::Unknown(_) => (StatusCode::NOT_FOUND, "no such grant"),
        GrantError::Ambiguous(_) => (StatusCode::BAD_REQUEST, "ambiguous"),
        GrantError::Ended(..) => (StatusCode::CONFLICT, "already ended"),
        GrantError::OtherTerms(..) => (StatusCode::CONFLICT, "approved on other terms"),
        GrantError::NotAnApprover(..) => (StatusCode::FORBIDDEN, "not allowed"),
        GrantError::NoShape(_)
        | GrantError::Bounds
        | GrantError::NoSuchValue(..)
        | GrantError::FixedValues(_)
        | GrantError::NamingValues(_) => (StatusCode::UNPROCESSABLE_ENTITY, "no grant"),
        GrantError::Record(_) => (StatusCode::SERVICE_UNAVAILABLE, "cannot record"),
    }
}

pub(super) fn may_see(person: &Person, view: &GrantView) -> bool {
    view.asks(person) || [Role::Viewer, Role::Auditor, Role::Admin].iter().any(|role| person.roles.contains(role))
}

pub(super) async fn list(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<Vec<GrantView>>, Response> {
    let person = caller.person;
    Ok(Json(admin.desk.grants().into_iter().filter(|view| may_see(&person, view)).collect()))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(Named { grant }): InPath<Named>,
) -> Result<Json<GrantView>, Response> {
    let person = caller.person;
    let view = admin.desk.show_grant(&grant).map_err(IntoResponse::into_response)?;
    if !may_see(&person, &view) {
        return Err(GrantError::Unknown(grant).into_response());
    }
    Ok(Json(view))
}

/// A revocation, as sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Revocation {
    #[serde(default)]
    reason: Option<String>,
}

/// What was revoked, and what ended with it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Revoked {
    revoked: GrantId,
    /// The open connections in which it had released something.
    ended: Vec<SessionId>,
}

pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(Named { grant }): InPath<Named>,
    Json(revocation): Json<Revocation>,
) -> Result<Json<Revoked>, Response> {
    let person = caller.person;
    let revoked = admin.desk.revoke(&grant, &person, revocation.reason).map_err(IntoResponse::into_response)?;
    let why = format!("{} revoked grant {}, which this connection had used", person.name, revoked.grant.short());
    let ended = revoked.users.into_iter().filter(|session| admin.live.end(*session, &why)).collect();
    Ok(Json(Revoked { revoked: revoked.grant, ended }))
}
