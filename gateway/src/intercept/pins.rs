//! The gateway's own directory on a bpf file system: what must outlive the gateway.
//!
//! ```text
//! <bpffs>/maps-<LAYOUT>/<map>            the maps; another layout never meets these
//! <bpffs>/links/<cgroup id>/<program>    one link per guarded cgroup and program
//! <bpffs>/veths/<interface>              one link per workload's interface, on the host's side
//! ```
//!
//! As long as a link is pinned its program runs, gateway or no gateway, and sends what it intercepts to a port where
//! nobody listens then. A new gateway finds the links here and exchanges the programs behind them.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use gateway_ebpf::LAYOUT;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{FsType, statfs},
};

use super::{
    InterceptError,
    bpf::{self, LinkInfo},
};
use crate::workload::CgroupId;

/// The directory, locked for as long as this lives: one gateway at a time.
pub(super) struct Pins {
    directory: PathBuf,
    lock: Mutex<Flock<File>>,
}

/// One pinned link and what the kernel says of it.
#[derive(Debug)]
pub(super) struct PinnedLink {
    pub(super) cgroup: CgroupId,
    pub(super) program: String,
    pub(super) path: PathBuf,
    fd: OwnedFd,
}

impl Pins {
    pub(super) fn open(directory: &Path) -> Result<Self, InterceptError> {
        on_bpffs(directory)?;
        let maps = maps(directory);
        fs::create_dir_all(&maps).map_err(InterceptError::io("make", &maps))?;
        let links = directory.join(LINKS);
        fs::create_dir_all(&links).map_err(InterceptError::io("make", &links))?;
        Ok(Self { directory: directory.to_owned(), lock: Mutex::new(lock(directory)?) })
    }

    /// Makes the directory again where somebody has removed it, and takes the lock on the new one.
    pub(super) fn stay(&self) -> Result<(), InterceptError> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = held.metadata().map(|file| file.ino()).ok();
        if fs::metadata(&self.directory).map(|there| there.ino()).ok() == locked {
            return Ok(());
        }
        on_bpffs(&self.directory)?;
        fs::create_dir_all(&self.directory).map_err(InterceptError::io("make", &self.directory))?;
        *held = lock(&self.directory)?;
        Ok(())
    }

    /// Pins `object` at `path`, in place of whatever is there.
    pub(super) fn repin(&self, path: &Path, object: &OwnedFd) -> Result<(), InterceptError> {
        let directory = path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(directory).map_err(InterceptError::io("make", directory))?;
        remove_tree(path)?;
        bpf::pin(object.as_fd(), path).map_err(InterceptError::io("pin again", path))
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        maps(&self.directory).join(name)
    }

    pub(super) fn link(&self, cgroup: CgroupId, program: &str) -> PathBuf {
        self.cgroup(cgroup).join(program)
    }

    pub(super) fn veths(&self) -> PathBuf {
        self.directory.join(VETHS)
    }

    fn cgroup(&self, CgroupId(id): CgroupId) -> PathBuf {
        self.directory.join(LINKS).join(id.to_string())
    }

    pub(super) fn links(&self) -> Result<Vec<PinnedLink>, InterceptError> {
        links(&self.directory)
    }

    /// Those of one cgroup.
    pub(super) fn links_of(&self, cgroup: CgroupId) -> Result<Vec<PinnedLink>, InterceptError> {
        links_in(cgroup, &self.cgroup(cgroup))
    }

    /// The cgroups that have links.
    pub(super) fn cgroups(&self) -> Vec<CgroupId> {
        cgroups(&self.directory).map(|(id, _)| id).collect()
    }

    pub(super) fn unpin(&self, link: &PinnedLink) -> Result<(), InterceptError> {
        link.detach();
        remove(&link.path)?;
        // Goes with the last link in it.
        let _not_empty = fs::remove_dir(self.cgroup(link.cgroup));
        Ok(())
    }

    /// Removes maps that only programs of another layout used, once none of those is attached any more.
    pub(super) fn drop_other_layouts(&self) {
        let current = maps(&self.directory);
        for entry in entries(&self.directory) {
            let maps = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with(MAPS));
            if maps && entry != current {
                let _retried_next_time = remove_tree(&entry);
            }
        }
    }
}

impl PinnedLink {
    pub(super) fn info(&self) -> io::Result<LinkInfo> {
        bpf::link_info(self.fd.as_fd())
    }

    /// Whether it is attached still: a link outlives its cgroup, and can be detached by force.
    pub(super) fn is_alive(&self) -> bool {
        self.info().is_ok_and(|info| info.cgroup != 0)
    }

