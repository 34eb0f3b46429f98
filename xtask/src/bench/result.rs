//! A large answer: how fast it comes direct, through haproxy, through Holdpoint unmasked and masked, in clear.
//!
//! Rates are those of what the database sends, also where a masked answer is shorter, so that the same work is compared.
//! The gateway's memory is the highest resident set, over eight answers of an eighth and over a whole one: the record
//! takes the same from both, and whatever were kept of an answer would show between the two.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path as FilePath, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

use super::{
    paths::{haproxy, pin},
    report::{Target, print_targets},
    statistics::{Ratio, median, ratio},
    throughput::{cpu_time, processors},
};
use crate::{
    command, interrupt,
    scene::{Gateway, Postgres, Running, Settings},
};

/// How much and how often to read.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Rounds, each forth and back
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The answer's size, MiB
    #[arg(long, default_value_t = 1024)]
    mib: u64,
}

/// How the answer gets to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Path {
    Direct,
    Haproxy,
    Unmasked,
    Masked,
}

impl Path {
    const ALL: [Path; 4] = [Path::Direct, Path::Haproxy, Path::Unmasked, Path::Masked];

    const fn as_str(self) -> &'static str {
        match self {
            Path::Direct => "direct",
            Path::Haproxy => "haproxy",
            Path::Unmasked => "holdpoint, no masks",
            Path::Masked => "holdpoint, masks",
        }
    }
}

/// A row as the protocol carries it: ten values of 100 bytes, each with its length, and the message's head.
const ROW: u64 = 7 + 10 * (4 + 100);

/// The masked columns of the ten, and how.
const MASKS: [(&str, &str); 3] = [("c1", "partial"), ("c4", "hash"), ("c8", "redact")];

const ASK: &str = "SELECT * FROM answer";

/// What one path gave, run by run.
#[derive(Default)]
struct Series {
    /// MiB of the database's answer a second.
    rates: Vec<f64>,
    /// Processor time of the proxy for the whole answer, s.
    cpu: Vec<f64>,
    /// What the record keeps on disk of each answer, MiB.
    recorded: f64,
}

/// A gateway's resident set, MiB.
struct Memory {
    at_rest: f64,
    /// The highest over eight answers of an eighth.
    eighths: f64,
    /// The highest over a whole answer.
    whole: f64,
}

type Measured = BTreeMap<Path, Series>;

pub(super) fn measure(args: &Args) -> Result<()> {
    let rows = args.mib * 1024 * 1024 / ROW;
    enough_disk(args)?;
    eprintln!("starting PostgreSQL and haproxy, filling a table with {rows} rows …");
    let mut stand = Stand::start(rows)?;
    eprintln!("memory …");
    let gateways = Gateways::start(stand.postgres.port())?;
    prove_masks(&stand, &gateways)?;
    let memory = [memory(&stand, &gateways, Path::Unmasked, rows)?, memory(&stand, &gateways, Path::Masked, rows)?];
    gateways.stop()?;
    let mut all = BTreeMap::new();
    for pinned in [false, true] {
        // New ones, or what they have recorded would fill the disk.
        let gateways = Gateways::start(stand.postgres.port())?;
        all.insert(pinned, in_rounds(&stand, &gateways, args.rounds, rows, pinned)?);
        gateways.stop()?;
    }
    stand.haproxy.0.alive()?;
    print(args, &all, &memory);
    Ok(())
}

