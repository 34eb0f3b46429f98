//! Interception: the kernel programs, loaded, attached and asked.
//!
//! The programs run at every `connect` of a guarded cgroup and decide by the rule table. What they intercept arrives at
//! the gateway's listener; [`Interceptor::take`] then says, once, where the client meant to go and who it is.
//!
//! # Security
//!
//! *Invariant:* no failure here makes a guarded connection direct. Programs, maps and rules stay pinned when the gateway
//! ends, so its guarded workloads are refused until the next one listens; that one exchanges the programs in place.
//! Links in the kernel give identity and speed; that a workload cannot go round them is the business of the network
//! namespace's own default-deny.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{ArrayOfMaps, Map, MapData},
    programs::Program,
};
use gateway_ebpf::{Asked, Facts, Listener, Tuple, maps, settings};
use nix::libc;

use crate::{
    net::{self, HostSide},
    workload::{CgroupId, Hierarchy},
};

mod arrival;
mod bpf;
mod btf;
pub mod deny;
mod error;
mod kept;
mod kernel_log;
mod nft;
mod pins;
mod refusals;
mod rights;
mod rules;
mod status;
#[cfg(test)]
mod tests;
pub mod trial;
mod unix;
mod veth;

pub use arrival::{Arrival, Intercepted, NoEntry, Queried, netns_cookie};
pub use error::InterceptError;
pub use kernel_log::KernelLog;
pub use refusals::Refused;
pub use rules::{Action, Network, NoNetwork, Rule};
pub use status::{Cost, Guard, ProgramState};

use deny::TableName;
use pins::Pins;

/// Where programs and maps are pinned unless told otherwise.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/holdpoint";

/// How to intercept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway's own directory on a bpf file system, for pinned programs and maps. Made where missing.
    pub bpffs: PathBuf,
    /// The port on 127.0.0.1 to which IPv4 connections are sent; 0 where nothing listens.
    pub port_v4: u16,
    /// The port on `::1` to which IPv6 connections are sent; 0 where nothing listens.
    pub port_v6: u16,
    /// How many intercepted connections may be open at a time. Counts when the maps are first made.
    pub connections: u32,
    /// Whether what goes to name servers is sent to the ports, too.
    pub names: bool,
    /// UNIX sockets that guarded workloads may not connect to, beside those of container runtimes: names, whole paths with
    /// `*`, `?` and `**`, or abstract names with `@` in front.
    pub unix_refused: Vec<String>,
}

impl Options {
    /// The usual place and size, for listeners on these ports.
    pub fn new(port_v4: u16, port_v6: u16) -> Self {
        Self {
            bpffs: DEFAULT_BPFFS.into(),
            port_v4,
            port_v6,
            connections: gateway_ebpf::DEFAULT_CONNECTIONS,
            names: false,
            unix_refused: Vec::new(),
        }
    }
}

/// The loaded programs and their maps. Dropping it leaves everything attached and pinned.
pub struct Interceptor {
    pins: Pins,
    hierarchy: Hierarchy,
    programs: Vec<Loaded>,
    table: Mutex<rules::Table>,
    arrivals: OwnedFd,
    queries: OwnedFd,
    kept: Mutex<kept::Kept>,
    counts: Mutex<refusals::Counts>,
    gates: Mutex<veth::Gates>,
    unix: Result<(), String>,
    log: Option<KernelLog>,
}

struct Loaded {
    name: &'static str,
    attach_type: u32,
    fd: OwnedFd,
    id: u32,
}

/// The programs with their attach types (`enum bpf_attach_type`), in the order of attaching: a connect must not be
/// redirected before the rest is there to carry it on. Detached in the opposite order.
const PROGRAMS: [(&str, u32); 13] = [
    ("sock_release", 34),
    ("egress", 1),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("connect4", 10),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("bind4", 8),
    ("bind6", 9),
    ("sock_create", 2),
];

/// Socket families that the kernel runs no cgroup hook for.
pub const UNSEEN: [&str; 2] = ["AF_PACKET", "AF_VSOCK"];

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/holdpoint.bpf.o"));

