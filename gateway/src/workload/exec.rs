//! `holdpoint exec`: a command in a guarded cgroup of its own.
//!
//! The cgroup's directory is `NAME-RRRRRRRR`: the workload's name, then eight random hex digits. In the name every byte
//! but letters, digits, `.`, `_`, `@` and `-` is written `%XX`. The gateway reads the name back from there, so nothing
//! has to be registered, and a gateway that restarts knows its workloads still.
//!
//! This process stays outside and only waits: it hands on signals and the exit code, and removes the cgroup.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
};

use nix::{
    libc,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, raise},
        signalfd::{SfdFlags, SignalFd, siginfo},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

/// Why a command could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The cgroup could not be made.
    #[error("cannot make the cgroup {}: {source}; run as root, and start the gateway first: it makes the directory", path.display())]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The name is empty, or too long for a directory.
    #[error("`{0}` cannot name a workload: give it between 1 and 200 bytes with `--as`")]
    Name(String),
    /// The command could not be started.
    #[error("cannot run {}: {source}", command.to_string_lossy())]
    Start {
        /// The command.
        command: OsString,
        /// The system's reason; that of entering the cgroup, too.
        source: io::Error,
    },
    /// Waiting for it failed.
    #[error("lost sight of the command: {0}")]
    Wait(#[source] io::Error),
}

impl ExecError {
    /// The exit code by which shells tell what went wrong: 127 not found, 126 not runnable, 125 our own trouble.
    pub fn exit_code(&self) -> i32 {
        match self {
            ExecError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            ExecError::Start { .. } => 126,
            ExecError::Cgroup { .. } | ExecError::Name(_) | ExecError::Wait(_) => 125,
        }
    }
}

/// Runs `command` with `arguments` as the workload `name` in a new cgroup below `guard` (an absolute path), and answers
/// with its exit code; 128 + *n* when signal *n* ended it.
///
/// Blocks signals in the calling thread; call it before any other thread is started. That the guard is really guarded
/// is for the caller to make sure of, before.
///
/// # Errors
/// The cgroup could not be made or entered, or the command not started.
pub fn run(
    guard: &Path,
    name: &str,
    command: &OsString,
    arguments: &[OsString],
    variables: &[(&str, PathBuf)],
) -> Result<i32, ExecError> {
    let cgroup = Cgroup::make(guard, name)?;
    let mut signals = Signals::block().map_err(ExecError::Wait)?;
    let mut child = cgroup
        .start(command, arguments, variables, signals.before)
        .map_err(|source| ExecError::Start { command: command.clone(), source })?;
    let status = signals.wait(&mut child).map_err(ExecError::Wait)?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// Commands that [`run`] started, by their cgroups' names. In these directories, below the mount, with a leading slash,
/// and nowhere else: elsewhere others may make directories.
#[derive(Debug)]
pub(super) struct Commands(pub(super) Vec<String>);

impl super::Source for Commands {
    fn describe(&self, path: &str, facts: &mut super::Facts) {
        name(path, &self.0).into_iter().for_each(|name| facts.name(|| name));
    }
}

/// The name of the workload at `path`, when it lies in a cgroup that [`run`] made in one of `guards`.
fn name(path: &str, guards: &[String]) -> Option<String> {
    let inside = guards.iter().find_map(|guard| path.strip_prefix(guard.trim_end_matches('/'))?.strip_prefix('/'))?;
    decode(inside.split('/').next()?)
}

fn directory(name: &str) -> Option<String> {
    let encoded: String = name
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'@' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    let random = u32::from_ne_bytes(uuid::Uuid::now_v7().as_bytes()[12..].try_into().expect("four bytes"));
    (1..=200).contains(&encoded.len()).then(|| format!("{encoded}-{random:08x}"))
}

fn decode(directory: &str) -> Option<String> {
    let (encoded, random) = directory.rsplit_once('-')?;
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    if random.len() != 8 || !hex(random) || encoded.is_empty() {
        return None;
    }
    let mut name = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        name.push(if byte == b'%' { hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)? } else { byte });
    }
    String::from_utf8(name).ok()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// A cgroup that goes away with this value, unless something in it lives on.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(guard: &Path, name: &str) -> Result<Self, ExecError> {
        let directory = directory(name).ok_or_else(|| ExecError::Name(name.to_owned()))?;
        let path = guard.join(directory);
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(ExecError::Cgroup { path, source }),
        }
    }

    fn start(
        &self,
        command: &OsString,
        arguments: &[OsString],
        variables: &[(&str, PathBuf)],
        signals: SigSet,
    ) -> io::Result<Child> {
        let mut procs = fs::OpenOptions::new().write(true).open(self.0.join("cgroup.procs"))?;
        let mut child = Command::new(command);
        child.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        // SAFETY: two system calls, one of them a write to an open file; 0 there is the writing process. So it is in the
        // cgroup before it is the command, and blocks no more signals than we did.
        unsafe {
            child.pre_exec(move || {
                signals.thread_set_mask()?;
                procs.write_all(b"0")
            });
        }
        child.spawn()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel is done with a process an instant after it can be waited for. What the command left running stays
        // in its cgroup, and guarded; the gateway removes the directory when that has ended, too.
        for _ in 0..50 {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && empty(&self.0) => {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "the kernel tells nobody when a cgroup can be removed"
                    )]
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                _ => return,
            }
        }
    }
}

