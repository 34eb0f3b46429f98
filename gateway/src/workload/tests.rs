//! From a path to a workload.

use super::*;

fn found(path: &str) -> Workload {
    let hierarchy = Hierarchy::find().expect("cgroup v2 is mounted");
    let sources = sources(&hierarchy, &["holdpoint".into()], Roots::usual(None), None);
    identify(CgroupId(7), path.to_owned(), &sources)
}

#[test]
fn a_command_run_by_holdpoint_has_the_name_that_it_was_given() {
    assert_eq!(found("/holdpoint/deploy-bot-0a1b2c3d").name, "deploy-bot");
    assert_eq!(found("/holdpoint/deploy-bot-0a1b2c3d/inner/most").name, "deploy-bot");
    assert_eq!(found("/holdpoint/ci%2Fnightly%20run-0a1b2c3d").name, "ci/nightly run");
}

#[test]
fn a_name_counts_only_below_a_guard() {
    assert_eq!(found("/user.slice/user-1.slice/user@1.service/deploy-bot-0a1b2c3d").name, "user@1.service");
    assert_eq!(found("/elsewhere/deploy-bot-0a1b2c3d").name, "deploy-bot-0a1b2c3d");
    assert_eq!(found("/holdpoint/by-hand").name, "by-hand");
    assert_eq!(found("/holdpoint").name, "holdpoint");
}

#[test]
fn a_unit_is_its_own_name_and_its_slice_a_label() {
    let workload = found("/system.slice/nightly.service");
    assert_eq!((workload.name.as_str(), workload.unit.as_deref()), ("nightly.service", Some("nightly.service")));
    assert_eq!(workload.labels.get("slice").map(String::as_str), Some("system.slice"));
}

#[test]
fn an_unknown_cgroup_is_an_identity_of_its_own() {
    let workload = unknown(CgroupId(1234));
    assert_eq!((workload.name.as_str(), workload.path.as_str()), ("unknown (cgroup 1234)", ""));
}

#[test]
fn directories_are_named_below_the_mount() {
    let hierarchy = Hierarchy::find().expect("cgroup v2 is mounted");
    assert_eq!(hierarchy.below(&hierarchy.root().join("holdpoint/")), "/holdpoint");
    assert_eq!(hierarchy.below(hierarchy.root()), "/");
}

#[test]
fn our_own_cgroup_is_found_again_by_its_id() {
    let hierarchy = Hierarchy::find().expect("cgroup v2 is mounted");
    let own = hierarchy.own().expect("we are in a cgroup");
    let Some(path) = hierarchy.path(own) else {
        assert!(!nix::unistd::geteuid().is_root(), "root can open cgroups by their ids");
        return;
    };
    assert_eq!(hierarchy.id(&hierarchy.resolve(path.as_ref())).expect("it is there"), own);
    assert_eq!(hierarchy.path(CgroupId(u64::MAX)), None);
}

#[test]
fn a_pod_is_a_pod_even_where_nobody_asks_kubernetes() {
    let workload = found("/kubepods/burstable/pod0f4a9d2c-6a3b-4c1e-9f00-1234567890ab");
    assert_eq!(workload.name, "pod 0f4a9d2c-6a3b-4c1e-9f00-1234567890ab");
    assert_eq!(workload.doubt(), None);
    assert!(unknown(CgroupId(1)).doubt().is_some());
}
