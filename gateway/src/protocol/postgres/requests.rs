//! The client's half: startup, authentication, and typed messages into [`Step`]s.
//!
//! # Correctness
//! What is judged is cut out of the input together with everything it depends on, in one piece; the piece is what is
//! forwarded. A message is read only inside its own length.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::json;

use super::{
    claim::Entering,
    classify,
    dialect::{Bundle, Phase, PostgresDialect, Submission, Submitted},
    login::Login,
    pending::{Await, What},
    portal::{Portal, Prepared},
    startup::{self, Startup},
    wire,
};
use crate::{
    gate::Credential,
    operation::{Effect, Effects, Frame, Meaning, Operation, Parameter, State},
    protocol::{Malformed, Start, Step, reader::Reader},
};

impl PostgresDialect {
    // ---- before the first typed message ----

    pub(super) fn startup(&mut self, input: &mut BytesMut) -> Result<Step, Malformed> {
        let Phase::Startup { ssl, gss } = &mut self.phase else { unreachable!("only called in startup") };
        if input.first() == Some(&startup::TLS_HANDSHAKE) && !*ssl && !*gss {
            *ssl = true;
            if !self.privacy.offered {
                return Err(Malformed("the client starts with TLS, which there is none of at this resource".into()));
            }
            return Ok(Step::StartTls(Start::AtOnce));
        }
        let Some(length) = startup::packet_len(input)? else { return Ok(Step::More) };
        if input.len() < length {
            return Ok(Step::More);
        }
        let packet = input.split_to(length).freeze();
        match startup::read(&packet)? {
            Startup::Ssl => self.encryption(input, true),
            Startup::GssEnc => self.encryption(input, false),
            Startup::Cancel(key) => Ok(self.cancel_request(&packet, &key)),
            Startup::Session { version, parameters } => Ok(self.enter(Entering { packet, version, parameters })),
        }
    }

    /// TLS begins, or not. Each may be asked for once, and neither inside TLS; and bytes that were sent along with the
    /// request would be read as if they had come through the encryption that was asked for, so they end the connection
    /// (CVE-2021-23214 and its kin).
    fn encryption(&mut self, input: &BytesMut, is_ssl: bool) -> Result<Step, Malformed> {
        let Phase::Startup { ssl, gss } = &mut self.phase else { unreachable!("only called in startup") };
        let asked = if is_ssl { ssl } else { gss };
        if self.privacy.client.is_some() {
            return Err(Malformed("encryption was asked for inside TLS".into()));
        }
        if std::mem::replace(asked, true) {
            return Err(Malformed("encryption was asked for twice".into()));
        }
        if !input.is_empty() {
            return Err(Malformed("bytes follow an encryption request before its answer".into()));
        }
        if is_ssl && self.privacy.offered {
            self.answers.extend_from_slice(b"S");
            return Ok(Step::StartTls(Start::Agreed));
        }
        self.answers.extend_from_slice(b"N");
        Ok(Step::Answer)
    }

