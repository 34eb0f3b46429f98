//! Tokens that are known by their look: JWT, AWS, e-mail, PEM, GitHub, Slack.

use std::ops::Range;

/// A JWT's header is short; a longer run of base64url is not one.
const LONGEST_HEADER: usize = 4096;
/// How often `eyJ` is tried within one unbroken run, so that a value made of it costs no quadratic time.
const TRIES_PER_RUN: usize = 8;
/// How far before a 40-character secret the word that explains it may stand.
const CONTEXT: usize = 64;

type Sink<'a> = &'a mut dyn FnMut(Range<usize>);

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// How many bytes from `at` on satisfy `class`.
fn run(value: &[u8], at: usize, class: fn(u8) -> bool) -> usize {
    value[at..].iter().take_while(|byte| class(**byte)).count()
}

/// Every place where `needle` starts.
fn places<'a>(value: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    value.windows(needle.len()).enumerate().filter(move |(_, window)| *window == needle).map(|(at, _)| at)
}

/// JSON Web Tokens: three parts, or five when encrypted.
pub(super) fn find_jwt(value: &[u8], found: Sink<'_>) {
    let mut done = 0;
    let mut run_end = 0;
    let mut tries = 0;
    for at in places(value, b"eyJ") {
        if at < done {
            continue;
        }
        if at >= run_end {
            run_end = at + run(value, at, is_base64url);
            tries = 0;
        }
        tries += 1;
        if tries > TRIES_PER_RUN {
            continue;
        }
        if let Some(end) = jwt(value, at, run_end) {
            found(at..end);
            done = end;
        }
    }
}

fn jwt(value: &[u8], at: usize, header_end: usize) -> Option<usize> {
    if header_end - at > LONGEST_HEADER || value.get(header_end) != Some(&b'.') {
        return None;
    }
    let payload_end = header_end + 1 + run(value, header_end + 1, is_base64url);
    if payload_end == header_end + 1 && value.get(payload_end) != Some(&b'.') {
        return None;
    }
    let mut end = payload_end;
    let mut parts = 2;
    while parts < 5 && value.get(end) == Some(&b'.') {
        end = end + 1 + run(value, end + 1, is_base64url);
        parts += 1;
    }
    (parts >= 3 && has_alg(&value[at..header_end])).then_some(end)
}

fn has_alg(header: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Header {
        #[serde(rename = "alg")]
        _alg: String,
    }
    decode_base64url(header).is_some_and(|json| serde_json::from_slice::<Header>(&json).is_ok())
}

/// RFC 4648 §5 without padding.
fn decode_base64url(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// `AKIA` or `ASIA` and sixteen upper-case letters or digits.
pub(super) fn find_aws_id(value: &[u8], found: Sink<'_>) {
    let is_id = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    for at in places(value, b"AKIA").chain(places(value, b"ASIA")) {
        let whole = value.get(at..at + 20).is_some_and(|id| id.iter().all(is_id));
        let alone = (at == 0 || !value[at - 1].is_ascii_alphanumeric())
            && value.get(at + 20).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if whole && alone {
            found(at..at + 20);
        }
    }
}

/// Exactly forty characters of base64 with upper case, lower case and digits, after `aws` or `secret`.
pub(super) fn find_aws_secret(value: &[u8], found: Sink<'_>) {
    let mut at = 0;
    while at < value.len() {
        let length = run(value, at, is_base64);
        if length == 0 {
            at += 1;
            continue;
        }
        // `=` is a character of base64 only at its end, and what stands between a key's name and its value.
        let assigned = value[at..at + length].iter().rposition(|byte| *byte == b'=').map_or(0, |place| place + 1);
        let secret = at + assigned..at + length;
        if secret.len() == 40 && is_mixed(&value[secret.clone()]) && explained(value, secret.start) {
            found(secret);
        }
        at += length;
    }
}

fn is_mixed(secret: &[u8]) -> bool {
    let has = |class: fn(&u8) -> bool| secret.iter().any(class);
    has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit)
}

fn explained(value: &[u8], at: usize) -> bool {
    let before = &value[at.saturating_sub(CONTEXT)..at];
    let has = |word: &[u8]| before.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word));
    has(b"secret") || has(b"aws")
}

