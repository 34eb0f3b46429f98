//! One PostgreSQL connection's state, without I/O: the requests half is in `requests`, the replies half in `replies`.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::{
    Shared,
    access::Access,
    cancel::Registered,
    claim::{Claim, Entering},
    classify::Lexical,
    impact::Look,
    login::Login,
    lookup::{Backend, Inspection, Lookup},
    mask::{CopyOut, Masker, Plan},
    names::{Names, SqlNames},
    pending::{Await, What, discard_to_sync},
    portal::Portal,
    session,
    shape::History,
    startup, wire,
};
use crate::{
    gate::{Credential, Exchange, Gate, Language, Place, Refusal, Unmaskable},
    mask::{Masks, Salt},
    net::tls::{Client, Secured, Upstream},
    operation::{Digest, Frame, Operation, SessionId, Shape, State},
    protocol::{Dialect, Malformed, Preview, Side, Step},
};

/// One connection's state.
pub(super) struct PostgresDialect {
    pub(super) shared: Arc<Shared>,
    pub(super) privacy: Privacy,
    pub(super) login: Login,
    pub(super) access: Access,
    pub(super) handed: Handed,
    pub(super) owner: String,
    pub(super) session: SessionId,
    pub(super) masker: Masker,
    pub(super) backend: Backend,
    pub(super) phase: Phase,
    /// Session state as the digest and `when` see it.
    pub(super) state: Arc<State>,
    /// What of it is set, or may be.
    pub(super) settings_known: session::Settings,
    /// What ran since the backend last was ready with nothing left to answer.
    pub(super) since: session::Since,
    /// What changed the session otherwise, for shapes.
    pub(super) history: History,
    /// What the gateway calls its own statements here.
    pub(super) apart: wire::Apart,
    /// Whether this session ever had an encoding other than UTF-8: then it may come back with the end of a transaction.
    pub(super) other_encoding: bool,
    /// The transaction's status as the backend last said: idle `I`, in a block `T`, failed `E`.
    pub(super) transaction: u8,
    pub(super) lexical: Lexical,
    /// The backend's major version; 0 before it said so.
    pub(super) server_version: u32,
    pub(super) names: Names,
    pub(super) sql_names: SqlNames,
    pub(super) pending: VecDeque<Await>,
    pub(super) bundle: Bundle,
    pub(super) submitted: Option<Submitted>,
    /// After an error in the extended protocol, everything up to the client's next `Sync` is discarded.
    pub(super) skipping: bool,
    /// How many forwarded operations the backend discards, which nobody has counted as finished yet.
    pub(super) discarded: usize,
    /// Whether the backend takes COPY data from the client now.
    pub(super) copying_in: bool,
    pub(super) rows: Rows,
    /// How many rows the statements of the query that is being answered changed or gave.
    pub(super) counted: Option<u64>,
    pub(super) answers: BytesMut,
    pub(super) cancel: Option<Registered>,
    pub(super) interrupt: Arc<Notify>,
    /// Whether nothing was sent to the backend since it last was ready.
    pub(super) rested: bool,
    /// When a look behind names last failed in this session.
    pub(super) blind_since: Option<Instant>,
    /// Whether the transaction, or what runs alone, may change what the catalog says.
    pub(super) defines: bool,
    /// How many bytes of input the message that is not whole yet needs.
    pub(super) need: usize,
}

/// TLS on this connection.
#[derive(Debug, Default)]
pub(super) struct Privacy {
    /// Whether a client that asks for it gets it.
    pub(super) offered: bool,
    /// Whether one that does not is refused.
    pub(super) required: bool,
    /// Whether the backend must prove who it is before the gateway logs in there, and does not.
    pub(super) unproven: bool,
    /// The client's side, once it is up.
    pub(super) client: Option<Secured>,
    /// The backend's.
    pub(super) backend: Option<Secured>,
}

