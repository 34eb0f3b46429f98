//! Secrets found by what they look like and, where they have one, by their checksum.
//!
//! [`Detectors::scan`] first makes one branch-free pass over the bytes ([`Hints`]) that ordinary values leave with
//! nothing to do; only then do the single detectors look. Values are arbitrary bytes; nothing here assumes UTF-8.
//!
//! # Correctness
//! A replacement never adds a quote, a backslash, a comma or a line end, so a value inside JSON strings, arrays and
//! delimited text keeps its shape. Whether the whole is still valid (a bare JSON number is not) is the caller's to ask.

use std::ops::Range;

use super::{MASKED, Method, Salt, method::partial};

mod card;
mod hints;
mod iban;
mod token;

use hints::Hints;

/// Something that is found by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Detector {
    /// A payment card's number: 13–19 digits, single spaces or dashes between, a known issuer range, Luhn's checksum.
    Card = 0,
    /// An IBAN (ISO 13616): country, length, modulo 97.
    Iban = 1,
    /// A JSON Web Token (RFC 7519), signed or encrypted; its header must decode to JSON with `alg`.
    Jwt = 2,
    /// An AWS access key id, and a secret key beside a word that says what it is.
    AwsKey = 3,
    /// An e-mail address.
    Email = 4,
    /// A PEM private key (RFC 7468), whole or cut off.
    PrivateKey = 5,
    /// A GitHub token.
    GithubToken = 6,
    /// A Slack token.
    SlackToken = 7,
}

impl Detector {
    /// All detectors.
    pub const ALL: [Detector; 8] = [
        Detector::Card,
        Detector::Iban,
        Detector::Jwt,
        Detector::AwsKey,
        Detector::Email,
        Detector::PrivateKey,
        Detector::GithubToken,
        Detector::SlackToken,
    ];

    /// The detector's word in a resource file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Detector::Card => "card",
            Detector::Iban => "iban",
            Detector::Jwt => "jwt",
            Detector::AwsKey => "aws-key",
            Detector::Email => "email",
            Detector::PrivateKey => "private-key",
            Detector::GithubToken => "github-token",
            Detector::SlackToken => "slack-token",
        }
    }

    /// All words, for messages.
    pub fn names() -> String {
        Detector::ALL.map(Detector::as_str).join(", ")
    }
}

/// One thing found: where, and by which detector.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hit {
    at: Range<usize>,
    detector: Detector,
    method: Method,
}

/// Calls its second argument with every place where it finds something in its first.
type Finder = fn(&[u8], &mut dyn FnMut(Range<usize>));

/// What a scan made of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the value may go as it is.
    Nothing,
    /// The value with `hits` parts replaced.
    Replaced {
        /// The new bytes.
        value: Vec<u8>,
        /// How many parts were replaced; at least 1.
        hits: u32,
    },
    /// A rule says that the whole value becomes NULL.
    Null,
}

/// The detectors of a resource, each with its method.
#[derive(Debug, Clone, Default)]
pub struct Detectors {
    methods: [Option<Method>; Detector::ALL.len()],
}

impl Detectors {
    /// One method for all of `detectors`.
    pub fn new(detectors: &[Detector], method: Method) -> Self {
        let mut all = Self::default();
        detectors.iter().for_each(|detector| all.add(*detector, method));
        all
    }

    pub(super) fn add(&mut self, detector: Detector, method: Method) {
        let slot = &mut self.methods[detector as usize];
        *slot = (*slot).max(Some(method));
    }

    /// Whether anything is found in `value`: what to ask where a replacement would not be valid anyway.
    pub fn hit(&self, value: &[u8]) -> bool {
        !self.hits(value).is_empty()
    }

    /// Whether this one is among them.
    pub fn looks_for(&self, detector: Detector) -> bool {
        self.methods[detector as usize].is_some()
    }

    /// Whether `value`, but for blanks around it, is one such thing and nothing else.
    pub fn is_all_of(&self, value: &[u8]) -> bool {
        let value = value.trim_ascii();
        matches!(&self.hits(value)[..], [only] if only.at == (0..value.len()))
    }

