//! The backend: a real PostgreSQL of the lab's own, whose log is the witness of what reached it.

use std::{
    fs,
    fs::File,
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};

use crate::{Certificates, Lab, Net, eventually, python};

/// How a role of the shop database must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// It need not.
    Trust,
    /// Password in clear.
    Password,
    /// MD5 challenge.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 4] = [Method::Trust, Method::Password, Method::Md5, Method::Scram];

    /// The role that has to use it.
    pub const fn role(self) -> &'static str {
        match self {
            Method::Trust => "app",
            Method::Password => "app_password",
            Method::Md5 => "app_md5",
            Method::Scram => "app_scram",
        }
    }

    /// The role's password, which no record may contain.
    pub const fn password(self) -> &'static str {
        match self {
            Method::Trust => "",
            Method::Password => "canary-password-1",
            Method::Md5 => "canary-password-2",
            Method::Scram => "canary-password-3",
        }
    }
}

/// A statement that the backend logged before running it.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// When, in milliseconds since the Unix epoch (the log's precision).
    pub at_ms: u64,
    /// The backend process, one per connection.
    pub pid: u32,
    /// The role.
    pub role: String,
    /// The text.
    pub text: String,
}

/// A running PostgreSQL on a free port of 127.0.0.1 and ::1, with the database `shop`.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Postgres {
    /// Copies the prepared data directory into the lab and starts on it.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start; the message says why.
    pub fn start(lab: &Lab) -> Self {
        Self::start_at(lab, None, None)
    }

    /// The same, listening inside `net`.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn start_inside(lab: &Lab, net: &Net) -> Self {
        Self::start_at(lab, Some(net), None)
    }

    /// The same, with TLS.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn start_with_tls(lab: &Lab, certificates: &Certificates) -> Self {
        Self::start_at(lab, None, Some(certificates))
    }

    fn start_at(lab: &Lab, net: Option<&Net>, tls: Option<&Certificates>) -> Self {
        let template = template();
        let dir = ["pg", "pg2"].map(|name| lab.path(name)).into_iter().find(|dir| !dir.exists());
        let dir = dir.expect("a lab has two databases at most");
        python::must_run(&["cp", "-a", &template.display().to_string(), &dir.display().to_string()]);
        if let Some(certificates) = tls {
            for name in ["server.crt", "server.key", "ca.crt"] {
                let (from, to) = (certificates.path(name), dir.join(name).display().to_string());
                python::must_run(&["install", "-m", "600", "-o", "postgres", &from, &to]);
            }
            let settings = "\nssl = on\nssl_ca_file = 'ca.crt'\n";
            let mut file =
                fs::OpenOptions::new().append(true).open(dir.join("postgresql.conf")).expect("initdb made it");
            file.write_all(settings.as_bytes()).expect("it can be written");
        }
        for _ in 0..3 {
            let port = free_port();
            // Between finding the port and taking it somebody else may have taken it; then the next one will do.
            if let Some(child) = launch(&dir, port, net) {
                return Self { child, port, dir };
            }
        }
        panic!("PostgreSQL does not start:\n{}", fs::read_to_string(dir.join(LOG)).unwrap_or_default());
    }

    /// Its port, the same on both addresses.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The connection string that a bot of role `app` has always used.
    pub fn url(&self) -> String {
        self.url_of(Method::Trust)
    }

    /// The connection string for a role that must use `method`.
    pub fn url_of(&self, method: Method) -> String {
        match method {
            Method::Trust => format!("postgresql://app@127.0.0.1:{}/shop", self.port),
            _ => format!("postgresql://{}:{}@127.0.0.1:{}/shop", method.role(), method.password(), self.port),
        }
    }

    /// The connection string with another host.
    pub fn url_at(&self, host: &str) -> String {
        format!("postgresql://app@{host}:{}/shop", self.port)
    }

    /// Runs `sql` past the gateway as the superuser, unlogged, and returns the unaligned rows.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn admin(&self, sql: &str) -> String {
        let url = format!("host={} port={} user=postgres dbname=shop", self.dir.display(), self.port);
        let ran = Command::new("psql")
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, &url])
            .env("PGOPTIONS", "-c log_statement=none -c log_min_error_statement=panic")
            .output()
            .expect("psql is installed");
        assert!(ran.status.success(), "{sql} failed: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("the database is UTF-8").trim().to_owned()
    }

    /// Everything that the backend logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(LOG)).expect("PostgreSQL was started with this log"))
            .into_owned()
    }

    /// Whether `marker` stands anywhere in the log, in a statement, an error or a connection's name.
    pub fn saw(&self, marker: &str) -> bool {
        self.log().contains(marker)
    }

    /// How many logged statements contain `marker`.
    pub fn ran(&self, marker: &str) -> usize {
        self.logged_statements().iter().filter(|statement| statement.text.contains(marker)).count()
    }

    /// Each statement that clients had it run, in order, whichever protocol they used; not what the gateway asks.
    pub fn logged_statements(&self) -> Vec<Statement> {
        let statements = self.entries().into_iter().filter_map(Line::statement);
        statements.filter(|statement| !statement.text.contains("/* holdpoint:")).collect()
    }

    /// How many connections it has received.
    pub fn connections(&self) -> usize {
        self.entries().iter().filter(|line| line.message.starts_with("LOG:  connection received")).count()
    }

    fn entries(&self) -> Vec<Line> {
        let mut entries: Vec<Line> = Vec::new();
        for line in self.log().lines() {
            match (Line::parse(line), entries.last_mut()) {
                (Some(entry), _) => entries.push(entry),
                // The server continues a message with a tab.
                (None, Some(last)) => {
                    last.message.push('\n');
                    last.message.push_str(line.strip_prefix('\t').unwrap_or(line));
                }
                (None, None) => {}
            }
        }
        entries
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            // Some tests send statements of a megabyte.
            let lines: Vec<String> = log.lines().map(|line| line.chars().take(400).collect()).collect();
            eprintln!("--- the end of PostgreSQL's log\n{}\n---", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        // An immediate shutdown: it also ends its own children and frees its shared memory.
        let _gone = nix::sys::signal::kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGQUIT);
        let _reaped = self.child.wait();
    }
}

