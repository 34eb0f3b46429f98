//! The kernel programs by themselves: real hooks on a cgroup subtree of the test's own, with a small gateway that only
//! says what it was told, and clients that make every kind of socket.
//!
//! A process belongs to one cgroup and a thread to one mount namespace, so gateway and client are this very program,
//! started again as a child (see [`actors`]), and each test's thread has a private mount namespace with its own bpffs.
//! A client's answers name what its connection reached: the gateway's word, the backend's `direct`, or nothing.

mod actors;
mod hooks;
mod lab;
mod sockets;

use std::{fs, net::Ipv4Addr, net::TcpStream};

use holdpoint::{
    intercept::{Interceptor, Options, is_guarded, uninstall},
    operation::Digest,
};

use lab::{Backend, Lab, eventually};

/// What children are: not a test. Does nothing unless a test has started it.
#[test]
fn child() {
    actors::play();
}

#[test]
fn n2_ipv6_mapped_v6only() {
    let lab = Lab::new();
    let _gateway = lab.gateway(&["10.77.0.7 5432 intercept", "2001:db8::7 5432 intercept"]);
    let mut client = lab.client();
    for (ask, dialled) in [
        ("tcp4 10.77.0.7:5432", "10.77.0.7:5432"),
        ("nonblocking4 10.77.0.7:5432", "10.77.0.7:5432"),
        ("fastopen4 10.77.0.7:5432", "10.77.0.7:5432"),
        ("mptcp4 10.77.0.7:5432", "10.77.0.7:5432"),
        ("fastopenconnect4 10.77.0.7:5432", "10.77.0.7:5432"),
        ("uring4 10.77.0.7:5432", "10.77.0.7:5432"),
        ("tcp6 [2001:db8::7]:5432", "[2001:db8::7]:5432"),
        ("v6only [2001:db8::7]:5432", "[2001:db8::7]:5432"),
        ("nonblocking6 [2001:db8::7]:5432", "[2001:db8::7]:5432"),
        ("tcp6 [::ffff:10.77.0.7]:5432", "10.77.0.7:5432"),
    ] {
        let answer = client.ask(ask);
        assert_eq!(answer.field("dialled"), dialled, "{ask}: {answer:?}");
        assert_eq!(answer.field("pid"), client.pid().to_string(), "{ask}: {answer:?}");
    }
    // The client sees the address that it dialled, in its own socket's way of writing it.
    assert_eq!(client.ask("tcp4 10.77.0.7:5432").field("peer"), "10.77.0.7:5432");
    assert_eq!(client.ask("tcp6 [2001:db8::7]:5432").field("peer"), "[2001:db8::7]:5432");
    assert_eq!(client.ask("tcp6 [::ffff:10.77.0.7]:5432").field("peer"), "[::ffff:10.77.0.7]:5432");
    // The kernel has no way from a V6ONLY socket to a mapped address, guarded or not.
    assert_eq!(client.ask("v6only [::ffff:10.77.0.7]:5432").field("error"), "ENETUNREACH");
}

#[test]
fn n2_the_unspecified_address_is_loopback() {
    let lab = Lab::new();
    let (v4, v6) = (Backend::new("127.0.0.1:0"), Backend::new("[::1]:0"));
    let rules = [format!("127.0.0.1 {} intercept", v4.port()), format!("::1 {} intercept", v6.port())];
    let _gateway = lab.gateway(&rules.each_ref().map(String::as_str));
    let mut client = lab.client();
    for (ask, dialled) in [
        (format!("tcp4 0.0.0.0:{}", v4.port()), v4.addr),
        (format!("tcp6 [::ffff:0.0.0.0]:{}", v4.port()), v4.addr),
        (format!("tcp6 [::]:{}", v6.port()), v6.addr),
        (format!("v6only [::]:{}", v6.port()), v6.addr),
        // May become 127.0.0.1 as well: the stricter of the two rules counts.
        (format!("tcp6 [::]:{}", v4.port()), v4.addr),
    ] {
        let answer = client.ask(&ask);
        assert_eq!(answer.field("dialled"), dialled.to_string(), "{ask}: {answer:?}");
    }
    assert_eq!((v4.connections(), v6.connections()), (0, 0), "nothing went direct");
}

