//! `cargo xtask build`: the kernel programs, then the gateway that carries them.

use anyhow::Result;

use crate::{ebpf, run};

/// How to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn main(_: &Arguments) -> Result<()> {
    ebpf::build(false)?;
    run::shown(run::cargo().args(["build", "--package", "gateway"]))
}
