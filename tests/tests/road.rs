//! The whole road, end to end: allow, hold, approve, deny, expire, withdraw, refuse, restart, drain.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::{Event, Lab, Postgres, Request, Rules, eventually, never, venv};

/// Schema changes wait for root; everything else goes on.
fn schema_held() -> Rules {
    Rules::allowing().hold("schema-changes", "schema, privilege")
}

/// The three witnesses of an operation that must not have run.
#[track_caller]
fn assert_never_ran(lab: &Lab, pg: &Postgres, marker: &str) {
    assert_eq!(pg.ran(marker), 0, "the backend ran {marker}");
    let record = lab.record();
    assert_eq!(record.forwarded(marker), 0, "the record says that {marker} was forwarded");
    assert!(record.refused(marker) > 0, "the record does not say that {marker} was refused");
}

/// The three witnesses of an operation that must have run once.
#[track_caller]
fn assert_ran_once(lab: &Lab, pg: &Postgres, marker: &str) {
    assert_eq!(pg.ran(marker), 1, "how often the backend ran {marker}");
    assert_eq!(lab.record().forwarded(marker), 1, "how often the record says that {marker} was forwarded");
}

fn exists(pg: &Postgres, table: &str) -> bool {
    pg.admin(&format!("SELECT to_regclass('{table}') IS NOT NULL")) == "t"
}

#[test]
fn allowed_select_is_masked_and_recorded() {
    let (lab, pg) = Lab::with_shop("allowed", &schema_held());
    let said =
        lab.bot("ci").psql(&pg.url(), "SELECT name, email, ssn, phone, token, note FROM customers ORDER BY id").ok();
    assert!(said.stdout.contains("Ada|"), "the unmasked column is there: {said}");
    for canary in Postgres::CANARIES {
        assert!(!said.all().contains(canary), "{canary} reached the client: {said}");
    }
    assert_ran_once(&lab, &pg, "FROM customers ORDER BY id");
    let record = lab.record();
    for canary in Postgres::CANARIES {
        assert!(!record.contains(canary), "the record holds {canary}, though it keeps masked responses only");
    }
    let session = &record.sessions[0];
    assert!(session.summary.to_string().contains("\"ci\""), "the session names its workload: {}", session.summary);
    assert!(session.summary.to_string().contains("shop"), "the session names its resource: {}", session.summary);
    lab.verify();
}

#[test]
fn a_guarded_process_decides_nothing_whatever_user_it_is() {
    let (lab, pg) = Lab::with_shop("self-made", &schema_held());
    let psql = lab.bot("ci").start_psql(&pg.url(), "DROP TABLE orders");
    let request = lab.held();
    let (holdpoint, config) = (lab.tool("holdpoint"), lab.config().display().to_string());
    let guarded = [holdpoint.as_str(), "exec", "--as", "ci", "--config", &config, "--"];
    let approve = [holdpoint.as_str(), "approvals", "approve", &request.id];
    // Root, whom the rule names: but from inside.
    lab.run(&[&guarded[..], &approve].concat()).failed().says(&["outside guarded workloads"]);
    assert!(exists(&pg, "orders"));
    lab.approve(&request).ok();
    psql.finish(Duration::from_secs(10)).ok();
}

#[test]
fn held_statement_waits_says_so_and_runs_after_approval() {
    let (lab, pg) = Lab::with_shop("approve", &schema_held());
    let bot = lab.bot("ci");
    let psql = bot.start_psql(&pg.url(), "DROP TABLE orders");
    let request = lab.held();
    let notice = psql.wait_for_stderr("held for approval", Duration::from_secs(5));
    assert!(notice.contains(request.short()), "the notice names the request {}: {notice}", request.short());
    assert!(exists(&pg, "orders") && pg.ran("DROP TABLE orders") == 0, "it ran while it was held");

    lab.approve(&request).ok();
    let said = psql.finish(Duration::from_secs(10)).ok();
    assert!(said.stdout.contains("DROP TABLE"), "{said}");
    assert!(!exists(&pg, "orders"));
    assert_ran_once(&lab, &pg, "DROP TABLE orders");

    let record = lab.record();
    let order: Vec<&str> = record.events().filter_map(step).collect();
    assert_eq!(order, ["requested", "decided", "closed", "operation"], "asked, decided, closed, only then forwarded");
    assert_eq!(record.outcome(&request.id), ["approved"]);
    lab.verify();
}

