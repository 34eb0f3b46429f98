//! The order of things, stage by stage: what reaches a backend was judged, settled and recorded, in this order.
//!
//! Data through one door: [`check`] sends statements and compares what became of each, what the backend got and what
//! the record says. The streams watch that nothing is written before it is recorded; see [`samples`](super::samples).

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, DuplexStream},
    time,
};

use super::{
    samples::{Ground, Road, approver},
    *,
};
use crate::{
    hold::Decided,
    operation::{Parameter, SessionId},
    protocol::{Protocol as _, postgres::Postgres},
    record::entry::Outcome,
    workload::{Process, Workload},
};

/// Reads and inserts pass, `schema` waits for people, `delete` comes again, the rest is refused.
const POLICY: &str = "
resource: orders-db
protocol: postgres
endpoints: ['10.0.3.7:5432']
default: refuse
approval: { from: [{ group: dba }] }
---
policy: reads
match: { resource: orders-db, effects: [read, session] }
decide: allow
---
policy: inserts
match: { resource: orders-db, effects: [write] }
decide: allow
---
policy: shape
match: { resource: orders-db, effects: [schema] }
decide: hold
---
policy: rows
match: { resource: orders-db, effects: [delete] }
decide: hold
on_hold: retry
";

const REFUSING: &str = "
resource: orders-db
protocol: postgres
endpoints: ['10.0.3.7:5432']
default: refuse
";

/// A language of which nothing but its text is known.
struct Plain;

impl Language for Plain {
    fn masks(&mut self, _masks: &Arc<Masks>) {}

    fn mask(&mut self, _: &mut BytesMut, _: &Arc<Masks>, _: &mut BytesMut) -> Result<Exchange, Unmaskable> {
        Ok(Exchange::default())
    }

    fn past(&self) -> Digest {
        Digest::of(b"")
    }

    fn answers(&mut self, _out: &mut BytesMut) {}
}

/// What a client would send; the frame is the text alone, since no backend reads it here.
fn statement(text: &str) -> (Operation, Frame) {
    (Postgres::new().operation(text, &Masks::default()), Frame::new(Bytes::copy_from_slice(text.as_bytes())))
}

/// One connection, driven by hand.
struct Hand {
    ground: Ground,
    road: Road,
    backend: Option<DuplexStream>,
    _replies: Option<ReadHalf>,
    held: Option<Box<Held>>,
}

impl Hand {
    fn new(policy: &str) -> Self {
        let ground = Ground::new(policy);
        drop(tokio::spawn(ground.services.desk.clone().keep_time()));
        let road = ground.road(ground.connection());
        Self { ground, road, backend: None, _replies: None, held: None }
    }

    /// Another connection over the same services.
    fn beside(self, connection: Connection) -> Self {
        let road = self.ground.road(connection);
        Self { road, backend: None, _replies: None, held: None, ..self }
    }

    fn session(&self) -> SessionId {
        self.road.gate.connection().id
    }

    async fn send(&mut self, text: &str) -> String {
        let (operation, frame) = statement(text);
        self.pass(operation, frame).await
    }

    async fn pass(&mut self, operation: Operation, frame: Frame) -> String {
        let judged = self.road.gate.judge(operation, frame, &Plain);
        match self.road.gate.settle(judged).await {
            Settling::Settled(settled) => self.record(*settled).await,
            Settling::Held(held) => {
                let words = format!("held as {}", held.request().short());
                self.held = Some(held);
                words
            }
        }
    }

    async fn record(&mut self, settled: Settled) -> String {
        match self.road.gate.record(settled).await {
            Recorded::Cleared(cleared) => {
                if let Some(replies) = self.road.gate.dial().await.expect("memory is reachable") {
                    self._replies = Some(replies);
                    self.backend = self.road.backend.take();
                }
                self.road.gate.forward(cleared).expect("the pipe takes it");
                "forwarded".to_owned()
            }
            Recorded::Refused(refusal) => format!("refused by {}: {}", refusal.rule, refusal.reason),
        }
    }

