//! From policy's resources to addresses: what the kernel is told to intercept, and which resource an address is.

use std::{
    collections::HashMap,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use arc_swap::ArcSwap;

use crate::{
    config::{NetworkAction, NetworkRule},
    intercept::{Action, Network, Rule},
    net::OriginalDst,
    policy::{Policies, PolicySet, Resource},
};

/// Which resource an address is, as last resolved.
pub struct Destinations {
    policies: Arc<Policies>,
    names: ArcSwap<HashMap<SocketAddr, String>>,
}

/// The rules for the kernel, and the names that were resolved for them.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// For the kernel.
    pub rules: Vec<Rule>,
    names: HashMap<SocketAddr, String>,
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
    /// Over `policies`, with nothing resolved yet.
    pub fn new(policies: Arc<Policies>) -> Self {
        Self { policies, names: ArcSwap::default() }
    }

    /// The resource at an address.
    pub fn resource(&self, OriginalDst(address): OriginalDst) -> Option<Arc<Resource>> {
        let names = self.names.load();
        self.policies.current().resource_for(address, names.get(&address).map(String::as_str)).cloned()
    }

    /// What a resource calls an address: the name that it was resolved from.
    pub fn host(&self, OriginalDst(address): OriginalDst) -> Option<String> {
        self.names.load().get(&address).cloned()
    }

    /// Resolves every resource's endpoints. May block on the resolver.
    ///
    /// # Errors
    /// A host has no address: nothing may be put in force then.
    pub fn resolve(&self, network: &[NetworkRule]) -> Result<Resolved, ResolveError> {
        resolve(&self.policies.current(), network)
    }

    /// From now on the names are these.
    pub fn put_in_force(&self, resolved: &Resolved) {
        self.names.store(Arc::new(resolved.names.clone()));
    }
}

fn resolve(set: &PolicySet, network: &[NetworkRule]) -> Result<Resolved, ResolveError> {
    let mut rules = network.iter().map(network_rule).collect::<Result<Vec<_>, _>>()?;
    let mut names = HashMap::new();
    for (resource, endpoint) in set.endpoints() {
        for address in addresses(resource, endpoint)? {
            if endpoint.addresses.is_empty() {
                names.insert(address, endpoint.host.clone());
            }
            let to = Network::new(address.ip(), if address.is_ipv4() { 32 } else { 128 }).expect("a full prefix fits");
            rules.push(Rule { to, port: Some(address.port()), action: Action::Intercept });
        }
    }
    Ok(Resolved { rules, names })
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
