//! The cgroup v2 tree: where it is mounted, and which directory an id names.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStringExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    libc,
    sched::{CloneFlags, setns},
};

use super::CgroupId;

/// The mounted cgroup v2 hierarchy.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    root: PathBuf,
    /// The mount, open: what `open_by_handle_at` resolves ids against.
    mount: Arc<File>,
}

/// Why there is no [`Hierarchy`].
#[derive(Debug, thiserror::Error)]
pub enum NoHierarchy {
    /// Nothing of type `cgroup2` is mounted here.
    #[error(
        "no cgroup v2 hierarchy is mounted, so workloads cannot be told apart: \
         mount it with `mount -t cgroup2 none /sys/fs/cgroup` (kernel option CONFIG_CGROUPS)"
    )]
    NotMounted,
    /// It is mounted but cannot be opened.
    #[error("cannot open the cgroup v2 hierarchy at {}: run as root, or give the gateway access", path.display())]
    Unreadable {
        /// Where it is mounted.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Hierarchy {
    /// Finds it by file-system type: hybrid set-ups have it beside version 1, under another name.
    ///
    /// # Errors
    /// It is not mounted, or cannot be opened.
    pub fn find() -> Result<Self, NoHierarchy> {
        let mounts = fs::read("/proc/self/mountinfo").map_err(|_| NoHierarchy::NotMounted)?;
        let root = mount_point(&mounts).ok_or(NoHierarchy::NotMounted)?;
        match File::open(&root) {
            Ok(mount) => Ok(Self { root, mount: Arc::new(mount) }),
            Err(source) => Err(NoHierarchy::Unreadable { path: root, source }),
        }
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A cgroup as settings name it: absolute, or below the mount.
    pub fn resolve(&self, cgroup: &Path) -> PathBuf {
        if cgroup.starts_with(&self.root) {
            return cgroup.to_owned();
        }
        self.root.join(cgroup.strip_prefix("/").unwrap_or(cgroup))
    }

    /// The id of the cgroup at `directory`, which stays its own until it is removed.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn id(&self, directory: &Path) -> io::Result<CgroupId> {
        // kernfs shows its 64-bit ids as inode numbers.
        fs::metadata(directory).map(|found| CgroupId(found.ino()))
    }

    /// The cgroup that this process is in.
    ///
    /// # Errors
    /// Its directory is not visible from here.
    pub fn own(&self) -> io::Result<CgroupId> {
        self.id(&self.resolve_below(&path_of_file(Path::new("/proc/self/cgroup"))?))
    }

    /// The path of `id` below the mount, with a leading slash. `None` once it is gone, or when it lies elsewhere.
    ///
    /// Needs `CAP_DAC_READ_SEARCH`. Asks the kernel each time (a few microseconds): there is no cache to go stale.
    pub fn path(&self, CgroupId(id): CgroupId) -> Option<String> {
        let directory = self.open(id).ok()?;
        let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
        let below = path.strip_prefix(&self.root).ok()?.to_str()?;
        // A removed directory keeps its name with this behind it.
        (!below.ends_with(" (deleted)")).then(|| format!("/{below}"))
    }

    /// The path below the mount, with a leading slash, of the cgroup that this process is in.
    pub fn own_path(&self) -> Option<String> {
        path_of_file(Path::new("/proc/self/cgroup")).ok()
    }

    /// The path of `directory` below the mount, with a leading slash.
    pub fn below(&self, directory: &Path) -> String {
        let below = directory.strip_prefix(&self.root).unwrap_or(directory);
        format!("/{}", below.to_string_lossy().trim_matches('/'))
    }

    fn resolve_below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn open(&self, id: u64) -> io::Result<OwnedFd> {
        /// `struct file_handle` with kernfs's own handle in it.
        #[repr(C)]
        struct Handle {
            bytes: u32,
            kind: i32,
            id: [u8; 8],
        }
        /// `FILEID_KERNFS`: eight bytes of id.
        const KERNFS: i32 = 0xfe;
        let mut handle = Handle { bytes: 8, kind: KERNFS, id: id.to_ne_bytes() };
        let flags = libc::O_PATH | libc::O_CLOEXEC | libc::O_DIRECTORY;
        let mount = self.mount.as_raw_fd();
        // SAFETY: `handle` is a `struct file_handle` with `bytes` bytes behind its head; the mount stays open.
        let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount, &raw mut handle, flags) };
        let fd = i32::try_from(fd).expect("descriptors and -1 fit");
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Makes this process read cgroup paths as the machine's first process does.
///
/// A container runtime gives a container without privilege a cgroup namespace of its own. Paths in `/proc` are relative
/// to the reader's there, so a guarded process would be taken for one that is not. To be called before there are other
/// threads: each would stay where it is.
///
/// # Errors
/// Paths are read wrong and stay so; a gateway must not start then.
pub fn leave_namespace() -> Result<(), Misplaced> {
    // The first process may be shut even to root; the kernel's own second one, where it is seen, is beside it.
    let entered = enter_namespace_of(1).or_else(|first| enter_namespace_of(2).map_err(|_| first));
    let hierarchy = Hierarchy::find().map_err(Misplaced::NoHierarchy)?;
    // Whatever was entered: what counts is that the kernel's name for our own cgroup leads to it.
    let path = path_of_file(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let processes = fs::read_to_string(hierarchy.resolve_below(&path).join("cgroup.procs")).unwrap_or_default();
    let own = std::process::id().to_string();
    if !processes.lines().any(|line| line == own) {
        return Err(entered.err().map_or(Misplaced::Elsewhere { path }, Misplaced::Shut));
    }
    let found = hierarchy.own().ok().and_then(|own| hierarchy.path(own));
    found.map(drop).ok_or(Misplaced::Blind)
}

fn enter_namespace_of(pid: u32) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/cgroup"))?;
    Ok(setns(namespace, CloneFlags::CLONE_NEWCGROUP)?)
}

