//! Namespaces of a lab's own: the mounts that live as long as the lab, and network namespaces for its workloads.
//!
//! Pinned programs must survive a killed gateway, so the bpffs cannot be in a namespace of the gateway's own. A small
//! process holds the namespace; it dies with the test's thread, and then the kernel takes mounts and pins away.

use std::{
    fs::File,
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
};

/// The namespace and the process that holds it.
#[derive(Debug)]
pub(crate) struct MountSpace {
    holder: Child,
    file: Arc<File>,
}

impl MountSpace {
    /// A private copy of the mounts, with a bpffs at `bpffs` and each pair bound: (what, where).
    pub(crate) fn make(bpffs: &Path, binds: &[(PathBuf, PathBuf)]) -> Self {
        let bpffs = bpffs.to_owned();
        let binds = binds.to_vec();
        let mut command = Command::new("/bin/sleep");
        command.arg("infinity").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: between fork and exec only system calls are made; the paths were allocated before.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                unshare(CloneFlags::CLONE_NEWNS)?;
                let nothing = None::<&str>;
                mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
                mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), nothing)?;
                for (from, to) in &binds {
                    mount(Some(from), to, nothing, MsFlags::MS_BIND, nothing)?;
                }
                Ok(())
            });
        }
        let holder = command.spawn().expect("the kernel has mount namespaces and bpffs (CONFIG_BPF_SYSCALL)");
        let file = File::open(format!("/proc/{}/ns/mnt", holder.id())).expect("the holder lives");
        Self { holder, file: Arc::new(file) }
    }

    /// Makes `command` run inside, and die with the thread that starts it.
    pub(crate) fn enter(&self, command: &mut Command) {
        let file = Arc::clone(&self.file);
        // SAFETY: between fork and exec only two system calls are made.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                setns(&*file, CloneFlags::CLONE_NEWNS)?;
                Ok(())
            });
        }
    }

    /// The process that holds it.
    pub(crate) fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// Ends the holder; the mounts go with it.
    pub(crate) fn close(&mut self) {
        let _gone = self.holder.kill();
        let _reaped = self.holder.wait();
    }
}

impl Drop for MountSpace {
    fn drop(&mut self) {
        self.close();
    }
}

/// A network namespace of its own with nothing but a loopback, held by a small process.
#[derive(Debug)]
pub struct Net {
    holder: Child,
    file: Arc<File>,
}

/// The two ends of a [joined](Net::joined) network.
#[derive(Debug)]
pub struct Ends {
    /// This machine's address.
    pub outside: Ipv4Addr,
    /// The namespace's.
    pub inside: Ipv4Addr,
    /// This machine's interface.
    pub interface: String,
}

impl Net {
    /// A new one.
    ///
    /// # Panics
    /// Without root or network namespaces.
    pub fn make() -> Self {
        let mut command = Command::new("/bin/sleep");
        command.arg("infinity").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(|| {
                set_pdeathsig(Signal::SIGKILL)?;
                unshare(CloneFlags::CLONE_NEWNET)?;
                Ok(())
            });
        }
        let holder = command.spawn().expect("the kernel has network namespaces (CONFIG_NET_NS)");
        let path = format!("/proc/{}/ns/net", holder.id());
        let file = File::open(&path).expect("the holder lives");
        let up = Command::new("nsenter").args([&format!("--net={path}"), "ip", "link", "set", "lo", "up"]).status();
        assert!(up.expect("nsenter and ip are installed").success(), "the loopback does not come up");
        Self { holder, file: Arc::new(file) }
    }

    /// The same with an interface `eth0`, whose other end is on this machine.
    ///
    /// # Panics
    /// As [`Net::make`], and without veth.
    pub fn joined() -> (Self, Ends) {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let net = Self::make();
        // A network of four addresses, in the range that is kept for benchmarks of networks.
        let number = (std::process::id() * 16 + MADE.fetch_add(1, Ordering::Relaxed)) % (1 << 15);
        let at = |host: u32| Ipv4Addr::from(0xc612_0000 + number * 4 + host);
        let ends = Ends { outside: at(1), inside: at(2), interface: format!("hp{number}") };
        let (pid, outside, inside) = (net.holder.id(), ends.outside, ends.inside);
        let name = &ends.interface;
        let enter = format!("nsenter --net=/proc/{pid}/ns/net");
        let script = format!(
            "ip link add {name} type veth peer name eth0 netns {pid} && ip addr add {outside}/30 dev {name} && \
             ip link set {name} up && {enter} ip addr add {inside}/30 dev eth0 && {enter} ip link set eth0 up && \
             {enter} ip route add default via {outside}"
        );
        let made = Command::new("sh").args(["-c", &script]).status().expect("there is a shell");
        assert!(made.success(), "no veth: {script}");
        (net, ends)
    }

    /// Where it can be opened.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// Runs `work` on a thread inside.
    ///
    /// # Panics
    /// With `work`.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&*self.file, CloneFlags::CLONE_NEWNET).expect("the namespace is held");
                work()
            });
            inside.join().expect("the work inside does not panic")
        })
    }

    /// Makes `command` run inside.
    pub fn enter(&self, command: &mut Command) {
        let file = Arc::clone(&self.file);
        // SAFETY: between fork and exec only one system call is made.
        unsafe {
            command.pre_exec(move || {
                setns(&*file, CloneFlags::CLONE_NEWNET)?;
                Ok(())
            });
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _reaped = self.holder.wait();
    }
}
