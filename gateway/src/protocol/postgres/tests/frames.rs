//! Bytes that come in pieces, bytes that are too many, and bytes that are no messages, from either side.

use super::{
    POLICY,
    stage::{check, check_from_start, check_in_pieces},
};

#[test]
fn a_session_looks_the_same_wherever_its_bytes_are_cut() {
    check_in_pieces(
        POLICY,
        "
        > startup user=bot database=shop
        >> startup user=bot database=shop
        << R 3
        < R 3
        > p secret
        >> p secret
        << R | S standard_conforming_strings=on | K | Z I
        < R | S standard_conforming_strings=on | K | Z I
        > Q SELECT 1 | Q GRANT ALL ON orders TO bot
        >> Q SELECT 1 | Q holdpoint: operation refused
        << D 1 | C SELECT 1 | Z I | E 42601 syntax error | Z I
        < D 1 | C SELECT 1 | Z I | E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z I
        > X
        >> X
        >> (end)
        < (end)
        = ended: the session ended
        ",
        false,
    );
}

#[test]
fn p5_a_pipeline_looks_the_same_wherever_its_bytes_are_cut() {
    check_in_pieces(
        POLICY,
        "
        > P - SELECT 1 | B - - x | D P - | E - | P s GRANT ALL ON orders TO bot | B - s | E - | P - SELECT 3 | B - - | E - | S
        >> P - SELECT 1 | B - - x | D P - | E - | P holdpoint_refused holdpoint: operation refused | S
        << 1 | 2 | T ?column? | D 1 | C SELECT 1 | E 42601 syntax error | Z I
        < 1 | 2 | T ?column? | D 1 | C SELECT 1 | E 42501 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\" | Z I
        ",
        true,
    );
}

#[test]
fn v1_a_held_operation_looks_the_same_wherever_its_bytes_are_cut() {
    check_in_pieces(
        POLICY,
        "
        > Q DROP TABLE orders | Q SELECT 2
        < N 00000 holdpoint: held for approval: request #1, rule \"shape\"; 15m left; approve with: holdpoint approvals approve #1
        = held as #1: DROP TABLE orders
        ! ada approves
        >> Q DROP TABLE orders | Q SELECT 2
        = #1 approved
        << C DROP TABLE | Z I | D 2 | C SELECT 1 | Z I
        < C DROP TABLE | Z I | D 2 | C SELECT 1 | Z I
        ",
        true,
    );
}

#[test]
fn p7_copy_looks_the_same_wherever_its_bytes_are_cut() {
    check_in_pieces(
        POLICY,
        "
        > Q COPY orders FROM STDIN
        >> Q COPY orders FROM STDIN
        << G
        < G
        > d 1\\n | d 2\\n | c
        >> d 1\\n | d 2\\n | c
        << C COPY 2 | Z I
        < C COPY 2 | Z I
        > Q COPY orders TO STDOUT
        >> Q COPY orders TO STDOUT
        << H | d 1\\n | d 2\\n | c | C COPY 2 | Z I
        < H | d 1\\n | d 2\\n | c | C COPY 2 | Z I
        ",
        true,
    );
}

#[test]
fn p14_part_of_a_message_is_never_forwarded() {
    check(
        POLICY,
        "
        > raw 51 00 00 00 0d 53 45 4c 45 43 54 20 31
        ! wait 1h
        ! client hangs up
        >> (end)
        = ended: the client closed the connection
        ",
    );
}

/// The client is told why, nothing is forwarded, and the record has it.
fn refused(bytes: &str, why: &str) {
    let why = format!("the client broke the protocol: {why}");
    let script =
        format!("> raw {bytes}\n>> (end)\n< E 08P01 holdpoint: {why}\n< (end)\n= incident: {why}\n= ended: {why}");
    check(POLICY, &script);
}

#[test]
fn p14_a_message_that_is_too_long_is_refused_by_its_header() {
    refused("51 04 00 00 00", "a message of type 'Q' is 67108864 bytes long; at most 67108864 are taken");
    refused("64 7f ff ff ff", "a message of type 'd' is 2147483647 bytes long; at most 67108864 are taken");
}

#[test]
fn long_messages_pass_both_ways_and_a_long_row_in_parts() {
    // More than is read at once, and a row longer than is held at once.
    let (question, answer) = ("q".repeat(200 * 1024), "a".repeat(300 * 1024));
    check(
        POLICY,
        &format!(
            "
            > Q SELECT 1 -- {question}
            >> Q SELECT 1 -- {question}
            << D {answer} | C SELECT 1 | Z I
            < D {answer} | C SELECT 1 | Z I
            "
        ),
    );
}

