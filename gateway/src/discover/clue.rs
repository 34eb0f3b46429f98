//! What is looked for: one table of names, shapes and the mask that fits.
//!
//! Names are in single words and in lower case; a plural and words written together count too.

use std::{collections::HashMap, sync::LazyLock};

use super::{catalog::Holds, shape};
use crate::mask::{Detector, Method};

/// One kind of thing that bots should not see.
pub(super) struct Clue {
    /// What they are, many of them.
    pub(super) many: &'static str,
    /// Names that say it by themselves.
    pub(super) sure: &'static [&'static str],
    /// Names that say it only beside something else.
    pub(super) maybe: &'static [&'static str],
    /// What holds them.
    pub(super) holds: &'static [Holds],
    /// What the values look like, where that tells anything.
    pub(super) looks: Option<Looks>,
    /// What to do with them.
    pub(super) with: Method,
}

/// What the values of a kind look like.
#[derive(Clone, Copy)]
pub(super) struct Looks {
    /// Detectors that find them anywhere.
    pub(super) detectors: &'static [Detector],
    /// Whether a whole value looks like one.
    pub(super) fits: fn(&str) -> bool,
    /// The same where the column's name says what it is.
    pub(super) fits_named: fn(&str) -> bool,
    /// Whether looks alone prove it.
    pub(super) proof: bool,
    /// Whether every one of them looks like that, so that other looks speak against a name.
    pub(super) every: bool,
}

fn never(_: &str) -> bool {
    false
}

const PLAIN: Looks = Looks { detectors: &[], fits: never, fits_named: never, proof: false, every: false };

const TEXT: &[Holds] = &[Holds::Text];
const DIGITS: &[Holds] = &[Holds::Text, Holds::Number];
const OPAQUE: &[Holds] = &[Holds::Text, Holds::Bytes];

/// How many kinds there are.
pub(super) const COUNT: usize = 13;

/// People's names, which also take `name` itself in a table of people.
pub(super) const PERSON: &str = "people's names";