/// Why cgroup paths cannot be read as they are.
#[derive(Debug, thiserror::Error)]
pub enum Misplaced {
    /// The first process's cgroup namespace cannot be entered.
    #[error(
        "cannot enter the host's cgroup namespace: {0}; give the gateway CAP_SYS_ADMIN and CAP_SYS_PTRACE, or privilege"
    )]
    Shut(io::Error),
    /// There is no hierarchy at all.
    #[error(transparent)]
    NoHierarchy(NoHierarchy),
    /// What the kernel calls this process's cgroup is another one here.
    #[error(
        "the cgroup `{path}` below the cgroup v2 mount is not this process's own, so guarded processes would not be \
         recognised: share the host's process ids with the gateway (`hostPID: true`) and mount its /sys/fs/cgroup"
    )]
    Elsewhere {
        /// The path that the kernel names.
        path: String,
    },
    /// Cgroups cannot be found by the ids that the kernel programs give.
    #[error(
        "cannot find a cgroup by its id, so guarded processes would not be recognised: run the gateway as root, \
         or give it CAP_DAC_READ_SEARCH"
    )]
    Blind,
}

/// The cgroup of the process `pid` below the mount, with a leading slash.
///
/// # Errors
/// The process is gone.
pub fn path_of(pid: i32) -> io::Result<String> {
    path_of_file(Path::new(&format!("/proc/{pid}/cgroup")))
}

fn path_of_file(file: &Path) -> io::Result<String> {
    let lines = fs::read_to_string(file)?;
    let path = lines.lines().find_map(|line| line.strip_prefix("0::"));
    path.map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The mount point of the first cgroup2 mount, preferring one that shows the whole tree.
fn mount_point(mountinfo: &[u8]) -> Option<PathBuf> {
    let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
        let dash = fields.iter().position(|field| field == b"-")?;
        (fields.get(dash + 1)? == b"cgroup2").then(|| (fields[3] != b"/", unescape(fields[4])))
    });
    mounts.min_by_key(|(partial, _)| *partial).map(|(_, path)| path)
}

/// Undoes the octal escapes of `/proc/self/mountinfo`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, tail @ ..] = rest {
        let escaped = (*byte == b'\\').then(|| std::str::from_utf8(tail.get(..3)?).ok()).flatten();
        match escaped.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(decoded) => (path.push(decoded), rest = &tail[3..]),
            None => (path.push(*byte), rest = tail),
        };
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        40 30 0:36 /part /tmp/part rw - cgroup2 none rw\n\
        41 30 0:36 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_mount_is_found_by_type_and_the_whole_tree_preferred() {
        assert_eq!(mount_point(HYBRID), Some("/sys/fs/cgroup/uni fied".into()));
        assert_eq!(mount_point(b"30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), None);
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape(br"/a\9b\"), PathBuf::from(r"/a\9b\"));
    }
}
