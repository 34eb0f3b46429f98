//! The approval workflow with a real psql behind it: what is released, and what people and the record hear of it.

use std::time::Duration;

use tests::{Lab, Outcome, Postgres, Request, Rules, Running, never};

const SOON: Duration = Duration::from_secs(10);

/// The people of these tests are users that every Debian has: `backup` and `list` are databases, `games` security,
/// `news` the emergency, `mail` nobody.
fn lab(name: &str, approval: &str) -> (Lab, Postgres) {
    let rules = Rules::allowing().hold_for("schema-changes", "schema", approval);
    let lab = Lab::new(name);
    let pg = Postgres::start(&lab);
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    lab.set("groups", "{ dba: [backup, list], security: [games], emergency: [news] }");
    lab.start();
    (lab, pg)
}

/// Has the bot make a table, which is held.
fn held(lab: &Lab, pg: &Postgres, table: &str) -> (Running, Request) {
    let psql = lab.bot("ci").start_psql(&pg.url(), &format!("CREATE TABLE {table} ()"));
    (psql, lab.held())
}

fn as_user(lab: &Lab, user: &str, verb: &str, request: &Request, more: &[&str]) -> Outcome {
    lab.holdpoint_as(user, &[&["approvals", verb, &request.id], more].concat())
}

#[test]
fn two_steps_release_it_one_after_the_other() {
    let (lab, pg) = lab("steps", "steps: [{ from: [{ group: dba }] }, { from: [{ group: security }] }], timeout: 60s");
    let (psql, request) = held(&lab, &pg, "steps");
    as_user(&lab, "games", "approve", &request, &[]).failed().says(&["in step 2", "waits for step 1 of 2"]);
    as_user(&lab, "backup", "show", &request, &[]).ok().says(&["1. asked now: 1 of group dba", "2. comes next"]);
    as_user(&lab, "backup", "approve", &request, &[]).ok().says(&["counted; 1 more"]);
    never("one step was enough", Duration::from_millis(300), || (pg.ran("CREATE TABLE steps") > 0).then_some(()));
    as_user(&lab, "list", "approve", &request, &[]).failed().says(&["which is through"]);
    as_user(&lab, "list", "comment", &request, &["as agreed \u{202e}on"]).ok();
    as_user(&lab, "games", "show", &request, &[]).ok().says(&[
        "1. through",
        "approved by backup",
        "2. asked now: 1 of group security",
        "comment by list: as agreed",
    ]);
    as_user(&lab, "mail", "comment", &request, &["me too"]).failed().says(&["may not decide"]);
    as_user(&lab, "games", "approve", &request, &[]).ok().says(&["approved"]);
    psql.finish(SOON).ok();
    assert_eq!(pg.ran("CREATE TABLE steps"), 1);
    let record = lab.record();
    assert_eq!(record.of("asked", &request.id).len(), 2, "people are asked when their step opens");
    assert_eq!((record.of("decided", &request.id).len(), record.of("said", &request.id).len()), (2, 1));
    lab.verify().ok();
}

#[test]
fn a_veto_a_ticket_and_the_hour_each_count() {
    let approval = "from: [{ group: dba }], veto: [{ group: security }], ticket: 'OPS-[0-9]+', timeout: 60s";
    let (lab, pg) = lab("veto", approval);
    let (psql, request) = held(&lab, &pg, "vetoed");
    as_user(&lab, "games", "approve", &request, &[]).failed().says(&["may not decide"]);
    as_user(&lab, "games", "deny", &request, &["--reason", "not today"]).ok();
    psql.finish(SOON).failed().says(&["denied by games: not today"]);
    let (psql, request) = held(&lab, &pg, "ticketed");
    as_user(&lab, "backup", "show", &request, &[]).ok().says(&["a ticket that matches OPS-[0-9]+", "--ticket …"]);
    as_user(&lab, "backup", "approve", &request, &[]).failed().says(&["requires a ticket"]);
    as_user(&lab, "backup", "approve", &request, &["--ticket", "OPS-"]).failed().says(&["requires a ticket"]);
    as_user(&lab, "backup", "approve", &request, &["--ticket", "OPS-7"]).ok();
    psql.finish(SOON).ok();
    assert_eq!(lab.record().of("decided", "OPS-7").len(), 1, "the ticket is on record");
    assert_eq!((pg.ran("CREATE TABLE vetoed"), pg.ran("CREATE TABLE ticketed")), (0, 1));

    // No hour of any day is one of these but the last minute of a Sunday on the other side of the world, or not even it.
    let days = if is_sunday_on_kiritimati() { "mon" } else { "sun" };
    let hours =
        format!("{{ days: {days}, from: \"23:59\", to: \"24:00\", zone: Pacific/Kiritimati, otherwise: refuse }}");
    let rules = Rules::allowing().hold_for(
        "schema-changes",
        "schema",
        &format!("from: [{{ group: dba }}], hours: {hours}, timeout: 60s"),
    );
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    lab.stop().ok();
    lab.start();
    let refused = lab.bot("ci").psql(&pg.url(), "CREATE TABLE late ()").failed();
    refused.says(&["people are asked only", "23:59"]);
    lab.nothing_held();
    lab.verify().ok();
}

