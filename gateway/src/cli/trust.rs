//! `holdpoint trust`: what guarded clients must trust so that they believe the gateway.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use super::Settings;
use crate::config::Config;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Print shell lines that point the usual programs at it, instead of the certificate itself
    #[arg(long)]
    env: bool,
}

/// Prints it.
///
/// # Errors
/// No gateway has run with these settings since the machine was started.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.settings.load()?;
    let path = config.trust();
    let bundle = std::fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}; a running gateway writes it: start one with the same settings", path.display())
    })?;
    let text = match args.env {
        false => bundle,
        true => {
            let lines = variables(&config);
            lines.map(|(name, path)| format!("export {name}='{}'\n", path.display())).concat()
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The variables by which the usual libraries find whom to trust. Those that take the place of the machine's own
/// authorities get a file with both.
pub(super) fn variables(config: &Config) -> [(&'static str, PathBuf); 7] {
    let (own, with_others) = (config.trust(), config.trust_with_others());
    [
        // libpq, and what is made like it.
        ("PGSSLROOTCERT", with_others.clone()),
        // OpenSSL, Go, Ruby, Python's ssl.
        ("SSL_CERT_FILE", with_others.clone()),
        ("REQUESTS_CA_BUNDLE", with_others.clone()),
        ("CURL_CA_BUNDLE", with_others.clone()),
        ("GIT_SSL_CAINFO", with_others.clone()),
        ("AWS_CA_BUNDLE", with_others),
        // In addition to its own.
        ("NODE_EXTRA_CA_CERTS", own),
    ]
}