impl Interceptor {
    /// Loads the programs, and puts them in the place of those that an earlier gateway left attached.
    ///
    /// Listen first: from this moment on intercepted connections come to the ports in `options`.
    ///
    /// # Errors
    /// What is missing, in words that say what to do.
    pub fn load(options: &Options) -> Result<Self, InterceptError> {
        rights::allowed()?;
        let hierarchy = Hierarchy::find()?;
        let pins = Pins::open(&options.bpffs)?;
        let automaton = unix::Automaton::new(&options.unix_refused)?;
        let mut object = open(options, &hierarchy, &automaton, Some(&pins))?;
        // Before anything is attached, so that no connect ever finds an empty slot.
        let table = table(&mut object, &pins)?;
        let arrivals =
            bpf::open_pin(&pins.map(maps::ARRIVALS)).map_err(InterceptError::io("open", pins.map(maps::ARRIVALS)))?;
        let queries =
            bpf::open_pin(&pins.map(maps::QUERIES)).map_err(InterceptError::io("open", pins.map(maps::QUERIES)))?;
        let log = aya_log::EbpfLogger::init_with_logger(&mut object, kernel_log::Lines)
            .map(KernelLog)
            .inspect_err(|error| tracing::warn!(%error, "the kernel programs cannot log"))
            .ok();
        let mut programs: Vec<_> =
            PROGRAMS.iter().map(|(name, kind)| load(&mut object, name, *kind)).collect::<Result<_, _>>()?;
        let gates = Mutex::new(veth::Gates::load(&mut object, pins.veths())?);
        let refused = pins.map(maps::REFUSED);
        let refused = bpf::open_pin(&refused).map_err(InterceptError::io("open", refused))?;
        let unix = load_unix(&mut object, &automaton, refused.as_fd())?.map(|loaded| programs.extend(loaded));
        if let Err(reason) = &unix {
            tracing::warn!(%reason, "UNIX sockets are not guarded");
        }
        let mut counts = refusals::Counts::open(&pins.map(maps::REFUSED))?;
        counts.begin(refusals::EVERYBODY)?;
        let (table, counts, kept) = (Mutex::new(table), Mutex::new(counts), Mutex::new(kept::Kept::open(&pins)?));
        let interceptor = Self { pins, hierarchy, programs, table, arrivals, queries, kept, counts, gates, unix, log };
        interceptor.take_over()?;
        Ok(interceptor)
    }

    /// Whether this kernel takes the programs: loads them, attaches nothing, and forgets them. For a gateway that is about
    /// to tell another one to end.
    ///
    /// # Errors
    /// What is missing, in words that say what to do.
    pub fn rehearse(options: &Options) -> Result<(), InterceptError> {
        rights::allowed()?;
        let automaton = unix::Automaton::new(&options.unix_refused)?;
        let mut object = open(options, &Hierarchy::find()?, &automaton, None)?;
        PROGRAMS.iter().try_for_each(|(name, kind)| load(&mut object, name, *kind).map(drop))
    }

    /// The cgroups that are guarded, by this gateway or one before it.
    pub fn guarded(&self) -> Vec<CgroupId> {
        self.pins.cgroups()
    }

    /// Stops what comes out of a workload's namespace at `side` for governed destinations, unless a
    /// [claimed](Self::claim) socket has sent it. Doing it twice changes nothing.
    ///
    /// # Errors
    /// The kernel's own: before Linux 6.6 there is no such hook.
    pub fn watch(&self, side: HostSide) -> std::io::Result<()> {
        self.gates.lock().expect("no holder panics").watch(side)
    }

    /// Ends that: nobody behind `side` is guarded any more.
    pub fn unwatch(&self, side: HostSide) {
        self.gates.lock().expect("no holder panics").unwatch(side);
    }

    /// Whether that is so: asked of the kernel, now.
    pub fn is_watched(&self, side: HostSide) -> bool {
        self.gates.lock().expect("no holder panics").is_watched(side)
    }

