//! What operators and machines get wrong: the error says what happened, why, and what to do, and nothing is lost.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use tests::{Gateway, Lab, Pace, Postgres, Rules, eventually};

fn rules() -> Rules {
    Rules::allowing().hold("schema-changes", "schema")
}

/// A lab that has served and recorded something, with its gateway stopped.
fn with_a_past(name: &str) -> (Lab, Postgres) {
    let (lab, pg) = Lab::with_shop(name, &rules());
    lab.bot("ci").psql(&pg.url(), "SELECT 'the past'").ok();
    lab.stop().ok();
    (lab, pg)
}

/// After the trouble is over, what was recorded before is there and new operations work.
#[track_caller]
fn assert_nothing_lost(lab: &Lab, pg: &Postgres) {
    lab.start();
    lab.bot("ci").psql(&pg.url(), "SELECT 'the present'").ok();
    let record = lab.record();
    assert_eq!((record.forwarded("the past"), record.forwarded("the present")), (1, 1));
    lab.verify();
}

#[test]
fn unknown_key_in_a_policy() {
    let (lab, pg) = with_a_past("policy-key");
    let good = rules();
    lab.policies(
        &good.resource(pg.port()),
        "policy: p\nmatch: { effects: [schema] }\ndecide: refuse\nunles: { resource: shop }\n",
    );
    let said = lab.start_failing().says(&["policies.yaml:4", "unles", "unless"]);
    assert!(!said.all().contains("panicked"), "{said}");
    let checked = lab.holdpoint(&["policy", "check", &lab.path("policies").display().to_string()]);
    checked.failed().says(&["policies.yaml:4", "unles"]);
    lab.policies(&good.resource(pg.port()), &good.policies());
    assert_nothing_lost(&lab, &pg);
}

#[test]
fn unknown_key_in_the_settings() {
    let (lab, pg) = with_a_past("settings-key");
    let good = fs::read_to_string(lab.config()).expect("the settings are there");
    fs::write(lab.config(), format!("{good}durabilty: synced\n")).expect("the settings are ours");
    lab.start_failing().says(&["holdpoint.yaml", "durabilty"]);
    fs::write(lab.config(), good).expect("the settings are ours");
    assert_nothing_lost(&lab, &pg);
}

#[test]
fn missing_kernel_feature() {
    let (lab, pg) = with_a_past("no-bpffs");
    // A directory on an ordinary file system stands for a kernel without bpffs: pins cannot be made there.
    lab.set("bpffs", &format!("\"{}\"", lab.path("run").display()));
    lab.start_failing().says(&["bpf", "mount -t bpf"]);
    // The programs cannot be loaded either when the kernel refuses them: without CAP_BPF it answers as without BPF.
    lab.set("bpffs", &format!("\"{}\"", lab.path("bpf/holdpoint").display()));
    assert_nothing_lost(&lab, &pg);
}

#[test]
fn no_root() {
    let (lab, pg) = with_a_past("no-root");
    let config = lab.config().display().to_string();
    lab.holdpoint_as("games", &["run", "--config", &config]).failed().says(&["root"]);
    lab.holdpoint_as("games", &["exec", "--config", &config, "--", "true"]).failed().says(&["root"]);
    assert_nothing_lost(&lab, &pg);
}

#[test]
fn port_taken() {
    let (lab, pg) = with_a_past("port");
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    let port = v4.local_addr().expect("it is bound").port();
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
    lab.set("port", &port.to_string());
    lab.start_failing().says(&[&port.to_string(), "in use", "port"]);
    lab.set("port", "0");
    drop((v4, v6));
    assert_nothing_lost(&lab, &pg);
}

#[test]
fn store_in_use() {
    let (lab, pg) = with_a_past("store-in-use");
    lab.start();
    let first = lab.gateway().take().expect("it runs");
    // A second gateway with places of its own, but the same store.
    lab.set("run", &format!("\"{}\"", lab.path("run2").display()));
    lab.set("bpffs", &format!("\"{}\"", lab.path("bpf/second").display()));
    lab.set("guard", &format!("[\"{}\"]", lab.guard().with_file_name("second").display()));
    lab.start_failing().says(&["state", "another", "holdpoint"]);
    *lab.gateway() = Some(first);
    lab.set("run", &format!("\"{}\"", lab.path("run").display()));
    lab.set("bpffs", &format!("\"{}\"", lab.path("bpf/holdpoint").display()));
    lab.set("guard", &format!("[\"{}\"]", lab.guard().display()));
    lab.bot("ci").psql(&pg.url(), "SELECT 'undisturbed'").ok();
    assert_eq!(lab.record().forwarded("undisturbed"), 1, "the first one goes on");
    lab.verify();
}

