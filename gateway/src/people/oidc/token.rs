//! What an ID token must be (OpenID Connect Core 1.0, 3.1.3.7).

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::{
    Check,
    check::{LEEWAY, must},
    error::Why,
    jws::Jws,
};

/// What an ID token claims. Times are seconds since 1970.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) aud: Audience,
    #[serde(default)]
    pub(super) azp: Option<String>,
    pub(super) exp: u64,
    pub(super) iat: u64,
    #[serde(default)]
    pub(super) nbf: Option<u64>,
    #[serde(default)]
    pub(super) nonce: Option<String>,
    #[serde(default)]
    pub(super) at_hash: Option<String>,
    #[serde(default)]
    pub(super) auth_time: Option<u64>,
    #[serde(default)]
    pub(super) sid: Option<String>,
    #[serde(default)]
    pub(super) acr: Option<String>,
    #[serde(default)]
    pub(super) amr: BTreeSet<String>,
    /// All others.
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

/// For whom a token is.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub(super) fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// An ID token with what was expected.
pub(super) struct IdToken {
    pub(super) token: Jws,
    /// The key that it names, where the provider publishes that.
    pub(super) key: Option<Jwk>,
    pub(super) claims: Claims,
    /// The access token that came with it.
    pub(super) access_token: String,
    pub(super) expected: Expected,
}

/// What was expected. Times are seconds since 1970.
pub(super) struct Expected {
    pub(super) issuer: String,
    pub(super) client_id: String,
    /// `None`: none was sent, since no browser brings the answer.
    pub(super) nonce: Option<String>,
    /// When the sign-in was begun.
    pub(super) begun: u64,
    pub(super) max_age: Option<u64>,
    /// Who must sign in anew.
    pub(super) subject: Option<String>,
    pub(super) acr: Vec<String>,
    pub(super) amr: BTreeSet<String>,
    pub(super) now: u64,
}

/// What must be so of it.
pub(super) const CHECKS: &[Check<IdToken>] = &[
    Check { name: "kind", holds: |id| id.token.check_kind(&["JWT"]) },
    Check { name: "critical", holds: |id| id.token.check_critical() },
    Check { name: "algorithm", holds: |id| id.token.check_algorithm() },
    Check { name: "signature", holds: |id| id.token.check_signature(id.key.as_ref()) },
    Check { name: "issuer", holds: issuer },
    Check { name: "audience", holds: audience },
    Check { name: "azp", holds: azp },
    Check { name: "exp", holds: exp },
    Check { name: "iat", holds: iat },
    Check { name: "nbf", holds: nbf },
    Check { name: "nonce", holds: nonce },
    Check { name: "at_hash", holds: at_hash },
    Check { name: "auth_time", holds: auth_time },
    Check { name: "subject", holds: subject },
    Check { name: "acr", holds: acr },
    Check { name: "amr", holds: amr },
];

fn issuer(id: &IdToken) -> Result<(), Why> {
    must(id.claims.iss == id.expected.issuer, || Why::Issuer(Why::words(&id.claims.iss)))
}

fn audience(id: &IdToken) -> Result<(), Why> {
    must(id.claims.aud.all().contains(&id.expected.client_id), || Why::Audience)
}

fn azp(id: &IdToken) -> Result<(), Why> {
    let holds = match &id.claims.azp {
        Some(azp) => *azp == id.expected.client_id,
        None => id.claims.aud.all().len() <= 1,
    };
    must(holds, || Why::Presenter)
}

fn exp(id: &IdToken) -> Result<(), Why> {
    must(id.expected.now < id.claims.exp.saturating_add(LEEWAY), || Why::Expired)
}

fn iat(id: &IdToken) -> Result<(), Why> {
    must(id.claims.iat <= id.expected.now + LEEWAY, || Why::Future)
}

fn nbf(id: &IdToken) -> Result<(), Why> {
    must(id.claims.nbf.is_none_or(|nbf| nbf <= id.expected.now + LEEWAY), || Why::Future)
}

fn nonce(id: &IdToken) -> Result<(), Why> {
    must(id.expected.nonce.is_none() || id.claims.nonce == id.expected.nonce, || Why::Nonce)
}

/// Core 1.0, 3.1.3.6: the left half of a hash that goes with the method of signing.
fn at_hash(id: &IdToken) -> Result<(), Why> {
    let Some(said) = &id.claims.at_hash else { return Ok(()) };
    let token = id.access_token.as_bytes();
    let hash = match &id.token.header.alg[..] {
        "ES384" => Sha384::digest(token).to_vec(),
        "EdDSA" => Sha512::digest(token).to_vec(),
        _ => Sha256::digest(token).to_vec(),
    };
    must(*said == URL_SAFE_NO_PAD.encode(&hash[..hash.len() / 2]), || Why::AccessToken)
}

fn auth_time(id: &IdToken) -> Result<(), Why> {
    let Some(max_age) = id.expected.max_age else { return Ok(()) };
    let until = |time: u64| time.saturating_add(max_age).saturating_add(LEEWAY);
    let holds = |time| until(time) >= id.expected.begun && time <= id.expected.now + LEEWAY;
    must(id.claims.auth_time.is_some_and(holds), || Why::Stale)
}

fn subject(id: &IdToken) -> Result<(), Why> {
    must(id.expected.subject.as_ref().is_none_or(|subject| *subject == id.claims.sub), || Why::SomebodyElse)
}

fn acr(id: &IdToken) -> Result<(), Why> {
    let wanted = &id.expected.acr;
    let holds = wanted.is_empty() || id.claims.acr.as_ref().is_some_and(|acr| wanted.contains(acr));
    must(holds, || Why::Means(format!("its level (`acr`) is not one of {}", wanted.join(", "))))
}

fn amr(id: &IdToken) -> Result<(), Why> {
    let missing = id.expected.amr.difference(&id.claims.amr).next();
    missing.map_or(Ok(()), |method| Err(Why::Means(format!("`amr` has no `{method}`"))))
}
