//! Channels: people hear of what waits, once, in order, whatever is down; and decide where they may.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tests::{
    Certificates, HttpSink, Lab, MailServer, Mood, Posted, Postgres, Rules, Running, eventually, http_post, never,
};

const SOON: Duration = Duration::from_secs(15);

/// What a channel takes whose neighbours are down; each of theirs waits ten seconds for an answer.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Longer than the pause after the tries of one test.
const AFTER_OUTAGE: Duration = Duration::from_secs(40);

const TOKEN: &str = "xoxb-canary-token";
const SIGNING: &str = "canary-signing-secret";
const HOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_HOOK: &str = "whsec_b2xkLXNlY3JldC1vbGQtc2VjcmV0LW9sZC1zZWNyZXQ=";

/// A bot's words that would like to be more than words.
const HOSTILE: &str =
    "DELETE FROM target WHERE id = 1 /* <!channel> *b* <img src=x> \u{202e} [x](https://evil.example) */";

/// All four, and what they lead to.
struct World {
    lab: Lab,
    pg: Postgres,
    slack: HttpSink,
    teams: HttpSink,
    hook: HttpSink,
    mail: MailServer,
    console: u16,
}

impl World {
    fn start(name: &str) -> Self {
        let lab = Lab::new(name);
        let certificates = Certificates::make(&lab);
        let mail = MailServer::start(&lab, &certificates);
        let (slack, teams, hook) = (slack(), HttpSink::start(|_| json!({})), HttpSink::start(|_| json!({})));
        let pg = Postgres::start(&lab);
        let approval = "from: [{ user: root }, { user: ada }], timeout: 60s";
        let rules = Rules::allowing().hold_for("deletes", "delete", approval);
        let rules = rules.hold_for("drops", "schema", "from: [{ user: ada }], timeout: 60s, reason: required");
        let rules = rules.hold_for("rights", "privilege", "from: [{ user: ada }], timeout: 60s, passkey: required");
        lab.policies(&rules.resource(pg.port()), &rules.policies());
        let secret = |name: &str, text: &str| {
            let path = lab.path(name);
            fs::write(&path, text).expect("the lab's directory is ours");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
            path.display().to_string()
        };
        let channels = format!(
            r#"[
            {{ name: chat, slack: {{ channel: C1, token_file: {token}, signing_secret_file: {signing}, may: decide, api: "{slack}/api" }} }},
            {{ name: team, teams: {{ url_file: {teams} }} }},
            {{ name: post, email: {{ server: "{mail}", ca: {ca}, from: "Holdpoint <holdpoint@a.example>", to: [dba@b.example] }} }},
            {{ name: hook, webhook: {{ url: "{hook}/in", secret_files: [{new}, {old}] }} }}
            ]"#,
            token = secret("token", TOKEN),
            signing = secret("signing", SIGNING),
            slack = slack.url(),
            teams = secret("teams", &format!("{}/canary-workflow", teams.url())),
            mail = mail.place(),
            ca = certificates.path("ca.crt"),
            hook = hook.url(),
            new = secret("new", HOOK),
            old = secret("old", OLD_HOOK),
        );
        lab.set("channels", &channels.replace('\n', " "));
        let console = free_port();
        lab.set("console", &format!("{{ listen: \"127.0.0.1:{console}\" }}"));
        lab.start();
        Self { lab, pg, slack, teams, hook, mail, console }
    }

    fn ask(&self, sql: &str) -> Running {
        self.lab.bot("ci").start_psql(&self.pg.url(), sql)
    }

    /// What each of the four has about `marker`, by name.
    fn told(&self, marker: &str) -> [bool; 4] {
        let has = |sink: &HttpSink| sink.posted().iter().any(|posted| posted.body.contains(marker));
        let mailed = self.mail.mail().iter().any(|mail| mail.to_string().contains(marker));
        [has(&self.slack), has(&self.teams), mailed, has(&self.hook)]
    }

    /// Waits until all but the one at `down` have been told.
    #[track_caller]
    fn all_told(&self, marker: &str, down: Option<usize>, limit: Duration) {
        eventually(&format!("all are told of {marker} but {down:?}"), limit, || {
            let told = self.told(marker);
            (0..4).all(|at| told[at] || Some(at) == down).then_some(())
        });
    }

    /// No secret is in any log, record or answer.
    fn keeps_secrets(&self) {
        let (log, record) = (self.lab.gateway_log(), self.lab.record());
        let listed = self.lab.holdpoint(&["channels", "list", "-o", "json"]).ok().stdout;
        let status = self.lab.holdpoint(&["status"]).stdout;
        for secret in [TOKEN, SIGNING, &HOOK[6..], &OLD_HOOK[6..], "canary-workflow"] {
            assert!(!log.contains(secret) && !listed.contains(secret) && !status.contains(secret), "{secret}: {log}");
            assert!(!record.contains(secret), "{secret} is on record");
        }
    }
}

