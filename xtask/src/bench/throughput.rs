//! Transactions a second, processor time each costs in the proxy, connections a second.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result, bail};
use nix::unistd::{SysconfVar, sysconf};

use super::paths::{Path, Stand};
use crate::{command, interrupt};

/// pgbench's clients, as in the targets.
pub(super) const CLIENTS: &str = "16";

/// How often and how long.
pub(super) struct Plan {
    pub(super) rounds: usize,
    pub(super) seconds: u64,
}

/// How pgbench asks, and whether everything shares one processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Setting {
    /// pgbench's `-M`.
    pub(super) mode: &'static str,
    /// On one processor, what is measured is work, not how well it spreads.
    pub(super) pinned: bool,
}

impl Setting {
    const ALL: [Setting; 4] = [
        Setting { mode: "simple", pinned: false },
        Setting { mode: "simple", pinned: true },
        Setting { mode: "prepared", pinned: false },
        Setting { mode: "prepared", pinned: true },
    ];
}

/// What one path gave in one setting, run by run: the n-th values of all paths were taken in the same round.
#[derive(Debug, Default, Clone)]
pub(super) struct Series {
    /// Transactions a second.
    pub(super) tps: Vec<f64>,
    /// Processor time in the proxy for each transaction, µs.
    pub(super) cpu: Vec<f64>,
}

/// All series, in the order of [`Path::ALL`].
pub(super) type Throughput = BTreeMap<Setting, Vec<Series>>;

pub(super) fn measure(stand: &Stand, plan: &Plan) -> Result<Throughput> {
    let mut all = Throughput::new();
    let mut left = Setting::ALL.len() * plan.rounds * 2 * Path::ALL.len();
    for setting in Setting::ALL {
        stand.pin(&processors(setting.pinned))?;
        let series = all.entry(setting).or_insert_with(|| vec![Series::default(); Path::ALL.len()]);
        // Not measured: fills caches, and is where a path that does not work says so.
        Path::ALL.into_iter().try_for_each(|path| pgbench(stand, path, setting, 1).map(drop))?;
        for _ in 0..plan.rounds {
            let forth = 0..Path::ALL.len();
            for at in forth.clone().chain(forth.rev()) {
                interrupt::check()?;
                let (tps, cpu) = pgbench(stand, Path::ALL[at], setting, plan.seconds)?;
                series[at].tps.push(tps);
                series[at].cpu.push(cpu);
                left -= 1;
                eprintln!(
                    "{:>4} to go · -M {:<8} {:<8} {:<17} {tps:>8.0} tps {cpu:>6.1} µs",
                    left,
                    setting.mode,
                    if setting.pinned { "pinned" } else { "unpinned" },
                    Path::ALL[at].as_str()
                );
            }
        }
    }
    stand.pin(&processors(false))?;
    Ok(all)
}

/// One run of pgbench: transactions a second, and µs of processor time in the proxy for each.
fn pgbench(stand: &Stand, path: Path, setting: Setting, seconds: u64) -> Result<(f64, f64)> {
    let mut words: Vec<String> = Vec::new();
    if setting.pinned {
        words.extend(["taskset", "-c", "0"].map(str::to_owned));
    }
    words.push(stand.postgres.tool("pgbench").get_program().to_string_lossy().into_owned());
    words.extend(["-n", "-S", "-M", setting.mode, "-c", CLIENTS, "-j", "2", "-h", "127.0.0.1"].map(str::to_owned));
    words.extend(["-T".to_owned(), seconds.to_string(), "-p".to_owned(), stand.port(path).to_string()]);
    words.extend(["-U", "bench", "bench"].map(str::to_owned));

    let proxy = stand.proxy(path);
    let before = proxy.map_or(Ok(0.0), cpu_time)?;
    let output =
        command::output(&mut stand.client(path, &words)).with_context(|| format!("pgbench on {}", path.as_str()))?;
    let after = proxy.map_or(Ok(0.0), cpu_time)?;
    let number = |label: &str| -> Result<f64> {
        let after = output.split_once(label).with_context(|| format!("pgbench did not say `{label}`:\n{output}"))?.1;
        let digits: String = after.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        digits.parse().with_context(|| format!("pgbench said no number after `{label}`"))
    };
    let transactions = number("number of transactions actually processed:")?;
    if transactions < 1.0 {
        bail!(
            "no transaction in {seconds} s on {}: the machine is too busy, or the path is stuck:\n{output}",
            path.as_str()
        );
    }
    Ok((number("tps =")?, (after - before) / transactions))
}

/// User and system time of a process and its threads so far, µs.
pub(super) fn cpu_time(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the proxy is gone")?;
    // The name may hold blanks and brackets; the fields count from behind its last bracket, which ends field 2.
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace().collect();
    let ticks = |field: usize| -> Result<f64> { Ok(fields[field - 3].parse()?) };
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel does not say how long a tick is")?;
    #[expect(clippy::cast_precision_loss, reason = "it is 100")]
    let per_second = per_second as f64;
    Ok((ticks(14)? + ticks(15)?) / per_second * 1e6)
}

/// Connections a second on each path: connect, log in, one `SELECT 1`, leave; one after the other.
pub(super) fn connect_rate(stand: &Stand, seconds: u64) -> Result<Vec<f64>> {
    let us = std::env::current_exe()?.to_string_lossy().into_owned();
    let rate = |path: Path| -> Result<f64> {
        let port = stand.port(path).to_string();
        let words = [us.as_str(), "bench", "client", "connect", "--port", &port, "--seconds", &seconds.to_string()];
        let said = command::output(&mut stand.client(path, &words.map(str::to_owned)))?;
        said.trim().parse().with_context(|| format!("the client said `{said}`"))
    };
    Path::ALL.into_iter().map(rate).collect()
}

/// `taskset`'s list of processors.
pub(super) fn processors(pinned: bool) -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    if pinned { "0".to_owned() } else { format!("0-{}", count - 1) }
}

/// What a program says of its version, first line.
pub(super) fn version(program: &str, flag: &str) -> String {
    let Some(path) = command::which(program) else { return "not installed".to_owned() };
    let said = command::output(Command::new(path).arg(flag)).unwrap_or_default();
    said.lines().next().unwrap_or_default().to_owned()
}
