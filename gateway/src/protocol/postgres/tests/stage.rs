//! One connection on a stage: a client and a scripted backend with the whole gateway between them, in memory.
//!
//! A script is what happens, and what is seen after each step, as one text:
//!
//! ```text
//! > Q SELECT 1                     the client sends (in one piece)
//! >> Q SELECT 1                    the backend receives
//! << D 1 | C SELECT 1 | Z I        the backend sends
//! < D 1 | C SELECT 1 | Z I         the client receives
//! ! ada approves                   somebody does something
//! = #1 approved                    the record says something about requests, incidents and the end
//! ```
//!
//! Time is paused: it moves where a script says `! wait`, and a millisecond between steps.
//! A request's short form is written `#1`, `#2`, ….

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
    time,
};

use super::notation::{self, Ear};
use crate::{
    drain::{self, Stop},
    gate::{
        Connection,
        samples::{Dialled, Ground, Road, approver},
    },
    operation::{RequestId, SessionId},
    protocol::{Protocol as _, postgres::Postgres},
    record::{entry::Body, verify::verify},
};

/// How often a waiting client is reminded: the setting's default.
const REMIND: Duration = Duration::from_secs(15);

/// How the bytes of each step arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pieces {
    /// In one.
    Whole,
    /// This step (by number) in two, cut before this byte.
    Cut(usize, usize),
    /// Byte by byte.
    Bytes,
}

/// Runs `script` on a connection that is logged in, and compares everything that was seen.
#[track_caller]
pub(super) fn check(policy: &str, script: &str) {
    run(policy, script, true, Pieces::Whole);
}

/// Runs `script` from the first byte of a connection.
#[track_caller]
pub(super) fn check_from_start(policy: &str, script: &str) {
    run(policy, script, false, Pieces::Whole);
}

/// Runs `script` as a whole, byte by byte, and cut at every place where a step can be cut: all look the same.
#[track_caller]
pub(super) fn check_in_pieces(policy: &str, script: &str, logged_in: bool) {
    let steps = run(policy, script, logged_in, Pieces::Whole);
    run(policy, script, logged_in, Pieces::Bytes);
    for (step, length) in steps.into_iter().enumerate() {
        for at in 1..length {
            run(policy, script, logged_in, Pieces::Cut(step, at));
        }
    }
}

/// Answers how many bytes each step sent.
#[track_caller]
fn run(policy: &str, script: &str, logged_in: bool, pieces: Pieces) -> Vec<usize> {
    let lines: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs nothing");
    let (seen, lengths) = runtime.block_on(perform(policy, &lines, logged_in, pieces));
    let (seen, expected) = (seen.join("\n"), lines.join("\n"));
    assert!(seen == expected, "{pieces:?}: expected\n{}\n\nbut saw\n{}\n", shortened(&expected), shortened(&seen));
    lengths
}

/// A transcript without the inside of its longest lines.
fn shortened(transcript: &str) -> String {
    let cut = |line: &str| match line.char_indices().nth(400) {
        Some((at, _)) => format!("{}… ({} bytes)\n", &line[..at], line.len()),
        None => format!("{line}\n"),
    };
    transcript.lines().map(cut).collect()
}

async fn perform(policy: &str, lines: &[&str], logged_in: bool, pieces: Pieces) -> (Vec<String>, Vec<usize>) {
    let mut stage = Stage::new(policy);
    if logged_in {
        stage.log_in().await;
    }
    let (mut seen, mut lengths) = (Vec::new(), Vec::new());
    for line in lines {
        if line.starts_with("# ") {
            seen.push((*line).to_owned());
            continue;
        }
        let Some(sent) = stage.step_in(line, cut(pieces, lengths.len())).await else { continue };
        lengths.push(sent);
        seen.push((*line).to_owned());
        seen.extend(stage.look().await);
    }
    stage.leave().await;
    (seen, lengths)
}

/// How a step's bytes are cut.
fn cut(pieces: Pieces, step: usize) -> Option<usize> {
    match pieces {
        Pieces::Whole => None,
        Pieces::Cut(at, place) => (at == step).then_some(place),
        Pieces::Bytes => Some(0),
    }
}

/// A connection with both its ends.
pub(super) struct Stage {
    pub(super) ground: Ground,
    protocol: Arc<Postgres>,
    task: JoinHandle<()>,
    pub(super) client: Option<DuplexStream>,
    dialled: Dialled,
    backend: Option<DuplexStream>,
    client_ear: Ear,
    backend_ear: Ear,
    pub(super) session: SessionId,
    /// How many of the session's entries were looked at.
    noted: usize,
    requests: Vec<RequestId>,
    /// The backend of a connection that carried a cancel request.
    cancelled: Vec<Dialled>,
    stop: Stop,
}

