//! The maps and read-only settings, as `gateway_ebpf` lays them out.

use aya_ebpf::{
    Global,
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuHashMap, SkStorage},
    macros::btf_map,
};
use gateway_ebpf::{
    Asked, DEFAULT_CONNECTIONS, Facts, Listener, MAX_ASKING, MAX_GUARDS, MAX_RULES, MAX_UNIX_STATES, MAX_VETHS,
    Offsets, Own, Refusals, Rule, RuleKey, Tuple, UnixRow,
};

pub(crate) type Rules = LpmTrie<RuleKey, Rule, { MAX_RULES as usize }>;

/// The slot is exchanged as a whole, so that a connect sees one table or the next and never a mixture.
#[btf_map]
pub(crate) static RULES: ArrayOfMaps<Rules, 1> = ArrayOfMaps::new();

/// A plain hash: nothing is ever evicted to make room.
#[btf_map]
pub(crate) static ARRIVALS: HashMap<Tuple, Facts, { DEFAULT_CONNECTIONS as usize }> = HashMap::new();

/// A plain hash, too. (Socket storage would need no removing, but takes a microsecond to make; this takes a tenth.)
#[btf_map]
pub(crate) static DIALLED: HashMap<u64, Facts, { DEFAULT_CONNECTIONS as usize }> = HashMap::new();

#[btf_map]
pub(crate) static ASKED: SkStorage<Asked> = SkStorage::new();

/// The oldest go first. A query whose entry is gone before the gateway has read it is asked again by its client.
#[btf_map]
pub(crate) static QUERIES: LruHashMap<Tuple, Asked, { MAX_ASKING as usize }> = LruHashMap::new();

/// The gateway makes the entries; the programs only add.
#[btf_map]
pub(crate) static REFUSED: PerCpuHashMap<u64, Refusals, { MAX_GUARDS as usize }> = PerCpuHashMap::new();

/// State 0 is the first.
#[btf_map]
pub(crate) static UNIX_PATHS: Array<UnixRow, { MAX_UNIX_STATES as usize }> = Array::new();

/// Where there is no entry nothing is the gateway's.
#[btf_map]
pub(crate) static VETHS: HashMap<u32, u32, { MAX_VETHS as usize }> = HashMap::new();

/// On sockets that the gateway has claimed.
#[btf_map]
pub(crate) static OURS: SkStorage<u32> = SkStorage::new();

#[unsafe(no_mangle)]
static LISTENER: Global<Listener> = Global::new(Listener { v4: 0, v6: 0 });

#[unsafe(no_mangle)]
static OWN: Global<Own> = Global::new(Own { cgroup: 0, started_ticks: 0, pid: 0, padding: 0 });

#[unsafe(no_mangle)]
static NAMES: Global<u32> = Global::new(0);

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
pub(crate) fn names() -> bool {
    NAMES.load() != 0
}

#[inline(always)]
pub(crate) fn offsets() -> Offsets {
    OFFSETS.load()
}
