//! Ways past a naive gateway, each closed, each by its id: N interception, P PostgreSQL, V flaws that others had,
//! A approval and audit.
//!
//! Three witnesses each: the backend's log, what the client got, what the record holds. Where a statement must not run,
//! the policy refuses rather than holds, so that nothing has to be waited for.

use std::{
    io::Read,
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tests::{Lab, Outcome, Postgres, Rules, eventually, never, shown, venv, wire};

/// What changes anything is refused; reading and session settings go on.
fn read_only() -> Rules {
    Rules::allowing().refuse("read-only", "write, delete, schema, privilege, execute, admin, unknown")
}

fn targets(pg: &Postgres) -> String {
    pg.admin("SELECT count(*) FROM target")
}

/// Runs each of `tricks` (marked `/*tN*/` so that it can be found) and wants each refused, unforwarded and recorded.
#[track_caller]
fn assert_each_refused(lab: &Lab, pg: &Postgres, tricks: &[&str]) {
    let bot = lab.bot("trickster");
    let sql: Vec<_> = tricks.iter().enumerate().map(|(number, trick)| format!("{trick} /*t{number}*/")).collect();
    // One process and one connection each would be slow; `-c` keeps every trick one simple query.
    let mut argv = vec!["psql", "-X", "-A", "-t", "-v", "VERBOSITY=verbose"];
    let url = pg.url();
    for trick in &sql {
        argv.extend(["-c", trick]);
    }
    argv.push(&url);
    let said = bot.run(&argv);
    let record = lab.record();
    for (number, trick) in sql.iter().enumerate() {
        let mark = format!("/*t{number}*/");
        assert!(!pg.saw(&mark), "the backend saw: {trick}");
        assert_eq!(record.forwarded(&mark), 0, "the record says forwarded: {trick}");
        assert_eq!(record.refused(&mark), 1, "the record does not say refused: {trick}");
    }
    assert_eq!(said.stderr.matches("42501").count(), tricks.len(), "one refusal for each trick: {said}");
}

// ---- Interception

#[test]
fn n2_ipv6_and_mapped_addresses_are_the_same_resource() {
    let (lab, pg) = Lab::with_shop("n2", &read_only());
    for host in ["127.0.0.1", "[::1]"] {
        lab.bot("ci").psql(&pg.url_at(host), "DROP TABLE target").failed().says(&["42501"]);
        lab.bot("ci").psql(&pg.url_at(host), "SELECT 1").ok();
    }
    // libpq would not take the mapped form in a URL.
    for host in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost"] {
        let mut raw = lab.bot("raw").raw();
        let conn = raw.open(host, pg.port());
        raw.send(conn, &wire::startup(&[("user", "app"), ("database", "shop")]));
        raw.until(conn, b'Z');
        let answer = raw.query(conn, &format!("DROP TABLE target /*{host}*/"));
        assert_eq!(answer[0].field(b'C').as_deref(), Some("42501"), "{host}: {}", shown(&answer));
    }
    assert_eq!(pg.ran("DROP TABLE"), 0);
    assert_eq!(targets(&pg), "3");
    assert_eq!(lab.record().refused("DROP TABLE"), 6);
}

#[test]
fn n7_a_dead_gateway_refuses_and_nothing_goes_direct() {
    let (lab, pg) = Lab::with_shop("n7", &read_only());
    let bot = lab.bot("ci");
    bot.psql(&pg.url(), "SELECT 1").ok();
    let before = pg.connections();
    lab.kill();
    for host in ["127.0.0.1", "[::1]"] {
        bot.psql(&pg.url_at(host), "SELECT 'while dead'").failed().says(&["connection", "refused"]);
    }
    assert_eq!(pg.connections(), before, "a guarded connection reached the backend without a gateway");
    lab.start();
    bot.psql(&pg.url(), "SELECT 'alive again'").ok();
    assert!(!pg.saw("while dead"));
    assert_eq!(lab.record().forwarded("alive again"), 1);
}

#[test]
fn n7_a_connection_that_is_already_open_dies_with_the_gateway() {
    let (lab, pg) = Lab::with_shop("n7-open", &read_only());
    let mut psql = lab.bot("ci").start_script(&format!("{}?sslmode=disable", pg.url()));
    psql.write("SELECT 'before';\n");
    psql.wait_for_stdout("before", Duration::from_secs(10));
    lab.kill();
    psql.write("SELECT 'behind its back';\n");
    psql.finish(Duration::from_secs(10)).says(&["server closed the connection"]);
    assert!(!pg.saw("behind its back"));
}

