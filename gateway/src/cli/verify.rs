//! `holdpoint verify`: proves, offline, that the record is whole.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::json;

use super::{Output, store::Store};
use crate::{
    record::{
        Head,
        verify::{Verification, verify},
    },
    visible::{ascii_json, visible},
};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    store: Store,
    /// A head that an earlier run printed and that was kept elsewhere: finds newest entries that were dropped since
    #[arg(long, value_name = "POSITION:HASH")]
    against: Option<Head>,
    /// How it is printed
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// Runs it; exits with 1 when the record is not whole.
///
/// # Errors
/// The record cannot be opened.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let found = verify(&args.store.open()?, args.against)?;
    let mut out = io::stdout().lock();
    match args.output {
        Output::Json => writeln!(out, "{}", ascii_json(&as_json(&found), true)?)?,
        Output::Table => print(&found, &args, &mut out)?,
    }
    out.flush()?;
    Ok(if found.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(found: &Verification) -> serde_json::Value {
    json!({
        "whole": found.is_whole(),
        "entries": found.entries,
        "operations": found.operations,
        "signatures": found.signatures,
        "requests": found.requests,
        "open_requests": found.open,
        "head": found.head.to_string(),
        "findings": found.findings,
    })
}

fn print(found: &Verification, args: &Args, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "record    {}", args.store.dir().display())?;
    let Verification { entries, operations, signatures, requests, open, head, .. } = found;
    writeln!(out, "entries   {entries} ({operations} operations, {requests} approval requests, {open} of them open)")?;
    if *signatures > 0 {
        writeln!(out, "signed    {signatures} decisions, each by the passkey of the person who decided")?;
    }
    writeln!(out, "head      {head}")?;
    if found.is_whole() {
        writeln!(out, "whole: each entry follows from the one before, and what was held ran only when approved")?;
        let kept = args.against.map_or_else(
            || "keep the head elsewhere: with --against it later proves that nothing up to here was dropped".to_owned(),
            |kept| format!("nothing up to entry {} was dropped or changed since that head was kept", kept.position),
        );
        return writeln!(out, "{kept}");
    }
    writeln!(out, "NOT WHOLE: {} findings", found.findings.len())?;
    for finding in &found.findings {
        let place = finding.position.map_or_else(|| "the record".to_owned(), |position| format!("entry {position}"));
        writeln!(out, "  {place}: {}", visible(finding.what.as_bytes()))?;
    }
    Ok(())
}
