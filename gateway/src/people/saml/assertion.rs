//! What an assertion must be (SAML core, 2.3 and following; profiles, 4.1.4.2 and 4.1.4.3).

use roxmltree::Node;

use super::{
    Check, Expected,
    answer::instant,
    check::{LEEWAY, must},
    error::Why,
    xml::{self, ASSERTION},
};

/// What an assertion says. Times are seconds since 1970.
pub(super) struct Assertion {
    pub(super) version: String,
    pub(super) id: String,
    pub(super) issuer: String,
    pub(super) issued: u64,
    /// What the provider calls them, and by which kind of name.
    pub(super) name_id: Option<(String, String)>,
    pub(super) confirmations: Vec<Confirmation>,
    pub(super) conditions: Conditions,
    pub(super) statements: Vec<Statement>,
    pub(super) attributes: Vec<Attribute>,
}

/// Why whoever brings it is the one of whom it is.
#[derive(Default)]
pub(super) struct Confirmation {
    pub(super) method: String,
    pub(super) recipient: Option<String>,
    pub(super) in_response_to: Option<String>,
    pub(super) not_before: Option<u64>,
    pub(super) not_on_or_after: Option<u64>,
}

/// Where and when it counts.
#[derive(Default)]
pub(super) struct Conditions {
    pub(super) not_before: Option<u64>,
    pub(super) not_on_or_after: Option<u64>,
    /// Each must have this gateway.
    pub(super) audiences: Vec<Vec<String>>,
    /// Those that this version does not know.
    pub(super) strange: Vec<String>,
}

/// That, when and how they showed who they are.
pub(super) struct Statement {
    pub(super) instant: u64,
    pub(super) session: Option<String>,
    pub(super) session_ends: Option<u64>,
    pub(super) context: Option<String>,
}

/// What is said of them.
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) friendly: Option<String>,
    pub(super) values: Vec<String>,
}

/// An assertion with how it came and what was expected.
pub(super) struct Vouched {
    pub(super) said: Assertion,
    /// Whether it, or the answer around it, is signed.
    pub(super) is_signed: bool,
    pub(super) was_encrypted: bool,
    /// Whether it was not used before.
    pub(super) is_new: bool,
    pub(super) expected: Expected,
}

/// What must be so of it.
pub(super) const CHECKS: &[Check<Vouched>] = &[
    Check { name: "signed", holds: |one| must(one.is_signed, || Why::Unsigned) },
    Check { name: "encrypted", holds: encrypted },
    Check { name: "version", holds: version },
    Check { name: "issuer", holds: issuer },
    Check { name: "issued", holds: issued },
    Check { name: "bearer", holds: bearer },
    Check { name: "recipient", holds: recipient },
    Check { name: "confirmed_request", holds: confirmed_request },
    Check { name: "confirmed_from", holds: confirmed_from },
    Check { name: "confirmed_until", holds: confirmed_until },
    Check { name: "subject", holds: subject },
    Check { name: "format", holds: format },
    Check { name: "conditions", holds: conditions },
    Check { name: "not_before", holds: not_before },
    Check { name: "not_on_or_after", holds: not_on_or_after },
    Check { name: "audience", holds: audience },
    Check { name: "statement", holds: statement },
    Check { name: "session", holds: session },
    Check { name: "auth_time", holds: auth_time },
    Check { name: "context", holds: context },
    Check { name: "replay", holds: |one| must(one.is_new && !one.said.id.is_empty(), || Why::Replayed) },
];