#[test]
fn n3_n5_what_goes_round_the_connect_hook_is_refused_and_counted() {
    venv();
    let (lab, pg) = Lab::with_shop("n3", &read_only());
    let bot = lab.bot("ci");
    let port = pg.port();
    let socket = lab.path("run/docker.sock");
    let _runtime = std::os::unix::net::UnixListener::bind(&socket).expect("the lab's directory is ours");
    let send = |family: &str, host: &str| {
        format!("import socket as s; s.socket(s.{family}, s.SOCK_DGRAM).sendto(b'x', ({host:?}, {port}))")
    };
    for source in [
        send("AF_INET", "127.0.0.1"),
        send("AF_INET6", "::1"),
        send("AF_INET6", "::ffff:127.0.0.1"),
        format!("import socket as s; s.socket(s.AF_UNIX).connect({:?})", socket.display().to_string()),
    ] {
        bot.python(&source, "").failed().says(&["Operation not permitted"]);
    }
    bot.python("import socket as s; s.getaddrinfo('localhost', 1); s.socket(s.AF_INET, s.SOCK_DGRAM)", "").ok();
    let said = lab.holdpoint(&["status"]).ok().says(&["healthy", "every program", "AF_PACKET"]);
    said.says(&[
        "3 of UDP or the like towards an intercepted destination",
        "1 towards a UNIX socket on the refuse list",
    ]);
    lab.holdpoint(&["status", "-o", "json"]).ok().says(&["\"not_tcp\": 3", "\"unix\": 1"]);
}

#[test]
fn n7_a_bot_cannot_take_the_dead_gateways_place() {
    venv();
    let (lab, pg) = Lab::with_shop("n7-port", &read_only());
    let port = lab.gateway().as_ref().expect("it runs").port();
    let automatic = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("procfs is mounted");
    let low: u16 = automatic.split_ascii_whitespace().next().expect("two numbers").parse().expect("a port");
    assert!(port < low, "the kernel may give {port} to whoever listens without bind");
    let bind = |host: &str| format!("import socket as s; s.create_server(({host:?}, {port}))");
    let take = [bind("127.0.0.1"), bind("0.0.0.0")];
    let bot = lab.bot("ci");
    for state in ["alive", "dead"] {
        for source in &take {
            bot.python(source, "").failed().says(&["Operation not permitted"]);
        }
        if state == "alive" {
            lab.kill();
        }
    }
    bot.psql(&pg.url(), "SELECT 1").failed().says(&["refused"]);
    lab.start();
    bot.psql(&pg.url(), "SELECT 1").ok();
    lab.holdpoint(&["status"]).says(&["4 uses of the gateway's own port", "that no gateway answered"]);
}

#[test]
fn n8_a_connection_without_an_original_destination_is_closed() {
    let (lab, pg) = Lab::with_shop("n8", &read_only());
    let port = lab.gateway().as_ref().expect("it runs").port();
    let before = (lab.record().sessions.len(), pg.connections());
    // From outside the guarded cgroup no hook runs, so nothing knows where this connection meant to go.
    for host in ["127.0.0.1", "::1"] {
        let addr = (host, port).to_socket_addrs().expect("an address").next().expect("one address");
        let Ok(mut stream) = TcpStream::connect(addr) else { continue };
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("the time is not zero");
        let mut answer = Vec::new();
        let _reset_is_fine = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "it was answered: {answer:?}");
    }
    assert_eq!(pg.connections(), before.1, "it was dialled somewhere");
    // The gateway goes on.
    lab.bot("ci").psql(&pg.url(), "SELECT 1").ok();
    assert_eq!(lab.record().sessions.len(), before.0 + 1, "it became a session");
}

#[test]
fn n12_a_bot_that_dials_the_gateway_itself_gets_nothing() {
    let (lab, pg) = Lab::with_shop("n12", &read_only());
    let port = lab.gateway().as_ref().expect("it runs").port();
    let before = pg.connections();
    let mut raw = lab.bot("ci").raw();
    let conn = raw.open("127.0.0.1", port);
    raw.send(conn, &wire::startup(&[("user", "app"), ("database", "shop")]));
    let (messages, rest) = raw.until_closed(conn);
    assert!(messages.iter().all(|message| message.kind == b'E'), "it was served: {}", shown(&messages));
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(pg.connections(), before);
    assert!(lab.gateway().as_mut().expect("it runs").lives());
    lab.bot("ci").psql(&pg.url(), "SELECT 1").ok();
}

#[test]
fn n12_a_resource_that_is_the_gateway_itself_makes_no_loop() {
    let lab = Lab::new("n12-loop");
    let pg = Postgres::start(&lab);
    let rules = read_only();
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    lab.start();
    let port = lab.gateway().as_ref().expect("it runs").port();
    let own = rules.resource(port).replace("resource: shop", "resource: mirror");
    lab.policies(&format!("{}---\n{own}", rules.resource(pg.port())), &rules.policies());
    let mut raw = lab.bot("ci").raw();
    let conn = raw.open("127.0.0.1", port);
    raw.send(conn, &wire::startup(&[("user", "app"), ("database", "shop")]));
    raw.until_closed(conn);
    let sessions = lab.record().sessions.len();
    never("the gateway keeps connecting to itself", Duration::from_millis(500), || {
        let now = lab.record().sessions.len();
        (now > sessions).then_some(now)
    });
    assert!(sessions <= 2, "{sessions} sessions for one connection");
    lab.bot("ci").psql(&pg.url(), "SELECT 1").ok();
}

// ---- PostgreSQL

