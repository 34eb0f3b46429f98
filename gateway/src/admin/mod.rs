//! The administration API over a UNIX socket: people list, look at and decide requests; anybody asks for health, over
//! TCP as well where the settings say so.
//!
//! # Security
//! The person is the socket's peer as the kernel names it; nothing that the client says counts. This module can
//! approve and inspect; it holds nothing with which it could forward a byte.

mod bounded;
mod credentials;
mod grants;
mod health;
mod limits;

use std::{path::Path, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Path as InPath, Query, State, connect_info::Connected},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post},
    serve::IncomingStream,
};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener, unix::UCred};

use crate::{
    assess::{self, Assessed},
    credentials::{self as vault, Vault},
    damage::{Damages, Last},
    guards::{self, Guards},
    hold::{DecideError, Decided, Desk, Terms, View},
    intercept::Interceptor,
    namespaces::{Namespaces, Standing},
    people::{Directory, Person},
    policy::Policies,
    record::Recorder,
    rulebook::Rulebook,
    workload::{Hierarchy, Workloads},
};
use limits::Limited;

/// What the API looks at.
pub struct Admin {
    /// The open requests.
    pub desk: Desk,
    /// Who people are.
    pub directory: Directory,
    /// The kernel's side.
    pub interceptor: Arc<Interceptor>,
    /// The workloads' network namespaces.
    pub namespaces: Arc<Namespaces>,
    /// Who is guarded.
    pub guards: Guards,
    /// The record.
    pub recorder: Recorder,
    /// What the gateway logs in with in bots' place.
    pub vault: Vault,
    /// The policies in force.
    pub policies: Arc<Policies>,
    /// The node's name.
    pub node: String,
    /// cgroup → workload.
    pub workloads: Workloads,
    /// The cgroup tree.
    pub hierarchy: Hierarchy,
    /// What was damaged.
    pub damages: Damages,
    /// The rules, for trials.
    pub rulebook: Arc<Rulebook>,
    /// The threads that serve guarded connections.
    pub road: tokio::runtime::Handle,
    /// How many guarded connections are open.
    pub connections: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Who may use a route. Each handler sees to it; a test walks all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Everybody, also over TCP. These read and change nothing.
    Anybody,
    /// Every user of the machine.
    Users,
    /// Those whom the request concerns, and outside guarded cgroups where something is decided.
    Concerned,
    /// The superuser.
    Root,
}

type Routes = Vec<(&'static str, May, MethodRouter<Arc<Admin>>)>;

/// Every route there is.
fn routes() -> Routes {
    vec![
        ("/livez", May::Anybody, get(health::live)),
        ("/readyz", May::Anybody, get(health::ready)),
        ("/healthz", May::Anybody, get(health::health)),
        ("/metrics", May::Anybody, get(health::metrics)),
        ("/api/v1/status", May::Users, get(status)),
        ("/api/v1/namespaces", May::Root, post(prepare)),
        ("/api/v1/probe", May::Root, post(begin_probe)),
        ("/api/v1/probe/{port}", May::Root, delete(end_probe)),
        ("/api/v1/credentials", May::Root, get(credentials::list).post(credentials::put)),
        ("/api/v1/credentials/delete", May::Root, post(credentials::delete)),
        ("/api/v1/credentials/reseal", May::Root, post(credentials::reseal)),
        ("/api/v1/approvals", May::Concerned, get(approvals)),
        ("/api/v1/approvals/{request}", May::Concerned, get(approval)),
        ("/api/v1/approvals/{request}/decision", May::Concerned, post(decision)),
        ("/api/v1/grants", May::Concerned, get(grants::list)),
        ("/api/v1/grants/{grant}", May::Concerned, get(grants::show)),
        ("/api/v1/grants/{grant}/revocation", May::Concerned, post(grants::revoke)),
    ]
}

/// Every route's path and who may use it.
pub fn paths() -> Vec<(&'static str, May)> {
    routes().into_iter().map(|(path, may, _)| (path, may)).collect()
}

fn router(admin: &Arc<Admin>, wanted: impl Fn(May) -> bool) -> Router {
    let chosen = routes().into_iter().filter(|(_, may, _)| wanted(*may));
    chosen.fold(Router::new(), |router, (path, _, route)| router.route(path, route)).with_state(admin.clone())
}

/// Serves health over TCP until dropped: what is for anybody, and nothing else.
///
/// # Errors
/// The listener's own.
pub async fn serve_health(admin: Arc<Admin>, listener: TcpListener) -> std::io::Result<()> {
    let routes = router(&admin, |may| may == May::Anybody);
    axum::serve(bounded::Bounded::new(listener), routes.into_make_service()).await
}

/// Serves until dropped.
///
/// # Errors
/// The listener's own.
pub async fn serve(admin: Arc<Admin>, listener: UnixListener) -> std::io::Result<()> {
    let routes = router(&admin, |_| true);
    axum::serve(Limited::new(listener), routes.into_make_service_with_connect_info::<Peer>()).await
}

/// Makes the socket, in place of one that a dead gateway left. Everybody may connect; who they are is the kernel's to say.
///
/// # Errors
/// Another gateway serves there, or the directory cannot be written.
pub fn listen(socket: &Path) -> Result<UnixListener, SocketError> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |source| SocketError::Make { socket: socket.to_owned(), source };
    if let Some(directory) = socket.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        return Err(SocketError::Taken { socket: socket.to_owned() });
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another gateway has it.
    #[error("another gateway already serves {socket}; stop it, or set `run:` to another directory", socket = socket.display())]
    Taken {
        /// The socket.
        socket: std::path::PathBuf,
    },
    /// It cannot be made.
    #[error("cannot make the administration socket {socket}: {source}", socket = socket.display())]
    Make {
        /// The socket.
        socket: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The peer of a connection.
#[derive(Debug, Clone)]
struct Peer(Option<UCred>);

impl Connected<IncomingStream<'_, Limited>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        Self(stream.io().peer())
    }
}

