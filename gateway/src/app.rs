//! Wiring: from settings to a gateway that serves, and back down in order.
//!
//! *Order:* policies, handover, record, desk, listeners, kernel programs, rules, administration. Whatever fails before
//! the handover leaves a gateway that runs as it was. Whatever fails before the kernel is told leaves guarded connections
//! as they were: refused, if a gateway ever ran here.

use std::{os::unix::net::UnixStream, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    accept::Acceptor,
    admin::{self, Admin},
    config::{Config, Dns},
    crowd::Crowd,
    damage::Damages,
    dns::Names,
    drain,
    gate::Services,
    guards::{Guards, Node},
    hold::Desk,
    intercept::{Interceptor, Options, deny::TableName},
    live::Live,
    namespaces::{self, Listening, Namespaces},
    net::{Namespace, keep},
    policy::{Inspector, Objection, Policies, Resource},
    protocol::{self, Wrong},
    record::{
        Recorder,
        entry::{Body, Entry, Timestamp},
    },
    resources::Destinations,
    rulebook::Rulebook,
    workload::{Hierarchy, Processes, Workloads},
};

mod announce;
mod channels;
mod console;
mod handover;
mod inherited;
mod kubernetes;
mod listeners;
mod trust;
mod watch;

use handover::Handover;
use inherited::Inherited;