    /// What the backend got since it was last asked.
    async fn backend_got(&mut self) -> String {
        let Some(backend) = &mut self.backend else { return String::new() };
        let mut got = vec![0; 4096];
        let count = time::timeout(Duration::ZERO, backend.read(&mut got)).await.map_or(0, |read| read.expect("reads"));
        String::from_utf8_lossy(&got[..count]).into_owned()
    }

    /// The operations on the record, as `forwarded|refused TEXT`.
    fn operations(&self) -> Vec<String> {
        let recorded = self.ground.recorded(self.session());
        let operations = recorded.into_iter().filter_map(|body| match body {
            Body::Operation(operated) => Some(operated),
            _ => None,
        });
        let words = |operated: Box<Operated>| {
            let text = String::from_utf8_lossy(&operated.asked.text).into_owned();
            format!("{} {text}", if operated.forwarded { "forwarded" } else { "refused" })
        };
        operations.map(words).collect()
    }

    /// Decides on the one open request, and lets that arrive.
    async fn decide(&self, approve: bool) {
        let [view] = &self.ground.services.desk.list()[..] else { panic!("one request is open") };
        let desk = &self.ground.services.desk;
        let decided = desk.decide(&view.short, &approver("ada"), approve, None, Some(&view.digest.to_string()));
        let expected = if approve { Decided::Approved } else { Decided::Denied };
        assert_eq!(decided.expect("decides"), expected);
        time::sleep(Duration::from_millis(1)).await;
    }

    fn outcomes(&self) -> Vec<Outcome> {
        let closed = |body| match body {
            Body::Closed { outcome, .. } => Some(outcome),
            _ => None,
        };
        self.ground.recorded(self.session()).into_iter().filter_map(closed).collect()
    }
}

/// Sends each statement; compares what became of it. What was forwarded, and nothing else, reaches the backend, and
/// the record says which.
async fn check(policy: &str, script: &[(&str, &str)]) {
    let mut hand = Hand::new(policy);
    let (mut expected_bytes, mut expected_operations) = (String::new(), Vec::new());
    for (text, expected) in script {
        assert_eq!(hand.send(text).await, *expected, "{text}");
        let forwarded = *expected == "forwarded";
        expected_bytes.push_str(if forwarded { text } else { "" });
        expected_operations.push(format!("{} {text}", if forwarded { "forwarded" } else { "refused" }));
    }
    assert_eq!(hand.backend_got().await, expected_bytes);
    assert_eq!(hand.operations(), expected_operations);
    hand.ground.assert_recorded_first();
}

// ---- verdicts ----

