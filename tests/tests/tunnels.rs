//! Ways past a gateway that lead over another place: N9 TLS that nobody can look into, N10 tunnels, N11 a second dial.
//!
//! Each is tried with the mechanism off first: the destination is not governed, nothing is refused, or the helper is not
//! guarded. Then it gets through, and the record knows nothing of it.

use std::time::Duration;

use serde_json::Value;
use tests::{Bot, FakeBackend, Lab, Outcome, Postgres, Rules, Running, eventually, venv};

/// What changes anything is refused; reading and session settings go on.
fn read_only() -> Rules {
    Rules::allowing().refuse("read-only", EFFECTS)
}

const EFFECTS: &str = "write, delete, schema, privilege, execute, admin, unknown";

/// Everything that no resource names is refused.
const NOTHING_ELSE: &str = "[{ to: \"0.0.0.0/0\", action: refuse }, { to: \"::/0\", action: refuse }]";

fn restart_with_network(lab: &Lab, network: &str) {
    lab.stop().ok();
    lab.set("network", network);
    lab.start();
}

/// A program outside every guard, and the port that it names in its first line.
fn outside(lab: &Lab, argv: &[&str]) -> (Running, u16) {
    started(Running::start(&mut lab.command(argv)))
}

fn started(running: Running) -> (Running, u16) {
    let said = running.wait_for_stdout("\n", Duration::from_secs(20));
    let port = said.trim().parse().unwrap_or_else(|_| panic!("it names no port: {running}"));
    (running, port)
}

/// The last session's id and resource.
fn last_session(lab: &Lab) -> (String, Value) {
    let record = lab.record();
    let last = record.sessions.last().expect("somebody connected");
    (last.id.clone(), last.summary["facts"].clone())
}

/// What a reviewer is shown of the last session has all of `words`.
#[track_caller]
fn last_session_says(lab: &Lab, words: &[&str]) {
    let (id, _) = last_session(lab);
    lab.holdpoint(&["sessions", "show", &id]).ok().says(words);
    lab.holdpoint(&["replay", &id, "--no-wait"]).ok().says(words);
}

/// Puts the policy in force that names `port`, and waits until it is.
fn govern(lab: &Lab, port: u16) {
    let rules = read_only();
    lab.policies(&rules.resource(port), &rules.policies());
    let mut raw = lab.bot("look").raw();
    eventually("the destination is governed", Duration::from_secs(10), || {
        let before = lab.record().sessions.len();
        let conn = raw.open("127.0.0.1", port);
        let opened = raw.opened(conn);
        raw.close(conn);
        (opened && lab.record().sessions.len() > before).then_some(())
    });
}

// ---- N9

/// A TLS server that says who arrives: it names its port, and then each connection and what came with it.
const TLS_SERVER: &str = "import socket,ssl,sys\n\
    context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(sys.argv[1],sys.argv[2])\n\
    l=socket.create_server(('127.0.0.1',0)); print(l.getsockname()[1],flush=True)\n\
    while True:\n  s=l.accept()[0]; s.settimeout(10)\n  \
    try:\n    if s.recv(4096,socket.MSG_PEEK): print('arrived',flush=True)\n    \
    t=context.wrap_socket(s,server_side=True); t.recv(4096); t.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nsecret answer'); t.close()\n  \
    except OSError as e: print('ended',e,flush=True)\n";

/// A certificate for 127.0.0.1 and its key, below the lab's directory.
fn make_certificate(lab: &Lab, name: &str) -> [String; 2] {
    let [certificate, key] = ["crt", "key"].map(|ending| lab.path(&format!("{name}.{ending}")).display().to_string());
    let subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"];
    let make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    lab.run(&[&make[..], &subject, &["-keyout", &key, "-out", &certificate]].concat()).ok();
    [certificate, key]
}

