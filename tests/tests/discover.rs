//! `holdpoint resources discover`: what it proposes for a real database, that the gateway masks by it, that no value is in
//! it, and that looking runs nobody's code.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use tests::{Certificates, Lab, Method, Outcome, Postgres, Running, Version, eventually, node};

/// A resource without masks but one, written by somebody who comments.
fn resource(pg: &Postgres, more: &str) -> String {
    format!(
        "# what our bots may see of the shop\nresource: shop\nprotocol: postgres\nendpoints: [\"127.0.0.1:{}\"]\n{more}mask:\n  # agreed with security\n  - {{ column: \"public.people.badge\", with: hash }}\ndefault: allow\n",
        pg.port()
    )
}

fn lab(name: &str) -> (Lab, Postgres) {
    let lab = Lab::new(name);
    let pg = Postgres::start(&lab);
    lab.policies(&resource(&pg, ""), "");
    (lab, pg)
}

/// Runs the command as `user`, with `password` on its standard input.
fn discover(lab: &Lab, user: &str, password: &str, more: &[&str]) -> Outcome {
    let (holdpoint, policies) = (lab.tool("holdpoint"), lab.path("policies").display().to_string());
    let words =
        [&holdpoint, "resources", "discover", "shop", "--policies", &policies, "--user", user, "--database", "shop"];
    let mut running = Running::start(&mut lab.command(&[&words[..], more].concat()));
    running.write(password);
    running.finish(Duration::from_secs(120))
}

/// The line of `outcome` that has `part` in it.
#[track_caller]
fn line<'o>(outcome: &'o str, part: &str) -> &'o str {
    outcome.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with {part:?}:\n{outcome}"))
}

/// Every value that could identify somebody has a canary in it, or is one.
const PEOPLE: &str = r#"
CREATE EXTENSION citext;
SET ROLE app;
CREATE TABLE people (id int PRIMARY KEY, email text, contact varchar(80), login citext, ssn text, phone text, card bigint,
  born date, badge text, remark text, body text, address text, email_template text, doc jsonb, profile json, active bool, seen inet);
COMMENT ON COLUMN people.remark IS 'PII: what they told us';
INSERT INTO people SELECT n, 'canary-a' || n || '@people.example', 'canary-b' || n || '@people.example', 'canary-c' || n || '@people.example',
  '123-45-' || 1000 + n, '+49 151 7770' || 1000 + n, 4111111111111111, '1990-01-01', 'badge ' || n, 'canary-note-' || n,
  CASE WHEN n % 10 = 0 THEN 'please write to canary-d' || n || '@people.example soon' ELSE 'thanks' END, 'canary road ' || n,
  'Dear customer', jsonb_build_object('to', 'canary-e' || n || '@people.example', 'canary-key-' || n, true),
  json_build_object('firstName', 'canary-f' || n, 'visits', n), true, '10.9.8.7'
  FROM generate_series(1, 200) n;
CREATE VIEW contact_list AS SELECT id, email FROM people;
CREATE VIEW contact_lines AS SELECT 'to ' || email AS line FROM contact_list;
CREATE TABLE events (at date, who text) PARTITION BY RANGE (at);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM ('2000-01-01') TO ('2020-01-01');
CREATE TABLE events_new PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2040-01-01');
INSERT INTO events SELECT date '2019-01-01' + n * 10, 'canary-g' || n || '@people.example' FROM generate_series(1, 100) n;
"#;

