//! `decide: hold_commit`: statements run, and what would commit them waits; every way to have it committed otherwise.

use super::stage::check;

const POLICY: &str = "
resource: orders-db
protocol: postgres
postgres: { classify: text }
endpoints: ['10.0.3.7:5432']
default: refuse
approval: { from: [{ group: dba }], timeout: 15m }
---
policy: ordinary
match: { resource: orders-db, effects: [read, write, delete, schema, session, transfer, unknown, execute, admin] }
decide: allow
---
policy: kept
match: { resource: orders-db, effects: [delete] }
decide: hold_commit
---
policy: careful
match: { resource: orders-db, effects: [schema] }
decide: hold_commit
approval: { quorum: 1, timeout: 30m, lock_time: 10s, reason: required }
";

/// A transaction in which a delete ran.
const DELETED: &str = "
    > Q BEGIN
    >> Q BEGIN
    << C BEGIN | Z T
    < C BEGIN | Z T
    > Q DELETE FROM orders WHERE id = 1
    >> Q DELETE FROM orders WHERE id = 1
    << C DELETE 3 | Z T
    < C DELETE 3 | Z T
    ";

/// What the client hears and the record says when `text` is held for the delete.
fn held(text: &str) -> String {
    held_as(1, text)
}

fn held_as(number: usize, text: &str) -> String {
    format!(
        "< N 00000 holdpoint: held for approval: request #{number}, rule \"kept\"; 1m left; approve with: holdpoint approvals approve #{number}
         = held as #{number}: {text}"
    )
}

fn after_a_delete(script: &str) {
    check(POLICY, &format!("{DELETED}\n{script}"));
}

#[test]
fn a_commit_waits_and_an_approval_lets_it_through() {
    let held = held("COMMIT");
    after_a_delete(&format!(
        "
        > Q COMMIT
        {held}
        ! ada approves
        >> Q COMMIT
        = #1 approved
        << C COMMIT | Z I
        < C COMMIT | Z I
        # What was approved is over; the next transaction is its own.
        > Q BEGIN
        >> Q BEGIN
        << C BEGIN | Z T
        < C BEGIN | Z T
        > Q COMMIT
        >> Q COMMIT
        "
    ));
}

#[test]
fn a_denied_commit_is_rolled_back_and_the_session_goes_on() {
    let held = held("COMMIT");
    after_a_delete(&format!(
        "
        > Q COMMIT
        {held}
        ! ada denies not on a friday
        >> Q ROLLBACK /* holdpoint: commit refused */
        = #1 denied
        << C ROLLBACK | Z I
        < E 42501 holdpoint: denied by ada: not on a friday; the transaction is rolled back; request #1, rule \"kept\" | Z I
        > Q SELECT 1
        >> Q SELECT 1
        << T ?column? | D 1 | C SELECT 1 | Z I
        < T ?column? | D 1 | C SELECT 1 | Z I
        "
    ));
}

#[test]
fn the_locks_budget_ends_it_long_before_people_run_out_of_time() {
    let script = "
        > Q COMMIT
        < N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 1m left; approve with: holdpoint approvals approve #1
        = held as #1: COMMIT
        ! wait 40s
        < N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 45s left; approve with: holdpoint approvals approve #1 | N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 30s left; approve with: holdpoint approvals approve #1
        ! wait 20s
        >> Q ROLLBACK /* holdpoint: commit refused */
        < N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 15s left; approve with: holdpoint approvals approve #1 | N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 0s left; approve with: holdpoint approvals approve #1
        = #1 expired
        << C ROLLBACK | Z I
        < E 42501 holdpoint: nobody approved it in time; the transaction is rolled back; request #1, rule \"kept\" | Z I
        ";
    after_a_delete(script);
}

#[test]
fn what_asks_more_of_people_counts_for_the_whole_transaction_and_the_shortest_time() {
    after_a_delete(
        "
        > Q DROP TABLE orders
        >> Q DROP TABLE orders
        << C DROP TABLE | Z T
        < C DROP TABLE | Z T
        > Q COMMIT
        < N 00000 holdpoint: held for approval: request #1, rule \"careful\"; 10s left; approve with: holdpoint approvals approve #1 --reason \"…\"
        = held as #1: COMMIT
        ",
    );
}

#[test]
fn a_rollback_is_free_and_forgets_what_ran() {
    after_a_delete(
        "
        > Q ROLLBACK
        >> Q ROLLBACK
        << C ROLLBACK | Z I
        < C ROLLBACK | Z I
        > Q BEGIN
        >> Q BEGIN
        << C BEGIN | Z T
        < C BEGIN | Z T
        > Q COMMIT
        >> Q COMMIT
        ",
    );
}

