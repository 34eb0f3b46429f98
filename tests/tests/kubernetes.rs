//! Pods of a real Kubernetes API, with cgroups as a kubelet makes them: who they are, and which of them are guarded.
//!
//! There is no kubelet here. A test creates the objects, makes the directories, and starts an unmodified psql in a
//! container's cgroup, as user `nobody`.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{ApiServer, Lab, Net, Outcome, Postgres, Rules, Running, eventually};

/// A lab that is a node of a cluster.
struct Node {
    lab: Lab,
    api: ApiServer,
}

/// A pod that the API knows, and the cgroup that its kubelet made.
struct Pod<'node> {
    node: &'node Node,
    name: String,
    cgroup: String,
}

/// How a kubelet names cgroups.
#[derive(Debug, Clone, Copy)]
enum Driver {
    Cgroupfs,
    Systemd,
}

/// Whom these tests guard, and what those may not do.
const SELECTOR: &str = "{namespace: ci, service_account: \"deploy-*\"}";
const RULE: &str = "policy: deployers\nmatch: { workload: { namespace: ci, service_account: \"deploy-*\" }, \
                    effects: [schema] }\ndecide: refuse\n";
const CONTAINER: &str = "9c3f0d1e2b4a59687766554433221100ffeeddccbbaa99887766554433221100";

impl Node {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name);
        let api = ApiServer::start();
        let cgroup = lab.guard().with_file_name("node");
        std::fs::create_dir(&cgroup).expect("the lab's cgroup is ours");
        lab.set("guard", &format!("[\"{}\", {SELECTOR}]", lab.guard().display()));
        let kubernetes = json!({ "node": "node-a", "kubeconfig": api.kubeconfig(), "cgroup": cgroup });
        lab.set("kubernetes", &kubernetes.to_string());
        api.namespace("ci");
        Self { lab, api }
    }

    #[track_caller]
    fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        self.api.kubectl_with(arguments, input).ok().stdout
    }

    /// Creates a pod, on this node unless it is still `waiting` for one, and says which id it has.
    fn create(&self, name: &str, changes: &Value, waiting: bool) -> String {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": "ci", "name": name, "labels": { "app": name } },
            "spec": {
                "serviceAccountName": "deploy-bot",
                "containers": [{ "name": "main", "image": "registry.example/tool:1" }],
            },
        });
        if !waiting {
            object["spec"]["nodeName"] = "node-a".into();
        }
        for (key, value) in changes.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        self.kubectl(&["create", "-f", "-", "-o", "jsonpath={.metadata.uid}"], &object.to_string())
    }

    /// Binds a waiting pod to this node, as the scheduler would.
    fn bind(&self, name: &str) {
        let target = json!({ "apiVersion": "v1", "kind": "Node", "name": "node-a" });
        let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name }, "target": target });
        self.kubectl(
            &["create", "--raw", &format!("/api/v1/namespaces/ci/pods/{name}/binding"), "-f", "-"],
            &binding.to_string(),
        );
    }

    /// What the kubelet does first: the pod's own cgroup.
    fn make(&self, name: &str, uid: &str, driver: Driver) -> Pod<'_> {
        let cgroup = match driver {
            Driver::Cgroupfs => format!("node/kubepods/burstable/pod{uid}"),
            Driver::Systemd => {
                let uid = uid.replace('-', "_");
                format!("node/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid}.slice")
            }
        };
        let pod = Pod { node: self, name: name.to_owned(), cgroup };
        std::fs::create_dir_all(pod.directory()).expect("the lab's cgroup is ours");
        pod
    }

    /// A pod with its cgroup.
    fn pod(&self, name: &str, changes: &Value, driver: Driver) -> Pod<'_> {
        self.make(name, &self.create(name, changes, false), driver)
    }

    fn status(&self) -> Value {
        let said = self.lab.run(&[&self.lab.tool("holdpoint"), "status", "-o", "json"]).stdout;
        serde_json::from_str(&said).unwrap_or_default()
    }

    /// Waits until the API is known to answer, or to be away.
    fn api_is(&self, answering: bool) {
        eventually("the gateway knows how the API stands", Duration::from_secs(30), || {
            let status = self.status();
            (status["kubernetes"].is_object() && status["kubernetes"]["away"].is_null() == answering).then_some(())
        });
    }
}

