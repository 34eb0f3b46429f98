//! What stands around a gate, for tests: real services over memory, and streams that watch what is written to them.
//!
//! *Invariant:* a [`Watched`] stream notes a violation when bytes are written to it that the record did not hold at
//! that moment, towards either side. [`Ground::assert_recorded_first`] is where a test asks.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

use super::{Connection, Gate, Services};
use crate::{
    config::ReadDurability,
    credentials::{FileKey, Keys, Vault},
    hold::Desk,
    mask::Salt,
    net::{ClientAddr, Dialer, OriginalDst, ReadHalf, split, tls::Tls},
    operation::{ProtocolName, SessionId},
    people::Person,
    policy::Policies,
    record::{Recorder, entry::Body, samples},
};

/// Where [`Ground::connection`] goes; resources in tests are here.
pub(crate) const BACKEND: ([u8; 4], u16) = ([10, 0, 3, 7], 5432);

/// How much a pipe between a test and the gateway takes before the writer waits, in bytes.
const PIPE: usize = 64 * 1024;

/// Services over memory, with policies in a directory of their own.
pub(crate) struct Ground {
    pub(crate) services: Services,
    files: TempDir,
    violations: Arc<Mutex<Vec<String>>>,
}

/// A connection's gate with the far ends of its streams.
pub(crate) struct Road {
    pub(crate) gate: Gate,
    /// Where the gateway reads the client's bytes.
    pub(crate) requests: ReadHalf,
    /// The client's end.
    pub(crate) client: DuplexStream,
    /// The backend's end, once it was dialled.
    pub(crate) backend: Dialled,
}

/// The backend's end of a connection that may not have been made.
#[derive(Clone, Default)]
pub(crate) struct Dialled(Arc<Mutex<Option<DuplexStream>>>);

impl Dialled {
    /// Takes the end, if the backend was dialled since.
    pub(crate) fn take(&self) -> Option<DuplexStream> {
        self.0.lock().expect("no test panics while it holds this lock").take()
    }
}

impl Ground {
    /// With these policies in force.
    pub(crate) fn new(policies: &str) -> Self {
        let files = TempDir::new().expect("a temporary directory");
        std::fs::write(files.path().join("policies.yaml"), in_clear(policies)).expect("written");
        let policies = Policies::open(files.path(), Box::new(|_| Vec::new())).expect("the policies are right");
        let recorder = Recorder::in_memory();
        let services = Services {
            desk: Desk::open_on(recorder.clone()).expect("memory is readable"),
            recorder,
            policies: Arc::new(policies),
            salt: Salt::new(&[7; 32]),
            tls: Tls::new(None),
            vault: Vault::open_at(
                &files.path().join("vault"),
                Keys::one(FileKey::own(&files.path().join("vault.key"))),
            )
            .expect("an empty one"),
            durability: ReadDurability::Written,
        };
        Self { services, files, violations: Arc::default() }
    }

    /// Replaces the policies and loads them.
    pub(crate) fn rewrite(&self, policies: &str) {
        std::fs::write(self.files.path().join("policies.yaml"), in_clear(policies)).expect("written");
        assert!(self.services.policies.reload().expect("the policies are right").changed);
    }

    /// A connection of the sample workload to the resource at [`BACKEND`].
    pub(crate) fn connection(&self) -> Connection {
        let Body::Connected(facts) = samples::connected().body else { unreachable!("the sample is one") };
        let destination = BACKEND.into();
        Connection {
            id: SessionId::now(),
            workload: facts.workload,
            process: facts.process,
            client: ClientAddr(([127, 0, 0, 1], 50_000).into()),
            destination: OriginalDst(destination),
            host: None,
            learnt: false,
            resource: self.services.policies.current().resource_for(destination, None).cloned(),
            protocol: ProtocolName::from_static("postgres"),
        }
    }

    /// Opens the gate for `connection`, over pipes in memory.
    pub(crate) fn road(&self, connection: Connection) -> Road {
        let connection = Arc::new(connection);
        let (near, client) = duplex(PIPE);
        let (requests, replies) = split(self.watched(near, Towards::Client, connection.id));
        let backend = Dialled::default();
        let dialer = {
            let (backend, violations) = (backend.clone(), self.violations.clone());
            let (recorder, session) = (self.services.recorder.clone(), connection.id);
            Dialer::new(move || {
                let (inner, far) = duplex(PIPE);
                *backend.0.lock().expect("no test panics while it holds this lock") = Some(far);
                let (recorder, violations) = (recorder.clone(), violations.clone());
                let near = Watched { inner, towards: Towards::Backend, recorder, session, sent: 0, violations };
                Box::pin(async move { Ok(split(near)) })
            })
        };
        let gate = Gate::open(connection, self.services.clone(), replies, dialer).expect("recorded");
        Road { gate, requests, client, backend }
    }