#[test]
fn a_savepoint_rolled_back_to_leaves_the_commit_held() {
    let held = held("COMMIT");
    after_a_delete(&format!(
        "
        > Q ROLLBACK TO SAVEPOINT a
        >> Q ROLLBACK TO SAVEPOINT a
        << C ROLLBACK | Z T
        < C ROLLBACK | Z T
        > Q COMMIT
        {held}
        "
    ));
}

#[test]
fn a_transaction_that_failed_cannot_be_committed_so_nobody_is_asked() {
    after_a_delete(
        "
        > Q SELECT nonsense
        >> Q SELECT nonsense
        << E 42703 no such column | Z E
        < E 42703 no such column | Z E
        > Q COMMIT
        >> Q COMMIT
        << C ROLLBACK | Z I
        < C ROLLBACK | Z I
        ",
    );
}

#[test]
fn every_way_to_commit_is_one() {
    for text in [
        "END",
        "COMMIT WORK",
        "COMMIT AND CHAIN",
        "PREPARE TRANSACTION 'x'",
        "SELECT 1; COMMIT",
        "COMMIT; SELECT 1",
        "ROLLBACK TO SAVEPOINT a; COMMIT",
        "ROLLBACK; BEGIN; COMMIT",
        "/* ROLLBACK */ COMMIT",
        "DELETE FROM orders; COMMIT",
        "no sql that anybody can read",
    ] {
        let held = held(text);
        after_a_delete(&format!("> Q {text}\n{held}"));
    }
    // In the extended protocol the statement stands behind two names.
    let held = held("COMMIT");
    after_a_delete(&format!("> P c COMMIT | B p c | E p | S\n{held}"));
}

#[test]
fn a_refused_commit_in_the_extended_protocol_has_one_answer_for_its_sync() {
    let held = held("COMMIT");
    after_a_delete(&format!(
        "
        > P - COMMIT | B - - | E - | S
        {held}
        ! ada denies no
        >> Q ROLLBACK /* holdpoint: commit refused */ | S
        = #1 denied
        << C ROLLBACK | Z I | Z I
        < E 42501 holdpoint: denied by ada: no; the transaction is rolled back; request #1, rule \"kept\" | Z I
        > P - SELECT 1 | B - - | E - | S
        >> P - SELECT 1 | B - - | E - | S
        << 1 | 2 | D 1 | C SELECT 1 | Z I
        < 1 | 2 | D 1 | C SELECT 1 | Z I
        "
    ));
}

#[test]
fn a_refused_commit_in_a_pipeline_discards_what_follows_up_to_the_sync() {
    let held = held("COMMIT");
    after_a_delete(&format!(
        "
        > P - COMMIT | B - - | E - | P - SELECT 1 | B - - | E - | S
        {held}
        ! ada denies no
        >> Q ROLLBACK /* holdpoint: commit refused */ | S
        = #1 denied
        << C ROLLBACK | Z I | Z I
        < E 42501 holdpoint: denied by ada: no; the transaction is rolled back; request #1, rule \"kept\" | Z I
        "
    ));
}

#[test]
fn what_failed_before_a_refused_commit_is_what_the_client_hears() {
    let held = held("COMMIT");
    after_a_delete(&format!(
        "
        > P - SELECT nonsense | B - - | E - | P - COMMIT | B - - | E - | S
        >> P - SELECT nonsense | B - - | E -
        {held}
        ! ada denies no
        >> Q ROLLBACK /* holdpoint: commit refused */ | S
        = #1 denied
        << E 42703 no such column | Z E
        < E 42703 no such column | Z E
        > Q ROLLBACK
        >> Q ROLLBACK
        "
    ));
}

#[test]
fn a_client_that_cancels_a_commit_has_its_transaction_rolled_back() {
    let held = held("COMMIT");
    after_a_delete(&format!(
        "
        > Q COMMIT
        {held}
        ! cancel
        >> Q ROLLBACK /* holdpoint: commit refused */
        = #1 withdrawn
        << C ROLLBACK | Z I
        < E 57014 canceling statement due to user request | Z I
        "
    ));
}

#[test]
fn outside_a_transaction_the_statement_waits_itself() {
    for text in ["DELETE FROM orders", "SELECT 1; DELETE FROM orders", "ROLLBACK; DELETE FROM orders"] {
        check(
            POLICY,
            &format!(
                "
                > Q {text}
                < N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 15m left; approve with: holdpoint approvals approve #1
                = held as #1: {text}
                ! ada denies no
                < E 42501 holdpoint: denied by ada: no; request #1, rule \"kept\" | Z I
                = #1 denied
                "
            ),
        );
    }
}

