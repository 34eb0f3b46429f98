//! The fixed order in which an operation passes, and the only hands that hold the write halves.
//!
//! ```text
//! Operation + Frame → Judged → Settled → Cleared     → upstream
//! upstream          → Reply  → Masked  → Deliverable → client
//! ```
//!
//! Each stage is a type that only the stage before it can make: what is forwarded was recorded, what is delivered was
//! masked and recorded, and code that tries otherwise does not compile.
//!
//! # Security
//! *Invariant:* [`Cleared`] and [`Deliverable`] are made in this module only, each from a [`Receipt`], and the write
//! halves are private to it. A protocol can neither skip a stage nor send bytes of its own past one.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};

use crate::{
    config::ReadDurability,
    hold::{Requester, Waiting},
    mask::{Masks, Salt},
    net::{Dialer, ReadHalf, WriteHalf, tls},
    operation::{Digest, Effect, Effects, Frame, GrantId, Impact, Operation, OperationId, RequestId, Shape, State},
    policy::{Approval, Decide, OnHold, Scope, Separation, Verdict},
    record::{
        Durability, Receipt,
        entry::{self, Asked, Body, Connected, Entry, Operated, Requested, Timestamp},
    },
};

mod commit;
mod connection;
mod digest;
mod language;
mod privacy;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

pub use crate::{
    credentials::{Credential, VaultError, is_name as is_credential_name},
    hold::Ended,
    record::RecordError,
};
pub use commit::Place;
use commit::{Part, Uncommitted};
pub use connection::{Broken, Connection, Services};
pub use language::{Exchange, Language, Refusal, Unmaskable};
pub use privacy::Insecure;

/// An operation with policy's verdict. Made by [`Gate::judge`].
#[derive(Debug)]
pub struct Judged {
    id: OperationId,
    operation: Operation,
    frame: Frame,
    verdict: Verdict,
    /// For a grant, where it is held.
    shape: Option<Shape>,
    /// For a retry, where it is held: what its session has been through.
    past: Option<Digest>,
    part: Part,
}

/// An operation that nobody needs to wait for any more: allowed, released or refused. Made by [`Gate::settle`] or [`Held::released`].
#[derive(Debug)]
pub struct Settled {
    judged: Judged,
    request: Option<RequestId>,
    grant: Option<GrantId>,
    refusal: Option<String>,
    cancelled: bool,
}

/// Where [`Gate::settle`] leaves an operation.
pub enum Settling {
    /// It goes on at once.
    Settled(Box<Settled>),
    /// It waits for people.
    Held(Box<Held>),
}

impl Settling {
    fn settled(settled: Settled) -> Self {
        Self::Settled(Box::new(settled))
    }
}

/// An operation that waits inside its connection. Dropping it withdraws the request.
pub struct Held {
    judged: Judged,
    waiting: Waiting,
    digest: Digest,
}

/// Recorded bytes that may go upstream, once. Made from a [`Receipt`] by the gate alone.
#[derive(Debug)]
#[must_use = "recorded as forwarded: forward it"]
pub struct Cleared {
    wire: Bytes,
    _receipt: Receipt,
}

/// What [`Gate::record`] answers.
#[derive(Debug)]
pub enum Recorded {
    /// Forward it.
    Cleared(Cleared),
    /// Tell the client.
    Refused(Refusal),
}

/// Bytes from the backend, not yet masked. Nothing but [`Gate::mask`] takes them.
#[derive(Debug, Default)]
pub struct Reply(pub BytesMut);

/// Bytes that went through the masks. Made by [`Gate::mask`] and [`Gate::answers`].
#[derive(Debug)]
pub struct Masked {
    wire: Bytes,
    of: Option<OperationId>,
    values: u32,
}

/// Masked and recorded bytes that may go to the client, once. Made from a [`Receipt`] by the gate alone.
#[derive(Debug)]
#[must_use = "recorded as delivered: deliver it"]
pub struct Deliverable {
    wire: Bytes,
    _receipt: Option<Receipt>,
}

/// One connection's gate. Owns both write halves.
pub struct Gate {
    connection: Arc<Connection>,
    services: Services,
    scope: Scope,
    masks: Arc<Masks>,
    /// What the resource says about TLS.
    tls: tls::Settings,
    dialer: Dialer,
    client: WriteHalf,
    upstream: Option<WriteHalf>,
    /// Operations forwarded and not yet answered, oldest first: says whose answer a reply is.
    outstanding: VecDeque<OperationId>,
    /// What ran, and waits for an approval before it is committed.
    uncommitted: Uncommitted,
    /// The state that the last recorded operation had.
    recorded_state: Option<Arc<State>>,
    closed: bool,
}

