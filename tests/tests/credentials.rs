//! Credentials that the bot never holds: sealed, rotated, and used to log in in its place; rows P13 and V8 of the bypass
//! table where the gateway itself is the one who asks.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use nix::sys::signal::Signal;
use tests::{Certificates, Lab, Method, Postgres, Raw, Rules, Running, eventually, shown, venv, wire};

/// A shop whose PostgreSQL has TLS, behind a resource that logs in as a role with a password.
fn shop(name: &str, method: Method, lines: &str) -> (Lab, Postgres) {
    shop_in(Lab::new(name), method, lines)
}

fn shop_in(lab: Lab, method: Method, lines: &str) -> (Lab, Postgres) {
    let certificates = Certificates::make(&lab);
    let pg = Postgres::start_with_tls(&lab, &certificates);
    let lines = format!("tls: {{ ca: {} }}\ncredential: shop/app\n{lines}", certificates.path("ca.crt"));
    let rules = Rules::allowing().refuse("no-schema", "schema, delete").resource_line(&lines);
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    lab.start();
    set(&lab, "set", "shop/app", &["--user", method.role()], method.password());
    (lab, pg)
}

/// `holdpoint credentials set` or `rotate`, with the value on its standard input.
#[track_caller]
fn set(lab: &Lab, verb: &str, name: &str, more: &[&str], value: &str) {
    lab.credential(verb, name, more, value).ok();
}

/// A bot's connection string: it names a role that does not exist, and has no password.
fn bot(pg: &Postgres) -> String {
    format!("postgresql://bot@127.0.0.1:{}/shop", pg.port())
}

/// No secret anywhere that a person or a program could read it.
#[track_caller]
fn assert_kept(lab: &Lab, secrets: &[&str]) {
    let record = lab.record();
    for secret in secrets {
        assert!(!record.contains(secret), "{secret} is in the record");
        assert!(!lab.gateway_log().contains(secret), "{secret} is in the log");
        let found = lab.run(&[
            "grep",
            "-r",
            "-l",
            "-a",
            secret,
            &lab.path("state").display().to_string(),
            &lab.path("run").display().to_string(),
        ]);
        assert_eq!(found.stdout, "", "{secret} is on disk in clear");
    }
}

#[test]
fn the_bot_is_logged_in_with_what_it_never_had() {
    venv();
    for method in [Method::Scram, Method::Md5, Method::Password] {
        let (lab, pg) = shop(&format!("inject-{}", method.role()), method, "");
        for url in
            [bot(&pg), format!("{}?sslmode=verify-full&sslrootcert={}", bot(&pg), lab.path("run/trust.pem").display())]
        {
            let who = "SELECT current_user, current_setting('is_superuser')";
            lab.bot("ci").psql(&url, who).ok().says(&[&format!("{}|off", method.role())]);
            lab.bot("ci").python(PSYCOPG, &url).ok().says(&[method.role()]);
        }
        lab.bot("ci").python(ASYNCPG, &bot(&pg)).ok().says(&[method.role()]);
        // Whatever the bot holds is not looked at, and does not go on.
        let with_password = bot(&pg).replace("bot@", "bot:canary-of-the-bot@");
        lab.bot("ci").psql(&with_password, "SELECT 1").ok();
        assert!(pg.log().contains("SSL enabled") && !pg.log().contains("user=bot "), "{}", pg.log());
        let expected = match method {
            Method::Scram => "method=scram-sha-256",
            Method::Md5 => "method=md5",
            _ => "method=password",
        };
        assert!(pg.log().contains(&format!("identity=\"{}\" {expected}", method.role())), "{}", pg.log());
        assert_kept(&lab, &[method.password(), "canary-of-the-bot"]);
        // The control: without the credential nobody gets in.
        lab.holdpoint(&["credentials", "delete", "shop/app"]).ok();
        lab.bot("ci").psql(&bot(&pg), "SELECT 'without'").failed().says(&["there is no credential", "shop/app"]);
        assert!(!pg.saw("without"));
    }
}

const PSYCOPG: &str = r"
import sys, psycopg
with psycopg.connect(sys.argv[1]) as conn:
    print(conn.execute('SELECT current_user').fetchone()[0], conn.pgconn.used_password)
";

const ASYNCPG: &str = r"
import asyncio, sys, asyncpg
async def main():
    conn = await asyncpg.connect(sys.argv[1])
    print(await conn.fetchval('SELECT current_user'))
    await conn.close()
asyncio.run(main())
";