/// The entries that tell of a held operation.
fn step(event: &Event) -> Option<&'static str> {
    let told = ["requested", "decided", "closed"].into_iter().find(|kind| event.is(kind));
    told.or_else(|| (event.is("operation") && event.contains("DROP TABLE")).then_some("operation"))
}

#[test]
fn denied_statement_is_refused_in_the_protocols_words_and_the_connection_lives() {
    let (lab, pg) = Lab::with_shop("deny", &schema_held());
    let mut psql = lab.bot("ci").start_script(&pg.url());
    psql.write("DROP TABLE orders;\nSELECT 'still ' || 'alive';\n");
    let request = lab.held();
    lab.deny(&request).ok();
    let said = psql.finish(Duration::from_secs(10));
    let said = said.says(&["42501", "DETAIL", "schema-changes", "still alive"]);
    assert!(said.stderr.contains(request.short()), "the error names the request {}: {said}", request.short());
    assert_never_ran(&lab, &pg, "DROP TABLE orders");
    assert_eq!(pg.ran("'still '"), 1);
    assert_eq!(lab.record().outcome(&request.id), ["denied"]);
    let sessions = lab.record().sessions.len();
    assert_eq!(sessions, 1, "one connection served both statements");
}

#[test]
fn nobody_decides_in_time_and_the_answer_is_no() {
    let rules = Rules::allowing().hold_for("schema-changes", "schema", "from: [{ user: root }], timeout: 1s");
    let (lab, pg) = Lab::with_shop("expire", &rules);
    let started = Instant::now();
    let said = lab.bot("ci").psql(&pg.url(), "DROP TABLE orders").failed().says(&["42501", "schema-changes"]);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(6), "took {took:?}: {said}");
    assert_never_ran(&lab, &pg, "DROP TABLE orders");
    let record = lab.record();
    let request = record.of("requested", "DROP TABLE")[0].text("request");
    assert_eq!(record.outcome(&request), ["expired"]);
    lab.holdpoint(&["approvals", "approve", &request]).failed().says(&["in time"]);
}

#[test]
fn a_waiting_client_is_told_again_and_again() {
    let lab = Lab::new("remind");
    let pg = Postgres::start(&lab);
    let rules = schema_held();
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    lab.set("remind", "1s");
    lab.start();
    let psql = lab.bot("ci").start_psql(&pg.url(), "DROP TABLE orders");
    eventually("the notice comes a third time", Duration::from_secs(6), || {
        (psql.stderr().matches("held for approval").count() >= 3).then_some(())
    });
    lab.deny(&lab.held()).ok();
    psql.finish(Duration::from_secs(10)).failed();
}

#[test]
fn ctrl_c_in_psql_withdraws() {
    let (lab, pg) = Lab::with_shop("cancel-psql", &schema_held());
    let bot = lab.bot("ci");
    let psql = bot.start_psql(&pg.url(), "DROP TABLE orders");
    let request = lab.held();
    bot.signal("psql", Signal::SIGINT);
    psql.finish(Duration::from_secs(10)).failed().says(&["57014"]);
    assert_withdrawn(&lab, &pg, &request);
}

#[test]
fn cancel_in_psycopg_withdraws_and_the_connection_lives() {
    venv();
    let (lab, pg) = Lab::with_shop("cancel-psycopg", &schema_held());
    let python = lab.bot("ci").start_python(
        r"
import sys, threading, psycopg
conn = psycopg.connect(sys.argv[1], autocommit=True)
go = threading.Thread(target=lambda: (sys.stdin.readline(), conn.cancel()))
go.start()
try:
    conn.execute('DROP TABLE orders')
    print('ran')
except psycopg.errors.QueryCanceled as error:
    print('cancelled', error.sqlstate)
go.join()
print('then', conn.execute('SELECT 40 + 2').fetchone()[0])
",
        &pg.url(),
    );
    let request = lab.held();
    let mut python = python;
    python.write("\n");
    python.finish(Duration::from_secs(15)).ok().says(&["cancelled 57014", "then 42"]);
    assert_withdrawn(&lab, &pg, &request);
}

