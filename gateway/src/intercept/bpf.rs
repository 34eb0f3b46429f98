//! The few `bpf(2)` commands that aya has no call for: links that outlive us and are updated in place, and an entry
//! taken from a map in one step.

use std::{
    ffi::{CStr, CString},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::libc;

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let attr = Object { pathname: path.as_ptr() as u64, fd: 0, flags: 0 };
    new_fd(OBJ_GET, &attr)
}

/// Pins `object` at `path`.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let attr = Object { pathname: path.as_ptr() as u64, fd: raw(object), flags: 0 };
    call(OBJ_PIN, &attr).map(drop)
}

/// Attaches `program` to the cgroup. The link goes on beside those of others; the programs of all run.
pub(super) fn link_cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    let attr = LinkCreate { program: raw(program), target: raw(cgroup), attach_type, flags: 0 };
    new_fd(LINK_CREATE, &attr)
}

/// Attaches `program` to what comes in at the interface, before all others. Linux 6.6.
pub(super) fn link_interface(program: BorrowedFd<'_>, interface: u32) -> io::Result<OwnedFd> {
    let attr = LinkCreate { program: raw(program), target: interface, attach_type: TCX_INGRESS, flags: BEFORE };
    new_fd(LINK_CREATE, &attr)
}

/// The interface that `link` is attached to; 0 once it is detached, or the interface gone.
pub(super) fn interface_of(link: BorrowedFd<'_>) -> io::Result<u32> {
    // Its place is that of a cgroup's lower half.
    link_info(link).map(|info| u32::try_from(info.cgroup & u64::from(u32::MAX)).unwrap_or(0))
}

/// Exchanges the program behind `link`, with no moment in which neither is attached.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = LinkUpdate { link: raw(link), program: raw(program), flags: 0, old_program: 0 };
    call(LINK_UPDATE, &attr).map(drop)
}

/// Detaches `link` now; without this the kernel does so some time after the last descriptor and pin are gone.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    call(LINK_DETACH, &raw(link)).map(drop)
}

/// Loads `instructions` as a `sock_addr` program for a hook that the library does not know.
pub(super) fn load_sock_addr<I>(
    instructions: &[I],
    license: &CStr,
    name: &str,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    const { assert!(size_of::<I>() == 8, "an instruction has eight bytes") };
    let mut short = [0; 16];
    // The last byte stays zero.
    short.iter_mut().take(15).zip(name.bytes()).for_each(|(to, from)| *to = from);
    let attr = ProgLoad {
        kind: SOCK_ADDR,
        count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags: 0,
        name: short,
        interface: 0,
        attach_type,
    };
    new_fd(PROG_LOAD, &attr)
}

/// The kernel's number for a program or a map.
pub(super) fn object_id(object: BorrowedFd<'_>) -> io::Result<u32> {
    // The head of `struct bpf_prog_info` and of `struct bpf_map_info`: the type, and the id.
    let mut info = [0_u32; 2];
    let attr = InfoByFd { fd: raw(object), length: 8, info: info.as_mut_ptr() as u64 };
    call(OBJ_GET_INFO_BY_FD, &attr)?;
    Ok(info[1])
}

/// What the kernel says about a cgroup link, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkInfo {
    pub(super) id: u32,
    pub(super) program: u32,
    /// 0 once the link is detached, or its cgroup gone.
    pub(super) cgroup: u64,
}

/// Asks about `link`.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = RawLinkInfo::default();
    let attr = InfoByFd { fd: raw(link), length: LINK_INFO_BYTES, info: &raw mut info as u64 };
    call(OBJ_GET_INFO_BY_FD, &attr)?;
    Ok(LinkInfo { id: info.id, program: info.program, cgroup: info.cgroup })
}

/// Takes the value under `key` out of a hash map: `None` when there is none. Linux 5.14.
pub(super) fn take<K: aya::Pod, V: aya::Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    value(MAP_LOOKUP_AND_DELETE_ELEM, map, key)
}

/// The value under `key` in a hash map: `None` when there is none.
pub(super) fn look_up<K: aya::Pod, V: aya::Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    value(MAP_LOOKUP_ELEM, map, key)
}

fn value<K: aya::Pod, V: aya::Pod>(command: libc::c_int, map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::zeroed();
    let attr = Element {
        map: raw(map),
        padding: 0,
        key: std::ptr::from_ref(key) as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    match call(command, &attr) {
        // SAFETY: the kernel has written a whole value; before, it was zeros; `Pod` types have no other invariant.
        Ok(_) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// From now on no process can change what is in `map`. Linux 5.2.
pub(super) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    call(MAP_FREEZE, &raw(map)).map(drop)
}

/// The id of the map in the first slot of `slots`; `None` where there is none.
pub(super) fn first_slot(slots: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let (key, mut id) = (0_u32, 0_u32);
    let attr = Element { map: raw(slots), padding: 0, key: &raw const key as u64, value: &raw mut id as u64, flags: 0 };
    match call(MAP_LOOKUP_ELEM, &attr) {
        Ok(_) => Ok(Some(id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The ids of the programs that run at `attach_type` for processes in `cgroup`, in the order in which they run.
pub(super) fn effective(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    /// `BPF_F_QUERY_EFFECTIVE`: with those of the cgroups above.
    const EFFECTIVE: u32 = 1;
    // The kernel takes 64 per cgroup and hook.
    let mut ids = [0_u32; 1024];
    let mut attr = Query {
        target: raw(cgroup),
        attach_type,
        flags: EFFECTIVE,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: 1024,
        padding: 0,
        attach_flags_of: 0,
    };
    // SAFETY: `attr` is what the command reads and writes, with its size; the ids go to a buffer of `count` words.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut attr, size_of::<Query>()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ids.into_iter().take(attr.count as usize).collect())
}

const MAP_LOOKUP_ELEM: libc::c_int = 1;
const PROG_QUERY: libc::c_int = 16;
const MAP_FREEZE: libc::c_int = 22;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_LOOKUP_AND_DELETE_ELEM: libc::c_int = 21;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

/// `BPF_TCX_INGRESS`
const TCX_INGRESS: u32 = 46;
/// `BPF_F_BEFORE`
const BEFORE: u32 = 1 << 3;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`
const SOCK_ADDR: u32 = 18;

// Each is the part of `union bpf_attr` that its command reads.

#[repr(C)]
struct Object {
    pathname: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    attach_flags_of: u64,
}

#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The head of `struct bpf_link_info` and its cgroup part.
#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    cgroup: u64,
    attach_type: u32,
    tail: u32,
}

const LINK_INFO_BYTES: u32 = 32;
const _: () = assert!(size_of::<RawLinkInfo>() == LINK_INFO_BYTES as usize);

fn call<T>(command: libc::c_int, attr: &T) -> io::Result<RawFd> {
    // SAFETY: `attr` is what `command` reads, and its size is given; every address in it is of a live value that the
    // caller borrows for at least this call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(RawFd::try_from(answer).unwrap_or(0)) }
}

fn new_fd<T>(command: libc::c_int, attr: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: these commands answer with a descriptor that is ours alone; the kernel sets close-on-exec on it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: impl AsFd) -> u32 {
    u32::try_from(fd.as_fd().as_raw_fd()).expect("an open descriptor is not negative")
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
