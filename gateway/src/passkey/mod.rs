//! Passkeys: what an authenticator says when it is made someone's, and what it signs later.
//!
//! Web Authentication Level 3: section 7.1 (registering) and 7.2 (verifying), for the algorithms that authenticators
//! have, without attestation: a passkey is believed because an administrator's one-time link enrolled it, not because
//! of its maker. Libraries choose the challenge themselves; here it is a hash of what is decided, so that a signature in
//! the record proves offline who decided what.
//!
//! # Security
//! Pure, and the same code at sign-in, at a decision and in `holdpoint verify`. Everything read comes from a stranger's
//! browser: bounded, and nothing is believed before the signature.

use aws_lc_rs::{
    digest,
    signature::{
        ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use minicbor::Decoder;
use serde::Deserialize;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

/// What must be so for a passkey's word to count.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Whom it signs for: the console's host.
    pub party: &'a str,
    /// Where the browser must have been: the console's origin. `None` where the record is verified, which does not have
    /// it: an authenticator signs for a party's own origins only.
    pub origin: Option<&'a str>,
    /// What was to be signed.
    pub challenge: &'a [u8],
}

/// What a new passkey says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its name.
    pub key: Vec<u8>,
    /// Its public half, as COSE has it.
    pub public: Vec<u8>,
}

/// What a passkey signed.
#[derive(Debug, Clone, Copy)]
pub struct Assertion<'a> {
    /// The authenticator data.
    pub authenticator: &'a [u8],
    /// The client data, as the browser wrote it.
    pub client: &'a [u8],
    /// The signature over the first and a hash of the second.
    pub signature: &'a [u8],
}

/// Why a passkey's word does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasskeyError {
    /// It is not what a browser sends.
    #[error("the browser's answer cannot be read ({0})")]
    Malformed(&'static str),
    /// It was made for something else: registering where signing was wanted, or the other way round.
    #[error("the browser's answer is for another kind of ceremony")]
    Kind,
    /// Another challenge.
    #[error("the answer is to another question than the one that was asked; load the page again")]
    Challenge,
    /// Another page asked for it.
    #[error("the answer was made on another site than this console; open the console at its own address")]
    Origin,
    /// It belongs to another party.
    #[error("the passkey belongs to another site")]
    Party,
    /// Nobody was there.
    #[error("the passkey did not see that somebody is present")]
    Absent,
    /// It did not ask who is there.
    #[error("the passkey did not verify who is there; use one with a PIN, a fingerprint or a face")]
    Unverified,
    /// Its kind of key is not known.
    #[error("the passkey's kind of key is not supported; ES256, EdDSA and RS256 are")]
    Algorithm,
    /// The signature is not its.
    #[error("the signature is not that passkey's")]
    Signature,
}

/// Reads what a new passkey says (section 7.1, without attestation).
///
/// # Errors
/// It does not count.
pub fn register(attestation: &[u8], client: &[u8], expected: &Expected<'_>) -> Result<Registered, PasskeyError> {
    check_client(client, "webauthn.create", expected)?;
    let data = attested(attestation)?;
    let mut rest = check_authenticator(data, expected.party)?;
    if flags(data) & ATTESTED == 0 {
        return Err(PasskeyError::Malformed("no key in it"));
    }
    take(&mut rest, AAGUID)?;
    let length = take(&mut rest, 2)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length == 0 || length > LONGEST_NAME {
        return Err(PasskeyError::Malformed("the key's name"));
    }
    let key = take(&mut rest, length)?.to_vec();
    let mut decoder = Decoder::new(rest);
    decoder.skip().map_err(|_| PasskeyError::Malformed("the key"))?;
    let public = rest.get(..decoder.position()).ok_or(PasskeyError::Malformed("the key"))?.to_vec();
    // Whatever cannot be used later is refused now.
    PublicKey::read(&public)?;
    Ok(Registered { key, public })
}

/// Whether `assertion` is what the passkey with this public half was asked to sign (section 7.2).
///
/// # Errors
/// It does not count.
pub fn verify(public: &[u8], assertion: &Assertion<'_>, expected: &Expected<'_>) -> Result<(), PasskeyError> {
    check_client(assertion.client, "webauthn.get", expected)?;
    check_authenticator(assertion.authenticator, expected.party)?;
    let mut signed = assertion.authenticator.to_vec();
    signed.extend_from_slice(digest::digest(&digest::SHA256, assertion.client).as_ref());
    PublicKey::read(public)?.verify(&signed, assertion.signature)
}

/// What a browser says it was asked (section 5.8.1).
#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
}

impl ClientData {
    fn read(client: &[u8]) -> Result<Self, PasskeyError> {
        if client.len() > LONGEST_CLIENT_DATA {
            return Err(PasskeyError::Malformed("the client data is too long"));
        }
        serde_json::from_slice(client).map_err(|_| PasskeyError::Malformed("the client data"))
    }

    fn challenge(&self) -> Result<Vec<u8>, PasskeyError> {
        URL_SAFE_NO_PAD.decode(&self.challenge).map_err(|_| PasskeyError::Malformed("the challenge"))
    }
}