#[test]
fn hanging_up_withdraws() {
    let (lab, pg) = Lab::with_shop("hang-up", &schema_held());
    let bot = lab.bot("ci");
    let psql = bot.start_psql(&pg.url(), "DROP TABLE orders");
    let request = lab.held();
    bot.kill("psql");
    drop(psql);
    lab.nothing_held();
    assert_withdrawn(&lab, &pg, &request);
}

#[track_caller]
fn assert_withdrawn(lab: &Lab, pg: &Postgres, request: &Request) {
    lab.nothing_held();
    assert_eq!(lab.record().outcome(&request.id), ["withdrawn"]);
    lab.approve(request).failed().says(&["withdrew"]);
    assert!(exists(pg, "orders"), "approving a withdrawn request ran it");
    assert_never_ran(lab, pg, "DROP TABLE orders");
}

#[test]
fn refusal_inside_a_transaction_leaves_it_aborted_as_the_server_would() {
    let rules = Rules::allowing().refuse("no-schema", "schema");
    let (lab, pg) = Lab::with_shop("aborted", &rules);
    let script =
        "BEGIN;\nINSERT INTO target VALUES (77);\nDROP TABLE orders;\nSELECT 'in aborted';\nCOMMIT;\nSELECT 'after';\n";
    let said = lab.bot("ci").script(&pg.url(), script);
    let said = said.says(&["42501", "no-schema", "25P02", "ROLLBACK", "after"]);
    assert!(!said.stdout.contains("in aborted") && !said.stdout.contains("COMMIT"), "{said}");
    assert_eq!(pg.admin("SELECT count(*) FROM target WHERE id = 77"), "0", "the transaction was committed");
    assert_never_ran(&lab, &pg, "DROP TABLE orders");
}

#[test]
fn rolling_back_after_a_refusal_works_as_ever() {
    let rules = Rules::allowing().refuse("no-schema", "schema");
    let (lab, pg) = Lab::with_shop("savepoint", &rules);
    let script = "BEGIN;\nINSERT INTO target VALUES (78);\nSAVEPOINT s;\nDROP TABLE orders;\nROLLBACK TO s;\nINSERT INTO target VALUES (79);\nCOMMIT;\n";
    let said = lab.bot("ci").script(&pg.url(), script).says(&["42501", "COMMIT"]);
    assert!(!said.stdout.contains("25P02"), "{said}");
    assert_eq!(
        pg.admin("SELECT count(*) FROM target WHERE id IN (78, 79)"),
        "2",
        "what was before the savepoint stays"
    );
}

#[test]
fn pipeline_refused_in_the_middle_rolls_back_like_the_server() {
    venv();
    let rules = Rules::allowing().refuse("no-schema", "schema");
    let (lab, pg) = Lab::with_shop("pipeline", &rules);
    let said = lab.bot("ci").python(
        r"
import sys, psycopg
conn = psycopg.connect(sys.argv[1], autocommit=True)
try:
    with conn.pipeline() as p:
        conn.execute('INSERT INTO target VALUES (%s)', [81])
        conn.execute('DROP TABLE orders')
        conn.execute('INSERT INTO target VALUES (%s)', [82])
        p.sync()
    print('all ran')
except psycopg.Error as error:
    print('refused', error.sqlstate)
print('then', conn.execute('SELECT 40 + 2').fetchone()[0])
",
        &pg.url(),
    );
    said.ok().says(&["refused 42501", "then 42"]);
    assert_eq!(
        pg.admin("SELECT count(*) FROM target WHERE id IN (81, 82)"),
        "0",
        "the implicit transaction must not survive"
    );
    assert_never_ran(&lab, &pg, "DROP TABLE orders");
}

