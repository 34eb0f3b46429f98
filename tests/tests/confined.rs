//! The gateway as `deploy/` starts it: with the manifest's capabilities and no others, in a cgroup namespace of its own, as
//! container runtimes give to a container without privilege.
//!
//! The other suites run it with all that root has. What is tried here is that the few are enough, and that each is needed.

use std::time::Duration;

use serde_json::Value;
use tests::{Lab, Net, Outcome, Postgres, Rules, Running, eventually, forger, meddler};

/// Everything that needs a capability: programs and pins, the deny in another namespace and listeners there, dialling from
/// there, who the bot is, and that a bot is told from a person.
#[test]
fn the_manifests_capabilities_are_enough() {
    let (lab, net, pg) = shop("confined");
    lab.confine(&capabilities());
    lab.start();
    lab.bot("pod").inside(&net).psql(&pg.url(), "SELECT 'served inside'").ok();
    assert!(pg.saw("'served inside'"));
    // No socket that the gateway has not made gets out.
    handed_in(&lab, &net, pg.port()).failed().says(&["timed out"]);

    // A guarded process approves nothing, although it is root, whom the rule names. It would where the gateway takes its
    // cgroup for another one.
    let psql = lab.bot("pod").inside(&net).start_psql(&pg.url(), "DROP TABLE target");
    let request = lab.held();
    let (holdpoint, config) = (lab.tool("holdpoint"), lab.config().display().to_string());
    let guarded = [holdpoint.as_str(), "exec", "--as", "pod", "--config", &config, "--"];
    let approve = [holdpoint.as_str(), "approvals", "approve", &request.id];
    lab.run(&[&guarded[..], &approve].concat()).failed().says(&["outside guarded workloads"]);
    lab.approve(&request).ok();
    psql.finish(Duration::from_secs(10)).ok();
    lab.verify();
    let doctor = ["doctor", "--config", &config];
    lab.holdpoint(&doctor).says(&["ok    capabilities: the gateway has CAP_NET_ADMIN", "ok    gateway: healthy"]);
    lab.stop().ok();
}

/// The programs on the host's side of veths: put there, and put back when somebody has taken them away.
#[test]
fn the_manifests_capabilities_are_enough_for_the_hosts_side_of_veths() {
    let lab = Lab::new("confined-veth");
    let (net, ends) = Net::joined();
    let pg = Postgres::start(&lab);
    let port = forger::forwarder(ends.outside, pg.port());
    let outside = ends.outside.to_string();
    let rules = Rules::allowing();
    let resource = rules.resource(port).replace("127.0.0.1", &outside).replace("[::1]", "[fd00::1]");
    lab.policies(&resource, &rules.policies());
    lab.confine(&capabilities());
    lab.start();
    let url = format!("postgresql://app@{outside}:{port}/shop");
    // Somebody stays inside, or there would be nothing to guard.
    let bot = lab.bot("pod").inside(&net);
    let mut stays = bot.start_script(&url);
    stays.write("SELECT 'served over the veth';\n");
    stays.wait_for_stdout("served over the veth", Duration::from_secs(20));
    let interface = std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", ends.interface));
    let interface = interface.expect("the interface is there").trim().to_owned();
    let pin = lab.path_from_outside(&format!("bpf/holdpoint/veths/{interface}"));
    eventually("the veth is watched", Duration::from_secs(10), || pin.exists().then_some(()));
    assert_eq!(forger::by_hand(&lab, &net, &ends, port), "silence");

    let before = lab.gateway_log().len();
    meddler::detach(&meddler::open_pin(&pin).expect("it is pinned")).expect("root may");
    eventually("the damage is seen", Duration::from_secs(10), || {
        lab.gateway_log()[before..].contains("damaged and repaired").then_some(())
    });
    assert_eq!(forger::by_hand(&lab, &net, &ends, port), "silence");
    // Without a gateway that puts it back, that is a way out.
    lab.kill();
    meddler::detach(&meddler::open_pin(&pin).expect("it is pinned again")).expect("root may");
    assert_eq!(forger::by_hand(&lab, &net, &ends, port), "answered");
}

/// Without one of them the gateway does not start: it never runs and guards less.
#[test]
fn each_of_the_manifests_capabilities_is_needed() {
    let capabilities = capabilities();
    assert!(!capabilities.is_empty());
    for missing in &capabilities {
        let (lab, _net, _pg) = shop("confined-less");
        lab.confine(&capabilities.iter().filter(|one| *one != missing).cloned().collect::<Vec<_>>());
        let outcome = lab.start_failing();
        println!("without {missing}: {}", outcome.stderr.trim());
    }
}

/// What the DaemonSet adds, in util-linux' words: `sys_admin`.
fn capabilities() -> Vec<String> {
    let manifest = include_str!("../../deploy/kustomize/base/daemonset.yaml");
    let manifest: Value = serde_saphyr::from_str(manifest).expect("the manifest is YAML");
    let container = &manifest["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
    let added = container["capabilities"]["add"].as_array().expect("the manifest adds capabilities");
    added.iter().map(|name| name.as_str().expect("a name").to_lowercase()).collect()
}

/// A lab whose database shares a namespace of its own with the bots.
fn shop(name: &str) -> (Lab, Net, Postgres) {
    let lab = Lab::new(name);
    let net = Net::make();
    let pg = Postgres::start_inside(&lab, &net);
    let rules = Rules::allowing().hold("schema-changes", "schema");
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    (lab, net, pg)
}

/// Connects to `port` from inside with a socket that was made outside the guard.
fn handed_in(lab: &Lab, net: &Net, port: u16) -> Outcome {
    let config = lab.config().display().to_string();
    let guarded = "import socket,sys\ns=socket.socket(fileno=int(sys.argv[1]))\ns.settimeout(2)\n\
        s.connect(('127.0.0.1',int(sys.argv[2])))\n";
    let outside = "import os,socket,sys\ns=socket.socket()\nos.set_inheritable(s.fileno(),True)\n\
        os.execvp(sys.argv[1],sys.argv[1:5]+['--as','thief','--','python3','-c',sys.argv[5],str(s.fileno()),sys.argv[6]])";
    let (port, holdpoint) = (port.to_string(), lab.tool("holdpoint"));
    let mut command = lab.command(&["python3", "-c", outside, &holdpoint, "exec", "--config", &config, guarded, &port]);
    net.enter(&mut command);
    Running::start(&mut command).finish(Duration::from_secs(20))
}
