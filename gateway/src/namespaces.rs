//! The network namespaces of guarded workloads: in each, the gateway listens and denies what goes round it.
//!
//! The kernel programs send an intercepted connection to the gateway's port on the loopback of the client's *own*
//! namespace. So the gateway opens listeners there, from outside, and dials from there, so that addresses, routes and
//! network policies stay what they were. No process and no thread of the gateway stays inside.
//!
//! # Correctness
//! A namespace is found when a guarded process is in it. Until then its connections find nobody at the port and are
//! refused, so being late costs a bot its connection and never lets one pass.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Handle,
    task::AbortHandle,
};

use crate::{
    accept::Acceptor,
    damage::{Damage, Damages, Kind},
    guards::Guards,
    intercept::{
        Action, Interceptor, Network, Rule,
        deny::{self, Deny, Maker, TableName, Whose},
    },
    net::{HostSide, Namespace, NamespaceId, host_sides, keep, listen, listen_udp},
    workload::Hierarchy,
};

mod occupied;

use occupied::{Cgroups, Inside, occupied, tree};

/// Looks after the namespaces until it is dropped. The deny stays behind.
pub struct Namespaces {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

/// Where to listen in every namespace.
pub struct Listening {
    /// The ports on 127.0.0.1 and `::1` to which the kernel programs send connections.
    pub ports: [u16; 2],
    /// Listeners there which an earlier gateway left.
    pub inherited: Vec<(Namespace, Vec<TcpListener>)>,
}

/// What is known of one namespace, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// The namespace.
    pub id: NamespaceId,
    /// Why the gateway does not listen there; its connections are refused.
    pub deaf: Option<String>,
    /// Why sockets that the kernel programs do not see are not denied there.
    pub open: Option<String>,
    /// Whether it is the gateway's own, which others use, too: there only sockets that were made in guarded cgroups are
    /// denied, and those that were made elsewhere and handed in are not.
    pub shared: bool,
    /// Why packet sockets there are not stopped on the host's side.
    pub unwatched: Option<String>,
    /// Packets that were denied since the gateway started.
    pub dropped: u64,
}

impl Standing {
    /// Whether guarded workloads there are served and cannot go round.
    pub fn is_whole(&self) -> bool {
        self.deaf.is_none() && self.open.is_none()
    }
}

struct Shared {
    acceptor: Mutex<Option<Acceptor>>,
    guards: Guards,
    ports: [u16; 2],
    table: TableName,
    maker: Result<Maker, String>,
    damages: Damages,
    rules: Mutex<Arc<[Rule]>>,
    places: Mutex<BTreeMap<NamespaceId, Place>>,
    own: Mutex<Own>,
    hierarchy: Hierarchy,
    runtime: Handle,
}

/// The gateway's own namespace, as far as guarded workloads share it.
struct Own {
    /// The guards that have had processes here, while they exist.
    guards: BTreeSet<PathBuf>,
    denied: Result<Denied, String>,
}

struct Place {
    namespace: Namespace,
    loops: Vec<AbortHandle>,
    listeners: Vec<Arc<TcpListener>>,
    /// What an earlier gateway left, not yet accepted from.
    inherited: Option<Vec<TcpListener>>,
    deaf: Option<String>,
    /// The deny there, or why there is none.
    denied: Result<Denied, String>,
    /// Where packets come out on the host, or why not all of that is watched; and when that was last looked at.
    outlets: Result<Vec<HostSide>, String>,
    looked: Option<Instant>,
    /// Since when no guarded process has been seen there.
    empty_since: Option<Instant>,
}

/// What is denied, and with which rules.
struct Denied {
    deny: Deny,
    whose: Whose,
    rules: Arc<[Rule]>,
}

