//! The gateway's settings: one YAML file, typed, nothing unknown let through.
//!
//! Command-line flags override the file, the file overrides the defaults. What a protocol needs for itself stands in
//! the resource, not here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

mod channels;
mod console;
mod key;
mod people;
mod rota;
mod saml;

pub use channels::{About, Channel, Email, MailTls, MayDo, Show, Slack, Teams, Webhook};
pub use console::{Console, ConsoleTls};
pub use key::{AppRole, KeptKey, KubernetesRole, Kv, SealingKey, Transit, VaultAuth, VaultKey};
pub use people::{OidcClaims, OidcGroups, OidcProvider, OidcRequire, RoleName, Vouchers};
pub use rota::Rota;
pub use saml::{NameIdFormat, SamlClaims, SamlProvider, SamlRequire};

/// Everything that can be set. Every field has a default, so an empty file is a valid one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node's name in the record. Default: the host's name.
    pub node: Option<String>,
    /// Where the record is kept.
    pub state: PathBuf,
    /// Where the administration socket is made.
    pub run: PathBuf,
    /// The directory of policy and resource files.
    pub policies: PathBuf,
    /// The gateway's own directory on a bpf file system, for pinned programs and maps.
    pub bpffs: PathBuf,
    /// What is guarded: cgroups, absolute or below the cgroup2 mount, made where missing (`holdpoint exec` uses the first),
    /// and selectors of pods and units.
    pub guard: Vec<GuardEntry>,
    /// The Kubernetes API that knows this node's pods. Without the key nobody is asked.
    pub kubernetes: Option<Kubernetes>,
    /// The port on which intercepted connections arrive. 0: any free one below those that the kernel gives out by itself.
    pub port: u16,
    /// How durable a read's entry is before the read is forwarded. Everything else is always synced.
    pub durability: ReadDurability,
    /// Where `/livez`, `/readyz`, `/healthz` and `/metrics` are answered over TCP, beside the administration socket:
    /// `127.0.0.1:9464`, or the pod's address. Default: nowhere.
    pub health: Option<std::net::SocketAddr>,
    /// How often a waiting client is told that it still waits.
    #[serde(with = "seconds")]
    pub remind: Duration,
    /// How long after `SIGTERM` running operations may take to finish.
    #[serde(with = "seconds")]
    pub drain: Duration,
    /// Destinations that no resource names: what the kernel does with a connection to them.
    pub network: Vec<NetworkRule>,
    /// Whether queries to name servers (port 53) go through the gateway, which learns which address a resource's host has
    /// for each bot.
    pub dns: Dns,
    /// UNIX sockets that guarded workloads may not connect to, beside those of container runtimes. A name (`agent.sock`) is
    /// refused in every directory; a path (`/run/user/*/bus`) may have `*`, `?` and `**`; `@x` is an abstract name.
    pub unix_refused: Vec<String>,
    /// The authority that signs what clients of TLS are shown. Default: one of this node's own, made at the first start.
    pub authority: Option<BroughtAuthority>,
    /// What seals the credentials' keys: a file of 32 bytes, or a key of a Vault's. Default: systemd's credential
    /// `credentials.key`, else one of this node's own in the state directory.
    pub credentials_key: Option<SealingKey>,
    /// What sealed them before: it opens those that `holdpoint credentials reseal` has not sealed anew yet.
    pub credentials_key_before: Option<SealingKey>,
    /// Where people see and decide in a browser. Without the key there is no such place.
    pub console: Option<Console>,
    /// How people hear of what waits.
    pub channels: Vec<Channel>,
    /// Who vouches for people who sign in there, beside the gateway itself.
    pub people: Vouchers,
    /// Extra groups of approvers: name → users of this machine. Beside the machine's own groups.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Who is on call: name → rotation. Policies ask them as `on_call: NAME`.
    pub on_call: BTreeMap<String, Rota>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: None,
            state: "/var/lib/holdpoint".into(),
            run: "/run/holdpoint".into(),
            policies: "/etc/holdpoint/policies".into(),
            bpffs: "/sys/fs/bpf/holdpoint".into(),
            guard: vec![GuardEntry::Cgroup("holdpoint".into())],
            kubernetes: None,
            port: 0,
            health: None,
            durability: ReadDurability::Written,
            remind: Duration::from_secs(15),
            drain: Duration::from_secs(10),
            network: Vec::new(),
            dns: Dns::On,
            unix_refused: Vec::new(),
            authority: None,
            credentials_key: None,
            credentials_key_before: None,
            console: None,
            channels: Vec::new(),
            people: Vouchers::default(),
            groups: BTreeMap::new(),
            on_call: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads `path`.
    ///
    /// # Errors
    /// The file cannot be read, or has an unknown key or a wrong value; the message has file, line and column.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text)
            .map_err(|source| ConfigError::Invalid { path: path.to_owned(), message: source.to_string() })
    }

    /// The guarded cgroups that are written as such.
    pub fn cgroups(&self) -> impl Iterator<Item = &Path> {
        self.guard.iter().filter_map(|entry| match entry {
            GuardEntry::Cgroup(path) => Some(path.as_path()),
            GuardEntry::Select(_) => None,
        })
    }

    /// Where the record is.
    pub fn record(&self) -> PathBuf {
        self.state.join("record")
    }

    /// What clients must trust, in PEM.
    pub fn trust(&self) -> PathBuf {
        self.run.join("trust.pem")
    }

    /// The same, with what the machine itself trusts.
    pub fn trust_with_others(&self) -> PathBuf {
        self.run.join("trust-with-others.pem")
    }

    /// The administration socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join("holdpoint.sock")
    }
}

