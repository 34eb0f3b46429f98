//! Whether each workload is really guarded, and if not, why not.
//!
//! # Correctness
//! *Guarded* is what is left when every reason against it was looked for and none found. What cannot be read is
//! *unknown*; nothing is guarded because of an error.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    intercept::Guard,
    namespaces::Standing,
    net::{Namespace, NamespaceId},
    workload::{Hierarchy, Workload, Workloads, powers::Powers},
};

/// How well a workload is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Enforcement {
    /// Every program is on it, and its network namespace denies what goes round them.
    Guarded,
    /// Something is known with which it, or somebody who helps it, goes round.
    Bypassable,
    /// Its sockets are not this kernel's: no hook here sees them.
    Unguardable,
    /// It could not be found out.
    Unknown,
}

/// What was found out about one workload.
#[derive(Debug, Clone, Serialize)]
pub struct Assessed {
    /// Its name.
    pub name: String,
    /// Its cgroup's path below the mount.
    pub cgroup: String,
    /// How well it is guarded.
    pub enforcement: Enforcement,
    /// Why it is not, or what else there is to say.
    pub reasons: Vec<String>,
    /// How many processes it has now.
    pub processes: usize,
    /// The network namespaces that they are in.
    pub namespaces: BTreeSet<NamespaceId>,
}

/// What is known of the machine.
pub struct Facts<'a> {
    /// The cgroup tree.
    pub hierarchy: &'a Hierarchy,
    /// Who is who.
    pub workloads: &'a Workloads,
    /// The guarded cgroups, as the kernel has them now.
    pub guards: &'a [Guard],
    /// Their network namespaces, as they stand now.
    pub namespaces: &'a [Standing],
}

/// Every guarded cgroup that has processes.
pub fn workloads(facts: &Facts<'_>) -> Vec<Assessed> {
    let mut seen = BTreeSet::new();
    for guard in facts.guards.iter().filter_map(|guard| guard.path.as_deref()) {
        collect(&facts.hierarchy.resolve(Path::new(guard)), &mut seen);
    }
    let own = Namespace::Own.id().ok();
    seen.iter().filter_map(|directory| assess(facts, own, directory)).collect()
}

fn collect(directory: &Path, into: &mut BTreeSet<PathBuf>) {
    let mut next = vec![directory.to_owned()];
    while let Some(directory) = next.pop() {
        let below = fs::read_dir(&directory).into_iter().flatten().flatten();
        next.extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
        into.insert(directory);
    }
}

fn assess(facts: &Facts<'_>, own: Option<NamespaceId>, directory: &Path) -> Option<Assessed> {
    let listed = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let processes: Vec<u32> = listed.lines().filter_map(|line| line.parse().ok()).collect();
    if processes.is_empty() {
        return None;
    }
    let workload = facts.workloads.find(facts.hierarchy.id(directory).ok()?);
    let mut against = Against::default();
    against.programs(facts.guards, &workload);
    let mut namespaces = BTreeSet::new();
    for pid in processes.iter().take(MOST_PROCESSES) {
        let there = against.process(*pid);
        if let Some(namespace) = there.filter(|namespace| namespaces.insert(*namespace)) {
            against.namespace(namespace, own, facts.namespaces);
        }
    }
    if processes.len() > MOST_PROCESSES {
        let rest = processes.len() - MOST_PROCESSES;
        against.unknown.push(format!("{rest} of its processes were not looked at"));
    }
    let unguardable = crate::workload::unguardable(&workload).map(str::to_owned);
    let (enforcement, reasons) = against.verdict(unguardable);
    Some(Assessed {
        name: workload.name,
        cgroup: workload.path,
        enforcement,
        reasons,
        processes: processes.len(),
        namespaces,
    })
}

/// The reasons against a workload's being guarded, as they are found.
#[derive(Debug, Default)]
struct Against {
    bypassable: Vec<String>,
    unknown: Vec<String>,
    /// Neither: what makes it refused rather than direct.
    notes: Vec<String>,
}

