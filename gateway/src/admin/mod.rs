//! What people and machines ask of a running gateway: over a UNIX socket, at the console, and, for health, over TCP.
//!
//! # Security
//! [`caller`] finds out who asks; the table in [`routes`] says who may ask what, through which door. This module can
//! approve and inspect; it holds nothing with which it could forward a byte.

mod again;
mod approvals;
mod bounded;
mod caller;
mod channels;
mod credentials;
mod device;
mod events;
mod grants;
mod health;
mod limits;
mod live;
mod machine;
mod matching;
mod oidc;
mod openapi;
mod pages;
mod people;
mod problem;
mod saml;
mod signin;
mod tokens;
mod web;
mod workflow;

use std::{path::Path, sync::Arc};

use aide::axum::routing::{ApiMethodRouter, get_with, post_with};
use axum::{
    Router,
    extract::connect_info::Connected,
    middleware,
    routing::{delete, get, post},
    serve::IncomingStream,
};
use tokio::net::{TcpListener, UnixListener, unix::UCred};

use crate::{
    channels::Channels,
    credentials::Vault,
    damage::Damages,
    guards::Guards,
    hold::Desk,
    intercept::Interceptor,
    live::Live,
    namespaces::Namespaces,
    people::{People, Role},
    policy::Policies,
    record::Recorder,
    rulebook::Rulebook,
    workload::{Hierarchy, Workloads},
};
pub use again::Answered;
pub use approvals::{Approvals, Decision};
pub use caller::{Caller, Way};
use limits::Limited;
pub use machine::Probe;
use openapi::says;
pub use openapi::whole as openapi;
use problem::Problem;
pub use web::serve_console;

/// What the API looks at.
pub struct Admin {
    /// The open requests.
    pub desk: Desk,
    /// How people hear of what waits.
    pub channels: Channels,
    /// Who people are.
    pub people: People,
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
    /// What was answered under which key.
    pub answered: Answered,
    /// Which guarded connections are open.
    pub live: Live,
    /// How many guarded connections are open.
    pub connections: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Everybody. These say how the gateway is, or are the way in.
    Anybody,
    /// Everybody, and from other sites' pages too: a browser brings there what a provider signed, and nothing else there
    /// counts.
    Brought,
    /// Everybody whose name is known.
    Users,
    /// Those whom what they ask for concerns, which the handler sees to; outside guarded workloads where something is
    /// decided.
    Concerned,
    /// People with this role; outside guarded workloads where something is changed.
    Role(Role),
    /// The superuser, over the socket, outside guarded workloads; others are told this.
    Root(&'static str),
    /// The superuser, over the socket, who is about to be guarded.
    Starting,
}

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The listener for probes and monitoring.
    Health,
    /// The administration socket.
    Socket,
    /// The console.
    Console,
}

/// One route.
struct Route {
    path: &'static str,
    may: May,
    doors: &'static [Door],
    methods: ApiMethodRouter<Arc<Admin>>,
}

const EVERY: &[Door] = &[Door::Health, Door::Socket, Door::Console];
const PEOPLE: &[Door] = &[Door::Socket, Door::Console];
const SOCKET: &[Door] = &[Door::Socket];
const CONSOLE: &[Door] = &[Door::Console];

/// What [`get_with`] and [`post_with`] make is in the API's document; what `get` and `post` make is a page, a part of
/// signing in, or the command line's own.
fn route(
    path: &'static str,
    may: May,
    doors: &'static [Door],
    methods: impl Into<ApiMethodRouter<Arc<Admin>>>,
) -> Route {
    Route { path, may, doors, methods: methods.into() }
}

/// Every route there is.
fn routes() -> Vec<Route> {
    let credentials = May::Root("only root keeps credentials");
    let trial = May::Root("only root tries the guard");
    let mut routes = vec![
        route("/livez", May::Anybody, EVERY, get(health::live)),
        route("/readyz", May::Anybody, EVERY, get(health::ready)),
        route("/healthz", May::Anybody, EVERY, get(health::health)),
        route("/metrics", May::Anybody, &[Door::Health, Door::Socket], get(health::metrics)),
        route("/api/v1/status", May::Users, SOCKET, get(machine::status)),
        route("/api/v1/namespaces", May::Starting, SOCKET, post(machine::prepare)),
        route("/api/v1/probe", trial, SOCKET, post(machine::begin_probe)),
        route("/api/v1/probe/{port}", trial, SOCKET, delete(machine::end_probe)),
        route("/api/v1/credentials", credentials, SOCKET, get(credentials::list).post(credentials::put)),
        route("/api/v1/credentials/delete", credentials, SOCKET, post(credentials::delete)),
        route("/api/v1/credentials/reseal", credentials, SOCKET, post(credentials::reseal)),
    ];
    routes.extend(openapi::routes());
    routes.extend(approvals::routes());
    routes.extend(workflow::routes());
    routes.extend(grants::routes());
    routes.extend(live::routes());
    routes.extend(channels::routes());
    routes.extend(people::routes());
    routes.extend(tokens::routes());
    routes.extend(oidc::routes());
    routes.extend(device::routes());
    routes.extend(saml::routes());
    routes.extend(signin::routes());
    routes.extend(events::routes());
    routes.extend(pages::routes());
    routes
}

/// Every route's path, who may use it and through which doors.
pub fn paths() -> Vec<(&'static str, May, &'static [Door])> {
    routes().into_iter().map(|route| (route.path, route.may, route.doors)).collect()
}

fn router(admin: &Arc<Admin>, door: Door) -> Router {
    let chosen = routes().into_iter().filter(|route| route.doors.contains(&door));
    let router = chosen.fold(Router::new(), |router, Route { path, may, methods, .. }| {
        let admit = middleware::from_fn_with_state((admin.clone(), may), caller::admit);
        let once = middleware::from_fn_with_state(admin.clone(), again::once);
        // The last is the first to see a request: nothing is answered from memory to whoever may not ask.
        router.route(path, axum::routing::MethodRouter::from(methods).layer(once).layer(admit))
    });
    router.layer(middleware::from_fn(problem::in_words)).with_state(admin.clone())
}

/// Serves health over TCP until dropped: what is for anybody, and nothing else.
///
/// # Errors
/// The listener's own.
pub async fn serve_health(admin: Arc<Admin>, listener: TcpListener) -> std::io::Result<()> {
    axum::serve(bounded::Bounded::new(listener), router(&admin, Door::Health).into_make_service()).await
}

/// Serves until dropped.
///
/// # Errors
/// The listener's own.
pub async fn serve(admin: Arc<Admin>, listener: UnixListener) -> std::io::Result<()> {
    let by_peer = middleware::from_fn_with_state(admin.clone(), caller::by_peer);
    let routes = router(&admin, Door::Socket).layer(by_peer);
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