impl Namespaces {
    /// Begins.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        acceptor: Acceptor,
        guards: Guards,
        Listening { ports, inherited }: Listening,
        table: TableName,
        rules: Vec<Rule>,
        hierarchy: Hierarchy,
        damages: Damages,
    ) -> std::io::Result<Self> {
        let mut places = BTreeMap::new();
        for (namespace, listeners) in inherited {
            places.insert(namespace.id()?, Place { inherited: Some(listeners), ..Place::new(namespace) });
        }
        let maker =
            Maker::own(&hierarchy).inspect_err(|error| tracing::warn!(%error, "no default deny in network namespaces"));
        let shared = Arc::new(Shared {
            acceptor: Mutex::new(Some(acceptor)),
            guards,
            ports,
            table,
            maker: maker.map_err(|error| error.to_string()),
            damages,
            rules: Mutex::new(denied_of(rules, ports)),
            places: Mutex::new(places),
            own: Mutex::new(Own { guards: BTreeSet::new(), denied: Err(NOT_YET.into()) }),
            hierarchy,
            runtime: Handle::current(),
        });
        let mut cgroups = Cgroups::new();
        // Those that are there already are ready when this returns.
        shared.look(&mut cgroups);
        let watched = shared.clone();
        let watch = move || {
            cgroups.wait(LOOK);
            while watched.look(&mut cgroups) {
                cgroups.wait(LOOK);
            }
        };
        let watcher = std::thread::Builder::new().name("namespaces".into()).spawn(watch)?;
        Ok(Self { shared, watcher: Some(watcher) })
    }

    /// Denies `rules` in every namespace, from the next look on.
    pub fn replace_rules(&self, rules: Vec<Rule>) {
        let rules = denied_of(rules, self.shared.ports);
        let mut current = locked(&self.shared.rules);
        if **current != *rules {
            *current = rules;
        }
    }

    /// Denies the current rules in the namespace `id` now, if guarded processes are there. What cannot be denied shows in
    /// [`standing`](Self::standing).
    pub fn settle(&self, id: NamespaceId) {
        if Namespace::Own.id().is_ok_and(|own| own == id) {
            return self.shared.see_to_own(&self.shared.guards.directories(), Vec::new());
        }
        let mut places = locked(&self.shared.places);
        let Some(acceptor) = locked(&self.shared.acceptor).clone() else { return };
        if let Some(place) = places.get_mut(&id) {
            self.shared.see_to(id, place, &acceptor);
        }
    }

    /// Guards the namespace of the process `pid` now, before a guarded process enters it, and says how it stands.
    /// `None` where it is the gateway's own.
    ///
    /// # Errors
    /// The process is gone, or the gateway is stopping.
    pub fn prepare(&self, pid: u32) -> std::io::Result<Option<Standing>> {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let id = NamespaceId::of(pid)?;
        if id == Namespace::Own.id()? {
            return Ok(None);
        }
        let mut places = locked(&self.shared.places);
        let acceptor = locked(&self.shared.acceptor).clone().ok_or_else(gone)?;
        let place = match places.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Place::new(open(pid, id).ok_or_else(gone)?)),
        };
        // Counted from now: whoever asks is about to send somebody there.
        place.empty_since = Some(Instant::now());
        self.shared.see_to(id, place, &acceptor);
        Ok(Some(place.standing(id)))
    }

    /// How each namespace stands.
    pub fn standing(&self) -> Vec<Standing> {
        let mut own = locked(&self.shared.own);
        let shared = (!own.guards.is_empty()).then(|| Namespace::Own.id().ok()).flatten();
        let shared = shared.map(|id| standing(id, None, &mut own.denied, true));
        let mut places = locked(&self.shared.places);
        shared.into_iter().chain(places.iter_mut().map(|(id, place)| place.standing(*id))).collect()
    }

    /// Every listener, for the gateway that takes over.
    pub fn listeners(&self) -> Vec<Arc<TcpListener>> {
        locked(&self.shared.places).values().flat_map(|place| place.listeners.clone()).collect()
    }

    /// Listens no more. Connections that were accepted go on.
    pub fn stop(&self) {
        // Whoever opens a place asks for the acceptor with the places locked: none is opened behind this.
        locked(&self.shared.acceptor).take();
        for (_, place) in std::mem::take(&mut *locked(&self.shared.places)) {
            place.close();
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.stop();
        if let Some(watcher) = self.watcher.take() {
            // A panic there was printed when it happened.
            let _ = watcher.join();
        }
    }
}

