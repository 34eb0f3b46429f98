//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the client's side, without I/O. (RFC 5802, RFC 7677; the channel binding is
//! `tls-server-end-point` of RFC 5929, the only one that PostgreSQL has.)
//!
//! # Security
//! The number of rounds is the server's to choose, so it is bounded: a backend must not be able to keep the gateway
//! computing. Proofs are compared in constant time, and what is derived from a password is wiped.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

/// The mechanism without channel binding.
pub(super) const PLAIN: &str = "SCRAM-SHA-256";
/// The mechanism with it.
pub(super) const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Why an exchange ends. Says nothing of what was compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScramError {
    /// Not the protocol.
    #[error("a SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    /// The other side does not know the password, or its channel is another than ours.
    #[error("{0}")]
    Wrong(&'static str),
}

use ScramError::{Malformed, Wrong};

/// The keys that a password stands for under one salt.
struct Keys {
    client: Zeroizing<[u8; 32]>,
    server: Zeroizing<[u8; 32]>,
}

impl Keys {
    fn derive(password: &[u8], salt: &[u8], rounds: NonZeroU32) -> Self {
        let mut salted = Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, &prepared(password), &mut *salted);
        Self {
            client: Zeroizing::new(mac(&*salted, b"Client Key")),
            server: Zeroizing::new(mac(&*salted, b"Server Key")),
        }
    }
}

/// As PostgreSQL has it: SASLprep where it can be, else the bytes as they are.
fn prepared(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let text = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    Zeroizing::new(text.map_or_else(|| password.to_vec(), |text| text.into_owned().into_bytes()))
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn xor(one: &[u8; 32], other: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| one[at] ^ other[at])
}

/// A fresh nonce, printable and without commas.
///
/// # Errors
/// There are no random numbers.
pub(super) fn nonce() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64_STANDARD.encode(bytes))
}

/// The client's side.
pub(super) struct Client {
    password: Zeroizing<Vec<u8>>,
    /// `p=tls-server-end-point,,` and the binding, or `n,,`.
    channel: Vec<u8>,
    bare: String,
    nonce: String,
    expected: Option<[u8; 32]>,
    finished: bool,
}

impl Client {
    /// For `password`; bound to the channel where `end_point` is one.
    pub(super) fn new(user: &str, password: Zeroizing<Vec<u8>>, end_point: Option<&[u8]>, nonce: String) -> Self {
        let channel = match end_point {
            Some(end_point) => [b"p=tls-server-end-point,,", end_point].concat(),
            None => b"n,,".to_vec(),
        };
        let bare = format!("n={user},r={nonce}");
        Self { password, channel, bare, nonce, expected: None, finished: false }
    }

    /// The mechanism to name.
    pub(super) fn mechanism(&self) -> &'static str {
        if self.channel.starts_with(b"p") { PLUS } else { PLAIN }
    }

    /// `client-first-message`.
    pub(super) fn first(&self) -> Vec<u8> {
        let header = if self.channel.starts_with(b"p") { "p=tls-server-end-point,," } else { "n,," };
        format!("{header}{}", self.bare).into_bytes()
    }

    /// `client-final-message`, the answer to `server-first-message`.
    pub(super) fn last(&mut self, server_first: &[u8]) -> Result<Vec<u8>, ScramError> {
        if self.expected.is_some() {
            return Err(Malformed("the server began twice"));
        }
        let server_first = std::str::from_utf8(server_first).map_err(|_| Malformed("it is not UTF-8"))?;
        let mut parts = server_first.split(',');
        let nonce = attribute(parts.next(), "r=")?;
        let salt = decoded(attribute(parts.next(), "s=")?)?;
        let rounds: u32 = attribute(parts.next(), "i=")?.parse().map_err(|_| Malformed("the rounds are no number"))?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Malformed("the server's nonce does not begin with ours, or adds nothing to it"));
        }
        let rounds = NonZeroU32::new(rounds).filter(|rounds| rounds.get() <= MOST_ROUNDS);
        let rounds = rounds.ok_or(Malformed("the server asks for no rounds at all, or for far too many"))?;
        let keys = Keys::derive(&self.password, &salt, rounds);
        self.password = Zeroizing::default();
        let without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode(&self.channel));
        let signed = format!("{},{server_first},{without_proof}", self.bare);
        let proof = xor(&keys.client, &mac(&hash(&*keys.client), signed.as_bytes()));
        self.expected = Some(mac(&*keys.server, signed.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)).into_bytes())
    }

    /// Looks at `server-final-message`: the server, too, must know the password.
    pub(super) fn finish(&mut self, server_final: &[u8]) -> Result<(), ScramError> {
        let expected = self.expected.ok_or(Malformed("the server ended before it began"))?;
        let server_final = std::str::from_utf8(server_final).map_err(|_| Malformed("it is not UTF-8"))?;
        let signature = decoded(attribute(server_final.split(',').next(), "v=")?)?;
        constant_time::verify_slices_are_equal(&signature, &expected)
            .map_err(|_| Wrong("the backend does not know the password that it asked for"))?;
        self.finished = true;
        Ok(())
    }

    /// Whether the server has proven itself.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }
}

fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    part.and_then(|part| part.strip_prefix(name)).ok_or(Malformed("an attribute is missing or out of its place"))
}

fn decoded(text: &str) -> Result<Vec<u8>, ScramError> {
    BASE64_STANDARD.decode(text).map_err(|_| Malformed("a value is not base64"))
}

/// The most that is computed for anybody: about a third of a second.
const MOST_ROUNDS: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    /// RFC 7677, section 3.
    #[test]
    fn the_rfcs_own_exchange() {
        let mut client = Client::new("user", secret("pencil"), None, "rOprNGfwEbeRWgbNEkqO".into());
        assert_eq!(client.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server_first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = client.last(server_first).expect("right");
        assert_eq!(
            String::from_utf8_lossy(&last),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!client.is_finished());
        client.finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").expect("the server knows it");
        assert!(client.is_finished());
    }

    #[test]
    fn v4_a_backend_cannot_make_the_gateway_compute() {
        for wrong in [
            "r=abcdef,s=c2FsdA==,i=2147483647",
            "r=abcdef,s=c2FsdA==,i=0",
            "r=abcdef,s=c2FsdA==,i=-1",
            "r=abcdef,s=c2FsdA==",
            "r=abc,s=c2FsdA==,i=4096",
            "r=xyz,s=c2FsdA==,i=4096",
            "r=abcdef,s=*,i=4096",
            "",
        ] {
            let mut client = Client::new("", secret("x"), None, "abc".into());
            assert!(matches!(client.last(wrong.as_bytes()), Err(Malformed(_))), "{wrong}");
        }
        let mut client = Client::new("", secret("x"), None, "abc".into());
        assert!(client.finish(b"v=AAAA").is_err(), "the end before the beginning");
        client.last(b"r=abcdef,s=c2FsdA==,i=1").expect("right");
        assert!(client.finish(b"v=AAAA").is_err() && client.finish(b"e=other-error").is_err());
        assert!(client.last(b"r=abcdef,s=c2FsdA==,i=1").is_err(), "twice");
    }
}
