//! While people decide: what the client hears, what waits behind, and every way in which it ends.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, time};

use super::{
    POLICY,
    stage::{Stage, check, settle},
};

#[test]
fn a_waiting_client_hears_of_it_at_once_and_every_fifteen_seconds() {
    check(
        POLICY,
        "
        > Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! wait 14s
        ! wait 1s
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 14m 45s left; approve with: holdpoint approvals approve #1
        ! wait 15s
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 14m 30s left; approve with: holdpoint approvals approve #1
        ! ada approves
        >> Q DROP TABLE orders
        = #1 approved
        ! wait 1m
        << C DROP TABLE | Z I
        < C DROP TABLE | Z I
        ",
    );
}

#[test]
fn a_denied_operation_is_an_error_with_the_words_of_who_denied_it() {
    check(
        POLICY,
        "
        > Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! ada denies not on a friday
        < E 42501 holdpoint: denied by ada: not on a friday; request #1, rule \"shape\" | Z I
        = #1 denied
        > Q SELECT 1
        >> Q SELECT 1
        ",
    );
}

#[test]
fn v15_at_the_deadline_the_answer_is_no() {
    let mut script = "
        > Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 40s left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! wait 20s
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 25s left; approve with: holdpoint approvals approve #1
        ! wait 20s
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 10s left; approve with: holdpoint approvals approve #1 | E 42501 holdpoint: nobody approved it in time; request #1, rule \"shape\" | Z I
        = #1 expired
        "
    .to_owned();
    script.push_str("> Q SELECT 1\n>> Q SELECT 1\n");
    check(&POLICY.replace("15m", "40s"), &script);
}

#[test]
fn p9_cancelling_with_the_gateways_key_withdraws_what_is_held() {
    check(
        POLICY,
        "
        > Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! cancel by another workload
        ! cancel by another user
        ! cancel
        < E 57014 canceling statement due to user request | Z I
        = #1 withdrawn
        > Q SELECT 1
        >> Q SELECT 1
        ! cancel by another workload
        ! cancel
        >> on its own: cancel
        << E 57014 canceling statement due to user request | Z I
        < E 57014 canceling statement due to user request | Z I
        ",
    );
}

#[test]
fn p9_a_cancel_that_comes_with_the_decision_does_not_cancel_the_next_operation() {
    check(
        POLICY,
        "
        > Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! ada approves as the client cancels
        >> Q DROP TABLE orders
        = #1 approved
        << C DROP TABLE | Z I
        < C DROP TABLE | Z I
        > Q DROP TABLE customers
        < N 00000 holdpoint: held for approval: request #2, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #2
        = held as #2: DROP TABLE customers
        ",
    );
}

#[test]
fn a_client_that_hangs_up_withdraws_what_is_held() {
    check(
        POLICY,
        "
        > Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! client hangs up
        >> (end)
        = #1 withdrawn
        = ended: the client closed the connection
        ",
    );
}

#[test]
fn a_backend_that_goes_withdraws_what_is_held() {
    check(
        POLICY,
        "
        > Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! backend hangs up
        < (end)
        = #1 withdrawn
        = ended: the backend closed the connection
        ",
    );
}

#[test]
fn a_stopping_gateway_keeps_holding_until_the_desk_stops() {
    check(
        POLICY,
        "
        > Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! gateway stops
        ! desk stops
        >> (end)
        < E 42501 holdpoint: the gateway is stopping; send it again when it is back; request #1, rule \"shape\" | Z I | E 57P01 holdpoint: the gateway is stopping
        < (end)
        = #1 restarted
        = ended: the gateway is stopping
        ",
    );
}

