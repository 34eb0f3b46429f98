//! Wiring: from settings to a gateway that serves, and back down in order.
//!
//! *Order:* policies, record, desk, listeners, kernel programs, rules, administration. Whatever fails before the
//! kernel is told leaves guarded connections as they were: refused, if a gateway ever ran here.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{net::TcpListener, signal::unix::SignalKind};

use crate::{
    accept::Acceptor,
    admin::{self, Admin},
    config::{Config, Dns},
    crowd::Crowd,
    dns::Names,
    drain,
    gate::Services,
    hold::{Desk, Directory},
    intercept::{
        Interceptor, Options,
        deny::{Maker, TableName},
    },
    namespaces::Namespaces,
    net::{Namespace, NamespaceId},
    policy::{Inspector, Objection, Policies, Resource},
    protocol,
    record::{
        Recorder,
        entry::{Body, Entry, Timestamp},
    },
    resources::Destinations,
    workload::{Hierarchy, Processes, Workloads},
};

mod listeners;

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// What is missing or wrong, with what to do about it.
pub fn run(config: Config) -> Result<()> {
    take_every_descriptor();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let done = runtime.block_on(serve(config));
    // What is still running has had its time; nothing here may keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
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

async fn serve(config: Config) -> Result<()> {
    let node = config.node.clone().unwrap_or_else(host_name);
    if config.guard.is_empty() {
        anyhow::bail!(
            "`guard:` names no cgroup, so nothing would be guarded; name at least one, or leave the key out for `holdpoint`"
        );
    }
    let policies = Arc::new(Policies::open(&config.policies, inspector())?);
    let recorder = Recorder::open(&config.record(), &crate::record::Options::default())?;
    note(&recorder, Body::Started { version: env!("CARGO_PKG_VERSION").into(), node: node.clone() })?;
    note_policies(&recorder, &policies)?;
    let desk = Desk::open_on(recorder.clone())?;
    let namespace = Namespace::Own;
    let (v4, v6) = listeners::open(&namespace, config.port)?;
    let socket = admin::listen(&config.socket())?;

    let mut options = Options::new(port(&v4)?, v6.as_ref().map_or(Ok(0), port)?);
    options.bpffs = config.bpffs.clone();
    options.unix_refused = config.unix_refused.clone();
    options.names = config.dns == Dns::On;
    let destinations = Arc::new(Destinations::new(policies.clone(), options.names));
    let resolved = destinations.resolve(&config.network)?;
    let mut interceptor = Interceptor::load(&options)?;
    if let Some(log) = interceptor.kernel_log() {
        tokio::spawn(log.run());
    }
    let interceptor = Arc::new(interceptor);
    interceptor.replace_rules(&resolved.rules)?;
    destinations.put_in_force(&resolved);
    let hierarchy = Hierarchy::find()?;
    let guard: Vec<PathBuf> = config.guard.iter().map(|guard| hierarchy.resolve(guard)).collect();
    for directory in &guard {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the cgroup {}", directory.display()))?;
        interceptor.attach(directory)?;
    }

    let (stop, drain) = drain::channel();
    let services = Services {
        recorder: recorder.clone(),
        desk: desk.clone(),
        policies: policies.clone(),
        salt: salt(&config)?,
        durability: config.durability,
    };
    let workloads = Workloads::new(hierarchy.clone(), &guard);
    let enforce = Arc::new(Enforce {
        interceptor: interceptor.clone(),
        destinations: destinations.clone(),
        namespaces: OnceLock::new(),
        order: Mutex::default(),
    });
    let learnt = enforce.clone();
    let names = options.names.then(|| Names {
        interceptor: interceptor.clone(),
        destinations: destinations.clone(),
        put_in_force: Arc::new(move |id| learnt.learnt(id)),
        crowd: Crowd::default(),
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
        crowd: Crowd::default(),
        drain,
    };
    let connections = Connections::start(acceptor.clone(), [Some(v4), v6]);
    let ports = [options.port_v4, options.port_v6];
    if let Some(names) = names {
        // Two listeners of one process may have ports of different numbers.
        let sockets = crate::namespaces::sockets(&Namespace::Own, ports)
            .context("cannot take queries for names on the gateway's port; set `port:` to another, or `dns: off`")?;
        for socket in sockets {
            tokio::spawn(names.clone().run(socket, Namespace::Own));
        }
    }
    let maker =
        Maker::own(&hierarchy).inspect_err(|error| tracing::warn!(%error, "no default deny in network namespaces"));
    let namespaces = Namespaces::start(
        acceptor,
        guard.clone(),
        ports,
        TableName::of(&config.bpffs),
        maker,
        resolved.rules,
        hierarchy.clone(),
    )
    .context("cannot look after network namespaces")?;
    let namespaces = Arc::new(namespaces);
    let _first = enforce.namespaces.set(Arc::downgrade(&namespaces));
    let admin = Admin {
        desk: desk.clone(),
        directory: Directory::with_groups(config.groups.clone()),
        interceptor: interceptor.clone(),
        namespaces: namespaces.clone(),
        workloads,
        recorder: recorder.clone(),
        policies: policies.clone(),
        node,
        guard: guard.iter().map(|directory| directory.display().to_string()).collect(),
    };
    start_desk(desk.clone(), admin, socket)?;
    let follow = Follow {
        interceptor,
        enforce,
        destinations,
        policies: policies.clone(),
        recorder: recorder.clone(),
        network: config.network.clone(),
    };
    let _watch = policies.watch(|_| {}).context("cannot watch the policies")?;
    tokio::spawn(follow.run());

    println!("ready socket={} port={}", config.socket().display(), options.port_v4);
    tracing::info!(socket = %config.socket().display(), port = options.port_v4, guard = ?guard, "guarding");
    stop_signal().await?;
    tracing::info!("stopping");
    desk.stop();
    namespaces.stop();
    stop.stop();
    connections.finish(config.drain).await;
    note(&recorder, Body::Stopped)?;
    let _ = std::fs::remove_file(config.socket());
    Ok(())
}

/// The accept loops, and the connections that they made.
struct Connections {
    loops: Vec<tokio::task::JoinHandle<()>>,
    alive: std::sync::Weak<Vec<Arc<dyn protocol::Protocol>>>,
}

impl Connections {
    fn start(acceptor: Acceptor, listeners: [Option<TcpListener>; 2]) -> Self {
        // Every connection's task holds the acceptor, so this list lives as long as the last of them.
        let alive = Arc::downgrade(&acceptor.protocols);
        let loops =
            listeners.into_iter().flatten().map(|listener| tokio::spawn(acceptor.clone().run(listener))).collect();
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
    enforce: Arc<Enforce>,
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
                    Ok(Ok(resolved)) => self.enforce.resolved(&resolved),
                    Ok(Err(error)) => tracing::error!(%error, "the addresses known before stay in force"),
                    Err(error) => tracing::error!(%error, "resolving ended unexpectedly"),
                }
            }
            if let Err(error) = self.interceptor.sweep() {
                tracing::error!(%error, "cannot sweep connections that never arrived");
            }
        }
    }
}

