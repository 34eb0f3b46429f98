//! The backend's half: follows its answers, masks what carries data, and keeps the gateway's own exchanges out of sight.
//!
//! # Security
//! Every message type that a backend may send is named here; a type that is not, or one that comes out of step with
//! what is awaited, ends the connection: an answer that is attributed to the wrong statement would be masked by the
//! wrong plan.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    cancel::Cancellable,
    classify::{References, Statement},
    dialect::{Phase, PostgresDialect, Rows},
    lookup::Lookup,
    mask::{copy, plan::{Field, Plan}, rows, texts},
    pending::{Await, What, discard_to_sync},
    portal::Portal,
    wire,
};
use crate::{
    gate::{Exchange, Unmaskable},
    operation::{Effect, Effects, Frame},
    protocol::reader::{OutOfFrame, Reader},
};

/// What becomes of one message.
enum Fate {
    /// The client gets it as it is.
    Pass,
    /// The client does not get it.
    Swallow,
    /// The client gets this in its place.
    Instead(Bytes),
}

impl PostgresDialect {
    /// Takes every whole message at the front of `reply`; appends what the client may see to `out`.
    pub(super) fn replies(&mut self, reply: &mut BytesMut, out: &mut BytesMut) -> Result<Exchange, Unmaskable> {
        let mut exchange = Exchange::default();
        let mut run = Run { from: 0, at: 0 };
        loop {
            if let Some(passed) = self.pass_along(&reply[run.at..]) {
                run.at += passed;
                if matches!(self.rows, Rows::Passing { left, .. } if left > 0) {
                    break;
                }
                continue;
            }
            let length = wire::message_len(&reply[run.at..], LONGEST_REPLY).map_err(|error| Unmaskable::Malformed(error.0))?;
            let Some(length) = length else { break };
            if reply.len() - run.at < length {
                if self.may_pass_in_parts(reply[run.at], length) {
                    self.rows = Rows::Passing { left: length, then: Box::new(std::mem::replace(&mut self.rows, Rows::Undescribed)) };
                    continue;
                }
                break;
            }
            self.one_reply(reply, length, &mut run, out, &mut exchange)?;
        }
        run.flush(reply, out);
        reply.advance(run.at);
        Ok(exchange)
    }

    fn one_reply(
        &mut self,
        reply: &[u8],
        length: usize,
        run: &mut Run,
        out: &mut BytesMut,
        exchange: &mut Exchange,
    ) -> Result<(), Unmaskable> {
        let message = &reply[run.at..run.at + length];
        if matches!(message[0], b'D' | b'd') && !matches!(self.phase, Phase::LookingUp(_)) {
            if self.masks.is_empty() {
                run.at += length;
                return Ok(());
            }
            run.flush(reply, out);
            exchange.masked += self.data(message, out)?;
            run.skip(length);
            return Ok(());
        }
        let fate = self.track(message, exchange)?;
        match fate {
            Fate::Pass => run.at += length,
            Fate::Swallow => {
                run.flush(reply, out);
                run.skip(length);
            }
            Fate::Instead(words) => {
                run.flush(reply, out);
                out.extend_from_slice(&words);
                run.skip(length);
            }
        }
        self.drop_marks();
        if matches!(self.pending.front(), Some(Await { what: What::Local(_), .. })) {
            run.flush(reply, out);
            self.own_words(out);
        }
        Ok(())
    }

    /// The gateway's own words that have come to the front.
    fn own_words(&mut self, out: &mut BytesMut) {
        while let Some(Await { what: What::Local(words), .. }) = self.pending.front() {
            out.extend_from_slice(words);
            self.pending.pop_front();
        }
    }

    /// Marks of ended COPY data await nothing.
    fn drop_marks(&mut self) {
        while matches!(self.pending.front(), Some(Await { what: What::CopyEnd, .. })) {
            self.pending.pop_front();
        }
    }

    // ---- rows longer than what is held at once ----

    /// A row with nothing to mask need not be whole to be passed on.
    fn may_pass_in_parts(&self, kind: u8, length: usize) -> bool {
        length > HELD_AT_ONCE && matches!(kind, b'D' | b'd') && matches!(self.phase, Phase::Ready) && self.masks.is_empty()
    }

    fn pass_along(&mut self, bytes: &[u8]) -> Option<usize> {
        let Rows::Passing { left, then } = &mut self.rows else { return None };
        let passed = bytes.len().min(*left);
        *left -= passed;
        if *left == 0 {
            self.rows = *std::mem::replace(then, Box::new(Rows::Undescribed));
        }
        Some(passed)
    }

