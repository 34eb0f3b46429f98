//! What [`super`] (`detect`) promises.

use proptest::prelude::*;

use super::*;

fn salt() -> Salt {
    Salt::new(&[1; 32])
}

fn all(method: Method) -> Detectors {
    Detectors::new(&Detector::ALL, method)
}

fn check(text: &str, expected: &str) {
    check_with(Method::Redact, text, expected);
}

fn check_with(method: Method, text: &str, expected: &str) {
    let shown = match all(method).scan(text.as_bytes(), &salt()) {
        Found::Nothing => text.to_owned(),
        Found::Replaced { value, .. } => String::from_utf8(value).expect("text stays text"),
        Found::Null => "NULL".to_owned(),
    };
    assert_eq!(shown, expected, "for {text:?}");
}

#[test]
fn finds_cards() {
    check("4111111111111111", "****************");
    check("pay 4111 1111 1111 1111 now", "pay **** **** **** **** now");
    check("x=4111-1111-1111-1111;", "x=****-****-****-****;");
    check("no 12345 5500 0055 5555 5559.", "no 12345 **** **** **** ****.");
    check("378282246310005", "***************");
    check("(3782 822463 10005)", "(**** ****** *****)");
    check("{\"card\":\"6011000990139424\"}", "{\"card\":\"****************\"}");
    check("a 4111111111111111 b 5555555555554444", "a **************** b ****************");
    check_with(Method::Partial, "4111 1111 1111 1111", "**** **** **** 1111");
    check_with(Method::Null, "card 4111111111111111", "NULL");
}

#[test]
fn leaves_other_numbers() {
    for text in [
        "4111111111111112",
        "1234567890123452",
        "2024-01-02 03:04:05.123456",
        "41111111111111111111",
        "e3b0c44298fc1c149afbf4c84111111111111111ca495991b7852b855aabbccd",
        "0000000000000000",
        "+49 30 1234567",
    ] {
        check(text, text);
    }
}

#[test]
fn finds_ibans() {
    check("DE89370400440532013000", "**********************");
    check("to DE89 3704 0044 0532 0130 00 please", "to **** **** **** **** **** ** please");
    check("gb82west12345698765432", "**********************");
    check("MT84MALT011000012345MTLCAST001S", "*******************************");
    check("IBAN:NO9386011117947", "IBAN:***************");
    check_with(Method::Partial, "DE89 3704 0044 0532 0130 00", "**** **** **** **** **30 00");
    for text in ["DE88370400440532013000", "DE8937040044053201300", "XX89370400440532013000", "ADE89370400440532013000"]
    {
        check(text, text);
    }
}

const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

#[test]
fn finds_jwts() {
    check(&format!("Bearer {HEADER}.eyJzdWIiOiIxIn0.abc-_DEF"), "Bearer [masked]");
    check(&format!("\"{HEADER}.eyJzdWIiOiIxIn0.\""), "\"[masked]\"");
    check(&format!("{HEADER}..iv.text.tag, next"), "[masked], next");
    check(&format!("token_{HEADER}.e30.sig"), "token_[masked]");
    check(&format!("{HEADER}.e30"), &format!("{HEADER}.e30"));
    // `{"typ":"JWT"}` has no alg.
    check("eyJ0eXAiOiJKV1QifQ.e30.sig", "eyJ0eXAiOiJKV1QifQ.e30.sig");
}

#[test]
fn a_value_made_of_jwt_starts_costs_little() {
    let value = "eyJ".repeat(1 << 20);
    let start = std::time::Instant::now();
    assert_eq!(all(Method::Redact).scan(value.as_bytes(), &salt()), Found::Nothing);
    assert!(start.elapsed().as_secs() < 5, "took {:?}", start.elapsed());
}

#[test]
fn finds_aws_keys() {
    check("AKIAIOSFODNN7EXAMPLE", "[masked]");
    check("id=ASIAIOSFODNN7EXAMPLE,", "id=[masked],");
    check("XAKIAIOSFODNN7EXAMPLE", "XAKIAIOSFODNN7EXAMPLE");
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    check(&format!("aws_secret_access_key = {secret}"), "aws_secret_access_key = [masked]");
    check(&format!("SECRET={secret}"), "SECRET=[masked]");
    check(secret, secret);
    check(&format!("secret {secret}A"), &format!("secret {secret}A"));
}

#[test]
fn finds_addresses() {
    check("jane.doe+x@mail.example.com", "[masked]");
    check("Jane <jane@example.com>, Joe <joe@example.org>.", "Jane <[masked]>, Joe <[masked]>.");
    check("{\"to\":\"jane@example.com\"}", "{\"to\":\"[masked]\"}");
    check("Key (email)=(jane@example.com) already exists.", "Key (email)=([masked]) already exists.");
    check("münchen@bücher.example", "[masked]");
    check_with(Method::Partial, "mail jane@example.com.", "mail j***@example.com.");
    for text in ["a@b", "@example.com", "5 @ 3.50", "user@localhost", "@@@@@@@@"] {
        check(text, text);
    }
}