    /// Makes a socket known for the gateway's own. Before it connects.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn claim(&self, socket: BorrowedFd<'_>) -> std::io::Result<()> {
        self.gates.lock().expect("no holder panics").claim(socket)
    }

    /// Puts `rules` in force in place of all before, at one moment for all connects.
    ///
    /// # Errors
    /// There are too many, or the kernel refuses; the old rules are in force then.
    pub fn replace_rules(&self, rules: &[Rule]) -> Result<(), InterceptError> {
        self.table.lock().expect("no holder panics").replace(rules)
    }

    /// Which replacement of the rules is in force; counts on over restarts.
    pub fn generation(&self) -> u32 {
        self.table.lock().expect("no holder panics").generation()
    }

    /// What the kernel knows about an accepted connection. The answer is given once.
    ///
    /// # Errors
    /// The connection was not intercepted here (somebody dialled the gateway's port by himself, or the arrival was lost):
    /// the caller must close it.
    pub fn take(&self, arrival: &Arrival) -> Result<Intercepted, NoEntry> {
        let lost = |source| NoEntry { peer: arrival.peer, source };
        let facts: Option<Facts> =
            bpf::take(self.arrivals.as_fd(), &arrival.tuple()).map_err(|error| lost(Some(error)))?;
        facts.map(|facts| Intercepted::from(&facts)).ok_or_else(|| lost(None))
    }

    /// Which server a datagram from `client` to the gateway's `port` was meant for. `None` where nobody asked from there.
    pub fn queried(&self, netns: u64, client: SocketAddr, port: u16) -> Option<Queried> {
        let client = rules::endpoint(client);
        let key = Tuple { netns, client: client.addr, client_port: client.port, gateway_port: port, padding: 0 };
        let asked: Option<Asked> = bpf::look_up(self.queries.as_fd(), &key).ok()?;
        asked.as_ref().map(Queried::from)
    }

    /// Forgets what was intercepted more than [`STALE`] ago and never accepted, or never got under way: what a dead
    /// gateway or a failed multipath connect left. Call it once a minute or so. Says how many those were.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn sweep(&self) -> Result<usize, InterceptError> {
        self.gates.lock().expect("no holder panics").sweep();
        let oldest = now().saturating_sub(STALE);
        let stale = |facts: &Facts| Duration::from_nanos(facts.at_ns) < oldest;
        let arrivals = forget(self.open_map::<Tuple>(maps::ARRIVALS)?, stale);
        let dialled = forget(self.open_map::<u64>(maps::DIALLED)?, |facts| facts.armed == 1 && stale(facts));
        Ok(arrivals + dialled)
    }

    /// How many intercepted connections wait for their accept.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn waiting(&self) -> Result<usize, InterceptError> {
        Ok(self.open_map::<Tuple>(maps::ARRIVALS)?.keys().filter(Result::is_ok).count())
    }

    /// How many intercepted connections are open.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn open(&self) -> Result<usize, InterceptError> {
        Ok(self.open_map::<u64>(maps::DIALLED)?.keys().filter(Result::is_ok).count())
    }

    fn open_map<K: aya::Pod>(&self, name: &str) -> Result<FactsBy<K>, InterceptError> {
        // By its descriptor: a pin can be gone for a moment.
        let kept = self.kept();
        let fd = kept.map(name).ok_or_else(|| InterceptError::other_object(name))?;
        let fd = fd.try_clone().map_err(InterceptError::io("open", self.pins.map(name)))?;
        let data = MapData::from_fd(fd).map_err(InterceptError::map(name))?;
        FactsBy::try_from(Map::HashMap(data)).map_err(InterceptError::map(name))
    }

    /// The programs' own log lines, to be read by one task. `None` the second time.
    pub fn kernel_log(&mut self) -> Option<KernelLog> {
        self.log.take()
    }

    /// What was refused below one guarded cgroup or another, where the kernel does not say which.
    pub fn refused_somewhere(&self) -> Refused {
        self.counts.lock().expect("no holder panics").of(refusals::EVERYBODY)
    }

    /// Whether UNIX sockets are guarded.
    ///
    /// # Errors
    /// They are not, for this reason.
    pub fn unix_guarded(&self) -> Result<(), &str> {
        self.unix.as_ref().map(|&()| ()).map_err(String::as_str)
    }

    /// How often each program ran and how long that took, while `kernel.bpf_stats_enabled` is on.
    pub fn cost(&self) -> Vec<Cost> {
        let infos = aya::programs::loaded_programs().filter_map(Result::ok);
        infos
            .filter_map(|info| {
                let program = self.programs.iter().find(|program| program.id == info.id())?;
                Some(Cost { program: program.name, runs: info.run_count(), busy: info.run_time() })
            })
            .collect()
    }

    /// Exchanges the programs behind what an earlier gateway left attached, and clears away links of cgroups that are gone.
    /// Where that gateway, being older, knew fewer programs, the others are attached beside them.
    fn take_over(&self) -> Result<(), InterceptError> {
        let mut guarded = Vec::new();
        for link in self.pins.links()? {
            let program = self.programs.iter().find(|program| program.name == link.program);
            match program {
                Some(program) if link.is_alive() => {
                    link.exchange(&program.fd)?;
                    guarded.push(link.cgroup);
                }
                Some(_) => self.pins.unpin(&link)?,
                None => tracing::warn!(program = link.program, "left alone: a pinned program of another version"),
            }
        }
        guarded.sort_unstable_by_key(|cgroup| cgroup.0);
        guarded.dedup();
        for cgroup in &guarded {
            // One that is being removed has no path any more, and nobody in it.
            let Some(path) = self.hierarchy.path(*cgroup) else { continue };
            match self.attach(Path::new(&path)) {
                Err(error) if self.hierarchy.path(*cgroup).is_some() => return Err(error),
                _ => {}
            }
        }
        self.counts.lock().expect("no holder panics").keep(&guarded);
        self.pins.drop_other_layouts();
        Ok(())
    }
}

