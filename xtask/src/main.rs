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
mod package;
mod paths;
mod run;
mod scene;
mod setup;
mod test;
mod tidy;
mod tool_name;
mod tools;

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
    /// See Holdpoint at work: a bot, a database, a held DROP TABLE, you
    Demo(demo::Args),
    /// Run everything: set-up, format, lints, house rules, unit tests, policies, root tests, fuzz smoke, demo
    Test(test::Args),
    /// Run the tests that need root: real kernel hooks, real PostgreSQL, real clients
    TestRoot(test::RootArgs),
    /// Measure what Holdpoint costs, beside haproxy and pgbouncer
    Bench(bench::Args),
    /// Check the house rules that no compiler knows
    Tidy(tidy::Args),
    /// Look for inputs that break a parser
    Fuzz(fuzz::Args),
    /// Install what building and testing need, with apt (Debian, Ubuntu); needs root only when something is missing
    Setup(setup::Arguments),
    /// Make an OCI image of the gateway that was built, as a tarball
    Image(package::Args),
    /// Make a Debian package of the gateway that was built
    Deb(package::Args),
    /// Build Kubernetes' own programs, for the tests: API server, kubectl, helm
    Tools(tools::Args),
    /// Build the kernel programs
    Ebpf(ebpf::Arguments),
    /// Build the kernel programs, then the gateway
    Build(build::Arguments),
}

fn main() -> std::process::ExitCode {
    // Debian's users have no sbin on their PATH, and `sudo -E` with that PATH finds neither runuser nor haproxy.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    if let Ok(path) = std::env::join_paths(path) {
        // SAFETY: there is no other thread yet.
        unsafe { std::env::set_var("PATH", path) };
    }
    let done = match Arguments::parse().task {
        task @ (Task::Tidy(_) | Task::Setup(_) | Task::Tools(_)) => perform(task),
        task => paths::claim_target().and_then(|()| perform(task)),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::TestRoot(args) => test::run_root(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Tidy(args) => tidy::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Image(args) => package::image::run(&args),
        Task::Deb(args) => package::deb::run(&args),
        Task::Tools(args) => tools::run(&args),
        Task::Ebpf(arguments) => ebpf::main(&arguments),
        Task::Build(arguments) => build::main(&arguments),
        Task::Setup(arguments) => setup::main(&arguments),
    }
}
