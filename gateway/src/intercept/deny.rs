//! The default deny: in a workload's network namespace only sockets that the gateway made reach governed destinations.
//!
//! The kernel programs see a socket by the cgroup of the process that connects it, and some they never see: one that
//! was handed in, one from before, one of a process that was moved away, raw IP. Whatever makes the packet, it leaves
//! through the namespace's output hook, and there nftables asks in which cgroup the socket was *made*. That cannot be
//! forged as a mark can.
//!
//! # Security
//! *Invariant:* the table outlives the gateway. It is replaced in one transaction and removed by
//! [`uninstall`](super::uninstall) alone.

use std::{collections::HashSet, ffi::CString, io, net::IpAddr, path::Path};

use nftnl::{
    Batch, Chain, ChainType, FinalizedBatch, Hook, MsgType, Policy, ProtoFamily, Table,
    expr::{Bitwise, Cmp, CmpOp},
    nft_expr,
};
use sha2::{Digest as _, Sha256};

use super::{Action, Rule};
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

/// The cgroup in which the gateway makes its sockets.
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
        let cgroup = hierarchy.own()?;
        let path = hierarchy.path(cgroup).ok_or(io::ErrorKind::NotFound).map_err(io::Error::from)?;
        let level = path.split('/').filter(|part| !part.is_empty()).count();
        match u32::try_from(level) {
            Ok(level) if level > 0 => Ok(Self { cgroup, level }),
            _ => Err(NoMaker::Root),
        }
    }
}

/// Puts the deny for `rules` in force inside `namespace`, in place of what an earlier call left, as one transaction.
///
/// # Errors
/// The kernel's own: without `CONFIG_NF_TABLES_INET` and `CONFIG_NFT_SOCKET` there is no such table.
pub fn install(namespace: &Namespace, name: &TableName, maker: Maker, rules: &[Rule]) -> io::Result<()> {
    namespace.within(|| {
        let table = Table::new(&name.0, ProtoFamily::Inet);
        let mut batch = Batch::new();
        // Deleting what is not there fails, so it is made first.
        batch.add(&table, MsgType::Add);
        batch.add(&table, MsgType::Del);
        batch.add(&table, MsgType::Add);
        let mut chain = Chain::new(c"output", &table);
        chain.set_type(ChainType::Filter);
        // Behind the namespace's own address translation, so that the destination is the one that packets go to.
        chain.set_hook(Hook::Out, 0);
        chain.set_policy(Policy::Accept);
        batch.add(&chain, MsgType::Add);
        batch.add(&ours(&chain, maker), MsgType::Add);
        for rule in in_order(rules) {
            batch.add(&governed(&chain, rule), MsgType::Add);
        }
        send(&batch.finalize())
    })
}

/// Whether the deny is there: asked of the kernel, now.
///
/// # Errors
/// The kernel's own.
pub fn is_installed(namespace: &Namespace, name: &TableName) -> io::Result<bool> {
    namespace.within(|| Ok(tables()?.contains(&name.0)))
}