/// The programs that pin the server's certificate, or know no other authority than its own.
fn pinned(lab: &Lab, bot: &Bot<'_>, port: u16) -> [(&'static str, Outcome); 2] {
    let (certificate, at) = (lab.path("tls.crt").display().to_string(), format!("127.0.0.1:{port}"));
    let openssl = [
        "sh",
        "-c",
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 15 openssl s_client -quiet -verify_return_error -CAfile \"$0\" -connect \"$1\"",
        &certificate,
        &at,
    ];
    let pinned = "import socket,ssl,sys\nc=ssl.create_default_context(cafile=sys.argv[1]); c.check_hostname=False\n\
        t=c.wrap_socket(socket.create_connection(('127.0.0.1',int(sys.argv[2])),15))\n\
        own=ssl.PEM_cert_to_DER_cert(open(sys.argv[1]).read())\nassert t.getpeercert(True)==own,'another certificate'\n\
        t.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\nwhile d:=t.recv(4096): print(d.decode())\n";
    let python = ["/usr/bin/python3", "-c", pinned, &certificate, &port.to_string()];
    [("openssl", bot.run(&openssl)), ("pinned", bot.run(&python))]
}

#[test]
fn n9_tls_that_nobody_can_look_into_is_refused_with_a_reason() {
    let lab = Lab::new("n9");
    let [certificate, key] = make_certificate(&lab, "tls");
    let (server, port) = outside(&lab, &["/usr/bin/python3", "-c", TLS_SERVER, &certificate, &key]);
    let arrived = || server.stdout().matches("arrived").count();

    // The mechanism off: nobody governs the destination, and what they say to each other is their secret.
    lab.policies(&read_only().resource(1), &read_only().policies());
    lab.start();
    let bot = lab.bot("pinned");
    for (who, outcome) in pinned(&lab, &bot, port) {
        assert!(outcome.stdout.contains("secret answer"), "{who}: {outcome}");
    }
    assert_eq!((arrived(), lab.record().sessions.len()), (2, 0));

    // On: not a byte of theirs arrives, and the record says what it was.
    govern(&lab, port);
    for (who, outcome) in pinned(&lab, &bot, port) {
        assert!(!outcome.all().contains("secret answer"), "{who}: {outcome}");
        last_session_says(&lab, &["TLS"]);
        assert_eq!(last_session(&lab).1["workload"], "pinned");
    }
    assert_eq!(arrived(), 2, "some of it arrived: {server}");
    assert_eq!(forwarded(&lab), 0);
}

/// How many operations went to a backend.
fn forwarded(lab: &Lab) -> usize {
    lab.record().of("operation", "").iter().filter(|operation| operation.flag("forwarded")).count()
}

#[test]
fn n9_a_client_that_trusts_one_certificate_only_is_not_served() {
    let lab = Lab::new("n9-psql");
    let pg = Postgres::start(&lab);
    make_certificate(&lab, "pg/server");
    lab.run(&["chown", "postgres", &lab.path("pg/server.key").display().to_string()]).ok();
    pg.admin("ALTER SYSTEM SET ssl = on");
    pg.admin("SELECT pg_reload_conf()");
    let root = lab.path("pinned.crt").display().to_string();
    lab.run(&["cp", &lab.path("pg/server.crt").display().to_string(), &root]).ok();
    let url = format!("{}?sslmode=verify-full&sslrootcert={root}", pg.url());
    let bot = lab.bot("pinned");
    // The mechanism off: nobody governs the database.
    lab.policies(&read_only().resource(1), &read_only().policies());
    lab.start();
    eventually("the database speaks TLS", Duration::from_secs(10), || {
        bot.psql(&url, "DELETE FROM target WHERE id = 1 /*pinned*/").status.success().then_some(())
    });
    assert_eq!((pg.ran("/*pinned*/"), lab.record().sessions.len()), (1, 0));
    // On.
    govern(&lab, pg.port());
    bot.psql(&url, "DELETE FROM target WHERE id = 2 /*pinned*/").failed();
    assert_eq!((pg.ran("/*pinned*/"), forwarded(&lab)), (1, 0));
    assert_eq!(last_session(&lab).1["workload"], "pinned", "the record does not know that it tried");
}

