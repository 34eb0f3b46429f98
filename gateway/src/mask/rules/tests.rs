//! What [`super`] (`rules`) promises.

use super::*;

fn rule(yaml: &str) -> Result<MaskRule, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

fn masks(rules: &[&str]) -> Masks {
    let rules: Vec<_> = rules.iter().map(|yaml| rule(yaml).expect("a valid rule")).collect();
    Masks::compile(&rules).expect("they compile")
}

#[test]
fn reads_what_the_design_shows() {
    assert_eq!(
        rule("{ column: \"public.customers.email\", with: partial }").expect("valid"),
        MaskRule {
            select: Select::Column { schema: "public".into(), table: "customers".into(), column: "email".into() },
            with: Method::Partial
        }
    );
    assert_eq!(
        rule("{ detect: [card, iban, jwt, aws-key], with: redact }").expect("valid").select,
        Select::Detect(vec![Detector::Card, Detector::Iban, Detector::Jwt, Detector::AwsKey])
    );
    assert_eq!(rule("{ name: ssn, with: \"null\" }").expect("valid").with, Method::Null);
}

#[test]
fn says_what_is_wrong() {
    for (yaml, said) in [
        ("{ with: redact }", "exactly one of"),
        ("{ name: a, column: b.c, with: redact }", "has 2"),
        ("{ column: email, with: redact }", "use `name:`"),
        ("{ column: \"a..b\", with: redact }", "is not a column"),
        ("{ column: \"a.b.c.d\", with: redact }", "is not a column"),
        ("{ name: \"[a\", with: redact }", "not a valid pattern"),
        ("{ detect: [], with: redact }", "names no detector"),
        ("{ detect: [cards], with: redact }", "unknown variant"),
        ("{ name: a, with: hide }", "unknown variant"),
        ("{ name: a, with: redact, when: now }", "unknown field"),
    ] {
        let error = rule(yaml).expect_err(yaml);
        assert!(error.contains(said), "{yaml}: {error}");
    }
}

#[test]
fn a_rule_survives_writing_and_reading() {
    for yaml in
        ["{ column: 'a.\"b.c\".d*', with: hash }", "{ name: ssn, with: redact }", "{ detect: [email], with: partial }"]
    {
        let first = rule(yaml).expect("valid");
        let json = serde_json::to_string(&first).expect("plain data");
        assert_eq!(serde_json::from_str::<MaskRule>(&json).expect("valid"), first);
    }
}

#[test]
fn matches_by_glob_without_case_and_strictest_wins() {
    let masks = masks(&[
        "{ column: \"public.cust*.email\", with: partial }",
        "{ column: \"customers.*mail\", with: hash }",
        "{ name: \"ssn*\", with: redact }",
    ]);
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
    let masks = masks(&[]);
    assert!(masks.is_empty() && !masks.has_columns() && !masks.mentions("ssn"));
}
