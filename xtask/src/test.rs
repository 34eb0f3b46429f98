//! `cargo xtask test`: everything, set-up included; `cargo xtask test-root [FILTER]`: the tests that need the kernel.
//!
//! Test programs are built once for the whole workspace and then run one by one, so that the tests that need root
//! stand apart without a second build. Each prints to our own terminal; their closing lines are repeated at the end,
//! with one line alone that sums them up.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::Value;

use crate::{command, fuzz, interrupt, package, paths, run::words, tidy, tools};

/// The package whose tests load eBPF programs and start real servers.
const ROOT_PACKAGE: &str = "tests";

/// Longer than any test program takes on a slow machine.
const LONGEST_RUN: Duration = Duration::from_secs(30 * 60);

/// How long a program may take to end once it has closed its output.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// How long all fuzz targets together run.
const FUZZ_SMOKE: Duration = Duration::from_secs(60);

/// Run everything: set-up, format, lints, house rules, unit tests, policies, root tests, fuzz smoke, demo
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Take the machine's packages and tools as they are
    #[arg(long)]
    no_setup: bool,
}

/// Run the tests that need root: real kernel hooks, real PostgreSQL, real clients
#[derive(clap::Args)]
pub(crate) struct RootArgs {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// Further words for the test runner, after `--`
    #[arg(last = true)]
    words: Vec<String>,
}

/// Runs every stage, also after one has failed, so that one run says all.
///
/// # Errors
/// A stage failed; the lines above say which.
pub(crate) fn run(args: &Args) -> Result<()> {
    command::need_root("test")?;
    interrupt::watch()?;
    let mut report = Report::default();
    if !args.no_setup {
        report.stage("setup", |_| command::show(&mut command::xtask("setup")?))?;
    }
    report.stage("fmt", |_| command::show(command::cargo().args(["fmt", "--all", "--check"])))?;
    report.stage("tidy", |_| tidy::run(&tidy::Args {}))?;
    report.stage("deny", |_| deny())?;
    report.stage("build", |_| command::show(&mut command::xtask("build")?))?;
    report.stage("tools", |_| tools::run(&tools::Args {}))?;
    report.stage("packages", |_| packages())?;
    report.stage("clippy", |_| clippy())?;
    let mut programs = Vec::new();
    report.stage("build tests", |_| build_tests().map(|built| programs = built))?;
    let (root, unit): (Vec<_>, Vec<_>) = programs.iter().partition(|program| program.package == ROOT_PACKAGE);
    report.stage("unit tests", |counts| run_all(&unit, &[], counts))?;
    report.stage("doc tests", doc_tests)?;
    report.stage("policies", |_| policies())?;
    report.stage("root tests", |counts| run_all(&root, &[], counts))?;
    report.stage("fuzz smoke", |_| fuzz::smoke(FUZZ_SMOKE))?;
    report.stage("demo", |_| command::show(command::xtask("demo")?.args(["--yes", "--no-build"])))?;
    report.stage("demo, browser", |_| demo_in_a_browser())?;
    report.close()
}

/// Runs the root tests alone, building what they need.
///
/// # Errors
/// Not root, something does not build, or a test fails.
pub(crate) fn run_root(args: &RootArgs) -> Result<()> {
    command::need_root("test-root")?;
    interrupt::watch()?;
    command::show(&mut command::xtask("build")?)?;
    tools::run(&tools::Args {})?;
    packages()?;
    let programs = build_tests()?;
    let root: Vec<_> = programs.iter().filter(|program| program.package == ROOT_PACKAGE).collect();
    let words: Vec<_> = args.filter.iter().chain(&args.words).map(String::as_str).collect();
    let mut report = Report::default();
    report.stage("root tests", |counts| run_all(&root, &words, counts))?;
    report.close()
}