/// Removes it, and says whether it was there.
///
/// # Errors
/// The kernel's own.
pub fn remove(namespace: &Namespace, name: &TableName) -> io::Result<bool> {
    namespace.within(|| {
        if !tables()?.contains(&name.0) {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.add(&Table::new(&name.0, ProtoFamily::Inet), MsgType::Del);
        send(&batch.finalize())?;
        Ok(true)
    })
}

/// Accepts what the gateway's own sockets send.
fn ours<'a>(chain: &'a Chain<'_>, maker: Maker) -> nftnl::Rule<'a> {
    let mut rule = nftnl::Rule::new(chain);
    rule.add_expr(&nft_expr!(socket cgroupv2 level maker.level));
    rule.add_expr(&Cmp::new(CmpOp::Eq, &maker.cgroup.0.to_ne_bytes()[..]));
    rule.add_expr(&nft_expr!(verdict accept));
    rule
}

/// The rules as a chain reads them: first the ports that are named, then the longer prefixes, as the trie does.
fn in_order(rules: &[Rule]) -> Vec<&Rule> {
    let mut rules: Vec<&Rule> = rules.iter().collect();
    rules
        .sort_by_key(|rule| (rule.port.is_none(), std::cmp::Reverse(rule.to.prefix()), std::cmp::Reverse(rule.action)));
    rules
}

/// Drops and counts, or lets pass, what goes to one rule's destinations, whatever the transport: a header that somebody
/// built by hand has its port in the same place.
fn governed<'a>(chain: &'a Chain<'_>, of: &Rule) -> nftnl::Rule<'a> {
    let mut rule = nftnl::Rule::new(chain);
    rule.add_expr(&nft_expr!(meta nfproto));
    match of.to.addr() {
        IpAddr::V4(addr) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(of.to.prefix())).unwrap_or(0);
            rule.add_expr(&Cmp::new(CmpOp::Eq, IPV4));
            rule.add_expr(&nft_expr!(payload ipv4 daddr));
            rule.add_expr(&Bitwise::new(&mask.to_be_bytes()[..], &[0_u8; 4][..]));
            rule.add_expr(&Cmp::new(CmpOp::Eq, &(u32::from(addr) & mask).to_be_bytes()[..]));
        }
        IpAddr::V6(addr) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(of.to.prefix())).unwrap_or(0);
            rule.add_expr(&Cmp::new(CmpOp::Eq, IPV6));
            rule.add_expr(&nft_expr!(payload ipv6 daddr));
            rule.add_expr(&Bitwise::new(&mask.to_be_bytes()[..], &[0_u8; 16][..]));
            rule.add_expr(&Cmp::new(CmpOp::Eq, &(u128::from(addr) & mask).to_be_bytes()[..]));
        }
    }
    if let Some(port) = of.port {
        rule.add_expr(&nft_expr!(payload tcp dport));
        rule.add_expr(&Cmp::new(CmpOp::Eq, &port.to_be_bytes()[..]));
    }
    if of.action == Action::Pass {
        rule.add_expr(&nft_expr!(verdict accept));
    } else {
        rule.add_expr(&nft_expr!(counter));
        rule.add_expr(&nft_expr!(verdict drop));
    }
    rule
}

/// `NFPROTO_IPV4`
const IPV4: u8 = 2;
/// `NFPROTO_IPV6`
const IPV6: u8 = 10;

fn send(batch: &FinalizedBatch) -> io::Result<()> {
    let socket = mnl::Socket::new(mnl::Bus::Netfilter)?;
    socket.send_all(batch)?;
    let mut expected = batch.sequence_numbers();
    let mut buffer = vec![0; nftnl::nft_nlmsg_maxsize() as usize];
    while !expected.is_empty() {
        for message in socket.recv(&mut buffer)? {
            let sequence = expected.next().ok_or_else(|| io::Error::other("the kernel answers more than was asked"))?;
            mnl::cb_run(message?, sequence, socket.portid())?;
        }
    }
    Ok(())
}

/// The names of the namespace's `inet` tables.
fn tables() -> io::Result<HashSet<CString>> {
    const SEQUENCE: u32 = 1;
    let socket = mnl::Socket::new(mnl::Bus::Netfilter)?;
    socket.send(&nftnl::table::get_tables_nlmsg(SEQUENCE))?;
    let mut found = HashSet::new();
    let mut buffer = vec![0; nftnl::nft_nlmsg_maxsize() as usize];
    loop {
        for message in socket.recv(&mut buffer)? {
            let read = mnl::cb_run2(message?, SEQUENCE, socket.portid(), nftnl::table::get_tables_cb, &mut found)?;
            if matches!(read, mnl::CbResult::Stop) {
                return Ok(found);
            }
        }
    }
}
