//! A key that a HashiCorp Vault or an OpenBao keeps: one of its transit engine, which seals and opens there and never
//! leaves it, or 32 bytes in a secret, which are read each time and never written down.
//!
//! # Security
//! Nothing is remembered but the login's own token: whatever is revoked there counts from the next login on.

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key::{self, Doing, KeySource};
use crate::config::{KeptKey, Kv, Transit, VaultKey};

mod client;
mod token;

use client::{Call, Client, Failed, Hidden};
use token::Login;

/// How long the Vault may take over one question, logging in included: so long a bot's login waits at most.
const LIMIT: Duration = Duration::from_secs(5);

/// A Vault's key.
pub struct RemoteKey {
    key: KeptKey,
    address: String,
    client: Client,
    login: Login,
}

impl RemoteKey {
    /// As the settings say. Nobody is asked yet.
    ///
    /// # Errors
    /// The address cannot be one, or is neither HTTPS nor on the loopback.
    pub fn new(settings: &VaultKey) -> Result<Self, String> {
        Ok(Self {
            key: settings.key.clone(),
            address: settings.address.clone(),
            client: Client::new(settings)?,
            login: Login::new(settings.auth.clone()),
        })
    }

    /// Asks with the gateway's token. One that is no longer taken is exchanged for a new one, once.
    async fn ask<T: for<'de> Deserialize<'de>>(&self, call: &Call<'_>) -> Result<T, String> {
        let asked = async {
            let token = self.login.token(&self.client).await?;
            match self.client.ask(call, Some(&token)).await {
                Err(Failed { denied: true, .. }) if self.login.forget(&token).await => {
                    let token = self.login.token(&self.client).await?;
                    self.client.ask(call, Some(&token)).await.map_err(|failed| failed.why)
                }
                done => done.map_err(|failed| failed.why),
            }
        };
        let slow = |_| format!("it did not answer within {}", humantime::format_duration(LIMIT));
        tokio::time::timeout(LIMIT, asked).await.map_err(slow)?
    }

    async fn encrypt(&self, of: &Transit, key: &[u8; 32], about: &[u8]) -> Result<Vec<u8>, String> {
        let plaintext = Zeroizing::new(BASE64_STANDARD.encode(key));
        let asked = Encrypt { plaintext: &plaintext, associated_data: BASE64_STANDARD.encode(about) };
        let path = format!("{}/encrypt/{}", of.mount, of.key);
        let secrets = [plaintext.as_str()];
        let call = Call::post(path, &asked, &secrets);
        let Data { data: Encrypted { ciphertext } } = self.ask(&call).await?;
        if !ciphertext.starts_with(SEALED_BY_TRANSIT) {
            return Err("what it answers is nothing that its transit engine has sealed".to_owned());
        }
        Ok(ciphertext.into_bytes())
    }

    async fn decrypt(&self, of: &Transit, wrapped: &[u8], about: &[u8]) -> Result<Zeroizing<[u8; 32]>, String> {
        let sealed = std::str::from_utf8(wrapped).ok().filter(|text| text.starts_with(SEALED_BY_TRANSIT));
        let ciphertext = sealed.ok_or("no transit key has sealed this; it is another key, or a file was changed")?;
        let asked = Decrypt { ciphertext, associated_data: BASE64_STANDARD.encode(about) };
        let call = Call::post(format!("{}/decrypt/{}", of.mount, of.key), &asked, &[]);
        let Data { data: Decrypted { plaintext } } = self.ask(&call).await?;
        decoded(&plaintext).ok_or_else(|| "what it opens is no key".to_owned())
    }

    async fn read(&self, of: &Kv) -> Result<RandomizedNonceKey, String> {
        let version = of.version.map_or_else(String::new, |version| format!("?version={version}"));
        let call = Call::get(format!("{}/data/{}{version}", of.mount, of.path));
        let Data { data: Data { data: mut fields } } = self.ask::<Data<Data<BTreeMap<String, Hidden>>>>(&call).await?;
        let Some(field) = fields.remove(&of.field) else {
            return Err(format!("the secret {} has no field {:?}", of.path, of.field));
        };
        let key = decoded(&field).and_then(|key| RandomizedNonceKey::new(&AES_256_GCM, &*key).ok());
        key.ok_or_else(|| format!("the field {:?} of the secret {} must be 32 bytes in base64", of.field, of.path))
    }
}

impl KeySource for RemoteKey {
    fn describe(&self) -> String {
        match &self.key {
            KeptKey::Transit(Transit { key, mount }) => {
                format!("the transit key {mount}/{key} of the Vault at {}", self.address)
            }
            KeptKey::Kv(Kv { path, field, mount, version }) => {
                let version = version.map_or_else(String::new, |version| format!(", version {version},"));
                format!("the key in {mount}/{path} (field {field}){version} of the Vault at {}", self.address)
            }
        }
    }

    fn may_be_away(&self) -> bool {
        true
    }

    fn ready(&self) -> Doing<'_, ()> {
        Box::pin(async {
            match &self.key {
                KeptKey::Kv(kv) => self.read(kv).await.map(drop),
                // By trying both: a token may be let do one and not the other.
                KeptKey::Transit(transit) => {
                    let key = key::random()?;
                    let wrapped = self.encrypt(transit, &key, TRIAL).await?;
                    self.decrypt(transit, &wrapped, TRIAL).await.map(drop)
                }
            }
        })
    }

    fn wrap<'a>(&'a self, key: &'a [u8; 32], about: &'a [u8]) -> Doing<'a, Vec<u8>> {
        Box::pin(async move {
            match &self.key {
                KeptKey::Kv(kv) => key::seal(&self.read(kv).await?, key, about),
                KeptKey::Transit(transit) => self.encrypt(transit, key, about).await,
            }
        })
    }

    fn unwrap<'a>(&'a self, wrapped: &'a [u8], about: &'a [u8]) -> Doing<'a, Zeroizing<[u8; 32]>> {
        Box::pin(async move {
            match &self.key {
                KeptKey::Kv(kv) => key::open_key(&self.read(kv).await?, wrapped, about),
                KeptKey::Transit(transit) => self.decrypt(transit, wrapped, about).await,
            }
        })
    }
}

/// 32 bytes of base64.
fn decoded(text: &Hidden) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = BASE64_STANDARD.decode(text.trim()).map(Zeroizing::new).ok()?;
    bytes.as_slice().try_into().map(Zeroizing::new).ok()
}

/// What the transit engine's answers begin with, before the version of its key.
const SEALED_BY_TRANSIT: &str = "vault:v";

/// What is bound to what is sealed for trial, which no credential is.
const TRIAL: &[u8] = b"holdpoint trial";

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    associated_data: String,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    associated_data: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: Hidden,
}

/// Vault's envelope.
#[derive(Deserialize)]
struct Data<T> {
    data: T,
}
