//! Many connects a second from a guarded bot, and what they ran into (`src/bin/gap_client.rs`).

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use crate::{Bot, Lab, Running};

/// A load that goes on until it is dropped.
#[derive(Debug)]
pub struct Load(Running);

/// What a load saw since it was last asked.
#[derive(Debug, Deserialize)]
pub struct Seen {
    /// How long that was.
    pub seconds: f64,
    /// Connects that succeeded.
    pub connected: u64,
    /// Statements that were answered; one connection in sixteen sends one.
    pub answered: u64,
    /// Connects that failed.
    pub refused: u64,
    /// Why.
    pub why: BTreeMap<String, u64>,
    /// Why statements were not answered.
    pub cut: BTreeMap<String, u64>,
    /// The longest time from a connect that failed to the next one that did not.
    pub longest_refused_ms: f64,
    /// The longest connect that succeeded.
    pub longest_connect_ms: f64,
    /// The longest time from a connect to a statement's answer.
    pub longest_answer_ms: f64,
}

impl Load {
    /// Starts `threads` that connect `rate` times a second to 127.0.0.1:`port`, if the machine can. One connection in
    /// sixteen sends a statement, which says `name`.
    pub fn start(lab: &Lab, bot: &Bot<'_>, name: &str, port: u16, threads: u32, rate: u32) -> Self {
        let [port, threads, rate] = [u32::from(port), threads, rate].map(|number| number.to_string());
        Self(bot.start(&[&lab.tool("gap_client"), "127.0.0.1", &port, &threads, &rate, name, "16"]))
    }

    /// Starts one that sends a statement on every connection.
    pub fn start_asking(lab: &Lab, bot: &Bot<'_>, name: &str, port: u16, rate: u32) -> Self {
        let [port, rate] = [u32::from(port), rate].map(|number| number.to_string());
        Self(bot.start(&[&lab.tool("gap_client"), "127.0.0.1", &port, "1", &rate, name, "1"]))
    }

    /// What it saw since it was last asked, or began.
    ///
    /// # Panics
    /// When it has ended.
    #[track_caller]
    pub fn seen(&mut self) -> Seen {
        self.0.write("\n");
        let lines = self.0.take_lines(Duration::from_secs(30));
        let line = lines.last().unwrap_or_else(|| panic!("the load does not answer: {}", self.0));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}: {}", self.0))
    }
}

impl Seen {
    /// Attempts a second.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 connects")]
    pub fn offered(&self) -> f64 {
        (self.connected + self.refused) as f64 / self.seconds
    }
}
