//! The backend's half: follows its answers, masks what carries data, and keeps the gateway's own exchanges out of sight.
//!
//! # Security
//! Every message type that a backend may send is named here; a type that is not, or one that comes out of step with
//! what is awaited, ends the connection: an answer that is attributed to the wrong statement would be masked by the
//! wrong plan.

use std::{sync::Arc, time::Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    cancel::Cancellable,
    classify,
    dialect::{Phase, PostgresDialect, Rows},
    mask::{self, Field, Plan, References, texts::Context},
    pending::{Await, What, discard_to_sync},
    portal::Portal,
    wire,
};
use crate::{
    gate::{Exchange, Unmaskable},
    operation::{Effect, Effects},
    protocol::reader::{OutOfFrame, Reader},
};

/// What becomes of one message.
pub(super) enum Fate {
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
        let discarded = std::mem::take(&mut self.discarded);
        let mut exchange = Exchange { finished: discarded, ..Exchange::default() };
        let mut run = Run { from: 0, at: 0 };
        loop {
            if let Some(passed) = self.pass_along(&reply[run.at..]) {
                run.at += passed;
                if matches!(self.rows, Rows::Passing { left, .. } if left > 0) {
                    break;
                }
                continue;
            }
            let length =
                wire::message_len(&reply[run.at..], LONGEST_REPLY).map_err(|error| Unmaskable::Malformed(error.0))?;
            let Some(length) = length else { break };
            if reply.len() - run.at < length {
                if self.may_pass_in_parts(reply[run.at], length) {
                    self.rows = Rows::Passing {
                        left: length,
                        then: Box::new(std::mem::replace(&mut self.rows, Rows::Undescribed)),
                    };
                    continue;
                }
                break;
            }
            self.one_reply(reply, length, &mut run, out, &mut exchange)?;
        }
        run.flush(reply, out);
        reply.advance(run.at);
        if discarded > 0 {
            // Whose rows they are depends on which were discarded.
            exchange.rows.clear();
        }
        Ok(exchange)
    }

    /// Whether what the backend says now answers the gateway.
    fn is_own_answer(&self) -> bool {
        matches!(self.phase, Phase::LookingUp(_) | Phase::LookingInside(_) | Phase::Previewing(_))
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
        // The client may have ended COPY data after the backend had given up on it.
        self.drop_marks();
        if matches!(message[0], b'D' | b'd') && !self.is_own_answer() {
            if self.masker.masks.is_empty() {
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
        length > HELD_AT_ONCE
            && matches!(kind, b'D' | b'd')
            && matches!(self.phase, Phase::Ready)
            && self.masker.masks.is_empty()
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
            let Rows::Copy(copy) = &mut self.rows else {
                return Err(withheld("COPY data that no statement was seen to ask for".into()));
            };
            let mut payload = BytesMut::new();
            let masked = copy.push(&self.masker, &message[5..], &mut payload)?;
            wire::message(out, b'd', |out| out.put_slice(&payload));
            return Ok(masked);
        }
        let plan = match (&self.pending.front().map(|one| &one.what), &self.rows) {
            (Some(What::Execute(portal)), _) => portal.plan.get(),
            (Some(What::Query(_)), Rows::Plan(plan)) => Some(plan),
            _ => None,
        };
        let plan = plan.ok_or_else(|| withheld("rows that were not described".into()))?;
        if plan.is_pass() {
            out.extend_from_slice(message);
            return Ok(0);
        }
        Ok(self.masker.row(plan, message, out)?)
    }

    // ---- everything else ----

    fn track(&mut self, message: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        let body = &message[5..];
        match message[0] {
            b'R' if matches!(self.phase, Phase::Authentication) => self.authentication_request(body, exchange),
            b'v' if matches!(self.phase, Phase::Authentication) => Ok(Fate::Pass),
            b'S' => {
                self.parameter_status(body)?;
                self.shown_setting(message, exchange)
            }
            b'K' if matches!(self.phase, Phase::Authentication) => self.backend_key(body),
            b'Z' => self.ready(body, exchange),
            b'E' | b'N' if matches!(self.phase, Phase::Previewing(_)) => self.looked_at(message),
            b'E' => self.error(message, exchange),
            b'N' | b'A' => self.words(message, exchange),
            _ if matches!(self.phase, Phase::LookingUp(_)) => self.looked_up(message),
            _ if matches!(self.phase, Phase::LookingInside(_)) => self.inspected(message),
            _ if matches!(self.phase, Phase::Previewing(_)) => self.looked_at(message),
            b'1' => self.answered("ParseComplete", |what| matches!(what, What::Parse), exchange),
            b'2' => self.answered("BindComplete", |what| matches!(what, What::Bind), exchange),
            b'3' => self.answered("CloseComplete", |what| matches!(what, What::Close), exchange),
            b't' => {
                self.front("ParameterDescription", |what| matches!(what, What::DescribeStatement)).map(|()| Fate::Pass)
            }
            b'T' | b'n' => self.described(message, exchange),
            b'C' | b'I' | b's' => self.completed(message, exchange),
            b'G' => self.copy_in(),
            b'H' => self.copy_out(body),
            b'c' => self.copy_done(message, exchange),
            other => Err(Unmaskable::Malformed(format!(
                "a message of type {:?} that nothing here asked for",
                char::from(other)
            ))),
        }
    }

    pub(super) fn front(&self, what: &str, fits: impl Fn(&What) -> bool) -> Result<(), Unmaskable> {
        match self.pending.front() {
            Some(front) if fits(&front.what) => Ok(()),
            front => {
                let awaited = front.map_or("nothing", |front| front.what.name());
                Err(Unmaskable::Malformed(format!("{what} came while {awaited} was awaited")))
            }
        }
    }

    fn answered(
        &mut self,
        what: &str,
        fits: impl Fn(&What) -> bool,
        exchange: &mut Exchange,
    ) -> Result<Fate, Unmaskable> {
        self.front(what, fits)?;
        self.pop(exchange);
        Ok(Fate::Pass)
    }

    fn pop(&mut self, exchange: &mut Exchange) -> Option<What> {
        let front = self.pending.pop_front()?;
        if let (Some(rows), true) = (self.counted.take(), front.ends_operation) {
            exchange.rows.push((exchange.finished, rows));
        }
        exchange.finished += usize::from(front.ends_operation);
        self.names.confirm(&front.undo);
        Some(front.what)
    }

    fn parameter_status(&mut self, body: &[u8]) -> Result<Fate, Unmaskable> {
        let mut reader = Reader::new(body);
        let name = String::from_utf8_lossy(reader.cstr()?).into_owned();
        let value = String::from_utf8_lossy(reader.cstr()?).into_owned();
        reader.finish()?;
        match name.as_str() {
            "standard_conforming_strings" => self.lexical.standard_conforming_strings = value == "on",
            "client_encoding" => {
                self.lexical.utf8 = value == "UTF8";
                self.other_encoding |= !self.lexical.utf8;
                self.since.encoding |= self.other_encoding;
            }
            "server_version" => self.server_version = Self::major(&value),
            _ => {}
        }
        self.reported_setting(&name, &value);
        let name = name.to_ascii_lowercase();
        if REPORTED.contains(&name.as_str()) {
            Arc::make_mut(&mut self.state).insert(name.into(), value);
        }
        Ok(Fate::Pass)
    }

    /// A setting that the backend reports may have been set to a value out of a table.
    fn shown_setting(&self, message: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        let mut out = BytesMut::new();
        let masked = self.masker.setting(message, self.since.keeps_masked, &mut out)?;
        exchange.masked += masked;
        Ok(if masked == 0 { Fate::Pass } else { Fate::Instead(out.freeze()) })
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
        if let Phase::Previewing(_) = self.phase {
            return self.looked(status, exchange);
        }
        if matches!(self.pending.front(), Some(Await { what: What::OwnReady, .. })) {
            self.pop(exchange);
            return Ok(Fate::Swallow);
        }
        let before = std::mem::replace(&mut self.transaction, status);
        self.rows = Rows::Undescribed;
        match &mut self.phase {
            // What was asked for with the startup message is answered.
            Phase::Authentication => exchange.finished += 1,
            Phase::LookingUp(lookup) => {
                self.shared.catalogs.learn(&self.backend, lookup);
                self.phase = Phase::Ready;
                return Ok(Fate::Pass);
            }
            Phase::LookingInside(inspection) => {
                inspection.beginning().iter().for_each(|beginning| self.history.began(beginning));
                let worked = self.shared.codes.learn(&self.backend, inspection);
                self.blind_since = (!worked).then(Instant::now);
                (self.phase, self.rested) = (Phase::Ready, true);
                return Ok(Fate::Swallow);
            }
            Phase::Ready => self.end_of_exchange(exchange)?,
            _ => return Err(Unmaskable::Malformed("ReadyForQuery before the session began".into())),
        }
        if self.pending.is_empty() {
            exchange.rests |= status == b'I' || self.since.chained();
            self.settle(before);
            self.rested = self.bundle.len == 0;
        }
        if self.defines {
            // What was defined counts for others from the end of the transaction on.
            self.shared.codes.doubt(&self.backend);
            self.defines = status != b'I' || !self.pending.is_empty();
        }
        if status == b'I' && self.pending.is_empty() {
            if self.bundle.len == 0 {
                // Portals live no longer than their transaction.
                self.names.portals.forget_all();
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
            if !self.since.failed {
                self.deallocated(&portal);
            }
        }
        Ok(())
    }

    fn completed(&mut self, message: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        self.rows = Rows::Undescribed;
        if let Some(words) = self.rolled_back() {
            return Ok(Fate::Instead(words));
        }
        if let Some(rows) = wire::rows_in_tag(message) {
            self.counted = Some(self.counted.unwrap_or(0).saturating_add(rows));
        }
        self.front("CommandComplete", |what| matches!(what, What::Query(_) | What::Execute(_)))?;
        if matches!(self.pending.front(), Some(Await { what: What::Execute(_), .. })) {
            if let Some(What::Execute(portal)) = self.pop(exchange) {
                self.may_have_changed_the_catalog(&portal);
                self.deallocated(&portal);
            }
            self.end_of_copy_in();
        }
        Ok(Fate::Pass)
    }

    fn may_have_changed_the_catalog(&mut self, portal: &Portal) {
        let effects = portal.prepared.as_ref().map_or(CATALOG_EFFECTS, |prepared| prepared.sense.meaning.effects);
        if effects.intersects(CATALOG_EFFECTS) && self.masker.masks.has_columns() {
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
        if let Phase::LookingInside(inspection) = &mut self.phase {
            inspection.fail();
            return Ok(Fate::Swallow);
        }
        self.drop_marks();
        self.since.failed = true;
        self.counted = None;
        if let Some(words) = self.rolled_back() {
            return Ok(Fate::Instead(words));
        }
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
        if self.masker.masks.is_empty() {
            return Ok(Fate::Pass);
        }
        let reads = match self.pending.front().map(|front| &front.what) {
            Some(What::Query(portal) | What::Execute(portal) | What::DescribePortal { portal, .. }) => {
                self.reads(portal)
            }
            None => References::default(),
            Some(_) => References::opaque(),
        };
        let mut out = BytesMut::new();
        let masked = if message[0] == b'A' {
            self.masker.notification(message, &mut out)?
        } else {
            let catalog = self.catalog();
            let context = Context { references: &reads, catalog: catalog.as_deref() };
            self.masker.report(message, context, &mut out)?
        };
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
        let plan = if self.masker.masks.is_empty() { None } else { Some(Arc::new(self.plan(message, &portal)?)) };
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
        let fields = if message[0] == b'n' { Vec::new() } else { Field::read_all(message)? };
        let plan = Plan::new(&fields, &self.computes(portal), &self.masker.masks, self.catalog().as_deref());
        if plan.has_unknown_relation() {
            // Made since the last look: masked whole now, known after the next.
            self.shared.catalogs.doubt(&self.backend);
        }
        Ok(plan)
    }

    pub(super) fn catalog(&self) -> Option<Arc<mask::Catalog>> {
        self.shared.catalogs.of(&self.backend, &self.masker.masks)
    }

    /// What a statement reads; everything, where the text alone does not say.
    pub(super) fn reads(&self, portal: &Portal) -> References {
        let Some(prepared) = &portal.prepared else { return References::opaque() };
        if prepared.sense.meaning.effects.contains(Effect::Unknown) {
            return References::opaque();
        }
        references(&prepared.sense.reads)
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
            What::Sync | What::MaybeSync | What::OwnReady => "ReadyForQuery",
            What::RolledBack { .. } => "the end of a transaction",
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

/// The classifier's references as the masks take them.
pub(super) fn references(reads: &classify::References) -> References {
    let schema = |schema: &String| (!schema.is_empty()).then(|| schema.clone());
    References {
        columns: reads.columns.clone(),
        tables: reads.tables.iter().map(|table| (schema(&table.schema), table.name.clone())).collect(),
        whole_row: reads.whole_row || reads.inner_star,
        set_operation: reads.set_operation,
        stored: reads.stores.then(|| reads.stored.clone()),
        opaque: reads.unseen,
    }
}

impl From<mask::Unmaskable> for Unmaskable {
    fn from(error: mask::Unmaskable) -> Self {
        Self::Withheld(error.to_string())
    }
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
const CATALOG_EFFECTS: Effects =
    Effects::of(Effect::Schema).with(Effect::Execute).with(Effect::Unknown).with(Effect::Privilege);

/// What a backend reports of its own accord and is part of the session's state, beside the settings in `session`.
const REPORTED: [&str; 2] = ["is_superuser", "client_encoding"];
