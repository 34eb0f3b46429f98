//! The paths that are compared, all standing at once: direct, haproxy, pgbouncer, Holdpoint twice.
//!
//! In clear, or with TLS 1.3 on both sides of whatever is in the middle, but for haproxy: it does not speak PostgreSQL,
//! so it passes on what it cannot read, and shows what that costs.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{sys::signal::Signal, unistd::User};
use tempfile::TempDir;

use super::certificates::Certificates;
use crate::{
    command,
    scene::{Gateway, Postgres, Running, Settings, as_owner, free_port},
};

/// pgbench's scale: 10 is a million rows, which stay in memory.
const SCALE: &str = "10";

/// How many sessions PostgreSQL takes: the memory steps need many at once.
const SESSIONS: &str = "max_connections=1200";

/// What every two that speak TLS must agree on, or unlike things would be compared.
pub(super) const TLS: [&str; 2] = ["TLSv1.3", "TLS_AES_256_GCM_SHA384"];

/// How a client gets to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// Straight.
    Direct,
    /// Through haproxy in TCP mode.
    Haproxy,
    /// Through pgbouncer in session mode.
    Pgbouncer,
    /// Through Holdpoint, reads recorded as `written`.
    Written,
    /// Through Holdpoint, everything recorded as `synced`.
    Synced,
}

impl Path {
    pub(super) const ALL: [Path; 5] = [Path::Direct, Path::Haproxy, Path::Pgbouncer, Path::Written, Path::Synced];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Path::Direct => "direct",
            Path::Haproxy => "haproxy",
            Path::Pgbouncer => "pgbouncer",
            Path::Written => "holdpoint written",
            Path::Synced => "holdpoint synced",
        }
    }
}

/// Everything that has to stand for a measurement.
pub(super) struct Stand {
    pub(super) written: Gateway,
    pub(super) synced: Gateway,
    haproxy: (Running, u16),
    pgbouncer: (Running, u16),
    pub(super) postgres: Postgres,
    /// Whom clients trust, where there is TLS.
    trust: Option<PathBuf>,
    dir: TempDir,
}

impl Stand {
    /// Everything in clear.
    pub(super) fn start() -> Result<Self> {
        Self::standing(directory()?, None)
    }

    /// Everything with TLS, proven.
    pub(super) fn start_with_tls() -> Result<Self> {
        let dir = directory()?;
        let certificates = Certificates::make(dir.path(), &server_owner()?)?;
        let mut stand = Self::standing(dir, Some(&certificates))?;
        stand.trust(&certificates)?;
        Path::ALL.into_iter().try_for_each(|path| stand.prove_tls(path))?;
        Ok(stand)
    }

    fn standing(dir: TempDir, tls: Option<&Certificates>) -> Result<Self> {
        let postgres = postgres(tls)?;
        postgres.sql("postgres", "CREATE ROLE bench LOGIN")?;
        postgres.sql("postgres", "CREATE DATABASE bench OWNER bench")?;
        let mut fill = postgres.tool("pgbench");
        command::output(fill.args(["-i", "-q", "-s", SCALE, "-U", "bench", "bench"])).context("pgbench -i failed")?;
        postgres.sql("bench", "CREATE TABLE probe (id int); ALTER TABLE probe OWNER TO bench")?;
        let haproxy = haproxy(&dir, postgres.port())?;
        let pgbouncer = pgbouncer(&dir, postgres.port(), tls)?;
        let policies = [("bench.yaml", policy(postgres.port(), tls)?)];
        let gateway =
            |name, durability| Gateway::start(&Settings { name, policies: &policies, durability, console: false });
        let (written, synced) = (gateway("bench-written", "written")?, gateway("bench-synced", "synced")?);
        Ok(Self { written, synced, haproxy, pgbouncer, postgres, trust: None, dir })
    }

    /// Lets clients trust the bench's authority and both gateways' own.
    fn trust(&mut self, certificates: &Certificates) -> Result<()> {
        let mut all = fs::read_to_string(certificates.ca())?;
        for gateway in [&self.written, &self.synced] {
            let config = gateway.config().to_string_lossy().into_owned();
            all.push_str(&command::output(&mut gateway.talk(&["trust", "--config", &config]))?);
        }
        let file = self.dir.path().join("trust.pem");
        fs::write(&file, all)?;
        self.trust = Some(file);
        Ok(())
    }

