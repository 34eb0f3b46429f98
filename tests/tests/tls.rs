//! TLS on both sides of the gateway: rows P8, P9, P10, P13, V8, V9 and N9 of the bypass table, with real certificates,
//! a real PostgreSQL and real clients.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{Certificates, FakeBackend, Lab, Method, Outcome, Postgres, Rules, eventually, venv, wire};

/// A shop whose PostgreSQL has TLS, behind a resource with these lines.
fn shop(name: &str, lines: impl Fn(&Certificates) -> String) -> (Lab, Postgres, Certificates) {
    let lab = Lab::new(name);
    let certificates = Certificates::make(&lab);
    let pg = Postgres::start_with_tls(&lab, &certificates);
    let rules = Rules::allowing().refuse("no-schema", "schema, delete").resource_line(&lines(&certificates));
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    lab.start();
    (lab, pg, certificates)
}

/// The backend is verified in full.
fn verified(certificates: &Certificates) -> String {
    format!("tls: {{ ca: {} }}", certificates.path("ca.crt"))
}

/// A connection string whose client verifies the gateway in full.
fn trusting(lab: &Lab, url: &str) -> String {
    format!("{url}?sslmode=verify-full&sslrootcert={}", lab.path("run/trust.pem").display())
}

#[track_caller]
fn assert_masked(lab: &Lab, said: &Outcome) {
    for canary in Postgres::CANARIES {
        assert!(!said.all().contains(canary), "{canary} reached the client: {said}");
        assert!(!lab.record().contains(canary), "{canary} is in the record");
    }
}

// ---- The client's side

#[test]
fn p8_psql_verifies_the_gateway_in_full_and_the_gateway_the_backend() {
    let (lab, pg, _) = shop("tls-full", verified);
    let bot = lab.bot("ci");
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let said = bot.psql(&trusting(&lab, &pg.url_at(host)), "SELECT email FROM customers").ok();
        assert_eq!(said.stdout.lines().count(), 2, "{said}");
        assert_masked(&lab, &said);
    }
    let encrypted = pg.log().matches("SSL enabled (protocol=TLSv1.3").count();
    assert_eq!(encrypted, 3, "each connection reached the backend inside TLS: {}", pg.log());
    let record = lab.record();
    assert!(record.contains("TLS with the client: TLSv1.3") && record.contains("TLS with the backend: TLSv1.3"));
    lab.verify();

    // The control: without the bundle the same psql refuses, so it did look; and the record says what to do.
    let stranger = format!("{}?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt", pg.url());
    bot.psql(&stranger, "SELECT 'distrusting'").failed().says(&["certificate verify failed"]);
    assert!(!pg.saw("'distrusting'"));
    let record = lab.record();
    assert!(record.contains("unknown_ca") && record.contains("holdpoint trust"), "the refusal is explained");
}

#[test]
fn p8_trust_prints_the_bundle_and_points_programs_at_it() {
    let (lab, pg, _) = shop("tls-trust", verified);
    let config = lab.config().display().to_string();
    let bundle = lab.holdpoint(&["trust", "--config", &config]).ok();
    assert_eq!(bundle.stdout, std::fs::read_to_string(lab.path("run/trust.pem")).expect("the gateway wrote it"));
    assert!(bundle.stdout.starts_with("-----BEGIN CERTIFICATE-----"), "{bundle}");
    let url = format!("{}?sslmode=verify-full", pg.url());
    let psql = ["psql", "-X", "-c", "SELECT 'trusted'", &url];
    let plain = ["exec", "--config", &config, "--"];
    let trusting = ["exec", "--trust", "--config", &config, "--"];
    let as_nobody =
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "env", "HOME=/nonexistent"];
    lab.holdpoint(&[&plain[..], &as_nobody, &psql].concat()).failed().says(&["root certificate file"]);
    lab.holdpoint(&[&trusting[..], &as_nobody, &psql].concat()).ok().says(&["trusted"]);
    lab.holdpoint(&["trust", "--env", "--config", &config])
        .ok()
        .says(&["export PGSSLROOTCERT=", "export SSL_CERT_FILE="]);
    let key = std::fs::metadata(lab.path("state/authority/ca.key")).expect("the gateway made it");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    // The authority outlives the gateway: who trusts it goes on trusting it.
    lab.stop().ok();
    lab.start();
    assert_eq!(lab.holdpoint(&["trust", "--config", &config]).ok().stdout, bundle.stdout);
}

