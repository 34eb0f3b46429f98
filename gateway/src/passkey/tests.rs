//! A key made here signs what the test says; each check is shown to count.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::{samples::*, *};

#[test]
fn a_registered_passkey_signs() {
    let key = Key::new();
    let registered =
        register(&key.attestation(PARTY, 0x45), &client("webauthn.create", CHALLENGE, ORIGIN, false), &expected());
    let registered = registered.expect("it counts");
    assert_eq!(registered, Registered { key: b"key".to_vec(), public: key.cose() });
    let (authenticator, client) = (data(PARTY, 0x05), client("webauthn.get", CHALLENGE, ORIGIN, false));
    let signature = key.sign(&authenticator, &client);
    let assertion = Assertion { authenticator: &authenticator, client: &client, signature: &signature };
    assert_eq!(verify(&registered.public, &assertion, &expected()), Ok(()));
    // The record has no origin to compare with; the party still counts.
    assert_eq!(verify(&registered.public, &assertion, &Expected { origin: None, ..expected() }), Ok(()));
    assert_eq!(
        verify(&registered.public, &assertion, &Expected { party: "other.example", ..expected() }),
        Err(PasskeyError::Party)
    );
    assert_eq!(verify(&Key::new().cose(), &assertion, &expected()), Err(PasskeyError::Signature));
}

#[test]
fn what_was_signed_for_something_else_does_not_count() {
    let key = Key::new();
    let right = (data(PARTY, 0x05), client("webauthn.get", CHALLENGE, ORIGIN, false));
    let cases = [
        (right.clone(), Ok(())),
        ((data("other.example", 0x05), right.1.clone()), Err(PasskeyError::Party)),
        ((data(PARTY, 0x04), right.1.clone()), Err(PasskeyError::Absent)),
        ((data(PARTY, 0x01), right.1.clone()), Err(PasskeyError::Unverified)),
        ((right.0.clone(), client("webauthn.create", CHALLENGE, ORIGIN, false)), Err(PasskeyError::Kind)),
        ((right.0.clone(), client("webauthn.get", b"something else", ORIGIN, false)), Err(PasskeyError::Challenge)),
        (
            (right.0.clone(), client("webauthn.get", CHALLENGE, "https://evil.example", false)),
            Err(PasskeyError::Origin),
        ),
        ((right.0.clone(), client("webauthn.get", CHALLENGE, ORIGIN, true)), Err(PasskeyError::Origin)),
    ];
    for ((authenticator, client), wanted) in cases {
        let signature = key.sign(&authenticator, &client);
        let assertion = Assertion { authenticator: &authenticator, client: &client, signature: &signature };
        assert_eq!(verify(&key.cose(), &assertion, &expected()), wanted, "{:?}", String::from_utf8(client.clone()));
    }
    // Altered after it was signed.
    let signature = key.sign(&right.0, &right.1);
    let mut counted = right.0.clone();
    counted[36] ^= 1;
    let assertion = Assertion { authenticator: &counted, client: &right.1, signature: &signature };
    assert_eq!(verify(&key.cose(), &assertion, &expected()), Err(PasskeyError::Signature));
}

#[test]
fn what_cannot_be_used_later_is_not_registered() {
    let key = Key::new();
    let made = client("webauthn.create", CHALLENGE, ORIGIN, false);
    assert_eq!(register(&key.attestation(PARTY, 0x41), &made, &expected()), Err(PasskeyError::Unverified));
    assert_eq!(register(&key.attestation("x", 0x45), &made, &expected()), Err(PasskeyError::Party));
    assert!(matches!(register(&key.attestation(PARTY, 0x05), &made, &expected()), Err(PasskeyError::Malformed(_))));
    let asked = client("webauthn.get", CHALLENGE, ORIGIN, false);
    assert_eq!(register(&key.attestation(PARTY, 0x45), &asked, &expected()), Err(PasskeyError::Kind));
    // A key whose algorithm is `none`, or of a curve that goes with another algorithm.
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.map(3).and_then(|e| e.i8(3)?.i8(-8)?.i8(-1)?.i8(1)?.i8(-2)?.bytes(&[7; 32])).expect("memory");
    assert!(matches!(PublicKey::read(&encoder.into_writer()), Err(PasskeyError::Algorithm)));
}

#[test]
fn a_key_on_curve_25519_signs() {
    let pair = Ed25519KeyPair::generate().expect("random numbers");
    let mut encoder = minicbor::Encoder::new(Vec::new());
    let map = encoder.map(4).and_then(|e| e.i8(1)?.i8(1)?.i8(3)?.i8(-8)?.i8(-1)?.i8(6));
    map.and_then(|e| e.i8(-2)?.bytes(pair.public_key().as_ref())).expect("memory");
    let cose = encoder.into_writer();
    let (authenticator, client) = (data(PARTY, 0x05), client("webauthn.get", CHALLENGE, ORIGIN, false));
    let mut signed = authenticator.clone();
    signed.extend_from_slice(digest::digest(&digest::SHA256, &client).as_ref());
    let signature = pair.sign(&signed);
    let assertion = Assertion { authenticator: &authenticator, client: &client, signature: signature.as_ref() };
    assert_eq!(verify(&cose, &assertion, &expected()), Ok(()));
}

proptest::proptest! {
    #[test]
    fn nothing_that_is_sent_brings_it_down(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let made = client("webauthn.create", CHALLENGE, ORIGIN, false);
        proptest::prop_assert!(register(&bytes, &made, &expected()).is_err());
        proptest::prop_assert!(PublicKey::read(&bytes).is_err());
        let assertion = Assertion { authenticator: &bytes, client: &bytes, signature: &bytes };
        proptest::prop_assert!(verify(&bytes, &assertion, &expected()).is_err());
    }
}