impl Stage {
    pub(super) fn new(policy: &str) -> Self {
        let ground = Ground::new(policy);
        drop(tokio::spawn(ground.services.desk.clone().keep_time()));
        let (protocol, connection) = (Arc::new(Postgres::new()), ground.connection());
        let session = connection.id;
        let (stop, drain) = drain::channel();
        let Road { gate, requests, client, backend } = ground.road(connection);
        let task = tokio::spawn(protocol.clone().serve(requests, gate, drain, REMIND));
        Self {
            ground,
            protocol,
            task,
            client: Some(client),
            dialled: backend,
            backend: None,
            client_ear: Ear::of_client(),
            backend_ear: Ear::of_backend(),
            session,
            noted: 1,
            requests: Vec::new(),
            cancelled: Vec::new(),
            stop,
        }
    }

    pub(super) async fn log_in(&mut self) {
        self.client_sends("startup user=bot database=shop", None).await;
        self.look().await;
        self.backend_sends("R | K | Z I", None).await;
        assert_eq!(self.look().await, ["< R | K | Z I"]);
    }

    /// One step of a script.
    pub(super) async fn step(&mut self, line: &str) {
        assert!(self.step_in(line, None).await.is_some(), "`{line}` is no step");
    }

    /// How many bytes were sent; `None` for a line that says what is seen.
    async fn step_in(&mut self, line: &str, cut: Option<usize>) -> Option<usize> {
        let (side, words) = line.split_once(' ')?;
        match side {
            ">" => Some(self.client_sends(words, cut).await),
            "<<" => Some(self.backend_sends(words, cut).await),
            "!" => {
                self.happens(words).await;
                Some(0)
            }
            _ => None,
        }
    }

    async fn client_sends(&mut self, words: &str, cut: Option<usize>) -> usize {
        for _ in words.split(" | ").filter(|word| ["SSL", "GSS"].contains(word)) {
            self.client_ear.expect_single();
        }
        let bytes = notation::client(words, &self.client_ear.key);
        send(self.client.as_mut().expect("the client is there"), &bytes, cut).await
    }

    async fn backend_sends(&mut self, words: &str, cut: Option<usize>) -> usize {
        send(self.backend.as_mut().expect("the backend was dialled"), &notation::backend(words), cut).await
    }

    async fn happens(&mut self, what: &str) {
        let words: Vec<&str> = what.split(' ').collect();
        match words[..] {
            [name, "approves", "as", "the", "client", "cancels"] => {
                let [view] = &self.ground.services.desk.list()[..] else { panic!("{what}: one request is open") };
                self.ground.services.desk.decide(&view.short, &approver(name), true, None, None).expect("decides");
                let connection = self.ground.connection();
                let owner = format!("{} {}", connection.workload.path, connection.process.uid);
                let key = self.client_ear.key.clone().into();
                let session = self.protocol.0.cancels.find(&key, &owner).expect("the key is known");
                assert!(session.withdraw(), "still held");
            }
            [name, verb @ ("approves" | "denies"), ..] => {
                let desk = &self.ground.services.desk;
                let [view] = &desk.list()[..] else { panic!("{what}: one request is open") };
                let reason = words.get(2..).filter(|words| !words.is_empty()).map(|words| words.join(" "));
                desk.decide(&view.short, &approver(name), verb == "approves", reason, None).expect("decides");
            }
            ["wait", time] => time::sleep(humantime::parse_duration(time).expect("a duration")).await,
            ["client", "hangs", "up"] => drop(self.client.take()),
            ["backend", "hangs", "up"] => drop(self.backend.take()),
            ["cancel"] => self.cancels(|_| {}).await,
            ["cancel", "by", "another", "workload"] => {
                self.cancels(|connection| connection.workload.path.push_str("-other")).await;
            }
            ["cancel", "by", "another", "user"] => self.cancels(|connection| connection.process.uid += 1).await,
            ["policies", "mask", "cards"] => self.ground.rewrite(&super::masking::by_content()),
            // The destination is no resource's any more.
            ["policies", "forget"] => self.ground.rewrite(&super::REFUSING.replace("orders-db", "another")),
            ["policies", "refuse"] => self.ground.rewrite(super::REFUSING),
            ["disk", "fails"] => self.ground.services.recorder.fail_from_now_on(),
            ["gateway", "stops"] => self.stop.stop(),
            ["desk", "stops"] => self.ground.services.desk.stop(),
            _ => panic!("`{what}` cannot happen"),
        }
    }

