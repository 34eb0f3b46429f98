//! Grants: an approval that releases the same again, and every way to have it release something else.

use std::time::Duration;

use tests::{Lab, Outcome, Postgres, Raw, Request, Rules, eventually, wire};

const SOON: Duration = Duration::from_secs(10);

fn deletes_held() -> Rules {
    Rules::allowing().hold("deletes", "delete")
}

/// Approves as root with `--grant` and more.
#[track_caller]
fn grant(lab: &Lab, request: &Request, more: &[&str]) -> Outcome {
    lab.holdpoint(&[&["approvals", "approve", &request.id, "--reason", "nightly", "--grant"], more].concat())
}

/// The identifiers of the grants in force.
fn grants(lab: &Lab) -> Vec<String> {
    let listed = lab.holdpoint(&["grants", "list", "-o", "json"]).ok();
    let grants: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let name = |grant: &serde_json::Value| grant["grant"].as_str().expect("a name").to_owned();
    grants.as_array().expect("a list").iter().map(name).collect()
}

/// Has the bot `ci` ask for `sql`, and approves it as a grant.
#[track_caller]
fn granted(lab: &Lab, pg: &Postgres, sql: &str, more: &[&str]) -> String {
    let psql = lab.bot("ci").start_psql(&pg.url(), sql);
    grant(lab, &lab.held(), more).ok().says(&["grant", "holdpoint grants revoke"]);
    psql.finish(SOON).ok();
    grants(lab).pop().expect("a grant is in force")
}

/// Wants psql's `script` to be held, and denies it.
#[track_caller]
fn is_held(lab: &Lab, pg: &Postgres, script: &str) {
    let mut psql = lab.bot("ci").start_script(&pg.url());
    psql.write(script);
    psql.close_stdin();
    let request = lab.held();
    lab.deny(&request).ok();
    psql.finish(SOON).says(&["denied by root"]);
    lab.nothing_held();
}

/// Runs psql's `script` up to what is held in it, and gives that out as a grant.
#[track_caller]
fn granted_in(lab: &Lab, pg: &Postgres, url: &str, script: &str) {
    let mut psql = lab.bot("ci").start_script(url);
    psql.write(script);
    psql.close_stdin();
    grant(lab, &lab.held(), &[]).ok();
    psql.finish(SOON).ok();
    assert_eq!(targets(pg), "1,2,3", "the one that was asked for deletes nothing, so that the next is worth something");
}

fn targets(pg: &Postgres) -> String {
    pg.admin("SELECT coalesce(string_agg(id::text, ',' ORDER BY id), '') FROM target")
}

#[test]
fn a_grant_releases_the_same_again_as_often_as_given_and_each_use_is_on_record_first() {
    let (lab, pg) = Lab::with_shop("grant", &deletes_held());
    let bot = lab.bot("ci");
    let psql = bot.start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.held();
    let shown = lab.holdpoint(&["approvals", "show", &request.id]).ok();
    shown.says(&["values      1: 1", "fingerprint", "or grant", "--grant --uses 10"]);
    grant(&lab, &request, &["--uses", "2", "--for", "10m"]).ok();
    psql.finish(SOON).ok();
    let id = grants(&lab).pop().expect("one grant");
    lab.holdpoint(&["grants", "list"]).ok().says(&["0 of 2", "ci", "shop", "root", "DELETE FROM target"]);
    lab.holdpoint(&["grants", "show", &id]).ok().says(&["DELETE FROM target WHERE id = 1", "deletes", &request.id]);

    for _ in 0..2 {
        pg.admin("INSERT INTO target VALUES (1)");
        bot.psql(&pg.url(), "DELETE FROM target WHERE id = 1").ok().hides("held for approval");
        assert_eq!(targets(&pg), "2,3");
    }
    assert!(grants(&lab).is_empty(), "it has no use left");
    lab.holdpoint(&["grants", "show", &id]).failed().says(&["its uses were used up"]);
    is_held(&lab, &pg, "DELETE FROM target WHERE id = 1;\n");

    let record = lab.record();
    let (mut uses, mut announced) = (0, false);
    for event in record.events() {
        announced |= event.is("grant_used");
        if event.is("operation") && event.contains("DELETE") && event.text("grant") == id {
            assert!(announced, "forwarded before its use was on record");
            (uses, announced) = (uses + 1, false);
        }
    }
    assert_eq!((uses, record.of("grant_used", &id).len(), record.of("granted", &id).len()), (2, 2, 1));
    let last = record.sessions.iter().rev().find(|session| session.events.iter().any(|event| event.is("grant_used")));
    let played = lab.holdpoint(&["replay", &last.expect("a session used it").id, "--no-wait"]).ok();
    played.says(&["releases the next operation; 0 uses left"]);
    lab.verify();
}

