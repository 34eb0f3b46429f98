//! How the gateway logs in to a Vault, and what it is let in with.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::client::{Call, Client, Hidden};
use crate::config::{AppRole, KubernetesRole, VaultAuth};

/// Logs in when it must.
pub(super) struct Login {
    auth: VaultAuth,
    /// What the last login gave. Held while one is under way, so that all who wait take what it gives.
    had: Mutex<Option<Token>>,
}

/// What a login gave.
struct Token {
    value: std::sync::Arc<Hidden>,
    given: Instant,
    /// How long it is good for; `None`: until it is revoked.
    lease: Option<Duration>,
    renewable: bool,
}

impl Token {
    fn of(Granted { auth }: Granted) -> Self {
        let Auth { client_token, lease_duration, renewable } = auth;
        let lease = (lease_duration > 0).then(|| Duration::from_secs(lease_duration));
        Self { value: std::sync::Arc::new(client_token), given: Instant::now(), lease, renewable }
    }

    /// Whether this much of its time has passed.
    fn is_past(&self, share: f64) -> bool {
        self.lease.is_some_and(|lease| self.given.elapsed() >= lease.mul_f64(share))
    }
}

impl Login {
    pub(super) fn new(auth: VaultAuth) -> Self {
        Self { auth, had: Mutex::default() }
    }

    /// A token that is good now: the file's, or the last login's, renewed in the second half of its time.
    pub(super) async fn token(&self, client: &Client) -> Result<std::sync::Arc<Hidden>, String> {
        if let VaultAuth::Token(path) = &self.auth {
            return secret(path, "token").map(std::sync::Arc::new);
        }
        let mut had = self.had.lock().await;
        if let Some(token) = had.as_ref().filter(|token| !token.is_past(RENEW_AT)) {
            return Ok(token.value.clone());
        }
        let renewed = match had.as_ref().filter(|token| token.renewable && !token.is_past(OVER_AT)) {
            Some(token) => renew(client, token).await,
            None => None,
        };
        let token = match renewed {
            Some(token) => token,
            None => self.log_in(client).await?,
        };
        Ok(had.insert(token).value.clone())
    }

    /// Forgets a token that the Vault did not take; says whether there is another to be had.
    pub(super) async fn forget(&self, token: &str) -> bool {
        let mut had = self.had.lock().await;
        had.take_if(|had| **had.value == *token);
        !matches!(self.auth, VaultAuth::Token(_))
    }

    async fn log_in(&self, client: &Client) -> Result<Token, String> {
        let granted: Result<Granted, _> = match &self.auth {
            VaultAuth::Token(_) => return Err("a token in a file is not logged in for".to_owned()),
            VaultAuth::AppRole(AppRole { role_id, secret_id, mount }) => {
                let secret_id = secret(secret_id, "secret id")?;
                let asked = ByRole { role_id, secret_id: &secret_id };
                client.ask(&Call::post(format!("auth/{mount}/login"), &asked, &[&secret_id]), None).await
            }
            VaultAuth::Kubernetes(KubernetesRole { role, jwt, mount }) => {
                let jwt = secret(jwt, "service account's token")?;
                let asked = ByAccount { role, jwt: &jwt };
                client.ask(&Call::post(format!("auth/{mount}/login"), &asked, &[&jwt]), None).await
            }
        };
        granted.map(Token::of).map_err(|failed| format!("the gateway cannot log in there: {}", failed.why))
    }
}

/// `None` where it is not: its longest time is over, or it was revoked.
async fn renew(client: &Client, token: &Token) -> Option<Token> {
    let call = Call::post("auth/token/renew-self".to_owned(), &serde_json::json!({}), &[]);
    let renewed = client.ask::<Granted>(&call, Some(&token.value)).await.ok().map(Token::of)?;
    // Close to its longest time a token is renewed for next to nothing.
    renewed.lease.is_none_or(|lease| lease >= WORTHWHILE).then_some(renewed)
}

/// What a file holds, without the line's end.
fn secret(path: &Path, what: &str) -> Result<Hidden, String> {
    let failed = |why: &dyn std::fmt::Display| format!("the {what} in {} cannot be read: {why}", path.display());
    let text = std::fs::read_to_string(path).map(Hidden::new).map_err(|error| failed(&error))?;
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(failed(&"the file is empty"));
    }
    Ok(Hidden::new(trimmed.to_owned()))
}

/// The share of its time after which a token is renewed.
const RENEW_AT: f64 = 0.5;

/// The share after which it is taken for over: clocks differ, and a question takes its time.
const OVER_AT: f64 = 0.95;

/// What a renewal must bring at least.
const WORTHWHILE: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct ByRole<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct ByAccount<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Deserialize)]
struct Granted {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: Hidden,
    /// In seconds.
    lease_duration: u64,
    renewable: bool,
}
