//! Workloads in network namespaces of their own: served there, denied there, and nothing else there.
//!
//! Bot and database share a namespace that has a loopback only, so whatever answers was reached inside it.

use std::time::Duration;

use holdpoint::{
    intercept::{
        Action, Rule,
        deny::{self, Deny, Maker, TableName, Whose},
    },
    net::Namespace,
    workload::Hierarchy,
};
use tests::{Lab, Net, Outcome, Postgres, Rules, Running, eventually, forger};

/// A lab whose shop listens inside a namespace of its own.
fn inside(name: &str, rules: &Rules) -> (Lab, Net, Postgres) {
    let lab = Lab::new(name);
    let net = Net::make();
    let pg = Postgres::start_inside(&lab, &net);
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    (lab, net, pg)
}

/// Makes a socket outside the guard, then connects it to `port` from inside: what a socket handed to a bot does.
fn handed_in(lab: &Lab, net: &Net, port: u16) -> Outcome {
    let config = lab.config().display().to_string();
    let guarded = "import socket,sys\ns=socket.socket(fileno=int(sys.argv[1]))\ns.settimeout(2)\n\
        s.connect(('127.0.0.1',int(sys.argv[2])))\ns.sendall(bytes([0,0,0,8,4,210,22,47]))\nprint('got', s.recv(1))\n";
    let outside = "import os,socket,sys\ns=socket.socket()\nos.set_inheritable(s.fileno(),True)\n\
        os.execvp(sys.argv[1],sys.argv[1:5]+['--as','thief','--','python3','-c',sys.argv[5],str(s.fileno()),sys.argv[6]])";
    let port = port.to_string();
    let holdpoint = lab.tool("holdpoint");
    let argv = ["python3", "-c", outside, &holdpoint, "exec", "--config", &config, guarded, &port];
    let mut command = lab.command(&argv);
    net.enter(&mut command);
    Running::start(&mut command).finish(Duration::from_secs(20))
}

/// Puts a command into a test's namespace, or leaves it where it is.
trait Inside {
    fn nsenter(&mut self, net: Option<&Net>) -> &mut Self;
}

impl Inside for std::process::Command {
    fn nsenter(&mut self, net: Option<&Net>) -> &mut Self {
        net.inspect(|net| net.enter(self));
        self
    }
}

fn is_denied(lab: &Lab, net: &Net) -> bool {
    deny::is_installed(&namespace(net), &table(lab)).expect("nftables answers")
}

fn namespace(net: &Net) -> Namespace {
    Namespace::open(&net.path()).expect("the namespace is held")
}

fn table(lab: &Lab) -> TableName {
    TableName::of(&lab.path("bpf/holdpoint"))
}

#[test]
fn n5_a_bot_in_a_namespace_of_its_own_is_served_there() {
    let (lab, net, pg) = inside("own-namespace", &Rules::allowing().refuse("schema-changes", "schema"));
    lab.start();
    let bot = lab.bot("pod").inside(&net);
    bot.psql(&pg.url(), "SELECT 'from inside'").ok();
    bot.psql(&pg.url(), "DROP TABLE target").says(&["42501"]);
    let record = lab.record();
    assert_eq!(record.forwarded("'from inside'"), 1);
    assert!(pg.saw("'from inside'") && !pg.saw("DROP TABLE"));
    lab.stop().ok();
    bot.psql(&pg.url(), "SELECT 'while it is down'").failed();
    assert!(!pg.saw("'while it is down'"));
    lab.start();
    bot.psql(&pg.url(), "SELECT 'after a restart'").ok();
    assert_eq!(lab.record().forwarded("'after a restart'"), 1);
}

