//! A cgroup subtree, a bpffs in a private mount namespace, and the children in them.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdpoint::{intercept::Options, workload::Hierarchy};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use crate::actors::{Actor, Answer};

/// One test's part of the machine. Nothing of it is left when this is dropped.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) bpffs: PathBuf,
    pub(crate) hierarchy: Hierarchy,
    /// Guarded.
    pub(crate) cgroup: PathBuf,
    /// Below it, where clients are.
    pub(crate) inner: PathBuf,
}

impl Lab {
    pub(crate) fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests load kernel programs and need root: run `sudo -E cargo xtask test-root kernel`"
        );
        // The namespace is this thread's, and its children's; it goes with the last of them.
        unshare(CloneFlags::CLONE_NEWNS).expect("mount namespaces (CONFIG_NAMESPACES)");
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).expect("our own mounts");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mounted = dir.path().join("bpf");
        fs::create_dir(&mounted).expect("it is ours");
        mount(Some("bpf"), &mounted, Some("bpf"), MsFlags::empty(), nothing).expect("bpffs (CONFIG_BPF_SYSCALL)");
        let hierarchy = Hierarchy::find().expect("cgroup v2 is mounted");
        static LABS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("holdpoint-kernel-{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let cgroup = hierarchy.root().join(name);
        let inner = cgroup.join("bot-0a1b2c3d");
        fs::create_dir_all(&inner).expect("cgroups can be made");
        Self { bpffs: mounted.join("holdpoint"), dir, hierarchy, cgroup, inner }
    }

    pub(crate) fn options(&self, port_v4: u16, port_v6: u16) -> Options {
        Options { bpffs: self.bpffs.clone(), ..Options::new(port_v4, port_v6) }
    }

    pub(crate) fn pin(&self, program: &str) -> PathBuf {
        let id = self.hierarchy.id(&self.cgroup).expect("it is there");
        self.bpffs.join("links").join(id.0.to_string()).join(program)
    }

    pub(crate) fn gateway(&self, rules: &[&str]) -> Gateway {
        self.start_gateway(&["guard"], rules)
    }

    /// One that neither guards anything anew nor gives rules: it finds all that on the bpffs.
    pub(crate) fn restarted_gateway(&self) -> Gateway {
        self.start_gateway(&[], &[])
    }

    pub(crate) fn start_gateway(&self, ways: &[&str], rules: &[&str]) -> Gateway {
        let place = if ways.contains(&"inside") { Some(self.cgroup.clone()) } else { None };
        let bpffs = self.bpffs.display().to_string();
        let cgroup = self.cgroup.display().to_string();
        let mut arguments = vec![bpffs.as_str(), cgroup.as_str()];
        arguments.extend(ways);
        let mut actor = Actor::start("gateway", &arguments, place.as_deref());
        if ways.contains(&"guard") {
            actor.rules(rules);
            actor.ask(&format!("attach {}", self.cgroup.display()));
        }
        let ready = actor.ask("ready");
        let port = |name| u16::try_from(ready.number(name)).expect("a port");
        Gateway { ports: (port("v4"), port("v6")), actor }
    }

    pub(crate) fn client(&self) -> Actor {
        self.client_in(&self.inner)
    }

    pub(crate) fn client_in(&self, cgroup: &Path) -> Actor {
        self.start("client", &[], cgroup)
    }

    pub(crate) fn start(&self, role: &str, arguments: &[&str], cgroup: &Path) -> Actor {
        Actor::start(role, arguments, Some(cgroup))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _nobody_left = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let deadline = Instant::now() + LIMIT;
        while remove_tree(&self.cgroup).is_err() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let mounted = self.bpffs.parent().expect("it was made below the mount");
        let unmounted = umount2(mounted, MntFlags::MNT_DETACH);
        if !std::thread::panicking() {
            unmounted.expect("it was mounted");
            assert!(!self.cgroup.exists(), "left behind: {}", self.cgroup.display());
        }
    }
}

fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    let inside = fs::read_dir(cgroup)?.flatten().map(|entry| entry.path());
    inside.filter(|path| path.is_dir()).try_for_each(|path| remove_tree(&path))?;
    fs::remove_dir(cgroup)
}

/// Longer than any of this can take.
const LIMIT: Duration = Duration::from_secs(10);

/// Until `done` holds, but not longer than [`LIMIT`].
pub(crate) fn eventually(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen within ten seconds");
        std::thread::yield_now();
    }
}

/// What connections reach that nobody intercepts.
pub(crate) struct Backend {
    pub(crate) addr: SocketAddr,
    count: Arc<AtomicUsize>,
}

impl Backend {
    pub(crate) fn new(addr: &str) -> Self {
        let listener = TcpListener::bind(addr).expect("loopback");
        let addr = listener.local_addr().expect("it is bound");
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                counter.fetch_add(1, Ordering::Relaxed);
                let _gone = connection.and_then(|mut connection| connection.write_all(b"direct"));
            }
        });
        Self { addr, count }
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    pub(crate) fn connections(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

pub(crate) struct Gateway {
    actor: Actor,
    pub(crate) ports: (u16, u16),
}

impl Gateway {
    pub(crate) fn rules(&mut self, rules: &[&str]) {
        self.actor.rules(rules);
    }

    pub(crate) fn ask(&mut self, question: &str) -> Answer {
        self.actor.ask(question)
    }

    pub(crate) fn kill(mut self) {
        self.actor.end();
    }
}
