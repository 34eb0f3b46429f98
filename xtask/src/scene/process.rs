//! A child process that ends with its owner, whatever happens.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{interrupt, run::words};

/// A long-lived child with its output in a file. Dropping it stops it.
pub(crate) struct Running {
    child: Child,
    name: String,
    log: PathBuf,
    /// What asks it to stop.
    polite: Signal,
    /// How long it may take.
    patience: Duration,
}

impl Running {
    /// Starts `command` in a process group of its own, so that Ctrl-C reaches only us and we stop things in order.
    pub(crate) fn start(name: &str, log: &Path, polite: Signal, command: &mut Command) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let stderr = file.try_clone().context("cannot copy a file descriptor")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", words(command)))?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned(), polite, patience: Duration::from_secs(20) })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub(crate) fn written(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Fails, with the end of its output, if it is no longer there.
    pub(crate) fn alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status}); its last words:\n{}", self.name, self.last_words()),
        }
    }

    /// Waits until `ready` answers, while it lives.
    pub(crate) fn until<T>(&mut self, limit: Duration, mut ready: impl FnMut(&Self) -> Result<Option<T>>) -> Result<T> {
        let what = format!("{} getting ready", self.name);
        let answer = interrupt::eventually(&what, limit, || {
            self.alive()?;
            ready(self)
        });
        answer.with_context(|| format!("{} wrote:\n{}", self.name, self.last_words()))
    }

    /// Asks it to stop, and ends it when it does not.
    ///
    /// # Errors
    /// It had to be killed.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit an i32"));
        let _ = kill(pid, self.polite);
        // Not `interrupt::eventually`: stopping goes on after an interruption.
        let end = Instant::now() + self.patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            interrupt::breathe(Duration::MAX);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        bail!("{} did not stop within {} s and was killed", self.name, self.patience.as_secs())
    }

    fn last_words(&self) -> String {
        let written = self.written();
        let lines: Vec<_> = written.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
    }
}