#[test]
fn rules_pass_intercept_and_refuse_by_their_precedence() {
    let lab = Lab::new();
    let backend = Backend::new("127.0.0.1:0");
    let (addr, port) = (backend.addr, backend.port());
    let mut gateway = lab.gateway(&[
        "10.77.0.0/16 - refuse",
        "10.77.0.0/16 5432 intercept",
        "10.77.9.0/24 5432 refuse",
        "10.77.0.7 - refuse",
        "10.78.0.7 5432 pass",
        "10.78.0.7 5432 intercept",
        "10.79.0.7 5432 intercept",
        "10.79.0.7 5432 refuse",
        "::/0 443 refuse",
    ]);
    let mut client = lab.client();
    let mut check = |ask: &str, wanted: &str| {
        let answer = client.ask(ask);
        let got = answer.field(if answer.has("error") { "error" } else { "said" });
        assert!(got.starts_with(wanted), "{ask}: wanted {wanted}, got {answer:?}");
    };
    check("tcp4 10.77.1.1:5432", "gateway");
    check("tcp4 10.77.1.1:80", "EPERM");
    check("tcp4 10.77.9.1:5432", "EPERM");
    // A rule that names the port goes before a longer prefix for any port.
    check("tcp4 10.77.0.7:5432", "gateway");
    check("tcp4 10.77.0.7:80", "EPERM");
    // Of equals the stricter.
    check("tcp4 10.78.0.7:5432", "gateway");
    check("tcp4 10.79.0.7:5432", "EPERM");
    // IPv6 rules are not for IPv4.
    check("tcp6 [2001:db8::1]:443", "EPERM");
    check(&format!("tcp4 {addr}"), "direct");
    // Only TCP can be intercepted; anything else to such a destination is refused.
    check("udp4 10.77.1.1:5432", "EPERM");
    // A new table counts from the next connect on.
    gateway.rules(&[&format!("127.0.0.0/8 {port} intercept"), "10.77.0.0/16 5432 pass"]);
    check(&format!("tcp4 {addr}"), "gateway");
    gateway.rules(&[]);
    check(&format!("tcp4 {addr}"), "direct");
}

#[test]
fn the_caller_is_captured_and_its_executable_proved() {
    let lab = Lab::new();
    let _gateway = lab.gateway(&["10.77.0.7 5432 intercept"]);
    let mut client = lab.client();
    let answer = client.ask("tcp4 10.77.0.7:5432");
    assert_eq!(answer.field("uid"), nix::unistd::getuid().to_string());
    assert_eq!(answer.field("cgroup"), lab.hierarchy.id(&lab.inner).expect("it is there").0.to_string());
    assert_eq!(answer.field("workload"), "bot");
    let exe = std::env::current_exe().expect("we run");
    let digest = Digest::of(&fs::read(exe).expect("it can be read"));
    assert_eq!(answer.field("sha256"), digest.to_string());
    assert_eq!(answer.field("verified"), "true", "the kernel has BTF here (CONFIG_DEBUG_INFO_BTF)");
}