#[test]
fn n3_refusing_everything_else_leaves_the_way_to_the_gateway_open() {
    let (lab, net, pg) = inside("refuse-all", &Rules::allowing());
    lab.set("network", "[{ to: \"0.0.0.0/0\", action: refuse }, { to: \"::/0\", action: refuse }]");
    lab.start();
    let bot = lab.bot("pod").inside(&net);
    bot.psql(&pg.url(), "SELECT 'over IPv4'").ok();
    bot.psql(&pg.url_at("[::1]"), "SELECT 'over IPv6'").ok();
    let record = lab.record();
    assert_eq!((record.forwarded("'over IPv4'"), record.forwarded("'over IPv6'")), (1, 1));
    // Everything else is refused by the hook, and the database by the deny where the hook does not see it.
    bot.psql("postgresql://app@127.0.0.1:1/shop", "SELECT 1").failed().says(&["Operation not permitted"]);
    handed_in(&lab, &net, pg.port()).failed().says(&["timed out"]);
}

#[test]
fn n5_a_socket_that_was_handed_in_does_not_get_out() {
    let (lab, net, pg) = inside("handed-in", &Rules::allowing());
    // The mechanism off: the same database, under a policy that does not name it. The socket goes straight to it.
    lab.policies(&Rules::allowing().resource(1), &Rules::allowing().policies());
    lab.start();
    handed_in(&lab, &net, pg.port()).ok().says(&["got"]);
    // On: nothing else changes.
    lab.policies(&Rules::allowing().resource(pg.port()), &Rules::allowing().policies());
    eventually("the database is governed", Duration::from_secs(10), || {
        (!handed_in(&lab, &net, pg.port()).status.success()).then_some(())
    });
    handed_in(&lab, &net, pg.port()).failed().says(&["timed out"]);
    lab.bot("pod").inside(&net).psql(&pg.url(), "SELECT 'the proper way'").ok();
    // The deny outlives the gateway.
    lab.kill();
    handed_in(&lab, &net, pg.port()).failed().says(&["timed out"]);
    // And goes with the guard.
    let config = lab.config().display().to_string();
    lab.holdpoint(&["uninstall", "--config", &config]).ok().says(&["removed the deny from 1 network namespace"]);
    assert!(!is_denied(&lab, &net));
}

#[test]
fn n6_a_deny_that_somebody_removed_is_put_back() {
    let (lab, net, pg) = inside("put-back", &Rules::allowing());
    lab.start();
    // Somebody stays inside, or there would be nothing to guard.
    let mut bot = lab.bot("pod").inside(&net).start_script(&pg.url());
    bot.write("SELECT 'here';\n");
    eventually("the namespace is denied", Duration::from_secs(10), || is_denied(&lab, &net).then_some(()));
    // It was there, and is gone; the gateway may be quicker than a look at it.
    assert!(deny::remove(&namespace(&net), &table(&lab)).expect("nftables answers"));
    eventually("the gateway says so", Duration::from_secs(5), || {
        lab.gateway_log().contains("is put back").then_some(())
    });
    eventually("it is put back", Duration::from_secs(5), || is_denied(&lab, &net).then_some(()));
    bot.write("\\q\n");
    bot.finish(Duration::from_secs(10)).ok();
}

/// Opens four connections to `port` and, for each line that it is sent, asks a server on the next one whether it has TLS.
const FROM_BEFORE: &str = "import socket,sys\n\
    all=[socket.create_connection(('127.0.0.1',int(sys.argv[1]))) for _ in range(4)]\nprint('open',flush=True)\n\
    for line,s in zip(sys.stdin,all):\n  s.settimeout(2)\n  s.sendall(bytes([0,0,0,8,4,210,22,47]))\n  \
    try: print(line.strip(),'answered',s.recv(1),flush=True)\n  except TimeoutError: print(line.strip(),'silence',flush=True)\n";

/// A process that is in the guarded cgroup, with open connections, before any gateway runs.
fn from_before(lab: &Lab, net: Option<&Net>, port: u16) -> Running {
    let mut command = lab.command(&["python3", "-c", FROM_BEFORE, &port.to_string()]);
    lab.enter_cgroup("guarded/early", &mut command);
    net.inspect(|net| net.enter(&mut command));
    let running = Running::start(&mut command);
    running.wait_for_stdout("open", Duration::from_secs(10));
    running
}

