//! Signing in with a provider of OpenID Connect, of which there may be several.
//!
//! `begin` gives the address to which a browser is sent; `finish` takes what it brings back, exchanges the code, and says
//! who signed in. Nothing here keeps sessions or serves a page.
//!
//! # Correctness
//! What is checked is data: one list for what a browser brings ([`answer`]), one for the ID token ([`token`]), one for what
//! it says of the person ([`profile`]), one for logout tokens ([`logout`]) and one for what a provider says of itself
//! ([`metadata`]). Tests leave each check out in turn, and see what it refuses get through.
//!
//! # Security
//! Authorization code with PKCE, `state`, `nonce`, the issuer's own name in the answer (RFC 9207), and an address for
//! answers of each provider's own. A provider that cannot be asked stops nobody but those who sign in there.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use nix::unistd::geteuid;
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet,
    ErrorResponse, ExtraTokenFields, PkceCodeChallenge, RedirectUrl, RequestTokenError, Scope, StandardRevocableToken,
    StandardTokenResponse, TokenResponse as _, TokenUrl,
    basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType},
    url::Url,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Subject, Token, check, check::verify};
use crate::config::OidcProvider;

mod answer;
mod device;
mod error;
mod http;
mod jws;
mod keys;
mod logout;
mod metadata;
mod pending;
mod profile;
mod token;

#[cfg(test)]
mod tests;

use self::{
    answer::Answer,
    http::Http,
    jws::Jws,
    keys::Keys,
    logout::LogoutToken,
    metadata::Metadata,
    profile::Profile,
    token::{Expected, IdToken},
};
pub use device::Device;
pub use error::{OidcError, Why};
pub use logout::LoggedOut;
pub use pending::{PATIENCE, Pending, Waiting};

/// One thing that must be so of some evidence.
type Check<E> = check::Check<E, Why>;

/// The providers, by name.
#[derive(Default)]
pub struct Providers(Vec<Arc<Provider>>);

/// One provider.
pub struct Provider {
    settings: OidcProvider,
    redirect: RedirectUrl,
    http: Http,
    discovered: metadata::Discovered,
    keys: Keys,
    used: Mutex<logout::Used>,
}

/// A sign-in that was begun.
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// What is kept until it comes back.
    pub pending: Pending,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("`people: oidc:` {name}: {why}")]
pub struct SettingsError {
    /// The provider's name.
    pub name: String,
    /// What.
    pub why: String,
}

impl Providers {
    /// Those of the settings; `console` is what the console is called. Nobody is asked yet.
    ///
    /// # Errors
    /// One of them cannot be meant, or a secret cannot be read.
    pub fn from_config(all: &[OidcProvider], console: &str) -> Result<Self, SettingsError> {
        for (at, one) in all.iter().enumerate() {
            let failed = |why: &str| Err(SettingsError { name: one.name.clone(), why: why.to_owned() });
            if all[..at].iter().any(|other| other.name == one.name) {
                return failed("there are two of that name");
            }
            // To one client people may be others than to another: one human could count twice.
            if all[..at].iter().any(|other| other.issuer == one.issuer) {
                return failed("another one has the same issuer; one of them is enough");
            }
        }
        let each = all.iter().map(|one| {
            let named = |why| SettingsError { name: one.name.clone(), why };
            Provider::new(one.clone(), console).map(Arc::new).map_err(named)
        });
        each.collect::<Result<_, _>>().map(Self)
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Provider>> {
        self.0.iter().find(|provider| provider.name() == name)
    }

    /// All, in the order of the settings.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.0.iter()
    }
}

type Client = oauth2::Client<
    BasicErrorResponse,
    Tokens,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

type Tokens = StandardTokenResponse<WithIdToken, BasicTokenType>;

#[derive(Clone, Default, Serialize, Deserialize)]
struct WithIdToken {
    id_token: Option<String>,
}

impl std::fmt::Debug for WithIdToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WithIdToken")
    }
}

impl ExtraTokenFields for WithIdToken {}

