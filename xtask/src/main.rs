//! `cargo xtask`: everything that is done with this repository, one subcommand each.
//!
//! All that is built goes to one target directory outside the checkout (see [`paths`]), so that the heavy dependencies
//! are compiled once for every command.

mod bench;
mod build;
mod command;
mod demo;
mod ebpf;
mod fuzz;
mod interrupt;
mod paths;
mod run;
mod scene;
mod setup;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

/// Build, test, show and measure Holdpoint.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show Holdpoint at work on a throw-away PostgreSQL
    Demo(demo::Args),
    /// Run everything that proves it, set-up included
    Test(test::Args),
    /// Run the root tests alone
    TestRoot(test::RootArgs),
    /// Measure it beside its peers
    Bench(bench::Args),
    /// Install what building and testing need, with apt (Debian, Ubuntu); needs root only when something is missing
    Setup(setup::Arguments),
    /// Build the kernel programs
    Ebpf(ebpf::Arguments),
    /// Build the kernel programs, then the gateway
    Build(build::Arguments),
    /// Check the house rules
    Tidy(tidy::Args),
    /// Feed arbitrary bytes to what reads them
    Fuzz(fuzz::Args),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::TestRoot(args) => test::run_root(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Setup(arguments) => setup::main(&arguments),
        Task::Ebpf(arguments) => ebpf::main(&arguments),
        Task::Build(arguments) => build::main(&arguments),
        Task::Tidy(args) => tidy::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
    }
}