impl Shared {
    /// Brings what stands in line with where guarded processes are. Not once the gateway is stopping: says whether to
    /// go on.
    fn look(&self, cgroups: &mut Cgroups) -> bool {
        let own = Namespace::Own.id().ok();
        // Before the guards are read: what is let go in between is cleared up behind at the next look.
        let released = self.guards.take_released();
        let guards = self.guards.directories();
        let mut found = occupied(cgroups.below(&guards));
        let here = own.and_then(|own| found.remove(&own));
        self.see_to_own(&guards, here.map(|here| here.cgroups).unwrap_or_default());
        let mut places = locked(&self.places);
        let Some(acceptor) = locked(&self.acceptor).clone() else { return false };
        self.release(&released, &found, &mut places, &acceptor.interceptor);
        places.retain(|id, place| {
            match found.contains_key(id) {
                true => place.empty_since = None,
                false => _ = place.empty_since.get_or_insert_with(Instant::now),
            }
            let stays = place.empty_since.is_none_or(|since| since.elapsed() < LINGER);
            if !stays {
                place.close();
                keep::forget(*id);
                acceptor.destinations.forget(*id);
                tracing::info!(namespace = id.0, "nobody guarded is left in a network namespace");
            }
            stays
        });
        for (id, inside) in found {
            if !places.contains_key(&id)
                && let Some(namespace) = open(inside.pid, id)
            {
                places.insert(id, Place::new(namespace));
            }
        }
        let rules = locked(&self.rules).clone();
        // Most need nothing: that is asked at the price of a system call each. The others side by side, since a
        // transaction of nftables waits for every processor, tens of milliseconds on a busy machine.
        let mut left: Vec<_> = places
            .iter_mut()
            .filter_map(|(id, place)| (!place.stands(&rules, &acceptor.interceptor)).then_some((id, place)))
            .collect();
        for some in left.chunks_mut(AT_ONCE) {
            std::thread::scope(|scope| {
                for (id, place) in some {
                    scope.spawn(|| self.see_to(**id, place, &acceptor));
                }
            });
        }
        true
    }

    /// Takes the deny from namespaces whose processes are guarded no more: in these cgroups, and not in `found`.
    fn release(
        &self,
        released: &[PathBuf],
        found: &BTreeMap<NamespaceId, Inside>,
        places: &mut BTreeMap<NamespaceId, Place>,
        interceptor: &Interceptor,
    ) {
        let cgroups = released.iter().flat_map(|directory| tree(directory)).collect();
        let own = Namespace::Own.id().ok();
        let left = occupied(&cgroups).into_iter().filter(|(id, _)| !found.contains_key(id) && Some(*id) != own);
        for (id, inside) in left {
            places.remove(&id).inspect(Place::close);
            let Some(namespace) = open(inside.pid, id) else { continue };
            let sides = host_sides(&namespace).unwrap_or_default();
            sides.into_iter().flatten().for_each(|side| interceptor.unwatch(side));
            match deny::remove(&namespace, &self.table) {
                Ok(true) => tracing::info!(namespace = id.0, "the deny is taken from a network namespace"),
                Ok(false) => {}
                Err(error) => tracing::error!(namespace = id.0, %error, "the deny stays where nobody is guarded"),
            }
        }
    }

    /// First the deny, then the listeners: a workload that is served is one that cannot go round.
    fn see_to(&self, id: NamespaceId, place: &mut Place, acceptor: &Acceptor) {
        match &self.maker {
            Ok(maker) => self.deny(id, &place.namespace, Whose::AllBut(*maker), &mut place.denied),
            Err(why) => place.denied = Err(why.clone()),
        }
        self.watch(id, place, &acceptor.interceptor);
        self.listen(id, place, acceptor);
    }

