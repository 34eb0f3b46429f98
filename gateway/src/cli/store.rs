//! What the commands that read the record share: where it is, which sessions are meant, and how moments look.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use globset::{Glob, GlobMatcher};

use crate::{
    operation::SessionId,
    record::{Lookup, Records, Summary, entry::Timestamp},
    visible::visible,
};

/// Where the record is.
#[derive(Debug, clap::Args)]
pub(super) struct Store {
    /// The gateway's state directory, or the record in it
    #[arg(long, global = true, value_name = "DIR", env = "HOLDPOINT_STATE", default_value = "/var/lib/holdpoint")]
    store: PathBuf,
}

impl Store {
    /// The record's own directory.
    pub(super) fn dir(&self) -> PathBuf {
        let inside = self.store.join("record");
        if inside.is_dir() { inside } else { self.store.clone() }
    }

    /// Opens it to read, beside a running gateway or without one.
    pub(super) fn open(&self) -> anyhow::Result<Records> {
        Ok(Records::open(&self.dir())?)
    }
}

/// The session that somebody typed.
pub(super) fn session(records: &Records, typed: &str) -> anyhow::Result<SessionId> {
    match records.find_session(typed)? {
        Lookup::One(id) => Ok(id),
        Lookup::None => bail!("no session `{}`; `holdpoint sessions list` shows them", visible(typed.as_bytes())),
        Lookup::Many(ids) => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            bail!("`{}` means several sessions; type more of one of them:\n  {}", typed, ids.join("\n  "))
        }
    }
}

/// Which sessions are meant.
#[derive(Debug, clap::Args)]
pub(super) struct Filter {
    /// Only workloads whose name matches (`ci-*`)
    #[arg(long, value_name = "GLOB")]
    workload: Option<String>,
    /// Only resources whose name matches
    #[arg(long, value_name = "GLOB")]
    resource: Option<String>,
    /// Only what began after this: how long ago (`2h`, `3days`), or a moment (`2026-11-22`, `2026-11-22T16:00:00Z`)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// At most this many
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub(super) limit: usize,
}

/// A filter, ready to match.
pub(super) struct Matcher {
    workload: Option<GlobMatcher>,
    resource: Option<GlobMatcher>,
    since: Timestamp,
}

impl Filter {
    /// Reads the patterns and the moment.
    pub(super) fn matcher(&self) -> anyhow::Result<Matcher> {
        let glob = |pattern: &Option<String>| {
            pattern.as_deref().map(|pattern| Ok(Glob::new(pattern)?.compile_matcher())).transpose()
        };
        Ok(Matcher {
            workload: glob(&self.workload).map_err(|error: globset::Error| anyhow::anyhow!("--workload: {error}"))?,
            resource: glob(&self.resource).map_err(|error: globset::Error| anyhow::anyhow!("--resource: {error}"))?,
            since: self.since.as_deref().map(moment).transpose()?.unwrap_or(Timestamp(0)),
        })
    }
}

impl Matcher {
    /// Sessions that match, newest first.
    pub(super) fn sessions<'a>(
        &'a self,
        records: &'a Records,
    ) -> impl Iterator<Item = Result<Summary, crate::record::RecordError>> + 'a {
        // Identifiers sort by time, so the first one that is too old ends the list.
        let recent = records.sessions().take_while(|item| item.as_ref().map_or(true, |s| s.started >= self.since));
        recent.filter(|item| item.as_ref().map_or(true, |summary| self.matches(summary)))
    }

    fn matches(&self, summary: &Summary) -> bool {
        let fits = |glob: &Option<GlobMatcher>, name: Option<&str>| {
            glob.as_ref().is_none_or(|glob| name.is_some_and(|name| glob.is_match(name)))
        };
        let facts = summary.facts.as_ref();
        fits(&self.workload, facts.map(|facts| facts.workload.as_str()))
            && fits(&self.resource, facts.and_then(|facts| facts.resource.as_deref()))
    }
}

fn moment(typed: &str) -> anyhow::Result<Timestamp> {
    if let Ok(ago) = humantime::parse_duration(typed) {
        let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        return Ok(Timestamp(Timestamp::now().0.saturating_sub(ago)));
    }
    let day = || format!("{typed}T00:00:00Z").parse::<jiff::Timestamp>();
    let at = typed.parse::<jiff::Timestamp>().or_else(|_| day()).with_context(|| {
        format!("--since `{typed}` is neither a time span (`2h`) nor a moment (`2026-11-22T16:00:00Z`)")
    })?;
    Ok(Timestamp(u64::try_from(at.as_nanosecond()).unwrap_or(0)))
}

/// A moment as people read it: UTC, to the second.
pub(super) fn clock(at: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(at.0)) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => format!("{} ns", at.0),
    }
}

/// A moment for programs: RFC 3339 in UTC, whole.
pub(super) fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}

/// How long from one moment to another, rounded as people speak.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    let span = Duration::from_nanos(to.0.saturating_sub(from.0));
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

/// A table without frames, cut to no width when nobody looks.
pub(super) fn table<const N: usize>(header: [&str; N]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    table
}