/// One entry of the log: `@1700000000.123 4242 [role] LOG:  …`.
#[derive(Debug)]
struct Line {
    at_ms: u64,
    pid: u32,
    role: String,
    message: String,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (at, rest) = line.strip_prefix('@')?.split_once(' ')?;
        let (pid, rest) = rest.split_once(" [")?;
        let (role, message) = rest.split_once("] ")?;
        let (seconds, milliseconds) = at.split_once('.')?;
        let at_ms = seconds.parse::<u64>().ok()? * 1000 + milliseconds.parse::<u64>().ok()?;
        Some(Self { at_ms, pid: pid.parse().ok()?, role: role.to_owned(), message: message.to_owned() })
    }

    fn statement(self) -> Option<Statement> {
        let said = self.message.strip_prefix("LOG:  ")?;
        let text = match said.strip_prefix("statement: ") {
            Some(text) => text,
            // `execute NAME: TEXT`, and `execute fetch from NAME: TEXT` for a portal that goes on.
            None => said.strip_prefix("execute ")?.split_once(": ")?.1,
        };
        Some(Statement { at_ms: self.at_ms, pid: self.pid, role: self.role, text: text.to_owned() })
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

/// The newest installed PostgreSQL's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed; run: cargo xtask setup");
    let mut versions: Vec<_> =
        versions.flatten().map(|entry| entry.path().join("bin")).filter(|bin| bin.join("postgres").exists()).collect();
    versions.sort();
    versions.pop().expect("PostgreSQL's server is not installed; run: cargo xtask setup")
}

fn server(dir: &Path, port: u16, net: Option<&Net>, log: File) -> Child {
    let program = programs().join("postgres");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=SIGQUIT", "--"]);
    command.arg(program).arg("-D").arg(dir);
    let directory = format!("unix_socket_directories={}", dir.display());
    let port = format!("port={port}");
    for setting in SETTINGS.iter().copied().chain([port.as_str(), directory.as_str()]) {
        command.args(["-c", setting]);
    }
    let errors = log.try_clone().expect("a file can be opened twice");
    if let Some(net) = net {
        net.enter(&mut command);
    }
    command.env("TZ", "UTC").current_dir("/").stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().expect("setpriv (util-linux) is installed")
}

fn launch(dir: &Path, port: u16, net: Option<&Net>) -> Option<Child> {
    let log = File::create(dir.join(LOG)).expect("the data directory is the lab's");
    let mut child = server(dir, port, net, log);
    let ready = eventually("PostgreSQL starts or gives up", Duration::from_secs(30), || {
        let gave_up = child.try_wait().expect("the child is ours").is_some();
        let said = fs::read_to_string(dir.join(LOG)).unwrap_or_default();
        let ready = said.contains("database system is ready to accept connections");
        (ready || gave_up).then_some(ready && !gave_up)
    });
    ready.then_some(child)
}

