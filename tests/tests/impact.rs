//! What a held statement would touch: asked of a real PostgreSQL, in the bot's own session, which must not notice.

use std::time::Duration;

use serde_json::Value;
use tests::{Lab, Postgres, Request, Rules, eventually, shown, wire};

const SOON: Duration = Duration::from_secs(20);

fn changes_held() -> Rules {
    Rules::allowing().hold("changes", "write, delete, schema, execute, unknown")
}

/// What approvers see of `request` once its impact is known.
#[track_caller]
fn impact(lab: &Lab, request: &Request) -> Value {
    eventually("the impact is known", SOON, || {
        let shown = lab.holdpoint(&["approvals", "show", &request.id, "-o", "json"]).ok();
        let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
        (!shown["impact"].is_null()).then_some(shown)
    })
}

/// Holds `sql` in a psql of its own, gives what approvers see, and denies it.
#[track_caller]
fn looked_at(lab: &Lab, pg: &Postgres, sql: &str) -> Value {
    let psql = lab.bot("ci").start_psql(&pg.url(), sql);
    let request = lab.held();
    let seen = impact(lab, &request);
    lab.deny(&request).ok();
    psql.finish(SOON).failed().says(&["denied by root"]);
    seen["impact"].clone()
}

/// A table whose size PostgreSQL has counted.
fn counted(pg: &Postgres) {
    pg.admin(
        "CREATE TABLE big (id int PRIMARY KEY, word text); ALTER TABLE big OWNER TO app;
         INSERT INTO big SELECT n, 'word ' || n FROM generate_series(1, 5000) n; ANALYZE big",
    );
}

#[test]
fn an_approver_sees_how_much_and_what_locks_and_the_statement_has_not_run() {
    let (lab, pg) = Lab::with_shop("impact", &changes_held());
    counted(&pg);
    let sql = "DELETE FROM big WHERE id <= 1000";
    let psql = lab.bot("ci").start_psql(&pg.url(), sql);
    let request = lab.held();
    let seen = impact(&lab, &request);
    let estimate = &seen["impact"]["estimates"][0];
    assert_eq!((estimate["what"].as_str(), estimate["on"].as_str()), (Some("delete"), Some("public.big")), "{seen}");
    let rows = estimate["rows"].as_u64().expect("a number");
    assert!((900..1100).contains(&rows), "a histogram of 5000 numbers says about 1000: {seen}");
    let touched = &seen["impact"]["touched"][0];
    assert_eq!((touched["name"].as_str(), touched["rows"].as_u64()), (Some("public.big"), Some(5000)), "{seen}");
    assert!(touched["bytes"].as_u64().is_some_and(|bytes| bytes >= 100_000), "{seen}");
    assert_eq!(touched["locks"][0], "RowExclusiveLock", "{seen}");
    assert_eq!(seen["impact"]["missing"], "", "{seen}");
    lab.holdpoint(&["approvals", "show", &request.id]).ok().says(&[
        "it would",
        "delete about",
        "rows of public.big",
        "about 5000 rows",
        "RowExclusiveLock",
    ]);
    assert_eq!((pg.ran(sql), pg.admin("SELECT count(*) FROM big")), (0, "5000".to_owned()));
    // Nothing stays behind that others would wait for.
    let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'big'::regclass AND pid <> pg_backend_pid()";
    assert_eq!(pg.admin(locks), "0");

    // What was approved is what was seen: with another digest, such as that of before the impact was known, nothing is.
    let bare = lab.record().of("requested", &request.id)[0].text("digest");
    let digest = seen["digest"].as_str().expect("a digest");
    assert_ne!(bare, digest);
    let approve =
        |digest: &str| lab.holdpoint(&["approvals", "approve", &request.id, "--reason", "meant", "--digest", digest]);
    approve(&bare).failed().says(&["look at it again"]);
    approve(digest).ok();
    psql.finish(SOON).ok().says(&["DELETE 1000"]);
    assert_eq!(lab.record().of("previewed", &request.id).len(), 1);
    let session = lab.record().sessions.pop().expect("one session").id;
    lab.holdpoint(&["replay", &session, "--no-wait"]).ok().says(&["it would: delete about"]);
    lab.verify();
}

#[test]
fn what_rules_add_is_counted_too() {
    let (lab, pg) = Lab::with_shop("impact-rules", &changes_held());
    counted(&pg);
    pg.admin(
        "CREATE TABLE small (id int); ALTER TABLE small OWNER TO app; INSERT INTO small VALUES (1); ANALYZE small;
         CREATE RULE also AS ON DELETE TO small DO ALSO DELETE FROM big;
         CREATE TABLE never (id int); ALTER TABLE never OWNER TO app; INSERT INTO never SELECT generate_series(1, 5000)",
    );
    let seen = looked_at(&lab, &pg, "DELETE FROM small WHERE id = 1");
    let of = |name: &str| {
        seen["estimates"].as_array().into_iter().flatten().find(|one| one["on"] == name).map(|one| one["rows"].as_u64())
    };
    assert!(of("public.small").is_some(), "{seen}");
    assert_eq!(of("public.big"), Some(Some(5000)), "{seen}");
    // Nobody has counted it: then its size is not known either, rather than nothing.
    let seen = looked_at(&lab, &pg, "DROP TABLE never");
    assert_eq!((&seen["touched"][0]["rows"], &seen["touched"][0]["bytes"]), (&Value::Null, &Value::Null), "{seen}");
}

