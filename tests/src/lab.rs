//! One test's own world.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::PermissionsExt,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use holdpoint::{
    intercept::deny::{self, TableName},
    net::Namespace,
};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

use crate::{
    Bot, Gateway, Outcome, Postgres, Record, Rules, Running, cgroup, cgroup::Cgroup, namespace::MountSpace, node,
    python,
};

/// A cgroup subtree, a mount namespace, a directory, and the gateway that guards them.
#[derive(Debug)]
pub struct Lab {
    name: String,
    settings: Mutex<BTreeMap<String, String>>,
    gateway: Mutex<Option<Gateway>>,
    confinement: Mutex<Vec<String>>,
    log: Mutex<String>,
    space: MountSpace,
    cgroup: Cgroup,
    // Last: everything above has files in it.
    dir: TempDir,
}

impl Lab {
    /// An empty lab. `name` is for people; it need not be unique.
    ///
    /// # Panics
    /// Without root, and when the kernel or the build lacks something; the message says what to do.
    pub fn new(name: &str) -> Self {
        require_root();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            cgroup::sweep(PREFIX);
        }
        let cgroup = Cgroup::make(&format!("{PREFIX}{}-{number}-{name}", std::process::id()));
        let dir =
            tempfile::Builder::new().prefix("holdpoint-lab-").tempdir().expect("a temporary directory can be made");
        open_to_all(dir.path());
        for part in ["bpf", "state", "run", "policies", "bin"] {
            fs::create_dir(dir.path().join(part)).expect("the directory is new and ours");
        }
        let binds = binds(dir.path());
        let space = MountSpace::make(&dir.path().join("bpf"), &binds);
        let (settings, gateway, confinement) = (Mutex::default(), Mutex::new(None), Mutex::default());
        let log = Mutex::new(std::env::var("HOLDPOINT_LOG").unwrap_or_else(|_| "info".to_owned()));
        let lab = Self { name: name.to_owned(), settings, gateway, confinement, log, space, cgroup, dir };
        lab.default_settings();
        lab
    }

    /// A lab with a PostgreSQL, a resource `shop` that names it, `rules`, and a gateway that serves.
    pub fn with_shop(name: &str, rules: &Rules) -> (Self, Postgres) {
        let lab = Self::new(name);
        let pg = Postgres::start(&lab);
        lab.policies(&rules.resource(pg.port()), &rules.policies());
        lab.start();
        (lab, pg)
    }

    /// Puts a setting into the settings file: `lab.set("remind", "1s")`. Takes effect at the next start.
    pub fn set(&self, key: &str, value: &str) {
        self.settings.lock().expect("no test panics with this lock").insert(key.to_owned(), value.to_owned());
        let text: String = self.settings().iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        fs::write(self.config(), text).expect("the lab's directory is ours");
    }

    /// Replaces the resource and the policy file, as an operator would: written aside, then moved into place.
    pub fn policies(&self, resource: &str, policies: &str) {
        for (name, text) in [("resource.yaml", resource), ("policies.yaml", policies)] {
            let aside = self.path(&format!("{name}.new"));
            fs::write(&aside, text).expect("the lab's directory is ours");
            fs::rename(aside, self.path("policies").join(name)).expect("the lab's directory is ours");
        }
    }

    /// Starts the gateway and waits until it serves.
    ///
    /// # Panics
    /// When it does not get ready; the message has its error output.
    pub fn start(&self) {
        let mut gateway = self.gateway();
        assert!(gateway.is_none(), "the gateway runs already");
        *gateway = Some(Gateway::start(self));
    }

    /// Lets gateways log at this level. Takes effect at the next start.
    pub fn log_at(&self, level: &str) {
        level.clone_into(&mut self.log.lock().expect("no test panics with this lock"));
    }

    pub(crate) fn log_level(&self) -> String {
        self.log.lock().expect("no test panics with this lock").clone()
    }

    /// Lets gateways start as a container runtime starts one without privilege: in a cgroup namespace of its own, with
    /// `capabilities` (`sys_admin`) and none besides. Takes effect at the next start.
    pub fn confine(&self, capabilities: &[String]) {
        let allowed = capabilities.iter().map(|capability| format!(",+{capability}")).collect::<String>();
        let words =
            ["unshare", "--cgroup", "setpriv", &format!("--bounding-set=-all{allowed}"), "--inh-caps=-all", "--"];
        *self.confinement.lock().expect("no test panics with this lock") = words.map(str::to_owned).to_vec();
    }

    /// The words before the gateway's own that start it.
    pub(crate) fn confinement(&self) -> Vec<String> {
        self.confinement.lock().expect("no test panics with this lock").clone()
    }

    /// Starts the gateway where it is expected to fail, and returns how it did.
    pub fn start_failing(&self) -> Outcome {
        Gateway::launch(self).finish(Duration::from_secs(20)).failed()
    }

    /// The running gateway.
    pub fn gateway(&self) -> MutexGuard<'_, Option<Gateway>> {
        self.gateway.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The running gateway's process id.
    pub fn gateway_pid(&self) -> Pid {
        self.gateway().as_ref().expect("the gateway runs").pid()
    }

    /// Everything that this lab's gateway has logged since its last start.
    pub fn gateway_log(&self) -> String {
        self.gateway().as_ref().map(Gateway::log).unwrap_or_default()
    }

    /// `kill -9` for the gateway.
    pub fn kill(&self) {
        let gateway = self.gateway().take().expect("the gateway runs");
        assert!(!gateway.has_panicked(), "the gateway panicked: {}", gateway.log());
    }

    /// Starts another gateway beside the running one, and waits until it serves and the running one has ended.
    ///
    /// # Panics
    /// When it does not get ready, or the old one does not end in order.
    pub fn upgrade(&self) {
        let mut gateway = self.gateway();
        let old = gateway.take().expect("the gateway runs");
        *gateway = Some(Gateway::start(self));
        old.ended().ok();
    }

    /// `SIGTERM` for the gateway; waits for its end.
    pub fn stop(&self) -> Outcome {
        self.gateway().take().expect("the gateway runs").stop()
    }

    /// A bot called `name`: what it runs is guarded.
    pub fn bot(&self, name: &str) -> Bot<'_> {
        Bot::new(self, name)
    }

    /// Runs `holdpoint` with `arguments` as root and waits for it.
    pub fn holdpoint(&self, arguments: &[&str]) -> Outcome {
        self.run(&[&[self.tool("holdpoint").as_str()], arguments].concat())
    }

    /// Runs `holdpoint` with `arguments` as `user`.
    pub fn holdpoint_as(&self, user: &str, arguments: &[&str]) -> Outcome {
        let (user_id, group) = (format!("--reuid={user}"), format!("--regid={user}"));
        let become_user = ["setpriv", user_id.as_str(), group.as_str(), "--init-groups", "--"];
        self.run(&[&become_user[..], &[self.tool("holdpoint").as_str()], arguments].concat())
    }

    /// `holdpoint credentials set` or `rotate`, with `value` on its standard input.
    #[track_caller]
    pub fn credential(&self, verb: &str, name: &str, more: &[&str], value: &str) -> Outcome {
        let holdpoint = self.tool("holdpoint");
        let script = format!("printf '%s\\n' \"$SECRET\" | '{holdpoint}' credentials {verb} {name} \"$@\"");
        let mut command = self.command(&[&["sh", "-c", &script, "sh"], more].concat());
        let outcome = Running::start(command.env("SECRET", value)).finish(COMMAND_LIMIT);
        assert!(!outcome.all().contains(value), "it prints what it was given: {outcome}");
        outcome
    }

    /// Runs a command inside the lab's mounts, unguarded, and waits for it.
    pub fn run(&self, argv: &[&str]) -> Outcome {
        Running::start(&mut self.command(argv)).finish(COMMAND_LIMIT)
    }

    /// A command that runs inside the lab's mounts and knows the lab's gateway.
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new(argv[0]);
        command
            .args(&argv[1..])
            .env("HOLDPOINT_SOCKET", self.path("run/holdpoint.sock"))
            .env("HOLDPOINT_STATE", self.path("state"))
            .env_remove("HOLDPOINT_LOG")
            .current_dir("/");
        self.space.enter(&mut command);
        command
    }

    /// Makes `command` run in the cgroup `name` of the lab; `guarded/x` is a guarded one.
    pub fn enter_cgroup(&self, name: &str, command: &mut Command) {
        let directory = self.cgroup.path().join(name);
        fs::create_dir_all(&directory).expect("the cgroup above is ours");
        let processes = directory.join("cgroup.procs");
        // SAFETY: between fork and exec one file is opened and written; nothing is shared with other threads.
        unsafe {
            command.pre_exec(move || fs::write(&processes, "0"));
        }
    }

    /// What the record holds now.
    pub fn record(&self) -> Record {
        Record::read(self)
    }

    /// Checks the record with `holdpoint verify`, as a reviewer would.
    #[track_caller]
    pub fn verify(&self) -> Outcome {
        self.holdpoint(&["verify"]).ok()
    }

    /// A path in the lab's directory.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// The path under which everybody in the lab finds one of the build's programs.
    pub fn tool(&self, name: &str) -> String {
        self.path("bin").join(name).display().to_string()
    }

    /// Where the record is.
    pub fn store(&self) -> PathBuf {
        self.path("state/record")
    }

    /// The settings file.
    pub fn config(&self) -> PathBuf {
        self.path("holdpoint.yaml")
    }

    /// The guarded cgroup.
    pub fn guard(&self) -> PathBuf {
        self.cgroup.path().join("guarded")
    }

    /// A path as a process outside the lab's mounts finds it: below the bpffs there is nothing to see from elsewhere.
    pub fn path_from_outside(&self, below: &str) -> PathBuf {
        let inside = self.path(below);
        let holder = PathBuf::from(format!("/proc/{}/root", self.space.holder()));
        holder.join(inside.strip_prefix("/").unwrap_or(&inside))
    }

    /// The processes called `name` (the kernel's short name) that run guarded now.
    pub fn guarded(&self, name: &str) -> Vec<Pid> {
        let called = |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
        Cgroup::processes(&self.guard()).into_iter().filter(called).collect()
    }

    fn settings(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.settings.lock().expect("no test panics with this lock")
    }

    fn default_settings(&self) {
        let quoted = |path: PathBuf| format!("\"{}\"", path.display());
        self.set("node", "lab");
        self.set("state", &quoted(self.path("state")));
        self.set("run", &quoted(self.path("run")));
        self.set("policies", &quoted(self.path("policies")));
        self.set("bpffs", &quoted(self.path("bpf/holdpoint")));
        self.set("guard", &format!("[{}]", quoted(self.guard())));
        self.set("drain", "5s");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing {
            eprintln!("--- gateway of {}\n{}\n---", self.name, self.gateway_log());
        }
        let gateway = self.gateway().take();
        let panicked = gateway.as_ref().is_some_and(Gateway::has_panicked);
        let log = gateway.as_ref().map(Gateway::log).unwrap_or_default();
        drop(gateway);
        let left = self.cgroup.remove();
        // Everything else of the lab is in namespaces of its own and goes with them.
        let table = TableName::of(&self.path("bpf/holdpoint"));
        let denied = deny::remove(&Namespace::Own, &table).map(drop).map_err(|error| format!("table {table}: {error}"));
        let left = left.and(denied);
        self.space.close();
        if failing {
            return;
        }
        assert!(!panicked, "the gateway of {} panicked: {log}", self.name);
        if let Err(left) = left {
            panic!("{} leaves something behind: {left}", self.name);
        }
    }
}

