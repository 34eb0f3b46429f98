//! `Idempotency-Key`: what a program asks again, because it never heard the answer, is done once and answered alike.
//!
//! As `draft-ietf-httpapi-idempotency-key-header` has it: the key is the caller's own, counts for one path, and must come
//! with the same body. Kept in memory for [`LIFE`], and only so many; after a restart a decision that is sent again finds
//! that it was made.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{Admin, Caller, Problem, web::LONGEST_BODY};

/// What was answered to whom.
#[derive(Default)]
pub struct Answered(Mutex<HashMap<Asked, Known>>);

/// Who asks, where, under which key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked(String, String, String);

struct Known {
    body: [u8; 32],
    /// `None` while it is being done.
    answer: Option<(StatusCode, HeaderMap, Bytes)>,
    until: Instant,
}

/// Takes an entry back if nothing was answered: whoever asks again is served then.
struct UnderWay<'a>(&'a Answered, Option<Asked>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(asked) = self.1.take() {
            self.0.known().remove(&asked);
        }
    }
}

/// Does what is asked under a key once.
pub(super) async fn once(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let key = request.headers().get(KEY).filter(|_| *request.method() == Method::POST).cloned();
    let caller = request.extensions().get::<Caller>().map(|caller| caller.person.id.to_string());
    let (Some(key), Some(caller)) = (key, caller) else { return next.run(request).await };
    let Some(key) = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY) else {
        let detail = format!("`{KEY}` is 1 to {LONGEST_KEY} visible characters");
        return Problem::response(StatusCode::BAD_REQUEST, "no key", detail);
    };
    let asked = Asked(caller, request.uri().path().to_owned(), key.to_owned());
    let (parts, body): (Parts, Body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LONGEST_BODY).await else {
        return Problem::response(StatusCode::PAYLOAD_TOO_LARGE, "too large", "the body is too large or broke off");
    };
    let hash = Sha256::digest(&body).into();
    if let Some(answer) = admin.answered.begin(&asked, hash) {
        return answer;
    }
    let mut under_way = UnderWay(&admin.answered, Some(asked));
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (parts, body) = response.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LONGEST_BODY).await else {
        return Problem::response(StatusCode::INTERNAL_SERVER_ERROR, "no answer", "it was done; look how it stands");
    };
    // What went wrong here may go better the next time.
    if let Some(asked) = under_way.1.take_if(|_| !parts.status.is_server_error()) {
        admin.answered.end(asked, (parts.status, parts.headers.clone(), body.clone()));
    }
    Response::from_parts(parts, Body::from(body))
}

impl Answered {
    /// The answer that there is already, or that there can be none; `None`: it is to be done, and is noted as under way.
    fn begin(&self, asked: &Asked, body: [u8; 32]) -> Option<Response> {
        let now = Instant::now();
        let mut known = self.known();
        known.retain(|_, known| now < known.until);
        match known.get(asked) {
            Some(before) if before.body != body => {
                let detail = "this key came with another body before; use a new key for a new request";
                return Some(Problem::response(StatusCode::UNPROCESSABLE_ENTITY, "key used", detail));
            }
            Some(Known { answer: Some((status, headers, body)), .. }) => {
                return Some((*status, headers.clone(), body.clone()).into_response());
            }
            Some(_) => {
                let detail = "the request with this key is still being served; ask again in a moment";
                return Some(Problem::response(StatusCode::CONFLICT, "under way", detail));
            }
            None => {}
        }
        if known.len() >= MOST {
            // Whoever floods this pushes out what would have ended first.
            let oldest = known.iter().min_by_key(|(_, known)| known.until).map(|(asked, _)| asked.clone());
            oldest.and_then(|asked| known.remove(&asked));
        }
        known.insert(asked.clone(), Known { body, answer: None, until: now + LIFE });
        None
    }

    fn end(&self, asked: Asked, answer: (StatusCode, HeaderMap, Bytes)) {
        if let Some(known) = self.known().get_mut(&asked) {
            known.answer = Some(answer);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Asked, Known>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

/// The header's name.
pub(super) const KEY: &str = "idempotency-key";

/// Of a key, bytes.
pub(super) const LONGEST_KEY: usize = 255;

/// For how long an answer is kept.
const LIFE: Duration = Duration::from_secs(10 * 60);

/// Answers at once; most are a few hundred bytes.
const MOST: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(key: &str) -> Asked {
        Asked("local:ada".to_owned(), "/api/v1/approvals/1/decision".to_owned(), key.to_owned())
    }

    fn done(answered: &Answered, key: &str) {
        answered.end(asked(key), (StatusCode::CREATED, HeaderMap::new(), Bytes::from_static(b"done")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_again_is_answered_alike_for_a_while() {
        let answered = Answered::default();
        let code = |key, body| answered.begin(&asked(key), [body; 32]).map(|answer| answer.status().as_u16());
        assert_eq!(code("a", 1), None, "it is to be done");
        assert_eq!(code("a", 1), Some(409), "it is being done");
        done(&answered, "a");
        assert_eq!((code("a", 1), code("a", 1)), (Some(201), Some(201)));
        assert_eq!(code("a", 2), Some(422), "another body");
        assert_eq!(code("b", 2), None, "another key");
        let other = Asked("local:eve".to_owned(), "/api/v1/approvals/1/decision".to_owned(), "a".to_owned());
        assert!(answered.begin(&other, [1; 32]).is_none(), "a key is its sender's own");
        tokio::time::advance(LIFE).await;
        assert_eq!(code("a", 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_to_nothing_may_be_asked_again() {
        let answered = Answered::default();
        assert!(answered.begin(&asked("a"), [1; 32]).is_none());
        drop(UnderWay(&answered, Some(asked("a"))));
        assert!(answered.begin(&asked("a"), [1; 32]).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_keys_takes_no_more_memory() {
        let answered = Answered::default();
        for key in 0..MOST + 10 {
            assert!(answered.begin(&asked(&key.to_string()), [1; 32]).is_none());
        }
        assert_eq!(answered.known().len(), MOST);
    }
}