#[test]
fn v1_what_follows_a_held_operation_waits_in_order() {
    check(
        POLICY,
        "
        > Q SELECT 1 | Q DROP TABLE orders | Q SELECT 2
        >> Q SELECT 1
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        > Q SELECT 3
        # What went before still answers.
        << D 1 | C SELECT 1 | Z I
        < D 1 | C SELECT 1 | Z I
        ! ada approves
        >> Q DROP TABLE orders | Q SELECT 2 | Q SELECT 3
        = #1 approved
        << C DROP TABLE | Z I | D 2 | C SELECT 1 | Z I | D 3 | C SELECT 1 | Z I
        < C DROP TABLE | Z I | D 2 | C SELECT 1 | Z I | D 3 | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn one_operation_after_the_other_may_be_held() {
    check(
        POLICY,
        "
        > Q DROP TABLE orders | Q DROP TABLE customers
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! ada approves
        >> Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #2, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #2
        = #1 approved
        = held as #2: DROP TABLE customers
        ! ada denies
        >> Q holdpoint: operation refused
        = #2 denied
        << C DROP TABLE | Z I | E 42601 syntax error | Z I
        < C DROP TABLE | Z I | E 42501 holdpoint: denied by ada; request #2, rule \"shape\" | Z I
        ",
    );
}

#[test]
fn a_denial_inside_a_transaction_fails_it() {
    check(
        POLICY,
        "
        > Q BEGIN
        >> Q BEGIN
        << C BEGIN | Z T
        < C BEGIN | Z T
        > Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! ada denies
        >> Q holdpoint: operation refused
        = #1 denied
        << E 42601 syntax error | Z E
        < E 42501 holdpoint: denied by ada; request #1, rule \"shape\" | Z E
        ",
    );
}

#[test]
fn on_hold_retry_refuses_at_once_and_releases_the_same_later() {
    check(
        POLICY,
        "
        > Q DELETE FROM orders
        < E 42501 holdpoint: held for approval as request #1; send the identical operation again once it is approved (`holdpoint wait #1`); request #1, rule \"rows\" | Z I
        = held as #1: DELETE FROM orders
        > Q DELETE FROM orders
        < E 42501 holdpoint: held for approval as request #1; send the identical operation again once it is approved (`holdpoint wait #1`); request #1, rule \"rows\" | Z I
        ! ada approves
        = #1 approved
        > Q DELETE FROM  orders
        < E 42501 holdpoint: held for approval as request #2; send the identical operation again once it is approved (`holdpoint wait #2`); request #2, rule \"rows\" | Z I
        = held as #2: DELETE FROM  orders
        > Q DELETE FROM orders
        >> Q DELETE FROM orders
        << C DELETE 3 | Z I
        < C DELETE 3 | Z I
        > Q DELETE FROM orders
        < E 42501 holdpoint: held for approval as request #3; send the identical operation again once it is approved (`holdpoint wait #3`); request #3, rule \"rows\" | Z I
        = held as #3: DELETE FROM orders
        ",
    );
}

#[test]
fn a8_an_approval_that_cannot_be_recorded_releases_nothing() {
    check(
        &POLICY.replace("15m", "20s"),
        "
        > Q DROP TABLE orders
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 20s left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! disk fails
        ! wait 30s
        >> (end)
        < (end)
        ",
    );
}

/// While an operation is held, what a client sends ahead stays in the client after a while, not in the gateway.
#[tokio::test(start_paused = true)]
async fn v4_a_client_cannot_fill_the_gateway_behind_a_held_operation() {
    let mut stage = Stage::new(POLICY);
    stage.log_in().await;
    stage.step("> Q DROP TABLE orders").await;
    assert_eq!(stage.look().await.len(), 2);
    let more = super::notation::client(&format!("Q SELECT '{}'", "x".repeat(1 << 20)), &[]);
    let client = stage.client.as_mut().expect("there");
    let mut taken = 0;
    while let Ok(sent) = time::timeout(Duration::from_millis(10), client.write(&more[taken..])).await {
        taken += sent.expect("open");
    }
    // The pipe holds 64 KiB, and the gateway may have read 64 KiB and one read more.
    assert!((1..=3 * 64 * 1024).contains(&taken), "{taken} bytes were taken");
    settle().await;
    stage.leave().await;
}
