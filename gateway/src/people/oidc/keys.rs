//! A provider's keys: read when first wanted, again when one is unknown, and forgotten with time.

use std::time::Duration;

use jsonwebtoken::{
    Algorithm,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use oauth2::url::Url;
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};

use super::{
    error::Why,
    http::{Http, HttpError},
};

/// A provider's keys.
#[derive(Default)]
pub(super) struct Keys(Mutex<State>);

#[derive(Default)]
struct State {
    keys: Vec<Jwk>,
    /// When they were read.
    read: Option<Instant>,
    /// When they were last asked for.
    asked: Option<Instant>,
}

/// The document (RFC 7517). Keys of kinds that are not known are left out, as it says.
#[derive(Deserialize)]
struct Written {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    /// The key with which `algorithm` was used, if the provider publishes it at `url`.
    ///
    /// # Errors
    /// They were wanted from the provider, and it does not give them.
    pub(super) async fn find(
        &self,
        http: &Http,
        url: &Url,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<Jwk>, Why> {
        let mut state = self.0.lock().await;
        let now = Instant::now();
        let since = |moment: Option<Instant>| moment.map(|moment| now.duration_since(moment));
        let fresh = since(state.read).is_some_and(|age| age < LIFE);
        let found = choose(&state.keys, kid, algorithm);
        if fresh && (found.is_some() || since(state.asked).is_some_and(|age| age < PAUSE)) {
            return Ok(found.cloned());
        }
        if !fresh && since(state.asked).is_some_and(|age| age < RETRY) {
            return Err(unreachable(HttpError("it could not a moment ago".to_owned())));
        }
        state.asked = Some(now);
        let written: Written = http.read(url, None).await.map_err(unreachable)?;
        state.keys = written.keys.into_iter().filter_map(read).take(MOST).collect();
        state.read = Some(now);
        Ok(choose(&state.keys, kid, algorithm).cloned())
    }
}

fn unreachable(error: HttpError) -> Why {
    Why::Unreachable { about: "for its keys", why: error.0 }
}

pub(super) fn read(written: serde_json::Value) -> Option<Jwk> {
    let key: Jwk = serde_json::from_value(written).ok()?;
    let signs = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let is_public = !matches!(key.algorithm, AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_));
    (signs && is_public).then_some(key)
}

/// The key that a token means: by its name, or the only one that there is for the method.
pub(super) fn choose<'a>(keys: &'a [Jwk], kid: Option<&str>, algorithm: Algorithm) -> Option<&'a Jwk> {
    let mut fitting = keys.iter().filter(|key| fits(key, algorithm));
    match kid {
        Some(kid) => fitting.find(|key| key.common.key_id.as_deref() == Some(kid)),
        None => fitting.next().filter(|_| fitting.next().is_none()),
    }
}

/// Whether the key is one for this method: its kind, and its own word where it has one.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let (name, kind) = match (algorithm, &key.algorithm) {
        (Algorithm::RS256, AlgorithmParameters::RSA(_)) => (KeyAlgorithm::RS256, true),
        (Algorithm::PS256, AlgorithmParameters::RSA(_)) => (KeyAlgorithm::PS256, true),
        (Algorithm::ES256, AlgorithmParameters::EllipticCurve(key)) => {
            (KeyAlgorithm::ES256, key.curve == EllipticCurve::P256)
        }
        (Algorithm::ES384, AlgorithmParameters::EllipticCurve(key)) => {
            (KeyAlgorithm::ES384, key.curve == EllipticCurve::P384)
        }
        (Algorithm::EdDSA, AlgorithmParameters::OctetKeyPair(key)) => {
            (KeyAlgorithm::EdDSA, key.curve == EllipticCurve::Ed25519)
        }
        _ => return false,
    };
    kind && key.common.key_algorithm.is_none_or(|own| own == name)
}

/// For how long keys are believed: one that is withdrawn counts no longer than this.
const LIFE: Duration = Duration::from_secs(60 * 60);

/// How often an unknown key makes the gateway ask, at most: anybody can make up a token.
pub(super) const PAUSE: Duration = Duration::from_secs(60);

/// How often a provider that does not answer is asked, at most.
const RETRY: Duration = Duration::from_secs(5);

/// Keys of one provider at most.
const MOST: usize = 64;
