//! A throw-away PostgreSQL: its own data directory, its own port, gone when dropped.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{sys::signal::Signal, unistd::User};
use tempfile::TempDir;

use super::{Running, free_port};
use crate::command;

/// A running server on a loopback port. The user `postgres` owns it and gets in by trust; `pg_hba` decides on others.
pub(crate) struct Postgres {
    // Before the directory, so that the server is gone when its files go.
    server: Running,
    bin: PathBuf,
    port: u16,
    _dir: TempDir,
}

impl Postgres {
    /// Makes a cluster and starts it. `hba` are the lines for loopback TCP, above all else.
    pub(crate) fn start(hba: &str, options: &[&str]) -> Result<Self> {
        let bin = newest_bin()?;
        let owner = owner()?;
        let dir = tempfile::Builder::new().prefix("holdpoint-pg-").tempdir().context("cannot make a directory")?;
        // The owner of the server must be able to pass through to its own part of it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let data = dir.path().join("data");
        fs::create_dir(&data)?;
        if let Some(owner) = &owner {
            std::os::unix::fs::chown(&data, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        }

        let mut initdb = as_owner(&bin.join("initdb"), owner.as_ref());
        initdb.current_dir(&data).args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        command::output(initdb.args(["--no-sync", "-D"]).arg(&data)).context("cannot make a database cluster")?;
        fs::write(data.join("pg_hba.conf"), format!("local all all trust\nhost all postgres samehost trust\n{hba}\n"))?;

        let port = free_port()?;
        let mut postgres = as_owner(&bin.join("postgres"), owner.as_ref());
        postgres.current_dir(&data).arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"]);
        postgres.arg(&data).args(options.iter().flat_map(|option| ["-c", option]));
        // SIGINT is PostgreSQL's fast shutdown: sessions are ended, data is kept whole.
        let server = Running::start("PostgreSQL", &dir.path().join("log"), Signal::SIGINT, &mut postgres)?;
        let mut this = Self { server, bin, port, _dir: dir };
        this.wait()?;
        Ok(this)
    }

    /// The TCP port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Its major version, for people.
    pub(crate) fn version(&self) -> String {
        self.bin.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Runs `sql` as the superuser, past every gateway, and returns unaligned rows.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = self.tool("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql]);
        Ok(command::output(&mut psql)?.trim_end().to_owned())
    }

    /// A client program of the same version, pointed at this server.
    pub(crate) fn tool(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut tool = Command::new(if path.exists() { path } else { name.into() });
        tool.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGCONNECT_TIMEOUT", "10");
        tool.stdin(Stdio::null());
        tool
    }

    fn wait(&mut self) -> Result<()> {
        let mut ready = self.tool("pg_isready");
        ready.stdout(Stdio::null()).stderr(Stdio::null());
        let up = |_: &Running| Ok(ready.status().context("cannot start pg_isready")?.success().then_some(()));
        self.server.until(Duration::from_secs(60), up)
    }
}

/// A user that PostgreSQL starts as: it refuses root. `None`: as we are.
fn owner() -> Result<Option<User>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    match User::from_name("postgres").context("cannot read the user database")? {
        Some(user) => Ok(Some(user)),
        None => bail!("there is no user `postgres`; run `cargo xtask setup`, which installs PostgreSQL"),
    }
}

/// `program` as `owner`, with nothing of root's surroundings that it could trip over.
pub(crate) fn as_owner(program: &Path, owner: Option<&User>) -> Command {
    let mut command = Command::new(program);
    if let Some(owner) = owner {
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw()).env("HOME", "/nonexistent");
    }
    command.env("LC_ALL", "C");
    command
}

/// The newest installed server's programs.
fn newest_bin() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    if let Some((_, bin)) = found.pop() {
        return Ok(bin);
    }
    match command::which("initdb") {
        Some(initdb) => Ok(initdb.parent().expect("a found file has a directory").to_owned()),
        None => bail!("no PostgreSQL server is installed; run `cargo xtask setup`"),
    }
}