    // ---- data ----

    /// Masks one `DataRow` or `CopyData`.
    fn data(&mut self, message: &[u8], out: &mut BytesMut) -> Result<u32, Unmaskable> {
        let withheld = |error: String| Unmaskable::Withheld(error);
        if message[0] == b'd' {
            let Rows::Copy(masker) = &mut self.rows else {
                return Err(withheld("COPY data that no statement was seen to ask for".into()));
            };
            return masker.data(message, &self.masks, out).map_err(|error| withheld(error.to_string()));
        }
        let plan = match (&self.pending.front().map(|one| &one.what), &self.rows) {
            (Some(What::Execute(portal)), _) => portal.plan.get(),
            (Some(What::Query(_)), Rows::Plan(plan)) => Some(plan),
            _ => None,
        };
        let plan = plan.ok_or_else(|| withheld("rows that were not described".into()))?;
        rows::rewrite(message, plan, &self.masks, out).map_err(|error| withheld(error.to_string()))
    }

    // ---- everything else ----

    fn track(&mut self, message: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        let body = &message[5..];
        match message[0] {
            b'R' | b'v' if matches!(self.phase, Phase::Authentication) => Ok(Fate::Pass),
            b'S' => self.parameter_status(body),
            b'K' if matches!(self.phase, Phase::Authentication) => self.backend_key(body),
            b'Z' => self.ready(body, exchange),
            b'E' => self.error(message, exchange),
            b'N' | b'A' => self.words(message, exchange),
            _ if matches!(self.phase, Phase::LookingUp(_)) => self.looked_up(message),
            b'1' => self.answered("ParseComplete", |what| matches!(what, What::Parse), exchange),
            b'2' => self.answered("BindComplete", |what| matches!(what, What::Bind), exchange),
            b'3' => self.answered("CloseComplete", |what| matches!(what, What::Close), exchange),
            b't' => self.front("ParameterDescription", |what| matches!(what, What::DescribeStatement)).map(|()| Fate::Pass),
            b'T' | b'n' => self.described(message, exchange),
            b'C' | b'I' | b's' => self.completed(exchange),
            b'G' => self.copy_in(),
            b'H' => self.copy_out(body),
            b'c' => {
                self.rows = Rows::Undescribed;
                Ok(Fate::Pass)
            }
            other => Err(Unmaskable::Malformed(format!("a message of type {:?} that nothing here asked for", char::from(other)))),
        }
    }

    fn front(&self, what: &str, fits: impl Fn(&What) -> bool) -> Result<(), Unmaskable> {
        match self.pending.front() {
            Some(front) if fits(&front.what) => Ok(()),
            front => {
                let awaited = front.map_or("nothing", |front| front.what.name());
                Err(Unmaskable::Malformed(format!("{what} came while {awaited} was awaited")))
            }
        }
    }

    fn answered(&mut self, what: &str, fits: impl Fn(&What) -> bool, exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        self.front(what, fits)?;
        self.pop(exchange);
        Ok(Fate::Pass)
    }

    fn pop(&mut self, exchange: &mut Exchange) -> Option<What> {
        let front = self.pending.pop_front()?;
        exchange.finished += usize::from(front.ends_operation);
        Some(front.what)
    }

    fn parameter_status(&mut self, body: &[u8]) -> Result<Fate, Unmaskable> {
        let mut reader = Reader::new(body);
        let name = String::from_utf8_lossy(reader.cstr()?).into_owned();
        let value = String::from_utf8_lossy(reader.cstr()?).into_owned();
        reader.finish()?;
        if name == "standard_conforming_strings" {
            self.lexical.standard_conforming_strings = value == "on";
        }
        let name = name.to_ascii_lowercase();
        if REPORTED.contains(&name.as_str()) {
            Arc::make_mut(&mut self.state).insert(name.into(), value);
        }
        Ok(Fate::Pass)
    }