impl Pod<'_> {
    fn directory(&self) -> PathBuf {
        self.node.lab.guard().with_file_name(&self.cgroup)
    }

    /// How `holdpoint status` says that its guard stands; nothing where there is none.
    fn guard(&self) -> Option<Value> {
        let status = self.node.status();
        let guards = status["guards"].as_array()?;
        guards.iter().find(|guard| guard["path"].as_str().is_some_and(|path| path.ends_with(&self.cgroup))).cloned()
    }

    #[track_caller]
    fn is_guarded(&self, why: &str) -> Value {
        eventually(&format!("{} is guarded because it is {why}", self.name), Duration::from_secs(10), || {
            self.guard().filter(|guard| guard["why"] == why)
        })
    }

    #[track_caller]
    fn is_not_guarded(&self) {
        eventually(&format!("{} is not guarded", self.name), Duration::from_secs(10), || {
            let status = self.node.status();
            (status["guards"].is_array() && self.guard().is_none()).then_some(())
        });
    }

    /// Starts a command in its container.
    fn start(&self, net: Option<&Net>, argv: &[&str]) -> Running {
        let nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"];
        let mut command = self.node.lab.command(&[&nobody[..], argv].concat());
        net.into_iter().for_each(|net| net.enter(&mut command));
        let container = match self.cgroup.ends_with(".slice") {
            true => format!("{}/cri-containerd-{CONTAINER}.scope", self.cgroup),
            false => format!("{}/{CONTAINER}", self.cgroup),
        };
        self.node.lab.enter_cgroup(&container, &mut command);
        Running::start(&mut command)
    }

    /// psql, again while it is told that nobody listens: a new namespace is served after an instant.
    #[track_caller]
    fn psql(&self, net: &Net, url: &str, sql: &str) -> Outcome {
        eventually("its namespace is served", Duration::from_secs(10), || {
            let outcome = self.psql_once(Some(net), url, sql);
            (!outcome.all().contains("Connection refused")).then_some(outcome)
        })
    }

    /// psql without a second try; without a namespace of its own in the node's.
    fn psql_once(&self, net: Option<&Net>, url: &str, sql: &str) -> Outcome {
        self.start(net, &["psql", "-X", "-A", "-t", "-v", "VERBOSITY=verbose", "-c", sql, url])
            .finish(Duration::from_secs(20))
    }
}

fn rules() -> Rules {
    Rules::allowing().policy(RULE)
}

/// A node with a governed PostgreSQL inside a namespace that pods share.
fn inside(name: &str) -> (Node, Net, Postgres) {
    let node = Node::new(name);
    let net = Net::make();
    let pg = Postgres::start_inside(&node.lab, &net);
    node.lab.policies(&rules().resource(pg.port()), &rules().policies());
    (node, net, pg)
}

/// Whether the session in which `marker` was asked says `fact` of who asked.
#[track_caller]
fn recorded_as(node: &Node, marker: &str, fact: &str) -> bool {
    let record = node.lab.record();
    let session = record.sessions.iter().find(|session| session.events.iter().any(|event| event.contains(marker)));
    let session = session.unwrap_or_else(|| panic!("no session has {marker}"));
    session.events.iter().any(|event| event.is("connected") && event.contains(fact))
}

#[test]
fn n5_a_selected_pod_is_guarded_and_judged_by_namespace_and_service_account() {
    let (node, net, pg) = inside("pods-selected");
    node.lab.start();
    node.api_is(true);
    for (driver, name) in [(Driver::Cgroupfs, "deploy-fs"), (Driver::Systemd, "deploy-sd")] {
        let pod = node.pod(name, &json!({}), driver);
        let guard = pod.is_guarded("selected");
        assert_eq!((&guard["late"], &guard["unguardable"]), (&json!(false), &Value::Null), "{guard}");
        pod.psql(&net, &pg.url(), &format!("SELECT 'by {name}'")).ok();
        pod.psql(&net, &pg.url(), &format!("DROP TABLE target /* by {name} */")).says(&["42501"]);
        assert!(pg.saw(&format!("'by {name}'")) && !pg.saw(&format!("/* by {name} */")));
        assert!(recorded_as(&node, &format!("'by {name}'"), &format!("ci/{name} (deploy-bot)")));
        assert!(recorded_as(&node, &format!("'by {name}'"), "registry.example/tool:1"));
    }
}