    /// What comes out of the namespace past its own hooks is stopped on the host's side.
    fn watch(&self, id: NamespaceId, place: &mut Place, interceptor: &Interceptor) {
        if self.maker.is_err() || !place.outlets_are_old(interceptor) {
            return;
        }
        place.looked = Some(Instant::now());
        let sides = host_sides(&place.namespace).map_err(|error| format!("its interfaces cannot be listed: {error}"));
        let before = place.outlets.clone().unwrap_or_default();
        let watched = sides.and_then(|sides| {
            let sides: Result<Vec<_>, _> = sides.into_iter().collect();
            let sides = sides.map_err(|name| format!("its interface {name} has no other end on this host"))?;
            let refused = |error| format!("the kernel (Linux 6.6 or newer is needed) refuses: {error}");
            for side in &sides {
                let damaged = before.contains(side) && !interceptor.is_watched(*side);
                let done = interceptor.watch(*side).map_err(refused);
                if damaged {
                    let what = format!("the program on the host's side of network namespace {} was taken away", id.0);
                    self.damages.note(Damage { kind: Kind::Link, what, repaired: done.clone() });
                }
                done?;
            }
            Ok(sides)
        });
        if let Err(why) = &watched
            && place.outlets.as_ref().err() != Some(why)
        {
            tracing::warn!(namespace = id.0, why, "packet sockets there are not stopped on the host's side");
        }
        place.outlets = watched;
    }

    /// In the gateway's own namespace, what was made in the guarded cgroups of which processes are here is denied.
    fn see_to_own(&self, all: &[PathBuf], cgroups: Vec<PathBuf>) {
        let mut own = locked(&self.own);
        let Own { guards, denied } = &mut *own;
        let guard = |cgroup: &PathBuf| all.iter().find(|guard| cgroup.starts_with(guard)).cloned();
        guards.extend(cgroups.iter().filter_map(guard));
        guards.retain(|guard| guard.is_dir() && all.contains(guard));
        if guards.is_empty() && denied.is_err() {
            return;
        }
        let maker = |guard: &PathBuf| Maker::of(&self.hierarchy, self.hierarchy.id(guard).ok()?).ok();
        let makers = guards.iter().filter_map(maker).collect();
        let id = Namespace::Own.id().unwrap_or(NamespaceId(0));
        self.deny(id, &Namespace::Own, Whose::MadeIn(makers), denied);
    }

    fn deny(&self, id: NamespaceId, namespace: &Namespace, whose: Whose, denied: &mut Result<Denied, String>) {
        let rules = locked(&self.rules).clone();
        let mut changed = false;
        if let Ok(there) = denied {
            match there.deny.is_intact() {
                Ok(true) if there.is_for(&whose, &rules) => return,
                Ok(true) => {
                    if there.deny.replace(&whose, &rules).is_ok() {
                        (there.whose, there.rules) = (whose, rules);
                        return;
                    }
                }
                Ok(false) => {
                    changed = true;
                    tracing::error!(
                        namespace = id.0,
                        "somebody changed the deny in a network namespace: it is put back"
                    );
                }
                Err(error) => tracing::warn!(namespace = id.0, %error, "nftables does not answer: asking anew"),
            }
        }
        *denied = match Deny::install(namespace, &self.table, &whose, &rules) {
            Ok(deny) => {
                if changed {
                    let what = format!("the deny in network namespace {} was changed or removed", id.0);
                    self.damages.note(Damage { kind: Kind::Deny, what, repaired: Ok(()) });
                }
                Ok(Denied { deny, whose, rules })
            }
            Err(error) => {
                let why = format!("nftables refuses: {error}");
                if denied.as_ref().err() != Some(&why) {
                    tracing::error!(namespace = id.0, why, "sockets that the hooks do not see are not denied");
                }
                Err(why)
            }
        };
    }