    /// The connection itself, to be judged; `forbidden` says why it must not be.
    pub(super) fn connect(&mut self, entering: Entering, mut forbidden: Option<String>) -> Step {
        let opened = match &self.access.credential {
            Some(name) if forbidden.is_none() && !self.privacy.unproven => {
                let Some(opened) = self.handed.take(name) else {
                    self.phase = Phase::Connecting(Box::new(entering));
                    return Step::Open;
                };
                Some(opened)
            }
            _ => None,
        };
        let Entering { packet, version, parameters } = entering;
        let client_user = parameters.get("user").cloned().unwrap_or_default();
        let (packet, parameters) = match self.in_its_place(&parameters, opened) {
            Ok(None) => (packet, parameters),
            // What is judged is what is forwarded, so it is what the gateway says in the client's place.
            Ok(Some(mapped)) => (startup::packet(version, &mapped), mapped),
            Err(why) => {
                forbidden.get_or_insert(why);
                (packet, parameters)
            }
        };
        let parameters = &parameters;
        let get = |name: &str| parameters.get(name).cloned().unwrap_or_default();
        let user = get("user");
        let database = parameters.get("database").cloned().unwrap_or_else(|| user.clone());
        let mut state = State::from([("database".into(), database.clone()), ("user".into(), user.clone())]);
        if let Some(credential) = &self.access.credential {
            state.insert("credential".into(), credential.clone());
            state.insert("client_user".into(), client_user.clone());
        }
        self.state = Arc::new(state);
        if let Some(options) = parameters.get("options") {
            Arc::make_mut(&mut self.state).insert("options".into(), options.clone());
        }
        self.backend.database(&database);
        let text = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        let settings = startup::settings(parameters);
        for (name, value) in &settings.known {
            self.starts_with_setting(name, value);
            self.history.starts(name, value);
        }
        let mut fields = BTreeMap::new();
        fields.insert(
            "settings",
            settings.known.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect(),
        );
        fields.insert("user", user.into());
        fields.insert("client_user", client_user.into());
        fields.insert("database", database.into());
        fields.insert("protocol_version", format!("{}.{}", version >> 16, version & 0xffff).into());
        let mut meaning = classify::changes(settings.known.iter().map(|(name, _)| name.as_str()));
        meaning.effects.insert(Effect::Session);
        for option in settings.unread {
            meaning.effects.insert(Effect::Unknown);
            meaning.unknown.push(format!("starts the session with {option}, which this gateway cannot read"));
        }
        meaning.fields = fields;
        let operation = self.operation("connect", text.into(), Vec::new(), Arc::new(meaning));
        self.submitted =
            Some(Submitted { awaited: Vec::new(), runs: None, binds_others: false, kind: Submission::Connect });
        let frame = Frame::new(packet);
        if self.privacy.required && self.privacy.client.is_none() {
            return Step::Forbid(operation, frame, "this resource requires TLS, and the client did not use it".into());
        }
        if let Some(why) = forbidden {
            return Step::Forbid(operation, frame, why);
        }
        let replication = get("replication").to_ascii_lowercase();
        if !matches!(replication.as_str(), "" | "0" | "off" | "false" | "no" | "f" | "n" | "of") {
            return Step::Forbid(operation, frame, "replication connections are not let through".into());
        }
        Step::Submit(operation, frame)
    }

    /// The startup message's parameters as the gateway sends them in the client's place. `None`: the client logs in
    /// itself.
    fn in_its_place(
        &mut self,
        asked: &BTreeMap<String, String>,
        opened: Option<Result<Credential, String>>,
    ) -> Result<Option<BTreeMap<String, String>>, String> {
        let Some(credential) = self.access.credential.clone() else { return Ok(None) };
        if self.privacy.unproven {
            return Err("only what the client was answered says that the resource is there, so the gateway logs in only where the backend proves who it is: `tls: { upstream: verify-full }`".to_owned());
        }
        let Some(opened) = opened.transpose()? else { return Ok(None) };
        let client_user = asked.get("user").cloned().unwrap_or_default();
        let user = self.access.user.clone().or(opened.user).unwrap_or_else(|| client_user.clone());
        let mut mapped = asked.clone();
        // A client that names no database means the one that is called like its user.
        let database = self.access.database.clone().or_else(|| asked.get("database").cloned()).unwrap_or(client_user);
        mapped.insert("database".into(), database);
        mapped.insert("user".into(), user.clone());
        self.login = Login::Stored { credential, user };
        Ok(Some(mapped))
    }

