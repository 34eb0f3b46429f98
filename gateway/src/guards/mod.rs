//! What is guarded: a list that changes while pods and units come and go.
//!
//! Cgroups that the settings name are guarded always. A selector guards the own cgroup of every pod or unit that it
//! matches, from the moment in which that directory appears: the kubelet makes a pod's before it makes the first
//! container. What is guarded no more is detached, and what is gone leaves no pin behind.
//!
//! # Correctness
//! - A pod that nobody has heard of is guarded until it is known not to match.
//! - The pod that the gateway itself runs in is never guarded by a selector: it would hold its own connections.
//! - A pod whose processes had begun before its guard says so in its standing.

mod selector;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use serde::Serialize;
use tokio::sync::watch;

use crate::{
    config::{self, GuardEntry},
    damage::{Damage, Damages, Kind},
    intercept::{InterceptError, Interceptor},
    workload::{self, CgroupId, Hierarchy, Pods, Roots, cgroup},
};

pub use selector::SelectorError;
use selector::Selectors;
use tree::Tree;

/// The guarded cgroups. A cheap handle.
#[derive(Clone)]
pub struct Guards(Arc<Shared>);

/// Keeps the guards in step until it is dropped. What is guarded then stays so.
pub struct Keeper {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// The pods that selectors choose among.
#[derive(Debug, Clone)]
pub struct Node {
    /// What is known of them.
    pub pods: Pods,
    /// Where their cgroups are.
    pub roots: Roots,
}

/// How one guard stands, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// The cgroup, below the mount.
    pub path: String,
    /// The pod or unit, where it is one.
    pub who: Option<String>,
    /// Why it is guarded.
    pub why: Why,
    /// Processes were in it before it was guarded: connections that they had then are not seen again.
    pub late: bool,
    /// Why the kernel programs cannot see its sockets.
    pub unguardable: Option<String>,
    /// Why it is not guarded although it should be.
    pub failed: Option<String>,
}

/// Why a cgroup is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The settings name it.
    Named,
    /// A selector matches.
    Selected,
    /// Nobody has heard of this pod, so that it may match.
    Unknown,
    /// A gateway before this one has guarded it.
    Earlier,
}

struct Shared {
    hierarchy: Hierarchy,
    interceptor: Arc<Interceptor>,
    named: Vec<PathBuf>,
    selectors: Selectors,
    node: Option<Node>,
    /// The gateway's own cgroup.
    own: Option<PathBuf>,
    damages: Damages,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    attached: BTreeMap<PathBuf, Attached>,
    failed: BTreeMap<PathBuf, Failed>,
    /// What was let go while it lived on, and nobody has cleared up behind.
    released: Vec<PathBuf>,
    /// Pods that are selected and run, and have no cgroup.
    missing: BTreeSet<String>,
}

struct Attached {
    id: CgroupId,
    why: Why,
    late: bool,
}

struct Failed {
    why: Why,
    error: String,
}

impl Guards {
    /// Guards what is there, so that it is guarded when this returns, and looks after what comes and goes.
    ///
    /// # Errors
    /// A cgroup that the settings name cannot be guarded, a selector cannot be used, or no thread can be started.
    pub fn start(
        interceptor: Arc<Interceptor>,
        hierarchy: Hierarchy,
        settings: &[GuardEntry],
        node: Option<Node>,
        damages: Damages,
    ) -> Result<(Self, Keeper), GuardError> {
        let selectors = Selectors::read(settings.iter().filter_map(selector))?;
        if selectors.of_pods() && node.is_none() {
            return Err(SelectorError::NoKubernetes.into());
        }
        let named = settings.iter().filter_map(|entry| match entry {
            GuardEntry::Cgroup(path) => Some(hierarchy.resolve(path)),
            GuardEntry::Select(_) => None,
        });
        let own = hierarchy.own_path().map(|path| hierarchy.resolve(Path::new(&path)));
        let named = named.collect();
        let shared = Shared { hierarchy, interceptor, named, selectors, node, own, damages, state: Mutex::default() };
        let guards = Self(Arc::new(shared));
        guards.0.name()?;
        guards.0.adopt();
        let keeper = Keeper::start(guards.clone())?;
        Ok((guards, keeper))
    }

