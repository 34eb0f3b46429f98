//! What this gateway has put into the kernel, held by descriptors of its own, and put right when somebody meddles.
//!
//! # Security
//! A link lives as long as a descriptor or a pin of it. The gateway holds both: a pin that is removed takes nothing
//! away while the gateway runs, and is made again, since without it the guard would end with the gateway. What root
//! does is undone within one look ([`Interceptor::look_after`]); that it cannot be prevented is in the README.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{MutexGuard, PoisonError},
};

use gateway_ebpf::maps;

use super::{Guard, InterceptError, Interceptor, Loaded, ProgramState, bpf, open_cgroup, pins, pins::Pins};
use crate::{
    damage::{Damage, Kind},
    workload::CgroupId,
};

/// The links and maps, by descriptors.
pub(super) struct Kept {
    /// What is to be guarded, with the path under which it was asked for.
    guards: BTreeMap<CgroupId, PathBuf>,
    links: BTreeMap<(CgroupId, &'static str), OwnedFd>,
    maps: Vec<(&'static str, OwnedFd)>,
}

impl Kept {
    /// With the pinned maps, right after they were made or found.
    pub(super) fn open(pins: &Pins) -> Result<Self, InterceptError> {
        let open = |name: &'static str| {
            let path = pins.map(name);
            Ok((name, bpf::open_pin(&path).map_err(InterceptError::io("open", path))?))
        };
        let maps = maps::PINNED.into_iter().map(open).collect::<Result<_, InterceptError>>()?;
        Ok(Self { guards: BTreeMap::new(), links: BTreeMap::new(), maps })
    }

    /// The map called `name`.
    pub(super) fn map(&self, name: &str) -> Option<&OwnedFd> {
        self.maps.iter().find(|(known, _)| *known == name).map(|(_, fd)| fd)
    }
}

impl Interceptor {
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        // A guard that is half attached is what the next look repairs.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Guards the cgroup at `directory` (absolute, or below the cgroup2 mount) and all below it, from now on and until
    /// [`detach`](Self::detach), whatever becomes of this process. Guarding twice changes nothing.
    ///
    /// Sockets that are connected already stay as they are.
    ///
    /// # Errors
    /// It is no cgroup, or the kernel refuses.
    pub fn attach(&self, directory: &Path) -> Result<CgroupId, InterceptError> {
        self.guard(&mut self.kept(), &self.hierarchy.resolve(directory))
    }

    fn guard(&self, kept: &mut Kept, directory: &Path) -> Result<CgroupId, InterceptError> {
        let cgroup = open_cgroup(directory)?;
        let id = self.hierarchy.id(directory).map_err(InterceptError::io("read", directory))?;
        self.counts.lock().expect("no holder panics").begin(id)?;
        let mut present = self.pins.links_of(id)?;
        for program in &self.programs {
            let path = self.pins.link(id, program.name);
            let held = kept.links.remove(&(id, program.name));
            let pinned = present.iter().position(|link| link.program == program.name);
            let pinned = pinned.map(|at| present.swap_remove(at).into_fd());
            let lives = |link: &OwnedFd| bpf::link_info(link.as_fd()).is_ok_and(|info| info.cgroup == id.0);
            let link = match held.filter(lives).or(pinned.filter(lives)) {
                Some(link) => {
                    bpf::update_link(link.as_fd(), program.fd.as_fd())
                        .map_err(InterceptError::io("exchange the program behind", &path))?;
                    link
                }
                None => bpf::link_cgroup(program.fd.as_fd(), cgroup.as_fd(), program.attach_type)
                    .map_err(InterceptError::io("guard", directory))?,
            };
            if pinned_link(&path) != bpf::link_info(link.as_fd()).ok().map(|info| info.id) {
                self.pins.repin(&path, &link)?;
            }
            kept.links.insert((id, program.name), link);
        }
        kept.guards.insert(id, directory.to_owned());
        Ok(id)
    }

    /// Ends the guard of `cgroup`: its connections are direct from now on.
    ///
    /// # Errors
    /// The pins cannot be removed.
    pub fn detach(&self, cgroup: CgroupId) -> Result<(), InterceptError> {
        let mut kept = self.kept();
        kept.guards.remove(&cgroup);
        let links = self.pins.links_of(cgroup)?;
        for program in self.programs.iter().rev() {
            if let Some(held) = kept.links.remove(&(cgroup, program.name)) {
                // One that somebody has unpinned would live on otherwise, for as long as the descriptor.
                let _already = bpf::detach_link(held.as_fd());
            }
            let found = links.iter().find(|link| link.program == program.name);
            found.map_or(Ok(()), |link| self.pins.unpin(link))?;
        }
        // What another version has attached here besides.
        let known = |link: &&pins::PinnedLink| self.programs.iter().any(|program| program.name == link.program);
        for link in links.iter().filter(|link| !known(link)) {
            self.pins.unpin(link)?;
        }
        let others: Vec<_> = self.pins.cgroups().into_iter().filter(|other| *other != cgroup).collect();
        self.counts.lock().expect("no holder panics").keep(&others);
        Ok(())
    }