    /// The client gets a key of the gateway's; the backend's stays here.
    fn backend_key(&mut self, body: &[u8]) -> Result<Fate, Unmaskable> {
        if !(5..=260).contains(&body.len()) || self.cancel.is_some() {
            return Err(Unmaskable::Malformed(format!("a cancel key of {} bytes, or a second one", body.len())));
        }
        let session = Cancellable {
            session: self.session,
            owner: self.owner.clone(),
            real: Bytes::copy_from_slice(body),
            is_held: false.into(),
            interrupt: self.interrupt.clone(),
        };
        let (key, registered) = self
            .shared
            .cancels
            .register(session)
            .map_err(|error| Unmaskable::Withheld(format!("no random numbers for a cancel key: {error}")))?;
        self.cancel = Some(registered);
        let mut out = BytesMut::new();
        wire::message(&mut out, b'K', |out| out.put_slice(&key));
        Ok(Fate::Instead(out.freeze()))
    }

    fn ready(&mut self, body: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        let &[status @ (b'I' | b'T' | b'E')] = body else {
            return Err(Unmaskable::Malformed("a ReadyForQuery without a transaction status".into()));
        };
        self.transaction = status;
        self.rows = Rows::Undescribed;
        match &mut self.phase {
            Phase::Authentication => {}
            Phase::LookingUp(lookup) => {
                self.shared.catalogs.learn(&self.backend, lookup);
                self.phase = Phase::Ready;
                return Ok(Fate::Pass);
            }
            Phase::Ready => self.end_of_exchange(exchange)?,
            _ => return Err(Unmaskable::Malformed("ReadyForQuery before the session began".into())),
        }
        if status == b'I' && self.pending.is_empty() {
            if self.bundle.len == 0 {
                // Portals live no longer than their transaction.
                self.names.portals.clear();
            }
            if self.wants_lookup() {
                return Ok(self.look_up(exchange));
            }
        }
        self.phase = Phase::Ready;
        Ok(Fate::Pass)
    }

    /// `ReadyForQuery` ends a simple query or answers a `Sync`.
    fn end_of_exchange(&mut self, exchange: &mut Exchange) -> Result<(), Unmaskable> {
        self.drop_marks();
        self.front("ReadyForQuery", |what| {
            matches!(what, What::Query(_) | What::PoisonQuery(_) | What::Sync | What::MaybeSync)
        })?;
        self.copying_in = false;
        if let Some(What::Query(portal)) = self.pop(exchange) {
            self.may_have_changed_the_catalog(&portal);
        }
        Ok(())
    }

    fn completed(&mut self, exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        self.rows = Rows::Undescribed;
        self.front("CommandComplete", |what| matches!(what, What::Query(_) | What::Execute(_)))?;
        if matches!(self.pending.front(), Some(Await { what: What::Execute(_), .. })) {
            if let Some(What::Execute(portal)) = self.pop(exchange) {
                self.may_have_changed_the_catalog(&portal);
            }
            self.end_of_copy_in();
        }
        Ok(Fate::Pass)
    }

    fn may_have_changed_the_catalog(&mut self, portal: &Portal) {
        let effects = portal.prepared.as_ref().map_or(CATALOG_EFFECTS, |prepared| prepared.meaning.effects);
        if effects.intersects(CATALOG_EFFECTS) && self.masks.has_columns() {
            self.shared.catalogs.doubt(&self.backend);
        }
    }

    // ---- errors and other words ----

    fn error(&mut self, message: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        self.rows = Rows::Undescribed;
        if let Phase::LookingUp(lookup) = &mut self.phase {
            lookup.fail();
            return Ok(Fate::Swallow);
        }
        self.drop_marks();
        match self.pending.front_mut().map(|front| &mut front.what) {
            Some(What::PoisonQuery(words)) => {
                let words = std::mem::take(words);
                if let Some(front) = self.pending.front_mut() {
                    front.what = What::Sync;
                }
                return Ok(Fate::Instead(words));
            }
            Some(What::Poison(words)) => {
                let words = std::mem::take(words);
                self.pending.pop_front();
                self.discard(exchange);
                return Ok(Fate::Instead(words));
            }
            Some(What::Query(_)) | None => {}
            Some(_) => self.discard(exchange),
        }
        self.copying_in = false;
        self.words(message, exchange)
    }

    /// The backend discards everything up to the next `Sync`.
    fn discard(&mut self, exchange: &mut Exchange) {
        let (discarded, found) = discard_to_sync(&mut self.pending);
        // The gateway's own words among them would answer what is now discarded.
        exchange.finished += self.names.undo_all(discarded.into_iter());
        self.skipping = !found;
    }

