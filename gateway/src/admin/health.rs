//! How the gateway is, for machines that ask: `/livez`, `/readyz`, `/healthz`, `/metrics`. Asked of the kernel, now.
//!
//! # Security
//! Over TCP there is nothing else, and nothing here changes anything: whoever reaches the port reads four pages.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::Admin;
use crate::{
    channels::Standing as Channel,
    damage::Last,
    guards,
    intercept::{Guard, Refused},
    namespaces::Standing,
};

/// What is wrong.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    healthy: bool,
    /// What is wrong now.
    problems: Vec<String>,
    /// What was damaged a moment ago, repaired or not.
    recent_damage: Option<Last>,
    /// How often each kind of damage was repaired since the gateway started.
    repairs: BTreeMap<&'static str, u64>,
}

/// What the kernel says at one moment, asked once for all that is told of it.
pub(super) struct Seen {
    pub(super) kernel: Result<Vec<Guard>, String>,
    pub(super) guards: Vec<guards::Standing>,
    pub(super) namespaces: Vec<Standing>,
}

impl Seen {
    pub(super) fn now(admin: &Admin) -> Self {
        let kernel = admin.interceptor.status().map_err(|error| error.to_string());
        Self { kernel, guards: admin.guards.standing(), namespaces: admin.namespaces.standing() }
    }
}

/// What is wrong now, each with where.
pub(super) fn problems(admin: &Admin, seen: &Seen) -> Vec<String> {
    let mut problems = Vec::new();
    match &seen.kernel {
        Err(error) => problems.push(format!("the kernel cannot be asked: {error}")),
        // Selectors may match nobody, which leaves nobody to guard.
        Ok(guards) if guards.is_empty() && !seen.guards.is_empty() => {
            problems.push("no cgroup is guarded".to_owned());
        }
        Ok(guards) => problems.extend(guards.iter().filter(|guard| !guard.is_whole()).map(|guard| {
            let path = guard.path.as_deref().unwrap_or("a cgroup that is gone");
            format!("at {path}: {}", guard.faults().join(", "))
        })),
    }
    let failed = seen.guards.iter().filter_map(|guard| guard.failed.as_ref().map(|why| (&guard.path, why)));
    problems.extend(failed.map(|(path, why)| format!("{path} is not guarded: {why}")));
    problems.extend(admin.interceptor.rules_in_force().err());
    let unpinned = admin.interceptor.unpinned_maps();
    problems.extend((!unpinned.is_empty()).then(|| format!("not pinned: the maps {}", unpinned.join(", "))));
    for Standing { id, deaf, open, .. } in &seen.namespaces {
        problems.extend(open.as_ref().map(|why| format!("network namespace {} is open: {why}", id.0)));
        problems.extend(deaf.as_ref().map(|why| format!("network namespace {} is not served: {why}", id.0)));
    }
    let record = admin.recorder.head().and_then(|_| admin.recorder.records().map(drop));
    problems.extend(record.err().map(|error| format!("the record cannot be written: {error}")));
    problems
}

/// `/livez`: the process turns. Asked of the threads that serve bots; this page itself is served by another one.
pub(super) async fn live(State(admin): State<Arc<Admin>>) -> Response {
    let turns = admin.road.spawn(async {});
    match tokio::time::timeout(TURN, turns).await {
        Ok(Ok(())) => "alive\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the threads that serve connections are stuck\n").into_response(),
    }
}

/// `/readyz`: guarded workloads are served and cannot go round, as far as is known now.
pub(super) async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let asked = tokio::task::spawn_blocking(move || problems(&admin, &Seen::now(&admin))).await;
    let problems = asked.unwrap_or_else(|error| vec![error.to_string()]);
    let code = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(serde_json::json!({ "ready": problems.is_empty(), "problems": problems }))).into_response()
}