/// The challenge that a browser says it answers: which question it may be, before anything of it is believed.
///
/// # Errors
/// It cannot be read.
pub fn challenge(client: &[u8]) -> Result<Vec<u8>, PasskeyError> {
    ClientData::read(client)?.challenge()
}

fn check_client(client: &[u8], kind: &str, expected: &Expected<'_>) -> Result<(), PasskeyError> {
    let said = ClientData::read(client)?;
    if said.kind != kind {
        return Err(PasskeyError::Kind);
    }
    if said.challenge()? != expected.challenge {
        return Err(PasskeyError::Challenge);
    }
    if said.cross_origin || expected.origin.is_some_and(|origin| origin != said.origin) {
        return Err(PasskeyError::Origin);
    }
    Ok(())
}

/// The fixed part of the authenticator data (section 6.1); gives what follows it.
fn check_authenticator<'a>(data: &'a [u8], party: &str) -> Result<&'a [u8], PasskeyError> {
    let mut rest = data;
    let hash = take(&mut rest, 32)?;
    take(&mut rest, 5)?;
    if hash != digest::digest(&digest::SHA256, party.as_bytes()).as_ref() {
        return Err(PasskeyError::Party);
    }
    match flags(data) {
        flags if flags & PRESENT == 0 => Err(PasskeyError::Absent),
        flags if flags & VERIFIED == 0 => Err(PasskeyError::Unverified),
        _ => Ok(rest),
    }
}

fn flags(data: &[u8]) -> u8 {
    data.get(32).copied().unwrap_or_default()
}

/// The authenticator data in an attestation object; the statement about its maker is not read.
fn attested(object: &[u8]) -> Result<&[u8], PasskeyError> {
    let malformed = |_| PasskeyError::Malformed("the attestation");
    let mut decoder = Decoder::new(object);
    let entries = decoder.map().map_err(malformed)?.ok_or(PasskeyError::Malformed("the attestation"))?;
    for _ in 0..entries.min(MOST_ENTRIES) {
        match decoder.str().map_err(malformed)? {
            "authData" => return decoder.bytes().map_err(malformed),
            _ => decoder.skip().map_err(malformed)?,
        }
    }
    Err(PasskeyError::Malformed("the attestation has no authenticator data"))
}

/// A public key as COSE has it (RFC 9053), of the kinds that authenticators make.
enum PublicKey<'a> {
    /// ES256: a point of P-256, as SEC 1 has it uncompressed.
    P256([u8; 65]),
    Ed25519(&'a [u8]),
    Rsa {
        n: &'a [u8],
        e: &'a [u8],
    },
}

impl<'a> PublicKey<'a> {
    fn read(cose: &'a [u8]) -> Result<Self, PasskeyError> {
        let malformed = |_| PasskeyError::Malformed("the key");
        let mut decoder = Decoder::new(cose);
        let entries = decoder.map().map_err(malformed)?.ok_or(PasskeyError::Malformed("the key"))?;
        let (mut algorithm, mut curve) = (0_i64, 0_i64);
        let (mut first, mut second, mut third): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        for _ in 0..entries.min(MOST_ENTRIES) {
            match decoder.i64().map_err(malformed)? {
                3 => algorithm = decoder.i64().map_err(malformed)?,
                // The curve, or an RSA key's modulus.
                -1 => match decoder.datatype().map_err(malformed)? {
                    minicbor::data::Type::Bytes => first = decoder.bytes().map_err(malformed)?,
                    _ => curve = decoder.i64().map_err(malformed)?,
                },
                -2 => second = decoder.bytes().map_err(malformed)?,
                -3 => third = decoder.bytes().map_err(malformed)?,
                _ => decoder.skip().map_err(malformed)?,
            }
        }
        match (algorithm, curve) {
            (-7, 1) if second.len() == 32 && third.len() == 32 => {
                let mut point = [4; 65];
                point[1..33].copy_from_slice(second);
                point[33..].copy_from_slice(third);
                Ok(Self::P256(point))
            }
            (-8, 6) if second.len() == 32 => Ok(Self::Ed25519(second)),
            (-257, 0) if first.len() >= 256 => Ok(Self::Rsa { n: first, e: second }),
            _ => Err(PasskeyError::Algorithm),
        }
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), PasskeyError> {
        let verified = match self {
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(signed, signature),
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature),
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
        };
        verified.map_err(|_| PasskeyError::Signature)
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], PasskeyError> {
    let (taken, left) = rest.split_at_checked(count).ok_or(PasskeyError::Malformed("the authenticator data"))?;
    *rest = left;
    Ok(taken)
}

/// Bits of the flags (section 6.1).
const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const ATTESTED: u8 = 0x40;

/// Bytes that name the authenticator's model.
const AAGUID: usize = 16;

/// A credential's name (section 4), bytes.
const LONGEST_NAME: usize = 1023;

const LONGEST_CLIENT_DATA: usize = 8 * 1024;

/// More than any map of these has.
const MOST_ENTRIES: u64 = 32;
