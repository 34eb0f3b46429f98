//! A provider that signs whatever a test says, and what it takes to sign in there.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest,
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize, OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{c14n, signature::ENVELOPED, xml, *};

mod attacks;
mod canonical;
mod flows;
mod settings;
mod wrapping;

/// A provider's key.
pub(super) enum Key {
    Rsa(KeyPair),
    Ec(EcdsaKeyPair),
}

impl Key {
    pub(super) fn rsa() -> Self {
        Self::Rsa(KeyPair::generate(KeySize::Rsa2048).expect("random numbers"))
    }

    pub(super) fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("random numbers"))
    }

    /// `SubjectPublicKeyInfo`.
    pub(super) fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.public_key().as_der().expect("a key").as_ref().to_vec(),
            Self::Ec(key) => key.public_key().as_der().expect("a key").as_ref().to_vec(),
        }
    }

    pub(super) fn pkcs8(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.as_der().expect("a key").as_ref().to_vec(),
            Self::Ec(key) => key.to_pkcs8v1().expect("a key").as_ref().to_vec(),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("it signs");
                signature
            }
            Self::Ec(key) => key.sign(&SystemRandom::new(), message).expect("it signs").as_ref().to_vec(),
        }
    }

    fn method(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
            Self::Ec(_) => "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
        }
    }
}

/// The provider's key and the gateway's, made once: RSA takes its time.
pub(super) fn keys() -> &'static (Key, Key) {
    static KEYS: OnceLock<(Key, Key)> = OnceLock::new();
    KEYS.get_or_init(|| (Key::rsa(), Key::rsa()))
}

/// How a signature is made, to be spoilt.
pub(super) struct Signer<'k> {
    pub(super) key: &'k Key,
    pub(super) canonicalization: &'static str,
    pub(super) method: Option<&'static str>,
    pub(super) transforms: Vec<&'static str>,
    pub(super) digest_method: &'static str,
    /// In place of the element's own.
    pub(super) uri: Option<String>,
    /// Behind the rest of `SignedInfo`.
    pub(super) more: String,
    /// Behind the rest of the signature.
    pub(super) object: String,
    /// In place of the right way to sign.
    pub(super) by: Option<fn(&Key, &[u8]) -> Vec<u8>>,
}

pub(super) const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";

impl<'k> Signer<'k> {
    pub(super) fn honest(key: &'k Key) -> Self {
        Self {
            key,
            canonicalization: c14n::METHOD,
            method: None,
            transforms: vec![ENVELOPED, c14n::METHOD],
            digest_method: SHA256,
            uri: None,
            more: String::new(),
            object: String::new(),
            by: None,
        }
    }

    /// Signs the element with this `ID` in a document: puts the signature behind its `Issuer`.
    pub(super) fn sign(&self, text: &str, id: &str) -> String {
        let place = place_of(text, id);
        let signature = self.signature(text, id);
        format!("{}{signature}{}", &text[..place], &text[place..])
    }

    /// The signature over the element with this `ID`, detached.
    pub(super) fn signature(&self, text: &str, id: &str) -> String {
        let document = xml::read(text, usize::MAX).expect("the test writes XML");
        let element = document.descendants().find(|node| node.attribute("ID") == Some(id)).expect("it is there");
        let content = c14n::canonical(element, None, &[]).expect("it is short");
        let hash = match self.digest_method {
            "http://www.w3.org/2000/09/xmldsig#sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            _ => &digest::SHA256,
        };
        let digest = STANDARD.encode(digest::digest(hash, content.as_bytes()));
        let transforms: String =
            self.transforms.iter().map(|one| format!("<ds:Transform Algorithm=\"{one}\"/>")).collect();
        let uri = self.uri.clone().unwrap_or_else(|| format!("#{id}"));
        let info = format!(
            "<ds:SignedInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:CanonicalizationMethod \
             Algorithm=\"{}\"></ds:CanonicalizationMethod><ds:SignatureMethod Algorithm=\"{}\"></ds:SignatureMethod>\
             <ds:Reference URI=\"{uri}\"><ds:Transforms>{transforms}</ds:Transforms><ds:DigestMethod \
             Algorithm=\"{}\"></ds:DigestMethod><ds:DigestValue>{digest}</ds:DigestValue></ds:Reference>{}</ds:SignedInfo>",
            self.canonicalization,
            self.method.unwrap_or(self.key.method()),
            self.digest_method,
            self.more,
        );
        let read = xml::read(&info, usize::MAX).expect("the test writes XML");
        let signed = c14n::canonical(read.root_element(), None, &[]).expect("it is short");
        let value = match self.by {
            Some(by) => by(self.key, signed.as_bytes()),
            None => self.key.sign(signed.as_bytes()),
        };
        format!(
            "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\">{info}<ds:SignatureValue>{}\
             </ds:SignatureValue>{}</ds:Signature>",
            STANDARD.encode(value),
            self.object,
        )
    }
}

