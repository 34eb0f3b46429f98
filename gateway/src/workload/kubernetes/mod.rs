//! Kubernetes: the pods of this node, as the API tells, and kept for when it does not.
//!
//! [`follow`](watch::follow) watches the API and puts what it hears into [`Pods`]; everything else asks [`Pods`], which
//! answers from memory. What was known last is in a file too, so that a gateway that starts while the API is away knows
//! the pods that were there before.
//!
//! # Correctness
//! - A pod that the API has deleted is kept for as long as its cgroup is there: a forced deletion leaves containers
//!   running.
//! - A pod that nobody has heard of is not nobody: its facts are in doubt, and policy counts that on the strict side.

mod file;
mod pod;
mod watch;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, RwLock, RwLockReadGuard},
    time::Duration,
};

use serde::Serialize;
use tokio::sync::watch as channel;

pub use pod::Pod;
pub use watch::follow;

use super::{
    Facts, Roots, Source,
    container::{self, Container},
    labels,
};

/// Which API to ask, about which node.
#[derive(Debug, Clone)]
pub struct Api {
    /// The node's name in Kubernetes.
    pub node: String,
    /// How to reach the API; `None`: as a pod does, with its service account.
    pub kubeconfig: Option<PathBuf>,
}

/// The pods of this node. A cheap handle.
#[derive(Debug, Clone)]
pub struct Pods(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    known: RwLock<Known>,
    /// Counts up with every change.
    changes: channel::Sender<u64>,
    file: PathBuf,
    node: String,
}

/// Everything that is known.
#[derive(Debug, Default)]
struct Known {
    pods: HashMap<String, Arc<Pod>>,
    /// Runtime class → handler.
    handlers: BTreeMap<String, String>,
    /// Pods from files on the node: the id that their cgroups bear → that of their object. `None` where two claim it.
    statics: HashMap<String, Option<String>>,
    api: Heard,
}

/// What has been heard of the API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Heard {
    /// Nothing yet.
    #[default]
    Nothing,
    /// All pods of the node; what changes comes as it happens.
    Everything,
    /// Why nothing comes any more; what was known stays.
    Away(String),
}

/// How the API stands, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// The node that is asked about.
    pub node: String,
    /// How many pods are known.
    pub pods: usize,
    /// Why the API does not answer; what is known is from before then.
    pub away: Option<String>,
}

impl Pods {
    /// What is in the file `pods.json` of the directory `state`, written for `node` by a gateway before this one.
    pub fn open(state: &std::path::Path, node: &str) -> Self {
        let file = state.join("pods.json");
        let known = match file::read(&file, node) {
            Ok(Some(kept)) => Known::of(kept),
            Ok(None) => Known::default(),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "cannot use the pods that were known before");
                Known::default()
            }
        };
        let (changes, _) = channel::channel(0);
        Self(Arc::new(Shared { known: RwLock::new(known), changes, file, node: node.to_owned() }))
    }

    /// The pod whose cgroup bears `uid`. `None`: nobody has heard of it.
    pub fn find(&self, uid: &str) -> Option<Arc<Pod>> {
        self.known().find(uid)
    }

    /// Why the kernel programs do not see `pod`'s sockets, where that is so.
    pub fn unguardable(&self, pod: &Pod) -> Option<String> {
        pod.unguardable(&self.known().handlers)
    }

    /// All pods that are known.
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.known().pods.values().cloned().collect()
    }

    /// How the API stands.
    pub fn standing(&self) -> Standing {
        let known = self.known();
        let away = match &known.api {
            Heard::Nothing => Some("it has not answered yet".to_owned()),
            Heard::Everything => None,
            Heard::Away(why) => Some(why.clone()),
        };
        Standing { node: self.0.node.clone(), pods: known.pods.len(), away }
    }

    /// Waits for the API's first word, at most for `limit`; not at all where pods are known from before.
    pub async fn first_word(&self, limit: Duration) {
        let mut changes = self.changes();
        let heard = || !self.known().pods.is_empty() || self.known().api != Heard::Nothing;
        let wait = async { while !heard() && changes.changed().await.is_ok() {} };
        let _whatever_is_known_then = tokio::time::timeout(limit, wait).await;
    }

    /// Hears of every change.
    pub fn changes(&self) -> channel::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Forgets pods that the API has deleted and whose cgroup is gone: `present` are the ids of those that are there.
    pub fn forget(&self, present: &dyn Fn(&str) -> bool) {
        let gone = |pod: &Pod| pod.deleted && !pod.uids().any(present);
        if self.known().pods.values().any(|pod| gone(pod)) {
            self.change(|known| known.pods.retain(|_, pod| !gone(pod)));
        }
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.known.read().expect("no holder panics")
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.0.known.write().expect("no holder panics");
        change(&mut known);
        known.index();
        drop(known);
        self.0.changes.send_modify(|count| *count += 1);
    }
}

