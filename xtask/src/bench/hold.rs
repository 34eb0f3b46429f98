//! The client at work in a guarded cgroup, and the approver's side of it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path as FilePath,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::paths::{Path, Stand};

/// A client task that goes on until it is dropped.
pub(super) struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Client {
    pub(super) fn start(stand: &Stand, path: Path, task: &str, count: Option<usize>) -> Result<Self> {
        let us = std::env::current_exe()?.to_string_lossy().into_owned();
        let mut words =
            [&us, "bench", "client", task, "--port", &stand.port(path).to_string()].map(str::to_owned).to_vec();
        words.extend(count.into_iter().flat_map(|count| ["--count".to_owned(), count.to_string()]));
        let mut command = stand.client(path, &words);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start the client")?;
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Ok(Self { child, stdin, lines })
    }

    /// Asks for one more.
    pub(super) fn go(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the client's input is closed")?;
        Ok(stdin.write_all(b"\n")?)
    }

    /// The next line, which must start with `word`; what follows it.
    pub(super) fn says(&mut self, word: &str) -> Result<String> {
        let line = self.lines.next().context("the client ended early; its error stands above")??;
        let rest = line.strip_prefix(word).with_context(|| format!("the client said `{line}`, not `{word}`"))?;
        Ok(rest.trim().to_owned())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        self.stdin = None;
        let _ = self.child.wait();
    }
}

/// The administration API over its socket, one kept-alive HTTP/1.1 connection, so that a decision costs no connect.
pub(super) struct Desk(BufReader<UnixStream>);

impl Desk {
    pub(super) fn open(socket: &FilePath) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Approves `request`, as `holdpoint approvals approve` does.
    pub(super) fn approve(&mut self, request: &str) -> Result<()> {
        let body = r#"{"approve":true,"reason":"bench"}"#;
        let head = format!(
            "POST /api/v1/approvals/{request}/decision HTTP/1.1\r\nHost: holdpoint\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        Ok(())
    }

    /// Reads the answer to the last decision.
    pub(super) fn answer(&mut self) -> Result<()> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                bail!("the gateway closed its socket after: {head}");
            }
        }
        let length = head.to_ascii_lowercase();
        let length =
            length.split_once("content-length:").and_then(|(_, after)| after.lines().next()?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body)?;
        if !head.starts_with("HTTP/1.1 2") {
            bail!("the approval was not accepted: {head}{}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }
}