/// Removes the cgroups of commands that ended while nobody waited for them. Called by the gateway, now and then.
pub fn sweep(guard: &Path) {
    let Ok(entries) = fs::read_dir(guard) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| decode(name).is_some());
        if ours && old(&entry) && empty(&entry.path()) {
            // Fails when somebody has entered meanwhile, which is as it should be.
            let _busy = fs::remove_dir(entry.path());
        }
    }
}

/// Older than any command needs to get into its new cgroup.
fn old(entry: &fs::DirEntry) -> bool {
    let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|made| made.elapsed().ok());
    age.is_some_and(|age| age > std::time::Duration::from_secs(60))
}

fn empty(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.events")).is_ok_and(|events| events.contains("populated 0"))
}

/// Signals that arrive here and are the command's business.
struct Signals {
    arrived: SignalFd,
    /// What was blocked when we began.
    before: SigSet,
}

const FORWARDED: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

impl Signals {
    fn block() -> io::Result<Self> {
        let mut set: SigSet = FORWARDED.into_iter().collect();
        set.add(Signal::SIGCHLD);
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { arrived: SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?, before })
    }

    fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let ended = pidfd(pid)?;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            stop_with(pid);
            readable(&[self.arrived.as_fd(), ended.as_fd()])?;
            while let Some(info) = self.arrived.read_signal()? {
                self.forward(pid, &info);
            }
        }
    }

    fn forward(&self, pid: Pid, info: &siginfo) {
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        // What the terminal's driver sends goes to the whole foreground group: the command has it already.
        let from_process = info.ssi_code <= libc::SI_USER;
        if let Some(signal) = signal.filter(|signal| *signal != Signal::SIGCHLD && from_process) {
            let _ended_meanwhile = kill(pid, signal);
        }
    }
}

/// Readable once the process has ended. (`SIGCHLD`, which also tells of stops, gets lost where a thread ignores it.)
fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = i32::try_from(fd).expect("descriptors and -1 fit");
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor for us, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until one of two can be read.
fn readable(fds: &[BorrowedFd<'_>; 2]) -> io::Result<()> {
    let mut polled = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // SAFETY: two entries, and they are ours.
    match unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) } {
        -1 => Err(io::Error::last_os_error()).or_else(|error| match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            _ => Err(error),
        }),
        _ => Ok(()),
    }
}

/// Stops when the command has stopped (Ctrl-Z), so that the shell gets the terminal back; goes on when the shell says so.
fn stop_with(pid: Pid) {
    let stopped = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    if let Ok(WaitStatus::Stopped(..)) = waitid(Id::Pid(pid), stopped) {
        let _stopped = raise(Signal::SIGSTOP);
        let _ended_meanwhile = kill(pid, Signal::SIGCONT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_way_into_a_directory_and_back() {
        for name in ["ci", "deploy-bot", "a/b c%d", "größe", "x-0a1b2c3d", "a.b@c_d"] {
            let directory = directory(name).expect("a fair name");
            assert!(!directory.contains(['/', ' ']), "{directory}");
            assert_eq!(decode(&directory).as_deref(), Some(name));
        }
    }

    #[test]
    fn no_name_and_endless_names_are_refused() {
        assert_eq!(directory(""), None);
        assert_eq!(directory(&"x".repeat(201)), None);
    }

    #[test]
    fn other_directories_have_no_name() {
        for other in
            ["holdpoint", "ci-0a1b2c3", "ci-0A1B2C3D", "-0a1b2c3d", "a%2-0a1b2c3d", "%FF-0a1b2c3d", "%zz-0a1b2c3d"]
        {
            assert_eq!(decode(other), None, "{other}");
        }
    }
}
