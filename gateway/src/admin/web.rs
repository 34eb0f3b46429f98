//! The console's door: HTTP over TCP, with TLS where the settings say, for people with browsers.
//!
//! # Security
//! Bounds before anything is known of who comes: so many connections in all and from one address, so long for a
//! handshake and for a request's head, so many bytes of a body. A request under another name than the console's is
//! refused (a page of another site that resolves its own name to this address would be one), and one that changes
//! something must come from the console's own pages, but where the table of routes says otherwise (`caller.rs`). Every answer forbids what a page of ours never does.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};

use super::{
    Admin, Door, Problem,
    caller::{self, Remote},
    router,
};
use crate::{crowd::Crowd, net::tls::Server, people::Origin};

/// Serves the console until dropped.
pub async fn serve_console(admin: Arc<Admin>, listener: TcpListener, tls: Option<Server>) {
    let router = router(&admin, Door::Console)
        .layer(middleware::from_fn_with_state(admin.clone(), caller::by_what_they_bring))
        .layer(middleware::from_fn_with_state(admin, at_home))
        .layer(DefaultBodyLimit::max(LONGEST_BODY));
    let (crowd, tls) = (Arc::new(Crowd::<IpAddr>::default()), tls.map(Arc::new));
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most of the time: others must end first.
                tracing::warn!(%error, "the console cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let bounds = |open: &std::collections::HashMap<IpAddr, usize>| {
            let (own, all) = (open.get(&remote.ip()).copied().unwrap_or(0), open.values().sum::<usize>());
            own < FROM_ONE && all < TOGETHER
        };
        let Some(place) = crowd.enter(remote.ip(), bounds) else { continue };
        let (router, tls) = (router.clone(), tls.clone());
        tokio::spawn(async move {
            let _place = place;
            serve_one(stream, remote.ip(), router, tls).await;
        });
    }
}

async fn serve_one(stream: TcpStream, remote: IpAddr, router: Router, tls: Option<Arc<Server>>) {
    let _ = stream.set_nodelay(true);
    let service = router.layer(axum::Extension(Remote(remote)));
    let service = TowerToHyperService::new(service);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30)));
    builder.http2().max_concurrent_streams(64).max_header_list_size(32 * 1024);
    // What a browser breaks off is no news.
    match tls {
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HEAD, tls.accept(stream)).await {
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        }
        None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
    }
}

/// Answers to the console's own name only.
async fn at_home(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let mut response = match admin.people.origin.as_ref().map(|origin| foreign(origin, &request)) {
        Some(None) => next.run(request).await,
        Some(Some(why)) => Problem::response(StatusCode::MISDIRECTED_REQUEST, "not here", why),
        None => Problem::response(StatusCode::NOT_FOUND, "no console", "there is no console here"),
    };
    let tls = admin.people.origin.as_ref().is_some_and(|origin| origin.tls);
    harden(&mut response, tls);
    response
}

/// Why this request is not for this console; `None` where it is.
fn foreign(origin: &Origin, request: &Request) -> Option<String> {
    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(|| text(header::HOST));
    if host.is_none_or(|host| !host.eq_ignore_ascii_case(&origin.authority)) {
        return Some(format!("this console is called {}; open it under that name", origin.url));
    }
    None
}

fn harden(response: &mut Response, tls: bool) {
    let headers = response.headers_mut();
    let fixed = HARD.iter().map(|(name, value)| (*name, *value));
    for (name, value) in fixed.chain(tls.then_some(("strict-transport-security", "max-age=31536000"))) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // What names nobody may be kept; everything else is for the one who asked, now.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// A page of ours runs its own scripts, wears its own styles, and talks to its own server.
const HARD: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types console",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()",
    ),
];

/// For a handshake, and for the head of a request.
const HEAD: Duration = Duration::from_secs(10);

/// Connections at most. A browser has six at a time without HTTP/2.
const TOGETHER: usize = 1024;

/// From one address: an office behind one, too.
const FROM_ONE: usize = 256;

/// What people send at most, bytes.
pub(super) const LONGEST_BODY: usize = 256 * 1024;