#[test]
fn p8_the_operators_own_authority_signs() {
    let lab = Lab::new("tls-brought");
    let certificates = Certificates::make(&lab);
    let pg = Postgres::start_with_tls(&lab, &certificates);
    let rules = Rules::allowing();
    lab.policies(&rules.resource(pg.port()), "");
    let (certificate, key) = (certificates.path("other.crt"), certificates.path("other.key"));
    lab.set("authority", &format!("{{ certificate: {certificate}, key: {key} }}"));
    lab.start();
    let url = |ca: &str| format!("{}?sslmode=verify-full&sslrootcert={}", pg.url(), certificates.path(ca));
    lab.bot("ci").psql(&url("other.crt"), "SELECT 'signed'").ok().says(&["signed"]);
    lab.bot("ci").psql(&url("ca.crt"), "SELECT 'signed'").failed();
    lab.stop().ok();
    // A certificate that may not sign.
    lab.set(
        "authority",
        &format!("{{ certificate: {}, key: {} }}", certificates.path("server.crt"), certificates.path("server.key")),
    );
    lab.start_failing().says(&["CA:TRUE"]);
}

#[test]
fn p8_clients_without_tls_work_unless_it_is_required() {
    let (lab, pg, _) = shop("tls-plain", |_| String::new());
    let bot = lab.bot("ci");
    bot.psql(&format!("{}?sslmode=disable", pg.url()), "SELECT 'plain'").ok().says(&["plain"]);
    bot.psql(&format!("{}?sslmode=require", pg.url()), "SELECT 'private'").ok().says(&["private"]);
    let rules = Rules::allowing().resource_line("tls: { client: required }");
    lab.policies(&rules.resource(pg.port()), "");
    let refused = eventually("the policy is reloaded", Duration::from_secs(10), || {
        let said = bot.psql(&format!("{}?sslmode=disable", pg.url()), "SELECT 'refused'");
        said.all().contains("requires TLS").then_some(said)
    });
    refused.failed();
    bot.psql(&pg.url(), "SELECT 'preferred'").ok().says(&["preferred"]);
}

/// Runs a guarded Python that speaks TLS itself; `sys.argv[1]` is the port.
#[track_caller]
fn python(lab: &Lab, source: &str, port: u16) -> Outcome {
    let source = format!("{PRELUDE}{source}");
    lab.bot("ci").run(&["/usr/bin/python3", "-u", "-c", &source, &port.to_string()])
}

const PRELUDE: &str = r#"
import socket, ssl, struct, sys
def dial():
    return socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=10)
def wrap(plain, alpn=None, name='localhost'):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn: context.set_alpn_protocols(alpn)
    return context.wrap_socket(plain, server_hostname=name)
def startup():
    body = struct.pack('!I', 196608) + b'user\0app\0database\0shop\0\0'
    return struct.pack('!I', len(body) + 4) + body
def query(sql):
    body = sql.encode() + b'\0'
    return b'Q' + struct.pack('!I', len(body) + 4) + body
SSL, GSS = struct.pack('!II', 8, 80877103), struct.pack('!II', 8, 80877104)
def ask(stream, message=None):  # a startup message, unless it says another; up to ReadyForQuery
    stream.sendall(message or startup())
    got = b''
    while not got.endswith((b'Z\0\0\0\5I', b'Z\0\0\0\5E')):
        more = stream.recv(65536)
        if not more: return got
        got += more
    return got
def everything(stream):
    got = b''
    try:
        while True:
            more = stream.recv(65536)
            if not more: return got
            got += more
    except OSError as error:
        return got + b' [' + str(error).encode() + b']'
"#;