/// `local@domain.tld`.
pub(super) fn find_email(value: &[u8], found: Sink<'_>) {
    let is_local = |byte: &u8| byte.is_ascii_alphanumeric() || b".!#$%&*+/=?^_`{|}~-".contains(byte) || *byte >= 0x80;
    let mut done = 0;
    for at in places(value, b"@") {
        let local = value[done..at].iter().rev().take_while(|byte| is_local(byte)).count();
        // Braces and the like are legal but more often what stands around an address.
        let start = at - local;
        let trimmed =
            value[start..at].iter().take_while(|b| !(b.is_ascii_alphanumeric() || **b == b'_' || **b >= 0x80)).count();
        let Some(end) = domain_end(value, at + 1) else { continue };
        if start + trimmed < at {
            found(start + trimmed..end);
            done = end;
        }
    }
}

/// Where the domain name that starts at `at` ends; it has a dot and a last label of letters.
fn domain_end(value: &[u8], at: usize) -> Option<usize> {
    let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || byte >= 0x80;
    let name = &value[at..at + run(value, at, is_domain)];
    let kept = name.iter().rposition(|byte| !matches!(byte, b'.' | b'-'))? + 1;
    let name = &name[..kept];
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let last = &name[dot + 1..];
    let is_top = last.len() >= 2 && last.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80);
    let is_puny = last.len() > 4 && last.starts_with(b"xn--");
    (dot > 0 && (is_top || is_puny)).then_some(at + kept)
}

/// `-----BEGIN … PRIVATE KEY…-----` to its end marker, or as far as base64 goes when the marker is missing.
pub(super) fn find_private_key(value: &[u8], found: Sink<'_>) {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const END: &[u8] = b"-----END ";
    let mut done = 0;
    for at in places(value, BEGIN) {
        if at < done {
            continue;
        }
        let Some(body) = label_end(value, at + BEGIN.len()) else { continue };
        let cut = body + body_length(&value[body..]);
        let marked = value[cut..].starts_with(END).then(|| label_end(value, cut + END.len())).flatten();
        done = marked.unwrap_or(cut);
        found(at..done);
    }
}

/// Behind `… PRIVATE KEY-----` or `… PRIVATE KEY BLOCK-----`, if that is what stands at `at`.
fn label_end(value: &[u8], at: usize) -> Option<usize> {
    let label = run(value, at, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
    let name = &value[at..at + label];
    let is_key = places(name, b"PRIVATE KEY").next().is_some();
    (is_key && value[at + label..].starts_with(b"-----")).then_some(at + label + 5)
}

/// Base64, headers (RFC 1421) and line ends, raw or escaped as in JSON, up to `-----`.
fn body_length(value: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        match byte {
            b'-' if value[at..].starts_with(b"-----") => break,
            b'\\' if matches!(value.get(at + 1), Some(b'n' | b'r')) => at += 2,
            b'\n' | b'\r' | b' ' | b'\t' | b':' | b',' | b'-' => at += 1,
            byte if is_base64(*byte) => at += 1,
            _ => break,
        }
    }
    at
}

/// `ghp_`, `gho_`, `ghu_`, `ghs_`, `ghr_` and `github_pat_`.
pub(super) fn find_github(value: &[u8], found: Sink<'_>) {
    for at in places(value, b"gh") {
        let classic =
            matches!(value.get(at + 2), Some(b'p' | b'o' | b'u' | b's' | b'r')) && value.get(at + 3) == Some(&b'_');
        if classic {
            let length = run(value, at + 4, |byte| byte.is_ascii_alphanumeric());
            if (36..=255).contains(&length) {
                found(at..at + 4 + length);
            }
        }
    }
    for at in places(value, b"github_pat_") {
        let length = run(value, at + 11, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if length >= 22 {
            found(at..at + 11 + length);
        }
    }
}

/// `xoxb-`, `xoxp-` and their kind, and `xapp-`.
pub(super) fn find_slack(value: &[u8], found: Sink<'_>) {
    for at in places(value, b"xox").chain(places(value, b"xap")) {
        let app = value[at..].starts_with(b"xapp-");
        let other = value[at..].starts_with(b"xox")
            && value.get(at + 3).is_some_and(u8::is_ascii_lowercase)
            && value.get(at + 4) == Some(&b'-');
        let length =
            if app || other { run(value, at + 5, |byte| byte.is_ascii_alphanumeric() || byte == b'-') } else { 0 };
        if length >= 10 {
            found(at..at + 5 + length);
        }
    }
}