#[test]
fn other_values_are_covered_only_where_the_grant_says_so() {
    let (lab, pg) = Lab::with_shop("values", &deletes_held());
    let exact = granted(&lab, &pg, "DELETE FROM target WHERE id = 1", &[]);
    is_held(&lab, &pg, "DELETE FROM target WHERE id = 2;\n");
    lab.holdpoint(&["grants", "revoke", &exact, "--reason", "too narrow"]).ok();
    lab.holdpoint(&["grants", "revoke", &exact]).failed().says(&["it was revoked"]);

    let _first_only = granted(&lab, &pg, "DELETE FROM target WHERE id = 9 AND id < 5", &["--any-value", "1"]);
    let bot = lab.bot("ci");
    bot.psql(&pg.url(), "DELETE FROM target WHERE id = 2 AND id < 5").ok();
    assert_eq!(targets(&pg), "3");
    is_held(&lab, &pg, "DELETE FROM target WHERE id = 3 AND id < 50;\n");
    for other in [
        "DELETE FROM target WHERE id = 3 OR id < 5",
        "DELETE FROM target WHERE id = '3' AND id < 5",
        "DELETE FROM target WHERE id = 1 AND id < 5 OR true",
        "DELETE FROM target WHERE id IN (3, 4) AND id < 5",
        "DELETE FROM target WHERE id = -3 AND id < 5",
    ] {
        is_held(&lab, &pg, &format!("{other};\n"));
    }
    assert_eq!(targets(&pg), "3");
    lab.verify();
}

#[test]
fn values_of_code_and_of_settings_are_never_left_open() {
    let (lab, pg) = Lab::with_shop("code", &Rules::allowing().hold("odd", "unknown, execute, schema, privilege"));
    for (sql, why) in [
        ("ALTER TABLE orders ADD made int DEFAULT 1", "they can change what it does"),
        ("CREATE TABLE made (a int DEFAULT 1)", "they can change what it does"),
    ] {
        let psql = lab.bot("ci").start_psql(&pg.url(), sql);
        let request = lab.held();
        grant(&lab, &request, &["--any-value", "all"]).failed().says(&[why]);
        grant(&lab, &request, &["--any-value", "7"]).failed().says(&["there is no value 7"]);
        grant(&lab, &request, &["--uses", "0"]).failed().says(&["1 to 1000 uses"]);
        grant(&lab, &request, &["--for", "99days"]).failed().says(&["thirty days"]);
        lab.deny(&request).ok();
        psql.finish(SOON).failed();
    }
    // What cannot be compared at all.
    for sql in [
        "CREATE TABLE made (a int); DROP TABLE orders",
        "SET ROLE 'app'",
        "PREPARE p AS DELETE FROM target; EXECUTE p; DROP TABLE orders",
        "DO 'BEGIN PERFORM 1; END'",
    ] {
        let psql = lab.bot("ci").start_psql(&pg.url(), sql);
        let request = lab.held();
        grant(&lab, &request, &[]).failed().says(&["cannot become a grant"]);
        lab.deny(&request).ok();
        psql.finish(SOON).failed();
    }
    assert!(grants(&lab).is_empty());
}

