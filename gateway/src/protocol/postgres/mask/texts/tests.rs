//! What [`super`] (`texts`) promises.

use proptest::prelude::*;

use super::{super::tests::*, *};

fn report(tag: u8, fields: &[(char, &str)]) -> bytes::Bytes {
    let mut body = Vec::new();
    for (code, text) in fields {
        body.push(u8::try_from(*code).expect("ASCII"));
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    message(tag, &body)
}

fn shown(fields: &[(char, &str)], references: &References) -> Vec<String> {
    let masker = masker(&[column_rules(), vec![detect_rule()]].concat());
    let catalog = catalog();
    let mut out = BytesMut::new();
    let context = Context { references, catalog: Some(&catalog) };
    masker.report(&report(b'E', fields), context, &mut out).expect("a report");
    let fields = read(body(&out, b'E').expect("a whole message")).expect("fields");
    fields.iter().map(|(_, text)| String::from_utf8_lossy(text).into_owned()).collect()
}

#[test]
fn v16_errors() {
    let none = References::default();
    let unique = |name: &str, detail: &str, references: &References| {
        let message = format!("duplicate key value violates unique constraint \"{name}\"");
        let fields = [
            ('M', message.as_str()),
            ('D', detail),
            ('s', "public"),
            ('t', "customers"),
            ('n', name),
            ('C', "23505"),
            ('F', "nbtinsert.c"),
        ];
        shown(&fields, references)[..2].to_vec()
    };
    let email = unique("customers_email_key", "Key (email)=(O'Hara) x) already exists.", &none);
    assert_eq!(email[0], "duplicate key value violates unique constraint \"customers_email_key\"");
    assert_eq!(email[1], "Key (email)=([masked]) already exists.");
    let id = unique("customers_pkey", "Key (id)=(1) already exists.", &none);
    assert_eq!(id[1], "Key (id)=(1) already exists.");
    let expression = unique("customers_lower_idx", "Key (lower(email))=(a) already exists.", &none);
    assert_eq!(expression[1], "Key (lower(email))=([masked]) already exists.");
    let row = shown(
        &[
            ('M', "null value in column \"id\""),
            ('D', "Failing row contains (null, a, b, x, null)."),
            ('s', "public"),
            ('t', "customers"),
            ('c', "id"),
            ('C', "23502"),
            ('F', "execMain.c"),
        ],
        &none,
    );
    assert_eq!(row[..2], ["null value in column \"id\"", "[masked]"]);
}

#[test]
fn v16_errors_with_a_value_in_the_message() {
    let cast = |message: &str, references: &References| {
        shown(&[('M', message), ('P', "8"), ('F', "numutils.c")], references)[0].clone()
    };
    let ssn = references(&["customers"], &["ssn"]);
    assert_eq!(
        cast("invalid input syntax for type integer: \"123-45-6789\"", &ssn),
        "invalid input syntax for type integer: \"[masked]\""
    );
    assert_eq!(cast("invalid: \"a\"b\" at", &ssn), "invalid: \"[masked]\" at");
    assert_eq!(cast("ungültige Eingabe »geheim«", &ssn), "ungültige Eingabe »[masked]«");
    assert_eq!(cast("cut off: \"secr", &ssn), "cut off: \"[masked]");
    assert_eq!(
        cast("column \"ssn\" of \"customers\" can't be \"x\"", &ssn),
        "column \"ssn\" of \"customers\" can't be \"[masked]\""
    );
    let note = references(&["orders"], &["note"]);
    assert_eq!(cast("invalid input syntax: \"abc\"", &note), "invalid input syntax: \"abc\"");
    assert_eq!(cast("invalid input syntax: \"a@b.de\"", &note), "invalid input syntax: \"[masked]\"");
}

#[test]
fn v16_errors_with_a_value_without_quotes() {
    // Each but the last two as PostgreSQL 15 says it.
    let ssn = references(&["customers"], &["ssn"]);
    for (code, message, rest) in [
        ("54000", "requested character too large for encoding: 123456789", ""),
        ("22008", "date field value out of range: 123456789-01-01", ""),
        ("2202E", "index 123456789 out of valid range, 0..0", ""),
        ("22P02", "invalid input syntax for type json", "JSON data, line 1: 123-45-6789"),
        ("42883", "operator does not exist: 123-45-6789", ""),
        ("42601", "something else about geheim", ""),
    ] {
        let seen = shown(&[('C', code), ('M', message), ('W', rest), ('R', "f"), ('F', "oracle_compat.c")], &ssn);
        let context = if rest.is_empty() { "" } else { MASKED };
        assert_eq!(seen[1..3], [MASKED, context], "{message}");
        assert_eq!(seen[0], code);
    }
    for (code, message, position) in [
        ("42703", "column \"ssn\" does not exist", "8"),
        ("42883", "operator does not exist: text = integer", "30"),
        ("22012", "division by zero", ""),
        ("22003", "integer out of range", ""),
        ("57014", "canceling statement due to statement timeout", ""),
        ("40P01", "deadlock detected", ""),
        ("42501", "permission denied for table customers", ""),
        ("23505", "duplicate key value violates unique constraint \"customers\"", ""),
        ("22001", "value too long for type character varying(10)", ""),
    ] {
        let seen = shown(&[('C', code), ('M', message), ('P', position), ('R', "f"), ('F', "int.c")], &ssn);
        assert_eq!(seen[1], message);
    }
}

#[test]
fn v16_settings_go_through_the_detectors() {
    let masker = masker(&[detect_rule()]);
    let setting = |value: &str| message(b'S', format!("application_name\0{value}\0").as_bytes());
    let mut out = BytesMut::new();
    assert_eq!(masker.setting(&setting("jane@example.com"), false, &mut out), Ok(1));
    assert_eq!(out, setting("[masked]"));
    out.clear();
    assert_eq!(masker.setting(&setting("psql"), false, &mut out), Ok(0));
    assert_eq!(out, setting("psql"));
}

#[test]
fn v16_a_setting_that_may_hold_a_masked_value_is_masked_whole() {
    let masker = masker(&column_rules());
    let setting = |name: &str, value: &str| message(b'S', format!("{name}\0{value}\0").as_bytes());
    for (may_be_masked, name, value, seen) in [
        (true, "application_name", "123-45-6789", MASKED),
        (true, "TimeZone", "<x123456789>0", MASKED),
        (true, "application_name", "", ""),
        (true, "DateStyle", "ISO, MDY", "ISO, MDY"),
        (false, "application_name", "psql", "psql"),
    ] {
        let mut out = BytesMut::new();
        let masked = masker.setting(&setting(name, value), may_be_masked, &mut out);
        assert_eq!((masked, &out[..]), (Ok(u32::from(seen != value)), &setting(name, seen)[..]), "{name}");
    }
}

#[test]
fn v16_names_that_a_function_gave_are_masked_and_the_backends_own_are_not() {
    let names = [('s', "public"), ('t', "customers"), ('c', "123-45-6789"), ('n', "x"), ('d', "y")];
    let raised = [&[('C', "P0001"), ('M', "odd"), ('F', "pl_exec.c"), ('R', "exec_stmt_raise")], &names[..]].concat();
    assert_eq!(shown(&raised, &References::default())[4..], [MASKED; 5]);
    let context = [&raised[..], &[('W', "SQL statement \"SELECT '123-45-6789'\"")]].concat();
    assert!(!shown(&context, &References::default()).concat().contains("6789"), "a name is no excuse for a value");
    let own = [('C', "23505"), ('M', "duplicate key"), ('F', "nbtinsert.c"), ('t', "orders"), ('n', "orders_pkey")];
    assert_eq!(shown(&own, &References::default())[3..], ["orders", "orders_pkey"]);
}

#[test]
fn v16_notices() {
    let raised = shown(
        &[
            ('S', "NOTICE"),
            ('C', "00000"),
            ('M', "v 123-45-6789"),
            ('W', "PL/pgSQL function f() line 1 at RAISE"),
            ('F', "pl_exec.c"),
            ('R', "exec_stmt_raise"),
        ],
        &References::default(),
    );
    assert_eq!(raised[..4], ["NOTICE", "00000", "[masked]", "PL/pgSQL function f() line 1 at RAISE"]);
    let plain = shown(&[('M', "table \"x\" does not exist, skipping"), ('F', "tablecmds.c")], &References::default());
    assert_eq!(plain[0], "table \"x\" does not exist, skipping");
}

#[test]
fn v16_notifications_go_through_the_detectors() {
    let masker = masker(&[detect_rule()]);
    let notification =
        |payload: &str| message(b'A', &[&[0, 0, 0, 9], b"chan\0".as_slice(), payload.as_bytes(), b"\0"].concat());
    let mut out = BytesMut::new();
    assert_eq!(masker.notification(&notification("to jane@example.com"), &mut out), Ok(1));
    assert_eq!(out, notification("to [masked]"));
    out.clear();
    assert_eq!(masker.notification(&notification("hello"), &mut out), Ok(0));
    assert_eq!(out, notification("hello"));
    // Where columns are masked, nobody can say what a payload was made of.
    let masker = self::masker(&column_rules());
    for (payload, seen) in [("123-45-6789", MASKED), ("", "")] {
        out.clear();
        assert_eq!(masker.notification(&notification(payload), &mut out), Ok(u32::from(payload != seen)));
        assert_eq!(out, notification(seen));
    }
}

#[test]
fn without_rules_nothing_changes() {
    let sent = report(b'N', &[('M', "a@b.de \"x\""), ('D', "Key (ssn)=(1)")]);
    let mut out = BytesMut::new();
    let context = Context { references: &References::opaque(), catalog: None };
    assert_eq!(masker(&[]).report(&sent, context, &mut out), Ok(0));
    assert_eq!(out, sent);
}

proptest! {
    #[test]
    fn reports_never_panic_and_stay_reports(
        texts in prop::collection::vec(("[MDHWqSnct]", "[a-zä0-9_()=\"'»«„ @.]{0,40}"), 0..6), bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let masker = masker(&[column_rules(), vec![detect_rule()]].concat());
        let fields: Vec<_> = texts.iter().map(|(code, text)| (code.chars().next().expect("one"), text.as_str())).collect();
        let (opaque, catalog) = (References::opaque(), catalog());
        for catalog in [None, Some(&catalog)] {
            let context = Context { references: &opaque, catalog };
            let mut out = BytesMut::new();
            masker.report(&report(b'E', &fields), context, &mut out).expect("a report");
            prop_assert_eq!(read(body(&out, b'E').expect("whole")).expect("fields").len(), fields.len());
            let _ = masker.report(&message(b'N', &bytes), context, &mut out);
            let _ = masker.notification(&message(b'A', &bytes), &mut out);
        }
    }
}