/// A successor that waits until this process has let go of everything.
pub struct HandedOver(#[expect(dead_code, reason = "it is its end that says something")] UnixStream);

/// Runs a gateway until it is told to stop, or has handed over to another one and was not told to stop meanwhile.
///
/// # Errors
/// What is missing or wrong, with what to do about it.
pub fn run(config: Config) -> Result<Option<HandedOver>> {
    crate::workload::leave_namespace()?;
    // A core would have secrets in it.
    nix::sys::prctl::set_dumpable(false).context("cannot forbid core dumps")?;
    take_every_descriptor();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let done = runtime.block_on(serve(config));
    // What is still running has had its time; nothing here may keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(done?.map(HandedOver))
}

/// As many open files as this process may have. Fewer are no reason not to start.
fn take_every_descriptor() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

async fn serve(config: Config) -> Result<Option<UnixStream>> {
    let node = config.node.clone().unwrap_or_else(host_name);
    if config.guard.is_empty() {
        anyhow::bail!(
            "`guard:` is empty, so nothing would be guarded; name a cgroup or a selector, or leave the key out for `holdpoint`"
        );
    }
    let policies = Arc::new(Policies::open(&config.policies, inspector())?);
    let channels = channels::prepare(&config, &node)?;
    let learnt = (config.dns == Dns::On).then(|| config.run.join(NAMES));
    let destinations = Arc::new(Destinations::new(policies.clone(), learnt));
    let resolved = destinations.resolve(&config.network)?;
    let Inheritance { mut inherited, from_another } = inherit(&config)?;
    let namespace = Namespace::Own;
    let last = listeners::last(&config);
    let (v4, v6) = match inherited.own {
        Some((v4, v6)) => {
            if config.port != 0 && config.port != port(&v4)? {
                tracing::warn!(port = port(&v4)?, "`port:` stays what it is until the gateway is stopped and started");
            }
            (v4, v6)
        }
        None => listeners::open(&namespace, config.port, last)?,
    };
    let ports = [port(&v4)?, v6.as_ref().map_or(Ok(0), port)?];
    let hierarchy = Hierarchy::find()?;
    let named: Vec<PathBuf> = config.cgroups().map(|cgroup| hierarchy.resolve(cgroup)).collect();
    if last == ports && inherited.others.is_empty() {
        // Pinned programs send connections here already: from now on they wait, while the rest gets ready.
        inherited.others = namespaces::listen_early(&named, ports);
    }
    let recorder =
        patiently(from_another, || Recorder::open(&config.record(), &crate::record::Options::default())).await?;
    note(&recorder, Body::Started { version: env!("CARGO_PKG_VERSION").into(), node: node.clone() })?;
    note_policies(&recorder, &policies)?;
    destinations.recall();
    // Before the first entry that they might tell.
    let channels = channels.open(&recorder)?;
    let desk = Desk::open_with(recorder.clone(), crate::people::OnCall::of(config.on_call.clone()))?;
    let socket = patiently(from_another, || admin::listen(&config.socket())).await?;
    let health = match config.health {
        Some(at) => Some(patiently(from_another, || listen_for_health(at)).await?),
        None => None,
    };

    listeners::remember(&config, ports);
    let mut options = Options::new(ports[0], ports[1]);
    options.bpffs = config.bpffs.clone();
    options.unix_refused = config.unix_refused.clone();
    options.names = config.dns == Dns::On;
    let mut interceptor = patiently(from_another, || Interceptor::load(&options)).await?;
    if let Some(log) = interceptor.kernel_log() {
        tokio::spawn(log.run());
    }
    let interceptor = Arc::new(interceptor);
    let rulebook = Arc::new(Rulebook::new(interceptor.clone(), destinations.clone(), &resolved)?);
    let damages = Damages::default();
    let node_pods = match &config.kubernetes {
        Some(settings) => Some(kubernetes::start(settings, &config, &hierarchy, &node).await),
        None => None,
    };
    let workloads = match node_pods.clone() {
        Some(Node { pods, roots }) => Workloads::with_pods(hierarchy.clone(), &named, roots, pods),
        None => Workloads::new(hierarchy.clone(), &named),
    };
    let (guards, _keeper) =
        Guards::start(interceptor.clone(), hierarchy.clone(), &config.guard, node_pods, damages.clone())?;

    let vault = trust::vault(&config).await?;
    let (stop, drain) = drain::channel();
    let live = Live::default();
    let tls = trust::open(&config, &node)?;
    let services = Services {
        recorder: recorder.clone(),
        desk: desk.clone(),
        policies: policies.clone(),
        salt: salt(&config)?,
        tls: tls.clone(),
        vault: vault.clone(),
        durability: config.durability,
    };
    let names = options.names.then(|| Names {
        interceptor: interceptor.clone(),
        destinations: destinations.clone(),
        rulebook: rulebook.clone(),
        crowd: Crowd::default(),
        drain: drain.clone(),
    });
    let acceptor = Acceptor {
        names: names.clone(),
        interceptor: interceptor.clone(),
        workloads: workloads.clone(),
        processes: Processes::default(),
        destinations: destinations.clone(),
        services,
        protocols: Arc::new(protocol::all()),
        namespace,
        remind: config.remind,
        live: live.clone(),
        crowd: Crowd::default(),
        drain,
    };
    // Before the first connection: from here on there is something to bring to an end.
    let mut told = StopSignals::listen()?;
    let crowd = acceptor.crowd.clone();
    let own: Vec<_> = [Some(v4), v6].into_iter().flatten().map(Arc::new).collect();
    keep::store(Namespace::Own.id()?, &own);
    let weak: Vec<_> = own.iter().map(Arc::downgrade).collect();
    let connections = Connections::start(acceptor.clone(), own);
    if let Some(names) = names {
        let queries = namespaces::queries(&Namespace::Own, ports)
            .context("cannot take queries for names on the gateway's port; set `port:` to another, or `dns: off`")?;
        queries.into_iter().for_each(|socket| drop(tokio::spawn(names.clone().run(socket, Namespace::Own))));
    }
    let listening = Listening { ports, inherited: inherited.others };
    let namespaces = Namespaces::start(
        acceptor,
        guards.clone(),
        listening,
        TableName::of(&config.bpffs),
        rulebook.rules(),
        hierarchy.clone(),
        damages.clone(),
    )
    .context("cannot look after network namespaces")?;
    let namespaces = Arc::new(namespaces);
    let followers = Arc::downgrade(&namespaces);
    rulebook.follow(Box::new(move |rules, urgent| {
        if let Some(namespaces) = followers.upgrade() {
            namespaces.replace_rules(rules);
            urgent.into_iter().for_each(|id| namespaces.settle(id));
        }
    }));
    let watch = watch::Watch::start(interceptor.clone(), damages.clone()).context("cannot look after the programs")?;
    let console = console::listen(&config, &tls)?;
    let people = console::people(&config, console.as_ref())?;
    let admin = Admin {
        desk: desk.clone(),
        channels: channels.clone(),
        people,
        interceptor: interceptor.clone(),
        namespaces: namespaces.clone(),
        guards: guards.clone(),
        recorder: recorder.clone(),
        vault,
        policies: policies.clone(),
        node,
        workloads,
        hierarchy,
        damages,
        rulebook: rulebook.clone(),
        road: tokio::runtime::Handle::current(),
        live,
        answered: admin::Answered::default(),
        connections: Box::new(move || crowd.count() as u64),
    };
    channels.start().context("cannot start the channels")?;
    start_desk(desk.clone(), admin, socket, health, console)?;
    let follow = Follow {
        interceptor,
        rulebook,
        destinations,
        policies: policies.clone(),
        recorder: recorder.clone(),
        network: config.network.clone(),
    };
    let _watch = policies.watch(|_| {}).context("cannot watch the policies")?;
    tokio::spawn(follow.run());

    let of_namespaces = namespaces.clone();
    let mut handover = Handover::listen(&config, move || {
        let own = weak.iter().filter_map(std::sync::Weak::upgrade);
        own.chain(of_namespaces.listeners()).collect()
    })?;
    announce::ready().await;
    println!("ready socket={} port={}", config.socket().display(), options.port_v4);
    tracing::info!(socket = %config.socket().display(), port = options.port_v4, guards = ?guards.directories(), "guarding");
    let successor = tokio::select! {
        () = told.next() => None,
        successor = handover.asked() => Some(successor),
    };
    tracing::info!("stopping");
    // First: from now on another gateway may take over.
    drop(watch);
    let told_to_end = tokio::spawn(async move { told.next().await });
    if successor.is_none() {
        announce::stopping().await;
    }
    desk.stop();
    namespaces.stop();
    stop.stop();
    connections.finish(config.drain).await;
    note(&recorder, Body::Stopped)?;
    if successor.is_none() {
        let _ = std::fs::remove_file(config.socket());
    }
    Ok(successor.filter(|_| !told_to_end.is_finished()))
}

/// What an earlier gateway left.
struct Inheritance {
    inherited: Inherited,
    /// Whether it ran until now.
    from_another: bool,
}

/// Takes over from the gateway that runs, or takes what the service manager kept of the last one.
fn inherit(config: &Config) -> Result<Inheritance> {
    let kept = keep::kept().context("the service manager's descriptors cannot be had")?;
    let rehearse = || {
        let options = Options { unix_refused: config.unix_refused.clone(), ..Options::new(0, 0) };
        Ok(Interceptor::rehearse(&options)?)
    };
    let handed = handover::take_over(config, rehearse)?;
    let from_another = handed.is_some();
    let inherited = Inherited::sort(handed.unwrap_or(kept))?;
    Ok(Inheritance { inherited, from_another })
}

/// Tries again for a moment what a gateway that has just ended may still hold: the kernel lets go of its locks one by one.
async fn patiently<T, E>(from_another: bool, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let began = std::time::Instant::now();
    loop {
        match attempt() {
            Err(_) if from_another && began.elapsed() < LETTING_GO => {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
            done => return done,
        }
    }
}

/// The accept loops, and the connections that they made.
struct Connections {
    loops: Vec<tokio::task::JoinHandle<()>>,
    alive: std::sync::Weak<Vec<Arc<dyn protocol::Protocol>>>,
}

impl Connections {
    fn start(acceptor: Acceptor, listeners: Vec<Arc<TcpListener>>) -> Self {
        // Every connection's task holds the acceptor, so this list lives as long as the last of them.
        let alive = Arc::downgrade(&acceptor.protocols);
        let loops = listeners.into_iter().map(|listener| tokio::spawn(acceptor.clone().run(listener))).collect();
        Self { loops, alive }
    }

    /// Waits until every connection has ended, or `limit` has passed.
    async fn finish(self, limit: Duration) {
        let ended = async {
            for one in self.loops {
                let _ = one.await;
            }
            while self.alive.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::warn!(?limit, "connections were still busy and are cut");
        }
    }
}

/// Keeps the kernel's rules in step with the policies and with what their hosts resolve to.
struct Follow {
    interceptor: Arc<Interceptor>,
    rulebook: Arc<Rulebook>,
    destinations: Arc<Destinations>,
    policies: Arc<Policies>,
    recorder: Recorder,
    network: Vec<crate::config::NetworkRule>,
}

impl Follow {
    async fn run(self) {
        let mut generation = self.policies.generation();
        let mut since_resolved = Duration::ZERO;
        loop {
            tokio::time::sleep(LOOK).await;
            since_resolved += LOOK;
            let changed = self.policies.generation() != generation;
            if changed {
                generation = self.policies.generation();
                if let Err(error) = note_policies(&self.recorder, &self.policies) {
                    tracing::error!(%error, "cannot record that policies were loaded");
                }
            }
            if changed || since_resolved >= RESOLVE {
                since_resolved = Duration::ZERO;
                let (destinations, network) = (self.destinations.clone(), self.network.clone());
                let resolved = tokio::task::spawn_blocking(move || destinations.resolve(&network)).await;
                match resolved {
                    Ok(Ok(resolved)) => {
                        if let Err(error) = self.rulebook.replace(&resolved) {
                            tracing::error!(%error, "cannot put new rules in force; the old ones stay");
                        }
                    }
                    Ok(Err(error)) => tracing::error!(%error, "the addresses known before stay in force"),
                    Err(error) => tracing::error!(%error, "resolving ended unexpectedly"),
                }
            }
            if let Err(error) = self.rulebook.end_old_trials() {
                tracing::error!(%error, "cannot end a trial of the guard");
            }
            if let Err(error) = self.interceptor.sweep() {
                tracing::error!(%error, "cannot sweep connections that never arrived");
            }
        }
    }
}

/// The desk's timers and the API run on a thread of their own: whatever load bots make, people get through.
fn start_desk(
    desk: Desk,
    admin: Admin,
    socket: tokio::net::UnixListener,
    health: Option<std::net::TcpListener>,
    console: Option<console::Listening>,
) -> Result<()> {
    let admin = Arc::new(admin);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the desk's runtime")?;
    let socket = socket.into_std().context("cannot hand over the administration socket")?;
    std::thread::Builder::new().name("desk".into()).spawn(move || {
        runtime.block_on(async {
            tokio::spawn(desk.keep_time());
            if let Some(health) = health {
                tokio::spawn(serve_health(admin.clone(), health));
            }
            if let Some(console) = console {
                tokio::spawn(console.serve(admin.clone()));
            }
            let served = match tokio::net::UnixListener::from_std(socket) {
                Ok(socket) => admin::serve(admin, socket).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "the administration socket is gone");
            }
        });
    })?;
    Ok(())
}

/// Before anybody is told that the gateway is ready: an address that cannot be had is the operator's to correct.
fn listen_for_health(address: std::net::SocketAddr) -> Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; set `health:` to an address of this machine and a free port")
    })?;
    listener.set_nonblocking(true)?;
    tracing::info!(address = %listener.local_addr()?, "health is answered over TCP");
    Ok(listener)
}