    /// At once; the link of a cgroup that is gone is detached already.
    fn detach(&self) {
        let _already = bpf::detach_link(self.fd.as_fd());
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(super) fn exchange(&self, program: impl AsFd) -> Result<(), InterceptError> {
        bpf::update_link(self.fd.as_fd(), program.as_fd())
            .map_err(InterceptError::io("exchange the program behind", &self.path))
    }
}

fn lock(directory: &Path) -> Result<Flock<File>, InterceptError> {
    let file = File::open(directory).map_err(InterceptError::io("open", directory))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => InterceptError::InUse { path: directory.to_owned() },
        errno => InterceptError::io("lock", directory)(errno.into()),
    })
}

/// The links pinned under `directory`, whoever is at work there.
pub(super) fn links(directory: &Path) -> Result<Vec<PinnedLink>, InterceptError> {
    let links: Result<Vec<_>, _> = cgroups(directory).map(|(id, pinned)| links_in(id, &pinned)).collect();
    Ok(links?.into_iter().flatten().collect())
}

fn cgroups(directory: &Path) -> impl Iterator<Item = (CgroupId, PathBuf)> {
    let id = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok().map(CgroupId);
    entries(&directory.join(LINKS)).into_iter().filter_map(move |path| Some((id(&path)?, path)))
}

fn links_in(cgroup: CgroupId, pinned: &Path) -> Result<Vec<PinnedLink>, InterceptError> {
    let open = |path: PathBuf| {
        let fd = match bpf::open_pin(&path) {
            // Its guard has ended since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            opened => opened.map_err(InterceptError::io("open the pinned link", &path)),
        };
        let program = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Some(fd.map(|fd| PinnedLink { cgroup, program, path, fd }))
    };
    entries(pinned).into_iter().filter_map(open).collect()
}

/// Removes every link, and with the links the guard; then the maps, and the directory where nobody else uses it.
pub(super) fn remove_all(directory: &Path) -> Result<(), InterceptError> {
    links(directory)?.iter().for_each(PinnedLink::detach);
    let veths = entries(&directory.join(VETHS));
    veths.iter().filter_map(|path| bpf::open_pin(path).ok()).for_each(|link| _ = bpf::detach_link(link.as_fd()));
    let ours = |entry: &&PathBuf| {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        name == LINKS || name == VETHS || name.starts_with(MAPS)
    };
    entries(directory).iter().filter(ours).try_for_each(|entry| remove_tree(entry))?;
    match fs::remove_dir(directory) {
        Err(error) if error.raw_os_error() == Some(Errno::ENOTEMPTY as i32) => Ok(()),
        // The bpf file system itself.
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Ok(()),
        removed => removed.map_err(InterceptError::io("remove", directory)),
    }
}

const LINKS: &str = "links";
const VETHS: &str = "veths";
const MAPS: &str = "maps-";

fn maps(directory: &Path) -> PathBuf {
    directory.join(format!("{MAPS}{LAYOUT}"))
}

/// Where systemd mounts it on every boot; elsewhere it is the administrator's business.
const USUAL: &str = "/sys/fs/bpf";

fn on_bpffs(directory: &Path) -> Result<(), InterceptError> {
    if is_bpffs(directory) {
        return Ok(());
    }
    if directory.starts_with(USUAL)
        && mount(Some("bpf"), USUAL, Some("bpf"), MsFlags::empty(), Some("mode=0700")).is_ok()
    {
        tracing::info!(path = USUAL, "mounted the bpf file system");
        return Ok(());
    }
    let mount = if directory.starts_with(USUAL) { Path::new(USUAL) } else { directory.parent().unwrap_or(directory) };
    Err(InterceptError::NoBpffs { path: directory.to_owned(), mount: mount.to_owned() })
}

pub(super) fn is_bpffs(directory: &Path) -> bool {
    /// `BPF_FS_MAGIC`
    const BPFFS: FsType = FsType(0xcafe_4a11);
    let existing = directory.ancestors().find(|ancestor| ancestor.exists());
    existing.and_then(|existing| statfs(existing).ok()).is_some_and(|found| found.filesystem_type() == BPFFS)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn remove_tree(path: &Path) -> Result<(), InterceptError> {
    if path.is_dir() {
        entries(path).iter().try_for_each(|entry| remove_tree(entry))?;
    }
    remove(path)
}

fn remove(path: &Path) -> Result<(), InterceptError> {
    let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(InterceptError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
