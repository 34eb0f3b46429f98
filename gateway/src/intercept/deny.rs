//! The default deny: in a workload's network namespace only sockets that the gateway made reach governed destinations.
//!
//! The kernel programs see a socket by the cgroup of the process that connects it, and some they never see: one that
//! was handed in, one from before, one of a process that was moved away, raw IP. Whatever makes the packet, it leaves
//! through the namespace's output hook, and there nftables asks in which cgroup the socket was *made*. That cannot be
//! forged as a mark can.
//!
//! # Rules
//! The rules lie in sets: one for each length of prefix, with and without ports. So a packet costs as much with ten
//! thousand destinations as with one.
//!
//! # Security
//! *Invariant:* the table outlives the gateway. It is replaced in one transaction and removed by
//! [`uninstall`](super::uninstall) alone.

#![allow(clippy::cast_possible_truncation, reason = "the attributes' numbers are small; the library's types differ")]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    ffi::{CStr, CString},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    ptr::NonNull,
};

use nftnl::{
    Batch, Chain, ChainType, Hook, MsgType, Policy, ProtoFamily, Table,
    expr::{Bitwise, Cmp, CmpOp, Expression},
    nft_expr, nftnl_sys as sys,
    set::{Set, SetKey},
};
use sha2::{Digest as _, Sha256};

use super::{
    Action, Rule,
    nft::{self, Talk},
};
use crate::{
    net::Namespace,
    workload::{CgroupId, Hierarchy},
};

/// What a gateway's table is called. People find it with `nft list ruleset`.
///
/// Two gateways with different directories on the bpf file system do not touch each other's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName(CString);

impl TableName {
    /// `holdpoint` for the usual directory, with something behind it for any other.
    pub fn of(bpffs: &Path) -> Self {
        let name = if bpffs == Path::new(super::DEFAULT_BPFFS) {
            "holdpoint".to_owned()
        } else {
            let digest = Sha256::digest(bpffs.as_os_str().as_encoded_bytes());
            format!("holdpoint-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
        };
        Self(CString::new(name).expect("the name has no zero byte"))
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_string_lossy())
    }
}

/// A cgroup in which sockets are made: by the gateway its own, by bots theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maker {
    /// Its id.
    cgroup: CgroupId,
    /// How many cgroups are above it.
    level: u32,
}

/// Why no deny can be told apart from the gateway's own traffic.
#[derive(Debug, thiserror::Error)]
pub enum NoMaker {
    /// The gateway runs in the root cgroup, in which everything else is, too.
    #[error(
        "the gateway runs in the root cgroup, so nftables cannot tell its sockets from a bot's: \
         start it in a cgroup of its own (a systemd unit or a container is one)"
    )]
    Root,
    /// Its cgroup is not visible.
    #[error("the gateway's own cgroup cannot be read: {0}")]
    Unknown(#[from] io::Error),
}

impl Maker {
    /// This process's cgroup.
    ///
    /// # Errors
    /// It is the root, or not visible.
    pub fn own(hierarchy: &Hierarchy) -> Result<Self, NoMaker> {
        Self::of(hierarchy, hierarchy.own()?)
    }

    /// Any cgroup.
    ///
    /// # Errors
    /// It is the root, or not visible.
    pub fn of(hierarchy: &Hierarchy, cgroup: CgroupId) -> Result<Self, NoMaker> {
        let path = hierarchy.path(cgroup).ok_or(io::ErrorKind::NotFound).map_err(io::Error::from)?;
        let level = path.split('/').filter(|part| !part.is_empty()).count();
        match u32::try_from(level) {
            Ok(level) if level > 0 => Ok(Self { cgroup, level }),
            _ => Err(NoMaker::Root),
        }
    }
}

/// Whose packets are denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's but those of sockets that were made here: in a namespace of the workload's own.
    AllBut(Maker),
    /// Those of sockets that were made in these cgroups: in a namespace that others use, too.
    MadeIn(Vec<Maker>),
}

