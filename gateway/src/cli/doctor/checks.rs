//! The checks, in the order in which an operator would look: kernel, rights, guard, gateway, policies.

use std::path::PathBuf;

use hyper::Method;
use nix::unistd::{Group, User};
use serde::Deserialize as _;
use serde_json::Value;

use super::{Check, machine};
use crate::{
    app,
    cli::client::Socket,
    config::Config,
    credentials::{Standing, Vault},
    intercept::trial,
    policy::{PolicySet, Who},
    workload::Hierarchy,
};

/// All of them. None depends on a running gateway, and none disturbs one.
pub(super) fn all(config: &Config, socket: &Socket) -> Vec<Check> {
    let status: anyhow::Result<Value> = socket.ask(&Method::GET, "/api/v1/status", None);
    let gateway = gateway(&status);
    let mut checks = vec![machine::kernel(), machine::types(), cgroups(), bpffs(config)];
    checks.extend(programs(config));
    checks.extend([
        nftables(),
        machine::capabilities(socket.peer()),
        machine::descriptors(),
        machine::ports(config.port),
        machine::clock(),
    ]);
    checks.extend(machine::disk(&config.state));
    checks.extend(others(config));
    checks.extend(policies(config));
    checks.extend(credentials(config, status.as_ref().ok()));
    checks.push(gateway);
    checks
}

fn cgroups() -> Check {
    const NAME: &str = "cgroup v2";
    match Hierarchy::find() {
        Err(error) => Check::fail(NAME, error.to_string(), "mount it; systemd does so by default since version 244"),
        Ok(hierarchy) => {
            let root = hierarchy.root().display();
            let hybrid = hierarchy.root() != std::path::Path::new("/sys/fs/cgroup");
            let note = if hybrid { " (hybrid: version 1 is beside it; only version 2 is guarded)" } else { "" };
            Check::ok(NAME, format!("mounted at {root}{note}"))
        }
    }
}

fn bpffs(config: &Config) -> Check {
    const NAME: &str = "bpf file system";
    let at = config.bpffs.display();
    if trial::is_on_bpffs(&config.bpffs) {
        return Check::ok(NAME, format!("{at} is on one: programs outlive a killed gateway"));
    }
    let todo = "mount it: mount -t bpf bpf /sys/fs/bpf";
    if config.bpffs.starts_with("/sys/fs/bpf") {
        return Check::warn(NAME, format!("{at} is on none yet; the gateway mounts it where it may"), todo);
    }
    Check::fail(NAME, format!("{at} is on none"), todo)
}

fn programs(config: &Config) -> Vec<Check> {
    const NAME: &str = "kernel programs";
    const UNIX: &str = "UNIX sockets";
    match trial::programs(&config.unix_refused) {
        Err(error) => vec![Check::fail(NAME, error.to_string(), "nothing is guarded without them")],
        Ok((count, unix)) => {
            let loaded = Check::ok(NAME, format!("all {count} were loaded, and attached to a cgroup made for it"));
            let unix = match unix {
                Ok(()) => Check::ok(UNIX, "connects to the sockets of container runtimes are refused"),
                Err(why) => Check::warn(
                    UNIX,
                    format!("not guarded: {why}"),
                    "give guarded workloads no mount with a container runtime's socket",
                ),
            };
            vec![loaded, unix]
        }
    }
}

fn nftables() -> Check {
    const NAME: &str = "nftables";
    match trial::nftables() {
        Ok(()) => Check::ok(NAME, "a deny was put in force in a network namespace made for it"),
        Err(error) => Check::fail(
            NAME,
            format!("no deny: {error}; sockets that the hooks do not see would go direct"),
            "CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET and CONFIG_NFT_SOCKET are needed, and CAP_NET_ADMIN; \
             and the gateway in a cgroup of its own",
        ),
    }
}

/// Other programs at the hooks of guarded cgroups, and whether they run before or after the gateway's.
fn others(config: &Config) -> Vec<Check> {
    const NAME: &str = "other programs";
    let Ok(hierarchy) = Hierarchy::find() else { return Vec::new() };
    let mut checks = Vec::new();
    for guard in config.cgroups().map(|guard| hierarchy.resolve(guard)) {
        let shown = guard.display().to_string();
        match trial::order(&config.bpffs, &guard) {
            Err(_) if !guard.exists() => {
                checks.push(Check::ok(NAME, format!("{shown} is not there yet; the gateway makes it")))
            }
            Err(error) => checks.push(Check::warn(NAME, error.to_string(), "")),
            Ok(hooks) => checks.extend(foreign(&shown, &hooks)),
        }
    }
    checks
}

