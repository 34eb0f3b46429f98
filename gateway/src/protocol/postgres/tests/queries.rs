//! Simple queries: what passes, what is refused, and what a transaction is afterwards.

use super::{
    POLICY,
    stage::{Stage, check},
};
use crate::record::entry::Body;

#[test]
fn an_allowed_query_passes_and_its_answer_comes_back() {
    check(
        POLICY,
        "
        > Q SELECT 1
        >> Q SELECT 1
        << T ?column? | D 1 | C SELECT 1 | Z I
        < T ?column? | D 1 | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn a_refused_query_is_an_error_and_the_connection_lives() {
    check(
        POLICY,
        "
        > Q GRANT ALL ON orders TO bot
        < E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z I
        > Q SELECT 1
        >> Q SELECT 1
        ",
    );
}

#[test]
fn p1_several_statements_in_one_query_are_judged_together() {
    check(
        POLICY,
        "
        > Q SELECT 1; GRANT ALL ON orders TO bot; SELECT 2
        < E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z I
        > Q SELECT 1; INSERT INTO orders VALUES (1)
        >> Q SELECT 1; INSERT INTO orders VALUES (1)
        << C SELECT 1 | C INSERT 0 1 | Z I
        < C SELECT 1 | C INSERT 0 1 | Z I
        ",
    );
}

#[test]
fn p1_how_strings_are_read_follows_the_backend() {
    check(
        POLICY,
        "
        << S standard_conforming_strings=off
        < S standard_conforming_strings=off
        > Q SELECT '\\'', ' ; DROP TABLE orders -- '
        >> Q SELECT '\\'', ' ; DROP TABLE orders -- '
        << C SELECT 1 | Z I
        < C SELECT 1 | Z I
        << S standard_conforming_strings=on
        < S standard_conforming_strings=on
        > Q SELECT '\\'', ' ; DROP TABLE orders -- '
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: SELECT '\\'', ' ; DROP TABLE orders -- '
        ",
    );
}

#[test]
fn a_refusal_inside_a_transaction_fails_it_as_the_backends_own_error_would() {
    check(
        POLICY,
        "
        > Q BEGIN
        >> Q BEGIN
        << C BEGIN | Z T
        < C BEGIN | Z T
        > Q GRANT ALL ON orders TO bot
        >> Q holdpoint: operation refused
        << E 42601 syntax error at or near \"holdpoint\" | Z E
        < E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z E
        > Q SELECT 1
        >> Q SELECT 1
        << E 25P02 current transaction is aborted | Z E
        < E 25P02 current transaction is aborted | Z E
        # In a failed transaction the backend need not hear of a refusal.
        > Q GRANT ALL ON orders TO bot
        < E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z E
        > Q ROLLBACK
        >> Q ROLLBACK
        << C ROLLBACK | Z I
        < C ROLLBACK | Z I
        ",
    );
}

#[test]
fn a_refusal_behind_unanswered_queries_comes_in_its_place() {
    check(
        POLICY,
        "
        > Q SELECT 1 | Q GRANT ALL ON orders TO bot | Q SELECT 2
        >> Q SELECT 1 | Q holdpoint: operation refused | Q SELECT 2
        << D 1 | C SELECT 1 | Z I | E 42601 syntax error | Z I | D 2 | C SELECT 1 | Z I
        < D 1 | C SELECT 1 | Z I | E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z I | D 2 | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn p6_the_function_call_fast_path_is_refused() {
    check(
        POLICY,
        "
        > F
        < E 42501 holdpoint: the function-call fast path is never let through; rule \"postgres protocol\" | Z I
        > Q SELECT 1
        >> Q SELECT 1
        ",
    );
}

#[test]
fn p4_what_was_prepared_in_sql_is_judged_when_it_is_executed() {
    check(
        POLICY,
        "
        > Q PREPARE p AS INSERT INTO orders VALUES (1)
        >> Q PREPARE p AS INSERT INTO orders VALUES (1)
        << C PREPARE | Z I
        < C PREPARE | Z I
        > Q EXECUTE p
        >> Q EXECUTE p
        << C INSERT 0 1 | Z I
        < C INSERT 0 1 | Z I
        > Q PREPARE d AS DELETE FROM orders
        >> Q PREPARE d AS DELETE FROM orders
        << C PREPARE | Z I
        < C PREPARE | Z I
        > Q EXECUTE d
        < E 42501 holdpoint: held for approval as request #1; send the identical operation again once it is approved (`holdpoint wait #1`); request #1, rule \"rows\" | Z I
        = held as #1: EXECUTE d
        > Q EXECUTE unheard_of
        < E 42501 holdpoint: what this does cannot be seen through (executes the prepared statement unheard_of, which this gateway did not see prepared), and no policy that matches allows `unknown`; rule \"default of orders-db\" | Z I
        ",
    );
}

#[test]
fn an_empty_query_does_nothing_and_passes() {
    check(
        POLICY,
        "
        > Q ;
        >> Q ;
        << I | Z I
        < I | Z I
        ",
    );
}

#[test]
fn policies_that_change_hold_for_the_next_operation() {
    check(
        POLICY,
        "
        > Q SELECT 1
        >> Q SELECT 1
        << C SELECT 1 | Z I
        < C SELECT 1 | Z I
        ! policies refuse
        > Q SELECT 1
        < E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z I
        ",
    );
}

#[test]
fn v17_when_the_record_fails_nothing_moves() {
    check(
        POLICY,
        "
        ! disk fails
        > Q SELECT 1
        >> (end)
        < (end)
        ",
    );
    check(
        POLICY,
        "
        > Q SELECT 1
        >> Q SELECT 1
        ! disk fails
        << D secret | C SELECT 1 | Z I
        >> (end)
        < (end)
        ",
    );
}

#[test]
fn a_client_that_says_goodbye_is_let_go() {
    check(
        POLICY,
        "
        > X
        >> X
        >> (end)
        < (end)
        = ended: the session ended
        ",
    );
}

#[test]
fn a_stopping_gateway_waits_for_the_transaction_and_says_why() {
    check(
        POLICY,
        "
        > Q BEGIN
        >> Q BEGIN
        << C BEGIN | Z T
        < C BEGIN | Z T
        ! gateway stops
        > Q COMMIT
        >> Q COMMIT
        << C COMMIT | Z I
        >> (end)
        < C COMMIT | Z I | E 57P01 holdpoint: the gateway is stopping
        < (end)
        = ended: the gateway is stopping
        ",
    );
}

#[test]
fn a_backend_that_goes_ends_the_connection() {
    check(
        POLICY,
        "
        > Q SELECT 1
        >> Q SELECT 1
        ! backend hangs up
        < (end)
        = ended: the backend closed the connection
        ",
    );
}

#[tokio::test(start_paused = true)]
async fn each_answer_is_recorded_with_the_operation_that_it_answers() {
    let mut stage = Stage::new(POLICY);
    stage.log_in().await;
    for step in [
        "> Q SELECT 1",
        "<< D 1 | C SELECT 1 | Z I",
        "> Q GRANT ALL ON orders TO bot",
        "> P - SELECT 1/0 | B - - | E - | P - DROP TABLE orders | B - - | E - | S",
        "<< 1 | 2 | E 22012 division by zero",
        "! ada approves",
        // The backend discards what was approved.
        "<< Z I",
        "> Q SELECT 2 | Q SELECT 3",
        "<< D 2 | C SELECT 1 | Z I",
        "<< D 3 | C SELECT 1 | Z I",
    ] {
        stage.step(step).await;
        stage.look().await;
    }
    let (ground, session) = (&stage.ground, stage.session);
    let mut texts = std::collections::HashMap::new();
    let answered: Vec<_> = (ground.recorded(session).into_iter())
        .filter_map(|body| match body {
            Body::Operation(operated) => {
                let text = String::from_utf8_lossy(&operated.asked.text).into_owned();
                texts.insert(operated.asked.operation, text);
                None
            }
            Body::Response { of, .. } => Some(of.map_or("-".to_owned(), |of| texts[&of].clone())),
            _ => None,
        })
        .collect();
    let held = "DROP TABLE orders";
    assert_eq!(
        answered,
        ["database=shop user=bot", "SELECT 1", "-", "-", "SELECT 1/0", held, "SELECT 2", "SELECT 3"],
        "the gateway's own words answer nothing: a refusal, a notice"
    );
    stage.leave().await;
}

#[test]
fn c4_how_a_text_is_read_is_certain_only_when_the_backend_is_ready() {
    // An encoding in which the backslash is half a letter may be under way.
    check(
        POLICY,
        "
        > Q SET client_encoding='SJIS' | Q SELECT E'\u{101}\\'; DROP TABLE orders; SELECT 99 --'
        >> Q SET client_encoding='SJIS' | Q holdpoint: operation refused
        << C SET | Z I | E 42601 syntax error | Z I
        < C SET | Z I | E 42501 holdpoint: what this does cannot be seen through (the statement has characters beyond ASCII in an encoding other than UTF-8), and no policy that matches allows `unknown`; rule \"default of orders-db\" | Z I
        # Where nothing sets it, letters may be pipelined.
        > Q SELECT 1 | Q SELECT '\u{101}'
        >> Q SELECT 1 | Q SELECT '\u{101}'
        ",
    );
    // Every answer is there but the one that would say what was set.
    check(
        POLICY,
        "
        > P - SET standard_conforming_strings=off | B - - | E - | H
        >> P - SET standard_conforming_strings=off | B - - | E - | H
        << 1 | 2 | C SET
        < 1 | 2 | C SET
        > Q SELECT 'x\\', '; DROP TABLE orders; SELECT 98 --'
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: SELECT 'x\\', '; DROP TABLE orders; SELECT 98 --'
        ",
    );
}

#[test]
fn m1_a_refusal_behind_an_unsynced_execution_undoes_it_as_an_error_would() {
    check(
        POLICY,
        "
        > P - INSERT INTO orders VALUES (1) | B - - | E - | H
        >> P - INSERT INTO orders VALUES (1) | B - - | E - | H
        << 1 | 2 | C INSERT 0 1
        < 1 | 2 | C INSERT 0 1
        > Q GRANT ALL ON orders TO bot
        >> Q holdpoint: operation refused
        << E 42601 syntax error | Z I
        < E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z I
        > Q GRANT ALL ON orders TO bot
        < E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z I
        ",
    );
}

/// What the record says of a setting at each text that was judged.
async fn settings_at(name: &str, steps: &[&str]) -> Vec<String> {
    let mut stage = Stage::new(POLICY);
    stage.log_in().await;
    for step in steps {
        stage.step(step).await;
        stage.look().await;
    }
    let recorded = stage.ground.recorded(stage.session).into_iter();
    let states = recorded.filter_map(|body| match body {
        Body::Operation(operated) if &operated.asked.text[..] == b"SELECT 7" => {
            Some(operated.asked.state.get(name).cloned().unwrap_or_default())
        }
        _ => None,
    });
    let states = states.collect();
    stage.leave().await;
    states
}

#[tokio::test(start_paused = true)]
async fn m2_a_setting_is_shown_as_set_once_it_is_set() {
    let asked = ["> Q SELECT 7", "<< C SELECT 1 | Z I"];
    let asked_in_transaction = ["> Q SELECT 7", "<< C SELECT 1 | Z T"];
    // What was only prepared is not set; what was refused is not either.
    let prepared = ["> P zz SET search_path = approved | S", "<< 1 | Z I"];
    let refused = ["> Q SET search_path = approved; GRANT ALL ON orders TO bot"];
    let steps = [&prepared[..], &refused, &asked].concat();
    assert_eq!(settings_at("search_path", &steps).await, [""]);
    let bound = ["> B - zz | S", "<< 2 | Z I"];
    assert_eq!(settings_at("search_path", &[&prepared[..], &bound, &asked].concat()).await, [""]);
    // Executed, it may be; answered, it is.
    let executed = ["> B - zz | E - | S | Q SELECT 7", "<< 2 | C SET | Z I | C SELECT 1 | Z I"];
    let alone = ["> B - zz | E - | S", "<< 2 | C SET | Z I"];
    let steps = [&prepared[..], &executed, &alone, &asked].concat();
    assert_eq!(settings_at("search_path", &steps).await, ["default or approved", "approved"]);
    // A transaction takes it back; a failure leaves it open.
    let begun = ["> Q BEGIN", "<< C BEGIN | Z T", "> Q SET search_path = approved", "<< C SET | Z T"];
    let undone = ["> Q ROLLBACK", "<< C ROLLBACK | Z I"];
    let steps = [&begun[..], &asked_in_transaction, &undone, &asked].concat();
    assert_eq!(settings_at("search_path", &steps).await, ["approved", "default"]);
    let kept = ["> Q COMMIT", "<< C COMMIT | Z I"];
    assert_eq!(settings_at("search_path", &[&begun[..], &kept, &asked].concat()).await, ["approved"]);
    let failed = ["> Q SET search_path = approved", "<< E 22023 no | Z I"];
    assert_eq!(settings_at("search_path", &[&failed[..], &asked].concat()).await, ["default or approved"]);
    // What the backend reports is so.
    let reported = ["> Q SET search_path = a; SET search_path = b", "<< C SET | C SET | S search_path=b | Z I"];
    assert_eq!(settings_at("search_path", &[&reported[..], &asked].concat()).await, ["b"]);
    let reset = ["> Q DISCARD ALL", "<< C DISCARD ALL | Z I"];
    let role = ["> Q SET timezone = 'X'", "<< C SET | Z I"];
    assert_eq!(settings_at("timezone", &[&role[..], &asked, &reset, &asked].concat()).await, ["X", "default"]);
}
