//! From policy's resources to addresses: what the kernel is told to intercept, and which resource an address is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;

use crate::{
    config::{NetworkAction, NetworkRule},
    intercept::{Action, Network, Rule},
    net::{NamespaceId, OriginalDst},
    policy::{Endpoint, Policies, PolicySet, Resource},
};

mod learnt;

pub use learnt::{Lesson, Taught};

/// Which resource an address is, as last resolved here, and as learnt from what bots were answered.
///
/// # Security
/// A bot chooses whom it asks, so what is learnt only ever adds, and only what is stricter: an address that the policy
/// states, or that the gateway has resolved itself, is that resource whatever a bot was told; one that the settings refuse
/// stays refused; and one of which bots were told different things is nobody's. The kernel's table is one for all, so an
/// address that another namespace has learnt is that resource here, too.
pub struct Destinations {
    policies: Arc<Policies>,
    learning: bool,
    names: ArcSwap<HashMap<SocketAddr, String>>,
    /// What a query may call a host that a resource names → the host as the resource has it, and its ports.
    hosts: ArcSwap<Hosts>,
    /// What the settings say of destinations that no resource names.
    network: ArcSwap<Vec<Rule>>,
    /// Hosts that had no address when they were last asked for.
    unresolved: Mutex<BTreeSet<String>>,
    learnt: Mutex<learnt::Learnt>,
}

/// A name in a query → the hosts of resources that it means, with their ports. A host without a dot is here under itself,
/// and means every name that begins with it: which domains a bot's resolver puts behind it only the bot knows.
type Hosts = HashMap<String, BTreeMap<String, BTreeSet<u16>>>;

/// A resource at an address.
#[derive(Debug, Clone)]
pub struct Found {
    /// It.
    pub resource: Arc<Resource>,
    /// What it calls that place, where it does not name the address itself.
    pub host: Option<String>,
    /// Whether only what a bot was answered says so. Such an address is to be governed, and is no proof of who is there.
    pub learnt: bool,
}

/// An address of which bots were told that it is one resource's and another's.
#[derive(Debug, thiserror::Error)]
#[error(
    "bots were told that {address} is {one}'s and that it is {other}'s; write the address into the resource that it belongs to"
)]
pub struct Ambiguous {
    address: SocketAddr,
    one: String,
    other: String,
}

/// The rules for the kernel, and the names that were resolved for them.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// For the kernel.
    pub rules: Vec<Rule>,
    /// How many of them, from the first on, are the settings' own.
    network: usize,
    names: HashMap<SocketAddr, String>,
    hosts: Hosts,
}

/// What cannot be turned into addresses.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A resource's host has no address now. Were it left out, its connections would be direct.
    #[error(
        "resource {resource}: the host {host} cannot be resolved: {source}; write its address, or try again when the resolver answers"
    )]
    Host {
        /// Which resource.
        resource: String,
        /// Its host.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// A `network:` entry of the settings is no address.
    #[error("network rule `{0}` is neither an address nor a prefix such as 10.0.0.0/8")]
    Network(String),
}

impl Destinations {
    /// Over `policies`, with nothing resolved yet. With a file for what is learnt, a host that cannot be resolved is no
    /// error: a bot that can resolve it teaches it.
    pub fn new(policies: Arc<Policies>, learnt: Option<PathBuf>) -> Self {
        Self {
            policies,
            learning: learnt.is_some(),
            names: ArcSwap::default(),
            hosts: ArcSwap::default(),
            network: ArcSwap::default(),
            unresolved: Mutex::default(),
            learnt: Mutex::new(learnt::Learnt::kept_in(learnt)),
        }
    }

    /// Takes over what earlier gateways have learnt: once none of them learns any more.
    pub fn recall(&self) {
        locked(&self.learnt).recall();
    }

    /// What is at an address.
    ///
    /// # Errors
    /// Bots were told of hosts there that are different resources': whose rules count cannot be said.
    pub fn resource(&self, OriginalDst(address): OriginalDst) -> Result<Option<Found>, Ambiguous> {
        let names = self.names.load();
        let policies = self.policies.current();
        let named = |host: Option<&str>| policies.resource_for(address, host).cloned();
        if let Some(resource) = named(names.get(&address).map(String::as_str)) {
            let host = names.get(&address).cloned().or_else(|| name_of(&resource, address));
            return Ok(Some(Found { resource, host, learnt: false }));
        }
        let learnt = locked(&self.learnt);
        let mut found = learnt.hosts(address).into_iter().filter_map(|host| Some((named(Some(host))?, host)));
        let Some((resource, host)) = found.next() else { return Ok(None) };
        match found.find(|(other, _)| other.name != resource.name) {
            Some((other, _)) => {
                Err(Ambiguous { address, one: resource.name.to_string(), other: other.name.to_string() })
            }
            None => Ok(Some(Found { host: Some(host.to_owned()), resource, learnt: true })),
        }
    }

