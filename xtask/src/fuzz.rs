//! `cargo xtask fuzz TARGET`: coverage-guided fuzzing with libFuzzer, on the stable compiler.
//!
//! Only the workspace's own crates are compiled again, with coverage counters, through `fuzz/rustc-coverage`; RocksDB
//! and every other dependency are those of the normal build. All targets are one program, so that it is linked once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{command, paths};

/// What can be fuzzed; `fuzz/src/main.rs` has the same names.
const TARGETS: [&str; 5] = ["postgres-client", "postgres-backend", "policy", "record", "saml"];

/// Look for inputs that break a parser
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to fuzz
    #[arg(value_parser = TARGETS)]
    target: String,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Fuzzes one target.
///
/// # Errors
/// It does not build, or an input breaks it; the input is kept and named.
pub(crate) fn run(args: &Args) -> Result<()> {
    let program = build()?;
    fuzz(&program, &args.target, Duration::from_secs(args.seconds))
}

/// Fuzzes every target for a share of `time`.
///
/// # Errors
/// It does not build, or an input breaks a target.
pub(crate) fn smoke(time: Duration) -> Result<()> {
    let program = build()?;
    let share = time / u32::try_from(TARGETS.len()).expect("there are few targets");
    TARGETS.into_iter().try_for_each(|target| fuzz(&program, target, share))
}

fn build() -> Result<PathBuf> {
    let mut build = command::cargo();
    // The whole workspace is selected, so that dependencies keep the features that they were built with.
    build.args(["build", "--workspace", "--features", "fuzz/libfuzzer", "--bin", "fuzz"]);
    build.env("RUSTC_WORKSPACE_WRAPPER", paths::root().join("fuzz/rustc-coverage"));
    command::show(&mut build)?;
    Ok(command::binaries().join("fuzz"))
}

fn fuzz(program: &Path, target: &str, time: Duration) -> Result<()> {
    let kept = command::binaries().parent().context("the target directory has no parent")?.join("fuzz").join(target);
    let (corpus, broken) = (kept.join("corpus"), kept.join("broken"));
    fs::create_dir_all(&corpus)
        .and_then(|()| fs::create_dir_all(&broken))
        .context("cannot make the corpus's directory")?;
    let seeds = paths::root().join("fuzz/seeds").join(target);
    println!("fuzz {target}: {} s, corpus in {}", time.as_secs(), corpus.display());

    let mut fuzz = Command::new(program);
    fuzz.env("HOLDPOINT_FUZZ", target).current_dir(paths::root()).stdin(std::process::Stdio::null());
    fuzz.arg(format!("-max_total_time={}", time.as_secs().max(1)))
        .arg(format!("-artifact_prefix={}/", broken.display()));
    // 64 KiB reach every length rule; 2 GiB and 10 s are what no input may cost.
    fuzz.args(["-max_len=65536", "-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1", "-verbosity=0"])
        .arg(&corpus);
    // Where to start from: what people write, and one example of each exchange.
    let seeds = [seeds, paths::root().join("policies")];
    let of_target = |dir: &&PathBuf| dir.is_dir() && (dir.ends_with("policies") == (target == "policy"));
    fuzz.args(seeds.iter().filter(of_target));
    let output = fuzz.output().with_context(|| format!("cannot start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines()
        .filter(|line| line.starts_with("stat::number_of_executed_units"))
        .for_each(|line| println!("  {line}"));
    if !output.status.success() {
        let tail: Vec<_> = said.lines().rev().take(30).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        bail!("{target} breaks; the input is in {}\n{}", broken.display(), tail.join("\n"));
    }
    Ok(())
}
