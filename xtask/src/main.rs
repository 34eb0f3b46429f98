//! `cargo xtask`: everything that is done with this repository, one subcommand each.
//!
//! All that is built goes to one target directory outside the checkout (see [`paths`]), so that the heavy dependencies
//! are compiled once for every command.

mod build;
mod ebpf;
mod paths;
mod run;
mod setup;

use clap::{Parser, Subcommand};

/// Build, test and show Holdpoint.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need, with apt (Debian, Ubuntu); needs root only when something is missing
    Setup(setup::Arguments),
    /// Build the kernel programs
    Ebpf(ebpf::Arguments),
    /// Build the kernel programs, then the gateway
    Build(build::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Setup(arguments) => setup::main(&arguments),
        Task::Ebpf(arguments) => ebpf::main(&arguments),
        Task::Build(arguments) => build::main(&arguments),
    }
}