    /// Errors, notices and notifications carry values too.
    fn words(&mut self, message: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        if self.masks.is_empty() {
            return Ok(Fate::Pass);
        }
        let reads = match self.pending.front().map(|front| &front.what) {
            Some(What::Query(portal) | What::Execute(portal) | What::DescribePortal { portal, .. }) => self.reads(portal),
            Some(What::Bind) => References::everything(),
            _ => References::default(),
        };
        let mut out = BytesMut::new();
        let masked = texts::rewrite(message, &self.masks, &reads, &mut out).map_err(|error| Unmaskable::Withheld(error.to_string()))?;
        exchange.masked += masked;
        Ok(if masked == 0 { Fate::Pass } else { Fate::Instead(out.freeze()) })
    }

    // ---- descriptions ----

    fn described(&mut self, message: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        self.front("a row description", |what| {
            matches!(what, What::Query(_) | What::DescribeStatement | What::DescribePortal { .. })
        })?;
        let portal = match self.pending.front().map(|front| &front.what) {
            Some(What::Query(portal)) => portal.clone(),
            Some(What::DescribePortal { portal, .. }) => portal.clone(),
            _ => {
                self.pop(exchange);
                return Ok(Fate::Pass);
            }
        };
        let plan = if self.masks.is_empty() { None } else { Some(Arc::new(self.plan(message, &portal)?)) };
        if let Some(What::Query(_)) = self.pending.front().map(|front| &front.what) {
            self.rows = plan.map_or(Rows::Undescribed, Rows::Plan);
            return Ok(Fate::Pass);
        }
        if let Some(plan) = plan {
            // A portal is described once or twice with the same words; the first plan stands.
            let _ = portal.plan.set(plan);
        }
        match self.pop(exchange) {
            Some(What::DescribePortal { own: true, .. }) => Ok(Fate::Swallow),
            _ => Ok(Fate::Pass),
        }
    }

    fn plan(&self, message: &[u8], portal: &Portal) -> Result<Plan, Unmaskable> {
        let fields = if message[0] == b'n' { Vec::new() } else { fields(&message[5..])? };
        let catalog = self.shared.catalogs.of(&self.backend);
        Ok(Plan::new(&fields, catalog.as_deref(), &self.masks, &self.reads(portal)))
    }

    /// What a statement reads; everything, where the text alone does not say.
    fn reads(&self, portal: &Portal) -> References {
        let Some(prepared) = &portal.prepared else { return References::everything() };
        let elsewhere = |statement: &Statement| matches!(statement, Statement::Execute { .. } | Statement::Fetch { .. });
        if prepared.classified.statements.iter().any(elsewhere) || prepared.meaning.effects.contains(Effect::Unknown) {
            return References::everything();
        }
        prepared.classified.reads.clone()
    }

    // ---- COPY ----

    /// The backend now reads COPY data, and ignores every `Sync` that comes before its end.
    fn copy_in(&mut self) -> Result<Fate, Unmaskable> {
        self.front("CopyInResponse", |what| matches!(what, What::Query(_) | What::Execute(_)))?;
        let ended = self.pending.iter().any(|one| matches!(one.what, What::CopyEnd));
        self.copying_in = !ended;
        let during = self.pending.iter_mut().skip(1).take_while(|one| !matches!(one.what, What::CopyEnd));
        for one in during.filter(|one| matches!(one.what, What::Sync)) {
            one.what = What::MaybeSync;
        }
        Ok(Fate::Pass)
    }

    /// The COPY went well, so the backend did ignore what came during it.
    fn end_of_copy_in(&mut self) {
        let Some(end) = self.pending.iter().position(|one| matches!(one.what, What::CopyEnd)) else { return };
        if self.pending.iter().take(end).all(|one| matches!(one.what, What::MaybeSync)) {
            self.pending.drain(..=end);
        }
    }

    fn copy_out(&mut self, body: &[u8]) -> Result<Fate, Unmaskable> {
        self.front("CopyOutResponse", |what| matches!(what, What::Query(_) | What::Execute(_)))?;
        if self.masks.is_empty() {
            return Ok(Fate::Pass);
        }
        let mut reader = Reader::new(body);
        let binary = reader.byte()? == 1;
        let columns = usize::try_from(reader.i16()?).map_err(|_| Unmaskable::Malformed("a negative count of columns".into()))?;
        let portal = match self.pending.front().map(|front| &front.what) {
            Some(What::Query(portal) | What::Execute(portal)) => portal.clone(),
            _ => unreachable!("the front was just looked at"),
        };
        let withheld = || Unmaskable::Withheld("COPY to the client that no statement was seen to ask for".into());
        let prepared = portal.prepared.as_ref().ok_or_else(withheld)?;
        let mut copies = prepared.classified.statements.iter().filter_map(|statement| match statement {
            Statement::Copy(copy) if copy.to_stdout => Some(copy),
            _ => None,
        });
        // Of two COPYs in one text the gateway could not tell which this is.
        let (Some(copy), None) = (copies.next(), copies.next()) else { return Err(withheld()) };
        let catalog = self.shared.catalogs.of(&self.backend);
        let plan = copy::plan(copy, &prepared.classified.reads, catalog.as_deref(), &self.masks)
            .map_err(|error| Unmaskable::Withheld(error.to_string()))?;
        let masker = copy::CopyMasker::new(plan, copy, columns, binary).map_err(|error| Unmaskable::Withheld(error.to_string()))?;
        self.rows = Rows::Copy(Box::new(masker));
        Ok(Fate::Pass)
    }

