//! What an answer says of itself (SAML core, 3.2.2; profiles, 4.1.4.3).

use roxmltree::Node;

use super::{
    Check, Expected,
    check::{LEEWAY, must},
    error::Why,
    xml::{self, ASSERTION, PROTOCOL},
};

/// What an answer says of itself. Times are seconds since 1970.
pub(super) struct Answer {
    pub(super) version: String,
    pub(super) issuer: Option<String>,
    pub(super) issued: u64,
    pub(super) destination: Option<String>,
    pub(super) in_response_to: Option<String>,
    /// The first word of its status, and all that it says besides.
    pub(super) status: String,
    pub(super) detail: String,
    pub(super) expected: Expected,
}

/// What must be so of it.
pub(super) const CHECKS: &[Check<Answer>] = &[
    Check { name: "answer_version", holds: version },
    Check { name: "answer_issuer", holds: issuer },
    Check { name: "answer_issued", holds: issued },
    Check { name: "destination", holds: destination },
    Check { name: "in_response_to", holds: in_response_to },
    Check { name: "status", holds: status },
];

impl Answer {
    /// Reads it.
    ///
    /// # Errors
    /// It has not the parts of one.
    pub(super) fn read(node: Node<'_, '_>, expected: Expected) -> Result<Self, Why> {
        let missing = |name: &str| Why::Malformed(format!("the answer has no `{name}`"));
        let issuer = xml::only(node, ASSERTION, "Issuer")?.map(xml::trimmed).transpose()?;
        let status = xml::only(node, PROTOCOL, "Status")?.ok_or_else(|| missing("Status"))?;
        let code = xml::only(status, PROTOCOL, "StatusCode")?.ok_or_else(|| missing("StatusCode"))?;
        let second = xml::only(code, PROTOCOL, "StatusCode")?.and_then(|code| xml::attribute(code, "Value"));
        let message = xml::only(status, PROTOCOL, "StatusMessage")?.map(xml::text).transpose()?;
        Ok(Self {
            version: xml::attribute(node, "Version").unwrap_or_default(),
            issuer,
            issued: instant(node, "IssueInstant")?.ok_or_else(|| missing("IssueInstant"))?,
            destination: xml::attribute(node, "Destination"),
            in_response_to: xml::attribute(node, "InResponseTo"),
            status: xml::attribute(code, "Value").unwrap_or_default(),
            detail: [second, message].into_iter().flatten().collect::<Vec<_>>().join(": "),
            expected,
        })
    }
}

/// An attribute that is a moment, in seconds since 1970; SAML has them in UTC (core, 1.3.3).
pub(super) fn instant(node: Node<'_, '_>, name: &str) -> Result<Option<u64>, Why> {
    let Some(text) = xml::attribute(node, name) else { return Ok(None) };
    let at = text.ends_with('Z').then(|| text.parse::<jiff::Timestamp>().ok()).flatten();
    let seconds = at.and_then(|at| u64::try_from(at.as_second()).ok());
    seconds.map(Some).ok_or_else(|| Why::Malformed(format!("its `{name}` is no time in UTC")))
}

fn version(answer: &Answer) -> Result<(), Why> {
    must(answer.version == "2.0", || Why::Version(Why::words(&answer.version)))
}

fn issuer(answer: &Answer) -> Result<(), Why> {
    let other = answer.issuer.as_ref().filter(|issuer| **issuer != answer.expected.entity_id);
    other.map_or(Ok(()), |issuer| Err(Why::Issuer(Why::words(issuer))))
}

fn issued(answer: &Answer) -> Result<(), Why> {
    must(answer.issued <= answer.expected.now + LEEWAY, || Why::Future)
}

fn destination(answer: &Answer) -> Result<(), Why> {
    let destination = answer.destination.as_deref();
    must(destination == Some(&answer.expected.acs), || Why::Destination(Why::words(destination.unwrap_or("nobody"))))
}

fn in_response_to(answer: &Answer) -> Result<(), Why> {
    let to = answer.in_response_to.as_ref().ok_or(Why::Unsolicited)?;
    must(*to == answer.expected.request, || Why::OtherRequest)
}

fn status(answer: &Answer) -> Result<(), Why> {
    let why =
        || format!("{} {}", answer.status.trim_start_matches("urn:oasis:names:tc:SAML:2.0:status:"), answer.detail);
    must(answer.status == SUCCESS, || Why::Refused(Why::words(why().trim())))
}

/// The one status with which somebody signs in.
const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