#[test]
fn approving_twice_says_so_and_does_nothing() {
    let (lab, pg) = Lab::with_shop("twice", &schema_held());
    let psql = lab.bot("ci").start_psql(&pg.url(), "CREATE TABLE twice ()");
    let request = lab.held();
    lab.approve(&request).ok();
    psql.finish(Duration::from_secs(10)).ok();
    lab.approve(&request).failed().says(&["already", "approved"]);
    lab.deny(&request).failed().says(&["already", "approved"]);
    assert_ran_once(&lab, &pg, "CREATE TABLE twice");
    assert_eq!(lab.record().outcome(&request.id), ["approved"]);
}

#[test]
fn one_approval_releases_one_operation_once() {
    let (lab, pg) = Lab::with_shop("once", &schema_held());
    let mut psql = lab.bot("ci").start_script(&pg.url());
    psql.write("CREATE TABLE IF NOT EXISTS once ();\n");
    let first = lab.held();
    lab.approve(&first).ok();
    psql.wait_for_stdout("CREATE TABLE", Duration::from_secs(10));
    psql.write("CREATE TABLE IF NOT EXISTS once ();\n");
    let second = lab.held();
    assert_ne!(first.id, second.id, "the same words are a new request");
    lab.deny(&second).ok();
    psql.finish(Duration::from_secs(10)).says(&["42501"]);
    assert_ran_once(&lab, &pg, "CREATE TABLE IF NOT EXISTS once");
}

#[test]
fn only_the_named_approvers_decide() {
    let rules = Rules::allowing().hold_for("schema-changes", "schema", "from: [{ group: desk }], timeout: 30s");
    let lab = Lab::new("approver");
    let pg = Postgres::start(&lab);
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    lab.set("groups", "{ desk: [backup] }");
    lab.start();
    let psql = lab.bot("ci").start_psql(&pg.url(), "CREATE TABLE who ()");
    let request = lab.held();
    lab.approve_as("games", &request).failed().says(&["games"]);
    lab.approve(&request).failed().says(&["root"]);
    assert_eq!(pg.ran("CREATE TABLE who"), 0, "somebody without authority released it");
    lab.approve_as("backup", &request).ok();
    psql.finish(Duration::from_secs(10)).ok();
    let record = lab.record();
    let decided = record.of("decided", "backup");
    assert_eq!(decided.len(), 1, "the record names who decided");
    assert_eq!(decided[0].text("uid"), "34", "by the kernel's word");
}

#[test]
fn the_requester_cannot_approve_itself() {
    let rules = Rules::allowing().hold_for(
        "schema-changes",
        "schema",
        "from: [{ user: nobody }, { user: root }], timeout: 30s",
    );
    let (lab, pg) = Lab::with_shop("self", &rules);
    let psql = lab.bot("ci").start_psql(&pg.url(), "CREATE TABLE self ()");
    let request = lab.held();
    lab.holdpoint_as("nobody", &["approvals", "approve", &request.id, "--reason", "trust me"]).failed();
    never("the bot's own user released it", Duration::from_millis(300), || {
        (pg.ran("CREATE TABLE self") > 0).then_some(())
    });
    lab.approve(&request).ok();
    psql.finish(Duration::from_secs(10)).ok();
}

#[test]
fn a_quorum_is_of_different_people() {
    let approval = "from: [{ user: root }, { user: backup }], quorum: 2, timeout: 30s";
    let (lab, pg) = Lab::with_shop("quorum", &Rules::allowing().hold_for("schema-changes", "schema", approval));
    let psql = lab.bot("ci").start_psql(&pg.url(), "CREATE TABLE quorum ()");
    let request = lab.held();
    lab.approve(&request).ok();
    lab.approve(&request).failed().says(&["already"]);
    never("one person was enough", Duration::from_millis(300), || (pg.ran("CREATE TABLE quorum") > 0).then_some(()));
    lab.approve_as("backup", &request).ok();
    psql.finish(Duration::from_secs(10)).ok();
    assert_ran_once(&lab, &pg, "CREATE TABLE quorum");
    assert_eq!(lab.record().of("decided", &request.id).len(), 2);
}

