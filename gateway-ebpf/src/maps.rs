//! The maps and read-only settings, as `gateway_ebpf` lays them out.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, SkStorage},
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use gateway_ebpf::{DEFAULT_ARRIVALS, Facts, Listener, MAX_RULES, Offsets, Own, Rule, RuleKey, Tuple};

pub(crate) type Rules = LpmTrie<RuleKey, Rule, { MAX_RULES as usize }>;

/// The slot is exchanged as a whole, so that a connect sees one table or the next and never a mixture.
#[btf_map]
pub(crate) static RULES: ArrayOfMaps<Rules, 1> = ArrayOfMaps::new();

/// A plain hash: nothing is ever evicted to make room.
#[btf_map]
pub(crate) static ARRIVALS: HashMap<Tuple, Facts, { DEFAULT_ARRIVALS as usize }> = HashMap::new();

#[btf_map]
pub(crate) static DIALLED: SkStorage<Facts> = SkStorage::new();

#[btf_map]
pub(crate) static FULL: Array<u64, 1> = Array::new();

#[unsafe(no_mangle)]
static LISTENER: Global<Listener> = Global::new(Listener { v4: 0, v6: 0 });

#[unsafe(no_mangle)]
static OWN: Global<Own> = Global::new(Own { cgroup: 0, started_ticks: 0, pid: 0, padding: 0 });

#[unsafe(no_mangle)]
static OFFSETS: Global<Offsets> = Global::new(Offsets {
    task_mm: 0,
    mm_exe_file: 0,
    file_inode: 0,
    inode_number: 0,
    inode_super: 0,
    super_device: 0,
    task_leader: 0,
    task_started: 0,
});

#[inline(always)]
pub(crate) fn listener() -> Listener {
    LISTENER.load()
}

#[inline(always)]
pub(crate) fn own() -> Own {
    OWN.load()
}

#[inline(always)]
pub(crate) fn offsets() -> Offsets {
    OFFSETS.load()
}

/// The socket's entry in `DIALLED`, or null.
#[inline(always)]
pub(crate) fn dialled(sk: *mut bpf_sock) -> *mut Facts {
    storage(sk, 0)
}

/// The socket's entry in `DIALLED`, made when there is none. Null when the kernel has no memory for it.
#[inline(always)]
pub(crate) fn dialled_or_new(sk: *mut bpf_sock) -> *mut Facts {
    storage(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
}

#[inline(always)]
fn storage(sk: *mut bpf_sock, flags: u64) -> *mut Facts {
    let map = (&raw const DIALLED).cast_mut().cast::<c_void>();
    // SAFETY: the map holds `Facts`; the verifier lets no null or foreign socket through; a null value means zeros.
    unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags) }.cast()
}