impl Against {
    /// One guard that is whole is enough: programs of cgroups further up run as well.
    fn programs(&mut self, guards: &[Guard], workload: &Workload) {
        let above: Vec<_> = guards
            .iter()
            .filter(|guard| guard.path.as_deref().is_some_and(|path| is_below(&workload.path, path)))
            .collect();
        if above.iter().any(|guard| guard.missing.is_empty()) {
            return;
        }
        match above.first() {
            Some(guard) => self.bypassable.push(format!("its guard lacks {}", guard.missing.join(", "))),
            None => self.bypassable.push("no program is attached to it or above it".to_owned()),
        }
    }

    /// The namespace that it is in, where it is there still.
    fn process(&mut self, pid: u32) -> Option<NamespaceId> {
        let namespace = NamespaceId::of(pid);
        match (Powers::of(pid), namespace) {
            (Ok(powers), Ok(namespace)) => {
                let ways = powers.ways_round();
                if !ways.is_empty() {
                    self.bypassable.push(format!("process {pid} ({}) has {}", powers.comm, ways.join(", ")));
                }
                Some(namespace)
            }
            // Ended meanwhile.
            (Err(error), _) | (_, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
            (Err(error), _) | (_, Err(error)) => {
                self.unknown.push(format!("process {pid} cannot be read: {error}"));
                None
            }
        }
    }

    fn namespace(&mut self, id: NamespaceId, own: Option<NamespaceId>, standing: &[Standing]) {
        let number = id.0;
        if own == Some(id) {
            return self.bypassable.push(
                "it shares the gateway's own network namespace: a socket made outside its cgroup (handed in, or of a \
                 process that was moved away) goes direct"
                    .to_owned(),
            );
        }
        let Some(standing) = standing.iter().find(|standing| standing.id == id) else {
            return self.unknown.push(format!("the gateway has not seen its network namespace {number} yet"));
        };
        if let Some(why) = &standing.open {
            self.bypassable
                .push(format!("its network namespace {number} does not deny what the hooks do not see: {why}"));
        }
        if let Some(why) = &standing.deaf {
            self.notes.push(format!("refused in its network namespace {number}: {why}"));
        }
    }

    fn verdict(self, unguardable: Option<String>) -> (Enforcement, Vec<String>) {
        let Self { bypassable, unknown, notes } = self;
        let enforcement = match (&unguardable, bypassable.is_empty(), unknown.is_empty()) {
            (Some(_), ..) => Enforcement::Unguardable,
            (None, false, _) => Enforcement::Bypassable,
            (None, true, false) => Enforcement::Unknown,
            (None, true, true) => Enforcement::Guarded,
        };
        (enforcement, unguardable.into_iter().chain(bypassable).chain(unknown).chain(notes).collect())
    }
}

/// Whether the cgroup `path` is `guard` or below it.
fn is_below(path: &str, guard: &str) -> bool {
    let rest = path.strip_prefix(guard.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Processes of one workload that are looked at: each costs some file reads.
const MOST_PROCESSES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reason_decides_and_unguardable_decides_before_all() {
        let of = |bypassable: &[&str], unknown: &[&str], unguardable: Option<&str>| {
            let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let against =
                Against { bypassable: own(bypassable), unknown: own(unknown), notes: vec!["note".to_owned()] };
            against.verdict(unguardable.map(str::to_owned))
        };
        assert_eq!(of(&[], &[], None).0, Enforcement::Guarded);
        assert_eq!(of(&[], &["?"], None), (Enforcement::Unknown, vec!["?".to_owned(), "note".to_owned()]));
        assert_eq!(of(&["hole"], &["?"], None).0, Enforcement::Bypassable);
        assert_eq!(of(&["hole"], &[], Some("gVisor")).0, Enforcement::Unguardable);
    }

    #[test]
    fn a_cgroup_is_below_itself_and_no_namesake() {
        assert!(is_below("/bots/a", "/bots") && is_below("/bots", "/bots") && is_below("/bots", "/"));
        assert!(!is_below("/bots2", "/bots") && !is_below("/", "/bots"));
    }
}