/// libpq 15 and the server both say which mechanism it was: a server that offers PLUS and gets another one, from a client
/// that could have, says so itself.
#[test]
fn p13_the_gateway_binds_to_the_backends_own_certificate() {
    let (lab, pg) = shop("inject-plus", Method::Scram, "");
    lab.bot("ci").psql(&bot(&pg), "SELECT 1").ok();
    // What the gateway sent stands in the record by length alone, so the mechanism is read off that: with PLUS the first
    // message has the mechanism's name and the channel's kind in it.
    let plus = "SCRAM-SHA-256-PLUS\0".len() + 4 + "p=tls-server-end-point,,n=,r=".len() + 24 + 5;
    assert!(lab.record().contains(&format!("authentication message, {plus} bytes left out")), "it was bound");
}

#[test]
fn a_cleartext_password_goes_into_verified_tls_only() {
    let lab = Lab::new("inject-clear");
    let certificates = Certificates::make(&lab);
    let pg = Postgres::start_with_tls(&lab, &certificates);
    for (tls, passes) in [("disable", false), ("require", false), ("verify-full", true)] {
        let ca = if passes { format!(", ca: {}", certificates.path("ca.crt")) } else { String::new() };
        let lines = format!("tls: {{ upstream: {tls}{ca} }}\ncredential: shop/app");
        lab.policies(&Rules::allowing().resource_line(&lines).resource(pg.port()), "");
        lab.start();
        let method = Method::Password;
        set(&lab, "set", "shop/app", &["--user", method.role()], method.password());
        let said = lab.bot("ci").psql(&bot(&pg), "SELECT current_user");
        if passes {
            said.ok().says(&[method.role()]);
        } else {
            said.failed().says(&["a password in clear", "verify-full"]);
        }
        lab.stop().ok();
    }
    assert_eq!(pg.log().matches("connection authorized").count(), 1, "{}", pg.log());
}

/// Every client, every way in, right and wrong passwords, held and refused statements, all the pages of the
/// administration socket, at the most talkative log level: none of them has a secret, and there is no core to look into.
#[test]
fn no_secret_is_in_a_log_record_error_answer_or_core() {
    venv();
    let lab = Lab::new("secrets");
    lab.log_at("trace");
    let (lab, pg) = shop_in(lab, Method::Scram, "postgres: { client_auth: { scram: shop/bot } }");
    set(&lab, "set", "shop/bot", &["--user", "bot"], "canary-of-a-bot");
    let secrets = ["canary-of-a-bot", "canary-mistyped", "canary-rotated", Method::Scram.password()];
    let mut said = Vec::new();
    for (password, works) in [("canary-of-a-bot", true), ("canary-mistyped", false)] {
        for tls in ["disable".to_owned(), format!("verify-full&sslrootcert={}", lab.path("run/trust.pem").display())] {
            let url = format!("postgresql://bot:{password}@127.0.0.1:{}/shop?sslmode={tls}", pg.port());
            for told in [
                lab.bot("ci").psql(&url, "SELECT 1; SELECT no_such_column FROM customers"),
                lab.bot("ci").psql(&url, "DROP TABLE orders"),
                lab.bot("ci").python(PSYCOPG, &url),
            ] {
                let is_in =
                    told.all().contains("app_scram") || told.all().contains("42501") || told.all().contains("no_such");
                assert!(!is_in || works, "a wrong password got in: {told}");
                said.push(told);
            }
        }
    }
    set(&lab, "rotate", "shop/app", &[], "canary-rotated");
    let right = format!("postgresql://bot:canary-of-a-bot@127.0.0.1:{}/shop", pg.port());
    said.push(lab.bot("ci").psql(&right, "SELECT 1").failed().says(&["password authentication failed"]));
    for page in [
        "status",
        "status -o json",
        "sessions list",
        "sessions list -o json",
        "approvals list -o json",
        "credentials list",
        "credentials list -o json",
        "verify",
        "doctor",
        "trust",
        "policy check",
    ] {
        said.push(lab.holdpoint(&page.split(' ').collect::<Vec<_>>()));
    }
    let shown = lab.holdpoint(&["sessions", "list", "-o", "json"]).ok();
    assert!(said.iter().filter(|one| one.status.success()).count() > 8, "the pages are there: {said:?}");
    assert!(shown.stdout.contains("shop"), "{shown}");
    assert!(lab.gateway_log().contains("DEBUG"), "the log is talkative");
    for secret in secrets {
        for told in &said {
            assert!(!told.all().contains(secret), "{secret}: {told}");
        }
    }
    assert_kept(&lab, &secrets);

    // A core would have them; there is none, even where the limit allows one. The control is a process that leaves one.
    let place = lab.path("cores");
    std::fs::create_dir(&place).expect("the lab's directory is ours");
    let mut command = lab.command(&["sleep", "60"]);
    let mut control = Running::start(command.current_dir(&place));
    let gateway = lab.gateway().take().expect("it runs");
    for pid in [control.pid(), gateway.pid()] {
        lab.run(&["prlimit", "--pid", &pid.to_string(), "--core=unlimited:unlimited"]).ok();
    }
    control.signal(Signal::SIGABRT);
    let dumped = eventually("it ends", Duration::from_secs(10), || control.ended());
    let aborted = gateway.abort().status;
    assert!(!aborted.core_dumped(), "the gateway left a core");
    assert_eq!(aborted.signal(), Some(6), "it ended by the abort");
    if std::fs::read_to_string("/proc/sys/kernel/core_pattern").is_ok_and(|pattern| pattern.trim() == "core") {
        assert!(dumped.core_dumped(), "the control leaves one here");
    }
}

