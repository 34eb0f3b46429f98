//! Signing in on a terminal: `holdpoint login` shows a code that is typed at the provider, in a browser elsewhere.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path as InPath, State},
    http::StatusCode,
    response::Response,
    routing::post,
};
use serde_json::json;

use super::{
    Admin, CONSOLE, May, Problem, Route,
    caller::Remote,
    people::note,
    route,
    signin::{signed_in, slow_down},
};
use crate::people::{Token, oidc::Provider};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route("/signin/oidc/{name}/device", May::Anybody, CONSOLE, post(begin)),
        route("/signin/oidc/{name}/device/{token}", May::Anybody, CONSOLE, post(finish)),
    ]
}

fn provider(admin: &Admin, name: &str) -> Result<Arc<Provider>, Response> {
    let detail = || format!("there is no provider {name} in `people: oidc:`");
    let found = admin.people.providers.get(name).cloned();
    found.ok_or_else(|| Problem::response(StatusCode::NOT_FOUND, "no such provider", detail()))
}

/// Asks the provider for a code. Whoever has the token of the answer is signed in once somebody has typed it there.
async fn begin(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    InPath(name): InPath<String>,
) -> Result<Json<serde_json::Value>, Response> {
    slow_down(&admin, remote)?;
    let asked = provider(&admin, &name)?;
    let device = aside(move || async move { asked.begin_device().await }).await?.map_err(|error| {
        tracing::warn!(%error, "a provider gives no code");
        Problem::response(StatusCode::BAD_GATEWAY, "no code", error)
    })?;
    let mut answer = json!({
        "code": device.code(), "address": device.address(), "whole_address": device.whole_address(),
        "seconds": device.life().as_secs(),
    });
    let life = device.life();
    answer["token"] = admin.people.devices.keep((name, device), life).reveal().into();
    Ok(Json(answer))
}

/// Waits until somebody has typed the code. A client that goes away ends it.
async fn finish(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    InPath((name, token)): InPath<(String, String)>,
) -> Result<Response, Response> {
    slow_down(&admin, remote)?;
    let begun = admin.people.devices.take(&Token::returned(&token)).filter(|(provider, _)| *provider == name);
    let Some((_, device)) = begun else {
        let detail = "no sign-in was begun with this token, or its time is over; run `holdpoint login` again";
        return Err(Problem::response(StatusCode::UNAUTHORIZED, "not signed in", detail));
    };
    let _place = admin.people.terminals.try_acquire().map_err(|_| {
        let detail = "too many people sign in on terminals now; try again in a minute";
        Problem::response(StatusCode::TOO_MANY_REQUESTS, "too many sign-ins", detail)
    })?;
    let asked = provider(&admin, &name)?;
    let subject = aside(move || async move { asked.finish_device(device).await }).await?.map_err(|error| {
        tracing::info!(%remote, %error, "somebody could not sign in on a terminal");
        Problem::response(StatusCode::UNAUTHORIZED, "not signed in", error)
    })?;
    let (cookie, person) = admin.people.vouched(subject);
    note(&admin, &person, &format!("signs in with {name} on a terminal at {remote}"));
    Ok(signed_in(&admin, &cookie, &person.name))
}

/// Does this on a thread of its own, since signatures are checked there, and gives it up when nobody waits for it.
async fn aside<T, W>(work: impl FnOnce() -> W + Send + 'static) -> Result<T, Response>
where
    T: Send + 'static,
    W: Future<Output = T>,
{
    let here = tokio::runtime::Handle::current();
    let (waits, gone) = tokio::sync::oneshot::channel::<()>();
    let done = tokio::task::spawn_blocking(move || {
        here.block_on(async {
            tokio::select! {
                done = work() => Some(done),
                _ = gone => None,
            }
        })
    });
    let done = done.await;
    drop(waits);
    let lost = || Problem::response(StatusCode::INTERNAL_SERVER_ERROR, "not signed in", "it was given up");
    done.ok().flatten().ok_or_else(lost)
}