// ---- N10

#[test]
fn n10_a_tunnel_at_a_governed_destination_is_refused() {
    let lab = Lab::new("n10");
    let backend = FakeBackend::start(|_| b"welcome".to_vec());
    lab.policies(&read_only().resource(1), &read_only().policies());
    lab.start();
    // TLS is N9's.
    let wrappings: [(&str, &[u8]); 5] = [
        ("SOCKS5", b"\x05\x01\x00"),
        ("SOCKS4", b"\x04\x01\x15\x38\x7f\x00\x00\x01\x00"),
        ("HTTP CONNECT", b"CONNECT 127.0.0.1:5432 HTTP/1.1\r\nHost: 127.0.0.1:5432\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("WebSocket", b"GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ];
    let mut raw = lab.bot("digger").raw();
    // The mechanism off.
    for (what, first) in wrappings {
        let conn = raw.open("127.0.0.1", backend.port());
        raw.send(conn, first);
        assert_eq!(raw.bytes(conn, 7), b"welcome", "{what}");
        raw.close(conn);
    }
    assert_eq!((backend.served(), lab.record().sessions.len()), (5, 0));
    // On: refused at its first bytes, in less time than a handshake may take.
    govern(&lab, backend.port());
    let before = backend.served();
    for (what, first) in wrappings {
        let conn = raw.open("127.0.0.1", backend.port());
        raw.send(conn, first);
        let (messages, rest) = raw.until_closed(conn);
        assert!(
            rest.is_empty() && messages.iter().all(|message| message.kind == b'E'),
            "{what}: {messages:?} {rest:?}"
        );
        last_session_says(&lab, &[what]);
    }
    assert_eq!((backend.served(), forwarded(&lab)), (before, 0));
}

/// SOCKS5, HTTP CONNECT, and whoever says anything else is passed on to the port that it was started for, as `ssh -L` does.
const RELAY: &str = "import socket,sys,threading\n\
    def pump(a,b):\n  \
    try:\n    while d:=a.recv(65536): b.sendall(d)\n  \
    except OSError: pass\n  \
    try: b.shutdown(1)\n  except OSError: pass\n\
    def serve(c):\n  \
    first=c.recv(1,socket.MSG_PEEK); to,answer=('127.0.0.1',int(sys.argv[1])),b''\n  \
    if first==b'\\5':\n    c.recv(3); c.sendall(b'\\5\\0'); r=c.recv(10)\n    \
    to,answer=(socket.inet_ntoa(r[4:8]),int.from_bytes(r[8:],'big')),b'\\5\\0\\0\\1'+bytes(6)\n  \
    if first==b'C':\n    head=b''\n    while not head.endswith(b'\\r\\n\\r\\n'): head+=c.recv(1)\n    \
    host,port=head.split()[1].split(b':'); to,answer=(host.decode(),int(port)),b'HTTP/1.1 200 OK\\r\\n\\r\\n'\n  \
    s=socket.create_connection(to); c.sendall(answer)\n  \
    threading.Thread(target=pump,args=(s,c),daemon=True).start(); pump(c,s)\n\
    l=socket.create_server(('127.0.0.1',0)); print(l.getsockname()[1],flush=True)\n\
    while True: threading.Thread(target=serve,args=(l.accept()[0],),daemon=True).start()\n";

/// Tunnels to the port `argv[3]` through the relay at `argv[2]` in the way `argv[1]`, logs in and runs `argv[4]`.
const DIGGER: &str = "import socket,sys\n\
    way,relay,to,sql=sys.argv[1],int(sys.argv[2]),int(sys.argv[3]),sys.argv[4].encode()\n\
    s=socket.create_connection(('127.0.0.1',relay),20)\n\
    if way=='socks':\n  s.sendall(b'\\5\\1\\0'); assert s.recv(2)==b'\\5\\0'\n  \
    s.sendall(b'\\5\\1\\0\\1'+socket.inet_aton('127.0.0.1')+to.to_bytes(2,'big')); assert len(s.recv(10))==10\n\
    if way=='connect':\n  s.sendall(b'CONNECT 127.0.0.1:%d HTTP/1.1\\r\\n\\r\\n'%to); assert b'200' in s.recv(99)\n\
    def until():\n  d=b''\n  \
    while not d.endswith(b'Z\\0\\0\\0\\5I') and (m:=s.recv(65536)): d+=m\n  return d\n\
    b=b'\\0\\3\\0\\0user\\0app\\0database\\0shop\\0\\0'; s.sendall((len(b)+4).to_bytes(4,'big')+b); until()\n\
    s.sendall(b'Q'+(len(sql)+5).to_bytes(4,'big')+sql+b'\\0'); print(until().decode('latin1').replace('\\0',' '))\n";

const WAYS: [&str; 3] = ["socks", "connect", "forward"];

fn dig(bot: &Bot<'_>, way: &str, relay: u16, to: u16, sql: &str) -> Outcome {
    bot.run(&["/usr/bin/python3", "-c", DIGGER, way, &relay.to_string(), &to.to_string(), sql])
}

/// What is inside such a tunnel is out of reach: only that nothing unlisted is dialled keeps a bot out of it.
#[test]
fn n10_a_tunnel_through_a_helper_that_nobody_guards_needs_network_rules() {
    let (lab, pg) = Lab::with_shop("n10-relay", &read_only());
    let (_relay, relay) = outside(&lab, &["/usr/bin/python3", "-c", RELAY, &pg.port().to_string()]);
    let bot = lab.bot("digger");
    // The mechanism off.
    for (number, way) in (1..).zip(WAYS) {
        let sql = format!("DELETE FROM target WHERE id = {number} /*tunnel*/");
        dig(&bot, way, relay, pg.port(), &sql).ok().says(&["DELETE 1"]);
    }
    assert_eq!((pg.ran("/*tunnel*/"), lab.record().sessions.len()), (3, 0), "nobody has seen it");
    // On.
    restart_with_network(&lab, NOTHING_ELSE);
    for way in WAYS {
        dig(&bot, way, relay, pg.port(), "SELECT 1 /*tunnel*/").failed().says(&["Operation not permitted"]);
    }
    bot.psql(&pg.url(), "SELECT 'the proper way'").ok();
    assert_eq!((pg.ran("/*tunnel*/"), pg.ran("'the proper way'")), (3, 1));
    lab.holdpoint(&["status"]).says(&["3 towards a destination that a rule refuses"]);
}

#[test]
fn n10_a_helper_that_is_guarded_itself_is_caught_by_its_own_dial() {
    let (lab, pg) = Lab::with_shop("n10-guarded", &read_only());
    let bot = lab.bot("digger");
    let argv = ["/usr/bin/python3", "-c", RELAY, &pg.port().to_string()];
    // The mechanism off: the helper is outside every guard.
    let (free, port) = outside(&lab, &argv);
    dig(&bot, "socks", port, pg.port(), "DELETE FROM target WHERE id = 1 /*free*/").ok().says(&["DELETE 1"]);
    assert_eq!((pg.ran("/*free*/"), lab.record().sessions.len()), (1, 0));
    drop(free);
    // On: the same helper, guarded.
    let (_helper, port) = started(lab.bot("helper").start(&argv));
    for way in WAYS {
        dig(&bot, way, port, pg.port(), "DELETE FROM target /*caught*/").ok().says(&["42501"]).hides("DELETE 2");
        let (_, facts) = last_session(&lab);
        assert_eq!((&facts["workload"], &facts["resource"]), (&"helper".into(), &"shop".into()), "{way}");
    }
    assert_eq!((pg.ran("/*caught*/"), lab.record().refused("/*caught*/")), (0, 3));
}

// ---- N11

/// Follows the address that the first database tells it.
const FOLLOWER: &str = "import psycopg,sys\n\
    with psycopg.connect(sys.argv[1]) as c: told=c.execute('SELECT at FROM directory').fetchone()[0]\n\
    print('told',told)\n\
    with psycopg.connect(told,autocommit=True) as c: c.execute('DELETE FROM target WHERE id = 1 /*second*/')\n";

/// A database that sends its clients on to another one, in two ways.
struct Redirect<'lab> {
    lab: &'lab Lab,
    first: Postgres,
    second: Postgres,
}

