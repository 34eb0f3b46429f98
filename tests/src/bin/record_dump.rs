//! The whole record as JSON lines: first each session's summary, then each entry in order. Its argument is the store.
//!
//! One pass over everything, for tests that compare thousands of entries; the commands for people are tested as such.

use std::{
    io::{self, Write},
    path::Path,
};

use holdpoint::record::Records;

fn main() -> anyhow::Result<()> {
    let store = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("usage: record_dump STORE"))?;
    let records = Records::open(Path::new(&store))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for summary in records.sessions() {
        writeln!(out, "{}", serde_json::json!({ "summary": summary? }))?;
    }
    for recorded in records.entries(1) {
        writeln!(out, "{}", serde_json::json!({ "entry": recorded? }))?;
    }
    out.flush()?;
    Ok(())
}