#[test]
fn n5_a_pod_that_no_selector_matches_goes_direct_and_one_that_does_not() {
    let node = Node::new("pods-direct");
    let pg = Postgres::start(&node.lab);
    node.lab.policies(&rules().resource(pg.port()), &rules().policies());
    node.lab.start();
    node.api_is(true);
    let other = node.pod("other", &json!({ "serviceAccountName": "reader" }), Driver::Cgroupfs);
    let deploy = node.pod("deploy", &json!({}), Driver::Cgroupfs);
    deploy.is_guarded("selected");
    other.is_not_guarded();
    // The mechanism off: nothing is read, and nothing recorded.
    other.psql_once(None, &pg.url(), "CREATE TABLE directly (a int)").ok();
    assert!(pg.saw("CREATE TABLE directly") && node.lab.record().of("operation", "directly").is_empty());
    // On.
    deploy.psql_once(None, &pg.url(), "CREATE TABLE guarded (a int)").says(&["42501"]);
    assert!(!pg.saw("CREATE TABLE guarded"));
    assert_eq!(node.lab.record().refused("CREATE TABLE guarded"), 1);
}

#[test]
fn n5_a_pod_that_nobody_has_told_of_is_guarded_until_it_is_known_not_to_match() {
    let (node, net, pg) = inside("pods-unknown");
    node.lab.start();
    node.api_is(true);
    // It exists, but the API does not say that it is of this node: what its kubelet has been told and we have not.
    let early = node.make("early", &node.create("early", &json!({}), true), Driver::Systemd);
    let stranger =
        node.make("stranger", &node.create("stranger", &json!({ "serviceAccountName": "x" }), true), Driver::Cgroupfs);
    early.is_guarded("unknown");
    stranger.is_guarded("unknown");
    early.psql(&net, &pg.url(), "SELECT 'before it is known'").ok();
    assert!(recorded_as(&node, "'before it is known'", "(unknown)"));
    // A rule that refuses counts what is not known against it.
    early.psql(&net, &pg.url(), "DROP TABLE target /* early */").says(&["42501"]);
    stranger.psql(&net, &pg.url(), "DROP TABLE target /* stranger */").says(&["42501"]);
    assert!(!pg.saw("DROP TABLE"));
    node.bind("early");
    early.is_guarded("selected");
    early.psql(&net, &pg.url(), "SELECT 'when it is known'").ok();
    assert!(recorded_as(&node, "'when it is known'", "ci/early (deploy-bot)"));
    // Known not to match: it is let go.
    node.bind("stranger");
    stranger.is_not_guarded();
}

#[test]
fn n6_a_pod_that_stops_matching_is_let_go_and_nothing_of_it_is_left() {
    let (node, net, pg) = inside("pods-let-go");
    node.lab.set("guard", &format!("[\"{}\", {{labels: {{app: deploy}}}}]", node.lab.guard().display()));
    node.lab.start();
    node.api_is(true);
    let pod = node.pod("deploy", &json!({}), Driver::Cgroupfs);
    pod.is_guarded("selected");
    // Somebody stays inside, as in a pod that runs.
    let _stays = pod.start(Some(&net), &["sleep", "60"]);
    pod.psql(&net, &pg.url(), "SELECT 'guarded'").ok();
    assert_eq!(node.lab.record().forwarded("'guarded'"), 1);
    node.kubectl(&["-n", "ci", "label", "--overwrite", "pod", "deploy", "app=other"], "");
    pod.is_not_guarded();
    // Direct, in the very namespace that was denied before.
    eventually("the namespace is free", Duration::from_secs(10), || {
        let psql = ["psql", "-X", "-A", "-t", "-c", "SELECT 'let go'", &format!("{}?connect_timeout=2", pg.url())];
        pod.start(Some(&net), &psql).finish(Duration::from_secs(20)).status.success().then_some(())
    });
    assert!(pg.saw("'let go'") && node.lab.record().forwarded("'let go'") == 0);
    let links = links(&node.lab);
    assert_eq!(links, 1, "guards pinned beside the one that the settings name");
}

/// How many cgroups have programs pinned for them, counted from within the lab's mounts.
fn links(lab: &Lab) -> usize {
    let directory = lab.path("bpf/holdpoint/links").display().to_string();
    lab.run(&["ls", &directory]).ok().stdout.lines().count()
}

#[test]
fn n6_pods_that_are_gone_leave_no_pin() {
    let (node, _net, _pg) = inside("pods-gone");
    node.lab.start();
    node.api_is(true);
    let before = links(&node.lab);
    let pods: Vec<_> =
        (0..8).map(|number| node.pod(&format!("deploy-{number}"), &json!({}), Driver::Cgroupfs)).collect();
    pods.iter().for_each(|pod| _ = pod.is_guarded("selected"));
    assert_eq!(links(&node.lab), before + 8);
    pods.iter().for_each(|pod| std::fs::remove_dir(pod.directory()).expect("nobody is in it"));
    eventually("nothing is pinned for them", Duration::from_secs(10), || (links(&node.lab) == before).then_some(()));
}

