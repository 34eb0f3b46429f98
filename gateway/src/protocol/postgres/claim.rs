//! What a client must prove to the gateway, where the resource says so: that it knows a password, by SCRAM.
//!
//! The gateway is the server of that exchange, so `SCRAM-SHA-256-PLUS` is bound to the certificate that it showed the
//! client itself, and `channel_binding=require` is satisfied. Nothing goes to the backend before.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    dialect::{Phase, PostgresDialect},
    login::code,
    scram::{self, Server, Verifier},
    wire,
};
use crate::{
    gate::Credential,
    protocol::{Malformed, Step, reader::Reader},
};

/// A startup message.
#[derive(Debug)]
pub(super) struct Entering {
    pub(super) packet: Bytes,
    pub(super) version: u32,
    pub(super) parameters: BTreeMap<String, String>,
}

/// A client that has said who it is and must prove it.
pub(super) struct Claim {
    entering: Entering,
    server: Server,
    stage: Stage,
    /// Whether the client says that it is whom the credential is for.
    is_user: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Offered,
    Challenged,
    Proven,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl PostgresDialect {
    /// A startup message whose sender must prove something first.
    pub(super) fn enter(&mut self, entering: Entering) -> Step {
        let Some(name) = &self.access.verifier else { return self.connect(entering, None) };
        let is_private = self.privacy.client.is_some();
        if self.privacy.required && !is_private {
            return self.connect(entering, None);
        }
        let Some(opened) = self.handed.take(name) else {
            self.phase = Phase::Entering(Box::new(entering));
            return Step::Open;
        };
        match opened.and_then(|credential| self.server(credential)) {
            Ok((server, user)) => {
                let is_user = user.is_none_or(|user| entering.parameters.get("user") == Some(&user));
                wire::message(&mut self.answers, b'R', |out| {
                    out.put_u32(code::SASL);
                    for mechanism in server.mechanisms() {
                        out.put_slice(mechanism.as_bytes());
                        out.put_u8(0);
                    }
                    out.put_u8(0);
                });
                let claim = Claim { entering, server, stage: Stage::Offered, is_user };
                self.phase = Phase::Claiming(Box::new(claim));
                Step::Answer
            }
            Err(why) => self.connect(entering, Some(why)),
        }
    }

    /// Goes on with a startup message that has waited for a credential.
    pub(super) fn resume(&mut self) -> Step {
        match std::mem::replace(&mut self.phase, Phase::Startup { ssl: true, gss: true }) {
            Phase::Entering(entering) => self.enter(*entering),
            Phase::Connecting(entering) => self.connect(*entering, None),
            _ => unreachable!("only called while a startup message waits"),
        }
    }

    fn server(&self, Credential { user, value, .. }: Credential) -> Result<(Server, Option<String>), String> {
        let written = std::str::from_utf8(value.expose()).ok().and_then(Verifier::read);
        let no_random = |error: getrandom::Error| format!("there are no random numbers: {error}");
        let verifier = written.map_or_else(|| Verifier::of(value.expose()), Ok).map_err(no_random)?;
        let end_point = self.privacy.client.as_ref().and_then(|client| client.end_point.clone());
        Ok((Server::new(verifier, end_point, scram::nonce().map_err(no_random)?), user))
    }

    /// The client's half of the exchange.
    pub(super) fn claiming(&mut self, input: &mut BytesMut) -> Result<Step, Malformed> {
        let Phase::Claiming(claim) = &mut self.phase else { unreachable!("only called while claiming") };
        if let Stage::Proven = claim.stage {
            let Entering { packet, version, parameters } = &mut claim.entering;
            let (packet, version, parameters) = (packet.clone(), *version, std::mem::take(parameters));
            return Ok(self.connect(Entering { packet, version, parameters }, None));
        }
        let Some(message) = wire::client_proof(input)? else { return Ok(Step::More) };
        let mut reader = Reader::new(&message[5..]);
        let answered = match claim.stage {
            Stage::Offered => {
                let mechanism = String::from_utf8_lossy(reader.cstr()?).into_owned();
                let length =
                    usize::try_from(reader.i32()?).map_err(|_| Malformed("SASL without a first message".into()))?;
                let first = reader.take(length)?;
                reader.finish()?;
                claim.stage = Stage::Challenged;
                claim.server.first(&mechanism, first).map(|answer| (code::SASL_CONTINUE, answer))
            }
            _ => {
                claim.stage = Stage::Proven;
                let proven = claim.server.last(reader.rest()).map(|answer| (code::SASL_FINAL, answer));
                // A stranger's name is not told from a wrong password.
                proven.and_then(|proven| if claim.is_user { Ok(proven) } else { Err(scram::WRONG_PASSWORD) })
            }
        };
        match answered {
            Ok((code, answer)) => {
                wire::message(&mut self.answers, b'R', |out| {
                    out.put_u32(code);
                    out.put_slice(&answer);
                });
                Ok(Step::Answer)
            }
            Err(error) => {
                let text = format!("holdpoint: {error}");
                wire::report(&mut self.answers, b'E', "FATAL", wire::INVALID_PASSWORD, &text, None);
                self.phase = Phase::Over;
                Ok(Step::End("the client did not prove that it knows the resource's password"))
            }
        }
    }
}
