//! What a name stands for while nobody can know whether what was said about it has worked.

use super::{POLICY, stage::check};
use crate::{
    operation::{Effect, Meaning, Object},
    protocol::postgres::classify,
};

/// A deletion that is refused at first, in place of an execution.
const REFUSED: &str = "< E 42501 holdpoint: held for approval as request #1; send the identical operation again once it is approved (`holdpoint wait #1`); request #1, rule \"rows\" | Z I";

#[test]
fn c1_a_name_that_sql_has_prepared_again_means_that() {
    for gone in ["DEALLOCATE s", "DEALLOCATE ALL", "DISCARD ALL"] {
        check(
            POLICY,
            &format!(
                "
                > P s SELECT 1 | S
                >> P s SELECT 1 | S
                << 1 | Z I
                < 1 | Z I
                > Q {gone}
                >> Q {gone}
                << C DONE | Z I
                < C DONE | Z I
                > Q PREPARE s AS DELETE FROM orders
                >> Q PREPARE s AS DELETE FROM orders
                << C PREPARE | Z I
                < C PREPARE | Z I
                > B - s | E - | S
                >> P holdpoint_refused holdpoint: operation refused | S
                = held as #1: EXECUTE \"s\"
                << E 42601 syntax error | Z I
                {REFUSED}
                "
            ),
        );
    }
    // All in one piece: what was deallocated is not known to be.
    check(
        POLICY,
        &format!(
            "
            > P s SELECT 1 | S | Q DEALLOCATE s | Q PREPARE s AS DELETE FROM orders | B - s | E - | S
            >> P s SELECT 1 | S | Q DEALLOCATE s | Q PREPARE s AS DELETE FROM orders | P holdpoint_refused holdpoint: operation refused | S
            = held as #1: SELECT 1
            -- or, under the same name:
            EXECUTE \"s\"
            << 1 | Z I | C DEALLOCATE | Z I | C PREPARE | Z I | E 42601 syntax error | Z I
            {}
            ",
            REFUSED.replacen("< ", "< 1 | Z I | C DEALLOCATE | Z I | C PREPARE | Z I | ", 1)
        ),
    );
}

#[test]
fn c1_behind_a_sync_a_name_may_still_be_what_it_was() {
    let long = "n".repeat(63);
    for (before, name, said) in [
        ("s", "s", "P s SELECT 1"),
        ("s", "s", "P bad SELEC | C S s | P s SELECT 1"),
        // The backend minds no more than 63 bytes of a name.
        (&format!("{long}a"), &format!("{long}b"), &format!("P {long}b SELECT 1")),
    ] {
        check(
            POLICY,
            &format!(
                "
                > P {before} DELETE FROM orders | S
                >> P {before} DELETE FROM orders | S
                << 1 | Z I
                < 1 | Z I
                > {said} | S | B - {name} | E - | S
                >> {said} | S | P holdpoint_refused holdpoint: operation refused | S
                = held as #1: SELECT 1
                -- or, under the same name:
                DELETE FROM orders
                << E 42P05 exists | Z I | E 42601 syntax error | Z I
                {}
                ",
                REFUSED.replacen("< ", "< E 42P05 exists | Z I | ", 1)
            ),
        );
    }
}

#[test]
fn c1_a_portal_behind_a_sync_may_still_be_what_it_was() {
    let policy = format!(
        "{POLICY}\n---\npolicy: writes\nmatch: {{ resource: orders-db, kinds: [execute], effects: [write] }}\ndecide: hold\non_hold: retry\n"
    );
    check(
        &policy,
        &format!(
            "
            > Q BEGIN
            >> Q BEGIN
            << C BEGIN | Z T
            < C BEGIN | Z T
            > P a INSERT INTO orders VALUES (1) | B c a | S
            >> P a INSERT INTO orders VALUES (1) | B c a | S
            << 1 | 2 | Z T
            < 1 | 2 | Z T
            > P b SELECT 1 | B c b | S | E c | S
            >> P b SELECT 1 | B c b | S | P holdpoint_refused holdpoint: operation refused | S
            = held as #1: SELECT 1
            -- or, under the same name:
            INSERT INTO orders VALUES (1)
            << 1 | E 42P03 exists | Z E | E 42601 syntax error | Z E
            {}
            ",
            REFUSED.replacen("< ", "< 1 | E 42P03 exists | Z E | ", 1).replace("\"rows\" | Z I", "\"writes\" | Z E")
        ),
    );
}