/// An error as RFC 9457 has it.
#[derive(Debug, Serialize)]
struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    fn response(status: StatusCode, title: &'static str, detail: impl ToString) -> Response {
        let problem = Problem { title, status: status.as_u16(), detail: detail.to_string() };
        (status, [("content-type", "application/problem+json")], Json(problem)).into_response()
    }
}

impl IntoResponse for DecideError {
    fn into_response(self) -> Response {
        let (status, title) = match &self {
            DecideError::Grant(error) => grants::said(error),
            DecideError::Unknown(_) => (StatusCode::NOT_FOUND, "no such request"),
            DecideError::Ambiguous(_) => (StatusCode::BAD_REQUEST, "ambiguous"),
            DecideError::Ended(..) => (StatusCode::CONFLICT, "already ended"),
            DecideError::Twice(_) | DecideError::PerhapsTwice(..) => (StatusCode::CONFLICT, "already approved by you"),
            DecideError::OtherDigest(_) => (StatusCode::PRECONDITION_FAILED, "another digest"),
            DecideError::OwnRequest(..) | DecideError::NotAnApprover(..) | DecideError::NotYet(..) => {
                (StatusCode::FORBIDDEN, "not allowed")
            }
            DecideError::ReasonRequired => (StatusCode::UNPROCESSABLE_ENTITY, "reason required"),
            DecideError::Record(_) => (StatusCode::SERVICE_UNAVAILABLE, "cannot record"),
        };
        Problem::response(status, title, self)
    }
}

/// Who asks; `Err` where the kernel does not say.
fn person(admin: &Admin, peer: &Peer) -> Result<Person, Response> {
    let credentials = peer.0.ok_or_else(|| {
        Problem::response(StatusCode::UNAUTHORIZED, "unknown peer", "the kernel does not say who you are")
    })?;
    Ok(admin.directory.person(credentials.uid()))
}

/// A guarded process decides nothing, whatever user it runs as: a bot that can change its user would approve itself.
fn refuse_the_guarded(admin: &Admin, peer: &Peer) -> Result<(), Response> {
    let pid = peer.0.and_then(|peer| peer.pid());
    let outside = pid.is_some_and(|pid| admin.guards.cover(pid).is_ok_and(|guarded| !guarded));
    if outside {
        return Ok(());
    }
    let detail =
        "decisions are made outside guarded workloads, and the process that asks must live until it has its answer";
    Err(Problem::response(StatusCode::FORBIDDEN, "not allowed", detail))
}

/// People see the requests that they may decide on; the superuser, who can read the record, sees all.
fn may_see(person: &Person, view: &View) -> bool {
    person.is_root() || view.asks(person)
}

#[derive(Debug, Deserialize)]
struct Since {
    since: Option<u64>,
}

/// The open requests, and a number to wait on: with `?since=NUMBER` the answer comes when something has changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Approvals<T> {
    /// Counts up with every change.
    pub version: u64,
    /// The open requests, oldest first.
    pub requests: Vec<T>,
}