impl Privacy {
    fn new(gate: &Gate) -> Self {
        let required = gate.tls().client == Client::Required;
        let unproven = gate.connection().learnt && gate.tls().upstream() != Upstream::VerifyFull;
        Self { offered: gate.offers_tls(), required, unproven, client: None, backend: None }
    }
}

/// How far the connection is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Before the startup message; which encryption requests were answered.
    Startup { ssl: bool, gss: bool },
    /// The startup message waits for a credential: the one that the client must prove to know.
    Entering(Box<Entering>),
    /// The gateway authenticates the client.
    Claiming(Box<Claim>),
    /// The startup message waits for a credential: the one to log in with.
    Connecting(Box<Entering>),
    /// The backend authenticates the client.
    Authentication,
    /// The backend said that it is ready; before the client hears it, the catalog is looked into.
    LookingUp(Box<Lookup>),
    /// Before a request is read, the catalog is asked what stands behind names.
    LookingInside(Box<Inspection>),
    /// While a statement is held, the backend is asked what it would touch.
    Previewing(Box<Look>),
    /// Queries may come.
    Ready,
    /// A cancel request was forwarded: nothing more may come.
    Cancelling,
    /// Nothing more may come.
    Over,
}

/// A credential on its way from the vault.
#[derive(Debug, Default)]
pub(super) enum Handed {
    /// None is.
    #[default]
    Nothing,
    /// The one of this name is.
    Needed(String),
    /// It is here, or it is known why not.
    Opened(Result<Credential, String>),
}

impl Handed {
    /// Takes what was handed; where nothing was, `name` is needed from now on.
    pub(super) fn take(&mut self, name: &str) -> Option<Result<Credential, String>> {
        match std::mem::take(self) {
            Self::Opened(opened) => Some(opened),
            Self::Nothing | Self::Needed(_) => {
                *self = Self::Needed(name.to_owned());
                None
            }
        }
    }
}

/// Extended-protocol messages read but not yet submitted: they go together with the `Execute` or `Sync` they lead to.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    /// How many bytes at the front of the input they are.
    pub(super) len: usize,
    pub(super) awaited: Vec<Await>,
    /// Portals bound in it that nothing has executed yet, newest last.
    pub(super) bound: Vec<Arc<Portal>>,
    /// Where the gateway's own `Describe` goes, for which portal.
    pub(super) describe: Vec<(usize, Bytes)>,
}

/// What waits for its verdict.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) awaited: Vec<Await>,
    /// What is executed, or only bound.
    pub(super) runs: Option<Arc<Portal>>,
    /// Whether it binds other portals as well.
    pub(super) binds_others: bool,
    pub(super) kind: Submission,
}

/// How a refusal is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Submission {
    /// The connection itself.
    Connect,
    /// A cancel request: it has no answer.
    Cancel,
    /// A simple query, or a function call: an error, then ready.
    Simple,
    /// The extended protocol: an error, then silence up to `Sync`. What follows the operation in its frame.
    Extended { sync: bool, flush: bool },
}

/// What the rows that arrive now are.
pub(super) enum Rows {
    /// None are expected, or they have not been described.
    Undescribed,
    /// Rows of a result.
    Plan(Arc<Plan>),
    /// COPY data to the client.
    Copy(Box<CopyOut>),
    /// A row longer than what is held at once, with nothing to mask: so many bytes of it are still to come.
    Passing {
        /// Bytes of it.
        left: usize,
        /// What rows were before it.
        then: Box<Rows>,
    },
}

impl PostgresDialect {
    /// For a connection behind `gate`.
    pub(super) fn new(shared: Arc<Shared>, gate: &Gate) -> Self {
        let connection = gate.connection();
        let access = connection.resource.as_ref().map_or(Ok(Access::default()), |one| Access::read(&one.extra));
        Self {
            privacy: Privacy::new(gate),
            // They were read when the policy was loaded; what cannot be read logs nobody in.
            access: access.unwrap_or_else(|_| Access { credential: Some(String::new()), ..Access::default() }),
            owner: format!("{} {}", connection.workload.path, connection.process.uid),
            session: connection.id,
            backend: Backend::new(connection.destination.0),
            ..Self::detached(shared, gate.masks().clone(), gate.salt().clone())
        }
    }

