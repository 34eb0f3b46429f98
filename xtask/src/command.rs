//! Running other programs and saying what failed: the one place where `xtask` starts cargo, a tool or itself.
//!
//! Everything is built with the workspace's one profile and with the whole workspace selected, because cargo chooses
//! features per selection: another selection would compile the heavy dependencies a second time.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    interrupt, paths,
    run::{self, words},
};

/// The directory with the binaries that cargo built.
pub(crate) fn binaries() -> PathBuf {
    paths::target().join("debug")
}

/// The gateway's binary, which `cargo xtask build` makes.
pub(crate) fn holdpoint() -> Result<PathBuf> {
    let path = binaries().join("holdpoint");
    if !path.exists() {
        bail!("{} does not exist; build it with `cargo xtask build`", path.display());
    }
    Ok(path)
}

/// Cargo, building into the common target directory, asking nothing.
pub(crate) fn cargo() -> Command {
    let mut cargo = run::cargo();
    cargo.stdin(Stdio::null());
    cargo
}

/// This very program with another subcommand, so that one command is made of others.
pub(crate) fn xtask(subcommand: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot tell where xtask itself lies")?);
    command.arg(subcommand).current_dir(paths::root()).stdin(Stdio::null());
    Ok(command)
}

/// Refuses to go on without root, naming the command that works.
pub(crate) fn need_root(subcommand: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "`cargo xtask {subcommand}` loads eBPF programs, makes cgroups and installs packages, so it needs root; \
         run `sudo -E env \"PATH=$PATH\" cargo xtask {subcommand}`"
    )
}

/// Where `program` is, on `PATH` or in the places where Debian keeps daemons.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(daemons).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Runs `command` with our own terminal.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", words(command)))?;
    interrupt::check()?;
    ended(command, status, "")
}

/// Runs `command` and returns what it wrote to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", words(command)))?;
    interrupt::check()?;
    ended(command, output.status, &String::from_utf8_lossy(&output.stderr))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` behind a progress line; its output is shown only when it fails.
///
/// `hint` turns one line of the output into what the progress line says.
pub(crate) fn run_quietly(command: &mut Command, what: &str, hint: fn(&str) -> Option<String>) -> Result<()> {
    let progress = Progress::start(what);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", words(command)))?;
    let (lines, received) = mpsc::channel();
    forward_lines(child.stdout.take().expect("stdout is piped"), lines.clone());
    forward_lines(child.stderr.take().expect("stderr is piped"), lines);

    let mut kept = Vec::new();
    let status = loop {
        while let Ok(line) = received.recv_timeout(Duration::from_millis(100)) {
            hint(&line).into_iter().for_each(|hint| progress.say(&hint));
            kept.push(line);
        }
        if interrupt::check().is_err() {
            let _ = child.kill();
        }
        progress.beat();
        if let Some(status) = child.try_wait()? {
            break status;
        }
    };
    kept.extend(received.try_iter());
    progress.finish(status.success());
    interrupt::check()?;
    let tail = kept[kept.len().saturating_sub(40)..].join("\n");
    ended(command, status, &tail)
}

/// What cargo's lines say about a build's progress.
pub(crate) fn cargo_hint(line: &str) -> Option<String> {
    let (verb, rest) = line.trim().split_once(' ')?;
    let name = rest.split_whitespace().next()?;
    match verb {
        "Compiling" if name == "librocksdb-sys" => {
            Some("RocksDB (C++): about 12 minutes on two cores, the first time only".to_owned())
        }
        "Compiling" | "Checking" | "Downloading" | "Downloaded" => Some(format!("{} {name}", verb.to_lowercase())),
        _ => None,
    }
}

/// Sends every line that `from` yields, from a thread of its own, until the end.
pub(crate) fn forward_lines(from: impl Read + Send + 'static, to: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            if to.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    });
}

fn ended(command: &Command, status: ExitStatus, tail: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let tail = tail.trim_end();
    let separator = if tail.is_empty() { "" } else { "\n" };
    bail!("{} failed ({status}){separator}{tail}", words(command))
}

/// A line that says what is going on: a spinner on a terminal, one plain line a minute elsewhere.
struct Progress {
    bar: ProgressBar,
    what: String,
    began: Instant,
    said: std::cell::Cell<(u64, u64)>,
    last: std::cell::RefCell<String>,
    /// Messages at the last beat: where none came since, what was begun before is still going on.
    at_last_beat: std::cell::Cell<u64>,
    rocksdb: std::cell::Cell<bool>,
}

impl Progress {
    fn start(what: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("  {spinner} {prefix} · {elapsed} · {wide_msg}");
        bar.set_style(style.expect("the template is a constant and valid"));
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        if bar.is_hidden() {
            println!("  {what} …");
        }
        Self {
            bar,
            what: what.to_owned(),
            began: Instant::now(),
            said: Default::default(),
            last: Default::default(),
            at_last_beat: Default::default(),
            rocksdb: Default::default(),
        }
    }

    fn say(&self, message: &str) {
        let (minute, count) = self.said.get();
        self.said.set((minute, count + 1));
        self.rocksdb.set(self.rocksdb.get() || message.starts_with("RocksDB"));
        *self.last.borrow_mut() = format!("{message} ({})", count + 1);
        self.bar.set_message(self.last.borrow().clone());
    }

    fn beat(&self) {
        let minute = self.began.elapsed().as_secs() / 60;
        let (said, count) = self.said.get();
        if minute > said {
            self.said.set((minute, count));
            let quiet = self.at_last_beat.replace(count) == count;
            if self.bar.is_hidden() && quiet && self.rocksdb.get() {
                println!("  {} … {minute} min, RocksDB (C++) is still compiling", self.what);
            } else if self.bar.is_hidden() {
                println!("  {} … {minute} min, {}", self.what, self.last.borrow());
            }
        }
    }

    fn finish(&self, well: bool) {
        let hidden = self.bar.is_hidden();
        self.bar.finish_and_clear();
        let took = self.began.elapsed();
        if well && (!hidden || took.as_secs() >= 60) {
            println!("  {} · done in {:.0} s", self.what, took.as_secs_f64());
        }
    }
}
