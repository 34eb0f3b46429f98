//! Who somebody is here, by what an assertion says of them.

use std::collections::BTreeSet;

use super::{Check, assertion::Attribute, check::must, error::Why};
use crate::config::{NameIdFormat, OidcGroups, SamlClaims};

/// What an assertion says of somebody, with what the settings ask.
pub(super) struct Profile {
    pub(super) name_id: String,
    pub(super) format: NameIdFormat,
    pub(super) attributes: Vec<Attribute>,
    pub(super) names: SamlClaims,
    pub(super) groups: OidcGroups,
    pub(super) domains: BTreeSet<String>,
}

/// What must be so of it.
pub(super) const CHECKS: &[Check<Profile>] = &[
    Check { name: "once", holds: once },
    Check { name: "overage", holds: overage },
    Check { name: "address", holds: address },
    Check { name: "domain", holds: domain },
    Check { name: "name", holds: name },
];

impl Profile {
    /// What they are called.
    pub(super) fn name(&self) -> Option<&str> {
        let name = match &self.names.name {
            Some(claim) => self.one(claim)?,
            None => self.email()?,
        };
        let good = !name.is_empty() && name.len() <= 256 && !name.chars().any(char::is_control);
        good.then_some(name)
    }

    /// Their address.
    pub(super) fn email(&self) -> Option<&str> {
        match &self.names.email {
            Some(claim) => self.one(claim),
            None => (self.format == NameIdFormat::Email).then_some(self.name_id.as_str()),
        }
    }

    /// Their groups, by our names.
    pub(super) fn groups(&self) -> BTreeSet<String> {
        let said = self.called(&self.names.groups).flat_map(|attribute| &attribute.values);
        let ours = said.filter_map(|theirs| match &self.groups {
            OidcGroups::AsIs => Some(theirs.clone()),
            OidcGroups::Named(names) => names.get(theirs).cloned(),
        });
        ours.collect()
    }

    fn one<'a>(&'a self, claim: &'a str) -> Option<&'a str> {
        self.called(claim).next().and_then(|attribute| attribute.values.first()).map(String::as_str)
    }

    /// The attributes that a claim means: by their own names, or where none has it by what people call them.
    fn called<'a>(&'a self, claim: &'a str) -> impl Iterator<Item = &'a Attribute> {
        let by_name = self.attributes.iter().any(|attribute| attribute.name == claim);
        self.attributes.iter().filter(move |attribute| match by_name {
            true => attribute.name == claim,
            false => attribute.friendly.as_deref() == Some(claim),
        })
    }
}

/// Which of two names would be theirs nobody can say.
fn once(profile: &Profile) -> Result<(), Why> {
    let claims = [&profile.names.name, &profile.names.email];
    let several =
        |claim: &&String| profile.called(claim.as_str()).map(|attribute| attribute.values.len()).sum::<usize>() > 1;
    let twice = claims.into_iter().flatten().find(several);
    twice.map_or(Ok(()), |claim| Err(Why::Several(claim.clone())))
}

/// Entra leaves groups out beyond some hundred and fifty, and says where they are instead.
fn overage(profile: &Profile) -> Result<(), Why> {
    let wanted = profile.groups != OidcGroups::default();
    let elsewhere = profile.attributes.iter().any(|attribute| attribute.name == ELSEWHERE);
    must(!wanted || !elsewhere, || Why::Overage)
}

/// An address is what has one `@`, with something on either side: what is compared with it has no other form.
fn address(profile: &Profile) -> Result<(), Why> {
    let Some(email) = profile.email() else { return Ok(()) };
    let parts: Vec<_> = email.split('@').collect();
    let plain = !email.chars().any(|letter| letter.is_whitespace() || letter.is_control());
    must(plain && parts.len() == 2 && parts.iter().all(|part| !part.is_empty()), || Why::Address(Why::words(email)))
}

fn domain(profile: &Profile) -> Result<(), Why> {
    let domain = profile.email().and_then(|email| email.rsplit_once('@')).map(|(_, domain)| domain);
    let of = |known: &String| domain.is_some_and(|domain| domain.eq_ignore_ascii_case(known));
    must(profile.domains.is_empty() || profile.domains.iter().any(of), || Why::Domain)
}

fn name(profile: &Profile) -> Result<(), Why> {
    let claim = || profile.names.name.clone().unwrap_or_else(|| "an e-mail address".to_owned());
    must(profile.name().is_some(), || Why::NoName(claim()))
}

/// Where Entra says that groups are when it leaves them out.
const ELSEWHERE: &str = "http://schemas.microsoft.com/claims/groups.link";
