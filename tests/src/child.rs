//! Child processes whose output is caught as it comes and whose life is bounded.

use std::{
    fmt,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::eventually;

/// A child that runs. Killed when dropped, by its own process id.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    out: Captured,
    err: Captured,
}

impl Running {
    /// Starts `command`; both outputs are caught, the input stays open.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        let out = Captured::follow(child.stdout.take().expect("piped above"));
        let err = Captured::follow(child.stderr.take().expect("piped above"));
        let stdin = child.stdin.take();
        Self { what, child, stdin, out, err }
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Writes `text` to the child's input. A child that has ended already is not an error here: its outcome tells.
    pub fn write(&mut self, text: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ended = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
        }
    }

    /// Ends the child's input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// What it has written to its output so far.
    pub fn stdout(&self) -> String {
        self.out.text()
    }

    /// What it has written to its error output so far.
    pub fn stderr(&self) -> String {
        self.err.text()
    }

    /// Waits until the output contains `needle`.
    ///
    /// # Panics
    /// When it does not within `limit`, or the child ends before; the message has both outputs.
    #[track_caller]
    pub fn wait_for_stdout(&self, needle: &str, limit: Duration) -> String {
        self.out.wait_for(needle, limit).unwrap_or_else(|| panic!("{self} never wrote {needle:?} to its output"))
    }

    /// Waits until the error output contains `needle`.
    ///
    /// # Panics
    /// As [`Running::wait_for_stdout`].
    #[track_caller]
    pub fn wait_for_stderr(&self, needle: &str, limit: Duration) -> String {
        self.err.wait_for(needle, limit).unwrap_or_else(|| panic!("{self} never wrote {needle:?} to its error output"))
    }

    /// Takes the complete lines written to the output since the last call, waiting up to `limit` for at least one.
    pub fn take_lines(&self, limit: Duration) -> Vec<String> {
        self.out.take_lines(limit)
    }

    /// Sends a signal to the child itself.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself in this instant, which the outcome will show.
        let _ended = kill(self.pid(), signal);
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours and not yet waited for")
    }

    /// Closes the input, waits for the end and returns everything.
    ///
    /// # Panics
    /// When it does not end within `limit`; it is killed then.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Outcome {
        self.close_stdin();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if started.elapsed() > limit {
                self.signal(Signal::SIGKILL);
                panic!("{self} did not end within {limit:?}");
            }
            thread::sleep(Duration::from_millis(2));
        };
        // A grandchild may hold the pipes open for longer; what the child itself wrote is there at once.
        self.out.wait_closed(Duration::from_secs(1));
        self.err.wait_closed(Duration::from_secs(1));
        Outcome { what: self.what.clone(), status, stdout: self.out.text(), stderr: self.err.text() }
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n--- output\n{}\n--- error output\n{}\n---\n", self.what, self.stdout(), self.stderr())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGKILL);
            let _reaped = self.child.wait();
        }
    }
}

/// How a child ended and what it said.
#[derive(Debug, Clone)]
pub struct Outcome {
    what: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// Its output.
    pub stdout: String,
    /// Its error output.
    pub stderr: String,
}

impl Outcome {
    /// Both outputs together: where a leak would be looked for.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The outcome, which must be a success.
    ///
    /// # Panics
    /// When the exit code is not 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "failed: {self}");
        self
    }

    /// The outcome, which must be a failure of the program's own (not a signal).
    ///
    /// # Panics
    /// When the exit code is 0 or a signal ended it.
    #[track_caller]
    pub fn failed(self) -> Self {
        assert!(self.status.code().is_some_and(|code| code != 0), "did not fail in order: {self}");
        self
    }

    /// The outcome, whose outputs must contain each of `words`, in any case.
    ///
    /// # Panics
    /// When one is missing.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let said = self.all().to_lowercase();
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "does not say {word:?}: {self}");
        }
        self
    }

    /// The outcome, whose outputs must not contain `word`.
    ///
    /// # Panics
    /// When they do.
    #[track_caller]
    pub fn hides(self, word: &str) -> Self {
        assert!(!self.all().contains(word), "says {word:?}: {self}");
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        };
        write!(f, "{how} of {}\n--- output\n{}\n--- error output\n{}\n---\n", self.what, self.stdout, self.stderr)
    }
}

/// Bytes that a thread reads from a pipe, with somebody waiting for them.
#[derive(Debug, Clone, Default)]
struct Captured(Arc<(Mutex<Buffer>, Condvar)>);

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    taken: usize,
    closed: bool,
}

impl Captured {
    fn follow(mut pipe: impl Read + Send + 'static) -> Self {
        let captured = Self::default();
        let theirs = captured.clone();
        thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                theirs.lock().bytes.extend_from_slice(&chunk[..count]);
                theirs.0.1.notify_all();
            }
            theirs.lock().closed = true;
            theirs.0.1.notify_all();
        });
        captured
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.0.0.lock().expect("no thread panics with this lock")
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// Waits until `done` answers, the pipe closes, or time runs out.
    fn wait<T>(&self, limit: Duration, mut done: impl FnMut(&mut Buffer) -> Option<T>) -> Option<T> {
        let until = Instant::now() + limit;
        let mut buffer = self.lock();
        loop {
            if let Some(answer) = done(&mut buffer) {
                return Some(answer);
            }
            let left = until.saturating_duration_since(Instant::now());
            if buffer.closed || left.is_zero() {
                return None;
            }
            buffer = self.0.1.wait_timeout(buffer, left).expect("no thread panics with this lock").0;
        }
    }

    fn wait_for(&self, needle: &str, limit: Duration) -> Option<String> {
        self.wait(limit, |buffer| {
            let text = String::from_utf8_lossy(&buffer.bytes);
            text.contains(needle).then(|| text.into_owned())
        })
    }

    fn take_lines(&self, limit: Duration) -> Vec<String> {
        let taken = self.wait(limit, |buffer| {
            let fresh = &buffer.bytes[buffer.taken..];
            let end = fresh.iter().rposition(|byte| *byte == b'\n')? + 1;
            let lines = String::from_utf8_lossy(&fresh[..end]).lines().map(str::to_owned).collect();
            buffer.taken += end;
            Some(lines)
        });
        taken.unwrap_or_default()
    }

    fn wait_closed(&self, limit: Duration) {
        self.wait(limit, |buffer| buffer.closed.then_some(()));
    }
}

/// Sends `signal` to a process found by other means, and waits until it is gone.
///
/// # Panics
/// When it is still there after ten seconds.
#[track_caller]
pub(crate) fn end(pid: Pid, signal: Signal) {
    let _gone = kill(pid, signal);
    eventually(&format!("process {pid} ends"), Duration::from_secs(10), || kill(pid, None).is_err().then_some(()));
}
