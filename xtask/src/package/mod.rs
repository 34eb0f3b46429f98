//! What others install: `cargo xtask image` and `cargo xtask deb`, both from the gateway that `cargo xtask build` made.
//!
//! The same binary and sources give the same bytes: nothing in either has a time of today or an owner of this machine.

pub(crate) mod deb;
pub(crate) mod image;
mod licences;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{command, paths};

/// What is packed.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// The gateway's binary, where it is not the one that `cargo xtask build` made: one for arm64, for example
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// A gateway to be packed, without debug information.
struct Gateway {
    stripped: PathBuf,
    architecture: Architecture,
    _directory: tempfile::TempDir,
}

/// In Debian's words, which are Go's and OCI's too.
#[derive(Clone, Copy)]
struct Architecture {
    name: &'static str,
    /// Under what name Debian keeps this architecture's libraries and tools.
    triplet: &'static str,
}

const ARCHITECTURES: [(u16, Architecture); 2] = [
    (62, Architecture { name: "amd64", triplet: "x86_64-linux-gnu" }),
    (183, Architecture { name: "arm64", triplet: "aarch64-linux-gnu" }),
];

impl Gateway {
    fn take(args: &Args) -> Result<Self> {
        let binary = args.binary.clone().map_or_else(command::holdpoint, Ok)?;
        let bytes = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
        // ELF's `e_machine`, little-endian on both.
        let machine = bytes.get(18..20).map(|machine| u16::from_le_bytes([machine[0], machine[1]]));
        let known = ARCHITECTURES.into_iter().find(|(number, _)| machine == Some(*number));
        let Some((_, architecture)) = known else {
            bail!("{} is for neither x86-64 nor arm64 (ELF machine {machine:?})", binary.display());
        };
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let stripped = directory.path().join("holdpoint");
        let strip = format!("{}-strip", architecture.triplet);
        command::output(Command::new(strip).arg("--strip-debug").arg("-o").arg(&stripped).arg(&binary))?;
        Ok(Self { stripped, architecture, _directory: directory })
    }
}

/// Puts a file into a tree, with the mode that it shall have there.
fn put(from: &Path, tree: &Path, to: &str, mode: u32) -> Result<()> {
    let place = tree.join(to.trim_start_matches('/'));
    let above = place.parent().context("a file has a directory")?;
    fs::create_dir_all(above).with_context(|| format!("cannot make {}", above.display()))?;
    fs::copy(from, &place).with_context(|| format!("cannot copy {} to {}", from.display(), place.display()))?;
    fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Directories have one mode, whatever this user's mask.
fn open_directories(tree: &Path) -> Result<()> {
    command::output(Command::new("find").arg(tree).args(["-type", "d", "-exec", "chmod", "755", "{}", "+"])).map(drop)
}

/// Where what is packed lands.
fn destination(file: &str) -> Result<PathBuf> {
    let directory = paths::target().join("dist");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory.join(file))
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
