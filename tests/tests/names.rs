//! Names: what bots are told of a governed host is in force before they hear it, whatever server told them.
//!
//! Real name servers (dnsmasq), real resolvers. A bot and the gateway ask servers that say different things about the same
//! host, as they do in clusters and offices.

use std::{fs, time::Duration};

use tests::{Lab, Net, Postgres, Rules, Running, eventually, venv};

/// dnsmasq, on port 53 of an address that nobody else has.
struct NameServer {
    running: Running,
}

impl NameServer {
    /// Knows `hosts` (`name/address`, or `alias,name`) and the rest of `internal` not at all.
    fn start(lab: &Lab, net: Option<&Net>, address: &str, hosts: &[String]) -> Self {
        let hosts = hosts.iter().map(|host| match host.contains('/') {
            true => format!("--host-record={}", host.replace('/', ",")),
            false => format!("--cname={host}"),
        });
        let words = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"];
        let more =
            ["--pid-file=", "--user=root", "--bind-interfaces", "--port=53", "--local=/internal/", "--local-ttl=5"];
        let log = ["--log-queries", "--log-facility=-"];
        let argv: Vec<String> = words.into_iter().chain(more).chain(log).map(str::to_owned).collect();
        let listen = [format!("--listen-address={address}"), "--except-interface=none".to_owned()];
        let argv: Vec<String> = argv.into_iter().chain(listen).chain(hosts).collect();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        Self::run(lab, net, &argv, "started")
    }

    /// Answers every query for an address with twenty new ones.
    fn liar(lab: &Lab, net: &Net, address: &str) -> Self {
        const LIAR: &str = "import socket,struct,sys\n\
            s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind((sys.argv[1],53)); n=0x0a000000\n\
            print('started',file=sys.stderr,flush=True)\n\
            while True:\n\
            \x20q,c=s.recvfrom(512); e=q.index(0,12)+5; a=b''\n\
            \x20for i in range(20):\n\
            \x20 n+=1; a+=b'\\xc0\\x0c'+struct.pack('>HHIHI',1,1,60,4,n)\n\
            \x20s.sendto(q[:2]+struct.pack('>HHHHH',0x8180,1,20,0,0)+q[12:e]+a,c)\n";
        Self::run(lab, Some(net), &["python3", "-c", LIAR, address], "started")
    }

    fn run(lab: &Lab, net: Option<&Net>, argv: &[&str], ready: &str) -> Self {
        let mut command = lab.command(argv);
        net.inspect(|net| net.enter(&mut command));
        let running = Running::start(&mut command);
        running.wait_for_stderr(ready, Duration::from_secs(10));
        Self { running }
    }

    /// How often `name` was asked for.
    fn asked(&self, name: &str) -> usize {
        self.running.stderr().lines().filter(|line| line.contains("query[") && line.contains(name)).count()
    }
}

/// The resource, with endpoints at `port` of `hosts`.
fn at(rules: &Rules, hosts: &[String], port: u16) -> String {
    let (given, named) = (format!("[\"127.0.0.1:{port}\", \"[::1]:{port}\"]"), |host| format!("\"{host}:{port}\""));
    let text = rules.resource(port);
    assert!(text.contains(&given), "{text}");
    text.replace(&given, &format!("[{}]", hosts.iter().map(named).collect::<Vec<_>>().join(", ")))
}

/// A lab whose programs ask the name server at the address that is returned, inside and outside of `net` alike.
fn lab(name: &str, test: u8) -> (Lab, Net, String) {
    // Before the lab, which binds it to where bots can run it.
    venv();
    let (lab, net) = (Lab::new(name), Net::make());
    let server = format!("127.{}.{test}.1", 100 + std::process::id() % 100);
    for (file, text) in [
        ("resolv.conf", format!("nameserver {server}\noptions timeout:2 attempts:2\n")),
        ("nsswitch.conf", "hosts: files dns\n".to_owned()),
    ] {
        let ours = lab.path(file);
        fs::write(&ours, text).expect("the lab's directory is ours");
        lab.run(&["mount", "--bind", &ours.display().to_string(), &format!("/etc/{file}")]).ok();
    }
    (lab, net, server)
}

/// One that bots can run, too.
fn python(lab: &Lab) -> String {
    lab.path("venv/bin/python").display().to_string()
}

