//! Who decides: a [`Person`], by whichever way they proved who they are.
//!
//! # Security
//! *Invariant:* a [`Person`] is made from a proof and from nothing that its bearer merely says: the kernel's word on the
//! peer of the administration socket, or a sign-in at the console. Two that count as two people are *surely* two
//! ([`Person::is_surely_another`]): where nothing tells them apart they count as one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    fmt,
    sync::Arc,
};

use nix::unistd::{Group, Uid, User, getgrouplist};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::Who;

mod accounts;
mod bucket;
mod ceremony;
mod check;
pub mod oidc;
mod on_call;
mod once;
mod programs;
mod register;
pub mod saml;
mod sessions;
mod subject;
mod token;

pub use accounts::{Account, AccountError, Accounts, LINK_LIFE, Passkey};
pub use bucket::Buckets;
pub use ceremony::{CEREMONY, Ceremonies, Purpose};
pub use on_call::OnCall;
pub use once::Once;
pub use programs::{Program, ProgramError, Programs};
pub use register::{OpenError, Origin, People, SignInError};
pub use sessions::{Session, Sessions};
pub use subject::Subject;
pub use token::Token;

/// An authenticated person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Which human.
    pub id: PersonId,
    /// What policies, pages and the record call them.
    pub name: String,
    /// What else they are called: their user's name on this machine, their e-mail address.
    pub also: Vec<String>,
    /// Their user id on this machine, where it is known.
    pub uid: Option<u32>,
    /// Their e-mail address, where somebody vouches for it.
    pub email: Option<String>,
    /// The groups they belong to.
    pub groups: Vec<String>,
    /// What they may use at all. Who may decide on a request is the rule's to say.
    pub roles: BTreeSet<Role>,
}

/// Which human: equal ids are one, others need not be two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PersonId {
    /// A user of this machine.
    Machine(u32),
    /// Somebody whom the gateway itself knows, by name.
    Local(String),
    /// Somebody whom a provider of identity knows.
    Provider {
        /// The provider: its issuer or entity id.
        issuer: String,
        /// What it calls them for good.
        subject: String,
    },
    /// Nobody: a program with a token of this name.
    Program(String),
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PersonId::Machine(uid) => write!(f, "machine:{uid}"),
            PersonId::Local(name) => write!(f, "local:{name}"),
            PersonId::Provider { issuer, subject } => write!(f, "{issuer}#{subject}"),
            PersonId::Program(name) => write!(f, "token:{name}"),
        }
    }
}

/// What somebody may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees requests, policies and workloads.
    Viewer,
    /// Decides, where a rule asks them.
    Approver,
    /// Sees sessions and the console's own audit.
    Auditor,
    /// Ends sessions, keeps people and grants.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Approver, Role::Auditor, Role::Admin];

    /// The word in settings and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Approver => "approver",
            Role::Auditor => "auditor",
            Role::Admin => "admin",
        }
    }
}

impl Person {
    /// A user of this machine. The superuser, who can read and write everything here, has every role.
    pub fn machine(uid: u32, name: String, groups: Vec<String>) -> Self {
        let roles = if uid == 0 { Role::ALL.into() } else { [Role::Approver].into() };
        Self { id: PersonId::Machine(uid), name, also: Vec::new(), uid: Some(uid), email: None, groups, roles }
    }

    /// Whether `who` means this person.
    pub fn is(&self, who: &Who) -> bool {
        match who {
            Who::User(name) => self.is_called(name),
            Who::Group(name) => self.groups.contains(name),
            // Whose turn it is is a question of the moment: see `OnCall`.
            Who::OnCall(_) => false,
            Who::Program(name) => matches!(&self.id, PersonId::Program(ours) if ours == name),
        }
    }

    /// Whether this is a name of theirs, as people are called: a program has none.
    pub fn is_called(&self, name: &str) -> bool {
        !self.is_program() && (self.name == name || self.also.iter().any(|other| other == name))
    }

    /// Whether nobody is there but a program with a token.
    pub fn is_program(&self) -> bool {
        matches!(self.id, PersonId::Program(_))
    }

    /// Whether this is the machine's superuser.
    pub fn is_root(&self) -> bool {
        self.uid == Some(0)
    }

