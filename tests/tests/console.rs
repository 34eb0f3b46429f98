//! The console in a real browser: Chromium, on a phone's screen and on a desk's, in dark and in light, with a virtual
//! authenticator, while a real psql waits.

use std::{path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};
use tests::{Desk, Lab, Postgres, Rules, Running, binary, browser};

const SOON: Duration = Duration::from_secs(20);

/// How long a browser may take for everything.
const ALL: Duration = Duration::from_secs(120);

struct Scene {
    pg: Postgres,
    lab: Lab,
    desk: Desk,
    modules: PathBuf,
}

fn scene(name: &str) -> Scene {
    let modules = browser();
    let lab = Lab::new(name);
    let pg = Postgres::start(&lab);
    let rules = Rules::allowing().hold_for(
        "deletes",
        "delete",
        "from: [{ group: root }], timeout: 2m, reason: required, break_glass: { group: root }",
    );
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let desk = lab.with_console();
    lab.start();
    Scene { pg, lab, desk, modules }
}

impl Scene {
    /// A browser that does these steps for somebody who has just been given an account.
    fn browse(&self, screen: &str, scheme: &str, steps: &[&str]) -> Running {
        let roles =
            ["--group", "root", "--role", "viewer", "--role", "approver", "--role", "auditor", "--role", "admin"];
        let link = self.lab.account("ada", &roles);
        let viewport = match screen {
            "phone" => json!({ "width": 390, "height": 844 }),
            _ => json!({ "width": 1280, "height": 800 }),
        };
        let plan = json!({
            "name": format!("{screen}-{scheme}"), "origin": self.desk.origin, "link": link, "modules": self.modules,
            "chromium": "/usr/bin/chromium", "viewport": viewport, "scheme": scheme, "steps": steps,
            "pictures": pictures(),
        });
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/console/browser.mjs");
        Running::start(Command::new("node").arg(script).arg(plan.to_string()))
    }
}

#[test]
fn somebody_asks_breaks_the_glass_and_lends_their_word_on_a_phone_in_the_light() {
    let scene = scene("talk");
    let Scene { pg, lab, .. } = &scene;
    let browser = scene.browse("phone", "light", &["enrol", "talk", "others"]);
    browser.wait_for_stdout("\"talk\"", ALL);
    let psql = lab.bot("nightly").start_psql(&pg.url(), "DELETE FROM target WHERE id = 3 RETURNING 'gone';");
    let steps = told(&browser, "steps");
    assert!(steps["steps"].as_str().is_some_and(|text| text.contains("Asked now: one of")), "{steps}");
    psql.finish(SOON).ok().says(&["gone"]);
    told(&browser, "talked");
    all_right(browser, 10);
    assert_eq!(lab.record().of("broke_glass", "the database burns").len(), 1);
    lab.verify().ok();
    lab.stop().ok();
}

/// Kept beside the programs that were built, for people to look at.
fn pictures() -> PathBuf {
    binary("holdpoint").parent().expect("a directory").join("console-pictures")
}

/// What the browser told, with `key` in it.
fn told(browser: &Running, key: &str) -> Value {
    browser.wait_for_stdout(&format!("\"{key}\""), ALL);
    let lines = browser.stdout();
    let line = lines.lines().rev().find(|line| line.contains(&format!("\"{key}\"")));
    serde_json::from_str(line.expect("it was just told")).expect("JSON")
}

/// It did everything, and nothing was wrong on any page.
#[track_caller]
fn all_right(browser: Running, least: u64) {
    let all = browser.finish(ALL).ok();
    let last: Value = serde_json::from_str(all.stdout.lines().last().expect("it tells")).expect("JSON");
    assert_eq!(last["wrong"], json!([]), "{}", all.stdout);
    assert!(last["pictures"].as_u64().is_some_and(|taken| taken >= least), "{last}");
}

#[test]
fn somebody_enrols_signs_in_and_releases_a_waiting_psql_on_a_phone_in_the_dark() {
    let scene = scene("phone");
    let Scene { pg, lab, .. } = &scene;
    let browser = scene.browse("phone", "dark", &["enrol", "signin", "approve"]);
    told(&browser, "ready");
    let psql = lab.bot("nightly").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1 RETURNING 'gone';");
    let seen = told(&browser, "statement");
    assert_eq!(seen["statement"], "DELETE FROM target WHERE id = 1 RETURNING 'gone';");
    psql.finish(SOON).ok().says(&["gone"]);
    all_right(browser, 7);
    let record = lab.record();
    let decided = record.of("decided", "");
    assert_eq!((decided.len(), decided[0].text("person").as_str()), (1, "local:ada"));
    assert_eq!(decided[0].text("reason"), "seen and meant");
    lab.verify().ok();
    lab.stop().ok();
}

#[test]
fn a5_what_a_bot_writes_stays_text_and_what_others_decide_is_seen_at_a_desk_in_the_light() {
    let scene = scene("desk");
    let Scene { pg, lab, .. } = &scene;
    let steps = ["enrol", "deny", "overtaken", "others"];
    let browser = scene.browse("desktop", "light", &steps);
    browser.wait_for_stdout("\"deny\"", ALL);
    let hostile =
        "DELETE FROM target WHERE note = '<img src=x onerror=alert(1)></code><script>alert(2)</script>\u{202e}gnp'";
    let psql = lab.bot("<b>nightly").start_psql(&pg.url(), hostile);
    let seen = told(&browser, "scripts");
    let statement = seen["statement"].as_str().expect("text");
    assert!(statement.contains("<img src=x onerror=alert(1)></code><script>alert(2)</script>"), "{statement}");
    assert!(!statement.contains('\u{202e}') && statement.contains("202e"), "{statement}");
    assert_eq!(seen["scripts"], 0);
    psql.finish(SOON).says(&["denied by ada"]);
    browser.wait_for_stdout("\"overtaken\"", ALL);
    let psql = lab.bot("nightly").start_psql(&pg.url(), "DELETE FROM target WHERE id = 2");
    told(&browser, "open");
    lab.deny(&lab.held()).ok();
    psql.finish(SOON).says(&["denied by root"]);
    let transcript = told(&browser, "transcript");
    assert!(transcript["transcript"].as_str().is_some_and(|text| text.contains("DELETE FROM target")), "{transcript}");
    assert_eq!(told(&browser, "refused")["refused"], 2);
    all_right(browser, 12);
    lab.stop().ok();
}
