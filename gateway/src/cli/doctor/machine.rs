//! What the machine is: kernel, rights, limits, clock, disk.

use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use nix::{libc, sys::resource};

use super::{Check, checks::nearest};
use crate::{intercept::trial, net::automatic_ports, workload::powers};

/// The oldest kernel with all that is used but connect_unix: `BPF_MAP_LOOKUP_AND_DELETE_ELEM` for hashes came with 5.14.
const OLDEST: (u32, u32) = (5, 15);

pub(super) fn kernel() -> Check {
    const NAME: &str = "kernel";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => Check::ok(NAME, format!("Linux {release}")),
        _ => Check::fail(NAME, format!("Linux {release}"), "Linux 5.15 or newer is needed, 6.7 for UNIX sockets"),
    }
}

pub(super) fn types() -> Check {
    const NAME: &str = "kernel types";
    if trial::types_are_known() {
        return Check::ok(NAME, "/sys/kernel/btf/vmlinux is there: executables are verified");
    }
    Check::warn(
        NAME,
        "/sys/kernel/btf/vmlinux does not show them: executables stay unverified",
        "a kernel with CONFIG_DEBUG_INFO_BTF",
    )
}

/// What the gateway needs, and what for: what the unit and the manifests in `deploy/` give it. `CAP_BPF` and
/// `CAP_PERFMON` would load programs too, but nothing stands for `CAP_SYS_ADMIN` where namespaces are entered.
const NEEDED: [(u32, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "to attach programs to cgroups, and for nftables"),
    (2, "CAP_DAC_READ_SEARCH", "to find a cgroup by its id"),
    (21, "CAP_SYS_ADMIN", "to load programs, and to enter the workloads' network namespaces"),
    (19, "CAP_SYS_PTRACE", "to see the namespaces and executables of other users' processes"),
];

/// Of the running gateway where there is one, else of this process.
pub(super) fn capabilities(gateway: Option<i32>) -> Check {
    const NAME: &str = "capabilities";
    let (whose, path) = match gateway {
        Some(pid) => ("the gateway", format!("/proc/{pid}/status")),
        None => ("this process", "/proc/self/status".to_owned()),
    };
    let status = fs::read_to_string(path).unwrap_or_default();
    let Some(held) = powers::capabilities(&status, "CapEff:") else {
        return Check::warn(NAME, format!("those of {whose} cannot be read"), "run this as root");
    };
    let missing = missing(held);
    if missing.is_empty() {
        let names: Vec<_> = NEEDED.iter().map(|(_, name, _)| *name).collect();
        return Check::ok(NAME, format!("{whose} has {}", names.join(", ")));
    }
    Check::fail(NAME, format!("{whose} lacks {}", missing.join("; ")), "grant them, or run as root")
}

fn missing(held: u64) -> Vec<String> {
    let lacks = NEEDED.iter().filter(|(bit, ..)| held >> bit & 1 == 0);
    lacks.map(|(_, name, what_for)| format!("{name} ({what_for})")).collect()
}

pub(super) fn descriptors() -> Check {
    const NAME: &str = "open files";
    /// Two for each connection that moves, one for each that waits.
    const ENOUGH: u64 = 16_384;
    match resource::getrlimit(resource::Resource::RLIMIT_NOFILE) {
        Ok((_, most)) if most >= ENOUGH => Check::ok(NAME, format!("at most {most}: {} connections", most / 2)),
        Ok((_, most)) => Check::warn(
            NAME,
            format!("at most {most}: {} connections", most / 2),
            "LimitNOFILE=1048576 in the gateway's unit",
        ),
        Err(error) => Check::warn(NAME, error.to_string(), ""),
    }
}

pub(super) fn ports(port: u16) -> Check {
    const NAME: &str = "port";
    let Some((low, high)) = automatic_ports() else {
        return Check::warn(NAME, "net.ipv4.ip_local_port_range cannot be read", "");
    };
    let todo = "set `port:` to one outside net.ipv4.ip_local_port_range";
    match port {
        0 if low <= 1024 => {
            Check::warn(NAME, format!("the kernel gives out {low}–{high}, which leaves none for the gateway"), todo)
        }
        0 => Check::ok(NAME, format!("one below {low}, which the kernel does not give out")),
        port if (low..=high).contains(&port) => Check::warn(
            NAME,
            format!("the kernel gives {port} out: with no gateway, a bot may come to listen on it"),
            todo,
        ),
        port => Check::ok(NAME, format!("{port}, which the kernel does not give out")),
    }
}

