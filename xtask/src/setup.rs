//! `cargo xtask setup`: what building, testing and measuring need beyond Rust.
//!
//! Debian and Ubuntu only, with apt. Says what it installs and why; does nothing, in a moment, when all is there; and
//! looks again afterwards.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{ebpf::Way, run};

/// What to install.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only what the gateway needs to be built
    #[arg(long)]
    build_only: bool,
}

/// Some packages and what they are for.
struct Need {
    packages: &'static [&'static str],
    reason: &'static str,
    /// Left out with `--build-only`.
    testing: bool,
}

const NEEDS: [Need; 11] = [
    Need {
        packages: &["build-essential", "pkg-config", "clang", "libclang-dev", "ca-certificates"],
        reason: "RocksDB and PostgreSQL's parser are C and C++, and their bindings are made with libclang",
        testing: false,
    },
    Need {
        packages: &["libnftnl-dev", "libmnl-dev"],
        reason: "the default deny in workloads' network namespaces is nftables, over its C libraries",
        testing: false,
    },
    Need {
        packages: &["openssl", "dpkg-dev", "systemd"],
        reason: "tests and the bench make keys, tests build the Debian package, and have systemd read the unit",
        testing: true,
    },
    Need {
        packages: &["postgresql", "postgresql-contrib", "postgresql-client"],
        reason: "demo and tests run real servers of their own (apt also starts one on the usual port; it is not used)",
        testing: true,
    },
    Need {
        packages: &["python3-venv"],
        reason: "tests use the clients psycopg and asyncpg, in a virtual environment of their own; a Go that the machine \
                 lacks comes from PyPI the same way",
        testing: true,
    },
    Need { packages: &["libpostgresql-jdbc-java"], reason: "tests use Java's driver", testing: true },
    Need { packages: &["chromium"], reason: "tests use the console in a browser", testing: true },
    Need { packages: &["sqlsmith"], reason: "tests run what it makes up", testing: true },
    Need {
        packages: &["pgbouncer", "haproxy"],
        reason: "the bench measures beside them; neither needs to run as a service",
        testing: true,
    },
    Need {
        packages: &["dnsmasq-base"],
        reason: "tests ask a real name server, which does not run as a service",
        testing: true,
    },
    Need {
        packages: &["iproute2", "nftables", "procps", "util-linux"],
        reason: "tests look at namespaces and processes and tamper with the deny, the bench pins processors",
        testing: true,
    },
];

/// For the kernel programs, where rustup's nightly is not installed.
const KERNEL_PROGRAMS: Need = Need {
    packages: &[
        "rustc-web",
        "rust-web-src",
        "llvm-22-dev",
        "libpolly-22-dev",
        "zlib1g-dev",
        "libzstd-dev",
        "libxml2-dev",
    ],
    reason: "the kernel programs need a compiler that can build `core` for BPF, and its LLVM",
    testing: false,
};

/// What many machines have from elsewhere: installed only where the program is not there.
const UNLESS_THERE: [(&str, Need); 3] = [
    ("npm", Need { packages: &["nodejs", "npm"], reason: "tests use Node's driver, which npm fetches", testing: true }),
    (
        "javac",
        Need {
            packages: &["default-jdk-headless"],
            reason: "tests use Java's driver from a small program",
            testing: true,
        },
    ),
    ("mvn", Need { packages: &["maven"], reason: "tests sign in with Keycloak, which Maven fetches", testing: true }),
];

pub(crate) fn main(arguments: &Arguments) -> Result<()> {
    let nightly = Way::nightly().is_some();
    let is_there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).exists())
    };
    let absent = UNLESS_THERE.iter().filter(|(program, _)| !is_there(program)).map(|(_, need)| need);
    let needs = NEEDS.iter().chain(absent);
    let mut needs: Vec<_> = needs.filter(|need| !(arguments.build_only && need.testing)).collect();
    if !nightly {
        needs.push(&KERNEL_PROGRAMS);
    }
    if !Path::new("/usr/bin/dpkg-query").exists() {
        bail!(
            "this is neither Debian nor Ubuntu: install by hand what these packages are called here:\n{}",
            list(&needs)
        );
    }
    let missing = missing(&needs)?;
    if missing.is_empty() {
        eprintln!("packages: all there");
    } else {
        install(&needs, missing, nightly)?;
    }
    verify(arguments)
}