/// The table. Where two kinds fit equally well, the earlier one counts.
pub(super) static CLUES: [Clue; COUNT] = [
    Clue {
        many: "e-mail addresses",
        sure: &["email", "e mail", "email address", "mail address"],
        maybe: &["mail", "recipient"],
        holds: TEXT,
        looks: Some(Looks { detectors: &[Detector::Email], proof: true, every: true, ..PLAIN }),
        with: Method::Partial,
    },
    Clue {
        many: "card numbers",
        sure: &["card number", "card no", "credit card", "credit card number", "debit card", "cc number", "pan"],
        maybe: &["card", "cc"],
        holds: DIGITS,
        looks: Some(Looks { detectors: &[Detector::Card], proof: true, every: true, ..PLAIN }),
        with: Method::Partial,
    },
    Clue {
        many: "card verification codes",
        sure: &["cvv", "cvc", "card verification"],
        maybe: &[],
        holds: DIGITS,
        looks: None,
        with: Method::Null,
    },
    Clue {
        many: "IBANs",
        sure: &["iban"],
        maybe: &["bank account", "account number"],
        holds: TEXT,
        looks: Some(Looks { detectors: &[Detector::Iban], proof: true, every: true, ..PLAIN }),
        with: Method::Partial,
    },
    Clue {
        many: "social security and other identity numbers",
        sure: &[
            "ssn",
            "social security",
            "national id",
            "identity number",
            "id card",
            "passport",
            "tax id",
            "tax number",
            "driver license",
            "driving licence",
            "licence number",
            "nino",
            "personnummer",
            "codice fiscale",
        ],
        maybe: &["tin", "license"],
        holds: DIGITS,
        looks: Some(Looks { fits: shape::social_security, fits_named: shape::social_security, proof: true, ..PLAIN }),
        with: Method::Redact,
    },
    Clue {
        many: "IP addresses",
        sure: &[
            "ip address",
            "ip addr",
            "client ip",
            "remote ip",
            "source ip",
            "user ip",
            "login ip",
            "last ip",
            "remote addr",
        ],
        maybe: &["ip", "ipv"],
        holds: &[Holds::Text, Holds::Network],
        looks: Some(Looks { fits: shape::address, fits_named: shape::address, every: true, ..PLAIN }),
        with: Method::Hash,
    },
    Clue {
        many: "telephone numbers",
        sure: &["phone", "phone number", "telephone", "mobile number", "mobile", "cell phone", "msisdn", "fax"],
        maybe: &["tel", "cell"],
        holds: DIGITS,
        looks: Some(Looks { fits: shape::phone, fits_named: shape::bare_phone, ..PLAIN }),
        with: Method::Partial,
    },
    Clue {
        many: "private keys",
        sure: &["private key", "signing key"],
        maybe: &["pem"],
        holds: OPAQUE,
        looks: Some(Looks { detectors: &[Detector::PrivateKey], proof: true, ..PLAIN }),
        with: Method::Redact,
    },
    Clue {
        many: "tokens and keys",
        sure: &[
            "api key",
            "api token",
            "access token",
            "refresh token",
            "auth token",
            "session token",
            "bearer token",
            "reset token",
            "id token",
            "secret key",
            "client secret",
            "access key",
            "webhook secret",
            "encryption key",
            "otp secret",
            "totp secret",
            "mfa secret",
            "jwt",
        ],
        maybe: &["token", "secret", "credential", "session key"],
        holds: OPAQUE,
        looks: Some(Looks {
            detectors: &[Detector::Jwt, Detector::AwsKey, Detector::GithubToken, Detector::SlackToken],
            fits: shape::token,
            fits_named: shape::token,
            proof: true,
            every: false,
        }),
        with: Method::Redact,
    },
    Clue {
        many: "passwords and their hashes",
        sure: &["password", "password hash", "passwd", "passphrase", "pwd", "pass hash"],
        maybe: &["pin", "pass"],
        holds: &[Holds::Text, Holds::Bytes, Holds::Number],
        looks: Some(Looks { fits: shape::password_hash, fits_named: shape::password_hash, proof: true, ..PLAIN }),
        with: Method::Redact,
    },
    Clue {
        many: "dates of birth",
        sure: &["date of birth", "birth date", "birthday", "dob", "born", "birth day"],
        maybe: &["birth", "birth year"],
        holds: &[Holds::Date, Holds::Text, Holds::Number],
        looks: None,
        with: Method::Null,
    },
    Clue {
        many: PERSON,
        sure: &[
            "first name",
            "last name",
            "full name",
            "given name",
            "family name",
            "middle name",
            "maiden name",
            "birth name",
            "surname",
            "forename",
            "fname",
            "lname",
        ],
        maybe: &[
            "customer name",
            "contact name",
            "employee name",
            "patient name",
            "holder name",
            "account holder",
            "card holder",
            "display name",
            "nickname",
            "legal name",
        ],
        holds: TEXT,
        looks: None,
        with: Method::Redact,
    },
    Clue {
        many: "postal addresses",
        sure: &[
            "street",
            "street address",
            "postal address",
            "home address",
            "address line",
            "billing address",
            "shipping address",
            "delivery address",
            "mailing address",
        ],
        maybe: &["address", "zip", "zip code", "postcode", "post code", "postal code"],
        holds: TEXT,
        looks: None,
        with: Method::Redact,
    },
];

/// Words with which people mark what is nobody's business.
const MARKS: [&str; 12] = [
    "pii",
    "phi",
    "gdpr",
    "hipaa",
    "pci",
    "personal data",
    "personally identifiable",
    "personal information",
    "sensitive",
    "confidential",
    "secret",
    "do not share",
];

/// Words that turn the ones behind them around.
const DENIALS: [&str; 5] = ["no", "not", "non", "never", "without"];

/// Nouns of tables in which a `name` is somebody's.
const PEOPLE: [&str; 15] = [
    "user",
    "customer",
    "person",
    "people",
    "employee",
    "patient",
    "contact",
    "member",
    "student",
    "driver",
    "guest",
    "tenant",
    "applicant",
    "candidate",
    "staff",
];

/// A last word after which a name speaks about the thing, and is not the thing: `email_template`, `password_policy`.
const ABOUT: [&str; 20] = [
    "type", "status", "state", "count", "id", "template", "subject", "policy", "format", "kind", "flag", "label",
    "enabled", "verified", "length", "hint", "version", "provider", "domain", "file",
];