    fn listen(&self, id: NamespaceId, place: &mut Place, acceptor: &Acceptor) {
        if place.deaf.is_none() {
            return;
        }
        let _runtime = self.runtime.enter();
        let inherited = place.inherited.take();
        let made = inherited.map_or_else(|| listeners(&place.namespace, self.ports), Ok).and_then(|listeners| {
            let queried = acceptor.names.as_ref().map(|_| queries(&place.namespace, self.ports)).transpose()?;
            Ok((listeners, queried.unwrap_or_default()))
        });
        let (listeners, queried) = match made {
            Ok(made) => made,
            Err(error) => {
                let why = format!("the gateway's port cannot be had there: {error}");
                if place.deaf.as_ref() != Some(&why) {
                    tracing::error!(namespace = id.0, why, "guarded connections there are refused");
                }
                place.deaf = Some(why);
                return;
            }
        };
        let acceptor = Acceptor { namespace: place.namespace.clone(), ..acceptor.clone() };
        let serve =
            |listener: &Arc<TcpListener>| self.runtime.spawn(acceptor.clone().run(listener.clone())).abort_handle();
        place.listeners = listeners.into_iter().map(Arc::new).collect();
        place.loops = place.listeners.iter().map(serve).collect();
        for (names, socket) in acceptor.names.iter().cycle().zip(queried) {
            let answering = names.clone().run(socket, place.namespace.clone());
            place.loops.push(self.runtime.spawn(answering).abort_handle());
        }
        keep::store(id, &place.listeners);
        place.deaf = None;
        tracing::info!(namespace = id.0, denied = place.denied.is_ok(), "guarding a network namespace");
    }
}

impl Place {
    fn new(namespace: Namespace) -> Self {
        let (deaf, denied) = (Some(NOT_YET.into()), Err(NOT_YET.into()));
        let (loops, listeners, inherited, outlets) = (Vec::new(), Vec::new(), None, Ok(Vec::new()));
        Self { namespace, loops, listeners, inherited, deaf, denied, outlets, looked: None, empty_since: None }
    }

    /// Interfaces come and go, and so may what watches them.
    fn outlets_are_old(&self, interceptor: &Interceptor) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() > INTERFACES)
            || self.outlets.as_ref().is_ok_and(|sides| !sides.iter().all(|side| interceptor.is_watched(*side)))
    }

    /// Whether there is nothing to do.
    fn stands(&mut self, rules: &Arc<[Rule]>, interceptor: &Interceptor) -> bool {
        let denied = self
            .denied
            .as_mut()
            .is_ok_and(|denied| Arc::ptr_eq(&denied.rules, rules) && denied.deny.is_intact().unwrap_or(false));
        denied && self.deaf.is_none() && !self.outlets_are_old(interceptor)
    }

    fn standing(&mut self, id: NamespaceId) -> Standing {
        let unwatched = self.outlets.as_ref().err().cloned();
        Standing { unwatched, ..standing(id, self.deaf.clone(), &mut self.denied, false) }
    }

    fn close(&self) {
        self.loops.iter().for_each(AbortHandle::abort);
    }
}

impl Denied {
    fn is_for(&self, whose: &Whose, rules: &Arc<[Rule]>) -> bool {
        Arc::ptr_eq(&self.rules, rules) && self.whose == *whose
    }
}

/// Asked of the kernel, now.
fn standing(id: NamespaceId, deaf: Option<String>, denied: &mut Result<Denied, String>, shared: bool) -> Standing {
    let intact = match denied {
        Ok(denied) => match (denied.deny.is_intact(), denied.deny.dropped()) {
            (Ok(true), Ok(dropped)) => Ok(dropped),
            (Ok(_), Ok(_)) => Err("somebody has just changed the deny".to_owned()),
            (Err(error), _) | (_, Err(error)) => Err(format!("nftables does not answer: {error}")),
        },
        Err(why) => Err(why.clone()),
    };
    Standing { id, deaf, dropped: intact.as_ref().copied().unwrap_or(0), open: intact.err(), shared, unwatched: None }
}