#[test]
fn c1_within_one_stretch_the_newest_meaning_is_exact() {
    check(
        POLICY,
        "
        > P - DELETE FROM orders | S | P - SELECT 1 | B - - | E - | S | P - SELECT 2 | B - - | E - | S
        >> P - DELETE FROM orders | S | P - SELECT 1 | B - - | E - | S | P - SELECT 2 | B - - | E - | S
        << 1 | Z I | 1 | 2 | D 1 | C SELECT 1 | Z I | 1 | 2 | D 2 | C SELECT 1 | Z I
        < 1 | Z I | 1 | 2 | D 1 | C SELECT 1 | Z I | 1 | 2 | D 2 | C SELECT 1 | Z I
        > C S s | P s SELECT 1 | B - s | E - | C S s | P s SELECT 2 | S
        >> C S s | P s SELECT 1 | B - s | E - | C S s | P s SELECT 2 | S
        << 3 | 1 | 2 | D 1 | C SELECT 1 | 3 | 1 | Z I
        < 3 | 1 | 2 | D 1 | C SELECT 1 | 3 | 1 | Z I
        > B - s | E - | S
        >> B - s | E - | S
        ",
    );
}

#[test]
fn c1_more_statements_than_are_remembered_are_unknown() {
    let long = format!("SELECT '{}'", "x".repeat(900 * 1024));
    let fill: String = (0..10)
        .map(|number| format!("> P s{number} {long} | S\n>> P s{number} {long} | S\n<< 1 | Z I\n< 1 | Z I\n"))
        .collect();
    check(
        POLICY,
        &format!(
            "{fill}
            > B - s9 | E - | S
            >> P holdpoint_refused holdpoint: operation refused | S
            << E 42601 syntax error | Z I
            < E 42501 holdpoint: what this does cannot be seen through (uses a name that this session gave more often than this gateway remembers), and no policy that matches allows `unknown`; rule \"default of orders-db\" | Z I
            > Q DEALLOCATE ALL
            >> Q DEALLOCATE ALL
            << C DEALLOCATE ALL | Z I
            < C DEALLOCATE ALL | Z I
            > P t SELECT 1 | S
            >> P t SELECT 1 | S
            << 1 | Z I
            < 1 | Z I
            > B - t | E - | S
            >> B - t | E - | S
            "
        ),
    );
}

#[test]
fn m4_a_union_is_bounded() {
    let touches = |from: usize| Meaning {
        objects: (from..from + 8000)
            .map(|number| Object { kind: "table".into(), schema: None, name: number.to_string() })
            .collect(),
        fields: [("tables", (from..from + 8000).map(|number| number.to_string()).collect())].into(),
        ..Meaning::default()
    };
    let (one, other) = (touches(0), touches(8000));
    assert_eq!(classify::union([&one, &one]), Meaning { objects: classify::union([&one]).objects, ..one.clone() });
    let both = classify::union([&one, &other, &one]);
    assert!(both.effects.contains(Effect::Unknown));
    assert_eq!(both.objects.len(), 8000);
    let few = |name: &str| Meaning {
        objects: vec![Object { kind: "table".into(), schema: None, name: name.into() }],
        ..Meaning::default()
    };
    assert_eq!(classify::union([&few("a"), &few("b"), &few("a")]).objects.len(), 2);
}
