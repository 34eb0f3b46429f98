//! What a provider says of itself (OpenID Connect Discovery 1.0): read when first wanted, and again after a while.

use std::{sync::Arc, time::Duration};

use oauth2::url::Url;
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};

use super::{
    Check,
    check::{must, verify},
    error::Why,
    http::Http,
};

/// What a provider says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    pub(super) jwks_uri: Url,
    #[serde(default)]
    pub(super) userinfo_endpoint: Option<Url>,
    #[serde(default)]
    pub(super) end_session_endpoint: Option<Url>,
    #[serde(default)]
    pub(super) device_authorization_endpoint: Option<Url>,
    /// RFC 9207.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

impl Metadata {
    /// Whether the client's secret goes into the body: only where the header is not taken.
    pub(super) fn secret_in_body(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_ref();
        methods.is_some_and(|methods| !methods.iter().any(|method| method == "client_secret_basic"))
    }
}

/// What a provider said, with what was expected of it.
pub(super) struct Said<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) issuer: &'a str,
    pub(super) http: &'a Http,
}

/// What must be so of it.
pub(super) const fn checks<'a>() -> [Check<Said<'a>>; 3] {
    [
        Check { name: "issuer", holds: issuer },
        Check { name: "transport", holds: transport },
        Check { name: "pkce", holds: pkce },
    ]
}

/// It speaks for itself (Discovery 1.0, 4.3).
fn issuer(said: &Said<'_>) -> Result<(), Why> {
    let own = &said.metadata.issuer;
    must(own == said.issuer, || {
        Why::Metadata(format!("it calls itself {}, the settings {}; they must be equal", Why::words(own), said.issuer))
    })
}

/// Nothing that is secret goes in clear.
fn transport(said: &Said<'_>) -> Result<(), Why> {
    let Metadata { authorization_endpoint, token_endpoint, jwks_uri, .. } = said.metadata;
    let others = [
        &said.metadata.userinfo_endpoint,
        &said.metadata.end_session_endpoint,
        &said.metadata.device_authorization_endpoint,
    ];
    let all = [authorization_endpoint, token_endpoint, jwks_uri].into_iter().chain(others.into_iter().flatten());
    let wrong = all.into_iter().find(|url| !said.http.may_ask(url));
    wrong.map_or(Ok(()), |url| Err(Why::Metadata(format!("{} is not https", Why::words(url.as_str())))))
}

/// A code that somebody else caught is of no use to them.
fn pkce(said: &Said<'_>) -> Result<(), Why> {
    let methods = said.metadata.code_challenge_methods_supported.as_ref();
    let bad = methods.is_some_and(|methods| !methods.iter().any(|method| method == "S256"));
    must(!bad, || Why::Metadata("it does not do PKCE with S256".to_owned()))
}

/// What a provider says of itself, kept for a while.
#[derive(Default)]
pub(super) struct Discovered(Mutex<State>);

#[derive(Default)]
struct State {
    known: Option<(Arc<Metadata>, Instant)>,
    failed: Option<(Why, Instant)>,
}

impl Discovered {
    /// What `issuer` says of itself.
    ///
    /// # Errors
    /// It does not, or not what can be used; for a moment then it is not asked again, so that those who wait for it do not
    /// wait one after another.
    pub(super) async fn of(&self, http: &Http, issuer: &str) -> Result<Arc<Metadata>, Why> {
        let mut state = self.0.lock().await;
        if let Some((known, read)) = &state.known
            && read.elapsed() < LIFE
        {
            return Ok(known.clone());
        }
        if let Some((why, when)) = &state.failed
            && when.elapsed() < RETRY
        {
            return Err(why.clone());
        }
        match read(http, issuer).await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                *state = State { known: Some((metadata.clone(), Instant::now())), failed: None };
                Ok(metadata)
            }
            Err(why) => {
                state.failed = Some((why.clone(), Instant::now()));
                Err(why)
            }
        }
    }
}

async fn read(http: &Http, issuer: &str) -> Result<Metadata, Why> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|error| Why::Metadata(format!("{url}: {error}")))?;
    let metadata = http.read(&url, None).await;
    let metadata = metadata.map_err(|error| Why::Unreachable { about: "what it offers", why: error.0 })?;
    verify(&checks(), &Said { metadata: &metadata, issuer, http })?;
    Ok(metadata)
}

/// For how long it is believed.
const LIFE: Duration = Duration::from_secs(60 * 60);

/// How often a provider that does not answer is asked, at most.
const RETRY: Duration = Duration::from_secs(5);
