//! The approver's side: everything through the command line, as a person would.

use std::time::Duration;

use serde_json::Value;

use crate::{Lab, Outcome, eventually};

/// A pending approval request, as `holdpoint approvals list -o json` shows it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its full identifier.
    pub id: String,
    /// Everything that the command said of it.
    pub said: Value,
}

impl Request {
    /// The short form that people see and type.
    pub fn short(&self) -> &str {
        let dashless = self.id.len() - 8;
        &self.id[dashless..]
    }
}

impl Lab {
    /// The requests that wait now.
    #[track_caller]
    pub fn pending(&self) -> Vec<Request> {
        let listed = self.holdpoint(&["approvals", "list", "-o", "json"]).ok();
        crate::record::values(&listed.stdout).into_iter().map(request).collect()
    }

    /// Waits for a request, which must be the only one.
    #[track_caller]
    pub fn held(&self) -> Request {
        let mut pending = self.held_count(1);
        pending.remove(0)
    }

    /// Waits until exactly one request is pending and what it would do is known: its digest changes with that.
    #[track_caller]
    pub fn previewed(&self) -> Request {
        eventually("a request is pending and previewed", Duration::from_secs(15), || {
            Some(self.held()).filter(|request| !request.said["impact"].is_null())
        })
    }

    /// Waits until exactly `count` requests are pending.
    #[track_caller]
    pub fn held_count(&self, count: usize) -> Vec<Request> {
        eventually(&format!("{count} requests are pending"), Duration::from_secs(15), || {
            let pending = self.pending();
            assert!(pending.len() <= count, "more than {count} pending: {pending:?}");
            (pending.len() == count).then_some(pending)
        })
    }

    /// Waits until no request is pending any more.
    #[track_caller]
    pub fn nothing_held(&self) {
        eventually("no request is pending", Duration::from_secs(10), || self.pending().is_empty().then_some(()));
    }

    /// Approves as root.
    #[track_caller]
    pub fn approve(&self, request: &Request) -> Outcome {
        self.holdpoint(&["approvals", "approve", &request.id, "--reason", "seen and meant"])
    }

    /// Denies as root.
    #[track_caller]
    pub fn deny(&self, request: &Request) -> Outcome {
        self.holdpoint(&["approvals", "deny", &request.id, "--reason", "not on a Sunday"])
    }

    /// Approves as another user of this machine.
    #[track_caller]
    pub fn approve_as(&self, user: &str, request: &Request) -> Outcome {
        self.holdpoint_as(user, &["approvals", "approve", &request.id, "--reason", "seen and meant"])
    }
}

fn request(said: Value) -> Request {
    let id = said["request"].as_str().unwrap_or_else(|| panic!("a request without an id: {said}")).to_owned();
    Request { id, said }
}

/// The identifiers in the output of `holdpoint approvals list -o json`.
pub fn request_ids(listed: &str) -> Vec<String> {
    crate::record::values(listed).into_iter().map(|said| request(said).id).collect()
}
