//! Questions to a provider: bounded in bytes and time, each over a connection of its own.
//!
//! # Security
//! No redirection is followed and no proxy used. In clear only the loopback is spoken to, and only where the issuer itself
//! is there.

use std::{path::PathBuf, time::Duration};

use oauth2::{
    HttpRequest, HttpResponse,
    http::{
        Request, Response,
        header::{ACCEPT, AUTHORIZATION, HeaderValue},
    },
    url::Url,
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::net::http::{Client, is_loopback};

/// Who asks.
pub(super) struct Http {
    /// Who signs the provider's certificate, where this machine does not trust them.
    ca: Option<PathBuf>,
    /// Whether the loopback is spoken to in clear.
    plain: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct HttpError(pub(super) String);

impl Http {
    pub(super) fn new(ca: Option<PathBuf>, plain: bool) -> Self {
        Self { ca, plain }
    }

    /// Whether this is asked at all.
    pub(super) fn may_ask(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => url.has_host() && url.username().is_empty() && url.password().is_none(),
            "http" => self.plain && url.host_str().is_some_and(|host| is_loopback(host.trim_matches(['[', ']']))),
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
        let (asked, body) = request.into_parts();
        let url = Url::parse(&asked.uri.to_string()).ok().filter(|url| self.may_ask(url));
        let url = url.ok_or("it is not spoken to in clear")?;
        let client = Client::new(url.as_str(), self.ca.clone(), None)?;
        let body = Zeroizing::new(body);
        let answer = client.send(&asked.method, client.path(), asked.headers, body, LONGEST).await?;
        let mut response = Response::new(answer.body.to_vec());
        (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
        Ok(response)
    }
}

/// The longest answer, in bytes: keys with certificate chains are long.
const LONGEST: usize = 256 * 1024;

/// The longest that a provider may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
