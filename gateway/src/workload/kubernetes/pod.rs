//! A pod: the part of its object that says who it is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Serialize};

use super::{Container as Cgroup, Facts, labels};

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its unique id.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
    /// What made it: `ReplicaSet/deploy-7c9f`.
    pub owner: Option<String>,
    /// Its runtime class.
    pub runtime_class: Option<String>,
    /// Whether it has the host's network.
    pub host_network: bool,
    /// Its containers, of every kind.
    pub containers: Vec<Container>,
    /// The id that its cgroup bears instead, where it comes from a file on the node.
    pub static_uid: Option<String>,
    /// Whether its containers run, as far as the API knows.
    pub running: bool,
    /// Whether the API has deleted it.
    #[serde(default)]
    pub deleted: bool,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image, as the pod names it.
    pub image: String,
    /// Its id at the runtime, once it runs.
    pub id: Option<String>,
    /// The digest of the image that runs.
    pub digest: Option<String>,
}

impl Pod {
    /// `None` for an object that has no name or id: none that an API would send.
    pub(super) fn of(object: core::Pod) -> Option<Self> {
        let (metadata, spec) = (object.metadata, object.spec?);
        let status = object.status.unwrap_or_default();
        let own = metadata.labels.unwrap_or_default();
        let annotations = metadata.annotations.unwrap_or_default();
        let mut owners = metadata.owner_references.unwrap_or_default().into_iter();
        let owner = owners.find(|owner| owner.controller == Some(true));
        // The kubelet made this object for a pod that it has from a file, and owns it as its node.
        let mirrors = owner.as_ref().is_some_and(|owner| owner.kind == "Node");
        let uid = metadata.uid?;
        Some(Self {
            namespace: metadata.namespace?,
            name: metadata.name?,
            service_account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
            labels: own,
            owner: owner.map(|owner| format!("{}/{}", owner.kind, owner.name)),
            runtime_class: spec.runtime_class_name.clone(),
            host_network: spec.host_network.unwrap_or(false),
            running: status.phase.as_deref() == Some("Running"),
            containers: containers(spec, &status),
            static_uid: annotations.get(MIRROR).filter(|_| mirrors).cloned(),
            deleted: false,
            uid,
        })
    }

    /// The ids that its cgroup may bear.
    pub fn uids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.uid.as_str()).chain(self.static_uid.as_deref())
    }

    pub(super) fn describe(&self, cgroup: Option<Cgroup<'_>>, handlers: &BTreeMap<String, String>, facts: &mut Facts) {
        facts.name(|| format!("{}/{} ({})", self.namespace, self.name, self.service_account));
        for (label, value) in &self.labels {
            facts.label(&labels::of_pod(label), value);
        }
        facts.label(labels::NAMESPACE, &self.namespace);
        facts.label(labels::POD, &self.name);
        facts.label(labels::SERVICE_ACCOUNT, &self.service_account);
        self.owner.iter().for_each(|owner| facts.label(labels::OWNER, owner));
        self.unguardable(handlers).iter().for_each(|why| facts.label(labels::UNGUARDABLE, why));
        if self.host_network {
            facts.label(labels::HOST_NETWORK, "true");
        }
        let found = cgroup.and_then(|cgroup| self.containers.iter().find(|one| one.id.as_deref() == Some(cgroup.id)));
        match found {
            Some(container) => {
                facts.label(labels::CONTAINER, &container.name);
                facts.label(labels::IMAGE, &container.image);
                container.digest.iter().for_each(|digest| facts.label(labels::IMAGE_DIGEST, digest));
            }
            // The API learns of a container some time after it has started. Where all have one image it is that.
            None => self.only_image().into_iter().for_each(|image| facts.label(labels::IMAGE, image)),
        }
    }

    fn only_image(&self) -> Option<&str> {
        let (first, others) = self.containers.split_first()?;
        others.iter().all(|other| other.image == first.image).then_some(&first.image)
    }

    /// Why this kernel's hooks do not see its sockets, where that is so. `handlers`: runtime class → handler.
    pub(super) fn unguardable(&self, handlers: &BTreeMap<String, String>) -> Option<String> {
        if self.labels.contains_key(VIRTUAL_MACHINE) {
            return Some("a virtual machine (KubeVirt): its sockets are not this kernel's".to_owned());
        }
        let class = self.runtime_class.as_ref()?;
        match handlers.get(class) {
            Some(handler) => elsewhere(handler).map(|what| {
                format!("runtime class {class} ({what}, handler {handler}): its sockets are not this kernel's")
            }),
            None => Some(match elsewhere(class) {
                Some(what) => format!("runtime class {class} ({what}): its sockets are not this kernel's"),
                None => format!("nothing is known of its runtime class {class}: its sockets may not be this kernel's"),
            }),
        }
    }
}

/// What has a network stack of its own among what runtime classes name.
fn elsewhere(handler: &str) -> Option<&'static str> {
    const ELSEWHERE: [(&str, &str); 7] = [
        ("runsc", "gVisor"),
        ("gvisor", "gVisor"),
        ("kata", "Kata Containers"),
        ("firecracker", "Firecracker"),
        ("cloud-hypervisor", "Cloud Hypervisor"),
        ("qemu", "QEMU"),
        ("peerpod", "another machine"),
    ];
    let handler = handler.to_ascii_lowercase();
    ELSEWHERE.iter().find(|(part, _)| handler.contains(part)).map(|(_, what)| *what)
}

fn containers(spec: core::PodSpec, status: &core::PodStatus) -> Vec<Container> {
    let statuses = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let statuses: Vec<_> = statuses.into_iter().flatten().flatten().collect();
    let container = |name: String, image: Option<String>| {
        let status = statuses.iter().find(|status| status.name == name);
        Container {
            image: image.unwrap_or_default(),
            id: status.and_then(|status| id(status.container_id.as_deref()?)),
            digest: status.and_then(|status| digest(&status.image_id)),
            name,
        }
    };
    let plain = spec.containers.into_iter().chain(spec.init_containers.unwrap_or_default());
    let ephemeral = spec.ephemeral_containers.unwrap_or_default().into_iter();
    let all = plain.map(|one| (one.name, one.image)).chain(ephemeral.map(|one| (one.name, one.image)));
    all.map(|(name, image)| container(name, image)).collect()
}

/// `containerd://ID`
fn id(text: &str) -> Option<String> {
    text.split_once("://").map(|(_, id)| id.to_owned())
}

/// `docker.io/library/postgres@sha256:…`, or the digest alone.
fn digest(text: &str) -> Option<String> {
    let digest = text.rsplit_once('@').map_or(text, |(_, digest)| digest);
    let digest = digest.rsplit_once("://").map_or(digest, |(_, digest)| digest);
    digest.starts_with("sha256:").then(|| digest.to_owned())
}

/// On the object that a kubelet makes for a pod from a file: the id that the pod has at the kubelet.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// On the pods in which KubeVirt runs virtual machines.
const VIRTUAL_MACHINE: &str = "kubevirt.io/created-by";
