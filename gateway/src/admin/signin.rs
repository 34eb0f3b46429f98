//! The way into the console: passkeys, enrolled by a link that works once.
//!
//! The browser's side is as `PublicKeyCredential.parseRequestOptionsFromJSON`, `parseCreationOptionsFromJSON` and `toJSON`
//! have it (Web Authentication Level 3, section 5.1): every sequence of bytes in base64url.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path as InPath, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Admin, CONSOLE, Caller, May, Problem, Route, Way,
    caller::{COOKIE, Remote},
    people::{append, note},
    route,
};
use crate::{
    passkey::Assertion,
    people::{CEREMONY, Passkey, Purpose, SignInError, Token},
    record::entry::{Body, Enrolled, Proof},
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route("/signin/passkey/begin", May::Anybody, CONSOLE, post(begin)),
        route("/signin/passkey/finish", May::Anybody, CONSOLE, post(finish)),
        route("/enrol/{code}/begin", May::Anybody, CONSOLE, post(begin_enrolment)),
        route("/enrol/{code}/finish", May::Anybody, CONSOLE, post(finish_enrolment)),
        route("/signout", May::Users, CONSOLE, post(sign_out)),
    ]
}

type Answer = Result<Response, Response>;

async fn begin(State(admin): State<Arc<Admin>>, Extension(Remote(remote)): Extension<Remote>) -> Answer {
    slow_down(&admin, remote)?;
    let challenge = admin.people.ceremonies.keep(Purpose::SignIn, CEREMONY);
    Ok(Json(json!({ "publicKey": question(&admin, challenge.reveal().as_bytes(), &[]) })).into_response())
}

/// What a browser is to ask a passkey for.
pub(super) fn question(admin: &Admin, challenge: &[u8], keys: &[Passkey]) -> Value {
    let host = admin.people.origin.as_ref().map_or("", |origin| origin.host.as_str());
    let allowed = keys.iter().map(|key| json!({ "type": "public-key", "id": URL_SAFE_NO_PAD.encode(&key.key) }));
    json!({
        "challenge": URL_SAFE_NO_PAD.encode(challenge),
        "rpId": host,
        "timeout": TIMEOUT,
        "userVerification": "required",
        "allowCredentials": allowed.collect::<Vec<_>>(),
    })
}

/// What a browser gives back.
#[derive(Debug, Deserialize)]
pub(super) struct Given<R> {
    id: String,
    response: R,
}

/// A signature.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Signed {
    authenticator_data: String,
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    signature: String,
}

impl Given<Signed> {
    /// As the record keeps it; nothing of it is believed yet.
    pub(super) fn proof(&self) -> Result<Proof, Response> {
        Ok(Proof {
            key: bytes(&self.id)?.into(),
            authenticator: bytes(&self.response.authenticator_data)?.into(),
            client: bytes(&self.response.client_data)?.into(),
            signature: bytes(&self.response.signature)?.into(),
        })
    }
}

/// A new passkey.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    attestation_object: String,
    #[serde(rename = "clientDataJSON")]
    client_data: String,
}

#[derive(Debug, Deserialize)]
struct Finish<R> {
    credential: Given<R>,
}

async fn finish(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    Json(Finish { credential }): Json<Finish<Signed>>,
) -> Answer {
    slow_down(&admin, remote)?;
    let Proof { key, authenticator, client, signature } = credential.proof()?;
    let assertion = Assertion { authenticator: &authenticator, client: &client, signature: &signature };
    let (cookie, person) = admin.people.sign_in(&key, &assertion).map_err(|error| {
        tracing::info!(%remote, %error, "somebody could not sign in");
        error.into_response()
    })?;
    note(&admin, &person, &format!("signs in with a passkey from {remote}"));
    Ok(signed_in(&admin, &cookie, &person.name))
}

