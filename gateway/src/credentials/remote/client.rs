//! One question to a Vault over HTTP/1.1: a connection of its own, bounded, in TLS that is verified.
//!
//! # Security
//! A token goes to the address in the settings and nowhere else: no redirection is followed and no proxy used. What the
//! Vault says of an error is repeated only where nothing of what it was sent stands in it.

use std::{net::IpAddr, ops::Deref, pin::pin};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use zeroize::Zeroizing;

use crate::{
    config::VaultKey,
    net::tls::{HandshakeError, Settings, Tls},
    visible::visible_start,
};

/// A text that is wiped when dropped, and never printed.
pub(super) struct Hidden(Zeroizing<String>);

impl Hidden {
    pub(super) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl Deref for Hidden {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// One question.
pub(super) struct Call<'a> {
    method: Method,
    path: String,
    body: Zeroizing<Vec<u8>>,
    /// What of the body must be in no error.
    secrets: &'a [&'a str],
}

impl<'a> Call<'a> {
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: Zeroizing::default(), secrets: &[] }
    }

    pub(super) fn post(path: String, body: &impl Serialize, secrets: &'a [&'a str]) -> Self {
        let body = Zeroizing::new(serde_json::to_vec(body).expect("it is plain data"));
        Self { method: Method::POST, path, body, secrets }
    }
}

/// Why there is no answer.
pub(super) struct Failed {
    /// The Vault knows no such token, or does not let it do this.
    pub(super) denied: bool,
    pub(super) why: String,
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self { denied: false, why }
    }
}

/// Where a Vault is, and how it is told from others.
pub(super) struct Client {
    host: String,
    port: u16,
    /// `None`: in clear, which only the loopback is spoken to.
    tls: Option<(Tls, Settings)>,
    namespace: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(settings: &VaultKey) -> Result<Self, String> {
        let VaultKey { address, ca, server_name, namespace, .. } = settings;
        let wrong = |why: &str| format!("`vault: {address}` {why}");
        let uri: Uri = address.parse().map_err(|_| wrong("is no address; expected one such as https://HOST:8200"))?;
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
        let authority = authority.ok_or_else(|| wrong("names no host; expected one such as https://HOST:8200"))?;
        if authority.as_str().contains('@') || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("is more than an address; expected nothing but https://HOST:PORT"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let tls = match scheme {
            "https" => Some((Tls::new(None), Settings::verified(ca.clone(), server_name.clone()))),
            "http" if is_loopback(&host) => None,
            "http" => return Err(wrong("would send keys in clear; say https://, since it is not on the loopback")),
            _ => return Err(wrong("is neither https:// nor http://")),
        };
        let namespace = namespace.as_deref().map(HeaderValue::from_str).transpose();
        let namespace = namespace.map_err(|_| "`namespace:` can be none of a Vault's".to_owned())?;
        let usual = if tls.is_some() { 443 } else { 80 };
        Ok(Self { host, port: authority.port_u16().unwrap_or(usual), tls, namespace })
    }

    /// Asks, and reads the answer.
    pub(super) async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        call: &Call<'_>,
        token: Option<&str>,
    ) -> Result<T, Failed> {
        let request = self.request(call, token)?;
        let stream = self.connect().await?;
        let answered = match &self.tls {
            None => exchange(stream, request).await,
            Some((tls, settings)) => {
                let shaken = tls.connect_stream(stream, settings, b"http/1.1", &self.host).await;
                exchange(shaken.map_err(|error| not_it(&error))?.0, request).await
            }
        };
        let (status, body) = answered?;
        if status.is_success() {
            // The library's own words could have what it read in them.
            return serde_json::from_slice(&body)
                .map_err(|_| "its answer is not what this version expects".to_owned().into());
        }
        let words = words(&body, token.into_iter().chain(call.secrets.iter().copied()));
        let why = match status.as_u16() {
            403 => format!("it does not let the gateway do this ({}){words}", call.path),
            404 => format!("it has nothing at {}{words}", call.path),
            503 => format!("it is sealed, or not ready yet{words}"),
            300..=399 => {
                "it sends elsewhere, where the gateway does not follow; name the address that answers itself (the \
                          active node's, or a load balancer's)"
                    .to_owned()
            }
            _ => format!("it answers {status}{words}"),
        };
        Err(Failed { denied: status == StatusCode::FORBIDDEN, why })
    }