    /// The guarded cgroups, as they are now.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.0.state().attached.keys().cloned().collect()
    }

    /// Those that were let go while they lived on, once: whoever denied anything there should take that away.
    pub fn take_released(&self) -> Vec<PathBuf> {
        std::mem::take(&mut self.0.state().released)
    }

    /// Whether the process `pid` is in a guarded cgroup.
    ///
    /// # Errors
    /// It is gone, or its cgroup cannot be read.
    pub fn cover(&self, pid: i32) -> std::io::Result<bool> {
        let directory = self.0.hierarchy.resolve(Path::new(&cgroup::path_of(pid)?));
        let state = self.0.state();
        Ok(directory.ancestors().any(|above| state.attached.contains_key(above)))
    }

    /// How each guard stands.
    pub fn standing(&self) -> Vec<Standing> {
        let state = self.0.state();
        let attached = state.attached.iter().map(|(path, one)| self.0.standing(path, one.why, one.late, None));
        let failed =
            state.failed.iter().map(|(path, one)| self.0.standing(path, one.why, false, Some(one.error.clone())));
        attached.chain(failed).collect()
    }

    /// Pods that are selected and run as far as the API knows, and have no cgroup here by which they could be guarded.
    pub fn missing(&self) -> Vec<String> {
        self.0.state().missing.iter().cloned().collect()
    }

    /// How the API stands that knows the pods; `None` where nobody is asked.
    pub fn kubernetes(&self) -> Option<workload::kubernetes::Standing> {
        self.0.node.as_ref().map(|node| node.pods.standing())
    }
}

