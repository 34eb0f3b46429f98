//! A reload replaces everything or nothing.

#![expect(clippy::disallowed_methods, reason = "a watcher's thread tells nobody when it has looked")]

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use super::*;

const REFUSING: &str = "
resource: orders-db
protocol: postgres
endpoints: ['10.0.3.7:5432']
default: refuse
";

fn open(path: &Path) -> Arc<Policies> {
    Arc::new(Policies::open(path, Box::new(|_| Vec::new())).expect("the files are right"))
}

/// Waits until `holds`, at most ten seconds.
#[track_caller]
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_bad_file_is_refused_whole_and_the_old_set_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a.yaml");
    fs::write(&file, ORDERS).expect("written");
    let policies = open(directory.path());
    fs::write(directory.path().join("b.yaml"), "policy: x\n").expect("written");
    fs::write(&file, REFUSING).expect("written");
    let errors = policies.reload().expect_err("b.yaml is wrong");
    assert!(errors.to_string().contains("b.yaml:1:1"), "{errors}");
    assert_eq!((policies.generation(), policies.current().resources()[0].default), (1, Decide::Hold));

    fs::remove_file(directory.path().join("b.yaml")).expect("removed");
    let report = policies.reload().expect("right again");
    assert_eq!((report.generation, report.changed, report.resources), (2, true, 1));
    assert_eq!((policies.generation(), policies.current().resources()[0].default), (2, Decide::Refuse));
    assert_eq!(policies.current().generation(), 2);

    let again = policies.reload().expect("right still");
    assert_eq!((again.generation, again.changed), (2, false));
}

#[test]
fn the_watcher_sees_a_file_renamed_into_place() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("a.yaml"), ORDERS).expect("written");
    let policies = open(directory.path());
    let _watch = policies.watch(|_| ()).expect("a thread");
    // The watch begins on its own thread: keep renaming until it is seen.
    eventually("the renamed file is loaded", || {
        fs::write(directory.path().join("a.tmp"), REFUSING).expect("written");
        fs::rename(directory.path().join("a.tmp"), directory.path().join("a.yaml")).expect("renamed");
        std::thread::sleep(Duration::from_millis(400));
        policies.generation() == 2
    });
}

#[test]
fn the_watcher_sees_a_swapped_link_as_kubernetes_makes_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    for (version, text) in [("..v1", ORDERS), ("..v2", REFUSING)] {
        fs::create_dir(root.join(version)).expect("made");
        fs::write(root.join(version).join("a.yaml"), text).expect("written");
    }
    symlink("..v1", root.join("..data")).expect("linked");
    symlink("..data/a.yaml", root.join("a.yaml")).expect("linked");
    let policies = open(root);
    assert_eq!(policies.current().resources().len(), 1, "hidden directories are not read a second time");
    let _watch = policies.watch(|_| ()).expect("a thread");
    eventually("the new version is loaded", || {
        let _ = symlink("..v2", root.join("..data.tmp"));
        let _ = fs::rename(root.join("..data.tmp"), root.join("..data"));
        std::thread::sleep(Duration::from_millis(400));
        policies.generation() == 2
    });
}
