//! A throw-away gateway: `holdpoint run` with its own settings, record, socket, cgroup and bpf file system.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use tempfile::TempDir;

use super::Running;
use crate::{command, interrupt};

/// What a scene's gateway is told.
pub(crate) struct Settings<'a> {
    /// Its name: the node's, and part of the cgroup's.
    pub(crate) name: &'a str,
    /// Policy files: name, text.
    pub(crate) policies: &'a [(&'a str, String)],
    /// `written` or `synced`.
    pub(crate) durability: &'a str,
    /// Whether it has a console.
    pub(crate) console: bool,
}

/// A gateway that guards connections. Stopping it removes all that it made.
pub(crate) struct Gateway {
    running: Running,
    binary: PathBuf,
    cgroup: Option<PathBuf>,
    bpffs: Option<PathBuf>,
    dir: TempDir,
}

impl Gateway {
    /// Writes the settings and starts `holdpoint run`; returns when guarded connections are served.
    pub(crate) fn start(settings: &Settings<'_>) -> Result<Self> {
        let binary = command::holdpoint()?;
        let dir = tempfile::Builder::new().prefix("holdpoint-").tempdir().context("cannot make a directory")?;
        // A bot that is not root must be able to reach what it is shown; the record itself stays root's.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let policies = dir.path().join("policies");
        fs::create_dir(&policies)?;
        for (name, text) in settings.policies {
            fs::write(policies.join(name), text)?;
        }
        let bpffs = mount_bpffs(&dir.path().join("bpf"))?;
        let guard = format!("holdpoint-{}-{}", settings.name, std::process::id());
        let cgroup = cgroup2_mount()?.join(&guard);
        fs::write(dir.path().join("holdpoint.yaml"), yaml(settings, dir.path(), &guard))?;

        let mut run = Command::new(&binary);
        run.arg("run").arg("--config").arg(dir.path().join("holdpoint.yaml")).env("HOLDPOINT_LOG", "info");
        let running = Running::start("holdpoint run", &dir.path().join("log"), Signal::SIGTERM, &mut run);
        let running = running.inspect_err(|_| unmount(&bpffs))?;
        let mut this = Self { running, binary, cgroup: Some(cgroup), bpffs: Some(bpffs), dir };
        let ready =
            |running: &Running| Ok(running.written().lines().any(|line| line.starts_with("ready ")).then_some(()));
        this.running.until(Duration::from_secs(30), ready)?;
        Ok(this)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The binary that runs.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// The administration socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("run/holdpoint.sock")
    }

    /// Its settings file.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("holdpoint.yaml")
    }

    /// The record's directory.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The policy directory.
    pub(crate) fn policies(&self) -> PathBuf {
        self.dir.path().join("policies")
    }

    /// A guarded command: `holdpoint exec --as name -- words…`.
    pub(crate) fn exec<S: AsRef<OsStr>>(&self, name: &str, words: impl IntoIterator<Item = S>) -> Command {
        let mut exec = Command::new(&self.binary);
        exec.args(["exec", "--as", name, "--config"]).arg(self.config()).arg("--").args(words).stdin(Stdio::null());
        // Where everybody may be: a bot that is not root cannot stay in root's directory.
        exec.current_dir("/");
        exec
    }

    /// A command that talks to the running gateway.
    pub(crate) fn talk(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).env("HOLDPOINT_SOCKET", self.socket()).stdin(Stdio::null());
        command
    }

    /// A command that reads the record.
    pub(crate) fn read(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).env("HOLDPOINT_STATE", self.store()).stdin(Stdio::null());
        command
    }

    /// Fails if it ended by itself.
    pub(crate) fn alive(&mut self) -> Result<()> {
        self.running.alive()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        self.running.written()
    }

    /// Stops it and removes what it made in the kernel: the second call does nothing.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let ended = self.running.stop();
        // The deny in this machine's own network namespace outlives a gateway, as it should.
        let mut uninstall = Command::new(&self.binary);
        uninstall.args(["uninstall", "--config"]).arg(self.config()).stdin(Stdio::null()).stdout(Stdio::null());
        if !uninstall.status().is_ok_and(|status| status.success()) {
            eprintln!("`holdpoint uninstall` failed: a table may be left; `nft list tables` shows it");
        }
        self.bpffs.take().iter().for_each(|path| unmount(path));
        if let Some(cgroup) = self.cgroup.take() {
            remove_cgroup(&cgroup)?;
        }
        let status = ended?;
        if !status.success() {
            bail!("holdpoint run ended with {status}; it wrote:\n{}", self.log());
        }
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.cgroup.is_some()
            && let Err(error) = self.stop()
        {
            eprintln!("{error:#}");
        }
    }
}

fn yaml(settings: &Settings<'_>, dir: &Path, guard: &str) -> String {
    let Settings { name, durability, console, .. } = settings;
    let console = if *console { "console: {listen: \"127.0.0.1:0\"}\n" } else { "" };
    let dir = dir.display();
    format!(
        "node: {name}\nstate: {dir}/state\nrun: {dir}/run\npolicies: {dir}/policies\nbpffs: {dir}/bpf/{guard}\n\
         guard: [{guard}]\nport: 0\ndurability: {durability}\n{console}"
    )
}

/// A bpf file system of our own: it goes with its mount, and every pin in it.
fn mount_bpffs(at: &Path) -> Result<PathBuf> {
    fs::create_dir(at)?;
    mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount a bpf file system on {}", at.display()))?;
    Ok(at.to_owned())
}

fn unmount(path: &Path) {
    if let Err(error) = umount2(path, MntFlags::MNT_DETACH) {
        eprintln!("cannot unmount {}: {error}", path.display());
    }
}

/// Where cgroup v2 is mounted: on hybrid machines not at `/sys/fs/cgroup`.
fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let found =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|field| field.get(2) == Some(&"cgroup2"));
    match found {
        Some(field) => Ok(field[1].into()),
        None => bail!("cgroup v2 is not mounted; `mount -t cgroup2 none /sys/fs/cgroup/unified` mounts it"),
    }
}

/// Removes a cgroup and those below it, once the last process is gone.
fn remove_cgroup(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    let _ = fs::write(path.join("cgroup.kill"), "1");
    // The kernel takes a moment to let go of processes that have just ended.
    let mut tries = 0;
    while let Err(error) = fs::remove_dir(path) {
        tries += 1;
        if tries == 200 {
            return Err(error).with_context(|| format!("cannot remove the cgroup {}", path.display()));
        }
        interrupt::breathe(Duration::MAX);
    }
    Ok(())
}
