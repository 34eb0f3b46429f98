//! What [`super`] (`discover`) promises, without a server.

use std::collections::BTreeMap;

use super::{
    catalog::{Catalog, Column, Holds, Looked, Relation, What},
    clue::{CLUES, COUNT, Says, Words, mark},
    judge, propose, shape,
    tally::Tally,
};
use crate::{
    mask::{Detector, MaskRule, Masks, Method, Select},
    policy::amend::MaskLine,
};

fn column(name: &str, holds: Holds, comment: &str) -> Column {
    Column { number: 1, name: name.into(), comment: comment.into(), holds, plain: true, readable: true }
}

fn table(name: &str, columns: Vec<Column>) -> Relation {
    let columns = columns.into_iter().zip(1..).map(|(column, number)| Column { number, ..column }).collect();
    let (schema, name) = ("public".into(), name.into());
    Relation { id: 1, schema, name, what: What::Table, parent: None, comment: String::new(), rows: 10.0, columns }
}

fn tally(values: &[&str]) -> Tally {
    let mut tally = Tally::default();
    values.iter().for_each(|value| tally.add(value));
    tally
}

/// `with`, `?` where a person decides, and why.
fn judged(name: &str, holds: Holds, comment: &str, values: &[&str]) -> String {
    let relation = table("customers", vec![column(name, holds, comment)]);
    match judge::column(&relation, &relation.columns[0], Some(&tally(values))) {
        Some(opinion) => format!("{}{} {}", opinion.with.as_str(), if opinion.sure { "" } else { "?" }, opinion.why),
        None => "nothing".into(),
    }
}

#[test]
fn names_say_what_they_say_however_they_are_written() {
    let kind = |name: &str| {
        let words = (Words::of(name), Words::of("customers"));
        let said = CLUES.iter().map(|clue| (clue.named(&words.0, &words.1), clue.many));
        match said.fold((Says::Nothing, ""), |best, next| if next.0 > best.0 { next } else { best }) {
            (Says::Nothing, _) => "nothing".to_owned(),
            (Says::Maybe, many) => format!("{many}?"),
            (Says::Sure, many) => many.to_owned(),
        }
    };
    for name in ["email", "Email", "customerEmail", "e_mail", "EMAIL_ADDRESS", "emailaddress", "work-email2", "emails"]
    {
        assert_eq!(kind(name), "e-mail addresses", "{name}");
    }
    for (name, wanted) in [
        ("ip_address", "IP addresses"),
        ("clientIP", "IP addresses"),
        ("IPAddress", "IP addresses"),
        ("address", "postal addresses?"),
        ("address_line_1", "postal addresses"),
        ("passwordHash", "passwords and their hashes"),
        ("passport_no", "social security and other identity numbers"),
        ("FirstName", "people's names"),
        ("name", "people's names?"),
        ("product_name", "nothing"),
        ("dob", "dates of birth"),
        ("pan", "card numbers"),
        ("company", "nothing"),
        ("panel", "nothing"),
        ("shipment", "nothing"),
        ("zip", "postal addresses?"),
        ("email_template", "e-mail addresses?"),
        ("phone_status", "telephone numbers?"),
        ("tax_id", "social security and other identity numbers"),
        ("token_type", "tokens and keys?"),
        ("api_key", "tokens and keys"),
        ("mobile", "telephone numbers"),
        ("mobility", "nothing"),
        ("id", "nothing"),
        ("", "nothing"),
        ("\n\"", "nothing"),
    ] {
        assert_eq!(kind(name), wanted, "{name}");
    }
    assert_eq!(CLUES.len(), COUNT);
}

#[test]
fn comments_mark_and_deny() {
    let marked = |text: &str| mark(&Words::of(text));
    assert_eq!(marked("PII, do not show"), Some("pii"));
    assert_eq!(marked("Contains personal data."), Some("personal data"));
    assert_eq!(marked("this is not PII"), None);
    assert_eq!(marked("no personal data here"), None);
    assert_eq!(marked("secretary"), None);
}