    /// Fails unless the client and the database both say that they speak TLS as all others do.
    fn prove_tls(&self, path: Path) -> Result<()> {
        let psql = self.postgres.tool("psql").get_program().to_string_lossy().into_owned();
        let port = self.port(path).to_string();
        let words = [&psql, "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", &port, "-U", "bench", "-d", "bench"];
        let ask = ["-c", "\\conninfo", "-c", "SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"];
        let words: Vec<String> = words.iter().chain(&ask).map(|word| (*word).to_owned()).collect();
        let said = command::output(&mut self.client(path, &words)).context(path.as_str())?;
        // Once by the client of its side, once by the database of its own.
        if TLS.iter().any(|word| said.matches(word).count() != 2) {
            bail!("{}: not {} on both sides, so nothing can be compared:\n{said}", path.as_str(), TLS.join(" "));
        }
        Ok(())
    }

    /// Whether the paths have TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.trust.is_some()
    }

    /// A client's command line on `path`; the client always believes that it talks to `port(path)`.
    pub(super) fn client(&self, path: Path, words: &[String]) -> Command {
        let mut command = match path {
            Path::Written => self.written.exec("bench", words),
            Path::Synced => self.synced.exec("bench", words),
            Path::Direct | Path::Haproxy | Path::Pgbouncer => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]).current_dir("/");
                command
            }
        };
        match &self.trust {
            Some(trust) => command.env("PGSSLMODE", "verify-ca").env("PGSSLROOTCERT", trust),
            // Left to itself libpq takes TLS where it is offered, which only the gateway would do.
            None => command.env("PGSSLMODE", "disable"),
        };
        command.stdin(Stdio::null());
        command
    }

    /// Where the client is told to connect: guarded clients are told the database's own address.
    pub(super) fn port(&self, path: Path) -> u16 {
        match path {
            Path::Haproxy => self.haproxy.1,
            Path::Pgbouncer => self.pgbouncer.1,
            Path::Direct | Path::Written | Path::Synced => self.postgres.port(),
        }
    }

    /// The process in the middle.
    pub(super) fn proxy(&self, path: Path) -> Option<u32> {
        match path {
            Path::Direct => None,
            Path::Haproxy => Some(self.haproxy.0.pid()),
            Path::Pgbouncer => Some(self.pgbouncer.0.pid()),
            Path::Written => Some(self.written.pid()),
            Path::Synced => Some(self.synced.pid()),
        }
    }

    /// Puts every server on these processors (`taskset`'s list), threads and future children included.
    pub(super) fn pin(&self, processors: &str) -> Result<()> {
        let proxies = Path::ALL.into_iter().filter_map(|path| self.proxy(path));
        pin(proxies.chain([self.postgres.pid()]), processors)
    }

    /// Fails if a gateway did not survive the bench or does not end well.
    pub(super) fn close(&mut self) -> Result<()> {
        for gateway in [&mut self.written, &mut self.synced] {
            gateway.alive()?;
            gateway.stop()?;
        }
        Ok(())
    }
}

/// Puts processes on these processors (`taskset`'s list), threads and future children included.
pub(super) fn pin(mut pids: impl Iterator<Item = u32>, processors: &str) -> Result<()> {
    let one = |pid: u32| {
        let mut taskset = Command::new("taskset");
        command::output(taskset.args(["-a", "-c", "-p", processors, &pid.to_string()])).map(drop)
    };
    pids.try_for_each(one)
}

fn directory() -> Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("holdpoint-bench-").tempdir()?;
    // Servers that refuse root must read their files.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

/// Who PostgreSQL and pgbouncer run as.
fn server_owner() -> Result<User> {
    User::from_name("postgres")?.context("there is no user `postgres`; run `cargo xtask setup`")
}

