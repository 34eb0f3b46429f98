//! Commands of others, run where somebody watches.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use crate::paths;

/// This workspace's cargo, building into the common target directory.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root()).env("CARGO_TARGET_DIR", paths::target());
    cargo
}

/// Runs `command` with its output shown.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let words = words(command);
    let status = command.status().with_context(|| format!("cannot run `{words}`"))?;
    if !status.success() {
        bail!("`{words}` failed ({status})");
    }
    Ok(())
}

/// Runs `command` under a `title` with the time that passes; its output is shown only when it fails.
pub(crate) fn step(title: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    let progress = ProgressBar::new_spinner().with_message(title.to_owned());
    progress.enable_steady_tick(Duration::from_millis(120));
    let words = words(command);
    let ended = command.stdin(Stdio::null()).output();
    progress.finish_and_clear();
    let output = ended.with_context(|| format!("cannot run `{words}`"))?;
    if !output.status.success() {
        eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{title}: `{words}` failed ({})", output.status);
    }
    eprintln!("{title}: done in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// What `command` prints; `None` when it is not there or fails.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The command line, to be shown.
pub(crate) fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
