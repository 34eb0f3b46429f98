//! Kubernetes, from the settings: which node this is, where its pods' cgroups are, and the watch.

use crate::{
    config::{Config, Kubernetes},
    guards::Node,
    workload::{
        Hierarchy, Pods, Roots,
        kubernetes::{Api, follow},
    },
};

/// Begins to watch; what was known before is known at once. `host` is the node's name where the settings give no other.
pub(super) async fn start(settings: &Kubernetes, config: &Config, hierarchy: &Hierarchy, host: &str) -> Node {
    let named = || settings.node.clone().or_else(|| std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty()));
    let node = named().unwrap_or_else(|| host.to_owned());
    let roots = match &settings.cgroup {
        Some(base) => Roots::below(&hierarchy.below(&hierarchy.resolve(base))),
        None => Roots::usual(hierarchy.own_path().as_deref()),
    };
    let pods = Pods::open(&config.state, &node);
    tokio::spawn(follow(pods.clone(), Api { node, kubeconfig: settings.kubeconfig.clone() }));
    // Or every pod of the node would be guarded for a moment, for want of knowing that it does not match.
    pods.first_word(FIRST_WORD).await;
    Node { pods, roots }
}

/// Long for an API that answers, and short for one who waits for the gateway.
const FIRST_WORD: std::time::Duration = std::time::Duration::from_secs(3);