#[test]
fn inside_its_own_texts_transaction_it_runs() {
    check(
        POLICY,
        "
        > Q BEGIN; DELETE FROM orders
        >> Q BEGIN; DELETE FROM orders
        << C BEGIN | C DELETE 7 | Z T
        < C BEGIN | C DELETE 7 | Z T
        ",
    );
}

#[test]
fn what_no_rollback_takes_back_waits_itself() {
    let itself = "< N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 15m left; approve with: holdpoint approvals approve #1";
    for text in [
        "DELETE FROM orders WHERE setval('ids', 1) > 0",
        "DELETE FROM orders WHERE seen(id)",
        "DELETE FROM orders RETURNING dblink_exec('x')",
    ] {
        check(
            POLICY,
            &format!(
                "
                > Q BEGIN
                >> Q BEGIN
                << C BEGIN | Z T
                < C BEGIN | Z T
                > Q {text}
                {itself}
                = held as #1: {text}
                "
            ),
        );
    }
}

#[test]
fn a_begin_that_is_not_answered_counts_up_to_the_sync() {
    // As pgjdbc sends it: the transaction begins in the pipeline of its first statement.
    check(
        POLICY,
        "
        > P - BEGIN | B - - | E - | P - DELETE FROM orders | B - - | E - | S
        >> P - BEGIN | B - - | E - | P - DELETE FROM orders | B - - | E - | S
        << 1 | 2 | C BEGIN | 1 | 2 | C DELETE 2 | Z T
        < 1 | 2 | C BEGIN | 1 | 2 | C DELETE 2 | Z T
        > P - COMMIT | B - - | E - | S
        < N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 1m left; approve with: holdpoint approvals approve #1
        = held as #1: COMMIT
        ",
    );
    // Behind the `Sync` it may have failed, and the delete would be on its own.
    check(
        POLICY,
        "
        > P - BEGIN | B - - | E - | S | P - DELETE FROM orders | B - - | E - | S
        >> P - BEGIN | B - - | E - | S
        < N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DELETE FROM orders
        ",
    );
}

#[test]
fn what_a_pipeline_ends_unanswered_is_ended() {
    after_a_delete(
        "
        > Q ROLLBACK
        >> Q ROLLBACK
        > Q DELETE FROM orders
        < N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DELETE FROM orders
        ",
    );
}

#[test]
fn a_text_that_may_be_read_in_two_ways_begins_no_transaction() {
    check(
        POLICY,
        r#"
        > P - SELECT 1 | B - - | E - | P - SELECT '\'; BEGIN --' | B - - | E - | P - DELETE FROM orders | B - - | E - | S
        >> P - SELECT 1 | B - - | E - | P - SELECT '\'; BEGIN --' | B - - | E -
        < N 00000 holdpoint: held for approval: request #1, rule "kept"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DELETE FROM orders
        "#,
    );
}

#[test]
fn a_chained_commit_that_was_approved_begins_anew() {
    let held = held("COMMIT AND CHAIN");
    after_a_delete(&format!(
        "
        > Q COMMIT AND CHAIN
        {held}
        ! ada approves
        >> Q COMMIT AND CHAIN
        = #1 approved
        << C COMMIT | Z T
        < C COMMIT | Z T
        > Q COMMIT
        >> Q COMMIT
        "
    ));
}

#[test]
fn a_whole_transaction_in_one_pipeline_is_rolled_back_as_one() {
    check(
        POLICY,
        "
        > P - BEGIN | B - - | E - | P - DELETE FROM orders | B - - | E - | P - COMMIT | B - - | E - | S
        >> P - BEGIN | B - - | E - | P - DELETE FROM orders | B - - | E -
        < N 00000 holdpoint: held for approval: request #1, rule \"kept\"; 1m left; approve with: holdpoint approvals approve #1
        = held as #1: COMMIT
        ! ada denies no
        >> Q ROLLBACK /* holdpoint: commit refused */ | S
        = #1 denied
        << 1 | 2 | C BEGIN | 1 | 2 | C DELETE 2 | C ROLLBACK | Z I | Z I
        < 1 | 2 | C BEGIN | 1 | 2 | C DELETE 2 | E 42501 holdpoint: denied by ada: no; the transaction is rolled back; request #1, rule \"kept\" | Z I
        ",
    );
}
