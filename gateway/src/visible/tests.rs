//! What a reader must never be shown as it is.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(bytes: impl AsRef<[u8]>, shown: &str) {
    assert_eq!(visible(bytes.as_ref()), shown);
}

#[test]
fn a5_control_and_escape_characters_are_shown() {
    check("DROP\x1b[2K\rSELECT 1", "DROP\\x1b[2K\\rSELECT 1");
    check("a\0b\x07\x08\x7f", "a\\x00b\\x07\\x08\\x7f");
    check("\u{85}\u{9b}31m", "\\u{85}\\u{9b}31m");
    check("a\nb\tc", "a\\nb\\tc");
    assert_eq!(visible_lines(b"a\r\nb\tc\x1b"), "a\\r\nb\tc\\x1b");
}

#[test]
fn a5_bidi_and_unseen_characters_are_shown() {
    check("/*\u{202e}} \u{2066}if\u{2069}*/", "/*\\u{202e}} \\u{2066}if\\u{2069}*/");
    check("ta\u{200b}ble\u{feff}", "ta\\u{200b}ble\\u{feff}");
    check("SELECT\u{a0}1\u{3000}", "SELECT\\u{a0}1\\u{3000}");
    check("a\u{e0041}b\u{fe0f}\u{2028}", "a\\u{e0041}b\\u{fe0f}\\u{2028}");
}

#[test]
fn a5_letters_that_imitate_are_shown_in_mixed_words() {
    check("us\u{435}rs", "us\\u{435}rs");
    check("\u{ff44}rop", "\\u{ff44}rop");
    check("имя, Ελλάδα, 名前, naïve, straße", "имя, Ελλάδα, 名前, naïve, straße");
    assert_eq!(cautions("сору".as_bytes()).len(), 1, "a whole word of imitations is said in words");
}

#[test]
fn a5_invalid_utf8_is_shown_byte_by_byte() {
    check(b"ok\xff\xc3(\xe2\x82", "ok\\xff\\xc3(\\xe2\\x82");
    check("e\u{301}", "e\u{301}");
    check("e\u{301}\u{302}\u{303}", "e\u{301}\\u{302}\\u{303}");
}

#[test]
fn a5_cautions_say_what_eyes_cannot() {
    assert!(cautions(b"SELECT 1").is_empty());
    for (text, words) in [
        ("\u{202e}", "order"),
        ("\0", "NUL"),
        ("\x1b[1A", "terminal"),
        ("a\rb", "carriage"),
        ("\u{200b}", "cannot be seen"),
        ("us\u{435}rs", "U+0435"),
    ] {
        let said = cautions(text.as_bytes());
        assert!(said.iter().any(|caution| caution.contains(words)), "{text:?}: {said:?}");
    }
    assert!(cautions(&b"SELECT 1;".repeat(12_000)).iter().any(|caution| caution.contains("108000 bytes")));
}

#[test]
fn a_long_text_says_that_it_goes_on() {
    assert_eq!(visible_start(b"SELECT 1", 8), "SELECT 1");
    assert_eq!(visible_start(b"SELECT 1, 2", 8), "SELECT 1… (11 bytes in all)");
    assert!(visible_start(&[b'x'; 1000], 10).ends_with("(1000 bytes in all)"));
}

proptest! {
    #[test]
    fn a5_nothing_that_acts_is_ever_shown(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let shown = visible(&bytes);
        prop_assert!(shown.chars().all(|c| !c.is_control() && !is_bidi(c) && !is_unseen(c) && !is_odd_space(c)));
    }

    #[test]
    fn a5_json_is_ascii_and_loses_nothing(text in any::<String>(), pretty in any::<bool>()) {
        let json = ascii_json(&text, pretty).expect("a string is JSON");
        prop_assert!(json.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')));
        prop_assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
    }
}