    /// The key was made by this gateway, or it is nobody's. What it cancels is a session of the same workload and user.
    fn cancel_request(&mut self, packet: &Bytes, key: &Bytes) -> Step {
        let Some(session) = self.shared.cancels.find(key, &self.owner) else {
            self.phase = Phase::Over;
            return Step::End("a cancel request with a key that is not this workload's");
        };
        if session.withdraw() {
            self.phase = Phase::Over;
            return Step::End("the client cancelled an operation that was held");
        }
        let mut real = BytesMut::from(&packet[..8]);
        real.extend_from_slice(&session.real);
        let text = format!("cancel what session {} does", session.session);
        let operation = self.about("cancel", text, Effects::of(Effect::Session), BTreeMap::new());
        self.submitted =
            Some(Submitted { awaited: Vec::new(), runs: None, binds_others: false, kind: Submission::Cancel });
        Step::Submit(operation, Frame::secret(real.freeze(), "cancel request with the backend's key"))
    }

    // ---- typed messages ----

    /// Reads messages until one makes a step. What belongs to an `Execute` gathers in the bundle and stays at the
    /// front of the input until then.
    pub(super) fn typed(&mut self, input: &mut BytesMut) -> Result<Step, Malformed> {
        loop {
            let at = self.bundle.len;
            let longest = wire::LONGEST.saturating_sub(at);
            let Some(length) = wire::message_len(&input[at..], longest)? else { return Ok(Step::More) };
            let kind = input[at];
            if !b"QPBDECSHFdcfX".contains(&kind) {
                return Err(Malformed(format!(
                    "a message of type {:?} is not one that a client sends here",
                    char::from(kind)
                )));
            }
            if input.len() < at + length {
                self.need = at + length;
                return Ok(Step::More);
            }
            if self.skipping {
                if let Some(step) = self.skip(input, kind, length) {
                    return Ok(step);
                }
                continue;
            }
            if at == 0 && b"QPBE".contains(&kind) && self.wants_inspection() {
                return Ok(self.inspect());
            }
            self.rested = false;
            let gathers = b"PBDCESH".contains(&kind);
            if at > 0 && !gathers {
                return Ok(self.submit_bundle(input, Submission::Extended { sync: false, flush: false }));
            }
            if b"dcf".contains(&kind) && !self.copying_in && !self.since.copies {
                // Outside a COPY the backend ignores all three, so it need not see them.
                input.advance(length);
                continue;
            }
            if !gathers {
                return self.single(input, kind, length);
            }
            let body = input.clone_body(at, length);
            if let Some(step) = self.gather(input, kind, &body, length)? {
                return Ok(step);
            }
        }
    }

    /// After an error the backend ignores everything up to `Sync`, and so does the gateway.
    fn skip(&mut self, input: &mut BytesMut, kind: u8, length: usize) -> Option<Step> {
        // What was gathered before the error was noticed will never be executed.
        let Bundle { awaited, len, .. } = std::mem::take(&mut self.bundle);
        self.names.undo_all(awaited.into_iter());
        let discarded = input.split_to(len);
        drop(discarded);
        let message = input.split_to(length).freeze();
        match kind {
            b'S' => {
                self.skipping = false;
                self.names.sync();
                self.pending.push_back(Await::plain(What::Sync));
                Some(Step::Control("sync", Frame::new(message)))
            }
            b'X' => Some(self.terminate(message)),
            _ => None,
        }
    }

    fn terminate(&mut self, message: Bytes) -> Step {
        self.phase = Phase::Over;
        Step::Control("terminate", Frame::new(message))
    }

    /// A message that stands alone.
    fn single(&mut self, input: &mut BytesMut, kind: u8, length: usize) -> Result<Step, Malformed> {
        let message = input.split_to(length).freeze();
        match kind {
            b'Q' => self.query(message),
            b'F' => Ok(self.function_call(message)),
            b'X' => Ok(self.terminate(message)),
            // COPY data.
            b'c' | b'f' => {
                self.copying_in = false;
                self.pending.push_back(Await::plain(What::CopyEnd));
                Ok(Step::Continue(Frame::new(message)))
            }
            _ => Ok(Step::Continue(Frame::new(message))),
        }
    }