#[test]
fn what_planning_could_run_is_not_planned() {
    let (lab, pg) = Lab::with_shop("unplanned", &changes_held());
    counted(&pg);
    pg.admin(
        "CREATE SEQUENCE ticks; ALTER SEQUENCE ticks OWNER TO app;
         CREATE FUNCTION tick() RETURNS int LANGUAGE plpgsql IMMUTABLE AS
             'BEGIN EXECUTE ''SELECT nextval(''''ticks'''')''; RETURN 1; END';
         CREATE VIEW ticking AS SELECT id FROM big WHERE id = tick(); ALTER VIEW ticking OWNER TO app",
    );
    let explained = || pg.log().lines().filter(|line| line.contains("EXPLAIN (")).count();
    for sql in [
        "DELETE FROM big WHERE id = tick()",
        "DELETE FROM big USING ticking WHERE big.id = ticking.id",
        "SELECT tick()",
        "DO 'BEGIN DELETE FROM big; END'",
        "DELETE FROM big WHERE id = 1; DELETE FROM big",
    ] {
        let seen = looked_at(&lab, &pg, sql);
        assert_ne!(seen["missing"], "", "{sql}: {seen}");
        assert_eq!(seen["estimates"].as_array().map(Vec::len), Some(0), "{sql}: {seen}");
    }
    assert_eq!(explained(), 0);
    // Told to analyze, by a comment, a bracket or its own words, EXPLAIN does no more.
    for sql in [
        "DELETE FROM big WHERE id = 1 /* ANALYZE */",
        "WITH gone AS (DELETE FROM big RETURNING id) SELECT count(*) FROM gone",
        "UPDATE big SET word = 'ANALYZE' WHERE id < 3",
        "SELECT nextval('ticks')",
    ] {
        let seen = looked_at(&lab, &pg, sql);
        assert_ne!(seen["estimates"].as_array().map(Vec::len), Some(0), "{sql}: {seen}");
    }
    assert!(explained() >= 4);
    assert_eq!(pg.admin("SELECT is_called FROM ticks"), "f");
    assert_eq!(pg.admin("SELECT count(*), count(DISTINCT word) FROM big"), "5000|5000");
}

#[test]
fn what_cannot_be_explained_shows_sizes_and_says_why() {
    let (lab, pg) = Lab::with_shop("unexplained", &changes_held());
    counted(&pg);
    for sql in ["DROP TABLE big", "TRUNCATE big", "ALTER TABLE big ADD made int"] {
        let seen = looked_at(&lab, &pg, sql);
        assert_eq!(seen["touched"][0]["name"], "public.big", "{sql}: {seen}");
        assert_eq!(seen["touched"][0]["rows"], 5000, "{sql}: {seen}");
        assert!(seen["missing"].as_str().is_some_and(|why| why.contains("ACCESS EXCLUSIVE")), "{sql}: {seen}");
    }
    let seen = looked_at(&lab, &pg, "DELETE FROM nowhere");
    assert!(seen["missing"].as_str().is_some_and(|why| why.contains("\"nowhere\" does not exist")), "{seen}");
    let seen = looked_at(&lab, &pg, "DELETE FROM big WHERE id = 'one'");
    assert!(seen["missing"].as_str().is_some_and(|why| why.contains("invalid input syntax")), "{seen}");
}

#[test]
fn a_lock_that_somebody_holds_delays_nobody() {
    let (lab, pg) = Lab::with_shop("locked", &changes_held());
    counted(&pg);
    let mut other = lab.bot("other").raw();
    let (holder, _) = other.log_in(pg.port());
    other.query(holder, "BEGIN");
    other.query(holder, "LOCK TABLE big");
    eventually("the table is locked", SOON, || {
        let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'big'::regclass AND mode = 'AccessExclusiveLock'";
        (pg.admin(locks) == "1").then_some(())
    });
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM big WHERE id = 1");
    let request = lab.held();
    let seen = impact(&lab, &request);
    assert_eq!(seen["impact"]["missing"], "somebody holds a lock that it needs", "{seen}");
    assert_eq!(seen["impact"]["touched"][0]["rows"], 5000, "what the catalog remembers needs no lock: {seen}");
    lab.approve(&request).ok();
    other.query(holder, "COMMIT");
    psql.finish(SOON).ok().says(&["DELETE 1"]);
}

