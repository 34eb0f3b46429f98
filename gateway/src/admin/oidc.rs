//! Signing in with a provider of OpenID Connect: to it, back from it, and its word that somebody signed out there.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{Path as InPath, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};

use super::{
    Admin, CONSOLE, May, Problem, Route,
    caller::{Remote, cookie},
    people::note,
    route,
    signin::{ATTRIBUTES, session_cookie, set, slow_down},
};
use crate::{console, people::oidc::Provider};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route("/signin/oidc/{name}", May::Anybody, CONSOLE, get(begin)),
        route("/signin/oidc/{name}/return", May::Anybody, CONSOLE, get(finish)),
        route("/signin/oidc/{name}/logout", May::Anybody, CONSOLE, post(logged_out)),
    ]
}

fn provider(admin: &Admin, name: &str) -> Result<Arc<Provider>, Response> {
    let detail = || format!("there is no provider {name} in `people: oidc:`");
    admin.people.providers.get(name).cloned().ok_or_else(|| failed(StatusCode::NOT_FOUND, &detail()))
}

async fn begin(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    InPath(name): InPath<String>,
) -> Result<Response, Response> {
    slow_down(&admin, remote)?;
    let begun = provider(&admin, &name)?.begin().await.map_err(|error| {
        tracing::warn!(%error, "a provider cannot be asked");
        failed(StatusCode::BAD_GATEWAY, &error.to_string())
    })?;
    let mut response = Redirect::to(&begun.url).into_response();
    let kept = admin.people.away.keep(begun.pending);
    response
        .headers_mut()
        .insert(header::SET_COOKIE, set(&format!("{AWAY}={}; {ATTRIBUTES}; Max-Age=600", kept.reveal())));
    Ok(response)
}

async fn finish(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    InPath(name): InPath<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Response> {
    slow_down(&admin, remote)?;
    let pending = cookie(&headers, AWAY).and_then(|cookie| admin.people.away.take(&cookie));
    let Some(pending) = pending.filter(|pending| pending.provider() == name) else {
        let detail = "this sign-in was not begun in this browser, or more than ten minutes ago; begin it again";
        return Err(failed(StatusCode::UNAUTHORIZED, detail));
    };
    let provider = provider(&admin, &name)?;
    // Signatures are checked there: not on the thread that people need.
    let here = tokio::runtime::Handle::current();
    let finishing = move || here.block_on(provider.finish(pending, &query.unwrap_or_default()));
    let finished = tokio::task::spawn_blocking(finishing).await;
    let finished = finished.map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))?;
    let subject = finished.map_err(|error| {
        tracing::info!(%remote, %error, "somebody could not sign in");
        failed(StatusCode::UNAUTHORIZED, &error.to_string())
    })?;
    let (token, person) = admin.people.vouched(subject);
    note(&admin, &person, &format!("signs in with {name} from {remote}"));
    let mut response = Redirect::to("/").into_response();
    response.headers_mut().append(header::SET_COOKIE, session_cookie(&admin, &token));
    response.headers_mut().append(header::SET_COOKIE, set(&format!("{AWAY}=; {ATTRIBUTES}; Max-Age=0")));
    Ok(response)
}

/// Back-Channel Logout 1.0, section 2.5: the provider itself asks, and proves itself by what it signed.
async fn logged_out(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    InPath(name): InPath<String>,
    body: Bytes,
) -> Result<Response, Response> {
    let provider = provider(&admin, &name)?;
    let form = String::from_utf8_lossy(&body);
    // A token is base64url and dots: nothing in it is ever encoded.
    let token = form.split('&').find_map(|pair| pair.strip_prefix("logout_token=")).unwrap_or_default();
    let gone = provider.logged_out(token).await.map_err(|error| {
        tracing::info!(%remote, %error, "a word that somebody signed out does not count");
        Problem::response(StatusCode::BAD_REQUEST, "not signed out", error)
    })?;
    let ended = admin.people.sessions.end_at_provider(&gone);
    tracing::info!(provider = name, ended, "somebody signed out at a provider");
    Ok(StatusCode::OK.into_response())
}

/// A page, since a person looks at it.
fn failed(status: StatusCode, words: &str) -> Response {
    (status, Html(console::note(None, "Not signed in", words).into_string())).into_response()
}

/// The cookie of a browser that is at a provider.
const AWAY: &str = "__Host-holdpoint-away";
