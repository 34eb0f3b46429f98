//! The extended protocol: prepared statements, pipelines, and what the backend would discard.

use super::{POLICY, stage::check};

#[test]
fn an_execution_goes_with_what_it_needs_in_one_piece() {
    check(
        POLICY,
        "
        > P - SELECT $1 | B - - 7 | D P - | E - | S
        >> P - SELECT $1 | B - - 7 | D P - | E - | S
        << 1 | 2 | T ?column? | D 7 | C SELECT 1 | Z I
        < 1 | 2 | T ?column? | D 7 | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn p4_a_statement_is_judged_when_it_is_executed_not_when_it_is_prepared() {
    check(
        POLICY,
        "
        > P s DROP TABLE orders | D S s | S
        >> P s DROP TABLE orders | D S s | S
        << 1 | t | n | Z I
        < 1 | t | n | Z I
        > B - s | E - | S
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! ada approves
        >> B - s | E - | S
        = #1 approved
        << 2 | C DROP TABLE | Z I
        < 2 | C DROP TABLE | Z I
        # One approval releases it once.
        > B - s | E - | S
        < N 00000 holdpoint: held for approval: request #2, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #2
        = held as #2: DROP TABLE orders
        ",
    );
}

#[test]
fn p4_a_name_means_what_it_was_last_prepared_as() {
    check(
        POLICY,
        "
        > P s SELECT 1 | S
        >> P s SELECT 1 | S
        << 1 | Z I
        < 1 | Z I
        > C S s | P s DROP TABLE orders | S
        >> C S s | P s DROP TABLE orders | S
        << 3 | 1 | Z I
        < 3 | 1 | Z I
        > B - s | E - | S
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! ada denies
        >> P holdpoint_refused holdpoint: operation refused | S
        = #1 denied
        << E 42601 syntax error | Z I
        < E 42501 holdpoint: denied by ada; request #1, rule \"shape\" | Z I
        # A Parse that fails leaves the name with what it had.
        > P s SELECT 1 | S
        >> P s SELECT 1 | S
        << E 42P05 prepared statement \"s\" already exists | Z I
        < E 42P05 prepared statement \"s\" already exists | Z I
        > B - s | E - | S
        < N 00000 holdpoint: held for approval: request #2, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #2
        = held as #2: DROP TABLE orders
        ",
    );
}

#[test]
fn p4_a_portal_executed_again_is_judged_again() {
    check(
        POLICY,
        "
        > Q BEGIN
        >> Q BEGIN
        << C BEGIN | Z T
        < C BEGIN | Z T
        > P - SELECT 1 | B c - | E c | H
        >> P - SELECT 1 | B c - | E c | H
        << 1 | 2 | D 1 | s
        < 1 | 2 | D 1 | s
        ! policies refuse
        > E c | S
        >> P holdpoint_refused holdpoint: operation refused | S
        << E 42601 syntax error | Z E
        < E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z E
        ",
    );
}

#[test]
fn a_bind_that_nothing_executes_is_judged_as_its_execution_would_be() {
    check(
        POLICY,
        "
        > P - DROP TABLE orders | B - - | H
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! ada approves
        >> P - DROP TABLE orders | B - - | H
        = #1 approved
        << 1 | 2
        < 1 | 2
        ",
    );
}

#[test]
fn p5_a_refusal_in_the_middle_of_a_pipeline_skips_the_rest_up_to_sync() {
    check(
        POLICY,
        "
        > P - SELECT 1 | B - - | E - | P - GRANT ALL ON orders TO bot | B - - | E - | P - SELECT 3 | B - - | E - | S | Q SELECT 4
        >> P - SELECT 1 | B - - | E - | P holdpoint_refused holdpoint: operation refused | S | Q SELECT 4
        << 1 | 2 | D 1 | C SELECT 1 | E 42601 syntax error | Z I | D 4 | C SELECT 1 | Z I
        < 1 | 2 | D 1 | C SELECT 1 | E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z I | D 4 | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn p5_a_held_operation_in_a_pipeline_keeps_the_order() {
    check(
        POLICY,
        "
        > P - SELECT 1 | B - - | E - | P - DROP TABLE orders | B - - | E - | P - SELECT 3 | B - - | E - | S
        >> P - SELECT 1 | B - - | E -
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        << 1 | 2 | D 1 | C SELECT 1
        < 1 | 2 | D 1 | C SELECT 1
        ! ada approves
        >> P - DROP TABLE orders | B - - | E - | P - SELECT 3 | B - - | E - | S
        = #1 approved
        << 1 | 2 | C DROP TABLE | 1 | 2 | D 3 | C SELECT 1 | Z I
        < 1 | 2 | C DROP TABLE | 1 | 2 | D 3 | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn p5_a_denied_operation_in_a_pipeline_skips_the_rest() {
    check(
        POLICY,
        "
        > P - SELECT 1 | B - - | E - | P - DROP TABLE orders | B - - | E - | P - SELECT 3 | B - - | E - | S
        >> P - SELECT 1 | B - - | E -
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! ada denies
        >> P holdpoint_refused holdpoint: operation refused | S
        = #1 denied
        << 1 | 2 | D 1 | C SELECT 1 | E 42601 syntax error | Z I
        < 1 | 2 | D 1 | C SELECT 1 | E 42501 holdpoint: denied by ada; request #1, rule \"shape\" | Z I
        ",
    );
}

#[test]
fn p5_what_the_backend_failed_before_is_not_run_by_a_later_approval() {
    check(
        POLICY,
        "
        > P - SELECT 1/0 | B - - | E - | P - DROP TABLE orders | B - - | E - | S
        >> P - SELECT 1/0 | B - - | E -
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        << 1 | 2 | E 22012 division by zero
        < 1 | 2 | E 22012 division by zero
        ! ada approves
        >> P - DROP TABLE orders | B - - | E - | S
        = #1 approved
        # The backend discards it, as it would have anyway.
        << Z I
        < Z I
        > Q SELECT 2
        >> Q SELECT 2
        << D 2 | C SELECT 1 | Z I
        < D 2 | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn p5_a_held_query_behind_a_failed_execution_is_discarded_with_the_rest() {
    for decision in ["approves", "denies"] {
        let forwarded = if decision == "approves" { "\n>> Q DROP TABLE orders" } else { "" };
        check(
            POLICY,
            &format!(
                "
                > P - SELECT 1/0 | B - - | E - | Q DROP TABLE orders
                >> P - SELECT 1/0 | B - - | E -
                < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
                = held as #1: DROP TABLE orders
                << 1 | 2 | E 22012 division by zero
                < 1 | 2 | E 22012 division by zero
                ! ada {decision}{forwarded}
                = #1 {}
                > S
                >> S
                << Z I
                < Z I
                > Q SELECT 1
                >> Q SELECT 1
                << T ?column? | D 1 | C SELECT 1 | Z I
                < T ?column? | D 1 | C SELECT 1 | Z I
                ",
                if decision == "approves" { "approved" } else { "denied" }
            ),
        );
    }
}

#[test]
fn p5_after_an_error_of_the_backends_own_the_gateway_discards_too() {
    check(
        POLICY,
        "
        > P - SELECT 1/0 | B - - | E - | H
        >> P - SELECT 1/0 | B - - | E - | H
        << 1 | 2 | E 22012 division by zero
        < 1 | 2 | E 22012 division by zero
        > P - DROP TABLE orders | B - - | E - | S
        >> S
        << Z I
        < Z I
        ",
    );
}

#[test]
fn p5_a_refusal_with_a_flush_still_waits_for_sync() {
    check(
        POLICY,
        "
        > P - GRANT ALL ON orders TO bot | B - - | E - | H
        >> P holdpoint_refused holdpoint: operation refused | H
        << E 42601 syntax error
        < E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\"
        > P - SELECT 1 | B - - | E -
        > S
        >> S
        << Z I
        < Z I
        ",
    );
}

#[test]
fn cancelling_a_held_execution_is_the_backends_own_words() {
    check(
        POLICY,
        "
        > P - DROP TABLE orders | B - - | E - | S
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! cancel
        >> P holdpoint_refused holdpoint: operation refused | S
        = #1 withdrawn
        << E 42601 syntax error | Z I
        < E 57014 canceling statement due to user request | Z I
        ",
    );
}

#[test]
fn a_portal_that_nobody_bound_is_unknown() {
    check(
        POLICY,
        "
        > E p | S
        >> P holdpoint_refused holdpoint: operation refused | S
        << E 42601 syntax error | Z I
        < E 42501 holdpoint: what this does cannot be seen through (executes a portal that this session was not seen to bind), and no policy that matches allows `unknown`; rule \"default of orders-db\" | Z I
        ",
    );
}
