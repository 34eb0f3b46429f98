//! What the gateway says: its requests (SAML core, 3.4.1; bindings, 3.4) and its metadata.

use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{form::encoded, xml::escape};
use crate::config::NameIdFormat;

/// A request that somebody signs in.
pub(super) struct Request<'r> {
    pub(super) id: &'r str,
    /// Now, as text.
    pub(super) issued: String,
    /// Where it goes.
    pub(super) to: &'r str,
    pub(super) issuer: &'r str,
    pub(super) acs: &'r str,
    pub(super) format: NameIdFormat,
    pub(super) contexts: &'r [String],
    pub(super) force_authn: bool,
}

impl Request<'_> {
    fn text(&self) -> String {
        let Self { id, issued, to, issuer, acs, format, contexts, force_authn } = self;
        let (to, issuer, acs) = (escape(to), escape(issuer), escape(acs));
        let anew = if *force_authn { " ForceAuthn=\"true\"" } else { "" };
        let each = contexts
            .iter()
            .map(|context| format!("<saml:AuthnContextClassRef>{}</saml:AuthnContextClassRef>", escape(context)));
        let wanted: String = each.collect();
        let wanted = match wanted.is_empty() {
            true => wanted,
            false => {
                format!("<samlp:RequestedAuthnContext Comparison=\"exact\">{wanted}</samlp:RequestedAuthnContext>")
            }
        };
        format!(
            "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
             xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"{id}\" Version=\"2.0\" IssueInstant=\"{issued}\" \
             Destination=\"{to}\" AssertionConsumerServiceURL=\"{acs}\" ProtocolBinding=\"{POST}\"{anew}>\
             <saml:Issuer>{issuer}</saml:Issuer>\
             <samlp:NameIDPolicy Format=\"{}\" AllowCreate=\"true\"/>{wanted}</samlp:AuthnRequest>",
            uri_of(*format)
        )
    }

    /// The address to which a browser is sent (HTTP-Redirect), signed where there is a key. `None`: the key signs nothing.
    pub(super) fn url(&self, relay: &str, key: Option<&KeyPair>) -> Option<String> {
        let text = self.text();
        let mut query = format!(
            "SAMLRequest={}&RelayState={}",
            encoded(&STANDARD.encode(stored(text.as_bytes())?)),
            encoded(relay)
        );
        if let Some(key) = key {
            query.push_str(&format!("&SigAlg={}", encoded(RSA_SHA256)));
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), query.as_bytes(), &mut signature).ok()?;
            query.push_str(&format!("&Signature={}", encoded(&STANDARD.encode(signature))));
        }
        let join = if self.to.contains('?') { '&' } else { '?' };
        Some(format!("{}{join}{query}", self.to))
    }
}

/// DEFLATE (RFC 1951, 3.2.4) without compressing: one block, as it is. `None` where it does not fit into one.
fn stored(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(bytes.len()).ok()?;
    Some([&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), bytes].concat())
}

/// What the gateway says of itself (SAML metadata, 2.4.4).
pub(super) struct Own<'r> {
    pub(super) entity_id: &'r str,
    pub(super) acs: &'r str,
    pub(super) format: NameIdFormat,
    /// In DER.
    pub(super) certificate: Option<&'r [u8]>,
    pub(super) signs: bool,
}

impl Own<'_> {
    pub(super) fn metadata(&self) -> String {
        let (entity_id, acs) = (escape(self.entity_id), escape(self.acs));
        let key = |certificate: &[u8]| {
            // For both, where both are done.
            let purpose = if self.signs { "" } else { " use=\"encryption\"" };
            let ciphers: String =
                CIPHERS.iter().map(|name| format!("<md:EncryptionMethod Algorithm=\"{name}\"/>")).collect();
            format!(
                "<md:KeyDescriptor{purpose}><ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data>\
                 <ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>{ciphers}</md:KeyDescriptor>",
                STANDARD.encode(certificate)
            )
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" entityID=\"{entity_id}\">\
             <md:SPSSODescriptor AuthnRequestsSigned=\"{}\" WantAssertionsSigned=\"true\" \
             protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\">{}\
             <md:NameIDFormat>{}</md:NameIDFormat>\
             <md:AssertionConsumerService Binding=\"{POST}\" Location=\"{acs}\" index=\"0\" isDefault=\"true\"/>\
             </md:SPSSODescriptor></md:EntityDescriptor>\n",
            self.signs,
            self.certificate.map(key).unwrap_or_default(),
            uri_of(self.format)
        )
    }
}

/// A kind of name, as SAML calls it.
pub(super) fn uri_of(format: NameIdFormat) -> &'static str {
    match format {
        NameIdFormat::Email => "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
        NameIdFormat::Persistent => "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
        NameIdFormat::Unspecified => super::assertion::UNSPECIFIED,
    }
}

/// How answers come.
const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";

const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";

/// With what the provider may encrypt, best first.
const CIPHERS: &[&str] = &[
    "http://www.w3.org/2009/xmlenc11#aes256-gcm",
    "http://www.w3.org/2009/xmlenc11#aes128-gcm",
    "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p",
];