async fn serve_health(admin: Arc<Admin>, listener: std::net::TcpListener) {
    let served = match TcpListener::from_std(listener) {
        Ok(listener) => admin::serve_health(admin, listener).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "health is answered over TCP no more");
    }
}

fn port(listener: &TcpListener) -> Result<u16> {
    Ok(listener.local_addr().context("a listener without an address")?.port())
}

pub use trust::keys;

/// Lets protocols look at each resource while policies are loaded.
pub fn inspector() -> Box<Inspector> {
    Box::new(|resource: &Resource| {
        let mut objections = Vec::new();
        match protocol::named(&resource.protocol) {
            Some(protocol) => {
                if let Err(Wrong { section, message }) = protocol.check(&resource.extra) {
                    objections.push(Objection { key: section.into(), message });
                }
            }
            None => {
                let known: Vec<_> = protocol::all().iter().map(|protocol| protocol.name().to_string()).collect();
                let message =
                    format!("unknown protocol `{}`; expected one of: {}", resource.protocol, known.join(", "));
                objections.push(Objection { key: "protocol".into(), message });
            }
        }
        objections
    })
}

fn note(recorder: &Recorder, body: Body) -> Result<()> {
    let _ = recorder.append_written(Entry { at: Timestamp::now(), session: None, body })?;
    Ok(())
}