/// `/healthz`: the same, and red for a while after damage that was repaired, so that it is seen.
pub(super) async fn health(State(admin): State<Arc<Admin>>) -> Response {
    let asked = tokio::task::spawn_blocking(move || {
        let (problems, recent_damage) = (problems(&admin, &Seen::now(&admin)), admin.damages.recent());
        let healthy = problems.is_empty() && recent_damage.is_none();
        Health { healthy, problems, recent_damage, repairs: admin.damages.repairs() }
    });
    match asked.await {
        Ok(health) if health.healthy => (StatusCode::OK, Json(health)).into_response(),
        Ok(health) => (StatusCode::SERVICE_UNAVAILABLE, Json(health)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// `/metrics`: in Prometheus's text format, version 0.0.4.
pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let asked = tokio::task::spawn_blocking(move || text(&admin)).await;
    match asked {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn text(admin: &Admin) -> String {
    let mut page = Page::default();
    let seen = Seen::now(admin);
    let healthy = problems(admin, &seen).is_empty() && admin.damages.recent().is_none();
    page.one("healthy", "gauge", "1 while /healthz is green.", u64::from(healthy));
    let guards = seen.kernel.unwrap_or_default();
    page.one("guarded_cgroups", "gauge", "Guarded cgroups.", guards.len() as u64);
    let standing = seen.namespaces;
    let dropped = standing.iter().map(|one| one.dropped).sum();
    let (whole, not): (Vec<_>, Vec<_>) = standing.into_iter().partition(Standing::is_whole);
    let namespaces = [("whole", whole.len() as u64), ("not_whole", not.len() as u64)];
    page.some("namespaces", "gauge", "Network namespaces of guarded workloads.", "state", namespaces);
    page.one("denied_packets", "gauge", "Packets that the denies now in force have dropped.", dropped);
    page.one("connections_open", "gauge", "Guarded connections that are served.", (admin.connections)());
    page.one("requests_open", "gauge", "Operations that wait for people.", admin.desk.open_count() as u64);
    page.some(
        "refused_total",
        "counter",
        "What the kernel programs refused, by reason.",
        "reason",
        refused(admin, &guards),
    );
    let head = admin.recorder.head().map_or(0, |head| head.position);
    page.one("record_entries_total", "counter", "Entries in the record.", head);
    let generation = u64::from(admin.interceptor.generation());
    page.one("rules_generation", "counter", "Which replacement of the kernel's rules is in force.", generation);
    page.some("repairs_total", "counter", "Damage that was found and repaired.", "kind", admin.damages.repairs());
    channels(admin, &mut page);
    page.some("build_info", "gauge", "The version.", "version", [(env!("CARGO_PKG_VERSION"), 1)]);
    page.0
}

fn channels(admin: &Admin, page: &mut Page) {
    let standing = admin.channels.standing();
    let each = |of: fn(&Channel) -> u64| standing.iter().map(move |one| (one.name.as_str(), of(one)));
    let backlog = each(|one| one.backlog as u64);
    page.some("channel_backlog", "gauge", "Entries that a channel has yet to tell.", "channel", backlog);
    let failures = each(|one| one.failures);
    page.some("channel_failures_total", "counter", "Messages that were not taken, each try.", "channel", failures);
    let passed = each(|one| one.passed_over);
    page.some("channel_passed_over_total", "counter", "Messages that were refused for good.", "channel", passed);
}

fn refused(admin: &Admin, guards: &[Guard]) -> Refused {
    let mut sum = admin.interceptor.refused_somewhere();
    for (reason, count) in guards.iter().flat_map(|guard| &guard.refused) {
        *sum.entry(reason).or_default() += count;
    }
    sum
}

/// A page of metrics. Names, labels and values are this program's own words, or names of letters and digits, so nothing
/// needs escaping.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP holdpoint_{name} {help}\n# TYPE holdpoint_{name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "holdpoint_{name} {value}");
    }

    fn some<'v>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) {
        self.head(name, kind, help);
        for (value, count) in values {
            let _ = writeln!(self.0, "holdpoint_{name}{{{label}=\"{value}\"}} {count}");
        }
    }
}

/// How long the threads that serve bots may take to get to one more task.
const TURN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.one("healthy", "gauge", "Green.", 1);
        page.some("repairs_total", "counter", "Repaired.", "kind", [("link", 2)]);
        assert_eq!(
            page.0,
            "# HELP holdpoint_healthy Green.\n# TYPE holdpoint_healthy gauge\nholdpoint_healthy 1\n\
             # HELP holdpoint_repairs_total Repaired.\n# TYPE holdpoint_repairs_total counter\n\
             holdpoint_repairs_total{kind=\"link\"} 2\n"
        );
    }
}
