//! What the vocabulary promises.

use super::*;

#[test]
fn effects_from_a_newer_record_never_read_as_harmless() {
    assert!(Effects::from_bits(0x8001).contains(Effect::Unknown));
    assert_eq!(Effects::from_bits(0x0001), Effects::of(Effect::Read));
}

#[test]
fn every_effect_survives_its_own_word() {
    for effect in Effect::ALL {
        assert_eq!(effect.as_str().parse(), Ok(effect));
    }
    assert!("drop".parse::<Effect>().is_err());
}

#[test]
fn secrets_stay_out_of_the_record() {
    let frame = Frame::secret(Bytes::from_static(b"hunter2"), "password message");
    assert_eq!(frame.recorded(), "[password message, 7 bytes left out]");
    assert_eq!(frame.wire(), "hunter2");
}

#[test]
fn short_forms_name_their_identifier() {
    let id = SessionId::now();
    assert!(id.is_named(&id.short()));
    assert!(id.is_named(&id.to_string()));
    assert!(!id.is_named("zz"));
}
