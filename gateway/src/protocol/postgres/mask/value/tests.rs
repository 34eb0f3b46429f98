//! What [`super`] (`value`) promises.

use super::{super::tests::*, *};

fn detect(type_oid: u32, binary: bool, value: &[u8]) -> String {
    let column = Column { treatment: Treatment::Detect, type_oid, binary };
    show(masker(&[detect_rule()]).value(column, value))
}

fn show(outcome: Outcome) -> String {
    match outcome {
        Outcome::Same => "same".to_owned(),
        Outcome::Changed(Replacement::Null, _) => "NULL".to_owned(),
        Outcome::Changed(Replacement::Value(value), _) => String::from_utf8_lossy(&value).into_owned(),
    }
}

const CARD: i64 = 4_111_111_111_111_111;

/// 4111111111111111 as `numeric_send` gives it.
const NUMERIC: [u8; 16] = [0, 4, 0, 3, 0, 0, 0, 0, 0x10, 0x0f, 0x04, 0x57, 0x04, 0x57, 0x04, 0x57];

#[test]
fn v16_text_values_are_searched_by_type() {
    assert_eq!(detect(25, false, b"pay 4111111111111111"), "pay ****************");
    assert_eq!(detect(114, false, b"{\"c\":\"4111111111111111\"}"), "{\"c\":\"****************\"}");
    assert_eq!(detect(3802, false, b"{\"c\": 4111111111111111}"), "NULL");
    assert_eq!(detect(20, false, b"4111111111111111"), "NULL");
    assert_eq!(detect(1700, false, b"4111111111111111.00"), "NULL");
    assert_eq!(detect(1009, false, b"{a,4111111111111111}"), "{a,****************}");
    assert_eq!(detect(1016, false, b"{4111111111111111}"), "NULL");
    assert_eq!(detect(2249, false, b"(1,4111111111111111)"), "NULL");
    assert_eq!(detect(17, false, b"\\x34313131313131313131313131313131"), "NULL");
    assert_eq!(detect(17, false, b"\\x3431"), "same");
    assert_eq!(detect(2950, false, b"41111111-1111-1111-0000-000000000000"), "same");
    assert_eq!(detect(0, false, b"4111111111111111"), "NULL");
    assert_eq!(detect(0, false, b"no. 4111111111111111"), "no. ****************");
    assert_eq!(detect(0, false, b"{\"c\": 4111111111111111}"), "NULL");
}

#[test]
fn v16_binary() {
    assert_eq!(detect(25, true, b"4111111111111111"), "****************");
    assert_eq!(detect(3802, true, b"\x01{\"c\":\"4111111111111111\"}"), "\u{1}{\"c\":\"****************\"}");
    assert_eq!(detect(3802, true, b"\x01{\"c\": 4111111111111111}"), "NULL");
    assert_eq!(detect(20, true, &CARD.to_be_bytes()), "NULL");
    assert_eq!(detect(20, true, &7_i64.to_be_bytes()), "same");
    assert_eq!(detect(701, true, &4_111_111_111_111_111_f64.to_be_bytes()), "NULL");
    assert_eq!(detect(1700, true, &NUMERIC), "NULL");
    assert_eq!(detect(1700, true, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 7]), "same");
    assert_eq!(detect(17, true, b"a 4111111111111111"), "NULL");
    let mut array = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 8].to_vec();
    array.extend_from_slice(&CARD.to_be_bytes());
    assert_eq!(detect(1016, true, &array), "NULL");
    let mut record = [0, 0, 0, 1, 0, 0, 6, 164, 0, 0, 0, 16].to_vec();
    record.extend_from_slice(&NUMERIC);
    assert_eq!(detect(2249, true, &record), "NULL");
    assert_eq!(detect(99_999, true, &record), "NULL");
    assert_eq!(detect(1016, true, &[0; 12]), "same");
}

#[test]
fn v16_binary_masks_are_valid_values() {
    let masker = masker(&[]);
    let mask = |method, type_oid, value: &[u8]| {
        show(masker.value(Column { treatment: Treatment::Mask(method), type_oid, binary: true }, value))
    };
    assert_eq!(mask(Method::Redact, 25, b"x"), "[masked]");
    assert_eq!(mask(Method::Redact, 3802, b"\x01{}"), "\u{1}\"[masked]\"");
    assert_eq!(mask(Method::Redact, 3802, b""), "NULL");
    assert_eq!(mask(Method::Redact, 2950, &[1; 16]), "\0".repeat(16));
    assert_eq!(mask(Method::Hash, 23, &[0, 0, 0, 1]), "NULL");
    assert_eq!(mask(Method::Partial, 1114, &[0; 8]), "NULL");
    assert_eq!(mask(Method::Redact, 0, b"x"), "NULL");
    assert_eq!(mask(Method::Redact, 1009, b"x"), "NULL");
}

proptest::proptest! {
    #[test]
    fn never_panics(type_oid in proptest::sample::select(vec![0, 17, 20, 25, 114, 701, 1009, 1016, 1700, 2249, 3802, 99_999]),
                    binary: bool, value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
        detect(type_oid, binary, &value);
    }
}