    fn watched(&self, inner: DuplexStream, towards: Towards, session: SessionId) -> Watched {
        let (recorder, violations) = (self.services.recorder.clone(), self.violations.clone());
        Watched { inner, towards, recorder, session, sent: 0, violations }
    }

    /// What the record holds of `session`, in order.
    pub(crate) fn recorded(&self, session: SessionId) -> Vec<Body> {
        bodies(&self.services.recorder, session)
    }

    /// Whether the record has these bytes anywhere.
    pub(crate) fn has_on_record(&self, bytes: &[u8]) -> bool {
        let records = self.services.recorder.records().expect("readable");
        let has = |wire: &[u8]| wire.windows(bytes.len()).any(|window| window == bytes);
        records.entries(1).any(|one| match one.expect("readable").entry.body {
            Body::Operation(operated) => has(&operated.asked.wire) || has(&operated.asked.text),
            Body::Response { wire, .. } | Body::Control { wire, .. } | Body::Continued { wire, .. } => has(&wire),
            _ => false,
        })
    }

    /// Everything that was written to either side was on the record before.
    #[track_caller]
    pub(crate) fn assert_recorded_first(&self) {
        let violations = self.violations.lock().expect("no test panics while it holds this lock");
        assert!(violations.is_empty(), "written before it was recorded: {violations:#?}");
    }
}

/// What a backend in memory says is what its script says, so it is not asked for TLS unless the policies speak of it.
fn in_clear(policies: &str) -> String {
    if policies.contains("tls:") {
        return policies.to_owned();
    }
    policies.replace("\nendpoints:", "\ntls: { upstream: disable }\nendpoints:")
}

/// An approver.
pub(crate) fn approver(name: &str) -> Person {
    let uid = name.bytes().fold(2000, |uid, byte| uid + u32::from(byte));
    Person::machine(uid, name.to_owned(), vec!["dba".to_owned()])
}

fn bodies(recorder: &Recorder, session: SessionId) -> Vec<Body> {
    let records = recorder.records().expect("readable");
    records.session(session, 0).map(|one| one.expect("readable").entry.body).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Towards {
    Client,
    Backend,
}

/// The gateway's end of a pipe.
struct Watched {
    inner: DuplexStream,
    towards: Towards,
    recorder: Recorder,
    session: SessionId,
    sent: usize,
    violations: Arc<Mutex<Vec<String>>>,
}

impl Watched {
    /// What the record says has been sent this way. `None` stands for a byte of a secret.
    fn on_record(&self) -> Vec<Option<u8>> {
        let mut sent = Vec::new();
        for body in bodies(&self.recorder, self.session) {
            let wire = match (self.towards, body) {
                (Towards::Client, Body::Response { wire, .. }) => wire,
                (Towards::Backend, Body::Operation(operated)) if operated.forwarded => operated.asked.wire,
                (Towards::Backend, Body::Control { wire, .. } | Body::Continued { wire, .. }) => wire,
                _ => continue,
            };
            match left_out(&wire) {
                Some(count) => sent.extend(std::iter::repeat_n(None, count)),
                None => sent.extend(wire.iter().copied().map(Some)),
            }
        }
        sent
    }

    fn check(&self, bytes: &[u8]) {
        let recorded = self.on_record();
        let rest = recorded.get(self.sent..).unwrap_or_default();
        let agrees = bytes.len() <= rest.len()
            && bytes.iter().zip(rest).all(|(sent, recorded)| recorded.is_none_or(|recorded| recorded == *sent));
        if !agrees {
            let what = format!("to the {:?}: {}", self.towards, String::from_utf8_lossy(bytes));
            self.violations.lock().expect("no test panics while it holds this lock").push(what);
        }
    }
}

/// How many bytes a secret's stand-in stands for.
fn left_out(wire: &[u8]) -> Option<usize> {
    let words = str::from_utf8(wire).ok()?.strip_suffix(" bytes left out]")?;
    words.rsplit_once(", ")?.1.parse().ok()
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(buf);
        let count = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.sent += count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