fn in_rounds(stand: &Stand, gateways: &Gateways, rounds: usize, rows: u64, pinned: bool) -> Result<Measured> {
    let proxies = Path::ALL.into_iter().filter_map(|path| proxy(stand, gateways, path));
    pin(proxies.chain([stand.postgres.pid()]), &processors(pinned))?;
    let size = size(stand, gateways, rows)?;
    let mut all: Measured = Path::ALL.into_iter().map(|path| (path, Series::default())).collect();
    for _ in 0..rounds {
        for path in Path::ALL.into_iter().chain(Path::ALL.into_iter().rev()) {
            interrupt::check()?;
            let proxy = proxy(stand, gateways, path);
            let before = proxy.map_or(Ok(0.0), cpu_time)?;
            let said = read(stand, gateways, path, ASK, pinned)?;
            let after = proxy.map_or(Ok(0.0), cpu_time)?;
            if said.rows != rows {
                bail!("{}: {} rows instead of {rows}", path.as_str(), said.rows);
            }
            let (rate, cpu) = (size / said.seconds, (after - before) / 1e6);
            eprintln!("{:<20} {rate:>6.0} MiB/s {cpu:>6.2} s of processor time", path.as_str());
            let own = all.entry(path).or_default();
            own.rates.push(rate);
            own.cpu.push(cpu);
        }
    }
    let answers = rounds * 2 + 1;
    for path in [Path::Unmasked, Path::Masked] {
        let kept = mebibytes(on_disk(&gateways.of(path).context("this path has a gateway")?.store())?);
        all.entry(path).or_default().recorded = kept / f64::from(u32::try_from(answers)?);
    }
    Ok(all)
}

fn print(args: &Args, all: &BTreeMap<bool, Measured>, memory: &[Memory; 2]) {
    let masks = MASKS.map(|(column, with)| format!("{column} {with}")).join(", ");
    println!("{ASK}: {} MiB, ten text columns of 100 bytes; masks: {masks}", args.mib);
    println!("medians of {} runs; processor time is the proxy's, for the whole answer", args.rounds * 2);
    let mut targets = Vec::new();
    for (pinned, series) in all {
        let where_at = if *pinned { "everything on one processor" } else { "unpinned" };
        println!("\n{where_at}");
        println!("{:<20} {:>9} {:>10}  {:<16} {:>7} {:>9}", "path", "MiB/s", "of haproxy", "95 %", "cpu s", "kept MiB");
        for (path, own) in series {
            let Ratio { value, low, high } = ratio(&own.rates, &series[&Path::Haproxy].rates);
            let cpu = if *path == Path::Direct { "–".to_owned() } else { format!("{:.2}", median(&own.cpu)) };
            let kept = if own.recorded > 0.0 { format!("{:.0}", own.recorded) } else { "–".to_owned() };
            let interval = format!("{low:.3} – {high:.3}");
            let rate = median(&own.rates);
            println!("{:<20} {rate:>9.0} {value:>10.3}  {interval:<16} {cpu:>7} {kept:>9}", path.as_str());
        }
        let of = |of: Path, to: Path| ratio(&series[&of].rates, &series[&to].rates).value;
        let least = |what: &str, measured, bound| Target {
            what: format!("{what}, {}", if *pinned { "pinned" } else { "unpinned" }),
            measured,
            bound,
            at_least: true,
        };
        targets.push(least("no masks, of haproxy", of(Path::Unmasked, Path::Haproxy), 0.85));
        targets.push(least("3 of 10 columns masked, of no masks", of(Path::Masked, Path::Unmasked), 0.40));
    }
    println!("\n{:<20} {:>9} {:>9} {:>9}  highest resident set, MiB", "gateway", "at rest", "eighths", "whole");
    for (path, Memory { at_rest, eighths, whole }) in [Path::Unmasked, Path::Masked].iter().zip(memory) {
        println!("{:<20} {at_rest:>9.1} {eighths:>9.1} {whole:>9.1}", path.as_str());
        let what = format!("memory, {}: a whole answer, of eighths", path.as_str());
        targets.push(Target { what, measured: whole / eighths, bound: 1.10, at_least: false });
    }
    print_targets(&targets);
}

/// Everything that stands throughout.
struct Stand {
    haproxy: (Running, u16),
    postgres: Postgres,
    _dir: TempDir,
}

impl Stand {
    fn start(rows: u64) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("holdpoint-bench-").tempdir()?;
        let postgres = Postgres::start("host all all samehost trust", &["shared_buffers=256MB"])?;
        postgres.sql("postgres", "CREATE ROLE bench LOGIN")?;
        postgres.sql("postgres", "CREATE DATABASE bench OWNER bench")?;
        postgres.sql("bench", &table(rows))?;
        // Apart, for it runs in no transaction: what it marks, a reader would otherwise write.
        postgres.sql("bench", "VACUUM (FREEZE, ANALYZE) answer")?;
        let haproxy = haproxy(&dir, postgres.port())?;
        Ok(Self { haproxy, postgres, _dir: dir })
    }
}

