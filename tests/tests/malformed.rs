//! Malformed frames, a hundred thousand from each side: nothing panics, memory stays bounded, and others are unharmed.
//!
//! `HOLDPOINT_FRAMES` sets another number.

use std::time::{Duration, Instant};

use tests::{FakeBackend, Gateway, Lab, Postgres, Rules, Running, server_frame};

/// How many malformed conversations each side has.
fn frames() -> u64 {
    std::env::var("HOLDPOINT_FRAMES").map_or(100_000, |count| count.parse().expect("HOLDPOINT_FRAMES is a number"))
}

#[test]
fn malformed_frames_from_clients() {
    // Not PostgreSQL: it would spend more on a hundred thousand log-ins than everything else together.
    let backend = FakeBackend::welcoming();
    let (lab, pg) = beside_the_shop("malformed-client", backend.port());
    let said = withstand(&lab, &pg, |lab, count| start_flood(lab, "client", backend.port(), count));
    assert!(said.contains("stuck 0"), "a malformed connection was left open: {said}");
    assert!(backend.served() >= frames() / 2, "only {} got past their startup", backend.served());
}

#[test]
fn malformed_frames_from_a_backend() {
    let liar = FakeBackend::start(server_frame);
    let (lab, pg) = beside_the_shop("malformed-backend", liar.port());
    let said = withstand(&lab, &pg, |lab, count| start_flood(lab, "backend", liar.port(), count));
    assert!(said.contains("stuck 0"), "a client was left waiting for a backend that is gone: {said}");
    assert!(liar.served() >= frames() * 9 / 10, "only {} connections reached the liar", liar.served());
}

/// A shop on a real PostgreSQL, and another resource on `port`.
fn beside_the_shop(name: &str, port: u16) -> (Lab, Postgres) {
    let lab = Lab::new(name);
    let pg = Postgres::start(&lab);
    let rules = Rules::allowing().refuse("no-schema", "schema");
    let other = rules.resource(port).replace("resource: shop", "resource: other");
    lab.policies(&format!("{}---\n{other}", rules.resource(pg.port())), &rules.policies());
    lab.start();
    (lab, pg)
}

fn start_flood(lab: &Lab, mode: &str, port: u16, count: u64) -> Running {
    lab.bot("flood").start(&[&lab.tool("flood_client"), mode, "127.0.0.1", &port.to_string(), &count.to_string(), "12"])
}

/// Runs the flood beside a decent client on a connection of its own, and looks at the gateway before and after.
#[track_caller]
fn withstand(lab: &Lab, pg: &Postgres, flood: impl Fn(&Lab, u64) -> Running) -> String {
    // What a gateway needs once is set aside before memory is measured.
    flood(lab, 500).finish(Duration::from_secs(60)).ok();
    let before = measure(lab, Gateway::resident);

    let mut decent = lab.bot("decent").start_script(&pg.url());
    let started = Instant::now();
    let mut running = flood(lab, frames());
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    while running.ended().is_none() {
        asked += 1;
        let sent = Instant::now();
        decent.write(&format!("SELECT 'decent-' || {asked};\n"));
        decent.wait_for_stdout(&format!("decent-{asked}\n"), Duration::from_secs(10));
        slowest = slowest.max(sent.elapsed());
        assert!(started.elapsed() < LIMIT, "the flood takes too long: {running}");
    }
    let said = running.finish(Duration::from_secs(5)).ok().stdout;
    let grown = measure(lab, Gateway::resident).saturating_sub(before);
    let frames = frames();
    eprintln!(
        "{frames} in {:?}, {grown} bytes more, decent client asked {asked} times, waited {slowest:?} at most",
        started.elapsed()
    );

    assert!(asked > 10, "the decent client got nowhere");
    decent.finish(Duration::from_secs(10)).ok();
    let log = lab.gateway_log();
    assert!(!log.contains("panicked"), "the gateway panicked: {log}");
    assert!(measure(lab, |gateway| u64::from(gateway.port())) > 0 && lab.gateway().as_mut().expect("it runs").lives());
    assert!(grown < MEMORY, "the gateway grew by {grown} bytes");
    assert!(said.contains("refused 0"), "connections were turned away: {said}");
    said
}

fn measure(lab: &Lab, of: impl Fn(&Gateway) -> u64) -> u64 {
    of(lab.gateway().as_ref().expect("the gateway runs"))
}

/// The store's own caches and write buffers included.
const MEMORY: u64 = 192 << 20;

/// Far beyond what is meant (a minute for both sides), for machines that are busy otherwise.
const LIMIT: Duration = Duration::from_secs(300);
