//! Who decides: a person of this machine, as the kernel names the peer of the administration socket.

use std::{collections::BTreeMap, ffi::CString, sync::Arc};

use nix::unistd::{Group, Uid, User, getgrouplist};

use crate::policy::Who;

/// An authenticated person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their user id: two names with one user id are one person.
    pub uid: u32,
    /// Their user name, or the number where the machine has no name for it.
    pub name: String,
    /// The groups they belong to.
    pub groups: Vec<String>,
}

impl Person {
    /// Whether `who` means this person.
    pub fn is(&self, who: &Who) -> bool {
        match who {
            Who::User(name) => *name == self.name,
            Who::Group(name) => self.groups.contains(name),
        }
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
            return Person { uid, name: uid.to_string(), groups: Vec::new() };
        };
        let mut groups: Vec<_> = machine_groups(&user);
        let extra = self.0.iter().filter(|(_, users)| users.contains(&user.name)).map(|(group, _)| group.clone());
        groups.extend(extra);
        Person { uid, name: user.name, groups }
    }
}

fn machine_groups(user: &User) -> Vec<String> {
    let Ok(name) = CString::new(user.name.as_str()) else { return Vec::new() };
    let gids = getgrouplist(&name, user.gid).unwrap_or_default();
    gids.into_iter().filter_map(|gid| Group::from_gid(gid).ok().flatten()).map(|group| group.name).collect()
}
