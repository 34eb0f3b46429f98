//! A resource's `tls:` section, which means the same for every protocol; the words are libpq's.

use std::path::PathBuf;

use serde::Deserialize;

/// What a resource says about TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether clients use it.
    pub client: Client,
    /// Whether the gateway uses it towards the backend, and what it verifies. Default: `verify-full` where `ca` is given,
    /// else `prefer`.
    upstream: Option<Upstream>,
    /// Who signs the backend's certificate, in PEM. Default: whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// The gateway's own certificate, with those that signed it.
    pub client_cert: Option<PathBuf>,
    /// Its private key.
    pub client_key: Option<PathBuf>,
    /// What was revoked. Then every certificate of the chain must be on a list's account.
    pub crl: Option<PathBuf>,
    /// The name in the backend's certificate, where it is another than the endpoint's.
    pub name: Option<String>,
}

/// Whether clients use TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// As they like.
    #[default]
    Allow,
    /// Those that do not are refused.
    Required,
    /// They are told that there is none.
    Off,
}

/// Whether the gateway uses TLS towards the backend, in ascending order of what that protects from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upstream {
    /// It does not.
    Disable,
    /// Where the backend has it. Unlike libpq, a handshake that fails is not tried again without.
    Prefer,
    /// Always. Nothing is verified, unless `ca` says by whom the certificate must be signed.
    Require,
    /// The backend's certificate must be signed by somebody trusted.
    VerifyCa,
    /// It must also be for the name that is dialled.
    VerifyFull,
}

/// What of a certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    Nothing,
    Chain,
    ChainAndName,
}

impl Settings {
    /// Reads the section.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn read(section: Option<&serde_json::Value>) -> Result<Self, String> {
        let Some(section) = section else { return Ok(Self::default()) };
        if !section.is_object() {
            return Err(format!(
                "`tls: {}` is no section; expected one such as `tls: {{ client: required, upstream: verify-full }}`",
                section.as_str().map_or_else(|| section.to_string(), str::to_owned)
            ));
        }
        let settings = Self::deserialize(section).map_err(|error| error.to_string())?;
        if settings.client_cert.is_some() != settings.client_key.is_some() {
            return Err("`client_cert` and `client_key` belong together; one of them is missing".into());
        }
        if settings.verify() == Verify::Nothing && settings.crl.is_some() {
            return Err("`crl` is for `upstream: verify-ca` or `verify-full`; without them nothing is verified".into());
        }
        if settings.verify() != Verify::ChainAndName && settings.name.is_some() {
            return Err("`name` is for `upstream: verify-full`; without it no name is verified".into());
        }
        Ok(settings)
    }

    /// Nothing but a server that proves who it is: for whatever the gateway itself speaks to.
    pub fn verified(ca: Option<PathBuf>, name: Option<String>) -> Self {
        Self { ca, name, ..Self::strictest() }
    }

    /// What holds where the section cannot be read: nothing weaker than anybody could have meant.
    pub fn strictest() -> Self {
        Self { client: Client::Required, upstream: Some(Upstream::VerifyFull), ..Self::default() }
    }

    /// Whether the gateway uses TLS towards the backend, and what it verifies.
    pub fn upstream(&self) -> Upstream {
        self.upstream.unwrap_or(if self.ca.is_some() { Upstream::VerifyFull } else { Upstream::Prefer })
    }

    /// What is verified.
    pub(super) fn verify(&self) -> Verify {
        match self.upstream() {
            Upstream::VerifyFull => Verify::ChainAndName,
            Upstream::VerifyCa => Verify::Chain,
            // As libpq has it: who names an authority wants it.
            Upstream::Require | Upstream::Prefer if self.ca.is_some() => Verify::Chain,
            Upstream::Disable | Upstream::Prefer | Upstream::Require => Verify::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Settings, String> {
        Settings::read(Some(&serde_saphyr::from_str(yaml).expect("YAML")))
    }

    #[test]
    fn what_is_not_said_is_libpqs_default_and_an_authority_is_meant() {
        let none = Settings::read(None).expect("nothing is right");
        assert_eq!((none.client, none.upstream(), none.verify()), (Client::Allow, Upstream::Prefer, Verify::Nothing));
        assert_eq!(read("{ca: /x}").expect("right").verify(), Verify::ChainAndName);
        assert_eq!(read("{ca: /x, upstream: require}").expect("right").verify(), Verify::Chain);
        assert_eq!(read("{upstream: require}").expect("right").verify(), Verify::Nothing);
        assert_eq!(read("{upstream: verify-ca, client: 'off'}").expect("right").verify(), Verify::Chain);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (yaml, word) in [
            ("required", "tls: { client: required"),
            ("{upstream: verify_full}", "verify-full"),
            ("{upsteam: require}", "upstream"),
            ("{client_cert: /x}", "client_key"),
            ("{crl: /x}", "verify-ca"),
            ("{upstream: verify-ca, name: x}", "verify-full"),
        ] {
            let error = read(yaml).expect_err(yaml);
            assert!(error.contains(word), "{yaml}: {error}");
        }
    }
}