    /// What is attached: asked of the kernel, now. A cgroup that is gone guards nobody and is left out.
    ///
    /// # Errors
    /// The pins cannot be read.
    pub fn status(&self) -> Result<Vec<Guard>, InterceptError> {
        let kept = self.kept();
        let mut guards = Vec::new();
        for cgroup in kept.guards.keys() {
            let Some(path) = self.hierarchy.path(*cgroup) else { continue };
            let programs: Vec<_> = self.programs.iter().map(|program| self.state(&kept, *cgroup, program)).collect();
            let missing = self.programs.iter().zip(&programs).filter(|(_, state)| !state.guards());
            guards.push(Guard {
                cgroup: *cgroup,
                path: Some(path),
                missing: missing.map(|(program, _)| program.name).collect(),
                programs,
                refused: self.counts.lock().expect("no holder panics").of(*cgroup),
            });
        }
        Ok(guards)
    }

    fn state(&self, kept: &Kept, cgroup: CgroupId, program: &Loaded) -> ProgramState {
        let info = kept.links.get(&(cgroup, program.name)).and_then(|link| bpf::link_info(link.as_fd()).ok());
        ProgramState {
            name: program.name.to_owned(),
            link: info.map_or(0, |info| info.id),
            program: info.map_or(0, |info| info.program),
            attached: info.is_some_and(|info| info.cgroup == cgroup.0),
            current: info.is_some_and(|info| info.program == program.id),
            pinned: info.is_some_and(|info| pinned_link(&self.pins.link(cgroup, program.name)) == Some(info.id)),
        }
    }

    /// Whether the rule table that the programs read is the one that was put in force last.
    ///
    /// # Errors
    /// It is not, or cannot be asked for; in words.
    pub fn rules_in_force(&self) -> Result<(), String> {
        self.table.lock().expect("no holder panics").in_force()
    }

    /// The maps that would not outlive this gateway.
    pub fn unpinned_maps(&self) -> Vec<&'static str> {
        let kept = self.kept();
        kept.maps.iter().filter(|(name, map)| !self.is_pinned(name, map)).map(|(name, _)| *name).collect()
    }

    fn is_pinned(&self, name: &str, map: &OwnedFd) -> bool {
        let pinned = bpf::open_pin(&self.pins.map(name)).and_then(|fd| bpf::object_id(fd.as_fd())).ok();
        pinned.is_some() && pinned == bpf::object_id(map.as_fd()).ok()
    }

    /// Looks at all that this gateway keeps in the kernel, puts right what is not as it was, and says what that was.
    ///
    /// Not to be called once another gateway may have taken over: it would take everything back.
    pub fn look_after(&self) -> Vec<Damage> {
        let mut kept = self.kept();
        let mut found = Vec::new();
        if let Err(error) = self.pins.stay() {
            let what = "the directory of the pins is gone".to_owned();
            found.push(Damage { kind: Kind::Pin, what, repaired: Err(error.to_string()) });
        }
        for (name, map) in &kept.maps {
            if !self.is_pinned(name, map) {
                let repaired = words(self.pins.repin(&self.pins.map(name), map));
                found.push(Damage {
                    kind: Kind::Pin,
                    what: format!("the pin of the map {name} was removed"),
                    repaired,
                });
            }
        }
        let mut table = self.table.lock().expect("no holder panics");
        if let Err(what) = table.in_force() {
            found.push(Damage { kind: Kind::Rules, what, repaired: words(table.restore()) });
        }
        drop(table);
        for (cgroup, directory) in kept.guards.clone() {
            // Where the cgroup is gone or another one, whoever asked for the guard sees to that.
            if self.hierarchy.id(&directory).is_ok_and(|now| now == cgroup) {
                for program in &self.programs {
                    self.look_at(&mut kept, (cgroup, &directory), program, &mut found);
                }
            }
        }
        found
    }

    fn look_at(&self, kept: &mut Kept, at: (CgroupId, &Path), program: &Loaded, found: &mut Vec<Damage>) {
        let (cgroup, directory) = at;
        let state = self.state(kept, cgroup, program);
        if state.is_whole() {
            return;
        }
        let place = format!("{} of {}", program.name, directory.display());
        let path = self.pins.link(cgroup, program.name);
        let Some(link) = kept.links.get(&(cgroup, program.name)).filter(|_| state.attached) else {
            let what = format!("the program {place} was detached");
            let again = open_cgroup(directory).and_then(|open| {
                let link = bpf::link_cgroup(program.fd.as_fd(), open.as_fd(), program.attach_type)
                    .map_err(InterceptError::io("guard", directory))?;
                // Attached first: an unpinned link guards, a pinned one that is detached does not.
                let pinned = self.pins.repin(&path, &link);
                kept.links.insert((cgroup, program.name), link);
                pinned
            });
            return found.push(Damage { kind: Kind::Link, what, repaired: words(again) });
        };
        if !state.current {
            let what = format!("the program {place} was exchanged for another");
            let back = bpf::update_link(link.as_fd(), program.fd.as_fd())
                .map_err(InterceptError::io("exchange the program behind", &path));
            found.push(Damage { kind: Kind::Program, what, repaired: words(back) });
        }
        if !state.pinned {
            let what = format!("the pin of the program {place} was removed");
            found.push(Damage { kind: Kind::Pin, what, repaired: words(self.pins.repin(&path, link)) });
        }
    }
}

/// The id of the link that is pinned at `path`.
fn pinned_link(path: &Path) -> Option<u32> {
    let link = bpf::open_pin(path).ok()?;
    bpf::link_info(link.as_fd()).ok().map(|info| info.id)
}

fn words<T>(done: Result<T, InterceptError>) -> Result<T, String> {
    done.map_err(|error| error.to_string())
}