/// One entry of `guard:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardEntry {
    /// A cgroup.
    Cgroup(PathBuf),
    /// Whatever this selects.
    Select(Selector),
}

impl<'de> Deserialize<'de> for GuardEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;
        // By hand: serde's own way says of a wrong key only that nothing matched.
        impl<'de> Visitor<'de> for Entry {
            type Value = GuardEntry;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a cgroup, or a selector such as `{namespace: ci, service_account: \"deploy-*\"}`")
            }

            fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<GuardEntry, E> {
                Ok(GuardEntry::Cgroup(path.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GuardEntry, A::Error> {
                Selector::deserialize(MapAccessDeserializer::new(map)).map(GuardEntry::Select)
            }
        }
        deserializer.deserialize_any(Entry)
    }
}

/// Which pods or units are guarded: everything that is written must match, with globs as in policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    /// The pod's namespace.
    pub namespace: Option<OneOrMany>,
    /// The pod's service account.
    pub service_account: Option<OneOrMany>,
    /// The pod's labels.
    pub labels: BTreeMap<String, OneOrMany>,
    /// The image of one of the pod's containers.
    pub image: Option<OneOrMany>,
    /// The systemd unit. Not together with the others.
    pub unit: Option<OneOrMany>,
}

/// One glob, or several of which one must match.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a glob or a list of globs")]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The globs.
    pub fn globs(&self) -> &[String] {
        match self {
            Self::One(glob) => std::slice::from_ref(glob),
            Self::Many(globs) => globs,
        }
    }
}

/// Where Kubernetes is, and which node of it this is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// This node's name in Kubernetes. Default: the environment's `NODE_NAME`, then `node:`, then the host's name.
    pub node: Option<String>,
    /// How to reach the API. Default: as a pod does, with its service account.
    pub kubeconfig: Option<PathBuf>,
    /// The cgroup below which the kubelet keeps its own (`kubepods`, `kubepods.slice`). Default: the root, and that of the
    /// node in which the gateway's own pod runs.
    pub cgroup: Option<PathBuf>,
}

/// An authority that the operator brings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BroughtAuthority {
    /// Its certificate in PEM; behind it, up to the root, those that signed it.
    pub certificate: PathBuf,
    /// Its private key in PEM, for root alone.
    pub key: PathBuf,
}

/// How durable a read's entry is before the read is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadDurability {
    /// In the kernel: survives a killed gateway. On disk within 10 ms.
    Written,
    /// On disk: survives power loss.
    Synced,
}

/// Whether queries to name servers go through the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dns {
    /// They do, and its answers are learnt from.
    On,
    /// They go where they were sent.
    Off,
}

/// What the kernel does with connections to a destination that no resource names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRule {
    /// An address or a prefix: `169.254.169.254`, `10.0.0.0/8`, `fd00::/8`.
    pub to: String,
    /// One port; all ports when absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// What to do.
    pub action: NetworkAction,
}

/// The kernel's three answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkAction {
    /// Not governed: the connection is direct.
    Pass,
    /// Brought to the gateway, which refuses what it has no resource for, and records it.
    Intercept,
    /// The call fails.
    Refuse,
}

/// What can be wrong with the settings: always the operator's file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the settings {path}: {source}; name another file with --config", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something that is no setting.
    #[error("{path}: {message}", path = path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
}

mod seconds {
    //! Durations as people write them: `15s`, `5m`.
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|_| D::Error::custom(format!("`{text}` is not a duration; write it as `15s` or `5m`")))
    }
}

mod optional_seconds {
    //! The same, where there may be none.
    use std::time::Duration;

    use serde::Deserializer;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::seconds::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_guard_is_a_cgroup_or_a_selector() {
        let text = "guard: [bots.slice, {namespace: ci, service_account: [a, 'deploy-*'], labels: {app: x}}, {unit: 'nightly*'}]";
        let config = read(text).expect("it is right");
        assert_eq!(config.cgroups().collect::<Vec<_>>(), [Path::new("bots.slice")]);
        let GuardEntry::Select(pods) = &config.guard[1] else { panic!("no selector: {:?}", config.guard) };
        assert_eq!(
            pods.service_account.as_ref().map(OneOrMany::globs),
            Some(&["a".to_owned(), "deploy-*".to_owned()][..])
        );
        assert_eq!(pods.labels["app"].globs(), ["x"]);
        assert_eq!(config.guard.len(), 3);
    }

    #[test]
    fn a_wrong_guard_is_refused_with_the_key() {
        let error = read("guard:\n  - {namespce: ci}\n").expect_err("there is no such key");
        assert!(error.contains("namespce") && error.contains("namespace"), "{error}");
        let error = read("guard: [7]").expect_err("a number is no guard");
        assert!(error.contains("selector"), "{error}");
        let error = read("kubernetes: {kubconfig: x}").expect_err("there is no such key");
        assert!(error.contains("kubconfig"), "{error}");
    }

    #[test]
    fn kubernetes_may_be_written_without_anything() {
        assert_eq!(read("kubernetes: {}").expect("it is right").kubernetes, Some(Kubernetes::default()));
        assert_eq!(read("node: x").expect("it is right").kubernetes, None);
    }
}