    /// A connection's first state, with nobody on either side.
    pub(super) fn detached(shared: Arc<Shared>, masks: Arc<Masks>, salt: Salt) -> Self {
        Self {
            shared,
            privacy: Privacy::default(),
            login: Login::default(),
            access: Access::default(),
            handed: Handed::default(),
            owner: String::new(),
            session: SessionId::now(),
            masker: Masker { masks, salt },
            backend: Backend::new(([127, 0, 0, 1], 5432).into()),
            phase: Phase::Startup { ssl: false, gss: false },
            state: Arc::default(),
            settings_known: session::Settings::default(),
            since: session::Since::default(),
            history: History::default(),
            apart: wire::Apart::new(),
            other_encoding: false,
            transaction: b'I',
            lexical: Lexical::default(),
            server_version: 0,
            names: Names::default(),
            sql_names: SqlNames::default(),
            pending: VecDeque::new(),
            bundle: Bundle::default(),
            submitted: None,
            skipping: false,
            discarded: 0,
            copying_in: false,
            rows: Rows::Undescribed,
            counted: None,
            answers: BytesMut::new(),
            cancel: None,
            interrupt: Arc::default(),
            rested: false,
            blind_since: None,
            defines: false,
            need: 0,
        }
    }

    /// Puts the gateway's own words where they belong: behind every answer that is still to come.
    fn say_in_turn(&mut self, words: Bytes) {
        if self.pending.is_empty() {
            self.answers.extend_from_slice(&words);
        } else {
            self.pending.push_back(Await::plain(What::Local(words)));
        }
    }

    fn set_held(&self, held: bool) {
        if let Some(cancel) = &self.cancel {
            cancel.session.set_held(held);
        }
    }

    fn error_for(&self, refusal: &Refusal, severity: &str, code: &str) -> BytesMut {
        let mut out = BytesMut::new();
        if refusal.cancelled {
            wire::report(
                &mut out,
                b'E',
                severity,
                wire::QUERY_CANCELED,
                "canceling statement due to user request",
                None,
            );
            return out;
        }
        let request = refusal.request.map_or_else(String::new, |request| format!("request {}, ", request.short()));
        let detail = format!("{request}rule \"{}\"", refusal.rule);
        let over = if refusal.rolls_back { "; the transaction is rolled back" } else { "" };
        wire::report(&mut out, b'E', severity, code, &format!("holdpoint: {}{over}", refusal.reason), Some(&detail));
        out
    }

    /// A refused simple query: said at once when the backend need not know, else in place of an error that the
    /// backend is made to raise, which also fails its transaction; the one that `BEGIN` began, or the one that an
    /// execution began and the next `Sync` would commit.
    fn refuse_simple(&mut self, mut error: BytesMut) -> Option<(&'static str, Frame)> {
        if self.skipping {
            // While it was held the backend failed what came before: it discards up to `Sync`, and says nothing.
            return None;
        }
        if self.pending.is_empty() && self.transaction != b'T' && self.since.runs == 0 {
            wire::ready(&mut error, self.transaction);
            self.answers.extend_from_slice(&error);
            return None;
        }
        self.pending.push_back(Await::plain(What::PoisonQuery(error.freeze())));
        let mut poison = BytesMut::new();
        wire::poison_query(&mut poison);
        Some(("error in place of a refused query", Frame::new(poison.freeze())))
    }

