//! The figures as tables for people and as JSON, and each target beside what was measured.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    latency::Release,
    memory::Memory,
    paths::{Path, Stand, TLS},
    statistics::{Ratio, median, percentile, ratio},
    throughput::{CLIENTS, Plan, Series, Setting, Throughput, version},
};

/// What pgbench said.
pub(super) struct Pgbench {
    pub(super) plan: Plan,
    pub(super) machine: Machine,
    pub(super) throughput: Throughput,
}

/// All that was measured in one run.
pub(super) struct Report {
    pub(super) pgbench: Pgbench,
    pub(super) connect: Vec<f64>,
    pub(super) memory: Memory,
    pub(super) release: Release,
}

/// What it was measured on.
pub(super) struct Machine(Vec<(&'static str, String)>);

impl Machine {
    pub(super) fn read(stand: &Stand) -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let tls =
            if stand.has_tls() { format!("{}, both sides of every path", TLS.join(" ")) } else { "none".to_owned() };
        Ok(Self(vec![
            ("processor", model.map_or("unknown".to_owned(), |(_, model)| model.to_owned())),
            ("processors", processors.to_string()),
            ("kernel", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned()),
            ("postgres", stand.postgres.version()),
            ("haproxy", version("haproxy", "-v")),
            ("pgbouncer", version("pgbouncer", "--version")),
            ("tls", tls),
        ]))
    }
}

/// A figure that the project has promised.
pub(super) struct Target {
    pub(super) what: String,
    pub(super) measured: f64,
    pub(super) bound: f64,
    /// Whether the measured value must be at least the bound; at most, otherwise.
    pub(super) at_least: bool,
}

impl Target {
    fn is_met(&self) -> bool {
        if self.at_least { self.measured >= self.bound } else { self.measured <= self.bound }
    }
}

/// Each beside what was measured.
pub(super) fn print_targets(targets: &[Target]) {
    println!("\n{:<58} {:>9} {:>9}", "target", "measured", "bound");
    for target in targets {
        let sign = if target.at_least { "≥" } else { "≤" };
        let verdict = if target.is_met() { "met" } else { "MISSED" };
        println!("{:<58} {:>9.3} {sign}{:>8.2}  {verdict}", target.what, target.measured, target.bound);
    }
}

impl Pgbench {
    pub(super) fn print(&self) {
        self.print_tables();
        print_targets(&self.targets());
    }

    fn print_tables(&self) {
        self.machine.0.iter().for_each(|(name, value)| println!("{name:<10} {value}"));
        let runs = self.plan.rounds * 2;
        println!("pgbench -S, scale 10, {CLIENTS} clients, {runs} runs of {} s each, medians", self.plan.seconds);
        for (setting, series) in &self.throughput {
            let pinned = if setting.pinned { "everything on one processor" } else { "unpinned" };
            println!("\n-M {}, {pinned}", setting.mode);
            println!("{:<18} {:>9} {:>9}  {:<24} {:>9}", "path", "tps", "of direct", "95 %", "µs/tx");
            for (path, own) in Path::ALL.iter().zip(series) {
                let Ratio { value, low, high } = ratio(&own.tps, &series[0].tps);
                let interval = format!("{low:.3} – {high:.3}");
                let cpu = if *path == Path::Direct { "–".to_owned() } else { format!("{:.1}", median(&own.cpu)) };
                println!("{:<18} {:>9.0} {value:>9.3}  {interval:<24} {cpu:>9}", path.as_str(), median(&own.tps));
            }
        }
    }

    fn targets(&self) -> Vec<Target> {
        self.throughput.iter().flat_map(throughput_targets).collect()
    }

    pub(super) fn json(&self) -> Value {
        let throughput: Vec<Value> = self.throughput.iter().flat_map(series_json).collect();
        let targets: Vec<Value> = self.targets().iter().map(target_json).collect();
        let machine: serde_json::Map<_, _> =
            self.machine.0.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({
            "machine": machine,
            "plan": {"rounds": self.plan.rounds, "seconds": self.plan.seconds, "clients": CLIENTS, "scale": 10},
            "throughput": throughput,
            "targets": targets,
        })
    }
}

impl Report {
    pub(super) fn print(&self) {
        self.pgbench.print_tables();
        self.print_rest();
        print_targets(&self.targets());
    }

    fn print_rest(&self) {
        println!("\nconnections a second, one after the other");
        Path::ALL.iter().zip(&self.connect).for_each(|(path, rate)| println!("{:<18} {rate:>9.0}", path.as_str()));
        println!("\nmemory for each connection, KiB (Pss, {} at once)", self.memory.count);
        self.memory.idle.iter().for_each(|(path, each)| println!("{:<18} {each:>9.1}  idle", path.as_str()));
        println!("{:<18} {:>9.1}  held, statement of {} bytes", "holdpoint", self.memory.held, self.memory.statement);
        let Release { released, direct } = &self.release;
        println!("\nfrom decision to result, µs ({} held statements)", released.len());
        let line = |name: &str, values: &[f64]| {
            println!("{name:<18} p50 {:>8.0}   p99 {:>8.0}", median(values), percentile(values, 0.99));
        };
        line("hold release", released);
        line("statement, direct", direct);
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = self.pgbench.targets();
        let [p50, p99] = [0.5, 0.99].map(|share| percentile(&self.release.released, share) / 1000.0);
        let idle = self.memory.idle.iter().find(|(path, _)| *path == Path::Written).map_or(f64::NAN, |(_, each)| *each);
        // A measured statement is short: less than the tenth of a KiB that the figure is printed with.
        let most = |what: &str, measured, bound| Target { what: what.to_owned(), measured, bound, at_least: false };
        targets.push(most("hold release p50, ms", p50, 1.0));
        targets.push(most("hold release p99, ms", p99, 10.0));
        targets.push(most("idle connection, KiB", idle, 24.0));
        targets.push(most("held connection, KiB (its statement included)", self.memory.held, 32.0));
        targets
    }

    pub(super) fn json(&self) -> Value {
        let connect: Vec<Value> = Path::ALL
            .iter()
            .zip(&self.connect)
            .map(|(path, rate)| json!({"path": path.as_str(), "per_second": rate}))
            .collect();
        let idle: Vec<Value> =
            self.memory.idle.iter().map(|(path, each)| json!({"path": path.as_str(), "kib": each})).collect();
        let times =
            |values: &[f64]| json!({"p50": median(values), "p99": percentile(values, 0.99), "samples": values.len()});
        let targets: Vec<Value> = self.targets().iter().map(target_json).collect();
        let mut all = self.pgbench.json();
        all["connect"] = json!(connect);
        all["memory"] = json!({"connections": self.memory.count, "idle": idle, "held_kib": self.memory.held,
                               "statement_bytes": self.memory.statement});
        all["release_us"] = times(&self.release.released);
        all["statement_direct_us"] = times(&self.release.direct);
        all["targets"] = json!(targets);
        all
    }
}

fn throughput_targets((setting, series): (&Setting, &Vec<Series>)) -> Vec<Target> {
    let of = |path: Path| Path::ALL.iter().position(|other| *other == path).map_or(&[][..], |at| &series[at].tps);
    let pinned = if setting.pinned { "pinned" } else { "unpinned" };
    let least = |path: Path, to: Path, bound| Target {
        what: format!("{} of {}, -M {}, {pinned}", path.as_str(), to.as_str(), setting.mode),
        measured: median(of(path)) / median(of(to)),
        bound,
        at_least: true,
    };
    vec![
        least(Path::Written, Path::Direct, 0.60),
        least(Path::Written, Path::Pgbouncer, 0.85),
        least(Path::Synced, Path::Direct, 0.40),
    ]
}

fn series_json((setting, series): (&Setting, &Vec<Series>)) -> Vec<Value> {
    let one = |(path, own): (&Path, &Series)| {
        let to_direct = ratio(&own.tps, &series[0].tps);
        json!({
            "mode": setting.mode, "pinned": setting.pinned, "path": path.as_str(),
            "tps": own.tps, "median_tps": median(&own.tps),
            "of_direct": {"ratio": to_direct.value, "low": to_direct.low, "high": to_direct.high},
            "proxy_cpu_us_per_tx": if *path == Path::Direct { Value::Null } else { json!(median(&own.cpu)) },
        })
    };
    Path::ALL.iter().zip(series).map(one).collect()
}

fn target_json(target: &Target) -> Value {
    json!({
        "what": target.what, "measured": target.measured, "bound": target.bound,
        "at_least": target.at_least, "met": target.is_met(),
    })
}