/// First under rules that do not name the database, then under rules that do.
fn assert_silenced(lab: &Lab, net: Option<&Net>, port: u16) {
    let mut early = from_before(lab, net, port);
    lab.policies(&Rules::allowing().resource(1), &Rules::allowing().policies());
    lab.start();
    early.write("ungoverned\n");
    early.wait_for_stdout("ungoverned answered", Duration::from_secs(10));
    lab.policies(&Rules::allowing().resource(port), &Rules::allowing().policies());
    let denied = if let Some(net) = net { namespace(net) } else { Namespace::Own };
    eventually("the deny is there", Duration::from_secs(10), || {
        let rules = std::process::Command::new("nft")
            .args(["list", "table", "inet", &table(lab).to_string()])
            .nsenter(net)
            .output()
            .expect("nftables is installed");
        String::from_utf8_lossy(&rules.stdout).contains(&format!("127.0.0.1 . {port}")).then_some(())
    });
    assert!(deny::is_installed(&denied, &table(lab)).expect("nftables answers"));
    early.write("governed\n");
    early.wait_for_stdout("governed silence", Duration::from_secs(10));
    let status = lab.holdpoint(&["status", "-o", "json"]).stdout;
    assert!(dropped(&status) > 0, "the drop was not counted: {status}");
    // Nor by a gateway that is gone.
    lab.kill();
    early.write("dead\n");
    early.wait_for_stdout("dead silence", Duration::from_secs(10));
    early.signal(nix::sys::signal::Signal::SIGKILL);
    let config = lab.config().display().to_string();
    lab.holdpoint(&["uninstall", "--config", &config]).ok().says(&["removed the deny from 1 network namespace"]);
    assert!(!deny::is_installed(&denied, &table(lab)).expect("nftables answers"));
}

/// Everybody is denied: nobody is in the lab's own cgroup.
fn all_but_nobody(lab: &Lab) -> Whose {
    let hierarchy = Hierarchy::find().expect("cgroup v2 is mounted");
    let above = lab.guard().parent().expect("the guarded cgroup is in the lab's").to_owned();
    Whose::AllBut(Maker::of(&hierarchy, hierarchy.id(&above).expect("the lab made it")).expect("it has a path"))
}

/// What all denies have dropped.
fn dropped(status: &str) -> u64 {
    let lines = status.lines().filter_map(|line| line.trim().strip_prefix("\"dropped\": "));
    lines.filter_map(|count| count.trim_end_matches(',').parse::<u64>().ok()).sum()
}

#[test]
fn n1_a_socket_from_before_the_guard_is_silenced_in_a_namespace_of_its_own() {
    let lab = Lab::new("n1-own");
    let net = Net::make();
    let pg = Postgres::start_inside(&lab, &net);
    assert_silenced(&lab, Some(&net), pg.port());
}

#[test]
fn n1_a_socket_from_before_the_guard_is_silenced_in_the_gateways_namespace() {
    let lab = Lab::new("n1-host");
    let pg = Postgres::start(&lab);
    assert_silenced(&lab, None, pg.port());
}

#[test]
fn n4_what_a_packet_socket_sends_is_stopped_on_the_hosts_side() {
    let lab = Lab::new("n4-packet");
    let (net, ends) = Net::joined();
    let pg = Postgres::start(&lab);
    let port = forger::forwarder(ends.outside, pg.port());
    let outside = ends.outside.to_string();
    let rules =
        |port: u16| Rules::allowing().resource(port).replace("127.0.0.1", &outside).replace("[::1]", "[fd00::1]");
    let by_hand = || forger::by_hand(&lab, &net, &ends, port);
    // The mechanism off: nobody governs the destination.
    lab.policies(&rules(1), &Rules::allowing().policies());
    lab.start();
    assert_eq!(by_hand(), "answered");
    // The kernel takes tags of no VLAN away, one of them before the host's side is asked.
    let tagged = || {
        ["81000000", "8100000081000000", "88a8000081000000"].map(|tags| forger::tagged(&lab, &net, &ends, port, tags))
    };
    // On.
    lab.policies(&rules(port), &Rules::allowing().policies());
    eventually("the destination is governed", Duration::from_secs(10), || (by_hand() == "silence").then_some(()));
    assert_eq!(tagged(), ["silence"; 3]);
    let url = format!("postgresql://app@{outside}:{port}/shop");
    lab.bot("pod").inside(&net).psql(&url, "SELECT 'the proper way'").ok();
    assert_eq!(lab.record().forwarded("'the proper way'"), 1);
    lab.holdpoint(&["status"]).says(&["packets that no socket had sent"]);
    // What the program alone does: without its link, and with the deny that packet sockets pass by still there.
    lab.kill();
    assert_eq!(by_hand(), "silence");
    lab.run(&["rm", "-r", &lab.path("bpf/holdpoint/veths").display().to_string()]).ok();
    assert_eq!(by_hand(), "answered");
    assert_eq!(tagged(), ["answered"; 3]);
}

