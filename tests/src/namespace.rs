//! Namespaces of a lab's own: the mounts that live as long as the lab, and network namespaces for its workloads.
//!
//! Pinned programs must survive a killed gateway, so the bpffs cannot be in a namespace of the gateway's own. A small
//! process holds the namespace; it dies with the test's thread, and then the kernel takes mounts and pins away.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
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

    /// Where it can be opened.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
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
