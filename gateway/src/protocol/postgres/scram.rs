//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides, without I/O. (RFC 5802, RFC 7677; the channel binding is
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

/// What a client is told that does not know the password.
pub(super) const WRONG_PASSWORD: ScramError = Wrong("password authentication failed");

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

/// What a server keeps of a password, as PostgreSQL writes it: `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`.
#[derive(Clone)]
pub(super) struct Verifier {
    rounds: u32,
    salt: String,
    stored: [u8; 32],
    server: Zeroizing<[u8; 32]>,
}

impl Verifier {
    /// Of a password.
    ///
    /// # Errors
    /// There are no random numbers for a salt.
    pub(super) fn of(password: &[u8]) -> Result<Self, getrandom::Error> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)?;
        let keys = Keys::derive(password, &salt, NonZeroU32::new(ROUNDS).expect("not zero"));
        Ok(Self {
            rounds: ROUNDS,
            salt: BASE64_STANDARD.encode(salt),
            stored: hash(&*keys.client),
            server: keys.server,
        })
    }

    /// As written. `None` where it is another text: a password, say.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (rounds, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| decoded(text).ok()?.try_into().ok();
        decoded(salt).ok()?;
        Some(Self {
            rounds: rounds.parse().ok().filter(|rounds| (1..=MOST_ROUNDS).contains(rounds))?,
            salt: salt.to_owned(),
            stored: key(stored)?,
            server: Zeroizing::new(key(server)?),
        })
    }
}

/// The server's side.
pub(super) struct Server {
    verifier: Verifier,
    /// Our certificate's, where the channel has one.
    end_point: Option<Vec<u8>>,
    nonce: String,
    exchange: Option<Exchange>,
}

/// What was said.
struct Exchange {
    /// What `c=` must be.
    channel: Vec<u8>,
    /// `client-first-message-bare,server-first-message`.
    said: String,
    nonce: String,
}

impl Server {
    /// One exchange.
    pub(super) fn new(verifier: Verifier, end_point: Option<Vec<u8>>, nonce: String) -> Self {
        Self { verifier, end_point, nonce, exchange: None }
    }

    /// What is offered, best first.
    pub(super) fn mechanisms(&self) -> &'static [&'static str] {
        if self.end_point.is_some() { &[PLUS, PLAIN] } else { &[PLAIN] }
    }

    /// `server-first-message`, the answer to `client-first-message`.
    pub(super) fn first(&mut self, mechanism: &str, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        if self.exchange.is_some() {
            return Err(Malformed("the client began twice"));
        }
        let message = std::str::from_utf8(message).map_err(|_| Malformed("it is not UTF-8"))?;
        let mut parts = message.splitn(3, ',');
        let (flag, identity) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let bare = parts.next().ok_or(Malformed("it has no second part"))?;
        if !identity.is_empty() {
            return Err(Malformed("it asks for another identity"));
        }
        let header = format!("{flag},,");
        let channel = match (mechanism, flag, &self.end_point) {
            (PLAIN, "n", _) | (PLAIN, "y", None) => header.into_bytes(),
            // The client could bind, and thinks that we cannot: somebody has changed what it was offered.
            (PLAIN, "y", Some(_)) => return Err(Wrong("somebody took the channel binding out of what was offered")),
            (PLUS, "p=tls-server-end-point", Some(end_point)) => [header.as_bytes(), end_point].concat(),
            (PLUS | PLAIN, _, _) => return Err(Malformed("its channel binding does not fit its mechanism")),
            _ => return Err(Malformed("its mechanism was not offered")),
        };
        let mut attributes = bare.split(',');
        attribute(attributes.next(), "n=")?;
        let theirs = attribute(attributes.next(), "r=")?;
        if theirs.is_empty() || !theirs.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Malformed("its nonce cannot be printed"));
        }
        let nonce = format!("{theirs}{}", self.nonce);
        let first = format!("r={nonce},s={},i={}", self.verifier.salt, self.verifier.rounds);
        self.exchange = Some(Exchange { channel, said: format!("{bare},{first}"), nonce });
        Ok(first.into_bytes())
    }

    /// `server-final-message`, the answer to `client-final-message`: the client knows the password.
    pub(super) fn last(&mut self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let Exchange { channel, said, nonce } =
            self.exchange.take().ok_or(Malformed("the client ended before it began"))?;
        let message = std::str::from_utf8(message).map_err(|_| Malformed("it is not UTF-8"))?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Malformed("it has no proof"))?;
        let mut parts = without_proof.split(',');
        let bound = decoded(attribute(parts.next(), "c=")?)?;
        if attribute(parts.next(), "r=")? != nonce {
            return Err(Malformed("its nonce is another"));
        }
        constant_time::verify_slices_are_equal(&bound, &channel)
            .map_err(|_| Wrong("the client is bound to another channel than this one"))?;
        let signed = format!("{said},{without_proof}");
        let proof: [u8; 32] = decoded(proof)?.try_into().map_err(|_| Malformed("its proof has another length"))?;
        let key = xor(&proof, &mac(&self.verifier.stored, signed.as_bytes()));
        constant_time::verify_slices_are_equal(&hash(&key), &self.verifier.stored).map_err(|_| WRONG_PASSWORD)?;
        let signature = mac(&*self.verifier.server, signed.as_bytes());
        Ok(format!("v={}", BASE64_STANDARD.encode(signature)).into_bytes())
    }
}

fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    part.and_then(|part| part.strip_prefix(name)).ok_or(Malformed("an attribute is missing or out of its place"))
}

fn decoded(text: &str) -> Result<Vec<u8>, ScramError> {
    BASE64_STANDARD.decode(text).map_err(|_| Malformed("a value is not base64"))
}

/// PostgreSQL's own number of rounds.
const ROUNDS: u32 = 4096;

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

        // The same from the server's side, with the verifier that the vector's password has.
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let keys = Keys::derive(b"pencil", &salt, NonZeroU32::new(4096).expect("not zero"));
        let (stored, server) = (BASE64_STANDARD.encode(hash(&*keys.client)), BASE64_STANDARD.encode(*keys.server));
        let written = format!("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${stored}:{server}");
        let verifier = Verifier::read(&written).expect("a verifier");
        let mut server = Server::new(verifier, None, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into());
        assert_eq!(server.first(PLAIN, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").expect("right"), server_first);
        assert_eq!(server.last(&last).expect("right"), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    fn exchange(password: &str, ours: Option<&[u8]>, theirs: Option<&[u8]>) -> Result<(), ScramError> {
        let verifier = Verifier::of(b"s\xc3\xa9cret").expect("random numbers");
        let mut server = Server::new(verifier, ours.map(<[u8]>::to_vec), nonce().expect("random numbers"));
        let mut client = Client::new("", secret(password), theirs, nonce().expect("random numbers"));
        let first = server.first(client.mechanism(), &client.first())?;
        let last = server.last(&client.last(&first)?)?;
        client.finish(&last)
    }

    #[test]
    fn p13_binding_holds_where_both_have_the_same_channel() {
        assert_eq!(exchange("sécret", None, None), Ok(()));
        assert_eq!(exchange("sécret", Some(b"one"), Some(b"one")), Ok(()));
        assert_eq!(exchange("sécret", Some(b"one"), None), Ok(()), "a client that cannot bind says so");
        assert!(matches!(exchange("sécret", Some(b"one"), Some(b"two")), Err(Wrong(why)) if why.contains("channel")));
        assert!(matches!(exchange("sécret", None, Some(b"one")), Err(Malformed(_))));
        assert!(matches!(exchange("secret", None, None), Err(Wrong(why)) if why.contains("password")));
    }

    #[test]
    fn p13_what_was_taken_out_of_the_offer_shows() {
        let verifier = Verifier::of(b"x").expect("random numbers");
        let mut server = Server::new(verifier, Some(b"one".to_vec()), "abc".into());
        assert!(matches!(server.first(PLAIN, b"y,,n=,r=xyz"), Err(Wrong(_))));
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

    #[test]
    fn v8_what_a_client_makes_up_is_refused() {
        for wrong in
            ["", "n", "n,", "n,,", "n,,r=abc", "n,a=root,n=,r=abc", "p=tls-unique,,n=,r=abc", "n,,n=,r=", "z,,n=,r=a"]
        {
            let mut server = Server::new(Verifier::of(b"x").expect("random numbers"), None, "abc".into());
            assert!(server.first(PLAIN, wrong.as_bytes()).is_err(), "{wrong}");
            assert!(server.last(b"c=biws,r=abc,p=AAAA").is_err());
        }
        for wrong in ["c=biws,r=xyzabc,p=AAAA", "c=biws,r=xyz,p=AAAA", "c=eSws,r=xyzabc,p=AAAA", "c=biws,r=xyzabc"] {
            let mut server = Server::new(Verifier::of(b"x").expect("random numbers"), None, "abc".into());
            server.first(PLAIN, b"n,,n=,r=xyz").expect("right");
            assert!(server.last(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(Verifier::read("md5abc").is_none() && Verifier::read("SCRAM-SHA-256$0:AAAA$AAAA:AAAA").is_none());
    }
}