    fn request(&self, call: &Call<'_>, token: Option<&str>) -> Result<Request<Full<Bytes>>, String> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let body = Full::new(Bytes::from_owner(call.body.clone()));
        let uri = format!("/v1/{}", call.path);
        let request = Request::builder().method(&call.method).uri(uri).header(HOST, format!("{host}:{}", self.port));
        let request = request.header("x-vault-request", "true").body(body);
        let mut request = request.map_err(|error| format!("it cannot be asked: {error}"))?;
        if let Some(namespace) = &self.namespace {
            request.headers_mut().insert("x-vault-namespace", namespace.clone());
        }
        if let Some(token) = token {
            let mut token = HeaderValue::from_str(token).map_err(|_| "the token has bytes that none has".to_owned())?;
            token.set_sensitive(true);
            request.headers_mut().insert("x-vault-token", token);
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let unreachable = |error: std::io::Error| format!("it cannot be reached: {error}");
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(unreachable)?;
        let mut last = std::io::Error::other("its name has no address");
        for address in found {
            if self.tls.is_none() && !address.ip().is_loopback() {
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }
}

/// Sends one request and reads the whole answer, within bounds.
async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Zeroizing<Vec<u8>>), String> {
    let broken = |error: hyper::Error| format!("the connection to it broke: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut asked = pin!(async move {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?;
        Ok((status, Zeroizing::new(body.to_bytes().to_vec())))
    });
    tokio::select! {
        done = &mut asked => done,
        // Over, perhaps with an answer that was not read to its end.
        _ = connection => asked.await,
    }
}

/// The Vault's own words on an error, harmless and without anything that it was sent.
fn words<'a>(body: &[u8], mut secrets: impl Iterator<Item = &'a str>) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let said = serde_json::from_slice::<Errors>(body).ok().and_then(|said| said.errors.into_iter().next());
    let Some(said) = said.filter(|said| !secrets.any(|secret| said.contains(secret))) else { return String::new() };
    format!(", and says: {}", visible_start(said.as_bytes(), WORDS))
}

fn not_it(error: &HandshakeError) -> String {
    match error {
        HandshakeError::Refused { why, .. } => format!(
            "its certificate is refused: {why}; `ca:` says who signs it, `server_name:` for whom it is if not for the \
             address's host"
        ),
        HandshakeError::Backend(error) => format!("the TLS handshake with it failed: {error}"),
        other => other.to_string(),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The longest answer, in bytes.
const LONGEST: usize = 256 * 1024;

/// The longest that a Vault's words are repeated, in characters.
const WORDS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Result<Client, String> {
        Client::new(&crate::config::VaultKey {
            address: address.to_owned(),
            key: crate::config::KeptKey::Transit(crate::config::Transit { key: "k".into(), mount: "transit".into() }),
            auth: crate::config::VaultAuth::Token("/t".into()),
            ca: None,
            server_name: None,
            namespace: None,
        })
    }

    #[test]
    fn only_the_loopback_is_spoken_to_in_clear() {
        for (address, port) in
            [("https://vault:8200", 8200), ("https://[::1]", 443), ("http://127.0.0.1:1", 1), ("http://localhost/", 80)]
        {
            assert_eq!(client(address).map(|client| client.port), Ok(port), "{address}");
        }
        for (address, word) in [
            ("http://vault:8200", "in clear"),
            ("http://127.0.0.1.example:8200", "in clear"),
            ("ftp://vault", "neither"),
            ("vault:8200", "neither"),
            ("https://user:canary@vault", "more than"),
            ("https://vault/v1", "more than"),
            ("", "https://"),
        ] {
            let error = client(address).map(|_| ()).expect_err(address);
            assert!(error.contains(word), "{address}: {error}");
        }
    }

    #[test]
    fn a_vaults_words_are_harmless_and_never_what_it_was_sent() {
        let said = |text: &str| words(format!("{{\"errors\":[{text:?}]}}").as_bytes(), ["canary"].into_iter());
        assert_eq!(said("permission denied"), ", and says: permission denied");
        assert_eq!(said("bad token canary"), "");
        assert!(said(&"x".repeat(9999)).len() < 300);
        assert_eq!(words(b"<html>", [].into_iter()), "");
    }
}