#[test]
fn a_required_reason_is_required() {
    let approval = "from: [{ user: root }], timeout: 30s, reason: required";
    let (lab, pg) = Lab::with_shop("reason", &Rules::allowing().hold_for("schema-changes", "schema", approval));
    let psql = lab.bot("ci").start_psql(&pg.url(), "CREATE TABLE reason ()");
    let request = lab.held();
    lab.holdpoint(&["approvals", "approve", &request.id]).failed().says(&["reason"]);
    assert_eq!(pg.ran("CREATE TABLE reason"), 0);
    lab.holdpoint(&["approvals", "approve", &request.id, "--reason", "ticket 4711"]).ok();
    psql.finish(Duration::from_secs(10)).ok();
    assert_eq!(lab.record().of("decided", "ticket 4711").len(), 1, "the reason is in the record");
}

#[test]
fn retry_refuses_at_once_and_releases_the_identical_operation_once() {
    let rules = Rules::allowing().policy(
        "policy: schema-changes\nmatch: { resource: shop, effects: [schema] }\ndecide: hold\non_hold: retry\napproval: { from: [{ user: root }], timeout: 30s }\n",
    );
    let (lab, pg) = Lab::with_shop("retry", &rules);
    let bot = lab.bot("ci");
    let sql = "CREATE TABLE IF NOT EXISTS retried ()";
    let said = bot.psql(&pg.url(), sql).failed().says(&["42501"]);
    let request = lab.held();
    assert!(said.stderr.contains(request.short()), "the error names the request: {said}");
    bot.psql(&pg.url(), sql).failed();
    assert_eq!(lab.pending().len(), 1, "asking again before the decision opens no second request");

    // The bot itself waits for its end, and learns nothing but that.
    let socket = lab.path("run/holdpoint.sock").display().to_string();
    let wait = |more: &[&str]| {
        [&[lab.tool("holdpoint").as_str(), "wait", request.short(), "--socket", &socket], more].concat().join(" ")
    };
    let waiting = bot.start(&["sh", "-c", &format!("{}; echo ended $?", wait(&["--timeout", "20s"]))]);
    bot.run(&["sh", "-c", &format!("{}; echo ended $?", wait(&["--timeout", "1s"]))]).says(&["ended 5"]);
    lab.approve(&request).ok();
    waiting.finish(Duration::from_secs(10)).ok().says(&["approved", "ended 0"]);
    bot.psql(&pg.url(), "CREATE TABLE IF NOT EXISTS retried_other ()").failed();
    bot.psql(&pg.url(), sql).ok();
    bot.psql(&pg.url(), sql).failed();
    assert_ran_once(&lab, &pg, sql);
    assert_eq!(pg.ran("retried_other"), 0);
    for request in lab.held_count(2) {
        lab.deny(&request).ok();
        assert_eq!(lab.holdpoint(&["wait", request.short()]).status.code(), Some(3));
        assert_eq!(lab.holdpoint(&["wait", &request.id]).status.code(), Some(3));
    }
    lab.holdpoint(&["wait", "ffffffff"]).failed().says(&["ffffffff"]);
}

#[test]
fn retry_is_for_a_session_with_the_same_past() {
    let rules = Rules::allowing().policy(
        "policy: deletes\nmatch: { resource: shop, effects: [delete] }\ndecide: hold\non_hold: retry\napproval: { from: [{ user: root }], timeout: 60s }\n",
    );
    let (lab, pg) = Lab::with_shop("retry-past", &rules);
    let delete = |tenant: u32| {
        let mut psql = lab.bot("ci").start_script(&pg.url());
        psql.write(&format!("\\set ON_ERROR_STOP on\nSET app.tenant = '{tenant}';\nDELETE FROM target WHERE id::text = current_setting('app.tenant');\n"));
        psql.close_stdin();
        psql.finish(Duration::from_secs(10))
    };
    delete(1).failed().says(&["42501"]);
    lab.approve(&lab.held()).ok();
    // The same text, in a session that was treated otherwise.
    delete(3).failed().says(&["42501"]);
    assert_eq!(pg.admin("SELECT count(*) FROM target"), "3");
    delete(1).ok();
    assert_eq!(pg.admin("SELECT string_agg(id::text, ',' ORDER BY id) FROM target"), "2,3");
}