/// A data directory with the shop in it, made once per machine and version of [`SHOP`].
fn template() -> PathBuf {
    let _one_at_a_time = python::lock("pg-template");
    let mut mark: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in SHOP.bytes().chain(HBA.bytes()).chain(programs().display().to_string().bytes()) {
        mark = (mark ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let template = python::cache().join(format!("pg-{mark:016x}"));
    if !template.exists() {
        make_template(&template);
    }
    template
}

fn make_template(template: &Path) {
    let work = tempfile::Builder::new().prefix("holdpoint-pg-").tempdir().expect("a temporary directory can be made");
    python::must_run(&["chown", "postgres", &work.path().display().to_string()]);
    let dir = work.path().join("data");
    let path = dir.display().to_string();
    let initdb = programs().join("initdb").display().to_string();
    let as_postgres = ["runuser", "-u", "postgres", "--"];
    let init = [
        initdb.as_str(),
        "-D",
        &path,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--wal-segsize=1",
        "--no-sync",
    ];
    python::must_run(&[&as_postgres[..], &init].concat());
    fs::write(dir.join("pg_hba.conf"), HBA).expect("initdb made the directory");
    let child = launch(&dir, free_port(), None).expect("a fresh PostgreSQL starts");
    let port = fs::read_to_string(dir.join("postmaster.pid")).expect("it runs");
    let port = port.lines().nth(3).expect("the fourth line is the port").parse().expect("a port");
    let mut pg = Postgres { child, port, dir: dir.clone() };
    let create =
        Command::new("createdb").args(["-h", &path, "-p", &port.to_string(), "-U", "postgres", "shop"]).status();
    assert!(create.expect("createdb is installed").success(), "createdb failed: {}", pg.log());
    pg.admin(SHOP);
    // A fast shutdown: the copy must not need recovery.
    let _gone = nix::sys::signal::kill(Pid::from_raw(pg.child.id().cast_signed()), Signal::SIGINT);
    pg.child.wait().expect("the child is ours");
    fs::remove_file(dir.join(LOG)).expect("it was logging there");
    let half_made = template.with_extension("new");
    let _left_over = fs::remove_dir_all(&half_made);
    python::must_run(&["cp", "-a", &path, &half_made.display().to_string()]);
    fs::rename(half_made, template).expect("one file system");
}

const LOG: &str = "server.log";

/// Nothing here changes what a client sees; durability is what the tests do without.
const SETTINGS: [&str; 16] = [
    "listen_addresses=127.0.0.1,::1",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "shared_buffers=16MB",
    "max_connections=80",
    "autovacuum=off",
    "wal_level=logical",
    "log_destination=stderr",
    "logging_collector=off",
    "log_statement=all",
    "log_connections=on",
    "log_min_messages=info",
    "log_min_error_statement=error",
    "log_error_verbosity=default",
    "log_line_prefix=@%n %p [%u] ",
];

const HBA: &str = "local all all trust
host replication all 127.0.0.1/32 trust
hostssl all app_cert all cert
host all app_password all password
host all app_md5 all md5
host all app_scram all scram-sha-256
host all all all trust
";

/// Each masked value is a canary: it stands nowhere else, so finding it in any output is a leak.
const SHOP: &str = r"
CREATE ROLE app LOGIN REPLICATION;
CREATE ROLE app_cert LOGIN IN ROLE app;
CREATE ROLE app_password LOGIN PASSWORD 'canary-password-1' IN ROLE app;
SET password_encryption = 'md5';
CREATE ROLE app_md5 LOGIN PASSWORD 'canary-password-2' IN ROLE app;
SET password_encryption = 'scram-sha-256';
CREATE ROLE app_scram LOGIN PASSWORD 'canary-password-3' IN ROLE app;
ALTER SCHEMA public OWNER TO app;
SET ROLE app;
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, ssn text, phone text, token text, born date, note text);
INSERT INTO customers VALUES
  (1, 'Ada', 'ada.canary@shop.example', 'canary-ssn-1', 'canary-phone-1', 'canary-token-1', '1815-12-10', 'card 4111111111111111'),
  (2, 'Bob', 'bob.canary@shop.example', 'canary-ssn-2', 'canary-phone-2', 'canary-token-2', '1901-02-03', 'key AKIAIOSFODNN7EXAMPLE');
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, total numeric);
INSERT INTO orders SELECT n, 1 + n % 2, n * 10 FROM generate_series(1, 10) n;
CREATE TABLE target (id int);
INSERT INTO target VALUES (1), (2), (3);
CREATE FUNCTION wipe() RETURNS void LANGUAGE sql AS 'DELETE FROM target';
RESET ROLE;
";

/// What must never be seen by a client: the start or the whole of each masked value.
impl Postgres {
    /// The canaries in the shop's masked columns.
    pub const CANARIES: [&'static str; 10] = [
        "ada.canary@shop.example",
        "bob.canary@shop.example",
        "canary-ssn",
        "canary-phone",
        "canary-token",
        "1815-12-10",
        "1901-02-03",
        "4111111111111111",
        "AKIAIOSFODNN7EXAMPLE",
        "canary-password",
    ];
}