impl Gate {
    /// Opens the gate for a connection: its facts are recorded before a byte of it is looked at.
    ///
    /// # Errors
    /// The record cannot be written: the connection must be closed.
    pub fn open(
        connection: Arc<Connection>,
        services: Services,
        client: WriteHalf,
        dialer: Dialer,
    ) -> Result<Self, RecordError> {
        let policies = services.policies.current();
        let scope = policies.scope(&connection.workload, &connection.process, connection.resource.as_ref());
        let masks = connection.resource.as_ref().map_or_else(Arc::default, |resource| resource.masks.clone());
        let section = connection.resource.as_ref().and_then(|resource| resource.extra.get("tls"));
        // It was read when the policy was loaded.
        let tls = tls::Settings::read(section).unwrap_or_else(|_| tls::Settings::strictest());
        let gate = Self {
            connection,
            services,
            scope,
            masks,
            tls,
            dialer,
            client,
            upstream: None,
            outstanding: VecDeque::new(),
            uncommitted: Uncommitted::default(),
            recorded_state: None,
            closed: false,
        };
        let _ = gate.note(Body::Connected(Box::new(gate.facts())))?;
        Ok(gate)
    }

    /// The connection behind this gate.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Opens what the gateway logs in with, for a protocol that asks for it by name.
    ///
    /// # Errors
    /// As [`Vault::open`](crate::credentials::Vault::open).
    pub async fn open_credential(&mut self, name: &str) -> Result<Credential, VaultError> {
        self.services.vault.open(name).await
    }

    /// The resource's masks, for a protocol that must plan ahead for them.
    pub fn masks(&self) -> &Arc<Masks> {
        &self.masks
    }

    /// The key of the node's masking hashes.
    pub fn salt(&self) -> &Salt {
        &self.services.salt
    }

    // ---- towards the backend ----

    /// Notices that policies were reloaded, and tells `language` which masks are in force now. Not while answers are
    /// under way: they are masked by the rules under which they were asked for.
    pub fn renew<L: Language>(&mut self, language: &mut L) {
        if self.outstanding.is_empty() {
            self.refresh();
            language.masks(&self.masks);
        }
    }

    /// Asks policy about what was just submitted to `language`. Pure but for noticing that policies were reloaded.
    pub fn judge<L: Language>(&mut self, operation: Operation, frame: Frame, language: &L) -> Judged {
        self.refresh();
        let verdict = self.scope.judge(&operation);
        let (verdict, part) = if verdict.decide == Decide::HoldCommit || !self.uncommitted.is_empty() {
            self.uncommitted.place(verdict, language.place(&operation))
        } else {
            (verdict, Part::None)
        };
        let is_held = verdict.decide == Decide::Hold;
        // A grant would release any commit, whatever it commits.
        let shape = if is_held && part == Part::None { language.shape(&operation) } else { None };
        let past = is_held.then(|| language.past());
        Judged { id: OperationId::now(), operation, frame, verdict, shape, past, part }
    }

    /// An operation that its protocol never lets through, whatever policy says; recorded as refused with `reason`.
    pub fn forbid(&mut self, operation: Operation, frame: Frame, reason: &str) -> Settled {
        let verdict = Verdict {
            decide: Decide::Refuse,
            rule: format!("{} protocol", self.connection.protocol).into(),
            reason: reason.into(),
            approval: None,
            lock_time: Duration::ZERO,
            on_hold: OnHold::Wait,
            observed: None,
        };
        let (shape, past, part) = (None, None, Part::None);
        let judged = Judged { id: OperationId::now(), operation, frame, verdict, shape, past, part };
        Settled::no(judged, None, reason.to_owned())
    }

    /// Carries out the verdict as far as possible without waiting; a hold opens a durable request.
    pub async fn settle(&mut self, judged: Judged) -> Settling {
        match judged.verdict.decide {
            Decide::Allow | Decide::HoldCommit => Settling::settled(Settled::yes(judged, None)),
            Decide::Refuse => {
                let reason = judged.verdict.reason.to_string();
                Settling::settled(Settled::no(judged, None, reason))
            }
            Decide::Hold => self.hold(judged).await,
        }
    }