#[test]
fn the_deny_decides_as_the_kernel_programs_do() {
    let net = Net::make();
    let rule = |to: &str, port, action| Rule { to: to.parse().expect("a network"), port, action };
    let rules = [
        rule("127.1.0.0/16", None, Action::Refuse),
        rule("127.1.1.0/24", None, Action::Pass),
        rule("127.1.1.1", Some(7), Action::Intercept),
        rule("127.1.0.0/16", Some(8), Action::Pass),
        rule("127.1.2.2", Some(8), Action::Intercept),
        rule("127.1.2.2", Some(8), Action::Pass),
        rule("::1", Some(7), Action::Intercept),
    ];
    let name = TableName::of(std::path::Path::new("/test/decides"));
    let lab = Lab::new("decides");
    let mut deny = Deny::install(&namespace(&net), &name, &all_but_nobody(&lab), &rules).expect("nftables takes it");
    let source = "import socket as s,sys\nfor to in sys.argv[1:]:\n  host,port=to.rsplit(':',1)\n  \
        f=s.AF_INET6 if ':' in host else s.AF_INET\n  r=s.socket(f,s.SOCK_DGRAM); r.bind((host,int(port))); r.settimeout(1)\n  \
        c=s.socket(f,s.SOCK_DGRAM)\n  try: c.sendto(b'x',(host,int(port))); r.recv(1); print(to,'arrived')\n  \
        except (TimeoutError,PermissionError): print(to,'dropped')\n";
    let asked = [
        "127.1.9.9:7",
        "127.1.1.9:7",
        "127.1.1.1:7",
        "127.1.1.1:8",
        "127.1.2.2:8",
        "127.1.3.3:8",
        "127.2.1.1:7",
        "::1:7",
        "::1:8",
    ];
    let mut command = std::process::Command::new("python3");
    command.args(["-c", source]).args(asked);
    net.enter(&mut command);
    let said = String::from_utf8(command.output().expect("python is installed").stdout).expect("text");
    let expected = ["dropped", "arrived", "dropped", "arrived", "dropped", "arrived", "arrived", "dropped", "arrived"];
    let expected: String = asked.iter().zip(expected).map(|(to, how)| format!("{to} {how}\n")).collect();
    assert_eq!(said, expected);
    assert_eq!(deny.dropped().expect("nftables answers"), 4);
}

#[test]
fn n6_whatever_is_done_to_the_deny_is_noticed_and_ten_thousand_rules_fit() {
    let net = Net::make();
    let name = TableName::of(std::path::Path::new("/test/noticed"));
    let rules: Vec<_> = (0..10_000_u16)
        .map(|number| {
            let to = std::net::Ipv4Addr::from(0x0a00_0000 + u32::from(number));
            Rule { to: std::net::IpAddr::from(to).into(), port: Some(1000 + number), action: Action::Intercept }
        })
        .collect();
    let lab = Lab::new("noticed");
    let whose = all_but_nobody(&lab);
    let nft = |command: &str| {
        let done =
            std::process::Command::new("nft").arg(command).nsenter(Some(&net)).status().expect("nftables is installed");
        assert!(done.success(), "{command}");
    };
    let started = std::time::Instant::now();
    let mut deny = Deny::install(&namespace(&net), &name, &whose, &rules).expect("nftables takes it");
    println!("10,000 rules put in force in {:?}", started.elapsed());
    let started = std::time::Instant::now();
    assert!((0..1000).all(|_| deny.is_intact().expect("nftables answers")));
    println!("asked a thousand times in {:?}", started.elapsed());
    // Somebody else's business.
    nft("add table inet other { chain output { type filter hook output priority 0; }; }");
    assert!(deny.is_intact().expect("nftables answers"));
    for tampering in [
        format!("flush chain inet {name} governed"),
        format!("flush table inet {name}"),
        format!("delete table inet {name}"),
        format!("add table inet {name} {{ flags dormant; }}"),
        "flush ruleset".to_owned(),
    ] {
        nft(&tampering);
        assert!(!deny.is_intact().expect("nftables answers"), "{tampering}");
        deny = Deny::install(&namespace(&net), &name, &whose, &rules).expect("nftables takes it");
        assert!(deny.is_intact().expect("nftables answers"));
    }
    deny.replace(&whose, &rules[..10]).expect("nftables takes it");
    assert!(deny.is_intact().expect("nftables answers"));
}