/// Why guards cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// A selector is wrong.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The kernel refuses.
    #[error(transparent)]
    Intercept(#[from] InterceptError),
    /// A cgroup cannot be made.
    #[error("cannot make the cgroup {}: {source}; run as root, or name another under `guard:`", path.display())]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No thread.
    #[error("cannot start the thread that looks after guards: {0}")]
    Thread(#[from] std::io::Error),
}

fn selector(entry: &GuardEntry) -> Option<&config::Selector> {
    match entry {
        GuardEntry::Select(selector) => Some(selector),
        GuardEntry::Cgroup(_) => None,
    }
}

impl Keeper {
    fn start(guards: Guards) -> Result<Self, GuardError> {
        let (stop, mut stopped) = watch::channel(false);
        // Its own thread and runtime: however busy connections are, a new pod is seen at once.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (looked, first_look) = std::sync::mpsc::channel();
        let keep = async move {
            let mut tree = Tree::new(guards.0.hierarchy.clone());
            let mut changes = guards.0.node.as_ref().map(|node| node.pods.changes());
            loop {
                guards.0.look(&mut tree);
                let _only_the_first_is_awaited = looked.send(());
                tokio::select! {
                    _ = stopped.changed() => return,
                    () = tree.changed() => {}
                    () = change(changes.as_mut()) => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        };
        let thread = std::thread::Builder::new().name("guards".into()).spawn(move || runtime.block_on(keep))?;
        let _it_panicked_and_said_so = first_look.recv();
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed when it happened.
            let _ = thread.join();
        }
    }
}

async fn change(changes: Option<&mut watch::Receiver<u64>>) {
    let Some(changes) = changes else { return std::future::pending().await };
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every value in it is whole at every point where a holder could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Guards what the settings name, or says why not.
    fn name(&self) -> Result<(), GuardError> {
        for directory in &self.named {
            std::fs::create_dir_all(directory)
                .map_err(|source| GuardError::Cgroup { path: directory.clone(), source })?;
            let id = self.interceptor.attach(directory)?;
            self.state().attached.insert(directory.clone(), Attached { id, why: Why::Named, late: false });
        }
        Ok(())
    }

    /// Takes over what a gateway before this one guarded by its selectors: the programs are attached already.
    fn adopt(&self) {
        for id in self.interceptor.guarded() {
            let Some(path) = self.hierarchy.path(id) else { continue };
            let is_pod = self.node.as_ref().and_then(|node| node.roots.pod(&path)).is_some_and(|pod| pod.path == path);
            let is_unit = self.selectors.of_units() && workload::unit(&path).is_some();
            let directory = self.hierarchy.resolve(Path::new(&path));
            if (is_pod || is_unit) && !self.named.contains(&directory) {
                self.state().attached.insert(directory, Attached { id, why: Why::Earlier, late: false });
            }
        }
    }

    /// Brings what is guarded in line with what should be.
    fn look(&self, tree: &mut Tree) {
        let wanted = self.wanted(tree);
        self.let_go(&wanted);
        for (directory, why) in &wanted {
            let known = self.state().attached.get_mut(directory).map(|attached| attached.why = *why);
            if known.is_none() {
                self.guard(directory, *why);
            }
        }
        self.state().failed.retain(|directory, _| wanted.contains_key(directory));
    }

    /// Every cgroup that is there and should be guarded.
    fn wanted(&self, tree: &mut Tree) -> BTreeMap<PathBuf, Why> {
        let mut wanted: BTreeMap<PathBuf, Why> =
            self.named.iter().map(|directory| (directory.clone(), Why::Named)).collect();
        if self.selectors.of_units() {
            let units = tree.units().into_iter().filter(|(_, name)| self.selectors.selects_unit(name));
            wanted.extend(units.map(|(directory, _)| (directory, Why::Selected)));
        }
        if let Some(node) = &self.node {
            let pods = tree.pods(&node.roots);
            let present: BTreeSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
            node.pods.forget(&|uid| present.contains(uid));
            if self.selectors.of_pods() {
                self.state().missing = self.without_cgroup(node, &present);
                let why = |uid: &str| match node.pods.find(uid) {
                    Some(pod) => self.selectors.selects(&pod).then_some(Why::Selected),
                    None => Some(Why::Unknown),
                };
                wanted.extend(pods.into_iter().filter_map(|pod| Some((pod.directory, why(&pod.uid)?))));
            }
        }
        // Its own is the one cgroup that nobody but the settings' author can mean.
        let own = |directory: &PathBuf| self.own.as_ref().is_some_and(|own| own.starts_with(directory));
        wanted.retain(|directory, why| *why == Why::Named || !own(directory));
        wanted
    }

    fn without_cgroup(&self, node: &Node, present: &BTreeSet<&str>) -> BTreeSet<String> {
        let pods = node.pods.all().into_iter().filter(|pod| pod.running && !pod.deleted);
        let absent = pods.filter(|pod| self.selectors.selects(pod) && !pod.uids().any(|uid| present.contains(uid)));
        absent.map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect()
    }

    /// Ends the guard of what is gone, or is another directory of the same name, or should not be guarded any more.
    fn let_go(&self, wanted: &BTreeMap<PathBuf, Why>) {
        let now = |directory: &Path| self.hierarchy.id(directory).ok();
        let unwanted = |(directory, attached): (&PathBuf, &Attached)| {
            let is_there = now(directory) == Some(attached.id);
            (!is_there || !wanted.contains_key(directory)).then(|| (directory.clone(), attached.id, is_there))
        };
        let unwanted: Vec<_> = self.state().attached.iter().filter_map(unwanted).collect();
        for (directory, id, is_there) in unwanted {
            if let Err(error) = self.interceptor.detach(id) {
                tracing::error!(cgroup = %directory.display(), %error, "cannot end a guard; tried again");
                continue;
            }
            let mut state = self.state();
            state.attached.remove(&directory);
            if is_there {
                tracing::warn!(cgroup = %directory.display(), "guarded no more: no selector matches");
                state.released.push(directory);
            }
        }
    }

    fn guard(&self, directory: &Path, why: Why) {
        // The first time was in `name`: systemd removes a slice with its last unit, and others remove what they like.
        let removed = why == Why::Named && !self.state().failed.contains_key(directory);
        if why == Why::Named && !directory.exists() {
            let _attaching_says_why = std::fs::create_dir_all(directory);
        }
        let attached = self.interceptor.attach(directory);
        if removed {
            let what = format!("the guarded cgroup {} was removed", directory.display());
            let repaired = attached.as_ref().map(drop).map_err(ToString::to_string);
            self.damages.note(Damage { kind: Kind::Guard, what, repaired });
        }
        match attached {
            Ok(id) => {
                let late = populated(directory);
                tracing::info!(cgroup = %directory.display(), ?why, late, "guarding");
                let mut state = self.state();
                state.failed.remove(directory);
                state.attached.insert(directory.to_owned(), Attached { id, why, late });
            }
            // Gone again before it could be guarded, with whoever was in it.
            Err(_) if !directory.exists() => {}
            Err(error) => {
                let error = error.to_string();
                let mut state = self.state();
                let before = state.failed.insert(directory.to_owned(), Failed { why, error: error.clone() });
                if before.is_none_or(|before| before.error != error) {
                    tracing::error!(cgroup = %directory.display(), error, "CANNOT GUARD what a selector matches");
                }
            }
        }
    }

    fn standing(&self, directory: &Path, why: Why, late: bool, failed: Option<String>) -> Standing {
        let path = self.hierarchy.below(directory);
        let pod = self.node.as_ref().and_then(|node| {
            let pod = node.pods.find(&node.roots.pod(&path)?.uid)?;
            Some((node, pod))
        });
        let unguardable = pod.as_ref().and_then(|(node, pod)| node.pods.unguardable(pod));
        let who = match &pod {
            Some((_, pod)) => Some(format!("{}/{}", pod.namespace, pod.name)),
            None => workload::unit(&path).map(|unit| unit.name.to_owned()).filter(|_| why == Why::Selected),
        };
        Standing { path, who, why, late, unguardable, failed }
    }
}

/// Whether processes are in the cgroup, or below it. Where that cannot be read they may be.
fn populated(directory: &Path) -> bool {
    match std::fs::read_to_string(directory.join("cgroup.events")) {
        Ok(events) => !events.contains("populated 0"),
        Err(_) => directory.exists(),
    }
}

/// How often is looked where nothing tells.
const LOOK: Duration = Duration::from_secs(1);
