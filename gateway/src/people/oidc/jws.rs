//! A signed token, cut up; nothing in it is believed here.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, jwk::Jwk};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    check::must,
    error::{ALGORITHMS, Why},
};

/// A signed token (RFC 7515, compact).
#[derive(Debug, Clone)]
pub(super) struct Jws {
    pub(super) header: Header,
    payload: Vec<u8>,
    /// What is signed.
    message: String,
    /// In base64.
    signature: String,
}

/// What it says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default)]
    pub(super) typ: Option<String>,
    #[serde(default)]
    pub(super) crit: Option<Vec<String>>,
}

impl Jws {
    /// Cuts a token up.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn read(token: &str) -> Result<Self, Why> {
        let malformed = |why: &str| Why::Malformed(why.to_owned());
        must(token.len() <= LONGEST, || malformed("it is too long"))?;
        let (message, signature) = token.rsplit_once('.').ok_or_else(|| malformed("it has not three parts"))?;
        let (header, payload) = message.split_once('.').ok_or_else(|| malformed("it has not three parts"))?;
        must(!payload.contains('.'), || malformed("it has more than three parts; encrypted tokens are not read"))?;
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("it is not base64"));
        let header = serde_json::from_slice(&bytes(header)?).map_err(|_| malformed("its header is no header"))?;
        Ok(Self { header, payload: bytes(payload)?, message: message.to_owned(), signature: signature.to_owned() })
    }

    /// What it claims.
    ///
    /// # Errors
    /// It claims something else than `T`.
    pub(super) fn claims<T: DeserializeOwned>(&self) -> Result<T, Why> {
        serde_json::from_slice(&self.payload)
            .map_err(|error| Why::Malformed(format!("its claims: {}", Why::words(&error.to_string()))))
    }

    /// Its method of signing, where that is one that counts.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        let counts = ALGORITHMS.contains(&&self.header.alg[..]);
        counts.then(|| self.header.alg.parse().ok()).flatten()
    }

    /// The method counts.
    pub(super) fn check_algorithm(&self) -> Result<(), Why> {
        must(self.algorithm().is_some(), || Why::Algorithm(Why::words(&self.header.alg)))
    }

    /// Nothing must be understood that is not (RFC 7515, 4.1.11).
    pub(super) fn check_critical(&self) -> Result<(), Why> {
        self.header.crit.as_ref().map_or(Ok(()), |names| Err(Why::Critical(Why::words(&names.join(", ")))))
    }

    /// It is a token of one of these kinds, or does not say.
    pub(super) fn check_kind(&self, kinds: &[&str]) -> Result<(), Why> {
        let Some(kind) = &self.header.typ else { return Ok(()) };
        must(kinds.iter().any(|known| known.eq_ignore_ascii_case(kind)), || Why::Kind(Why::words(kind)))
    }

    /// `key` has signed it.
    pub(super) fn check_signature(&self, key: Option<&Jwk>) -> Result<(), Why> {
        let unknown = || Why::UnknownKey(Why::words(self.header.kid.as_deref().unwrap_or("it names none")));
        let key = DecodingKey::from_jwk(key.ok_or_else(unknown)?).map_err(|_| unknown())?;
        let algorithm = self.header.alg.parse().map_err(|_| Why::Signature)?;
        let verified = jsonwebtoken::crypto::verify(&self.signature, self.message.as_bytes(), &key, algorithm);
        must(verified.unwrap_or(false), || Why::Signature)
    }
}

/// The longest token, in bytes.
const LONGEST: usize = 64 * 1024;