#[test]
fn shapes() {
    for yes in ["+49 151 23456789", "(555) 010-1234", "555-010-1234", "0049-30-901820"] {
        assert!(shape::phone(yes), "{yes}");
    }
    for no in
        ["2024-01-02", "02.01.2024", "12345678", "1.2.3.4", "12.5", "123-45-6789", "call me", "2024-01-02 10:11:12", ""]
    {
        assert!(!shape::phone(no), "{no}");
    }
    assert!(shape::bare_phone("5550101234") && !shape::bare_phone("12"));
    assert!(shape::social_security("123-45-6789"));
    for no in ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "123-456-789", "1234-5-6789"]
    {
        assert!(!shape::social_security(no), "{no}");
    }
    assert!(shape::address("10.0.0.1") && shape::address("2001:db8::1") && shape::address("10.0.0.0/8"));
    assert!(!shape::address("10.0.0") && !shape::address("1.2.3.4.5"));
    assert!(shape::token("sk_live_abcdefghijklmnopqrst") && !shape::token("sk_live_short") && !shape::token("hello"));
    assert!(
        shape::password_hash("$2b$12$abcdefghijklmnopqrstuv")
            && shape::password_hash("md5a3556571e93b0d20722ba62be61e8c2d")
    );
    assert!(!shape::password_hash("md5 of something") && !shape::password_hash("$1$"));
}

