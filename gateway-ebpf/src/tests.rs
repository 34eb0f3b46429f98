//! The helpers that decide what a connection is looked up as.

extern crate std;

use std::net::Ipv6Addr;

use super::*;

fn v6(text: &str, port: u16) -> Endpoint {
    let octets = text.parse::<Ipv6Addr>().expect("a literal").octets();
    let word = |n: usize| u32::from_ne_bytes([octets[n], octets[n + 1], octets[n + 2], octets[n + 3]]);
    Endpoint::new([word(0), word(4), word(8), word(12)], port)
}

fn v4(octets: [u8; 4], port: u16) -> Endpoint {
    Endpoint::v4(u32::from_ne_bytes(octets), port)
}

#[test]
fn a_mapped_address_is_its_ipv4_address() {
    assert_eq!(v6("::ffff:10.0.3.7", 5432), v4([10, 0, 3, 7], 5432));
    assert!(v6("::ffff:10.0.3.7", 5432).is_v4());
    assert!(!v6("::10.0.3.7", 5432).is_v4());
    assert_eq!(RuleKey::of(&v6("::ffff:10.0.3.7", 1), false).family, 4);
    assert_eq!(RuleKey::of(&v6("fd00::7", 1), false).family, 6);
}

#[test]
fn the_unspecified_address_is_the_loopback_that_the_kernel_makes_of_it() {
    assert_eq!(v4([0, 0, 0, 0], 5432).effective(), v4([127, 0, 0, 1], 5432));
    assert_eq!(v6("::ffff:0.0.0.0", 5432).effective(), Endpoint::loopback_v4(5432));
    assert_eq!(v6("::", 5432).effective(), v6("::1", 5432));
    assert_eq!(v6("fd00::7", 5432).effective(), v6("fd00::7", 5432));
    assert_eq!(v4([10, 0, 3, 7], 5432).effective(), v4([10, 0, 3, 7], 5432));
}

#[test]
fn keys_hold_the_port_in_network_order_and_count_bits_from_the_front() {
    let key = RuleKey::of(&v4([10, 0, 3, 7], 0x1538), false);
    assert_eq!(key.port.to_ne_bytes(), [0x15, 0x38]);
    assert_eq!(key.prefix_bits(32), RuleKey::all_bits());
    assert_eq!(key.prefix_bits(0), 32 + 96);
    let key = RuleKey::of(&v6("fd00::7", 0x1538), true);
    assert_eq!(key.port, 0);
    assert_eq!(key.prefix_bits(128), RuleKey::all_bits());
    assert_eq!(key.prefix_bits(0), 32);
}

#[test]
fn a_word_that_is_no_action_refuses_and_the_stricter_action_wins() {
    assert_eq!(
        [0, 1, 2, 3, u32::MAX].map(Action::from_word),
        [Action::Pass, Action::Intercept, Action::Refuse, Action::Refuse, Action::Refuse]
    );
    assert_eq!(Action::Intercept.stricter(Action::Pass), Action::Intercept);
    assert_eq!(Action::Intercept.stricter(Action::Refuse), Action::Refuse);
}