#[test]
fn n7_pods_are_known_while_the_api_is_away_and_over_a_restart() {
    let (mut node, net, pg) = inside("pods-away");
    node.lab.start();
    node.api_is(true);
    let uid = node.create("deploy", &json!({}), false);
    let cgroup = {
        let pod = node.make("deploy", &uid, Driver::Systemd);
        pod.is_guarded("selected");
        pod.cgroup.clone()
    };
    let kept = node.lab.path("state/pods.json");
    eventually("it is kept", Duration::from_secs(10), || {
        std::fs::read_to_string(&kept).is_ok_and(|kept| kept.contains(&uid)).then_some(())
    });
    node.api.kill();
    node.api_is(false);
    let pod = Pod { node: &node, name: "deploy".to_owned(), cgroup };
    pod.psql(&net, &pg.url(), "SELECT 'while it is away'").ok();
    assert!(recorded_as(&node, "'while it is away'", "ci/deploy (deploy-bot)"));
    // A gateway that has never spoken to the API.
    node.lab.stop().ok();
    pod.psql_once(Some(&net), &pg.url(), "SELECT 'while all is down'").failed();
    node.lab.start();
    pod.is_guarded("selected");
    pod.psql(&net, &pg.url(), "SELECT 'after a restart'").ok();
    pod.psql(&net, &pg.url(), "DROP TABLE target").says(&["42501"]);
    assert!(recorded_as(&node, "'after a restart'", "ci/deploy (deploy-bot)"));
    assert!(!pg.saw("'while all is down'") && !pg.saw("DROP TABLE"));
    // One that nobody could tell of is guarded.
    let stranger = node.make("stranger", "00000000-0000-4000-8000-000000000000", Driver::Cgroupfs);
    stranger.is_guarded("unknown");
}

#[test]
fn n5_a_directory_within_a_pod_is_not_another_pod() {
    let (node, net, pg) = inside("pods-nested");
    node.lab.start();
    node.api_is(true);
    let allowed = node.create("allowed", &json!({ "serviceAccountName": "reader" }), false);
    let pod = node.pod("deploy", &json!({}), Driver::Cgroupfs);
    pod.is_guarded("selected");
    // It makes itself the cgroup of the other, below its own and with the kubelet's whole path.
    let below = format!("{}/{CONTAINER}/kubepods/burstable/pod{allowed}", pod.cgroup);
    let nested = Pod { node: &node, name: "nested".to_owned(), cgroup: below };
    nested.psql(&net, &pg.url(), "SELECT 'nested'").ok();
    assert!(recorded_as(&node, "'nested'", "ci/deploy (deploy-bot)"));
    nested.psql(&net, &pg.url(), "DROP TABLE target").says(&["42501"]);
}

#[test]
fn n6_what_cannot_be_guarded_or_was_guarded_late_says_so() {
    let (node, _net, _pg) = inside("pods-status");
    let class = json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runsc",
        "metadata": { "name": "sandboxed" } });
    node.kubectl(&["create", "-f", "-"], &class.to_string());
    let late = node.pod("late", &json!({}), Driver::Cgroupfs);
    let _began = late.start(None, &["sleep", "60"]);
    eventually("it runs", Duration::from_secs(5), || {
        std::fs::read_to_string(late.directory().join("cgroup.events"))
            .is_ok_and(|events| events.contains("populated 1"))
            .then_some(())
    });
    node.lab.start();
    node.api_is(true);
    assert_eq!(late.is_guarded("selected")["late"], true);
    let sandboxed = node.pod("sandboxed", &json!({ "runtimeClassName": "sandboxed" }), Driver::Systemd);
    eventually("the status says that it cannot be guarded", Duration::from_secs(10), || {
        let why = sandboxed.guard()?["unguardable"].as_str()?.to_owned();
        why.contains("gVisor").then_some(())
    });
    // One that runs elsewhere in the tree, or in none: its kubelet has no cgroup v2.
    node.create("lost", &json!({}), false);
    node.kubectl(
        &["-n", "ci", "patch", "pod", "lost", "--subresource=status", "-p", r#"{"status":{"phase":"Running"}}"#],
        "",
    );
    eventually("the status says that it has no cgroup", Duration::from_secs(10), || {
        (node.status()["missing"] == json!(["ci/lost"])).then_some(())
    });
}