#[test]
fn rotating_drops_no_connection() {
    let (lab, pg) = shop("inject-rotate", Method::Scram, "");
    let mut before = lab.bot("ci").start_script(&bot(&pg));
    before.write("SELECT 'first', current_user;\n");
    eventually("it is logged in", Duration::from_secs(10), || (pg.ran("'first'") == 1).then_some(()));
    pg.admin("ALTER ROLE app_scram PASSWORD 'canary-rotated'");
    lab.bot("ci").psql(&bot(&pg), "SELECT 'between'").failed().says(&["password authentication failed"]);
    set(&lab, "rotate", "shop/app", &[], "canary-rotated");
    lab.bot("ci").psql(&bot(&pg), "SELECT 'after', current_user").ok().says(&["after|app_scram"]);
    before.write("SELECT 'second', current_user;\n");
    before.finish(Duration::from_secs(10)).ok().says(&["first|app_scram", "second|app_scram"]);
    // What was set outlives the gateway.
    lab.stop().ok();
    lab.start();
    lab.bot("ci").psql(&bot(&pg), "SELECT 'restarted'").ok();
    let listed = lab.holdpoint(&["credentials", "list"]).ok().says(&["shop/app", "app_scram"]);
    assert!(!listed.all().contains("canary"), "{listed}");
    lab.holdpoint(&["credentials", "rotate", "shop/none"]).failed();
    assert!(lab.record().contains("credential shop/app was set, version 2"), "a change is recorded");
    assert_kept(&lab, &["canary-rotated", Method::Scram.password()]);
}

#[test]
fn credentials_are_roots_alone() {
    let (lab, _pg) = shop("inject-rights", Method::Scram, "");
    lab.holdpoint_as("games", &["credentials", "list"]).failed().says(&["only root"]);
    lab.holdpoint_as("games", &["credentials", "delete", "shop/app"]).failed().says(&["only root"]);
    // Not even root, from inside a guard.
    let socket = lab.path("run/holdpoint.sock").display().to_string();
    let config = lab.config().display().to_string();
    let inside =
        ["exec", "--config", &config, "--", &lab.tool("holdpoint"), "credentials", "--socket", &socket, "list"];
    lab.holdpoint(&inside).failed().says(&["outside guarded workloads"]);
    let state = lab.path("state").display().to_string();
    let loose = lab.run(&[
        "find",
        &format!("{state}/credentials"),
        &format!("{state}/credentials.key"),
        &format!("{state}/authority/ca.key"),
        "-perm",
        "/077",
    ]);
    assert_eq!(loose.ok().stdout, "", "somebody else may read these");
}

#[test]
fn user_and_database_are_mapped_and_judged_as_what_they_become() {
    let lines = "postgres: { user: app_md5, database: shop }";
    let (lab, pg) = shop("inject-mapped", Method::Md5, lines);
    let url = format!("postgresql://whoever@127.0.0.1:{}/nowhere", pg.port());
    lab.bot("ci").psql(&url, "SELECT current_user, current_database()").ok().says(&["app_md5|shop"]);
    let record = lab.record();
    assert!(record.contains("whoever") && record.contains("app_md5"), "both are on record");
    // A policy sees who it will be.
    let rules = Rules::allowing()
        .policy("policy: nobody\nmatch: { resource: shop, effects: [session] }\nwhen: 'operation.user == \"app_md5\" && operation.client_user == \"whoever\"'\ndecide: refuse\n");
    let lines = "tls: { upstream: require }\ncredential: shop/app\npostgres: { user: app_md5, database: shop }";
    let rules = rules.resource_line(lines);
    lab.stop().ok();
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    lab.start();
    lab.bot("ci").psql(&url, "SELECT 1").failed().says(&["nobody"]);
    lab.bot("ci").psql(&url.replace("whoever", "another"), "SELECT 1").ok();
}

// ---- The gateway asks the bot