impl Provider {
    fn new(settings: OidcProvider, console: &str) -> Result<Self, String> {
        let OidcProvider { name, issuer, .. } = &settings;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) || name.starts_with('.') {
            return Err("its name may have letters, digits, `.`, `_` and `-`, at most 64 of them".to_owned());
        }
        let url = Url::parse(issuer).map_err(|error| format!("`issuer: {issuer}` is no address: {error}"))?;
        let plain = url.scheme() == "http";
        let http = Http::new(settings.ca.clone(), plain);
        if !http.may_ask(&url) || url.query().is_some() || url.fragment().is_some() {
            let why = "expected https:// (http:// on the loopback), without user, query and fragment";
            return Err(format!("`issuer: {issuer}`: {why}"));
        }
        if settings.client_id.is_empty() {
            return Err("`client_id` is empty".to_owned());
        }
        let redirect = format!("{}{}", console.trim_end_matches('/'), return_path(name));
        let redirect = RedirectUrl::new(redirect).map_err(|error| format!("`console: url:` is no address: {error}"))?;
        let (discovered, keys, used) = Default::default();
        let own = Self { settings, redirect, http, discovered, keys, used };
        own.secret()?;
        Ok(own)
    }

    /// Its name here.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its issuer.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Whether people may sign in on a terminal.
    pub fn has_device(&self) -> bool {
        self.settings.device
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// The provider cannot be asked what it offers.
    pub async fn begin(&self) -> Result<Begun, OidcError> {
        self.named(self.try_begin(None).await)
    }

    /// Begins one that shows anew who somebody is who is signed in already; `subject` is what the provider calls them.
    ///
    /// # Errors
    /// The provider cannot be asked what it offers.
    pub async fn begin_again(&self, subject: &str) -> Result<Begun, OidcError> {
        self.named(self.try_begin(Some(subject)).await)
    }

    /// Ends a sign-in with the query that the browser brings back.
    ///
    /// # Errors
    /// Whatever of it does not count.
    pub async fn finish(&self, pending: Pending, query: &str) -> Result<Subject, OidcError> {
        self.named(self.try_finish(pending, query).await)
    }

    /// Reads what the provider sends when somebody signed out there.
    ///
    /// # Errors
    /// Whatever of it does not count.
    pub async fn logged_out(&self, token: &str) -> Result<LoggedOut, OidcError> {
        self.named(self.try_logged_out(token).await)
    }

    /// Where a browser goes to sign out at the provider too (RP-Initiated Logout 1.0), and from there to `back`, which must
    /// be registered there. `None` where the provider has no such place.
    ///
    /// # Errors
    /// The provider cannot be asked what it offers.
    pub async fn sign_out_url(&self, subject: &Subject, back: &str) -> Result<Option<String>, OidcError> {
        let metadata = self.named(self.metadata().await)?;
        Ok(metadata.end_session_endpoint.clone().map(|mut url| {
            let hint = subject.id_token.as_ref().map(|token| ("id_token_hint", token.reveal()));
            url.query_pairs_mut()
                .extend_pairs(hint)
                .append_pair("client_id", &self.settings.client_id)
                .append_pair("post_logout_redirect_uri", back);
            url.into()
        }))
    }

    async fn try_begin(&self, subject: Option<&str>) -> Result<Begun, Why> {
        let metadata = self.metadata().await?;
        let client = self.client(&metadata)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (state, nonce) = (Token::random(), Token::random());
        let mut request = client
            .authorize_url(|| CsrfToken::new(state.reveal().to_owned()))
            .add_scopes(self.scopes().into_iter().map(Scope::new))
            .add_extra_param("nonce", nonce.reveal())
            .set_pkce_challenge(challenge);
        let max_age = if subject.is_some() { Some(0) } else { self.settings.max_age.map(|age| age.as_secs()) };
        if let Some(max_age) = max_age {
            request = request.add_extra_param("max_age", max_age.to_string());
        }
        if subject.is_some() {
            request = request.add_extra_param("prompt", "login");
        }
        if !self.settings.require.acr.is_empty() {
            request = request.add_extra_param("acr_values", self.settings.require.acr.join(" "));
        }
        let (url, _) = request.url();
        let pending = Pending {
            provider: self.name().to_owned(),
            state,
            nonce,
            verifier,
            begun: now(),
            max_age,
            subject: subject.map(str::to_owned),
            until: Instant::now() + PATIENCE,
        };
        Ok(Begun { url: url.into(), pending })
    }

    async fn try_finish(&self, pending: Pending, query: &str) -> Result<Subject, Why> {
        let metadata = self.metadata().await?;
        let answer = Answer {
            said: Answer::read(query),
            pending,
            provider: self.name().to_owned(),
            issuer: metadata.issuer.clone(),
            names_itself: metadata.authorization_response_iss_parameter_supported,
        };
        verify(answer::CHECKS, &answer)?;
        let code = AuthorizationCode::new(answer.one("code").unwrap_or_default().to_owned());
        let Pending { nonce, verifier, begun, max_age, subject, .. } = answer.pending;
        let client = self.client(&metadata)?;
        let tokens = client
            .exchange_code(code)
            .set_pkce_verifier(verifier)
            .request_async(&|request| self.http.call(request))
            .await
            .map_err(exchanged)?;
        let expected = self.expected(Some(nonce.reveal().to_owned()), begun, max_age, subject);
        self.subject(&metadata, &tokens, expected).await
    }

    /// Who the tokens are of.
    async fn subject(&self, metadata: &Metadata, tokens: &Tokens, expected: Expected) -> Result<Subject, Why> {
        let id_token = tokens.extra_fields().id_token.as_deref().ok_or(Why::NoToken)?;
        let token = Jws::read(id_token)?;
        let key = self.key(metadata, &token).await?;
        let access_token = tokens.access_token().secret().to_owned();
        let id = IdToken { claims: token.claims()?, token, key, access_token, expected };
        verify(token::CHECKS, &id)?;
        let profile = self.profile(metadata, &id).await?;
        verify(profile::CHECKS, &profile)?;
        let time = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let until = time(id.claims.exp).ok_or(Why::Malformed("its `exp` is no time".to_owned()))?;
        Ok(Subject {
            provider: self.name().to_owned(),
            issuer: id.claims.iss,
            name: profile.name().unwrap_or(&profile.subject).to_owned(),
            email: profile.email().map(str::to_owned),
            groups: profile.groups()?.into_iter().collect(),
            subject: id.claims.sub,
            sid: id.claims.sid,
            auth_time: id.claims.auth_time.and_then(time),
            acr: id.claims.acr,
            amr: id.claims.amr.into_iter().collect(),
            until,
            ends: None,
            id_token: Some(Token::returned(id_token)),
        })
    }

    async fn profile(&self, metadata: &Metadata, id: &IdToken) -> Result<Profile, Why> {
        let OidcProvider { claims, groups, require, .. } = &self.settings;
        let mut profile = Profile {
            subject: id.claims.sub.clone(),
            claims: id.claims.others.clone(),
            userinfo: None,
            names: claims.clone(),
            groups: groups.clone(),
            domains: require.email_domain.clone(),
        };
        if let Some(url) = metadata.userinfo_endpoint.as_ref().filter(|_| profile.is_short()) {
            let userinfo = self.http.read(url, Some(&id.access_token)).await;
            profile.userinfo = Some(userinfo.map_err(|error| Why::Unreachable { about: "who you are", why: error.0 })?);
        }
        Ok(profile)
    }

    async fn try_logged_out(&self, token: &str) -> Result<LoggedOut, Why> {
        let metadata = self.metadata().await?;
        let token = Jws::read(token)?;
        let key = self.key(&metadata, &token).await?;
        let claims: logout::Claims = token.claims()?;
        let mut used = self.used.lock().expect("nothing panics while it holds this lock");
        let is_new = used.is_new(claims.jti.as_deref());
        let (issuer, client_id) = (metadata.issuer.clone(), self.settings.client_id.clone());
        let out = LogoutToken { token, key, claims, issuer, client_id, is_new, now: now() };
        verify(logout::CHECKS, &out)?;
        let LogoutToken { claims, issuer, now, .. } = out;
        if let Some(jti) = claims.jti {
            used.add(jti, now);
        }
        Ok(LoggedOut { issuer, subject: claims.sub, sid: claims.sid })
    }

    fn expected(&self, nonce: Option<String>, begun: u64, max_age: Option<u64>, subject: Option<String>) -> Expected {
        let OidcProvider { issuer, client_id, require, .. } = &self.settings;
        let (acr, amr) = (require.acr.clone(), require.amr.clone());
        let (issuer, client_id) = (issuer.clone(), client_id.clone());
        Expected { issuer, client_id, nonce, begun, max_age, subject, acr, amr, now: now() }
    }

    async fn metadata(&self) -> Result<Arc<Metadata>, Why> {
        self.discovered.of(&self.http, &self.settings.issuer).await
    }

    /// The key that a token names. Nobody is asked for one with which nothing would count.
    async fn key(&self, metadata: &Metadata, token: &Jws) -> Result<Option<jsonwebtoken::jwk::Jwk>, Why> {
        let Some(algorithm) = token.algorithm() else { return Ok(None) };
        self.keys.find(&self.http, &metadata.jwks_uri, token.header.kid.as_deref(), algorithm).await
    }

    fn client(&self, metadata: &Metadata) -> Result<Client, Why> {
        let mut client = oauth2::Client::new(ClientId::new(self.settings.client_id.clone()))
            .set_redirect_uri(self.redirect.clone())
            .set_auth_uri(AuthUrl::from_url(metadata.authorization_endpoint.clone()))
            .set_token_uri(TokenUrl::from_url(metadata.token_endpoint.clone()));
        if let Some(secret) = self.secret().map_err(Why::Secret)? {
            client = client.set_client_secret(secret);
        }
        let type_ = if metadata.secret_in_body() { AuthType::RequestBody } else { AuthType::BasicAuth };
        Ok(client.set_auth_type(type_))
    }

    /// What proves to the provider that it is the gateway that asks.
    fn secret(&self) -> Result<Option<ClientSecret>, String> {
        let Some(path) = &self.settings.client_secret_file else { return Ok(None) };
        let failed = |why: String| format!("cannot read `client_secret_file: {}`: {why}", path.display());
        let wrong = |error: io::Error| failed(error.to_string());
        let mut file = File::open(path).map_err(wrong)?;
        let about = file.metadata().map_err(wrong)?;
        if about.mode() & 0o077 != 0 || about.uid() != geteuid().as_raw() {
            return Err(failed(
                "others than the gateway's user may read it; `chmod 600` it, and `chown` it".to_owned(),
            ));
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(wrong)?;
        let secret = text.trim();
        if secret.is_empty() {
            return Err(failed("it is empty".to_owned()));
        }
        Ok(Some(ClientSecret::new(secret.to_owned())))
    }

    fn scopes(&self) -> Vec<String> {
        let others = self.settings.scopes.iter().filter(|scope| *scope != "openid");
        std::iter::once("openid").map(str::to_owned).chain(others.cloned()).collect()
    }

    fn named<T>(&self, done: Result<T, Why>) -> Result<T, OidcError> {
        done.map_err(|why| OidcError { provider: self.name().to_owned(), why })
    }
}

/// Where a provider's answers arrive at the console.
pub fn return_path(name: &str) -> String {
    format!("/signin/oidc/{name}/return")
}

/// Why the provider did not give tokens.
fn exchanged<E: std::error::Error, T: ErrorResponse + std::fmt::Display>(error: RequestTokenError<E, T>) -> Why {
    match error {
        RequestTokenError::ServerResponse(said) => Why::Exchange(Why::words(&said.to_string())),
        RequestTokenError::Request(error) => Why::Unreachable { about: "for tokens", why: error.to_string() },
        // What stands in its answer is not repeated: it could be a token.
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            Why::Unreachable { about: "for tokens", why: "its answer is none that this version expects".to_owned() }
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
