//! COPY, both ways.

use super::{POLICY, stage::check};

#[test]
fn p7_copy_data_of_an_allowed_copy_flows_to_the_backend() {
    check(
        POLICY,
        "
        > Q COPY orders FROM STDIN
        >> Q COPY orders FROM STDIN
        << G
        < G
        > d 1\\tone\\n | d 2\\ttwo\\n
        >> d 1\\tone\\n | d 2\\ttwo\\n
        > c
        >> c
        << C COPY 2 | Z I
        < C COPY 2 | Z I
        > Q SELECT 1
        >> Q SELECT 1
        ",
    );
}

#[test]
fn p7_a_copy_that_the_client_fails_is_failed() {
    check(
        POLICY,
        "
        > Q COPY orders FROM STDIN
        >> Q COPY orders FROM STDIN
        << G
        < G
        > d 1\\n | f changed my mind
        >> d 1\\n | f changed my mind
        << E 57014 COPY from stdin failed: changed my mind | Z I
        < E 57014 COPY from stdin failed: changed my mind | Z I
        > Q SELECT 1
        >> Q SELECT 1
        ",
    );
}

#[test]
fn p7_copy_out_flows_to_the_client() {
    check(
        POLICY,
        "
        > Q COPY orders TO STDOUT
        >> Q COPY orders TO STDOUT
        << H | d 1\\tone\\n | d 2\\ttwo\\n | c | C COPY 2 | Z I
        < H | d 1\\tone\\n | d 2\\ttwo\\n | c | C COPY 2 | Z I
        ",
    );
}

#[test]
fn p2_a_copy_is_judged_by_what_it_does() {
    check(
        POLICY,
        "
        > Q COPY (DELETE FROM orders RETURNING *) TO STDOUT
        < E 42501 holdpoint: held for approval as request #1; send the identical operation again once it is approved (`holdpoint wait #1`); request #1, rule \"rows\" | Z I
        = held as #1: COPY (DELETE FROM orders RETURNING *) TO STDOUT
        > Q COPY orders TO PROGRAM 'cat'
        < E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z I
        ",
    );
}

#[test]
fn copy_in_through_the_extended_protocol_ends_where_the_backend_ends_it() {
    check(
        POLICY,
        "
        > P - COPY orders FROM STDIN | B - - | E - | S
        >> P - COPY orders FROM STDIN | B - - | E - | S
        << 1 | 2 | G
        < 1 | 2 | G
        > d 1\\n | c | S
        >> d 1\\n | c | S
        << C COPY 1 | Z I
        < C COPY 1 | Z I
        > Q SELECT 1
        >> Q SELECT 1
        << D 1 | C SELECT 1 | Z I
        < D 1 | C SELECT 1 | Z I
        ",
    );
    // The COPY fails before the client has ended it: the Sync behind the data is answered.
    check(
        POLICY,
        "
        > P - COPY orders FROM STDIN | B - - | E - | H
        >> P - COPY orders FROM STDIN | B - - | E - | H
        << 1 | 2 | G
        < 1 | 2 | G
        > d nonsense\\n
        >> d nonsense\\n
        << E 22P02 invalid input syntax
        < E 22P02 invalid input syntax
        > d 2\\n | c | S
        >> S
        << Z I
        < Z I
        > Q SELECT 1
        >> Q SELECT 1
        << D 1 | C SELECT 1 | Z I
        < D 1 | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn p7_data_that_comes_after_the_copy_has_failed_is_ignored_as_the_backend_ignores_it() {
    check(
        POLICY,
        "
        > Q COPY orders FROM STDIN
        >> Q COPY orders FROM STDIN
        << G
        < G
        > d nonsense\\n
        >> d nonsense\\n
        << E 22P02 invalid input syntax | Z I
        < E 22P02 invalid input syntax | Z I
        > d 2\\n | c
        > Q SELECT 1
        >> Q SELECT 1
        << T ?column? | D 1 | C SELECT 1 | Z I
        < T ?column? | D 1 | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn p7_two_copies_in_one_query_take_their_data_in_turn() {
    check(
        POLICY,
        "
        > Q COPY a FROM STDIN; COPY b FROM STDIN; SELECT 1
        >> Q COPY a FROM STDIN; COPY b FROM STDIN; SELECT 1
        << G
        < G
        > d 1\\n | c
        >> d 1\\n | c
        << C COPY 1 | G
        < C COPY 1 | G
        > d 2\\n | c
        >> d 2\\n | c
        << C COPY 1 | T ?column? | D 1 | C SELECT 1 | Z I
        < C COPY 1 | T ?column? | D 1 | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn p7_streaming_replication_is_never_passed_on() {
    check(
        POLICY,
        "
        > Q SELECT 1
        >> Q SELECT 1
        << W
        >> (end)
        < E 08P01 holdpoint: the backend broke the protocol: a message of type 'W' that nothing here asked for
        < (end)
        = incident: the backend broke the protocol: a message of type 'W' that nothing here asked for
        = ended: the backend broke the protocol: a message of type 'W' that nothing here asked for
        ",
    );
}

#[test]
fn m2_copy_data_outside_a_copy_goes_nowhere() {
    check(
        POLICY,
        "
        > c
        > d 1\\n | f no
        > Q SELECT 1
        >> Q SELECT 1
        << D 1 | C SELECT 1 | Z I
        < D 1 | C SELECT 1 | Z I
        > Q SELECT 1 | c | c
        >> Q SELECT 1
        << D 1 | C SELECT 1 | Z I
        < D 1 | C SELECT 1 | Z I
        # A client need not wait to be asked for its data.
        > Q COPY orders FROM STDIN | d 1\\n | c
        >> Q COPY orders FROM STDIN | d 1\\n | c
        << G | C COPY 1 | Z I
        < G | C COPY 1 | Z I
        ",
    );
}
