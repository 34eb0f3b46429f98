//! `people: saml:`: providers of SAML 2.0 at which people sign in.
//!
//! # Security
//! Who may vouch for people is said by certificates in files that are named here, and by nothing that comes with an answer.

use std::{collections::BTreeSet, path::PathBuf};

use serde::Deserialize;

use super::OidcGroups;

/// A provider of SAML 2.0 at which people sign in.
///
/// It is told the gateway's name, [`SamlProvider::own_entity_id`], and its address for answers,
/// `{console.url}/signin/saml/{name}/acs`, once, when the gateway is registered there; both stand in what the gateway says
/// of itself at `{console.url}/signin/saml/{name}/metadata`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamlProvider {
    /// What it is called here, on the page where people sign in and in addresses: letters, digits, `.`, `_` and `-`. No
    /// provider of OpenID Connect may have the same.
    pub name: String,
    /// The file with what it says of itself (an `EntityDescriptor`). It is read anew for every sign-in, so a new
    /// certificate counts at once. In its place: `entity_id`, `sso_url` and `certificates`.
    #[serde(default)]
    pub metadata: Option<PathBuf>,
    /// What it calls itself, exactly.
    #[serde(default)]
    pub entity_id: Option<String>,
    /// Where people sign in (HTTP-Redirect binding). `https://`, but for a provider on the loopback.
    #[serde(default)]
    pub sso_url: Option<String>,
    /// The files with the certificates, in PEM, whose keys sign its answers. Nobody asks who signed these.
    #[serde(default)]
    pub certificates: Vec<PathBuf>,
    /// What the gateway is called there. Default: the address of its metadata, `{console.url}/signin/saml/{name}/metadata`.
    #[serde(default)]
    pub own_entity_id: Option<String>,
    /// The file with the gateway's own certificate there, in PEM: for an RSA key.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The file with its private key, in PEM (PKCS #8), for root alone: it opens what the provider encrypts.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Whether the gateway signs its requests with `key`.
    #[serde(default)]
    pub sign_requests: bool,
    /// How the provider names people for good, which it is asked for. Another kind than this does not count: to whoever has
    /// two names one human could be two.
    #[serde(default)]
    pub name_id: NameIdFormat,
    /// Which attributes say what.
    #[serde(default)]
    pub claims: SamlClaims,
    /// Which of its groups count here. Default: none.
    #[serde(default)]
    pub groups: OidcGroups,
    /// What a sign-in must have been like.
    #[serde(default)]
    pub require: SamlRequire,
    /// Whether people show the provider anew who they are each time (`ForceAuthn`).
    #[serde(default)]
    pub force_authn: bool,
}

/// How a provider names people. There is no `transient`: a name for one sign-in is nobody's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameIdFormat {
    /// By their e-mail address.
    #[default]
    Email,
    /// By a name of the provider's own that never changes.
    Persistent,
    /// As the provider likes; it must be a name that stays.
    Unspecified,
}

/// Which of a provider's attributes say what. Never name one here that people can change themselves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamlClaims {
    /// What people are called, by policies too. Default: their e-mail address.
    pub name: Option<String>,
    /// Their e-mail address. Default: the `NameID`, with `name_id: email`.
    pub email: Option<String>,
    /// Which groups they are in.
    pub groups: String,
}

impl Default for SamlClaims {
    fn default() -> Self {
        Self { name: None, email: None, groups: "groups".to_owned() }
    }
}

/// What a sign-in must have been like; what is not written is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamlRequire {
    /// One of these ways of showing who one is (`AuthnContextClassRef`), which the provider is asked for.
    pub context: Vec<String>,
    /// An e-mail address in one of these domains, not below them.
    pub email_domain: BTreeSet<String>,
    /// That the provider encrypts what it says of people, for `key`.
    pub encrypted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SamlProvider, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_provider_is_read_with_what_is_not_written() {
        let provider = read("{name: corp, metadata: /etc/idp.xml, groups: {DBA: dba}}").expect("it is right");
        assert_eq!((provider.name_id, provider.claims), (NameIdFormat::Email, SamlClaims::default()));
        assert_eq!(provider.groups, OidcGroups::Named([("DBA".to_owned(), "dba".to_owned())].into()));
        assert_eq!(provider.require, SamlRequire::default());
        assert!(!provider.sign_requests && !provider.force_authn && provider.certificates.is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (text, word) in [
            ("{metadata: /x}", "name"),
            ("{name: a, metdata: /x}", "metdata"),
            ("{name: a, metadata: /x, name_id: transient}", "transient"),
            ("{name: a, metadata: /x, groups: all}", "as_is"),
            ("{name: a, metadata: /x, require: {acr: [x]}}", "acr"),
            ("{name: a, metadata: /x, claims: {mail: x}}", "mail"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
