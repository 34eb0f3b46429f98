//! What [`super`] (`method`) promises.

use proptest::prelude::*;

use super::*;

fn salt() -> Salt {
    Salt::new(&[1; 32])
}

fn shown(method: Method, kind: Kind, value: &str) -> String {
    match apply(method, kind, false, value.as_bytes(), &salt()) {
        Replacement::Null => "NULL".to_owned(),
        Replacement::Value(value) => String::from_utf8(value.into_owned()).expect("text"),
    }
}

#[test]
fn partial_shows_little() {
    for (value, expected) in [
        ("", "***"),
        ("secret1", "***"),
        ("secret12", "***et12"),
        ("123-45-6789", "***6789"),
        ("jane@example.com", "j***@example.com"),
        ("jo@example.com", "***@example.com"),
        ("żółw@example.com", "ż***@example.com"),
        ("a b@example.com", "***.com"),
        ("überraschung", "***hung"),
        ("日本語日本語日本", "***本語日本"),
        ("abc                 ", "***"),
    ] {
        assert_eq!(shown(Method::Partial, Kind::Text, value), expected, "for {value:?}");
    }
    assert_eq!(partial(&[0xff; 20]), MASKED);
}

#[test]
fn every_kind_keeps_its_type() {
    assert_eq!(shown(Method::Redact, Kind::Text, "x"), "[masked]");
    assert_eq!(shown(Method::Redact, Kind::Char, "x"), "*");
    assert_eq!(shown(Method::Redact, Kind::Json, "{\"a\":1}"), "\"[masked]\"");
    assert_eq!(shown(Method::Partial, Kind::Json, "\"4111111111111111\""), "\"***1111\"");
    assert_eq!(shown(Method::Partial, Kind::Json, "4111111111111111"), "\"[masked]\"");
    assert_eq!(shown(Method::Redact, Kind::Uuid, "x"), "00000000-0000-0000-0000-000000000000");
    for kind in [Kind::Bytes, Kind::Number, Kind::Other] {
        for method in [Method::Redact, Method::Partial, Method::Hash, Method::Null] {
            assert_eq!(shown(method, kind, "1"), "NULL");
        }
    }
}

#[test]
fn hashes_are_equal_for_equal_values_and_only_under_one_salt() {
    assert_eq!(shown(Method::Hash, Kind::Text, "a"), shown(Method::Hash, Kind::Text, "a"));
    assert_ne!(shown(Method::Hash, Kind::Text, "a"), shown(Method::Hash, Kind::Text, "b"));
    let other = apply(Method::Hash, Kind::Text, false, b"a", &Salt::new(&[2; 32]));
    assert_ne!(apply(Method::Hash, Kind::Text, false, b"a", &salt()), other);
}

#[test]
fn both_forms_of_a_uuid_hash_alike() {
    let id = uuid::Uuid::from_bytes([9; 16]);
    let text = shown(Method::Hash, Kind::Uuid, &id.to_string());
    let Replacement::Value(binary) = apply(Method::Hash, Kind::Uuid, true, id.as_bytes(), &salt()) else {
        panic!("a valid uuid hashes")
    };
    assert_eq!(uuid::Uuid::from_slice(&binary).expect("16 bytes").to_string(), text);
    assert_eq!(apply(Method::Hash, Kind::Uuid, true, b"short", &salt()), Replacement::Null);
}

proptest! {
    #[test]
    fn partial_never_shows_more_than_four_characters(value in "[^@]{0,40}") {
        let seen = partial(value.as_bytes());
        prop_assert!(seen == MASKED || seen.chars().count() <= 3 + 4);
        if value.chars().count() < 8 {
            prop_assert_eq!(seen, "***");
        }
    }

    #[test]
    fn json_stays_json(value in prop::collection::vec(any::<u8>(), 0..60)) {
        for method in [Method::Redact, Method::Partial, Method::Hash] {
            let Replacement::Value(json) = apply(method, Kind::Json, false, &value, &salt()) else { panic!("a string") };
            prop_assert!(serde_json::from_slice::<String>(&json).is_ok());
        }
    }
}