    fn query(&mut self, message: Bytes) -> Result<Step, Malformed> {
        let mut reader = Reader::new(&message[5..]);
        let text = reader.cstr()?;
        reader.finish()?;
        let text = message.slice_ref(text);
        let prepared = self.prepare(text.clone(), Vec::new());
        let portal = Portal::new(Some(prepared.clone()), Vec::new());
        let operation = self.operation("query", text, Vec::new(), self.means(&prepared));
        let awaited = vec![Await::ending(What::Query(portal.clone()))];
        self.submitted = Some(Submitted { awaited, runs: Some(portal), binds_others: false, kind: Submission::Simple });
        Ok(Step::Submit(operation, Frame::new(message)))
    }

    /// The fast path names a function by number and nothing else says what it does.
    fn function_call(&mut self, message: Bytes) -> Step {
        let effects = Effects::of(Effect::Execute).with(Effect::Unknown);
        let text = "function call by number (the protocol's fast path)";
        let operation = self.about("function-call", text.into(), effects, BTreeMap::new());
        self.submitted =
            Some(Submitted { awaited: Vec::new(), runs: None, binds_others: false, kind: Submission::Simple });
        Step::Forbid(operation, Frame::new(message), "the function-call fast path is never let through".into())
    }

    // ---- the extended protocol ----

    /// Adds one extended-protocol message to the bundle; answers a step when that completes something.
    fn gather(
        &mut self,
        input: &mut BytesMut,
        kind: u8,
        body: &Bytes,
        length: usize,
    ) -> Result<Option<Step>, Malformed> {
        let awaited = match kind {
            b'P' => self.parse(body)?,
            b'B' => self.bind(body)?,
            b'D' => self.describe(body)?,
            b'C' => self.close_name(body)?,
            b'E' => return self.execute(input, body, length).map(Some),
            b'S' => {
                self.bundle.len += length;
                Reader::new(body).finish()?;
                let what = if self.copying_in { What::MaybeSync } else { What::Sync };
                self.bundle.awaited.push(Await::plain(what));
                self.names.sync();
                return Ok(Some(self.submit_bundle(input, Submission::Extended { sync: true, flush: false })));
            }
            _ => {
                self.bundle.len += length;
                Reader::new(body).finish()?;
                return Ok(Some(self.submit_bundle(input, Submission::Extended { sync: false, flush: true })));
            }
        };
        self.bundle.len += length;
        self.bundle.awaited.push(awaited);
        Ok(None)
    }

    fn parse(&mut self, body: &Bytes) -> Result<Await, Malformed> {
        let mut reader = Reader::new(body);
        let name = Bytes::copy_from_slice(reader.cstr()?);
        let text = Bytes::copy_from_slice(reader.cstr()?);
        let count =
            usize::try_from(reader.i16()?).map_err(|_| Malformed("a negative count of parameter types".into()))?;
        let types = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
        reader.finish()?;
        let prepared = self.prepare(text, types);
        let undo = self.names.assume_statement(name, Some(prepared));
        Ok(Await { what: What::Parse, undo, ends_operation: false })
    }

    fn bind(&mut self, body: &Bytes) -> Result<Await, Malformed> {
        let mut reader = Reader::new(body);
        let name = Bytes::copy_from_slice(reader.cstr()?);
        let statement = reader.cstr()?;
        let prepared = self.statement(statement);
        let parameters = parameters(&mut reader, prepared.as_deref())?;
        let formats = usize::try_from(reader.i16()?).map_err(|_| Malformed("a negative count of formats".into()))?;
        reader.take(
            formats.checked_mul(2).ok_or_else(|| Malformed("a count of formats that no message holds".into()))?,
        )?;
        reader.finish()?;
        let portal = Portal::new(prepared, parameters);
        self.bundle.bound.push(portal.clone());
        let undo = self.names.assume_portal(name, Some(portal));
        Ok(Await { what: What::Bind, undo, ends_operation: false })
    }

