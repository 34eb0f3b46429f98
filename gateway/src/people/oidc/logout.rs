//! What a provider sends when somebody signed out there (OpenID Connect Back-Channel Logout 1.0, 2.6).

use std::collections::HashMap;

use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Check, Subject,
    check::{LEEWAY, must},
    error::Why,
    jws::Jws,
    token::Audience,
};

/// Whose sessions end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOut {
    /// The provider's issuer.
    pub issuer: String,
    /// Who.
    pub subject: Option<String>,
    /// Which session of theirs there. `None`: all.
    pub sid: Option<String>,
}

impl LoggedOut {
    /// Whether this one's session ends. One that cannot be told from another of the same person ends too.
    pub fn ends(&self, session: &Subject) -> bool {
        let same_session = self.sid.as_ref().zip(session.sid.as_ref()).is_none_or(|(ours, theirs)| ours == theirs);
        let same_person = self.subject.as_ref().is_none_or(|subject| *subject == session.subject);
        let named = self.subject.is_some() || (self.sid.is_some() && session.sid.is_some());
        self.issuer == session.issuer && same_session && same_person && named
    }
}

/// What a logout token claims. Times are seconds since 1970.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: Audience,
    pub(super) iat: u64,
    #[serde(default)]
    pub(super) exp: Option<u64>,
    #[serde(default)]
    pub(super) jti: Option<String>,
    #[serde(default)]
    pub(super) sub: Option<String>,
    #[serde(default)]
    pub(super) sid: Option<String>,
    #[serde(default)]
    pub(super) events: Map<String, Value>,
    #[serde(default)]
    pub(super) nonce: Option<Value>,
}

/// A logout token with what was expected.
pub(super) struct LogoutToken {
    pub(super) token: Jws,
    pub(super) key: Option<Jwk>,
    pub(super) claims: Claims,
    pub(super) issuer: String,
    pub(super) client_id: String,
    /// Whether it was not used before.
    pub(super) is_new: bool,
    pub(super) now: u64,
}

/// What must be so of it.
pub(super) const CHECKS: &[Check<LogoutToken>] = &[
    // Many providers write what is written of any token.
    Check { name: "kind", holds: |out| out.token.check_kind(&["logout+jwt", "application/logout+jwt", "JWT"]) },
    Check { name: "critical", holds: |out| out.token.check_critical() },
    Check { name: "algorithm", holds: |out| out.token.check_algorithm() },
    Check { name: "signature", holds: |out| out.token.check_signature(out.key.as_ref()) },
    Check { name: "issuer", holds: issuer },
    Check { name: "audience", holds: audience },
    Check { name: "iat", holds: iat },
    Check { name: "exp", holds: exp },
    Check { name: "events", holds: events },
    Check { name: "nonce", holds: nonce },
    Check { name: "who", holds: who },
    Check { name: "jti", holds: jti },
];

fn issuer(out: &LogoutToken) -> Result<(), Why> {
    must(out.claims.iss == out.issuer, || Why::Issuer(Why::words(&out.claims.iss)))
}

fn audience(out: &LogoutToken) -> Result<(), Why> {
    must(out.claims.aud.all().contains(&out.client_id), || Why::Audience)
}

/// Made lately: what was used before is remembered no longer than that.
fn iat(out: &LogoutToken) -> Result<(), Why> {
    must(out.claims.iat <= out.now + LEEWAY, || Why::Future)?;
    must(out.claims.iat.saturating_add(LIFE) >= out.now, || Why::Expired)
}

fn exp(out: &LogoutToken) -> Result<(), Why> {
    must(out.claims.exp.is_none_or(|exp| out.now < exp.saturating_add(LEEWAY)), || Why::Expired)
}

fn events(out: &LogoutToken) -> Result<(), Why> {
    must(out.claims.events.get(EVENT).is_some_and(Value::is_object), || Why::NoEvent)
}

fn nonce(out: &LogoutToken) -> Result<(), Why> {
    must(out.claims.nonce.is_none(), || Why::HasNonce)
}

fn who(out: &LogoutToken) -> Result<(), Why> {
    must(out.claims.sub.is_some() || out.claims.sid.is_some(), || Why::Nobody)
}

fn jti(out: &LogoutToken) -> Result<(), Why> {
    must(out.claims.jti.is_some() && out.is_new, || Why::Replayed)
}

/// The tokens that were used: their `jti`, and until when that matters.
#[derive(Default)]
pub(super) struct Used(HashMap<String, u64>);

impl Used {
    pub(super) fn is_new(&self, jti: Option<&str>) -> bool {
        jti.is_none_or(|jti| !self.0.contains_key(jti))
    }

    /// Remembers one, and forgets those that are too old to be taken anyway.
    pub(super) fn add(&mut self, jti: String, now: u64) {
        self.0.retain(|_, until| *until > now);
        if self.0.len() >= MOST {
            // Only the provider itself can fill this; to sign somebody out twice harms nobody.
            let oldest = self.0.iter().min_by_key(|(_, until)| **until).map(|(jti, _)| jti.clone());
            oldest.and_then(|jti| self.0.remove(&jti));
        }
        self.0.insert(jti, now + LIFE + 2 * LEEWAY);
    }
}

/// For how long a logout token is taken, in seconds.
const LIFE: u64 = 5 * 60;

/// Used tokens that are remembered, at most.
const MOST: usize = 10_000;

/// The event that says so.
pub(super) const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
