//! Logging in at the backend: with what the client proves, or with a credential that the gateway has and the client never
//! sees.
//!
//! *The client's own proof* passes as it is, but where both sides have TLS and the backend could bind the proof to its
//! own: what is bound to one channel is worth nothing on another, and a backend that hears from a client that it could
//! have bound (libpq and pgx say so inside TLS) must take this for an attack. The gateway asks such a client for its
//! password instead, inside the client's own TLS, and proves itself, bound to the backend's real certificate. It asks at
//! once: not every client goes on when it is asked for something else after its first word.
//!
//! # Security
//! A password is held for one exchange, wiped, and never recorded. It is asked for only inside TLS, and sent on in clear
//! only inside verified TLS.

use bytes::{BufMut as _, Bytes, BytesMut};
use zeroize::Zeroizing;

use super::{
    dialect::{Handed, PostgresDialect},
    replies::Fate,
    scram::{self, Client},
    wire,
};
use crate::{
    gate::{Exchange, Unmaskable},
    operation::Frame,
    protocol::{Malformed, Step, reader::Reader},
};

/// Who proves what to the backend.
#[derive(Default)]
pub(super) enum Login {
    /// The client, by what it sends.
    #[default]
    Client,
    /// The client was asked for its password, the gateway for one of these mechanisms.
    Asked(Vec<String>),
    /// The gateway, in its place, with a credential that is opened when the backend asks for it.
    Stored { credential: String, user: String },
    /// The gateway, in its place.
    Gateway(Box<Proof>),
}

/// What the gateway proves itself with.
pub(super) struct Proof {
    pub(super) user: String,
    pub(super) password: Zeroizing<Vec<u8>>,
    scram: Option<Client>,
}

impl Proof {
    pub(super) fn new(user: &str, password: Zeroizing<Vec<u8>>) -> Self {
        Self { user: user.to_owned(), password, scram: None }
    }
}

impl std::fmt::Debug for Login {
    /// Without what is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "Login::Client",
            Self::Asked(_) => "Login::Asked",
            Self::Stored { .. } | Self::Gateway(_) => "Login::Gateway",
        })
    }
}

/// The codes of `AuthenticationXXX`. ("Message Formats")
pub(super) mod code {
    pub(in crate::protocol::postgres) const OK: u32 = 0;
    pub(in crate::protocol::postgres) const CLEARTEXT: u32 = 3;
    pub(in crate::protocol::postgres) const MD5: u32 = 5;
    pub(in crate::protocol::postgres) const SASL: u32 = 10;
    pub(in crate::protocol::postgres) const SASL_CONTINUE: u32 = 11;
    pub(in crate::protocol::postgres) const SASL_FINAL: u32 = 12;
}

impl PostgresDialect {
    // ---- what the client answers ----

    /// While the backend authenticates the client, only its answers may come.
    pub(super) fn authentication(&mut self, input: &mut BytesMut) -> Result<Step, Malformed> {
        let Some(message) = wire::client_proof(input)? else { return Ok(Step::More) };
        match &mut self.login {
            Login::Client => Ok(authenticates(message)),
            Login::Asked(mechanisms) => {
                let mut reader = Reader::new(&message[5..]);
                let password = Zeroizing::new(reader.cstr()?.to_vec());
                reader.finish()?;
                let mechanisms = std::mem::take(mechanisms);
                let mut proof = Proof::new("", password);
                let first = self.begin_scram(&mut proof, &mechanisms).map_err(Malformed)?;
                self.login = Login::Gateway(Box::new(proof));
                Ok(authenticates(first))
            }
            Login::Stored { .. } | Login::Gateway(_) => Err(Malformed("the client answers what nobody asked".into())),
        }
    }

    // ---- what the backend asks ----

    /// `AuthenticationXXX`: for the client, or for the gateway.
    pub(super) fn authentication_request(&mut self, body: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        let mut reader = Reader::new(body);
        let asked = reader.u32()?;
        let rest = reader.rest();
        let mut login = std::mem::take(&mut self.login);
        if let Login::Stored { credential, user } = &login
            && asked != code::OK
        {
            let Some(opened) = self.handed.take(credential) else {
                return Err(Unmaskable::Withheld("the credential to log in with was not opened".into()));
            };
            let opened = opened.map_err(Unmaskable::Withheld)?;
            login = Login::Gateway(Box::new(Proof::new(user, Zeroizing::new(opened.value.expose().to_vec()))));
        }
        if asked == code::OK {
            // Wiped, where the backend let the gateway in without it.
            self.handed = Handed::Nothing;
            if let Login::Stored { .. } = login {
                login = Login::Client;
            }
        }
        let fate = match &mut login {
            Login::Gateway(proof) => self.prove(proof, asked, rest, exchange),
            _ if asked == code::SASL => {
                let offered = mechanisms(rest)?;
                if !offered.iter().any(|one| one.ends_with("-PLUS")) {
                    Ok(Fate::Pass)
                } else if self.privacy.client.is_some() {
                    login = Login::Asked(offered);
                    let mut out = BytesMut::new();
                    wire::message(&mut out, b'R', |out| out.put_u32(code::CLEARTEXT));
                    Ok(Fate::Instead(out.freeze()))
                } else {
                    Ok(without_binding(&offered))
                }
            }
            Login::Asked(_) => Err(Unmaskable::Malformed("it asked again before it had an answer".into())),
            _ => Ok(Fate::Pass),
        };
        self.login = login;
        fate
    }