    async fn hold(&mut self, judged: Judged) -> Settling {
        let Some(approval) = judged.verdict.approval.clone() else {
            let refusal = "held, but the rule names nobody who could approve".to_owned();
            return Settling::settled(Settled::no(judged, None, refusal));
        };
        match judged.verdict.on_hold {
            OnHold::Wait => self.hold_waiting(judged, &approval).await,
            OnHold::Retry => self.hold_retrying(judged, &approval).await,
        }
    }

    async fn hold_waiting(&mut self, judged: Judged, approval: &Approval) -> Settling {
        let request = RequestId::now();
        let digest = digest::of_waiting(&self.connection, &judged.operation, &judged.frame, request);
        let requested = self.requested(&judged, request, digest, approval, true);
        let judged = match self.granted(judged, &requested.0).await {
            Ok(settled) => return Settling::settled(settled),
            Err(judged) => judged,
        };
        match self.services.desk.open(requested).await {
            Ok(waiting) => Settling::Held(Box::new(Held { judged, waiting, digest })),
            Err(error) => Settling::settled(Settled::no(judged, None, error.to_string())),
        }
    }

    /// `on_hold: retry`: nobody waits; the identical operation, sent again after approval, is released once.
    async fn hold_retrying(&mut self, judged: Judged, approval: &Approval) -> Settling {
        let digest = digest::of_retrying(&self.connection, &judged.operation, &judged.frame, judged.past);
        if let Some(request) = self.services.desk.spend(digest) {
            return Settling::settled(Settled::yes(judged, Some(request)));
        }
        let requested = self.requested(&judged, RequestId::now(), digest, approval, false);
        let judged = match self.granted(judged, &requested.0).await {
            Ok(settled) => return Settling::settled(settled),
            Err(judged) => judged,
        };
        Settling::settled(match self.services.desk.open_for_retry(requested).await {
            Ok(request) => {
                let short = request.short();
                let again =
                    format!("send the identical operation again once it is approved (`holdpoint wait {short}`)");
                Settled::no(judged, Some(request), format!("held for approval as request {short}; {again}"))
            }
            Err(error) => Settled::no(judged, None, error.to_string()),
        })
    }

    /// The operation as a grant that covers it leaves it; given back where none does.
    async fn granted(&mut self, judged: Judged, requested: &Requested) -> Result<Settled, Judged> {
        let Some((grant, recording)) = self.services.desk.use_grant(requested, self.connection.id) else {
            return Err(judged);
        };
        Ok(match recording.await {
            Ok(_) => Settled { grant: Some(grant), ..Settled::yes(judged, None) },
            Err(error) => unrecordable(judged, &error),
        })
    }

    /// Records the operation's end at the gate, durable at its level. Only then is it cleared, or the client told no.
    ///
    /// An operation that cannot be recorded is refused.
    pub async fn record(&mut self, settled: Settled) -> Recorded {
        let Settled { judged, request, grant, refusal, cancelled } = settled;
        let operated = Operated {
            asked: Asked { state: self.state_to_record(&judged), ..asked(&judged) },
            forwarded: refusal.is_none(),
            request,
            refusal: refusal.clone().unwrap_or_default(),
            grant,
        };
        let durability = self.durability(&judged, refusal.is_some());
        let entry = self.entry(Body::Operation(Box::new(operated)));
        match (self.services.recorder.append(entry, durability).await, refusal) {
            (Ok(receipt), None) => {
                self.outstanding.push_back(judged.id);
                self.uncommitted.runs(judged.id, &judged.operation, &judged.verdict, judged.part);
                Recorded::Cleared(Cleared { wire: judged.frame.wire().clone(), _receipt: receipt })
            }
            (Ok(_), Some(reason)) => {
                let rolls_back = judged.part == Part::Commits;
                Recorded::Refused(Refusal { reason, rule: judged.verdict.rule, request, cancelled, rolls_back })
            }
            (Err(error), _) => {
                tracing::error!(%error, session = %self.connection.id, "cannot record: the operation is refused");
                Recorded::Refused(Refusal {
                    reason: format!("the gateway cannot record this operation, so it does not forward it: {error}"),
                    rule: "record".into(),
                    request,
                    cancelled: false,
                    rolls_back: judged.part == Part::Commits,
                })
            }
        }
    }

