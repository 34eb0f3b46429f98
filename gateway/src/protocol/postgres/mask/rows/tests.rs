//! What [`super`] (`rows`) promises.

use proptest::prelude::*;

use super::{
    super::{
        plan::{Field, References},
        tests::*,
    },
    *,
};
use crate::mask::Masks;

fn run(plan: &Plan, masker: &Masker, message: &[u8]) -> Result<(u32, Vec<u8>), Unmaskable> {
    let mut out = BytesMut::from(&b"before"[..]);
    let masked = masker.row(plan, message, &mut out);
    assert!(out.starts_with(b"before"));
    if masked.is_err() {
        assert_eq!(out.len(), 6, "an error leaves nothing behind");
    }
    masked.map(|masked| (masked, out[6..].to_vec()))
}

fn customers() -> [Field<'static>; 5] {
    [("id", 23), ("name", 25), ("email", 25), ("ssn", 25), ("doc", 3802)].map(|(name, type_oid)| {
        let attnum = match name {
            "id" => 1,
            "name" => 2,
            "email" => 3,
            "ssn" => 4,
            _ => 5,
        };
        field(name, CUSTOMERS, attnum, type_oid)
    })
}

#[test]
fn masks_a_row() {
    let rules = [column_rules(), vec![detect_rule()]].concat();
    let masker = masker(&rules);
    let plan = Plan::new(&customers(), &References::default(), &masker.masks, Some(&catalog()));
    let row = data_row(&[Some(b"1"), Some(b"Jane a@b.de"), Some(b"jane@example.com"), Some(b"123-45-6789"), None]);
    let (masked, out) = run(&plan, &masker, &row).expect("a row");
    assert_eq!(masked, 3);
    let shown = values(&out).expect("still a row");
    let text: Vec<_> = shown.iter().map(|v| v.as_deref().map(String::from_utf8_lossy)).collect();
    assert_eq!(
        text,
        [
            Some("1".into()),
            Some("Jane [masked]".into()),
            Some("j***@example.com".into()),
            Some("[masked]".into()),
            None
        ]
    );
}

#[test]
fn what_is_not_a_row_is_withheld() {
    let masker = masker(&[]);
    let plan = Plan::new(&customers()[..1], &References::default(), &masker.masks, None);
    let row = data_row(&[Some(b"12")]);
    assert!(run(&plan, &masker, &row).is_ok());
    for cut in 0..row.len() {
        assert!(run(&plan, &masker, &row[..cut]).is_err());
    }
    assert!(run(&plan, &masker, &[&row[..], b"x"].concat()).is_err());
    assert!(run(&plan, &masker, &data_row(&[None, None])).is_err());
    assert!(run(&plan, &masker, &message(b'D', &[0, 1, 0x7f, 0xff, 0xff, 0xff])).is_err());
    assert!(run(&plan, &masker, &message(b'D', &[0, 1, 0xff, 0xff, 0xff, 0xfe])).is_err());
    assert!(run(&plan, &masker, &message(b'D', &[0xff, 0xff])).is_err());
    assert!(run(&plan, &masker, &message(b'C', &[0, 0])).is_err());
}

#[test]
fn a_row_that_nobody_described_is_all_null() {
    let (masked, out) = run(&Plan::blind(), &masker(&[]), &data_row(&[Some(b"a"), None, Some(b"b")])).expect("a row");
    assert_eq!((masked, values(&out)), (2, Some(vec![None; 3])));
}

fn random_row() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "[a-z]{1,8}@[a-z]{1,8}\\.com".prop_map(String::into_bytes),
        Just(b"4111111111111111".to_vec()),
    ];
    prop::collection::vec(prop::option::of(value), 0..12)
}