#[test]
fn one_fingerprint_with_another_meaning_is_not_covered() {
    let (lab, pg) = Lab::with_shop("smuggle", &deletes_held());
    pg.admin(
        "CREATE SCHEMA elsewhere AUTHORIZATION app; CREATE TABLE elsewhere.target (id int);
         ALTER TABLE elsewhere.target OWNER TO app; INSERT INTO elsewhere.target VALUES (1);
         CREATE TABLE target_2024 (id int); ALTER TABLE target_2024 OWNER TO app;
         CREATE TABLE target_2025 (id int); ALTER TABLE target_2025 OWNER TO app;
         CREATE ROLE deputy; GRANT deputy TO app; GRANT ALL ON target TO deputy",
    );
    let _grant = granted(&lab, &pg, "DELETE FROM target WHERE id = 1", &["--any-value", "all"]);
    let sql = "DELETE FROM target WHERE id = 1;\n";
    // The session means something else by it: by a path, a role, a setting that nothing tracks by name, a table that
    // stands in front, a setting that a rollback took back.
    for before in [
        "SET search_path = elsewhere;\n",
        "SET ROLE deputy;\n",
        "SET app.tenant = '7';\n",
        "SELECT set_config('app.tenant', '7', false);\n",
        "CREATE TEMP TABLE target (id int);\n",
        "BEGIN;\nSET app.tenant = '7';\nROLLBACK;\n",
        "BEGIN;\n",
        "SET standard_conforming_strings = off;\n",
    ] {
        is_held(&lab, &pg, &format!("{before}{sql}"));
    }
    // More than one statement in one message, before it and behind it.
    let both = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1; DELETE FROM orders");
    lab.deny(&lab.held()).ok();
    both.finish(SOON).failed();
    // Another database, another workload, another resource user.
    let other = lab.bot("other").start_psql(&pg.url(), sql);
    lab.deny(&lab.held()).ok();
    other.finish(SOON).failed();
    assert_eq!(targets(&pg), "2,3");
    assert_eq!(pg.admin("SELECT count(*) FROM elsewhere.target"), "1");

    // What pg_query itself gives one name: numbers in tables' names, and schemas behind an alias.
    let _numbered = granted(&lab, &pg, "DELETE FROM target_2024 WHERE id = 1", &["--any-value", "all"]);
    is_held(&lab, &pg, "DELETE FROM target_2025 WHERE id = 1;\n");
    let _alias = granted(&lab, &pg, "DELETE FROM public.target AS t WHERE t.id = 1", &["--any-value", "all"]);
    is_held(&lab, &pg, "DELETE FROM elsewhere.target AS t WHERE t.id = 1;\n");

    // And what does mean the same still goes through, with transactions, comments and plain reads before it.
    let calm = "SELECT 1;\nBEGIN;\nSELECT 2;\nROLLBACK;\n/* job 7 */ DELETE FROM target WHERE id = 2;\n";
    lab.bot("ci").script(&pg.url(), calm).ok().says(&["DELETE 1"]).hides("held for approval");
    assert_eq!(targets(&pg), "3");
    lab.verify();
}

#[test]
fn code_that_was_made_anew_is_not_covered() {
    let (lab, pg) = Lab::with_shop("redefine", &deletes_held().hold("odd", "unknown"));
    let define = |body: &str| {
        let sql = "CREATE OR REPLACE FUNCTION clean() RETURNS void LANGUAGE sql SET search_path = public AS";
        lab.bot("ci").psql(&pg.url(), &format!("{sql} $$ {body} $$")).ok();
    };
    define("DELETE FROM target WHERE id = 1");
    let _grant = granted(&lab, &pg, "SELECT clean()", &[]);
    pg.admin("INSERT INTO target VALUES (1)");
    lab.bot("ci").psql(&pg.url(), "SELECT clean()").ok();
    assert_eq!(targets(&pg), "2,3");
    // The same effects on the same table, in another way.
    define("DELETE FROM target");
    is_held(&lab, &pg, "SELECT clean();\n");
    define("DELETE FROM target WHERE id = 1");
    lab.bot("ci").psql(&pg.url(), "SELECT clean()").ok();
    // What cannot be seen through cannot be compared.
    lab.bot("ci")
        .psql(&pg.url(), "CREATE FUNCTION odd() RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT 1''; END'")
        .ok();
    let psql = lab.bot("ci").start_psql(&pg.url(), "SELECT odd()");
    let request = lab.held();
    grant(&lab, &request, &[]).failed().says(&["cannot become a grant"]);
    lab.deny(&request).ok();
    psql.finish(SOON).failed();
    assert_eq!(targets(&pg), "2,3");
    lab.verify();
}

