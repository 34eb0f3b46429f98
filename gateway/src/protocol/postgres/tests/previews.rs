//! While a statement is held the backend is asked what it would touch: every way in which that goes wrong.

use super::{POLICY, stage::check};

/// Holds a statement outside a transaction, with everything looked into, up to the question of what it would touch.
const HELD: &str = "
    > Q DROP TABLE orders
    >> (the catalog lookup) | (the catalog lookup) | S
    << 3 | 1 | 2 | C SELECT 0 | 3 | 3 | 3 | 1 | 2 | C SELECT 0 | 3 | 3 | Z I
    >> (BEGIN) | (SET) | (SET) | (SELECT) | S
    < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
    = held as #1: DROP TABLE orders
    ";

/// Answers of statements that went well, with what they are followed by.
fn went_well(statements: usize, then: &str) -> String {
    format!("<< {}{then}", "3 | 1 | 2 | C DONE | 3 | 3 | ".repeat(statements))
}

fn looked_into(script: &str) {
    check(&POLICY.replace("classify: text", "classify: catalog"), &format!("{HELD}\n{script}"));
}

#[test]
fn who_decides_during_the_look_is_heard_after_it() {
    let (asked, back) = (went_well(4, "Z T"), went_well(1, "Z I"));
    looked_into(&format!(
        "
        ! ada approves
        = #1 approved
        {asked}
        >> (ROLLBACK) | S
        {back}
        >> Q DROP TABLE orders
        << C DROP TABLE | Z I
        < C DROP TABLE | Z I
        "
    ));
}

#[test]
fn p9_a_client_that_cancels_during_the_look_is_heard_after_it() {
    let (asked, back) = (went_well(4, "Z T"), went_well(1, "Z I"));
    looked_into(&format!(
        "
        ! cancel
        {asked}
        >> (ROLLBACK) | S
        {back}
        < E 57014 canceling statement due to user request | Z I
        = #1 withdrawn
        "
    ));
}

#[test]
fn a_look_that_fails_is_rolled_back_and_the_statement_goes_on_as_decided() {
    let (asked, back) = (went_well(3, "E 55P03 canceling statement due to lock timeout | Z E"), went_well(1, "Z I"));
    looked_into(&format!(
        "
        {asked}
        >> (ROLLBACK) | S
        {back}
        ! ada denies
        < E 42501 holdpoint: denied by ada; request #1, rule \"shape\" | Z I
        = #1 denied
        > Q SELECT 1
        >> Q SELECT 1
        "
    ));
}

#[test]
fn a_look_that_cannot_even_begin_leaves_nothing_to_roll_back() {
    let asked = went_well(0, "3 | E 57P03 the database system is shutting down | Z I");
    looked_into(&format!(
        "
        {asked}
        ! ada approves
        >> Q DROP TABLE orders
        = #1 approved
        "
    ));
}

#[test]
fn a_session_that_cannot_be_put_back_ends() {
    let (asked, back) =
        (went_well(4, "Z T"), went_well(0, "3 | E 57014 canceling statement due to user request | Z E"));
    looked_into(&format!(
        "
        {asked}
        >> (ROLLBACK) | S
        {back}
        >> (end)
        < E 08P01 holdpoint: the backend broke the protocol: the session could not be put back after a look at a statement
        < (end)
        = #1 withdrawn
        = incident: the backend broke the protocol: the session could not be put back after a look at a statement
        = ended: the backend broke the protocol: the session could not be put back after a look at a statement
        "
    ));
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_connection() {
    looked_into(
        "
        << 3 | 1 | 2 | H
        >> (end)
        < E 08P01 holdpoint: the backend broke the protocol: a message of type 'H' while a statement is looked at
        < (end)
        = #1 withdrawn
        = incident: the backend broke the protocol: a message of type 'H' while a statement is looked at
        = ended: the backend broke the protocol: a message of type 'H' while a statement is looked at
        ",
    );
}

#[test]
fn a_backend_that_does_not_answer_holds_nobody_for_ever() {
    let why = "the backend broke the protocol: it did not say within 10s what a held operation would touch";
    looked_into(&format!(
        "
        ! wait 10s
        >> (end)
        < E 08P01 holdpoint: {why}
        < (end)
        = #1 withdrawn
        = incident: {why}
        = ended: {why}
        "
    ));
}
