//! What [`super`] (`rules`) promises.

use super::*;

fn column(written: &str, with: Method) -> MaskRule {
    MaskRule { select: Select::column(written).expect("a column"), with }
}

fn name(written: &str, with: Method) -> MaskRule {
    MaskRule { select: Select::Name(written.into()), with }
}

#[test]
fn a_column_has_two_or_three_parts_and_quotes_protect_dots() {
    let read = |written: &str| match Select::column(written) {
        Ok(Select::Column { schema, table, column }) => [schema, table, column].join(" / "),
        other => other.expect_err("no other kind of rule comes of a column").to_string(),
    };
    assert_eq!(read("public.customers.email"), "public / customers / email");
    assert_eq!(read("customers.email"), "* / customers / email");
    assert_eq!(read("a.\"b.c\".\"d\"\"e\"*"), "a / b.c / d\"e*");
    for wrong in ["email", "a..b", "a.b.c.d", "a.\"b", ""] {
        assert!(read(wrong).starts_with(&format!("`{wrong}` is not a column")), "{wrong}");
    }
}

#[test]
fn says_what_cannot_be_compiled() {
    let said = |rule: MaskRule| Masks::compile([&rule]).expect_err("it cannot be used").to_string();
    assert!(said(name("[a", Method::Redact)).contains("not a valid pattern"));
    assert!(said(column("a.{b", Method::Redact)).contains("not a valid pattern"));
    assert!(said(MaskRule { select: Select::Detect(vec![]), with: Method::Redact }).contains("names no detector"));
}

#[test]
fn matches_by_glob_without_case_and_strictest_wins() {
    let rules = [
        column("public.cust*.email", Method::Partial),
        column("customers.*mail", Method::Hash),
        name("ssn*", Method::Redact),
    ];
    let masks = Masks::compile(&rules).expect("they compile");
    assert_eq!(masks.for_column("public", "customers", "email"), Some(Method::Hash));
    assert_eq!(masks.for_column("public", "custodians", "EMAIL"), Some(Method::Partial));
    assert_eq!(masks.for_column("other", "custodians", "email"), None);
    assert_eq!(masks.for_column("any", "thing", "ssn_hash"), Some(Method::Redact));
    assert_eq!(masks.for_name("SSN"), Some(Method::Redact));
    assert_eq!(masks.for_name("email"), None);
    assert!(masks.mentions("Email") && masks.mentions("voicemail") && masks.mentions("ssn") && !masks.mentions("id"));
    assert!(masks.has_columns() && !masks.is_empty() && masks.detectors().is_none());
}

#[test]
fn nothing_masks_nothing() {
    let masks = Masks::default();
    assert!(masks.is_empty() && !masks.has_columns() && !masks.mentions("ssn"));
}

#[test]
fn what_is_written_of_a_column_names_it_and_nothing_else() {
    let odd = [
        "plain",
        "a.b",
        "\"quoted\"",
        "*",
        "a?b",
        "[x]",
        "{a,b}",
        "back\\slash",
        "]",
        "[!a]",
        "two words",
        "ümläut",
        "\n#:",
    ];
    for name in odd {
        for (schema, table, column) in [(name, "t", "c"), ("s", name, "c"), ("s", "t", name), (name, name, name)] {
            let rule = super::written(schema, table, column);
            let masks = Masks::compile([&self::column(&rule, Method::Redact)]).expect(&rule);
            assert_eq!(masks.for_column(schema, table, column), Some(Method::Redact), "{rule}");
            assert_eq!(masks.for_column(schema, table, "other"), None, "{rule}");
            assert_eq!(masks.for_column(schema, "other", column), None, "{rule}");
        }
    }
    let star = Masks::compile([&column(&super::written("s", "t", "a*"), Method::Hash)]).expect("it compiles");
    assert_eq!(star.for_column("s", "t", "ab"), None);
}