#[test]
fn a7_restart_refuses_what_was_held() {
    let (lab, pg) = Lab::with_shop("restart", &schema_held());
    let psql = lab.bot("ci").start_psql(&pg.url(), "DROP TABLE orders");
    let request = lab.held();
    lab.kill();
    psql.finish(Duration::from_secs(10)).failed();
    lab.start();
    assert!(lab.pending().is_empty(), "a request outlived the gateway that held its connection");
    lab.approve(&request).failed().says(&["stopped"]);
    assert!(exists(&pg, "orders"), "approving it after the restart ran it behind the client's back");
    assert_eq!(lab.record().outcome(&request.id), ["restarted"]);
    assert_eq!(pg.ran("DROP TABLE orders"), 0);
    lab.verify();
}

#[test]
fn sigterm_finishes_what_runs_and_refuses_what_is_held() {
    let (lab, pg) = Lab::with_shop("drain", &schema_held());
    let running = lab.bot("slow").start_psql(&pg.url(), "SELECT 'slept ' || pg_sleep(1.5)");
    eventually("the slow query runs", Duration::from_secs(10), || (pg.ran("pg_sleep(1.5)") == 1).then_some(()));
    let held = lab.bot("ci").start_psql(&pg.url(), "DROP TABLE orders");
    let request = lab.held();

    let gateway = lab.gateway().take().expect("the gateway runs");
    gateway.terminate();
    held.finish(Duration::from_secs(10)).failed().says(&["42501"]);
    running.finish(Duration::from_secs(10)).ok().says(&["slept"]);
    gateway.ended().ok();

    lab.bot("late").psql(&pg.url(), "SELECT 1").failed();
    lab.start();
    assert_eq!(lab.record().outcome(&request.id), ["restarted"]);
    assert_eq!(pg.ran("DROP TABLE orders"), 0);
    lab.bot("late").psql(&pg.url(), "SELECT 1").ok();
    lab.verify();
}

#[test]
fn policies_reload_under_a_living_connection_and_a_bad_file_changes_nothing() {
    let (lab, pg) = Lab::with_shop("reload", &Rules::allowing());
    let mut psql = lab.bot("ci").start_script(&pg.url());
    psql.write("CREATE TABLE before_reload ();\n");
    psql.wait_for_stdout("CREATE TABLE", Duration::from_secs(10));

    let strict = Rules::allowing().refuse("no-schema", "schema");
    lab.policies(&strict.resource(pg.port()), &strict.policies());
    let mut number = 0;
    eventually("the new policy is in force", Duration::from_secs(10), || {
        number += 1;
        psql.write(&format!("CREATE TABLE reloading_{number} ();\n\\echo done {number}\n"));
        psql.wait_for_stdout(&format!("done {number}\n"), Duration::from_secs(10));
        psql.stderr().contains("42501").then_some(())
    });

    lab.policies(&strict.resource(pg.port()), "policy: broken\nmatch: { effects: [schemer] }\ndecide: allow\n");
    eventually("the gateway says what is wrong with the file", Duration::from_secs(10), || {
        let log = lab.gateway_log();
        (log.contains("schemer") && log.contains("policies.yaml")).then_some(())
    });
    psql.write("CREATE TABLE after_bad_file ();\nSELECT 'same ' || 'connection';\n");
    psql.finish(Duration::from_secs(10)).says(&["no-schema", "same connection"]);
    assert_eq!(pg.ran("after_bad_file"), 0, "the old set was dropped");
    assert_eq!(lab.record().sessions.len(), 1);
}

#[test]
fn exec_passes_the_exit_code_on() {
    let (lab, _pg) = Lab::with_shop("exec", &Rules::allowing());
    let said = lab.bot("ci").run(&["sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!(said.status.code(), Some(42), "{said}");
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("out\n", "err\n"));
}
