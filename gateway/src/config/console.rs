//! `console:`: where people see and decide in a browser.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::seconds;

/// Where the console is, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Where it listens: `127.0.0.1:8443`.
    pub listen: SocketAddr,
    /// What people type: `https://holdpoint.example`. Passkeys are bound to its host. Default: `http://localhost:PORT` on a
    /// loopback address, where browsers take that for private.
    #[serde(default)]
    pub url: Option<String>,
    /// The certificate for `url`. Default, where `url` is https: one that the gateway's own authority signs, unless it
    /// listens on a loopback address, where a proxy in front of it has one.
    #[serde(default)]
    pub tls: Option<ConsoleTls>,
    /// How long somebody stays signed in who does nothing.
    #[serde(default = "idle", with = "seconds")]
    pub idle: Duration,
    /// How long somebody stays signed in at most.
    #[serde(default = "absolute", with = "seconds")]
    pub absolute: Duration,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleTls {
    /// The certificate in PEM; behind it those that signed it.
    pub certificate: PathBuf,
    /// Its private key in PEM, for root alone.
    pub key: PathBuf,
}

const fn idle() -> Duration {
    Duration::from_secs(30 * 60)
}

const fn absolute() -> Duration {
    Duration::from_secs(12 * 60 * 60)
}
