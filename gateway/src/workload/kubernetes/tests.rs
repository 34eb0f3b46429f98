//! From objects as the API sends them to workloads, and what stays known when it is away.

use serde_json::{Value, json};

use super::*;
use crate::workload::{CgroupId, Source, Workload, identify};

const UID: &str = "0f4a9d2c-6a3b-4c1e-9f00-1234567890ab";
const OTHER: &str = "ffffffff-6a3b-4c1e-9f00-1234567890ab";
const STATIC: &str = "0123456789abcdef0123456789abcdef";
const ID: &str = "9c3f0d1e2b4a59687766554433221100ffeeddccbbaa99887766554433221100";

fn pods() -> (tempfile::TempDir, Pods) {
    let state = tempfile::tempdir().expect("a temporary directory can be made");
    let pods = Pods::open(state.path(), "node-a");
    (state, pods)
}

fn object(changes: Value) -> Value {
    let mut object = json!({
        "metadata": {
            "uid": UID, "namespace": "ci", "name": "deploy-7c9f",
            "labels": { "app": "deploy", "namespace": "prod", "image": "trusted" },
            "ownerReferences": [
                { "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1" },
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "deploy-7c", "uid": "2", "controller": true },
            ],
        },
        "spec": {
            "serviceAccountName": "deployer",
            "containers": [{ "name": "main", "image": "registry/tool:1" }, { "name": "side", "image": "registry/proxy:2" }],
        },
        "status": {
            "phase": "Running",
            "containerStatuses": [{
                "name": "main", "image": "registry/other:9", "imageID": "registry/tool@sha256:abcd", "ready": true,
                "restartCount": 0, "containerID": format!("containerd://{ID}"),
            }],
        },
    });
    merge(&mut object, changes);
    object
}

fn merge(into: &mut Value, changes: Value) {
    match changes {
        Value::Object(changes) if into.is_object() => {
            changes.into_iter().for_each(|(key, value)| merge(&mut into[key], value));
        }
        value => *into = value,
    }
}

fn pod(changes: Value) -> Pod {
    Pod::of(serde_json::from_value(object(changes)).expect("the API sends such")).expect("it has a name")
}

fn workload(pods: &Pods, path: &str) -> Workload {
    let path = path.replace("UID", UID).replace("ID", ID);
    let sources: [Box<dyn Source>; 2] =
        [Box::new(InPods::new(pods.clone(), Roots::usual(None))), Box::new(container::Containers(Roots::usual(None)))];
    identify(CgroupId(7), path, &sources)
}

fn label<'a>(workload: &'a Workload, label: &str) -> Option<&'a str> {
    workload.labels.get(label).map(String::as_str)
}

#[test]
fn a_connection_has_the_facts_of_its_pod_and_container() {
    let (_state, pods) = pods();
    pods.put(pod(json!({})));
    let found = workload(&pods, "/kubepods/burstable/podUID/ID/deeper");
    assert_eq!(found.name, "ci/deploy-7c9f (deployer)");
    let facts = [
        ("namespace", "ci"),
        ("pod", "deploy-7c9f"),
        ("pod_uid", UID),
        ("service_account", "deployer"),
        ("owner", "ReplicaSet/deploy-7c"),
        ("container", "main"),
        ("container_id", ID),
        ("image", "registry/tool:1"),
        ("image_digest", "sha256:abcd"),
        ("app", "deploy"),
    ];
    for (name, value) in facts {
        assert_eq!(label(&found, name), Some(value), "{name}");
    }
    assert_eq!(found.doubt(), None);
}

#[test]
fn a_label_is_not_taken_for_a_fact() {
    let (_state, pods) = pods();
    pods.put(pod(json!({ "status": null })));
    let found = workload(&pods, "/kubepods/podUID/ID");
    assert_eq!((label(&found, "namespace"), label(&found, "label:namespace")), (Some("ci"), Some("prod")));
    // The image is not known yet, and the label says nothing about it.
    assert_eq!((label(&found, "image"), label(&found, "label:image")), (None, Some("trusted")));
    assert_eq!(label(&found, "image_digest"), None);
}

#[test]
fn where_all_containers_have_one_image_it_is_known_at_once() {
    let (_state, pods) = pods();
    pods.put(pod(
        json!({ "status": null, "spec": { "containers": [{ "name": "main", "image": "registry/tool:1" }] } }),
    ));
    assert_eq!(label(&workload(&pods, "/kubepods/podUID/ID"), "image"), Some("registry/tool:1"));
}

#[test]
fn a_pod_that_nobody_told_of_is_in_doubt() {
    let (_state, pods) = pods();
    let found = workload(&pods, "/kubepods/podUID/ID");
    assert_eq!(found.name, format!("pod {UID} (unknown)"));
    assert!(found.doubt().is_some());
    assert_eq!(workload(&pods, "/system.slice/sshd.service").doubt(), None);
}