/// What [`uninstall`] took away.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Uninstalled {
    /// The cgroups that were guarded, with their paths where they are still there.
    pub guards: Vec<(CgroupId, Option<String>)>,
    /// From how many network namespaces the deny was taken.
    pub namespaces: usize,
    /// Where nftables did not say whether there is one, and why not.
    pub unseen: Vec<String>,
    /// Whether there were programs and maps at all.
    pub was_there: bool,
}

/// Ends every guard that a gateway using `bpffs` has set up, and removes what it left there. Guarded workloads'
/// connections are direct from then on.
///
/// # Errors
/// A gateway is running there, or a pin cannot be removed.
pub fn uninstall(bpffs: &Path) -> Result<Uninstalled, InterceptError> {
    if !bpffs.try_exists().map_err(InterceptError::io("look at", bpffs))? {
        return Ok(Uninstalled::default());
    }
    let locked = Pins::open(bpffs)?;
    let hierarchy = Hierarchy::find().ok();
    let mut cgroups: Vec<CgroupId> = locked.links()?.iter().map(|link| link.cgroup).collect();
    cgroups.dedup();
    pins::remove_all(bpffs)?;
    let name = TableName::of(bpffs);
    let namespaces = net::namespace::all().map_err(InterceptError::io("list the processes in", Path::new("/proc")))?;
    let (mut denied, mut unseen) = (0, Vec::new());
    for (id, namespace) in &namespaces {
        match deny::remove(namespace, &name) {
            Ok(was_there) => denied += usize::from(was_there),
            // A kernel without nftables has no table to remove.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)) => {}
            Err(error) => unseen.push(format!("network namespace {}: {error}", id.0)),
        }
    }
    let path = |cgroup| hierarchy.as_ref().and_then(|hierarchy| hierarchy.path(cgroup));
    let guards = cgroups.into_iter().map(|cgroup| (cgroup, path(cgroup))).collect();
    Ok(Uninstalled { guards, namespaces: denied, unseen, was_there: true })
}

/// Whether `directory`, a cgroup, is guarded right now, itself or by one above it, with or without a running gateway.
///
/// # Errors
/// There is no cgroup v2, or the pins cannot be read.
pub fn is_guarded(bpffs: &Path, directory: &Path) -> Result<bool, InterceptError> {
    let hierarchy = Hierarchy::find()?;
    let links = pins::links(bpffs)?;
    let whole = |cgroup: CgroupId| {
        PROGRAMS
            .iter()
            .all(|(name, _)| links.iter().any(|link| link.cgroup == cgroup && link.program == *name && link.is_alive()))
    };
    let directory = hierarchy.resolve(directory);
    let above = directory.ancestors().take_while(|above| above.starts_with(hierarchy.root()));
    Ok(above.filter_map(|above| hierarchy.id(above).ok()).any(whole))
}

/// How long an intercepted connection may wait for its accept: longer than a client goes on sending SYNs (127 s).
pub const STALE: Duration = Duration::from_secs(180);

type FactsBy<K> = aya::maps::HashMap<MapData, K, Facts>;

fn forget<K: aya::Pod>(mut map: FactsBy<K>, unwanted: impl Fn(&Facts) -> bool) -> usize {
    let found: Vec<_> =
        map.iter().filter_map(Result::ok).filter(|(_, facts)| unwanted(facts)).map(|(key, _)| key).collect();
    found.iter().filter(|key| map.remove(key).is_ok()).count()
}