#[test]
fn a_transaction_and_an_unnamed_statement_are_as_they_were() {
    let (lab, pg) = Lab::with_shop("transaction", &changes_held());
    counted(&pg);
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    raw.query(conn, "BEGIN");
    raw.query(conn, "SELECT 1");
    // Prepared alone, so that the gateway's own questions come between it and its execution.
    let sql = "DELETE FROM big WHERE id = $1";
    raw.send(conn, &[wire::parse("", sql), wire::sync()].concat());
    raw.until(conn, b'Z');
    raw.send(conn, &[wire::bind("", "", &["3"]), wire::execute("", 0), wire::sync()].concat());
    let request = lab.held();
    let seen = impact(&lab, &request);
    assert_eq!(seen["impact"]["estimates"][0]["rows"], 1, "with the value that is bound: {seen}");
    lab.approve(&request).ok();
    assert!(shown(&raw.until(conn, b'Z')).contains("DELETE 1"));
    // Another time, by the same unnamed statement, and refused: the transaction has failed, as by the backend.
    raw.send(conn, &[wire::bind("", "", &["4"]), wire::execute("", 0), wire::sync()].concat());
    let request = lab.held();
    impact(&lab, &request);
    lab.deny(&request).ok();
    assert!(shown(&raw.until(conn, b'Z')).contains("denied by root"));
    assert!(shown(&raw.query(conn, "SELECT 2")).contains("current transaction is aborted"));
    raw.query(conn, "ROLLBACK");
    assert_eq!(pg.admin("SELECT count(*) FROM big WHERE id IN (3, 4)"), "2");

    // A snapshot that a look would take is left to the statement.
    raw.query(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    raw.send(conn, &wire::query("DELETE FROM big WHERE id = 5"));
    let request = lab.held();
    let seen = impact(&lab, &request);
    assert!(seen["impact"]["missing"].as_str().is_some_and(|why| why.contains("snapshot")), "{seen}");
    pg.admin("DELETE FROM big WHERE id = 5");
    lab.approve(&request).ok();
    // With a snapshot from before it would have said that it cannot serialize.
    assert!(shown(&raw.until(conn, b'Z')).contains("DELETE 0"));
    raw.query(conn, "COMMIT");
    // Settings, and what the session may do, are what they were.
    let settings = "SELECT concat_ws('/', current_setting('statement_timeout'), current_setting('lock_timeout'),
                    current_setting('transaction_read_only'), txid_current_if_assigned() IS NULL)";
    let settings = shown(&raw.query(conn, settings));
    assert!(settings.contains("0/0/off/t"), "{settings}");
    lab.verify();
}

#[test]
fn who_approves_at_once_waits_for_no_more_than_the_look() {
    let (lab, pg) = Lab::with_shop("at-once", &changes_held());
    counted(&pg);
    for id in 1..=10 {
        let psql = lab.bot("ci").start_psql(&pg.url(), &format!("DELETE FROM big WHERE id = {id}"));
        let request = lab.held();
        match id % 3 {
            0 => {
                lab.deny(&request).ok();
                psql.finish(SOON).failed().says(&["denied by root"]);
            }
            _ => {
                lab.approve(&request).ok();
                psql.finish(SOON).ok().says(&["DELETE 1"]);
            }
        }
    }
    assert_eq!(pg.admin("SELECT count(*) FROM big"), "4993");
    lab.verify();
}

#[test]
fn nothing_is_asked_where_the_resource_says_so() {
    let (lab, pg) = Lab::with_shop("unasked", &changes_held().resource_line("postgres: { preview: none }"));
    counted(&pg);
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM big WHERE id = 1");
    let request = lab.held();
    lab.approve(&request).ok();
    psql.finish(SOON).ok();
    assert!(!pg.log().contains("holdpoint: impact"));
    assert!(lab.record().of("previewed", &request.id).is_empty());
}

#[test]
fn planning_runs_no_domain_cast_or_check_of_users_own() {
    let (lab, pg) = Lab::with_shop("unplanned-types", &changes_held());
    counted(&pg);
    pg.admin(
        "CREATE FUNCTION fine(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 > 0';
         CREATE DOMAIN positive AS int CHECK (fine(VALUE));
         CREATE TABLE domained (id positive); ALTER TABLE domained OWNER TO app;
         CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TABLE watched (id int); ALTER TABLE watched OWNER TO app;
         CREATE TRIGGER t BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION noted()",
    );
    for sql in ["INSERT INTO domained VALUES (1)", "DELETE FROM big WHERE id = 1::positive"] {
        let seen = looked_at(&lab, &pg, sql);
        assert_eq!(seen["estimates"].as_array().map(Vec::len), Some(0), "{sql}: {seen}");
        assert_ne!(seen["missing"], "", "{sql}: {seen}");
    }
    // A trigger runs with the rows, not with the plan.
    let seen = looked_at(&lab, &pg, "INSERT INTO watched VALUES (1)");
    assert_eq!(seen["estimates"][0]["on"], "public.watched", "{seen}");
}
