//! Who may sign in at the console, for the superuser over the administration socket.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Admin, Caller, May, PEOPLE, Problem, Route, SOCKET, get_with, route, says};
use crate::{
    people::{Account, AccountError, LINK_LIFE, Person, PersonId, Role},
    record::entry::{Body, Entry, Timestamp},
};

pub(super) fn routes() -> Vec<Route> {
    let people = May::Root("only root keeps people");
    vec![
        route("/api/v1/me", May::Users, PEOPLE, get_with(me, says("me", "Who asks", &[]))),
        route("/api/v1/people", people, SOCKET, get(list).post(put)),
        route("/api/v1/people/delete", people, SOCKET, post(delete)),
        route("/api/v1/people/link", people, SOCKET, post(link)),
    ]
}

/// Who asks, as the gateway knows them.
#[derive(Debug, Serialize, JsonSchema)]
struct Me {
    id: String,
    name: String,
    groups: Vec<String>,
    roles: BTreeSet<Role>,
    /// At the console: what a request that changes something must say in `x-csrf`.
    csrf: Option<String>,
}

async fn me(caller: Caller) -> Json<Me> {
    let csrf = Some(caller.csrf().to_owned()).filter(|csrf| !csrf.is_empty());
    let Person { id, name, groups, roles, .. } = caller.person;
    Json(Me { id: id.to_string(), name, groups, roles, csrf })
}

/// Somebody who may sign in.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    account: Account,
    /// How many passkeys they have; without one they cannot sign in.
    passkeys: usize,
}

async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<Listed>> {
    let listed = |account: Account| {
        let passkeys = admin.people.accounts.passkeys(&PersonId::Local(account.name.clone())).len();
        Listed { account, passkeys }
    };
    Json(admin.people.accounts.list().into_iter().map(listed).collect())
}

/// An account that was kept, and where its owner enrols a passkey.
#[derive(Debug, Serialize)]
struct Linked {
    name: String,
    /// `None` where there is no console.
    url: Option<String>,
    /// For how many seconds it works.
    seconds: u64,
}

async fn put(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Json(account): Json<Account>,
) -> Result<Json<Linked>, Response> {
    let name = account.name.clone();
    let (user, email) = (account.user.clone().unwrap_or_default(), account.email.clone().unwrap_or_default());
    let words = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(", ");
    let roles = words(&mut account.roles.iter().map(|role| role.as_str().to_owned()));
    let groups = words(&mut account.groups.iter().cloned());
    let disabled = if account.disabled { ", disabled" } else { "" };
    admin.people.accounts.put(account).map_err(IntoResponse::into_response)?;
    let what =
        format!("keeps account {name}: user `{user}`, e-mail `{email}`, groups [{groups}], roles [{roles}]{disabled}");
    note(&admin, &caller.person, &what);
    linked(&admin, &name, disabled.is_empty())
}

/// An account, by name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

async fn delete(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Json(Named { name }): Json<Named>,
) -> Result<Json<serde_json::Value>, Response> {
    admin.people.accounts.delete(&name).map_err(IntoResponse::into_response)?;
    note(&admin, &caller.person, &format!("deletes account {name} and its passkeys"));
    Ok(Json(serde_json::json!({ "deleted": name })))
}

async fn link(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Json(Named { name }): Json<Named>,
) -> Result<Json<Linked>, Response> {
    let linked = linked(&admin, &name, true)?;
    note(&admin, &caller.person, &format!("makes a link for {name} to enrol a passkey"));
    Ok(linked)
}

fn linked(admin: &Admin, name: &str, wanted: bool) -> Result<Json<Linked>, Response> {
    let seconds = LINK_LIFE.as_secs();
    let Some(origin) = admin.people.origin.as_ref().filter(|_| wanted) else {
        return Ok(Json(Linked { name: name.to_owned(), url: None, seconds }));
    };
    let token = admin.people.accounts.link(name).map_err(IntoResponse::into_response)?;
    let url = Some(format!("{}/enrol/{}", origin.url, token.reveal()));
    Ok(Json(Linked { name: name.to_owned(), url, seconds }))
}

/// Who did what at the console or to it is something that a reviewer asks about later.
pub(super) fn note(admin: &Admin, person: &Person, what: &str) {
    tracing::info!(by = person.name, what, "console");
    let (by, person) = (person.name.clone(), person.id.to_string());
    append(admin, Body::Administered { by, person, what: what.to_owned() });
}

pub(super) fn append(admin: &Admin, body: Body) {
    if let Err(error) = admin.recorder.append_written(Entry { at: Timestamp::now(), session: None, body }) {
        tracing::error!(%error, "cannot record what was done at the console");
    }
}

impl IntoResponse for AccountError {
    fn into_response(self) -> Response {
        let (status, title) = match &self {
            AccountError::Unknown(_) => (StatusCode::NOT_FOUND, "no such account"),
            AccountError::NoLink => (StatusCode::GONE, "no such link"),
            AccountError::BadName(_) | AccountError::NoUser(_) => (StatusCode::UNPROCESSABLE_ENTITY, "not an account"),
            AccountError::Taken(..) | AccountError::NameOfUser(_) => (StatusCode::CONFLICT, "somebody else's"),
            AccountError::File { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "cannot keep accounts"),
        };
        Problem::response(status, title, self)
    }
}