    /// Records handshake and protocol control, which by itself makes the backend do nothing, and clears it.
    ///
    /// # Errors
    /// It cannot be recorded: the connection must be closed.
    pub async fn control(&mut self, what: &str, frame: &Frame) -> Result<Cleared, RecordError> {
        let receipt = self.written(Body::Control { what: what.to_owned(), wire: frame.recorded() }).await?;
        Ok(Cleared { wire: frame.wire().clone(), _receipt: receipt })
    }

    /// Records bytes that belong to the last operation let through (COPY data), and clears them.
    ///
    /// # Errors
    /// They cannot be recorded, or there is no such operation: the connection must be closed.
    pub async fn continuation(&mut self, frame: &Frame) -> Result<Cleared, RecordError> {
        let wire = frame.recorded();
        let body = match self.outstanding.back() {
            Some(of) => Body::Continued { of: *of, wire },
            None => Body::Control { what: "data after its operation ended".into(), wire },
        };
        let receipt = self.written(body).await?;
        Ok(Cleared { wire: frame.wire().clone(), _receipt: receipt })
    }

    /// Dials the backend if that has not been done; gives the half to read its replies from.
    ///
    /// # Errors
    /// The network's own.
    pub async fn dial(&mut self) -> io::Result<Option<ReadHalf>> {
        if self.upstream.is_some() {
            return Ok(None);
        }
        let (read, write) = self.dialer.dial().await?;
        self.upstream = Some(write);
        Ok(Some(read))
    }

    /// Sends exactly the recorded bytes upstream.
    ///
    /// # Errors
    /// The stream's own, or the backend was never dialled.
    pub fn forward(&mut self, cleared: Cleared) -> io::Result<()> {
        let upstream = self.upstream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        upstream.queue(&cleared.wire);
        upstream.flush_now()
    }

    /// What a held operation would touch is known: people see it from now on, with what it would commit, and approve it
    /// with the rest.
    pub fn previewed(&self, held: &Held, impact: Impact) {
        let impact = match held.judged.part {
            Part::Commits => self.uncommitted.shown_with(impact),
            Part::None | Part::Runs => impact,
        };
        if impact != Impact::default() {
            held.waiting.previewed(impact);
        }
    }

    // ---- towards the client ----

    /// Puts what is whole in `reply` through the masks; what is not whole yet stays in `reply`.
    ///
    /// # Errors
    /// It cannot be masked: the reply is withheld and the connection must be closed.
    pub fn mask<L: Language>(&mut self, reply: &mut Reply, language: &mut L) -> Result<(Masked, Exchange), Unmaskable> {
        let of = self.outstanding.front().copied();
        let mut wire = BytesMut::new();
        let exchange = language.mask(&mut reply.0, &self.masks, &mut wire)?;
        for number in 0..exchange.finished {
            let Some(id) = self.outstanding.pop_front() else { break };
            if !self.uncommitted.is_empty() {
                let rows = exchange.rows.iter().find(|(of, _)| *of == number).map(|(_, rows)| *rows);
                self.uncommitted.answered(id, rows);
            }
        }
        if exchange.rests {
            self.uncommitted.is_over();
        }
        Ok((Masked { wire: wire.freeze(), of, values: exchange.masked }, exchange))
    }

    /// What the gateway itself says to the client in the client's language: refusals, notices, farewells.
    pub fn answers<L: Language>(&mut self, language: &mut L) -> Masked {
        let mut wire = BytesMut::new();
        language.answers(&mut wire);
        Masked { wire: wire.freeze(), of: None, values: 0 }
    }

    /// Records what will be delivered, after masking.
    ///
    /// # Errors
    /// It cannot be recorded: it must not be delivered.
    pub async fn record_reply(&mut self, masked: Masked) -> Result<Deliverable, RecordError> {
        let Masked { wire, of, values } = masked;
        let receipt = if wire.is_empty() {
            None
        } else {
            Some(self.written(Body::Response { of, wire: wire.clone(), masked: values }).await?)
        };
        Ok(Deliverable { wire, _receipt: receipt })
    }

    /// Sends recorded bytes to the client.
    ///
    /// # Errors
    /// The stream's own.
    pub fn deliver(&mut self, deliverable: Deliverable) -> io::Result<()> {
        self.client.queue(&deliverable.wire);
        self.client.flush_now()
    }

    // ---- the halves' back-pressure ----

    /// Bytes that wait for the client, and for the backend.
    pub fn queued(&self) -> (usize, usize) {
        (self.client.queued(), self.upstream.as_ref().map_or(0, WriteHalf::queued))
    }

