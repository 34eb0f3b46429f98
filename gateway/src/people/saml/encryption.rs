//! Assertions that the provider encrypts for the gateway (XML Encryption 1.1): RSA-OAEP around AES-GCM, and nothing else.
//!
//! # Security
//! What is opened here is not yet anybody's word: it counts when it is signed, or when the answer around it is.

use aws_lc_rs::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey},
    rsa::{
        OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
        OaepPrivateDecryptingKey, PrivateDecryptingKey,
    },
};
use roxmltree::Node;
use zeroize::Zeroizing;

use super::{
    Check,
    check::must,
    error::Why,
    signature::decoded,
    xml::{self, ENCRYPTION, SIGNATURE},
};

/// An encrypted assertion.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) cipher: String,
    /// How many keys came with it.
    pub(super) keys: usize,
    pub(super) key_cipher: String,
    pub(super) digest: String,
    /// The mask's function, where it can be said.
    pub(super) mask: Option<String>,
    key: Vec<u8>,
    content: Vec<u8>,
}

/// What must be so of it.
pub(super) const CHECKS: &[Check<Sealed>] = &[
    Check { name: "cipher", holds: cipher },
    Check { name: "one_key", holds: one_key },
    Check { name: "key_cipher", holds: key_cipher },
    Check { name: "key_digest", holds: key_digest },
];

impl Sealed {
    /// Reads an `EncryptedAssertion`.
    ///
    /// # Errors
    /// It has not the parts of one.
    pub(super) fn read(node: Node<'_, '_>) -> Result<Self, Why> {
        let missing = |name: &str| Why::Malformed(format!("its encrypted assertion has no `{name}`"));
        let data = xml::only(node, ENCRYPTION, "EncryptedData")?.ok_or_else(|| missing("EncryptedData"))?;
        // In the data, or beside it.
        let keys: Vec<_> = node.descendants().filter(|one| xml::is(*one, ENCRYPTION, "EncryptedKey")).collect();
        let key = *keys.first().ok_or_else(|| missing("EncryptedKey"))?;
        let method = xml::only(key, ENCRYPTION, "EncryptionMethod")?.ok_or_else(|| missing("EncryptionMethod"))?;
        let digest = xml::only(method, SIGNATURE, "DigestMethod")?.and_then(|one| xml::attribute(one, "Algorithm"));
        Ok(Self {
            cipher: algorithm(data)?,
            keys: keys.len(),
            key_cipher: algorithm(key)?,
            digest: digest.unwrap_or_else(|| SHA1.to_owned()),
            mask: xml::only(method, ENCRYPTION11, "MGF")?.and_then(|one| xml::attribute(one, "Algorithm")),
            key: value(key)?,
            content: value(data)?,
        })
    }

    /// Opens it.
    ///
    /// # Errors
    /// It is not for this key, or was altered.
    pub(super) fn open(&self, own: &[u8]) -> Result<String, Why> {
        self.try_open(own).ok_or(Why::Sealed)
    }

    fn try_open(&self, own: &[u8]) -> Option<String> {
        let own = PrivateDecryptingKey::from_pkcs8(own).and_then(|key| Ok(OaepPrivateDecryptingKey::new(key)?)).ok()?;
        let mut room = Zeroizing::new(vec![0; own.min_output_size()]);
        let key = own.decrypt(self.padding()?, &self.key, &mut room, None).ok()?;
        let key = LessSafeKey::new(UnboundKey::new(cipher_of(&self.cipher)?, key).ok()?);
        // XML Encryption 1.1, 5.2.4: the nonce stands in front, the tag behind.
        let (nonce, sealed) = self.content.split_at_checked(12)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = key.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }

    /// The padding around the key: digest and mask by the same hash.
    fn padding(&self) -> Option<&'static OaepAlgorithm> {
        let mask = match self.key_cipher.as_str() {
            OAEP_MGF1P => MGF1_SHA1,
            OAEP => self.mask.as_deref().unwrap_or(MGF1_SHA1),
            _ => return None,
        };
        let known: [(&str, &str, &'static OaepAlgorithm); 4] = [
            // Nobody needs two texts with one hash to break this one.
            (SHA1, MGF1_SHA1, &OAEP_SHA1_MGF1SHA1),
            (SHA256, "http://www.w3.org/2009/xmlenc11#mgf1sha256", &OAEP_SHA256_MGF1SHA256),
            (SHA384, "http://www.w3.org/2009/xmlenc11#mgf1sha384", &OAEP_SHA384_MGF1SHA384),
            (SHA512, "http://www.w3.org/2009/xmlenc11#mgf1sha512", &OAEP_SHA512_MGF1SHA512),
        ];
        known.into_iter().find(|(digest, by, _)| *digest == self.digest && *by == mask).map(|(.., padding)| padding)
    }
}

fn algorithm(node: Node<'_, '_>) -> Result<String, Why> {
    let method = xml::only(node, ENCRYPTION, "EncryptionMethod")?;
    let algorithm = method.and_then(|method| xml::attribute(method, "Algorithm"));
    algorithm.ok_or_else(|| Why::Malformed("its encrypted assertion has no `EncryptionMethod`".to_owned()))
}

fn value(node: Node<'_, '_>) -> Result<Vec<u8>, Why> {
    let missing = || Why::Malformed("its encrypted assertion has no `CipherValue`".to_owned());
    let data = xml::only(node, ENCRYPTION, "CipherData")?.ok_or_else(missing)?;
    decoded(&xml::text(xml::only(data, ENCRYPTION, "CipherValue")?.ok_or_else(missing)?)?)
}

fn cipher_of(name: &str) -> Option<&'static Algorithm> {
    match name {
        "http://www.w3.org/2009/xmlenc11#aes128-gcm" => Some(&AES_128_GCM),
        "http://www.w3.org/2009/xmlenc11#aes256-gcm" => Some(&AES_256_GCM),
        _ => None,
    }
}

/// Without a tag (CBC) whoever may ask often learns what is encrypted.
fn cipher(sealed: &Sealed) -> Result<(), Why> {
    must(cipher_of(&sealed.cipher).is_some(), || Why::Cipher(Why::words(&sealed.cipher)))
}

fn one_key(sealed: &Sealed) -> Result<(), Why> {
    must(sealed.keys == 1, || Why::Keys(sealed.keys))
}

/// PKCS #1 v1.5 answers whoever may ask often, too.
fn key_cipher(sealed: &Sealed) -> Result<(), Why> {
    must([OAEP_MGF1P, OAEP].contains(&sealed.key_cipher.as_str()), || Why::KeyCipher(Why::words(&sealed.key_cipher)))
}

fn key_digest(sealed: &Sealed) -> Result<(), Why> {
    let known = sealed.padding().is_some() || ![OAEP_MGF1P, OAEP].contains(&sealed.key_cipher.as_str());
    let mask = sealed.mask.as_deref().unwrap_or("MGF1 with SHA-1");
    must(known, || Why::Padding(Why::words(&format!("{} with {mask}", sealed.digest))))
}

const ENCRYPTION11: &str = "http://www.w3.org/2009/xmlenc11#";
const OAEP_MGF1P: &str = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
const OAEP: &str = "http://www.w3.org/2009/xmlenc11#rsa-oaep";
const MGF1_SHA1: &str = "http://www.w3.org/2009/xmlenc11#mgf1sha1";
const SHA1: &str = "http://www.w3.org/2000/09/xmldsig#sha1";
const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
const SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#sha384";
const SHA512: &str = "http://www.w3.org/2001/04/xmlenc#sha512";