// What the watch says.
impl Pods {
    fn put(&self, pod: Pod) {
        // A kubelet reports often; most of it is nothing that anybody here asks about.
        if self.known().pods.get(&pod.uid).is_none_or(|known| **known != pod) {
            self.change(|known| _ = known.pods.insert(pod.uid.clone(), Arc::new(pod)));
        }
    }

    fn delete(&self, uid: &str) {
        self.change(|known| {
            known.pods.entry(uid.to_owned()).and_modify(|pod| Arc::make_mut(pod).deleted = true);
        });
    }

    fn put_all(&self, pods: Vec<Pod>) {
        self.change(|known| {
            for pod in known.pods.values_mut() {
                Arc::make_mut(pod).deleted = true;
            }
            known.pods.extend(pods.into_iter().map(|pod| (pod.uid.clone(), Arc::new(pod))));
            known.api = Heard::Everything;
        });
    }

    fn put_handlers(&self, handlers: BTreeMap<String, String>) {
        self.change(|known| known.handlers = handlers);
    }

    /// Something was heard: all that is known is current, if it was once.
    fn here(&self) {
        if matches!(self.known().api, Heard::Away(_)) {
            self.change(|known| known.api = Heard::Everything);
            tracing::info!("the Kubernetes API answers");
        }
    }

    fn away(&self, why: String) {
        let heard = Heard::Away(why);
        if self.known().api != heard {
            let Heard::Away(why) = &heard else { return };
            tracing::warn!(why, "the Kubernetes API is away: what is known of pods stays");
            self.change(|known| known.api = heard);
        }
    }
}

impl Known {
    fn of(kept: file::Kept) -> Self {
        let pods = kept.pods.into_iter().map(|pod| (pod.uid.clone(), Arc::new(pod))).collect();
        let mut known = Self { pods, handlers: kept.handlers, ..Self::default() };
        known.index();
        known
    }

    fn index(&mut self) {
        self.statics.clear();
        for pod in self.pods.values().filter(|pod| !pod.deleted) {
            let Some(uid) = &pod.static_uid else { continue };
            let claims = self.statics.entry(uid.clone());
            claims.and_modify(|claimed| *claimed = None).or_insert_with(|| Some(pod.uid.clone()));
        }
    }

    fn find(&self, uid: &str) -> Option<Arc<Pod>> {
        let by_file = || self.pods.get(self.statics.get(uid)?.as_ref()?);
        self.pods.get(uid).or_else(by_file).cloned()
    }
}

/// Pods, as Kubernetes names them.
#[derive(Debug)]
pub(super) struct InPods {
    pods: Pods,
    roots: Roots,
}

impl InPods {
    pub(super) fn new(pods: Pods, roots: Roots) -> Self {
        Self { pods, roots }
    }
}

impl Source for InPods {
    fn describe(&self, path: &str, facts: &mut Facts) {
        let Some(cgroup) = self.roots.pod(path) else { return };
        let known = self.pods.known();
        match known.find(&cgroup.uid) {
            Some(pod) => pod.describe(cgroup.inside.and_then(container::container), &known.handlers, facts),
            None => {
                facts.name(|| format!("pod {} (unknown)", cgroup.uid));
                facts.label(labels::DOUBT, "the Kubernetes API has not told of this pod");
            }
        }
    }
}

#[cfg(test)]
mod tests;