#[test]
fn an_arrival_is_told_once_and_strangers_are_closed() {
    let lab = Lab::new();
    let mut gateway = lab.gateway(&["10.77.0.7 5432 intercept"]);
    let mut client = lab.client();
    let ports = gateway.ports;
    assert!(client.ask("tcp4 10.77.0.7:5432").field("said").starts_with("gateway"));
    assert_eq!(gateway.ask("taken").field("again"), "none", "the entry is gone once taken");
    assert_eq!(gateway.ask("arrivals").field("waiting"), "0");
    // Dialling the gateway's own port, from inside and from outside the guard, finds nothing to be told.
    assert_eq!(client.ask(&format!("tcp4 127.0.0.1:{}", ports.0)).field("said"), "");
    assert_eq!(client.ask(&format!("tcp6 [::1]:{}", ports.1)).field("said"), "");
    assert_eq!(actors::said(TcpStream::connect(("127.0.0.1", ports.0)).expect("the gateway listens")), "");
    // Nor does a socket that dialled something governed before.
    let twice = format!("twice4 10.77.0.7:5432 127.0.0.1:{}", ports.0);
    assert_eq!(client.ask(&twice).field("said"), "");
    // A client that is gone before anybody looks leaves nothing behind, either.
    eventually(|| gateway.ask("arrivals").rest == "waiting=0 open=0");
}

#[test]
fn n7_dead_gateway_refuses() {
    let lab = Lab::new();
    let backend = Backend::new("127.0.0.1:0");
    let rule = format!("127.0.0.1 {} intercept", backend.port());
    let ask = format!("tcp4 {}", backend.addr);
    let gateway = lab.gateway(&[&rule]);
    let mut client = lab.client();
    assert!(client.ask(&ask).field("said").starts_with("gateway"));
    gateway.kill();
    for _ in 0..20 {
        assert_eq!(client.ask(&ask).field("error"), "ECONNREFUSED");
    }
    assert!(is_guarded(&lab.bpffs, &lab.inner).expect("the pins can be read"), "the guard outlives the gateway");
    // The next gateway has other ports and gives no rules: the old ones are in force still.
    let mut gateway = lab.restarted_gateway();
    assert_eq!(gateway.ask("arrivals").field("waiting"), "0", "a connect that nobody answered leaves nothing");
    let answer = client.ask(&ask);
    assert_eq!(answer.field("dialled"), backend.addr.to_string(), "{answer:?}");
    // Exchanging gateways under fire: refused or intercepted, never direct.
    let mut hammer = lab.client();
    hammer.send(&format!("hammer {} 3000", backend.addr));
    gateway.kill();
    for _ in 0..3 {
        let gateway = lab.restarted_gateway();
        assert!(client.ask(&ask).field("said").starts_with("gateway"));
        gateway.kill();
    }
    let answer = hammer.answer();
    assert_eq!(answer.field("direct"), "0", "{answer:?}");
    assert_eq!(backend.connections(), 0);
    // Only taking the guard away makes them direct.
    let removed = uninstall(&lab.bpffs).expect("nobody uses it");
    assert!(removed.was_there && removed.guards.len() == 1, "{removed:?}");
    assert!(!uninstall(&lab.bpffs).expect("nothing is left").was_there);
    assert!(!is_guarded(&lab.bpffs, &lab.inner).expect("the pins can be read"));
    assert_eq!(client.ask(&ask).field("said"), "direct");
}

#[test]
fn n8_map_full_fails_closed() {
    let lab = Lab::new();
    let backend = Backend::new("127.0.0.1:0");
    let rule = format!("127.0.0.1 {} intercept", backend.port());
    let (keep, brief) = (format!("keep {}", backend.addr), format!("brief {}", backend.addr));
    // Room for four.
    let mut gateway = lab.start_gateway(&["guard", "small", "deaf"], &[&rule]);
    let mut client = lab.client();
    for _ in 0..4 {
        assert_eq!(client.ask(&keep).rest, "kept");
    }
    for _ in 0..50 {
        assert_eq!(client.ask(&keep).field("error"), "EPERM");
    }
    gateway.ask("accept");
    assert_eq!(client.ask("kept").rest, "told=4 closed=0 direct=0");
    // They have ended, so there is room again.
    eventually(|| gateway.ask("arrivals").rest == "waiting=0 open=0");
    assert!(client.ask(&format!("tcp4 {}", backend.addr)).field("said").starts_with("gateway"));
    gateway.kill();
    // Clients that have gone make room for others, but their arrivals wait on: who comes then cannot be filed, and is
    // closed by the gateway.
    let mut gateway = lab.start_gateway(&["deaf"], &[]);
    for _ in 0..6 {
        assert_eq!(client.ask(&brief).rest, "gone");
    }
    eventually(|| gateway.ask("arrivals").rest == "waiting=4 open=0");
    assert_eq!(client.ask(&keep).rest, "kept");
    gateway.ask("accept");
    assert_eq!(client.ask("kept").rest, "told=0 closed=1 direct=0");
    assert_eq!(backend.connections(), 0, "nothing went direct");
}