#[test]
fn p1_multi_statement_simple_query() {
    let (lab, pg) = Lab::with_shop("p1", &read_only());
    assert_each_refused(
        &lab,
        &pg,
        &[
            "SELECT 1; DROP TABLE target",
            "SELECT E'\\''; DROP TABLE target; --'",
            "SELECT $$a;b$$; DROP TABLE target",
            "SELECT $x$ $$ ; $x$; DROP TABLE target",
            "SELECT U&'\\0027'; DROP TABLE target",
            "SELECT U&'d!0061t!+000061' UESCAPE '!'; DROP TABLE target",
            "SELECT 1 /* /* nested */ ; still a comment */; DROP TABLE target",
            "SELECT 1 -- a comment\n; DROP TABLE target",
            "SELECT 'it''s'; DROP TABLE target",
            "SELECT \"a;b\" FROM (SELECT 1 AS \"a;b\") s; DROP TABLE target",
            ";;;DROP TABLE target",
            "SELECT 1;\r\n\t\u{c}DROP TABLE target",
            "BEGIN; DROP TABLE target; COMMIT",
        ],
    );
    assert_eq!(targets(&pg), "3");
}

#[test]
fn p1_standard_conforming_strings_off() {
    let (lab, pg) = Lab::with_shop("p1-scs", &read_only());
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    // With the setting off, the server reads \' as a quote, so the statement after it is code and not text.
    raw.query(conn, "SET standard_conforming_strings = off");
    let answer = raw.query(conn, "SELECT 'a\\'; SELECT '; DROP TABLE target; --'");
    let off = answer.iter().any(|message| message.field(b'C').as_deref() == Some("42501"));
    assert!(off, "read otherwise than the server reads it: {}", shown(&answer));
    assert_eq!(targets(&pg), "3");
    assert_eq!(pg.ran("DROP TABLE"), 0);
    // And the other way round: the same bytes are one harmless text when the setting is on.
    raw.query(conn, "SET standard_conforming_strings = on");
    let answer = raw.query(conn, "SELECT 'a\\'; SELECT '; DROP TABLE harmless; --'");
    assert_eq!(answer.iter().filter(|message| message.kind == b'E').count(), 0, "{}", shown(&answer));
}

#[test]
fn p2_writes_that_look_like_reads() {
    let (lab, pg) = Lab::with_shop("p2", &read_only());
    assert_each_refused(
        &lab,
        &pg,
        &[
            "WITH gone AS (DELETE FROM target RETURNING *) SELECT count(*) FROM gone",
            "WITH a AS (SELECT 1), b AS (UPDATE target SET id = 9 RETURNING *) SELECT * FROM a",
            "COPY (DELETE FROM target RETURNING id) TO STDOUT",
            "EXPLAIN ANALYZE DELETE FROM target",
            "EXPLAIN (ANALYZE true, FORMAT json) DELETE FROM target",
            "CREATE TABLE stolen AS SELECT * FROM customers",
            "SELECT * INTO stolen FROM customers",
            "CREATE RULE r AS ON INSERT TO target DO ALSO DELETE FROM orders",
            "CREATE VIEW v AS SELECT ssn FROM customers",
            "MERGE INTO target USING orders ON target.id = orders.id WHEN MATCHED THEN DELETE",
            "DECLARE c CURSOR FOR SELECT 1; WITH gone AS (DELETE FROM target RETURNING *) SELECT 1",
            "COPY target FROM PROGRAM 'id'",
            "DO $$ BEGIN DELETE FROM target; END $$",
            "SELECT wipe()",
            "CALL wipe()",
        ],
    );
    assert_eq!(targets(&pg), "3");
}

#[test]
fn p4_sql_prepare_then_execute() {
    let (lab, pg) = Lab::with_shop("p4-sql", &read_only());
    let script = "PREPARE harmless AS DELETE FROM target;\nEXECUTE harmless;\nSELECT 'the ' || 'end';\n";
    let said = lab.bot("ci").script(&pg.url(), script).says(&["42501", "the end"]);
    assert!(!said.stdout.contains("DELETE"), "{said}");
    assert_eq!(targets(&pg), "3");
    assert_eq!(pg.ran("EXECUTE harmless"), 0);
    assert!(lab.record().refused("harmless") > 0);
}

#[test]
fn p4_sql_execute_of_a_statement_prepared_by_the_protocol() {
    let (lab, pg) = Lab::with_shop("p4-mixed", &read_only());
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    raw.send(conn, &[wire::parse("quiet", "DELETE FROM target"), wire::sync()].concat());
    raw.until(conn, b'Z');
    let answer = raw.query(conn, "EXECUTE quiet");
    assert!(answer.iter().all(|message| message.kind != b'C'), "it ran: {}", shown(&answer));
    assert_eq!(targets(&pg), "3");
}

#[test]
fn p4_statement_parsed_long_before_it_is_executed() {
    let (lab, pg) = Lab::with_shop("p4-named", &read_only());
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    raw.send(conn, &[wire::parse("old", "DELETE FROM target WHERE id = $1::int"), wire::sync()].concat());
    raw.until(conn, b'Z');
    for _ in 0..20 {
        raw.query(conn, "SELECT 1");
    }
    for id in ["1", "2"] {
        raw.send(conn, &[wire::bind("", "old", &[id]), wire::execute("", 0), wire::sync()].concat());
        let answer = raw.until(conn, b'Z');
        let refused = answer.iter().any(|message| message.field(b'C').as_deref() == Some("42501"));
        assert!(refused, "bound to {id}: {}", shown(&answer));
    }
    assert_eq!(targets(&pg), "3");
    assert_eq!(pg.ran("DELETE FROM target"), 0);
}

