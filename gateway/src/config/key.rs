//! `credentials_key:`: a file, or a HashiCorp Vault or OpenBao.
//!
//! # Security
//! What a Vault is shown to log in stands in files that are named here, never here itself.

use std::path::PathBuf;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// What seals the credentials' keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealingKey {
    /// 32 bytes in a file.
    File(PathBuf),
    /// A Vault's.
    Vault(Box<VaultKey>),
}

/// A key that a Vault keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultKey {
    /// Where the Vault answers: `https://vault.example:8200`.
    pub address: String,
    /// Which of its keys.
    pub key: KeptKey,
    /// How the gateway logs in there.
    pub auth: VaultAuth,
    /// Who signs its certificate, in PEM. Default: whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// The name in its certificate, where it is another than the address's.
    pub server_name: Option<String>,
    /// The namespace of the Vault that all of this is in.
    pub namespace: Option<String>,
}

/// How a Vault keeps a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptKey {
    /// A key of the transit engine, which never leaves the Vault.
    Transit(Transit),
    /// 32 bytes in a secret of the KV engine, version 2.
    Kv(Kv),
}

/// A key of the transit engine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transit {
    /// Its name.
    pub key: String,
    /// Where the engine is mounted.
    #[serde(default = "transit")]
    pub mount: String,
}

/// A key in a secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kv {
    /// The secret's path.
    pub path: String,
    /// The field with the 32 bytes, in base64.
    #[serde(default = "key")]
    pub field: String,
    /// Where the engine is mounted.
    #[serde(default = "secret")]
    pub mount: String,
    /// The secret's version. Default: the newest.
    #[serde(default)]
    pub version: Option<u64>,
}

/// How the gateway logs in to a Vault.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "expected `{token: FILE}`, `{app_role: …}` or `{kubernetes: …}`")]
pub enum VaultAuth {
    /// With the token in a file, which is read each time, so that a Vault agent may exchange it.
    Token(PathBuf),
    /// As an AppRole.
    AppRole(AppRole),
    /// With a service account of Kubernetes.
    Kubernetes(KubernetesRole),
}

/// An AppRole.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// The role's id.
    pub role_id: String,
    /// The file with the secret id.
    pub secret_id: PathBuf,
    /// Where the method is mounted.
    #[serde(default = "approle")]
    pub mount: String,
}

/// A role for service accounts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesRole {
    /// The role's name.
    pub role: String,
    /// The file with the service account's token.
    #[serde(default = "service_account")]
    pub jwt: PathBuf,
    /// Where the method is mounted.
    #[serde(default = "kubernetes")]
    pub mount: String,
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    vault: String,
    transit: Option<Transit>,
    kv: Option<Kv>,
    auth: VaultAuth,
    ca: Option<PathBuf>,
    server_name: Option<String>,
    namespace: Option<String>,
}

impl Written {
    fn checked(self) -> Result<VaultKey, String> {
        let key = match (self.transit, self.kv) {
            (Some(transit), None) => KeptKey::Transit(transit),
            (None, Some(kv)) => KeptKey::Kv(kv),
            _ => {
                return Err("say one of `transit: { key: NAME }` and `kv: { path: PATH }` beside `vault:`".to_owned());
            }
        };
        let places = match &key {
            KeptKey::Transit(Transit { key, mount }) => [("key", key), ("mount", mount)],
            KeptKey::Kv(Kv { path, mount, .. }) => [("path", path), ("mount", mount)],
        };
        let method = match &self.auth {
            VaultAuth::Token(_) => None,
            VaultAuth::AppRole(AppRole { mount, .. }) | VaultAuth::Kubernetes(KubernetesRole { mount, .. }) => {
                Some(("mount", mount))
            }
        };
        if let Some((what, wrong)) = places.into_iter().chain(method).find(|(_, place)| !is_place(place)) {
            return Err(format!(
                "`{what}: {wrong}` is no place in a Vault; expected letters, digits, `.`, `_`, `-` and `/`"
            ));
        }
        let Self { vault: address, auth, ca, server_name, namespace, .. } = self;
        Ok(VaultKey { address, key, auth, ca, server_name, namespace })
    }
}

impl<'de> Deserialize<'de> for SealingKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        // By hand: serde's own way says of a wrong key only that nothing matched.
        impl<'de> Visitor<'de> for Key {
            type Value = SealingKey;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "a file, or a section such as `{vault: ADDRESS, transit: {key: NAME}, auth: {token: FILE}}`",
                )
            }

            fn visit_str<E: Error>(self, path: &str) -> Result<SealingKey, E> {
                Ok(SealingKey::File(path.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SealingKey, A::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                written.checked().map(|key| SealingKey::Vault(Box::new(key))).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Key)
    }
}

/// Parts that mean themselves in a URL's path.
fn is_place(text: &str) -> bool {
    let part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    text.split('/').all(part)
}

fn transit() -> String {
    "transit".to_owned()
}
fn secret() -> String {
    "secret".to_owned()
}
fn key() -> String {
    "key".to_owned()
}
fn approle() -> String {
    "approle".to_owned()
}
fn kubernetes() -> String {
    "kubernetes".to_owned()
}
/// Where Kubernetes puts it into every container.
fn service_account() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SealingKey, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_a_file_or_a_vaults() {
        assert_eq!(read("/k"), Ok(SealingKey::File("/k".into())));
        let read = |text: &str| match read(text).expect("it is right") {
            SealingKey::Vault(key) => *key,
            SealingKey::File(path) => panic!("a file: {}", path.display()),
        };
        let transit = read("{vault: 'https://v:8200', transit: {key: hp}, auth: {token: /t}}");
        assert_eq!(transit.key, KeptKey::Transit(Transit { key: "hp".into(), mount: "transit".into() }));
        assert_eq!(transit.auth, VaultAuth::Token("/t".into()));
        let kv = read("{vault: 'https://v', kv: {path: a/b, version: 3}, auth: {kubernetes: {role: hp}}, ca: /c}");
        let KeptKey::Kv(Kv { path, field, mount, version }) = kv.key else { panic!("no KV: {:?}", kv.key) };
        assert_eq!((&path[..], &field[..], &mount[..], version), ("a/b", "key", "secret", Some(3)));
        let VaultAuth::Kubernetes(role) = kv.auth else { panic!("no role: {:?}", kv.auth) };
        assert!(role.jwt.ends_with("serviceaccount/token") && role.mount == "kubernetes");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (text, word) in [
            ("7", "a file"),
            ("{vault: x, auth: {token: /t}}", "transit"),
            ("{vault: x, transit: {key: a}, kv: {path: b}, auth: {token: /t}}", "one of"),
            ("{vault: x, transit: {key: a}}", "auth"),
            ("{vault: x, transit: {key: a}, auth: {tokn: /t}}", "tokn"),
            ("{vault: x, transit: {key: a}, auth: {token: /t}, cert: /c}", "cert"),
            ("{vault: x, transit: {key: ../sys}, auth: {token: /t}}", "../sys"),
            ("{vault: x, kv: {path: 'a?b'}, auth: {token: /t}}", "a?b"),
            ("{vault: x, kv: {path: a}, auth: {app_role: {role_id: r, secret_id: /s, mount: 'a b'}}}", "a b"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