/// One without masks and one with.
struct Gateways {
    unmasked: Gateway,
    masked: Gateway,
}

impl Gateways {
    fn start(port: u16) -> Result<Self> {
        let gateway = |name: &str, masks: &[(&str, &str)]| {
            let policies = [("bench.yaml", policy(port, masks))];
            Gateway::start(&Settings { name, policies: &policies, durability: "written", console: false })
        };
        Ok(Self { unmasked: gateway("bench-unmasked", &[])?, masked: gateway("bench-masked", &MASKS)? })
    }

    fn of(&self, path: Path) -> Option<&Gateway> {
        match path {
            Path::Direct | Path::Haproxy => None,
            Path::Unmasked => Some(&self.unmasked),
            Path::Masked => Some(&self.masked),
        }
    }

    /// Fails if one did not survive the bench or does not end well.
    fn stop(mut self) -> Result<()> {
        for gateway in [&mut self.unmasked, &mut self.masked] {
            gateway.alive()?;
            gateway.stop()?;
        }
        Ok(())
    }
}

/// Fails unless the masked columns are masked on the one path and on no other.
fn prove_masks(stand: &Stand, gateways: &Gateways) -> Result<()> {
    let psql = stand.postgres.tool("psql").get_program().to_string_lossy().into_owned();
    let row = |path: Path| -> Result<Vec<String>> {
        let (port, ask) = (port(stand, path).to_string(), format!("{ASK} WHERE ctid = '(0,1)'"));
        let words = [&psql, "-X", "-A", "-t", "-h", "127.0.0.1", "-p", &port, "-U", "bench", "-c", &ask, "bench"];
        let said = command::output(&mut client(gateways, path, &words.map(str::to_owned)))?;
        Ok(said.trim_end().split('|').map(str::to_owned).collect())
    };
    let clear = row(Path::Direct)?;
    for path in [Path::Haproxy, Path::Unmasked, Path::Masked] {
        let seen = row(path)?;
        let changed: Vec<String> =
            (0..10).filter(|at| seen.get(*at) != clear.get(*at)).map(|at| format!("c{at}")).collect();
        let wanted: &[(&str, &str)] = if path == Path::Masked { &MASKS } else { &[] };
        if !changed.iter().eq(wanted.iter().map(|(column, _)| column)) {
            bail!("{} masks {changed:?}, not {wanted:?}", path.as_str());
        }
    }
    Ok(())
}

/// How much the database's own answer is, MiB; who does not mask must deliver as many bytes, who does must not.
/// It fills caches, and is where a path that does not work says so.
fn size(stand: &Stand, gateways: &Gateways, rows: u64) -> Result<f64> {
    let direct = read(stand, gateways, Path::Direct, ASK, false)?.bytes;
    for path in [Path::Haproxy, Path::Unmasked, Path::Masked] {
        let said = read(stand, gateways, path, ASK, false)?;
        if said.rows != rows || (said.bytes != direct) != (path == Path::Masked) {
            let Said { rows: seen, bytes, .. } = said;
            bail!("{}: {seen} rows in {bytes} bytes, where the database sends {rows} in {direct}", path.as_str());
        }
    }
    Ok(mebibytes(direct))
}

fn memory(stand: &Stand, gateways: &Gateways, path: Path, rows: u64) -> Result<Memory> {
    let gateway = proxy(stand, gateways, path).context("this path has no gateway")?;
    let at_rest = resident(gateway, "VmRSS")?;
    let highest = |sql: &str, times: usize| {
        forget_peak(gateway)?;
        (0..times).try_for_each(|_| read(stand, gateways, path, sql, false).map(drop))?;
        resident(gateway, "VmHWM")
    };
    Ok(Memory { at_rest, eighths: highest(&format!("{ASK} LIMIT {}", rows / 8), 8)?, whole: highest(ASK, 1)? })
}

/// What the client said of an answer.
struct Said {
    rows: u64,
    bytes: u64,
    seconds: f64,
}

