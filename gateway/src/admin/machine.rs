//! How the gateway is, and what root alone asks of it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path as InPath, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{Admin, Caller, Problem, health};
use crate::{
    assess::{self, Assessed},
    credentials as vault,
    damage::Last,
    guards,
    namespaces::Standing,
};

/// How the gateway is, asked of the kernel and the record now.
#[derive(Debug, Serialize)]
struct Status {
    node: String,
    version: &'static str,
    healthy: bool,
    guards: Vec<guards::Standing>,
    /// Pods that are selected and run, and have no cgroup by which they could be guarded.
    missing: Vec<String>,
    kubernetes: Option<crate::workload::kubernetes::Standing>,
    kernel: Result<Vec<crate::intercept::Guard>, String>,
    /// Refused below one guard or another, where the kernel does not say which.
    refused: crate::intercept::Refused,
    /// `Err` says why connects to UNIX sockets are not looked at.
    unix_sockets: Result<(), String>,
    /// Kinds of sockets that no hook sees.
    unseen: [&'static str; 2],
    namespaces: Vec<Standing>,
    rules_generation: u32,
    policy_generation: u64,
    open_requests: usize,
    record: Result<String, String>,
    /// How people hear of what waits. A dead one is no broken guard.
    channels: Vec<crate::channels::Standing>,
    /// What seals credentials, and whether it answers.
    credentials: vault::Standing,
    /// Each workload that has processes, and whether it is really guarded.
    workloads: Vec<Assessed>,
    /// What is wrong now.
    problems: Vec<String>,
    /// How often each kind of damage was repaired since the gateway started.
    repairs: std::collections::BTreeMap<&'static str, u64>,
    last_damage: Option<Last>,
}

impl Status {
    fn of(admin: &Admin, credentials: vault::Standing) -> Self {
        let seen = health::Seen::now(admin);
        let problems = health::problems(admin, &seen);
        let workloads = assessed(admin, &seen);
        let health::Seen { kernel, guards: standing, namespaces } = seen;
        let record = admin.recorder.head().map(|head| head.to_string()).map_err(|error| error.to_string());
        Self {
            node: admin.node.clone(),
            version: env!("CARGO_PKG_VERSION"),
            healthy: problems.is_empty(),
            guards: standing,
            missing: admin.guards.missing(),
            kubernetes: admin.guards.kubernetes(),
            kernel,
            refused: admin.interceptor.refused_somewhere(),
            unix_sockets: admin.interceptor.unix_guarded().map_err(str::to_owned),
            unseen: crate::intercept::UNSEEN,
            namespaces,
            rules_generation: admin.interceptor.generation(),
            policy_generation: admin.policies.generation(),
            open_requests: admin.desk.open_count(),
            record,
            channels: admin.channels.standing(),
            credentials,
            workloads,
            problems,
            repairs: admin.damages.repairs(),
            last_damage: admin.damages.last(),
        }
    }
}

/// Each workload that has processes, and whether it is really guarded.
pub(super) fn assessed(admin: &Admin, seen: &health::Seen) -> Vec<Assessed> {
    let guards = seen.kernel.as_deref().unwrap_or_default();
    let (hierarchy, workloads) = (&admin.hierarchy, &admin.workloads);
    assess::workloads(&assess::Facts { hierarchy, workloads, guards, namespaces: &seen.namespaces })
}

pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Response {
    let credentials = admin.vault.standing().await;
    // Reads of every guarded process: not on the thread that people need.
    match tokio::task::spawn_blocking(move || Status::of(&admin, credentials)).await {
        Ok(status) => Json(status).into_response(),
        Err(error) => Problem::response(StatusCode::INTERNAL_SERVER_ERROR, "no status", error),
    }
}

/// How the namespace stands; nothing where it is the gateway's own.
#[derive(Debug, Serialize)]
pub(super) struct Prepared {
    namespace: Option<Standing>,
}

/// Guards the network namespace of the process that asks, which is about to run a guarded one there.
pub(super) async fn prepare(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<Prepared>, Response> {
    let Some(pid) = caller.pid().and_then(|pid| u32::try_from(pid).ok()) else {
        return Err(Problem::response(
            StatusCode::FORBIDDEN,
            "not allowed",
            "the kernel does not say which process asks",
        ));
    };
    // A transaction of nftables waits: not on the thread that people need.
    let prepared = tokio::task::spawn_blocking(move || admin.namespaces.prepare(pid)).await;
    let failed =
        |why: &dyn std::fmt::Display| Problem::response(StatusCode::CONFLICT, "cannot guard it", why.to_string());
    match prepared {
        Ok(Ok(namespace)) => Ok(Json(Prepared { namespace })),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

/// A trial of the guard, as asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The port of 127.0.0.1 and `::1` that is governed for a moment.
    pub port: u16,
    /// A process of the workload, whose network namespace is to deny it.
    pub pid: u32,
}

/// Governs a port of the loopbacks for a moment, for `holdpoint doctor --probe`. It is noted in the log, and each
/// connection to it in the record, as any that no resource is at.
pub(super) async fn begin_probe(
    State(admin): State<Arc<Admin>>,
    Json(Probe { port, pid }): Json<Probe>,
) -> Result<Json<Prepared>, Response> {
    let begun = tokio::task::spawn_blocking(move || {
        admin.rulebook.begin_trial(port).map_err(|error| error.to_string())?;
        tracing::warn!(port, pid, "a trial of the guard begins: this port of the loopbacks is governed for a moment");
        admin.namespaces.prepare(pid).map_err(|error| {
            // By itself it would end in half a minute.
            let _ = admin.rulebook.end_trial(port);
            error.to_string()
        })
    });
    match begun.await {
        Ok(Ok(namespace)) => Ok(Json(Prepared { namespace })),
        Ok(Err(why)) => Err(Problem::response(StatusCode::CONFLICT, "no trial", why)),
        Err(error) => Err(Problem::response(StatusCode::INTERNAL_SERVER_ERROR, "no trial", error)),
    }
}

pub(super) async fn end_probe(
    State(admin): State<Arc<Admin>>,
    InPath(port): InPath<u16>,
) -> Result<Json<()>, Response> {
    let failed = |why| Problem::response(StatusCode::INTERNAL_SERVER_ERROR, "the trial goes on", why);
    admin.rulebook.end_trial(port).map(Json).map_err(|error| failed(error.to_string()))
}