#[test]
fn what_it_proposes_masks_what_was_clear_and_has_no_value_in_it() {
    let (lab, pg) = lab("discover");
    pg.admin(PEOPLE);
    lab.start();
    // One at a time: what several answers at once are masked by is not told apart.
    let reads = [
        "SELECT email, phone FROM people WHERE id = 7",
        "SELECT line FROM contact_lines LIMIT 1",
        "SELECT ssn, card, remark, body, doc, profile, contact, login FROM people WHERE id = 10",
        "SELECT who FROM events_old LIMIT 1",
    ];
    let read = |bot: &str| reads.map(|read| lab.bot(bot).psql(&pg.url(), read).ok().all()).concat();
    let before = read("before");
    for canary in
        ["canary-a7@", "canary-a", "canary-note-10", "canary-d10", "canary-e10", "canary-f10", "4111", "canary-g"]
    {
        assert!(before.contains(canary), "{canary} was not there to be masked: {before}");
    }

    let path = lab.path("proposed.yaml");
    let output = path.display().to_string();
    let printed = discover(&lab, "app", "", &[]).ok();
    let written = discover(&lab, "app", "", &["--output", &output]).ok();
    let proposed = fs::read_to_string(&path).expect("it was written");
    assert_eq!(printed.stdout, proposed, "the same, wherever it goes");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o644);
    for text in [&proposed, &printed.stderr, &written.stderr] {
        for value in ["canary", "people.example", "4111", "123-45", "10.9.8", "1990-01", "Dear", "thanks"] {
            assert!(!text.contains(value), "{value} is in it:\n{text}");
        }
    }
    // Nothing of what people wrote is lost.
    assert!(proposed.starts_with("# what our bots may see of the shop\nresource: shop\n"), "{proposed}");
    assert!(
        proposed.contains("  # agreed with security\n  - { column: \"public.people.badge\", with: hash }\n"),
        "{proposed}"
    );
    for (part, wanted) in [
        (
            "people.email\"",
            "  - { column: \"public.people.email\", with: partial }  # e-mail addresses: name; 200 of 200 sampled values look like it",
        ),
        (
            "people.contact\"",
            "  - { column: \"public.people.contact\", with: partial }  # e-mail addresses: 200 of 200 sampled values look like it",
        ),
        (
            "people.login\"",
            "  - { column: \"public.people.login\", with: partial }  # e-mail addresses: 200 of 200 sampled values look like it",
        ),
        (
            "people.ssn\"",
            "  - { column: \"public.people.ssn\", with: redact }  # social security and other identity numbers: name; 200 of 200 sampled values look like it",
        ),
        (
            "people.phone\"",
            "  - { column: \"public.people.phone\", with: partial }  # telephone numbers: name; 200 of 200 sampled values look like it",
        ),
        (
            "people.card\"",
            "  - { column: \"public.people.card\", with: partial }  # card numbers: name; 200 of 200 sampled values look like it",
        ),
        ("people.born\"", "  - { column: \"public.people.born\", with: \"null\" }  # dates of birth: name"),
        ("people.remark\"", "  - { column: \"public.people.remark\", with: redact }  # comment says \"pii\""),
        ("people.address\"", "  # - { column: \"public.people.address\", with: redact }  # postal addresses: name"),
        (
            "people.profile\"",
            "  - { column: \"public.people.profile\", with: redact }  # of 200 sampled documents, by the names inside: people's names in 200",
        ),
        (
            "people.seen\"",
            "  # - { column: \"public.people.seen\", with: hash }  # IP addresses: 200 of 200 sampled values look like it",
        ),
        (
            "events.who\"",
            "  - { column: \"public.events.who\", with: partial }  # e-mail addresses: 100 of 100 sampled values look like it",
        ),
        (
            "events_old.who\"",
            "  - { column: \"public.events_old.who\", with: partial }  # e-mail addresses: 100 of 100 sampled values look like it; a part of public.events",
        ),
        (
            "detect: [email]",
            "  - { detect: [email], with: redact }  # in 20 of 200 sampled values of public.people.body, 200 of 200 sampled values of public.people.doc",
        ),
        ("masked already", "  # masked already: badge (hash)"),
        ("public.contact_list:", "  # public.contact_list: public.people.email"),
        ("public.contact_lines:", "  # public.contact_lines: public.people.email"),
    ] {
        let found = line(&proposed, part);
        assert!(found.starts_with(wanted), "{found}\ninstead of\n{wanted}");
    }
    // It is named for mail, and no value is one.
    assert!(!proposed.contains("email_template"), "{proposed}");
    assert!(!proposed.contains("people.active") && !proposed.contains("people.id"), "{proposed}");
    lab.holdpoint(&["policy", "check", &output]).ok().says(&["1 resource", "no errors"]);

    // As it is, it masks.
    lab.policies(&proposed, "");
    let seen = eventually("the gateway masks by what was proposed", Duration::from_secs(20), || {
        let seen = read("after");
        (!seen.contains("canary-a7")).then_some(seen)
    });
    // Names inside a document are not values; nothing masks `canary-key-10` but a rule for the whole.
    for canary in [
        "canary-a",
        "canary-b",
        "canary-c",
        "canary-d",
        "canary-e",
        "canary-f",
        "canary-g",
        "canary-note",
        "4111",
        "123-45",
    ] {
        assert!(!seen.contains(canary), "{canary} is in {seen}");
    }
    // The telephone's number in part, as proposed.
    assert!(seen.contains("c***@people.example|***1007\n") && seen.contains("please write to [masked] soon"), "{seen}");
    // Asked again, there is nothing new to say.
    let again =
        discover(&lab, "app", "", &[]).ok().says(&["0 rules", "masked already: email (partial), contact (partial)"]);
    assert_eq!(again.stdout.matches("public.people.email\"").count(), 1, "{}", again.stdout);
    discover(&lab, "app", "", &["--output", &output]).failed().says(&["is there already", "not overwritten"]);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), proposed);
}

