//! The API against its own description, as schemathesis (PyPI) understands both: every answer is one that the document
//! tells of, and no request of any shape is an error of the server's own.

use std::{fs, process::Command, time::Duration};

use serde_json::{Value, json};
use tests::{Authenticator, Lab, Postgres, Rules, eventually, schemathesis, venv};

const SOON: Duration = Duration::from_secs(30);

/// A bot that is told to come back, again and again, and one statement that is let through.
const ASK: &str = "
import psycopg, sys
with psycopg.connect(sys.argv[1], autocommit=True) as db:
    for number in range(80):
        try:
            db.execute(f'UPDATE target SET id = id WHERE id = -{number + 2}')
        except psycopg.Error:
            pass
    print('asked')
    sys.stdin.readline()
";

/// Requests for each operation and kind of testing.
const EXAMPLES: &str = "60";

/// The same on every run: a finding can be looked at again.
const SEED: &str = "20261124";

#[test]
fn every_answer_is_one_that_the_document_tells_of() {
    let schemathesis = schemathesis();
    venv();
    let lab = Lab::new("api");
    let pg = Postgres::start(&lab);
    let rules = Rules::allowing()
        .policy(
            "policy: updates\nmatch: { resource: shop, effects: [write] }\ndecide: hold\non_hold: retry\n\
             approval: { from: [{ user: ada }], timeout: 1h, break_glass: { group: sre } }\n",
        )
        .hold_for("deletes", "delete", "from: [{ user: ada }], timeout: 1h");
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let mut desk = lab.with_console();
    lab.start();
    let roles = ["viewer", "approver", "auditor", "admin"].map(|role| ["--role", role]).concat();
    let link = lab.account("ada", &[&["--group", "sre"][..], &roles].concat());
    desk.enrol(&link, &Authenticator::new("ada"));
    lab.account("bob", &["--role", "approver"]);

    // Something of everything that has a name: what is open, what is over, and what is nowhere.
    let mut crowd = lab.bot("crowd").start_python(ASK, &pg.url());
    crowd.wait_for_stdout("asked", SOON);
    let open = desk.ask("GET", "/api/v1/approvals", None).is(200).json();
    let requests = names(&open["requests"], "request");
    assert_eq!(requests.len(), 80);
    let at = |request: &str, what: &str| format!("/api/v1/approvals/{request}/{what}");
    for request in &requests[..4] {
        let grant = json!({ "uses": 5, "seconds": 600 });
        desk.ask("POST", &at(request, "decision"), Some(&json!({ "approve": true, "grant": grant }))).is(200);
    }
    for request in &requests[4..7] {
        desk.ask("POST", &at(request, "break-glass"), Some(&json!({ "reason": "it burns" }))).is(200);
    }
    for _ in 0..3 {
        desk.ask("POST", "/api/v1/delegations", Some(&json!({ "to": "bob", "seconds": 600 }))).is(200);
    }
    let listed = |what: &str, key: &str| {
        let listed = names(&desk.ask("GET", &format!("/api/v1/{what}"), None).is(200).json(), key);
        assert!(listed.len() >= 2 || what == "sessions/live", "{what}: {listed:?}");
        listed
    };
    let dictionaries = [
        ("request", requests.clone()),
        ("grant", listed("grants", "grant")),
        ("delegation", listed("delegations", "delegation")),
        ("review", listed("reviews", "review")),
        ("session", listed("sessions/live", "session")),
    ];
    let mut settings = String::new();
    for (name, values) in &dictionaries {
        settings.push_str(&format!("[dictionaries.{name}]\nvalues = {}\n", json!(values)));
    }
    settings.push_str("[parameters]\n");
    for (name, _) in &dictionaries {
        settings.push_str(&format!("\"path.{name}\" = {{ dictionary = \"{name}\", probability = 0.7 }}\n"));
    }
    let file = lab.path("schemathesis.toml");
    fs::write(&file, settings).expect("it is ours");

    let report = lab.path("api.json");
    let said = Command::new(schemathesis)
        .current_dir(lab.path(""))
        .arg("--config-file")
        .arg(&file)
        .args(["run", &format!("{}/api/v1/openapi.json", desk.origin), "--checks", "all"])
        // Whoever sends a name that nobody has is told so, well-formed as it is; and what needs no session needs none.
        .args(["--exclude-checks", "positive_data_acceptance"])
        // It has no end.
        .args(["--exclude-path", "/api/v1/events", "--continue-on-failure", "--warnings", "off"])
        // What waits is given half a minute.
        .args(["--max-response-time", "35"])
        .args(["--max-examples", EXAMPLES, "--seed", SEED, "--request-timeout", "40", "--no-color"])
        .args(["--header", &format!("Cookie: {}", desk.cookie.as_deref().expect("signed in"))])
        .args(["--header", &format!("x-csrf: {}", desk.csrf.as_deref().expect("signed in"))])
        .args(["--report-json-path", report.to_str().expect("text")])
        .output()
        .expect("it is there");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}\n{}", String::from_utf8_lossy(&said.stderr));
    // Four decisions are this test's own: it has made others, or it has shown little.
    let decided = lab.record().of("decided", "").len();
    assert!(decided > 4, "{decided} decisions: it decided nothing\n{text}");
    eprintln!("{}", text.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
    crowd.write("\n");
    crowd.finish(SOON).ok();
    lab.verify().ok();
    lab.stop().ok();
}