#[test]
fn p8_direct_tls_is_spoken_where_alpn_names_the_protocol() {
    let (lab, pg, _) = shop("tls-direct", verified);
    let said = python(
        &lab,
        "
stream = wrap(dial(), ['postgresql'])
ask(stream)
print(stream.selected_alpn_protocol(), ask(stream, query(\"SELECT 'straight'\")))
",
        pg.port(),
    );
    said.ok().says(&["postgresql", "straight"]);
    assert_eq!(pg.ran("straight"), 1);
}

#[test]
fn n9_direct_tls_that_does_not_say_what_it_carries_is_refused() {
    let (lab, pg, _) = shop("tls-no-alpn", verified);
    for (alpn, name) in [("None", "pinned.example"), ("['http/1.1', 'h2']", "api.example")] {
        let said = python(
            &lab,
            &format!(
                "
try:
    stream = wrap(dial(), {alpn}, '{name}')
    stream.sendall(startup() + query(\"SELECT 'tunnelled'\"))
    print('inside', everything(stream))
except ssl.SSLError as error:
    print('refused', error)
"
            ),
            pg.port(),
        );
        said.ok().says(&["refused"]);
        let record = lab.record();
        assert!(record.contains(name) && record.contains("nothing is tunnelled unread"), "{name} is recorded");
    }
    assert!(!pg.saw("tunnelled"));
    assert_eq!(pg.connections(), 0, "the backend heard nothing of it");
}

#[test]
fn p8_encryption_inside_encryption_ends_the_connection() {
    let (lab, pg, _) = shop("tls-twice", verified);
    for (what, first, second) in [
        ("TLS inside TLS", "SSL", "SSL"),
        ("GSSAPI inside TLS", "SSL", "GSS"),
        ("TLS asked for inside direct TLS", "None", "SSL"),
    ] {
        let said = python(
            &lab,
            &format!(
                "
plain = dial()
if {first}:
    plain.sendall({first}); print('answered', plain.recv(1))
stream = wrap(plain, ['postgresql'])
stream.sendall({second})
print('then', everything(stream))
"
            ),
            pg.port(),
        );
        said.ok().says(&["then b'E", "08P01"]);
        assert!(lab.record().contains("encryption was asked for inside TLS"), "{what}");
    }
    // GSSAPI is declined, and TLS may still follow; but not begin without being asked for.
    let said = python(
        &lab,
        "
plain = dial()
plain.sendall(GSS); print('gss', plain.recv(1))
plain.sendall(SSL); print('ssl', plain.recv(1))
stream = wrap(plain)
ask(stream)
print(ask(stream, query(\"SELECT 'after gss'\")))
plain = dial()
plain.sendall(GSS); print('gss', plain.recv(1))
try:
    print('inside', wrap(plain, ['postgresql']))
except ssl.SSLError as error:
    print('refused', error)
",
        pg.port(),
    );
    said.ok().says(&["gss b'N'", "ssl b'S'", "after gss", "refused"]);
    assert_eq!(pg.connections(), 1);
}

#[test]
fn v9_bytes_between_a_clients_request_and_its_handshake_end_the_connection() {
    let (lab, pg, _) = shop("tls-smuggled", verified);
    let smuggled = wire::query("SELECT 'smuggled'");
    let startup = wire::startup(&[("user", "app"), ("database", "shop")]);
    let mut raw = lab.bot("ci").raw();
    // With the request itself: before the answer.
    let conn = raw.open("127.0.0.1", pg.port());
    raw.send(conn, &[wire::ssl_request(), startup.clone(), smuggled.clone()].concat());
    let (messages, rest) = raw.until_closed(conn);
    assert!(messages.iter().all(|message| message.kind == b'E') && !rest.starts_with(b"S"), "{messages:?} {rest:?}");
    // After the answer, instead of a handshake.
    let conn = raw.open("127.0.0.1", pg.port());
    raw.send(conn, &wire::ssl_request());
    assert_eq!(raw.bytes(conn, 1), b"S");
    raw.send(conn, &[startup, smuggled].concat());
    let (messages, rest) = raw.until_closed(conn);
    assert!(messages.is_empty() && rest.first() == Some(&0x15), "an alert and nothing else: {messages:?} {rest:?}");
    // Behind the answer, in front of a handshake that would be right.
    let said = python(
        &lab,
        "
plain = dial()
plain.sendall(SSL); print('answered', plain.recv(1))
plain.sendall(query(\"SELECT 'smuggled'\"))
try:
    stream = wrap(plain)
    stream.sendall(startup() + query('SELECT 1') + b'X\\0\\0\\0\\4')
    print('inside', everything(stream))
except OSError as error:
    print('refused', error)
",
        pg.port(),
    );
    said.ok().says(&["answered b'S'", "refused"]);
    assert!(!pg.saw("smuggled"));
    assert_eq!(pg.connections(), 0);
    assert!(lab.record().contains("bytes follow an encryption request before its answer"));
    // The control: the same without what is smuggled.
    lab.bot("ci").psql(&format!("{}?sslmode=require", pg.url()), "SELECT 1").ok();
}

// ---- The backend's side

#[test]
fn v9_bytes_behind_a_backends_answer_end_the_connection() {
    for (answer, why) in [
        (&b"S\x16\x03"[..], "bytes follow its answer"),
        (b"NZ\0\0\0\x05I", "bytes follow its answer"),
        (b"E\0\0\0\x0cMboo\0\0", "answered the request for TLS with an error"),
        (b"x", "with something else"),
        (b"", "hung up when it was asked for TLS"),
    ] {
        let lab = Lab::new("tls-liar");
        let backend = FakeBackend::answering_tls(answer);
        let rules = Rules::allowing();
        lab.policies(&rules.resource(backend.port()), "");
        lab.start();
        let url = format!("postgresql://app@127.0.0.1:{}/shop?sslmode=disable", backend.port());
        lab.bot("ci").psql(&url, "SELECT 1").failed();
        assert!(lab.record().contains(why), "{answer:?}");
    }
    // The control: one that says no, and nothing more, is gone on with in clear.
    let lab = Lab::new("tls-honest");
    let backend = FakeBackend::welcoming();
    lab.policies(&Rules::allowing().resource(backend.port()), "");
    lab.start();
    let mut raw = lab.bot("ci").raw();
    let conn = raw.open("127.0.0.1", backend.port());
    raw.send(conn, &wire::startup(&[("user", "app"), ("database", "shop")]));
    raw.until(conn, b'K');
}

#[test]
fn each_mode_towards_the_backend_verifies_what_it_says() {
    let lab = Lab::new("tls-modes");
    let certificates = Certificates::make(&lab);
    let pg = Postgres::start_with_tls(&lab, &certificates);
    let at = |name: &str| certificates.path(name);
    let revoked = certificates.revocations();
    lab.policies(&Rules::allowing().resource(pg.port()), "");
    lab.start();
    let bot = lab.bot("ci");
    let (right, wrong) = (at("ca.crt"), at("other.crt"));
    for (number, (tls, why)) in [
        ("{ upstream: disable }".to_owned(), None),
        ("{ upstream: prefer }".to_owned(), None),
        ("{ upstream: require }".to_owned(), None),
        (format!("{{ upstream: require, ca: {wrong} }}"), Some("nobody who signed it is trusted")),
        (format!("{{ upstream: verify-ca, ca: {right} }}"), None),
        (format!("{{ upstream: verify-ca, ca: {wrong} }}"), Some("nobody who signed it is trusted")),
        (format!("{{ upstream: verify-ca, ca: {right}, crl: {revoked} }}"), Some("Revoked")),
        (format!("{{ upstream: verify-full, ca: {right} }}"), None),
        (
            format!("{{ upstream: verify-full, ca: {right}, name: other.example }}"),
            Some("it is not for \\\"other.example\\\""),
        ),
        ("{ upstream: verify-full }".to_owned(), Some("nobody who signed it is trusted")),
        (format!("{{ upstream: verify-full, ca: {} }}", at("missing.crt")), Some("missing.crt")),
    ]
    .into_iter()
    .enumerate()
    {
        lab.stop().ok();
        lab.policies(&Rules::allowing().resource_line(&format!("tls: {tls}")).resource(pg.port()), "");
        lab.start();
        let marker = format!("SELECT 'mode {number}'");
        let said = bot.psql(&format!("{}?sslmode=disable", pg.url()), &marker);
        match why {
            None => drop(said.ok()),
            Some(why) => {
                said.failed().says(&[&why.replace('\\', "")]);
                assert!(!pg.saw(&marker), "{tls}");
                eventually(&format!("it is recorded why: {tls}"), Duration::from_secs(5), || {
                    let record = lab.record();
                    (record.contains(&why.replace('\\', "")) || record.contains(why)).then_some(())
                });
            }
        }
    }
    let encrypted = pg.log().matches("SSL enabled").count();
    assert_eq!(encrypted, 4, "prefer, require, verify-ca, verify-full: {}", pg.log());
}

#[test]
fn a_backend_without_tls_is_refused_where_it_is_required() {
    let rules = Rules::allowing().resource_line("tls: { upstream: require }");
    let (lab, pg) = Lab::with_shop("tls-none", &rules);
    lab.bot("ci").psql(&pg.url(), "SELECT 'in clear'").failed().says(&["the backend has no TLS"]);
    assert!(!pg.saw("in clear") && !pg.saw("authorized"));
}

#[test]
fn the_gateway_shows_its_own_certificate() {
    let client = |certificates: &Certificates| {
        let at = |name: &str| certificates.path(name);
        let (ca, certificate, key) = (at("ca.crt"), at("client.crt"), at("client.key"));
        format!("tls: {{ ca: {ca}, client_cert: {certificate}, client_key: {key} }}")
    };
    let (lab, pg, _) = shop("tls-client", client);
    let url = pg.url().replace("app@", "app_cert@");
    lab.bot("ci").psql(&url, "SELECT current_user").ok().says(&["app_cert"]);
    assert!(pg.saw("identity=\"CN=app_cert\" method=cert"), "{}", pg.log());
    assert!(!lab.record().contains("PRIVATE KEY") && !lab.gateway_log().contains("PRIVATE KEY"));
    drop((lab, pg));
    let (lab, pg, _) = shop("tls-no-client", verified);
    lab.bot("ci").psql(&pg.url().replace("app@", "app_cert@"), "SELECT 1").failed().says(&["certificate"]);
}

// ---- What the protocol says inside

#[test]
fn p9_a_cancel_request_through_tls_cancels_what_runs_and_what_is_held() {
    venv();
    let (lab, pg, _) = shop("tls-cancel", verified);
    // libpq 15 sends it in clear; the one that comes with psycopg inside TLS.
    let psql = lab.bot("ci").start_psql(&trusting(&lab, &pg.url()), "SELECT pg_sleep(30), 'by psql'");
    eventually("it runs", Duration::from_secs(10), || (pg.ran("by psql") == 1).then_some(()));
    lab.bot("ci").signal("psql", Signal::SIGINT);
    psql.finish(Duration::from_secs(10)).failed().says(&["canceling statement due to user request"]);
    let said = lab.bot("ci").python(CANCEL, &trusting(&lab, &pg.url())).ok();
    said.says(&["cancelled canceling statement due to user request", "alive 42"]);
    let encrypted = lab.record();
    assert!(encrypted.contains("cancel what session"), "it was judged and recorded");
}

const CANCEL: &str = r"
import sys, threading, time, psycopg
conn = psycopg.connect(sys.argv[1], autocommit=True)
def cancel():
    time.sleep(1)
    conn.cancel_safe()
threading.Thread(target=cancel).start()
try:
    conn.execute('SELECT pg_sleep(30)')
    print('it ran')
except psycopg.errors.QueryCanceled as error:
    print('cancelled', error)
print('alive', conn.execute('SELECT 42').fetchone()[0])
";

#[test]
fn p10_a_newer_protocol_is_negotiated_inside_tls() {
    let (lab, pg, _) = shop("tls-newer", verified);
    let said = python(
        &lab,
        "
plain = dial()
plain.sendall(SSL); print('answered', plain.recv(1))
stream = wrap(plain)
body = struct.pack('!I', 196610) + b'user\\0app\\0database\\0shop\\0_pq_.holdpoint\\0x\\0\\0'
print(ask(stream, struct.pack('!I', len(body) + 4) + body))
print(ask(stream, query(\"SELECT 'negotiated'\")))
",
        pg.port(),
    );
    // NegotiateProtocolVersion: 3.0, and one option that is not known.
    said.ok().says(&[r"v\x00\x00\x00\x1b\x00\x03\x00\x00\x00\x00\x00\x01_pq_.holdpoint\x00", "negotiated"]);
}

#[test]
fn p13_every_client_logs_in_through_tls_on_both_sides_with_its_own_password() {
    venv();
    let (lab, pg, _) = shop("tls-scram", verified);
    let bot = lab.bot("ci");
    for method in Method::ALL {
        // libpq says that it could bind to the channel, which the backend takes for an attack unless it is heard.
        bot.psql(&trusting(&lab, &pg.url_of(method)), "SELECT current_user").ok().says(&[method.role()]);
        bot.python(PSYCOPG, &trusting(&lab, &pg.url_of(method))).ok().says(&[method.role()]);
        // asyncpg could not bind, and is asked for the same.
        let url = format!("{}?sslmode=require", pg.url_of(method));
        bot.python(ASYNCPG, &url).ok().says(&[method.role()]);
    }
    let wrong = trusting(&lab, &pg.url_of(Method::Scram).replace(Method::Scram.password(), "not-it"));
    bot.psql(&wrong, "SELECT 1").failed().says(&["password authentication failed"]);
    let record = lab.record();
    for method in Method::ALL.into_iter().filter(|method| *method != Method::Trust) {
        assert!(!record.contains(method.password()) && !lab.gateway_log().contains(method.password()));
    }
    assert!(!record.contains("not-it"));
    assert_eq!(pg.log().matches("SSL enabled").count(), 12, "{}", pg.log());
}

const PSYCOPG: &str = r"
import sys, psycopg
print(psycopg.connect(sys.argv[1]).execute('SELECT current_user').fetchone()[0])
";

const ASYNCPG: &str = r"
import asyncio, sys, asyncpg
async def main():
    conn = await asyncpg.connect(sys.argv[1])
    print(await conn.fetchval('SELECT current_user'))
    await conn.close()
asyncio.run(main())
";

#[test]
#[ignore = "a measurement: what_tls_costs --ignored --nocapture"]
fn what_tls_costs() {
    let lab = Lab::new("tls-bench");
    let certificates = Certificates::make(&lab);
    let pg = Postgres::start_with_tls(&lab, &certificates);
    let direct = pg.url();
    lab.run(&["pgbench", "-i", "-q", "-s", "5", &direct]).ok();
    let copy = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 250000)) TO STDOUT";
    let measure = |what: &str, run: &dyn Fn(&[&str]) -> Outcome, mode: &str| {
        let url = format!("{direct}?sslmode={mode}");
        let small = run(&["pgbench", "-n", "-S", "-M", "prepared", "-c", "4", "-T", "5", &url]).ok();
        let rate = small.stdout.lines().find(|line| line.starts_with("tps")).unwrap_or_default().to_owned();
        let began = std::time::Instant::now();
        run(&["psql", "-X", "-q", "-o", "/dev/null", "-c", copy, &url]).ok();
        println!("{what}, client {mode}: {rate}; 250 MB in {:?}", began.elapsed());
    };
    for mode in ["disable", "require"] {
        measure("direct", &|argv| lab.run(argv), mode);
    }
    for (upstream, mode) in [("disable", "disable"), ("verify-full", "require")] {
        let ca = if upstream == "disable" { String::new() } else { format!(", ca: {}", certificates.path("ca.crt")) };
        let resource = format!(
            "resource: shop\nprotocol: postgres\nendpoints: [\"127.0.0.1:{}\"]\ndefault: allow\ntls: {{ upstream: {upstream}{ca} }}\n",
            pg.port()
        );
        lab.policies(&resource, "");
        lab.start();
        measure(&format!("gateway, upstream {upstream}"), &|argv| lab.bot("ci").run(argv), mode);
        lab.stop().ok();
    }
}