#[test]
fn after_code_and_computed_settings_no_session_is_like_another() {
    let rules = deletes_held().policy(
        "policy: odd\nmatch: { resource: shop, effects: [read, transfer, session, execute, unknown] }\ndecide: allow\n",
    );
    let (lab, pg) = Lab::with_shop("computed", &rules);
    pg.admin(
        "CREATE FUNCTION settle() RETURNS text LANGUAGE sql AS
             $$ SELECT set_config('app.tenant', (SELECT min(id)::text FROM target), false) $$;",
    );
    let sql = "DELETE FROM target WHERE id = 77";
    for before in [
        "SELECT set_config('app.tenant', (SELECT min(id)::text FROM target), false)",
        "SELECT settle()",
        "DO 'BEGIN PERFORM 1; END'",
    ] {
        // The same words as before, which may have done something else: not even what was approved here is covered.
        let mut psql = lab.bot("ci").start_script(&pg.url());
        psql.write(&format!("{before};\n{sql};\n"));
        psql.close_stdin();
        let request = lab.held();
        grant(&lab, &request, &[]).failed().says(&["cannot become a grant"]);
        lab.approve(&request).ok();
        psql.finish(SOON).ok().says(&["DELETE 0"]);
    }
    let set = "SELECT set_config('app.tenant', '7', false);\n";
    let mut psql = lab.bot("ci").start_script(&pg.url());
    psql.write(&format!("{set}{sql};\n"));
    psql.close_stdin();
    grant(&lab, &lab.held(), &[]).ok();
    psql.finish(SOON).ok();
    lab.bot("ci").script(&pg.url(), &format!("{set}{sql};\n")).ok().says(&["DELETE 0"]);
    is_held(&lab, &pg, &format!("{sql};\n"));
    lab.verify();
}

/// Sends one execution of `sql` with `value` bound.
fn run(raw: &mut Raw, conn: tests::Conn, sql: &str, value: &str) {
    let bytes = [wire::parse("", sql), wire::bind("", "", &[value]), wire::execute("", 0), wire::sync()];
    raw.send(conn, &bytes.concat());
}

