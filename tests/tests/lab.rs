//! The lab itself: what its witnesses say must be so, or no test here means anything.

use std::{fs, process::Command, time::Duration};

use tests::{Lab, Method, Pace, Postgres, client_frames, eventually, server_frame, wire};

#[test]
fn the_backends_log_is_read_back_statement_by_statement() {
    let lab = Lab::new("witness");
    let pg = Postgres::start(&lab);
    let before = now_ms();
    let ran =
        Command::new("psql").args(["-X", "-c", "SELECT 1,\n 'two\tlines'", "-c", "SELECT 'at'", &pg.url()]).output();
    assert!(ran.expect("psql is installed").status.success());
    let statements = pg.logged_statements();
    let texts: Vec<_> = statements.iter().map(|statement| statement.text.as_str()).collect();
    assert_eq!(texts, ["SELECT 1,\n 'two\tlines'", "SELECT 'at'"]);
    assert!(statements.iter().all(|statement| statement.role == "app"));
    assert!(statements[0].at_ms >= before && statements[1].at_ms <= now_ms(), "{statements:?} from {before}");
    assert_eq!(pg.connections(), 1);
    // The superuser's own look leaves no trace.
    assert_eq!(pg.admin("SELECT count(*) FROM target"), "3");
    assert_eq!(pg.logged_statements().len(), 2);
}

#[test]
fn each_login_method_is_the_one_it_says() {
    let lab = Lab::new("methods");
    let pg = Postgres::start(&lab);
    for method in Method::ALL {
        let direct =
            |url: &str| Command::new("psql").args(["-X", "-w", "-c", "SELECT email FROM customers", url]).output();
        let right = direct(&pg.url_of(method)).expect("psql is installed");
        let printed = String::from_utf8_lossy(&right.stdout).into_owned();
        assert!(printed.contains(Postgres::CANARIES[0]), "unguarded, the canary is seen: {printed}{right:?}");
        if method != Method::Trust {
            let wrong = direct(&pg.url_of(method).replace(method.password(), "wrong")).expect("psql is installed");
            assert!(!wrong.status.success(), "{method:?} takes any password");
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    let lab = Lab::new("leftovers");
    let pg = Postgres::start(&lab);
    let (dir, guard, port) = (lab.path(""), lab.guard(), pg.port());
    fs::create_dir(&guard).expect("the lab's cgroup is ours");
    drop((pg, lab));
    assert!(!dir.exists() && !guard.exists());
    eventually("PostgreSQL is gone", Duration::from_secs(5), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err().then_some(())
    });
    let mounts = fs::read_to_string("/proc/self/mounts").expect("procfs is mounted");
    assert!(!mounts.contains(&dir.display().to_string()), "its mounts were never seen out here");
}

#[test]
fn without_root_a_test_fails_and_names_the_command() {
    let test = std::env::current_exe().expect("a running test has a path");
    // Somewhere that an unprivileged user can reach.
    let dir =
        tempfile::Builder::new().prefix("holdpoint-rootless-").tempdir().expect("a temporary directory can be made");
    let copy = dir.path().join("lab");
    fs::copy(test, &copy).expect("the test can be read");
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("the directory is ours");
    let rootless = ["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"];
    let ran = Command::new("setpriv")
        .args(rootless)
        .arg(copy)
        .args(["--exact", "nothing_is_left_behind"])
        .current_dir("/")
        .output();
    let ran = ran.expect("setpriv is installed");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(!ran.status.success() && said.contains("cargo xtask test-root"), "{said}");
}

#[test]
fn the_generators_repeat_themselves_and_differ_from_each_other() {
    let all: std::collections::BTreeSet<_> = (0..1_000).map(client_frames).collect();
    assert!(all.len() > 900, "only {} different", all.len());
    assert_eq!(client_frames(77), client_frames(77));
    assert_eq!(server_frame(77), server_frame(77));
    assert_ne!(Pace::new(1).next(), Pace::new(2).next());
}

#[test]
fn messages_are_framed_as_the_protocol_says() {
    assert_eq!(wire::query("SELECT 1"), b"Q\0\0\0\x0dSELECT 1\0");
    let mut bytes = [wire::sync(), wire::query("x"), b"Z\0".to_vec()].concat();
    let kinds: Vec<_> = std::iter::from_fn(|| wire::take(&mut bytes)).map(|message| message.kind).collect();
    assert_eq!((kinds.as_slice(), bytes.as_slice()), (&b"SQ"[..], &b"Z\0"[..]));
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("it fits for a while")
}
