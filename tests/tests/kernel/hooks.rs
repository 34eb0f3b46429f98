//! The ways round `connect`, each closed by a hook of its own, and each open again as soon as that hook is taken away:
//! what these tests see refused is refused by it and by nothing else.

use std::{
    fs,
    net::UdpSocket,
    os::unix::{
        fs::symlink,
        net::{UnixDatagram, UnixListener},
    },
    path::Path,
    time::Duration,
};

use holdpoint::intercept::is_guarded;

use crate::{
    actors::Actor,
    lab::{Backend, Lab, eventually},
};

/// The word with which `client` answers: `done`, or the error.
fn word(client: &mut Actor, question: &str) -> String {
    let answer = client.ask(question);
    if answer.has("error") { answer.field("error").to_owned() } else { answer.rest }
}

#[track_caller]
fn check(client: &mut Actor, question: &str, wanted: &str) {
    assert_eq!(word(client, question), wanted, "{question}");
}

/// As [`check`], once the kernel has let go of a hook that was taken away.
#[track_caller]
fn check_soon(client: &mut Actor, question: &str, wanted: &str) {
    eventually(|| word(client, question) == wanted);
}

/// Takes a hook away, as nothing but an administrator can.
fn take_away(lab: &Lab, programs: &[&str]) {
    for pin in programs.iter().map(|program| lab.pin(program)) {
        // Its pin alone is not enough while the gateway holds the link.
        let link = tests::meddler::open_pin(&pin).expect("it is pinned");
        tests::meddler::detach(&link).expect("root may");
        fs::remove_file(pin).expect("root may");
    }
}

fn receiver(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).expect("loopback");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("the time is not zero");
    socket
}

#[test]
fn n2_n5_every_kind_of_connect_is_redirected_by_its_hook_and_by_nothing_else() {
    let lab = Lab::new();
    let (v4, v6) = (Backend::new("127.0.0.1:0"), Backend::new("[::1]:0"));
    let rules = [format!("127.0.0.1 {} intercept", v4.port()), format!("::1 {} intercept", v6.port())];
    let _gateway = lab.gateway(&rules.each_ref().map(String::as_str));
    let mut client = lab.client();
    let by4 = ["tcp4", "nonblocking4", "fastopen4", "mptcp4", "fastopenconnect4", "uring4"];
    let by4 = by4.map(|kind| (format!("{kind} {}", v4.addr), &v4));
    let by6 = ["tcp6", "v6only", "nonblocking6"].map(|kind| (format!("{kind} {}", v6.addr), &v6));
    let mapped = (format!("tcp6 [::ffff:127.0.0.1]:{}", v4.port()), &v4);
    let by6: Vec<_> = by6.into_iter().chain([mapped]).collect();
    let redirected = |client: &mut Actor, questions: &[(String, &Backend)]| {
        for (question, backend) in questions {
            let (before, answer) = (backend.connections(), client.ask(question));
            assert!(answer.field("said").starts_with("gateway"), "{question}: {answer:?}");
            assert_eq!(backend.connections(), before, "{question}");
        }
    };
    let direct = |client: &mut Actor, questions: &[(String, &Backend)]| {
        for (question, backend) in questions {
            let before = backend.connections();
            eventually(|| {
                client.ask(question);
                backend.connections() > before
            });
        }
    };
    redirected(&mut client, &by4);
    redirected(&mut client, &by6);
    take_away(&lab, &["connect4"]);
    direct(&mut client, &by4);
    redirected(&mut client, &by6);
    take_away(&lab, &["connect6"]);
    direct(&mut client, &by6);
}

