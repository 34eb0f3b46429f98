//! From a path to a workload.

use super::*;

fn found(path: &str) -> Workload {
    identify(CgroupId(7), path.to_owned(), &["/holdpoint".to_owned()])
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
fn guards_are_compared_below_the_mount() {
    let root = Path::new("/sys/fs/cgroup/unified");
    assert_eq!(below(root, &root.join("holdpoint/")), "/holdpoint");
    assert_eq!(below(root, root), "/");
}

#[test]
fn our_own_cgroup_is_found_again_by_its_id() {
    let hierarchy = Hierarchy::find().expect("cgroup v2 is mounted");
    let own = hierarchy.own().expect("we are in a cgroup");
    let Some(path) = hierarchy.path(own) else {
        assert!(!nix::unistd::geteuid().is_root(), "root can open cgroups by their ids");
        return;
    };
    assert_eq!(hierarchy.id(&hierarchy.resolve(Path::new(&path))).expect("it is there"), own);
    assert_eq!(hierarchy.path(CgroupId(u64::MAX)), None);
}

#[test]
fn a_guard_covers_itself_and_what_is_below_but_not_its_namesakes() {
    assert!(is_below("/holdpoint", "/holdpoint") && is_below("/holdpoint/ci-1", "/holdpoint") && is_below("/x", "/"));
    assert!(!is_below("/holdpoint2/ci", "/holdpoint") && !is_below("/", "/holdpoint"));
}