    /// A refused extended query: the backend is made to raise an error in its place, so that it discards what
    /// follows and rolls back what came before, exactly as after an error of its own.
    fn refuse_extended(&mut self, error: BytesMut, sync: bool, flush: bool) -> Option<(&'static str, Frame)> {
        let mut poison = BytesMut::new();
        if self.skipping {
            // The backend already discards up to the next `Sync`, so it raises nothing more and neither do we.
            if !sync {
                return None;
            }
        } else {
            self.pending.push_back(Await::plain(What::Poison(error.freeze())));
            wire::poison_parse(&mut poison);
        }
        if sync {
            wire::message(&mut poison, b'S', |_| {});
            self.pending.push_back(Await::plain(What::Sync));
        } else if flush {
            wire::message(&mut poison, b'H', |_| {});
        }
        self.skipping = !sync;
        Some(("error in place of a refused execution", Frame::new(poison.freeze())))
    }
}

impl Language for PostgresDialect {
    fn masks(&mut self, masks: &Arc<Masks>) {
        if !Arc::ptr_eq(masks, &self.masker.masks) {
            self.masker.masks = masks.clone();
        }
    }

    fn mask(&mut self, reply: &mut BytesMut, masks: &Arc<Masks>, out: &mut BytesMut) -> Result<Exchange, Unmaskable> {
        // Results described from here on are masked by these rules, which may be newer than the request.
        self.masks(masks);
        self.replies(reply, out)
    }

    fn shape(&self, operation: &Operation) -> Option<Shape> {
        self.shape_of(operation)
    }

    fn place(&self, operation: &Operation) -> Place {
        self.place_of(operation)
    }

    fn past(&self) -> Digest {
        self.past_of_submitted()
    }

    fn answers(&mut self, out: &mut BytesMut) {
        out.unsplit(std::mem::take(&mut self.answers));
    }
}

impl Dialect for PostgresDialect {
    fn request(&mut self, input: &mut BytesMut) -> Result<Step, Malformed> {
        match self.phase {
            Phase::Startup { .. } => self.startup(input),
            Phase::Entering(_) | Phase::Connecting(_) => Ok(self.resume()),
            Phase::Claiming(_) => self.claiming(input),
            Phase::Authentication => self.authentication(input),
            Phase::LookingUp(_) | Phase::LookingInside(_) | Phase::Previewing(_) => Ok(Step::Wait),
            Phase::Ready => self.typed(input),
            Phase::Cancelling if input.is_empty() => Ok(Step::Wait),
            Phase::Cancelling => Err(Malformed("bytes follow a cancel request".into())),
            Phase::Over => Ok(Step::End("the session ended")),
        }
    }

    fn needs(&self) -> Option<&str> {
        match (&self.handed, &self.login) {
            (Handed::Needed(name), _) => Some(name),
            (Handed::Nothing, Login::Stored { credential, .. }) if matches!(self.phase, Phase::Authentication) => {
                Some(credential)
            }
            _ => None,
        }
    }

    fn opened(&mut self, opened: Result<Credential, String>) {
        self.handed = Handed::Opened(opened);
    }

    fn secured(&mut self, side: Side, with: &Secured) {
        match side {
            Side::Client => self.privacy.client = Some(with.clone()),
            Side::Backend => self.privacy.backend = Some(with.clone()),
        }
    }

    fn ask_for_tls(&mut self) -> Option<Frame> {
        Some(Frame::new(Bytes::from_static(&startup::SSL_REQUEST)))
    }

    fn answered_tls(&mut self, answer: &[u8]) -> Result<bool, Unmaskable> {
        match answer {
            b"S" => Ok(true),
            b"N" => Ok(false),
            // An error from before TLS could be anybody's, and the client would believe it (CVE-2024-10977).
            [b'E', ..] => Err(Unmaskable::Malformed("it answered the request for TLS with an error".into())),
            [b'S' | b'N', ..] => Err(Unmaskable::Malformed("bytes follow its answer to the request for TLS".into())),
            _ => Err(Unmaskable::Malformed("it answered the request for TLS with something else".into())),
        }
    }

