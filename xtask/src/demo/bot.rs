//! The bot: an unmodified `psql` that another user runs, in a guarded cgroup.

use std::{
    os::unix::process::CommandExt,
    process::{Child, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{PASSWORD, Scene};
use crate::{command::forward_lines, interrupt};

/// One run of psql.
pub(super) struct Bot {
    child: Child,
    lines: mpsc::Receiver<String>,
    typed: String,
    seen: Vec<String>,
}

impl Bot {
    /// Starts psql as `nobody` in a guarded cgroup; nothing in its command line knows of a gateway.
    pub(super) fn start(scene: &Scene<'_>, sql: &str) -> Result<Self> {
        let url = format!("postgresql://app:{PASSWORD}@127.0.0.1:{}/shop", scene.postgres.port());
        let words = ["runuser", "-u", "nobody", "--", "psql", "-X", &url, "-c", sql];
        let mut child = scene
            .gateway
            .exec("demo-bot", words)
            .env("PGCONNECT_TIMEOUT", "20")
            .env_remove("PGPASSWORD")
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the bot")?;
        let (sender, lines) = mpsc::channel();
        forward_lines(child.stdout.take().expect("stdout is piped"), sender.clone());
        forward_lines(child.stderr.take().expect("stderr is piped"), sender);
        Ok(Self { child, lines, typed: format!("psql {url} -c '{sql}'"), seen: Vec::new() })
    }

    /// The command as the bot's owner would type it.
    pub(super) fn typed(&self) -> String {
        self.typed.clone()
    }

    /// Waits for the notice that says that the statement waits.
    pub(super) fn notice(&mut self, limit: Duration) -> Result<String> {
        interrupt::eventually("a notice that the statement is held", limit, || {
            while let Ok(line) = self.lines.try_recv() {
                if line.contains("holdpoint") && line.contains("request ") {
                    return Ok(Some(line));
                }
                self.seen.push(line);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the statement was not held: psql ended ({status}) with:\n{}", self.seen.join("\n"));
            }
            Ok(None)
        })
    }

    /// Whether psql still waits for its answer.
    pub(super) fn is_waiting(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for the end; returns how it ended and what psql wrote since it was last asked.
    pub(super) fn finish(&mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let status = interrupt::eventually("the end of psql", limit, || Ok(self.child.try_wait()?))?;
        // Ends when both pipes are closed, which they are now that psql has ended.
        self.seen.extend(self.lines.iter());
        Ok((status, std::mem::take(&mut self.seen).join("\n")))
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let group = i32::try_from(self.child.id()).expect("process ids fit an i32");
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}
