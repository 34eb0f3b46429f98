//! What needs no kernel: errors, and taking away what is not there.

use super::*;

#[test]
fn an_object_that_is_not_this_builds_own_says_what_to_do() {
    let broken = EbpfLoader::new().btf(None).load(b"no object").expect_err("it is none");
    for error in [InterceptError::load(&broken), InterceptError::other_object("connect4")] {
        let words = error.to_string();
        assert!(words.contains("build it again with `cargo xtask build`"), "{words}");
    }
}

#[test]
fn uninstalling_where_nothing_is_removes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let nothing = Uninstalled::default();
    assert_eq!(uninstall(&dir.path().join("absent")).expect("nothing is there"), nothing);
}

#[test]
fn uninstalling_touches_no_ordinary_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("links");
    std::fs::write(&file, "mine").expect("written");
    let error = uninstall(dir.path()).expect_err("not on a bpf file system");
    assert!(matches!(error, InterceptError::NoBpffs { .. }), "{error}");
    assert_eq!(std::fs::read(&file).expect("still there"), b"mine");
}
