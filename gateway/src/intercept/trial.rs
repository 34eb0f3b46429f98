//! Whether this kernel takes what the gateway needs, found out by trying, with nothing left behind.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{Ebpf, maps::Map, programs::loaded_programs};
use gateway_ebpf::maps;

use super::{
    Action, InterceptError, Loaded, Options, PROGRAMS, Rule, bpf, btf,
    deny::{self, Deny, Maker, TableName, Whose},
    load, load_unix, open, open_cgroup, pins, unix,
};
use crate::{
    net::Namespace,
    workload::{Hierarchy, cgroup::path_of},
};

/// Loads every program as the gateway would, attaches them to a cgroup that is made for it, and takes all of it away.
/// Says how many there were, and inside, why UNIX sockets are not guarded where they are not.
///
/// # Errors
/// What the gateway would fail with.
pub fn programs(unix_refused: &[String]) -> Result<(usize, Result<(), String>), InterceptError> {
    let hierarchy = Hierarchy::find()?;
    let automaton = unix::Automaton::new(unix_refused)?;
    let options = Options { connections: 16, ..Options::new(0, 0) };
    let mut object = open(&options, &hierarchy, &automaton, None)?;
    let mut programs =
        PROGRAMS.iter().map(|(name, kind)| load(&mut object, name, *kind)).collect::<Result<Vec<_>, _>>()?;
    let refused = refused(&mut object)?;
    let unix = load_unix(&mut object, &automaton, refused.as_fd())?.map(|loaded| programs.extend(loaded));
    attach(&hierarchy, &programs)?;
    Ok((programs.len(), unix))
}

fn refused(object: &mut Ebpf) -> Result<OwnedFd, InterceptError> {
    match object.map(maps::REFUSED) {
        Some(Map::PerCpuHashMap(data)) => {
            data.fd().as_fd().try_clone_to_owned().map_err(InterceptError::io("open", maps::REFUSED))
        }
        _ => Err(InterceptError::other_object(maps::REFUSED)),
    }
}

fn attach(hierarchy: &Hierarchy, programs: &[Loaded]) -> Result<(), InterceptError> {
    let cgroup = Throwaway::make(hierarchy).map_err(InterceptError::io("make a cgroup below", hierarchy.root()))?;
    let open = open_cgroup(cgroup.path())?;
    // Detached with the descriptors, since nothing pins them.
    let link = |program: &Loaded| bpf::link_cgroup(program.fd.as_fd(), open.as_fd(), program.attach_type);
    let links: io::Result<Vec<OwnedFd>> = programs.iter().map(link).collect();
    let links = links.map_err(InterceptError::io("attach to", cgroup.path()))?;
    for link in &links {
        let _ended = bpf::detach_link(link.as_fd());
    }
    Ok(())
}

/// A cgroup that is in no guard, for as long as this lives.
pub struct Throwaway(PathBuf);

impl Throwaway {
    /// Makes it at the top of the tree.
    ///
    /// # Errors
    /// The tree cannot be written.
    pub fn make(hierarchy: &Hierarchy) -> io::Result<Self> {
        let path = hierarchy.root().join(format!("holdpoint-doctor-{}", std::process::id()));
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Self(path)),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // A process that has just ended can still be in it for an instant.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while let Err(error) = fs::remove_dir(&self.0) {
            if error.kind() != io::ErrorKind::ResourceBusy || std::time::Instant::now() > deadline {
                tracing::warn!(path = %self.0.display(), %error, "a cgroup stays behind: remove it with rmdir");
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// This process in a cgroup of its own, outside of every guard and of the gateway's, until this is dropped.
pub struct Outside {
    came_from: PathBuf,
    cgroup: Throwaway,
}

impl Outside {
    /// Goes there.
    ///
    /// # Errors
    /// The cgroup tree cannot be written.
    pub fn enter(hierarchy: &Hierarchy) -> io::Result<Self> {
        let own = path_of(nix::unistd::getpid().as_raw())?;
        let cgroup = Throwaway::make(hierarchy)?;
        fs::write(cgroup.path().join("cgroup.procs"), "0")?;
        Ok(Self { came_from: hierarchy.resolve(Path::new(&own)), cgroup })
    }

    /// The cgroup's directory.
    pub fn path(&self) -> &Path {
        self.cgroup.path()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Where that is not possible any more, the cgroup stays behind, which its own end says.
        let _ = fs::write(self.came_from.join("cgroup.procs"), "0");
    }
}

/// Puts a deny in force in a new network namespace, and removes both.
///
/// # Errors
/// What the gateway would meet in every namespace.
pub fn nftables() -> io::Result<()> {
    let hierarchy = Hierarchy::find().map_err(io::Error::other)?;
    // A shell may be in the root cgroup; the gateway's unit is not.
    let _outside = Outside::enter(&hierarchy)?;
    let maker = Maker::own(&hierarchy).map_err(io::Error::other)?;
    let namespace = Namespace::fresh()?;
    let to = |text: &str| text.parse().map_err(io::Error::other);
    let rules = [
        Rule { to: to("192.0.2.1")?, port: Some(5432), action: Action::Intercept },
        Rule { to: to("2001:db8::/32")?, port: None, action: Action::Refuse },
    ];
    let name = TableName::of(Path::new("/holdpoint-doctor"));
    let mut deny = Deny::install(&namespace, &name, &Whose::AllBut(maker), &rules)?;
    match deny.is_intact()? {
        true => deny::remove(&namespace, &name).map(drop),
        false => Err(io::Error::other("the table was taken and is not there")),
    }
}

/// Whether `directory`, or where it would be made, is on a bpf file system.
pub fn is_on_bpffs(directory: &Path) -> bool {
    pins::is_bpffs(directory)
}

/// Whether the kernel's types are readable: without them executables stay unverified, and UNIX sockets unguarded.
pub fn types_are_known() -> bool {
    btf::offsets(Path::new(btf::VMLINUX)).is_some_and(|offsets| offsets.known())
}

/// One program at a hook of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Hooked {
    /// Its id in the kernel.
    pub id: u32,
    /// Its name, as far as the kernel keeps it (15 bytes).
    pub name: String,
    /// Whether it is a gateway's, by the pins.
    pub ours: bool,
}

/// The hooks at which another program can say something else about a destination.
const REWRITING: [(&str, u32); 4] = [("connect4", 10), ("connect6", 11), ("sendmsg4", 14), ("sendmsg6", 15)];

/// The programs that run for processes in the cgroup `directory`, by hook, in the order in which they run.
///
/// # Errors
/// It is no cgroup, or the kernel does not say.
pub fn order(bpffs: &Path, directory: &Path) -> Result<Vec<(&'static str, Vec<Hooked>)>, InterceptError> {
    let cgroup = open_cgroup(directory)?;
    let ours: Vec<u32> =
        pins::links(bpffs)?.iter().filter_map(|link| link.info().ok()).map(|info| info.program).collect();
    let names: HashMap<u32, String> = loaded_programs()
        .filter_map(Result::ok)
        .map(|info| (info.id(), info.name_as_str().unwrap_or_default().to_owned()))
        .collect();
    let hooked = |id: u32| Hooked { id, name: names.get(&id).cloned().unwrap_or_default(), ours: ours.contains(&id) };
    REWRITING
        .into_iter()
        .map(|(hook, kind)| {
            let ids = bpf::effective(cgroup.as_fd(), kind).map_err(InterceptError::io("ask about", directory))?;
            Ok((hook, ids.into_iter().map(hooked).collect()))
        })
        .collect()
}