/// `ask(name, server, connected=False, family=AF_INET)` and `tcp(names, server)`: the code, the addresses, and from whom.
const ASK: &str = "import socket,struct,sys,time\n\
def query(name,id=7,kind=1):\n\
\x20return struct.pack('>HHHHHH',id,0x0100,1,0,0,0)+b''.join(bytes([len(p)])+p.encode() for p in name.split('.'))+struct.pack('>BHH',0,kind,1)\n\
def read(a):\n\
\x20at=12+a[12:].index(0)+5; found=[]\n\
\x20for _ in range(struct.unpack('>H',a[6:8])[0]):\n\
\x20 kind,_,_,size=struct.unpack('>HHIH',a[at+2:at+12]); found.append(socket.inet_ntoa(a[at+12:at+16])); at+=12+size\n\
\x20return a[3]&15,found,struct.unpack('>H',a[:2])[0]\n\
def ask(name,server,connected=False,family=socket.AF_INET,timeout=5,bind=None):\n\
\x20s=socket.socket(family,socket.SOCK_DGRAM); s.settimeout(timeout)\n\
\x20if bind: s.bind(bind)\n\
\x20if connected:\n\
\x20 s.connect((server,53)); s.send(query(name)); peer=s.getpeername(); a=s.recv(4096); f=peer\n\
\x20else:\n\
\x20 s.sendto(query(name),(server,53)); a,f=s.recvfrom(4096)\n\
\x20return read(a)+(f[0],f[1])\n\
def tcp(names,server):\n\
\x20s=socket.create_connection((server,53),5); r=[]\n\
\x20for n in names:\n\
\x20 q=query(n,9); s.sendall(struct.pack('>H',len(q))+q); l=struct.unpack('>H',s.recv(2))[0]; a=b''\n\
\x20 while len(a)<l: a+=s.recv(l-len(a))\n\
\x20 r.append(read(a))\n\
\x20return r\n";

#[test]
fn n3_a_host_is_governed_at_the_address_that_the_bot_was_told() {
    let (lab, net, server) = lab("split", 1);
    let pg = Postgres::start_inside(&lab, &net);
    let _the_gateways = NameServer::start(&lab, None, &server, &["db.internal/127.0.0.77".into()]);
    let the_bots = NameServer::start(&lab, Some(&net), &server, &["db.internal/127.0.0.1".into()]);
    let rules = Rules::allowing().refuse("schema-changes", "schema");
    lab.policies(&at(&rules, &["db.internal".into()], pg.port()), &rules.policies());
    let (bot, url) = (lab.bot("pod").inside(&net), pg.url_at("db.internal"));
    // The mechanism off: the gateway governs the address that it was told itself, and the bot goes elsewhere.
    lab.set("dns", "off");
    lab.start();
    bot.psql(&url, "SELECT 'unseen'").ok();
    assert!(pg.saw("'unseen'") && lab.record().forwarded("'unseen'") == 0);
    lab.stop().ok();
    // On.
    lab.set("dns", "on");
    lab.start();
    let before = the_bots.asked("db.internal");
    bot.psql(&url, "SELECT 'governed'").ok();
    bot.psql(&url, "DROP TABLE target").failed().says(&["42501"]);
    assert!(the_bots.asked("db.internal") > before, "the bot's own name server is the one that is asked");
    assert_eq!(lab.record().forwarded("'governed'"), 1);
    // It stays governed by its address alone, while the gateway is down and after a restart.
    lab.kill();
    bot.psql(&pg.url(), "SELECT 'while it is down'").failed();
    lab.start();
    bot.psql(&pg.url(), "SELECT 'by address'").ok();
    assert!(!pg.saw("'while it is down'") && !pg.saw("DROP TABLE"));
    assert_eq!(lab.record().forwarded("'by address'"), 1);
}

#[test]
fn n3_a_host_that_the_gateway_cannot_resolve_is_governed_where_a_bot_finds_it() {
    let (lab, net, server) = lab("unresolved", 2);
    let pg = Postgres::start_inside(&lab, &net);
    let _the_bots = NameServer::start(&lab, Some(&net), &server, &["db.internal/127.0.0.1".into()]);
    let rules = Rules::allowing();
    lab.policies(&at(&rules, &["db.internal".into()], pg.port()), &rules.policies());
    lab.set("dns", "off");
    lab.start_failing().says(&["db.internal cannot be resolved"]);
    lab.set("dns", "on");
    lab.start();
    assert_eq!(lab.gateway_log().matches("governed where a bot's own lookup finds it").count(), 1);
    lab.bot("pod").inside(&net).psql(&pg.url_at("db.internal"), "SELECT 'found'").ok();
    assert_eq!(lab.record().forwarded("'found'"), 1);
}

