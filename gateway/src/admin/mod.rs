//! The administration API over a UNIX socket: people list, look at and decide requests; anybody asks for health.
//!
//! # Security
//! The person is the socket's peer as the kernel names it; nothing that the client says counts. This module can
//! approve and inspect; it holds nothing with which it could forward a byte.

mod limits;

use std::{path::Path, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Path as InPath, Query, State, connect_info::Connected},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::IncomingStream,
};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, unix::UCred};

use crate::{
    guards::{self, Guards},
    hold::{DecideError, Decided, Desk, Directory, Person, View},
    intercept::Interceptor,
    namespaces::{Namespaces, Standing},
    policy::Policies,
    record::Recorder,
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
    /// The policies in force.
    pub policies: Arc<Policies>,
    /// The node's name.
    pub node: String,
}

/// Serves until dropped.
///
/// # Errors
/// The listener's own.
pub async fn serve(admin: Admin, listener: UnixListener) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(health))
        .route("/healthz", get(health))
        .route("/api/v1/status", get(status))
        .route("/api/v1/namespaces", post(prepare))
        .route("/api/v1/approvals", get(approvals))
        .route("/api/v1/approvals/{request}", get(approval))
        .route("/api/v1/approvals/{request}/decision", post(decision))
        .with_state(Arc::new(admin));
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
            DecideError::Unknown(_) => (StatusCode::NOT_FOUND, "no such request"),
            DecideError::Ambiguous(_) => (StatusCode::BAD_REQUEST, "ambiguous"),
            DecideError::Ended(..) => (StatusCode::CONFLICT, "already ended"),
            DecideError::Twice(_) => (StatusCode::CONFLICT, "already approved by you"),
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
    person.uid == 0 || view.asks(person)
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
}

async fn decision(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    InPath(request): InPath<String>,
    Json(decision): Json<Decision>,
) -> Result<Json<Decided>, Response> {
    let person = person(&admin, &peer)?;
    refuse_the_guarded(&admin, &peer)?;
    let Decision { approve, reason, digest } = decision;
    let decided = admin.desk.decide(&request, &person, approve, reason, digest.as_deref());
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
}

impl Status {
    fn of(admin: &Admin) -> Self {
        let kernel = admin.interceptor.status().map_err(|error| error.to_string());
        let record = admin.recorder.head().map(|head| head.to_string()).map_err(|error| error.to_string());
        let guards = admin.guards.standing();
        let whole = guards.iter().all(|guard| guard.failed.is_none())
            && kernel.as_ref().is_ok_and(|attached| {
                // Selectors may match nobody, which leaves nobody to guard.
                (!attached.is_empty() || guards.is_empty()) && attached.iter().all(crate::intercept::Guard::is_whole)
            });
        let namespaces = admin.namespaces.standing();
        let nobody_goes_round = namespaces.iter().all(Standing::is_whole);
        Self {
            node: admin.node.clone(),
            version: env!("CARGO_PKG_VERSION"),
            healthy: whole && nobody_goes_round && record.is_ok(),
            guards,
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
        }
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    Json(Status::of(&admin))
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
    let (0, Some(pid)) = (person.uid, pid) else {
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

async fn health(State(admin): State<Arc<Admin>>) -> Response {
    let status = Status::of(&admin);
    let code = if status.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(status)).into_response()
}

/// How long a waiting list request may wait.
const LONG_POLL: Duration = Duration::from_secs(30);