/// The rules as the deny has them. Whatever they say of the gateway's own listeners, what the kernel programs send there
/// must arrive, and so must the answers, which go to any port of the loopback. A rule that refuses everything would
/// otherwise cut guarded workloads off. Ports of the loopback that a rule names stay denied.
fn denied_of(mut rules: Vec<Rule>, [v4, v6]: [u16; 2]) -> Arc<[Rule]> {
    let is_loopback = |rule: &Rule| rule.to.addr().is_loopback() && rule.to.prefix() >= LOOPBACK_BITS;
    rules.retain(|rule| rule.port.is_some() || !is_loopback(rule));
    let whole =
        [Network::new(Ipv4Addr::LOCALHOST.into(), LOOPBACK_BITS), Network::new(Ipv6Addr::LOCALHOST.into(), 128)];
    rules.extend(whole.into_iter().flatten().map(|to| Rule { to, port: None, action: Action::Pass }));
    let listeners = [(IpAddr::from(Ipv4Addr::LOCALHOST), v4), (Ipv6Addr::LOCALHOST.into(), v6)];
    for (addr, port) in listeners.into_iter().filter(|(_, port)| *port != 0) {
        let open = Rule { to: addr.into(), port: Some(port), action: Action::Pass };
        rules.retain(|rule| (rule.to, rule.port) != (open.to, open.port));
        rules.push(open);
    }
    rules.into()
}

/// Listeners on those loopback addresses that the namespace has.
fn listeners(namespace: &Namespace, ports: [u16; 2]) -> std::io::Result<Vec<TcpListener>> {
    on_loopbacks(ports, |address| listen(namespace, address))
}

/// Takes queries for names on the same ports.
pub fn queries(namespace: &Namespace, ports: [u16; 2]) -> std::io::Result<Vec<UdpSocket>> {
    on_loopbacks(ports, |address| listen_udp(namespace, address))
}

/// On those loopback addresses that there are.
fn on_loopbacks<T>([v4, v6]: [u16; 2], make: impl Fn(SocketAddr) -> std::io::Result<T>) -> std::io::Result<Vec<T>> {
    let mut made = vec![make(([127, 0, 0, 1], v4).into())?];
    if v6 != 0 {
        match make(([0, 0, 0, 0, 0, 0, 0, 1], v6).into()) {
            Ok(one) => made.push(one),
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// Listeners in every namespace, except the gateway's own, in which guarded processes are now. Nobody accepts from them
/// before [`Namespaces`] has denied what goes round.
pub fn listen_early(guards: &[PathBuf], ports: [u16; 2]) -> Vec<(Namespace, Vec<TcpListener>)> {
    let own = Namespace::Own.id().ok();
    let found = occupied(Cgroups::new().below(guards)).into_iter().filter(|(id, _)| Some(*id) != own);
    let early = |(id, inside): (NamespaceId, Inside)| {
        let namespace = open(inside.pid, id)?;
        // Where it cannot be done now it is tried again, and said.
        let made = listeners(&namespace, ports).ok()?;
        Some((namespace, made))
    };
    found.filter_map(early).collect()
}

/// The namespace of `pid`, if it still is `id`.
fn open(pid: u32, id: NamespaceId) -> Option<Namespace> {
    let namespace = Namespace::open(Path::new(&format!("/proc/{pid}/ns/net"))).ok()?;
    (namespace.id().ok()? == id).then_some(namespace)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value here is whole at every point where a holder could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of what is tried as soon as it is known.
const NOT_YET: &str = "not tried yet";

/// 127.0.0.0/8
const LOOPBACK_BITS: u8 = 8;

/// How long a namespace is kept when its last guarded process has gone: the next one often comes at once.
const LINGER: Duration = Duration::from_secs(5);

/// How often a namespace's interfaces are listed.
const INTERFACES: Duration = Duration::from_secs(5);

/// How many namespaces are seen to at a time: each takes a thread or two, for as long as a system call waits.
const AT_ONCE: usize = 16;

/// How often namespaces are looked for where nothing tells: a process that changes its namespace without changing its
/// cgroup is refused for so long.
const LOOK: Duration = Duration::from_millis(200);