/// A deny that was put in force, and can be asked whether it still is.
#[derive(Debug)]
pub struct Deny {
    talk: Talk,
    name: TableName,
    /// The rules' own handles.
    handles: Vec<u64>,
    /// The ruleset's number when they were last seen there.
    generation: u32,
    /// What tables in whose place this one was put had dropped.
    dropped_before: u64,
}

impl Deny {
    /// Puts the deny for `rules` in force inside `namespace`, in place of what anybody left, as one transaction.
    ///
    /// # Errors
    /// The kernel's own: without `CONFIG_NF_TABLES_INET` and `CONFIG_NFT_SOCKET` there is no such table.
    pub fn install(namespace: &Namespace, name: &TableName, whose: &Whose, rules: &[Rule]) -> io::Result<Self> {
        let mut talk = namespace.within(Talk::open)?;
        let (handles, generation) = put_in_force(&mut talk, name, whose, rules)?;
        Ok(Self { talk, name: name.clone(), handles, generation, dropped_before: 0 })
    }

    /// Puts the deny for other rules in its place, as one transaction.
    ///
    /// # Errors
    /// The kernel's own. Drop it then, and install another.
    pub fn replace(&mut self, whose: &Whose, rules: &[Rule]) -> io::Result<()> {
        let dropped = self.dropped()?;
        (self.handles, self.generation) = put_in_force(&mut self.talk, &self.name, whose, rules)?;
        self.dropped_before = dropped;
        Ok(())
    }

    /// Whether all of it is still there, as it was put there: asked of the kernel, now.
    ///
    /// # Errors
    /// The kernel's own. Drop it then, and install another.
    pub fn is_intact(&mut self) -> io::Result<bool> {
        // Almost always nobody has changed anything, and that is all there is to ask.
        let generation = self.talk.generation()?;
        if generation == self.generation {
            return Ok(true);
        }
        let there =
            self.talk.tables()?.contains(&self.name.0) && self.talk.rules(&self.name.0)?.handles == self.handles;
        if there {
            self.generation = generation;
        }
        Ok(there)
    }

    /// How many packets it has dropped.
    ///
    /// # Errors
    /// The kernel's own. Drop it then, and install another.
    pub fn dropped(&mut self) -> io::Result<u64> {
        Ok(self.dropped_before + self.talk.rules(&self.name.0)?.packets)
    }
}

/// Whether there is a deny: asked of the kernel, now.
///
/// # Errors
/// The kernel's own.
pub fn is_installed(namespace: &Namespace, name: &TableName) -> io::Result<bool> {
    let mut talk = namespace.within(Talk::open)?;
    Ok(talk.tables()?.contains(&name.0) && !talk.rules(&name.0)?.handles.is_empty())
}

/// Removes it, and says whether it was there.
///
/// # Errors
/// The kernel's own.
pub fn remove(namespace: &Namespace, name: &TableName) -> io::Result<bool> {
    let mut talk = namespace.within(Talk::open)?;
    let mut batch = nft::batch(0);
    // Also where it sleeps: deleting what is not there fails, so it is made first.
    let there = talk.tables()?.contains(&name.0);
    let table = Table::new(&name.0, ProtoFamily::Inet);
    batch.add(&table, MsgType::Add);
    batch.add(&table, MsgType::Del);
    talk.commit(&batch.finalize())?;
    Ok(there)
}

