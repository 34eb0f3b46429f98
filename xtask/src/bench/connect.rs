//! What Holdpoint costs a connection: one that it does not govern, and one that it proxies.
//!
//! Everything shares one processor in the first part, so that what is compared is work. The second part is what a client
//! sees: connect, log in, one statement and its answer, close; one after the other, and eight at a time.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{
    hook::{Sink, pin},
    report::{Target, print_targets},
    statistics::{median, ratio},
    throughput::cpu_time,
};
use crate::{
    command, interrupt,
    scene::{Gateway, Postgres, Settings},
};

/// Connects in each run of the first part.
const CONNECTS: usize = 20_000;

/// Clients at a time in the second part.
const CLIENTS: [usize; 2] = [1, 8];

pub(super) fn measure(rounds: usize, seconds: u64) -> Result<()> {
    let postgres = Postgres::start("host all all samehost trust", &["max_connections=200"])?;
    postgres.sql("postgres", "CREATE ROLE bench LOGIN")?;
    postgres.sql("postgres", "CREATE DATABASE bench OWNER bench")?;
    let policies = [("bench.yaml", policy(postgres.port()))];
    let mut gateway = Gateway::start(&Settings {
        name: "bench-connect",
        policies: &policies,
        durability: "written",
        console: false,
    })?;
    let mut targets = vec![ungoverned(&gateway, rounds)?];
    for clients in CLIENTS {
        targets.push(proxied(&gateway, &postgres, clients, rounds, seconds)?);
    }
    gateway.alive()?;
    gateway.stop()?;
    print_targets(&targets);
    Ok(())
}

fn ungoverned(gateway: &Gateway, rounds: usize) -> Result<Target> {
    let sink = Sink::open()?;
    let words = client(&["dial", "--port", &sink.port.to_string(), "--count", &CONNECTS.to_string()])?;
    pin("0")?;
    let run = |guarded: bool| rate(gateway, guarded, &words);
    let (free, guarded) = back_and_forth(rounds, run)?;
    pin(&format!("0-{}", std::thread::available_parallelism().map_or(1, usize::from).max(2) - 1))?;
    let of = ratio(&guarded, &free);
    println!(
        "connections a second that are not governed, everything on one processor: {:.0} guarded, {:.0} not ({:.3}, 95 % {:.3} – {:.3})",
        median(&guarded),
        median(&free),
        of.value,
        of.low,
        of.high
    );
    Ok(Target { what: "not governed, of unguarded".into(), measured: of.value, bound: 0.97, at_least: true })
}

fn proxied(gateway: &Gateway, postgres: &Postgres, clients: usize, rounds: usize, seconds: u64) -> Result<Target> {
    let (port, seconds, threads) = (postgres.port().to_string(), seconds.to_string(), clients.to_string());
    let words = client(&["connect", "--port", &port, "--seconds", &seconds, "--threads", &threads])?;
    let mut spent = Vec::new();
    let run = |guarded: bool| {
        let before = cpu_time(gateway.pid())?;
        let rate = rate(gateway, guarded, &words)?;
        if guarded {
            let connections = rate * seconds.parse::<f64>()?;
            spent.push((cpu_time(gateway.pid())? - before) / connections);
        }
        Ok(rate)
    };
    let (direct, through) = back_and_forth(rounds, run)?;
    let of = ratio(&through, &direct);
    println!(
        "connect, log in, one answer, close, {clients} at a time: {:.0} a second direct, {:.0} through Holdpoint \
         ({:.3}, 95 % {:.3} – {:.3}); {:.0} µs of the gateway's processor time for each",
        median(&direct),
        median(&through),
        of.value,
        of.low,
        of.high,
        median(&spent)
    );
    Ok(Target {
        what: format!("proxied, of direct, {clients} at a time"),
        measured: of.value,
        bound: 0.40,
        at_least: true,
    })
}

/// Both ways in rounds that go forth and back: unguarded, guarded, guarded, unguarded. The first round is not counted.
fn back_and_forth(rounds: usize, mut run: impl FnMut(bool) -> Result<f64>) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut free, mut guarded) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        for is_guarded in [false, true, true, false] {
            interrupt::check()?;
            let rate = run(is_guarded)?;
            if round > 0 {
                if is_guarded { guarded.push(rate) } else { free.push(rate) }
            }
        }
    }
    Ok((free, guarded))
}

/// What the client says when it has run in or outside the guarded cgroup.
fn rate(gateway: &Gateway, guarded: bool, words: &[String]) -> Result<f64> {
    let mut command = if guarded { gateway.exec("bench", words) } else { Command::new(&words[0]) };
    if !guarded {
        command.args(&words[1..]).current_dir("/").stdin(Stdio::null());
    }
    let said = command::output(&mut command)?;
    said.trim().parse().with_context(|| format!("the client said `{said}`"))
}

fn client(task: &[&str]) -> Result<Vec<String>> {
    let us = std::env::current_exe()?.to_string_lossy().into_owned();
    Ok([us.as_str(), "bench", "client"].iter().chain(task).map(|word| (*word).to_owned()).collect())
}

fn policy(port: u16) -> String {
    format!(
        "resource: bench\nprotocol: postgres\nendpoints: [\"127.0.0.1:{port}\"]\ndefault: allow\n\
         approval: {{ from: [{{ user: root }}], timeout: 15m }}\n"
    )
}
