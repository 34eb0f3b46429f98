//! The names of facts about a workload, as policy, the record and people use them.
//!
//! # Security
//! A pod's own labels are its author's to choose and stand beside the facts. One that bears a fact's name would be
//! taken for the fact, so it is put under another ([`of_pod`]).

/// Why it is not known who a workload is.
pub const DOUBT: &str = "doubt";
/// Why the kernel programs cannot guard it.
pub const UNGUARDABLE: &str = "unguardable";
/// The systemd slice that its unit is in.
pub const SLICE: &str = "slice";
/// The container runtime.
pub const RUNTIME: &str = "runtime";
/// The container's id.
pub const CONTAINER_ID: &str = "container_id";
/// The container's name in its pod.
pub const CONTAINER: &str = "container";
/// The container's image, as its pod names it.
pub const IMAGE: &str = "image";
/// The digest of the image that runs.
pub const IMAGE_DIGEST: &str = "image_digest";
/// The pod's name.
pub const POD: &str = "pod";
/// The pod's unique id.
pub const POD_UID: &str = "pod_uid";
/// The pod's namespace.
pub const NAMESPACE: &str = "namespace";
/// The pod's service account.
pub const SERVICE_ACCOUNT: &str = "service_account";
/// What made the pod: `ReplicaSet/deploy-7c9f`.
pub const OWNER: &str = "owner";
/// The pod has the host's network: no namespace of its own.
pub const HOST_NETWORK: &str = "host_network";

const FACTS: [&str; 14] = [
    DOUBT,
    UNGUARDABLE,
    SLICE,
    RUNTIME,
    CONTAINER_ID,
    CONTAINER,
    IMAGE,
    IMAGE_DIGEST,
    POD,
    POD_UID,
    NAMESPACE,
    SERVICE_ACCOUNT,
    OWNER,
    HOST_NETWORK,
];

/// The name under which a pod's own label stands: its own, unless a fact is called so.
pub fn of_pod(label: &str) -> String {
    if FACTS.contains(&label) { format!("label:{label}") } else { label.to_owned() }
}