/// The new rules' handles, and a number that the ruleset had when they were read, or earlier.
fn put_in_force(talk: &mut Talk, name: &TableName, whose: &Whose, rules: &[Rule]) -> io::Result<(Vec<u64>, u32)> {
    let table = Table::new(&name.0, ProtoFamily::Inet);
    let mut batch = nft::batch(rules.len());
    batch.add(&table, MsgType::Add);
    batch.add(&table, MsgType::Del);
    batch.add(&table, MsgType::Add);
    let mut output = Chain::new(c"output", &table);
    output.set_type(ChainType::Filter);
    // Behind the namespace's own address translation, so that the destination is the one that packets go to.
    output.set_hook(Hook::Out, 0);
    output.set_policy(Policy::Accept);
    batch.add(&output, MsgType::Add);
    let governed = Chain::new(GOVERNED, &table);
    batch.add(&governed, MsgType::Add);
    let mut count = 0;
    let mut add = |batch: &mut Batch, rule: &nftnl::Rule<'_>| (batch.add(rule, MsgType::Add), count += 1).1;
    match whose {
        Whose::AllBut(gateway) => {
            let mut ours = made_in(&output, *gateway);
            ours.add_expr(&nft_expr!(verdict accept));
            add(&mut batch, &ours);
            let mut others = nftnl::Rule::new(&output);
            others.add_expr(&nft_expr!(verdict jump GOVERNED.to_owned()));
            add(&mut batch, &others);
        }
        Whose::MadeIn(guarded) => {
            for maker in guarded {
                let mut theirs = made_in(&output, *maker);
                theirs.add_expr(&nft_expr!(verdict jump GOVERNED.to_owned()));
                add(&mut batch, &theirs);
            }
        }
    }
    for (id, (kind, keys)) in (1..).zip(kinds(rules)) {
        let rule = match (kind.v6, kind.any_port) {
            (false, false) => looked_up::<8>(&mut batch, &table, &governed, id, kind, &keys),
            (false, true) => looked_up::<4>(&mut batch, &table, &governed, id, kind, &keys),
            (true, false) => looked_up::<20>(&mut batch, &table, &governed, id, kind, &keys),
            (true, true) => looked_up::<16>(&mut batch, &table, &governed, id, kind, &keys),
        };
        add(&mut batch, &rule);
    }
    talk.commit(&batch.finalize())?;
    let generation = talk.generation()?;
    let found = talk.rules(&name.0)?.handles;
    if found.len() != count {
        return Err(io::Error::other(format!("{count} rules were added and {} are there", found.len())));
    }
    Ok((found, generation))
}

/// What the sockets of one cgroup send.
fn made_in<'a>(chain: &'a Chain<'_>, maker: Maker) -> nftnl::Rule<'a> {
    let mut rule = nftnl::Rule::new(chain);
    rule.add_expr(&nft_expr!(socket cgroupv2 level maker.level));
    rule.add_expr(&Cmp::new(CmpOp::Eq, &maker.cgroup.0.to_ne_bytes()[..]));
    rule
}

/// Rules that one look into one set decides. Their order is that in which a chain must ask: first the ports that are
/// named, then the longer prefixes, then what drops, as the kernel programs' trie has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    any_port: bool,
    prefix: Reverse<u8>,
    passes: bool,
    v6: bool,
}

/// An address and, where it is named, a port.
type Destination = (IpAddr, u16);

fn kinds(rules: &[Rule]) -> BTreeMap<Kind, BTreeSet<Destination>> {
    let mut kinds: BTreeMap<Kind, BTreeSet<Destination>> = BTreeMap::new();
    for rule in rules {
        let kind = Kind {
            any_port: rule.port.is_none(),
            prefix: Reverse(rule.to.prefix()),
            passes: rule.action == Action::Pass,
            v6: rule.to.addr().is_ipv6(),
        };
        kinds.entry(kind).or_default().insert((rule.to.first(), rule.port.unwrap_or(0)));
    }
    // What lets pass with nothing behind it that drops decides nothing, and would be asked about each packet.
    let last = |v6| kinds.keys().rfind(|kind| kind.v6 == v6 && !kind.passes).copied();
    let (v4, v6) = (last(false), last(true));
    kinds.retain(|kind, _| Some(*kind) <= if kind.v6 { v6 } else { v4 });
    kinds
}