#[test]
fn a_deleted_pod_is_known_until_its_cgroup_is_gone() {
    let (_state, pods) = pods();
    pods.put(pod(json!({})));
    pods.delete(UID);
    pods.forget(&|uid| uid == UID);
    assert_eq!(workload(&pods, "/kubepods/podUID").name, "ci/deploy-7c9f (deployer)");
    pods.forget(&|_| false);
    assert!(workload(&pods, "/kubepods/podUID").doubt().is_some());
    // One that lives is not forgotten for want of a cgroup.
    pods.put(pod(json!({})));
    pods.forget(&|_| false);
    assert!(pods.find(UID).is_some());
    // Not listed any more: deleted, too.
    pods.put_all(Vec::new());
    assert!(pods.find(UID).is_some_and(|pod| pod.deleted));
}

#[test]
fn a_pod_from_a_file_is_found_by_the_id_that_its_cgroup_bears() {
    let from_file = |uid: &str, name: &str| {
        pod(json!({ "metadata": {
            "uid": uid, "name": name, "annotations": { "kubernetes.io/config.mirror": STATIC },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "node-a", "uid": "3", "controller": true }],
        }}))
    };
    let (_state, pods) = pods();
    pods.put(from_file(UID, "etcd"));
    let path = format!("/kubepods/pod{STATIC}");
    assert_eq!(workload(&pods, &path).name, "ci/etcd (deployer)");
    // Who else claims that id makes it nobody's.
    pods.put(from_file(OTHER, "claims"));
    assert!(workload(&pods, &path).doubt().is_some());
    // And who is not the node's own cannot claim it.
    let claims = pod(json!({ "metadata": { "annotations": { "kubernetes.io/config.mirror": STATIC } } }));
    assert_eq!(claims.static_uid, None);
}

#[test]
fn sandboxes_with_sockets_of_their_own_cannot_be_guarded() {
    let (_state, pods) = pods();
    let unguardable = |class: Option<&str>, labels: Value| {
        pods.put(pod(json!({ "metadata": { "labels": labels }, "spec": { "runtimeClassName": class } })));
        let found = workload(&pods, "/kubepods/podUID/ID");
        crate::workload::unguardable(&found).map(str::to_owned)
    };
    assert_eq!(unguardable(None, json!({})), None);
    assert!(unguardable(Some("sandboxed"), json!({})).is_some_and(|why| why.contains("nothing is known")));
    let handlers = [("sandboxed", "runsc"), ("vm", "kata-qemu"), ("gpu", "nvidia")];
    pods.put_handlers(handlers.map(|(class, handler)| (class.to_owned(), handler.to_owned())).into());
    assert!(unguardable(Some("sandboxed"), json!({})).is_some_and(|why| why.contains("gVisor")));
    assert!(unguardable(Some("vm"), json!({})).is_some_and(|why| why.contains("Kata")));
    assert_eq!(unguardable(Some("gpu"), json!({})), None);
    assert!(unguardable(None, json!({ "kubevirt.io/created-by": "1" })).is_some_and(|why| why.contains("KubeVirt")));
}

#[test]
fn what_was_known_is_known_after_a_restart_on_the_same_node() {
    let (state, pods) = pods();
    pods.put(pod(json!({})));
    pods.put_handlers([("sandboxed".to_owned(), "runsc".to_owned())].into());
    file::write(&pods).expect("the directory is ours");
    let again = Pods::open(state.path(), "node-a");
    assert_eq!(workload(&again, "/kubepods/podUID/ID"), workload(&pods, "/kubepods/podUID/ID"));
    assert!(again.standing().away.is_some(), "what is from a file is not current");
    assert!(Pods::open(state.path(), "node-b").find(UID).is_none());
    std::fs::write(state.path().join("pods.json"), "{").expect("the directory is ours");
    assert!(Pods::open(state.path(), "node-a").find(UID).is_none());
}

#[test]
fn the_api_is_away_when_it_says_nothing_and_back_when_it_lists() {
    let (_state, pods) = pods();
    assert!(pods.standing().away.is_some());
    pods.put_all(vec![pod(json!({}))]);
    assert_eq!((pods.standing().away, pods.standing().pods), (None, 1));
    pods.away("connection refused".to_owned());
    assert_eq!(pods.standing().away.as_deref(), Some("connection refused"));
    assert!(pods.find(UID).is_some());
    pods.here();
    assert_eq!(pods.standing().away, None);
}

#[tokio::test(start_paused = true)]
async fn the_first_word_is_awaited_only_where_nothing_is_known() {
    let (_state, pods) = pods();
    let took = async |pods: &Pods| {
        let began = tokio::time::Instant::now();
        pods.first_word(Duration::from_secs(5)).await;
        began.elapsed()
    };
    assert_eq!(took(&pods).await, Duration::from_secs(5));
    let teller = pods.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        teller.put_all(Vec::new());
    });
    assert_eq!(took(&pods).await, Duration::from_secs(1));
    assert_eq!(took(&pods).await, Duration::ZERO);
}