#[test]
fn p13_a_bot_proves_its_own_password_and_may_insist_on_binding() {
    venv();
    let (lab, pg) = shop("claim", Method::Scram, "postgres: { client_auth: { scram: shop/bot } }");
    set(&lab, "set", "shop/bot", &["--user", "bot"], "canary-of-the-bot");
    let with = |password: &str, more: &str| bot(&pg).replace("bot@", &format!("bot:{password}@")) + more;
    let trust = format!("&sslrootcert={}", lab.path("run/trust.pem").display());
    let psql = |url: &str| lab.bot("ci").psql(url, "SELECT current_user");
    psql(&with("canary-of-the-bot", "?sslmode=disable")).ok().says(&["app_scram"]);
    let insists = format!("?sslmode=verify-full&channel_binding=require{trust}");
    psql(&with("canary-of-the-bot", &insists)).ok().says(&["app_scram"]);
    lab.bot("ci").python(PSYCOPG, &with("canary-of-the-bot", &insists)).ok().says(&["app_scram True"]);
    lab.bot("ci").python(ASYNCPG, &with("canary-of-the-bot", "?sslmode=require")).ok().says(&["app_scram"]);
    let before = pg.connections();
    for wrong in [
        with("not-it", &insists),
        with("not-it", "?sslmode=disable"),
        with("canary-of-the-bot", "?sslmode=disable").replace("bot:", "other:"),
    ] {
        psql(&wrong).failed().says(&["password authentication failed"]);
    }
    assert_eq!(pg.connections(), before, "the backend hears nothing of somebody who has proven nothing");
    assert!(lab.record().contains("did not prove"));

    // A verifier does as well as the password, and is what PostgreSQL itself keeps.
    let verifier = pg.admin("SELECT rolpassword FROM pg_authid WHERE rolname = 'app_scram'");
    set(&lab, "set", "shop/bot", &["--user", "bot"], &verifier);
    psql(&with(Method::Scram.password(), &insists)).ok().says(&["app_scram"]);
    psql(&with("canary-of-the-bot", &insists)).failed();
    assert_kept(&lab, &["canary-of-the-bot", Method::Scram.password(), &verifier]);

    // Where the kernel's word is enough there is nothing to bind.
    drop((lab, pg));
    let (lab, pg) = shop("claim-kernel", Method::Scram, "");
    let trust = lab.path("run/trust.pem").display().to_string();
    let url = format!("{}?sslmode=verify-full&channel_binding=require&sslrootcert={trust}", bot(&pg));
    lab.bot("ci").psql(&url, "SELECT 1").failed().says(&["channel binding"]);
}

#[test]
fn v8_nothing_but_an_answer_comes_while_the_gateway_asks() {
    let (lab, pg) = shop("claim-v8", Method::Scram, "postgres: { client_auth: { scram: shop/bot } }");
    set(&lab, "set", "shop/bot", &["--user", "bot"], "canary-of-the-bot");
    let startup = wire::startup(&[("user", "bot"), ("database", "shop")]);
    let initial = |mechanism: &str, first: &[u8]| {
        wire::message(b'p', &[&wire::text(mechanism)[..], &wire::length(first.len()), first].concat())
    };
    let good = initial("SCRAM-SHA-256", b"n,,n=,r=abcdefghijkl");
    let cases: [(&str, Vec<Vec<u8>>); 9] = [
        ("a second startup", vec![startup.clone()]),
        ("a second startup in the middle", vec![good.clone(), startup.clone()]),
        ("a query", vec![wire::query("SELECT 'too early'")]),
        ("a query behind the first answer", vec![good.clone(), wire::query("SELECT 'too early'")]),
        ("a length beyond the message", vec![wire::message(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=a")]),
        ("a negative length", vec![wire::message(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff")]),
        ("a length of 2^31", vec![vec![b'p', 0x80, 0, 0, 0]]),
        (
            "a mechanism that was not offered",
            vec![initial("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=abcdef")],
        ),
        ("a proof of nothing", vec![good, wire::message(b'p', b"c=biws,r=abcdefghijkl,p=AAAA")]),
    ];
    for (what, sent) in cases {
        let mut raw: Raw = lab.bot("ci").raw();
        let conn = raw.open("127.0.0.1", pg.port());
        raw.send(conn, &startup);
        raw.until(conn, b'R');
        raw.send(conn, &sent.concat());
        let (messages, _) = raw.until_closed(conn);
        let allowed = messages.iter().all(|message| matches!(message.kind, b'R' | b'E'));
        let errors = messages.iter().filter(|message| message.kind == b'E').count();
        assert!(allowed && errors == 1, "{what}: {}", shown(&messages));
        assert!(messages.iter().all(|message| !(message.kind == b'R' && message.body == [0, 0, 0, 0])), "{what}");
    }
    assert!(!pg.saw("too early"));
    assert_eq!(pg.connections(), 0);
}
