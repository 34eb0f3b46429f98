//! What [`super`] (`amend`) promises.

use super::*;

fn rule(column: &str) -> MaskLine {
    MaskLine::Rule { rule: format!("{{ column: {}, with: redact }}", quoted(column)), why: "name".into() }
}

fn lines() -> Vec<MaskLine> {
    vec![MaskLine::Comment("public.t".into()), rule("public.t.c")]
}

const HEAD: &str = "resource: shop\nprotocol: postgres\nendpoints: [\"127.0.0.1:5432\"]\ndefault: allow\n";

#[test]
fn lines_and_comments_of_the_document_stay() {
    let source = format!(
        "policy: other\n---\n# ours\n{HEAD}mask:\n    # why\n    - {{ name: ssn, with: redact }} # because\n    - name: x\n      with: hash\n\n# about tests\ntests: []\n---\npolicy: more\n"
    );
    let text = with_masks(&source, "shop", &lines()).expect("it can be");
    assert_eq!(
        text,
        format!(
            "# ours\n{HEAD}mask:\n    # why\n    - {{ name: ssn, with: redact }} # because\n    - name: x\n      with: hash\n    # public.t\n    - {{ column: \"public.t.c\", with: redact }}  # name\n\n# about tests\ntests: []\n"
        )
    );
}

#[test]
fn a_list_without_indentation_is_one_too() {
    let text =
        with_masks(&format!("{HEAD}mask:\n- {{ name: ssn, with: redact }}\n# about\ntests: []\n"), "shop", &lines());
    let text = text.expect("it can be");
    assert!(text.contains("with: redact }\n# public.t\n- { column: \"public.t.c\""), "{text}");
    assert!(text.ends_with("# about\ntests: []\n"), "{text}");
}

#[test]
fn where_there_is_no_list_one_is_made_and_comments_alone_make_none() {
    let text = with_masks(HEAD, "shop", &lines()).expect("it can be");
    assert_eq!(text, format!("{HEAD}mask:\n  # public.t\n  - {{ column: \"public.t.c\", with: redact }}  # name\n"));
    let text = with_masks(HEAD, "shop", &lines()[..1]).expect("it can be");
    assert_eq!(text, format!("{HEAD}# mask:\n  # public.t\n"));
}

#[test]
fn short_forms_are_written_anew() {
    let json = r#"{"resource": "shop", "protocol": "postgres", "default": "allow", "mask": [{"name": "ssn", "with": "null"}]}"#;
    for source in [format!("{HEAD}mask: [{{ name: ssn, with: null }}]\n"), format!("{HEAD}mask: []\n"), json.to_owned()]
    {
        let text = with_masks(&source, "shop", &lines()).expect("it can be");
        let node = document(&text, "shop").expect("it is one");
        let masks = entry(&node, "mask").expect("it has some").to_json();
        assert_eq!(
            masks.as_array().and_then(|all| all.last()),
            Some(&json!({"column": "public.t.c", "with": "redact"}))
        );
        assert!(source.contains("ssn") == masks.to_string().contains("ssn"), "{text}");
        let none = with_masks(&source, "shop", &lines()[..1]).expect("it can be");
        assert!(document(&none, "shop").is_some(), "{none}");
    }
}

#[test]
fn no_name_breaks_out_of_its_quotes() {
    for hostile in [
        "a\" }\n- { name: \"*",
        "\u{1b}[31m",
        "\u{2028}#",
        "x\\",
        "# no",
        "{{",
        "'",
        "\u{202e}",
        "*anchor",
        "&a",
        "\u{85}",
        "日本",
    ] {
        let text = with_masks(HEAD, "shop", &[rule(hostile)]).expect(hostile);
        let node = document(&text, "shop").expect("it is one");
        let masks = entry(&node, "mask").expect("it has one").to_json();
        assert_eq!(masks, json!([{"column": hostile, "with": "redact"}]));
        assert_eq!(text.lines().count(), HEAD.lines().count() + 2, "{text}");
        assert!(text.chars().all(|char| char == '\n' || !char.is_control()), "{text}");
    }
}

#[test]
fn says_what_cannot_be_done() {
    let said = |source: &str, lines: &[MaskLine]| with_masks(source, "shop", lines).expect_err("it cannot").to_string();
    assert!(said("resource: another\n", &lines()).contains("no resource `shop`"));
    assert!(said(&format!("{HEAD}mask: yes\n"), &lines()).contains("one rule on a line"));
    let many: Vec<_> = (0..30_000).map(|number| rule(&format!("public.t.c{number}"))).collect();
    assert!(said(HEAD, &many).contains("--schema"));
}