async fn approvals(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(since): Query<Since>,
) -> Result<Json<Approvals<View>>, Response> {
    let person = person(&admin, &peer)?;
    let mut changes = admin.desk.watch();
    if let Some(since) = since.since {
        let _ = tokio::time::timeout(LONG_POLL, changes.wait_for(|version| *version != since)).await;
    }
    let version = *changes.borrow_and_update();
    let requests = admin.desk.list().into_iter().filter(|view| may_see(&person, view)).collect();
    Ok(Json(Approvals { version, requests }))
}

async fn approval(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    InPath(request): InPath<String>,
) -> Result<Json<View>, Response> {
    let person = person(&admin, &peer)?;
    let view = admin.desk.show(&request).map_err(IntoResponse::into_response)?;
    if !may_see(&person, &view) {
        return Err(DecideError::Unknown(request).into_response());
    }
    Ok(Json(view))
}

/// A decision, as sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Yes or no.
    pub approve: bool,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// The digest of what the person saw; refused where it is another's.
    #[serde(default)]
    pub digest: Option<String>,
    /// The grant that the approval is to become.
    #[serde(default)]
    pub grant: Option<Terms>,
}

async fn decision(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    InPath(request): InPath<String>,
    Json(decision): Json<Decision>,
) -> Result<Json<Decided>, Response> {
    let person = person(&admin, &peer)?;
    refuse_the_guarded(&admin, &peer)?;
    let Decision { approve, reason, digest, grant } = decision;
    let decided = match grant {
        Some(_) if !approve => {
            let detail = "a denial cannot become a grant; leave `grant` out";
            return Err(Problem::response(StatusCode::BAD_REQUEST, "no grant", detail));
        }
        Some(terms) => admin.desk.grant(&request, &person, reason, digest.as_deref(), terms),
        None => admin.desk.decide(&request, &person, approve, reason, digest.as_deref()),
    };
    decided.map(Json).map_err(IntoResponse::into_response)
}

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
        let health::Seen { kernel, guards: standing, namespaces } = seen;
        let record = admin.recorder.head().map(|head| head.to_string()).map_err(|error| error.to_string());
        let guards = kernel.as_deref().unwrap_or_default();
        let (hierarchy, workloads) = (&admin.hierarchy, &admin.workloads);
        let workloads = assess::workloads(&assess::Facts { hierarchy, workloads, guards, namespaces: &namespaces });
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
            open_requests: admin.desk.list().len(),
            record,
            credentials,
            workloads,
            problems,
            repairs: admin.damages.repairs(),
            last_damage: admin.damages.last(),
        }
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    let credentials = admin.vault.standing().await;
    // Reads of every guarded process: not on the thread that people need.
    match tokio::task::spawn_blocking(move || Status::of(&admin, credentials)).await {
        Ok(status) => Json(status).into_response(),
        Err(error) => Problem::response(StatusCode::INTERNAL_SERVER_ERROR, "no status", error),
    }
}

/// How the namespace stands; nothing where it is the gateway's own.
#[derive(Debug, Serialize)]
struct Prepared {
    namespace: Option<Standing>,
}

/// Guards the network namespace of the process that asks, which is about to run a guarded one there.
async fn prepare(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Json<Prepared>, Response> {
    let person = person(&admin, &peer)?;
    let pid = peer.0.and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
    let (true, Some(pid)) = (person.is_root(), pid) else {
        return Err(Problem::response(StatusCode::FORBIDDEN, "not allowed", "only root runs guarded commands"));
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
async fn begin_probe(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(Probe { port, pid }): Json<Probe>,
) -> Result<Json<Prepared>, Response> {
    only_root(&admin, &peer, "only root tries the guard")?;
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

async fn end_probe(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    InPath(port): InPath<u16>,
) -> Result<Json<()>, Response> {
    only_root(&admin, &peer, "only root tries the guard")?;
    let failed = |why| Problem::response(StatusCode::INTERNAL_SERVER_ERROR, "the trial goes on", why);
    admin.rulebook.end_trial(port).map(Json).map_err(|error| failed(error.to_string()))
}

fn only_root(admin: &Admin, peer: &Peer, rule: &'static str) -> Result<(), Response> {
    refuse_the_guarded(admin, peer)?;
    match person(admin, peer)?.is_root() {
        true => Ok(()),
        false => Err(Problem::response(StatusCode::FORBIDDEN, "not allowed", rule)),
    }
}

/// How long a waiting list request may wait.
const LONG_POLL: Duration = Duration::from_secs(30);
