//! Where a workload is: its cgroup, its network namespace, and what its processes may do.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use nix::{libc, sched::CloneFlags, unistd};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cli::client::Socket,
    net::{Namespace, NamespaceId},
    workload::{Hierarchy, cgroup::path_of, powers},
};

/// A workload's place.
pub(super) struct Place {
    /// Its cgroup's directory.
    pub(super) cgroup: PathBuf,
    /// One of its processes.
    pub(super) pid: i32,
    /// That process's network namespace.
    pub(super) namespace: Namespace,
    /// Whether that is this process's own.
    pub(super) shared: bool,
}

/// Finds it: a process number, a cgroup's path, or a name that the gateway knows.
pub(super) fn find(hierarchy: &Hierarchy, socket: &Socket, workload: &str) -> Result<Place> {
    let (cgroup, pid) = if let Ok(pid) = workload.parse::<i32>() {
        let path = path_of(pid).with_context(|| format!("no process {pid}"))?;
        (hierarchy.resolve(Path::new(&path)), pid)
    } else {
        let path = if workload.starts_with('/') { workload.to_owned() } else { named(socket, workload)? };
        let cgroup = hierarchy.resolve(Path::new(&path));
        (cgroup.clone(), a_process_in(&cgroup)?)
    };
    let namespace = Namespace::open(Path::new(&format!("/proc/{pid}/ns/net")))?;
    let shared = namespace.id()? == NamespaceId::of(std::process::id())?;
    Ok(Place { cgroup, pid, namespace, shared })
}

fn named(socket: &Socket, name: &str) -> Result<String> {
    let status: Value = socket.ask(&Method::GET, "/api/v1/status", None)?;
    let workloads = status["workloads"].as_array().map_or(&[][..], Vec::as_slice);
    let mut found = workloads.iter().filter(|one| one["name"] == name).filter_map(|one| one["cgroup"].as_str());
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path.to_owned()),
        (Some(one), Some(other)) => {
            bail!("several workloads are called {name}: give a cgroup's path, such as {one} or {other}")
        }
        (None, _) => {
            let known: Vec<_> = workloads.iter().filter_map(|one| one["name"].as_str()).collect();
            bail!("no workload called {name} runs; there are: {}", known.join(", "))
        }
    }
}

fn a_process_in(cgroup: &Path) -> Result<i32> {
    let file = cgroup.join("cgroup.procs");
    let listed = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let first = listed.lines().find_map(|line| line.parse().ok());
    first.with_context(|| {
        format!("nobody is in {}: the probe takes its rights and its network from a process there", cgroup.display())
    })
}

/// What a probe's own process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The cgroup to be in.
    pub(super) cgroup: PathBuf,
    /// A cgroup outside of all guards.
    pub(super) outside: PathBuf,
    /// Whose network namespace and rights to take.
    pub(super) pid: i32,
    /// Where the listeners are.
    pub(super) port: u16,
    /// A UNIX socket with a container runtime's name.
    pub(super) unix: PathBuf,
    /// What is sent, so that it is known again.
    pub(super) token: String,
}

/// The two ways between the cgroups that are left when the rights are given away: a process that was moved.
pub(super) struct Ways {
    inside: fs::File,
    outside: fs::File,
}

impl Ways {
    pub(super) fn out(&mut self) -> std::io::Result<()> {
        std::io::Write::write_all(&mut self.outside, b"0")
    }

    pub(super) fn back(&mut self) -> std::io::Result<()> {
        std::io::Write::write_all(&mut self.inside, b"0")
    }
}

/// Goes where the plan says and becomes what its process is.
pub(super) fn enter(plan: &Plan) -> Result<Ways> {
    let rights = Rights::of(plan.pid)?;
    let open = |directory: &Path| {
        let file = directory.join("cgroup.procs");
        fs::OpenOptions::new().write(true).open(&file).with_context(|| format!("cannot write {}", file.display()))
    };
    let mut ways = Ways { inside: open(&plan.cgroup)?, outside: open(&plan.outside)? };
    let namespace = fs::File::open(format!("/proc/{}/ns/net", plan.pid))?;
    ways.back().with_context(|| format!("cannot enter {}", plan.cgroup.display()))?;
    nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
    rights.take().context("cannot take the workload's rights")?;
    Ok(ways)
}

/// What a process may do.
#[derive(Debug, PartialEq, Eq)]
struct Rights {
    users: [u32; 3],
    groups: [u32; 3],
    more_groups: Vec<u32>,
    permitted: u64,
    effective: u64,
    no_new: bool,
}

impl Rights {
    fn of(pid: i32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("no process {pid}"))?;
        Self::read(&status).context("the kernel's words about a process are not as expected")
    }

    fn read(status: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let numbers = |name: &str| -> Option<Vec<u32>> {
            field(name)?.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
        };
        let three = |name: &str| numbers(name)?.get(..3)?.try_into().ok();
        Some(Self {
            users: three("Uid:")?,
            groups: three("Gid:")?,
            more_groups: numbers("Groups:")?,
            permitted: powers::capabilities(status, "CapPrm:")?,
            effective: powers::capabilities(status, "CapEff:")?,
            no_new: field("NoNewPrivs:").is_some_and(|value| value.trim() == "1"),
        })
    }

    fn take(&self) -> Result<()> {
        let groups: Vec<_> = self.more_groups.iter().copied().map(unistd::Gid::from_raw).collect();
        unistd::setgroups(&groups)?;
        // Else they would be gone with the user, and could not be set to what they shall be.
        nix::sys::prctl::set_keepcaps(true)?;
        let [real, effective, saved] = self.groups.map(unistd::Gid::from_raw);
        unistd::setresgid(real, effective, saved)?;
        let [real, effective, saved] = self.users.map(unistd::Uid::from_raw);
        unistd::setresuid(real, effective, saved)?;
        set_capabilities(self.permitted, self.effective)?;
        if self.no_new {
            nix::sys::prctl::set_no_new_privs()?;
        }
        Ok(())
    }
}

fn set_capabilities(permitted: u64, effective: u64) -> std::io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`: two words of each set.
    const VERSION: u32 = 0x2008_0522;
    let low = |set: u64| u32::try_from(set & 0xffff_ffff).expect("32 bits");
    let high = |set: u64| u32::try_from(set >> 32).expect("32 bits");
    let head: [u32; 2] = [VERSION, 0];
    let sets = [low(effective), low(permitted), 0, high(effective), high(permitted), 0];
    // SAFETY: the call reads a header and two triples of words, which these are.
    let done = unsafe { libc::syscall(libc::SYS_capset, head.as_ptr(), sets.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapPrm:\t0000000000002000\n\
            CapEff:\t0000000000000000\nNoNewPrivs:\t1\n";
        let rights = Rights::read(status).expect("whole");
        assert_eq!((rights.users, rights.groups, rights.more_groups), ([1, 2, 3], [5, 6, 7], vec![9, 10]));
        assert_eq!((rights.permitted, rights.effective, rights.no_new), (1 << 13, 0, true));
        assert_eq!(Rights::read("Name:\tx\n"), None);
    }
}
