//! Holding at commit on a real PostgreSQL: what ran is undone unless a person approves it, and nothing commits it else.

use std::time::Duration;

use serde_json::Value;
use tests::{Lab, Postgres, Raw, Request, Rules, eventually, shown, wire};

const SOON: Duration = Duration::from_secs(20);

/// Changes of rows and of tables are held at commit; code and what cannot be seen through wait themselves.
fn commits_held() -> Rules {
    Rules::allowing()
        .policy(
            "policy: kept\nmatch: { resource: shop, effects: [write, delete, schema] }\ndecide: hold_commit\n\
             approval: { from: [{ user: root }], timeout: 30s, lock_time: 20s }\n",
        )
        .hold("unseen", "unknown, execute, privilege")
}

fn targets(pg: &Postgres) -> String {
    pg.admin("SELECT coalesce(string_agg(id::text, ',' ORDER BY id), '') FROM target")
}

/// What approvers see of `request` once it is known what ran.
#[track_caller]
fn ran(lab: &Lab, request: &Request) -> Value {
    eventually("what ran is shown", SOON, || {
        let shown = lab.holdpoint(&["approvals", "show", &request.id, "-o", "json"]).ok();
        let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
        let ran = shown["impact"]["ran"].clone();
        (!ran.is_null()).then_some(ran)
    })
}

const CHANGES: &str = "BEGIN;
DELETE FROM target WHERE id < 3;
INSERT INTO target SELECT generate_series(10, 14);
CREATE TABLE made (id int);
SELECT count(*) FROM target;
COMMIT;
SELECT 'after: ' || count(*) FROM target;
";

#[test]
fn what_ran_is_shown_with_its_rows_and_kept_once_approved() {
    let (lab, pg) = Lab::with_shop("commit", &commits_held());
    let mut psql = lab.bot("ci").start_script(&pg.url());
    psql.write(CHANGES);
    psql.close_stdin();
    let request = lab.held();
    let seen = ran(&lab, &request);
    let rows: Vec<_> =
        seen.as_array().expect("a list").iter().map(|one| (&one["statement"], one["rows"].as_u64())).collect();
    assert_eq!(rows.len(), 3, "{seen}");
    assert_eq!((rows[0].0.as_str(), rows[0].1), (Some("DELETE FROM target WHERE id < 3;"), Some(2)), "{seen}");
    assert_eq!(rows[1].1, Some(5), "{seen}");
    assert!(rows[2].0.as_str().is_some_and(|text| text.contains("CREATE TABLE made")), "{seen}");
    lab.holdpoint(&["approvals", "show", &request.id])
        .ok()
        .says(&["COMMIT", "commit 2 rows: DELETE FROM target", "commit 5 rows: INSERT", "rolled back unless"])
        .hides("or grant");
    assert_eq!(targets(&pg), "1,2,3", "nobody else sees what is not committed");

    // What is approved is what was seen.
    let bare = lab.record().of("requested", &request.id)[0].text("digest");
    lab.holdpoint(&["approvals", "approve", &request.id, "--digest", &bare]).failed().says(&["look at it again"]);
    lab.approve(&request).ok();
    psql.finish(SOON).ok().says(&["after: 6"]);
    assert_eq!(targets(&pg), "3,10,11,12,13,14");
    assert_eq!(pg.admin("SELECT to_regclass('made') IS NOT NULL"), "t");
    let record = lab.record();
    assert_eq!(
        (record.outcome(&request.id), record.of("previewed", &request.id).len()),
        (vec!["approved".to_owned()], 1)
    );
    let session = record.sessions.last().expect("a session").id.clone();
    lab.holdpoint(&["replay", &session, "--no-wait"]).ok().says(&["ran, its commit held by kept", "commit 2 rows"]);
    lab.verify();
}

#[test]
fn what_is_denied_is_rolled_back_with_its_locks_and_the_session_goes_on() {
    let (lab, pg) = Lab::with_shop("denied-commit", &commits_held());
    let mut psql = lab.bot("ci").start_script(&pg.url());
    psql.write(CHANGES);
    psql.close_stdin();
    let request = lab.held();
    let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'target'::regclass AND pid <> pg_backend_pid()";
    assert_ne!(pg.admin(locks), "0", "what ran holds its locks while its commit waits");
    lab.deny(&request).ok();
    psql.finish(SOON).says(&["42501", "denied by root", "the transaction is rolled back", "after: 3"]);
    assert_eq!((targets(&pg).as_str(), pg.admin(locks).as_str()), ("1,2,3", "0"));
    assert_eq!(pg.admin("SELECT to_regclass('made') IS NULL"), "t");
    lab.verify();
}

