//! Workloads in network namespaces of their own: served there, denied there, and nothing else there.
//!
//! Bot and database share a namespace that has a loopback only, so whatever answers was reached inside it.

use std::time::Duration;

use holdpoint::{
    intercept::deny::{self, TableName},
    net::Namespace,
};
use tests::{Lab, Net, Outcome, Postgres, Rules, eventually};

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
    tests::Running::start(&mut command).finish(Duration::from_secs(20))
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