impl Assertion {
    /// Reads it.
    ///
    /// # Errors
    /// It has not the parts of one.
    pub(super) fn read(node: Node<'_, '_>) -> Result<Self, Why> {
        let missing = |name: &str| Why::Malformed(format!("the assertion has no `{name}`"));
        let issuer = xml::only(node, ASSERTION, "Issuer")?.ok_or_else(|| missing("Issuer"))?;
        let subject = xml::only(node, ASSERTION, "Subject")?;
        let name_id = match subject {
            Some(subject) => xml::only(subject, ASSERTION, "NameID")?.map(name_id).transpose()?,
            None => None,
        };
        let confirmations =
            subject.iter().flat_map(|subject| xml::children(*subject, ASSERTION, "SubjectConfirmation"));
        let conditions = xml::only(node, ASSERTION, "Conditions")?;
        let attributes = xml::children(node, ASSERTION, "AttributeStatement")
            .flat_map(|statement| xml::children(statement, ASSERTION, "Attribute"));
        Ok(Self {
            version: xml::attribute(node, "Version").unwrap_or_default(),
            id: xml::attribute(node, "ID").unwrap_or_default(),
            issuer: xml::trimmed(issuer)?,
            issued: instant(node, "IssueInstant")?.ok_or_else(|| missing("IssueInstant"))?,
            name_id,
            confirmations: confirmations.map(Confirmation::read).collect::<Result<_, _>>()?,
            conditions: conditions.map(Conditions::read).transpose()?.unwrap_or_default(),
            statements: xml::children(node, ASSERTION, "AuthnStatement")
                .map(Statement::read)
                .collect::<Result<_, _>>()?,
            attributes: attributes.map(Attribute::read).collect::<Result<_, _>>()?,
        })
    }

    /// Until when it could be used again.
    pub(super) fn until(&self) -> u64 {
        let all = self.confirmations.iter().map(|one| one.not_on_or_after).chain([self.conditions.not_on_or_after]);
        all.flatten().max().unwrap_or_default()
    }

    fn confirmation(&self) -> Result<&Confirmation, Why> {
        self.confirmations.first().ok_or(Why::Bearer)
    }
}

fn name_id(node: Node<'_, '_>) -> Result<(String, String), Why> {
    Ok((xml::trimmed(node)?, xml::attribute(node, "Format").unwrap_or_else(|| UNSPECIFIED.to_owned())))
}

impl Confirmation {
    fn read(node: Node<'_, '_>) -> Result<Self, Why> {
        let method = xml::attribute(node, "Method").unwrap_or_default();
        let Some(data) = xml::only(node, ASSERTION, "SubjectConfirmationData")? else {
            return Ok(Self { method, ..Self::default() });
        };
        Ok(Self {
            method,
            recipient: xml::attribute(data, "Recipient"),
            in_response_to: xml::attribute(data, "InResponseTo"),
            not_before: instant(data, "NotBefore")?,
            not_on_or_after: instant(data, "NotOnOrAfter")?,
        })
    }
}

impl Conditions {
    fn read(node: Node<'_, '_>) -> Result<Self, Why> {
        // Everything is used once here, and vouches for nobody towards anybody else.
        let known = ["AudienceRestriction", "OneTimeUse", "ProxyRestriction"];
        let strange = node
            .children()
            .filter(|child| child.is_element() && !known.iter().any(|name| xml::is(*child, ASSERTION, name)));
        let audiences = xml::children(node, ASSERTION, "AudienceRestriction")
            .map(|restriction| xml::children(restriction, ASSERTION, "Audience").map(xml::trimmed).collect());
        Ok(Self {
            not_before: instant(node, "NotBefore")?,
            not_on_or_after: instant(node, "NotOnOrAfter")?,
            audiences: audiences.collect::<Result<_, _>>()?,
            strange: strange.map(|child| child.tag_name().name().to_owned()).collect(),
        })
    }
}

impl Statement {
    fn read(node: Node<'_, '_>) -> Result<Self, Why> {
        let missing = || Why::Malformed("its `AuthnStatement` has no `AuthnInstant`".to_owned());
        let context = match xml::only(node, ASSERTION, "AuthnContext")? {
            Some(context) => xml::only(context, ASSERTION, "AuthnContextClassRef")?.map(xml::trimmed).transpose()?,
            None => None,
        };
        Ok(Self {
            instant: instant(node, "AuthnInstant")?.ok_or_else(missing)?,
            session: xml::attribute(node, "SessionIndex"),
            session_ends: instant(node, "SessionNotOnOrAfter")?,
            context,
        })
    }
}

impl Attribute {
    fn read(node: Node<'_, '_>) -> Result<Self, Why> {
        Ok(Self {
            name: xml::attribute(node, "Name").unwrap_or_default(),
            friendly: xml::attribute(node, "FriendlyName"),
            values: xml::children(node, ASSERTION, "AttributeValue").map(xml::text).collect::<Result<_, _>>()?,
        })
    }
}

fn encrypted(one: &Vouched) -> Result<(), Why> {
    must(one.was_encrypted || !one.expected.encrypted, || Why::InClear)
}