#[test]
fn n3_answers_come_from_the_server_that_was_asked_over_every_kind_of_socket() {
    let (lab, net, server) = lab("kinds", 3);
    let one = NameServer::start(&lab, Some(&net), &server, &["x.internal/10.1.2.3".into()]);
    let _v6 = NameServer::start(&lab, Some(&net), "::1", &["x.internal/10.1.2.4".into()]);
    let rules = Rules::allowing();
    lab.policies(&rules.resource(1), &rules.policies());
    lab.start();
    let source = format!(
        "{ASK}\n\
         S=sys.argv[1]; v4=socket.AF_INET; v6=socket.AF_INET6\n\
         assert ask('x.internal',S)==(0,['10.1.2.3'],7,S,53), 'unconnected'\n\
         assert ask('x.internal',S,True)==(0,['10.1.2.3'],7,S,53), 'connected'\n\
         assert ask('x.internal','::1',False,v6)==(0,['10.1.2.4'],7,'::1',53), 'IPv6'\n\
         assert ask('x.internal','::1',True,v6)==(0,['10.1.2.4'],7,'::1',53), 'IPv6, connected'\n\
         assert ask('x.internal','::ffff:'+S,True,v6)[:3]==(0,['10.1.2.3'],7), 'mapped'\n\
         assert ask('x.internal',S,bind=('127.0.0.9',0))==(0,['10.1.2.3'],7,S,53), 'bound'\n\
         assert ask('none.internal',S)[0]==3, 'no such name'\n\
         assert tcp(['x.internal','none.internal','x.internal'],S)==[(0,['10.1.2.3'],9),(3,[],9),(0,['10.1.2.3'],9)], 'TCP'\n\
         s=socket.socket(v4,socket.SOCK_DGRAM); s.settimeout(5); s.sendto(query('x.internal',1),(S,53)); s.recvfrom(512)\n\
         s.sendto(query('x.internal',2),(S,53)); a,f=s.recvfrom(512); assert (read(a)[2],f)==(2,(S,53)), 'twice'\n\
         begun=time.time(); r=ask('x.internal','127.9.9.8'); assert r[0]==2 and time.time()-begun<2, 'nobody there'\n\
         print('all')\n"
    );
    lab.bot("pod").inside(&net).run(&[&python(&lab), "-c", &source, &server]).ok().says(&["all"]);
    // Each of them arrived once.
    assert_eq!((one.asked("x.internal"), one.asked("none.internal")), (8, 2));
}

#[test]
fn n3_nobody_hears_an_address_before_it_is_governed() {
    const HOSTS: usize = 40;
    let (lab, net, server) = lab("race", 4);
    let hosts: Vec<_> = (0..HOSTS).map(|number| format!("h{number}.internal")).collect();
    let addressed = hosts.iter().enumerate().map(|(number, host)| format!("{host}/127.0.1.{}", number + 1));
    let _server = NameServer::start(&lab, Some(&net), &server, &addressed.collect::<Vec<_>>());
    let elsewhere: Vec<_> = hosts.iter().map(|host| format!("{host}/127.0.0.77")).collect();
    let _the_gateways = NameServer::start(&lab, None, &server, &elsewhere);
    // Whoever gets here has gone direct: the gateway dials no backend for what is no PostgreSQL.
    let backend = "import socket,sys\ns=socket.create_server(('0.0.0.0',0),backlog=200)\nprint(s.getsockname()[1],flush=True)\n\
        while True:\n\x20c,_=s.accept(); c.sendall(b'direct'); c.close()\n";
    let mut command = lab.command(&["python3", "-c", backend]);
    net.enter(&mut command);
    let backend = Running::start(&mut command);
    let port = eventually("the backend listens", Duration::from_secs(10), || backend.stdout().trim().parse().ok());
    let rules = Rules::allowing();
    lab.policies(&at(&rules, &hosts, port), &rules.policies());
    // Eight threads resolve and connect at once, so that many wait for the same change of the rules.
    let source = "import socket,sys\nfrom concurrent.futures import ThreadPoolExecutor\n\
        def go(i):\n\
        \x20a=socket.getaddrinfo(f'h{i}.internal',int(sys.argv[1]),socket.AF_INET,socket.SOCK_STREAM)[0][4]\n\
        \x20try:\n\
        \x20 c=socket.create_connection(a,5); c.settimeout(5); c.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); return b'direct' in c.recv(100)\n\
        \x20except OSError: return False\n\
        r=list(ThreadPoolExecutor(8).map(go,[i//2 for i in range(2*int(sys.argv[2]))]))\n\
        print('direct',sum(r),'of',len(r))\n";
    let (port, count) = (port.to_string(), HOSTS.to_string());
    let bot = lab.bot("pod").inside(&net);
    lab.set("dns", "off");
    lab.start();
    bot.run(&[&python(&lab), "-c", source, &port, &count]).ok().says(&["direct 80 of 80"]);
    lab.stop().ok();
    lab.set("dns", "on");
    lab.start();
    bot.run(&[&python(&lab), "-c", source, &port, &count]).ok().says(&["direct 0 of 80"]);
}

