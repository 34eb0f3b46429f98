//! What settings cannot mean, and what they say of it.

use super::*;

fn refused(settings: SamlProvider) -> String {
    Providers::from_config(&[settings], "https://desk.example").map(|_| ()).expect_err("it is refused").to_string()
}

fn one(text: &str) -> SamlProvider {
    serde_saphyr::from_str(text).expect("it can be read")
}

#[test]
fn a_provider_is_said_by_metadata_or_one_by_one() {
    let world = World::new();
    let (xml, crt) = (world.path("idp.xml").display().to_string(), world.path("idp.crt").display().to_string());
    for wrong in [
        "{name: corp}".to_owned(),
        format!("{{name: corp, metadata: '{xml}', entity_id: x}}"),
        format!("{{name: corp, metadata: '{xml}', certificates: ['{crt}']}}"),
        "{name: corp, entity_id: x, sso_url: 'https://id.example'}".to_owned(),
        format!("{{name: corp, entity_id: x, certificates: ['{crt}']}}"),
    ] {
        assert!(refused(one(&wrong)).contains("it needs `metadata`"), "{wrong}");
    }
    let by_hand = |url: &str| one(&format!("{{name: corp, entity_id: x, sso_url: '{url}', certificates: ['{crt}']}}"));
    for right in ["https://id.example/sso?x=1", "http://127.0.0.1:1/", "http://localhost", "http://[::1]:2/sso"] {
        assert!(Providers::from_config(&[by_hand(right)], "https://desk.example").is_ok(), "{right}");
    }
    for wrong in [
        "http://id.example",
        "http://127.0.0.1.example",
        "https://user@id.example",
        "https://id.example/#x",
        "https://id.example/ x",
        "javascript:alert(1)",
        "https://",
        "",
    ] {
        assert!(refused(by_hand(wrong)).contains("sso_url"), "{wrong}");
    }
}

#[test]
fn metadata_that_cannot_be_meant_is_refused_with_what_is_wrong() {
    let world = World::new();
    let right = fs::read_to_string(world.path("idp.xml")).expect("it is there");
    for (from, to, word) in [
        ("md:EntityDescriptor", "md:EntitiesDescriptor", "of one provider"),
        ("IDPSSODescriptor", "SPSSODescriptor", "not a provider's"),
        ("bindings:HTTP-Redirect", "bindings:SOAP", "HTTP-Redirect"),
        ("use=\"signing\"", "use=\"encryption\"", "no certificate"),
        ("<ds:X509Certificate>", "<ds:X509Certificate>AAAA", "is none"),
        ("https://id.example/sso", "http://id.example/sso", "sso_url"),
        ("entityID=\"https://id.example\"", "", "empty"),
        ("<md:EntityDescriptor", "<!DOCTYPE x><md:EntityDescriptor", "DTD"),
    ] {
        world.write("idp.xml", &right.replace(from, to));
        let why = refused(world.settings(""));
        assert!(why.contains(word) && why.contains("corp"), "{from}: {why}");
    }
    assert!(refused(one("{name: corp, metadata: /nowhere}")).contains("/nowhere"));
}

#[test]
fn a_new_certificate_counts_at_once_and_a_new_name_does_not() {
    let world = World::new();
    let provider = world.provider(world.settings(""));
    let next = Key::ec();
    let text = answer(&Signer::honest(&next).sign(&assertion(), "_a"));
    assert_eq!(provider.read(RULES, &text, expected()), Err(Why::Signature));
    world.write("idp.xml", &metadata("https://id.example", "https://id.example/sso", &next.public()));
    assert!(provider.read(RULES, &text, expected()).is_ok());
    world.write("idp.xml", &metadata("https://other.example", "https://id.example/sso", &next.public()));
    let why = provider.read(RULES, &text, expected()).expect_err("another provider").to_string();
    assert!(why.contains("restart"), "{why}");
}

#[test]
fn providers_are_told_apart() {
    let world = World::new();
    for name in ["''", "..", "a/b", "a b", &"x".repeat(65)] {
        let settings = SamlProvider { name: name.trim_matches('\'').to_owned(), ..world.settings("") };
        assert!(refused(settings).contains("letters"), "{name}");
    }
    let other = |name: &str| SamlProvider { name: name.to_owned(), ..world.settings("") };
    let two = |all: &[SamlProvider]| Providers::from_config(all, "https://desk.example").map(|_| ());
    assert!(two(&[other("a"), other("a")]).expect_err("one name").to_string().contains("two of that name"));
    assert!(two(&[other("a"), other("b")]).expect_err("one issuer").to_string().contains("same issuer"));
    let own = Providers::from_config(&[other("a")], "https://desk.example").expect("one");
    assert!(own.beside(&[("b", "https://b.example")]).is_ok());
    assert!(own.beside(&[("a", "https://b.example")]).is_err());
    assert!(own.beside(&[("b", "https://id.example")]).is_err());
}

#[test]
fn a_key_is_for_its_owner_alone_and_belongs_to_its_certificate() {
    let world = World::new();
    let path = |name: &str| world.path(name).display().to_string();
    let (crt, key) = (path("own.crt"), path("own.key"));
    assert!(refused(world.settings(&format!("key: '{key}'"))).contains("belong together"));
    assert!(refused(world.settings("sign_requests: true")).contains("need `certificate` and `key`"));
    assert!(refused(world.settings("require: {encrypted: true}")).contains("need `certificate` and `key`"));
    let with = |crt: &str, key: &str| world.settings(&format!("certificate: '{crt}', key: '{key}'"));
    assert!(refused(with(&path("idp.crt"), &key)).contains("of another key"));
    assert!(refused(with(&crt, &crt)).contains("openssl pkcs8"));
    world.write("ec.key", &pem("PRIVATE KEY", &Key::ec().pkcs8()));
    assert!(refused(with(&crt, &path("ec.key"))).contains("RSA"));
    fs::set_permissions(world.path("own.key"), fs::Permissions::from_mode(0o640)).expect("it is ours");
    assert!(refused(with(&crt, &key)).contains("chmod 600"));
}