fn version(one: &Vouched) -> Result<(), Why> {
    must(one.said.version == "2.0", || Why::Version(Why::words(&one.said.version)))
}

fn issuer(one: &Vouched) -> Result<(), Why> {
    must(one.said.issuer == one.expected.entity_id, || Why::Issuer(Why::words(&one.said.issuer)))
}

fn issued(one: &Vouched) -> Result<(), Why> {
    must(one.said.issued <= one.expected.now + LEEWAY, || Why::Future)
}

fn bearer(one: &Vouched) -> Result<(), Why> {
    let all = &one.said.confirmations;
    must(all.len() == 1 && all.iter().all(|confirmation| confirmation.method == BEARER), || Why::Bearer)
}

fn recipient(one: &Vouched) -> Result<(), Why> {
    let recipient = one.said.confirmation()?.recipient.as_deref();
    must(recipient == Some(&one.expected.acs), || Why::Recipient(Why::words(recipient.unwrap_or("nobody"))))
}

fn confirmed_request(one: &Vouched) -> Result<(), Why> {
    let to = one.said.confirmation()?.in_response_to.as_ref().ok_or(Why::Unsolicited)?;
    must(*to == one.expected.request, || Why::OtherRequest)
}

/// Profiles, 4.1.4.2: a bearer's has no `NotBefore`.
fn confirmed_from(one: &Vouched) -> Result<(), Why> {
    must(one.said.confirmation()?.not_before.is_none(), || Why::Future)
}

fn confirmed_until(one: &Vouched) -> Result<(), Why> {
    must(one.said.confirmation()?.not_on_or_after.is_some_and(|until| is_before(one, until)), || Why::Expired)
}

fn is_before(one: &Vouched, until: u64) -> bool {
    one.expected.now < until.saturating_add(LEEWAY)
}

fn subject(one: &Vouched) -> Result<(), Why> {
    let good = |name: &str| !name.is_empty() && name.len() <= 256 && !name.chars().any(char::is_control);
    must(one.said.name_id.as_ref().is_some_and(|(name, _)| good(name)), || Why::Nobody)
}

fn format(one: &Vouched) -> Result<(), Why> {
    let format = one.said.name_id.as_ref().map_or("", |(_, format)| format);
    must(format == one.expected.format, || Why::Format(Why::words(format)))
}

fn conditions(one: &Vouched) -> Result<(), Why> {
    let strange = one.said.conditions.strange.first();
    strange.map_or(Ok(()), |name| Err(Why::Condition(Why::words(name))))
}

fn not_before(one: &Vouched) -> Result<(), Why> {
    must(one.said.conditions.not_before.is_none_or(|from| from <= one.expected.now + LEEWAY), || Why::Future)
}

fn not_on_or_after(one: &Vouched) -> Result<(), Why> {
    must(one.said.conditions.not_on_or_after.is_none_or(|until| is_before(one, until)), || Why::Expired)
}

fn audience(one: &Vouched) -> Result<(), Why> {
    let all = &one.said.conditions.audiences;
    let ours = |audience: &Vec<String>| audience.contains(&one.expected.audience);
    must(!all.is_empty() && all.iter().all(ours), || Why::Audience)
}

fn statement(one: &Vouched) -> Result<(), Why> {
    must(one.said.statements.len() == 1, || Why::Statement)
}

fn session(one: &Vouched) -> Result<(), Why> {
    let over = |statement: &Statement| statement.session_ends.is_some_and(|ends| ends <= one.expected.now);
    must(!one.said.statements.iter().any(over), || Why::SessionOver)
}

fn auth_time(one: &Vouched) -> Result<(), Why> {
    let Some(since) = one.expected.shown_since else { return Ok(()) };
    let holds = |one: &Statement| one.instant.saturating_add(LEEWAY) >= since;
    must(one.said.statements.iter().all(holds), || Why::Stale)
}

fn context(one: &Vouched) -> Result<(), Why> {
    let wanted = &one.expected.contexts;
    let holds = |one: &Statement| one.context.as_ref().is_some_and(|context| wanted.contains(context));
    must(wanted.is_empty() || one.said.statements.iter().any(holds), || Why::Means(wanted.join(", ")))
}

const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";

/// The kind of a name that says nothing of its kind.
pub(super) const UNSPECIFIED: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";