#[test]
fn n6_a_unit_that_a_selector_matches_is_guarded_each_time_it_starts() {
    let lab = Lab::new("units");
    let pg = Postgres::start(&lab);
    let rules =
        Rules::allowing().policy("policy: units\nmatch: { workload: { unit: \"nightly-*\" } }\ndecide: refuse\n");
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let slice = Slice::new();
    lab.set("guard", &format!("[\"{}\", {{unit: \"nightly-{}*\"}}]", lab.guard().display(), std::process::id()));
    lab.start();
    let psql = |unit: &str, sql: &str| {
        let nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"];
        let mut command = lab.command(&[&nobody[..], &["psql", "-X", "-c", sql, &pg.url()]].concat());
        lab.enter_cgroup(&format!("../{}/{unit}", slice.name()), &mut command);
        Running::start(&mut command).finish(Duration::from_secs(20))
    };
    let (matched, other) = (format!("nightly-{}.service", std::process::id()), "daily.service");
    for round in 0..2 {
        // As systemd does: the directory is new with each start.
        let directory = slice.unit(&matched);
        eventually("the unit is guarded", Duration::from_secs(10), || is_attached(&lab, &directory).then_some(()));
        psql(&matched, &format!("SELECT 'unit {round}'")).failed().says(&["unit"]);
        psql(other, &format!("SELECT 'other {round}'")).ok();
        slice.remove(&matched);
    }
    assert!(!pg.saw("'unit ") && pg.saw("'other 1'"));
    eventually("nothing is pinned for it", Duration::from_secs(10), || (links(&lab) == 1).then_some(()));
}

/// A slice beside systemd's own, with the units that a test makes in it.
struct Slice(PathBuf);

impl Slice {
    fn new() -> Self {
        let hierarchy = holdpoint::workload::Hierarchy::find().expect("cgroup v2 is mounted");
        let slice = Self(hierarchy.root().join(format!("holdpointtest{}.slice", std::process::id())));
        std::fs::create_dir(&slice.0).expect("nobody has that name");
        slice
    }

    fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn unit(&self, name: &str) -> PathBuf {
        let directory = self.0.join(name);
        std::fs::create_dir(&directory).expect("the slice is ours");
        directory
    }

    fn remove(&self, unit: &str) {
        // The last process of it may be an instant away from its end.
        eventually("the unit's cgroup is empty", Duration::from_secs(5), || {
            let removed = std::fs::remove_dir(self.0.join(unit));
            (removed.is_ok() || !self.0.join(unit).exists()).then_some(())
        });
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        for unit in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if unit.path().is_dir() {
                self.remove(&unit.file_name().to_string_lossy());
            }
        }
        let _gone = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_selector_that_cannot_be_used_is_refused_at_the_start() {
    let lab = Lab::new("selectors");
    for (guard, why) in [
        ("[{namespace: ci}]", "nothing is said about Kubernetes"),
        ("[{}]", "every pod"),
        ("[{unit: \"a[\"}]", "no glob"),
        ("[{namespce: ci}]", "namespce"),
    ] {
        lab.set("guard", guard);
        lab.policies(&Rules::allowing().resource(1), &Rules::allowing().policies());
        lab.start_failing().says(&[why]);
    }
}

#[test]
fn figures_of_a_new_pod() {
    let (node, _net, _pg) = inside("pods-figures");
    node.lab.start();
    node.api_is(true);
    let pods: Vec<_> = (0..50).map(|number| node.create(&format!("deploy-{number}"), &json!({}), true)).collect();
    let mut took: Vec<_> = pods
        .iter()
        .map(|uid| {
            let began = Instant::now();
            let pod = node.make("timed", uid, Driver::Cgroupfs);
            let guarded = || is_attached(&node.lab, &pod.directory()).then(|| began.elapsed());
            eventually("it is guarded", Duration::from_secs(10), guarded)
        })
        .collect();
    took.sort_unstable();
    println!("from a pod's cgroup to its guard: p50 {:?}, longest {:?}", took[25], took[49]);
    assert!(took[25] < Duration::from_millis(250), "{took:?}");
}

/// Whether every program is pinned for the cgroup, without asking the gateway.
fn is_attached(lab: &Lab, directory: &Path) -> bool {
    let pinned = |directory: &Path| {
        let id = std::fs::metadata(directory).expect("it is there").ino();
        let links = lab.path("bpf/holdpoint/links").join(id.to_string());
        // Through the gateway's mounts: the pins are in the lab's own.
        let links = format!("/proc/{}/root{}", lab.gateway_pid(), links.display());
        std::fs::read_dir(links).map_or(0, Iterator::count)
    };
    pinned(directory) == pinned(&lab.guard())
}
