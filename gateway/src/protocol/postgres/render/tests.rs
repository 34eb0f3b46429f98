//! Replies as people read them.

use proptest::prelude::*;

use super::*;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    [&[kind], &length[..], body].concat()
}

fn description(columns: &[(&str, u32, u16)]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).expect("few").to_be_bytes().to_vec();
    for (name, kind, format) in columns {
        body.extend(name.as_bytes());
        body.extend([0; 7]);
        body.extend(kind.to_be_bytes());
        body.extend([0; 6]);
        body.extend(format.to_be_bytes());
    }
    message(b'T', &body)
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
    for value in values {
        match value {
            Some(value) => {
                body.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
                body.extend(*value);
            }
            None => body.extend(u32::MAX.to_be_bytes()),
        }
    }
    message(b'D', &body)
}

fn reply() -> Vec<u8> {
    [
        description(&[("id", 23, 1), ("name", 25, 0)]),
        row(&[Some(&7i32.to_be_bytes()), Some(b"a\x1b[2Jda")]),
        row(&[None, None]),
        message(b'C', b"SELECT 2\0"),
        message(b'E', b"SERROR\0VERROR\0C42501\0Mheld\0Drequest 1\0\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

const SHOWN_REPLY: [&str; 5] =
    ["id | name", "7 | a\\x1b[2Jda", "NULL | NULL", "SELECT 2", "ERROR 42501: held; DETAIL: request 1"];

#[test]
fn a5_rows_tags_and_errors_are_lines_without_escapes() {
    assert_eq!(Rows::default().response(&reply()), SHOWN_REPLY);
}

#[test]
fn a_reply_in_pieces_reads_the_same() {
    let mut renderer = Rows::default();
    let lines: Vec<_> = reply().chunks(7).flat_map(|piece| renderer.response(piece)).collect();
    assert_eq!(lines, SHOWN_REPLY);
}

#[test]
fn what_is_no_message_is_shown_as_bytes() {
    let lines = Rows::default().response(b"\x00\x01\x02\x03\x04\x05");
    assert_eq!(lines, ["bytes that are no message: \\x00\\x01\\x02\\x03\\x04\\x05"]);
    let cut = message(b'D', &[0, 3, 0]);
    assert_eq!(Rows::default().response(&cut), ["message `D`: \\x00\\x03\\x00"]);
    assert_eq!(Rows::default().response(b"N"), ["encryption refused"]);
}

proptest! {
    #[test]
    fn a5_any_bytes_are_harmless(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..6)) {
        let mut renderer = Rows::default();
        for piece in pieces {
            for line in renderer.response(&piece) {
                prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }

    #[test]
    fn a5_any_message_is_harmless(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..80)) {
        for line in Rows::default().response(&message(kind, &body)) {
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}