fn foreign(guard: &str, hooks: &[(&'static str, Vec<trial::Hooked>)]) -> Vec<Check> {
    const NAME: &str = "other programs";
    let mut checks = Vec::new();
    for (hook, programs) in hooks {
        let ours = programs.iter().position(|program| program.ours);
        for (place, other) in programs.iter().enumerate().filter(|(_, program)| !program.ours) {
            let which = format!(
                "{} (id {}) at {hook} of {guard}",
                if other.name.is_empty() { "a program" } else { &other.name },
                other.id
            );
            checks.push(match ours {
                None => Check::warn(NAME, format!("{which}, where the gateway has none"), "start the gateway"),
                Some(ours) if place < ours => Check::warn(
                    NAME,
                    format!("{which} runs BEFORE the gateway's: what it rewrites is what the rules see"),
                    "name the addresses that it writes as endpoints too (a service's backends beside its address)",
                ),
                Some(_) => Check::warn(
                    NAME,
                    format!("{which} runs after the gateway's: it could send what was intercepted elsewhere"),
                    "it must leave the gateway's port of the loopback alone; only the deny of a network namespace stops it",
                ),
            });
        }
    }
    if checks.is_empty() {
        let attached = hooks.iter().all(|(_, programs)| programs.iter().any(|program| program.ours));
        let says = if attached { "none beside the gateway's" } else { "none, and the gateway's are not attached now" };
        checks.push(Check::ok(NAME, format!("at {guard}: {says}")));
    }
    checks
}

fn policies(config: &Config) -> Vec<Check> {
    const NAME: &str = "policies";
    let set = match PolicySet::load_inspected(&config.policies, &*app::inspector()) {
        Ok(set) => set,
        Err(errors) => {
            return vec![Check::fail(
                NAME,
                errors.to_string(),
                "correct the files; `holdpoint policy check` says the same",
            )];
        }
    };
    let (rules, resources) = (set.rule_count(), set.resources().len());
    let at = config.policies.display();
    let mut checks = vec![Check::ok(NAME, format!("{rules} policies and {resources} resources in {at}"))];
    let mut missing: Vec<_> =
        set.approvers().filter_map(|(by, who)| absent(config, &who).map(|who| (who, by))).collect();
    missing.sort_unstable();
    missing.dedup();
    for (who, by) in missing {
        checks.push(Check::warn(
            "approvers",
            format!("{by} asks {who}, whom this machine does not know: nobody could approve as that"),
            "make the user or group, put it under `groups:` or `on_call:`, or correct the name",
        ));
    }
    checks
}

/// Who cannot be anybody here.
fn absent(config: &Config, who: &Who) -> Option<String> {
    match who {
        Who::User(name) => {
            let known = User::from_name(name).is_ok_and(|found| found.is_some());
            (!known).then(|| format!("the user {name}"))
        }
        Who::Group(name) => {
            let known = config.groups.contains_key(name) || Group::from_name(name).is_ok_and(|found| found.is_some());
            (!known).then(|| format!("the group {name}"))
        }
        // The gateway keeps those, and its file is not this command's to read.
        Who::Program(_) => None,
        Who::OnCall(name) => (!config.on_call.contains_key(name)).then(|| format!("the rotation {name}")),
    }
}

/// What seals credentials, as the gateway says; where none runs, the key in the settings is asked from here.
fn credentials(config: &Config, status: Option<&Value>) -> Option<Check> {
    const NAME: &str = "credentials";
    let standing: Result<Standing, String> = match status {
        Some(status) => Standing::deserialize(&status["credentials"]).map_err(|error| error.to_string()),
        None if config.credentials_key.is_none() => return None,
        None => standing(config).map_err(|error| format!("{error:#}")),
    };
    let Standing { sealed_with, before, away, .. } = match standing {
        Ok(standing) => standing,
        Err(error) => return Some(Check::fail(NAME, error, "correct `credentials_key:` in the settings")),
    };
    Some(match (away, before) {
        (Some(why), _) => Check::fail(
            NAME,
            format!("sealed with {sealed_with}: {why}"),
            "mend it; logins that need a credential are refused until then",
        ),
        (None, Some(before)) => Check::warn(
            NAME,
            format!("sealed with {sealed_with}, which answers; {before} opens them as well"),
            "run `holdpoint credentials reseal`, then take `credentials_key_before:` out of the settings",
        ),
        (None, None) => Check::ok(NAME, format!("sealed with {sealed_with}, which answers")),
    })
}

fn standing(config: &Config) -> anyhow::Result<Standing> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let vault = Vault::open_at(&config.state.join("credentials"), app::keys(config)?)?;
    Ok(runtime.block_on(vault.standing()))
}

fn gateway(status: &anyhow::Result<Value>) -> Check {
    const NAME: &str = "gateway";
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            return Check::warn(NAME, format!("{error:#}"), "start it; guarded workloads are refused until then");
        }
    };
    let words = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let problems = words(&status["problems"]);
    if !problems.is_empty() {
        return Check::fail(NAME, problems.join("; "), "see its log");
    }
    let workloads = status["workloads"].as_array().map_or(&[][..], Vec::as_slice);
    let not: Vec<_> = workloads.iter().filter(|one| one["enforcement"] != "Guarded").collect();
    let count = workloads.len();
    if not.is_empty() {
        return Check::ok(NAME, format!("healthy; {count} workloads run, all of them guarded"));
    }
    let names: Vec<_> = not.iter().filter_map(|one| one["name"].as_str()).collect();
    Check::warn(
        NAME,
        format!("healthy; of {count} workloads these are not guarded in full: {}", names.join(", ")),
        "`holdpoint status` says why",
    )
}

/// The state directory, or the nearest one above it that is there.
pub(super) fn nearest(path: &std::path::Path) -> PathBuf {
    path.ancestors().find(|above| above.exists()).unwrap_or(std::path::Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{super::Outcome, *};

    #[test]
    fn other_programs_are_told_apart_by_their_place() {
        let hooked = |id, ours| trial::Hooked { id, name: "other".into(), ours };
        let of = |programs| foreign("/g", &[("connect4", programs)]);
        assert_eq!(of(vec![hooked(1, true)])[0].outcome, Outcome::Ok);
        let before = of(vec![hooked(1, false), hooked(2, true)]);
        assert!(before[0].says.contains("BEFORE"), "{before:?}");
        let after = of(vec![hooked(2, true), hooked(1, false)]);
        assert!(after[0].says.contains("after"), "{after:?}");
    }
}
