//! Who somebody is, by what a provider says of them in its token and, where that leaves things out, in its profile
//! (`userinfo`, Core 1.0, 5.3).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Check, check::must, error::Why};
use crate::config::{OidcClaims, OidcGroups};

/// What a provider says of somebody, with what the settings ask.
pub(super) struct Profile {
    pub(super) subject: String,
    /// What its token claims beside what is in every token.
    pub(super) claims: Map<String, Value>,
    /// What it answers when asked with the access token.
    pub(super) userinfo: Option<Map<String, Value>>,
    pub(super) names: OidcClaims,
    pub(super) groups: OidcGroups,
    pub(super) domains: BTreeSet<String>,
}

/// What must be so of it.
pub(super) const CHECKS: &[Check<Profile>] = &[
    Check { name: "profile", holds: whose },
    Check { name: "overage", holds: overage },
    Check { name: "verified", holds: verified },
    Check { name: "domain", holds: domain },
    Check { name: "name", holds: name },
];

impl Profile {
    /// Whether the token leaves out what is wanted.
    pub(super) fn is_short(&self) -> bool {
        let has = |name: &str| self.claims.contains_key(name);
        !has(&self.names.name)
            || (!self.domains.is_empty() && !has(EMAIL))
            || (self.wants_groups() && !has(&self.names.groups) && overage(self).is_ok())
    }

    /// What they are called.
    pub(super) fn name(&self) -> Option<&str> {
        let name = self.source(&self.names.name)?.get(&self.names.name)?.as_str()?;
        let good = !name.is_empty() && name.len() <= 256 && !name.chars().any(char::is_control);
        good.then_some(name)
    }

    /// Their address, verified.
    pub(super) fn email(&self) -> Option<&str> {
        let source = self.source(EMAIL)?;
        // Some providers write a text.
        let yes = source.get("email_verified").is_some_and(|said| *said == true || *said == "true");
        source.get(EMAIL)?.as_str().filter(|_| yes)
    }

    /// Their groups, by our names.
    ///
    /// # Errors
    /// The claim is not a list of texts.
    pub(super) fn groups(&self) -> Result<BTreeSet<String>, Why> {
        let claim = &self.names.groups;
        let Some(said) = self.source(claim).and_then(|source| source.get(claim)).filter(|_| self.wants_groups()) else {
            return Ok(BTreeSet::new());
        };
        let wrong = || Why::Groups(claim.clone());
        let said: Vec<&str> = match said {
            Value::String(one) => vec![one],
            Value::Array(many) => many.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(wrong)?,
            _ => return Err(wrong()),
        };
        let ours = said.into_iter().filter_map(|theirs| match &self.groups {
            OidcGroups::AsIs => Some(theirs.to_owned()),
            OidcGroups::Named(names) => names.get(theirs).cloned(),
        });
        Ok(ours.collect())
    }

    fn wants_groups(&self) -> bool {
        match &self.groups {
            OidcGroups::AsIs => true,
            OidcGroups::Named(names) => !names.is_empty(),
        }
    }

    /// Where a claim is said: the token before the profile, and the whole of what belongs together from one place.
    fn source(&self, claim: &str) -> Option<&Map<String, Value>> {
        [Some(&self.claims), self.userinfo.as_ref()].into_iter().flatten().find(|source| source.contains_key(claim))
    }
}

/// Core 1.0, 5.3.2: the profile must be of the one whom the token is of.
fn whose(profile: &Profile) -> Result<(), Why> {
    let Some(userinfo) = &profile.userinfo else { return Ok(()) };
    must(userinfo.get("sub").and_then(Value::as_str) == Some(&profile.subject), || Why::Profile)
}

/// Azure leaves groups out beyond some two hundred, and says where they are instead.
fn overage(profile: &Profile) -> Result<(), Why> {
    let elsewhere = |source: &Map<String, Value>| {
        let named = source.get("_claim_names").and_then(Value::as_object);
        named.is_some_and(|names| names.contains_key(&profile.names.groups)) || source.contains_key("hasgroups")
    };
    let left_out = [Some(&profile.claims), profile.userinfo.as_ref()].into_iter().flatten().any(elsewhere);
    must(!left_out || !profile.wants_groups(), || Why::Overage)
}

fn verified(profile: &Profile) -> Result<(), Why> {
    let wanted = profile.names.name == EMAIL || !profile.domains.is_empty();
    let said = profile.source(EMAIL).is_some();
    must(!wanted || !said || profile.email().is_some(), || Why::Unverified)
}

fn domain(profile: &Profile) -> Result<(), Why> {
    let address = profile.source(EMAIL).and_then(|source| source.get(EMAIL)).and_then(Value::as_str);
    // More than one `@` has no domain that everybody agrees on.
    let domain = address.and_then(|address| address.split_once('@')).map(|(_, domain)| domain);
    let of = |known: &String| domain.is_some_and(|domain| domain.eq_ignore_ascii_case(known));
    must(profile.domains.is_empty() || profile.domains.iter().any(of), || Why::Domain)
}

fn name(profile: &Profile) -> Result<(), Why> {
    must(profile.name().is_some(), || Why::NoName(profile.names.name.clone()))
}

/// The claim that only counts with another one, `email_verified`.
const EMAIL: &str = "email";