#[test]
fn nobody_answers_and_the_locks_are_given_back_in_time() {
    let rules = Rules::allowing().policy(
        "policy: kept\nmatch: { resource: shop, effects: [delete] }\ndecide: hold_commit\n\
         approval: { from: [{ user: root }], timeout: 10m, lock_time: 2s }\n",
    );
    let (lab, pg) = Lab::with_shop("lock-time", &rules);
    let begun = std::time::Instant::now();
    let script = "BEGIN;\nDELETE FROM target;\nCOMMIT;\nSELECT 'rows: ' || count(*) FROM target;\n";
    lab.bot("ci").script(&pg.url(), script).says(&["nobody approved it in time", "rolled back", "rows: 3"]);
    assert!((2..12).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(targets(&pg), "1,2,3");
}

/// However the bot tries to keep what it deleted, nothing is kept that nobody approved.
#[test]
fn no_way_to_commit_goes_round_it() {
    let (lab, pg) = Lab::with_shop("round-commit", &commits_held());
    pg.admin("ALTER SYSTEM SET max_prepared_transactions = 0");
    let ways = [
        "END;",
        "COMMIT AND CHAIN;",
        "PREPARE TRANSACTION 'later';",
        "SELECT 1; COMMIT;",
        "SAVEPOINT a;\nRELEASE SAVEPOINT a;\nCOMMIT;",
        "DO 'BEGIN COMMIT; END';",
        "PREPARE c AS SELECT 1;\nEXECUTE c;\nCOMMIT;",
        "/* ROLLBACK; */ COMMIT;",
        "ROLLBACK TO SAVEPOINT s;\nCOMMIT;",
    ];
    for way in ways {
        let mut psql = lab.bot("ci").start_script(&pg.url());
        psql.write(&format!("\\set ON_ERROR_STOP 1\nBEGIN;\nDELETE FROM target WHERE id = 1;\nSAVEPOINT s;\nDELETE FROM target WHERE id = 2;\n{way}\n"));
        psql.close_stdin();
        let request = lab.held();
        lab.deny(&request).ok();
        psql.finish(SOON).says(&["denied by root"]);
        lab.nothing_held();
        assert_eq!(targets(&pg), "1,2,3", "{way}");
    }
    // Killed in the middle, gone in the middle, ended in the middle: none of it commits.
    for end in ["\\q\n", ""] {
        let mut psql = lab.bot("ci").start_script(&pg.url());
        psql.write(&format!("BEGIN;\nDELETE FROM target;\n{end}"));
        psql.close_stdin();
        psql.finish(SOON).ok();
        assert_eq!(targets(&pg), "1,2,3");
    }
    lab.verify();
}

/// The extended protocol: pipelines, names that stand for a commit, and what only looks like a transaction.
#[test]
fn no_pipeline_goes_round_it() {
    let (lab, pg) = Lab::with_shop("pipelined-commit", &commits_held());
    let bot = lab.bot("ci");
    let mut raw: Raw = bot.raw();
    let run = |sql: &str| [wire::parse("", sql), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    let attempts: Vec<(&str, Vec<u8>)> = vec![
        ("one pipeline", [run("BEGIN"), run("DELETE FROM target"), run("COMMIT"), wire::sync()].concat()),
        ("without a begin", [run("DELETE FROM target"), wire::sync()].concat()),
        ("a begin behind its sync", [run("BEGIN"), wire::sync(), run("DELETE FROM target"), wire::sync()].concat()),
        (
            "a name that becomes a commit",
            [
                wire::parse("c", "SELECT 1"),
                wire::sync(),
                run("BEGIN"),
                run("DELETE FROM target"),
                wire::close_statement("c"),
                wire::parse("c", "COMMIT"),
                wire::bind("", "c", &[]),
                wire::execute("", 0),
                wire::sync(),
            ]
            .concat(),
        ),
        (
            "a query behind a rollback",
            [wire::query("BEGIN"), wire::query("ROLLBACK"), wire::query("DELETE FROM target")].concat(),
        ),
    ];
    for (name, bytes) in attempts {
        let (conn, _) = raw.log_in(pg.port());
        raw.send(conn, &bytes);
        let request = lab.held();
        assert_eq!(targets(&pg), "1,2,3", "{name}");
        lab.deny(&request).ok();
        let mut said = String::new();
        while !said.contains("denied by root") {
            said.push_str(&shown(&raw.until(conn, b'Z')));
        }
        // The session is whole, and its transaction over.
        let after = raw.query(conn, "ROLLBACK; SELECT count(*) FROM target");
        assert!(shown(&after).contains('3'), "{name}: {}", shown(&after));
        assert_eq!(targets(&pg), "1,2,3", "{name}");
        raw.close(conn);
    }
    lab.verify();
}

#[test]
fn what_a_rollback_does_not_take_back_waits_itself() {
    let (lab, pg) = Lab::with_shop("not-undone", &commits_held());
    pg.admin(
        "CREATE SEQUENCE ticks; ALTER SEQUENCE ticks OWNER TO app;
         CREATE FUNCTION out_of_it(int) RETURNS bool LANGUAGE plpgsql AS
             'BEGIN EXECUTE ''SELECT 1''; RETURN true; END'; ALTER FUNCTION out_of_it OWNER TO app;
         CREATE FUNCTION reset(int) RETURNS bigint LANGUAGE sql AS 'SELECT setval(''ticks'', $1)';
         ALTER FUNCTION reset OWNER TO app",
    );
    for statement in [
        "DELETE FROM target WHERE setval('ticks', 7) > 0",
        "DELETE FROM target WHERE reset(7) > 0",
        "DELETE FROM target WHERE out_of_it(id)",
        "DO 'BEGIN DELETE FROM target; END'",
    ] {
        let mut psql = lab.bot("ci").start_script(&pg.url());
        psql.write(&format!("BEGIN;\n{statement};\nROLLBACK;\n"));
        psql.close_stdin();
        let request = lab.held();
        assert!(request.said["statement"].as_str().is_some_and(|text| text.contains(statement)), "{}", request.said);
        assert_eq!(pg.ran(statement), 0, "{statement}");
        lab.deny(&request).ok();
        psql.finish(SOON).says(&["denied by root"]);
    }
    // Outside a transaction a statement is committed with its end, so it waits itself and says why.
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 2");
    let request = lab.held();
    lab.holdpoint(&["approvals", "show", &request.id]).ok().says(&["no open transaction would take it back"]);
    assert_eq!(pg.ran("DELETE FROM target WHERE id = 2"), 0);
    lab.approve(&request).ok();
    psql.finish(SOON).ok().says(&["DELETE 1"]);
    assert_eq!(targets(&pg), "1,3");
    lab.verify();
}

#[test]
fn drivers_transactions_wait_at_their_commit_and_survive_a_refusal() {
    let _python = tests::venv();
    let (lab, pg) = Lab::with_shop("driver-commit", &commits_held());
    let program = r#"
import sys, asyncio, psycopg, asyncpg
url = sys.argv[1]
with psycopg.connect(url) as conn:
    try:
        with conn.transaction():
            conn.execute("DELETE FROM target WHERE id = %s", (1,))
            conn.execute("INSERT INTO target VALUES (%s)", (41,))
    except psycopg.errors.InsufficientPrivilege as error:
        print("psycopg:", error.diag.message_primary)
    print("psycopg sees", conn.execute("SELECT count(*) FROM target").fetchone()[0], flush=True)
    conn.rollback()
async def main():
    conn = await asyncpg.connect(url)
    async with conn.transaction():
        await conn.execute("DELETE FROM target WHERE id = $1", 2)
    print("asyncpg sees", await conn.fetchval("SELECT count(*) FROM target"))
    await conn.close()
asyncio.run(main())
"#;
    let python = lab.bot("ci").start_python(program, &pg.url());
    let first = lab.held();
    let seen = ran(&lab, &first);
    assert_eq!((seen[0]["rows"].as_u64(), seen[1]["rows"].as_u64()), (Some(1), Some(1)), "{seen}");
    assert!(seen[1]["statement"].as_str().is_some_and(|text| text.contains("with")), "values are shown: {seen}");
    lab.deny(&first).ok();
    python.wait_for_stdout("psycopg sees 3", SOON);
    let second = lab.held();
    assert_eq!(ran(&lab, &second)[0]["rows"], 1);
    lab.approve(&second).ok();
    python.finish(SOON).ok().says(&["psycopg: holdpoint: denied by root", "asyncpg sees 2"]);
    assert_eq!(targets(&pg), "1,3");
    lab.verify();
}
