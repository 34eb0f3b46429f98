//! What bots were answered: which addresses a resource's host has in which network namespace.
//!
//! # Security
//! An address counts as known only once it is in force ([`Learnt::confirm`]): until then everybody who hears of it waits.
//! It is kept in a file as well, since whoever has heard of it may use it after the gateway has been restarted.
//! Nothing is evicted to make room: a bot that asks a server of its own could otherwise have real addresses forgotten.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::net::NamespaceId;

/// What an answer says: the name has these addresses for so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// In lower case, without the last dot.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its time to live.
    pub seconds: u32,
}

/// What a [`Lesson`] was, from what asks least to what asks most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taught {
    /// Nothing that is not in force.
    Known,
    /// Something: [`learnt_rules`](super::Destinations::learnt_rules) are to be put in force before the bot hears it.
    New,
    /// More than one namespace may learn: the bot must not hear it.
    TooMuch,
}

/// By namespace and address.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    known: BTreeMap<NamespaceId, HashMap<SocketAddr, Host>>,
    file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct Host {
    name: String,
    /// In seconds since 1970.
    until: u64,
    in_force: bool,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    namespace: u64,
    address: SocketAddr,
    host: String,
    until: u64,
}

impl Learnt {
    /// Nothing yet.
    pub(super) fn kept_in(file: Option<PathBuf>) -> Self {
        Self { known: BTreeMap::new(), file }
    }

    /// Adds what is in the file. What cannot be read there is as if it had never been learnt.
    pub(super) fn recall(&mut self) {
        let Some(file) = &self.file else { return };
        let lines = match std::fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            read => read.and_then(|bytes| Ok(serde_json::from_slice::<Vec<Line>>(&bytes)?)),
        };
        match lines {
            Ok(lines) => {
                for Line { namespace, address, host, until } in lines {
                    let host = Host { name: host, until, in_force: false };
                    self.known.entry(NamespaceId(namespace)).or_default().insert(address, host);
                }
            }
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "the addresses that bots were told earlier are lost: they are governed once bots ask again");
            }
        }
    }

    /// The host at `address`, as `namespace` has learnt it, or else another one.
    pub(super) fn host(&self, namespace: NamespaceId, address: SocketAddr) -> Option<&str> {
        let here = self.known.get(&namespace).and_then(|here| here.get(&address));
        let found = here.or_else(|| self.known.values().find_map(|there| there.get(&address)))?;
        Some(&found.name)
    }

    /// An address that is another resource's stays that one's for its time.
    pub(super) fn learn(&mut self, namespace: NamespaceId, address: SocketAddr, host: &str, seconds: u32) -> Taught {
        let until = now() + Duration::from_secs(seconds.into()).clamp(KEPT, LONGEST).as_secs();
        let here = self.known.entry(namespace).or_default();
        if let Some(there) = here.get_mut(&address) {
            if there.name == host {
                there.until = there.until.max(until);
            }
            return if there.in_force { Taught::Known } else { Taught::New };
        }
        if here.len() >= PER_NAMESPACE {
            return Taught::TooMuch;
        }
        here.insert(address, Host { name: host.to_owned(), until, in_force: false });
        Taught::New
    }

    /// Every address, without those whose time is over or whose host is `named` no more.
    pub(super) fn current(&mut self, named: impl Fn(&str) -> bool) -> BTreeSet<SocketAddr> {
        let now = now();
        self.known.values_mut().for_each(|here| here.retain(|_, host| host.until > now && named(&host.name)));
        self.known.retain(|_, here| !here.is_empty());
        self.known.values().flat_map(HashMap::keys).copied().collect()
    }

    /// These are in force now.
    pub(super) fn confirm(&mut self, addresses: &BTreeSet<SocketAddr>) -> io::Result<()> {
        let mut changed = false;
        for (_, host) in self.known.values_mut().flatten().filter(|(address, _)| addresses.contains(address)) {
            changed |= !std::mem::replace(&mut host.in_force, true);
        }
        if changed { self.keep() } else { Ok(()) }
    }

    /// Whole or not at all.
    fn keep(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let line = |namespace: NamespaceId, (address, host): (&SocketAddr, &Host)| Line {
            namespace: namespace.0,
            address: *address,
            host: host.name.clone(),
            until: host.until,
        };
        let lines: Vec<_> =
            self.known.iter().flat_map(|(namespace, here)| here.iter().map(|one| line(*namespace, one))).collect();
        let aside = file.with_extension("json.new");
        std::fs::write(&aside, serde_json::to_vec(&lines)?)?;
        std::fs::rename(&aside, file)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How long what was learnt is kept at least: many programs keep an address for longer than they were told.
const KEPT: Duration = Duration::from_secs(3600);
/// And at most, when nobody asks again.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Addresses of governed hosts that a namespace may have learnt. The kernel's table has room for 65,536 rules.
const PER_NAMESPACE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: NamespaceId = NamespaceId(1);

    fn at(last: u32) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + last), 5432))
    }

    #[test]
    fn an_address_is_known_only_once_it_is_in_force() {
        let mut learnt = Learnt::default();
        assert_eq!(learnt.learn(HERE, at(1), "db", 60), Taught::New);
        assert_eq!(learnt.learn(HERE, at(1), "db", 60), Taught::New);
        let current = learnt.current(|_| true);
        assert_eq!(learnt.learn(HERE, at(2), "db", 60), Taught::New);
        learnt.confirm(&current).expect("no file");
        assert_eq!(learnt.learn(HERE, at(1), "db", 60), Taught::Known);
        assert_eq!(learnt.learn(HERE, at(2), "db", 60), Taught::New);
        // What one namespace has heard is new to another, whose deny does not have it yet.
        assert_eq!(learnt.learn(NamespaceId(2), at(1), "db", 60), Taught::New);
    }

    #[test]
    fn the_first_lesson_stays_and_no_flood_drives_it_out() {
        let mut learnt = Learnt::default();
        learnt.learn(HERE, at(1), "db", 60);
        learnt.learn(HERE, at(1), "other", 60);
        for last in 2..=u32::try_from(PER_NAMESPACE).expect("small") {
            assert_eq!(learnt.learn(HERE, at(last), "other", u32::MAX), Taught::New);
        }
        assert_eq!(learnt.learn(HERE, at(9999), "other", 60), Taught::TooMuch);
        assert_eq!(learnt.host(HERE, at(1)), Some("db"));
        assert_eq!(learnt.host(NamespaceId(7), at(1)), Some("db"));
        assert_eq!(learnt.host(HERE, at(9999)), None);
    }

    #[test]
    fn what_is_in_force_outlives_the_gateway_and_what_nobody_names_does_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("names.json");
        let recalled = |file| {
            let mut learnt = Learnt::kept_in(Some(file));
            learnt.recall();
            learnt
        };
        let mut learnt = recalled(file.clone());
        learnt.learn(HERE, at(1), "db", 60);
        learnt.learn(HERE, at(2), "gone", 60);
        let current = learnt.current(|_| true);
        learnt.confirm(&current).expect("it can be written");
        let mut next = recalled(file.clone());
        assert_eq!(next.host(HERE, at(1)), Some("db"));
        assert_eq!(next.current(|host| host == "db"), BTreeSet::from([at(1)]));
        std::fs::write(&file, "[{").expect("it can be written");
        assert_eq!(recalled(file).host(HERE, at(1)), None);
    }
}
