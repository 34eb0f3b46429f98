//! Random statements on two copies of one database, directly and through the gateway: whatever a client sends, it gets what
//! it would have got. One set is made here from a grammar of whole sessions (transactions, names, settings, spoiled
//! texts, each way of asking), one by `sqlsmith` from the catalog. Policy allows everything, so no difference is its own.
//!
//! `HOLDPOINT_RANDOM=1000000` for as many; `HOLDPOINT_SEED` for others.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use tests::{Lab, Outcome, Postgres, Rules, venv};

struct Twins {
    // Ends before the lab's directory does.
    pg: Postgres,
    lab: Lab,
}

impl Twins {
    fn make(name: &str, masks: bool) -> Self {
        venv();
        let lab = Lab::new(name);
        let pg = Postgres::start(&lab);
        for database in ["twin_left", "twin_right"] {
            pg.admin(&format!("CREATE DATABASE {database}"));
            pg.admin_of(database, WORLD);
        }
        let rules = Rules::allowing().policy(EVERYTHING);
        let resource = rules.resource(pg.port());
        let resource = match (masks, resource.split_once("mask:")) {
            (false, Some((without, _))) => without.to_owned(),
            _ => resource,
        };
        lab.policies(&resource, &rules.policies());
        lab.start();
        // The server's own socket, past the gateway, where the bot's user can reach it.
        let beside = lab.path("beside");
        fs::create_dir(&beside).expect("the lab's directory is ours");
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let socket = format!(".s.PGSQL.{}", pg.port());
        fs::hard_link(pg.dir().join(&socket), beside.join(&socket)).expect("a socket can have two names");
        Self { pg, lab }
    }

    fn direct(&self) -> String {
        format!("host={} port={} user=app dbname=twin_left", self.lab.path("beside").display(), self.pg.port())
    }

    fn compare(&self, how: &str, seed: u64, count: usize, file: Option<&str>) -> Outcome {
        let python = self.lab.path("venv/bin/python").display().to_string();
        let guarded = format!("host=127.0.0.1 port={} user=app dbname=twin_right", self.pg.port());
        let limit = Duration::from_secs(120 + count as u64 / 50);
        let (seed, count, direct) = (seed.to_string(), count.to_string(), self.direct());
        let words = [&*python, "-u", "-c", TWINS, how, &direct, &guarded, &seed, &count];
        let words: Vec<&str> = words.into_iter().chain(file).collect();
        let said = self.lab.bot("ci").start(&words).finish(limit).ok();
        let last = said.stdout.lines().last().unwrap_or_default();
        eprintln!("{how}, seed {seed}: {last}");
        assert!(last.starts_with("ran ") && last.ends_with(" different 0"), "{said}");
        let figure = |after: &str| {
            let (_, rest) = last.split_once(after).expect("the figure is there");
            rest.split(' ').next().and_then(|figure| figure.parse::<usize>().ok()).expect("it is a number")
        };
        let ran = figure("ran ");
        assert!(figure("errors ") < ran * 4 / 5, "most is only errors: {last}");
        assert!(figure("timeouts ") < 10 + ran / 200, "most only runs out of time: {last}");
        said
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

fn count(usual: usize) -> usize {
    usize::try_from(number("HOLDPOINT_RANDOM", usual as u64)).expect("it fits")
}

#[test]
fn random_sessions_get_what_they_would_get_without() {
    let twins = Twins::make("random", false);
    twins.compare("exact", number("HOLDPOINT_SEED", 1), count(3_000), None);
    twins.lab.verify();
}

#[test]
fn random_sessions_fail_where_they_would_fail_without_even_with_masks() {
    let twins = Twins::make("random-masks", true);
    twins.compare("ends", number("HOLDPOINT_SEED", 2), count(2_000), None);
}

#[test]
fn what_sqlsmith_makes_ends_as_it_would_without() {
    let twins = Twins::make("sqlsmith", true);
    let (seed, count) = (number("HOLDPOINT_SEED", 3), count(800));
    let mut smith = Command::new("sqlsmith");
    smith.args([&format!("--target={}", twins.direct()), &format!("--seed={seed}"), "--dry-run", "--exclude-catalog"]);
    let made = smith.arg(format!("--max-queries={count}")).output().expect("sqlsmith is installed");
    let made = String::from_utf8_lossy(&made.stdout).into_owned();
    let statements: Vec<String> =
        made.split(";\n").map(|one| one.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    // One side comes over a socket of the machine's: what asks where it comes from is told so.
    let is_plain = |one: &String| !one.is_empty() && !["inet_", "backend_pid"].iter().any(|word| one.contains(word));
    let statements: Vec<String> = statements.into_iter().filter(is_plain).collect();
    assert!(statements.len() > count / 2, "sqlsmith made {} statements: {made}", statements.len());
    let file = twins.lab.path("statements.sql");
    fs::write(&file, statements.join("\n")).expect("the lab's directory is ours");
    twins.compare("ends", seed, statements.len(), Some(&file.display().to_string()));
}

const WORLD: &str = include_str!("random/world.sql");
const TWINS: &str = include_str!("random/twins.py");

const EVERYTHING: &str = "policy: everything
match:
  resource: shop
  effects: [read, write, delete, schema, privilege, execute, session, transfer, admin, reveal, unknown]
decide: allow
";