#[test]
fn n3_udp_to_what_is_intercepted_or_refused_is_refused() {
    let lab = Lab::new();
    let (v4, v6, free) = (receiver("127.0.0.1:0"), receiver("[::1]:0"), receiver("127.0.0.1:0"));
    let port = |socket: &UdpSocket| socket.local_addr().expect("it is bound").port();
    let (p4, p6, open) = (port(&v4), port(&v6), port(&free));
    let rules = [
        format!("127.0.0.1 {p4} intercept"),
        format!("::1 {p6} intercept"),
        "10.78.0.0/16 - refuse".to_owned(),
        format!("127.0.0.1 {open} pass"),
    ];
    let mut gateway = lab.gateway(&rules.each_ref().map(String::as_str));
    let mut client = lab.client();
    let governed = [
        format!("send 4 127.0.0.1:{p4}"),
        format!("send 4 0.0.0.0:{p4}"),
        format!("send 6 [::ffff:127.0.0.1]:{p4}"),
        format!("send 6 [::1]:{p6}"),
        format!("send 6 [::]:{p6}"),
        // May become 127.0.0.1 as well.
        format!("send 6 [::]:{p4}"),
        "send 4 10.78.0.1:443".to_owned(),
        "send 6 [::ffff:10.78.0.1]:443".to_owned(),
        format!("udp4 127.0.0.1:{p4}"),
    ];
    for question in &governed {
        check(&mut client, question, "EPERM");
    }
    check(&mut client, &format!("send 4 127.0.0.1:{open}"), "done");
    check(&mut client, &format!("send 6 [::ffff:127.0.0.1]:{open}"), "done");
    let mut buffer = [0; 16];
    assert_eq!(free.recv(&mut buffer).expect("it was let through"), 8);
    assert!(v4.recv(&mut buffer).is_err() && v6.recv(&mut buffer).is_err(), "something arrived");
    let refused = gateway.ask("refused");
    assert_eq!((refused.number("not_tcp"), refused.number("rule")), (7, 2), "{refused:?}");
    // Without the hooks it all arrives.
    take_away(&lab, &["sendmsg4", "sendmsg6"]);
    check_soon(&mut client, &governed[2], "done");
    check_soon(&mut client, &governed[3], "done");
    assert!(v4.recv(&mut buffer).is_ok() && v6.recv(&mut buffer).is_ok(), "the hooks were not what refused it");
}

#[test]
fn n4_sockets_that_no_other_hook_sees_are_not_made() {
    const STREAM: u8 = 1;
    const DATAGRAM: u8 = 2;
    const RAW: u8 = 3;
    let lab = Lab::new();
    let mut gateway = lab.gateway(&[]);
    let mut client = lab.client();
    let raw = [(2, RAW, 1), (2, RAW, 6), (2, RAW, 255), (10, RAW, 58), (10, RAW, 17)];
    let raw = raw.map(|(family, kind, protocol)| format!("socket {family} {kind} {protocol}"));
    for question in &raw {
        check(&mut client, question, "EPERM");
    }
    // What ordinary programs make: TCP, UDP, MPTCP, UNIX sockets, and the netlink socket of `getaddrinfo`.
    for (family, kind, protocol) in [
        (2, STREAM, 0),
        (10, STREAM, 6),
        (2, DATAGRAM, 0),
        (10, DATAGRAM, 17),
        (2, STREAM, 262),
        (1, STREAM, 0),
        (1, DATAGRAM, 0),
        (16, RAW, 0),
    ] {
        check(&mut client, &format!("socket {family} {kind} {protocol}"), "done");
    }
    assert_eq!(gateway.ask("refused").number("socket"), raw.len());
    // AF_PACKET and AF_VSOCK: the kernel runs no cgroup hook for them, and status and README say so.
    check(&mut client, "socket 17 3 0", "done");
    check(&mut client, "socket 40 1 0", "done");
    take_away(&lab, &["sock_create"]);
    for question in &raw {
        check_soon(&mut client, question, "done");
    }
}

#[test]
fn n7_nobody_guarded_sits_down_where_the_gateway_listens() {
    let lab = Lab::new();
    let mut gateway = lab.gateway(&["10.77.0.7 5432 intercept"]);
    let (v4, v6) = gateway.ports;
    let (mut impostor, mut client) = (lab.client(), lab.client());
    let places = [
        format!("listen tcp 127.0.0.1:{v4}"),
        format!("listen tcp 0.0.0.0:{v4}"),
        format!("listen mptcp 127.0.0.1:{v4}"),
        format!("listen tcp [::]:{v4}"),
        format!("listen tcp [::ffff:127.0.0.1]:{v4}"),
        format!("listen tcp [::ffff:0.0.0.0]:{v4}"),
        format!("listen tcp [::1]:{v6}"),
        format!("listen only6 [::]:{v6}"),
    ];
    for place in &places {
        check(&mut impostor, place, "EPERM");
    }
    assert_eq!(gateway.ask("refused").number("gateway_port"), places.len());
    gateway.kill();
    for place in &places {
        check(&mut impostor, place, "EPERM");
    }
    // Any other place is free, and so is the port where nothing is sent to.
    for free in
        ["listen tcp 127.0.0.1:0".to_owned(), "listen tcp [::]:0".to_owned(), format!("listen tcp 127.9.9.9:{v4}")]
    {
        check(&mut impostor, &free, "done");
    }
    check(&mut client, "tcp4 10.77.0.7:5432", "ECONNREFUSED");
    // Without the hook the impostor is given what was meant for the gateway.
    take_away(&lab, &["bind4"]);
    check_soon(&mut impostor, &places[0], "done");
    impostor.send("pretend");
    assert_eq!(client.ask("tcp4 10.77.0.7:5432").field("said"), "stolen");
    assert_eq!(impostor.answer().rest, "done");
    impostor.ask("leave");
    // The next gateway puts it back.
    let mut gateway = lab.restarted_gateway();
    check(&mut impostor, &format!("listen tcp 127.0.0.1:{}", gateway.ports.0), "EPERM");
    let refused = gateway.ask("refused");
    assert!(refused.number("gateway_port") > 2 * places.len(), "counts go on over gateways: {refused:?}");
    assert_eq!(refused.number("somewhere_unanswered"), 1, "{refused:?}");
}

