//! What the kernel saw connect, and what can still be read about it.
//!
//! # Security
//! By the time the gateway looks, the process may have run another program or ended, and its number may be another's.
//! So `/proc/PID` is opened once, believed only if it started when the kernel says, and an executable's path and hash
//! are given only for the very file (device and inode) that ran at `connect`.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::{CgroupId, Process, secret};
use crate::operation::Digest;

/// The connecting process, as the kernel described it at `connect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// The process, as the host numbers it.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The real user.
    pub uid: u32,
    /// The real group.
    pub gid: u32,
    /// The thread's name, filled up with zeros.
    pub comm: [u8; 16],
    /// When the process started, in hundredths of a second since boot; `None` where the kernel's types are not known.
    pub started: Option<u64>,
    /// The executable; `None` where the kernel's types are not known.
    pub executable: Option<FileId>,
}

/// A file, by device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// The inode's number.
    pub inode: u64,
}

/// Reads about processes, and remembers hashes and names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Processes {
    hashes: Arc<Cache<Version, Digest>>,
    users: Arc<Users>,
}

impl Default for Processes {
    fn default() -> Self {
        Self { hashes: Arc::new(Cache::new(HASHES)), users: Arc::default() }
    }
}

impl Processes {
    /// What is known of `caller`, within [`LIMIT`]: a file system that does not answer costs a thread, not the connection.
    pub async fn describe(&self, caller: Caller) -> Process {
        let (processes, bare) = (self.clone(), bare(&caller));
        let reading = tokio::task::spawn_blocking(move || processes.read(&caller));
        match tokio::time::timeout(LIMIT, reading).await {
            Ok(Ok(process)) => process,
            _ => bare,
        }
    }

    /// What is known of `caller`. Reads files; may block.
    pub fn read(&self, caller: &Caller) -> Process {
        let mut process = bare(caller);
        process.user = self.users.name(caller.uid);
        let Some(proc) = Proc::open(caller) else { return process };
        process.command_line = proc.command_line().unwrap_or_default();
        if let Some(executable) = proc.executable(caller) {
            process.sha256 = self.hash(&executable);
            process.executable = Some(executable.path);
            process.verified = executable.verified && process.sha256.is_some();
        }
        process
    }

    fn hash(&self, executable: &Executable) -> Option<Digest> {
        let version = Version::of(&executable.file).ok()?;
        if let Some(known) = self.hashes.get(&version) {
            return Some(known);
        }
        let digest = hash(&executable.file).ok()?;
        // Written to meanwhile? Then the digest is of neither version. (The kernel does not let a running executable
        // be written, but scripts' interpreters on network file systems are another matter.)
        let unchanged = Version::of(&executable.file).ok()? == version;
        unchanged.then(|| {
            self.hashes.insert(version, digest);
            digest
        })
    }
}

/// How long reading about one process may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Executables whose hashes are remembered; a node runs a few hundred.
const HASHES: usize = 4096;
/// The largest executable that is hashed, in bytes: half a second's work.
const LARGEST: u64 = 1 << 30;
/// How much of a command line is read, in bytes.
const COMMAND_LINE: u64 = 16 * 1024;

/// What needs no file.
fn bare(caller: &Caller) -> Process {
    let comm = caller.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    Process {
        pid: caller.pid,
        uid: caller.uid,
        gid: caller.gid,
        user: None,
        comm: String::from_utf8_lossy(comm).into_owned(),
        executable: None,
        sha256: None,
        verified: false,
        command_line: Vec::new(),
    }
}

/// An open `/proc/PID`: it stays with its process, whatever becomes of the number.
struct Proc(File);

struct Executable {
    path: PathBuf,
    file: File,
    verified: bool,
}

impl Proc {
    /// `None` when the process is gone, or its number is another's by now.
    fn open(caller: &Caller) -> Option<Self> {
        let proc = Self(File::open(format!("/proc/{}", caller.pid)).ok()?);
        let same = caller.started.is_none_or(|started| proc.started().ok() == Some(started));
        same.then_some(proc)
    }