#[tokio::test(start_paused = true)]
async fn what_policy_allows_is_forwarded_and_the_rest_is_not() {
    let refused = "refused by default of orders-db: no policy matches, and orders-db refuses by default";
    check(
        POLICY,
        &[
            ("SELECT 1", "forwarded"),
            ("GRANT ALL ON orders TO bot", refused),
            ("INSERT INTO orders VALUES (1)", "forwarded"),
            ("SELECT 2", "forwarded"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_observes_is_on_the_record_and_stops_nothing() {
    let observing = format!(
        "{POLICY}\n---\npolicy: no-reads\nmode: observe\nmatch: {{ resource: orders-db, effects: [read] }}\ndecide: refuse\n"
    );
    let mut hand = Hand::new(&observing);
    assert_eq!(hand.send("SELECT 1 FROM orders").await, "forwarded");
    let recorded = hand.ground.recorded(hand.session());
    let observed = recorded.iter().find_map(|body| match body {
        Body::Operation(operated) => operated.asked.observed.clone(),
        _ => None,
    });
    assert_eq!(observed, Some((Decide::Refuse, "no-reads".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_seen_by_the_next_operation_of_a_live_connection() {
    let mut hand = Hand::new(POLICY);
    assert_eq!(hand.send("SELECT 1").await, "forwarded");
    hand.ground.rewrite(REFUSING);
    let refused = "refused by default of orders-db: no policy matches, and orders-db refuses by default";
    assert_eq!(hand.send("SELECT 1").await, refused);
    // The resource itself is gone: nothing may go there any more.
    hand.ground.rewrite(&REFUSING.replace("orders-db", "another").replace("10.0.3.7", "10.0.3.8"));
    let gone = "refused by no resource: no resource names this destination, so nothing may go there";
    assert_eq!(hand.send("SELECT 1").await, gone);
    hand.ground.rewrite(POLICY);
    assert_eq!(hand.backend_got().await, "SELECT 1");
}

#[tokio::test(start_paused = true)]
async fn a10_no_verdict_is_remembered_by_shape() {
    let picky = format!(
        "{POLICY}\n---\npolicy: big\nmatch: {{ resource: orders-db, effects: [write] }}\nwhen: 'operation.text.contains(\"666\")'\ndecide: refuse\n"
    );
    check(
        &picky,
        &[
            ("INSERT INTO orders VALUES (1)", "forwarded"),
            ("INSERT INTO orders VALUES (666)", "refused by big: policy big refuses this (write)"),
            ("INSERT INTO orders VALUES (2)", "forwarded"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_protocol_forbids_no_policy_allows() {
    let mut hand = Hand::new(POLICY);
    let (operation, frame) = statement("SELECT 1");
    let settled = hand.road.gate.forbid(operation, frame, "never");
    assert_eq!(hand.record(settled).await, "refused by postgres protocol: never");
    assert_eq!(hand.operations(), ["refused SELECT 1"]);
    assert!(hand.road.backend.take().is_none(), "nobody dialled");
}

// ---- the record ----

#[tokio::test(start_paused = true)]
async fn v17_what_cannot_be_recorded_is_refused_and_never_forwarded() {
    let mut hand = Hand::new(POLICY);
    assert_eq!(hand.send("SELECT 1").await, "forwarded");
    hand.ground.services.recorder.fail_from_now_on();
    let broken = "cannot write the record in memory: told to fail; operations are refused until a write succeeds again";
    let refused =
        format!("refused by record: the gateway cannot record this operation, so it does not forward it: {broken}");
    for text in ["SELECT 2", "INSERT INTO orders VALUES (1)"] {
        assert_eq!(hand.send(text).await, refused);
    }
    let unasked = hand.send("DROP TABLE orders").await;
    assert_eq!(unasked, refused, "a hold that cannot be recorded is a refusal that cannot either");
    assert!(hand.ground.services.desk.list().is_empty());
    let frame = Frame::new(Bytes::from_static(b"sync"));
    assert!(hand.road.gate.control("sync", &frame).await.is_err());
    assert!(hand.road.gate.continuation(&frame).await.is_err());
    assert_eq!(hand.backend_got().await, "SELECT 1");
}

#[tokio::test(start_paused = true)]
async fn v17_a_reply_that_cannot_be_recorded_is_not_deliverable() {
    let mut hand = Hand::new(POLICY);
    let masked = |wire: &'static [u8]| Masked { wire: Bytes::from_static(wire), of: None, values: 0 };
    let deliverable = hand.road.gate.record_reply(masked(b"one")).await.expect("recorded");
    hand.road.gate.deliver(deliverable).expect("the pipe takes it");
    hand.ground.services.recorder.fail_from_now_on();
    assert!(hand.road.gate.record_reply(masked(b"two")).await.is_err());
    let mut got = vec![0; 16];
    let count = hand.road.client.read(&mut got).await.expect("reads");
    assert_eq!(&got[..count], b"one");
    hand.ground.assert_recorded_first();
}

#[tokio::test(start_paused = true)]
async fn v17_a_connection_that_cannot_be_recorded_is_not_opened() {
    let ground = Ground::new(POLICY);
    ground.services.recorder.fail_from_now_on();
    let (_, client) = crate::net::split(tokio::io::duplex(64).0);
    let dialer = Dialer::new(|| unreachable!("nobody dials for a connection that was not opened"));
    assert!(Gate::open(Arc::new(ground.connection()), ground.services.clone(), client, dialer).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_forwarded_and_not_recorded() {
    let mut hand = Hand::new(POLICY);
    assert_eq!(hand.send("SELECT 1").await, "forwarded");
    let frame = Frame::secret(Bytes::from_static(b"hunter2"), "password message");
    let cleared = hand.road.gate.control("authentication", &frame).await.expect("recorded");
    hand.road.gate.forward(cleared).expect("the pipe takes it");
    assert_eq!(hand.backend_got().await, "SELECT 1hunter2");
    assert!(!hand.ground.has_on_record(b"hunter2"));
    assert!(hand.ground.has_on_record(b"[password message, 7 bytes left out]"));
    hand.ground.assert_recorded_first();
}

#[tokio::test(start_paused = true)]
async fn durability_follows_from_what_an_operation_does() {
    let mut hand = Hand::new(POLICY);
    let mut level = |durability: ReadDurability, text: &str, refused: bool| {
        hand.road.gate.services.durability = durability;
        let (operation, frame) = statement(text);
        let judged = hand.road.gate.judge(operation, frame, &Plain);
        hand.road.gate.durability(&judged, refused)
    };
    for (text, refused, expected) in [
        ("SELECT 1 FROM orders", false, Durability::Written),
        ("SET search_path = a", false, Durability::Written),
        ("SELECT 1 FROM orders", true, Durability::Synced),
        ("INSERT INTO orders VALUES (1)", false, Durability::Synced),
        ("DELETE FROM orders", false, Durability::Synced),
        ("DROP TABLE orders", false, Durability::Synced),
        ("DO $$ BEGIN END $$", false, Durability::Synced),
        ("GRANT ALL ON orders TO bot", false, Durability::Synced),
        ("no sql at all", false, Durability::Synced),
    ] {
        assert_eq!(level(ReadDurability::Written, text, refused), expected, "{text}, refused: {refused}");
        assert_eq!(level(ReadDurability::Synced, text, refused), Durability::Synced, "{text}, refused: {refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn however_a_connection_ends_the_record_says_so_once() {
    let ends = |hand: &Hand, session| {
        let recorded = hand.ground.recorded(session);
        let reason = |body: &Body| match body {
            Body::Disconnected { reason } => Some(reason.clone()),
            _ => None,
        };
        recorded.iter().filter_map(reason).collect::<Vec<_>>()
    };
    let hand = Hand::new(POLICY);
    let session = hand.session();
    // Its task panicked or was cancelled: nobody closed it.
    let next = hand.ground.connection();
    let hand = hand.beside(next);
    assert_eq!(ends(&hand, session), ["the connection's task ended"]);
    let session = hand.session();
    let Hand { ground, road, .. } = hand;
    road.gate.close("the client closed the connection").await;
    let reasons: Vec<_> = ground.recorded(session);
    assert!(
        matches!(reasons.last(), Some(Body::Disconnected { reason }) if reason == "the client closed the connection")
    );
    assert_eq!(reasons.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn v5_a_client_that_reads_nothing_does_not_keep_a_closed_connection() {
    let mut hand = Hand::new(POLICY);
    let much = Masked { wire: Bytes::from(vec![b'x'; 1 << 20]), of: None, values: 0 };
    let deliverable = hand.road.gate.record_reply(much).await.expect("recorded");
    hand.road.gate.deliver(deliverable).expect("queued");
    assert!(hand.road.gate.queued().0 > 0, "more than the pipe takes");
    let begun = time::Instant::now();
    hand.road.gate.close("enough").await;
    assert!(begun.elapsed() <= LAST_WORDS + Duration::from_millis(1));
}

// ---- holding ----

#[tokio::test(start_paused = true)]
async fn a_held_operation_goes_when_it_is_approved_and_not_before() {
    let mut hand = Hand::new(POLICY);
    assert_eq!(hand.send("SELECT 1").await, "forwarded");
    assert!(hand.send("DROP TABLE orders").await.starts_with("held as "));
    let mut held = hand.held.take().expect("held");
    assert!(time::timeout(Duration::from_secs(60), held.ended()).await.is_err(), "nobody has decided");
    assert_eq!(hand.backend_got().await, "SELECT 1");
    assert_eq!(
        hand.ground.services.recorder.open_requests().expect("readable").len(),
        1,
        "durable before anybody is asked"
    );
    hand.decide(true).await;
    let ended = held.ended().await;
    let settled = held.released(hand.road.gate.connection(), &ended);
    assert_eq!(hand.record(settled).await, "forwarded");
    assert_eq!(hand.backend_got().await, "DROP TABLE orders");
    assert_eq!(hand.operations(), ["forwarded SELECT 1", "forwarded DROP TABLE orders"]);
    assert_eq!(hand.outcomes(), [Outcome::Approved]);
    hand.ground.assert_recorded_first();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_approved_is_refused_in_the_words_of_whoever_ended_it() {
    for (ended, words) in [
        (Ended::Denied { by: "ada".into(), reason: Some("no".into()) }, "denied by ada: no"),
        (Ended::Expired { waiting_for: None }, "nobody approved it in time"),
        (Ended::Stopping, "the gateway is stopping; send it again when it is back"),
        (Ended::Unrecorded, "the decision could not be recorded, so it does not count"),
        (Ended::Withdrawn, "the client withdrew it"),
        (Ended::Approved { digest: Digest::of(b"something else") }, "the approval was given for something else"),
    ] {
        let mut hand = Hand::new(POLICY);
        hand.send("DROP TABLE orders").await;
        let held = hand.held.take().expect("held");
        let settled = held.released(hand.road.gate.connection(), &ended);
        assert_eq!(hand.record(settled).await, format!("refused by shape: {words}"));
        assert!(hand.road.backend.take().is_none(), "nobody dialled");
    }
}

/// Holds a statement, changes something, and approves what was held before the change.
async fn changed_while_held(change: impl FnOnce(&mut Held, &mut Connection)) -> String {
    let mut hand = Hand::new(POLICY);
    hand.send("DROP TABLE orders").await;
    let mut held = hand.held.take().expect("held");
    hand.decide(true).await;
    let ended = held.ended().await;
    let mut connection = hand.road.gate.connection().clone();
    change(&mut held, &mut connection);
    let settled = held.released(&connection, &ended);
    hand.record(settled).await
}

#[tokio::test(start_paused = true)]
async fn a1_an_approval_releases_what_was_approved_and_nothing_else() {
    assert_eq!(changed_while_held(|_, _| {}).await, "forwarded");
    let changes: [(&str, fn(&mut Held, &mut Connection)); 6] = [
        ("bytes", |held, _| held.judged.frame = Frame::new(Bytes::from_static(b"DROP TABLE customers"))),
        ("text", |held, _| held.judged.operation.text = Bytes::from_static(b"DROP TABLE customers")),
        ("parameters", |held, _| {
            held.judged.operation.parameters.push(Parameter { kind: String::new(), binary: false, value: None });
        }),
        ("state", |held, _| {
            Arc::make_mut(&mut held.judged.operation.state).insert("search_path".into(), "evil".into());
        }),
        ("session", |_, connection| connection.id = SessionId::now()),
        ("destination", |_, connection| connection.destination.0.set_port(6432)),
    ];
    for (what, change) in changes {
        let refused = "refused by shape: the approval was given for something else";
        assert_eq!(changed_while_held(change).await, refused, "another {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_hold_is_withdrawn() {
    let mut hand = Hand::new(POLICY);
    hand.send("DROP TABLE orders").await;
    drop(hand.held.take());
    time::sleep(Duration::from_millis(1)).await;
    assert!(hand.ground.services.desk.list().is_empty());
    assert_eq!(hand.outcomes(), [Outcome::Withdrawn]);
    hand.send("DROP TABLE orders").await;
    let settled = hand.held.take().expect("held").withdrawn("the client has gone");
    assert_eq!(hand.record(settled).await, "refused by shape: the client has gone");
    assert_eq!(hand.outcomes(), [Outcome::Withdrawn, Outcome::Withdrawn]);
}

// ---- approved for later ----

const AGAIN: &str = "; send the identical operation again once it is approved";

#[tokio::test(start_paused = true)]
async fn on_hold_retry_releases_the_identical_operation_once() {
    let mut hand = Hand::new(POLICY);
    let asked = hand.send("DELETE FROM orders").await;
    assert!(asked.starts_with("refused by rows: held for approval as request ") && asked.contains(AGAIN), "{asked}");
    assert_eq!(hand.send("DELETE FROM orders").await, asked, "a2: the same again pages nobody");
    assert_eq!(hand.ground.services.desk.list().len(), 1);
    hand.decide(true).await;
    let other = hand.send("DELETE FROM customers").await;
    assert!(other.starts_with("refused by rows: held"), "{other}");
    assert_eq!(hand.send("DELETE FROM orders").await, "forwarded");
    let once_more = hand.send("DELETE FROM orders").await;
    assert!(once_more.starts_with("refused by rows: held") && once_more != asked, "{once_more}");
    assert_eq!(hand.backend_got().await, "DELETE FROM orders");
    hand.ground.assert_recorded_first();
}

#[tokio::test(start_paused = true)]
async fn v2_an_approval_for_later_is_for_one_workload_user_and_backend() {
    let changes: [(&str, fn(&mut Connection)); 7] = [
        ("workload", |connection| {
            connection.workload = Workload { name: "daily".into(), ..connection.workload.clone() }
        }),
        ("unit", |connection| connection.workload.unit = None),
        ("user", |connection| connection.process = Process { uid: 1001, ..connection.process.clone() }),
        ("executable", |connection| connection.process.sha256 = None),
        ("destination", |connection| connection.destination.0.set_port(6432)),
        ("resource", |connection| connection.resource = None),
        ("protocol", |connection| connection.protocol = crate::operation::ProtocolName::from_static("mysql")),
    ];
    for (what, change) in changes {
        let hand = approved_for_later().await;
        let mut other = hand.ground.connection();
        change(&mut other);
        let mut hand = hand.beside(other);
        let became = hand.send("DELETE FROM orders").await;
        assert!(became.starts_with("refused by "), "another {what}: {became}");
    }
    // The same workload comes back on another connection.
    let hand = approved_for_later().await;
    let same = hand.ground.connection();
    assert_eq!(hand.beside(same).send("DELETE FROM orders").await, "forwarded");
}

#[tokio::test(start_paused = true)]
async fn a1_an_approval_for_later_is_for_the_same_state_and_parameters() {
    let (operation, frame) = statement("DELETE FROM orders");
    let changed = |change: fn(&mut Operation)| {
        let mut operation = operation.clone();
        change(&mut operation);
        operation
    };
    let parameter = |kind: &str, value: Option<&'static [u8]>| Parameter {
        kind: kind.to_owned(),
        binary: false,
        value: value.map(Bytes::from_static),
    };
    let digest = |parameters: Vec<Parameter>| {
        let ground = Ground::new(POLICY);
        let operation = Operation { parameters, ..operation.clone() };
        digest::of_retrying(&ground.connection(), &operation, &frame, None)
    };
    let mut hand = approved_for_later().await;
    for (what, other) in [
        ("search path", changed(|one| drop(Arc::make_mut(&mut one.state).insert("search_path".into(), "evil".into())))),
        ("role", changed(|one| drop(Arc::make_mut(&mut one.state).insert("role".into(), "admin".into())))),
        ("kind", changed(|one| one.kind = "execute".into())),
    ] {
        let became = hand.pass(other, frame.clone()).await;
        assert!(became.starts_with("refused by rows: held"), "another {what}: {became}");
    }
    assert_eq!(hand.pass(operation.clone(), frame.clone()).await, "forwarded");
    // No two lists of parameters give the same digest.
    let lists = [
        vec![],
        vec![parameter("", None)],
        vec![parameter("", Some(b""))],
        vec![parameter("25", Some(b""))],
        vec![parameter("2", Some(b"5"))],
        vec![parameter("", Some(b"ab"))],
        vec![parameter("", Some(b"a")), parameter("", Some(b"b"))],
        vec![parameter("", Some(b"b")), parameter("", Some(b"a"))],
        vec![Parameter { binary: true, ..parameter("", Some(b"ab")) }],
    ];
    let digests: std::collections::HashSet<_> = lists.iter().map(|list| digest(list.clone())).collect();
    assert_eq!(digests.len(), lists.len());
}

/// `DELETE FROM orders` was asked for, refused, and approved meanwhile.
async fn approved_for_later() -> Hand {
    let mut hand = Hand::new(POLICY);
    hand.send("DELETE FROM orders").await;
    hand.decide(true).await;
    hand
}
