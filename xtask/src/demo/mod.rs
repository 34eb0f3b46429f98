//! `cargo xtask demo`: the whole road on this machine, with a real PostgreSQL and an unmodified `psql`.
//!
//! Every step says what it shows and checks that it happened; the demo ends with 0 only if all of it did.
//! Whatever the end (success, failure, Ctrl-C), the database, the gateway and all that they made are gone.

mod bot;
mod browser;
mod screen;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{User, getuid};

use self::{bot::Bot, screen::Screen};
use crate::{
    command, interrupt,
    scene::{Gateway, Postgres, Settings},
};

/// How long the demo's policy lets a request wait for a person.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The rows that the bot may not see; `example` names are reserved, nobody's mail is shown.
const CUSTOMERS: [(&str, &str); 3] =
    [("Alice", "alice@mail.example"), ("Bilal", "bilal@post.example"), ("Chen", "chen@brief.example")];

/// The application's password, as it stands in the bot's connection string.
const PASSWORD: &str = "correct-horse";

/// See Holdpoint at work: a bot, a database, a held DROP TABLE, you.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Approve by itself, through the same command line, instead of waiting for you
    #[arg(long)]
    yes: bool,
    /// Take the machine and the binaries as they are
    #[arg(long)]
    no_build: bool,
}

/// Runs the demo.
///
/// # Errors
/// Anything that was promised did not happen.
pub(crate) fn run(args: &Args) -> Result<()> {
    command::need_root("demo")?;
    interrupt::watch()?;
    let mut screen = Screen::new(8);
    let played = play(args, &mut screen);
    screen.wipe();
    played.context("the demo did not go as promised; everything that it started is stopped and removed")?;
    println!("\n  That was the whole road. `cargo xtask test` proves it, README.md explains it.");
    Ok(())
}

fn play(args: &Args, screen: &mut Screen) -> Result<()> {
    prepare(args, screen)?;

    screen.step("A database, as it might be yours");
    let postgres = shop()?;
    screen.say(&format!("PostgreSQL {} on 127.0.0.1:{}, database `shop`:", postgres.version(), postgres.port()));
    screen.sees("you", &postgres.sql("shop", "SELECT id, name, email FROM customers ORDER BY id")?.replace('|', "  "));

    screen.step("Holdpoint goes on guard");
    let approver = me()?;
    let policies = [("shop.yaml", policy(postgres.port(), &approver))];
    let mut gateway =
        Gateway::start(&Settings { name: "demo", policies: &policies, durability: "written", console: true })?;
    command::output(command_check(&gateway).arg(gateway.policies()))
        .context("the demo's own policy is not in order")?;
    screen.sees("policy", &policies[0].1);
    screen.checked("eBPF programs attached, policy read, record open");

    let scene = Scene { postgres: &postgres, gateway: &gateway };
    masked(&scene, screen)?;
    held(&scene, screen, args.yes)?;
    let session = reviewed(&scene, screen)?;
    verified(&scene, screen, &session)?;

    screen.step("Everything goes again");
    let traces = gateway.config().parent().map(PathBuf::from);
    gateway.stop().context("the gateway did not end well")?;
    drop(gateway);
    drop(postgres);
    ensure!(!traces.is_some_and(|dir| dir.exists()), "the demo left its directory behind");
    screen.checked("gateway drained and ended with 0; database, cgroup and files removed");
    Ok(())
}

struct Scene<'a> {
    postgres: &'a Postgres,
    gateway: &'a Gateway,
}

/// Step 1: what has to be there.
fn prepare(args: &Args, screen: &mut Screen) -> Result<()> {
    screen.step("What has to be there");
    if args.no_build {
        screen.say("taken as it is (--no-build)");
        return Ok(());
    }
    command::show(&mut command::xtask("setup")?)?;
    // The first build compiles RocksDB; the progress line says so when it comes to it.
    command::run_quietly(&mut command::xtask("build")?, "building Holdpoint", command::cargo_hint)?;
    screen.checked("tools installed, eBPF programs and gateway built");
    Ok(())
}

/// A little shop: an application's user with a password, two tables.
fn shop() -> Result<Postgres> {
    let postgres = Postgres::start("host all all samehost scram-sha-256", &[])?;
    postgres.sql("postgres", &format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"))?;
    postgres.sql("postgres", "CREATE DATABASE shop OWNER app")?;
    let rows: Vec<_> = CUSTOMERS.iter().map(|(name, email)| format!("('{name}', '{email}')")).collect();
    let sql = format!(
        "SET ROLE app;
         CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL, email text NOT NULL);
         CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, total numeric);
         INSERT INTO customers (name, email) VALUES {};
         INSERT INTO orders (customer, total) VALUES (1, 9.90), (2, 120), (1, 35.50);",
        rows.join(", ")
    );
    postgres.sql("shop", &sql)?;
    Ok(postgres)
}