    // ---- the gateway's own look into the catalog ----

    fn wants_lookup(&self) -> bool {
        self.masks.has_columns() && self.shared.catalogs.is_wanted(&self.backend)
    }

    /// Asks on the bot's connection, at a point where that changes nothing: idle, outside a transaction, and before
    /// the client hears that the backend is ready.
    fn look_up(&mut self, exchange: &mut Exchange) -> Fate {
        let lookup = Lookup::new(&self.masks);
        let mut out = BytesMut::new();
        wire::query(&mut out, lookup.sql());
        exchange.own = Some(("catalog lookup", Frame::new(out.freeze())));
        self.phase = Phase::LookingUp(lookup);
        Fate::Swallow
    }

    fn looked_up(&mut self, message: &[u8]) -> Result<Fate, Unmaskable> {
        let Phase::LookingUp(lookup) = &mut self.phase else { unreachable!("only called while looking up") };
        match message[0] {
            b'D' => lookup.row(&message[5..]),
            b'T' | b'C' => {}
            other => return Err(Unmaskable::Malformed(format!("a message of type {:?} during a catalog lookup", char::from(other)))),
        }
        Ok(Fate::Swallow)
    }
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            What::Query(_) => "a query's result",
            What::Parse => "ParseComplete",
            What::Bind => "BindComplete",
            What::Close => "CloseComplete",
            What::DescribeStatement | What::DescribePortal { .. } => "a description",
            What::Execute(_) => "an execution's result",
            What::Sync | What::MaybeSync => "ReadyForQuery",
            What::CopyEnd | What::Local(_) => "nothing",
            What::Poison(_) | What::PoisonQuery(_) => "an error",
        }
    }
}

/// A run of messages that pass as they are, copied in one piece.
struct Run {
    from: usize,
    at: usize,
}

impl Run {
    fn flush(&mut self, reply: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(&reply[self.from..self.at]);
        self.from = self.at;
    }

    /// Leaves out the next `length` bytes; what came before must have been flushed.
    fn skip(&mut self, length: usize) {
        self.at += length;
        self.from = self.at;
    }
}

/// Reads a `RowDescription`.
fn fields(body: &[u8]) -> Result<Vec<Field>, Unmaskable> {
    let mut reader = Reader::new(body);
    let count = usize::try_from(reader.i16()?).map_err(|_| Unmaskable::Malformed("a negative count of columns".into()))?;
    let fields = (0..count).map(|_| {
        Ok(Field {
            name: String::from_utf8_lossy(reader.cstr()?).into_owned(),
            table: reader.u32()?,
            column: reader.i16()?,
            kind: reader.u32()?,
            binary: {
                reader.take(6)?;
                reader.i16()? == 1
            },
        })
    });
    let fields = fields.collect::<Result<Vec<_>, OutOfFrame>>()?;
    reader.finish()?;
    Ok(fields)
}

impl From<OutOfFrame> for Unmaskable {
    fn from(error: OutOfFrame) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The longest message taken from a backend: PostgreSQL's own limit for one value.
const LONGEST_REPLY: usize = 1 << 30;

/// A row up to so long is passed on whole; a longer one, with nothing to mask, in parts.
const HELD_AT_ONCE: usize = 256 * 1024;

/// What may change what the catalog says.
const CATALOG_EFFECTS: Effects = Effects::of(Effect::Schema).with(Effect::Execute).with(Effect::Unknown).with(Effect::Privilege);

/// What a backend reports of its own accord and is part of the session's state.
const REPORTED: [&str; 6] =
    ["standard_conforming_strings", "search_path", "session_authorization", "is_superuser", "client_encoding", "timezone"];