#[test]
fn failed_connects_leave_nothing_behind() {
    let lab = Lab::new();
    let mut gateway =
        lab.start_gateway(&["guard", "nobody"], &["10.77.0.7 5432 intercept", "2001:db8::7 5432 intercept"]);
    let mut client = lab.client();
    for _ in 0..50 {
        assert_eq!(client.ask("tcp4 10.77.0.7:5432").field("error"), "ECONNREFUSED");
        // Fails after the hook and before the first SYN: bound to an IPv4 address, it has no way to an IPv6 one.
        assert_eq!(client.ask("bound6 [2001:db8::7]:5432").field("error"), "EAFNOSUPPORT");
    }
    assert_eq!(gateway.ask("arrivals").rest, "waiting=0 open=0");
}

#[test]
fn n12_own_traffic_not_recaptured() {
    let lab = Lab::new();
    let backend = Backend::new("127.0.0.1:0");
    // The gateway is inside what it guards.
    let rule = format!("127.0.0.1 {} intercept", backend.port());
    let mut gateway = lab.start_gateway(&["guard", "inside"], &[&rule]);
    let mut client = lab.client_in(&lab.cgroup);
    let ask = format!("tcp4 {}", backend.addr);
    assert!(client.ask(&ask).field("said").starts_with("gateway"), "its neighbours are guarded");
    assert_eq!(gateway.ask(&format!("dial {}", backend.addr)).field("said"), "direct", "it is not");
    assert_eq!(backend.connections(), 1);
    // Another gateway is another process: the old one's exemption is not inherited.
    gateway.kill();
    assert_eq!(client.ask(&ask).field("error"), "ECONNREFUSED");
}

#[test]
fn nested_guards_redirect_once() {
    let lab = Lab::new();
    let mut gateway = lab.gateway(&["127.0.0.0/8 - intercept"]);
    gateway.ask(&format!("attach {}", lab.inner.display()));
    let mut client = lab.client();
    let answer = client.ask("tcp4 127.0.0.9:5432");
    assert_eq!(answer.field("dialled"), "127.0.0.9:5432", "{answer:?}");
}

