//! The starter set under `policies/`, as it is shipped.

use std::{env, path::PathBuf};

use super::*;

#[test]
fn the_starter_set_is_right_and_every_policy_in_it_has_a_test() {
    let directory = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../policies");
    let set = PolicySet::load(&directory).map(Arc::new).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(set.resources().iter().all(|resource| resource.default == Decide::Hold && resource.approval.is_some()));
    // The statements need the real classifier (`holdpoint policy test policies`); here it is only seen that they exist.
    let report = set.test(&|_, _| None);
    assert_eq!(report.untested, [] as [Arc<str>; 0]);
}