#[test]
fn p4_name_reused_for_another_statement() {
    let (lab, pg) = Lab::with_shop("p4-reuse", &read_only());
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    let run = [wire::bind("", "s", &[]), wire::execute("", 0), wire::sync()].concat();
    raw.send(conn, &[wire::parse("s", "SELECT 1"), run.clone()].concat());
    let answer = raw.until(conn, b'Z');
    assert!(answer.iter().any(|message| message.kind == b'D'), "{}", shown(&answer));
    raw.send(conn, &[wire::close_statement("s"), wire::parse("s", "DELETE FROM target"), run].concat());
    let answer = raw.until(conn, b'Z');
    assert!(answer.iter().any(|message| message.field(b'C').as_deref() == Some("42501")), "{}", shown(&answer));
    assert_eq!(targets(&pg), "3");
}

#[test]
fn p4_portal_executed_again_with_a_row_limit_is_judged_and_recorded_again() {
    let (lab, pg) = Lab::with_shop("p4-portal", &read_only());
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    let begin = [wire::parse("", "SELECT id FROM target ORDER BY id /*portal*/"), wire::bind("p", "", &[])].concat();
    raw.query(conn, "BEGIN");
    raw.send(
        conn,
        &[begin, wire::execute("p", 1), wire::execute("p", 1), wire::execute("p", 1), wire::sync()].concat(),
    );
    let answer = raw.until(conn, b'Z');
    assert_eq!(answer.iter().filter(|message| message.kind == b'D').count(), 3, "{}", shown(&answer));
    assert_eq!(answer.iter().filter(|message| message.kind == b's').count(), 3, "suspended after each row");
    assert_eq!(lab.record().forwarded("/*portal*/"), 3, "each Execute is an operation");
}