/// How much a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Says {
    /// Nothing.
    Nothing,
    /// Something, beside something else.
    Maybe,
    /// It by itself.
    Sure,
}

/// A name or text as its words, each with a blank on both sides.
#[derive(Debug, Clone)]
pub(super) struct Words(String);

impl Words {
    /// Cuts at everything that is no letter or digit, and where a capital begins a word.
    pub(super) fn of(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut words = String::from(" ");
        for (at, char) in chars.iter().enumerate() {
            if !char.is_alphanumeric() {
                Self::end(&mut words);
                continue;
            }
            let before = at.checked_sub(1).map(|before| chars[before]);
            let after = chars.get(at + 1);
            let begins = char.is_uppercase()
                && before
                    .is_some_and(|before| before.is_lowercase() || after.is_some_and(|after| after.is_lowercase()));
            if begins {
                Self::end(&mut words);
            }
            words.extend(char.to_lowercase());
        }
        Self::end(&mut words);
        Self(words)
    }

    /// Ends a word: numbers and a plural's `s` at its end are not part of it.
    fn end(words: &mut String) {
        if words.ends_with(' ') {
            return;
        }
        let word = words.rsplit(' ').next().unwrap_or_default();
        let bare = word.trim_end_matches(|char: char| char.is_ascii_digit());
        let singular = match bare.strip_suffix('s') {
            Some(rest) if rest.len() > 2 && !rest.ends_with('s') => rest,
            _ => bare,
        };
        let cut = words.len() - (word.len() - singular.len());
        if !singular.is_empty() {
            words.truncate(cut);
        }
        words.push(' ');
    }

    /// Where a phrase of the tables here stands, its words apart or together.
    fn find(&self, phrase: &str) -> Option<usize> {
        let (apart, together) = FORMS.get(phrase)?;
        self.0.find(apart).or_else(|| self.0.find(together))
    }

    /// The first of `phrases` that is in it.
    fn any(&self, phrases: &[&'static str]) -> Option<&'static str> {
        phrases.iter().copied().find(|phrase| self.find(phrase).is_some())
    }

    fn last(&self) -> &str {
        self.0.trim_end().rsplit(' ').next().unwrap_or_default()
    }

    /// Whether a word stands in the three before `at` that turns what is there around.
    fn denied(&self, at: usize) -> bool {
        self.0[..at].split_whitespace().rev().take(3).any(|word| DENIALS.contains(&word))
    }
}

/// Every phrase of the tables as [`Words`] has it: apart, and together. Documents have very many keys to compare.
static FORMS: LazyLock<HashMap<&'static str, (String, String)>> = LazyLock::new(|| {
    let of_clues = CLUES.iter().flat_map(|clue| clue.sure.iter().chain(clue.maybe));
    let all = of_clues.chain(&MARKS).chain(&PEOPLE).chain(&ABOUT);
    all.map(|phrase| {
        let apart = Words::of(phrase).0;
        let together = format!(" {} ", apart.replace(' ', ""));
        (*phrase, (apart, together))
    })
    .collect()
});

impl Clue {
    /// What a column's name says, in a relation of that name.
    pub(super) fn named(&self, column: &Words, relation: &Words) -> Says {
        let of_people = || self.many == PERSON && column.0 == " name " && relation.any(&PEOPLE).is_some();
        if self.any_sure(column) {
            let is_last = |phrases: &[&str]| phrases.iter().any(|phrase| Words::of(phrase).last() == column.last());
            return if is_last(&ABOUT) && !is_last(self.sure) { Says::Maybe } else { Says::Sure };
        }
        if column.any(self.maybe).is_some() || of_people() { Says::Maybe } else { Says::Nothing }
    }

    /// Whether a name has one of the sure phrases in it.
    pub(super) fn any_sure(&self, name: &Words) -> bool {
        name.any(self.sure).is_some()
    }

    /// What of this kind a comment speaks of, in our own word.
    pub(super) fn spoken_of(&self, comment: &Words) -> Option<&'static str> {
        comment.any(self.sure)
    }
}

/// The mark that people have put on something, unless they deny it.
pub(super) fn mark(comment: &Words) -> Option<&'static str> {
    MARKS.iter().copied().find(|mark| comment.find(mark).is_some_and(|at| !comment.denied(at)))
}
