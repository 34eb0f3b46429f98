//! Errors as RFC 9457 has them, whoever finds them: a handler, or the HTTP library before it.

use axum::{
    Json,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use http_body_util::BodyExt as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::caller::wants_page;
use crate::{console, visible::visible_start};

/// What went wrong, why, and what to do next.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Problem {
    /// What went wrong, in words that stay the same.
    title: &'static str,
    /// The answer's status code.
    status: u16,
    /// This case of it, for people.
    detail: String,
}

/// Their media type.
pub(super) const MEDIA: &str = "application/problem+json";

impl Problem {
    pub(super) fn response(status: StatusCode, title: &'static str, detail: impl ToString) -> Response {
        let problem = Problem { title, status: status.as_u16(), detail: detail.to_string() };
        (status, [(header::CONTENT_TYPE, MEDIA)], Json(problem)).into_response()
    }
}

/// Puts what the HTTP library says of a request (no such path, no such method, a body that is none) as the gateway's own
/// errors are put, and shows it on a page to whoever looks at one.
pub(super) async fn in_words(request: Request, next: Next) -> Response {
    let (page, path) = (wants_page(request.headers()), visible_start(request.uri().path().as_bytes(), LONGEST));
    let response = next.run(request).await;
    let said = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let bare = said.is_none_or(|kind| kind.starts_with(b"text/plain"));
    let status = response.status();
    if !bare || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let said = body.collect().await.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
    let (title, detail) = match (status, said.unwrap_or_default()) {
        (StatusCode::NOT_FOUND, said) if said.is_empty() => {
            ("not found", format!("there is nothing at {path}; `holdpoint api` prints what there is"))
        }
        (StatusCode::METHOD_NOT_ALLOWED, said) if said.is_empty() => {
            ("not this method", format!("{path} takes other methods: see `allow`"))
        }
        (StatusCode::PAYLOAD_TOO_LARGE, said) => ("too large", said),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, said) => ("not JSON", said),
        (_, said) => ("not understood", said),
    };
    let body = match page {
        true => Html(console::note(None, title, &detail).into_string()).into_response(),
        false => Problem::response(status, title, detail),
    };
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    (status, parts.headers, body).into_response()
}

/// Of a path, characters.
const LONGEST: usize = 200;