    /// Sends queued bytes when either side takes them. Pending while there are none. Cancel safe.
    ///
    /// # Errors
    /// The stream's own, with the side it happened on.
    pub async fn flush(&mut self) -> Result<(), Broken> {
        match &mut self.upstream {
            Some(upstream) => tokio::select! {
                biased;
                sent = self.client.flush_some() => sent.map_err(Broken::Client),
                sent = upstream.flush_some() => sent.map_err(Broken::Upstream),
            },
            None => self.client.flush_some().await.map_err(Broken::Client),
        }
    }

    // ---- the end ----

    /// Records something that people should see. Best effort: the connection goes on or ends as it would.
    pub fn incident(&self, what: &str) {
        tracing::warn!(session = %self.connection.id, workload = %self.connection.workload.name, what, "incident");
        if let Err(error) = self.note(Body::Incident { what: what.to_owned() }) {
            tracing::error!(%error, "cannot record the incident");
        }
    }

    /// Sends what is queued, ends both streams, and records why.
    pub async fn close(mut self, reason: &str) {
        self.record_end(reason);
        // A peer that takes nothing any more must not keep the connection's memory.
        let last = async {
            let _ = self.client.finish().await;
            if let Some(upstream) = &mut self.upstream {
                let _ = upstream.finish().await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, last).await;
    }

    fn record_end(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.closed, true)
            && let Err(error) = self.note(Body::Disconnected { reason: reason.to_owned() })
        {
            tracing::error!(%error, "cannot record the end of a connection");
        }
    }

    // ---- inside ----

    fn refresh(&mut self) {
        if self.scope.generation() == self.services.policies.generation() {
            return;
        }
        self.scope = self.scope.renew(&self.services.policies.current());
        if let Some(resource) = self.scope.resource() {
            // A resource that is gone leaves its masks: answers may still be under way.
            self.masks = resource.masks.clone();
        }
    }

    fn durability(&self, judged: &Judged, refused: bool) -> Durability {
        let plain_read =
            judged.operation.meaning.effects.within(READS) && judged.verdict.decide == Decide::Allow && !refused;
        if plain_read && self.services.durability == ReadDurability::Written {
            Durability::Written
        } else {
            Durability::Synced
        }
    }

    fn requested(
        &self,
        judged: &Judged,
        request: RequestId,
        digest: Digest,
        approval: &Approval,
        waits: bool,
    ) -> (Requested, Requester) {
        let labels = &self.connection.workload.labels;
        let barred: Vec<_> = approval.separation.iter().flat_map(|role| role.named_in(labels)).collect();
        let requested = Requested {
            request,
            barred: (!barred.is_empty()).then_some(barred),
            asked: Asked { state: (*judged.operation.state).clone(), ..asked(judged) },
            digest,
            approval: approval.clone(),
            workload: self.connection.workload.name.clone(),
            resource: self.connection.resource.as_ref().map_or_else(String::new, |resource| resource.name.to_string()),
            waits,
            // Whose executable is not known could be anybody.
            shape: judged.shape.as_ref().filter(|_| self.connection.process.sha256.is_some()).map(|shape| {
                entry::Shape {
                    fingerprint: shape.fingerprint.clone(),
                    covers: digest::of_grant(&self.connection, &judged.operation, shape),
                    values: shape.values.clone(),
                    only_data: Some(shape.only_data),
                }
            }),
        };
        let requester = Requester {
            session: self.connection.id,
            uid: self.connection.process.uid,
            user: self.connection.process.user.clone(),
            executable: self.connection.process.executable.as_ref().map(|path| path.display().to_string()),
            destination: self.connection.destination.0.to_string(),
            owners: Separation::ALL.into_iter().flat_map(|role| role.named_in(labels)).collect(),
        };
        (requested, requester)
    }

    /// The session's state, unless it is what the operation before had and nobody was asked about it: most of a read's
    /// entry would be the same few settings again.
    fn state_to_record(&mut self, judged: &Judged) -> State {
        let state = &judged.operation.state;
        let same = self.recorded_state.as_ref().is_some_and(|before| Arc::ptr_eq(before, state));
        if same && judged.verdict.decide == Decide::Allow {
            return State::new();
        }
        self.recorded_state = Some(state.clone());
        (**state).clone()
    }

