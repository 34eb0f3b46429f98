//! What [`super`] (`copy`) promises.

use proptest::prelude::*;

use super::{
    super::{plan::CopySource, tests::*},
    *,
};
use crate::mask::Method;

/// Columns: kept, redacted text, partly shown text, searched text, a masked number.
fn plan() -> CopyPlan {
    let column = |treatment, type_oid| Column { treatment, type_oid, binary: false };
    CopyPlan {
        columns: vec![
            column(Treatment::Pass, 25),
            column(Treatment::Mask(Method::Redact), 25),
            column(Treatment::Mask(Method::Partial), 25),
            column(Treatment::Detect, 0),
            column(Treatment::Mask(Method::Redact), 23),
        ],
    }
}

fn run(format: CopyFormat, pieces: &[&[u8]]) -> Result<(u32, Vec<u8>), Unmaskable> {
    let masker = masker(&[detect_rule()]);
    let mut plan = plan();
    plan.columns.iter_mut().for_each(|column| column.binary = format == CopyFormat::Binary);
    let mut copy = CopyOut::new(plan, format, "UTF8")?;
    let mut out = BytesMut::new();
    let mut masked = 0;
    for piece in pieces {
        masked += copy.push(&masker, piece, &mut out)?;
    }
    masked += copy.finish(&masker, &mut out)?;
    Ok((masked, out.to_vec()))
}

fn check(format: CopyFormat, sent: &str, expected: &str) {
    let (_, out) = run(format.clone(), &[sent.as_bytes()]).expect("it parses");
    assert_eq!(String::from_utf8_lossy(&out), expected);
    let bytes: Vec<_> = sent.as_bytes().chunks(1).collect();
    assert_eq!(run(format, &bytes).expect("it parses").1, out, "byte by byte");
}

#[test]
fn v16_copy_text() {
    check(
        CopyFormat::text(),
        "a\\tb\tsecret\tjane@example.com\tx 4111111111111111\t7\n\\N\t\\N\t\\N\t\\N\t\\N\n",
        "a\\tb\t[masked]\tj***@example.com\tx ****************\t\\N\n\\N\t\\N\t\\N\t\\N\t\\N\n",
    );
    let odd = CopyFormat::Text { delimiter: b'|', null: b"nil".to_vec(), header: true };
    check(odd, "a|b|c|d|e\nx\\|y|s|tab\\tand\\|1234|a\\\\b|9", "a|b|c|d|e\nx\\|y|[masked]|***1234|a\\\\b|nil");
}

#[test]
fn v16_copy_csv() {
    check(
        CopyFormat::csv(),
        "\"a\n\"\"b\",secret,\"jane@example.com\",\"4111111111111111, and\",7\n,,,,\n\"\",\"\",\"\",\"\",\"\"\n",
        "\"a\n\"\"b\",[masked],\"j***@example.com\",\"****************, and\",\n,,,,\n\"\",\"[masked]\",\"***\",\"\",\n",
    );
    let odd = CopyFormat::Csv { delimiter: b';', null: b"nil".to_vec(), quote: b'\'', escape: b'\\', header: true };
    check(
        odd,
        "a;b;c;d;e\n'x\\';\\\\';s;'long\\'er; 1234';nil;5\n",
        "a;b;c;d;e\n'x\\';\\\\';[masked];'***1234';nil;nil\n",
    );
}

fn binary(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let mut bytes = [SIGNATURE, &[0; 4], &[0, 0, 0, 2], b"xy"].concat();
    for row in rows {
        bytes.extend_from_slice(&data_row(row)[5..]);
    }
    bytes.extend_from_slice(&[0xff, 0xff]);
    bytes
}

#[test]
fn v16_copy_binary() {
    let sent = binary(&[
        &[Some(b"a"), Some(b"secret"), Some(b"jane@example.com"), Some(b"no"), Some(&[0, 0, 0, 7])],
        &[None, None, None, Some(b"4111111111111111"), None],
    ]);
    let expected = binary(&[
        &[Some(b"a"), Some(b"[masked]"), Some(b"j***@example.com"), Some(b"no"), None],
        &[None, None, None, None, None],
    ]);
    assert_eq!(run(CopyFormat::Binary, &[&sent]), Ok((4, expected.clone())));
    let bytes: Vec<_> = sent.chunks(1).collect();
    assert_eq!(run(CopyFormat::Binary, &bytes), Ok((4, expected)));
    assert!(run(CopyFormat::Binary, &[&sent, b"more"]).is_err());
    assert!(run(CopyFormat::Binary, &[&sent[..sent.len() - 9]]).is_err());
    assert!(run(CopyFormat::Binary, &[b"PGCOPX"]).is_err());
    let mut oids = sent.clone();
    oids[12] = 1;
    assert!(run(CopyFormat::Binary, &[&oids]).is_err());
}