#[test]
fn p5_pipeline_is_held_from_the_first_held_message_on() {
    let rules = Rules::allowing().hold("deletes", "delete");
    let (lab, pg) = Lab::with_shop("p5", &rules);
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    let one = |sql: &str| [wire::parse("", sql), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    let all = [
        one("INSERT INTO target VALUES (11) /*first*/"),
        one("DELETE FROM target WHERE id = 1 /*held*/"),
        one("INSERT INTO target VALUES (12) /*last*/"),
        wire::flush(),
        wire::sync(),
    ];
    raw.send(conn, &all.concat());
    let request = lab.held();
    never("what stands behind a held operation ran", Duration::from_millis(300), || {
        (pg.saw("/*last*/") || pg.saw("/*held*/")).then_some(())
    });
    lab.approve(&request).ok();
    let answer = raw.until(conn, b'Z');
    let tags: Vec<_> = answer.iter().filter(|message| message.kind == b'C').map(|message| message.text()).collect();
    assert_eq!(tags, ["INSERT 0 1\0", "DELETE 1\0", "INSERT 0 1\0"], "in the order in which they were sent");
    let order: Vec<_> = pg.logged_statements().into_iter().filter(|statement| statement.text.contains("/*")).collect();
    let marks: Vec<_> =
        order.iter().map(|statement| statement.text.rsplit("/*").next().unwrap_or_default().to_owned()).collect();
    assert_eq!(marks, ["first*/", "held*/", "last*/"]);
}

#[test]
fn p5_after_a_denial_everything_up_to_sync_is_discarded() {
    let rules = Rules::allowing().hold("deletes", "delete");
    let (lab, pg) = Lab::with_shop("p5-deny", &rules);
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    let one = |sql: &str| [wire::parse("", sql), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    let all = [
        one("INSERT INTO target VALUES (11) /*first*/"),
        one("DELETE FROM target WHERE id = 1 /*held*/"),
        one("INSERT INTO target VALUES (12) /*discarded*/"),
        wire::sync(),
        one("INSERT INTO target VALUES (13) /*next*/"),
        wire::sync(),
    ];
    raw.send(conn, &all.concat());
    let request = lab.held();
    lab.deny(&request).ok();
    let first = raw.until(conn, b'Z');
    assert_eq!(first.iter().filter(|message| message.kind == b'E').count(), 1, "{}", shown(&first));
    assert_eq!(first.last().map(|message| message.body.clone()), Some(b"I".to_vec()), "no transaction is left open");
    let second = raw.until(conn, b'Z');
    assert!(second.iter().any(|message| message.text() == "INSERT 0 1\0"), "{}", shown(&second));
    assert_eq!(
        pg.admin("SELECT string_agg(id::text, ',' ORDER BY id) FROM target"),
        "1,2,3,13",
        "rolled back to before the pipeline"
    );
    assert!(!pg.saw("/*discarded*/") && !pg.saw("/*held*/"));
}

#[test]
fn p6_fast_path_function_call() {
    let (lab, pg) = Lab::with_shop("p6", &read_only());
    let oid: u32 = pg.admin("SELECT 'public.wipe'::regproc::oid").parse().expect("an oid");
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    raw.send(conn, &wire::function_call(oid));
    let answer = raw.until(conn, b'Z');
    assert_eq!(answer[0].field(b'C').as_deref(), Some("42501"), "{}", shown(&answer));
    assert!(!pg.saw("fastpath"), "the call reached the backend");
    assert_eq!(targets(&pg), "3");
    raw.query(conn, "SELECT 'connection ' || 'lives'");
    assert_eq!(pg.ran("'connection '"), 1);
    assert!(!lab.record().of("operation", "unction").is_empty(), "the refused call is in the record");
}

#[test]
fn p7_copy_replication_and_programs() {
    let (lab, pg) = Lab::with_shop("p7", &read_only());
    assert_each_refused(
        &lab,
        &pg,
        &[
            "COPY target FROM STDIN",
            "COPY orders TO PROGRAM 'cat'",
            "COPY orders FROM PROGRAM 'id'",
            "COPY target FROM '/etc/passwd'",
        ],
    );
    let said = lab.bot("ci").psql(&pg.url(), "COPY customers TO STDOUT");
    assert_masked(&lab, &said);
    let said = lab.bot("ci").psql(&pg.url(), "COPY (SELECT ssn AS harmless, note FROM customers) TO STDOUT WITH CSV");
    assert_masked(&lab, &said);
    assert_eq!(targets(&pg), "3");

    let mut raw = lab.bot("ci").raw();
    let conn = raw.open("127.0.0.1", pg.port());
    raw.send(conn, &wire::startup(&[("user", "app"), ("database", "shop"), ("replication", "database")]));
    let (messages, _) = raw.until_closed(conn);
    assert!(
        messages.iter().any(|message| message.kind == b'E' && message.text().contains("replication")),
        "{}",
        shown(&messages)
    );
    assert!(!pg.saw("replication connection"));
}

#[track_caller]
fn assert_masked(lab: &Lab, said: &Outcome) {
    for canary in Postgres::CANARIES {
        assert!(!said.all().contains(canary), "{canary} reached the client: {said}");
        assert!(!lab.record().contains(canary), "{canary} is in the record");
    }
}

#[test]
fn p7_copy_in_data_is_recorded_before_the_backend_has_it() {
    let (lab, pg) = Lab::with_shop("p7-in", &Rules::allowing());
    let mut psql = lab.bot("ci").start_script(&pg.url());
    psql.write("COPY target FROM STDIN;\n41\n42\n\\.\nSELECT 'copied';\n");
    psql.finish(Duration::from_secs(10)).ok().says(&["COPY 2", "copied"]);
    assert_eq!(pg.admin("SELECT count(*) FROM target WHERE id IN (41, 42)"), "2");
    assert!(
        lab.record().contains("41\n42") || (lab.record().contains("41\n") && lab.record().contains("42\n")),
        "the rows are in the record"
    );
}

#[test]
fn p9_cancel_requests_go_by_the_gateways_own_keys() {
    let (lab, pg) = Lab::with_shop("p9", &Rules::allowing());
    let mut raw = lab.bot("ci").raw();
    let (conn, heard) = raw.log_in(pg.port());
    let key = heard
        .iter()
        .find(|message| message.kind == b'K')
        .expect("BackendKeyData comes before ReadyForQuery")
        .body
        .clone();
    let shown_pid = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);

    // A bot that could learn the real key could cancel past the gateway's eyes.
    let direct = [wire::cancel_request(shown_pid, &key[4..])].concat();
    raw.send(conn, &wire::query("SELECT pg_sleep(3) /*p9*/"));
    eventually("it sleeps", Duration::from_secs(10), || (pg.ran("/*p9*/") == 1).then_some(()));
    let mut past = TcpStream::connect(("127.0.0.1", pg.port())).expect("the lab itself is not guarded");
    std::io::Write::write_all(&mut past, &direct).expect("the backend takes it");
    let _closed = past.read_to_end(&mut Vec::new());
    assert!(pg.saw("cancel request"), "the backend knows no such key: {}", pg.log());

    // A wrong key does nothing, and the right one cancels.
    let wrong = raw.open("127.0.0.1", pg.port());
    raw.send(wrong, &wire::cancel_request(shown_pid, &[key[4] ^ 1, key[5], key[6], key[7]]));
    raw.until_closed(wrong);
    never("a wrong key cancelled", Duration::from_millis(200), || pg.saw("canceling statement").then_some(()));
    let right = raw.open("127.0.0.1", pg.port());
    raw.send(right, &wire::cancel_request(shown_pid, &key[4..]));
    raw.until_closed(right);
    let answer = raw.until(conn, b'Z');
    assert!(answer.iter().any(|message| message.field(b'C').as_deref() == Some("57014")), "{}", shown(&answer));
    assert!(!lab.record().of("operation", "ancel").is_empty(), "cancelling is recorded");
}

#[test]
fn p9_another_workload_cannot_cancel() {
    let (lab, pg) = Lab::with_shop("p9-other", &Rules::allowing());
    let mut raw = lab.bot("ci").raw();
    let (conn, heard) = raw.log_in(pg.port());
    let key = heard.iter().find(|message| message.kind == b'K').expect("BackendKeyData").body.clone();
    raw.send(conn, &wire::query("SELECT 'slept ' || pg_sleep(1) /*p9*/"));
    eventually("it sleeps", Duration::from_secs(10), || (pg.ran("/*p9*/") == 1).then_some(()));
    let mut other = lab.bot("other").raw();
    let cancel = other.open("127.0.0.1", pg.port());
    let pid = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    other.send(cancel, &wire::cancel_request(pid, &key[4..]));
    other.until_closed(cancel);
    let answer = raw.until(conn, b'Z');
    assert!(answer.iter().all(|message| message.kind != b'E'), "another workload cancelled it: {}", shown(&answer));
}

#[test]
fn p12_transactions_and_comments_hide_nothing() {
    let (lab, pg) = Lab::with_shop("p12", &read_only());
    assert_each_refused(
        &lab,
        &pg,
        &[
            "COMMIT; DELETE FROM target",
            "BEGIN READ ONLY; COMMIT; DELETE FROM target",
            "BEGIN READ WRITE; DELETE FROM target; COMMIT",
            "/* SELECT */ DELETE FROM target",
            "-- SELECT 1\nDELETE FROM target",
            "((SELECT 1)); DELETE FROM target",
            "END; DROP TABLE target",
            "START TRANSACTION READ ONLY; SET TRANSACTION READ WRITE; DELETE FROM target; COMMIT",
        ],
    );
    // A bot that opened a read-only transaction is judged all the same.
    let script = "BEGIN READ ONLY;\nSELECT 1;\nCOMMIT;\nDELETE FROM target;\n";
    lab.bot("ci").script(&pg.url(), script).says(&["42501"]);
    assert_eq!(targets(&pg), "3");
}

#[test]
fn p14_a_huge_message_is_refused_before_it_is_there() {
    let (lab, pg) = Lab::with_shop("p14", &read_only());
    let before = lab.gateway().as_ref().expect("it runs").resident();
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    raw.send(conn, &[b'Q', 0x3f, 0xff, 0xff, 0xff]);
    raw.send_many(conn, b'a', 64 << 20);
    let (messages, _) = raw.until_closed(conn);
    assert!(messages.iter().any(|message| message.kind == b'E'), "it says why: {}", shown(&messages));
    let grown = lab.gateway().as_ref().expect("it runs").resident().saturating_sub(before);
    assert!(grown < 48 << 20, "the gateway set {grown} bytes aside");
    assert!(!pg.saw("aaaa"), "a part of it was forwarded");
    lab.bot("ci").psql(&pg.url(), "SELECT 1").ok();
}

#[test]
fn p14_nothing_of_a_partial_message_is_forwarded() {
    let (lab, pg) = Lab::with_shop("p14-partial", &read_only());
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    let whole = wire::query("SELECT 'partial'");
    for byte in &whole[..whole.len() - 1] {
        raw.send(conn, &[*byte]);
    }
    never("it was forwarded without its end", Duration::from_millis(200), || pg.saw("'partial'").then_some(()));
    raw.send(conn, &whole[whole.len() - 1..]);
    raw.until(conn, b'Z');
    assert_eq!(pg.ran("'partial'"), 1, "whole, it is forwarded once");

    raw.send(conn, &whole[..whole.len() - 1]);
    raw.close(conn);
    eventually("the session ends", Duration::from_secs(10), || {
        let record = lab.record();
        record.events().any(|event| event.is("disconnected")).then_some(())
    });
    assert_eq!(pg.ran("'partial'"), 1);
}

// ---- Flaws that others had

#[test]
fn v8_second_startup_during_authentication() {
    let (lab, pg) = Lab::with_shop("v8", &read_only());
    let mut raw = lab.bot("ci").raw();
    let conn = raw.open("127.0.0.1", pg.port());
    raw.send(conn, &wire::startup(&[("user", "app_scram"), ("database", "shop")]));
    raw.until(conn, b'R');
    raw.send(conn, &wire::startup(&[("user", "app"), ("database", "shop")]));
    let (messages, _) = raw.until_closed(conn);
    assert!(messages.iter().all(|message| message.kind != b'Z'), "logged in as somebody else: {}", shown(&messages));
    assert!(!pg.saw("connection authorized: user=app "), "{}", pg.log());
}

#[test]
fn v8_strange_startups_end_at_once() {
    let (lab, pg) = Lab::with_shop("v8-startup", &read_only());
    let empty_name = wire::startup(&[("", "x"), ("user", "app"), ("database", "shop")]);
    let huge = 0xffff_fff0_u32.to_be_bytes().to_vec();
    let negative = 0x8000_0000_u32.to_be_bytes().to_vec();
    let zero = vec![0, 0, 0, 0, 0, 3, 0, 0];
    let unterminated = wire::untyped(&[&(3_u32 << 16).to_be_bytes()[..], b"user\0app"].concat());
    for (what, bytes) in [
        ("empty name", empty_name),
        ("huge", huge),
        ("negative", negative),
        ("zero", zero),
        ("unterminated", unterminated),
    ] {
        let started = Instant::now();
        let mut raw = lab.bot("ci").raw();
        let conn = raw.open("127.0.0.1", pg.port());
        raw.send(conn, &bytes);
        raw.send_many(conn, 0, 64);
        let (messages, _) = raw.until_closed(conn);
        assert!(messages.iter().all(|message| message.kind == b'E'), "{what}: {}", shown(&messages));
        assert!(started.elapsed() < Duration::from_secs(8), "{what} kept the gateway busy");
    }
    assert!(!pg.saw("connection authorized"));
    lab.bot("ci").psql(&pg.url(), "SELECT 1").ok();
}

#[test]
fn v8_bytes_between_ssl_request_and_its_answer_end_the_connection() {
    let (lab, pg) = Lab::with_shop("v8-ssl", &read_only());
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    // In the middle of a session an SSLRequest is no message at all.
    raw.send(conn, &wire::ssl_request());
    let (messages, _) = raw.until_closed(conn);
    assert!(messages.iter().all(|message| message.kind == b'E'), "{}", shown(&messages));
}

#[test]
fn v10_no_message_hides_inside_another() {
    let (lab, pg) = Lab::with_shop("v10", &read_only());
    let hidden = wire::query("DROP TABLE target /*smuggled*/");
    let after_the_text = wire::message(b'Q', &[wire::text("SELECT 1"), hidden.clone()].concat());
    // A parameter that claims to be longer than its message, so that a careless reader goes on into the next one.
    let mut body = [wire::text(""), wire::text("")].concat();
    body.extend([0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf0]);
    let too_long = [wire::parse("", "SELECT $1::text"), wire::message(b'B', &body), hidden.clone()].concat();
    // A length that wraps to something small in 32 bits signed.
    let wrapped = [vec![b'Q', 0x80, 0, 0, 4], hidden].concat();
    for (what, bytes) in [("after the text", after_the_text), ("too long", too_long), ("wrapped", wrapped)] {
        let mut raw = lab.bot("ci").raw();
        let (conn, _) = raw.log_in(pg.port());
        raw.send(conn, &bytes);
        let (messages, _) = raw.until_closed(conn);
        assert!(messages.iter().any(|message| message.kind == b'E'), "{what} is not refused: {}", shown(&messages));
    }
    assert!(!pg.saw("/*smuggled*/"));
    assert_eq!(targets(&pg), "3");
    assert_eq!(lab.record().forwarded("/*smuggled*/"), 0);
}

// ---- Approval and audit

#[test]
fn a1_an_approval_releases_what_was_shown_and_nothing_else() {
    let (lab, pg) = Lab::with_shop("a1", &Rules::allowing().hold("schema-changes", "schema"));
    let first = lab.bot("ci").start_psql(&pg.url(), "CREATE TABLE a1_first ()");
    let wanted = lab.held();
    let second = lab.bot("ci").start_psql(&pg.url(), "CREATE TABLE a1_second ()");
    let both = lab.held_count(2);
    let other = both.iter().find(|request| request.id != wanted.id).expect("two requests");
    lab.approve(&wanted).ok();
    first.finish(Duration::from_secs(10)).ok();
    never("one approval released another operation", Duration::from_millis(300), || {
        (pg.ran("a1_second") > 0).then_some(())
    });
    lab.deny(other).ok();
    second.finish(Duration::from_secs(10)).failed();
    assert_eq!((pg.ran("a1_first"), pg.ran("a1_second")), (1, 0));
}

#[test]
fn a1_other_parameters_are_another_operation() {
    let (lab, pg) = Lab::with_shop("a1-bound", &Rules::allowing().hold("deletes", "delete"));
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    raw.send(conn, &[wire::parse("s", "DELETE FROM target WHERE id = $1::int"), wire::sync()].concat());
    raw.until(conn, b'Z');
    let run = |id: &str| [wire::bind("", "s", &[id]), wire::execute("", 0), wire::sync()].concat();
    raw.send(conn, &run("1"));
    lab.approve(&lab.held()).ok();
    raw.until(conn, b'Z');
    lab.nothing_held();
    raw.send(conn, &run("2"));
    let second = lab.held();
    assert_eq!(pg.admin("SELECT count(*) FROM target WHERE id = 2"), "1", "the approval for 1 released 2");
    lab.deny(&second).ok();
    raw.until(conn, b'Z');
    assert_eq!(pg.admin("SELECT string_agg(id::text, ',' ORDER BY id) FROM target"), "2,3");
}

#[test]
fn a1_the_sessions_state_is_part_of_what_was_approved() {
    let rules = Rules::allowing().policy(
        "policy: schema-changes\nmatch: { resource: shop, effects: [schema] }\ndecide: hold\non_hold: retry\napproval: { from: [{ user: root }], timeout: 30s }\n",
    );
    let (lab, pg) = Lab::with_shop("a1-state", &rules);
    pg.admin("CREATE SCHEMA elsewhere AUTHORIZATION app; CREATE TABLE elsewhere.target (id int)");
    pg.admin("ALTER TABLE elsewhere.target OWNER TO app");
    let bot = lab.bot("ci");
    bot.psql(&pg.url(), "DROP TABLE target").failed();
    lab.approve(&lab.held()).ok();
    // The same bytes, but now they mean another table.
    bot.script(&pg.url(), "SET search_path = elsewhere;\nDROP TABLE target;\n").says(&["42501"]);
    // The same bytes from another workload.
    lab.bot("other").psql(&pg.url(), "DROP TABLE target").failed();
    assert_eq!(pg.ran("DROP TABLE target"), 0);
    assert_eq!(pg.admin("SELECT to_regclass('elsewhere.target') IS NOT NULL"), "t");
    bot.psql(&pg.url(), "DROP TABLE target").ok();
    assert_eq!(pg.ran("DROP TABLE target"), 1);
}

#[test]
fn a5_the_approver_sees_hostile_text_made_visible() {
    let (lab, pg) = Lab::with_shop("a5", &Rules::allowing().hold("schema-changes", "schema"));
    let sql = "CREATE TABLE a5 (a int); /* \u{202e}elbat pord\u{2066} \r \x1b[2J\x1b[31m \u{200b} */ SELECT 1";
    let psql = lab.bot("ci").start_psql(&pg.url(), sql);
    let request = lab.held();
    for arguments in [&["approvals", "show", &request.id][..], &["approvals", "list"]] {
        let said = lab.holdpoint(arguments).ok();
        for hostile in ['\u{202e}', '\u{2066}', '\r', '\x1b', '\u{200b}'] {
            assert!(!said.all().contains(hostile), "{arguments:?} prints {hostile:?} as it is: {:?}", said.stdout);
        }
    }
    let shown = lab.holdpoint(&["approvals", "show", &request.id]).ok().says(&["CREATE TABLE a5", "202e", "ci"]);
    assert!(shown.stdout.contains("1b") || shown.stdout.contains("\\e"), "the escape is made visible: {shown}");
    lab.deny(&request).ok();
    psql.finish(Duration::from_secs(10)).failed();
    // The record's readers print to terminals too.
    let session = lab.record().sessions[0].id.clone();
    let replayed = lab.holdpoint(&["replay", &session, "--no-wait"]).ok();
    assert!(!replayed.all().contains('\x1b') && !replayed.all().contains('\u{202e}'), "{:?}", replayed.stdout);
}

#[test]
fn a5_a_long_statement_is_not_hidden_by_its_length() {
    let (lab, pg) = Lab::with_shop("a5-long", &Rules::allowing().hold("schema-changes", "schema"));
    let sql = format!("SELECT 1; {} DROP TABLE target;\n", " ".repeat(200_000));
    let mut psql = lab.bot("ci").start_script(&pg.url());
    // As one simple query: psql would otherwise send two.
    psql.write(&sql.replacen(';', "\\;", 1));
    let request = lab.held();
    let shown = lab.holdpoint(&["approvals", "show", &request.id]).ok();
    assert!(
        shown.stdout.contains("DROP TABLE target"),
        "what it does is not shown: {}",
        &shown.stdout[..shown.stdout.len().min(2000)]
    );
    assert!(shown.stdout.contains("200"), "its size is not shown");
    lab.deny(&request).ok();
    psql.finish(Duration::from_secs(10));
    assert_eq!(targets(&pg), "3");
}

#[test]
fn a7_a_held_operation_expires_on_time_while_others_are_busy() {
    let rules = Rules::allowing().hold_for("schema-changes", "schema", "from: [{ user: root }], timeout: 2s");
    let (lab, pg) = Lab::with_shop("a7", &rules);
    let mut busy = lab.bot("busy").start_script(&pg.url());
    let held = lab.bot("ci").start_psql(&pg.url(), "DROP TABLE target");
    lab.held();
    let started = Instant::now();
    for number in 0..2_000 {
        busy.write(&format!("SELECT {number};\n"));
    }
    held.finish(Duration::from_secs(10)).failed().says(&["42501"]);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(4), "it expired late, after {took:?}");
    lab.nothing_held();
    busy.finish(Duration::from_secs(20)).ok();
    assert_eq!(targets(&pg), "3");
}