impl<'lab> Redirect<'lab> {
    fn start(lab: &'lab Lab) -> Self {
        let (first, second) = (Postgres::start(lab), Postgres::start(lab));
        first.admin(&format!("CREATE TABLE directory AS SELECT '{}' AS at", second.url()));
        first.admin("GRANT SELECT ON directory TO app");
        first.admin("ALTER DATABASE shop SET default_transaction_read_only = on");
        Self { lab, first, second }
    }

    /// The policy, with or without the second database.
    fn policies(&self, with_second: bool) {
        let mut rules = read_only();
        let mut resources = rules.resource(self.first.port());
        if with_second {
            let second = rules.resource(self.second.port()).replace("resource: shop", "resource: second");
            resources = format!("{resources}---\n{second}");
            let of_second = format!("match: {{ resource: second, effects: [{EFFECTS}] }}");
            rules = rules.policy(&format!("policy: second-read-only\n{of_second}\ndecide: refuse\n"));
        }
        self.lab.policies(&resources, &rules.policies());
    }

    /// Each client dials the first and ends at the second, where it deletes something.
    fn clients(&self) -> [Outcome; 2] {
        let bot = self.lab.bot("wanderer");
        let hosts = format!(
            "postgresql://app@127.0.0.1:{},127.0.0.1:{}/shop?target_session_attrs=read-write",
            self.first.port(),
            self.second.port()
        );
        [bot.psql(&hosts, "DELETE FROM target WHERE id = 2 /*second*/"), bot.python(FOLLOWER, &self.first.url())]
    }

