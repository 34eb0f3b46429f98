//! What single values look like, where no detector of `mask` knows it.
//!
//! None of these has a checksum. One value says little; that most values of a column look alike says something, which is
//! why they are here, and not among the detectors that change every value that they find.

use std::net::IpAddr;

/// Digits and the signs that people put between them, enough of them for a subscriber's number (E.164: at most fifteen).
pub(super) fn phone(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let signs = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-. ()/".contains(&byte));
    let international = text.starts_with('+') || text.starts_with("00");
    let apart = text.bytes().any(|byte| b"-. ()/".contains(&byte));
    signs
        && (7..=15).contains(&digits)
        && (international || apart)
        && (international || text.parse::<f64>().is_err())
        && !(date(text) || social_security(text) || address(text))
}

/// The same without a sign, which only a column's name can tell from other numbers.
pub(super) fn bare_phone(text: &str) -> bool {
    phone(text) || (7..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `1990-04-02`, `02.04.1990`, with or without a time behind it.
fn date(text: &str) -> bool {
    let day = text.split([' ', 'T']).next().unwrap_or_default();
    let parts: Vec<_> = day.split(['-', '.', '/']).collect();
    let [a, b, c] = parts[..] else { return false };
    let numbers = [a, b, c].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    numbers && b.len() <= 2 && matches!((a.len(), c.len()), (4, 1..=2) | (1..=2, 4 | 2))
}

/// A number of the United States' social security: three parts, none of them zero, no area that is not given out.
pub(super) fn social_security(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let [area, group, serial] = parts[..] else { return false };
    let number = |part: &str, digits: usize| (part.len() == digits).then(|| part.parse::<u16>().ok()).flatten();
    let given = |part: Option<u16>| part.is_some_and(|number| number > 0);
    let area = number(area, 3);
    given(area)
        && area.is_some_and(|area| area != 666 && area < 900)
        && given(number(group, 2))
        && given(number(serial, 4))
}

/// An address of IPv4 or IPv6, or a network.
pub(super) fn address(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "0"));
    address.parse::<IpAddr>().is_ok() && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= 128)
}

/// Keys of services that mark theirs.
pub(super) fn token(text: &str) -> bool {
    const MARKS: [&str; 17] = [
        "sk_live_", "sk_test_", "rk_live_", "pk_live_", "whsec_", "AIza", "glpat-", "npm_", "sk-", "hf_", "SG.",
        "pypi-", "dop_v1_", "shpat_", "xkeysib-", "hvs.", "ya29.",
    ];
    let rest = MARKS.iter().find_map(|mark| text.strip_prefix(mark));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    rest.is_some_and(|rest| rest.len() >= 16 && rest.bytes().all(allowed))
}

/// What password libraries and PostgreSQL store.
pub(super) fn password_hash(text: &str) -> bool {
    const MARKS: [&str; 18] = [
        "$1$",
        "$2a$",
        "$2b$",
        "$2x$",
        "$2y$",
        "$5$",
        "$6$",
        "$7$",
        "$y$",
        "$argon2",
        "$scrypt$",
        "$pbkdf2",
        "pbkdf2_",
        "pbkdf2:",
        "scrypt:",
        "{SSHA",
        "{CRYPT}",
        "SCRAM-SHA-256$",
    ];
    let postgres = || {
        text.strip_prefix("md5")
            .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    text.len() >= 20 && !text.contains(char::is_whitespace) && MARKS.iter().any(|mark| text.starts_with(mark))
        || postgres()
}