#[test]
fn store_of_a_newer_format() {
    let (lab, pg) = with_a_past("newer-format");
    write_format(&lab, 4711);
    let said = lab.start_failing().says(&["format 4711", "newer"]);
    assert!(!said.all().contains("panicked"), "{said}");
    lab.holdpoint(&["sessions", "list"]).failed().says(&["format 4711", "newer"]);
    // Had anything been written by then, the older format would be a lie.
    write_format(&lab, 1);
    assert_nothing_lost(&lab, &pg);
}

/// Puts a format version into the store, as a later release would.
fn write_format(lab: &Lab, format: u32) {
    let dir = lab.store();
    let options = rocksdb::Options::default();
    let columns = rocksdb::DB::list_cf(&options, &dir).expect("the store is there and nobody has it open");
    let store = rocksdb::DB::open_cf(&options, &dir, columns).expect("the store can be opened");
    let meta = store.cf_handle("meta").expect("the format has this column from its first version on");
    store.put_cf(meta, b"f", format.to_be_bytes()).expect("there is space");
}

#[test]
fn unreadable_files() {
    let (lab, pg) = with_a_past("unreadable");
    let policy = lab.path("policies/policies.yaml");
    let good = fs::read(&policy).expect("it is there");
    // Root reads everything that is there, so the file is one that is not: a link to nowhere.
    fs::remove_file(&policy).expect("it is ours");
    std::os::unix::fs::symlink("/nowhere", &policy).expect("it is ours");
    lab.start_failing().says(&["policies.yaml", "cannot be read"]);
    fs::remove_file(&policy).expect("it is ours");
    fs::write(&policy, [b"policy: p\n".as_slice(), &[0xff, 0xfe]].concat()).expect("it is ours");
    lab.start_failing().says(&["policies.yaml:2", "UTF-8"]);
    fs::write(&policy, good).expect("it is ours");
    lab.holdpoint(&["run", "--config", "/nowhere/holdpoint.yaml"])
        .failed()
        .says(&["/nowhere/holdpoint.yaml", "cannot read"]);

    // For somebody who is not root, a file without permission.
    let secret = lab.path("policies/resource.yaml");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let checked = lab.holdpoint_as("games", &["policy", "check", &lab.path("policies").display().to_string()]);
    checked.failed().says(&["resource.yaml", "permission denied"]);
    assert_nothing_lost(&lab, &pg);
}

#[test]
fn a8_full_disk_refuses_and_forwards_nothing_unrecorded() {
    let lab = Lab::new("full-disk");
    let pg = Postgres::start(&lab);
    let rules = rules();
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let state = lab.path("state").display().to_string();
    lab.run(&["mount", "-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs", &state]).ok();
    lab.start();
    let bot = lab.bot("ci");
    bot.psql(&pg.url(), "SELECT 'the past'").ok();

    let filler = format!("{state}/filler");
    // Ends with "no space left", as it should.
    lab.run(&["dd", "if=/dev/zero", &format!("of={filler}"), "bs=64k"]).failed();
    // What the store has set aside already takes some of them. Noise, because it compresses what repeats; of a length
    // that the classifier still reads.
    let script: String = (1..=150)
        .map(|number| format!("INSERT INTO target VALUES (1000 + {number}) /*{}*/;\n", noise(number)))
        .collect();
    // What finds no room first is an operation, which is refused, or a reply, which is withheld by ending the connection.
    let url = format!("{}?sslmode=disable", pg.url());
    let said = bot.script(&url, &script).all().to_lowercase();
    assert!(said.contains("42501") || said.contains("server closed the connection"), "there was space for all of it");
    assert!(lab.gateway_log().contains("is full; make room there"), "the operator is not told");
    let rows: usize = pg.admin("SELECT count(*) FROM target WHERE id > 1000").parse().expect("a count");
    // A smaller entry may still find room; what finds none is not forwarded.
    let small = bot.psql(&pg.url(), "SELECT 'unrecordable'").status.success();
    assert_eq!(small, pg.saw("'unrecordable'"), "forwarded without a record, or recorded and not forwarded");
    assert!(lab.gateway().as_mut().is_some_and(Gateway::lives), "it must go on refusing, not die");

    lab.run(&["rm", &filler]).ok();
    eventually("it works again once there is space", Duration::from_secs(20), || {
        bot.psql(&pg.url(), "SELECT 'space again'").status.success().then_some(())
    });
    lab.stop().ok();
    let record = lab.record();
    assert_eq!(record.forwarded("the past"), 1);
    assert!(record.forwarded("INSERT INTO target") >= rows, "the backend has more than the record");
    assert_eq!(pg.ran("INSERT INTO target"), rows);
    assert!(record.forwarded("'space again'") > 0);
    assert_eq!(record.forwarded("'unrecordable'"), usize::from(small));
    lab.verify();
}

fn noise(seed: u64) -> String {
    Pace::new(seed).bytes(100_000).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Room for an empty store and a little more.
const DISK: &str = "48m";
