//! `cargo xtask deb`: a package for Debian and Ubuntu, made with their own tools.
//!
//! It brings the unit, settings and the starter policies, and starts nothing: a gateway under somebody else's policies
//! would only be in the way.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{Args, Gateway, VERSION, destination, licences, open_directories, put};
use crate::{command, paths};

/// # Errors
/// A tool of Debian's is missing or refuses; the message says what.
pub(crate) fn run(args: &Args) -> Result<()> {
    let gateway = Gateway::take(args)?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let tree = directory.path().join("tree");
    let deploy = paths::root().join("deploy");
    put(&gateway.stripped, &tree, "/usr/sbin/holdpoint", 0o755)?;
    put(&deploy.join("systemd/holdpoint.service"), &tree, "/lib/systemd/system/holdpoint.service", 0o644)?;
    put(&deploy.join("debian/holdpoint.yaml"), &tree, SETTINGS, 0o644)?;
    put(&paths::root().join("policies/postgres.yaml"), &tree, POLICIES, 0o644)?;
    put(&paths::root().join("LICENSE"), &tree, "/usr/share/doc/holdpoint/copyright", 0o644)?;
    manual(&gateway, &tree)?;
    licences::add(&gateway, &tree)?;
    for script in ["postinst", "prerm"] {
        put(&deploy.join("debian").join(script), &tree, &format!("/DEBIAN/{script}"), 0o755)?;
    }
    fs::write(tree.join("DEBIAN/conffiles"), format!("{SETTINGS}\n{POLICIES}\n"))?;
    let depends = depends(directory.path(), &tree.join("usr/sbin/holdpoint"))?;
    fs::write(tree.join("DEBIAN/control"), control(gateway.architecture.name, &depends))?;
    open_directories(&tree)?;
    let package = destination(&format!("holdpoint_{VERSION}_{}.deb", gateway.architecture.name))?;
    let mut build = Command::new("dpkg-deb");
    // The times of its files: none of today.
    build.env("SOURCE_DATE_EPOCH", "0").args(["--build", "--root-owner-group"]).arg(&tree).arg(&package);
    command::output(&mut build)?;
    println!("{}", package.display());
    Ok(())
}

/// The manual and what completes words in bash, as the program itself tells them.
fn manual(gateway: &Gateway, tree: &Path) -> Result<()> {
    // One for another machine does not run here; this machine's own says the same.
    let native = gateway.architecture.triplet.starts_with(std::env::consts::ARCH);
    let binary = if native { gateway.stripped.clone() } else { command::holdpoint()? };
    let (directory, pages) = (tempfile::tempdir()?, tree.join("usr/share/man/man1"));
    let made = directory.path().join("pages");
    command::output(Command::new(&binary).arg("man").arg(&made))?;
    for page in fs::read_dir(&made)? {
        let page = page?;
        put(&page.path(), &pages, &page.file_name().to_string_lossy(), 0o644)?;
    }
    let completed = directory.path().join("bash");
    fs::write(&completed, command::output(Command::new(&binary).args(["completions", "bash"]))?)?;
    put(&completed, tree, "/usr/share/bash-completion/completions/holdpoint", 0o644)
}

/// The packages of the shared libraries, with the versions that the binary's symbols need.
fn depends(directory: &Path, binary: &Path) -> Result<String> {
    // It asks a source package's control file for nothing but its presence.
    fs::create_dir_all(directory.join("debian"))?;
    fs::write(directory.join("debian/control"), "Source: holdpoint\n\nPackage: holdpoint\nArchitecture: any\n")?;
    let mut ask = Command::new("dpkg-shlibdeps");
    let said = command::output(ask.current_dir(directory).args(["-O", "--ignore-missing-info"]).arg(binary))?;
    let line = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    line.map(str::to_owned).with_context(|| format!("dpkg-shlibdeps named no packages: {said}"))
}

fn control(architecture: &str, depends: &str) -> String {
    format!(
        "Package: holdpoint
Version: {VERSION}
Architecture: {architecture}
Maintainer: The Holdpoint authors <holdpoint@localhost>
Section: net
Priority: optional
Depends: {depends}
Description: holds bots' risky operations until a person approves them
 A gateway on the machine: eBPF hands it the connections of guarded workloads, it
 reads the protocol and allows, refuses, or holds each operation. Everything is
 recorded before the backend sees it.
 .
 Nothing is guarded until holdpoint.service is enabled.
"
    )
}

const SETTINGS: &str = "/etc/holdpoint/holdpoint.yaml";
const POLICIES: &str = "/etc/holdpoint/policies/postgres.yaml";
