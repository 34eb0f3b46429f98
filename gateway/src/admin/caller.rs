//! Who asks, and whether they may: found out before any handler runs.
//!
//! # Security
//! *Invariant:* over the administration socket the caller is the socket's peer as the kernel names it; at the console
//! it is whoever signed in, or the program whose token it is. Nothing that a client says of itself counts. Each route says in the table of `admin::routes`
//! who may use it, and that is enforced here, in one place.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};

use super::{Admin, May, Peer, Problem};
use crate::people::Person;

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The person.
    pub person: Person,
    /// How they come.
    pub way: Way,
}

/// By which way somebody comes.
#[derive(Debug, Clone)]
pub enum Way {
    /// The administration socket; the peer's process, where the kernel says.
    Socket(Option<i32>),
    /// A program's token, at the console.
    Token,
    /// A session at the console.
    Console {
        /// What a request that changes something must say.
        csrf: String,
        /// The session's secret.
        cookie: String,
    },
}

impl Caller {
    /// The process at the other end of the socket.
    pub(super) fn pid(&self) -> Option<i32> {
        match self.way {
            Way::Socket(pid) => pid,
            Way::Console { .. } | Way::Token => None,
        }
    }

    /// What the pages of this session say to change something.
    pub fn csrf(&self) -> &str {
        match &self.way {
            Way::Console { csrf, .. } => csrf,
            Way::Socket(_) | Way::Token => "",
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unknown)
    }
}

/// Nothing that a client says.
impl aide::OperationInput for Caller {}

/// The address of somebody at the console.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote(pub(super) IpAddr);

/// Names the caller of a request over the socket.
pub(super) async fn by_peer(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<axum::extract::ConnectInfo<Peer>>().and_then(|info| info.0.0);
    if let Some(peer) = peer {
        let person = admin.people.of_machine(peer.uid());
        request.extensions_mut().insert(Caller { person, way: Way::Socket(peer.pid()) });
    }
    next.run(request).await
}

/// Names the caller of a request at the console: by a program's token, which no browser sends by itself, or else by a
/// cookie.
pub(super) async fn by_what_they_bring(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    if let Some(said) = request.headers().get(header::AUTHORIZATION) {
        let token = said.to_str().ok().and_then(|said| said.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        if let Some(person) = token.and_then(|token| admin.people.programs.of_token(token)) {
            request.extensions_mut().insert(Caller { person, way: Way::Token });
        }
    } else if let Some(cookie) = cookie(request.headers(), COOKIE)
        && let Some(session) = admin.people.session(&cookie)
    {
        let way = Way::Console { csrf: session.csrf.reveal().to_owned(), cookie };
        request.extensions_mut().insert(Caller { person: session.person, way });
    }
    next.run(request).await
}

/// Lets through whom the route is for.
pub(super) async fn admit(State((admin, may)): State<(Arc<Admin>, May)>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>();
    match check(&admin, may, caller, &request) {
        Ok(()) => next.run(request).await,
        Err(response) => response,
    }
}

fn check(admin: &Admin, may: May, caller: Option<&Caller>, request: &Request) -> Result<(), Response> {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && may != May::Brought {
        refuse_other_sites(admin, request)?;
    }
    if matches!(may, May::Anybody | May::Brought) {
        return Ok(());
    }
    let Some(caller) = caller else {
        return Err(if !changes && wants_page(request.headers()) { to_sign_in(request) } else { unknown() });
    };
    if let Way::Console { csrf, .. } = &caller.way
        && changes
        && request.headers().get(CSRF).is_none_or(|said| said.as_bytes() != csrf.as_bytes())
    {
        return Err(forbidden("the page that asked is not this session's; load it again"));
    }
    match may {
        May::Anybody | May::Brought | May::Users => Ok(()),
        May::Concerned if changes => refuse_the_guarded(admin, caller),
        May::Concerned => Ok(()),
        May::Role(role) if caller.person.roles.contains(&role) => match changes {
            true => refuse_the_guarded(admin, caller),
            false => Ok(()),
        },
        May::Role(role) => Err(forbidden(&format!("this is for people with the role `{}`", role.as_str()))),
        May::Root(why) => match (&caller.way, caller.person.is_root()) {
            (Way::Socket(_), true) => refuse_the_guarded(admin, caller),
            _ => Err(forbidden(why)),
        },
        May::Starting => match (&caller.way, caller.person.is_root()) {
            (Way::Socket(_), true) => Ok(()),
            _ => Err(forbidden("only root runs guarded commands")),
        },
    }
}

/// At the console something is changed by its own pages only. Servers of others (a chat's, a provider's of identity) send no
/// origin, and prove themselves in other ways.
fn refuse_other_sites(admin: &Admin, request: &Request) -> Result<(), Response> {
    let at_console = request.extensions().get::<Remote>().is_some();
    let from = request.headers().get(header::ORIGIN).filter(|_| at_console);
    let ours = admin.people.origin.as_ref().map(|origin| origin.url.as_bytes());
    match from {
        Some(from) if Some(from.as_bytes()) != ours => {
            let detail = "another site's page may not change anything here";
            Err(Problem::response(StatusCode::MISDIRECTED_REQUEST, "not here", detail))
        }
        _ => Ok(()),
    }
}

/// A guarded process decides nothing, whatever user it runs as: a bot that can change its user would approve itself.
fn refuse_the_guarded(admin: &Admin, caller: &Caller) -> Result<(), Response> {
    let Way::Socket(pid) = caller.way else { return Ok(()) };
    let outside = pid.is_some_and(|pid| admin.guards.cover(pid).is_ok_and(|guarded| !guarded));
    if outside {
        return Ok(());
    }
    let detail =
        "decisions are made outside guarded workloads, and the process that asks must live until it has its answer";
    Err(forbidden(detail))
}

fn forbidden(detail: &str) -> Response {
    Problem::response(StatusCode::FORBIDDEN, "not allowed", detail)
}

fn unknown() -> Response {
    Problem::response(StatusCode::UNAUTHORIZED, "not signed in", "nobody knows who you are; sign in first")
}

pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

/// To the page on which to sign in, and from there back to this one.
fn to_sign_in(request: &Request) -> Response {
    let to = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let to: String = form_urlencoded(to);
    Redirect::to(&format!("/signin?to={to}")).into_response()
}

/// Every byte but letters, digits and slashes as `%XX`.
fn form_urlencoded(text: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    text.bytes().map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The value of a cookie.
pub(super) fn cookie(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
}

/// The cookie's name: browsers take one that begins so only over TLS (or from `localhost`), for this host and every path.
pub(super) const COOKIE: &str = "__Host-holdpoint";

/// The header by which a page shows that it is this session's.
const CSRF: &str = "x-csrf";
