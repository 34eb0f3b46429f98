//! What the gateway is believed by and what it knows: its authority, the files that tell clients of it, and its credentials.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{
    config::{Config, SealingKey},
    credentials::{FileKey, KeySource, Keys, RemoteKey, Vault},
    net::tls::{Authority, AuthorityFiles, Tls},
};

/// Opens the authority, and writes what clients need to trust it where everybody can read it.
pub(super) fn open(config: &Config, node: &str) -> Result<Tls> {
    let authority = match &config.authority {
        Some(brought) => {
            let files = AuthorityFiles { certificate: brought.certificate.clone(), key: brought.key.clone() };
            Authority::brought(&files).context("`authority:` cannot be used")?
        }
        None => Authority::open(&config.state.join("authority"), node)?,
    };
    let own = authority.bundle();
    write(&config.trust(), &own)?;
    // The variables that name a file of authorities take the place of the machine's own, so those are in it as well.
    let machine = MACHINE.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    write(&config.trust_with_others(), &format!("{own}{machine}"))?;
    Ok(Tls::new(Some(authority)))
}

/// Opens what the gateway logs in with.
pub(super) async fn vault(config: &Config) -> Result<Vault> {
    let vault = Vault::open_at(&config.state.join("credentials"), keys(config)?)?;
    vault.check().await?;
    Ok(vault)
}

/// The key that seals credentials: the one in the settings, else systemd's, else the gateway's own; and the one before.
///
/// # Errors
/// The settings name a Vault whose address can be none.
pub fn keys(config: &Config) -> Result<Keys> {
    let of_systemd = std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(OF_SYSTEMD));
    let now = match (&config.credentials_key, of_systemd.filter(|path| path.exists())) {
        (Some(key), _) => source(key).context("`credentials_key:` cannot be used")?,
        (None, Some(path)) => Box::new(FileKey::brought(&path)),
        (None, None) => Box::new(FileKey::own(&config.state.join("credentials.key"))),
    };
    let before = config.credentials_key_before.as_ref().map(source).transpose();
    Ok(Keys { now, before: before.context("`credentials_key_before:` cannot be used")? })
}

fn source(key: &SealingKey) -> Result<Box<dyn KeySource>> {
    Ok(match key {
        SealingKey::File(path) => Box::new(FileKey::brought(path)),
        SealingKey::Vault(settings) => Box::new(RemoteKey::new(settings).map_err(anyhow::Error::msg)?),
    })
}

/// The name of `LoadCredentialEncrypted=`.
const OF_SYSTEMD: &str = "credentials.key";

/// Whole or not at all: a client may be reading it.
fn write(path: &Path, text: &str) -> Result<()> {
    let aside = path.with_extension("new");
    let for_everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::write(&aside, text)
        .and_then(|()| std::fs::set_permissions(&aside, for_everybody))
        .and_then(|()| std::fs::rename(&aside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Where distributions keep the authorities that a machine trusts, in one file.
const MACHINE: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
