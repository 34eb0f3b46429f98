//! What can be missing, and what to do about it.

use std::{io, path::PathBuf};

use crate::workload::cgroup::NoHierarchy;

/// Why interception could not be set up or changed. Each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    /// The binary was built without the kernel programs.
    #[error("this build carries no eBPF programs: build it with `cargo xtask build`")]
    NotBuilt,
    /// The binary carries kernel programs of another version of the sources.
    #[error(
        "the eBPF programs in this build are not its own ({why}), so nothing was attached: build it again with `cargo xtask build`"
    )]
    OtherObject {
        /// What tells.
        why: String,
    },
    /// The process may not load programs.
    #[error(
        "not allowed to load eBPF programs: {missing} missing; \
         run the gateway as root with CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH \
         (CapabilityBoundingSet= of its unit, securityContext.capabilities of its container)"
    )]
    NotAllowed {
        /// The capabilities that are not there.
        missing: String,
    },
    /// There is no bpf file system to keep programs on.
    #[error(
        "{} is not on a bpf file system, so programs could not outlive a killed gateway: \
         mount one with `mount -t bpf bpf {}` (kernel option CONFIG_BPF_SYSCALL)", path.display(), mount.display()
    )]
    NoBpffs {
        /// The gateway's directory.
        path: PathBuf,
        /// Where to mount.
        mount: PathBuf,
    },
    /// Another gateway is at work.
    #[error("another gateway already uses {}: stop it, or give this one another `bpffs` directory", path.display())]
    InUse {
        /// The gateway's directory.
        path: PathBuf,
    },
    /// No cgroup v2.
    #[error(transparent)]
    NoHierarchy(#[from] NoHierarchy),
    /// The directory to guard is no cgroup.
    #[error("{} is not a cgroup v2 directory: make it with `mkdir` below the cgroup2 mount, or correct `guard`", path.display())]
    NotACgroup {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel did not take a program or a map.
    #[error("the kernel refused {what}: {reason}; {hint}")]
    Refused {
        /// Which program or map.
        what: String,
        /// Its own words.
        reason: String,
        /// What to look for.
        hint: &'static str,
    },
    /// A program could not be attached, exchanged or pinned.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A pattern for UNIX sockets that means nothing.
    #[error(
        "unix_refused: `{pattern}` is neither a name (`docker.sock`), a whole path (`/run/x/*.sock`) nor an abstract name (`@x`)"
    )]
    UnixPattern {
        /// As written.
        pattern: String,
    },
    /// The patterns for UNIX sockets are too many, or have too many wildcards.
    #[error(
        "unix_refused: these patterns need more than {} states: give fewer, or fewer `*`",
        gateway_ebpf::MAX_UNIX_STATES
    )]
    UnixPatterns,
    /// More rules than a table has room for.
    #[error("{count} network rules are more than the {most} that a table holds: summarise them into networks")]
    TooManyRules {
        /// As asked.
        count: usize,
        /// The bound.
        most: u32,
    },
}

impl InterceptError {
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    pub(super) fn map(what: &str) -> impl FnOnce(aya::maps::MapError) -> Self {
        let what = format!("the map {what}");
        move |error| Self::Refused { what, reason: words(&error), hint: KERNEL }
    }

    pub(super) fn other_object(missing: &str) -> Self {
        Self::OtherObject { why: format!("they have no `{missing}`") }
    }

    pub(super) fn load(error: &aya::EbpfError) -> Self {
        if let aya::EbpfError::ParseError(_) = error {
            return Self::OtherObject { why: words(error) };
        }
        Self::Refused { what: "the object with the programs".to_owned(), reason: words(error), hint: KERNEL }
    }

    pub(super) fn program(name: &str, error: &aya::programs::ProgramError) -> Self {
        let (reason, hint) = match error {
            aya::programs::ProgramError::LoadError { io_error, verifier_log } => {
                // The verifier tells its whole way; where it stopped is at the end.
                let log = verifier_log.to_string();
                let end: Vec<_> = log.lines().rev().take(4).collect();
                let end: Vec<_> = end.into_iter().rev().collect();
                (format!("{io_error} {}", end.join(" / ")), hint(io_error))
            }
            other => (words(other), KERNEL),
        };
        Self::Refused { what: format!("the program {name}"), reason, hint }
    }
}

const KERNEL: &str = "Linux 5.15 or newer with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF is needed";

fn hint(error: &io::Error) -> &'static str {
    use nix::libc::{EINVAL, ENOSYS, EPERM};
    match error.raw_os_error() {
        Some(EPERM) => "run as root; if you do, kernel lockdown or a container's seccomp filter forbids it",
        Some(ENOSYS) => "the kernel has no eBPF: the option is CONFIG_BPF_SYSCALL",
        Some(EINVAL) => "the kernel may lack CONFIG_CGROUP_BPF, or be older than Linux 5.15",
        _ => KERNEL,
    }
}

/// An error and what caused it, in one line.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words
}