/// Slack, as far as the gateway asks it: messages have the number of their posting, and people are who `PEOPLE` says.
fn slack() -> HttpSink {
    let count = std::sync::atomic::AtomicU32::new(0);
    HttpSink::start(move |posted| {
        if posted.headers.get("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return json!({ "ok": false, "error": "not_authed" });
        }
        match posted.path.as_str() {
            "/api/chat.postMessage" => {
                let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                json!({ "ok": true, "channel": "C1", "ts": format!("17.{number}") })
            }
            "/api/chat.update" | "/api/chat.postEphemeral" | "/api/views.open" => json!({ "ok": true }),
            "/api/auth.test" => json!({ "ok": true, "team_id": "T1" }),
            path => match path.strip_prefix("/api/users.info?user=") {
                Some(id) => json!({ "ok": true, "user": member(id) }),
                None => json!({ "ok": false, "error": "unknown_method" }),
            },
        }
    })
}

fn member(id: &str) -> Value {
    let email = if id == "U1" { "Ada@x.example" } else { "somebody@x.example" };
    let (guest, team) = (id == "UGUEST", if id == "UOTHER" { "T2" } else { "T1" });
    json!({
        "id": id, "team_id": team, "deleted": false, "is_bot": false, "is_restricted": guest,
        "is_email_confirmed": id != "UUNCONFIRMED", "profile": { "email": email },
    })
}

/// The number of a webhook's entry, once its signatures have been checked as a receiver does.
#[track_caller]
fn verified(posted: &Posted) -> u64 {
    let header = |name: &str| posted.headers.get(name).unwrap_or_else(|| panic!("no {name}: {posted:?}")).clone();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(timestamp.parse::<u64>().is_ok_and(|then| now.abs_diff(then) < 60), "{timestamp}");
    let signed = format!("{id}.{timestamp}.{}", posted.body);
    let wanted = [HOOK, OLD_HOOK].map(|secret| {
        let key = BASE64_STANDARD.decode(&secret[6..]).expect("base64");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(tag))
    });
    assert_eq!(header("webhook-signature"), wanted.join(" "));
    id.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number in {id}"))
}

/// The events of one request that a webhook has told, in order.
fn events(sink: &HttpSink, request: &str) -> Vec<String> {
    let of_it = |posted: &Posted| {
        let event = posted.json();
        (event["data"]["request"] == request).then(|| event["type"].as_str().unwrap_or_default().to_owned())
    };
    sink.posted().iter().filter_map(of_it).collect()
}

fn now() -> String {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().to_string()
}