/// One of the build's programs: beside the running test, or `holdpoint` where `HOLDPOINT_BIN` says.
///
/// # Panics
/// When it is not there; the message has the command that builds it.
pub fn binary(name: &str) -> PathBuf {
    if let (Some(path), "holdpoint") = (env::var_os("HOLDPOINT_BIN"), name) {
        return path.into();
    }
    let test = env::current_exe().expect("a running test has a path");
    let beside = test.ancestors().nth(2).expect("tests run from target/debug/deps").join(name);
    assert!(beside.exists(), "{} is not built; run: cargo build -p gateway -p tests", beside.display());
    beside
}

/// The programs that unprivileged bots and approvers run, bound to where they can reach them.
fn binds(dir: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut binds = Vec::new();
    for name in ["holdpoint", "record_dump", "raw_client", "tokio_client", "flood_client", "load_client", "gap_client"]
    {
        let place = dir.join("bin").join(name);
        fs::write(&place, "").expect("the directory is new and ours");
        binds.push((binary(name), place));
    }
    for (name, made) in [("venv", python::made()), ("node", node::made())] {
        let place = dir.join(name);
        fs::create_dir(&place).expect("the directory is new and ours");
        binds.extend(made.map(|made| (made, place)));
    }
    binds
}

fn require_root() {
    assert!(
        geteuid().is_root(),
        "the root tests load kernel programs and need root; run: sudo -E cargo xtask test-root"
    );
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
}

/// What a lab's cgroup is called, before the test's process id.
const PREFIX: &str = "holdpoint-lab-";

/// Far more than any command needs on a busy machine, and short enough for a person to wait for.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(40);
