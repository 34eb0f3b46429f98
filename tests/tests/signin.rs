//! The way into the console, and everything that must not be one.

use std::time::Duration;

use holdpoint::admin::{self, Door, May};
use serde_json::json;
use tests::{Authenticator, Desk, Lab, Postgres, Rules, eventually};

const SOON: Duration = Duration::from_secs(10);

/// A shop whose deletes are held, and a console where ada, of the group that decides, has enrolled her passkey.
fn with_ada(name: &str) -> (Postgres, Lab, Desk, Authenticator) {
    let lab = Lab::new(name);
    let pg = Postgres::start(&lab);
    let rules = Rules::allowing().hold_for("deletes", "delete", "from: [{ group: root }], timeout: 30s");
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let mut desk = lab.with_console();
    lab.start();
    let key = Authenticator::new("adas-phone");
    let link = lab.account("ada", &["--group", "root"]);
    desk.enrol(&link, &key);
    (pg, lab, desk, key)
}

#[test]
fn somebody_enrols_a_passkey_signs_in_decides_and_signs_out() {
    let (pg, lab, mut desk, key) = with_ada("enrol");
    let stranger = Desk { cookie: None, csrf: None, ..desk.clone() };
    stranger.ask("GET", "/api/v1/approvals", None).is(401);
    let cookie = desk.ask("POST", "/signout", None).is(200);
    let gone = cookie.header("set-cookie").expect("the cookie is taken back");
    assert!(gone.starts_with("__Host-holdpoint=;") && gone.contains("Max-Age=0"), "{gone}");
    desk.ask("GET", "/api/v1/me", None).is(401);
    desk.csrf = None;
    desk.sign_in(&key);
    let me = desk.ask("GET", "/api/v1/me", None).is(200).json();
    assert_eq!((&me["id"], &me["name"]), (&json!("local:ada"), &json!("ada")));

    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.previewed();
    let open = desk.ask("GET", "/api/v1/approvals", None).is(200).json();
    assert_eq!(open["requests"][0]["request"], json!(request.id));
    let decision = format!("/api/v1/approvals/{}/decision", request.id);
    let approve = json!({ "approve": true, "reason": "seen and meant", "digest": request.said["digest"] });
    // Without the session's own word nothing is decided, whoever's page asks.
    Desk { csrf: None, ..desk.clone() }.ask("POST", &decision, Some(&approve)).is(403);
    Desk { csrf: Some("guessed".to_owned()), ..desk.clone() }.ask("POST", &decision, Some(&approve)).is(403);
    lab.held();
    desk.ask("POST", &decision, Some(&approve)).is(200);
    psql.finish(SOON).ok();
    let record = lab.record();
    let decided = record.of("decided", "");
    assert_eq!(decided.len(), 1, "{decided:?}");
    assert_eq!((decided[0].text("by"), decided[0].text("person")), ("ada".to_owned(), "local:ada".to_owned()));
    let done: Vec<_> = record.of("administered", "").iter().map(|event| event.text("what")).collect();
    for what in ["keeps account ada", "enrols a passkey", "signs out", "signs in with a passkey"] {
        assert!(done.iter().any(|done| done.contains(what)), "{what}: {done:?}");
    }
    lab.verify().ok();
    // What nobody but a browser may have is nowhere.
    let secret = desk.cookie.as_deref().and_then(|cookie| cookie.split_once('=')).map(|(_, secret)| secret.to_owned());
    assert!(!lab.gateway_log().contains(&secret.expect("a cookie")));
    lab.stop().ok();
}

