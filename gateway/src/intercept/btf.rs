//! Where the running kernel keeps what identifies an executable, read from its own type information.
//!
//! The format is BTF (`Documentation/bpf/btf.rst` in the kernel's sources); only structures and their members are read.
//! Whatever is odd about the file means "not known": the record then says that the executable is unverified.

use std::path::Path;

use gateway_ebpf::Offsets;

/// Where the kernel shows its types (`CONFIG_DEBUG_INFO_BTF`).
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The offsets for the kernel whose types are in `file`; `None` when it has none or they are not understood.
pub(super) fn offsets(file: &Path) -> Option<Offsets> {
    let bytes = std::fs::read(file).ok()?;
    let types = Types::parse(&bytes)?;
    let task = types.structure("task_struct")?;
    let inode = types.structure("inode")?;
    Some(Offsets {
        task_mm: types.member(task, "mm")?,
        mm_exe_file: types.member(types.structure("mm_struct")?, "exe_file")?,
        file_inode: types.member(types.structure("file")?, "f_inode")?,
        inode_number: types.member(inode, "i_ino")?,
        inode_super: types.member(inode, "i_sb")?,
        super_device: types.member(types.structure("super_block")?, "s_dev")?,
        task_leader: types.member(task, "group_leader")?,
        task_started: types.member(task, "start_boottime")?,
    })
}

/// Whether the UNIX hooks' context is what the program takes it for: the address's pointer and length lie where it reads.
pub(super) fn unix_context_is_known(file: &Path) -> bool {
    let offsets = || {
        let bytes = std::fs::read(file).ok()?;
        let types = Types::parse(&bytes)?;
        let context = types.structure("bpf_sock_addr_kern")?;
        Some((types.member(context, "uaddr")?, types.member(context, "uaddrlen")?))
    };
    offsets() == Some((8, 32))
}

/// The type section, with the place of every type.
struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Type `n + 1` starts at `places[n]`.
    places: Vec<usize>,
}

/// One structure or union: where its members are, and how many.
#[derive(Clone, Copy)]
struct Structure {
    members: usize,
    count: usize,
    /// Members carry a bit-field's size in the upper byte of their offset.
    bitfields: bool,
}

impl<'a> Types<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        const MAGIC: u32 = 0xeb9f;
        if word(bytes, 0)? & 0xffff != MAGIC {
            return None;
        }
        let header = size(bytes, 4)?;
        let section = |at: usize| {
            let start = header.checked_add(size(bytes, at)?)?;
            bytes.get(start..start.checked_add(size(bytes, at + 4)?)?)
        };
        let (types, strings) = (section(8)?, section(16)?);
        let mut places = Vec::with_capacity(types.len() / 24);
        let mut at = 0;
        while at < types.len() {
            places.push(at);
            at = at.checked_add(12)?.checked_add(tail(word(types, at + 4)?)?)?;
        }
        Some(Self { types, strings, places })
    }

    fn structure(&self, name: &str) -> Option<Structure> {
        self.places.iter().find_map(|&at| {
            let structure = self.structure_at(at)?;
            (structure.count > 0 && self.name(at)? == name.as_bytes()).then_some(structure)
        })
    }

    fn structure_at(&self, at: usize) -> Option<Structure> {
        let info = word(self.types, at + 4)?;
        let kind = info >> 24 & 0x1f;
        (kind == STRUCT || kind == UNION).then_some(Structure {
            members: at + 12,
            count: (info & 0xffff) as usize,
            bitfields: info >> 31 == 1,
        })
    }

    /// Bytes from the structure's start to the member, looking into unnamed members too.
    fn member(&self, structure: Structure, name: &str) -> Option<u32> {
        (0..structure.count).find_map(|n| {
            let at = structure.members + n * 12;
            let bits = word(self.types, at + 8)?;
            let bytes = if structure.bitfields { bits & 0xff_ffff } else { bits } / 8;
            let found = self.name(at)?;
            if found == name.as_bytes() {
                return Some(bytes);
            }
            let id = word(self.types, at + 4)?.checked_sub(1)? as usize;
            let inner = found.is_empty().then(|| self.structure_at(*self.places.get(id)?)).flatten()?;
            bytes.checked_add(self.member(inner, name)?)
        })
    }

    fn name(&self, at: usize) -> Option<&[u8]> {
        let rest = self.strings.get(size(self.types, at)?..)?;
        rest.split(|byte| *byte == 0).next()
    }
}

const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// Bytes that follow a type's head of twelve. `None` for a kind that is newer than this code.
fn tail(info: u32) -> Option<usize> {
    let count = (info & 0xffff) as usize;
    Some(match info >> 24 & 0x1f {
        // integer; variable; declaration tag
        1 | 14 | 17 => 4,
        // array
        3 => 12,
        // structure, union; data section; 64-bit enumeration
        STRUCT | UNION | 15 | 19 => count * 12,
        // enumeration; function prototype
        6 | 13 => count * 8,
        // pointer, forward, typedef, qualifiers, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn size(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(word(bytes, at)?).ok()
}
