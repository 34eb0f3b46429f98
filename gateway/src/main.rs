//! `holdpoint`: the gateway, and everything that people ask of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdpoint::cli::main()
}