fn read(stand: &Stand, gateways: &Gateways, path: Path, sql: &str, pinned: bool) -> Result<Said> {
    let us = std::env::current_exe()?.to_string_lossy().into_owned();
    let port = port(stand, path).to_string();
    let mut words: Vec<&str> = if pinned { vec!["taskset", "-c", "0"] } else { Vec::new() };
    words.extend([&us, "bench", "client", "read", "--port", &port, "--sql", sql]);
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let said = command::output(&mut client(gateways, path, &words)).context(path.as_str())?;
    let mut fields = said.split_whitespace();
    let mut field = || fields.next().with_context(|| format!("the client said `{said}`"));
    Ok(Said { rows: field()?.parse()?, bytes: field()?.parse()?, seconds: field()?.parse()? })
}

fn client(gateways: &Gateways, path: Path, words: &[String]) -> Command {
    let mut command = gateways.of(path).map_or_else(
        || {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).current_dir("/");
            command
        },
        |gateway| gateway.exec("bench", words),
    );
    // Left to itself libpq takes TLS where it is offered, which only the gateway would do.
    command.env("PGSSLMODE", "disable").stdin(Stdio::null());
    command
}

fn port(stand: &Stand, path: Path) -> u16 {
    if path == Path::Haproxy { stand.haproxy.1 } else { stand.postgres.port() }
}

fn proxy(stand: &Stand, gateways: &Gateways, path: Path) -> Option<u32> {
    if path == Path::Haproxy { Some(stand.haproxy.0.pid()) } else { gateways.of(path).map(Gateway::pid) }
}

/// Not logged: a write-ahead log of its size would only take the disk's time.
fn table(rows: u64) -> String {
    let columns: Vec<String> = (0..10).map(|at| format!("c{at} text")).collect();
    // Values that compress as text does, by about half.
    let values: Vec<String> = (0..10).map(|at| format!("left(repeat(md5('{at}.' || n), 4), 100)")).collect();
    format!(
        "CREATE UNLOGGED TABLE answer ({}); ALTER TABLE answer OWNER TO bench; INSERT INTO answer SELECT {} \
         FROM generate_series(1, {rows}) n",
        columns.join(", "),
        values.join(", ")
    )
}

fn policy(port: u16, masks: &[(&str, &str)]) -> String {
    let rules =
        masks.iter().map(|(column, with)| format!("  - {{ column: \"public.answer.{column}\", with: {with} }}\n"));
    let rules: String = rules.collect();
    let masks = if rules.is_empty() { rules } else { format!("mask:\n{rules}") };
    format!(
        "resource: bench\nprotocol: postgres\nendpoints: [\"127.0.0.1:{port}\"]\ndefault: allow\n\
         approval: {{ from: [{{ user: root }}], timeout: 15m }}\n{masks}"
    )
}

/// The table stands once, and each gateway records its answers.
fn enough_disk(args: &Args) -> Result<()> {
    let answers = 2 * (2 * u64::try_from(args.rounds)? + 1);
    let needed = (2 + answers) * args.mib * 1024 * 1024;
    let dir = std::env::temp_dir();
    let disk = statvfs(&dir).with_context(|| format!("cannot tell how full {} is", dir.display()))?;
    let free = disk.blocks_available() * disk.fragment_size();
    if free < needed {
        let [needed, free] = [needed, free].map(|bytes| bytes >> 30);
        bail!("{} has {free} GiB and up to {needed} are needed: give fewer --rounds or --mib", dir.display());
    }
    Ok(())
}

/// The files below a directory, bytes.
fn on_disk(dir: &FilePath) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?.flatten() {
        // Files come and go.
        let Ok(about) = entry.metadata() else { continue };
        sum += if about.is_dir() { on_disk(&entry.path())? } else { about.len() };
    }
    Ok(sum)
}

#[expect(clippy::cast_precision_loss, reason = "what a bench moves is far below 2^52 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// From now on the kernel tells the highest resident set anew.
fn forget_peak(pid: u32) -> Result<()> {
    let file = PathBuf::from(format!("/proc/{pid}/clear_refs"));
    fs::write(&file, "5").with_context(|| format!("cannot write {}: is the proxy gone?", file.display()))
}

/// A figure of `/proc/PID/status`, MiB.
fn resident(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the proxy is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: f64 =
        line.with_context(|| format!("the kernel does not tell {name}"))?.trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
