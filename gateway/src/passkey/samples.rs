//! An authenticator in software, for tests.

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::Expected;

pub(crate) const PARTY: &str = "holdpoint.example";
pub(crate) const ORIGIN: &str = "https://holdpoint.example";
pub(crate) const CHALLENGE: &[u8] = b"what is decided";

pub(crate) fn expected() -> Expected<'static> {
    Expected { party: PARTY, origin: Some(ORIGIN), challenge: CHALLENGE }
}

pub(crate) fn client(kind: &str, challenge: &[u8], origin: &str, cross: bool) -> Vec<u8> {
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    format!(r#"{{"type":"{kind}","challenge":"{challenge}","origin":"{origin}","crossOrigin":{cross}}}"#).into_bytes()
}

pub(crate) fn data(party: &str, flags: u8) -> Vec<u8> {
    let mut data = digest::digest(&digest::SHA256, party.as_bytes()).as_ref().to_vec();
    data.push(flags);
    data.extend([0, 0, 0, 9]);
    data
}

pub(crate) struct Key(EcdsaKeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("random numbers"))
    }

    pub(crate) fn cose(&self) -> Vec<u8> {
        let point = self.0.public_key().as_ref();
        let mut encoder = minicbor::Encoder::new(Vec::new());
        let map = encoder.map(5).and_then(|e| e.i8(1)?.i8(2)?.i8(3)?.i8(-7)?.i8(-1)?.i8(1));
        map.and_then(|e| e.i8(-2)?.bytes(&point[1..33])?.i8(-3)?.bytes(&point[33..])).expect("memory");
        encoder.into_writer()
    }

    pub(crate) fn sign(&self, authenticator: &[u8], client: &[u8]) -> Vec<u8> {
        let mut signed = authenticator.to_vec();
        signed.extend_from_slice(digest::digest(&digest::SHA256, client).as_ref());
        self.0.sign(&SystemRandom::new(), &signed).expect("signed").as_ref().to_vec()
    }

    pub(crate) fn attestation(&self, party: &str, flags: u8) -> Vec<u8> {
        let mut authenticator = data(party, flags);
        authenticator.extend([0; 16]);
        authenticator.extend([0, 3]);
        authenticator.extend(b"key");
        authenticator.extend(self.cose());
        let mut encoder = minicbor::Encoder::new(Vec::new());
        let map = encoder.map(3).and_then(|e| e.str("fmt")?.str("none")?.str("attStmt")?.map(0));
        map.and_then(|e| e.str("authData")?.bytes(&authenticator)).expect("memory");
        encoder.into_writer()
    }
}