    /// The resources of the sessions so far, in order.
    fn resources(&self) -> Vec<String> {
        let sessions = self.lab.record().sessions;
        sessions.iter().map(|session| session.summary["facts"]["resource"].to_string()).collect()
    }
}

#[test]
fn n11_the_second_dial_is_intercepted_like_the_first() {
    venv();
    let lab = Lab::new("n11");
    let redirect = Redirect::start(&lab);
    let second = &redirect.second;
    // The mechanism off: the policy does not list the second database, and nothing refuses it.
    redirect.policies(false);
    lab.start();
    for outcome in redirect.clients() {
        outcome.ok();
    }
    assert_eq!(second.ran("/*second*/"), 2);
    assert_eq!(redirect.resources(), ["\"shop\""; 2], "each first dial and no second one is in the record");
    assert!(lab.record().of("operation", "/*second*/").is_empty());

    // Listed: a session of its own for each dial, of its own resource, under that one's rules.
    redirect.policies(true);
    eventually("the second database is governed", Duration::from_secs(10), || {
        lab.bot("look").psql(&second.url(), "SELECT 'look'").ok();
        lab.record().contains("'look'").then_some(())
    });
    let before = redirect.resources().len();
    for outcome in redirect.clients() {
        outcome.failed().says(&["read-only"]);
    }
    assert_eq!(redirect.resources()[before..], ["\"shop\"", "\"second\""].repeat(2));
    let record = lab.record();
    assert_eq!((second.ran("/*second*/"), record.refused("/*second*/"), record.forwarded("/*second*/")), (2, 2, 0));

    // Not listed, where the network rules refuse what is not.
    redirect.policies(false);
    restart_with_network(&lab, NOTHING_ELSE);
    let (before, connections) = (redirect.resources().len(), second.connections());
    for outcome in redirect.clients() {
        outcome.failed().says(&["not permitted"]);
    }
    assert_eq!(redirect.resources()[before..], ["\"shop\""; 2]);
    assert_eq!((second.connections(), second.ran("/*second*/")), (connections, 2));
}
