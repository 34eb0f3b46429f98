//! What bots were answered: which addresses a resource's host has in which network namespace, and under which further
//! names it is asked for there.
//!
//! # Security
//! An address counts as known only once it is in force ([`Learnt::confirm`]): until then everybody who hears of it waits.
//! It is kept in a file as well, since whoever has heard of it may use it after the gateway has been restarted.
//! Nothing is evicted to make room: a bot that asks a server of its own could otherwise have real addresses forgotten.
//! For the same reason an address keeps every host that anybody was told it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::net::NamespaceId;

/// What an answer says, for so long. Names are in lower case, without the last dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lesson {
    /// The name has these addresses.
    Addresses {
        /// The name.
        name: String,
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// Their time to live.
        seconds: u32,
    },
    /// Whoever wants the name's addresses is to ask for another's.
    Alias {
        /// The name.
        name: String,
        /// The other.
        of: String,
    },
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

/// By namespace.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    known: BTreeMap<NamespaceId, Here>,
    file: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Here {
    addresses: BTreeMap<(SocketAddr, String), Host>,
    /// A name → the hosts of resources that were said to be its aliases.
    aliases: HashMap<String, BTreeSet<String>>,
}

/// A host at an address.
#[derive(Debug, Clone)]
struct Host {
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
                    let here = self.known.entry(NamespaceId(namespace)).or_default();
                    here.addresses.insert((address, host), Host { until, in_force: false });
                }
            }
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "the addresses that bots were told earlier are lost: they are governed once bots ask again");
            }
        }
    }

    /// The hosts that anybody was told are at `address`.
    pub(super) fn hosts(&self, address: SocketAddr) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for here in self.known.values() {
            let from = here.addresses.range((address, String::new())..);
            found.extend(from.take_while(|((at, _), _)| *at == address).map(|((_, host), _)| host.as_str()));
        }
        found
    }

    /// The host of a resource for which `namespace` was told to ask for `name`.
    pub(super) fn aliased(&self, namespace: NamespaceId, name: &str) -> impl Iterator<Item = &str> {
        let hosts = self.known.get(&namespace).and_then(|here| here.aliases.get(name));
        hosts.into_iter().flatten().map(String::as_str)
    }

    /// From now on whoever asks for `name` there asks for `host`.
    pub(super) fn learn_alias(&mut self, namespace: NamespaceId, name: &str, host: &str) -> Taught {
        let here = self.known.entry(namespace).or_default();
        if here.aliases.len() >= PER_NAMESPACE && !here.aliases.contains_key(name) {
            return Taught::TooMuch;
        }
        here.aliases.entry(name.to_owned()).or_default().insert(host.to_owned());
        Taught::Known
    }

    /// `host` is at `address`.
    pub(super) fn learn(&mut self, namespace: NamespaceId, address: SocketAddr, host: &str, seconds: u32) -> Taught {
        let until = now() + Duration::from_secs(seconds.into()).clamp(KEPT, LONGEST).as_secs();
        let all: usize = self.known.values().map(|here| here.addresses.len()).sum();
        let here = self.known.entry(namespace).or_default();
        let key = (address, host.to_owned());
        if let Some(there) = here.addresses.get_mut(&key) {
            there.until = there.until.max(until);
            return if there.in_force { Taught::Known } else { Taught::New };
        }
        if here.addresses.len() >= PER_NAMESPACE || all >= IN_ALL {
            return Taught::TooMuch;
        }
        here.addresses.insert(key, Host { until, in_force: false });
        Taught::New
    }

    /// Every address whose time is not over and whose host is `named`. One that is named no more is kept for its time: it
    /// may be named again, and bots remember it.
    pub(super) fn current(&mut self, named: impl Fn(&str) -> bool) -> BTreeSet<SocketAddr> {
        let now = now();
        self.known.values_mut().for_each(|here| here.addresses.retain(|_, host| host.until > now));
        let all = self.known.values().flat_map(|here| here.addresses.keys());
        all.filter(|(_, host)| named(host)).map(|(address, _)| *address).collect()
    }

    /// Nobody is left in the namespace, and the next one may have its number.
    pub(super) fn forget(&mut self, namespace: NamespaceId) {
        self.known.remove(&namespace);
    }

    /// These are in force now.
    pub(super) fn confirm(&mut self, addresses: &BTreeSet<SocketAddr>) -> io::Result<()> {
        let mut changed = false;
        let all = self.known.values_mut().flat_map(|here| &mut here.addresses);
        for (_, host) in all.filter(|((address, _), _)| addresses.contains(address)) {
            changed |= !std::mem::replace(&mut host.in_force, true);
        }
        if changed { self.keep() } else { Ok(()) }
    }

    /// Whole or not at all.
    fn keep(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let line = |namespace: NamespaceId, ((address, host), one): (&(SocketAddr, String), &Host)| Line {
            namespace: namespace.0,
            address: *address,
            host: host.clone(),
            until: one.until,
        };
        let of = |(namespace, here): (&NamespaceId, &Here)| {
            here.addresses.iter().map(|one| line(*namespace, one)).collect::<Vec<_>>()
        };
        let lines: Vec<_> = self.known.iter().flat_map(of).collect();
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
/// Addresses of governed hosts that a namespace may have learnt, and as many aliases.
const PER_NAMESPACE: usize = 256;
/// And all namespaces together: every namespace's deny has them all, and the kernel's table has room for 65,536 rules.
const IN_ALL: usize = 4096;

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
    fn no_flood_drives_anything_out() {
        let mut learnt = Learnt::default();
        learnt.learn(HERE, at(1), "db", 60);
        for last in 2..=u32::try_from(PER_NAMESPACE).expect("small") {
            assert_eq!(learnt.learn(HERE, at(last), "other", u32::MAX), Taught::New);
        }
        assert_eq!(learnt.learn(HERE, at(9999), "other", 60), Taught::TooMuch);
        assert_eq!(learnt.hosts(at(1)), BTreeSet::from(["db"]));
        assert_eq!(learnt.hosts(at(9999)), BTreeSet::new());
        for namespace in 2..u64::try_from(IN_ALL / PER_NAMESPACE).expect("small") + 2 {
            (0..u32::try_from(PER_NAMESPACE).expect("small"))
                .for_each(|last| _ = learnt.learn(NamespaceId(namespace), at(last), "db", 60));
        }
        assert_eq!(learnt.learn(NamespaceId(77), at(1), "db", 60), Taught::TooMuch);
        learnt.forget(NamespaceId(2));
        assert_eq!(learnt.learn(NamespaceId(77), at(1), "db", 60), Taught::New);
    }

    #[test]
    fn an_address_is_every_host_that_anybody_was_told() {
        let mut learnt = Learnt::default();
        learnt.learn(HERE, at(1), "lax", 60);
        learnt.learn(NamespaceId(2), at(1), "strict", 60);
        learnt.learn(NamespaceId(2), at(2), "strict", 60);
        assert_eq!(learnt.hosts(at(1)), BTreeSet::from(["lax", "strict"]));
        learnt.learn_alias(HERE, "real", "strict");
        assert_eq!(learnt.aliased(HERE, "real").collect::<Vec<_>>(), ["strict"]);
        assert_eq!(learnt.aliased(NamespaceId(2), "real").count(), 0);
    }

    #[test]
    fn what_is_in_force_outlives_the_gateway_and_what_nobody_names_waits() {
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
        assert_eq!(next.hosts(at(1)), BTreeSet::from(["db"]));
        assert_eq!(next.current(|host| host == "db"), BTreeSet::from([at(1)]));
        assert_eq!(next.current(|_| true), BTreeSet::from([at(1), at(2)]));
        std::fs::write(&file, "[{").expect("it can be written");
        assert_eq!(recalled(file).hosts(at(1)), BTreeSet::new());
    }
}