fn names(listed: &Value, key: &str) -> Vec<String> {
    let listed = listed.as_array().unwrap_or_else(|| panic!("no list: {listed}"));
    listed.iter().map(|one| one[key].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn whatever_goes_wrong_is_said_as_a_problem_or_on_a_page() {
    let lab = Lab::new("problems");
    let rules = Rules::allowing();
    lab.policies(&rules.resource(5432), &rules.policies());
    let mut desk = lab.with_console();
    lab.start();
    desk.enrol(&lab.account("ada", &["--role", "approver"]), &Authenticator::new("ada"));
    let problem = |method: &str, path: &str, body: Option<&Value>, code: u16| {
        let answer = desk.ask(method, path, body).is(code);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
        let told = answer.json();
        assert_eq!(told["status"], code, "{told}");
        assert!(told["title"].as_str().is_some_and(|title| !title.is_empty()), "{told}");
        told["detail"].as_str().unwrap_or_default().to_owned()
    };
    assert!(problem("GET", "/api/v1/nothing", None, 404).contains("holdpoint api"));
    problem("DELETE", "/api/v1/me", None, 405);
    assert!(problem("GET", "/api/v1/approvals?since=now", None, 400).contains("since"));
    let decision = "/api/v1/approvals/deadbeef/decision";
    assert!(problem("POST", decision, Some(&json!({ "approve": "yes" })), 422).contains("approve"));
    assert!(problem("POST", decision, Some(&json!({ "approve": true, "all": 1 })), 422).contains("all"));
    problem("POST", decision, Some(&json!({ "approve": true, "reason": "x".repeat(300 * 1024) })), 413);
    problem("POST", decision, Some(&json!({ "approve": true })), 404);

    let cookie = desk.cookie.clone().expect("signed in");
    let host = desk.host();
    let page = desk.ask_as(&host, "GET", "/nothing", &[("accept", "text/html"), ("cookie", &cookie)], None).is(404);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{page:?}");
    assert!(page.body.contains("there is nothing at /nothing"), "{page:?}");
    let hostile = desk.ask_as(&host, "GET", "/%3Cscript%3E", &[("accept", "text/html")], None).is(404);
    assert!(!hostile.body.contains("<script>"), "{hostile:?}");

    let printed = lab.holdpoint(&["api"]).ok();
    let printed: Value = serde_json::from_str(&printed.stdout).expect("JSON");
    assert_eq!(desk.ask("GET", "/api/v1/openapi.json", None).is(200).json(), printed);
    assert_eq!(printed["openapi"], "3.1.0");
    let events = eventually("the console says that it is there", SOON, || {
        let head = desk.ask("HEAD", "/api/v1/events", None);
        (head.code == 200).then_some(head)
    });
    assert_eq!(events.header("content-type"), Some("text/event-stream"), "{events:?}");
    lab.stop().ok();
}

/// Programs ask with a token; they approve only where a rule names them, and are never one of two people.
#[test]
fn v14_a_program_sees_what_its_roles_let_it_see_and_approves_where_a_rule_names_it() {
    let lab = Lab::new("tokens");
    let pg = Postgres::start(&lab);
    let rules = Rules::allowing()
        .hold_for("deletes", "delete", "from: [{ user: ada }], timeout: 1m")
        .hold_for("writes", "write", "from: [{ token: chat }], timeout: 1m")
        .hold_for("drops", "schema", "from: [{ user: ada }, { token: chat }], quorum: 2, timeout: 1m");
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let mut desk = lab.with_console();
    lab.start();
    desk.enrol(&lab.account("ada", &["--role", "approver"]), &Authenticator::new("ada"));
    let made = lab.holdpoint(&["tokens", "create", "chat", "--role", "approver", "--for", "1h"]).ok();
    let token = made.stdout.trim().to_owned();
    assert!(token.starts_with("hpt_"), "{made:?}");
    let seer = lab.holdpoint(&["tokens", "create", "dashboard"]).ok().stdout.trim().to_owned();
    lab.holdpoint(&["tokens", "create", "chat"]).failed().says(&["there is a token chat already"]);
    lab.holdpoint(&["tokens", "list"]).ok().says(&["chat", "approver", "dashboard", "viewer"]);
    let host = desk.host();
    let ask = |token: &str, method: &str, path: &str, body: Option<&Value>| {
        let said = format!("Bearer {token}");
        desk.ask_as(&host, method, path, &[("authorization", &said)], body)
    };
    let approve = json!({ "approve": true });
    let decision = |request: &str| format!("/api/v1/approvals/{request}/decision");

    let me = ask(&token, "GET", "/api/v1/me", None).is(200).json();
    assert_eq!((&me["id"], &me["csrf"]), (&json!("token:chat"), &Value::Null));
    ask("hpt_guessed", "GET", "/api/v1/me", None).is(401);
    ask("", "GET", "/api/v1/me", None).is(401);
    ask(&token, "GET", "/api/v1/sessions/live", None).is(403);
    let link = json!({ "to": "bob", "seconds": 600 });
    ask(&token, "POST", "/api/v1/delegations", Some(&link)).is(403);
    desk.ask("POST", "/api/v1/delegations", Some(&json!({ "to": "token:chat", "seconds": 600 }))).is(200);

    // Somebody else's rule: what ada lent it is not its either.
    let deletes = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.held();
    assert!(ask(&seer, "GET", "/api/v1/approvals", None).is(200).body.contains(&request.id));
    assert!(
        !ask(&token, "GET", "/api/v1/approvals", None).is(200).body.contains(&request.id),
        "it does not concern it"
    );
    ask(&seer, "POST", &decision(&request.id), Some(&approve)).is(403);
    ask(&token, "POST", &decision(&request.id), Some(&approve)).is(403);
    desk.ask("POST", &decision(&request.id), Some(&approve)).is(200);
    deletes.finish(SOON).ok();

    let writes = lab.bot("ci").start_psql(&pg.url(), "UPDATE target SET id = 5 WHERE id = 2");
    let request = lab.held();
    desk.ask("POST", &decision(&request.id), Some(&approve)).is(403);
    ask(&token, "POST", &decision(&request.id), Some(&approve)).is(200);
    writes.finish(SOON).ok();

    let drops = lab.bot("ci").start_psql(&pg.url(), "DROP TABLE target");
    let request = lab.held();
    desk.ask("POST", &decision(&request.id), Some(&approve)).is(200);
    let again = ask(&token, "POST", &decision(&request.id), Some(&approve)).is(409).body;
    assert!(again.contains("already") || again.contains("perhaps") || again.contains("tells"), "{again}");
    lab.bot("ci").kill("psql");
    drops.finish(SOON).failed();

    lab.holdpoint(&["tokens", "delete", "chat"]).ok();
    ask(&token, "GET", "/api/v1/me", None).is(401);
    let record = lab.record();
    assert_eq!(record.of("decided", "token:chat").len(), 1);
    assert!(!record.of("administered", "makes token chat with roles [approver]").is_empty());
    lab.verify().ok();
    lab.stop().ok();
}

/// A program that never heard the answer asks again; one that saw something else decides nothing.
#[test]
fn what_is_asked_again_under_a_key_is_done_once_and_a_tag_that_is_another_decides_nothing() {
    let lab = Lab::new("again");
    let pg = Postgres::start(&lab);
    let rules = Rules::allowing().hold_for("deletes", "delete", "from: [{ token: chat }], timeout: 1m");
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let desk = lab.with_console();
    lab.start();
    let token = lab.holdpoint(&["tokens", "create", "chat", "--role", "approver", "--role", "viewer"]).ok();
    let bearer = format!("Bearer {}", token.stdout.trim());
    let host = desk.host();
    let ask = |method: &str, path: &str, more: &[(&str, &str)], body: Option<&Value>| {
        let lines = [&[("authorization", bearer.as_str())], more].concat();
        desk.ask_as(&host, method, path, &lines, body)
    };
    let first = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    // What it would touch is part of what is approved: it has been asked for.
    let one = lab.previewed();
    let second = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 2");
    let listed = eventually("both wait", SOON, || {
        let listed = ask("GET", "/api/v1/approvals?limit=1", &[], None).is(200).json();
        listed["next"].is_string().then_some(listed)
    });
    assert_eq!(names(&listed["requests"], "request"), [one.said["request"].as_str().expect("its name")]);
    let next = listed["next"].as_str().expect("there is one more");
    let rest = ask("GET", &format!("/api/v1/approvals?limit=1&after={next}"), &[], None).is(200).json();
    assert_eq!((rest["requests"].as_array().map(Vec::len), &rest["next"]), (Some(1), &Value::Null));
    let two = names(&rest["requests"], "request").remove(0);

    let shown = |id: &str| format!("/api/v1/approvals/{id}");
    let decision = |id: &str| format!("/api/v1/approvals/{id}/decision");
    let (deny, approve) = (json!({ "approve": false, "reason": "no" }), json!({ "approve": true }));
    let tag = |id: &str| ask("GET", &shown(id), &[], None).is(200).header("etag").expect("a tag").to_owned();
    let of_two = tag(&two);
    ask("POST", &decision(&one.id), &[("if-match", &of_two)], Some(&deny)).is(412);
    let of_one = tag(&one.id);

    let key = [("idempotency-key", "chat-17"), ("if-match", of_one.as_str())];
    let answer = ask("POST", &decision(&one.id), &key, Some(&deny)).is(200);
    let again = ask("POST", &decision(&one.id), &key, Some(&deny)).is(200);
    assert_eq!(answer.body, again.body);
    ask("POST", &decision(&one.id), &[("idempotency-key", "chat-17")], Some(&approve)).is(422);
    ask("POST", &decision(&one.id), &[("idempotency-key", "chat-18")], Some(&deny)).is(409);
    ask("POST", &decision(&two), &[("idempotency-key", "chat-17")], Some(&approve)).is(200);
    first.finish(SOON).failed();
    second.finish(SOON).ok();
    assert_eq!(lab.record().of("decided", "token:chat").len(), 2);
    lab.verify().ok();
    lab.stop().ok();
}