    /// `value` with everything found in it replaced. Allocates only when something is.
    pub fn scan(&self, value: &[u8], salt: &Salt) -> Found {
        let hits = self.hits(value);
        if hits.is_empty() {
            return Found::Nothing;
        }
        let mut replaced = Vec::with_capacity(value.len());
        let mut done = 0;
        for hit in &hits {
            if hit.method == Method::Null {
                return Found::Null;
            }
            replaced.extend_from_slice(&value[done..hit.at.start]);
            replace(hit.detector, hit.method, &value[hit.at.clone()], salt, &mut replaced);
            done = hit.at.end;
        }
        replaced.extend_from_slice(&value[done..]);
        Found::Replaced { value: replaced, hits: u32::try_from(hits.len()).unwrap_or(u32::MAX) }
    }

    /// Everything found, in order, without overlaps: the union of two different kinds shows nothing of either.
    fn hits(&self, value: &[u8]) -> Vec<Hit> {
        let hints = Hints::of(value);
        let mut hits = Vec::new();
        if hints.is_empty() {
            return hits;
        }
        self.look(&hints, value, &mut hits);
        hits.sort_by_key(|hit| (hit.at.start, usize::MAX - hit.at.end));
        hits.dedup_by(|next, kept| {
            let overlaps = next.at.start < kept.at.end;
            if overlaps && next.detector != kept.detector {
                kept.method = kept.method.max(next.method).max(Method::Redact);
            }
            if overlaps {
                kept.at.end = kept.at.end.max(next.at.end);
            }
            overlaps
        });
        hits
    }

    fn look(&self, hints: &Hints, value: &[u8], hits: &mut Vec<Hit>) {
        let mut add = |detector: Detector, hint: bool, find: Finder| {
            if let (true, Some(method)) = (hint, self.methods[detector as usize]) {
                find(value, &mut |at| hits.push(Hit { at, detector, method }));
            }
        };
        add(Detector::Card, hints.digits >= card::SHORTEST, card::find);
        add(Detector::Iban, hints.digits >= iban::FEWEST_DIGITS, iban::find);
        add(Detector::Jwt, hints.jwt, token::find_jwt);
        add(Detector::AwsKey, hints.aws_id, token::find_aws_id);
        add(Detector::AwsKey, hints.aws_context, token::find_aws_secret);
        add(Detector::Email, hints.at, token::find_email);
        add(Detector::PrivateKey, hints.dashes, token::find_private_key);
        add(Detector::GithubToken, hints.github, token::find_github);
        add(Detector::SlackToken, hints.slack, token::find_slack);
    }
}

fn replace(detector: Detector, method: Method, found: &[u8], salt: &Salt, out: &mut Vec<u8>) {
    match (detector, method) {
        (Detector::Card | Detector::Iban, Method::Redact | Method::Null) => stars(found, 0, out),
        (Detector::Card | Detector::Iban, Method::Partial) => stars(found, 4, out),
        (Detector::Email, Method::Partial) => out.extend_from_slice(partial(found).as_bytes()),
        (Detector::Card | Detector::Iban, Method::Hash) => {
            let plain: Vec<u8> =
                found.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect();
            out.extend_from_slice(salt.hex(&plain).as_bytes());
        }
        (_, Method::Hash) => out.extend_from_slice(salt.hex(found).as_bytes()),
        (_, Method::Redact | Method::Partial | Method::Null) => out.extend_from_slice(MASKED.as_bytes()),
    }
}

/// Stars for all but the last `keep` letters and digits; spaces and dashes stay where they are.
fn stars(found: &[u8], keep: usize, out: &mut Vec<u8>) {
    let total = found.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
    let mut seen = 0;
    out.extend(found.iter().map(|byte| {
        seen += usize::from(byte.is_ascii_alphanumeric());
        if byte.is_ascii_alphanumeric() && seen + keep <= total { b'*' } else { *byte }
    }));
}

#[cfg(test)]
mod tests;