    /// Another connection that carries a cancel request with the key that the client was given.
    async fn cancels(&mut self, who: impl FnOnce(&mut Connection)) {
        let mut connection = self.ground.connection();
        who(&mut connection);
        let Road { gate, requests, mut client, backend } = self.ground.road(connection);
        let (_stop, drain) = drain::channel();
        let task = tokio::spawn(self.protocol.clone().serve(requests, gate, drain, REMIND));
        send(&mut client, &notation::client("cancel", &self.client_ear.key), None).await;
        settle().await;
        self.cancelled.push(backend);
        drop(client);
        task.await.expect("no panic");
    }

    /// What was seen since the last look, as a script's lines.
    pub(super) async fn look(&mut self) -> Vec<String> {
        settle().await;
        let mut lines = Vec::new();
        if let Some(backend) = self.dialled.take() {
            self.backend = Some(backend);
        }
        lines.extend(hear(&mut self.backend, &mut self.backend_ear, ">>").await);
        for cancelled in self.cancelled.drain(..) {
            let lone = hear(&mut cancelled.take(), &mut Ear::of_backend(), ">> on its own:").await;
            lines.extend(lone.into_iter().filter(|line| !line.ends_with("(end)")));
        }
        lines.extend(hear(&mut self.client, &mut self.client_ear, "<").await);
        let notes = self.notes();
        lines.extend(notes);
        lines.into_iter().map(|line| self.with_numbers(line)).collect()
    }

    /// What the record says since the last look, beside the bytes.
    fn notes(&mut self) -> Vec<String> {
        let recorded = self.ground.recorded(self.session);
        let fresh = recorded.get(self.noted..).unwrap_or_default();
        let note = |requests: &mut Vec<RequestId>, body: &Body| match body {
            Body::Requested(requested) => {
                requests.push(requested.request);
                let text = String::from_utf8_lossy(&requested.asked.text).into_owned();
                Some(format!("= held as {}: {text}", requested.request.short()))
            }
            Body::Closed { request, outcome } => Some(format!("= {} {}", request.short(), outcome.as_str())),
            Body::Incident { what } => Some(format!("= incident: {what}")),
            Body::Disconnected { reason } => Some(format!("= ended: {reason}")),
            _ => None,
        };
        let notes = fresh.iter().filter_map(|body| note(&mut self.requests, body)).collect();
        self.noted = recorded.len();
        notes
    }

    fn with_numbers(&self, line: String) -> String {
        let numbered = self.requests.iter().enumerate();
        numbered.fold(line, |line, (number, request)| line.replace(&request.short(), &format!("#{}", number + 1)))
    }

    /// The client goes. Nothing was written before it was recorded, and the record is whole.
    pub(super) async fn leave(mut self) -> Ground {
        let _ = hear(&mut self.client, &mut self.client_ear, "<").await;
        drop((self.client.take(), self.backend.take()));
        self.task.await.expect("no panic");
        self.ground.assert_recorded_first();
        let records = self.ground.services.recorder.records().expect("readable");
        let found = verify(&records, None).expect("readable");
        assert!(found.is_whole(), "{:#?}", found.findings);
        self.ground
    }
}

/// Lets everything that can happen now happen: paused time moves only when nothing else can.
pub(super) async fn settle() {
    time::sleep(Duration::from_millis(1)).await;
}

async fn send(to: &mut DuplexStream, bytes: &[u8], cut: Option<usize>) -> usize {
    let pieces: Vec<&[u8]> = match cut {
        None => vec![bytes],
        Some(0) => bytes.chunks(1).collect(),
        Some(at) => vec![&bytes[..at], &bytes[at..]],
    };
    for piece in pieces {
        // An end that was closed meanwhile takes nothing; what is seen then says why.
        let _ = to.write_all(piece).await;
        settle().await;
    }
    bytes.len()
}

/// What arrived at one end, as one line, and another if it was closed.
async fn hear(end: &mut Option<DuplexStream>, ear: &mut Ear, side: &str) -> Vec<String> {
    let Some(stream) = end else { return Vec::new() };
    let (mut bytes, mut closed) = (BytesMut::new(), false);
    while !closed {
        match time::timeout(Duration::from_millis(1), stream.read_buf(&mut bytes)).await {
            Ok(read) => closed = read.expect("memory is readable") == 0,
            Err(_) => break,
        }
    }
    let mut lines = Vec::new();
    let heard = ear.hear(&bytes);
    if !heard.is_empty() {
        lines.push(format!("{side} {}", notation::without_lookups(heard).join(" | ")));
    }
    if closed {
        *end = None;
        lines.push(format!("{side} (end)"));
    }
    lines
}