    /// Learns what an answer says about hosts that resources name.
    pub fn learn(&self, namespace: NamespaceId, lessons: &[Lesson]) -> Taught {
        let hosts = self.hosts.load();
        if hosts.is_empty() {
            return Taught::Known;
        }
        let mut learnt = locked(&self.learnt);
        let mut taught = Taught::Known;
        for lesson in lessons {
            let (Lesson::Addresses { name, .. } | Lesson::Alias { name, .. }) = lesson;
            let first = name.split('.').next().unwrap_or_default();
            let short = (first != name).then(|| hosts.get(first)).flatten().into_iter().flatten();
            let stated = hosts.get(name).into_iter().flatten();
            let mut meant: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
            for (host, ports) in stated.chain(short.filter(|(host, _)| !host.contains('.'))) {
                meant.entry(host.clone()).or_default().extend(ports);
            }
            for host in learnt.aliased(namespace, name) {
                let ports = hosts.values().filter_map(|by_host| by_host.get(host)).flatten();
                meant.entry(host.to_owned()).or_default().extend(ports);
            }
            for (host, ports) in meant {
                taught = taught.max(match lesson {
                    Lesson::Alias { of, .. } => learnt.learn_alias(namespace, of, &host),
                    Lesson::Addresses { addresses, seconds, .. } => {
                        let places = addresses.iter().flat_map(|ip| ports.iter().map(|port| effective(*ip, *port)));
                        places.map(|at| learnt.learn(namespace, at, &host, *seconds)).max().unwrap_or(Taught::Known)
                    }
                });
            }
        }
        taught
    }

    /// Nobody guarded is left in the namespace.
    pub fn forget(&self, namespace: NamespaceId) {
        locked(&self.learnt).forget(namespace);
    }

    /// The rules for what was learnt, in a stable order. What nobody has asked for in its time is forgotten.
    ///
    /// What is learnt opens nothing: an address that the settings refuse stays refused.
    pub fn learnt_rules(&self) -> Vec<Rule> {
        let hosts = self.hosts.load();
        let named: BTreeSet<&str> = hosts.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
        let network = self.network.load();
        let current = locked(&self.learnt).current(|host| named.contains(host));
        current.into_iter().map(|at| Rule { action: stated(&network, at), ..intercepting(at) }).collect()
    }

    /// The addresses of these rules are in force now, and kept for a gateway that comes after this one.
    pub fn confirm(&self, rules: &[Rule]) {
        let addresses = rules.iter().filter_map(|rule| Some(SocketAddr::new(rule.to.addr(), rule.port?))).collect();
        if let Err(error) = locked(&self.learnt).confirm(&addresses) {
            tracing::error!(%error, "cannot keep the addresses that were learnt: they are not governed after a restart until they are learnt again");
        }
    }

    /// Resolves every resource's endpoints. May block on the resolver.
    ///
    /// # Errors
    /// A host has no address: nothing may be put in force then.
    pub fn resolve(&self, network: &[NetworkRule]) -> Result<Resolved, ResolveError> {
        resolve(&self.policies.current(), network, &search_domains(), |resource, endpoint| {
            self.addresses(resource, endpoint)
        })
    }

    /// From now on the names are these.
    pub fn put_in_force(&self, resolved: &Resolved) {
        self.names.store(Arc::new(resolved.names.clone()));
        self.hosts.store(Arc::new(resolved.hosts.clone()));
        self.network.store(Arc::new(resolved.rules.iter().take(resolved.network).copied().collect()));
    }

    /// A host without an address keeps those that it had before, where bots teach.
    fn addresses(&self, resource: &Resource, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = addresses(resource, endpoint);
        let mut unresolved = locked(&self.unresolved);
        let error = match found {
            Err(error) if self.learning => error,
            found => {
                unresolved.remove(&endpoint.host);
                return found;
            }
        };
        if unresolved.insert(endpoint.host.clone()) {
            tracing::warn!(%error, "governed where a bot's own lookup finds it");
        }
        let names = self.names.load();
        let had = names.iter().filter(|(at, host)| **host == endpoint.host && at.port() == endpoint.port);
        Ok(had.map(|(address, _)| *address).collect())
    }
}

fn resolve(
    set: &PolicySet,
    network: &[NetworkRule],
    search: &[String],
    addresses: impl Fn(&Resource, &Endpoint) -> Result<Vec<SocketAddr>, ResolveError>,
) -> Result<Resolved, ResolveError> {
    let mut rules = network.iter().map(network_rule).collect::<Result<Vec<_>, _>>()?;
    let network = rules.len();
    let mut names = HashMap::new();
    let mut hosts = Hosts::new();
    for (resource, endpoint) in set.endpoints() {
        for address in addresses(resource, endpoint)? {
            if endpoint.addresses.is_empty() {
                names.insert(address, endpoint.host.clone());
            }
            rules.push(intercepting(address));
        }
        if endpoint.addresses.is_empty() {
            for name in asked_as(&endpoint.host, search) {
                hosts.entry(name).or_default().entry(endpoint.host.clone()).or_default().insert(endpoint.port);
            }
        }
    }
    Ok(Resolved { rules, network, names, hosts })
}

