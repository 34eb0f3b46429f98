//! Status that is true: health that asks the kernel, damage that is seen and repaired, workloads judged by what they
//! could do, and a probe that finds holes which are there.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use holdpoint::{
    admin::{self, Door, May},
    intercept::deny::{self, TableName},
    net::Namespace,
};
use serde_json::Value;
use tests::{Lab, Net, Outcome, Postgres, Rules, Running, eventually, meddler, never};

/// A lab with a shop whose health is answered over TCP.
fn with_health(name: &str) -> (Lab, Postgres, SocketAddr) {
    let lab = Lab::new(name);
    let pg = Postgres::start(&lab);
    let rules = Rules::allowing().refuse("schema-changes", "schema");
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound");
    lab.set("health", &format!("\"{free}\""));
    lab.start();
    (lab, pg, free)
}

/// What the page says: the status code and the body.
fn page(health: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(health).expect("health is answered");
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: holdpoint\r\nconnection: close\r\n\r\n").expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it ends");
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (code, body)
}

fn health(at: SocketAddr) -> (u16, Value) {
    let (code, body) = page(at, "GET", "/healthz");
    (code, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

fn metric(at: SocketAddr, name: &str) -> u64 {
    let (_, text) = page(at, "GET", "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// The pin of `program` on the guarded cgroup.
fn pin(lab: &Lab, program: &str) -> PathBuf {
    let id = std::os::unix::fs::MetadataExt::ino(&fs::metadata(lab.guard()).expect("it is guarded"));
    lab.path_from_outside(&format!("bpf/holdpoint/links/{id}/{program}"))
}

fn link(lab: &Lab, program: &str) -> OwnedFd {
    meddler::open_pin(&pin(lab, program)).expect("it is pinned")
}

fn rules_map(lab: &Lab) -> OwnedFd {
    meddler::open_pin(&lab.path_from_outside("bpf/holdpoint/maps-2/RULES")).expect("it is pinned")
}

/// `holdpoint status -o json`, whatever its exit code.
fn status(lab: &Lab) -> Value {
    let said = lab.holdpoint(&["status", "-o", "json"]);
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn workload(lab: &Lab, name: &str) -> Value {
    eventually(&format!("{name} runs"), Duration::from_secs(10), || {
        let status = status(lab);
        let found = status["workloads"].as_array()?.iter().find(|one| one["name"] == name)?.clone();
        (found["enforcement"] != "Unknown").then_some(found)
    })
}

/// A guarded process that stays, inside `net` where there is one.
fn resident(lab: &Lab, name: &str, net: Option<&Net>) -> Running {
    let bot = lab.bot(name);
    let bot = if let Some(net) = net { bot.inside(net) } else { bot };
    let running = bot.start(&["sleep", "600"]);
    eventually("it is there", Duration::from_secs(10), || (!lab.guarded("sleep").is_empty()).then_some(()));
    running
}

fn probe(lab: &Lab, workload: &str) -> (Outcome, Vec<Value>) {
    let config = lab.config().display().to_string();
    let said = lab.holdpoint(&["doctor", "--config", &config, "--probe", workload, "-o", "json"]);
    let tried = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (said, tried)
}

fn seen(tried: &[Value], path: &str) -> String {
    let found = tried.iter().find(|one| one["path"] == path).unwrap_or_else(|| panic!("no {path} in {tried:?}"));
    found["seen"].as_str().expect("a word").to_owned()
}

fn direct(tried: &[Value]) -> Vec<&str> {
    tried.iter().filter(|one| one["seen"] == "DIRECT").filter_map(|one| one["path"].as_str()).collect()
}

// ---- Health

#[test]
fn v18_health_is_green_when_the_kernel_says_so_and_metrics_count() {
    let (lab, pg, at) = with_health("green");
    lab.bot("ci").psql(&pg.url(), "SELECT 1").ok();
    assert_eq!(page(at, "GET", "/livez"), (200, "alive\n".to_owned()));
    assert_eq!(page(at, "GET", "/readyz").0, 200);
    let (code, body) = health(at);
    assert_eq!((code, &body["healthy"], &body["problems"]), (200, &Value::Bool(true), &serde_json::json!([])));
    assert_eq!((metric(at, "holdpoint_healthy"), metric(at, "holdpoint_guarded_cgroups")), (1, 1));
    assert_eq!(metric(at, "holdpoint_repairs_total{kind=\"link\"}"), 0);
    let before = metric(at, "holdpoint_record_entries_total");
    let udp = format!("exec 3<>/dev/udp/127.0.0.1/{}; echo x >&3", pg.port());
    lab.bot("ci").run(&["bash", "-c", &udp]).failed();
    lab.bot("ci").psql(&pg.url(), "SELECT 2").ok();
    assert!(metric(at, "holdpoint_record_entries_total") > before);
    assert_eq!(metric(at, "holdpoint_refused_total{reason=\"not_tcp\"}"), 1);
    let mut open = lab.bot("ci").start_script(&pg.url());
    open.write("SELECT 'open';\n");
    open.wait_for_stdout("open", Duration::from_secs(10));
    eventually("one connection is open", Duration::from_secs(5), || {
        (metric(at, "holdpoint_connections_open") == 1).then_some(())
    });
}

#[test]
fn v7_nothing_but_health_is_answered_over_tcp_and_root_alone_tries_the_guard() {
    let (lab, _pg, at) = with_health("routes");
    for (path, may, doors) in admin::paths() {
        let path = path
            .replace("{request}", "abcd")
            .replace("{grant}", "abcd")
            .replace("{port}", "1")
            .replace("{code}", "abcd");
        for method in ["GET", "POST", "DELETE"] {
            let (code, body) = page(at, method, &path);
            match (may, method) {
                _ if !doors.contains(&Door::Health) => {
                    assert_eq!(code, 404, "{method} {path} is answered over TCP: {body}");
                }
                (May::Anybody, "GET") => assert_eq!(code, 200, "{path}: {body}"),
                (May::Anybody, _) => assert_eq!(code, 405, "{method} {path}: {body}"),
                (may, _) => panic!("{path} is for {may:?} and answered over TCP"),
            }
        }
    }
    let body = "{\"port\":1,\"pid\":1}";
    let socket = lab.path("run/holdpoint.sock").display().to_string();
    let ask = |user: &str| {
        let url = "http://holdpoint/api/v1/probe";
        let curl = ["curl", "-s", "--unix-socket", &socket, "-H", "content-type: application/json", "-d", body, url];
        let (user_id, group) = (format!("--reuid={user}"), "--clear-groups");
        lab.run(&[&["setpriv", &user_id, group, "--"][..], &curl].concat())
    };
    ask("nobody").ok().says(&["not allowed"]);
    ask("root").ok().hides("not allowed");
}

#[test]
fn a_port_for_health_that_is_taken_is_said_and_nothing_starts() {
    let lab = Lab::new("taken");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    lab.policies(&Rules::allowing().resource(1), "");
    lab.set("health", &format!("\"{}\"", taken.local_addr().expect("bound")));
    lab.start_failing().says(&["set `health:` to an address of this machine"]);
}

// ---- Damage

/// Does `damage`, and wants health red within two seconds, `kind` counted as repaired, and the guard whole again.
#[track_caller]
fn is_seen_and_repaired(lab: &Lab, pg: &Postgres, at: SocketAddr, kind: &str, damage: impl FnOnce()) {
    let counter = format!("holdpoint_repairs_total{{kind=\"{kind}\"}}");
    eventually("health is green", Duration::from_secs(20), || (health(at).0 == 200).then_some(()));
    let before = metric(at, &counter);
    let done = Instant::now();
    damage();
    let body = eventually("health is red", Duration::from_secs(2), || {
        let (code, body) = health(at);
        (code == 503).then_some(body)
    });
    println!("{kind}: red after {:?}: {body}", done.elapsed());
    eventually("it is repaired", Duration::from_secs(5), || (metric(at, &counter) > before).then_some(()));
    println!("{kind}: repaired after {:?}", done.elapsed());
    // Repaired, and red still: whoever asks every ten seconds sees it.
    let (code, body) = health(at);
    assert_eq!((code, &body["recent_damage"]["unrepaired"]), (503, &Value::Null), "{body}");
    assert_eq!(page(at, "GET", "/readyz").0, 200, "ready as soon as it is whole");
    let status = status(lab);
    assert_eq!((&status["healthy"], &status["problems"]), (&Value::Bool(true), &serde_json::json!([])));
    lab.bot("ci").psql(&pg.url(), "DROP TABLE target").failed().says(&["42501"]);
    assert!(!pg.saw("DROP TABLE"));
}

#[test]
fn n6_a_link_that_is_detached_is_attached_again() {
    let (lab, pg, at) = with_health("detached");
    // The mechanism off: without repair this connects directly, as it does between the damage and the next look.
    is_seen_and_repaired(&lab, &pg, at, "link", || meddler::detach(&link(&lab, "connect4")).expect("root may"));
    lab.holdpoint(&["status"]).ok().says(&["repairs since the start: 1", "connect4", "was detached: repaired"]);
    assert!(lab.gateway_log().contains("damaged and repaired"));
}

#[test]
fn n6_a_program_that_is_exchanged_is_put_back() {
    let (lab, pg, at) = with_health("exchanged");
    let idle = meddler::rewriting(1, 1).expect("the kernel takes it");
    is_seen_and_repaired(&lab, &pg, at, "program", || {
        meddler::exchange(&link(&lab, "connect4"), &idle).expect("root may");
    });
}

#[test]
fn n6_pins_that_are_removed_are_made_again_and_the_guard_outlives_the_gateway() {
    let (lab, pg, at) = with_health("unpinned");
    is_seen_and_repaired(&lab, &pg, at, "pin", || fs::remove_file(pin(&lab, "connect4")).expect("root may"));
    is_seen_and_repaired(&lab, &pg, at, "pin", || {
        fs::remove_dir_all(lab.path_from_outside("bpf/holdpoint")).expect("root may");
    });
    lab.kill();
    // The pins are what is left of the gateway now.
    lab.bot("ci").psql(&pg.url(), "SELECT 'while dead'").failed();
    assert!(!pg.saw("while dead"));
    lab.start();
    lab.bot("ci").psql(&pg.url(), "SELECT 'alive again'").ok();
}

#[test]
fn n6_a_rule_table_that_is_taken_away_is_put_back_and_cannot_be_changed() {
    let (lab, pg, at) = with_health("rules");
    let table = meddler::slot(&rules_map(&lab)).expect("rules are in force");
    let refused = meddler::remove_first(&table, 24).expect_err("the table is frozen");
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EPERM), "{refused}");
    is_seen_and_repaired(&lab, &pg, at, "rules", || meddler::empty_slot(&rules_map(&lab)).expect("root may"));
}

#[test]
fn n6_a_guarded_cgroup_that_is_removed_is_made_and_guarded_again() {
    let (lab, pg, at) = with_health("guard-gone");
    is_seen_and_repaired(&lab, &pg, at, "guard", || {
        eventually("it is empty", Duration::from_secs(5), || fs::remove_dir(lab.guard()).ok());
    });
    assert_eq!(metric(at, "holdpoint_guarded_cgroups"), 1);
}

#[test]
fn n6_a_deny_that_is_flushed_turns_health_red() {
    let (lab, pg, at) = with_health("flushed");
    let net = Net::make();
    let _resident = resident(&lab, "pod", Some(&net));
    let namespace = Namespace::open(&net.path()).expect("the namespace is held");
    let table = TableName::of(&lab.path("bpf/holdpoint"));
    eventually("it is denied", Duration::from_secs(10), || deny::is_installed(&namespace, &table).ok()?.then_some(()));
    is_seen_and_repaired(&lab, &pg, at, "deny", || {
        assert!(deny::remove(&namespace, &table).expect("nftables answers"), "it was there");
    });
}

// ---- Other programs

/// The backend at a service's address, which nobody listens on: what a balancer makes the backend's.
fn service(pg: &Postgres, url: &str) -> (u16, String) {
    let port = 1;
    (port, format!("{}?connect_timeout=3", url.replace(&format!(":{}", pg.port()), &format!(":{port}"))))
}

#[test]
fn n6_another_program_that_rewrites_what_the_gateways_lets_pass() {
    let lab = Lab::new("other-after");
    let net = Net::make();
    let pg = Postgres::start_inside(&lab, &net);
    let rules = Rules::allowing();
    lab.policies(&rules.resource(9), "");
    lab.start();
    let config = lab.config().display().to_string();
    let doctor = || lab.holdpoint(&["doctor", "--config", &config]);
    doctor().says(&["none beside the gateway's"]);
    let (port, url) = service(&pg, &pg.url());
    let balancer = meddler::rewriting(port, pg.port()).expect("the kernel takes it");
    let _after = meddler::attach_connect4(&balancer, &lab.guard()).expect("root may");
    doctor().says(&["rewriter", "runs after the gateway's"]);
    let bot = lab.bot("pod").inside(&net);
    // Nothing names the backend, nor the service: it goes direct.
    bot.psql(&url, "SELECT 'ungoverned'").ok();
    assert!(pg.saw("'ungoverned'"));
    // With the backend named, the hooks let the service's address pass still; the deny drops what it becomes.
    lab.policies(&rules.resource(pg.port()), "");
    eventually("the backend is governed", Duration::from_secs(10), || {
        (lab.record().forwarded("'named'") + usize::from(bot.psql(&pg.url(), "SELECT 'named'").status.success()) > 1)
            .then_some(())
    });
    bot.psql(&url, "SELECT 'round'").failed().says(&["timeout"]);
    // With the service named, it is the gateway's: the other never sees its address.
    let both = rules.resource(pg.port()).replace("endpoints: [", &format!("endpoints: [\"127.0.0.1:{port}\", "));
    lab.policies(&both, "");
    eventually("the service is governed", Duration::from_secs(10), || {
        bot.psql(&url, "SELECT 'service'").stderr.contains("cannot be reached").then_some(())
    });
    assert!(!pg.saw("'round'") && !pg.saw("'service'"));
}

#[test]
fn n6_another_program_that_rewrites_before_the_gateways_sees() {
    let (lab, pg, _at) = with_health("other-before");
    let (port, url) = service(&pg, &pg.url());
    let balancer = meddler::rewriting(port, pg.port()).expect("the kernel takes it");
    // On a cgroup below the guarded one, whose programs run first.
    let below = lab.guard().join("below");
    fs::create_dir(&below).expect("the cgroup is ours");
    let first = meddler::attach_connect4(&balancer, &below).expect("root may");
    let bpffs = lab.path_from_outside("bpf/holdpoint");
    let order = holdpoint::intercept::trial::order(&bpffs, &below).expect("root may ask");
    let connect4 = &order.iter().find(|(hook, _)| *hook == "connect4").expect("it is asked").1;
    assert_eq!(connect4.iter().map(|one| one.ours).collect::<Vec<_>>(), [false, true], "{connect4:?}");
    let mut command = lab.command(&["psql", "-X", "-c", "SELECT 'before'", &url]);
    let procs = below.join("cgroup.procs");
    // SAFETY: between fork and exec one file is written.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, move || fs::write(&procs, "0"));
    }
    Running::start(&mut command).finish(Duration::from_secs(20)).ok();
    assert_eq!(lab.record().forwarded("'before'"), 1, "what it makes of the address is what the rules see");
    drop(first);
    fs::remove_dir(&below).expect("nobody is in it");
}

// ---- Workloads

#[test]
fn each_workload_is_what_it_could_do() {
    let lab = Lab::new("workloads");
    lab.policies(&Rules::allowing().resource(1), "");
    lab.start();
    let net = Net::make();
    let _alone = resident(&lab, "alone", Some(&net));
    let alone = workload(&lab, "alone");
    assert_eq!(
        (alone["enforcement"].as_str(), &alone["reasons"]),
        (Some("Guarded"), &serde_json::json!([])),
        "{alone}"
    );
    let _shared = resident(&lab, "shared", None);
    let shared = workload(&lab, "shared");
    assert_eq!(shared["enforcement"], "Bypassable", "{shared}");
    assert!(shared["reasons"].to_string().contains("shares the gateway's own network namespace"), "{shared}");
    // Root in a namespace of its own: the same place, with rights.
    let config = lab.config().display().to_string();
    let mut command =
        lab.command(&[&lab.tool("holdpoint"), "exec", "--as", "root", "--config", &config, "--", "sleep", "600"]);
    net.enter(&mut command);
    let _root = Running::start(&mut command);
    let root = workload(&lab, "root");
    assert_eq!(root["enforcement"], "Bypassable", "{root}");
    assert!(root["reasons"].to_string().contains("CAP_NET_RAW"), "{root}");
    lab.holdpoint(&["status"]).ok().says(&["workload alone", ": Guarded", "workload shared", ": Bypassable"]);
}

// ---- Doctor

#[test]
fn doctor_checks_a_machine_with_and_without_a_gateway() {
    let lab = Lab::new("doctor");
    let rules = Rules::allowing().hold_for("deletes", "delete", "from: [{ user: nobody-of-this-name }], timeout: 30s");
    lab.policies(&rules.resource(1), &rules.policies());
    let config = lab.config().display().to_string();
    let doctor = || lab.holdpoint(&["doctor", "--config", &config]);
    let words = [
        "kernel: Linux",
        "cgroup v2: mounted",
        "programs outlive a killed gateway",
        "were loaded, and attached",
        "ok    nftables",
        "CAP_SYS_PTRACE",
        "GiB free",
        "fdatasync",
        "the user nobody-of-this-name",
        "0 failed",
    ];
    doctor().ok().says(&words).says(&["no gateway answers"]);
    lab.start();
    doctor().ok().says(&words).says(&["ok    gateway: healthy", "none beside the gateway's"]);
    lab.holdpoint(&["doctor", "--config", &config, "-o", "json"]).ok().says(&["\"outcome\": \"warn\""]);
    lab.stop().ok();
    lab.policies("resource: broken", "");
    doctor().failed().says(&["FAIL  policies", "1 failed"]);
}

// ---- Probe

#[test]
fn n1_n5_the_probe_finds_no_way_round_in_a_namespace_of_its_own() {
    let (lab, pg, _at) = with_health("probe-own");
    let net = Net::make();
    let _resident = resident(&lab, "pod", Some(&net));
    workload(&lab, "pod");
    let (said, tried) = probe(&lab, "pod");
    for one in &tried {
        println!("{one}");
    }
    assert_eq!(direct(&tried), [""; 0], "{said}");
    said.ok();
    for path in
        ["TCP over IPv4", "TCP over IPv6", "TCP, IPv4-mapped address", "TCP, MSG_FASTOPEN", "TCP, io_uring", "MPTCP"]
    {
        assert_eq!(seen(&tried, path), "intercepted", "{path}");
    }
    for path in [
        "UDP, sendto over IPv4",
        "UDP, sendto a mapped address",
        "UNIX socket of a container runtime",
        "socket made outside and handed in",
        "process moved out of the cgroup",
        "connection from before",
    ] {
        assert_eq!(seen(&tried, path), "refused", "{path}");
    }
    // The trial is over, and the policies' own rules are in force as before.
    never("the trial goes on", Duration::from_millis(300), || lab.gateway_log().contains("cannot end").then_some(()));
    lab.bot("ci").psql(&pg.url(), "DROP TABLE target").failed().says(&["42501"]);
    // Everything of it is in the record, as connections that no resource is at.
    assert!(lab.record().events().any(|event| event.contains("no resource")), "the record says nothing");
}

#[test]
fn n1_n5_the_probe_finds_the_holes_of_a_shared_namespace() {
    let (lab, _pg, _at) = with_health("probe-shared");
    let _resident = resident(&lab, "host", None);
    workload(&lab, "host");
    let (said, tried) = probe(&lab, "host");
    assert_eq!(direct(&tried), ["socket made outside and handed in", "process moved out of the cgroup"], "{said}");
    said.failed();
    let config = lab.config().display().to_string();
    let pid = lab.guarded("sleep")[0].to_string();
    lab.holdpoint(&["doctor", "--config", &config, "--probe", &pid]).failed().says(&[
        "DIRECT",
        "2 paths go round the gateway",
        "give it one of its own",
    ]);
}

#[test]
fn n1_n5_the_probe_finds_a_hook_that_is_detached_and_rights_that_pass_the_deny_by() {
    let (lab, _pg, _at) = with_health("probe-detached");
    let _resident = resident(&lab, "host", None);
    workload(&lab, "host");
    // As fast as the gateway attaches it again.
    let done = AtomicBool::new(false);
    let caught = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Ok(link) = meddler::open_pin(&pin(&lab, "connect6")) {
                    let _already = meddler::detach(&link);
                }
                std::thread::yield_now();
            }
        });
        // Between two detachments there is an instant in which it is whole.
        let caught =
            || (0..10).map(|_| probe(&lab, "host")).find(|(_, tried)| seen(tried, "TCP over IPv6") == "DIRECT");
        let probed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(caught));
        done.store(true, Ordering::Relaxed);
        probed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let (said, tried) = caught.expect("the probe finds the hook that is detached");
    assert_eq!(seen(&tried, "TCP over IPv4"), "intercepted");
    said.failed();
    eventually("it is repaired", Duration::from_secs(5), || {
        (status(&lab)["problems"] == serde_json::json!([])).then_some(())
    });
    // And root in a namespace of its own: packet sockets pass the deny by.
    let net = Net::make();
    let config = lab.config().display().to_string();
    let mut command =
        lab.command(&[&lab.tool("holdpoint"), "exec", "--as", "root", "--config", &config, "--", "sleep", "600"]);
    net.enter(&mut command);
    let _root = Running::start(&mut command);
    workload(&lab, "root");
    let (_, tried) = probe(&lab, "root");
    assert_eq!(direct(&tried), ["packet socket"]);
}