/// Where there is TLS, the server takes nothing else from `bench`.
fn postgres(tls: Option<&Certificates>) -> Result<Postgres> {
    let buffers = "shared_buffers=256MB";
    let Some(tls) = tls else { return Postgres::start("host all all samehost trust", &[SESSIONS, buffers]) };
    let (certificate, key) = (format!("ssl_cert_file={}", tls.certificate()), format!("ssl_key_file={}", tls.key()));
    let options = [SESSIONS, buffers, "ssl=on", "ssl_min_protocol_version=TLSv1.3", &certificate, &key];
    Postgres::start("hostssl all all samehost trust", &options)
}

/// What pgbench runs into is what a user would have: reads allowed after every rule was looked at, a mask elsewhere.
fn policy(port: u16, tls: Option<&Certificates>) -> Result<String> {
    let user =
        User::from_uid(nix::unistd::getuid())?.context("the user who runs this has no name on this machine")?.name;
    let tls = tls.map(|tls| format!("tls: {{ client: required, upstream: verify-full, ca: {} }}\n", tls.ca()));
    let tls = tls.unwrap_or_default();
    Ok(format!(
        "resource: bench
protocol: postgres
endpoints: [\"127.0.0.1:{port}\"]
{tls}default: allow
approval:
  from: [{{ user: {user} }}]
  timeout: 15m
mask:
  - {{ column: \"public.customers.email\", with: partial }}
---
policy: schema-changes
match:
  resource: bench
  effects: [schema, privilege, admin]
decide: hold
approval:
  from: [{{ user: {user} }}]
  timeout: 15m
---
policy: deletes
match:
  resource: bench
  effects: [delete]
decide: hold
approval:
  from: [{{ user: {user} }}]
  timeout: 15m
"
    ))
}

pub(super) fn haproxy(dir: &TempDir, to: u16) -> Result<(Running, u16)> {
    let (program, port) = (program("haproxy")?, free_port()?);
    let file = dir.path().join("haproxy.cfg");
    let text = format!(
        "global\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
         listen pg\n  bind 127.0.0.1:{port}\n  server pg 127.0.0.1:{to}\n"
    );
    fs::write(&file, text)?;
    let mut command = Command::new(program);
    command.args(["-db", "-f"]).arg(&file);
    started("haproxy", dir, Signal::SIGUSR1, command, port)
}

fn pgbouncer(dir: &TempDir, to: u16, tls: Option<&Certificates>) -> Result<(Running, u16)> {
    let (program, port) = (program("pgbouncer")?, free_port()?);
    let owner = server_owner()?;
    let file = dir.path().join("pgbouncer.ini");
    let users = dir.path().join("users.txt");
    fs::write(&users, "\"bench\" \"\"\n")?;
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={to}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = session\nmax_client_conn = 1000\n\
         default_pool_size = 500\nlog_connections = 0\nlog_disconnections = 0\nstats_period = 3600\n\
         server_idle_timeout = 2\n{}",
        users.display(),
        tls.map(pgbouncer_tls).unwrap_or_default()
    );
    fs::write(&file, text)?;
    let mut command = as_owner(&program, Some(&owner));
    command.arg("-q").arg(&file).current_dir(dir.path());
    started("pgbouncer", dir, Signal::SIGTERM, command, port)
}

fn pgbouncer_tls(tls: &Certificates) -> String {
    format!(
        "client_tls_sslmode = require\nclient_tls_protocols = tlsv1.3\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n\
         server_tls_sslmode = verify-full\nserver_tls_protocols = tlsv1.3\nserver_tls_ca_file = {}\n",
        tls.certificate(),
        tls.key(),
        tls.ca()
    )
}

fn started(name: &str, dir: &TempDir, polite: Signal, mut command: Command, port: u16) -> Result<(Running, u16)> {
    let mut running = Running::start(name, &dir.path().join(format!("{name}.log")), polite, &mut command)?;
    running.until(Duration::from_secs(10), |_| Ok(TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(())))?;
    Ok((running, port))
}

fn program(name: &str) -> Result<PathBuf> {
    match command::which(name) {
        Some(path) => Ok(path),
        None => bail!("{name} is not installed; `apt-get install {name}` brings what Holdpoint is measured beside"),
    }
}