#[test]
fn all_four_say_what_an_approver_needs_and_then_what_came_of_it() {
    let world = World::start("channels");
    let lab = &world.lab;
    let psql = world.ask(HOSTILE);
    let request = lab.held();
    world.all_told(&request.id, None, SOON);

    let told = world.hook.posted().iter().find(|posted| posted.body.contains("request.opened")).cloned();
    let told = told.expect("it was told");
    verified(&told);
    let event = told.json();
    assert_eq!((&event["type"], &event["data"]["resource"]), (&json!("request.opened"), &json!("shop")));
    assert!(event["data"]["effects"].to_string().contains("delete") && event["data"]["rule"] == "deletes", "{event}");
    let link = format!("http://localhost:{}/requests/{}", world.console, request.id);
    assert_eq!(event["data"]["link"], link);
    assert!(event["data"]["statement"].as_str().is_some_and(|text| text.contains("\\u{202e}")), "{event}");
    assert!(event["data"]["user"] == "nobody" && event["data"]["executable"].is_string(), "{event}");

    let posted =
        world.slack.wait("a message", SOON, |posted| (posted.path == "/api/chat.postMessage").then(|| posted.json()));
    let text = posted["text"].as_str().expect("a text");
    assert!(posted["channel"] == "C1" && text.contains("ci wants") && text.contains("on shop"), "{posted}");
    let all = posted["blocks"].to_string();
    for wanted in ["target", "deletes", "time left", "the bot's words".to_uppercase().as_str(), link.as_str()] {
        assert!(all.to_uppercase().contains(&wanted.to_uppercase()), "{wanted}: {all}");
    }
    assert!(all.contains("\"approve\"") && all.contains("\"deny\"") && !all.contains('\u{202e}'), "{all}");
    let card = world.teams.posted()[0].json();
    let content = &card["attachments"][0]["content"];
    assert_eq!(card["attachments"][0]["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!((&content["version"], &content["actions"][0]["url"]), (&json!("1.5"), &json!(link)));
    let mail = &world.mail.mail()[0];
    assert!(mail["tls"] == true && mail["to"] == json!(["dba@b.example"]), "{mail}");
    assert_eq!(mail["headers"]["Auto-Submitted"], "auto-generated");
    let (plain, html) = (mail["parts"]["text/plain"].as_str(), mail["parts"]["text/html"].as_str());
    assert!(plain.is_some_and(|plain| plain.contains("ci wants") && plain.contains(&link)), "{mail}");
    assert!(plain.is_some_and(|plain| plain.contains("would touch")), "one mail says all of it: {mail}");
    assert!(html.is_some_and(|html| html.contains("&lt;img") && !html.contains("<img")), "{mail}");

    lab.approve(&request).ok();
    psql.finish(SOON).ok();
    world.all_told("Approved", Some(3), SOON);
    let updated = world.slack.wait("the message changed", SOON, |posted| {
        (posted.path == "/api/chat.update" && posted.body.contains("Approved")).then(|| posted.json())
    });
    assert_eq!((&updated["ts"], &updated["channel"]), (&json!("17.0"), &json!("C1")));
    assert!(!updated["blocks"].to_string().contains("\"approve\""), "nothing is left to press: {updated}");
    let mails = eventually("the mail's answer", SOON, || Some(world.mail.mail()).filter(|mails| mails.len() > 1));
    assert_eq!(mails.len(), 2, "nobody is interrupted twice: {mails:?}");
    let answer = mails.last().expect("an answer");
    assert_eq!(answer["headers"]["In-Reply-To"], mail["headers"]["Message-ID"]);
    assert_eq!(answer["headers"]["References"], mail["headers"]["Message-ID"]);
    let told = eventually("the webhook has the end", SOON, || {
        Some(events(&world.hook, &request.id))
            .filter(|events| events.last().is_some_and(|last| last == "request.approved"))
    });
    assert_eq!(told.iter().filter(|event| *event == "request.opened").count(), 1, "{told:?}");
    let numbers: Vec<_> = world.hook.posted().iter().map(verified).collect();
    assert!(numbers.is_sorted_by(|one, other| one < other), "in order, each once: {numbers:?}");

    for name in ["chat", "team", "post", "hook"] {
        lab.holdpoint(&["channels", "test", name]).ok().says(&["taken"]);
    }
    lab.holdpoint(&["channels", "test", "none"]).failed().says(&["no channel none", "channels list"]);
    lab.holdpoint(&["channels", "list"]).ok().says(&["chat", "slack", "webhook", "works"]);
    assert!(world.mail.mail().last().is_some_and(|mail| mail.to_string().contains("A test of this channel")));
    world.keeps_secrets();
    lab.verify();
}

#[test]
fn an_outage_of_each_delays_no_other_and_pages_nobody_for_what_is_over() {
    let mut world = World::start("outage");
    for down in 0..4 {
        match down {
            0 => world.slack.be(Mood::Silent),
            1 => world.teams.be(Mood::Status(503)),
            2 => world.mail.kill(),
            _ => world.hook.be(Mood::Silent),
        }
        let began = Instant::now();
        let psql = world.ask(&format!("DELETE FROM target WHERE id = {}", 1000 + down));
        let over = world.lab.held();
        let asked = began.elapsed();
        world.all_told(&over.id, Some(down), AT_ONCE);
        println!("{down} is down: the others were told {:?} after it was asked", began.elapsed() - asked);
        world.lab.deny(&over).ok();
        psql.finish(SOON).failed();
        let psql = world.ask(&format!("DELETE FROM target WHERE id = {}", 2000 + down));
        let waits = world.lab.held();
        world.all_told(&waits.id, Some(down), AT_ONCE);
        assert!(!world.told(&waits.id)[down], "it is down");
        match down {
            0 => world.slack.be(Mood::Well),
            1 => world.teams.be(Mood::Well),
            2 => world.mail.restart(),
            _ => world.hook.be(Mood::Well),
        }
        world.all_told(&waits.id, None, AFTER_OUTAGE);
        let paged = world.told(&over.id)[down];
        // People are left alone with what is over; programs want to know.
        assert_eq!(paged, down == 3, "{down}");
        world.lab.deny(&waits).ok();
        psql.finish(SOON).failed();
        eventually("all is told", SOON, || {
            let listed = world.lab.holdpoint(&["channels", "list", "-o", "json"]).ok().stdout;
            let listed: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
            listed.iter().all(|channel| channel["backlog"] == 0).then_some(())
        });
    }
    let numbers: Vec<_> = world.hook.posted().iter().map(verified).collect();
    assert!(numbers.is_sorted_by(|one, other| one < other), "in order, each once: {numbers:?}");
    world.keeps_secrets();
    world.lab.verify();
}

#[test]
fn what_a_killed_gateway_had_not_told_the_next_one_tells_and_messages_are_found_again() {
    let world = World::start("killed");
    let psql = world.ask("DELETE FROM target WHERE id = 3001");
    let first = world.lab.held();
    world.all_told(&first.id, None, SOON);
    world.hook.be(Mood::Status(503));
    world.slack.be(Mood::Status(503));
    world.lab.deny(&first).ok();
    psql.finish(SOON).failed();
    let psql = world.ask("DELETE FROM target WHERE id = 3002");
    let second = world.lab.held();
    eventually("it was tried", SOON, || (world.hook.refused() > 0 && world.slack.refused() > 0).then_some(()));
    let status = world.lab.holdpoint(&["status"]);
    status.says(&["channel hook", "FAILS", "503"]);
    world.lab.kill();
    psql.finish(SOON).failed();
    world.lab.start();
    world.hook.be(Mood::Well);
    world.slack.be(Mood::Well);
    let told = eventually("the webhook has all of it", AFTER_OUTAGE, || {
        Some(events(&world.hook, &second.id)).filter(|events| events.iter().any(|event| event == "request.restarted"))
    });
    assert_eq!(told.first().map(String::as_str), Some("request.opened"), "{told:?}");
    assert!(events(&world.hook, &first.id).iter().any(|event| event == "request.denied"));
    let changed = world.slack.wait("the message of before", AFTER_OUTAGE, |posted| {
        (posted.path == "/api/chat.update" && posted.body.contains("Denied")).then(|| posted.json())
    });
    assert_eq!(changed["ts"], "17.0");
    let numbers: Vec<_> = world.hook.posted().iter().map(verified).collect();
    assert!(numbers.is_sorted(), "in order: {numbers:?}");
    never("somebody is paged for what is over", Duration::from_secs(1), || world.told(&second.id)[0].then_some(()));
    world.keeps_secrets();
    world.lab.verify();
}

#[test]
fn what_is_refused_for_good_is_passed_over_and_on_record() {
    let world = World::start("refused");
    world.hook.be(Mood::Status(410));
    let psql = world.ask("DELETE FROM target WHERE id = 4001");
    let request = world.lab.held();
    eventually("it is passed over", AFTER_OUTAGE, || {
        let incidents = world.lab.record();
        let incidents = incidents.of("incident", "channel hook refused the message");
        incidents.iter().any(|incident| incident.contains("410")).then_some(())
    });
    assert!(world.hook.refused() >= 3, "{}", world.hook.refused());
    world.hook.be(Mood::Well);
    world.lab.deny(&request).ok();
    psql.finish(SOON).failed();
    world.hook.wait("the next", AFTER_OUTAGE, |posted| posted.body.contains("request.denied").then_some(()));
    world.lab.holdpoint(&["channels", "list", "-o", "json"]).ok().says(&["\"passed_over\": 1"]);
    world.keeps_secrets();
    world.lab.verify();
}

/// For the gateway's console, whose address must be known before it starts.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

/// What Slack would send, signed at `at`; gives status and body of the answer.
fn interact(world: &World, payload: &Value, at: &str, secret: &str) -> (u16, String) {
    let encoded: String = payload.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = format!("payload={encoded}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("v0:{at}:{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-slack-request-timestamp", at),
        ("x-slack-signature", &format!("v0={hex}")),
    ];
    http_post(world.console, &format!("localhost:{}", world.console), "/channels/slack", &headers, &body)
}

/// A click of `user` on the button `action` of the newest message about `request`. `trigger` tells clicks apart.
fn click(world: &World, request: &str, action: &str, user: &str, trigger: &str) -> Value {
    let message = world.slack.posted().into_iter().rev().find(|posted| {
        posted.body.contains(request) && posted.path.starts_with("/api/chat.") && !posted.path.ends_with("Ephemeral")
    });
    let message = message.expect("there is a message").json();
    let blocks = message["blocks"].as_array().expect("blocks").clone();
    let elements = blocks.iter().flat_map(|block| block["elements"].as_array().cloned().unwrap_or_default());
    let button = elements.into_iter().find(|element| element["action_id"] == action).expect("there is a button");
    json!({
        "type": "block_actions", "user": { "id": user }, "trigger_id": trigger,
        "actions": [{ "action_id": action, "value": button["value"] }],
    })
}

#[track_caller]
fn whispered(world: &World, words: &str) {
    world.slack.wait(words, SOON, |posted| {
        (posted.path == "/api/chat.postEphemeral" && posted.body.contains(words)).then_some(())
    });
}

#[test]
fn people_decide_in_slack_by_a_signed_click_of_a_confirmed_member() {
    let world = World::start("clicks");
    let lab = &world.lab;
    lab.holdpoint(&["people", "set", "ada", "--email", "ada@x.example"]).ok();
    let psql = world.ask("DELETE FROM target WHERE id = 1");
    let request = lab.held();
    world.all_told(&request.id, None, SOON);
    let of = |user: &str, trigger: &str| click(&world, &request.id, "approve", user, trigger);

    assert_eq!(interact(&world, &of("U1", "a"), &now(), "another secret").0, 401);
    let old = (SystemTime::now() - Duration::from_secs(400)).duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert_eq!(interact(&world, &of("U1", "b"), &old.to_string(), SIGNING).0, 401);
    for (user, words) in [
        ("U2", "nobody here has your address"),
        ("UGUEST", "no full member"),
        ("UOTHER", "another workspace"),
        ("UUNCONFIRMED", "has not confirmed"),
    ] {
        assert_eq!(interact(&world, &of(user, "c"), &now(), SIGNING).0, 200, "{user}");
        whispered(&world, words);
    }
    let mut altered = of("U1", "d");
    let value = altered["actions"][0]["value"].as_str().expect("a value");
    let mut ticket: Value = serde_json::from_str(value).expect("JSON");
    ticket["d"] = json!("0".repeat(64));
    altered["actions"][0]["value"] = json!(ticket.to_string());
    assert_eq!(interact(&world, &altered, &now(), SIGNING).0, 200);
    whispered(&world, "has another digest");
    assert_eq!(lab.pending().len(), 1, "nothing so far decided anything");

    let (yes, at) = (of("U1", "e"), now());
    assert_eq!(interact(&world, &yes, &at, SIGNING).0, 200);
    psql.finish(SOON).ok();
    assert_eq!(interact(&world, &yes, &at, SIGNING).0, 401, "once is enough");
    let decided = lab.record();
    assert_eq!(decided.of("decided", "local:ada").len(), 1);

    // A rule that wants a reason gets it from a form; so does every denial.
    for (action, sql, outcome) in
        [("approve", "CREATE TABLE made (a int)", "approved"), ("deny", "DROP TABLE orders", "denied")]
    {
        let psql = world.ask(sql);
        let request = lab.held();
        world.all_told(&request.id, None, SOON);
        assert_eq!(interact(&world, &click(&world, &request.id, action, "U1", action), &now(), SIGNING).0, 200);
        let view = world.slack.wait("a form", SOON, |posted| {
            let body = (posted.path == "/api/views.open").then(|| posted.json())?;
            (body["trigger_id"] == action).then(|| body["view"].clone())
        });
        let form = |reason: Value| {
            json!({ "type": "view_submission", "user": { "id": "U1" }, "view": {
                "callback_id": view["callback_id"], "private_metadata": view["private_metadata"],
                "state": { "values": { "reason": { "reason": { "value": reason } } } },
            } })
        };
        if action == "approve" {
            let (status, body) = interact(&world, &form(Value::Null), &now(), SIGNING);
            assert!(status == 200 && body.contains("errors") && body.contains("reason"), "{status} {body}");
        }
        let (status, body) = interact(&world, &form(json!("seen in chat")), &now(), SIGNING);
        assert_eq!((status, body.as_str()), (200, ""));
        let done = psql.finish(SOON);
        let ended = eventually("it has ended", SOON, || lab.record().outcome(&request.id).pop());
        assert_eq!(ended, outcome, "{done}");
        assert!(!lab.record().of("decided", "seen in chat").is_empty());
    }
    world.keeps_secrets();
    lab.verify();
}

#[test]
fn what_wants_a_passkey_has_no_buttons_in_slack_but_a_way_to_the_console() {
    let world = World::start("passkey");
    let asked = |sql: &str| {
        let psql = world.ask(sql);
        let request = world.lab.held();
        world.all_told(&request.id, None, SOON);
        let posted = world.slack.wait("the message", SOON, |posted| {
            (posted.path == "/api/chat.postMessage" && posted.body.contains(&request.id)).then(|| posted.body.clone())
        });
        world.lab.bot("ci").kill("psql");
        psql.finish(SOON).failed();
        world.lab.nothing_held();
        posted
    };
    let with = asked("DELETE FROM target WHERE id = 1");
    assert!(with.contains(r#""action_id":"approve""#), "{with}");
    let without = asked("GRANT SELECT ON target TO PUBLIC");
    assert!(!without.contains(r#""action_id":"approve""#) && !without.contains(r#""action_id":"deny""#), "{without}");
    assert!(without.contains(r#""action_id":"open""#), "{without}");
}

#[test]
fn a_secret_that_others_can_read_and_a_channel_that_leads_nowhere_are_refused_at_the_start() {
    let lab = Lab::new("settings");
    let rules = Rules::allowing().hold("deletes", "delete");
    lab.policies(&rules.resource(1), &rules.policies());
    let path = lab.path("token");
    fs::write(&path, "xoxb-canary").expect("the lab's directory is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
    let token = path.display();
    lab.set("channels", &format!("[{{ name: chat, slack: {{ channel: C1, token_file: {token} }} }}]"));
    lab.start_failing().says(&["channel `chat`", "chmod 600"]).hides("xoxb-canary");
    lab.set("channels", "[{ name: hook }]");
    lab.start_failing().says(&["channel `hook`", "exactly one of"]);
    lab.set("channels", "[{ name: hook, webhok: {} }]");
    lab.start_failing().says(&["webhok", "webhook"]);
}
