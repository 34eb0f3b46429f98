//! The node install: what `deploy/` says, taken by a real Kubernetes API server.
//!
//! No cluster runs here, so no kubelet starts the gateway from these manifests. That the gateway works with exactly their
//! capabilities is tried in `confined.rs`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use tests::{ApiServer, Outcome, Running, binary, tool};

/// Who reads the one or the other installs the same.
#[test]
fn the_chart_and_the_base_make_the_same_objects() {
    let with_monitoring = ["--set", "monitoring.enabled=true"];
    for (overlay, values) in [("base", &[][..]), ("monitoring", &with_monitoring)] {
        let (base, chart) = (objects(&kustomize(overlay)), objects(&template(values)));
        assert_eq!(base.keys().collect::<Vec<_>>(), chart.keys().collect::<Vec<_>>(), "{overlay}");
        for (name, object) in base {
            assert_eq!(object, chart[&name], "{name} of {overlay} and of the chart differ");
        }
    }
}

/// The server validates every field by name and type; admission sees the pod that the DaemonSet would make.
#[test]
fn a_real_api_server_takes_it_and_gives_the_gateway_what_it_needs_and_no_more() {
    let api = ApiServer::start();
    // A dry run keeps nothing: what later objects need has to be there before.
    api.kubectl_with(&["apply", "-f", "-"], MONITOR_KIND).ok();
    let can = |verb: &str, what: &str| {
        let asked = ["auth", "can-i", verb, what, "--all-namespaces", "--as", ACCOUNT];
        api.kubectl(&asked).stdout.trim().ends_with("yes")
    };
    assert!(!can("list", "pods"), "it may before anything is installed, so the questions below mean nothing");

    api.kubectl(&["create", "namespace", NAMESPACE]).ok();
    for manifest in
        [kustomize("base"), kustomize("monitoring"), template(&[]), template(&["--set", "monitoring.enabled=true"])]
    {
        api.kubectl_with(&SERVER_DRY_RUN, &manifest).ok().says(&["daemonset.apps/holdpoint", "(server dry run)"]);
    }
    let misspelt = kustomize("base").replace("hostPID:", "hostPid:");
    api.kubectl_with(&SERVER_DRY_RUN, &misspelt).failed().says(&["hostPid"]);

    api.kubectl_with(&["apply", "-f", "-"], &kustomize("base")).ok();
    for (verb, what) in [("list", "pods"), ("watch", "pods"), ("list", RUNTIME_CLASSES), ("watch", RUNTIME_CLASSES)] {
        assert!(can(verb, what), "the gateway may not {verb} {what}");
    }
    for what in ["secrets", "configmaps", "nodes", "namespaces", "serviceaccounts", "deployments.apps"] {
        assert!(!can("list", what) && !can("get", what), "the gateway may read {what}");
    }
    for (verb, what) in [("create", "pods"), ("delete", "pods"), ("patch", "pods"), ("create", "pods/exec"), ("*", "*")]
    {
        assert!(!can(verb, what), "the gateway may {verb} {what}");
    }

    // The server's own admission judges pods, not the DaemonSet that makes them.
    let made = objects(&kustomize("base"));
    let pod = |namespace: &str| {
        let mut pod = made["DaemonSet holdpoint"]["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!("holdpoint-x");
        pod["metadata"]["namespace"] = json!(namespace);
        api.kubectl_with(&SERVER_DRY_RUN, &pod.to_string())
    };
    pod(NAMESPACE).ok();
    api.kubectl(&["create", "namespace", "strict"]).ok();
    api.kubectl(&["label", "namespace", "strict", "pod-security.kubernetes.io/enforce=baseline"]).ok();
    // The namespace's label is what lets it in.
    pod("strict").failed().says(&["violates PodSecurity", "host namespaces", "hostPath"]);
}

/// What the chart's schema is for: an error where the value is written, not in a pod's log.
#[test]
fn the_chart_refuses_wrong_values() {
    helm(&["lint", "--strict", &chart()]).ok();
    let wrong = [
        ("settings.guard=null", "guard"),
        ("settings.state=relative/path", "state"),
        ("settings.gaurd[0]=x", "gaurd"),
        ("settings.guard[0].namespce=ci", "guard"),
        ("settings.durability=sometimes", "durability"),
        ("settings.credentials_key.vault=https://v,settings.credentials_key.auth.token=/t", "credentials_key"),
        ("settings.health=127.0.0.1:80", "health"),
        ("image.digest=latest", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("policies.notes\\.txt=x", "notes.txt"),
        ("maxSurge=0", "maxSurge"),
        ("hostPath.state=/x", "hostPath"),
    ];
    for (value, word) in wrong {
        helm(&["template", "holdpoint", &chart(), "--set", value])
            .failed()
            .says(&["specifications of the schema", word]);
    }
    let key = "settings.credentials_key.vault=https://v,settings.credentials_key.transit.key=hp,settings.credentials_key.auth.kubernetes.role=hp";
    let right = ["settings.guard[0].namespace=ci", "settings.guard[1]=/bots.slice", "maxSurge=10%", key];
    let right = right.map(|value| ["--set", value]).concat();
    helm(&[&["template", "holdpoint", &chart()][..], &right].concat()).ok();
}

/// A key that the gateway learns has to be let through by the chart, too.
#[test]
fn the_chart_knows_every_setting() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), "no_such_key: 1\n").expect("the file is ours");
    let refused = holdpoint::config::Config::load(file.path()).expect_err("there is no such key").to_string();
    let (_, known) = refused.split_once("expected one of ").expect("the error lists what is known");
    let known: Vec<_> = known.lines().next().unwrap_or_default().split(", ").collect();
    assert!(known.contains(&"durability") && known.contains(&"state"), "not understood: {refused}");
    let schema = std::fs::read_to_string(format!("{}/values.schema.json", chart())).expect("it is there");
    let schema: Value = serde_json::from_str(&schema).expect("it is JSON");
    let settings = schema["properties"]["settings"]["properties"].as_object().expect("the schema has settings");
    let missing: Vec<_> = known.into_iter().filter(|key| !settings.contains_key(*key)).collect();
    assert!(missing.is_empty(), "values.schema.json does not know {missing:?}");
}