    fn prove(&self, proof: &mut Proof, asked: u32, rest: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        let broken = |why: scram::ScramError| Unmaskable::Malformed(why.to_string());
        let answer = match asked {
            code::OK => {
                if proof.scram.as_ref().is_some_and(|scram| !scram.is_finished()) {
                    return Err(Unmaskable::Malformed(
                        "it said yes before it proved that it knows the password".into(),
                    ));
                }
                proof.password = Zeroizing::default();
                return Ok(Fate::Pass);
            }
            code::CLEARTEXT => {
                if !self.privacy.backend.as_ref().is_some_and(|backend| backend.verified) {
                    return Err(Unmaskable::Withheld(
                        "the backend asks for a password in clear, which is sent only inside TLS with `upstream: verify-full`"
                            .into(),
                    ));
                }
                password(&proof.password)
            }
            code::MD5 => {
                let salt = rest.first_chunk::<4>().filter(|_| rest.len() == 4);
                let salt = salt.ok_or_else(|| Unmaskable::Malformed("a salt that is not 4 bytes long".into()))?;
                password(&md5(&proof.user, &proof.password, *salt))
            }
            code::SASL if proof.scram.is_none() => {
                self.begin_scram(proof, &mechanisms(rest)?).map_err(Unmaskable::Malformed)?
            }
            code::SASL_CONTINUE => {
                let scram = proof.scram.as_mut();
                let scram =
                    scram.ok_or_else(|| Unmaskable::Malformed("it went on with SASL before it began".into()))?;
                let last = scram.last(rest).map_err(broken)?;
                response(|out| out.put_slice(&last))
            }
            code::SASL_FINAL => {
                let scram = proof.scram.as_mut();
                let scram = scram.ok_or_else(|| Unmaskable::Malformed("it ended SASL before it began".into()))?;
                scram.finish(rest).map_err(broken)?;
                return Ok(Fate::Swallow);
            }
            other => {
                return Err(Unmaskable::Withheld(format!(
                    "the backend asks for authentication of kind {other}, which the gateway has no answer to"
                )));
            }
        };
        exchange.own = Some(("authentication by the gateway", Frame::secret(answer, "authentication message")));
        Ok(Fate::Swallow)
    }

    /// `SASLInitialResponse`: bound to the backend's certificate where both can.
    fn begin_scram(&self, proof: &mut Proof, offered: &[String]) -> Result<Bytes, String> {
        let offers = |mechanism: &str| offered.iter().any(|one| one == mechanism);
        let end_point = self.privacy.backend.as_ref().and_then(|backend| backend.end_point.as_deref());
        let end_point = end_point.filter(|_| offers(scram::PLUS));
        if end_point.is_none() && !offers(scram::PLAIN) {
            return Err(format!(
                "the backend offers no SASL mechanism that is spoken here, but {}",
                offered.join(", ")
            ));
        }
        let nonce = scram::nonce().map_err(|error| format!("there are no random numbers: {error}"))?;
        // PostgreSQL takes the user of the startup message, and wants none here.
        let client = Client::new("", std::mem::take(&mut proof.password), end_point, nonce);
        let (mechanism, first) = (client.mechanism(), client.first());
        proof.scram = Some(client);
        Ok(response(|out| {
            out.put_slice(mechanism.as_bytes());
            out.put_u8(0);
            out.put_i32(i32::try_from(first.len()).expect("our own first message is short"));
            out.put_slice(&first);
        }))
    }
}

fn authenticates(message: Bytes) -> Step {
    Step::Control("authentication", Frame::secret(message, "password or authentication message"))
}

fn response(body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    wire::message(&mut out, b'p', body);
    out.freeze()
}

/// `PasswordMessage`.
fn password(password: &[u8]) -> Bytes {
    response(|out| {
        out.put_slice(password);
        out.put_u8(0);
    })
}

/// `md5` and the digest of (the digest of password and user) and salt, in hexadecimal.
fn md5(user: &str, password: &[u8], salt: [u8; 4]) -> Zeroizing<Vec<u8>> {
    use md5::{Digest as _, Md5};
    let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let inner = Zeroizing::new(hex(&Md5::new().chain_update(password).chain_update(user).finalize()));
    let outer = hex(&Md5::new().chain_update(inner.as_bytes()).chain_update(salt).finalize());
    Zeroizing::new(format!("md5{outer}").into_bytes())
}

/// The mechanisms of `AuthenticationSASL`.
fn mechanisms(list: &[u8]) -> Result<Vec<String>, Unmaskable> {
    let mut reader = Reader::new(list);
    let mut found = Vec::new();
    loop {
        let name = reader.cstr()?;
        if name.is_empty() {
            reader.finish()?;
            return Ok(found);
        }
        found.push(String::from_utf8_lossy(name).into_owned());
    }
}

/// The offer as a client without TLS gets it.
fn without_binding(offered: &[String]) -> Fate {
    let mut out = BytesMut::new();
    wire::message(&mut out, b'R', |out| {
        out.put_u32(code::SASL);
        for mechanism in offered.iter().filter(|one| !one.ends_with("-PLUS")) {
            out.put_slice(mechanism.as_bytes());
            out.put_u8(0);
        }
        out.put_u8(0);
    });
    Fate::Instead(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_is_postgresqls() {
        // By another implementation: 'md5' || md5(md5('secretbot') || '\x01020304').
        let answer = md5("bot", b"secret", [1, 2, 3, 4]);
        assert_eq!(String::from_utf8_lossy(&answer), "md56e3d69084792d8ed2e8496ed77377dd7");
    }
}
