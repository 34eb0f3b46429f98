//! What `connect` costs in the kernel, by the kernel's own clock (`kernel.bpf_stats_enabled`), with few and many rules.
//!
//! One gateway for each number of rules, all at once; a client in each one's cgroup connects in turn. Two ways are
//! measured: a destination that is intercepted, whose facts are kept for the gateway, and one that no rule names.

use std::{fs, net::TcpListener, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    report::{Target, print_targets},
    statistics::median,
};
use crate::{
    command, interrupt,
    scene::{Gateway, Settings},
};

/// How many rules the gateways have; the last of each table is the one that is dialled.
const RULES: [usize; 3] = [1, 100, 10_000];

/// Where the client connects to.
const WAYS: [&str; 2] = ["intercepted", "not governed"];

/// Connects in each run.
const CONNECTS: usize = 2000;

pub(super) fn measure(rounds: usize) -> Result<()> {
    let sink = Sink::open()?;
    let free = Sink::open()?;
    let _counted = Counted::on()?;
    eprintln!("starting {} gateways …", RULES.len());
    let mut gateways = Vec::new();
    for count in RULES {
        let policies = [("rules.yaml", policy(count, sink.port))];
        gateways.push(Gateway::start(&Settings {
            name: &format!("bench-hook-{count}"),
            policies: &policies,
            durability: "written",
            console: false,
        })?);
    }
    let programs: Vec<u64> = gateways.iter().map(program).collect::<Result<_>>()?;
    // By number of rules, then by way: ns for each run of the program.
    let mut series = vec![[Vec::new(), Vec::new()]; RULES.len()];
    for round in 0..=rounds {
        let forth = 0..RULES.len();
        for at in forth.clone().chain(forth.rev()) {
            for (way, port) in [sink.port, free.port].into_iter().enumerate() {
                interrupt::check()?;
                let before = cost(&gateways[at], programs[at])?;
                dial(&gateways[at], port)?;
                let after = cost(&gateways[at], programs[at])?;
                // The first round fills caches.
                if round > 0 {
                    series[at][way].push((after.0 - before.0) / (after.1 - before.1));
                }
            }
        }
    }
    for mut gateway in gateways {
        gateway.stop()?;
    }
    print(&series);
    Ok(())
}

fn print(series: &[[Vec<f64>; 2]]) {
    println!("connect4, ns for each run (medians of {} runs of {CONNECTS} connects)", series[0][0].len());
    println!("{:<14} {:>9} {:>9} {:>9}", "rules", RULES[0], RULES[1], RULES[2]);
    for (way, name) in WAYS.iter().enumerate() {
        let of = |at: usize| median(&series[at][way]);
        println!("{name:<14} {:>9.0} {:>9.0} {:>9.0}", of(0), of(1), of(2));
    }
    let most = |what: String, measured, bound| Target { what, measured, bound, at_least: false };
    let mut targets = Vec::new();
    for (way, name) in WAYS.iter().enumerate() {
        let (few, many) = (median(&series[0][way]), median(&series[2][way]));
        targets.push(most(format!("{name}, 10,000 rules, µs"), many / 1000.0, 1.0));
        targets.push(most(format!("{name}, 10,000 rules against one"), many / few, 1.5));
    }
    print_targets(&targets);
}

/// One resource with `count` endpoints, the last of which is `port` here.
fn policy(count: usize, port: u16) -> String {
    let elsewhere = (1..count).map(|n| format!("\"10.{}.{}.{}:5432\"", n >> 16, (n >> 8) & 255, n & 255));
    let endpoints: Vec<String> = elsewhere.chain([format!("\"127.0.0.1:{port}\"")]).collect();
    format!(
        "resource: bench\nprotocol: postgres\nendpoints: [{}]\ndefault: allow\napproval: {{ from: [{{ user: root }}], timeout: 15m }}\n",
        endpoints.join(", ")
    )
}

/// Connects again and again from the guarded cgroup.
fn dial(gateway: &Gateway, port: u16) -> Result<()> {
    let us = std::env::current_exe()?.to_string_lossy().into_owned();
    let words = [&us, "bench", "client", "dial", "--port", &port.to_string(), "--count", &CONNECTS.to_string()]
        .map(str::to_owned);
    command::output(&mut gateway.exec("bench", words)).map(drop)
}

/// The kernel's number for the gateway's `connect4`.
fn program(gateway: &Gateway) -> Result<u64> {
    let status: Value = serde_json::from_str(&command::output(&mut gateway.talk(&["status", "-o", "json"]))?)?;
    let programs = status["kernel"]["Ok"][0]["programs"].as_array().context("status names no programs")?;
    let found = programs.iter().find(|program| program["name"] == "connect4");
    found.and_then(|program| program["program"].as_u64()).context("status does not name connect4")
}

/// How long the program has run in ns, and how often, as the descriptor that the gateway holds tells.
fn cost(gateway: &Gateway, program: u64) -> Result<(f64, f64)> {
    let wanted = format!("prog_id:\t{program}");
    // A link's descriptor names its program too, and tells no more of it.
    let tells = |text: &str| text.lines().any(|line| line == wanted) && text.contains("run_time_ns");
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", gateway.pid()))?.flatten() {
        // Connections come and go.
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if tells(&text) {
            let number = |name: &str| -> Result<f64> {
                let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
                Ok(found.with_context(|| format!("the kernel does not tell {name}"))?.parse()?)
            };
            return Ok((number("run_time_ns")?, number("run_cnt")?));
        }
    }
    anyhow::bail!("the gateway holds no descriptor of program {program}")
}

/// A listener that takes connections and closes them.
pub(super) struct Sink {
    pub(super) port: u16,
}

impl Sink {
    pub(super) fn open() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        // On one processor clients come in heaps: a full backlog would let them wait a second.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096)?)?;
        let port = listener.local_addr()?.port();
        // Ends with the process.
        std::thread::spawn(move || listener.incoming().for_each(drop));
        Ok(Self { port })
    }
}

/// The kernel counts what programs cost, until this is dropped.
struct Counted(String);

impl Counted {
    fn on() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).context("this kernel does not count what programs cost")?;
        fs::write(SWITCH, "1")?;
        Ok(Self(before))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Path::new(SWITCH), self.0.trim()) {
            eprintln!("cannot put {SWITCH} back: {error}");
        }
    }
}

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Puts the thread that calls, and what it starts from now on, on these processors.
pub(super) fn pin(processors: &str) -> Result<()> {
    let pid = std::process::id().to_string();
    command::output(Command::new("taskset").args(["-a", "-c", "-p", processors, &pid])).map(drop)
}
