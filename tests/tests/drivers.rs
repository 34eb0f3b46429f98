//! The drivers that bots are written with, and PostgreSQL's own tools, against the same server directly and through the
//! gateway: in clear and in TLS, with the bot's own password and with one that it never has. What they print must be the
//! same, but for what policy refuses and masks.
//!
//! Each client connects, and prints a line for each of: a simple query; every kind of parameter; an error's SQLSTATE; a
//! transaction that is rolled back; twenty thousand rows (where the driver can, through a portal that it fetches from);
//! a batch; a copy; a statement that is cancelled; and, guarded only, a masked value and a refused statement.

use std::{collections::BTreeMap, path::Path, process::Command};

use tests::{Certificates, Lab, Method, Outcome, Postgres, Rules, node, tool, venv};

/// A client: what to run, before the connection string.
type Client = (&'static str, Vec<String>);

/// How a bot comes to the server.
#[derive(Debug, Clone, Copy)]
enum Way {
    InClear,
    InTls,
}

struct Scene {
    // Ends before the lab's directory does.
    pg: Postgres,
    lab: Lab,
    certificates: Certificates,
    injects: bool,
}

impl Scene {
    fn set(name: &str, injects: bool) -> Self {
        venv();
        node();
        let lab = Lab::new(name);
        let certificates = Certificates::make(&lab);
        let pg = Postgres::start_with_tls(&lab, &certificates);
        pg.admin("GRANT ALL ON target TO app_scram");
        let credential = if injects { "credential: shop/app\n" } else { "" };
        let lines = format!("{credential}tls: {{ ca: {} }}", certificates.path("ca.crt"));
        let rules = Rules::allowing().refuse("no-delete", "delete").resource_line(&lines);
        lab.policies(&rules.resource(pg.port()), &rules.policies());
        lab.start();
        if injects {
            let holdpoint = lab.tool("holdpoint");
            let script =
                format!("printf '%s\\n' \"$SECRET\" | '{holdpoint}' credentials set shop/app --user app_scram");
            let mut command = lab.command(&["sh", "-c", &script]);
            let set = command.env("SECRET", Method::Scram.password()).output().expect("a shell");
            assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
        }
        Self { pg, lab, certificates, injects }
    }

    /// The clients, with their programs where a bot can read them.
    fn clients(&self) -> Vec<Client> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers");
        let place = self.lab.path("drivers");
        std::fs::create_dir_all(&place).expect("the lab's directory is ours");
        let bring = |from: &Path, name: &str| {
            let to = place.join(name);
            std::fs::copy(from, &to).expect("the program can be copied");
            to.display().to_string()
        };
        let own = |name: &str| bring(&beside.join(name), name);
        let python = self.lab.path("venv/bin/python").display().to_string();
        let modules = format!("NODE_PATH={}", self.lab.path("node/node_modules").display());
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        vec![
            ("pgx", words(&[&bring(&tool("pgx-client"), "pgx-client")])),
            ("node-postgres", words(&["env", &modules, "node", &own("client.js")])),
            ("pgjdbc", words(&["java", "-cp", JDBC, &own("Client.java")])),
            ("SQLAlchemy", words(&[&python, "-u", &own("client.py")])),
        ]
    }

    /// A bot's connection string. Where the gateway logs in, it names nobody that the server knows and has no password.
    fn url(&self, way: Way) -> String {
        self.url_with(way, &self.lab.path("run/trust.pem").display().to_string(), self.injects)
    }

    fn url_with(&self, way: Way, ca: &str, injects: bool) -> String {
        let url = match injects {
            true => format!("postgresql://bot@127.0.0.1:{}/shop", self.pg.port()),
            false => self.pg.url_of(Method::Scram),
        };
        match way {
            Way::InClear => format!("{url}?sslmode=disable"),
            Way::InTls => format!("{url}?sslmode=verify-full&sslrootcert={ca}"),
        }
    }

    /// What the client prints when nobody is between it and the server.
    fn direct(&self, client: &Client, way: Way) -> BTreeMap<String, String> {
        let url = self.url_with(way, &self.certificates.path("ca.crt"), false);
        let argv: Vec<&str> = client.1.iter().map(String::as_str).chain([url.as_str()]).collect();
        let said = self.lab.run(&argv).ok();
        lines(&said)
    }
}