/// Where the signature of the element with this `ID` belongs.
pub(super) fn place_of(text: &str, id: &str) -> usize {
    let from = text.find(&format!("ID=\"{id}\"")).expect("it is there");
    let end = "</saml:Issuer>";
    from + text[from..].find(end).expect("it has an issuer") + end.len()
}

pub(super) const NOW: u64 = 1_800_000_000;

/// A moment as SAML writes it.
pub(super) fn at(seconds: u64) -> String {
    let at = jiff::Timestamp::from_second(i64::try_from(seconds).expect("it fits")).expect("a time");
    at.strftime("%Y-%m-%dT%H:%M:%S.123Z").to_string()
}

/// An honest assertion, to be spoilt.
pub(super) fn assertion() -> String {
    format!(
        "<saml:Assertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_a\" Version=\"2.0\" \
         IssueInstant=\"{now}\"><saml:Issuer>https://id.example</saml:Issuer><saml:Subject><saml:NameID \
         Format=\"urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress\">ada@corp.example</saml:NameID>\
         <saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\"><saml:SubjectConfirmationData \
         Recipient=\"{ACS}\" InResponseTo=\"_r\" NotOnOrAfter=\"{later}\"/></saml:SubjectConfirmation></saml:Subject>\
         <saml:Conditions NotBefore=\"{before}\" NotOnOrAfter=\"{later}\"><saml:AudienceRestriction>\
         <saml:Audience>{AUDIENCE}</saml:Audience></saml:AudienceRestriction></saml:Conditions>\
         <saml:AuthnStatement AuthnInstant=\"{shown}\" SessionIndex=\"s\" SessionNotOnOrAfter=\"{ends}\">\
         <saml:AuthnContext><saml:AuthnContextClassRef>urn:gold</saml:AuthnContextClassRef></saml:AuthnContext>\
         </saml:AuthnStatement><saml:AttributeStatement><saml:Attribute Name=\"groups\"><saml:AttributeValue>DBA\
         </saml:AttributeValue><saml:AttributeValue>root</saml:AttributeValue></saml:Attribute>\
         </saml:AttributeStatement></saml:Assertion>",
        now = at(NOW),
        before = at(NOW - 5),
        shown = at(NOW - 10),
        later = at(NOW + 300),
        ends = at(NOW + 3600),
    )
}

/// An answer with `inside` it.
pub(super) fn answer(inside: &str) -> String {
    format!(
        "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
         xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_p\" Version=\"2.0\" IssueInstant=\"{}\" \
         Destination=\"{ACS}\" InResponseTo=\"_r\"><saml:Issuer>https://id.example</saml:Issuer><samlp:Status>\
         <samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/></samlp:Status>{inside}</samlp:Response>",
        at(NOW)
    )
}

/// The honest answer with its assertion signed.
pub(super) fn honest() -> String {
    answer(&Signer::honest(&keys().0).sign(&assertion(), "_a"))
}