    fn describe(&mut self, body: &Bytes) -> Result<Await, Malformed> {
        let mut reader = Reader::new(body);
        let kind = reader.byte()?;
        let name = reader.cstr()?;
        reader.finish()?;
        Ok(Await::plain(match kind {
            b'S' => What::DescribeStatement,
            b'P' => What::DescribePortal { portal: self.portal_again(name), own: false },
            other => return Err(Malformed(format!("a describe of {:?}", char::from(other)))),
        }))
    }

    fn close_name(&mut self, body: &Bytes) -> Result<Await, Malformed> {
        let mut reader = Reader::new(body);
        let kind = reader.byte()?;
        let name = Bytes::copy_from_slice(reader.cstr()?);
        reader.finish()?;
        let undo = match kind {
            b'S' => self.names.assume_statement(name, None),
            b'P' => self.names.assume_portal(name, None),
            other => return Err(Malformed(format!("a close of {:?}", char::from(other)))),
        };
        Ok(Await { what: What::Close, undo, ends_operation: false })
    }

    /// An `Execute` is what is judged, with the `Bind` and `Parse` before it. A `Sync` or `Flush` right behind it
    /// goes along, so that a refused and an allowed execution are each one piece.
    fn execute(&mut self, input: &mut BytesMut, body: &Bytes, length: usize) -> Result<Step, Malformed> {
        let mut reader = Reader::new(body);
        let name = Bytes::copy_from_slice(reader.cstr()?);
        reader.i32()?;
        reader.finish()?;
        let portal = self.portal_again(&name);
        if !self.masker.masks.is_empty() && portal.plan.get().is_none() && !self.bundle.describes(&portal) {
            self.bundle.describe.push((self.bundle.len, name));
            self.bundle.awaited.push(Await::plain(What::DescribePortal { portal: portal.clone(), own: true }));
        }
        self.bundle.bound.retain(|bound| !Arc::ptr_eq(bound, &portal));
        self.bundle.awaited.push(Await::ending(What::Execute(portal.clone())));
        self.bundle.len += length;
        let (mut sync, mut flush) = (false, false);
        match input.get(self.bundle.len..self.bundle.len + 5) {
            Some(&[b'S', 0, 0, 0, 4]) if !self.copying_in => {
                sync = true;
                self.bundle.awaited.push(Await::plain(What::Sync));
                self.names.sync();
                self.bundle.len += 5;
            }
            Some(&[b'H', 0, 0, 0, 4]) => {
                flush = true;
                self.bundle.len += 5;
            }
            _ => {}
        }
        Ok(self.submit_execution("execute", &portal, input, Submission::Extended { sync, flush }))
    }

    /// The bundle without an `Execute`. With a `Bind` in it that is an operation of its own: binding plans the
    /// statement, and planning runs what is declared immutable.
    fn submit_bundle(&mut self, input: &mut BytesMut, kind: Submission) -> Step {
        match self.bundle.bound.pop() {
            Some(portal) => {
                if let Some(last) = self.bundle.awaited.iter_mut().rfind(|one| matches!(one.what, What::Bind)) {
                    last.ends_operation = true;
                }
                self.submit_execution("bind", &portal, input, kind)
            }
            None => {
                let Bundle { len, awaited, .. } = std::mem::take(&mut self.bundle);
                self.pending.extend(awaited);
                Step::Control("prepare, describe, close, sync", Frame::new(input.split_to(len).freeze()))
            }
        }
    }

    fn submit_execution(
        &mut self,
        kind: &'static str,
        portal: &Arc<Portal>,
        input: &mut BytesMut,
        said: Submission,
    ) -> Step {
        let Bundle { len, awaited, describe, bound } = std::mem::take(&mut self.bundle);
        let wire = splice(input.split_to(len), &describe);
        let meaning = self.meaning_of_all(portal, &bound);
        let binds_others = !bound.is_empty();
        let text = portal.prepared.as_ref().map_or_else(Bytes::new, |prepared| prepared.text.clone());
        let operation = self.operation(kind, text, portal.parameters.clone(), meaning);
        self.submitted = Some(Submitted { awaited, runs: Some(portal.clone()), binds_others, kind: said });
        Step::Submit(operation, Frame::new(wire))
    }