#[test]
fn n3_a_server_that_lies_makes_nothing_forgotten() {
    let (lab, net, server) = lab("liar", 5);
    let pg = Postgres::start_inside(&lab, &net);
    let _the_bots = NameServer::start(&lab, Some(&net), &server, &["db.internal/127.0.0.1".into()]);
    let _liar = NameServer::liar(&lab, &net, "127.9.9.9");
    let rules = Rules::allowing();
    lab.policies(&at(&rules, &["db.internal".into()], pg.port()), &rules.policies());
    lab.start();
    let bot = lab.bot("pod").inside(&net);
    bot.psql(&pg.url_at("db.internal"), "SELECT 'before'").ok();
    let source =
        format!("{ASK}\nc=[ask('db.internal','127.9.9.9')[0] for _ in range(20)]; print(c.count(0),c.count(2),c[-1])");
    // 256 addresses may be learnt, and one is: twelve answers of twenty fit.
    bot.run(&[&python(&lab), "-c", &source]).ok().says(&["12 8 2"]);
    bot.psql(&pg.url(), "SELECT 'after'").ok();
    assert_eq!(lab.record().forwarded("'after'"), 1);
    assert!(lab.gateway_log().contains("too many addresses of governed hosts"));
}

#[test]
fn n3_what_is_learnt_opens_no_network_that_is_refused() {
    let (lab, net, server) = lab("opens", 8);
    let _the_bots = NameServer::start(&lab, Some(&net), &server, &["db.internal/127.7.7.7".into()]);
    let rules = Rules::allowing();
    lab.policies(&at(&rules, &["db.internal".into()], 5432), &rules.policies());
    let (bot, url) = (lab.bot("pod").inside(&net), "postgresql://app@db.internal:5432/shop");
    // Off: the address is intercepted, and the gateway dials it.
    lab.start();
    bot.psql(url, "SELECT 1").failed().says(&["the backend cannot be reached"]);
    lab.stop().ok();
    lab.set("network", "[{ to: 127.7.0.0/16, action: refuse }]");
    lab.start();
    bot.psql(url, "SELECT 1").failed().says(&["Operation not permitted"]);
}

#[test]
fn n3_an_address_that_is_two_resources_is_nobodys() {
    let (lab, net, server) = lab("two", 9);
    let pg = Postgres::start_inside(&lab, &net);
    let hosts = ["db.internal/127.0.0.1".to_owned(), "lax.internal/127.0.0.1".to_owned()];
    let _the_bots = NameServer::start(&lab, Some(&net), &server, &hosts);
    let (strict, lax) = (Rules::refusing(), Rules::allowing());
    let lax = at(&lax, &["lax.internal".into()], pg.port()).replace("resource: shop", "resource: lax");
    lab.policies(&format!("{}---\n{lax}", at(&strict, &["db.internal".into()], pg.port())), "");
    lab.start();
    let bot = lab.bot("pod").inside(&net);
    bot.psql(&pg.url_at("lax.internal"), "SELECT 'as the lax one'").ok();
    // Whoever is told the truth brings it to light, and from then on no policy is picked for it by a bot.
    lab.bot("other").inside(&net).psql(&pg.url_at("db.internal"), "SELECT 'as the strict one'").failed();
    bot.psql(&pg.url_at("lax.internal"), "SELECT 'still as the lax one'").failed();
    assert!(!pg.saw("strict one") && !pg.saw("still"));
    assert!(lab.record().contains("bots were told that 127.0.0.1:"));
}

