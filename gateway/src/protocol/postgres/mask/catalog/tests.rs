//! What [`super`] (`catalog`) promises.

use super::{super::tests::*, *};
use crate::mask::{Detector, MaskRule, Select};

fn masked(oid: u32) -> Vec<i16> {
    (1..=6).filter(|attnum| matches!(catalog().origin(oid, *attnum), Origin::Masked(_))).collect()
}

#[test]
fn p15_knows_columns_by_rule_partition_and_view() {
    for (relation, oid, columns) in [
        ("customers", CUSTOMERS, vec![3, 4]),
        ("orders", ORDERS, vec![]),
        ("people", PEOPLE, vec![2]),
        ("people_1, whose column numbers differ", PEOPLE_1, vec![2]),
        ("v_id", 16406, vec![]),
        ("v_ssn: by lineage, and what it computes", 16410, vec![2, 3, 4]),
        ("v_v: a view of a view", 16414, vec![1]),
        ("v_cnt: count(*) shows no column", 16418, vec![]),
        ("v_whole: pg_depend lists only id", 16422, vec![2]),
        ("v_union", 16426, vec![1]),
        ("v_ord", 16430, vec![]),
        ("m_ssn", 16434, vec![1]),
        ("odd.s.T x: SSN in capitals", 16441, vec![1]),
    ] {
        assert_eq!(masked(oid), columns, "{relation}");
    }
}

/// Rows of the lookup, written `r|16384|…`.
fn read(lines: &[&str]) -> Catalog {
    let mut reader = CatalogReader::default();
    for line in lines {
        let values: Vec<Option<&[u8]>> = line.splitn(7, '|').map(|value| Some(value.as_bytes())).collect();
        reader.row(&data_row(&values)).expect("a row of the lookup");
    }
    reader.finish(&masker(&column_rules()).masks)
}

#[test]
fn p15_a_generated_column_shows_what_it_is_made_from() {
    let catalog = read(&[
        "r|20000|r|public|customers|20002|20001",
        "a|20000|1|id|23||",
        "a|20000|2|ssn|25||",
        "a|20000|3|lower_ssn|25|s|",
        "a|20000|4|next_id|23|s|",
        "g|20000|3|2|||",
        "g|20000|4|1|||",
        "r|20010|v|public|v|20012|20011",
        "a|20010|1|x|25||",
        "v|20010|({QUERY :targetList ({TARGETENTRY :resno 1 :resorigtbl 20000 :resorigcol 3 :resjunk false})})||||",
        "d|20010|20000|3|||",
    ]);
    let masked =
        |oid| (1..=4).filter(|attnum| matches!(catalog.origin(oid, *attnum), Origin::Masked(_))).collect::<Vec<_>>();
    assert_eq!(masked(20000), [2, 3]);
    assert_eq!(masked(20010), [1], "through a view");
}

#[test]
fn functions_that_take_rows_are_known() {
    let catalog = read(&["f|20000|wipe||||"]);
    assert!(catalog.has_row_function("wipe") && !catalog.has_row_function("name"));
}

#[test]
fn v16_a_name_that_is_not_utf8_fails_the_look() {
    let row = [&b"r"[..], b"20000", b"r", b"public", b"clientes\xfa", b"1", b"2"].map(Some);
    assert!(CatalogReader::default().row(&data_row(&row)).is_err());
}

#[test]
fn the_method_of_a_rule_stays() {
    assert_eq!(catalog().origin(CUSTOMERS, 3), Origin::Masked(Method::Partial));
    assert_eq!(catalog().origin(CUSTOMERS, 0), Origin::Masked(Method::Redact));
}

#[test]
fn what_was_made_since_is_unknown() {
    assert_eq!(catalog().origin(99_999, 1), Origin::Unknown);
    assert_eq!(catalog().origin(1259, 1), Origin::Open);
    assert!(catalog().may_be_masked(None, "made_since") && catalog().may_be_masked(None, "customers"));
    assert!(!catalog().may_be_masked(None, "orders") && !catalog().may_be_masked(Some("other"), "customers"));
}

#[test]
fn samples_of_the_planner_are_masked() {
    assert_eq!(masked(2619), Vec::<i16>::new());
    assert_eq!(catalog().origin(2619, 27), Origin::Masked(Method::Redact));
    assert!(holds_samples("most_common_vals"));
}

#[test]
fn row_types_of_masked_relations_are_known() {
    assert!(catalog().is_masked_rowtype(16386) && catalog().is_masked_rowtype(16385));
    assert!(!catalog().is_masked_rowtype(16395));
}

#[test]
fn an_odd_answer_is_an_error() {
    for row in [
        vec![],
        vec![Some(&b"r"[..]); 7],
        vec![None; 7],
        vec![Some(&b"q"[..]), Some(b"1"), None, None, None, None, None],
    ] {
        assert!(CatalogReader::default().row(&data_row(&row)).is_err(), "{row:?}");
    }
}

#[test]
fn asks_nothing_when_no_rule_names_columns() {
    assert_eq!(lookup_sql(&masker(&[detect_rule()]).masks), None);
    assert!(matches!(detect_rule().select, Select::Detect(all) if all.contains(&Detector::Card)));
}

#[test]
fn the_statement_names_every_schema() {
    let sql = lookup_sql(&masker(&column_rules()).masks).expect("rules with columns");
    assert!(!sql.contains('\\') && !sql.contains('$') && !sql.contains(';'));
    for bare in [" = ", "==", "<>)", " > ", " < ", " LIKE ", " IN ("] {
        assert!(!sql.replace("(pg_catalog.<>)", "").contains(bare), "{bare}");
    }
    for (place, _) in sql.match_indices("::") {
        assert!(sql[place + 2..].starts_with("pg_catalog."), "{}", &sql[place..place + 20]);
    }
    for word in ["FROM pg_", "JOIN pg_"] {
        for (place, _) in sql.match_indices(word) {
            assert!(sql[place + 5..].starts_with("pg_catalog."), "{}", &sql[place..place + 30]);
        }
    }
}

#[test]
fn patterns_become_supersets_without_escapes() {
    for (glob, pattern) in [
        ("email", "email"),
        ("E*l", "e%l"),
        ("a?c", "a%c"),
        ("o'x", "o''x"),
        ("a_b", "a_b"),
        ("pre{a,b}", "pre%"),
        ("[ab]c", "%"),
        ("a\\*b", "a%"),
        ("ü", "%"),
    ] {
        assert_eq!(like(glob), pattern);
    }
    let all = MaskRule { select: Select::column("*.*.*").expect("a column"), with: Method::Null };
    assert!(lookup_sql(&masker(&[all]).masks).expect("rules").contains("(true)"));
}