fn install(needs: &[&Need], missing: BTreeSet<&'static str>, nightly: bool) -> Result<()> {
    eprintln!("to be installed:\n{}", list_missing(needs, &missing));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    let root = is_root();
    if root {
        run::step("asking apt what there is", apt().args(["update", "-q"]))?;
    }
    if !nightly && missing.contains("rustc-web") && !available("rustc-web")? {
        bail!(
            "apt knows no package rustc-web (Ubuntu has none; on Debian try `sudo apt-get update`), so the kernel programs \
             need rustup's nightly. Run\n\n    \
             rustup toolchain install nightly --profile minimal --component rust-src\n\nand then `cargo xtask setup` again"
        );
    }
    let words: Vec<_> = missing.into_iter().collect();
    if !root {
        let packages = words.join(" ");
        bail!(
            "that needs root. Run\n\n    \
             sudo apt-get update && sudo apt-get install --no-install-recommends -y {packages}\n\n\
             and then `cargo xtask setup` again"
        );
    }
    run::step(
        &format!("installing {} packages", words.len()),
        apt().args(["install", "-q", "-y", "--no-install-recommends"]).args(&words),
    )?;
    let still: Vec<_> = self::missing(needs)?.into_iter().collect();
    if !still.is_empty() {
        bail!("apt has run, but these are still missing: {}", still.join(" "));
    }
    Ok(())
}

/// Looks whether what was installed really works.
fn verify(arguments: &Arguments) -> Result<()> {
    let way = Way::find().is_some();
    let mut failures = Vec::new();
    let mut check = |name: &str, good: bool, advice: &str| {
        eprintln!("{name}: {}", if good { "good" } else { "MISSING" });
        if !good {
            failures.push(format!("{name}: {advice}"));
        }
    };
    check("C compiler", works("cc"), "apt-get install build-essential");
    check("libclang", works("clang"), "apt-get install clang libclang-dev");
    check(
        "compiler for the kernel programs",
        way,
        "rustup toolchain install nightly --profile minimal --component rust-src",
    );
    if !arguments.build_only {
        check("PostgreSQL", postgres().is_some(), "apt-get install postgresql");
        check("python3 with venv", python(), "apt-get install python3-venv");
        check("cgroup v2", filesystem("cgroup2"), "a kernel with CONFIG_CGROUPS and CONFIG_CGROUP_BPF");
        check("bpf file system", filesystem("bpf"), "a kernel with CONFIG_BPF_SYSCALL");
    }
    if failures.is_empty() { Ok(()) } else { bail!("not ready yet:\n  {}", failures.join("\n  ")) }
}

/// Where Debian keeps the newest PostgreSQL's programs.
pub(crate) fn postgres() -> Option<std::path::PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let numbered = versions.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    let newest = numbered.filter(|(_, path)| path.join("bin/postgres").exists()).max_by_key(|(version, _)| *version);
    newest.map(|(_, path)| path.join("bin"))
}

fn works(program: &str) -> bool {
    run::answer(Command::new(program).arg("--version")).is_some()
}

fn python() -> bool {
    run::answer(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_some()
}

fn filesystem(name: &str) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().last() == Some(name))
}

fn missing(needs: &[&Need]) -> Result<BTreeSet<&'static str>> {
    let wanted: BTreeSet<_> = needs.iter().flat_map(|need| need.packages).copied().collect();
    // Its exit code says that one is unknown, which is no failure here.
    let output = Command::new("dpkg-query").args(["-W", "-f=${Package} ${db:Status-Status}\n"]).args(&wanted).output();
    let output = output.context("cannot run dpkg-query")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed: BTreeSet<_> = text.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    Ok(wanted.into_iter().filter(|package| !installed.contains(package)).collect())
}

/// Whether apt could install `package`.
fn available(package: &str) -> Result<bool> {
    let policy = run::answer(Command::new("apt-cache").args(["policy", package])).context("cannot run apt-cache")?;
    Ok(policy.lines().any(|line| line.trim().starts_with("Candidate:") && !line.contains("(none)")))
}

fn is_root() -> bool {
    run::answer(Command::new("id").arg("-u")).as_deref() == Some("0")
}

fn list(needs: &[&Need]) -> String {
    needs.iter().map(|need| format!("  {}\n      {}\n", need.packages.join(" "), need.reason)).collect()
}

fn list_missing(needs: &[&Need], missing: &BTreeSet<&str>) -> String {
    let lines = needs.iter().filter_map(|need| {
        let packages: Vec<_> = need.packages.iter().copied().filter(|package| missing.contains(package)).collect();
        (!packages.is_empty()).then(|| format!("  {}\n      {}\n", packages.join(" "), need.reason))
    });
    lines.collect()
}
