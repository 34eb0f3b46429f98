//! What [`super`] (`plan`) promises.

use super::{super::tests::*, *};
use Treatment::{Detect, Mask, Pass};

fn treatments(fields: &[Field<'_>], references: &References, catalog: Option<&Catalog>) -> Vec<Treatment> {
    let plan = Plan::new(fields, references, &masker(&column_rules()).masks, catalog);
    plan.columns().expect("described").iter().map(|column| column.treatment).collect()
}

#[test]
fn p15_alias_shadowing_lineage() {
    let catalog = catalog();
    let fields = [
        field("x", CUSTOMERS, 4, 25),
        field("id", CUSTOMERS, 1, 23),
        field("ssn", ORDERS, 3, 25),
        field("upper", 0, 0, 25),
        field("c", 0, 0, 16386),
        field("made_since", 77_777, 1, 25),
        field("ctid", 77_777, -1, 27),
    ];
    let references = references(&["customers", "orders"], &["ssn", "id"]);
    let redact = Mask(Method::Redact);
    assert_eq!(treatments(&fields, &references, Some(&catalog)), [redact, Pass, redact, redact, redact, redact, Pass]);
}

#[test]
fn p15_a_computed_column_is_judged_by_what_the_statement_mentions() {
    let catalog = catalog();
    let check = |references: References, masked: bool| {
        let expected = if masked { Mask(Method::Redact) } else { Pass };
        assert_eq!(treatments(&[field("x", 0, 0, 25)], &references, Some(&catalog)), [expected], "{references:?}");
    };
    check(references(&["orders"], &["note"]), false);
    check(references(&[], &[]), false);
    check(references(&["customers"], &["email"]), true);
    // Another table's column of a masked name: judged by name only.
    check(references(&["orders"], &["ssn"]), true);
    // The view's own name for a masked column.
    check(references(&["v_ssn"], &["x"]), true);
    check(references(&["orders"], &["x"]), false);
    check(References { whole_row: true, ..references(&["customers"], &[]) }, true);
    check(References { whole_row: true, ..references(&["orders"], &[]) }, false);
    check(references(&["made_since"], &["a"]), true);
    check(references(&["pg_stats"], &["most_common_vals"]), true);
    check(References::opaque(), true);
}

#[test]
fn p15_a_stored_column_may_hold_what_the_statement_put_there() {
    let catalog = catalog();
    let check = |stored: &[&str], whole_row: bool, expected: Treatment| {
        let stored = Some(stored.iter().map(|name| (*name).to_owned()).collect());
        let references = References { stored, whole_row, ..references(&["customers", "orders"], &["ssn"]) };
        assert_eq!(treatments(&[field("note", ORDERS, 3, 25)], &references, Some(&catalog)), [expected]);
    };
    check(&["ssn"], false, Mask(Method::Redact));
    check(&["id"], true, Mask(Method::Redact));
    check(&["id"], false, Pass);
    check(&[], false, Pass);
    let unseen = References { stored: Some(BTreeSet::new()), ..References::opaque() };
    assert_eq!(treatments(&[field("note", ORDERS, 3, 25)], &unseen, Some(&catalog)), [Mask(Method::Redact)]);
}

#[test]
fn v16_a_name_in_another_encoding_is_masked() {
    let catalog = catalog();
    let latin = Field { name: b"n\xfamero", ..field("", ORDERS, 1, 23) };
    assert_eq!(treatments(&[latin], &references(&["orders"], &[]), Some(&catalog)), [Mask(Method::Redact)]);
}

#[test]
fn without_a_catalog_every_stored_column_is_masked() {
    let fields = [field("id", ORDERS, 1, 23), field("one", 0, 0, 23)];
    let redact = Mask(Method::Redact);
    assert_eq!(treatments(&fields, &references(&["orders"], &["id"]), None), [redact, redact]);
    assert_eq!(treatments(&fields[1..], &References::default(), None), [Pass]);
    let plan = Plan::new(&fields, &References::default(), &masker(&column_rules()).masks, None);
    assert!(plan.has_unknown_relation() && !plan.is_pass());
}

#[test]
fn nothing_to_do_is_recognised() {
    let fields = [field("id", ORDERS, 1, 23), field("note", ORDERS, 3, 25)];
    let plan = |rules: &[_], catalog| Plan::new(&fields, &References::default(), &masker(rules).masks, catalog);
    assert!(plan(&[], None).is_pass());
    let catalog = catalog();
    assert!(plan(&column_rules(), Some(&catalog)).is_pass());
    let detecting = plan(&[detect_rule()], None);
    assert!(!detecting.is_pass());
    assert_eq!(detecting.columns().expect("described")[1].treatment, Detect);
    assert!(!Plan::blind().is_pass());
}

#[test]
fn v16_binary_formats_come_from_bind() {
    let fields = [field("a", 0, 0, 25), field("b", 0, 0, 25)];
    let mut plan = Plan::new(&fields, &References::default(), &masker(&[]).masks, None);
    let binary = |plan: &Plan| plan.columns().expect("described").iter().map(|c| c.binary).collect::<Vec<_>>();
    plan.set_formats(&[1]).expect("one for all");
    assert_eq!(binary(&plan), [true, true]);
    plan.set_formats(&[0, 1]).expect("one each");
    assert_eq!(binary(&plan), [false, true]);
    plan.set_formats(&[]).expect("none");
    assert_eq!(binary(&plan), [false, false]);
    assert!(plan.set_formats(&[0, 0, 0]).is_err() && plan.set_formats(&[2]).is_err());
}

#[test]
fn v16_copy_of_a_table_goes_by_the_catalog() {
    let catalog = catalog();
    let plan = |source, count, catalog| CopyPlan::new(source, count, false, &masker(&column_rules()).masks, catalog);
    let shown = |plan: Result<CopyPlan, Unmaskable>| {
        plan.expect("a plan").columns.iter().map(|c| c.treatment).collect::<Vec<_>>()
    };
    let table = |name, columns| CopySource::Table { schema: None, name, columns };
    let redact = Mask(Method::Redact);
    let null = Mask(Method::Null);
    assert_eq!(
        shown(plan(table("customers", &[]), 5, Some(&catalog))),
        [Pass, Pass, Mask(Method::Partial), redact, Pass]
    );
    let listed = ["ssn".to_owned(), "id".to_owned()];
    assert_eq!(shown(plan(table("customers", &listed), 2, Some(&catalog))), [redact, Pass]);
    assert_eq!(shown(plan(table("orders", &[]), 3, Some(&catalog))), [Pass; 3]);
    assert_eq!(shown(plan(table("made_since", &[]), 2, Some(&catalog))), [null; 2]);
    assert_eq!(shown(plan(table("orders", &[]), 3, None)), [null; 3]);
    assert_eq!(shown(plan(CopySource::Unknown, 2, Some(&catalog))), [null; 2]);
    let query = references(&["customers"], &["id"]);
    assert_eq!(shown(plan(CopySource::Query(&query), 1, Some(&catalog))), [null]);
    let query = references(&["orders"], &["id"]);
    assert_eq!(shown(plan(CopySource::Query(&query), 1, Some(&catalog))), [Pass]);
    assert!(plan(table("customers", &[]), 4, Some(&catalog)).is_err(), "altered since");
}

#[test]
fn reads_row_descriptions() {
    let mut body = vec![0, 1];
    body.extend_from_slice(b"x\0");
    body.extend_from_slice(&[0, 0, 64, 0, 0, 4, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
    let described = message(b'T', &body);
    assert_eq!(Field::read_all(&described).expect("one field"), [field("x", CUSTOMERS, 4, 25)]);
    for cut in 0..described.len() {
        assert!(Field::read_all(&described[..cut]).is_err());
    }
}
