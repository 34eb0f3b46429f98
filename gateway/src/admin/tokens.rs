//! Tokens of programs, for the superuser over the administration socket.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{Admin, Caller, May, Problem, Route, SOCKET, people::note, route};
use crate::people::{Program, ProgramError, Role};

pub(super) fn routes() -> Vec<Route> {
    let tokens = May::Root("only root keeps tokens");
    vec![
        route("/api/v1/tokens", tokens, SOCKET, get(list).post(admit)),
        route("/api/v1/tokens/delete", tokens, SOCKET, post(dismiss)),
    ]
}

async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<Program>> {
    Json(admin.people.programs.list())
}

/// A program, as asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    roles: BTreeSet<Role>,
    seconds: u64,
}

/// A program, and its token: this once.
#[derive(Debug, Serialize)]
struct Admitted {
    #[serde(flatten)]
    program: Program,
    token: String,
    /// Where it asks; `None` where there is no console.
    url: Option<String>,
}

async fn admit(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Json(Wanted { name, roles, seconds }): Json<Wanted>,
) -> Result<Json<Admitted>, Response> {
    let words = roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
    let admitted = admin.people.programs.admit(&name, roles, Duration::from_secs(seconds));
    let (program, token) = admitted.map_err(IntoResponse::into_response)?;
    note(&admin, &caller.person, &format!("makes token {name} with roles [{words}] for {seconds} s"));
    let url = admin.people.origin.as_ref().map(|origin| origin.url.clone());
    Ok(Json(Admitted { program, token: token.reveal().to_owned(), url }))
}

/// A token, by name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

async fn dismiss(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Json(Named { name }): Json<Named>,
) -> Result<Json<serde_json::Value>, Response> {
    admin.people.programs.dismiss(&name).map_err(IntoResponse::into_response)?;
    note(&admin, &caller.person, &format!("deletes token {name}"));
    Ok(Json(serde_json::json!({ "deleted": name })))
}

impl IntoResponse for ProgramError {
    fn into_response(self) -> Response {
        let (status, title) = match &self {
            ProgramError::Unknown(_) => (StatusCode::NOT_FOUND, "no such token"),
            ProgramError::BadName(_) | ProgramError::Bounds => (StatusCode::UNPROCESSABLE_ENTITY, "no token"),
            ProgramError::Taken(_) => (StatusCode::CONFLICT, "there is one"),
            ProgramError::File { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "cannot keep tokens"),
        };
        Problem::response(status, title, self)
    }
}
