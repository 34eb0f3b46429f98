//! How channels do, a trial of one, and the door by which Slack says what people did there.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path as InPath, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde::Serialize;

use super::{Admin, CONSOLE, May, Problem, Route, SOCKET, route};
use crate::{
    channels::{Decide, Standing},
    hold::Decided,
    people::Role,
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route("/api/v1/channels", May::Role(Role::Admin), SOCKET, get(list)),
        route("/api/v1/channels/{name}/test", May::Role(Role::Admin), SOCKET, post(test)),
        // Slack proves itself by its signature.
        route("/channels/slack", May::Anybody, CONSOLE, post(slack)),
    ]
}

async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<Standing>> {
    Json(admin.channels.standing())
}

/// What a trial came to.
#[derive(Debug, Serialize)]
struct Tested {
    said: String,
}

async fn test(State(admin): State<Arc<Admin>>, InPath(name): InPath<String>) -> Result<Json<Tested>, Response> {
    match admin.channels.test(&name).await {
        Some(Ok(said)) => Ok(Json(Tested { said })),
        Some(Err(why)) => Err(Problem::response(StatusCode::BAD_GATEWAY, "not taken", why)),
        None => {
            let detail = format!("there is no channel {name}; `holdpoint channels list` shows them");
            Err(Problem::response(StatusCode::NOT_FOUND, "no such channel", detail))
        }
    }
}

async fn slack(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Bytes) -> Response {
    let desk: Arc<dyn Decide> = Arc::new(ByAddress(admin.clone()));
    let reply = admin.channels.slack().answer(&headers, &body, desk).await;
    match reply.body {
        Some(body) => (reply.status, Json(body)).into_response(),
        None => reply.status.into_response(),
    }
}

/// The desk, for people whom a channel knows by their address.
struct ByAddress(Arc<Admin>);

impl Decide for ByAddress {
    fn decide(
        &self,
        email: &str,
        request: &str,
        approve: bool,
        reason: Option<String>,
        digest: &str,
    ) -> Result<String, String> {
        let person = self.0.people.of_email(email).ok_or_else(|| {
            format!(
                "nobody here has your address {email}; ask an administrator to run `holdpoint people set NAME --email {email}`"
            )
        })?;
        if !person.roles.contains(&Role::Approver) {
            return Err(format!("{} does not have the role `approver` here", person.name));
        }
        let decided = self.0.desk.decide(request, &person, approve, reason, Some(digest));
        decided.map(in_words).map_err(|error| error.to_string())
    }
}

fn in_words(decided: Decided) -> String {
    match decided {
        Decided::Approved => "approved: the operation is released".to_owned(),
        Decided::Counted { missing: 1 } => "your approval counts; one more person is needed".to_owned(),
        Decided::Counted { missing } => format!("your approval counts; {missing} more people are needed"),
        Decided::Granted { grant } => format!("approved, as grant {grant}"),
        Decided::Denied => "denied: the operation is refused".to_owned(),
    }
}
