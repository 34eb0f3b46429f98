//! Asking the running gateway over its administration socket, or a console at which somebody has signed in.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, body::Bytes};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::login::Signed;

/// Where the gateway listens for people.
#[derive(Debug, clap::Args)]
pub(super) struct Socket {
    /// The gateway's administration socket
    #[arg(
        long,
        value_name = "PATH",
        env = "HOLDPOINT_SOCKET",
        default_value = "/run/holdpoint/holdpoint.sock",
        global = true
    )]
    socket: PathBuf,
    /// Ask the console that `holdpoint login` signed in at, in place of this machine's gateway
    #[arg(long, env = "HOLDPOINT_CONSOLE", global = true)]
    console: bool,
}

impl Socket {
    /// The one at `socket`.
    pub(super) fn at(socket: PathBuf) -> Self {
        Self { socket, console: false }
    }

    /// The process that serves it, as the kernel says; `None` where nobody does.
    pub(super) fn peer(&self) -> Option<i32> {
        let stream = std::os::unix::net::UnixStream::connect(&self.socket).ok()?;
        let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials).ok()?;
        Some(peer.pid())
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// No gateway answers, or it says no: its own words.
    pub(super) fn ask<T: DeserializeOwned>(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async {
            match self.console {
                true => Signed::load()?.ask(method, path, body).await,
                false => ask(&self.socket, method, path, body).await,
            }
        })?;
        serde_json::from_value(answer).context("the gateway's answer is not what this version expects")
    }
}

async fn ask(socket: &Path, method: &Method, path: &str, body: Option<&Value>) -> Result<Value> {
    let stream = tokio::net::UnixStream::connect(socket).await.with_context(|| {
        format!("no gateway answers at {}; is it running? name its socket with --socket", socket.display())
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "holdpoint")
        .header("content-type", "application/json")
        .body(Full::new(body))?;
    let answer = sender.send_request(request).await.context("the gateway went away while it was asked")?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    // Health answers 503 with the same document.
    if !status.is_success() && value.get("detail").is_some() {
        bail!("{}", value["detail"].as_str().unwrap_or("the gateway refused"));
    }
    if value.is_null() {
        bail!("the gateway answered {status}");
    }
    Ok(value)
}
