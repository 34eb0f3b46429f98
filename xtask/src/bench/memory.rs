//! What a connection costs in the gateway's memory: the growth of its proportional set size, over many at once.
//!
//! Kernel memory (socket buffers) is not in it, for no proxy.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

use super::{
    hold::Client,
    paths::{Path, Stand},
};
use crate::interrupt;

/// KiB for each connection.
pub(super) struct Memory {
    /// How many were open at once.
    pub(super) count: usize,
    /// Idle connections, logged in and used once, on each path with a proxy.
    pub(super) idle: Vec<(Path, f64)>,
    /// Connections with a held statement, through Holdpoint.
    pub(super) held: f64,
    /// The held statement's length, bytes.
    pub(super) statement: usize,
}

/// Each gateway is measured once, held connections on the other one: memory that a closed connection left behind would
/// be used again and hide what the next takes.
pub(super) fn measure(stand: &Stand, count: usize) -> Result<Memory> {
    let mut idle = Vec::new();
    for path in [Path::Haproxy, Path::Pgbouncer, Path::Written] {
        idle.push((path, each(stand, path, "idle", count)?));
    }
    let held = each(stand, Path::Synced, "held", count)?;
    Ok(Memory { count, idle, held, statement: super::client::HELD.len() })
}

/// Growth of the proxy for each of `count` connections, KiB. Some more are open before and after: they fill pools.
fn each(stand: &Stand, path: Path, task: &str, count: usize) -> Result<f64> {
    let proxy = stand.proxy(path).context("this path has no proxy")?;
    let warm = opened(stand, path, task, count / 4)?;
    interrupt::pause(Duration::from_secs(1))?;
    let before = pss(proxy)?;
    let measured = opened(stand, path, task, count)?;
    interrupt::pause(Duration::from_secs(1))?;
    let after = pss(proxy)?;
    drop((warm, measured));
    interrupt::pause(Duration::from_secs(3))?;
    Ok((after - before) / f64::from(u32::try_from(count)?))
}

fn opened(stand: &Stand, path: Path, task: &str, count: usize) -> Result<Client> {
    let mut client = Client::start(stand, path, task, Some(count))?;
    client.says("ready")?;
    Ok(client)
}

/// Proportional set size, KiB.
fn pss(pid: u32) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("the proxy is gone")?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("the kernel does not tell Pss")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
