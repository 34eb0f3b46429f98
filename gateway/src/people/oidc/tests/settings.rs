//! What settings cannot mean, and what they say of it.

use std::fs;

use super::{super::*, providers};

fn settings(name: &str, issuer: &str) -> OidcProvider {
    serde_saphyr::from_str(&format!("{{name: '{name}', issuer: '{issuer}', client_id: hp}}")).expect("it can be read")
}

fn refused(all: Vec<OidcProvider>) -> String {
    providers(all).map(|_| ()).expect_err("it is refused").to_string()
}

#[test]
fn an_issuer_is_spoken_to_in_clear_on_the_loopback_only() {
    for right in [
        "https://id.example",
        "https://id.example/realms/x",
        "http://127.0.0.1:1",
        "http://localhost",
        "http://[::1]:2",
    ] {
        assert!(providers(vec![settings("corp", right)]).is_ok(), "{right}");
    }
    for wrong in [
        "http://id.example",
        "http://127.0.0.1.example",
        "http://localhost.example",
        "ftp://id.example",
        "https://user:canary@id.example",
        "https://id.example/?x",
        "https://id.example/#x",
        "id.example",
        "",
    ] {
        assert!(refused(vec![settings("corp", wrong)]).contains("issuer"), "{wrong}");
    }
}

#[test]
fn providers_are_told_apart() {
    let (one, two) = ("https://one.example", "https://two.example");
    assert!(refused(vec![settings("corp", one), settings("corp", two)]).contains("two of that name"));
    assert!(refused(vec![settings("corp", one), settings("other", one)]).contains("same issuer"));
    for name in ["", "..", "a/b", "a b", &"x".repeat(65)] {
        assert!(refused(vec![settings(name, one)]).contains("letters"), "{name}");
    }
    let both = providers(vec![settings("b", one), settings("a", two)]).expect("they are two");
    assert_eq!(both.iter().map(|provider| provider.name()).collect::<Vec<_>>(), ["b", "a"]);
    assert!(both.get("c").is_none());
}

#[test]
fn a_secret_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secret");
    let with =
        || vec![OidcProvider { client_secret_file: Some(path.clone()), ..settings("corp", "https://id.example") }];
    assert!(refused(with()).contains("No such file"));
    for (text, mode, word) in [("canary", 0o644, "chmod 600"), (" \n", 0o600, "empty"), ("canary", 0o640, "chmod 600")]
    {
        fs::write(&path, text).expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        let error = refused(with());
        assert!(error.contains(word) && error.contains("corp") && !error.contains("canary"), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    assert!(providers(with()).is_ok());
    std::os::unix::fs::chown(&path, Some(65534), None).expect("root may");
    assert!(refused(with()).contains("chown"));
}
