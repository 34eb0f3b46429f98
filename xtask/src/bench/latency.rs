//! How long a decision takes to become a result at the client.
//!
//! The clock starts before the decision is written to the administration socket and stops when the client has read
//! CommandComplete. In between: the decision is checked and synced to disk, the statement is released, forwarded, run
//! by PostgreSQL, its answer masked, recorded and delivered. The statement's own time without a gateway is measured too.

use anyhow::{Context, Result};

use super::{
    client,
    hold::{Client, Desk},
    paths::{Path, Stand},
};

/// Times in µs.
pub(super) struct Release {
    /// From decision to result, one for each held statement.
    pub(super) released: Vec<f64>,
    /// The same statement straight at the database.
    pub(super) direct: Vec<f64>,
}

pub(super) fn measure(stand: &Stand, samples: usize) -> Result<Release> {
    let direct = direct(stand, samples)?;
    let mut client = Client::start(stand, Path::Written, "release", None)?;
    let mut desk = Desk::open(&stand.written.socket())?;
    let mut released = Vec::with_capacity(samples);
    for _ in 0..samples {
        crate::interrupt::check()?;
        client.go()?;
        let request = client.says("held ")?;
        let decided = client::now();
        desk.approve(&request)?;
        let done: u128 = client.says("done ")?.parse().context("the client said no time")?;
        desk.answer()?;
        let took = u64::try_from(done.saturating_sub(decided)).context("a release took centuries")?;
        released.push(std::time::Duration::from_nanos(took).as_secs_f64() * 1e6);
    }
    Ok(Release { released, direct })
}

fn direct(stand: &Stand, samples: usize) -> Result<Vec<f64>> {
    let mut client = Client::start(stand, Path::Direct, "direct", Some(samples))?;
    (0..samples).map(|_| client.says("")?.parse().context("the client said no number")).collect()
}
