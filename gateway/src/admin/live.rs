//! Guarded connections that are open now: people see them, and end one.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path as InPath, State},
    http::StatusCode,
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Admin, Caller, May, PEOPLE, Problem, Route, get_with, people::note, post_with, route, says};
use crate::{live::About, operation::SessionId, people::Role};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(
            "/api/v1/sessions/live",
            May::Role(Role::Auditor),
            PEOPLE,
            get_with(list, says("listLive", "The guarded connections that are open", &[])),
        ),
        route(
            "/api/v1/sessions/{session}/termination",
            May::Role(Role::Admin),
            PEOPLE,
            post_with(terminate, says("terminate", "End one", &[404])),
        ),
    ]
}

async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<About>> {
    Json(admin.live.list())
}

/// A session, by its name.
#[derive(Debug, Deserialize, JsonSchema)]
struct Named {
    /// In short or whole.
    session: String,
}

/// The end of a connection, as asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Termination {
    /// Why: for the client and the record.
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Terminated {
    terminated: SessionId,
}

async fn terminate(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(Named { session: typed }): InPath<Named>,
    Json(Termination { reason }): Json<Termination>,
) -> Result<Json<Terminated>, Response> {
    let why = reason.as_deref().map(str::trim).filter(|why| !why.is_empty());
    let why = why.map_or_else(String::new, |why| format!(": {}", why.chars().take(LONGEST).collect::<String>()));
    let ended = admin
        .live
        .named(&typed)
        .filter(|session| admin.live.end(*session, &format!("{} ended this connection{why}", caller.person.name)));
    let Some(session) = ended else {
        let detail = format!("no open connection is called {typed}; `holdpoint sessions live` shows them");
        return Err(Problem::response(StatusCode::NOT_FOUND, "no such connection", detail));
    };
    note(&admin, &caller.person, &format!("ends session {session}{why}"));
    Ok(Json(Terminated { terminated: session }))
}

/// Of a reason, characters.
const LONGEST: usize = 500;