#[test]
fn finds_private_keys() {
    let pem = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEow==\n-----END RSA PRIVATE KEY-----";
    check(&format!("a {pem} b"), "a [masked] b");
    check(&format!("{{\"k\":\"{}\"}}", pem.replace('\n', "\\n")), "{\"k\":\"[masked]\"}");
    check("-----BEGIN PRIVATE KEY-----\nMIIE", "[masked]");
    check("-----BEGIN PGP PRIVATE KEY BLOCK-----\nxyz=\n-----END PGP PRIVATE KEY BLOCK-----!", "[masked]!");
    check("-----BEGIN PUBLIC KEY-----\nMIIE\n", "-----BEGIN PUBLIC KEY-----\nMIIE\n");
}

#[test]
fn finds_tokens() {
    check(&format!("ghp_{} x", "a1".repeat(18)), "[masked] x");
    check(&format!("github_pat_{}", "aB_3".repeat(10)), "[masked]");
    check("xoxb-1234567890-abcdef", "[masked]");
    check("xapp-1-A012-3456789", "[masked]");
    check("ghp_short xoxo-no", "ghp_short xoxo-no");
}

#[test]
fn tells_a_value_that_is_one_from_a_value_that_has_one() {
    let email = Detectors::new(&[Detector::Email], Method::Redact);
    assert!(email.is_all_of(b" jane@example.com\n"));
    for value in ["to jane@example.com", "jane@example.com, joe@example.com", "jane", ""] {
        assert!(!email.is_all_of(value.as_bytes()), "{value}");
    }
    assert!(email.looks_for(Detector::Email) && !email.looks_for(Detector::Card));
}

#[test]
fn hashes_alike_whatever_the_separators() {
    let scan = |text: &str| all(Method::Hash).scan(text.as_bytes(), &salt());
    assert_eq!(scan("4111111111111111"), scan("4111 1111 1111 1111"));
    assert_ne!(scan("4111111111111111"), scan("5555555555554444"));
}

#[test]
fn the_strictest_method_of_a_detector_wins() {
    let mut detectors = Detectors::new(&[Detector::Card], Method::Null);
    detectors.add(Detector::Card, Method::Partial);
    assert_eq!(detectors.scan(b"4111111111111111", &salt()), Found::Null);
}

#[test]
fn finds_amid_bytes_that_are_no_text() {
    let mut value = vec![0xff, 0xfe, 0x00];
    value.extend_from_slice(b"4111111111111111");
    value.extend_from_slice(&[0x80, 0x00]);
    assert!(all(Method::Redact).hit(&value));
}

/// Pieces of what detectors look for, so that random values come close.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        "[0-9]{1,19}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "-----BEGIN ",
            "PRIVATE KEY",
            "-----",
            "-----END ",
            "eyJ",
            HEADER,
            ".",
            "@",
            "a.b",
            "AKIA",
            "secret",
            " ",
            "-",
            "DE89",
            "ghp_",
            "github_pat_",
            "xoxb-",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "=",
            "\\n",
            "\"",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn never_panics_and_hints_miss_nothing(value in fragments()) {
        let detectors = all(Method::Redact);
        let mut sure = Vec::new();
        let everything = Hints {
            digits: 255, at: true, jwt: true, aws_id: true, aws_context: true, dashes: true, github: true, slack: true,
        };
        detectors.look(&everything, &value, &mut sure);
        prop_assert_eq!(detectors.hit(&value), !sure.is_empty());
        for method in [Method::Redact, Method::Partial, Method::Hash, Method::Null] {
            all(method).scan(&value, &salt());
        }
    }

    #[test]
    fn every_valid_card_is_found(digits in prop::collection::vec(0_u8..10, 11), before in "[a-z ]{0,5}", after in "[ ,;a-z]{0,3}") {
        let mut card: Vec<u8> = [4, 1, 1, 1].into_iter().chain(digits).collect();
        let sum: u32 = card.iter().rev().enumerate()
            .map(|(place, d)| u32::from(if place % 2 == 0 { let x = d * 2; if x > 9 { x - 9 } else { x } } else { *d })).sum();
        card.push(u8::try_from((10 - sum % 10) % 10).expect("a digit"));
        let number: String = card.iter().map(|d| char::from(b'0' + d)).collect();
        prop_assume!(!before.ends_with(|c: char| c.is_ascii_hexdigit()) && !after.starts_with(|c: char| c.is_ascii_hexdigit()));
        let text = format!("{before}{number}{after}");
        let masked = all(Method::Redact).scan(text.as_bytes(), &salt());
        prop_assert_eq!(masked, Found::Replaced { value: format!("{before}{}{after}", "*".repeat(16)).into_bytes(), hits: 1 });
    }
}
