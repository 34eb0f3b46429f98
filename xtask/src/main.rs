//! Holdpoint's own commands: `cargo xtask demo`, `test`, `bench` and what they are made of.

mod bench;
mod command;
mod demo;
mod fuzz;
mod interrupt;
mod scene;
mod test;
mod tidy;

use clap::Parser;

/// Build, test, show and measure Holdpoint
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Xtask {
    Demo(demo::Args),
    Test(test::Args),
    TestRoot(test::RootArgs),
    Tidy(tidy::Args),
    Bench(bench::Args),
    Fuzz(fuzz::Args),
}

fn main() -> anyhow::Result<()> {
    match Xtask::parse() {
        Xtask::Demo(args) => demo::run(&args),
        Xtask::Test(args) => test::run(&args),
        Xtask::TestRoot(args) => test::run_root(&args),
        Xtask::Tidy(args) => tidy::run(&args),
        Xtask::Bench(args) => bench::run(&args),
        Xtask::Fuzz(args) => fuzz::run(&args),
    }
}
