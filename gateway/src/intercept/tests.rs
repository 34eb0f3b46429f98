//! What needs no kernel: errors, and taking away what is not there.

use super::*;

#[test]
fn an_object_that_is_not_this_builds_own_says_what_to_do() {
    let broken = EbpfLoader::new().btf(None).load(b"no object").err().expect("it is none");
    for error in [InterceptError::load(&broken), InterceptError::other_object("connect4")] {
        let words = error.to_string();
        assert!(words.contains("build it again with `cargo xtask build`"), "{words}");
    }
}