#[test]
fn v16_copy_that_does_not_parse_is_withheld() {
    for text in ["a\tb\n", "a\tb\tc\td\te\tf\n", "\n", "a\tb\tc\td\\\te\n"] {
        assert!(matches!(run(CopyFormat::text(), &[text.as_bytes()]), Err(Unmaskable::Columns { .. })), "{text:?}");
    }
    for csv in ["a,b\n", "a\"b,c,d,e,f\n", "\"a\"b,c,d,e,f\n", "\"a,b,c,d,e"] {
        assert!(run(CopyFormat::csv(), &[csv.as_bytes()]).is_err(), "{csv:?}");
    }
    assert!(matches!(CopyOut::new(plan(), CopyFormat::csv(), "sjis"), Err(Unmaskable::Unsupported(_))));
    assert!(CopyOut::new(plan(), CopyFormat::Binary, "SJIS").is_ok());
}

#[test]
fn a_table_without_columns_copies() {
    let none = CopyPlan::new(CopySource::Unknown, 0, false, &masker(&column_rules()).masks, None).expect("no columns");
    let mut copy = CopyOut::new(none, CopyFormat::text(), "UTF8").expect("text");
    let mut out = BytesMut::new();
    assert_eq!(copy.push(&masker(&[]), b"\n\n", &mut out), Ok(0));
    assert_eq!(&out[..], b"\n\n");
}

fn text_line_of(values: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut line = BytesMut::new();
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            line.extend_from_slice(b"\t");
        }
        match value {
            None => line.extend_from_slice(b"\\N"),
            Some(value) => text_write(value, b'\t', &mut line),
        }
    }
    line.extend_from_slice(b"\n");
    line.to_vec()
}

fn csv_line_of(values: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut line = BytesMut::new();
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            line.extend_from_slice(b",");
        }
        if let Some(value) = value {
            csv_write(value, true, b'"', b'"', &mut line);
        }
    }
    line.extend_from_slice(b"\n");
    line.to_vec()
}

proptest! {
    #[test]
    fn any_values_in_any_pieces_keep_their_shape(
        rows in prop::collection::vec(prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..12)), 5), 0..5),
        cut in 1_usize..20,
    ) {
        for format in [CopyFormat::text(), CopyFormat::csv()] {
            let is_csv = matches!(format, CopyFormat::Csv { .. });
            let line = if is_csv { csv_line_of } else { text_line_of };
            let sent: Vec<u8> = rows.iter().flat_map(|row| line(row)).collect();
            let (_, out) = run(format, &sent.chunks(cut).collect::<Vec<_>>()).expect("it parses");
            let lines = if is_csv {
                let mut rest = &out[..];
                let mut count = 0;
                while let Some(length) = csv_line(rest, b'"', b'"') {
                    prop_assert_eq!(csv_fields(&rest[..length - 1], b',', b'"', b'"').expect("fields").len(), 5);
                    rest = &rest[length..];
                    count += 1;
                }
                count
            } else {
                out.split_inclusive(|b| *b == b'\n').inspect(|line| assert_eq!(text_fields(line, b'\t').len(), 5)).count()
            };
            prop_assert_eq!(lines, rows.len());
        }
    }

    #[test]
    fn bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab\\\n\t,\"'N\0\xff\x01".to_vec()), 0..20), 0..6)) {
        let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
        for format in [CopyFormat::text(), CopyFormat::csv(), CopyFormat::Binary] {
            let _ = run(format.clone(), &pieces);
            let header = binary(&[]);
            let started: Vec<_> = std::iter::once(&header[..header.len() - 2]).chain(pieces.iter().copied()).collect();
            let _ = run(format, &started);
        }
    }
}