/// An assertion encrypted for the gateway.
pub(super) fn sealed(assertion: &str) -> String {
    let content = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key"));
    let mut text = assertion.as_bytes().to_vec();
    let nonce = Nonce::assume_unique_for_key([3; 12]);
    content.seal_in_place_append_tag(nonce, Aad::empty(), &mut text).expect("it is sealed");
    let text = STANDARD.encode([&[3; 12][..], &text].concat());
    let public = PublicEncryptingKey::from_der(&keys().1.public()).expect("a key");
    let public = OaepPublicEncryptingKey::new(public).expect("a key");
    let mut room = vec![0; public.ciphertext_size()];
    let key = STANDARD.encode(public.encrypt(&OAEP_SHA1_MGF1SHA1, &[7; 32], &mut room, None).expect("it is sealed"));
    format!(
        "<saml:EncryptedAssertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"><xenc:EncryptedData \
         xmlns:xenc=\"http://www.w3.org/2001/04/xmlenc#\"><xenc:EncryptionMethod \
         Algorithm=\"http://www.w3.org/2009/xmlenc11#aes256-gcm\"/><ds:KeyInfo \
         xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><xenc:EncryptedKey><xenc:EncryptionMethod \
         Algorithm=\"http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p\"/><xenc:CipherData><xenc:CipherValue>{key}\
         </xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo><xenc:CipherData><xenc:CipherValue>{text}\
         </xenc:CipherValue></xenc:CipherData></xenc:EncryptedData></saml:EncryptedAssertion>"
    )
}

/// What a test expects of the honest answer.
pub(super) fn expected() -> Expected {
    Expected {
        entity_id: "https://id.example".to_owned(),
        acs: ACS.to_owned(),
        audience: AUDIENCE.to_owned(),
        request: "_r".to_owned(),
        format: request::uri_of(crate::config::NameIdFormat::Email).to_owned(),
        shown_since: None,
        contexts: Vec::new(),
        encrypted: false,
        now: NOW,
    }
}

pub(super) const ACS: &str = "https://desk.example/signin/saml/corp/acs";
pub(super) const AUDIENCE: &str = "https://desk.example/signin/saml/corp/metadata";

/// A provider's files and settings that name them.
pub(super) struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// The files: `idp.crt` and `idp.xml` with the provider's key, `own.crt` and `own.key` with the gateway's.
    pub(super) fn new() -> Self {
        let own = Self { dir: tempfile::tempdir().expect("a directory") };
        let (idp, ours) = keys();
        own.write("idp.crt", &pem("CERTIFICATE", &certificate(&idp.public())));
        own.write("own.crt", &pem("CERTIFICATE", &certificate(&ours.public())));
        own.write("own.key", &pem("PRIVATE KEY", &ours.pkcs8()));
        own.write("idp.xml", &metadata("https://id.example", "https://id.example/sso", &idp.public()));
        own
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    /// Settings by metadata, and these besides.
    pub(super) fn settings(&self, more: &str) -> SamlProvider {
        let text =
            format!("{{name: corp, metadata: '{}', groups: {{DBA: dba}}, {more}}}", self.path("idp.xml").display());
        serde_saphyr::from_str(&text).expect("the settings are right")
    }

    /// With the gateway's key.
    pub(super) fn keyed(&self, more: &str) -> SamlProvider {
        let (certificate, key) = (self.path("own.crt"), self.path("own.key"));
        self.settings(&format!("certificate: '{}', key: '{}', {more}", certificate.display(), key.display()))
    }

    pub(super) fn provider(&self, settings: SamlProvider) -> Provider {
        Provider::new(settings, "https://desk.example").expect("the settings are right")
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("it is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

/// As much of a certificate as is read of one: who vouches for it nobody asks.
pub(super) fn certificate(public: &[u8]) -> Vec<u8> {
    let sequence = |parts: &[&[u8]]| {
        let content = parts.concat();
        let length = u16::try_from(content.len()).expect("short").to_be_bytes();
        [&[0x30, 0x82][..], &length, &content].concat()
    };
    let (empty, version, serial) = (sequence(&[]), [0xa0, 3, 2, 1, 2], [2, 1, 1]);
    let signed = sequence(&[&version, &serial, &empty, &empty, &empty, &empty, public]);
    sequence(&[&signed, &empty, &[3, 1, 0]])
}

pub(super) fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", STANDARD.encode(der))
}

/// A provider's metadata.
pub(super) fn metadata(entity_id: &str, sso_url: &str, public: &[u8]) -> String {
    format!(
        "<md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" entityID=\"{entity_id}\">\
         <md:IDPSSODescriptor protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\"><md:KeyDescriptor \
         use=\"signing\"><ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data><ds:X509Certificate>{}\
         </ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:SingleSignOnService \
         Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" Location=\"https://id.example/post\"/>\
         <md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" Location=\"{sso_url}\"/>\
         </md:IDPSSODescriptor></md:EntityDescriptor>",
        STANDARD.encode(certificate(public))
    )
}