/// The record has times in it: they should be right.
pub(super) fn clock() -> Check {
    const NAME: &str = "clock";
    // SAFETY: all zeros is a `timex` that asks and sets nothing.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one `timex`.
    let state = unsafe { libc::adjtimex(&raw mut asked) };
    let unsynchronised = state == libc::TIME_ERROR || asked.status & libc::STA_UNSYNC != 0;
    match (state, unsynchronised) {
        (..0, _) => Check::warn(NAME, std::io::Error::last_os_error().to_string(), ""),
        (_, true) => Check::warn(
            NAME,
            "not synchronised: times in the record may be wrong (deadlines are not affected)",
            "run chrony or systemd-timesyncd",
        ),
        _ => Check::ok(NAME, format!("synchronised, within {} ms", asked.maxerror / 1000)),
    }
}

/// Room, and how long a sync takes: every operation that is not a read waits for one.
pub(super) fn disk(state: &Path) -> Vec<Check> {
    const NAME: &str = "disk";
    let directory = nearest(state);
    let shown = directory.display();
    let room = match nix::sys::statvfs::statvfs(&directory) {
        Err(error) => Check::warn(NAME, format!("{shown}: {error}"), ""),
        Ok(found) => room(&shown.to_string(), found.blocks_available() * found.fragment_size()),
    };
    vec![room, sync(&directory)]
}

fn room(shown: &str, free: u64) -> Check {
    const NAME: &str = "disk";
    const GIB: u64 = 1 << 30;
    const LEAST: u64 = 100 << 20;
    let says = format!("{:.1} GiB free in {shown}", free as f64 / GIB as f64);
    let todo = "nothing is ever deleted from the record, and a full disk refuses everything: make room";
    match free {
        ..LEAST => Check::fail(NAME, says, todo),
        LEAST..GIB => Check::warn(NAME, says, todo),
        GIB.. => Check::ok(NAME, says),
    }
}

fn sync(directory: &Path) -> Check {
    const NAME: &str = "sync";
    /// Above it, people feel an approved operation wait.
    const SLOW: Duration = Duration::from_millis(10);
    match measure(directory) {
        Err(error) => {
            Check::warn(NAME, format!("{} cannot be written: {error}", directory.display()), "run this as root")
        }
        Ok((median, worst)) => {
            let says = format!("an append and fdatasync takes {median:.1?} (median of {ROUNDS}), {worst:.1?} at worst");
            match median > SLOW {
                true => Check::warn(NAME, says, "put `state:` on a faster disk"),
                false => Check::ok(NAME, says),
            }
        }
    }
}

/// Appends to sync.
const ROUNDS: usize = 32;

fn measure(directory: &Path) -> std::io::Result<(Duration, Duration)> {
    let path = directory.join(format!(".holdpoint-doctor-{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    let mut rounds = || {
        let mut took = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let started = Instant::now();
            file.write_all(&[0x48; 512])?;
            file.sync_data()?;
            took.push(started.elapsed());
        }
        took.sort_unstable();
        Ok((took[ROUNDS / 2], took[ROUNDS - 1]))
    };
    let measured = rounds();
    fs::remove_file(&path)?;
    measured
}

#[cfg(test)]
mod tests {
    use super::{super::Outcome, *};

    #[test]
    fn what_is_missing_is_named_with_what_it_is_for() {
        assert!(missing(u64::MAX).is_empty());
        let without = missing(!(1 << 21));
        assert_eq!(without, ["CAP_SYS_ADMIN (to load programs, and to enter the workloads' network namespaces)"]);
    }

    #[test]
    fn what_the_unit_gives_is_enough() {
        let unit = include_str!("../../../../deploy/systemd/holdpoint.service");
        let given = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("it bounds them");
        let given: Vec<_> = given.split(' ').collect();
        let bit = |name: &&str| NEEDED.iter().find(|(_, needed, _)| needed == name).expect("a capability of ours").0;
        assert!(missing(given.iter().map(|name| 1 << bit(name)).sum()).is_empty());
        for name in &given {
            let less = given.iter().filter(|one| *one != name).map(|name| 1 << bit(name)).sum();
            assert!(missing(less)[0].starts_with(name), "{name} is not missed");
        }
    }

    #[test]
    fn a_disk_is_judged_by_its_room_and_its_time() {
        assert_eq!(room("/", 50 << 20).outcome, Outcome::Fail);
        assert_eq!(room("/", 500 << 20).outcome, Outcome::Warn);
        assert_eq!(room("/", 5 << 30).outcome, Outcome::Ok);
        let here = tempfile::tempdir().expect("a directory");
        let (median, worst) = measure(here.path()).expect("it can be written");
        assert!(median <= worst && !worst.is_zero());
        assert_eq!(fs::read_dir(here.path()).expect("it is there").count(), 0, "nothing stays behind");
    }

    #[test]
    fn a_port_that_the_kernel_gives_out_is_warned_of() {
        assert_eq!(ports(0).outcome, Outcome::Ok);
        assert_eq!(ports(40_000).outcome, Outcome::Warn);
    }
}