#[test]
fn a_command_runs_in_a_guarded_cgroup_of_its_own() {
    let lab = Lab::new();
    let inside = || {
        let entries = fs::read_dir(&lab.cgroup).expect("it is there").flatten();
        entries.map(|entry| entry.path()).find(|path| path.is_dir() && *path != lab.inner)
    };
    let code = |name: &str, command: &[&str]| {
        let status = actors::exec(&lab.cgroup, name, command).wait().expect("it ends");
        assert_eq!(inside(), None, "the cgroup is removed");
        status.code()
    };
    assert_eq!(code("bot", &["/bin/sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code("bot", &["/bin/sh", "-c", "kill -TERM $$"]), Some(128 + 15));
    assert_eq!(code("bot", &["/bin/sh", "-c", "grep -q '/nightly%20run-' /proc/self/cgroup || exit 9"]), Some(9));
    assert_eq!(
        code("nightly run", &["/bin/sh", "-c", "grep -q '/nightly%20run-' /proc/self/cgroup || exit 9"]),
        Some(0)
    );
    assert_eq!(code("bot", &["/no/such/command"]), Some(127));
    assert_eq!(code("", &["/bin/true"]), Some(125));
    // A signal is handed on, and its number comes back.
    let mut runner = actors::exec(&lab.cgroup, "bot", &["/bin/sleep", "60"]);
    let populated = |path: std::path::PathBuf| {
        fs::read_to_string(path.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
    };
    eventually(|| inside().is_some_and(populated));
    actors::terminate(&runner);
    assert_eq!(runner.wait().expect("it ends").code(), Some(128 + 15));
    assert_eq!(inside(), None);
}

#[test]
fn status_is_the_kernels_word() {
    let lab = Lab::new();
    let mut gateway = lab.gateway(&[]);
    assert_eq!(gateway.ask("status").field("guards"), "whole:15");
    fs::remove_file(lab.pin("connect4")).expect("it is pinned");
    assert_eq!(gateway.ask("status").field("guards"), "broken:15");
    gateway.ask(&format!("attach {}", lab.cgroup.display()));
    assert_eq!(gateway.ask("status").field("guards"), "whole:15");
    gateway.ask("detach");
    assert_eq!(gateway.ask("status").field("guards"), "");
}

#[test]
fn errors_say_what_is_missing() {
    let lab = Lab::new();
    let gateway = lab.gateway(&[]);
    let options = lab.options(0, 0);
    let told = |options: &Options| Interceptor::load(options).map(drop).expect_err("it is missing").to_string();
    assert!(told(&options).contains("another gateway already uses"));
    let elsewhere = Options { bpffs: lab.dir.path().join("ordinary"), ..options.clone() };
    let error = told(&elsewhere);
    assert!(error.contains("mount -t bpf bpf"), "{error}");
    gateway.kill();
    let interceptor = Interceptor::load(&options).expect("the lock went with the gateway");
    let error = interceptor.attach(lab.dir.path()).expect_err("no cgroup").to_string();
    assert!(error.contains("is not a cgroup v2 directory"), "{error}");
    drop(interceptor);
    assert!(Interceptor::load(&options).is_ok());
    let mut pauper = lab.start("pauper", &[], &lab.inner);
    let answer = pauper.ask("load");
    assert!(answer.rest.contains("CAP_SYS_ADMIN, CAP_NET_ADMIN missing"), "{answer:?}");
}

#[test]
fn the_kernel_programs_speak_in_the_gateways_log() {
    let lab = Lab::new();
    let mut gateway = lab.start_gateway(&["guard", "small", "deaf"], &["10.77.0.7 5432 intercept"]);
    let mut client = lab.client();
    for _ in 0..64 {
        client.ask("keep 10.77.0.7:5432");
    }
    eventually(|| gateway.ask("lines").rest.contains("too many"));
}

#[test]
fn the_hook_is_cheap_at_ten_thousand_rules() {
    let lab = Lab::new();
    let mut rules = vec!["10.77.0.7 5432 intercept".to_owned()];
    rules.extend((0..10_000_u32).map(|n| format!("{} 5432 refuse", Ipv4Addr::from(0x0b00_0000 + n * 7919))));
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    let mut gateway = lab.gateway(&rules);
    let backend = Backend::new("127.0.0.1:0");
    let mut client = lab.client();
    gateway.ask("measure");
    client.ask("hammer 10.77.0.7:5432 3000");
    let intercepted = gateway.ask("measure");
    client.ask(&format!("hammer {} 3000", backend.addr));
    let passed = gateway.ask("measure");
    println!(
        "intercepted: {} ns, passed: {} ns, egress: {} ns",
        intercepted.field("connect4"),
        passed.field("connect4"),
        intercepted.field("egress")
    );
    // A microsecond is the aim; a shared machine's noise gets three.
    assert!(intercepted.number("connect4") < 3000 && passed.number("connect4") < 3000);
}
