//! `cargo xtask bench pg`: what Holdpoint costs, beside haproxy and pgbouncer, on a real PostgreSQL with pgbench;
//! `bench tls`: the same with TLS on both sides; `bench result`: a large answer, masked and not; `bench classify`: what
//! it takes to tell what a statement does; `bench hook`: what `connect` costs in the kernel; `bench connect`: what a
//! connection costs, governed and not; `bench all`: all of these, one after the other.
//!
//! All paths run in one go, in rounds that go forth and back (ABBA), so that a machine that warms up or slows down
//! does so for all of them. What is compared are medians; the interval is a bootstrap over the rounds.
//! Nothing is assumed: a figure that could not be taken is an error, and a target that is missed is printed as missed.

mod certificates;
mod classify;
mod client;
mod connect;
mod hold;
mod hook;
mod latency;
mod memory;
mod paths;
mod report;
mod result;
mod statistics;
mod throughput;

use anyhow::{Context, Result};

use self::{
    paths::Stand,
    report::{Machine, Pgbench, Report},
    throughput::Plan,
};
use crate::{command, interrupt};

/// Measure what Holdpoint costs, beside haproxy and pgbouncer
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// PostgreSQL with pgbench
    Pg(Pg),
    /// PostgreSQL with pgbench, TLS on both sides of every path
    Tls(Pg),
    /// A large answer, masked and not: how fast it comes, and the gateway's memory meanwhile
    Result(result::Args),
    /// What it takes to tell what a statement does, by its text and by the catalog, new and known
    Classify,
    /// The connect hook, by the kernel's clock, at 1, 100 and 10,000 rules
    Hook {
        /// Rounds, each forth and back
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Connections that are not governed, and connections that are proxied
    Connect {
        /// Rounds, each forth and back
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds for each run
        #[arg(long, default_value_t = 3)]
        seconds: u64,
    },
    /// All of these, one after the other, as long as each takes by itself
    All,
    /// The bench's own client, which runs in a guarded cgroup
    #[command(hide = true, subcommand)]
    Client(client::Task),
}

/// How long and how often to measure.
#[derive(clap::Args)]
struct Pg {
    /// Print a JSON document instead of tables
    #[arg(long)]
    json: bool,
    /// One short round: shows that everything works, too short to quote
    #[arg(long)]
    quick: bool,
    /// Rounds, each forth and back
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds for each run of pgbench
    #[arg(long)]
    seconds: Option<u64>,
}

/// Measures, or is the client.
///
/// # Errors
/// Something could not be started or measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Pg(pg) => postgres(pg),
        What::Tls(pg) => postgres_with_tls(pg),
        What::Result(args) => {
            command::need_root("bench result")?;
            interrupt::watch()?;
            result::measure(args)
        }
        What::Classify => {
            command::need_root("bench classify")?;
            interrupt::watch()?;
            classify::measure()
        }
        What::All => all(),
        What::Hook { rounds } => {
            command::need_root("bench hook")?;
            interrupt::watch()?;
            hook::measure(*rounds)
        }
        What::Connect { rounds, seconds } => {
            command::need_root("bench connect")?;
            interrupt::watch()?;
            connect::measure(*rounds, *seconds)
        }
        What::Client(task) => client::run(task),
    }
}

fn all() -> Result<()> {
    command::need_root("bench all")?;
    // Each as a command of its own, which starts with nothing in its memory.
    for what in ["pg", "tls", "result", "classify", "hook", "connect"] {
        println!("\n== bench {what}");
        command::show(command::xtask("bench")?.arg(what))?;
    }
    Ok(())
}

impl Pg {
    fn plan(&self) -> Plan {
        Plan {
            rounds: self.rounds.unwrap_or(if self.quick { 1 } else { 3 }),
            seconds: self.seconds.unwrap_or(if self.quick { 2 } else { 5 }),
        }
    }
}

fn postgres(args: &Pg) -> Result<()> {
    command::need_root("bench pg")?;
    interrupt::watch()?;
    let plan = args.plan();
    // The JSON goes to stdout alone; what is going on is said on stderr.
    eprintln!("starting PostgreSQL, haproxy, pgbouncer and two gateways …");
    let mut stand = Stand::start().context("the bench could not be set up")?;
    let machine = Machine::read(&stand)?;
    // First, while no allocator has anything in reserve that would hide what a connection takes.
    eprintln!("memory …");
    let memory = memory::measure(&stand, if args.quick { 100 } else { 400 })?;
    let throughput = throughput::measure(&stand, &plan)?;
    eprintln!("connecting …");
    let connect = throughput::connect_rate(&stand, plan.seconds)?;
    eprintln!("hold and release …");
    let release = latency::measure(&stand, if args.quick { 200 } else { 1000 })?;
    stand.close()?;
    let report = Report { pgbench: Pgbench { plan, machine, throughput }, connect, memory, release };
    if args.json {
        println!("{:#}", report.json())
    } else {
        report.print()
    }
    Ok(())
}

fn postgres_with_tls(args: &Pg) -> Result<()> {
    command::need_root("bench tls")?;
    interrupt::watch()?;
    let plan = args.plan();
    eprintln!("starting PostgreSQL, haproxy, pgbouncer and two gateways …");
    let mut stand = Stand::start_with_tls().context("the bench could not be set up")?;
    let machine = Machine::read(&stand)?;
    let throughput = throughput::measure(&stand, &plan)?;
    stand.close()?;
    let report = Pgbench { plan, machine, throughput };
    if args.json {
        println!("{:#}", report.json())
    } else {
        report.print()
    }
    Ok(())
}