    fn operation(
        &self,
        kind: &'static str,
        text: Bytes,
        parameters: Vec<Parameter>,
        meaning: Arc<Meaning>,
    ) -> Operation {
        Operation { kind: kind.into(), text, parameters, meaning, state: self.state_now() }
    }

    /// The session's state, with the transaction's where it is not the usual one.
    fn state_now(&self) -> Arc<State> {
        let mut state = self.state.clone();
        if self.transaction != b'I' {
            let word = if self.transaction == b'T' { "in progress" } else { "failed" };
            Arc::make_mut(&mut state).insert("transaction".into(), word.into());
        }
        if !self.pending.is_empty() {
            Arc::make_mut(&mut state).insert("behind".into(), format!("{} unanswered messages", self.pending.len()));
        }
        state
    }

    fn about(
        &self,
        kind: &'static str,
        text: String,
        effects: Effects,
        fields: BTreeMap<&'static str, serde_json::Value>,
    ) -> Operation {
        let meaning = Arc::new(Meaning { effects, fields, ..Meaning::default() });
        self.operation(kind, text.into(), Vec::new(), meaning)
    }
}

impl Bundle {
    pub(super) fn describes(&self, portal: &Arc<Portal>) -> bool {
        let described =
            |one: &Await| matches!(&one.what, What::DescribePortal { portal: other, .. } if Arc::ptr_eq(other, portal));
        self.awaited.iter().any(described)
    }
}

/// A `Bind`'s parameters: format codes, then values.
fn parameters(reader: &mut Reader<'_>, prepared: Option<&Prepared>) -> Result<Vec<Parameter>, Malformed> {
    let negative = || Malformed("a negative count in a bind message".into());
    let formats = usize::try_from(reader.i16()?).map_err(|_| negative())?;
    let formats = (0..formats).map(|_| reader.i16()).collect::<Result<Vec<_>, _>>()?;
    let count = usize::try_from(reader.i16()?).map_err(|_| negative())?;
    (0..count)
        .map(|index| {
            let length = reader.i32()?;
            let value = match usize::try_from(length) {
                Ok(length) => Some(Bytes::copy_from_slice(reader.take(length)?)),
                Err(_) if length == -1 => None,
                Err(_) => return Err(Malformed(format!("a bound value is {length} bytes long"))),
            };
            let format = match formats.len() {
                0 => 0,
                1 => formats[0],
                _ => formats.get(index).copied().unwrap_or(0),
            };
            let kind = prepared.and_then(|prepared| prepared.parameter_types.get(index)).filter(|kind| **kind != 0);
            Ok(Parameter { kind: kind.map_or_else(String::new, u32::to_string), binary: format == 1, value })
        })
        .collect()
}

/// The bundle's bytes with the gateway's own `Describe` messages at their places.
fn splice(bundle: BytesMut, describe: &[(usize, Bytes)]) -> Bytes {
    if describe.is_empty() {
        return bundle.freeze();
    }
    let mut out = BytesMut::with_capacity(bundle.len() + 16 * describe.len());
    let mut done = 0;
    for (at, portal) in describe {
        out.extend_from_slice(&bundle[done..*at]);
        wire::describe_portal(&mut out, portal);
        done = *at;
    }
    out.extend_from_slice(&bundle[done..]);
    out.freeze()
}

trait CloneBody {
    fn clone_body(&self, at: usize, length: usize) -> Bytes;
}

impl CloneBody for BytesMut {
    /// A message's body, without type and length. A copy: the input keeps the bytes that will be forwarded.
    fn clone_body(&self, at: usize, length: usize) -> Bytes {
        Bytes::copy_from_slice(&self[at + 5..at + length])
    }
}
