//! From policy's resources to addresses: what the kernel is told to intercept, and which resource an address is.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use crate::{
    config::{NetworkAction, NetworkRule},
    intercept::{Action, Network, Rule},
    net::{NamespaceId, OriginalDst},
    policy::{Policies, PolicySet, Resource},
};

/// Which resource an address is, as last resolved here, and as learnt from what bots were answered.
///
/// # Security
/// A bot chooses whom it asks, so what is learnt only ever adds: an address that the policy states, or that the gateway
/// has resolved itself, is that resource whatever a bot was told. The kernel's table is one for all, so an address that
/// another namespace has learnt is that resource here, too.
pub struct Destinations {
    policies: Arc<Policies>,
    learning: bool,
    names: ArcSwap<HashMap<SocketAddr, String>>,
    /// The ports of each host that a resource names.
    hosts: ArcSwap<HashMap<String, BTreeSet<u16>>>,
    resolved: Mutex<Vec<Rule>>,
    learnt: Mutex<HashMap<NamespaceId, HashMap<SocketAddr, Learnt>>>,
}

/// What an answer says: the host has these addresses for so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// In lower case, without the last dot.
    pub host: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its time to live.
    pub seconds: u32,
}

struct Learnt {
    host: String,
    until: Instant,
}

/// The rules for the kernel, and the names that were resolved for them.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// For the kernel.
    pub rules: Vec<Rule>,
    names: HashMap<SocketAddr, String>,
    hosts: HashMap<String, BTreeSet<u16>>,
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
    /// Over `policies`, with nothing resolved yet. Where it is `learning`, a host that cannot be resolved is no error: a
    /// bot that can resolve it teaches it.
    pub fn new(policies: Arc<Policies>, learning: bool) -> Self {
        Self {
            policies,
            learning,
            names: ArcSwap::default(),
            hosts: ArcSwap::default(),
            resolved: Mutex::default(),
            learnt: Mutex::default(),
        }
    }

    /// The resource that an address is for a client in `namespace`.
    pub fn resource(&self, namespace: NamespaceId, OriginalDst(address): OriginalDst) -> Option<Arc<Resource>> {
        let names = self.names.load();
        let policies = self.policies.current();
        let found = policies.resource_for(address, names.get(&address).map(String::as_str));
        if found.is_some() {
            return found.cloned();
        }
        let learnt = locked(&self.learnt);
        let elsewhere = || learnt.values().find_map(|there| there.get(&address));
        let host = learnt.get(&namespace).and_then(|here| here.get(&address)).or_else(elsewhere)?.host.clone();
        drop(learnt);
        policies.resource_for(address, Some(&host)).cloned()
    }

    /// Learns what an answer says about hosts that resources name. Whether anything is new, so that
    /// [`rules`](Self::rules) are to be put in force.
    pub fn learn(&self, namespace: NamespaceId, lessons: &[Lesson]) -> bool {
        let hosts = self.hosts.load();
        let mut is_new = false;
        for lesson in lessons {
            let Some(ports) = hosts.get(&lesson.host) else { continue };
            let until = Instant::now() + Duration::from_secs(lesson.seconds.into()).clamp(KEPT, LONGEST);
            let mut learnt = locked(&self.learnt);
            let here = learnt.entry(namespace).or_default();
            let all = lesson.addresses.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port)));
            for address in all {
                let before = here.insert(address, Learnt { host: lesson.host.clone(), until });
                is_new |= before.is_none();
                if here.len() > PER_NAMESPACE {
                    let oldest = here.iter().filter(|(one, _)| **one != address).min_by_key(|(_, one)| one.until);
                    let oldest = oldest.map(|(address, _)| *address);
                    oldest.and_then(|oldest| here.remove(&oldest));
                }
            }
        }
        is_new
    }

    /// The rules for what was resolved and what was learnt.
    pub fn rules(&self) -> Vec<Rule> {
        [locked(&self.resolved).clone(), self.learnt_rules()].concat()
    }

    /// The rules for what was learnt, in a stable order. What nobody has asked for in its time is forgotten.
    pub fn learnt_rules(&self) -> Vec<Rule> {
        let now = Instant::now();
        let mut learnt = locked(&self.learnt);
        learnt.values_mut().for_each(|here| here.retain(|_, one| one.until > now));
        learnt.retain(|_, here| !here.is_empty());
        let all: BTreeSet<SocketAddr> = learnt.values().flat_map(HashMap::keys).copied().collect();
        all.into_iter().map(intercepting).collect()
    }

    /// Resolves every resource's endpoints. May block on the resolver.
    ///
    /// # Errors
    /// A host has no address: nothing may be put in force then.
    pub fn resolve(&self, network: &[NetworkRule]) -> Result<Resolved, ResolveError> {
        resolve(&self.policies.current(), network, self.learning.then(|| self.names.load_full()))
    }

    /// From now on the names are these.
    pub fn put_in_force(&self, resolved: &Resolved) {
        self.names.store(Arc::new(resolved.names.clone()));
        self.hosts.store(Arc::new(resolved.hosts.clone()));
        locked(&self.resolved).clone_from(&resolved.rules);
    }
}

/// A host without an address keeps those that it had `before`, where that is given; otherwise it is an error.
fn resolve(
    set: &PolicySet,
    network: &[NetworkRule],
    before: Option<Arc<HashMap<SocketAddr, String>>>,
) -> Result<Resolved, ResolveError> {
    let mut rules = network.iter().map(network_rule).collect::<Result<Vec<_>, _>>()?;
    let mut names = HashMap::new();
    let mut hosts: HashMap<String, BTreeSet<u16>> = HashMap::new();
    for (resource, endpoint) in set.endpoints() {
        let found = match (addresses(resource, endpoint), &before) {
            (Err(error), Some(before)) => {
                tracing::warn!(%error, "governed where a bot's own lookup finds it");
                let had = before.iter().filter(|(at, host)| **host == endpoint.host && at.port() == endpoint.port);
                had.map(|(address, _)| *address).collect()
            }
            (found, _) => found?,
        };
        for address in found {
            if endpoint.addresses.is_empty() {
                names.insert(address, endpoint.host.clone());
            }
            rules.push(intercepting(address));
        }
        if endpoint.addresses.is_empty() && endpoint.host.parse::<IpAddr>().is_err() {
            let host = endpoint.host.trim_end_matches('.').to_ascii_lowercase();
            hosts.entry(host).or_default().insert(endpoint.port);
        }
    }
    Ok(Resolved { rules, names, hosts })
}

fn intercepting(address: SocketAddr) -> Rule {
    Rule { to: Network::from(address.ip()), port: Some(address.port()), action: Action::Intercept }
}

fn addresses(resource: &Resource, endpoint: &crate::policy::Endpoint) -> Result<Vec<SocketAddr>, ResolveError> {
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

/// How long what was learnt is kept at least: many programs keep an address for longer than they were told.
const KEPT: Duration = Duration::from_secs(3600);
/// And at most.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Addresses that a namespace may have learnt. Beyond, the one that would go first goes.
const PER_NAMESPACE: usize = 1024;
