//! The paths that are compared, all standing at once: direct, haproxy, pgbouncer, Holdpoint twice.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{sys::signal::Signal, unistd::User};
use tempfile::TempDir;

use crate::{
    command,
    scene::{Gateway, Postgres, Running, Settings, as_owner, free_port},
};

/// pgbench's scale: 10 is a million rows, which stay in memory.
const SCALE: &str = "10";

/// How many sessions PostgreSQL takes: the memory steps need many at once.
const SESSIONS: &str = "max_connections=1200";

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
    _dir: TempDir,
}

impl Stand {
    pub(super) fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("holdpoint-bench-").tempdir()?;
        let postgres = Postgres::start("host all all samehost trust", &[SESSIONS, "shared_buffers=256MB"])?;
        postgres.sql("postgres", "CREATE ROLE bench LOGIN")?;
        postgres.sql("postgres", "CREATE DATABASE bench OWNER bench")?;
        let mut fill = postgres.tool("pgbench");
        command::output(fill.args(["-i", "-q", "-s", SCALE, "-U", "bench", "bench"])).context("pgbench -i failed")?;
        postgres.sql("bench", "CREATE TABLE probe (id int); ALTER TABLE probe OWNER TO bench")?;
        let haproxy = haproxy(&dir, postgres.port())?;
        let pgbouncer = pgbouncer(&dir, postgres.port())?;
        let policies = [("bench.yaml", policy(postgres.port())?)];
        let gateway = |name, durability| Gateway::start(&Settings { name, policies: &policies, durability });
        let (written, synced) = (gateway("bench-written", "written")?, gateway("bench-synced", "synced")?);
        Ok(Self { written, synced, haproxy, pgbouncer, postgres, _dir: dir })
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
        for pid in proxies.chain([self.postgres.pid()]) {
            command::output(Command::new("taskset").args(["-a", "-c", "-p", processors, &pid.to_string()]))?;
        }
        Ok(())
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

/// What pgbench runs into is what a user would have: reads allowed after every rule was looked at, a mask elsewhere.
fn policy(port: u16) -> Result<String> {
    let user =
        User::from_uid(nix::unistd::getuid())?.context("the user who runs this has no name on this machine")?.name;
    Ok(format!(
        "resource: bench
protocol: postgres
endpoints: [\"127.0.0.1:{port}\"]
default: allow
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

fn haproxy(dir: &TempDir, to: u16) -> Result<(Running, u16)> {
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

fn pgbouncer(dir: &TempDir, to: u16) -> Result<(Running, u16)> {
    let (program, port) = (program("pgbouncer")?, free_port()?);
    let owner = User::from_name("postgres")?.context("there is no user `postgres`; run `cargo xtask setup`")?;
    let file = dir.path().join("pgbouncer.ini");
    let users = dir.path().join("users.txt");
    fs::write(&users, "\"bench\" \"\"\n")?;
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={to}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = session\nmax_client_conn = 1000\n\
         default_pool_size = 500\nlog_connections = 0\nlog_disconnections = 0\nstats_period = 3600\n\
         server_idle_timeout = 2\n",
        users.display()
    );
    fs::write(&file, text)?;
    // pgbouncer refuses root, and must read its files.
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut command = as_owner(&program, Some(&owner));
    command.arg("-q").arg(&file).current_dir(dir.path());
    started("pgbouncer", dir, Signal::SIGTERM, command, port)
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