    fn file(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()).into()
    }

    fn started(&self) -> io::Result<u64> {
        started(&std::fs::read(self.file("stat"))?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn executable(&self, caller: &Caller) -> Option<Executable> {
        let link = self.file("exe");
        let path = std::fs::read_link(&link).ok()?;
        // Opens the file itself, even if its name is another's by now.
        let file = File::open(&link).ok()?;
        let found = FileId::of(&file).ok()?;
        let verified = caller.executable.map(|seen| seen == found);
        // Another program runs there by now: its name and hash would be those of an innocent.
        (verified != Some(false)).then_some(Executable { path, file, verified: verified == Some(true) })
    }

    fn command_line(&self) -> io::Result<Vec<String>> {
        let mut text = Vec::new();
        File::open(self.file("cmdline"))?.take(COMMAND_LINE + 1).read_to_end(&mut text)?;
        Ok(secret::hidden(arguments(&text)))
    }
}

/// When the process of `/proc/PID/stat` started, in hundredths of a second since boot: the 22nd field, counted from
/// behind the name, which may contain anything.
pub(crate) fn started(stat: &[u8]) -> Option<u64> {
    let behind = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let field = stat.get(behind..)?.split(|byte| *byte == b' ').filter(|field| !field.is_empty()).nth(19)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn arguments(text: &[u8]) -> Vec<String> {
    let cut = text.len() as u64 > COMMAND_LINE;
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    let mut arguments: Vec<_> = text
        .split(|byte| *byte == 0)
        .map(|argument| OsStr::from_bytes(argument).to_string_lossy().into_owned())
        .collect();
    if cut {
        arguments.push("…".to_owned());
    }
    arguments
}

impl FileId {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        // Linux devices have 12 bits of major and 20 of minor number, so both fit.
        let major = u32::try_from(nix::sys::stat::major(found.dev())).map_err(io::Error::other)?;
        let minor = u32::try_from(nix::sys::stat::minor(found.dev())).map_err(io::Error::other)?;
        Ok(Self { major, minor, inode: found.ino() })
    }
}

/// One state of a file. The change time is in it because, unlike the modification time, nobody can set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Version {
    file: FileId,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            file: FileId::of(file)?,
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

fn hash(mut file: &File) -> io::Result<Digest> {
    if file.metadata()?.len() > LARGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(Digest(hasher.finalize().into())),
            count => hasher.update(&chunk[..count]),
        }
    }
}

/// Names of users, each asked for once a minute or so: the answer may come from a directory server, and take long.
#[derive(Debug, Default)]
struct Users(Mutex<HashMap<u32, (Instant, Option<String>)>>);

impl Users {
    fn name(&self, uid: u32) -> Option<String> {
        const FRESH: Duration = Duration::from_secs(60);
        const MOST: usize = 1024;
        let known = || self.0.lock().expect("no holder panics");
        if let Some((asked, name)) = known().get(&uid)
            && asked.elapsed() < FRESH
        {
            return name.clone();
        }
        let name = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
        let mut known = known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(uid, (Instant::now(), name.clone()));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Caller {
        let stat = std::fs::read("/proc/self/stat").expect("procfs is mounted");
        let exe = File::open("/proc/self/exe").expect("we run");
        Caller {
            cgroup: CgroupId(1),
            pid: std::process::id(),
            tid: std::process::id(),
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            comm: *b"psql\0\0\0\0\0\0\0\0\0\0\0\0",
            started: started(&stat),
            executable: Some(FileId::of(&exe).expect("it is open")),
        }
    }

    #[test]
    fn what_the_kernel_saw_is_verified_and_hashed_once() {
        let processes = Processes::default();
        let process = processes.read(&own());
        let exe = std::env::current_exe().expect("we run");
        let digest = Digest::of(&std::fs::read(&exe).expect("our own executable can be read"));
        assert_eq!((process.sha256, process.verified), (Some(digest), true));
        assert_eq!(process.executable, Some(exe));
        assert_eq!(process.comm, "psql");
        assert!(!process.command_line.is_empty());
        assert_eq!(processes.hashes.len(), 1);
        assert_eq!(processes.read(&own()).sha256, Some(digest));
    }

    #[test]
    fn without_the_kernels_word_it_is_unverified() {
        let process = Processes::default().read(&Caller { executable: None, ..own() });
        assert!(process.sha256.is_some() && !process.verified);
    }

    #[test]
    fn another_program_or_process_lends_neither_name_nor_hash() {
        let processes = Processes::default();
        let elsewhere = FileId { major: 0, minor: 0, inode: 1 };
        let process = processes.read(&Caller { executable: Some(elsewhere), ..own() });
        assert_eq!((process.sha256, process.executable, process.verified), (None, None, false));
        let process = processes.read(&Caller { started: Some(1), ..own() });
        assert!(process.sha256.is_none() && process.command_line.is_empty());
    }

    #[test]
    fn a_name_cannot_shift_the_fields_of_stat() {
        let stat = b"7 (a) b) 1 2) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 2 3\n";
        assert_eq!(started(stat), Some(4711));
        assert_eq!(started(b"7 (a"), None);
    }

    #[test]
    fn command_lines_are_cut_where_the_limit_is() {
        assert_eq!(arguments(b"psql\0-c\0SELECT 1\0"), ["psql", "-c", "SELECT 1"]);
        assert_eq!(arguments(b""), Vec::<String>::new());
        let long = vec![b'x'; usize::try_from(COMMAND_LINE).expect("small") + 1];
        assert_eq!(arguments(&long).last().map(String::as_str), Some("…"));
    }
}