/// The demo as somebody at a desktop has it: what opens its link there is a browser of the tests' own, and nothing but what
/// is pressed in it releases the statement.
fn demo_in_a_browser() -> Result<()> {
    let desktop = paths::root().join("tests/console/desktop");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut demo = command::xtask("demo")?;
    demo.arg("--no-build")
        .env("PATH", format!("{}:{path}", desktop.display()))
        .env("DISPLAY", ":none")
        .env("HOLDPOINT_BROWSER", paths::cache().join("browser"))
        .env_remove("SUDO_USER");
    let said = command::output(&mut demo)?;
    print!("{said}");
    ensure!(said.contains("xdg-open has opened the console"), "the demo opened no browser");
    Ok(())
}

/// What ran, how long it took, how it ended.
#[derive(Default)]
struct Report {
    stages: Vec<(&'static str, Duration, Option<String>)>,
    counts: Counts,
}

/// What the test runners said.
#[derive(Default)]
struct Counts {
    closing: Vec<String>,
    passed: u64,
    failed: u64,
}

impl Report {
    /// Runs one stage. Only an interruption ends the whole run.
    fn stage(&mut self, name: &'static str, work: impl FnOnce(&mut Counts) -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let began = Instant::now();
        let failed_before = self.counts.failed;
        let ended = work(&mut self.counts);
        interrupt::check()?;
        if let Err(error) = &ended {
            println!("{name} failed: {error:#}");
            // A failed stage counts as one failure, unless its tests were counted: the last line must not say 0.
            self.counts.failed += u64::from(self.counts.failed == failed_before);
        }
        self.stages.push((name, began.elapsed(), ended.err().map(|error| first_line(&error))));
        Ok(())
    }

    /// Prints the table, the runners' closing lines, and the sum alone on the last line.
    fn close(self) -> Result<()> {
        println!("\n{:<14} {:>8}  result", "stage", "time");
        for (name, took, failure) in &self.stages {
            let result = failure.as_ref().map_or("ok".to_owned(), |failure| format!("FAILED: {failure}"));
            println!("{name:<14} {:>6.0} s  {result}", took.as_secs_f64());
        }
        println!();
        self.counts.closing.iter().for_each(|line| println!("{line}"));
        println!("{} passed, {} failed", self.counts.passed, self.counts.failed);
        std::io::stdout().flush()?;
        if self.stages.iter().any(|(_, _, failure)| failure.is_some()) {
            // Said already, and the sum must stay the last line.
            #[expect(
                clippy::disallowed_methods,
                reason = "nothing is left to drop, and an error would print after the sum"
            )]
            std::process::exit(1);
        }
        Ok(())
    }
}

impl Counts {
    /// Takes in a line of `cargo test`'s runner, if it is a closing one.
    fn read(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        let number = |word: &str| -> u64 {
            let before = rest.split(word).next().unwrap_or_default();
            before
                .split(|c: char| !c.is_ascii_digit())
                .rfind(|part| !part.is_empty())
                .map_or(0, |n| n.parse().unwrap_or(0))
        };
        self.passed += number(" passed");
        self.failed += number(" failed");
        self.closing.push(line.to_owned());
    }
}

fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().chars().take(100).collect()
}

/// A test program that cargo built.
struct Program {
    package: String,
    name: String,
    path: PathBuf,
    manifest_dir: PathBuf,
}

/// Builds every test of the workspace and says where they are.
fn build_tests() -> Result<Vec<Program>> {
    let mut build = command::cargo();
    build.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    let mut child = build.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let programs = lines.map_while(Result::ok).filter_map(|line| program(&line)).collect();
    interrupt::check()?;
    if !child.wait()?.success() {
        bail!("the tests do not build");
    }
    Ok(programs)
}

/// A test program, if that is what cargo's message is about.
fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let manifest_dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    Some(Program {
        package: manifest_dir.file_name()?.to_str()?.to_owned(),
        name: message["target"]["name"].as_str()?.to_owned(),
        path: message["executable"].as_str()?.into(),
        manifest_dir,
    })
}