/// Other gateways, a CNI and firewalls change theirs all the time: that is no reason to doubt a deny.
#[test]
fn what_others_change_meanwhile_disturbs_no_question() {
    let net = Net::make();
    let lab = Lab::new("busy");
    let whose = all_but_nobody(&lab);
    let rule = |number: u16| Rule {
        to: std::net::IpAddr::from([10, 0, 0, 1]).into(),
        port: Some(1000 + number),
        action: Action::Intercept,
    };
    let name = |name: &str| TableName::of(std::path::Path::new(name));
    let mut deny = Deny::install(&namespace(&net), &name("/test/calm"), &whose, &[rule(0)]).expect("nftables takes it");
    // More than one answer of the kernel's holds, so that a change can come between two.
    let many: String = (0..2000).map(|port| format!("add rule inet crowd c tcp dport {port} drop;")).collect();
    let mut nft = std::process::Command::new("nft");
    let crowd = nft.arg(format!("add table inet crowd; add chain inet crowd c; {many}")).nsenter(Some(&net)).status();
    assert!(crowd.expect("nftables is installed").success());
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let meddler = scope.spawn(|| {
            let mut changes = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let mut other = Deny::install(&namespace(&net), &name("/test/busy"), &whose, &[rule(changes)])?;
                other.dropped()?;
                changes += 1;
            }
            Ok::<_, std::io::Error>(changes)
        });
        for _ in 0..300 {
            let asked = deny.is_intact().and_then(|intact| Ok((intact, deny.dropped()?)));
            if !matches!(asked, Ok((true, 0))) {
                over.store(true, std::sync::atomic::Ordering::Relaxed);
                panic!("{asked:?}");
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        let changes = meddler.join().expect("it does not panic").expect("nftables takes its changes");
        assert!(changes > 0, "nobody changed anything meanwhile");
    });
}

#[test]
fn namespaces_come_and_go_and_each_bot_reaches_its_own_database() {
    let lab = Lab::new("many");
    let shared = Net::make();
    let pg = Postgres::start_inside(&lab, &shared);
    lab.policies(&Rules::allowing().resource(pg.port()), &Rules::allowing().policies());
    lab.start();
    // Namespaces that have no database at that address: served there, and told that nobody answers.
    for round in 0..3 {
        let nets: Vec<_> = (0..16).map(|_| Net::make()).collect();
        std::thread::scope(|scope| {
            for (number, net) in nets.iter().enumerate() {
                let (lab, pg) = (&lab, &pg);
                scope.spawn(move || {
                    let bot = lab.bot(&format!("elsewhere-{number}")).inside(net);
                    bot.psql(&pg.url(), &format!("SELECT 'lost {round} {number}'"))
                        .failed()
                        .says(&["cannot be reached"]);
                });
            }
            lab.bot("at-home").inside(&shared).psql(&pg.url(), &format!("SELECT 'home {round}'")).ok();
        });
    }
    let record = lab.record();
    assert!((0..3).all(|round| record.forwarded(&format!("'home {round}'")) == 1));
    assert_eq!(pg.ran("'lost"), 0);
    eventually("every namespace is let go of", Duration::from_secs(20), || {
        let status = lab.holdpoint(&["status", "-o", "json"]).stdout;
        status.contains("\"namespaces\": []").then_some(())
    });
}
