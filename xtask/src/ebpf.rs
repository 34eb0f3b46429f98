//! `cargo xtask ebpf`: the kernel programs.
//!
//! They need a compiler that builds `core` for the BPF target, and `bpf-linker` with an LLVM that reads what that
//! compiler writes. Two ways lead there; the first that is installed is taken:
//!
//! 1. rustup's nightly with `rust-src`, and the `bpf-linker` that uses the toolchain's own LLVM;
//! 2. Debian's `rustc-web` and `rust-web-src`, and a `bpf-linker` built with Debian's LLVM of the same version.
//!
//! The object lands in `<target>/ebpf/holdpoint.bpf.o`, where `gateway/build.rs` looks for it. It is written only when it
//! changes, so that an unchanged one does not make the gateway compile again.

use std::{
    ffi::OsString,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{paths, run};

/// How to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build even if nothing has changed
    #[arg(long)]
    force: bool,
}

pub(crate) fn main(arguments: &Arguments) -> Result<()> {
    let object = build(arguments.force)?;
    println!("{}", object.display());
    Ok(())
}

/// Builds what has changed (or everything, if `force`d), and says where the object is.
pub(crate) fn build(force: bool) -> Result<PathBuf> {
    let directory = paths::target().join("ebpf");
    let object = directory.join("holdpoint.bpf.o");
    let stamp = directory.join("stamp");
    let way = Way::find().context(NO_WAY)?;
    let wanted = format!("{} {:016x}\n", way.name(), sources()?);
    if !force && object.exists() && fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
        return Ok(object);
    }
    let linker = way.linker()?;
    run::step("building the kernel programs", &mut way.cargo(&directory.join("build"), &linker))?;
    let built = directory.join("build").join(TARGET).join("release/gateway-ebpf");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if bytes.get(..4) != Some(b"\x7fELF") {
        bail!("{} is no object file: run `cargo xtask ebpf --force`", built.display());
    }
    if fs::read(&object).ok().as_ref() != Some(&bytes) {
        fs::write(&object, &bytes).with_context(|| format!("cannot write {}", object.display()))?;
    }
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(object)
}

const TARGET: &str = if cfg!(target_endian = "little") { "bpfel-unknown-none" } else { "bpfeb-unknown-none" };

const NO_WAY: &str = "no compiler for the kernel programs is installed; run `cargo xtask setup` (Debian: installs \
    rustc-web), or `rustup toolchain install nightly --profile minimal --component rust-src`";

/// A way to compile them.
pub(crate) enum Way {
    /// rustup's nightly.
    Nightly,
    /// Debian's packages, with the LLVM of this major version.
    Debian {
        /// The compiler's LLVM.
        llvm: u32,
    },
}

impl Way {
    /// The first that is installed.
    pub(crate) fn find() -> Option<Self> {
        Self::nightly().or_else(Self::debian)
    }

    /// rustup's nightly, if it has the sources of `core`.
    pub(crate) fn nightly() -> Option<Self> {
        let sysroot = run::answer(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))?;
        has_core(Path::new(&sysroot)).then_some(Way::Nightly)
    }

    fn debian() -> Option<Self> {
        let version = run::answer(Command::new(DEBIAN_RUSTC).arg("-vV"))?;
        let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
        let llvm = llvm.split('.').next()?.parse().ok()?;
        let built_with = Path::new("/usr/lib").join(format!("llvm-{llvm}")).join("bin/llvm-config");
        (has_core(Path::new("/usr")) && built_with.exists()).then_some(Way::Debian { llvm })
    }

    fn name(&self) -> String {
        match self {
            Way::Nightly => "nightly".to_owned(),
            Way::Debian { llvm } => format!("debian-llvm-{llvm}"),
        }
    }

    fn cargo(&self, target: &Path, linker: &Path) -> Command {
        let mut cargo = match self {
            Way::Nightly => {
                let mut cargo = Command::new("rustup");
                cargo.args(["run", "nightly", "cargo"]).env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
            Way::Debian { .. } => {
                let mut cargo = run::cargo();
                // Debian's is a stable compiler; this lets it build `core`.
                cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        };
        for inherited in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_ENCODED_RUSTFLAGS"] {
            cargo.env_remove(inherited);
        }
        cargo.current_dir(paths::root()).env("CARGO_TARGET_DIR", target);
        cargo.env("RUSTFLAGS", "-Cdebuginfo=2 -Clink-arg=--btf").env("PATH", path_with(linker));
        cargo.args(["build", "--release", "--locked", "-Zbuild-std=core", "--target", TARGET]);
        cargo.args(["--package", "gateway-ebpf", "--bin", "gateway-ebpf"]);
        // A profile of its own, without touching the workspace's. One unit: above it the programs need more than the
        // kernel's 512 bytes of stack.
        for setting in ["codegen-units=1", "lto=true", "opt-level=3", "panic='abort'", "overflow-checks=false"] {
            cargo.args(["--config", &format!("profile.release.{setting}")]);
        }
        cargo
    }

    /// The linker for this way, built if it is missing.
    fn linker(&self) -> Result<PathBuf> {
        let root = paths::tools().join(self.name());
        let linker = root.join("bin/bpf-linker");
        if !linker.exists() {
            run::step("building bpf-linker (about a minute)", &mut self.install(&root))?;
        }
        Ok(linker)
    }

    fn install(&self, root: &Path) -> Command {
        let mut install = match self {
            Way::Nightly => {
                let mut install = Command::new("rustup");
                install.args(["run", "nightly", "cargo", "install", "bpf-linker", "--version", "0.10.3"]);
                install.env_remove("RUSTUP_TOOLCHAIN");
                install
            }
            Way::Debian { llvm } => {
                let prefix = format!("/usr/lib/llvm-{llvm}");
                let mut install = run::cargo();
                install.args(["install", "bpf-linker", "--version", "0.13.0", "--no-default-features"]);
                install.args(["--features", &format!("llvm-{llvm}")]);
                install.env("LLVM_PREFIX", &prefix).env("RUSTFLAGS", format!("-L native={prefix}/lib"));
                install.env("PATH", path_with(&PathBuf::from(prefix).join("bin/llvm-config")));
                install
            }
        };
        install.arg("--locked").arg("--root").arg(root);
        install.current_dir(paths::root()).env("CARGO_TARGET_DIR", paths::target().join("tools"));
        install
    }
}

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

fn has_core(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
}

/// `PATH` with the directory of `program` in front.
fn path_with(program: &Path) -> OsString {
    let directory = program.parent().expect("a file is in a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let parts = std::iter::once(directory).chain(std::env::split_paths(&path));
    std::env::join_paths(parts).expect("directories of PATH hold no colon")
}

/// A digest of all that the object is made from.
fn sources() -> Result<u64> {
    let root = paths::root();
    let mut files = vec![root.join("Cargo.lock"), root.join("gateway-ebpf/Cargo.toml"), root.join("xtask/src/ebpf.rs")];
    let sources = root.join("gateway-ebpf/src");
    let entries = fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))?;
    files.extend(entries.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path()));
    files.sort();
    let mut digest = DefaultHasher::new();
    for file in files {
        file.hash(&mut digest);
        fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?.hash(&mut digest);
    }
    Ok(digest.finish())
}