fn run_all(programs: &[&Program], words: &[&str], counts: &mut Counts) -> Result<()> {
    let mut failed = Vec::new();
    for program in programs {
        println!("\n-- {} {}", program.package, program.name);
        let mut run = Command::new(&program.path);
        run.args(words).current_dir(&program.manifest_dir).stdin(Stdio::null());
        // What cargo itself sets for a test program.
        run.env("CARGO_MANIFEST_DIR", &program.manifest_dir).env("CARGO_PKG_NAME", &program.package);
        run.env("CARGO", command::cargo().get_program());
        let well = tee(&mut run, counts);
        interrupt::check()?;
        if let Err(error) = &well {
            println!("{error:#}");
        }
        if !well.unwrap_or(false) {
            failed.push(format!("{} {}", program.package, program.name));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// Runs a test program with its output on our terminal, and reads its closing lines on the way.
///
/// One that hangs is killed, so that the run as a whole ends and says so.
fn tee(run: &mut Command, counts: &mut Counts) -> Result<bool> {
    run.stdout(Stdio::piped()).process_group(0);
    let mut child = run.spawn().with_context(|| format!("cannot start {}", words(run)))?;
    let (lines, received) = mpsc::channel();
    command::forward_lines(child.stdout.take().expect("stdout is piped"), lines);
    let deadline = Instant::now() + LONGEST_RUN;
    let ended = loop {
        match received.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => {
                println!("{line}");
                counts.read(line.trim_end());
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => {
                break interrupt::eventually("the end", LAST_WORDS, || Ok(child.try_wait()?));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Err(interrupted) = interrupt::check() {
            break Err(interrupted);
        }
        if Instant::now() > deadline {
            break Err(anyhow::anyhow!("it hung: killed after {} min", LONGEST_RUN.as_secs() / 60));
        }
    };
    let group = Pid::from_raw(i32::try_from(child.id()).expect("process ids fit an i32"));
    // What a test left running must not outlive it either.
    let _ended_already = killpg(group, Signal::SIGKILL);
    child.wait()?;
    Ok(ended.with_context(|| words(run))?.success())
}

fn doc_tests(counts: &mut Counts) -> Result<()> {
    let mut doc = command::cargo();
    doc.args(["test", "--workspace", "--doc"]);
    if tee(&mut doc, counts)? { Ok(()) } else { bail!("a documented example does not hold") }
}

fn clippy() -> Result<()> {
    // Every dependency is checked only, never compiled again: build scripts are shared with the build above.
    command::show(command::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn deny() -> Result<()> {
    if command::which("cargo-deny").is_none() {
        println!("cargo-deny is not installed: licences, bans and sources were checked by tidy, from deny.toml");
        return Ok(());
    }
    command::show(command::cargo().args(["deny", "--offline", "check", "licenses", "bans", "sources"]))
}

/// Image and package, which the root tests open.
fn packages() -> Result<()> {
    package::image::run(&package::Args::default())?;
    package::deb::run(&package::Args::default())
}

/// The shipped policies, and the one that the README shows.
fn policies() -> Result<()> {
    let readme = std::fs::read_to_string(paths::root().join("README.md")).context("cannot read README.md")?;
    let example = readme.split_once("```yaml\n").and_then(|(_, after)| after.split_once("```"));
    let (example, _) = example.context("README.md shows no policy")?;
    let shown = tempfile::tempdir().context("cannot make a directory")?;
    std::fs::write(shown.path().join("readme.yaml"), example)?;
    for directory in [&paths::root().join("policies"), shown.path()] {
        for what in ["check", "test"] {
            let mut policy = Command::new(command::holdpoint()?);
            command::show(policy.args(["policy", what]).arg(directory).stdin(Stdio::null()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Counts, program};

    #[test]
    fn sums_up_closing_lines() {
        let mut counts = Counts::default();
        counts.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s");
        counts.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.0s");
        counts.read("test judge::tests::x ... ok");
        assert_eq!((counts.passed, counts.failed, counts.closing.len()), (15, 2, 2));
    }

    #[test]
    fn knows_test_programs_among_messages() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/x/tests/Cargo.toml","target":{"name":"hold"},
            "profile":{"test":true},"executable":"/x/target/hold-1"}"#;
        let program = program(message).expect("a test program");
        assert_eq!((program.package.as_str(), program.name.as_str()), ("tests", "hold"));
        assert!(super::program(r#"{"reason":"build-finished"}"#).is_none());
    }
}