#[test]
fn a7_an_expired_request_stays_expired_over_a_restart() {
    let rules = Rules::allowing().hold_for("schema-changes", "schema", "from: [{ user: root }], timeout: 1s");
    let (lab, pg) = Lab::with_shop("a7-restart", &rules);
    lab.bot("ci").psql(&pg.url(), "DROP TABLE target").failed();
    let request = lab.record().of("requested", "DROP TABLE")[0].text("request");
    lab.kill();
    lab.start();
    assert!(lab.pending().is_empty());
    lab.holdpoint(&["approvals", "approve", &request]).failed().says(&["in time"]);
    assert_eq!(lab.record().outcome(&request), ["expired"], "ended once, and not again by the restart");
    assert_eq!(targets(&pg), "3");
}

#[test]
fn a7_a_terminated_client_leaves_no_request_behind() {
    venv();
    let (lab, pg) = Lab::with_shop("a7-gone", &Rules::allowing().hold("schema-changes", "schema"));
    let bot = lab.bot("ci");
    let psql = bot.start_psql(&pg.url(), "DROP TABLE target");
    let request = lab.held();
    bot.signal("psql", Signal::SIGTERM);
    drop(psql);
    lab.nothing_held();
    lab.approve(&request).failed().says(&["withdrew"]);
    assert_eq!(targets(&pg), "3");
}
