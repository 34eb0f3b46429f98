//! The gateway under test: the real program, as a child.

use std::{
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::Command,
    time::Duration,
};

use nix::{libc, sys::signal::Signal, unistd::Pid};

use crate::{Lab, Outcome, Running};

/// A gateway that serves. Dropping it is `kill -9`.
#[derive(Debug)]
pub struct Gateway {
    running: Running,
    ready: String,
}

impl Gateway {
    pub(crate) fn start(lab: &Lab) -> Self {
        Self::ready(Self::launch(lab))
    }

    /// Starts it as a service manager would: it is told where to say how it is, ten times a second, and finds `kept`
    /// open.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn start_kept(lab: &Lab, notify: &Path, kept: &[OwnedFd]) -> Self {
        let mut command = Self::command(lab);
        let count = kept.len().to_string();
        command.env("NOTIFY_SOCKET", notify).env("LISTEN_FDS", count).env("WATCHDOG_USEC", "200000");
        // It says for whom they are, which only the process itself knows.
        let argv: Vec<_> =
            [command.get_program()].into_iter().chain(command.get_args()).map(ToOwned::to_owned).collect();
        let mut shell = lab.command(&["sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]);
        shell.args(argv).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        lab.enter_cgroup("gateway", &mut shell);
        let fds: Vec<_> = kept.iter().map(AsRawFd::as_raw_fd).collect();
        // SAFETY: between fork and exec only system calls are made; the descriptors are open in the child as well.
        unsafe {
            shell.pre_exec(move || {
                // First out of the way of the places where they belong.
                for (at, fd) in (100..).zip(&fds) {
                    nix::errno::Errno::result(libc::dup2(*fd, at))?;
                }
                for at in 0..i32::try_from(fds.len()).unwrap_or(0) {
                    nix::errno::Errno::result(libc::dup2(100 + at, 3 + at))?;
                    nix::errno::Errno::result(libc::close(100 + at))?;
                }
                Ok(())
            });
        }
        Self::ready(Running::start(&mut shell))
    }

    /// Starts it as a DaemonSet's pod does: in a cgroup of its own, to stay when another one has taken over.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn start_in_pod(lab: &Lab, pod: &str) -> Self {
        let mut command = Self::command(lab);
        lab.enter_cgroup(pod, command.arg("--stay"));
        Self::ready(Running::start(&mut command))
    }

    fn ready(mut running: Running) -> Self {
        running.close_stdin();
        let said = running.wait_for_stdout("\n", READY_LIMIT);
        let ready = said.lines().next().unwrap_or_default().to_owned();
        assert!(ready.starts_with("ready "), "the gateway's first line is not its readiness: {running}");
        Self { running, ready }
    }

    pub(crate) fn launch(lab: &Lab) -> Running {
        let mut command = Self::command(lab);
        // In a cgroup of its own, as a unit or a container is: by it nftables knows the gateway's sockets.
        lab.enter_cgroup("gateway", &mut command);
        Running::start(&mut command)
    }

    fn command(lab: &Lab) -> Command {
        let config = lab.config().display().to_string();
        let (confinement, holdpoint) = (lab.confinement(), lab.tool("holdpoint"));
        let run = [holdpoint.as_str(), "run", "--config", &config];
        let words: Vec<_> = confinement.iter().map(String::as_str).chain(run).collect();
        let mut command = lab.command(&words);
        command.env("HOLDPOINT_LOG", lab.log_level());
        command
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.running.pid()
    }

    /// The port on which intercepted connections arrive.
    pub fn port(&self) -> u16 {
        let port = self.ready.split(' ').find_map(|field| field.strip_prefix("port="));
        port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {:?}", self.ready))
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    /// Resident memory in bytes, as the kernel counts it.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the gateway lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a living process has memory");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("VmRSS is a number of kB") * 1024
    }

    /// Whether the process still runs.
    pub fn lives(&mut self) -> bool {
        self.running.ended().is_none()
    }

    /// Whether any of its threads has panicked, which no test may go past, whatever it is about.
    pub fn has_panicked(&self) -> bool {
        self.log().contains("panicked at")
    }

    /// Asks it to end, without waiting.
    pub fn terminate(&self) {
        self.running.signal(Signal::SIGTERM);
    }

    /// Asks it to end and waits.
    pub fn stop(self) -> Outcome {
        self.terminate();
        self.running.finish(Duration::from_secs(20))
    }

    /// Lets it fall over, and waits.
    pub fn abort(self) -> Outcome {
        self.running.signal(Signal::SIGABRT);
        self.running.finish(Duration::from_secs(20))
    }

    /// Waits for its end after [`Gateway::terminate`].
    pub fn ended(self) -> Outcome {
        self.running.finish(Duration::from_secs(20))
    }
}

/// Loading and verifying programs, opening the store; far more than it takes on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(20);
