//! The gateway under test: the real program, as a child.

use std::time::Duration;

use nix::{sys::signal::Signal, unistd::Pid};

use crate::{Lab, Outcome, Running};

/// A gateway that serves. Dropping it is `kill -9`.
#[derive(Debug)]
pub struct Gateway {
    running: Running,
    ready: String,
}

impl Gateway {
    pub(crate) fn start(lab: &Lab) -> Self {
        let mut running = Self::launch(lab);
        running.close_stdin();
        let said = running.wait_for_stdout("\n", READY_LIMIT);
        let ready = said.lines().next().unwrap_or_default().to_owned();
        assert!(ready.starts_with("ready "), "the gateway's first line is not its readiness: {running}");
        Self { running, ready }
    }

    pub(crate) fn launch(lab: &Lab) -> Running {
        let config = lab.config().display().to_string();
        let (confinement, holdpoint) = (lab.confinement(), lab.tool("holdpoint"));
        let run = [holdpoint.as_str(), "run", "--config", &config];
        let words: Vec<_> = confinement.iter().map(String::as_str).chain(run).collect();
        let mut command = lab.command(&words);
        command.env("HOLDPOINT_LOG", std::env::var("HOLDPOINT_LOG").unwrap_or_else(|_| "info".to_owned()));
        // In a cgroup of its own, as a unit or a container is: by it nftables knows the gateway's sockets.
        lab.enter_cgroup("gateway", &mut command);
        Running::start(&mut command)
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

    /// Waits for its end after [`Gateway::terminate`].
    pub fn ended(self) -> Outcome {
        self.running.finish(Duration::from_secs(20))
    }
}

/// Loading and verifying programs, opening the store; far more than it takes on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(20);