/// Drops and counts, or lets pass, what goes to one of these destinations, whatever the transport: a header that somebody
/// built by hand has its port in the same place.
fn looked_up<'a, const KEY: usize>(
    batch: &mut Batch,
    table: &Table,
    chain: &'a Chain<'_>,
    id: u32,
    kind: Kind,
    destinations: &BTreeSet<Destination>,
) -> nftnl::Rule<'a> {
    // Part of its rule, constant, and named by the kernel.
    let mut set: Set<'_, Key<KEY>> = Set::new(c"__set%d", id, table, ProtoFamily::Inet);
    destinations.iter().for_each(|destination| set.add(&Key::of(destination)));
    batch.add(&set, MsgType::Add);
    batch.add_iter(set.elems_iter(), MsgType::Add);
    let mut rule = nftnl::Rule::new(chain);
    rule.add_expr(&nft_expr!(meta nfproto));
    let Reverse(prefix) = kind.prefix;
    if kind.v6 {
        rule.add_expr(&Cmp::new(CmpOp::Eq, IPV6));
        rule.add_expr(&nft_expr!(payload ipv6 daddr));
        if prefix < 128 {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            rule.add_expr(&Bitwise::new(&mask.to_be_bytes()[..], &[0_u8; 16][..]));
        }
    } else {
        rule.add_expr(&Cmp::new(CmpOp::Eq, IPV4));
        rule.add_expr(&nft_expr!(payload ipv4 daddr));
        if prefix < 32 {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            rule.add_expr(&Bitwise::new(&mask.to_be_bytes()[..], &[0_u8; 4][..]));
        }
    }
    if !kind.any_port {
        rule.add_expr(&Port { behind: if kind.v6 { 16 } else { 4 } });
    }
    rule.add_expr(&nft_expr!(lookup & set));
    if kind.passes {
        rule.add_expr(&nft_expr!(verdict accept));
    } else {
        rule.add_expr(&nft_expr!(counter));
        rule.add_expr(&nft_expr!(verdict drop));
    }
    rule
}

/// Reads the destination port into the register behind an address, so that a set can be asked for both at once.
struct Port {
    /// The address's length in bytes.
    behind: u32,
}

impl Expression for Port {
    fn to_expr(&self, _: &nftnl::Rule<'_>) -> NonNull<sys::nftnl_expr> {
        // SAFETY: the expression is the library's own, and each attribute of the kind that it expects.
        unsafe {
            let made = NonNull::new(sys::nftnl_expr_alloc(c"payload".as_ptr())).expect("there is memory");
            let set = |attribute: u32, value: u32| sys::nftnl_expr_set_u32(made.as_ptr(), attribute as u16, value);
            set(sys::NFTNL_EXPR_PAYLOAD_BASE, TRANSPORT);
            set(sys::NFTNL_EXPR_PAYLOAD_OFFSET, 2);
            set(sys::NFTNL_EXPR_PAYLOAD_LEN, 2);
            set(sys::NFTNL_EXPR_PAYLOAD_DREG, FIRST_WORD + self.behind / 4);
            made
        }
    }
}

/// A key of a set, as the registers hold it: an address, and behind it a port where there is room.
struct Key<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Key<BYTES> {
    fn of(&(addr, port): &Destination) -> Self {
        let mut key = [0; BYTES];
        let addr = match addr {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let (address, behind) = key.split_at_mut(addr.len());
        address.copy_from_slice(&addr);
        if let Some(place) = behind.first_chunk_mut() {
            *place = port.to_be_bytes();
        }
        Self(key)
    }
}

impl<const BYTES: usize> SetKey for Key<BYTES> {
    // The kernel does not care; it is for whoever lists the table.
    const TYPE: u32 = match BYTES {
        4 => Ipv4Addr::TYPE,
        16 => Ipv6Addr::TYPE,
        8 => Ipv4Addr::TYPE << TYPE_BITS | PORT_TYPE,
        _ => Ipv6Addr::TYPE << TYPE_BITS | PORT_TYPE,
    };
    const LEN: u32 = BYTES as u32;

    fn data(&self) -> Box<[u8]> {
        self.0.into()
    }
}

/// The chain with what is denied.
const GOVERNED: &CStr = c"governed";
/// `NFPROTO_IPV4`
const IPV4: u8 = 2;
/// `NFPROTO_IPV6`
const IPV6: u8 = 10;
/// `NFT_PAYLOAD_TRANSPORT_HEADER`
const TRANSPORT: u32 = 2;
/// `NFT_REG32_00`: the first word of the first register.
const FIRST_WORD: u32 = 8;
/// How nftables writes the types of keys that are put together.
const TYPE_BITS: u32 = 6;
/// `inet_service`
const PORT_TYPE: u32 = 13;
