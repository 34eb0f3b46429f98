//! How things stand: policies, workloads, delegations and reviews.

use std::sync::Arc;

use axum::{extract::State, response::Response};

use super::{clock, page, read, unreadable, viewer};
use crate::{
    admin::{Admin, Caller, health, machine, workflow},
    console::{self, Lately},
    policy::Decide,
    record::{RecordError, Records, entry::Body},
};

pub(super) async fn policies(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    let viewer = viewer(&admin, &caller);
    let set = admin.policies.current();
    match read(&admin, |records| lately(&records)).await {
        Ok(lately) => page(console::policies(&viewer, &set, &lately)),
        Err(error) => unreadable(&viewer, &error),
    }
}

/// What rules did in the newest entries.
fn lately(records: &Records) -> Result<Lately, RecordError> {
    let newest = records.head()?.position;
    let mut lately = Lately::default();
    for recorded in records.entries(newest.saturating_sub(COUNTED).max(1)) {
        let entry = recorded?.entry;
        if lately.since.is_empty() {
            lately.since = clock(entry.at);
        }
        let Body::Operation(operated) = entry.body else { continue };
        let did = lately.by_rule.entry(operated.asked.rule).or_default();
        match operated.asked.decide {
            Decide::Allow => did.allowed += 1,
            Decide::Hold | Decide::HoldCommit => did.held += 1,
            Decide::Refuse => did.refused += 1,
        }
        if let Some((_, rule)) = operated.asked.observed {
            lately.by_rule.entry(rule).or_default().observed += 1;
        }
    }
    Ok(lately)
}

pub(super) async fn workloads(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    let viewer = viewer(&admin, &caller);
    // Reads of every guarded process: not on the thread that people need.
    let assessed = tokio::task::spawn_blocking(move || {
        let seen = health::Seen::now(&admin);
        let problems = health::problems(&admin, &seen);
        (machine::assessed(&admin, &seen), problems)
    });
    match assessed.await {
        Ok((all, problems)) => page(console::workloads(&viewer, &all, &problems)),
        Err(error) => unreadable(&viewer, &error.to_string()),
    }
}

pub(super) async fn delegations(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    let lent = workflow::lent(&admin, &caller.person);
    page(console::delegations(&viewer(&admin, &caller), &lent))
}

pub(super) async fn reviews(State(admin): State<Arc<Admin>>, caller: Caller) -> Response {
    let open = workflow::to_review(&admin, &caller.person);
    page(console::reviews(&viewer(&admin, &caller), &open))
}

/// Entries looked at for what rules did.
const COUNTED: u64 = 20_000;
