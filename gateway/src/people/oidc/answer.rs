//! What a browser brings back from a provider (RFC 6749, 4.1.2, and RFC 9207).

use oauth2::url::form_urlencoded;

use super::{Check, Pending, check::must, error::Why};

/// What a browser brought back, with what was asked.
pub(super) struct Answer {
    pub(super) said: Vec<(String, String)>,
    pub(super) pending: Pending,
    /// At which provider's address it arrived, and that one's issuer.
    pub(super) provider: String,
    pub(super) issuer: String,
    /// Whether that provider always says who answers.
    pub(super) names_itself: bool,
}

impl Answer {
    /// The parts of an address's query.
    pub(super) fn read(query: &str) -> Vec<(String, String)> {
        let parts = form_urlencoded::parse(query.as_bytes());
        parts.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.said.iter().filter(move |(said, _)| said == name).map(|(_, value)| value.as_str())
    }
}

/// What must be so of it.
pub(super) const CHECKS: &[Check<Answer>] = &[
    Check { name: "provider", holds: provider },
    Check { name: "age", holds: age },
    Check { name: "once", holds: once },
    Check { name: "state", holds: state },
    Check { name: "iss", holds: iss },
    Check { name: "error", holds: error },
    Check { name: "code", holds: code },
];

fn provider(answer: &Answer) -> Result<(), Why> {
    must(answer.pending.provider == answer.provider, || Why::OtherProvider)
}

fn age(answer: &Answer) -> Result<(), Why> {
    must(!answer.pending.is_overdue(), || Why::Overdue)
}

fn once(answer: &Answer) -> Result<(), Why> {
    let twice = ["state", "iss", "error", "code"].into_iter().find(|name| answer.all(name).count() > 1);
    twice.map_or(Ok(()), |name| Err(Why::Twice(name)))
}

fn state(answer: &Answer) -> Result<(), Why> {
    must(answer.one("state") == Some(answer.pending.state.reveal()), || Why::State)
}

/// RFC 9207, 2.4: whoever says that they name themselves must.
fn iss(answer: &Answer) -> Result<(), Why> {
    match answer.one("iss") {
        Some(iss) => must(iss == answer.issuer, || Why::MixedUp(Why::words(iss))),
        None => must(!answer.names_itself, || Why::MixedUp("somebody who does not say who".to_owned())),
    }
}

fn error(answer: &Answer) -> Result<(), Why> {
    let Some(error) = answer.one("error") else { return Ok(()) };
    let told = answer.one("error_description").map(|told| format!(": {told}")).unwrap_or_default();
    Err(Why::Refused(Why::words(&format!("{error}{told}"))))
}

fn code(answer: &Answer) -> Result<(), Why> {
    must(answer.one("code").is_some_and(|code| !code.is_empty()), || Why::NoCode)
}