#[test]
fn bound_values_are_values_and_what_rides_along_is_not_covered() {
    let (lab, pg) = Lab::with_shop("bound", &deletes_held());
    let sql = "DELETE FROM target WHERE id = $1::int AND id < 5";
    let mut raw = lab.bot("ci").raw();
    let (conn, _) = raw.log_in(pg.port());
    run(&mut raw, conn, sql, "1");
    let request = lab.held();
    lab.holdpoint(&["approvals", "show", &request.id]).ok().says(&["1: 5", "2: text:1"]);
    grant(&lab, &request, &["--any-value", "2"]).ok();
    raw.until(conn, b'Z');
    run(&mut raw, conn, sql, "2");
    raw.until(conn, b'Z');
    assert_eq!(targets(&pg), "3", "another bound value is covered");

    // Another portal is bound in the same breath.
    let more = [
        wire::parse("other", "DELETE FROM orders"),
        wire::bind("p", "other", &[]),
        wire::parse("", sql),
        wire::bind("", "", &["3"]),
        wire::execute("", 0),
        wire::sync(),
    ];
    raw.send(conn, &more.concat());
    lab.deny(&lab.held()).ok();
    raw.until(conn, b'Z');
    // A pipeline: what is before it is not answered yet.
    let ahead = [wire::parse("", "SELECT 1"), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    let behind = [wire::parse("", sql), wire::bind("", "", &["3"]), wire::execute("", 0), wire::sync()].concat();
    raw.send(conn, &[ahead, behind].concat());
    lab.deny(&lab.held()).ok();
    raw.until(conn, b'Z');
    // A name for it in SQL, as a simple query.
    raw.query(conn, "PREPARE again (int) AS DELETE FROM target WHERE id = $1::int AND id < 5");
    raw.send(conn, &wire::query("EXECUTE again (3)"));
    lab.deny(&lab.held()).ok();
    raw.until(conn, b'Z');
    assert_eq!(targets(&pg), "3");
    run(&mut raw, conn, sql, "3");
    raw.until(conn, b'Z');
    assert_eq!(targets(&pg), "", "and by itself it still is");
    lab.verify();
}

#[test]
fn what_was_prepared_or_bound_before_the_session_changed_is_not_covered() {
    let (lab, pg) = Lab::with_shop("earlier", &deletes_held());
    let sql = "DELETE FROM target WHERE id = $1::int";
    let parse = || [wire::parse("s", sql), wire::sync()].concat();
    let execute = || [wire::bind("", "s", &["1"]), wire::execute("", 0), wire::sync()].concat();
    let set = "SET search_path = public";
    let mut raw = lab.bot("ci").raw();
    let mut session = |steps: &[Vec<u8>]| {
        let (conn, _) = raw.log_in(pg.port());
        let (last, before) = steps.split_last().expect("a step");
        for step in before {
            raw.send(conn, step);
            raw.until(conn, b'Z');
        }
        raw.send(conn, last);
        (conn, lab.held())
    };
    let (first, request) = session(&[wire::query(set), parse(), execute()]);
    grant(&lab, &request, &["--uses", "9"]).ok();
    let (second, request) = session(&[parse(), wire::query(set), execute()]);
    lab.deny(&request).ok();
    raw.until(first, b'Z');
    raw.until(second, b'Z');
    let (conn, _) = raw.log_in(pg.port());
    for step in [wire::query(set), parse(), execute(), execute()] {
        raw.send(conn, &step);
        raw.until(conn, b'Z');
    }
    lab.nothing_held();
    // Bound in a message of its own, which somebody approved, and executed in another.
    raw.query(conn, "BEGIN");
    raw.send(conn, &[wire::bind("p", "s", &["1"]), wire::flush()].concat());
    lab.approve(&lab.held()).ok();
    raw.until(conn, b'2');
    raw.send(conn, &[wire::execute("p", 0), wire::sync()].concat());
    lab.deny(&lab.held()).ok();
    raw.until(conn, b'Z');
    lab.verify();
}

#[test]
fn a_grant_ends_with_its_time() {
    let (lab, pg) = Lab::with_shop("time", &deletes_held());
    let id = granted(&lab, &pg, "DELETE FROM target WHERE id = 1", &["--uses", "1000", "--for", "2s"]);
    eventually("the grant ends", SOON, || grants(&lab).is_empty().then_some(()));
    is_held(&lab, &pg, "DELETE FROM target WHERE id = 1;\n");
    lab.holdpoint(&["grants", "show", &id]).failed().says(&["its time ran out"]);
    eventually("its end is on record", SOON, || (!lab.record().of("grant_ended", &id).is_empty()).then_some(()));
    lab.kill();
    lab.start();
    assert!(grants(&lab).is_empty(), "a restart gives it no more time");
    is_held(&lab, &pg, "DELETE FROM target WHERE id = 1;\n");
    lab.verify();
}

#[test]
fn connections_that_race_for_the_last_use_never_have_more_than_there_are() {
    let (lab, pg) = Lab::with_shop("race", &deletes_held());
    let sql = "DELETE FROM target WHERE id = 77";
    let mut raw = lab.bot("ci").raw();
    let conns: Vec<_> = (0..16).map(|_| raw.log_in(pg.port()).0).collect();
    raw.send(conns[0], &wire::query(sql));
    grant(&lab, &lab.held(), &["--uses", "5"]).ok();
    raw.until(conns[0], b'Z');
    let before = pg.ran(sql);
    for conn in &conns {
        raw.send(*conn, &wire::query(sql));
    }
    let held = lab.held_count(11);
    assert!(grants(&lab).is_empty());
    for request in &held {
        lab.deny(request).ok();
    }
    conns.iter().for_each(|conn| drop(raw.until(*conn, b'Z')));
    assert_eq!(pg.ran(sql) - before, 5, "as many ran as the grant had uses");
    assert_eq!(lab.record().events().filter(|event| event.is("grant_used")).count(), 5);
    lab.verify();
}

#[test]
fn a_grant_survives_a_killed_gateway_with_the_uses_it_has_left() {
    let (lab, pg) = Lab::with_shop("kill", &deletes_held());
    let sql = "DELETE FROM target WHERE id = 1";
    let id = granted(&lab, &pg, sql, &["--uses", "3"]);
    let bot = lab.bot("ci");
    bot.psql(&pg.url(), sql).ok();
    lab.kill();
    lab.start();
    assert_eq!(grants(&lab), std::slice::from_ref(&id));
    lab.holdpoint(&["grants", "list"]).ok().says(&["1 of 3"]);
    bot.psql(&pg.url(), sql).ok();
    lab.holdpoint(&["grants", "revoke", &id, "--reason", "enough"]).ok();
    is_held(&lab, &pg, &format!("{sql};\n"));
    lab.kill();
    lab.start();
    assert!(grants(&lab).is_empty(), "a restart does not bring back what was revoked");
    is_held(&lab, &pg, &format!("{sql};\n"));
    assert_eq!(lab.record().of("grant_ended", &id).len(), 1);
    lab.verify();
}

#[test]
fn a_policy_that_became_stricter_is_above_every_grant() {
    let (lab, pg) = Lab::with_shop("stricter", &deletes_held());
    let sql = "DELETE FROM target WHERE id = 1";
    let _grant = granted(&lab, &pg, sql, &["--uses", "100"]);
    let reload = |rules: &Rules| {
        let digests = || lab.record().events().filter(|event| event.is("policy_loaded")).count();
        let before = digests();
        lab.policies(&rules.resource(pg.port()), &rules.policies());
        eventually("the new policy is in force", SOON, || (digests() > before).then_some(()));
    };
    reload(&deletes_held().refuse("no-deletes", "delete"));
    lab.bot("ci").psql(&pg.url(), sql).failed().says(&["no-deletes", "42501"]);
    // Held by the same rule, which now asks two, or others, or a reason.
    for approval in [
        "from: [{ user: root }, { user: backup }], timeout: 30s, quorum: 2",
        "from: [{ user: root }, { user: games }], timeout: 30s",
        "from: [{ user: root }], timeout: 30s, reason: required",
    ] {
        reload(&Rules::allowing().hold_for("deletes", "delete", approval));
        is_held(&lab, &pg, &format!("{sql};\n"));
    }
    // Held by another rule as well, which asks more.
    reload(&deletes_held().hold_for("careful", "delete", "from: [{ user: root }], timeout: 30s, quorum: 2"));
    is_held(&lab, &pg, &format!("{sql};\n"));
    reload(&deletes_held());
    lab.bot("ci").psql(&pg.url(), sql).ok();
    lab.verify();
}

#[test]
fn only_those_who_may_approve_give_and_take_grants() {
    let from = "from: [{ user: nobody }, { user: root }, { user: backup }], timeout: 30s, quorum: 2";
    let (lab, pg) = Lab::with_shop("who", &Rules::allowing().hold_for("deletes", "delete", from));
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.held();
    let approve = ["approvals", "approve", &request.id, "--reason", "yes", "--grant"];
    lab.holdpoint_as("games", &approve).failed();
    lab.holdpoint_as("nobody", &approve).failed();
    let (holdpoint, config) = (lab.tool("holdpoint"), lab.config().display().to_string());
    let inside = [&[holdpoint.as_str(), "exec", "--as", "ci", "--config", &config, "--", &holdpoint], &approve[..]];
    lab.run(&inside.concat()).failed().says(&["outside guarded workloads"]);
    // Two people, one grant: on the same terms or not at all.
    grant(&lab, &request, &["--uses", "3"]).ok().says(&["1 more must approve"]);
    lab.holdpoint_as("backup", &[&approve[..], &["--uses", "4"]].concat()).failed().says(&["on the same terms"]);
    lab.holdpoint_as("backup", &[&approve[..], &["--uses", "3"]].concat()).ok();
    psql.finish(SOON).ok();
    let id = grants(&lab).pop().expect("one grant");
    lab.holdpoint(&["grants", "show", &id]).ok().says(&["root, backup"]);
    lab.holdpoint_as("games", &["grants", "revoke", &id]).failed().says(&["may not revoke"]);
    lab.holdpoint_as("games", &["grants", "show", &id]).failed().says(&["there is no grant"]);
    assert_eq!(lab.holdpoint_as("games", &["grants", "list"]).ok().stdout.trim(), "no grants");
    // Who had used it is cut off with it; others are not.
    let (mut user, mut other) = (lab.bot("ci").start_script(&pg.url()), lab.bot("ci").start_script(&pg.url()));
    user.write("DELETE FROM target WHERE id = 1;\n");
    user.wait_for_stdout("DELETE 0", SOON);
    other.write("SELECT 'begun';\n");
    other.wait_for_stdout("begun", SOON);
    lab.holdpoint_as("backup", &["grants", "revoke", &id]).ok().says(&["ended: 1 open connections"]);
    user.write("SELECT 'again';\n");
    let cut = user.finish(SOON);
    assert!(!cut.stdout.contains("again") && cut.stderr.contains("revoked grant"), "{cut}");
    other.write("SELECT 'still';\n");
    assert!(other.finish(SOON).ok().stdout.contains("still"));

    // One who wanted no grant is not made to give one.
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 2");
    let request = lab.held();
    grant(&lab, &request, &[]).ok();
    lab.approve_as("backup", &request).ok();
    psql.finish(SOON).ok();
    assert!(grants(&lab).is_empty());
    lab.verify();
}

#[test]
fn what_a_transaction_set_for_itself_counts_no_longer_than_it_lasts() {
    let (lab, pg) = Lab::with_shop("grant-local", &deletes_held());
    let delete = "DELETE FROM target WHERE id::text = current_setting('app.tenant', true);\n";
    let set = "BEGIN;\nSET LOCAL app.tenant = '3';\n";
    for end in ["COMMIT;\nBEGIN;\n", "COMMIT AND CHAIN;\n", "COMMIT\\; BEGIN;\n"] {
        granted_in(&lab, &pg, &pg.url(), &format!("{set}{end}{delete}COMMIT;\n"));
        is_held(&lab, &pg, &format!("{set}{delete}"));
        assert_eq!(targets(&pg), "1,2,3", "{end}");
    }
}

#[test]
fn what_a_session_calls_itself_is_part_of_its_past() {
    let (lab, pg) = Lab::with_shop("grant-name", &deletes_held());
    let delete = "DELETE FROM target WHERE id::text = current_setting('application_name');\n";
    granted_in(&lab, &pg, &format!("{}?application_name=none", pg.url()), delete);
    let mut psql = lab.bot("ci").start_script(&format!("{}?application_name=3", pg.url()));
    psql.write(delete);
    psql.close_stdin();
    lab.deny(&lab.held()).ok();
    psql.finish(SOON).says(&["denied by root"]);
    assert_eq!(targets(&pg), "1,2,3");
}

#[test]
fn what_a_cursor_stands_on_is_in_no_grant() {
    let (lab, pg) = Lab::with_shop("grant-cursor", &deletes_held());
    let mut psql = lab.bot("ci").start_script(&pg.url());
    psql.write("BEGIN;\nDECLARE c CURSOR FOR SELECT id FROM target FOR UPDATE;\nFETCH c;\nDELETE FROM target WHERE CURRENT OF c;\n");
    psql.close_stdin();
    let request = lab.held();
    grant(&lab, &request, &[]).failed().says(&["cannot become a grant"]);
    lab.deny(&request).ok();
    psql.finish(SOON).says(&["denied by root"]);
}

#[test]
fn what_was_defined_anew_between_is_not_covered() {
    let (lab, pg) = Lab::with_shop("defined", &deletes_held());
    pg.admin(
        "CREATE VIEW few AS SELECT id FROM target WHERE id = 1; ALTER VIEW few OWNER TO app;
         CREATE TABLE ruled (id int, note text DEFAULT 'a', CHECK (id < 9)); ALTER TABLE ruled OWNER TO app;
         ALTER TABLE ruled ENABLE ROW LEVEL SECURITY; ALTER TABLE ruled FORCE ROW LEVEL SECURITY;
         CREATE POLICY p ON ruled USING (id = 1); INSERT INTO ruled VALUES (1), (2);
         CREATE DOMAIN low AS int CHECK (VALUE < 3); ALTER DOMAIN low OWNER TO app;
         CREATE TABLE typed (id low); ALTER TABLE typed OWNER TO app",
    );
    for (sql, anew) in [
        ("DELETE FROM few", "CREATE OR REPLACE VIEW few AS SELECT id FROM target"),
        ("DELETE FROM ruled", "ALTER POLICY p ON ruled USING (true)"),
        ("DELETE FROM ruled WHERE id = 7", "ALTER TABLE ruled ALTER note SET DEFAULT 'b'"),
        ("DELETE FROM ruled WHERE id = 8", "CREATE RULE r AS ON DELETE TO ruled DO INSTEAD NOTHING"),
        ("DELETE FROM typed", "ALTER DOMAIN low ADD CHECK (VALUE > 0)"),
    ] {
        let _grant = granted(&lab, &pg, sql, &["--uses", "5"]);
        lab.bot("ci").psql(&pg.url(), sql).ok();
        lab.bot("ci").psql(&pg.url(), anew).ok();
        is_held(&lab, &pg, &format!("{sql};\n"));
    }
    assert_eq!(targets(&pg), "2,3", "only the first view was deleted from");
    lab.verify();
}

#[test]
fn what_a_session_begins_with_is_compared() {
    let (lab, pg) = Lab::with_shop("begins", &deletes_held());
    pg.admin(
        "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.target (id int); INSERT INTO elsewhere.target VALUES (1);
         GRANT ALL ON SCHEMA elsewhere TO app; ALTER TABLE elsewhere.target OWNER TO app",
    );
    let sql = "DELETE FROM target WHERE id = 1";
    let _grant = granted(&lab, &pg, sql, &["--uses", "5"]);
    lab.bot("ci").psql(&pg.url(), sql).ok();
    for change in ["ROLE app", "DATABASE shop"] {
        pg.admin(&format!("ALTER {change} SET search_path = elsewhere, public"));
        is_held(&lab, &pg, &format!("{sql};\n"));
        pg.admin(&format!("ALTER {change} RESET search_path"));
    }
    assert_eq!(pg.admin("SELECT count(*) FROM elsewhere.target"), "1");
    lab.bot("ci").psql(&pg.url(), sql).ok().hides("held for approval");
    lab.verify();
}

#[test]
fn values_that_name_something_are_never_left_open() {
    let (lab, pg) = Lab::with_shop("naming", &deletes_held().hold("writes", "write"));
    pg.admin("CREATE SEQUENCE s1; ALTER SEQUENCE s1 OWNER TO app");
    for sql in [
        "INSERT INTO target VALUES (nextval('s1'))",
        "DELETE FROM target WHERE id = nextval('s1'::regclass)",
        "DELETE FROM target WHERE tableoid = 'orders'::pg_catalog.regclass",
        "DELETE FROM target WHERE to_regclass('orders') IS NULL",
    ] {
        let psql = lab.bot("ci").start_psql(&pg.url(), sql);
        let request = lab.held();
        grant(&lab, &request, &["--any-value", "all"]).failed().says(&["leave out --any-value"]);
        grant(&lab, &request, &[]).ok();
        psql.finish(SOON).ok();
    }
    // And data may be any, through the functions and types of every day.
    let sql = "DELETE FROM target WHERE id = length(lower('abc'::text)) + 70 AND now() > '2020-01-01'::timestamptz";
    let _grant = granted(&lab, &pg, sql, &["--any-value", "all"]);
    lab.verify();
}

#[test]
fn a_default_that_sets_a_setting_makes_a_session_like_no_other() {
    let rules = deletes_held().policy(
        "policy: odd\nmatch: { resource: shop, effects: [read, write, session, execute, unknown] }\ndecide: allow\n",
    );
    let (lab, pg) = Lab::with_shop("defaults", &rules);
    pg.admin(
        "CREATE TABLE settled (id int, a text DEFAULT set_config('app.tenant', '7', false)); ALTER TABLE settled OWNER TO app",
    );
    let sql = "DELETE FROM target WHERE id = 77";
    let _grant = granted(&lab, &pg, sql, &["--uses", "5"]);
    lab.bot("ci").script(&pg.url(), &format!("{sql};\n")).ok();
    is_held(&lab, &pg, &format!("INSERT INTO settled VALUES (1);\n{sql};\n"));
    lab.verify();
}
