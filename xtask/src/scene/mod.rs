//! A throw-away world to show or measure things in: a PostgreSQL, a gateway, peers; all gone when dropped.
//!
//! Nothing here uses a fixed port, path or cgroup, so that several scenes and a real installation do not meet.

mod gateway;
mod postgres;
mod process;

pub(crate) use gateway::{Gateway, Settings};
pub(crate) use postgres::{Postgres, as_owner};
pub(crate) use process::Running;

use std::net::TcpListener;

use anyhow::{Context, Result};

/// A loopback port that nobody uses now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free loopback port")?;
    Ok(listener.local_addr()?.port())
}