/// An update puts the next gateway beside the one that runs, and the gateway knows the words with which it is started and
/// asked.
#[test]
fn the_gateway_understands_how_it_is_started_and_probed() {
    let made = objects(&kustomize("base"));
    let set = &made["DaemonSet holdpoint"]["spec"];
    assert_eq!(set["updateStrategy"]["rollingUpdate"], json!({ "maxSurge": 1, "maxUnavailable": 0 }));
    let container = &set["template"]["spec"]["containers"][0];
    // A port of the container would be the node's, and the second pod would not be put beside the first.
    assert!(container.get("ports").is_none());
    let probes = ["startupProbe", "readinessProbe"].map(|probe| &container[probe]["exec"]["command"]);
    for (words, first) in [(&container["args"], 0), (probes[0], 1), (probes[1], 1)] {
        let words = words.as_array().expect("a list of words").iter().skip(first);
        let words = words.map(|word| word.as_str().expect("a word"));
        run(Command::new(binary("holdpoint")).args(words).arg("--help")).ok();
    }
    assert!(container["args"].as_array().is_some_and(|words| words.contains(&json!("--stay"))));
    run(Command::new(binary("holdpoint")).args(["run", "--stays", "--help"])).failed();
}

/// The policies that come with the install, by the gateway's own reading.
#[test]
fn the_shipped_policies_are_good() {
    for what in ["check", "test"] {
        let policies = checkout().join("deploy/kustomize/base/policies");
        run(Command::new(binary("holdpoint")).args(["policy", what]).arg(policies)).ok();
    }
}

/// Every object by kind and name. The text of settings counts for what it means: the chart writes it anew.
fn objects(manifest: &str) -> BTreeMap<String, Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest).expect("it is YAML");
    let named = documents.into_iter().filter(|object| !object.is_null()).map(|mut object| {
        if let Some(settings) = object.pointer_mut("/data/holdpoint.yaml") {
            *settings = serde_saphyr::from_str(settings.as_str().expect("settings are a text")).expect("they are YAML");
        }
        let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        (format!("{} {}", word("/kind"), word("/metadata/name")), object)
    });
    named.collect()
}

fn kustomize(overlay: &str) -> String {
    let directory = checkout().join("deploy/kustomize").join(overlay);
    run(Command::new(tool("kubectl")).arg("kustomize").arg(directory)).ok().stdout
}

fn template(values: &[&str]) -> String {
    let chart = chart();
    let fixed = ["template", "holdpoint", &chart, "--namespace", NAMESPACE, "--set", "namespace.create=true"];
    helm(&[&fixed[..], values].concat()).ok().stdout
}

fn helm(arguments: &[&str]) -> Outcome {
    run(Command::new(tool("helm")).args(arguments))
}

fn run(command: &mut Command) -> Outcome {
    Running::start(command).finish(Duration::from_secs(60))
}

fn chart() -> String {
    checkout().join("deploy/helm/holdpoint").display().to_string()
}

fn checkout() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map(Path::to_owned).expect("this package is a directory of the workspace")
}

const NAMESPACE: &str = "holdpoint-system";
const ACCOUNT: &str = "system:serviceaccount:holdpoint-system:holdpoint";
const RUNTIME_CLASSES: &str = "runtimeclasses.node.k8s.io";
const SERVER_DRY_RUN: [&str; 5] = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];

/// Enough of the Prometheus operator for its objects to be known.
const MONITOR_KIND: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: servicemonitors.monitoring.coreos.com }
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: { kind: ServiceMonitor, plural: servicemonitors, singular: servicemonitor, listKind: ServiceMonitorList }
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties: { spec: { type: object, x-kubernetes-preserve-unknown-fields: true } }
";
