//! What a process could do against its guard, read from `/proc`: capabilities, a cgroup tree that it may write, a tun
//! device that it holds.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A capability: its number, its name, and what makes it a way round the guard.
pub struct Capability {
    /// Its bit.
    pub bit: u32,
    /// As `capabilities(7)` names it.
    pub name: &'static str,
    /// What a process that holds it can do.
    pub does: &'static str,
}

/// Those with which a process goes round its guard.
pub const DANGEROUS: [Capability; 4] = [
    Capability { bit: 13, name: "CAP_NET_RAW", does: "packet sockets pass by every hook and the deny" },
    Capability { bit: 12, name: "CAP_NET_ADMIN", does: "it can remove the deny, and make a tun device" },
    Capability { bit: 21, name: "CAP_SYS_ADMIN", does: "it can enter other namespaces" },
    Capability { bit: 16, name: "CAP_SYS_MODULE", does: "it can load kernel code" },
];

const CAP_DAC_OVERRIDE: u32 = 1;

/// What was read about one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Powers {
    /// The kernel's short name.
    pub comm: String,
    /// Effective user id.
    pub uid: u32,
    /// Capabilities that it has or can take, as a set of bits.
    pub capabilities: u64,
    /// Where it sees a cgroup v2 tree that it may write.
    pub cgroups: Option<PathBuf>,
    /// Whether it holds a tun or tap device open.
    pub tun: bool,
}

impl Powers {
    /// Of the process `pid`.
    ///
    /// # Errors
    /// It is gone, or its files are closed to this process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(proc.join("status"))?;
        let (comm, uid, capabilities) = read_status(&status).ok_or(io::ErrorKind::InvalidData)?;
        let mounts = fs::read_to_string(proc.join("mountinfo"))?;
        let may_write = |mount: &Path| {
            // The file by which a process is moved to the top: whoever may write it can leave any cgroup below.
            let file = proc.join("root").join(mount.strip_prefix("/").unwrap_or(mount)).join("cgroup.procs");
            let owner = fs::metadata(file).map(|file| file.uid());
            capabilities >> CAP_DAC_OVERRIDE & 1 == 1 || uid == 0 || owner.is_ok_and(|owner| owner == uid)
        };
        let cgroups = writable_cgroups(&mounts).into_iter().find(|mount| may_write(mount));
        Ok(Self { comm, uid, capabilities, cgroups, tun: holds_tun(&proc)? })
    }

    /// Each way round the guard, in words.
    pub fn ways_round(&self) -> Vec<String> {
        let held = DANGEROUS.iter().filter(|one| self.capabilities >> one.bit & 1 == 1);
        let mut ways: Vec<_> = held.map(|one| format!("{} ({})", one.name, one.does)).collect();
        let cgroups = self
            .cgroups
            .as_ref()
            .map(|at| format!("a writable cgroup tree at {} (it can leave its cgroup)", at.display()));
        ways.extend(cgroups);
        ways.extend(self.tun.then(|| "an open tun device (it sends what it likes)".to_owned()));
        ways
    }
}

/// One of a process's sets of capabilities (`CapEff:`, `CapPrm:`), as bits, from the text of its `/proc/PID/status`.
pub fn capabilities(status: &str, set: &str) -> Option<u64> {
    let bits = status.lines().find_map(|line| line.strip_prefix(set))?;
    u64::from_str_radix(bits.trim(), 16).ok()
}

/// The name, the effective user, and what is effective or permitted.
fn read_status(status: &str) -> Option<(String, u32, u64)> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let uid = field("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((field("Name:")?.to_owned(), uid, capabilities(status, "CapEff:")? | capabilities(status, "CapPrm:")?))
}

fn writable_cgroups(mountinfo: &str) -> Vec<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let fields: Vec<_> = before.split(' ').collect();
        let mut behind = after.split(' ');
        let is_cgroup2 = behind.next() == Some("cgroup2");
        let writable = |options: &str| options.split(',').any(|option| option == "rw");
        (is_cgroup2 && writable(fields.get(5)?) && writable(behind.nth(1)?)).then(|| PathBuf::from(fields[4]))
    });
    mounts.collect()
}

fn holds_tun(proc: &Path) -> io::Result<bool> {
    let open = fs::read_dir(proc.join("fd"))?.flatten().take(MOST_DESCRIPTORS);
    Ok(open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| to == Path::new("/dev/net/tun")))
}

/// How many descriptors of one process are looked at.
const MOST_DESCRIPTORS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_taken_counts_like_what_is_held() {
        let status =
            "Name:\tpsql\nUid:\t0\t65534\t65534\t65534\nCapPrm:\t0000000000002000\nCapEff:\t0000000000000000\n";
        assert_eq!(read_status(status), Some(("psql".to_owned(), 65534, 1 << 13)));
        assert_eq!(read_status("Name:\tpsql\n"), None);
        let powers = Powers { comm: "x".into(), uid: 1, capabilities: 1 << 13, cgroups: None, tun: true };
        assert_eq!(powers.ways_round().len(), 2, "{:?}", powers.ways_round());
    }

    #[test]
    fn only_a_writable_tree_of_version_2_counts() {
        let line = |mount: &str, kind: &str, of: &str| {
            format!("30 25 0:26 / /sys/fs/cgroup {mount},nosuid shared:4 - {kind} cgroup {of},nsdelegate\n")
        };
        for (mount, kind, of, found) in [
            ("rw", "cgroup2", "rw", 1),
            ("ro", "cgroup2", "rw", 0),
            ("rw", "cgroup2", "ro", 0),
            ("rw", "cgroup", "rw", 0),
        ] {
            assert_eq!(writable_cgroups(&line(mount, kind, of)).len(), found, "{mount} {kind} {of}");
        }
    }
}
