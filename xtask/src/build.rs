//! `cargo xtask build`: the kernel programs, then the gateway that carries them.

use anyhow::Result;

use crate::{ebpf, run};

/// How to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn main(_: &Arguments) -> Result<()> {
    ebpf::build(false)?;
    // The whole workspace is selected: cargo chooses features per selection, and tests and fuzz targets use the same.
    run::shown(run::cargo().args(["build", "--workspace", "--bin", "holdpoint"]))
}