/// What would run if it were looked at, and what breaks out of what it is written into.
const TRAPS: &str = r#"
CREATE ROLE looker LOGIN;
SET ROLE app;
GRANT USAGE ON SCHEMA public TO looker;
CREATE FUNCTION trap(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'a trap was sprung'; RETURN $1; END $$;
CREATE FUNCTION "left"(text, int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'a trap was sprung'; RETURN $1; END $$;
CREATE TABLE open_table (email text);
INSERT INTO open_table VALUES ('x@trap.example');
CREATE VIEW trapped AS SELECT trap(email) AS email FROM open_table;
CREATE TABLE chosen (email text);
INSERT INTO chosen SELECT 'x@trap.example' FROM generate_series(1, 50);
ALTER TABLE chosen ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON chosen USING (trap(email) <> '');
CREATE TABLE locked (email text);
CREATE TABLE forbidden (email text);
CREATE TABLE partly (email text, phone text);
CREATE TABLE "we""ird
- { name: ""*"", with: redact }" ("e.mail
- x: 'y' # \ *[a]" text, "*" text);
COMMENT ON COLUMN "we""ird
- { name: ""*"", with: redact }"."*" IS E'PII\n- { name: "*", with: redact }\n\x1b[31m---\n';
INSERT INTO "we""ird
- { name: ""*"", with: redact }" SELECT 'x@trap.example', 'y' FROM generate_series(1, 5);
COMMENT ON TABLE open_table IS E'confidential\n...\n';
GRANT SELECT ON open_table, trapped, chosen, locked, "we""ird
- { name: ""*"", with: redact }" TO looker;
GRANT SELECT (phone) ON partly TO looker;
CREATE TABLE split (at int, email text) PARTITION BY RANGE (at);
CREATE TABLE split_here PARTITION OF split FOR VALUES FROM (0) TO (10);
RESET ROLE;
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE outside (email text) SERVER files OPTIONS (program 'echo >> sprung');
CREATE FOREIGN TABLE split_there PARTITION OF split FOR VALUES FROM (10) TO (20) SERVER files OPTIONS (program 'echo >> sprung');
GRANT SELECT ON outside, split, split_there TO looker;
"#;

#[test]
fn looking_runs_nobodys_code_changes_nothing_and_says_what_it_did_not_see() {
    let (lab, pg) = lab("discover-traps");
    pg.admin(TRAPS);
    let held = "BEGIN; LOCK TABLE locked; SELECT pg_sleep(60)";
    let locker = Running::start(&mut lab.command(&["psql", "-X", "-c", held, &pg.url()]));
    eventually("the lock is taken", Duration::from_secs(20), || {
        (pg.admin("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'locked'::regclass")
            == "1")
            .then_some(())
    });
    let path = lab.path("proposed.yaml").display().to_string();
    let done = discover(&lab, "looker", "", &["--output", &path]).ok();
    drop(locker);
    assert!(!pg.saw("a trap was sprung"), "{}", pg.log());
    let sprung = pg.dir().join("sprung");
    assert!(!sprung.exists(), "a foreign table's program was run");
    // The controls: whoever reads the view or the foreign table springs them.
    pg.admin("SELECT * FROM outside");
    assert!(sprung.exists());
    lab.run(&["psql", "-X", "-c", "SELECT * FROM trapped", &pg.url()]).ok();
    assert!(pg.saw("a trap was sprung"));
    let statements: Vec<_> =
        pg.logged_statements().into_iter().filter(|statement| statement.role == "looker").collect();
    assert!(statements.iter().any(|statement| statement.text.contains("open_table")), "{statements:?}");
    for statement in &statements {
        assert!(
            statement.text.starts_with("BEGIN READ ONLY; SET LOCAL lock_timeout = '1s'; SET LOCAL row_security = off;")
                || statement.text == "ROLLBACK",
            "{}",
            statement.text
        );
        assert!(statement.text == "ROLLBACK" || statement.text.contains("statement_timeout"), "{}", statement.text);
        assert!(!statement.text.contains("trapped"), "{}", statement.text);
    }
    let proposed = fs::read_to_string(&path).expect("it was written");
    line(&proposed, "locked by somebody else: public.locked");
    line(&proposed, "no permission, or a policy chooses rows: public.chosen");
    let unseen = line(&proposed, "no permission: ");
    assert!(
        unseen.contains("public.forbidden") && unseen.contains("public.partly.email") && !unseen.contains("open_table"),
        "{unseen}"
    );
    line(&proposed, "foreign, all or in part: public.outside, public.split");
    // Names speak for what was not seen.
    line(&proposed, "- { column: \"public.forbidden.email\", with: partial }  # e-mail addresses: name");
    line(&proposed, "# the table's comment says \"confidential\": look at each of its columns");
    line(&proposed, "# public.trapped: public.open_table.email");
    assert!(proposed.chars().all(|char| char == '\n' || (' '..='~').contains(&char)), "{proposed}");
    assert!(!proposed.contains("trap.example") && !done.all().contains("trap.example"), "{proposed}");
    lab.holdpoint(&["policy", "check", &path]).ok().says(&["1 resource, 0 policies"]);
    // The rule for the column with the worst name is for that column.
    lab.policies(&proposed, "");
    lab.start();
    let weird = "SELECT * FROM \"we\"\"ird\n- { name: \"\"*\"\", with: redact }\" LIMIT 1";
    lab.bot("ci").psql(&pg.url(), weird).ok().hides("x@trap").says(&["***@trap.example|[masked]"]);
    lab.bot("ci").psql(&pg.url(), "SELECT id FROM target ORDER BY id LIMIT 1").ok().hides("[masked]").says(&["1"]);
}

#[test]
fn names_alone_when_no_value_may_be_read() {
    let (lab, pg) = lab("discover-names");
    pg.admin(PEOPLE);
    let done = discover(&lab, "app", "", &["--no-sample"]).ok();
    line(&done.stdout, "- { column: \"public.people.email\", with: partial }  # e-mail addresses: name");
    assert!(!done.stdout.contains("people.contact\"") && !done.stdout.contains("sampled"), "{}", done.stdout);
    line(&done.stdout, "no values: ");
    assert_eq!(pg.ran("\"people\""), 0, "a table was read");
    // The control: otherwise it is.
    discover(&lab, "app", "", &["--rows", "50"]).ok().says(&["name; 50 of 50 sampled values look like it"]);
    assert!(pg.ran("\"people\"") > 0);
    pg.admin("CREATE SCHEMA other; CREATE TABLE other.t (email text)");
    discover(&lab, "app", "", &["--schema", "other"]).ok().says(&["other.t.email"]).hides("public.customers.email");
    // A part whose whole is elsewhere is looked at by itself.
    pg.admin("CREATE TABLE other.part PARTITION OF events FOR VALUES FROM ('1990-01-01') TO ('2000-01-01'); INSERT INTO events SELECT '1995-01-01', n || '@part.example' FROM generate_series(1, 9) n; GRANT USAGE ON SCHEMA other TO app; GRANT SELECT ON other.part TO app");
    discover(&lab, "app", "", &["--schema", "other"]).ok().says(&["other.part.who", "9 of 9 sampled values"]);
    discover(&lab, "app", "", &["--schema", "o'ther\\"]).ok().says(&["0 rules", "there is no table"]);
}

#[test]
fn it_logs_in_as_the_gateway_would_and_says_what_is_wrong() {
    let lab = Lab::new("discover-login");
    let certificates = Certificates::make(&lab);
    let pg = Postgres::start_with_tls(&lab, &certificates);
    let tls = |section: &str| lab.policies(&resource(&pg, &format!("tls: {{ {section} }}\n")), "");
    tls(&format!("ca: {}", certificates.path("ca.crt")));
    for method in [Method::Scram, Method::Md5, Method::Password] {
        let done = discover(&lab, method.role(), &format!("{}\n", method.password()), &["--no-sample"])
            .ok()
            .hides(method.password());
        line(&done.stdout, "column: \"public.customers.email\"");
    }
    assert!(pg.log().contains("SSL enabled") && pg.log().contains("method=scram-sha-256"), "{}", pg.log());
    let scram = Method::Scram;
    discover(&lab, scram.role(), "", &[]).failed().says(&["asks for a password", "standard input"]);
    discover(&lab, scram.role(), "wrong-canary", &[])
        .failed()
        .says(&["does not let \"app_scram\" in", "--user"])
        .hides("wrong-canary");
    discover(&lab, "nobody-here", "", &[]).failed().says(&["nobody-here", "check --user"]);
    discover(&lab, "app", "", &["--database", "nowhere"]).failed();
    // The other authority has signed nothing.
    let out = lab.path("never.yaml").display().to_string();
    tls(&format!("ca: {}", certificates.path("other.crt")));
    discover(&lab, "app", "", &["--output", &out]).failed().says(&["certificate is refused", "tls: { ca: FILE }"]);
    assert!(!lab.path("never.yaml").exists(), "a failure writes nothing");
    let plain = Postgres::start(&lab);
    lab.policies(&resource(&plain, "tls: { upstream: require }\n"), "");
    discover(&lab, "app", "", &[]).failed().says(&["has no TLS"]);
    lab.policies(&resource(&plain, "").replace(&plain.port().to_string(), "1"), "");
    discover(&lab, "app", "", &[]).failed().says(&["no server answers: 127.0.0.1:1", "is it up"]);
    lab.policies(&resource(&plain, "").replace("resource: shop", "resource: other"), "");
    discover(&lab, "app", "", &[]).failed().says(&["no resource `shop`; expected one of other"]);
    lab.policies("resource: [", "");
    discover(&lab, "app", "", &[]).failed().says(&["put them right first", "resource.yaml:1"]);
}

#[test]
fn two_thousand_tables_take_seconds() {
    let (lab, pg) = lab("discover-many");
    // Committed in between: each table is a lock until then.
    pg.admin(
        "DO $$ BEGIN FOR n IN 1..2000 LOOP EXECUTE format('CREATE TABLE t%s (id int, email text, note text, total numeric)', n);
         EXECUTE format('INSERT INTO t%s SELECT g, g || ''@many.example'', ''x'', g FROM generate_series(1, 20) g', n);
         EXECUTE format('GRANT SELECT ON t%s TO app', n);
         IF n % 200 = 0 THEN COMMIT; END IF; END LOOP; END $$",
    );
    let started = Instant::now();
    let done = discover(&lab, "app", "", &[]).ok();
    let took = started.elapsed();
    eprintln!("2,000 tables took {took:?}");
    assert!(took < Duration::from_secs(60), "took {took:?}");
    assert_eq!(done.stdout.matches("20 of 20 sampled values look like it").count(), 2000);
    let last = done.stderr.lines().rfind(|line| line.starts_with("looked at"));
    assert!(last.is_some_and(|line| line.contains("2003")), "{}", done.stderr);
    assert!(done.stderr.starts_with("2003 tables to look at\n"), "{}", done.stderr);
    assert!(
        took < Duration::from_secs(5) || done.stderr.contains(" of 2003"),
        "it says how far it is: {}",
        done.stderr
    );
    // A large table is sampled all over, not read from its start; a small part of it is no error.
    pg.admin("SET ROLE app; CREATE TABLE large AS SELECT g AS id, CASE WHEN g > 1000 THEN g || '@late.example' ELSE 'none' END AS who FROM generate_series(1, 200000) g; RESET ROLE; ANALYZE large");
    let done = discover(&lab, "app", "", &[]).ok();
    assert!(line(&done.stdout, "public.large.who").contains("e-mail addresses"), "{}", done.stdout);
    assert!(pg.saw("TABLESAMPLE SYSTEM"));
}

#[test]
fn the_newest_server_is_read_too() {
    node();
    let lab = Lab::new("discover-newest");
    let certificates = Certificates::make(&lab);
    let pg = Postgres::start_version_with_tls(&lab, Version::Newest, &certificates);
    lab.policies(&resource(&pg, &format!("tls: {{ ca: {} }}\n", certificates.path("ca.crt"))), "");
    // Computed whenever it is read, which 18 can.
    pg.admin("SET ROLE app; CREATE TABLE computed (a text, shown text GENERATED ALWAYS AS (a || '@newest.example') VIRTUAL); INSERT INTO computed VALUES ('x'), ('y'), ('z')");
    let done = discover(&lab, "app", "", &[]).ok().hides("newest.example");
    line(
        &done.stdout,
        "\"public.computed.shown\", with: partial }  # e-mail addresses: 3 of 3 sampled values look like it",
    );
    line(&done.stdout, "\"public.customers.email\", with: partial }  # e-mail addresses: name; 2 of 2 sampled values");
    assert!(pg.admin("SHOW server_version").starts_with("18"));
}