    fn alpn(&self) -> &'static [u8] {
        b"postgresql"
    }

    fn forwarded(&mut self) {
        self.set_held(false);
        let Some(submitted) = self.submitted.take() else { return };
        match submitted.kind {
            Submission::Connect => self.phase = Phase::Authentication,
            Submission::Cancel => self.phase = Phase::Cancelling,
            Submission::Simple | Submission::Extended { .. } => {}
        }
        if let Some(portal) = &submitted.runs {
            let is_executed = |one: &Await| matches!(one.what, What::Query(_) | What::Execute(_));
            self.ran(portal, submitted.awaited.iter().any(is_executed));
        }
        if !self.skipping {
            self.pending.extend(submitted.awaited);
            return;
        }
        // The backend failed something meanwhile and discards this too, up to the `Sync` that may be in it.
        let mut awaited = VecDeque::from(submitted.awaited);
        let (discarded, found) = discard_to_sync(&mut awaited);
        self.discarded += self.names.undo_all(discarded.into_iter());
        self.pending.extend(awaited);
        self.skipping = !found;
    }

    fn refused(&mut self, refusal: &Refusal) -> Option<(&'static str, Frame)> {
        self.set_held(false);
        let submitted = self.submitted.take()?;
        self.names.undo_all(submitted.awaited.into_iter());
        match submitted.kind {
            Submission::Connect => {
                let error = self.error_for(refusal, "FATAL", wire::INVALID_AUTHORIZATION);
                self.say_in_turn(error.freeze());
                self.phase = Phase::Over;
                None
            }
            Submission::Cancel => {
                self.phase = Phase::Over;
                None
            }
            kind @ (Submission::Simple | Submission::Extended { .. })
                if refusal.rolls_back && !self.skipping && (self.transaction != b'I' || !self.pending.is_empty()) =>
            {
                let error = self.error_for(refusal, "ERROR", wire::INSUFFICIENT_PRIVILEGE);
                self.roll_back(error, kind)
            }
            Submission::Simple => {
                let error = self.error_for(refusal, "ERROR", wire::INSUFFICIENT_PRIVILEGE);
                self.refuse_simple(error)
            }
            Submission::Extended { sync, flush } => {
                let error = self.error_for(refusal, "ERROR", wire::INSUFFICIENT_PRIVILEGE);
                self.refuse_extended(error, sync, flush)
            }
        }
    }

    fn holding(&mut self, notice: &str) {
        self.set_held(true);
        if !self.is_established() {
            // Before authentication a client takes no notice: libpq gives up when one comes.
            return;
        }
        wire::report(&mut self.answers, b'N', "NOTICE", wire::NOTICE, &format!("holdpoint: {notice}"), None);
    }

    fn preview(&mut self) -> Preview {
        self.look()
    }

    fn is_previewing(&self) -> bool {
        matches!(self.phase, Phase::Previewing(_))
    }

    fn farewell(&mut self, why: &str) {
        let code = if why.contains("stopping") { wire::ADMIN_SHUTDOWN } else { wire::PROTOCOL_VIOLATION };
        wire::report(&mut self.answers, b'E', "FATAL", code, &format!("holdpoint: {why}"), None);
        self.phase = Phase::Over;
    }

    fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Ready => self.pending.is_empty() && self.transaction == b'I' && self.bundle.len == 0,
            Phase::Over => true,
            _ => false,
        }
    }

    fn is_established(&self) -> bool {
        !matches!(self.phase, Phase::Startup { .. } | Phase::Claiming(_) | Phase::Authentication)
    }

    fn appetite(&self) -> usize {
        match self.phase {
            Phase::Startup { .. } | Phase::Claiming(_) => wire::LONGEST_STARTUP,
            _ => self.need,
        }
    }

    fn interrupt(&self) -> Arc<Notify> {
        self.interrupt.clone()
    }
}