fn policy(port: u16, approver: &str) -> String {
    format!(
        "resource: shop
protocol: postgres
endpoints: [\"127.0.0.1:{port}\"]
default: allow
approval:
  from: [{{ user: {approver} }}]
  timeout: 10m
mask:
  - {{ column: \"public.customers.email\", with: partial }}
---
policy: schema-changes
match:
  resource: shop
  effects: [schema, privilege]
decide: hold
approval:
  from: [{{ user: {approver} }}]
  timeout: 10m
"
    )
}

fn command_check(gateway: &Gateway) -> std::process::Command {
    let mut check = std::process::Command::new(gateway.binary());
    check.args(["policy", "check"]);
    check
}

/// Who runs the demo, by the name that the socket's peer credentials lead to.
fn me() -> Result<String> {
    let user = User::from_uid(getuid()).context("cannot read the user database")?;
    Ok(user.context("the user who runs this has no name on this machine")?.name)
}

/// Step 4: an allowed query, masked on its way back.
fn masked(scene: &Scene<'_>, screen: &mut Screen) -> Result<()> {
    screen.step("The bot reads customers");
    screen.say("An unmodified psql, in a guarded cgroup, with its ordinary connection string:");
    let mut bot = Bot::start(scene, "SELECT id, name, email FROM customers ORDER BY id")?;
    screen.types("bot", &bot.typed());
    let (status, seen) = bot.finish(Duration::from_secs(60))?;
    screen.sees("bot", &seen);
    ensure!(status.success(), "the bot's query failed ({status}); the gateway wrote:\n{}", scene.gateway.log());
    for (name, email) in CUSTOMERS {
        ensure!(seen.contains(name), "the bot did not see {name}, which nothing hides");
        ensure!(!seen.contains(email), "the bot saw {email}, which the policy masks");
    }
    screen.checked("allowed and recorded; the e-mail addresses never reached the bot");
    Ok(())
}

/// Step 5: a statement that waits for a person.
fn held(scene: &Scene<'_>, screen: &mut Screen, yes: bool) -> Result<()> {
    screen.step("The bot drops a table");
    let mut bot = Bot::start(scene, "DROP TABLE orders")?;
    screen.types("bot", &bot.typed());
    let notice = bot.notice(Duration::from_secs(30))?;
    screen.sees("bot", &notice);
    let request = request_in(&notice).with_context(|| format!("no request is named in the notice: {notice}"))?;

    ensure!(bot.is_waiting()?, "the bot did not wait");
    ensure!(table_exists(scene.postgres)?, "the table was dropped before anybody approved it");
    screen.checked("it waits; the table is still there: PostgreSQL has not seen the statement");
    let link = link(scene)?;

    if yes {
        screen.say(&format!("A browser on this machine shows it too, and would do to approve it:\n  {link}"));
        screen.say("What the approver sees:");
        screen.sees("you", &command::output(&mut scene.gateway.talk(&["approvals", "show", &request]))?);
        let mut approve = scene.gateway.talk(&["approvals", "approve", &request, "--reason", "shown in the demo"]);
        screen.types("you", &format!("holdpoint approvals approve {request} --reason 'shown in the demo'"));
        screen.sees("you", &command::output(&mut approve).context("the approval was not accepted")?);
    } else {
        screen.copy_this("Approve it in another terminal", &approve_lines(scene, &request));
        match browser::open(&link) {
            Some(opener) => screen.say(&format!("Or in your browser, where {opener} has opened the console:")),
            None => screen.say("Or in a browser on this machine (none was opened: there is no desktop here):"),
        }
        screen.copy_this("The link makes you a passkey, once", &[link]);
        screen.say(
            "or look at it first (`approvals show`), or say no (`approvals deny`): the demo tells you what happens.",
        );
        wait_for_a_person(&mut bot, screen)?;
    }

    let (status, seen) = bot.finish(Duration::from_secs(60))?;
    screen.sees("bot", &seen);
    if !yes && seen.contains("denied by") {
        ensure!(table_exists(scene.postgres)?, "you said no, and the table is gone all the same");
        screen.checked("you said no: the bot got an ordinary error, and the table is still there");
        return Ok(());
    }
    ensure!(status.success(), "the statement did not run: it was refused, denied or withdrawn ({status})");
    ensure!(!table_exists(scene.postgres)?, "psql ended well, but the table is still there");
    screen.checked("approved, run, and gone from the database; psql itself saw an ordinary answer");
    Ok(())
}

/// The approve command, in lines that a shell takes as one.
fn approve_lines(scene: &Scene<'_>, request: &str) -> Vec<String> {
    let sudo = if std::env::var_os("SUDO_USER").is_some() { "sudo " } else { "" };
    vec![
        format!("{sudo}{} \\", scene.gateway.binary().display()),
        format!("  approvals approve {request} --reason \"I looked at it\" \\"),
        format!("  --socket {}", scene.gateway.socket().display()),
    ]
}

/// Where the approver enrols a passkey at the console, once.
fn link(scene: &Scene<'_>) -> Result<String> {
    let me = me()?;
    let mut set = scene.gateway.talk(&["people", "set", &me, "--user", &me, "-o", "json"]);
    let set = command::output(&mut set).context("no account could be made for you")?;
    let made: serde_json::Value = serde_json::from_str(&set).context("the answer is no JSON")?;
    let link = made["url"].as_str().with_context(|| format!("there is no link in {made}"))?;
    Ok(link.to_owned())
}

fn wait_for_a_person(bot: &mut Bot, screen: &Screen) -> Result<()> {
    let began = std::time::Instant::now();
    while bot.is_waiting()? {
        let left = PATIENCE.saturating_sub(began.elapsed()).as_secs();
        screen.rewrite(&format!("waiting for you · {}:{:02} left, then the answer is no", left / 60, left % 60));
        interrupt::pause(Duration::from_millis(250))?;
    }
    screen.wipe();
    Ok(())
}

fn table_exists(postgres: &Postgres) -> Result<bool> {
    Ok(postgres.sql("shop", "SELECT to_regclass('public.orders') IS NOT NULL")? == "t")
}

/// The request's short id, as the notice names it.
fn request_in(notice: &str) -> Option<String> {
    let after = notice.split_once("request ")?.1;
    let id: String = after.chars().take_while(char::is_ascii_hexdigit).collect();
    (id.len() >= 4).then_some(id)
}

/// Step 6: the record, session by session; returns the one with the held statement.
fn reviewed(scene: &Scene<'_>, screen: &mut Screen) -> Result<String> {
    screen.step("Months later, somebody asks what the bot did");
    screen.types("you", "holdpoint sessions list");
    screen.sees("you", &command::output(&mut scene.gateway.read(&["sessions", "list"]))?);

    let listed = command::output(&mut scene.gateway.read(&["sessions", "list", "-o", "json"]))?;
    for session in session_ids(&listed)? {
        let mut replay = scene.gateway.read(&["replay", &session, "--no-wait", "-o", "json"]);
        let replayed = command::output(&mut replay)?;
        for (_, email) in CUSTOMERS {
            ensure!(!replayed.contains(email), "the record holds {email}, which the policy masks");
        }
        ensure!(!replayed.contains(PASSWORD), "the record holds the bot's password");
        if replayed.contains("DROP TABLE orders") {
            screen.types("you", &format!("holdpoint replay {session} --no-wait"));
            let mut replay = scene.gateway.read(&["replay", &session, "--no-wait"]);
            let shown = command::output(&mut replay)?;
            screen.sees("you", &shown);
            ensure!(shown.contains("DROP TABLE orders"), "the replay does not show the statement");
            ensure!(replayed.contains(&me()?), "the record does not say who approved");
            screen.checked("who asked, what, which rule, who approved, and what came back");
            return Ok(session);
        }
    }
    bail!("no recorded session has the statement; the list was:\n{listed}")
}

/// The sessions' identifiers in `sessions list -o json`: one object a line, or one list.
fn session_ids(listed: &str) -> Result<Vec<String>> {
    let objects: Vec<serde_json::Value> = match serde_json::from_str(listed) {
        Ok(serde_json::Value::Array(objects)) => objects,
        _ => listed.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("the list is no JSON")?,
    };
    let id = |object: &serde_json::Value| Some(object.get("session").or(object.get("id"))?.as_str()?.to_owned());
    Ok(objects.iter().filter_map(id).collect())
}

/// Step 7: the chain of entries is whole.
fn verified(scene: &Scene<'_>, screen: &mut Screen, session: &str) -> Result<()> {
    screen.step("Can the record be trusted?");
    screen.types("you", "holdpoint verify");
    let verdict = command::output(&mut scene.gateway.read(&["verify"])).context("the record does not verify")?;
    screen.sees("you", &verdict);
    screen.checked(&format!("every entry is chained to the one before it; session {session} is among them"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{request_in, session_ids};

    #[test]
    fn finds_the_request_in_a_notice() {
        let notice = "NOTICE:  holdpoint: held for approval by rule schema-changes; request 1f2e3d4c, 9m59s left";
        assert_eq!(request_in(notice).as_deref(), Some("1f2e3d4c"));
        assert_eq!(request_in("NOTICE:  table does not exist"), None);
    }

    #[test]
    fn reads_both_shapes_of_list() {
        assert_eq!(session_ids(r#"[{"session":"a"},{"session":"b"}]"#).expect("a list"), ["a", "b"]);
        assert_eq!(session_ids("{\"id\":\"a\"}\n{\"id\":\"b\"}\n").expect("lines"), ["a", "b"]);
    }
}