    /// The connection's facts, as recorded.
    pub fn facts(&self) -> Connected {
        Connected {
            workload: self.connection.workload.clone(),
            process: self.connection.process.clone(),
            client: self.connection.client.0.to_string(),
            destination: self.connection.destination.0.to_string(),
            resource: self.connection.resource.as_ref().map(|resource| resource.name.to_string()),
            protocol: self.connection.protocol.to_string(),
        }
    }

    fn entry(&self, body: Body) -> Entry {
        Entry { at: Timestamp::now(), session: Some(self.connection.id), body }
    }

    async fn written(&mut self, body: Body) -> Result<Receipt, RecordError> {
        let written = self.services.recorder.append(self.entry(body), Durability::Written);
        written.await
    }

    /// At once, where nothing can be awaited.
    fn note(&self, body: Body) -> Result<Receipt, RecordError> {
        self.services.recorder.append_written(self.entry(body))
    }
}

impl Drop for Gate {
    /// However a connection ends, the record says that it did.
    fn drop(&mut self) {
        self.record_end("the connection's task ended");
    }
}

impl Held {
    /// The request that people decide on.
    pub fn request(&self) -> RequestId {
        self.waiting.request()
    }

    /// What the client is told while it waits.
    pub fn notice(&self) -> String {
        let needs_reason = self.judged.verdict.approval.as_ref().is_some_and(|approval| approval.reason_required);
        let reason = if needs_reason { " --reason \"…\"" } else { "" };
        format!(
            "held for approval: request {}, rule \"{}\"; {} left; approve with: holdpoint approvals approve {}{reason}",
            self.request().short(),
            self.judged.verdict.rule,
            humantime::format_duration(self.waiting.left()),
            self.request().short(),
        )
    }

    /// Waits until the request ends. Cancel safe.
    pub async fn ended(&mut self) -> Ended {
        self.waiting.ended().await
    }

    /// The client cancelled, or has gone: the request is withdrawn and the operation refused.
    pub fn withdrawn(self, why: &str) -> Settled {
        let request = self.request();
        // Dropping the place at the desk withdraws the request.
        drop(self.waiting);
        Settled { cancelled: true, ..Settled::no(self.judged, Some(request), why.to_owned()) }
    }

    /// The operation as the request's end leaves it.
    ///
    /// # Security
    /// An approval releases only the bytes and the meaning that were approved: the digest is made again from what
    /// will be forwarded and compared.
    pub fn released(self, connection: &Connection, ended: &Ended) -> Settled {
        let request = self.request();
        let now = digest::of_waiting(connection, &self.judged.operation, &self.judged.frame, request);
        let refusal = match ended {
            Ended::Approved { digest } if *digest == now && *digest == self.digest => None,
            Ended::Approved { .. } => Some("the approval was given for something else".to_owned()),
            ended => Some(ended.to_string()),
        };
        match refusal {
            None => Settled::yes(self.judged, Some(request)),
            Some(reason) => Settled::no(self.judged, Some(request), reason),
        }
    }
}

impl Settled {
    fn yes(judged: Judged, request: Option<RequestId>) -> Self {
        Self { judged, request, grant: None, refusal: None, cancelled: false }
    }

    fn no(judged: Judged, request: Option<RequestId>, reason: String) -> Self {
        Self { judged, request, grant: None, refusal: Some(reason), cancelled: false }
    }
}

fn unrecordable(judged: Judged, error: &RecordError) -> Settled {
    Settled::no(judged, None, format!("the request for approval cannot be recorded: {error}"))
}

fn asked(judged: &Judged) -> Asked {
    let Judged { id, operation, frame, verdict, .. } = judged;
    Asked {
        operation: *id,
        kind: operation.kind.to_string(),
        text: operation.text.clone(),
        wire: frame.recorded(),
        parameters: operation.parameters.clone(),
        effects: operation.meaning.effects,
        objects: operation.meaning.objects.clone(),
        unknown: operation.meaning.unknown.clone(),
        state: State::new(),
        decide: verdict.decide,
        rule: verdict.rule.to_string(),
        why: verdict.reason.to_string(),
        observed: verdict.observed.as_ref().map(|(decide, rule)| (*decide, rule.to_string())),
    }
}

/// What counts as a read for durability: it changes nothing beyond the connection itself.
const READS: Effects = ONLY_READS.with(Effect::Session);

/// Reads, and nothing else.
const ONLY_READS: Effects = Effects::of(Effect::Read);

/// How long the last bytes may take at the end of a connection.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(2);
