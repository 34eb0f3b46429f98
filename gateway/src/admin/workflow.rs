//! What people do with requests beside deciding, over HTTP: remarks, breaking the glass and the
//! reviews of that, and lending what one may decide.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path as InPath, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Admin, Caller, May, PEOPLE, Problem, Route, approvals::Named, get_with, post_with, route, says};
use crate::{
    hold::{self, DelegateError, DelegationView, ReviewError, ReviewView},
    operation::{DelegationId, ReviewId},
    people::Person,
    record::entry::Remark,
};

pub(super) fn routes() -> Vec<Route> {
    let concerned = |path, methods| route(path, May::Concerned, PEOPLE, methods);
    vec![
        concerned(
            "/api/v1/approvals/{request}/remarks",
            post_with(say, says("remarkOnRequest", "Say something about it, which decides nothing", &[404, 409])),
        ),
        concerned(
            "/api/v1/approvals/{request}/break-glass",
            post_with(break_glass, says("breakGlass", "Release it alone, in an emergency", &[404, 409, 412])),
        ),
        concerned(
            "/api/v1/delegations",
            get_with(delegations, says("listDelegations", "Who lends to whom what they may decide", &[]))
                .post_with(delegate, says("delegate", "Lend what one may decide", &[409])),
        ),
        concerned(
            "/api/v1/delegations/{delegation}/end",
            post_with(end_delegation, says("endDelegation", "Take it back", &[404])),
        ),
        concerned(
            "/api/v1/reviews",
            get_with(reviews, says("listReviews", "Emergencies that nobody has reviewed", &[])),
        ),
        concerned("/api/v1/reviews/{review}", post_with(review, says("review", "Review one", &[404]))),
    ]
}

/// A delegation, by its name.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Lent {
    /// In short or whole.
    delegation: String,
}

/// A review, by its name.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ToReview {
    /// In short or whole.
    review: String,
}

impl IntoResponse for DelegateError {
    fn into_response(self) -> Response {
        let (status, title) = match &self {
            DelegateError::Unknown(_) => (StatusCode::NOT_FOUND, "no such delegation"),
            DelegateError::Ambiguous(_) => (StatusCode::BAD_REQUEST, "ambiguous"),
            DelegateError::NotTheirs(..) | DelegateError::Program => (StatusCode::FORBIDDEN, "not allowed"),
            DelegateError::TooMany(_) => (StatusCode::CONFLICT, "too many delegations"),
            DelegateError::Bounds | DelegateError::ToWhom(_) | DelegateError::NotYours(..) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "no delegation")
            }
            DelegateError::Record(_) => (StatusCode::SERVICE_UNAVAILABLE, "cannot record"),
        };
        Problem::response(status, title, self)
    }
}

impl IntoResponse for ReviewError {
    fn into_response(self) -> Response {
        let (status, title) = match &self {
            ReviewError::Unknown(_) => (StatusCode::NOT_FOUND, "no such review"),
            ReviewError::Ambiguous(_) => (StatusCode::BAD_REQUEST, "ambiguous"),
            ReviewError::Own(_) | ReviewError::NotTheirs(..) => (StatusCode::FORBIDDEN, "not allowed"),
            ReviewError::Text => (StatusCode::UNPROCESSABLE_ENTITY, "no review"),
            ReviewError::Record(_) => (StatusCode::SERVICE_UNAVAILABLE, "cannot record"),
        };
        Problem::response(status, title, self)
    }
}

/// A remark, as sent.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    kind: Remark,
    text: String,
}

pub(super) async fn say(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(Named { request }): InPath<Named>,
    Json(said): Json<Said>,
) -> Result<Json<Said>, Response> {
    let person = caller.person;
    admin.desk.say(&request, &person, said.kind, &said.text).map_err(IntoResponse::into_response)?;
    Ok(Json(said))
}

/// An emergency, as sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Emergency {
    reason: String,
    #[serde(default)]
    digest: Option<String>,
}

/// What is left to do after it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Released {
    review: ReviewId,
    short: String,
}

pub(super) async fn break_glass(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(Named { request }): InPath<Named>,
    Json(Emergency { reason, digest }): Json<Emergency>,
) -> Result<Json<Released>, Response> {
    let person = caller.person;
    let decision = hold::Decision { approve: true, reason: Some(reason), digest, ..hold::Decision::default() };
    let review = admin.desk.break_glass(&request, &person, decision).map_err(IntoResponse::into_response)?;
    Ok(Json(Released { review, short: review.short() }))
}

/// Those who lend, to whom, and root see a delegation.
pub(super) async fn delegations(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
) -> Result<Json<Vec<DelegationView>>, Response> {
    Ok(Json(lent(&admin, &caller.person)))
}

/// The delegations that this person may see.
pub(super) fn lent(admin: &Admin, person: &Person) -> Vec<DelegationView> {
    let concerns = |view: &DelegationView| person.is_root() || view.from == person.name || view.to == person.name;
    admin.desk.delegations().into_iter().filter(concerns).collect()
}

/// A delegation, as asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    to: String,
    seconds: u64,
    #[serde(default)]
    groups: Option<Vec<String>>,
}

pub(super) async fn delegate(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Json(Wanted { to, seconds, groups }): Json<Wanted>,
) -> Result<Json<DelegationView>, Response> {
    let person = caller.person;
    let lent = admin.desk.delegate(&person, &to, groups, Duration::from_secs(seconds));
    lent.map(Json).map_err(IntoResponse::into_response)
}

/// What was ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ended {
    ended: DelegationId,
}

pub(super) async fn end_delegation(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(Lent { delegation }): InPath<Lent>,
) -> Result<Json<Ended>, Response> {
    let person = caller.person;
    let ended = admin.desk.end_delegation(&delegation, &person);
    ended.map(|ended| Json(Ended { ended })).map_err(IntoResponse::into_response)
}

pub(super) async fn reviews(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
) -> Result<Json<Vec<ReviewView>>, Response> {
    Ok(Json(to_review(&admin, &caller.person)))
}

/// The open reviews that this person may see.
pub(super) fn to_review(admin: &Admin, person: &Person) -> Vec<ReviewView> {
    admin.desk.reviews().into_iter().filter(|view| view.concerns(person)).collect()
}

/// A review, as sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    text: String,
}

/// What was reviewed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Reviewed {
    reviewed: ReviewId,
}

pub(super) async fn review(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    InPath(ToReview { review }): InPath<ToReview>,
    Json(Written { text }): Json<Written>,
) -> Result<Json<Reviewed>, Response> {
    let person = caller.person;
    let reviewed = admin.desk.review(&review, &person, &text);
    reviewed.map(|reviewed| Json(Reviewed { reviewed })).map_err(IntoResponse::into_response)
}