#[test]
fn a_link_works_once_and_a_restart_forgets_it() {
    let (_pg, lab, desk, key) = with_ada("link");
    let link = lab.account("bob", &[]);
    let fresh = Desk { cookie: None, csrf: None, ..desk.clone() };
    let asked = fresh.ask("POST", &format!("{link}/begin"), None).is(200).json();
    let finish = |link: &str, credential| {
        fresh.ask("POST", &format!("{link}/finish"), Some(&json!({ "credential": credential })))
    };
    // A question for one link is none for another.
    let other = lab.account("carl", &[]);
    let bobs = Authenticator::new("bobs-key");
    finish(&other, bobs.make(&asked, &desk.origin)).is(401);
    // That question is used up; on another site's page it would not have counted.
    finish(&link, bobs.make(&asked, &desk.origin)).is(401);
    let again = fresh.ask("POST", &format!("{link}/begin"), None).is(200).json();
    finish(&link, bobs.make(&again, "https://evil.example")).is(401);
    let again = fresh.ask("POST", &format!("{link}/begin"), None).is(200).json();
    finish(&link, bobs.make(&again, &desk.origin)).is(200);
    fresh.ask("POST", &format!("{link}/begin"), None).is(410);
    fresh.ask("POST", "/enrol/guessed/begin", None).is(410);
    lab.stop().ok();
    lab.start();
    fresh.ask("POST", &format!("{other}/begin"), None).is(410);
    // A restart signs everybody out, and forgets nobody.
    desk.ask("GET", "/api/v1/me", None).is(401);
    Desk { cookie: None, csrf: None, ..desk.clone() }.sign_in(&key);
    let kept = std::fs::metadata(lab.path("state/people.json")).expect("it is there");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&kept) & 0o777, 0o600);
    lab.stop().ok();
}

#[test]
fn what_is_no_sign_in_signs_nobody_in() {
    let (_pg, lab, desk, key) = with_ada("no-signin");
    let fresh = Desk { cookie: None, csrf: None, ..desk.clone() };
    let begin = || fresh.ask_in_turn("POST", "/signin/passkey/begin", None).is(200).json();
    let finish =
        |credential| fresh.ask_in_turn("POST", "/signin/passkey/finish", Some(&json!({ "credential": credential })));
    // Once, and not again.
    let signed = key.sign(&begin(), &desk.origin);
    finish(signed.clone()).is(200);
    finish(signed).is(401);
    finish(key.sign(&begin(), "https://evil.example")).is(401);
    finish(key.sign_for("evil.example", begin()["publicKey"]["challenge"].as_str().expect("text"), &desk.origin))
        .is(401);
    finish(key.sign_for("localhost", "Z3Vlc3NlZA", &desk.origin)).is(401);
    // A stranger's key under ada's key's name, and under its own.
    finish(Authenticator::new("adas-phone").sign(&begin(), &desk.origin)).is(401);
    finish(Authenticator::new("stranger").sign(&begin(), &desk.origin)).is(401);
    // A question about enrolling is none about signing in.
    let link = lab.account("bob", &[]);
    let asked = fresh.ask_in_turn("POST", &format!("{link}/begin"), None).is(200).json();
    let challenge = asked["publicKey"]["challenge"].as_str().expect("text");
    finish(key.sign_for("localhost", challenge, &desk.origin)).is(401);
    finish(json!({ "id": "!", "response": { "authenticatorData": "", "clientDataJSON": "", "signature": "" } }))
        .is(400);
    // Whoever is disabled is out at once, and cannot come back.
    let mut ada = desk.clone();
    lab.holdpoint(&["people", "set", "ada", "--group", "root", "--disabled"]).ok();
    ada.ask("GET", "/api/v1/me", None).is(401);
    finish(key.sign(&begin(), &desk.origin)).is(401);
    lab.holdpoint(&["people", "set", "ada", "--group", "root"]).ok();
    (ada.cookie, ada.csrf) = (None, None);
    ada.sign_in(&key);
    lab.holdpoint(&["people", "delete", "ada"]).ok();
    ada.ask("GET", "/api/v1/me", None).is(401);
    lab.stop().ok();
}

#[test]
fn v15_whoever_goes_on_and_on_signs_in_again_all_the_same() {
    let lab = Lab::new("absolute");
    let pg = Postgres::start(&lab);
    let rules = Rules::allowing();
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let mut desk = lab.with_console();
    lab.set("console", &format!("{{listen: \"{}\", idle: 1h, absolute: 3s}}", desk.at));
    lab.start();
    let link = lab.account("ada", &[]);
    desk.enrol(&link, &Authenticator::new("adas-phone"));
    desk.ask("GET", "/api/v1/me", None).is(200);
    eventually("the session is over", SOON, || (desk.ask("GET", "/api/v1/me", None).code == 401).then_some(()));
    // A page leads to where one signs in; a decision of the old session decides nothing.
    desk.ask("POST", "/api/v1/approvals/0/decision", Some(&json!({ "approve": true }))).is(401);
    lab.stop().ok();
}

