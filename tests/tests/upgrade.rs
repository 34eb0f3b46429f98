//! Restart, `kill -9` and upgrade under load: nothing goes direct, and hardly anybody is refused.
//!
//! The load runs in the host's network namespace and in one of its own, against destinations that tell who came past the
//! gateway. `HOLDPOINT_RATE` is how many connects a second each of the two offers.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
    time::{Duration, Instant},
};

use holdpoint::{
    intercept::deny::{self, TableName},
    net::Namespace,
};
use tests::{Gateway, Lab, Load, Net, Rules, Seen, Witness, eventually};

/// Two loads and what they are aimed at.
struct World {
    loads: [(&'static str, Load); 2],
    witness: Witness,
    net: Net,
    lab: Lab,
}

impl World {
    fn start(name: &str) -> Self {
        let rate =
            std::env::var("HOLDPOINT_RATE").map_or(5000, |rate| rate.parse().expect("HOLDPOINT_RATE is a number"));
        let (lab, net, witness) = (Lab::new(name), Net::make(), Witness::default());
        let ports = [witness.listen("host", None, 0), witness.listen("pod", Some(&net), 0)];
        let resource = format!(
            "resource: shop\nprotocol: postgres\npostgres: {{ classify: text }}\nendpoints: [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\ndefault: allow\n\
             approval: {{ from: [{{ user: root }}], timeout: 30s }}\n",
            ports[0], ports[1]
        );
        lab.policies(&resource, "");
        lab.start();
        let host = Load::start(&lab, &lab.bot("host"), "host", ports[0], 4, rate);
        let pod = Load::start(&lab, &lab.bot("pod").inside(&net), "pod", ports[1], 4, rate);
        let mut world = Self { loads: [("host", host), ("pod", pod)], witness, net, lab };
        world.settle("warming up");
        world
    }

    /// Waits until both loads are answered, whatever came before; says what they saw until then.
    fn settle(&mut self, what: &str) -> Vec<Seen> {
        let mut all = Vec::new();
        for (place, load) in &mut self.loads {
            // Asked once, so that a stretch is not cut in two: an answer counts its own connection's.
            let before = self.witness.proxied();
            eventually(&format!("{place} is served"), Duration::from_secs(20), || {
                (self.witness.proxied() >= before + 50).then_some(())
            });
            let seen = load.seen();
            eprintln!(
                "{what:<12} {place}: {:.0} connects/s offered, {} connected, {} answered, {} refused ({:?}), {} cut; \
                 longest: refused {:.0} ms, connect {:.0} ms, answer {:.0} ms",
                seen.offered(),
                seen.connected,
                seen.answered,
                seen.refused,
                seen.why,
                seen.cut.values().sum::<u64>(),
                seen.longest_refused_ms,
                seen.longest_connect_ms,
                seen.longest_answer_ms
            );
            all.push(seen);
        }
        all
    }

    fn pause(&self, span: Duration) {
        tests::never("somebody went past the gateway", span, || {
            let direct = self.witness.direct();
            (direct > 0).then_some(direct)
        });
    }
}

#[test]
fn n7_restart_kill_and_upgrade_under_load_let_nothing_past() {
    let mut world = World::start("upgrade");
    world.pause(Duration::from_secs(2));
    world.settle("steady");
    for _ in 0..2 {
        let began = Instant::now();
        world.lab.stop().ok();
        let stopped = began.elapsed();
        world.lab.start();
        eprintln!("restart: stopped after {stopped:?}, ready after {:?}", began.elapsed());
        check(&world.settle("restart"));
        let began = Instant::now();
        world.lab.kill();
        world.lab.start();
        eprintln!("kill: ready after {:?}", began.elapsed());
        check(&world.settle("kill -9"));
        let began = Instant::now();
        world.lab.upgrade();
        eprintln!("upgrade: ready after {:?}", began.elapsed());
        for seen in world.settle("upgrade") {
            assert_eq!(seen.refused, 0, "{seen:?}");
            assert!(seen.connected > 0 && seen.answered > 0, "{seen:?}");
        }
    }
    assert_eq!(world.witness.direct(), 0);

    // The mechanism off: what the counter counts.
    world.lab.kill();
    let links = world.lab.path("bpf/holdpoint/links").display().to_string();
    world.lab.run(&["find", &links, "-type", "f", "-delete"]).ok();
    let table = TableName::of(&world.lab.path("bpf/holdpoint"));
    for namespace in [Namespace::Own, Namespace::open(&world.net.path()).expect("the namespace is held")] {
        assert!(deny::remove(&namespace, &table).expect("nftables answers"));
    }
    eventually("unguarded clients go direct", Duration::from_secs(10), || (world.witness.direct() > 100).then_some(()));
}

fn check(seen: &[Seen]) {
    for seen in seen {
        assert!(seen.longest_refused_ms <= 1000.0, "{seen:?}");
        assert!(seen.connected > 0 && seen.answered > 0, "{seen:?}");
    }
}

#[test]
fn n7_a_handover_lets_operations_end_and_refuses_what_is_held() {
    let rules = Rules::allowing().hold("schema-changes", "schema");
    let (lab, pg) = Lab::with_shop("handover", &rules);
    let held = lab.bot("held").start_psql(&pg.url(), "DROP TABLE target");
    held.wait_for_stderr("held for approval", Duration::from_secs(20));
    let mut idle = lab.bot("idle").start_script(&pg.url());
    idle.write("SELECT 'idle before';\n");
    idle.wait_for_stdout("idle before", Duration::from_secs(20));
    let busy = lab.bot("busy").start_psql(&pg.url(), "SELECT pg_sleep(1.5), 'busy to the end'");
    eventually("the operation runs", Duration::from_secs(20), || pg.saw("busy to the end").then_some(()));

    let old = lab.gateway_pid();
    // Somebody connects while the old gateway lets the operation end: he waits, and is served.
    let (refused, early) = std::thread::scope(|scope| {
        let early = scope.spawn(|| {
            let refused = held.finish(Duration::from_secs(20));
            (refused, lab.bot("early").psql(&pg.url(), "SELECT 'in between'"))
        });
        lab.upgrade();
        early.join().expect("psql was run")
    });
    assert_ne!(old, lab.gateway_pid());
    early.ok();
    busy.finish(Duration::from_secs(20)).ok().says(&["busy to the end"]);
    refused.failed().says(&["42501", "stopping"]);
    idle.write("SELECT 'idle after';\n");
    idle.finish(Duration::from_secs(20)).hides("idle after\n");
    assert!(!pg.saw("DROP TABLE target"));
    let record = lab.record();
    assert_eq!((record.forwarded("busy to the end"), record.forwarded("in between")), (1, 1));
    assert_eq!(record.refused("DROP TABLE target"), 1);
    assert_eq!(record.of("started", "").len(), 2);
    lab.bot("ci").psql(&pg.url(), "SELECT 'afterwards'").ok();
    lab.verify();
    lab.stop().ok();
}

/// What a DaemonSet with a surge does to a node: the next pod's gateway takes over, and the one before stays in its container,
/// which would be started again if it ended.
#[test]
fn n7_a_pod_that_has_handed_over_stays_and_takes_nothing_back() {
    let lab = Lab::new("surge");
    let (net, witness) = (Net::make(), Witness::default());
    let port = witness.listen("pod", Some(&net), 0);
    lab.policies(
        &format!(
            "resource: shop\nprotocol: postgres\npostgres: {{ classify: text }}\nendpoints: [\"127.0.0.1:{port}\"]\ndefault: allow\n\
        approval: {{ from: [{{ user: root }}], timeout: 30s }}\n"
        ),
        "",
    );
    // Both pods are in the host's network: there is one port for health.
    let health = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("it is bound");
    lab.set("health", &format!("\"{health}\""));
    let probe = |pod: &str| {
        let (holdpoint, config) = (lab.tool("holdpoint"), lab.config().display().to_string());
        let mut command = lab.command(&[&holdpoint, "ready", "--config", &config]);
        lab.enter_cgroup(pod, &mut command);
        tests::Running::start(&mut command).finish(Duration::from_secs(20))
    };
    let served = |what: &str| {
        let before = witness.proxied();
        eventually(what, Duration::from_secs(20), || (witness.proxied() > before + 20).then_some(()));
    };
    let mut old = Gateway::start_in_pod(&lab, "one");
    probe("one").ok();
    probe("two").failed().says(&["not the one in this cgroup"]);
    let mut load = Load::start(&lab, &lab.bot("pod").inside(&net), "pod", port, 2, 500);
    served("the pod is served");
    load.seen();

    let new = Gateway::start_in_pod(&lab, "two");
    probe("two").ok();
    probe("one").failed().says(&["not the one in this cgroup"]);
    served("the pod is served by the new gateway");
    let seen = load.seen();
    eprintln!("handover between pods: {seen:?}");
    assert_eq!((seen.refused, witness.direct()), (0, 0), "{seen:?}");
    let mut page = std::net::TcpStream::connect(health).expect("the new gateway answers at the port of the old one");
    std::io::Write::write_all(&mut page, b"GET /livez HTTP/1.0\r\n\r\n").expect("it is open");
    assert!(std::io::read_to_string(&mut page).expect("it ends").contains("200 OK"));
    // What has stayed holds nothing of the gateway that it was, and is none when it is the only one.
    assert!(old.lives());
    let open = fs::read_dir(format!("/proc/{}/fd", old.pid())).expect("it lives").count();
    assert_eq!(open, 3, "it has more open than its three streams");
    drop(new);
    probe("one").failed();
    probe("two").failed();
    let before = witness.proxied() + 10;
    tests::never("somebody is served by nobody", Duration::from_secs(1), || {
        let now = witness.proxied();
        (now > before).then_some(now)
    });
    // The container of the second one is started again; the first one's is told to end, some time.
    let again = Gateway::start_in_pod(&lab, "two");
    served("the pod is served by the gateway that was started again");
    assert!(old.lives());
    old.stop().ok();
    probe("two").ok();
    assert_eq!(witness.direct(), 0);
    drop(load);
    *lab.gateway() = Some(again);
    lab.stop().ok();
    lab.verify();
}

#[test]
fn n7_a_gateway_that_cannot_start_leaves_the_running_one_alone() {
    let (lab, pg) = Lab::with_shop("stays", &Rules::allowing());
    let first = lab.gateway().take().expect("it runs");
    let good = fs::read_to_string(lab.path("policies/resource.yaml")).expect("the lab wrote it");
    // A new version's first look at its policies and settings comes before it says a word.
    lab.policies(&good.replace("default: allow", "default: perhaps"), "");
    lab.start_failing().says(&["default"]);
    lab.policies(&good, "");
    lab.set("remind", "soon");
    lab.start_failing().says(&["remind"]);
    lab.set("remind", "15s");
    // One with another state directory is another gateway.
    lab.set("state", &format!("\"{}\"", lab.path("state2").display()));
    lab.start_failing().says(&["already serves"]);
    lab.set("state", &format!("\"{}\"", lab.path("state").display()));
    // And somebody who asks and then says nothing more.
    let asked =
        Command::new("python3").args(["-c", HALF, &lab.path("run/handover.sock").display().to_string()]).output();
    assert!(asked.expect("python3 is installed").status.success());
    *lab.gateway() = Some(first);
    lab.bot("ci").psql(&pg.url(), "SELECT 'undisturbed'").ok();
    assert_eq!(lab.record().forwarded("undisturbed"), 1);
    // Nor does anybody but root get as far as asking.
    let asked = lab.run(&[
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "--",
        "/usr/bin/python3",
        "-c",
        HALF,
        &lab.path("run/handover.sock").display().to_string(),
    ]);
    asked.failed().says(&["PermissionError"]);
    lab.upgrade();
    lab.bot("ci").psql(&pg.url(), "SELECT 'by the next one'").ok();
}

/// Asks for the listeners in the right words and of the wrong gateway.
const HALF: &str = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.settimeout(10)\ns.connect(sys.argv[1])\n\
    s.sendall(b'HOLDPT\\0\\1'+bytes(32))\nassert s.recv(1)==b'!'\n";

#[test]
fn n7_listeners_that_the_service_manager_kept_are_taken_up() {
    let lab = Lab::new("kept");
    let (net, witness) = (Net::make(), Witness::default());
    let port = witness.listen("pod", Some(&net), 0);
    let resource = format!(
        "resource: shop\nprotocol: postgres\npostgres: {{ classify: text }}\nendpoints: [\"127.0.0.1:{port}\"]\ndefault: allow\n\
        approval: {{ from: [{{ user: root }}], timeout: 30s }}\n"
    );
    lab.policies(&resource, "");
    let manager = Manager::new(&lab);
    *lab.gateway() = Some(Gateway::start_kept(&lab, &manager.path, &[]));
    let mut load = Load::start(&lab, &lab.bot("pod").inside(&net), "pod", port, 2, 500);
    eventually("the pod is served", Duration::from_secs(20), || (witness.proxied() > 20).then_some(()));
    let kept = eventually("every listener is kept", Duration::from_secs(10), || {
        manager.take();
        let kept = manager.kept();
        (kept.len() == 4).then_some(kept)
    });
    assert!(manager.heard("READY=1") && manager.heard(&format!("MAINPID={}", lab.gateway_pid())));
    eventually("the watchdog is fed", Duration::from_secs(10), || {
        manager.take();
        manager.heard("WATCHDOG=1").then_some(())
    });
    load.seen();
    // A manager's queue is short, and the watchdog fills it.
    manager.take();
    lab.stop().ok();
    manager.take();
    assert!(manager.heard("STOPPING=1"));
    *lab.gateway() = Some(Gateway::start_kept(&lab, &manager.path, &kept));
    let before = witness.proxied();
    eventually("the pod is served again", Duration::from_secs(20), || (witness.proxied() > before + 20).then_some(()));
    let seen = load.seen();
    eprintln!("restart with kept listeners: {seen:?}");
    assert_eq!(seen.refused, 0, "{seen:?}");
    assert_eq!(witness.direct(), 0);
    drop(load);
    lab.stop().ok();
}

/// As much of a service manager as keeps descriptors and hears how things are.
struct Manager {
    path: std::path::PathBuf,
    socket: std::os::unix::net::UnixDatagram,
    heard: std::sync::Mutex<(String, Vec<OwnedFd>)>,
}

impl Manager {
    fn new(lab: &Lab) -> Self {
        let path = lab.path("notify.sock");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("the lab's directory is ours");
        socket.set_nonblocking(true).expect("a socket");
        Self { path, socket, heard: std::sync::Mutex::default() }
    }

    /// Takes in what has been said.
    fn take(&self) {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
        loop {
            let mut text = [0; 1024];
            let mut rights = nix::cmsg_space!([std::os::fd::RawFd; 16]);
            let mut iov = [std::io::IoSliceMut::new(&mut text)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let Ok(message) = recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut iov, Some(&mut rights), flags) else {
                return;
            };
            let count = message.bytes;
            let mut heard = self.heard.lock().expect("no thread panics with this lock");
            for control in message.cmsgs().expect("there was room") {
                if let ControlMessageOwned::ScmRights(fds) = control {
                    // SAFETY: the kernel has just made these descriptors for us alone.
                    let fds = fds.into_iter().map(|fd| unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) });
                    heard.1.extend(fds);
                }
            }
            heard.0.push_str(&String::from_utf8_lossy(&text[..count]));
        }
    }

    fn heard(&self, word: &str) -> bool {
        self.heard.lock().expect("no thread panics with this lock").0.lines().any(|line| line == word)
    }

    /// Copies of what it keeps.
    fn kept(&self) -> Vec<OwnedFd> {
        let heard = self.heard.lock().expect("no thread panics with this lock");
        heard.1.iter().map(|fd| fd.try_clone().expect("there are descriptors left")).collect()
    }
}