    /// Whether the two are certainly two humans. What could be one human under two names is not.
    pub fn is_surely_another(&self, other: &Person) -> bool {
        let same = |ours: Option<bool>| ours == Some(true);
        let uids = self.uid.zip(other.uid).map(|(ours, theirs)| ours == theirs);
        let emails =
            self.email.as_ref().zip(other.email.as_ref()).map(|(ours, theirs)| ours.eq_ignore_ascii_case(theirs));
        let comparable = match (&self.id, &other.id) {
            (PersonId::Machine(_), PersonId::Machine(_)) | (PersonId::Local(_), PersonId::Local(_)) => true,
            (PersonId::Provider { issuer: ours, .. }, PersonId::Provider { issuer: theirs, .. }) => ours == theirs,
            _ => false,
        };
        let told_apart = comparable || uids.is_some() || emails.is_some();
        self.id != other.id && !same(uids) && !same(emails) && told_apart
    }
}

/// Finds people: the machine's users and groups, and the extra groups of the settings.
#[derive(Debug, Clone, Default)]
pub struct Directory(Arc<BTreeMap<String, Vec<String>>>);

impl Directory {
    /// With extra groups: name → user names.
    pub fn with_groups(groups: BTreeMap<String, Vec<String>>) -> Self {
        Self(Arc::new(groups))
    }

    /// The person with this user id. A user id without a name is a person without groups.
    pub fn person(&self, uid: u32) -> Person {
        let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
            return Person::machine(uid, uid.to_string(), Vec::new());
        };
        let mut groups: Vec<_> = machine_groups(&user);
        let extra = self.0.iter().filter(|(_, users)| users.contains(&user.name)).map(|(group, _)| group.clone());
        groups.extend(extra);
        Person::machine(uid, user.name, groups)
    }
}

fn machine_groups(user: &User) -> Vec<String> {
    let Ok(name) = CString::new(user.name.as_str()) else { return Vec::new() };
    let gids = getgrouplist(&name, user.gid).unwrap_or_default();
    gids.into_iter().filter_map(|gid| Group::from_gid(gid).ok().flatten()).map(|group| group.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(id: PersonId, uid: Option<u32>, email: Option<&str>) -> Person {
        let (name, email) = (id.to_string(), email.map(str::to_owned));
        Person { id, name, also: Vec::new(), uid, email, groups: Vec::new(), roles: BTreeSet::new() }
    }

    fn provider(issuer: &str, subject: &str) -> PersonId {
        PersonId::Provider { issuer: issuer.to_owned(), subject: subject.to_owned() }
    }

    #[test]
    fn only_what_can_be_told_apart_is_two_people() {
        let machine = |uid| person(PersonId::Machine(uid), Some(uid), None);
        let local = |name: &str, uid, email| person(PersonId::Local(name.to_owned()), uid, email);
        let given = |issuer, subject, email| person(provider(issuer, subject), None, email);
        let cases = [
            (machine(1), machine(1), false),
            (machine(1), machine(2), true),
            // Nothing says who of the machine this is.
            (machine(1), local("ada", None, None), false),
            (machine(1), local("ada", Some(1), None), false),
            (machine(2), local("ada", Some(1), None), true),
            (local("ada", None, None), local("bob", None, None), true),
            // Two names of one user.
            (local("ada", Some(1), None), local("bob", Some(1), None), false),
            (given("a", "1", None), given("a", "2", None), true),
            (given("a", "1", Some("ada@x.example")), given("a", "2", Some("Ada@x.example")), false),
            // One human may be known to two providers.
            (given("a", "1", None), given("b", "2", None), false),
            (given("a", "1", Some("ada@x.example")), given("b", "2", Some("bob@x.example")), true),
            (given("a", "1", Some("ada@x.example")), local("ada", None, Some("ada@x.example")), false),
            (given("a", "1", None), machine(1), false),
        ];
        for (one, other, surely) in cases {
            assert_eq!(one.is_surely_another(&other), surely, "{one:?} {other:?}");
            assert_eq!(other.is_surely_another(&one), surely, "{other:?} {one:?}");
        }
    }
}