#[test]
fn the_evidence_decides_between_a_rule_and_a_question() {
    let mails = ["a@example.com", "b@example.com", "c@example.org"];
    assert_eq!(
        judged("email", Holds::Text, "", &mails),
        "partial e-mail addresses: name; 3 of 3 sampled values look like it"
    );
    assert_eq!(
        judged("contact", Holds::Text, "", &mails),
        "partial e-mail addresses: 3 of 3 sampled values look like it"
    );
    assert_eq!(judged("email", Holds::Text, "", &[]), "partial e-mail addresses: name");
    let others = ["hello"; 20];
    assert_eq!(
        judged("email", Holds::Text, "", &others),
        "partial? e-mail addresses: name; 0 of 20 sampled values look like it"
    );
    assert_eq!(
        judged("token", Holds::Text, "", &["x"]),
        "redact? tokens and keys: name; 0 of 1 sampled values look like it"
    );
    assert_eq!(judged("email", Holds::Other, "", &[]), "nothing");
    assert_eq!(judged("weight", Holds::Text, "PII", &[]), "redact comment says \"pii\"");
    assert_eq!(judged("address", Holds::Text, "PII", &[]), "redact postal addresses: name; comment says \"pii\"");
    assert_eq!(judged("address", Holds::Text, "not PII", &[]), "redact? postal addresses: name");
    assert_eq!(
        judged("x", Holds::Text, "where their e-mail address is kept", &[]),
        "partial? e-mail addresses: comment says \"e mail\""
    );
    assert_eq!(judged("born", Holds::Date, "", &[]), "null dates of birth: name");
    assert_eq!(
        judged("number", Holds::Number, "", &["4111111111111111", "5555555555554444", "4012888888881881"]),
        "partial card numbers: 3 of 3 sampled values look like it"
    );
    assert_eq!(
        judged("seen_from", Holds::Network, "", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        "hash? IP addresses: 3 of 3 sampled values look like it"
    );
    assert_eq!(
        judged("phone", Holds::Number, "", &["5550101234"; 3]),
        "partial telephone numbers: name; 3 of 3 sampled values look like it"
    );
    assert_eq!(judged("total", Holds::Number, "", &["5550101234"; 3]), "nothing");
    assert_eq!(judged("v", Holds::Text, "", &["10.1.2.3", "plain", "text", "more", "and"]), "nothing");
}

#[test]
fn documents_are_looked_into_and_their_keys_are_not_told() {
    let document =
        r#"{"canary-key@example.com": 1, "person": {"firstName": "Ada", "phones": ["+1 555 0100"]}, "ssn": "1"}"#;
    assert_eq!(
        judged("data", Holds::Json, "", &[document; 3]),
        "redact of 3 sampled documents, by the names inside: social security and other identity numbers in 3, telephone numbers in 3, people's names in 3"
    );
    assert_eq!(
        judged("data", Holds::Text, "", &[r#"{"ssn": "1"}"#, "{}", "{}", "{}"]),
        "redact? of 4 sampled documents, by the names inside: social security and other identity numbers in 1"
    );
    assert_eq!(judged("data", Holds::Json, "", &[r#"{"ssn": null, "email": {"sent": true}}"#; 3]), "nothing");
    // A key whose maker nobody knows is found by its name alone.
    assert_eq!(
        judged("data", Holds::Json, "", &[r#"{"apiKey": "opaque"}"#; 3]),
        "redact of 3 sampled documents, by the names inside: tokens and keys in 3"
    );
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(judged("data", Holds::Json, "", &[&deep, "{broken"]), "nothing");
}

fn lines(
    relations: Vec<Relation>,
    rules: &[MaskRule],
    looked: &BTreeMap<u32, Looked>,
    reads: Vec<(u32, u32, i16)>,
) -> Vec<String> {
    let masks = Masks::compile(rules).expect("they compile");
    let proposal = propose(&Catalog { relations, reads }, &masks, looked);
    let line = |line: MaskLine| match line {
        MaskLine::Comment(text) => format!("# {text}"),
        MaskLine::Rule { rule, why } => format!("{rule} # {why}"),
    };
    proposal.lines.into_iter().map(line).collect()
}

#[test]
fn what_is_masked_is_not_proposed_again_and_views_are_named() {
    let customers = table("customers", vec![column("email", Holds::Text, ""), column("ssn", Holds::Text, "")]);
    let view = |id, name: &str| Relation { id, what: What::View, ..table(name, vec![column("a", Holds::Text, "")]) };
    let rules = [MaskRule { select: Select::column("customers.email").expect("a column"), with: Method::Hash }];
    let relations = vec![customers, view(2, "mails"), view(3, "over"), view(4, "innocent")];
    assert_eq!(
        lines(relations, &rules, &BTreeMap::new(), vec![(3, 2, 1), (2, 1, 1), (4, 1, 7)]),
        [
            "# -- public.customers",
            "{ column: \"public.customers.ssn\", with: redact } # social security and other identity numbers: name",
            "# masked already: email (hash)",
            "# -- views that read columns which are masked, or would be; the gateway masks these there too",
            "# public.mails: public.customers.email",
            "# public.over: public.customers.email",
        ]
    );
}

#[test]
fn what_stands_amid_text_is_for_detectors() {
    let relation = table("tickets", vec![column("body", Holds::Text, ""), column("note", Holds::Text, "")]);
    let counted = BTreeMap::from([
        (1, tally(&["write to a@example.com or b@example.com", "thanks", "thanks"])),
        (2, tally(&["card 4111111111111111", "x"])),
    ]);
    let looked = BTreeMap::from([(1, Looked::At(counted))]);
    let said = lines(vec![relation.clone()], &[], &looked, Vec::new());
    assert_eq!(
        said[1..],
        [
            "# - { column: \"public.tickets.body\", with: redact }  # of 3 sampled values, amid other text: email in 1; see `detect` below",
            "# - { column: \"public.tickets.note\", with: redact }  # of 2 sampled values, amid other text: card in 1; see `detect` below",
            "# -- found amid other text; `detect` masks just that, in every column and message of this resource",
            "{ detect: [card], with: redact } # in 1 of 2 sampled values of public.tickets.note",
            "# - { detect: [email], with: redact }  # in 1 of 3 sampled values of public.tickets.body",
        ]
    );
    let rules = [MaskRule { select: Select::Detect(vec![Detector::Card, Detector::Email]), with: Method::Redact }];
    assert_eq!(lines(vec![relation], &rules, &looked, Vec::new()), Vec::<String>::new());
}

#[test]
fn parts_are_judged_as_their_whole_and_detectors_are_not_doubled() {
    let whole = Relation { what: What::Partitioned, ..table("events", vec![column("who", Holds::Text, "")]) };
    let part = Relation {
        id: 2,
        parent: Some(1),
        ..table("events_1", vec![column("other", Holds::Text, ""), column("who", Holds::Text, "")])
    };
    let mails = || {
        BTreeMap::from([(1, Looked::At(BTreeMap::from([(1, tally(&["a@b.example", "c@d.example", "e@f.example"]))])))])
    };
    let said = lines(vec![whole.clone(), part], &[], &mails(), Vec::new());
    assert_eq!(
        said[3],
        "{ column: \"public.events_1.who\", with: partial } # e-mail addresses: 3 of 3 sampled values look like it; a part of public.events"
    );
    let rules = [MaskRule { select: Select::Detect(vec![Detector::Email]), with: Method::Redact }];
    let said = lines(vec![whole], &rules, &mails(), Vec::new());
    assert!(said[1].starts_with("# - ") && said[1].ends_with("`detect: email` masks such values already"), "{said:?}");
}

#[test]
fn hostile_names_stay_on_their_line() {
    let hostile = "email\n- { name: \"*\", with: redact }\u{1b}[2J\u{202e}";
    let mut relation = table(hostile, vec![column(hostile, Holds::Text, "PII\n- { evil: true }")]);
    relation.schema = "s\"p.q".into();
    let looked = BTreeMap::from([(1, Looked::Not("no permission".into()))]);
    for line in lines(vec![relation], &[], &looked, Vec::new()) {
        assert!(line.chars().all(|char| (' '..='~').contains(&char)), "{line}");
        assert!(!line.contains("evil"), "{line}");
    }
}
