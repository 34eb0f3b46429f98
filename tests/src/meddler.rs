//! Somebody with root who meddles with the kernel behind the gateway's back, by `bpf(2)` itself.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::libc;

/// What is pinned at `path`.
///
/// # Errors
/// Nothing is, or the kernel refuses.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    new_fd(OBJ_GET, &[path.as_ptr() as u64, 0])
}

/// Detaches a link by force, as `bpftool link detach` does.
///
/// # Errors
/// The kernel's own.
pub fn detach(link: &OwnedFd) -> io::Result<()> {
    call(LINK_DETACH, &[word(link)]).map(drop)
}

/// Puts another program behind a link.
///
/// # Errors
/// The kernel's own.
pub fn exchange(link: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    call(LINK_UPDATE, &[word(link) | word(program) << 32, 0]).map(drop)
}

/// Empties the first slot of an array of maps.
///
/// # Errors
/// The kernel's own.
pub fn empty_slot(map: &OwnedFd) -> io::Result<()> {
    let key = 0_u32;
    call(MAP_DELETE_ELEM, &[word(map), &raw const key as u64]).map(drop)
}

/// The map in the first slot of an array of maps.
///
/// # Errors
/// There is none.
pub fn slot(map: &OwnedFd) -> io::Result<OwnedFd> {
    let (key, mut id) = (0_u32, 0_u32);
    call(MAP_LOOKUP_ELEM, &[word(map), &raw const key as u64, &raw mut id as u64, 0])?;
    new_fd(MAP_GET_FD_BY_ID, &[id.into(), 0])
}

/// Removes the first entry of a map whose keys have `bytes` bytes.
///
/// # Errors
/// The kernel's own: a frozen map says `EPERM`.
pub fn remove_first(map: &OwnedFd, bytes: usize) -> io::Result<()> {
    let mut key = vec![0_u8; bytes];
    call(MAP_GET_NEXT_KEY, &[word(map), 0, key.as_mut_ptr() as u64])?;
    call(MAP_DELETE_ELEM, &[word(map), key.as_ptr() as u64]).map(drop)
}

/// Attaches `program` to `cgroup` at `connect4`, behind those that are there. Attached until dropped.
///
/// # Errors
/// The kernel's own.
pub fn attach_connect4(program: &OwnedFd, cgroup: &Path) -> io::Result<OwnedFd> {
    let cgroup = std::fs::File::open(cgroup)?;
    let target = u64::try_from(cgroup.as_raw_fd()).expect("an open descriptor is not negative");
    new_fd(LINK_CREATE, &[word(program) | target << 32, CONNECT4])
}

/// A `connect4` program that sends what goes to `from` on to `to`, both ports of 127.0.0.1: what a CNI's load balancer
/// does with the address of a service. With the same port twice it lets everything pass.
///
/// # Errors
/// The kernel's own.
pub fn rewriting(from: u16, to: u16) -> io::Result<OwnedFd> {
    /// The offset of `user_port` in `struct bpf_sock_addr`.
    const PORT: u64 = 24;
    let port = |port: u16| u64::from(u32::from(port.to_be()));
    let instruction = |code: u64, registers: u64, offset: u64, value: u64| {
        code | registers << 8 | (offset & 0xffff) << 16 | (value & 0xffff_ffff) << 32
    };
    let program = [
        // r2 = ctx->user_port
        instruction(0x61, 0x12, PORT, 0),
        // if r2 != from goto the end
        instruction(0x55, 0x02, 2, port(from)),
        // r3 = to; ctx->user_port = r3
        instruction(0xb7, 0x03, 0, port(to)),
        instruction(0x63, 0x31, PORT, 0),
        // r0 = 1; exit
        instruction(0xb7, 0x00, 0, 1),
        instruction(0x95, 0x00, 0, 0),
    ];
    let count = u64::try_from(program.len()).expect("six");
    let name = u64::from_ne_bytes(*b"rewriter");
    new_fd(
        PROG_LOAD,
        &[SOCK_ADDR | count << 32, program.as_ptr() as u64, c"GPL".as_ptr() as u64, 0, 0, 0, name, 0, CONNECT4 << 32],
    )
}

const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const OBJ_GET: libc::c_int = 7;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`
const SOCK_ADDR: u64 = 18;
/// `BPF_CGROUP_INET4_CONNECT`
const CONNECT4: u64 = 10;

fn word(fd: &OwnedFd) -> u64 {
    u64::try_from(fd.as_raw_fd()).expect("an open descriptor is not negative")
}

/// `words` are the head of `union bpf_attr`; the rest of it is zero.
fn call(command: libc::c_int, words: &[u64]) -> io::Result<i64> {
    let mut attr = [0_u64; 16];
    attr[..words.len()].copy_from_slice(words);
    // SAFETY: every address in it is of something that the caller keeps for this call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of_val(&attr)) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn new_fd(command: libc::c_int, words: &[u64]) -> io::Result<OwnedFd> {
    let fd = i32::try_from(call(command, words)?).expect("a descriptor fits");
    // SAFETY: these commands answer with a new descriptor that is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