fn is_sunday_on_kiritimati() -> bool {
    let out = std::process::Command::new("date").env("TZ", "UTC-14").arg("+%u").output().expect("every Debian has it");
    out.stdout.starts_with(b"7")
}

#[test]
fn the_glass_is_broken_by_one_and_reviewed_by_another() {
    let approval = "from: [{ group: dba }], quorum: 2, break_glass: { group: emergency }, timeout: 60s";
    let (lab, pg) = lab("glass", approval);
    let (psql, request) = held(&lab, &pg, "broken");
    as_user(&lab, "backup", "break-glass", &request, &["--reason", "hurry"]).failed().says(&["only group emergency"]);
    as_user(&lab, "news", "approve", &request, &[]).failed().says(&["may not decide"]);
    as_user(&lab, "news", "break-glass", &request, &["--reason", "the shop is down"])
        .ok()
        .says(&["review", "somebody else"]);
    psql.finish(SOON).ok();
    assert_eq!(pg.ran("CREATE TABLE broken"), 1);
    // The review outlives the gateway.
    lab.kill();
    lab.start();
    lab.holdpoint_as("backup", &["approvals", "reviews"]).ok().says(&["news", "emergency", "the shop is down"]);
    lab.holdpoint_as("mail", &["approvals", "reviews"]).ok().says(&["no review is open"]);
    let write = |user: &str| lab.holdpoint_as(user, &["approvals", "review", &request.id, "--text", "it was right"]);
    write("news").failed().says(&["by another person"]);
    write("mail").failed().says(&["may not write"]);
    write("backup").ok();
    write("backup").failed().says(&["no review"]);
    let record = lab.record();
    assert_eq!(record.of("broke_glass", "the shop is down").len(), 1);
    assert_eq!(record.outcome(&request.id), ["approved"]);
    lab.verify().ok();
}

#[test]
fn what_is_lent_decides_and_is_taken_back() {
    let (lab, pg) = lab("lent", "from: [{ group: dba }], timeout: 60s");
    let (psql, request) = held(&lab, &pg, "lent");
    as_user(&lab, "mail", "approve", &request, &[]).failed().says(&["may not decide"]);
    let lend = |user: &str, more: &[&str]| {
        lab.holdpoint_as(user, &[&["approvals", "delegate", "mail", "--for", "1h"], more].concat())
    };
    lend("backup", &["--group", "security"]).failed().says(&["is not in group security"]);
    lend("backup", &["--group", "dba"]).ok().says(&["mail may decide for you for 1h"]);
    lab.holdpoint_as("mail", &["approvals", "delegations"]).ok().says(&["backup", "mail", "dba"]);
    // What was lent outlives the gateway; what was held does not.
    lab.kill();
    psql.finish(SOON).failed();
    lab.start();
    let (psql, request) = held(&lab, &pg, "lent");
    as_user(&lab, "mail", "approve", &request, &[]).ok();
    psql.finish(SOON).ok();
    assert_eq!(pg.ran("CREATE TABLE lent"), 1);
    assert_eq!(lab.record().of("decided", "backup").len(), 1, "the record says for whom");
    let listed = lab.holdpoint_as("backup", &["approvals", "delegations", "-o", "json"]).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let short = listed[0]["short"].as_str().expect("a name").to_owned();
    lab.holdpoint_as("list", &["approvals", "undelegate", &short]).failed().says(&["only backup, mail and root"]);
    lab.holdpoint_as("backup", &["approvals", "undelegate", &short]).ok();
    let (psql, request) = held(&lab, &pg, "taken_back");
    as_user(&lab, "mail", "approve", &request, &[]).failed().says(&["may not decide"]);
    lab.deny(&request).failed();
    as_user(&lab, "list", "deny", &request, &[]).ok();
    psql.finish(SOON).failed();
    lab.verify().ok();
}
