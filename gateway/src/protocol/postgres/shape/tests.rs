//! Which texts have one form, and what a session's past adds to it.

use super::*;

/// Whether two texts have one form, and whether pg_query has one name for them.
fn alike(one: &str, other: &str) -> (bool, bool) {
    let name = |text: &str| {
        pg_query::fingerprint(text, ParserOptions::DISABLE_ESCAPE_STRING_WARNING, FingerprintOptions::default())
            .expect("it parses")
            .hex
    };
    let form = |text: &str| cut(text.as_bytes()).expect("it is read").0;
    (form(one) == form(other), name(one) == name(other))
}

#[test]
fn literals_and_comments_are_not_part_of_the_form() {
    for (one, other) in [
        ("DELETE FROM orders WHERE id = 1", "DELETE FROM orders WHERE id = 22"),
        ("UPDATE t SET a = 'x' WHERE b = 1.5", "UPDATE t SET a = E'y\\'' WHERE b = .5"),
        ("DELETE FROM orders /* job 7 */ WHERE id = 1", "DELETE FROM orders WHERE id = 1 -- job 8"),
        ("DELETE FROM orders WHERE id = 1", "DELETE FROM orders WHERE id = 1; ; -- done"),
    ] {
        assert_eq!(alike(one, other), (true, true), "{one} | {other}");
    }
}

#[test]
fn what_shares_a_fingerprint_and_does_something_else_has_another_form() {
    for (one, other) in [
        ("DELETE FROM a.orders AS o WHERE o.id = 1", "DELETE FROM b.payments AS o WHERE o.id = 1"),
        ("DELETE FROM orders_2024 WHERE id = 1", "DELETE FROM orders_2025 WHERE id = 1"),
        ("SELECT a, b FROM t", "SELECT b, a FROM t"),
        ("DELETE FROM t WHERE id IN (1)", "DELETE FROM t WHERE id IN (1, 2, 3)"),
    ] {
        let (form, name) = alike(one, other);
        assert!(name, "pg_query names these alike, which is why the form is compared: {one} | {other}");
        assert!(!form, "{one} | {other}");
    }
}

#[test]
fn a_literal_never_swallows_what_follows_it() {
    for (one, other) in [
        ("DELETE FROM t WHERE a = 'x'", "DELETE FROM t WHERE a = 'x' OR true"),
        ("DELETE FROM t WHERE a = 'x'", "DELETE FROM t WHERE a = '' || 'x'"),
        ("DELETE FROM t WHERE a = $$x$$", "DELETE FROM t WHERE a = $q$x$q$ OR b = 1"),
        ("DELETE FROM t WHERE a = 1", "DELETE FROM t WHERE a = -1"),
        ("DELETE FROM t WHERE a = true", "DELETE FROM t WHERE a = false"),
        ("DELETE FROM t WHERE a = 1", "DELETE FROM t WHERE a = '1'"),
    ] {
        assert!(!alike(one, other).0, "{one} | {other}");
    }
    let (_, values) = cut(b"DELETE FROM t WHERE a = 'x' AND b = $1 AND c < 4.5").expect("it is read");
    assert_eq!(values, ["'x'", "4.5"]);
}

#[test]
fn what_a_handle_of_the_session_stands_for_is_in_no_text() {
    for text in [
        "DELETE FROM t WHERE CURRENT OF c",
        "DELETE FROM t WHERE id = currval('s')",
        "SELECT pg_catalog.\"lastval\"()",
        "SELECT LOWRITE(0, 'x')",
    ] {
        assert!(cut(text.as_bytes()).is_none(), "{text}");
    }
    assert!(cut(b"DELETE FROM t WHERE id = 1").is_some());
}