#[test]
fn too_many_attempts_are_put_off() {
    let (_pg, lab, desk, _key) = with_ada("often");
    let codes: Vec<_> = (0..40).map(|_| desk.ask("POST", "/signin/passkey/begin", None).code).collect();
    assert!(codes.contains(&200) && codes.contains(&429), "{codes:?}");
    // Whoever is in goes on working.
    desk.ask("GET", "/api/v1/me", None).is(200);
    lab.stop().ok();
}

#[test]
fn v13_another_site_changes_nothing_and_another_name_is_not_answered() {
    let (pg, lab, desk, _key) = with_ada("sites");
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.held();
    let decision = format!("/api/v1/approvals/{}/decision", request.id);
    let approve = json!({ "approve": true, "reason": "x" });
    let (cookie, csrf) = (desk.cookie.clone().expect("signed in"), desk.csrf.clone().expect("signed in"));
    let with = |origin: &str| {
        let lines = [("cookie", cookie.as_str()), ("x-csrf", csrf.as_str()), ("origin", origin)];
        desk.ask_as(&desk.host(), "POST", &decision, &lines, Some(&approve)).code
    };
    assert_eq!(with("https://evil.example"), 421);
    assert_eq!(with("null"), 421);
    let lines = [("cookie", cookie.as_str())];
    for host in ["evil.example", "localhost", "127.0.0.1", ""] {
        assert_eq!(desk.ask_as(host, "GET", "/api/v1/approvals", &lines, None).code, 421, "{host}");
    }
    lab.held();
    lab.deny(&request).ok();
    psql.finish(SOON).says(&["denied"]);
    lab.stop().ok();
}

