//! Keys for paths with TLS: an authority, and one certificate that every server of the bench shows.
//!
//! Made by `openssl`, on P-256 as the gateway's own, so that no path shakes hands with heavier keys than another.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use nix::unistd::User;

use crate::command;

/// An authority and a certificate for 127.0.0.1 that it has signed, as files.
pub(super) struct Certificates(PathBuf);

impl Certificates {
    /// Makes them in `dir`; the private key is `owner`'s, whom PostgreSQL and pgbouncer run as.
    pub(super) fn make(dir: &Path, owner: &User) -> Result<Self> {
        let this = Self(dir.to_owned());
        // Settings of our own: what the machine's say of extensions would be added to what is asked for.
        fs::write(this.path("openssl.cnf"), SETTINGS)?;
        this.openssl(&["-extensions", "authority", "-subj", "/CN=bench authority"], "ca")?;
        let (ca, ca_key) = (this.file("ca.crt"), this.file("ca.key"));
        let signed = ["-extensions", "server", "-subj", "/CN=127.0.0.1", "-CA", &ca, "-CAkey", &ca_key];
        this.openssl(&signed, "server")?;
        let key = this.path("server.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        chown(&key, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).context("cannot give the key away")?;
        Ok(this)
    }

    /// Whom clients of the bench's own servers trust.
    pub(super) fn ca(&self) -> String {
        self.file("ca.crt")
    }

    /// What the servers show.
    pub(super) fn certificate(&self) -> String {
        self.file("server.crt")
    }

    /// Its private key.
    pub(super) fn key(&self) -> String {
        self.file("server.key")
    }

    fn openssl(&self, words: &[&str], name: &str) -> Result<()> {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-config", "openssl.cnf", "-nodes", "-days", "2"]);
        openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", &key, "-out", &certificate]);
        command::output(openssl.args(words).current_dir(&self.0))
            .context("cannot make a certificate; OpenSSL 3.0 or newer is needed, which `cargo xtask setup` installs")?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn file(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

const SETTINGS: &str = "[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
";
