//! One question to a Vault.
//!
//! # Security
//! A token goes to the address in the settings and nowhere else (`net::http`). What the Vault says of an error is repeated
//! only where nothing of what it was sent stands in it.

use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::{
    config::VaultKey,
    net::http::{self, HeaderMap, HeaderValue, Method, StatusCode},
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

/// Where a Vault is.
pub(super) struct Client {
    http: http::Client,
    namespace: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(settings: &VaultKey) -> Result<Self, String> {
        let VaultKey { address, ca, server_name, namespace, .. } = settings;
        let wrong = |why: &str| format!("`vault: {address}` {why}");
        let http = http::Client::new(address, ca.clone(), server_name.clone()).map_err(wrong)?;
        if http.path() != "/" {
            return Err(wrong("is more than an address; expected nothing but https://HOST:PORT"));
        }
        let namespace = namespace.as_deref().map(HeaderValue::from_str).transpose();
        let namespace = namespace.map_err(|_| "`namespace:` can be none of a Vault's".to_owned())?;
        Ok(Self { http, namespace })
    }

    /// Asks, and reads the answer.
    pub(super) async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        call: &Call<'_>,
        token: Option<&str>,
    ) -> Result<T, Failed> {
        let path = format!("/v1/{}", call.path);
        let headers = self.headers(token)?;
        let http::Answer { status, body, .. } =
            self.http.send(&call.method, &path, headers, call.body.clone(), LONGEST).await?;
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

    fn headers(&self, token: Option<&str>) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            headers.insert("x-vault-namespace", namespace.clone());
        }
        if let Some(token) = token {
            let mut token = HeaderValue::from_str(token).map_err(|_| "the token has bytes that none has".to_owned())?;
            token.set_sensitive(true);
            headers.insert("x-vault-token", token);
        }
        Ok(headers)
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
            assert_eq!(client(address).map(|client| client.http.port()), Ok(port), "{address}");
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