/// The names under which a resolver asks for `host`: in lower case, without the last dot.
fn asked_as(host: &str, search: &[String]) -> impl Iterator<Item = String> {
    let whole = host.trim_end_matches('.').to_ascii_lowercase();
    // One with a dot at its end is asked for as it is.
    let search = if host.ends_with('.') { &[] } else { search };
    let longer: Vec<_> = search.iter().map(|domain| format!("{whole}.{domain}")).collect();
    std::iter::once(whole).chain(longer)
}

/// The domains in which this machine's resolver looks for short names: the same that the gateway's own lookups use.
fn search_domains() -> Vec<String> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    search_in(&text)
}

/// The last `search` or `domain` line counts (resolv.conf(5)).
fn search_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if matches!(words.next(), Some("search" | "domain")) {
            found = words
                .map(|domain| domain.trim_matches('.').to_ascii_lowercase())
                .filter(|one| !one.is_empty())
                .collect();
        }
    }
    found
}

/// The name that an endpoint with addresses of its own has: `localhost`.
fn name_of(resource: &Resource, address: SocketAddr) -> Option<String> {
    let at = |one: &&Endpoint| one.port == address.port() && one.addresses.contains(&address.ip());
    let named = resource.endpoints.iter().filter(at).find(|one| one.host.parse::<IpAddr>().is_err());
    named.map(|endpoint| endpoint.host.clone())
}

fn intercepting(address: SocketAddr) -> Rule {
    Rule { to: Network::from(address.ip()), port: Some(address.port()), action: Action::Intercept }
}

/// What a connect to that address reaches: the unspecified one is the loopback's.
fn effective(ip: IpAddr, port: u16) -> SocketAddr {
    let ip = match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, port)
}

/// What a learnt address is: intercepted, unless `network` refuses it, in the kernel's order (a named port first, then the
/// longest prefix).
fn stated(network: &[Rule], at: SocketAddr) -> Action {
    let covers = |rule: &&Rule| rule.to.contains(at.ip()) && rule.port.is_none_or(|port| port == at.port());
    let rank = |rule: &&Rule| (rule.port.is_some(), rule.to.prefix(), rule.action == Action::Refuse);
    match network.iter().filter(covers).max_by_key(rank).map(|rule| rule.action) {
        Some(Action::Refuse) => Action::Refuse,
        _ => Action::Intercept,
    }
}

fn addresses(resource: &Resource, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, ResolveError> {
    if !endpoint.addresses.is_empty() {
        return Ok(endpoint.addresses.iter().map(|ip| SocketAddr::new(*ip, endpoint.port)).collect());
    }
    let failed =
        |source| ResolveError::Host { resource: resource.name.to_string(), host: endpoint.host.clone(), source };
    Ok((endpoint.host.as_str(), endpoint.port).to_socket_addrs().map_err(failed)?.collect())
}

fn network_rule(rule: &NetworkRule) -> Result<Rule, ResolveError> {
    let to = rule.to.parse().map_err(|_| ResolveError::Network(rule.to.clone()))?;
    let action = match rule.action {
        NetworkAction::Pass => Action::Pass,
        NetworkAction::Intercept => Action::Intercept,
        NetworkAction::Refuse => Action::Refuse,
    };
    Ok(Rule { to, port: rule.port, action })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value here is whole at every point where a holder could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_opens_nothing_that_is_refused() {
        let rule = |to: &str, port, action| Rule { to: to.parse().expect("a network"), port, action };
        let at = |text: &str| text.parse().expect("an address");
        let network = [
            rule("0.0.0.0/0", None, Action::Refuse),
            rule("10.0.0.0/8", None, Action::Pass),
            rule("10.9.0.0/16", Some(5432), Action::Refuse),
        ];
        assert_eq!(stated(&network, at("192.0.2.1:5432")), Action::Refuse);
        assert_eq!(stated(&network, at("10.1.2.3:5432")), Action::Intercept);
        assert_eq!(stated(&network, at("10.9.2.3:5432")), Action::Refuse);
        assert_eq!(stated(&network, at("10.9.2.3:5433")), Action::Intercept);
        assert_eq!(stated(&[], at("[2001:db8::1]:5432")), Action::Intercept);
        assert_eq!(effective(Ipv4Addr::UNSPECIFIED.into(), 1), at("127.0.0.1:1"));
    }

    #[test]
    fn a_host_is_asked_for_under_the_search_domains_too() {
        let search =
            search_in("nameserver 10.96.0.10\nsearch old.\nsearch Svc.Cluster.local cluster.local.\noptions ndots:5\n");
        assert_eq!(search, ["svc.cluster.local", "cluster.local"]);
        let asked: Vec<_> = asked_as("Orders-DB.prod.svc", &search).collect();
        assert_eq!(
            asked,
            ["orders-db.prod.svc", "orders-db.prod.svc.svc.cluster.local", "orders-db.prod.svc.cluster.local"]
        );
        assert_eq!(asked_as("db.internal.", &search).collect::<Vec<_>>(), ["db.internal"]);
    }
}