fn plan_for(count: usize, masks: &Masks, seed: u32) -> Plan {
    let types = [25, 23, 20, 17, 114, 3802, 2950, 1009, 1700, 99_999];
    let tables = [0, CUSTOMERS, ORDERS, 77_777];
    let fields: Vec<_> = (0..count)
        .map(|place| {
            let mixed =
                seed.wrapping_mul(2_654_435_761).wrapping_add(u32::try_from(place).expect("few columns") * 7919);
            let mut field =
                field("x", tables[(mixed >> 8) as usize % 4], 1 + (mixed >> 16) as i16 % 5, types[mixed as usize % 10]);
            field.binary = mixed & 128 != 0;
            field
        })
        .collect();
    Plan::new(&fields, &References::default(), masks, Some(&catalog()))
}

proptest! {
    #[test]
    fn masked_rows_keep_their_shape(row in random_row(), seed: u32) {
        let masker = masker(&[column_rules(), vec![detect_rule()]].concat());
        let plan = plan_for(row.len(), &masker.masks, seed);
        let borrowed: Vec<_> = row.iter().map(Option::as_deref).collect();
        let (masked, out) = run(&plan, &masker, &data_row(&borrowed)).expect("a row");
        let shown = values(&out).expect("still a row");
        prop_assert_eq!(shown.len(), row.len());
        prop_assert_eq!(masked == 0, shown == row);
        let nulls = row.iter().zip(&shown).all(|(was, is)| was.is_some() || is.is_none());
        prop_assert!(nulls, "NULL stays NULL");
    }

    #[test]
    fn rows_pass_as_they_are(row in random_row(), seed: u32) {
        let masker = masker(&[]);
        let plan = plan_for(row.len(), &masker.masks, seed);
        prop_assert!(plan.is_pass());
        let message = data_row(&row.iter().map(Option::as_deref).collect::<Vec<_>>());
        prop_assert_eq!(run(&plan, &masker, &message).expect("a row"), (0, message.to_vec()));
    }

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), seed: u32) {
        let masker = masker(&[column_rules(), vec![detect_rule()]].concat());
        let plan = plan_for(3, &masker.masks, seed);
        for message in [bytes.clone(), message(b'D', &bytes).to_vec()] {
            for plan in [&plan, &Plan::blind()] {
                if let Ok((_, out)) = run(plan, &masker, &message) {
                    prop_assert!(values(&out).is_some());
                }
            }
        }
        let _ = Field::read_all(&message(b'T', &bytes));
    }
}

/// `cargo test -p gateway --lib costs -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn costs() {
    let value = b"plain text of 20 by.";
    let row = data_row(&[Some(value.as_slice()); 10]);
    let measure = |name: &str, masker: &Masker, plan: &Plan| {
        let mut out = BytesMut::with_capacity(1 << 20);
        let rounds = 1_000_000_u32;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            if out.len() > 1 << 19 {
                out.clear();
            }
            std::hint::black_box(masker.row(plan, std::hint::black_box(&row), &mut out).expect("a row"));
        }
        println!("{name}: {:.0} ns per row", start.elapsed().as_nanos() as f64 / f64::from(rounds));
    };
    let ten = |masked: usize| {
        (0..10).map(|at| if at < masked { field("ssn", 0, 0, 25) } else { field("x", 0, 0, 25) }).collect::<Vec<_>>()
    };
    let none = masker(&[]);
    measure("pass", &none, &Plan::new(&ten(0), &References::default(), &none.masks, None));
    let columns = masker(&column_rules());
    measure("3 masked", &columns, &Plan::new(&ten(3), &References::default(), &columns.masks, Some(&catalog())));
    let all = masker(&[MaskRule { select: Select::Detect(Detector::ALL.to_vec()), with: Method::Redact }]);
    measure("detectors", &all, &Plan::new(&ten(0), &References::default(), &all.masks, None));
    for (name, value) in [
        ("100 bytes of words", "plain words and no number ".repeat(4)),
        ("100 digits and marks", "2024-01-02 03:04:05 ".repeat(5)),
    ] {
        let value = &value.as_bytes()[..100];
        let start = std::time::Instant::now();
        for _ in 0..1_000_000 {
            std::hint::black_box(all.masks.detectors().expect("some").hit(std::hint::black_box(value)));
        }
        println!("scan of {name}: {} ns", start.elapsed().as_nanos() / 1_000_000);
    }
}

use crate::mask::{Detector, MaskRule, Method, Select};
