//! The gateway's settings: one YAML file, typed, nothing unknown let through.
//!
//! Command-line flags override the file, the file overrides the defaults. What a protocol needs for itself stands in
//! the resource, not here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

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
    /// Guarded cgroups, absolute or below the cgroup2 mount; made where missing. `holdpoint exec` uses the first.
    pub guard: Vec<PathBuf>,
    /// The port on which intercepted connections arrive. 0: any free one below those that the kernel gives out by itself.
    pub port: u16,
    /// How durable a read's entry is before the read is forwarded. Everything else is always synced.
    pub durability: ReadDurability,
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
    /// Extra groups of approvers: name → users of this machine. Beside the machine's own groups.
    pub groups: BTreeMap<String, Vec<String>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: None,
            state: "/var/lib/holdpoint".into(),
            run: "/run/holdpoint".into(),
            policies: "/etc/holdpoint/policies".into(),
            bpffs: "/sys/fs/bpf/holdpoint".into(),
            guard: vec!["holdpoint".into()],
            port: 0,
            durability: ReadDurability::Written,
            remind: Duration::from_secs(15),
            drain: Duration::from_secs(10),
            network: Vec::new(),
            dns: Dns::On,
            unix_refused: Vec::new(),
            groups: BTreeMap::new(),
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

    /// Where the record is.
    pub fn record(&self) -> PathBuf {
        self.state.join("record")
    }

    /// The administration socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join("holdpoint.sock")
    }
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