#[test]
fn n3_aliases_and_short_hosts_are_governed_where_they_lead() {
    let (lab, net, server) = lab("alias", 10);
    let pg = Postgres::start_inside(&lab, &net);
    let hosts = ["real.internal/127.0.0.1", "db.internal,real.internal", "sh.pod.internal/127.0.0.1"];
    let _the_bots = NameServer::start(&lab, Some(&net), &server, &hosts.map(str::to_owned));
    let rules = Rules::allowing();
    let bot = lab.bot("pod").inside(&net);
    let run = |source: &str| bot.run(&[&python(&lab), "-c", &format!("{ASK}\n{source}"), &server]).ok();
    lab.policies(&at(&rules, &["db.internal".into()], pg.port()), &rules.policies());
    lab.start();
    // Nobody asked for the alias: that name is another one's.
    run("ask('real.internal',sys.argv[1])");
    bot.psql(&pg.url(), "SELECT 'direct'").ok();
    run(
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.sendto(query('db.internal',7,5),(sys.argv[1],53)); s.recv(512)\n\
         ask('real.internal',sys.argv[1])",
    );
    bot.psql(&pg.url(), "SELECT 'by the alias'").ok();
    let record = lab.record();
    assert_eq!((record.forwarded("'direct'"), record.forwarded("'by the alias'")), (0, 1));
    lab.stop().ok();
    // A search domain that only the bot has.
    fs::remove_file(lab.path("run/names.json")).expect("it was written");
    lab.policies(&at(&rules, &["sh".into()], pg.port()), &rules.policies());
    lab.start();
    run("ask('sh.pod.internal',sys.argv[1])");
    bot.psql(&pg.url(), "SELECT 'by the short name'").ok();
    assert_eq!(lab.record().forwarded("'by the short name'"), 1);
}

#[test]
fn n3_one_bots_queries_take_no_room_from_others() {
    let (lab, net, server) = lab("room", 11);
    let _server = NameServer::start(&lab, Some(&net), &server, &["x.internal/10.1.2.3".into()]);
    let rules = Rules::allowing();
    lab.policies(&rules.resource(1), &rules.policies());
    lab.start();
    // More senders than there is room for, from one socket.
    let source = format!(
        "{ASK}\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); q=query('x.internal')\n\
         for n in range(20000):\n\
         \x20from_=struct.pack('=i4s4s',0,bytes([127,2,n>>8,n&255]),bytes(4))\n\
         \x20s.sendmsg([q],[(socket.IPPROTO_IP,8,from_)],0,('127.9.9.8',53))\n\
         print('sent')"
    );
    let flood = lab.bot("flood").inside(&net).run(&[&python(&lab), "-c", &source]).ok();
    flood.says(&["sent"]);
    let source = format!("{ASK}\nprint(ask('x.internal',sys.argv[1],timeout=10))");
    lab.bot("other").inside(&net).run(&[&python(&lab), "-c", &source, &server]).ok().says(&["10.1.2.3"]);
    lab.holdpoint(&["status"]).ok().hides("no room");
}

#[test]
fn n3_names_are_answered_through_an_upgrade() {
    let (lab, net, server) = lab("names-upgrade", 6);
    let _server = NameServer::start(&lab, Some(&net), &server, &["x.internal/10.1.2.3".into()]);
    let rules = Rules::allowing();
    lab.policies(&rules.resource(1), &rules.policies());
    lab.start();
    // As resolvers do: asked again after a while, at most twice.
    let source = format!(
        "{ASK}\n\
         good=bad=0; print('begun',flush=True)\n\
         while not bad and not __import__('select').select([sys.stdin],[],[],0)[0]:\n\
         \x20for _ in range(3):\n\
         \x20 try: r=ask('x.internal',sys.argv[1],timeout=1)[0]; break\n\
         \x20 except OSError: r=-1\n\
         \x20good,bad=good+(r==0),bad+(r!=0)\n\
         print('bad',bad); print('enough' if good>100 else 'few')\n"
    );
    let mut asking = lab.bot("pod").inside(&net).start(&[&python(&lab), "-u", "-c", &source, &server]);
    asking.wait_for_stdout("begun", Duration::from_secs(10));
    lab.upgrade();
    asking.write("end\n");
    asking.finish(Duration::from_secs(20)).ok().says(&["bad 0", "enough"]);
}

#[test]
fn n3_who_is_not_guarded_gets_no_answer_from_the_gateway() {
    let (lab, _net, server) = lab("stranger", 7);
    let _server = NameServer::start(&lab, None, &server, &["x.internal/10.1.2.3".into()]);
    let rules = Rules::allowing();
    lab.policies(&rules.resource(1), &rules.policies());
    lab.start();
    let port = lab.gateway().as_ref().expect("it runs").port();
    let source = format!(
        "{ASK}\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(1); s.sendto(query('x.internal'),('127.0.0.1',int(sys.argv[2])))\n\
         try: s.recvfrom(512); print('answered')\n\
         except TimeoutError: print('silence')\n\
         print(ask('x.internal',sys.argv[1]))"
    );
    let argv = [&python(&lab), "-c", source.as_str(), &server, &port.to_string()];
    // A stranger's datagrams are dropped, and its own queries go where they are sent.
    lab.run(&argv).ok().says(&["silence", "10.1.2.3"]);
    // A guarded process has no way to the port but through the hooks.
    lab.bot("ci").run(&argv).failed().says(&["Operation not permitted"]);
}