/// The programs with their settings and maps; on the maps that are pinned, where there are pins.
fn open(
    options: &Options,
    hierarchy: &Hierarchy,
    automaton: &unix::Automaton,
    pins: Option<&Pins>,
) -> Result<Ebpf, InterceptError> {
    if OBJECT.is_empty() {
        return Err(InterceptError::NotBuilt);
    }
    let offsets = btf::offsets(Path::new(btf::VMLINUX)).unwrap_or_default();
    if !offsets.known() {
        tracing::warn!(path = btf::VMLINUX, "the kernel's types are not known: executables stay unverified");
    }
    let listener = Listener { v4: options.port_v4, v6: options.port_v6 };
    let (own, names) = (rights::own(hierarchy), u32::from(options.names));
    let mut loader = EbpfLoader::new();
    loader
        .btf(None)
        .override_global(settings::LISTENER, &listener, true)
        .override_global(settings::OWN, &own, true)
        .override_global(settings::NAMES, &names, true)
        .override_global(settings::OFFSETS, &offsets, true)
        .map_max_entries(maps::DIALLED, options.connections)
        .map_max_entries(maps::ARRIVALS, options.connections)
        .map_max_entries(maps::UNIX_PATHS, automaton.states());
    if let Some(pins) = pins {
        maps::PINNED.iter().for_each(|name| _ = loader.map_pin_path(name, pins.map(name)));
    }
    loader.load(OBJECT).map_err(|error| InterceptError::load(&error))
}

fn table(object: &mut Ebpf, pins: &Pins) -> Result<rules::Table, InterceptError> {
    let map = object.take_map(maps::RULES).ok_or_else(|| InterceptError::other_object(maps::RULES))?;
    let slot = ArrayOfMaps::try_from(map).map_err(InterceptError::map(maps::RULES))?;
    let pin = pins.map(maps::RULES);
    rules::Table::open(slot, bpf::open_pin(&pin).map_err(InterceptError::io("open", pin))?)
}

fn load(object: &mut Ebpf, name: &'static str, attach_type: u32) -> Result<Loaded, InterceptError> {
    let refused = |error: aya::programs::ProgramError| InterceptError::program(name, &error);
    let program = object.program_mut(name).ok_or_else(|| InterceptError::other_object(name))?;
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => Err(aya::programs::ProgramError::UnexpectedProgramType),
    }
    .map_err(refused)?;
    let fd = program.fd().and_then(|fd| Ok(fd.as_fd().try_clone_to_owned()?)).map_err(refused)?;
    let id = program.info().map_err(refused)?.id();
    Ok(Loaded { name, attach_type, fd, id })
}

/// The programs for UNIX sockets; inside, the reason why this kernel does not get them.
fn load_unix(
    object: &mut Ebpf,
    automaton: &unix::Automaton,
    refused: BorrowedFd<'_>,
) -> Result<Result<Vec<Loaded>, String>, InterceptError> {
    let map = object.take_map(maps::UNIX_PATHS).ok_or_else(|| InterceptError::other_object(maps::UNIX_PATHS))?;
    let paths = automaton.fill(map)?;
    if !btf::unix_context_is_known(Path::new(btf::VMLINUX)) {
        return Ok(Err(format!("the kernel's types in {} do not show how it names them", btf::VMLINUX)));
    }
    let loaded = unix::load(OBJECT, paths.as_fd(), refused).and_then(|fds| {
        let with_name = unix::PROGRAMS.into_iter().zip(fds);
        with_name
            .map(|((name, attach_type), fd)| {
                let id = bpf::object_id(fd.as_fd())?;
                Ok(Loaded { name, attach_type, fd, id })
            })
            .collect()
    });
    Ok(loaded.map_err(|error: std::io::Error| format!("Linux 6.7 or newer is needed ({error})")))
}

fn open_cgroup(directory: &Path) -> Result<std::fs::File, InterceptError> {
    /// `CGROUP2_SUPER_MAGIC`
    const CGROUP2: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x6367_7270);
    let cgroup = std::fs::File::open(directory).ok();
    let found = cgroup.filter(|file| nix::sys::statfs::fstatfs(file).is_ok_and(|on| on.filesystem_type() == CGROUP2));
    found.ok_or_else(|| InterceptError::NotACgroup { path: directory.to_owned() })
}

/// The monotonic clock, as the programs read it.
fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec`; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