#[test]
fn v10_a_length_that_wraps_frames_nothing() {
    for (length, number) in [("ff ff ff ff", -1), ("80 00 00 00", i32::MIN), ("00 00 00 03", 3), ("00 00 00 00", 0)] {
        refused(&format!("51 {length}"), &format!("a message of type 'Q' says that it is {number} bytes long"));
    }
}

#[test]
fn what_does_not_fit_its_own_message_is_refused() {
    // A query without its zero, and with two.
    refused("51 00 00 00 06 53 45", "a string in a message has no terminating zero");
    refused("51 00 00 00 07 53 00 00", "1 bytes follow the last field of a message");
    // A bind that counts more values than it has; one whose value is longer than the message; one that is negative.
    let bind = |rest: &str, length: u8| format!("42 00 00 00 {length:02x} 00 00 00 00 {rest}");
    refused(&bind("7f ff", 10), "a field reaches past the end of its message");
    refused(&bind("00 01 00 00 ff ff", 14), "a field reaches past the end of its message");
    refused(&bind("00 01 ff ff ff fe", 14), "a bound value is -2 bytes long");
    refused(&bind("ff ff", 10), "a negative count in a bind message");
    // A parse that counts more types than it has; a describe and a close of something that is neither.
    refused("50 00 00 00 09 00 53 00 7f ff", "a field reaches past the end of its message");
    refused("44 00 00 00 06 58 00", "a describe of 'X'");
    refused("43 00 00 00 06 58 00", "a close of 'X'");
    // Sync and Flush have no body.
    refused("53 00 00 00 05 00", "1 bytes follow the last field of a message");
    refused("48 00 00 00 05 00", "1 bytes follow the last field of a message");
}

#[test]
fn v8_messages_that_have_no_place_in_a_session_are_refused() {
    for kind in ['p', 'K', 'Z', 'R', 'V', '\0'] {
        let byte = u32::from(kind);
        refused(
            &format!("{byte:02x} 00 00 00 04"),
            &format!("a message of type {kind:?} is not one that a client sends here"),
        );
    }
}

#[test]
fn v8_an_encryption_request_in_mid_session_is_no_message() {
    check(
        POLICY,
        "
        > SSL
        >> (end)
        < E 08P01 holdpoint: the client broke the protocol: a message of type '\\0' is not one that a client sends here
        < (end)
        = incident: the client broke the protocol: a message of type '\\0' is not one that a client sends here
        = ended: the client broke the protocol: a message of type '\\0' is not one that a client sends here
        ",
    );
}

#[test]
fn v4_a_backend_is_not_trusted_either() {
    let untrusted = |bytes: &str, why: &str| {
        let why = format!("the backend broke the protocol: {why}");
        check(
            POLICY,
            &format!(
                "> Q SELECT 1\n>> Q SELECT 1\n<< {bytes}\n>> (end)\n< E 08P01 holdpoint: {why}\n< (end)\n= incident: {why}\n= ended: {why}"
            ),
        );
    };
    untrusted("raw 44 7f ff ff ff", "a message of type 'D' is 2147483647 bytes long; at most 1073741824 are taken");
    untrusted("raw 44 ff ff ff ff", "a message of type 'D' says that it is -1 bytes long");
    untrusted("raw 21 00 00 00 04", "a message of type '!' that nothing here asked for");
    untrusted("Z X", "a ReadyForQuery without a transaction status");
    untrusted("1", "ParseComplete came while a query's result was awaited");
    untrusted("K", "a message of type 'K' that nothing here asked for");
    untrusted("R", "a message of type 'R' that nothing here asked for");
}

#[test]
fn v4_an_answer_that_nobody_asked_for_ends_the_connection() {
    let why = "the backend broke the protocol: CommandComplete came while nothing was awaited";
    check(
        POLICY,
        &format!("<< C SELECT 1\n>> (end)\n< E 08P01 holdpoint: {why}\n< (end)\n= incident: {why}\n= ended: {why}"),
    );
    let why = "the backend broke the protocol: a cancel key of 4 bytes, or a second one";
    check_from_start(
        POLICY,
        &format!(
            "> startup user=bot database=shop\n>> startup user=bot database=shop\n<< raw 4b 00 00 00 08 00 00 00 01\n\
             >> (end)\n< E 08P01 holdpoint: {why}\n< (end)\n= incident: {why}\n= ended: {why}"
        ),
    );
}
