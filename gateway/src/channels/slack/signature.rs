//! Whether a request is Slack's: "Verifying requests from Slack", version 0 of its signatures.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;

/// An app's signing secret.
pub(super) struct SigningSecret(hmac::Key);

impl SigningSecret {
    pub(super) fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// Whether `signature` is this app's under `body` at `timestamp`. In constant time.
    pub(super) fn signed(&self, timestamp: &str, body: &[u8], signature: &str) -> bool {
        let Some(signature) = signature.strip_prefix("v0=").and_then(bytes) else { return false };
        let signed = [b"v0:", timestamp.as_bytes(), b":", body].concat();
        hmac::verify(&self.0, &signed, &signature).is_ok()
    }
}

/// Signatures that have been seen: each counts once.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<String, u64>>);

impl Seen {
    /// Whether a request of this age may be answered, by the time now, in seconds since 1970.
    pub(super) fn is_fresh(timestamp: &str, now: u64) -> bool {
        timestamp.parse().is_ok_and(|then: u64| now.abs_diff(then) <= WINDOW.as_secs())
    }

    /// Notes a signature that was verified; whether it is the first of its kind.
    pub(super) fn first(&self, signature: &str, now: u64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Twice the window: a request may be dated as far ahead as back.
        seen.retain(|_, at| now.saturating_sub(*at) <= 2 * WINDOW.as_secs());
        seen.insert(signature.to_owned(), now).is_none()
    }
}

/// How far a request's time may be from the gateway's, before or behind.
const WINDOW: Duration = Duration::from_secs(5 * 60);

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let pairs = hex.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Slack's documentation.
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const TIMESTAMP: &str = "1531420618";
    const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
        channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
        response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
        trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";

    #[test]
    fn the_signature_is_that_of_slacks_documentation_and_covers_time_and_body() {
        let secret = SigningSecret::new(SECRET);
        assert!(secret.signed(TIMESTAMP, BODY.as_bytes(), SIGNATURE));
        assert!(!secret.signed("1531420619", BODY.as_bytes(), SIGNATURE));
        assert!(!secret.signed(TIMESTAMP, &BODY.as_bytes()[1..], SIGNATURE));
        assert!(!SigningSecret::new("other").signed(TIMESTAMP, BODY.as_bytes(), SIGNATURE));
        for wrong in ["", "v0=", &SIGNATURE[3..], &SIGNATURE[..SIGNATURE.len() - 2], "v1=00", "v0=zz"] {
            assert!(!secret.signed(TIMESTAMP, BODY.as_bytes(), wrong), "{wrong}");
        }
    }

    #[test]
    fn a_request_counts_within_five_minutes_and_once() {
        for (then, fresh) in [(1000, true), (701, true), (1299, true), (699, false), (1301, false)] {
            assert_eq!(Seen::is_fresh(&then.to_string(), 1000), fresh, "{then}");
        }
        assert!(!Seen::is_fresh("", 1000) && !Seen::is_fresh("-1", 1000));
        let seen = Seen::default();
        assert!(seen.first("a", 1000) && seen.first("b", 1000) && !seen.first("a", 1599));
        assert!(seen.first("b", 3000), "what is too old to count is forgotten");
    }
}
