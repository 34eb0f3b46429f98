//! That something has changed, as server-sent events: pages fetch what they show anew.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
    routing::get,
};
use futures_util::stream::{self, Stream};

use super::{Admin, CONSOLE, May, Route, route};

pub(super) fn routes() -> Vec<Route> {
    vec![route("/api/v1/events", May::Users, CONSOLE, get(changes))]
}

/// One event now, and one with each change at the desk: changes that come together are one.
async fn changes(State(admin): State<Arc<Admin>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let watched = (admin.desk.watch(), true);
    let events = stream::unfold(watched, async |(mut watched, first)| {
        if !first {
            watched.changed().await.ok()?;
            // What a script does in a loop is told ten times a second.
            tokio::time::sleep(TOGETHER).await;
        }
        let version = *watched.borrow_and_update();
        Some((Ok(Event::default().event("changed").data(version.to_string())), (watched, false)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

const TOGETHER: Duration = Duration::from_millis(100);
