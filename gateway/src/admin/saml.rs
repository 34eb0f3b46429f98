//! Signing in with a provider of SAML 2.0: to it, and back from it in two steps.
//!
//! # Security
//! The provider's page makes the browser post its answer here, from another site: no cookie of ours comes along
//! (`SameSite=Lax`), and the request's `Origin` is not ours. So that route alone is open to other sites' pages
//! (`May::Brought`), and begins no session: it sends the browser on to `finish`, by an ordinary request of its own that has
//! the cookie of the sign-in's beginning. An answer that another browser began finds none.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{Path as InPath, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};

use super::{
    Admin, CONSOLE, May, Route,
    caller::{Remote, cookie},
    people::note,
    route,
    signin::{ATTRIBUTES, session_cookie, set, slow_down},
};
use crate::{
    console,
    people::saml::{PATIENCE, Provider},
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route("/signin/saml/{name}", May::Anybody, CONSOLE, get(begin)),
        route("/signin/saml/{name}/acs", May::Brought, CONSOLE, post(answer)),
        route("/signin/saml/{name}/finish", May::Anybody, CONSOLE, get(finish)),
        route("/signin/saml/{name}/metadata", May::Anybody, CONSOLE, get(metadata)),
    ]
}

fn provider(admin: &Admin, name: &str) -> Result<Arc<Provider>, Response> {
    let detail = || format!("there is no provider {name} in `people: saml:`");
    admin.people.saml.get(name).cloned().ok_or_else(|| failed(StatusCode::NOT_FOUND, &detail()))
}

async fn begin(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    InPath(name): InPath<String>,
) -> Result<Response, Response> {
    slow_down(&admin, remote)?;
    let provider = provider(&admin, &name)?;
    let own = admin.clone();
    // It may sign.
    let begun = tokio::task::spawn_blocking(move || own.people.saml.begin(&provider)).await;
    let begun = begun.map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))?;
    let begun = begun.map_err(|error| {
        tracing::warn!(%error, "nobody can sign in with a provider");
        failed(StatusCode::BAD_GATEWAY, &error.to_string())
    })?;
    let mut response = Redirect::to(&begun.url).into_response();
    let kept = format!("{AWAY}={}; {ATTRIBUTES}; Max-Age={}", begun.cookie.reveal(), PATIENCE.as_secs());
    response.headers_mut().insert(header::SET_COOKIE, set(&kept));
    Ok(response)
}

async fn answer(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    InPath(name): InPath<String>,
    body: Bytes,
) -> Result<Response, Response> {
    slow_down(&admin, remote)?;
    let provider = provider(&admin, &name)?;
    let own = admin.clone();
    // Signatures are checked there: not on the thread that people need.
    let read = tokio::task::spawn_blocking(move || own.people.saml.answer(&provider, &body)).await;
    let read = read.map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))?;
    read.map_err(|error| {
        tracing::info!(%remote, %error, "somebody could not sign in");
        failed(StatusCode::UNAUTHORIZED, &error.to_string())
    })?;
    Ok(Redirect::to(&format!("/signin/saml/{name}/finish")).into_response())
}

async fn finish(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    InPath(name): InPath<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    // The two steps before were counted.
    let provider = provider(&admin, &name)?;
    let subject = cookie(&headers, AWAY).and_then(|cookie| admin.people.saml.finish(&provider, &cookie));
    let Some(subject) = subject else {
        let detail = "this sign-in was not begun in this browser, or more than ten minutes ago; begin it again";
        return Err(failed(StatusCode::UNAUTHORIZED, detail));
    };
    let (token, person) = admin.people.vouched(subject);
    note(&admin, &person, &format!("signs in with {name} from {remote}"));
    let mut response = Redirect::to("/").into_response();
    response.headers_mut().append(header::SET_COOKIE, session_cookie(&admin, &token));
    response.headers_mut().append(header::SET_COOKIE, set(&format!("{AWAY}=; {ATTRIBUTES}; Max-Age=0")));
    Ok(response)
}

/// For whoever registers the gateway at the provider.
async fn metadata(State(admin): State<Arc<Admin>>, InPath(name): InPath<String>) -> Result<Response, Response> {
    let provider = provider(&admin, &name)?;
    Ok(([(header::CONTENT_TYPE, "application/samlmetadata+xml")], provider.metadata()).into_response())
}

/// A page, since a person looks at it.
fn failed(status: StatusCode, words: &str) -> Response {
    (status, Html(console::note(None, "Not signed in", words).into_string())).into_response()
}

/// The cookie of a browser that is at a provider.
const AWAY: &str = "__Host-holdpoint-saml";