async fn begin_enrolment(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    InPath(code): InPath<String>,
) -> Answer {
    slow_down(&admin, remote)?;
    let Some(name) = admin.people.accounts.linked(&code) else {
        return Err(crate::people::AccountError::NoLink.into_response());
    };
    let host = admin.people.origin.as_ref().map_or("", |origin| origin.host.as_str());
    let challenge = admin.people.ceremonies.keep(Purpose::Enrol(code), CEREMONY);
    let algorithms = [-7, -8, -257].map(|algorithm| json!({ "type": "public-key", "alg": algorithm }));
    Ok(Json(json!({ "publicKey": {
        "challenge": URL_SAFE_NO_PAD.encode(challenge.reveal()),
        "rp": { "id": host, "name": "Holdpoint" },
        "user": { "id": URL_SAFE_NO_PAD.encode(format!("local:{name}")), "name": name, "displayName": name },
        "pubKeyCredParams": algorithms,
        "timeout": TIMEOUT,
        "attestation": "none",
        "authenticatorSelection": { "residentKey": "required", "requireResidentKey": true, "userVerification": "required" },
    } }))
    .into_response())
}

async fn finish_enrolment(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    InPath(code): InPath<String>,
    Json(Finish { credential }): Json<Finish<Made>>,
) -> Answer {
    slow_down(&admin, remote)?;
    let (attestation, client) =
        (bytes(&credential.response.attestation_object)?, bytes(&credential.response.client_data)?);
    let (cookie, person, registered) =
        admin.people.enrol(&code, &attestation, &client).map_err(IntoResponse::into_response)?;
    let party = admin.people.origin.as_ref().map(|origin| origin.host.clone()).unwrap_or_default();
    append(
        &admin,
        Body::Enrolled(Box::new(Enrolled {
            person: person.id.to_string(),
            name: person.name.clone(),
            key: registered.key.into(),
            public: registered.public.into(),
            party,
        })),
    );
    note(&admin, &person, &format!("enrols a passkey from {remote} and signs in"));
    Ok(signed_in(&admin, &cookie, &person.name))
}

async fn sign_out(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    if let Way::Console { cookie, .. } = &caller.way {
        admin.people.sessions.end(cookie);
    }
    note(&admin, &caller.person, "signs out");
    let mut response = Json(json!({ "signed_out": true })).into_response();
    response.headers_mut().insert(header::SET_COOKIE, set(&format!("{COOKIE}=; {ATTRIBUTES}; Max-Age=0")));
    response.headers_mut().insert("clear-site-data", HeaderValue::from_static("\"cache\", \"storage\""));
    response
}

pub(super) fn signed_in(admin: &Admin, cookie: &Token, name: &str) -> Response {
    let mut response = Json(json!({ "signed_in": name })).into_response();
    response.headers_mut().insert(header::SET_COOKIE, session_cookie(admin, cookie));
    response
}

pub(super) fn session_cookie(admin: &Admin, cookie: &Token) -> HeaderValue {
    let life = admin.people.sessions.absolute().as_secs();
    set(&format!("{COOKIE}={}; {ATTRIBUTES}; Max-Age={life}", cookie.reveal()))
}

pub(super) fn set(cookie: &str) -> HeaderValue {
    HeaderValue::from_str(cookie).expect("tokens and these attributes are ASCII")
}

pub(super) fn slow_down(admin: &Admin, remote: std::net::IpAddr) -> Result<(), Response> {
    if admin.people.attempts.take(remote) {
        return Ok(());
    }
    let detail = "too many attempts from this address; wait a few seconds and try again";
    let mut response = Problem::response(StatusCode::TOO_MANY_REQUESTS, "too many attempts", detail);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    Err(response)
}

pub(super) fn bytes(text: &str) -> Result<Vec<u8>, Response> {
    let wrong = |_| Problem::response(StatusCode::BAD_REQUEST, "not base64", "the browser's answer cannot be read");
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(wrong)
}

impl IntoResponse for SignInError {
    fn into_response(self) -> Response {
        match self {
            SignInError::Account(error) => error.into_response(),
            other => Problem::response(StatusCode::UNAUTHORIZED, "not signed in", other),
        }
    }
}

/// With these a cookie goes over TLS only, to this host only, and no script reads it. `Lax`: a link in a chat or a mail
/// leads to the page, and requests that change anything must name the session's own token besides.
pub(super) const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";

/// How long a browser waits for a passkey, milliseconds.
const TIMEOUT: u32 = 5 * 60 * 1000;
