//! `people:`: who vouches for people who are neither users of this machine nor known to the gateway itself.
//!
//! # Security
//! What the gateway shows a provider to prove who it is stands in a file that is named here, never here itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{SamlProvider, optional_seconds};

/// Who vouches for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vouchers {
    /// Providers of OpenID Connect.
    pub oidc: Vec<OidcProvider>,
    /// Providers of SAML 2.0.
    pub saml: Vec<SamlProvider>,
    /// Which groups may use what at the console, beside what accounts are given by name: role → groups. Whoever a
    /// provider knows is an approver where a rule asks them, and nothing else without this.
    pub roles: BTreeMap<RoleName, Vec<String>>,
}

/// What somebody may use, as settings write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Sees requests.
    Viewer,
    /// Decides, where a rule asks them.
    Approver,
    /// Sees sessions and the console's own audit.
    Auditor,
    /// Ends sessions.
    Admin,
}

/// A provider of OpenID Connect at which people sign in.
///
/// It is told the gateway's address for answers, `{console.url}/signin/oidc/{name}/return`, once, when the gateway is
/// registered there as a client.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProvider {
    /// What it is called here, on the page where people sign in and in addresses: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Its issuer, exactly as it writes it. `https://`, but for a provider on the loopback.
    pub issuer: String,
    /// What the gateway is called there.
    pub client_id: String,
    /// The file with what proves that to it, for root alone. It is read anew whenever it is needed. Without it the gateway
    /// is a public client, and nothing but PKCE binds an answer to it.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for beside `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// Who signs its certificate, in PEM. Default: whom this machine trusts.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Which of its claims say what.
    #[serde(default)]
    pub claims: OidcClaims,
    /// Which of its groups count here. Default: none.
    #[serde(default)]
    pub groups: OidcGroups,
    /// What a sign-in must have been like.
    #[serde(default)]
    pub require: OidcRequire,
    /// How long ago people may have typed or touched something there at most. Default: the provider's to say.
    #[serde(default, with = "optional_seconds")]
    pub max_age: Option<Duration>,
    /// Whether people may sign in on a terminal with a code that they type in a browser elsewhere (RFC 8628). Whoever is
    /// talked into typing somebody else's code signs that one in, so it must be asked for.
    #[serde(default)]
    pub device: bool,
}

/// Which of a provider's claims say what.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OidcClaims {
    /// What people are called, by policies too. `email` (the default) counts only where the provider says that it has
    /// verified it. Never name a claim here that people can change themselves.
    pub name: String,
    /// Which groups they are in: a list of texts.
    pub groups: String,
}

impl Default for OidcClaims {
    fn default() -> Self {
        Self { name: "email".to_owned(), groups: "groups".to_owned() }
    }
}

/// Which of a provider's groups count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OidcGroups {
    /// All, under their own names. Whoever keeps groups there says then who is in a group that policies name.
    AsIs,
    /// These: their name → ours.
    Named(BTreeMap<String, String>),
}

impl Default for OidcGroups {
    fn default() -> Self {
        Self::Named(BTreeMap::new())
    }
}

impl<'de> Deserialize<'de> for OidcGroups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Groups;
        // By hand: serde's own way says of a wrong word only that nothing matched.
        impl<'de> Visitor<'de> for Groups {
            type Value = OidcGroups;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`as_is`, or which of the provider's groups are which here: `{\"their group\": ours}`")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<OidcGroups, E> {
                if word == "as_is" {
                    Ok(OidcGroups::AsIs)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(word), &self))
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OidcGroups, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(OidcGroups::Named)
            }
        }
        deserializer.deserialize_any(Groups)
    }
}

/// What a sign-in must have been like; what is not written is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OidcRequire {
    /// One of these levels of assurance (`acr`), which the provider is asked for.
    pub acr: Vec<String>,
    /// All of these methods (`amr`): `mfa`, `hwk`.
    pub amr: BTreeSet<String>,
    /// A verified e-mail address in one of these domains, not below them.
    pub email_domain: BTreeSet<String>,
}

fn scopes() -> Vec<String> {
    ["profile", "email"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vouchers, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_provider_is_read_with_what_is_not_written() {
        let text = "oidc: [{name: corp, issuer: 'https://id.example', client_id: hp, groups: {DBA: dba}, max_age: 8h}]";
        let [provider] = &read(text).expect("it is right").oidc[..] else { panic!("not one provider") };
        assert_eq!(provider.scopes, ["profile", "email"]);
        assert_eq!((&provider.claims.name[..], &provider.claims.groups[..]), ("email", "groups"));
        assert_eq!(provider.groups, OidcGroups::Named([("DBA".to_owned(), "dba".to_owned())].into()));
        assert_eq!((provider.max_age, provider.device), (Some(Duration::from_secs(8 * 3600)), false));
        assert_eq!(provider.require, OidcRequire::default());
        assert_eq!(
            read("oidc: [{name: a, issuer: b, client_id: c}]").expect("right").oidc[0].groups,
            OidcGroups::default()
        );
        let as_is = read("oidc: [{name: a, issuer: b, client_id: c, groups: as_is}]").expect("it is right");
        assert_eq!(as_is.oidc[0].groups, OidcGroups::AsIs);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (text, word) in [
            ("oidc: [{name: a, client_id: c}]", "issuer"),
            ("oidc: [{name: a, issuer: b, client_id: c, client_secret: canary}]", "client_secret"),
            ("oidc: [{name: a, issuer: b, client_id: c, groups: all}]", "as_is"),
            ("oidc: [{name: a, issuer: b, client_id: c, require: {arc: [x]}}]", "arc"),
            ("oidc: [{name: a, issuer: b, client_id: c, max_age: 8}]", "duration"),
            ("saml2: []", "saml2"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