fn note_policies(recorder: &Recorder, policies: &Policies) -> Result<()> {
    let set = policies.current();
    let rules = u32::try_from(set.rule_count()).unwrap_or(u32::MAX);
    note(recorder, Body::PolicyLoaded { digest: set.digest(), rules })
}

/// The key of the node's masking hashes: made once, kept beside the record, so that hashes stay comparable.
fn salt(config: &Config) -> Result<crate::mask::Salt> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let path = config.state.join("mask.key");
    let mut key = [0; 32];
    match std::fs::read(&path) {
        Ok(read) => {
            key = read.try_into().map_err(|_| {
                anyhow::anyhow!(
                    "{} is not a key of 32 bytes; restore it, or remove it to make a new one",
                    path.display()
                )
            })?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            getrandom::fill(&mut key).context("no random numbers for the masking key")?;
            let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            made.and_then(|mut file| file.write_all(&key))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    Ok(crate::mask::Salt::new(&key))
}

/// `SIGTERM` and `SIGINT`, which no longer end the process by themselves.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self> {
        let of = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: of(SignalKind::terminate())?, interrupt: of(SignalKind::interrupt())? })
    }

    /// The next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".into() } else { name.trim().to_owned() }
}

/// How often reloaded policies and connections that never arrived are looked for.
const LOOK: Duration = Duration::from_millis(250);

/// How long a gateway that has ended may seem to hold the record, the pins or the socket.
const LETTING_GO: Duration = Duration::from_secs(3);

/// What was learnt from answers for names, in the run directory: like the ports.
const NAMES: &str = "names.json";

/// How often hosts are resolved again.
const RESOLVE: Duration = Duration::from_secs(30);