#[test]
fn v7_every_route_of_the_console_is_for_those_it_says() {
    let (_pg, lab, desk, _key) = with_ada("routes");
    let stranger = Desk { cookie: None, csrf: None, ..desk.clone() };
    let mut viewer = stranger.clone();
    let link = lab.account("vera", &["--role", "viewer"]);
    viewer.enrol(&link, &Authenticator::new("veras-key"));
    let of_viewer = viewer.ask("GET", "/api/v1/me", None).json()["roles"].clone();
    assert_eq!(of_viewer, json!(["viewer"]));
    for (path, may, doors) in admin::paths() {
        let filled = path
            .replace("{request}", "abcd")
            .replace("{grant}", "abcd")
            .replace("{port}", "1")
            .replace("{code}", "abcd");
        // Every one of these must be a path with nothing left to fill in.
        let filled = filled
            .split('/')
            .map(|part| if part.starts_with('{') { "abcd" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let code = stranger.ask(method, &filled, None).code;
            if !doors.contains(&Door::Console) {
                assert_eq!(code, 404, "{method} {path} is answered at the console");
                continue;
            }
            match may {
                May::Anybody | May::Brought => assert_ne!(code, 500, "{method} {path}"),
                _ => assert!([401, 405].contains(&code), "{method} {path} answers a stranger {code}"),
            }
            if let May::Role(role) = may
                && role.as_str() != "viewer"
            {
                let code = viewer.ask(method, &filled, None).code;
                assert!([403, 405].contains(&code), "{method} {path} is for {role:?} and answers a viewer {code}");
            }
            assert!(!matches!(may, May::Root(_) | May::Starting), "{path} is for root alone, and at the console");
        }
    }
    let page = desk.ask("GET", "/api/v1/me", None).is(200);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("cache-control", "no-store")]
    {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    lab.stop().ok();
}

#[test]
fn one_human_under_two_names_is_one() {
    let (pg, lab, desk, _key) = with_ada("human");
    let rules = Rules::allowing();
    let twice = "policy: deletes\nmatch: { resource: shop, effects: [delete] }\ndecide: hold\n\
                 approval: { from: [{ group: root }], quorum: 2, timeout: 1m }\n";
    lab.policies(&rules.resource(pg.port()), twice);
    lab.holdpoint(&["people", "set", "ada", "--group", "root"]).ok();
    tests::eventually("the policy counts", SOON, || lab.gateway_log().contains("policies reloaded").then_some(()));
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.held();
    let decision = format!("/api/v1/approvals/{}/decision", request.id);
    let approve = json!({ "approve": true, "reason": "x" });
    desk.ask("POST", &decision, Some(&approve)).is(200);
    // Root could be ada: nothing says that she is somebody else.
    lab.approve(&request).says(&["ada has already approved", "somebody else"]);
    lab.deny(&request).ok();
    psql.finish(SOON).says(&["denied"]);
    let nobody = nix::unistd::User::from_name("daemon").expect("users").expect("every machine has one");
    lab.holdpoint(&["people", "set", "ada", "--group", "root", "--user", &nobody.name]).ok();
    // Now she is a user of the machine, and that is not root.
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.held();
    desk.ask("POST", &format!("/api/v1/approvals/{}/decision", request.id), Some(&approve)).is(200);
    lab.approve(&request).ok();
    psql.finish(SOON).ok();
    lab.verify().ok();
    lab.stop().ok();
}

#[test]
fn an_administrator_ends_a_connection_and_nobody_else_does() {
    let (pg, lab, desk, _key) = with_ada("live");
    let mut idle = lab.bot("ci").start_script(&pg.url());
    idle.write("SELECT 'here';\n");
    idle.wait_for_stdout("here", SOON);
    let held = lab.bot("nightly").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    lab.held();
    let live: Vec<serde_json::Value> =
        serde_json::from_str(&lab.holdpoint(&["sessions", "live", "-o", "json"]).ok().stdout).expect("JSON");
    let of = |workload: &str| {
        let one = live.iter().find(|one| one["workload"].as_str().is_some_and(|name| name.contains(workload)));
        one.unwrap_or_else(|| panic!("no {workload} in {live:?}"))["session"].as_str().expect("text").to_owned()
    };
    assert_eq!(live.len(), 2, "{live:?}");
    // Ada decides on requests; connections are an administrator's.
    let end = |desk: &Desk, session: &str| {
        let path = format!("/api/v1/sessions/{session}/termination");
        desk.ask("POST", &path, Some(&json!({ "reason": "not tonight" })))
    };
    end(&desk, &of("ci")).is(403);
    desk.ask("GET", "/api/v1/sessions/live", None).is(403);
    lab.holdpoint(&["people", "set", "ada", "--role", "admin", "--role", "auditor"]).ok();
    assert_eq!(desk.ask("GET", "/api/v1/sessions/live", None).is(200).json().as_array().map(Vec::len), Some(2));
    end(&desk, &of("ci")).is(200);
    idle.write("SELECT 'gone';\n");
    idle.finish(SOON).says(&["ada ended this connection: not tonight"]).hides("gone");
    // What waits in a connection that is ended is withdrawn, and never runs.
    lab.holdpoint(&["sessions", "end", &of("nightly"), "--reason", "enough"]).ok();
    held.finish(SOON).says(&["root ended this connection: enough"]);
    lab.nothing_held();
    assert_eq!(pg.ran("DELETE FROM target"), 0);
    assert_eq!(pg.admin("SELECT count(*) FROM target WHERE id = 1"), "1");
    end(&desk, &of("ci")).is(404);
    lab.verify().ok();
    lab.stop().ok();
}

#[test]
fn whoever_is_asked_but_is_no_approver_here_decides_nothing() {
    let (pg, lab, desk, _key) = with_ada("role");
    let mut vera = Desk { cookie: None, csrf: None, ..desk.clone() };
    let link = lab.account("vera", &["--group", "root", "--role", "viewer"]);
    vera.enrol(&link, &Authenticator::new("veras-key"));
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.held();
    let decision = format!("/api/v1/approvals/{}/decision", request.id);
    let refused = vera.ask("POST", &decision, Some(&json!({ "approve": true, "reason": "x" }))).is(403);
    assert!(refused.body.contains("`approver`"), "{refused:?}");
    vera.ask("POST", &decision, Some(&json!({ "approve": false }))).is(403);
    lab.held();
    desk.ask("POST", &decision, Some(&json!({ "approve": true }))).is(200);
    psql.finish(SOON).ok();
    lab.stop().ok();
}

#[test]
fn of_a_bots_past_people_see_what_concerns_them() {
    let lab = Lab::new("past");
    let pg = Postgres::start(&lab);
    let rules =
        Rules::allowing().hold_for("deletes", "delete", "from: [{ user: ada }], timeout: 1m").hold("drops", "schema");
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let ada = lab.with_console();
    lab.start();
    let person = |name: &str, role: &str| {
        let mut desk = ada.clone();
        desk.enrol(&lab.account(name, &["--role", role]), &Authenticator::new(name));
        desk
    };
    let (ada, eve) = (person("ada", "approver"), person("eve", "viewer"));
    let psql = lab.bot("ci").start_psql(&pg.url(), "DROP TABLE orders");
    let dropped = lab.held();
    lab.deny(&dropped).ok();
    psql.finish(SOON).failed();
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let page = format!("/requests/{}", lab.held().id);
    assert!(!ada.ask("GET", &page, None).is(200).body.contains("orders"), "nobody asked her about that one");
    ada.ask("GET", &format!("/requests/{}", dropped.id), None).is(404);
    assert!(eve.ask("GET", &page, None).is(200).body.contains("orders"));
    lab.bot("ci").kill("psql");
    psql.finish(SOON).failed();
    lab.stop().ok();
}

/// A rule that wants a signature under what people decide.
#[test]
fn a1_a_rule_that_wants_a_passkey_takes_a_signature_under_this_decision_and_nothing_else() {
    let lab = Lab::new("signed");
    let pg = Postgres::start(&lab);
    let rules =
        Rules::allowing().hold_for("deletes", "delete", "from: [{ group: root }], timeout: 1m, passkey: required");
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let mut desk = lab.with_console();
    lab.start();
    let (key, other) = (Authenticator::new("adas-phone"), Authenticator::new("bobs-phone"));
    let link = lab.account("ada", &["--group", "root"]);
    desk.enrol(&link, &key);
    let link = lab.account("bob", &["--group", "root"]);
    Desk { cookie: None, csrf: None, ..desk.clone() }.enrol(&link, &other);
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.previewed();
    let path = |what: &str| format!("/api/v1/approvals/{}/{what}", request.id);
    let digest = request.said["digest"].clone();
    let approve = json!({ "approve": true, "reason": "seen", "digest": digest });
    // Nothing else will do: neither a session alone, nor root on the command line.
    desk.ask("POST", &path("decision"), Some(&approve)).is(428);
    lab.approve(&request).says(&["must be decided with a passkey"]);
    let ask = |body: &serde_json::Value| desk.ask("POST", &path("challenge"), Some(body)).is(200).json();
    let with = |body: &serde_json::Value, proof: serde_json::Value| {
        let mut body = body.clone();
        body["proof"] = proof;
        desk.ask("POST", &path("decision"), Some(&body)).code
    };
    let asked = ask(&approve);
    let signed = key.sign(&asked, &desk.origin);
    // Another answer, another reason, another person's key, another page.
    let mut altered = approve.clone();
    altered["reason"] = json!("something else");
    assert_eq!(with(&altered, signed.clone()), 403);
    altered["reason"] = approve["reason"].clone();
    altered["grant"] = json!({ "uses": 1000, "seconds": 86400 });
    assert_eq!(with(&altered, signed.clone()), 403);
    assert_eq!(with(&approve, other.sign(&asked, &desk.origin)), 403);
    assert_eq!(with(&approve, key.sign(&asked, "https://evil.example")), 403);
    let deny = json!({ "approve": false, "reason": "seen", "digest": digest });
    assert_eq!(with(&deny, signed.clone()), 403);
    lab.held();
    assert_eq!(with(&approve, signed), 200);
    psql.finish(SOON).ok();
    lab.verify().ok().says(&["1 decisions, each by the passkey of the person who decided"]);
    lab.stop().ok();
}

#[test]
fn a_console_that_would_not_be_private_is_refused_with_what_to_write() {
    let lab = Lab::new("private");
    lab.policies(&Rules::allowing().resource(1), "");
    let cases = [
        ("{listen: \"0.0.0.0:0\"}", "needs `url: https://"),
        ("{listen: \"0.0.0.0:0\", url: \"http://desk.example\"}", "use https://"),
        ("{listen: \"127.0.0.1:0\", url: \"https://10.0.0.1\"}", "this is an address"),
        ("{listen: \"127.0.0.1:0\", urll: x}", "urll"),
        (
            "{listen: \"127.0.0.1:0\", url: \"https://desk.example\", tls: {certificate: /nowhere, key: /nowhere}}",
            "cannot read /nowhere",
        ),
    ];
    for (console, words) in cases {
        lab.set("console", console);
        lab.start_failing().says(&[words]);
    }
}