/// Puts what was resolved and what was learnt in force, one after the other.
struct Enforce {
    interceptor: Arc<Interceptor>,
    destinations: Arc<Destinations>,
    namespaces: OnceLock<std::sync::Weak<Namespaces>>,
    order: Mutex<()>,
}

impl Enforce {
    fn resolved(&self, resolved: &crate::resources::Resolved) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        // Names first: an address that the kernel brings must be known here.
        self.destinations.put_in_force(resolved);
        let rules = self.destinations.rules();
        if let Err(error) = self.interceptor.replace_rules(&rules) {
            tracing::error!(%error, "cannot put new rules in force; the old ones stay");
        }
        if let Some(namespaces) = self.namespaces.get().and_then(std::sync::Weak::upgrade) {
            namespaces.replace_rules(rules);
        }
    }

    /// What the namespace `id` has learnt, there and in the kernel's table.
    fn learnt(&self, id: NamespaceId) -> Result<(), String> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let namespaces = self.namespaces.get().and_then(std::sync::Weak::upgrade);
        let namespaces = namespaces.ok_or("the gateway is starting or stopping")?;
        self.interceptor.add_rules(&self.destinations.learnt_rules()).map_err(|error| error.to_string())?;
        namespaces.replace_rules(self.destinations.rules());
        namespaces.settle(id)
    }
}

/// The desk's timers and the API run on a thread of their own: whatever load bots make, people get through.
fn start_desk(desk: Desk, admin: Admin, socket: tokio::net::UnixListener) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the desk's runtime")?;
    let socket = socket.into_std().context("cannot hand over the administration socket")?;
    std::thread::Builder::new().name("desk".into()).spawn(move || {
        runtime.block_on(async {
            tokio::spawn(desk.keep_time());
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

fn port(listener: &TcpListener) -> Result<u16> {
    Ok(listener.local_addr().context("a listener without an address")?.port())
}

/// Lets protocols look at each resource while policies are loaded.
pub fn inspector() -> Box<Inspector> {
    Box::new(|resource: &Resource| {
        let mut objections = Vec::new();
        match protocol::named(&resource.protocol) {
            Some(protocol) => {
                if let Err(message) = protocol.check(&resource.extra) {
                    objections.push(Objection { key: "tls".into(), message });
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

async fn stop_signal() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".into() } else { name.trim().to_owned() }
}

/// How often reloaded policies and connections that never arrived are looked for.
const LOOK: Duration = Duration::from_millis(250);

/// How often hosts are resolved again.
const RESOLVE: Duration = Duration::from_secs(30);