#[test]
fn n5_unix_sockets_on_the_refuse_list() {
    let lab = Lab::new();
    let at = |name: &str| lab.dir.path().join(name).to_str().expect("text").to_owned();
    let bind = |name: &str| UnixListener::bind(at(name)).expect("the directory is ours");
    let _listeners = ["docker.sock", "agent.sock", "free.sock"].map(bind);
    let _datagrams = UnixDatagram::bind(at("podman.sock")).expect("the directory is ours");
    fs::create_dir(at("other")).expect("the directory is ours");
    for (from, to) in
        [("docker.sock", "other/docker.sock"), ("agent.sock", "other/agent.sock"), ("docker.sock", "other/x")]
    {
        symlink(at(from), at(to)).expect("the directory is ours");
    }
    let agent = format!("unix={}", at("agent.*"));
    let mut gateway = lab.start_gateway(&["guard", &agent], &[]);
    let mut client = lab.client();
    let proc = format!("/proc/self/root{}", at("docker.sock"));
    let refused = [
        format!("unix {}", at("docker.sock")),
        format!("unix {}", at("docker.sock").replace("/docker", "//docker")),
        format!("unix {}", at("other/../docker.sock")),
        format!("unix {}", at("other/docker.sock")),
        format!("unix {proc}"),
        format!("unix {}", at("agent.sock")),
        format!("unix {}", at("other/../agent.sock")),
        format!("unix_relative {}", at("docker.sock")),
        format!("unix_relative {}", at("agent.sock")),
        format!("unix_datagram {}", at("podman.sock")),
        "unix @/containerd-shim/0a1b.sock".to_owned(),
    ];
    for question in &refused {
        check(&mut client, question, "EPERM");
    }
    assert_eq!(gateway.ask("refused").number("unix"), refused.len());
    check(&mut client, &format!("unix {}", at("free.sock")), "done");
    check(&mut client, &format!("unix {}", at("none.sock")), "ENOENT");
    // What the README says is not covered: another last name.
    check(&mut client, &format!("unix {}", at("other/x")), "done");
    take_away(&lab, &["connect_unix", "sendmsg_unix"]);
    for question in refused.iter().filter(|question| !question.contains('@')) {
        check_soon(&mut client, question, "done");
    }
}

#[test]
fn a_former_versions_pins_are_completed_without_a_gap() {
    const NEW: [&str; 7] = ["sendmsg4", "sendmsg6", "bind4", "bind6", "sock_create", "connect_unix", "sendmsg_unix"];
    let lab = Lab::new();
    let backend = Backend::new("127.0.0.1:0");
    let rule = format!("127.0.0.1 {} intercept", backend.port());
    let gateway = lab.gateway(&[&rule]);
    gateway.kill();
    // What that version would have left: fewer programs, and one map less.
    take_away(&lab, &NEW);
    let entries = fs::read_dir(&lab.bpffs).expect("it is there").flatten();
    let counts = entries.map(|entry| entry.path().join("REFUSED")).find(|path| path.exists());
    fs::remove_file(counts.expect("it is pinned")).expect("it is ours");
    assert!(!is_guarded(&lab.bpffs, &lab.cgroup).expect("the pins can be read"), "that is not the whole guard");
    let mut client = lab.client();
    check_soon(&mut client, "socket 2 3 1", "done");
    let mut hammer = lab.client();
    hammer.send(&format!("hammer {} 2000", backend.addr));
    // It is told nothing of the guard: it finds that.
    let mut gateway = lab.restarted_gateway();
    assert_eq!(gateway.ask("status").field("guards"), "whole:15");
    check(&mut client, "socket 2 3 1", "EPERM");
    assert_eq!(gateway.ask("refused").number("socket"), 1);
    let answer = hammer.answer();
    assert_eq!((answer.field("direct"), backend.connections()), ("0", 0), "{answer:?}");
    let pins = || fs::read_dir(lab.pin("connect4").parent().unwrap_or(Path::new("/"))).map_or(0, Iterator::count);
    assert_eq!(pins(), 15);
    gateway.ask("detach");
    eventually(|| pins() == 0);
}
