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
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use serde::Serialize;
use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Handle,
    task::AbortHandle,
};

use crate::{
    accept::Acceptor,
    intercept::{
        Rule,
        deny::{Deny, Maker, NoMaker, TableName, Whose},
    },
    net::{Namespace, NamespaceId, listen, listen_udp},
    workload::Hierarchy,
};

/// Looks after the namespaces until it is dropped. The deny stays behind.
pub struct Namespaces {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
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
    guards: Vec<PathBuf>,
    ports: [u16; 2],
    table: TableName,
    maker: Result<Maker, String>,
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
    deaf: Option<String>,
    /// The deny there, or why there is none.
    denied: Result<Denied, String>,
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
    /// Begins. `ports` are those on 127.0.0.1 and `::1` to which the kernel programs send connections.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        acceptor: Acceptor,
        guards: Vec<PathBuf>,
        ports: [u16; 2],
        table: TableName,
        maker: Result<Maker, NoMaker>,
        rules: Vec<Rule>,
        hierarchy: Hierarchy,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            acceptor: Mutex::new(Some(acceptor)),
            guards,
            ports,
            table,
            maker: maker.map_err(|error| error.to_string()),
            rules: Mutex::new(rules.into()),
            places: Mutex::default(),
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
        let mut current = locked(&self.shared.rules);
        if **current != *rules {
            *current = rules.into();
        }
    }

    /// Denies the current rules in the namespace `id` now.
    ///
    /// # Errors
    /// nftables refuses.
    pub fn settle(&self, id: NamespaceId) -> Result<(), String> {
        if Namespace::Own.id().is_ok_and(|own| own == id) {
            self.shared.see_to_own(Vec::new());
            let own = locked(&self.shared.own);
            return if own.guards.is_empty() { Ok(()) } else { own.denied.as_ref().map(|_| ()).map_err(Clone::clone) };
        }
        let mut places = locked(&self.shared.places);
        let Some(acceptor) = locked(&self.shared.acceptor).clone() else {
            return Err("the gateway is stopping".into());
        };
        let Some(place) = places.get_mut(&id) else { return Err("nobody guarded is there any more".into()) };
        self.shared.see_to(id, place, &acceptor);
        place.denied.as_ref().map(|_| ()).map_err(Clone::clone)
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
        let mut found = occupied(cgroups.below(&self.guards));
        let here = own.and_then(|own| found.remove(&own));
        self.see_to_own(here.map(|here| here.cgroups).unwrap_or_default());
        let mut places = locked(&self.places);
        let Some(acceptor) = locked(&self.acceptor).clone() else { return false };
        places.retain(|id, place| {
            match found.contains_key(id) {
                true => place.empty_since = None,
                false => _ = place.empty_since.get_or_insert_with(Instant::now),
            }
            let stays = place.empty_since.is_none_or(|since| since.elapsed() < LINGER);
            if !stays {
                place.close();
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
        let mut left: Vec<_> =
            places.iter_mut().filter_map(|(id, place)| (!place.stands(&rules)).then_some((id, place))).collect();
        for some in left.chunks_mut(AT_ONCE) {
            std::thread::scope(|scope| {
                for (id, place) in some {
                    scope.spawn(|| self.see_to(**id, place, &acceptor));
                }
            });
        }
        true
    }

    /// First the deny, then the listeners: a workload that is served is one that cannot go round.
    fn see_to(&self, id: NamespaceId, place: &mut Place, acceptor: &Acceptor) {
        match &self.maker {
            Ok(maker) => self.deny(id, &place.namespace, Whose::AllBut(*maker), &mut place.denied),
            Err(why) => place.denied = Err(why.clone()),
        }
        self.listen(id, place, acceptor);
    }

    /// In the gateway's own namespace, what was made in the guarded cgroups of which processes are here is denied.
    fn see_to_own(&self, cgroups: Vec<PathBuf>) {
        let mut own = locked(&self.own);
        let Own { guards, denied } = &mut *own;
        let guard = |cgroup: &PathBuf| self.guards.iter().find(|guard| cgroup.starts_with(guard)).cloned();
        guards.extend(cgroups.iter().filter_map(guard));
        guards.retain(|guard| guard.is_dir());
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
                    tracing::error!(
                        namespace = id.0,
                        "somebody changed the deny in a network namespace: it is put back"
                    );
                }
                Err(error) => tracing::warn!(namespace = id.0, %error, "nftables does not answer: asking anew"),
            }
        }
        *denied = match Deny::install(namespace, &self.table, &whose, &rules) {
            Ok(deny) => Ok(Denied { deny, whose, rules }),
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
        let made = listeners(&place.namespace, self.ports).and_then(|listeners| {
            let names = acceptor.names.as_ref().map(|_| sockets(&place.namespace, self.ports)).transpose()?;
            Ok((listeners, names.unwrap_or_default()))
        });
        let (listeners, sockets) = match made {
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
        let serve = |listener| self.runtime.spawn(acceptor.clone().run(listener)).abort_handle();
        place.loops = listeners.into_iter().map(serve).collect();
        for (names, socket) in acceptor.names.iter().cycle().zip(sockets) {
            let answering = names.clone().run(socket, place.namespace.clone());
            place.loops.push(self.runtime.spawn(answering).abort_handle());
        }
        place.deaf = None;
        tracing::info!(namespace = id.0, denied = place.denied.is_ok(), "guarding a network namespace");
    }
}

impl Place {
    fn new(namespace: Namespace) -> Self {
        let (deaf, denied) = (Some(NOT_YET.into()), Err(NOT_YET.into()));
        Self { namespace, loops: Vec::new(), deaf, denied, empty_since: None }
    }

    /// Whether there is nothing to do.
    fn stands(&mut self, rules: &Arc<[Rule]>) -> bool {
        let denied = self
            .denied
            .as_mut()
            .is_ok_and(|denied| Arc::ptr_eq(&denied.rules, rules) && denied.deny.is_intact().unwrap_or(false));
        denied && self.deaf.is_none()
    }

    fn standing(&mut self, id: NamespaceId) -> Standing {
        standing(id, self.deaf.clone(), &mut self.denied, false)
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
    Standing { id, deaf, dropped: intact.as_ref().copied().unwrap_or(0), open: intact.err(), shared }
}

/// Listeners on those loopback addresses that the namespace has.
fn listeners(namespace: &Namespace, [v4, v6]: [u16; 2]) -> std::io::Result<Vec<TcpListener>> {
    let mut made = vec![listen(namespace, ([127, 0, 0, 1], v4).into())?];
    if v6 != 0 {
        match listen(namespace, ([0, 0, 0, 0, 0, 0, 0, 1], v6).into()) {
            Ok(listener) => made.push(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// For queries, on those loopback addresses that the namespace has.
pub fn sockets(namespace: &Namespace, [v4, v6]: [u16; 2]) -> std::io::Result<Vec<UdpSocket>> {
    let mut made = vec![listen_udp(namespace, ([127, 0, 0, 1], v4).into())?];
    if v6 != 0 {
        match listen_udp(namespace, ([0, 0, 0, 0, 0, 0, 0, 1], v6).into()) {
            Ok(socket) => made.push(socket),
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// The namespace of `pid`, if it still is `id`.
fn open(pid: u32, id: NamespaceId) -> Option<Namespace> {
    let namespace = Namespace::open(Path::new(&format!("/proc/{pid}/ns/net"))).ok()?;
    (namespace.id().ok()? == id).then_some(namespace)
}

/// Who is in a namespace.
struct Inside {
    /// One of the processes.
    pid: u32,
    /// The cgroups that have processes there.
    cgroups: Vec<PathBuf>,
}

/// Every namespace with a process of these cgroups in it.
fn occupied(cgroups: &BTreeSet<PathBuf>) -> BTreeMap<NamespaceId, Inside> {
    let mut found: BTreeMap<_, Inside> = BTreeMap::new();
    for directory in cgroups {
        let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().filter_map(|line| line.parse().ok()) {
            if let Ok(id) = NamespaceId::of(pid) {
                let inside = found.entry(id).or_insert(Inside { pid, cgroups: Vec::new() });
                if inside.cgroups.last() != Some(directory) {
                    inside.cgroups.push(directory.clone());
                }
            }
        }
    }
    found
}

/// A cgroup and all below it.
fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(directory) = found.get(next) {
        let below = fs::read_dir(directory).into_iter().flatten().flatten();
        let below: Vec<_> =
            below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect();
        found.extend(below);
        next += 1;
    }
    found
}

/// The guarded cgroups; wakes when one appears, or the first process enters one.
struct Cgroups {
    notify: Option<Inotify>,
    watched: BTreeSet<PathBuf>,
}

impl Cgroups {
    fn new() -> Self {
        let notify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let notify = notify.inspect_err(|error| tracing::warn!(%error, "cgroups are looked at by the clock only")).ok();
        Self { notify, watched: BTreeSet::new() }
    }

    /// Those that are there now. Watched from here on, so that what changes after the answer wakes.
    fn below(&mut self, guards: &[PathBuf]) -> &BTreeSet<PathBuf> {
        let present: BTreeSet<PathBuf> = guards.iter().flat_map(|guard| tree(guard)).collect();
        if let Some(notify) = &self.notify {
            for new in present.difference(&self.watched) {
                // One that is gone again is not looked for the next time.
                let _ = notify.add_watch(new, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE);
                let _ = notify.add_watch(&new.join("cgroup.events"), AddWatchFlags::IN_MODIFY);
            }
        }
        self.watched = present;
        &self.watched
    }

    /// Waits for something to happen, at most for `limit`.
    fn wait(&self, limit: Duration) {
        let Some(notify) = &self.notify else { return std::thread::park_timeout(limit) };
        let mut waiting = [PollFd::new(notify.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut waiting, limit);
        while notify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value here is whole at every point where a holder could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of what is tried as soon as it is known.
const NOT_YET: &str = "not tried yet";

/// How long a namespace is kept when its last guarded process has gone: the next one often comes at once.
const LINGER: Duration = Duration::from_secs(5);

/// How many namespaces are seen to at a time: each takes a thread or two, for as long as a system call waits.
const AT_ONCE: usize = 16;

/// How often namespaces are looked for where nothing tells: a process that changes its namespace without changing its
/// cgroup is refused for so long.
const LOOK: Duration = Duration::from_millis(200);
