//! Who the provider is: by its metadata, or by what the settings say one by one.
//!
//! # Security
//! Either is the operator's own word. A signature on metadata is not asked for; who may write the file may say who signs.

use std::{fs, path::Path};

use roxmltree::Node;

use super::{
    error::Why,
    signature::decoded,
    xml::{self, METADATA, SIGNATURE},
};
use crate::{
    config::SamlProvider,
    net::tls::{certificates, public_key},
};

/// Who the provider is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) entity_id: String,
    /// Where people sign in.
    pub(super) sso_url: String,
    /// The keys with which it signs (`SubjectPublicKeyInfo`).
    pub(super) keys: Vec<Vec<u8>>,
}

impl Descriptor {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// In words for the operator: it is missing, or cannot be meant.
    pub(super) fn of(settings: &SamlProvider) -> Result<Self, String> {
        let SamlProvider { metadata, entity_id, sso_url, certificates, .. } = settings;
        let own = match (metadata, entity_id, sso_url) {
            (Some(path), None, None) if certificates.is_empty() => Self::from_file(path)?,
            (None, Some(entity_id), Some(sso_url)) if !certificates.is_empty() => {
                let keys: Vec<_> = certificates.iter().map(|path| keys_in(path)).collect::<Result<_, _>>()?;
                Self { entity_id: entity_id.clone(), sso_url: sso_url.clone(), keys: keys.concat() }
            }
            _ => return Err("it needs `metadata`, or all of `entity_id`, `sso_url` and `certificates`".to_owned()),
        };
        if own.entity_id.is_empty() {
            return Err("its entity id is empty".to_owned());
        }
        if !may_send_to(&own.sso_url) {
            let why = "expected https:// (http:// on the loopback), without white space and fragment";
            return Err(format!("`sso_url: {}`: {why}", own.sso_url));
        }
        Ok(own)
    }

    fn from_file(path: &Path) -> Result<Self, String> {
        let failed = |why: String| format!("cannot use `metadata: {}`: {why}", path.display());
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Self::read(&text).map_err(|why| match why {
            Why::Malformed(why) | Why::Settings(why) => failed(why),
            why => failed(why.to_string()),
        })
    }

    /// Reads metadata (SAML metadata, 2.3.2 and 2.4.3).
    pub(super) fn read(text: &str) -> Result<Self, Why> {
        let wrong = |why: &str| Why::Settings(why.to_owned());
        let document = xml::read(text, LONGEST_METADATA)?;
        let root = document.root_element();
        if !xml::is(root, METADATA, "EntityDescriptor") {
            return Err(wrong("expected the metadata of one provider, an `EntityDescriptor`"));
        }
        let role = xml::only(root, METADATA, "IDPSSODescriptor")?;
        let role = role.ok_or_else(|| wrong("it is not a provider's: there is no `IDPSSODescriptor`"))?;
        let redirect = xml::children(role, METADATA, "SingleSignOnService")
            .find(|one| xml::attribute(*one, "Binding").as_deref() == Some(REDIRECT));
        let redirect = redirect.ok_or_else(|| wrong("it has no `SingleSignOnService` for HTTP-Redirect"))?;
        let signing = xml::children(role, METADATA, "KeyDescriptor")
            .filter(|one| xml::attribute(*one, "use").is_none_or(|purpose| purpose == "signing"));
        let keys: Vec<_> = signing.map(keys_of).collect::<Result<_, _>>()?;
        let keys = keys.concat();
        if keys.is_empty() {
            return Err(wrong("it has no certificate for signing"));
        }
        Ok(Self {
            entity_id: xml::attribute(root, "entityID").unwrap_or_default(),
            sso_url: xml::attribute(redirect, "Location").unwrap_or_default(),
            keys,
        })
    }
}

fn keys_of(descriptor: Node<'_, '_>) -> Result<Vec<Vec<u8>>, Why> {
    let certificates = descriptor.descendants().filter(|one| xml::is(*one, SIGNATURE, "X509Certificate"));
    let key = |one| {
        let certificate = decoded(&xml::text(one)?)?;
        let key = public_key(&certificate).map(<[u8]>::to_vec);
        key.ok_or_else(|| Why::Settings("it has an `X509Certificate` that is none".to_owned()))
    };
    certificates.map(key).collect()
}

fn keys_in(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let all = certificates(path).map_err(|error| error.to_string())?;
    let key = |certificate: &Vec<u8>| {
        let key = public_key(certificate).map(<[u8]>::to_vec);
        key.ok_or_else(|| format!("cannot use {}: it has a certificate that is none", path.display()))
    };
    all.iter().map(key).collect()
}

/// Whether a browser may be sent there.
fn may_send_to(url: &str) -> bool {
    let plain = !url.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == '#');
    let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return false,
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    plain && !host.is_empty() && !authority.contains('@') && (secure || loopback)
}

const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";

/// The longest metadata, in bytes.
const LONGEST_METADATA: usize = 512 * 1024;
