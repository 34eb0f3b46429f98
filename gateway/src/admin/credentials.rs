//! Credentials over the administration socket: for the superuser, outside guarded workloads. Values come in and never
//! go out.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{Admin, Problem};
use crate::{
    credentials::{About, Put, Resealed, Secret, VaultError},
    record::entry::{Body, Entry, Timestamp},
};

/// A credential to keep. Its value has no way to be printed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keep {
    name: String,
    #[serde(default)]
    user: Option<String>,
    value: String,
    /// Whether it must be there already.
    #[serde(default)]
    rotate: bool,
}

/// A credential to forget.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forget {
    name: String,
}

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<Vec<About>>, Response> {
    Ok(Json(admin.vault.list()))
}

pub(super) async fn put(State(admin): State<Arc<Admin>>, Json(keep): Json<Keep>) -> Result<Json<About>, Response> {
    let Keep { name, user, value, rotate } = keep;
    let value = Secret::new(value.into_bytes());
    let done = apart(async move {
        let put = if rotate { Put::Rotate } else { Put::Set };
        let about = admin.vault.put(&name, user, &value, put).await?;
        note(&admin, &format!("credential {} was set, version {}", about.name, about.version));
        Ok(about)
    });
    done.await
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Json(Forget { name }): Json<Forget>,
) -> Result<Json<About>, Response> {
    let done = apart(async move {
        let about = admin.vault.delete(&name).await?;
        note(&admin, &format!("credential {} was deleted", about.name));
        Ok(about)
    });
    done.await
}

pub(super) async fn reseal(State(admin): State<Arc<Admin>>) -> Result<Json<Resealed>, Response> {
    let done = apart(async move {
        let resealed = admin.vault.reseal().await;
        match &resealed {
            Ok(done) => {
                note(&admin, &format!("{} credentials were sealed anew, with {}", done.credentials, done.sealed_with))
            }
            Err(error) => note(&admin, &format!("credentials were to be sealed anew: {error}")),
        }
        resealed
    });
    done.await
}

/// Writes to disk, and is done to its end whether or not somebody waits for it: not on the thread that people need.
async fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T, VaultError>> + Send + 'static,
) -> Result<Json<T>, Response> {
    let here = tokio::runtime::Handle::current();
    match tokio::task::spawn_blocking(move || here.block_on(work)).await {
        Ok(done) => done.map(Json).map_err(IntoResponse::into_response),
        Err(error) => Err(Problem::response(StatusCode::INTERNAL_SERVER_ERROR, "not done", error)),
    }
}

/// Who may log in with what is something that a reviewer asks about later.
fn note(admin: &Admin, what: &str) {
    tracing::info!(what, "credentials");
    let entry = Entry { at: Timestamp::now(), session: None, body: Body::Incident { what: what.to_owned() } };
    if let Err(error) = admin.recorder.append_written(entry) {
        tracing::error!(%error, "cannot record a change of credentials");
    }
}

impl IntoResponse for VaultError {
    fn into_response(self) -> Response {
        let (status, title) = match &self {
            VaultError::Unknown(_) => (StatusCode::NOT_FOUND, "no such credential"),
            VaultError::BadName(_) | VaultError::BadValue => (StatusCode::UNPROCESSABLE_ENTITY, "not a credential"),
            VaultError::File { .. }
            | VaultError::NotSealed { .. }
            | VaultError::Key { .. }
            | VaultError::Stopped { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "cannot keep credentials"),
        };
        Problem::response(status, title, self)
    }
}