/// A client's lines, by their first word.
fn lines(said: &Outcome) -> BTreeMap<String, String> {
    let pairs = said.stdout.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(what, rest)| (what.to_owned(), rest.to_owned())).collect()
}

fn each_driver_sees_what_it_sees_without(scene: &Scene) {
    for client in scene.clients() {
        for way in [Way::InClear, Way::InTls] {
            let direct = scene.direct(&client, way);
            let url = scene.url(way);
            let argv: Vec<&str> = client.1.iter().map(String::as_str).chain([url.as_str(), "guarded"]).collect();
            let said = scene.lab.bot("ci").run(&argv).ok();
            let mut guarded = lines(&said);
            let (name, injects) = (client.0, scene.injects);
            let masked = guarded.remove("masked").unwrap_or_default();
            assert!(!masked.is_empty() && !masked.contains("canary"), "{name} {way:?} {injects}: {said}");
            assert_eq!(guarded.remove("refused").as_deref(), Some("42501"), "{name} {way:?} {injects}: {said}");
            assert_eq!(guarded, direct, "{name} {way:?}, injects: {injects}");
            for what in ["simple", "types", "error", "rolled", "rows", "cancelled", "alive"] {
                assert!(direct.contains_key(what), "{name} does not print `{what}`: {direct:?}");
            }
        }
    }
    assert_eq!(scene.pg.ran("DROP TABLE"), 0, "what was refused reached the server");
    let record = scene.lab.record();
    for canary in Postgres::CANARIES {
        assert!(!record.contains(canary), "{canary} is in the record");
    }
    scene.lab.verify();
}

#[test]
fn drivers_with_the_bots_own_password() {
    each_driver_sees_what_it_sees_without(&Scene::set("drivers-own", false));
}

#[test]
fn drivers_with_a_credential_that_the_bot_never_has() {
    each_driver_sees_what_it_sees_without(&Scene::set("drivers-injected", true));
}

#[test]
fn pg_dump_pg_restore_and_pgbench() {
    for injects in [false, true] {
        let scene = Scene::set(if injects { "tools-injected" } else { "tools-own" }, injects);
        // What they make themselves the server has already: making and removing tables is refused here.
        let url = format!("host={} port={} user=postgres dbname=shop", scene.pg_socket(), scene.pg.port());
        let made = Command::new("pgbench").args(["-i", "-q", "-s", "1", &url]).output().expect("pgbench is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        scene.pg.admin(
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO app_scram; CREATE TABLE restored (id int); \
             GRANT ALL ON restored TO app_scram",
        );
        for way in [Way::InClear, Way::InTls] {
            let url = scene.url(way);
            let bot = scene.lab.bot("ci");
            for mode in ["simple", "extended", "prepared"] {
                let bench = ["pgbench", "-n", "-c", "2", "-t", "25", "-M", mode, &url];
                bot.run(&bench).ok().says(&["number of transactions actually processed: 50/50"]);
            }
            let dumped = bot.run(&["pg_dump", "--data-only", "-t", "target", &url]).ok();
            assert!(dumped.stdout.contains("COPY public.target (id) FROM stdin;\n1\n2\n3\n\\.\n"), "{dumped}");
            let archive = format!(
                "pg_dump -Fc --data-only -t pgbench_branches '{url}' > /dev/null && \
                 pg_dump -Fc --data-only -t target '{url}' | pg_restore --data-only -f - | \
                 sed 's/public.target/public.restored/' | psql -X -q -v ON_ERROR_STOP=1 '{url}'"
            );
            bot.run(&["sh", "-c", &archive]).ok();
            assert_eq!(scene.pg.admin("SELECT count(*), sum(id) FROM restored"), "3|6");
            // And without a file between: straight from one connection into the other.
            scene.pg.admin("TRUNCATE restored");
            let masked = bot.run(&["pg_dump", "--data-only", "-t", "customers", &url]);
            for canary in Postgres::CANARIES {
                assert!(!masked.all().contains(canary), "{canary} got into a dump: {masked}");
            }
        }
        scene.lab.verify();
    }
}

impl Scene {
    /// The directory of the server's own socket, past the gateway.
    fn pg_socket(&self) -> String {
        self.lab.path("pg").display().to_string()
    }
}

/// Where Debian has it.
const JDBC: &str = "/usr/share/java/postgresql.jar";
