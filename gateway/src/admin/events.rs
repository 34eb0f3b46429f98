//! That something has changed, as server-sent events: pages fetch what they show anew.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;

use super::{
    Admin, CONSOLE, May, Route, get_with,
    openapi::{gives, says},
    route,
};

pub(super) fn routes() -> Vec<Route> {
    let described = get_with(changes, |operation| {
        let described = says("events", "That something has changed at the desk, as it changes", &[])(operation);
        described.with(|operation| gives(operation, "text/event-stream", "`changed` events, each with a version"))
    });
    vec![route("/api/v1/events", May::Users, CONSOLE, described)]
}

/// One event now, and one with each change at the desk: changes that come together are one.
async fn changes(State(admin): State<Arc<Admin>>) -> Response {
    let watched = (admin.desk.watch(), true);
    let events = stream::unfold(watched, async |(mut watched, first)| {
        if !first {
            watched.changed().await.ok()?;
            // What a script does in a loop is told ten times a second.
            tokio::time::sleep(TOGETHER).await;
        }
        let version = *watched.borrow_and_update();
        Some((Ok::<_, Infallible>(Event::default().event("changed").data(version.to_string())), (watched, false)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}

const TOGETHER: Duration = Duration::from_millis(100);
