//! One question to a provider: a connection of its own, bounded in bytes and time, in TLS that is verified.
//!
//! # Security
//! No redirection is followed and no proxy used. In clear only the loopback is spoken to, and only where the issuer itself
//! is there.

use std::{net::IpAddr, path::PathBuf, pin::pin, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response,
    body::Bytes,
    header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use oauth2::{HttpRequest, HttpResponse, url::Url};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::net::tls::{HandshakeError, Settings, Tls};

/// Who asks.
pub(super) struct Http {
    tls: Tls,
    settings: Settings,
    /// Whether the loopback is spoken to in clear.
    plain: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct HttpError(pub(super) String);

impl Http {
    pub(super) fn new(ca: Option<PathBuf>, plain: bool) -> Self {
        Self { tls: Tls::new(None), settings: Settings::verified(ca, None), plain }
    }

    /// Whether this is asked at all.
    pub(super) fn may_ask(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => url.has_host() && url.username().is_empty() && url.password().is_none(),
            "http" => self.plain && url.host_str().is_some_and(is_loopback),
            _ => false,
        }
    }

    /// Reads a JSON document.
    pub(super) async fn read<T: DeserializeOwned>(&self, url: &Url, bearer: Option<&str>) -> Result<T, HttpError> {
        let wrong = |why: &str| HttpError(format!("{url} {why}"));
        let mut request = Request::get(url.as_str()).header(ACCEPT, "application/json");
        if let Some(bearer) = bearer {
            let value = HeaderValue::from_str(&format!("Bearer {bearer}"));
            let mut value = value.map_err(|_| wrong("cannot be asked with such an access token"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Vec::new()).map_err(|_| wrong("cannot be asked"))?;
        let answer = self.call(request).await?;
        if !answer.status().is_success() {
            return Err(wrong(&format!("answers {}", answer.status())));
        }
        // The library's own words could have what it read in them.
        serde_json::from_slice(answer.body()).map_err(|_| wrong("answers with something else than is expected there"))
    }

    /// Asks, and reads the answer.
    pub(super) async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri().clone();
        let asked = timeout(PATIENCE, self.exchange(request));
        let named = |why: String| HttpError(format!("{}: {why}", uri.host().unwrap_or_default()));
        match asked.await {
            Ok(Ok(answer)) if answer.status().is_redirection() => {
                Err(named("it sends elsewhere, where the gateway does not follow".to_owned()))
            }
            Ok(answer) => answer.map_err(named),
            Err(_) => Err(named(format!("no whole answer within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, String> {
        let (mut parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|_| "it is no address".to_owned())?;
        let host = url.host_str().filter(|_| self.may_ask(&url)).ok_or("it is not spoken to in clear")?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
        let authority = HeaderValue::from_str(authority).map_err(|_| "it is no host".to_owned())?;
        parts.headers.insert(HOST, authority);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse().map_err(|_| "it is no path".to_owned())?;
        let request = Request::from_parts(parts, Full::new(Bytes::from(body)));
        let tls = url.scheme() == "https";
        let stream = connect(&host, url.port_or_known_default().unwrap_or(443), tls).await?;
        if !tls {
            return send(stream, request).await;
        }
        let shaken = self.tls.connect_stream(stream, &self.settings, b"http/1.1", &host).await;
        send(shaken.map_err(|error| not_it(&error))?.0, request).await
    }
}

async fn connect(host: &str, port: u16, tls: bool) -> Result<TcpStream, String> {
    let unreachable = |error: std::io::Error| format!("it cannot be reached: {error}");
    let mut last = std::io::Error::other("its name has no address");
    for address in tokio::net::lookup_host((host, port)).await.map_err(unreachable)? {
        if !tls && !address.ip().is_loopback() {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

/// Sends one request and reads the whole answer, within bounds.
async fn send<S: AsyncRead + AsyncWrite + Send + Unpin>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<HttpResponse, String> {
    let broken = |error: hyper::Error| format!("the connection to it broke: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut asked = pin!(async move {
        let (parts, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, LONGEST).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?;
        Ok(Response::from_parts(parts, body.to_bytes().to_vec()))
    });
    tokio::select! {
        done = &mut asked => done,
        // Over, perhaps with an answer that was not read to its end.
        _ = connection => asked.await,
    }
}

fn not_it(error: &HandshakeError) -> String {
    match error {
        HandshakeError::Refused { why, .. } => format!("its certificate is refused: {why}; `ca:` says who signs it"),
        HandshakeError::Backend(error) => format!("the TLS handshake with it failed: {error}"),
        other => other.to_string(),
    }
}

/// Whether this host can only be this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The longest answer, in bytes: keys with certificate chains are long.
const LONGEST: usize = 256 * 1024;

/// The longest that a provider may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
