//! A conversation with the kernel's nftables about one network namespace.
//!
//! The socket belongs to the namespace in which it was opened, whatever thread uses it later, so one that is kept can ask
//! again at the price of a system call, without entering the namespace.

#![allow(clippy::cast_possible_truncation, reason = "the attributes' numbers are small; the library's types differ")]

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use mnl::{CbResult, NlMessages};
use nftnl::{FinalizedBatch, ProtoFamily, nftnl_sys as sys};
use nix::{
    libc,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt},
    sys::time::TimeVal,
};

/// The conversation. After an error it may be out of step: drop it.
#[derive(Debug)]
pub(super) struct Talk {
    socket: OwnedFd,
    sequence: u32,
}

/// A table's rules, as the kernel has them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Their handles, in order. The kernel never gives one out twice, so whoever changes a rule changes this.
    pub(super) handles: Vec<u64>,
    /// What their counters have counted, in packets.
    pub(super) packets: u64,
}

impl Talk {
    /// About the namespace that the calling thread is in.
    pub(super) fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkNetFilter;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // The kernel answers at once; a lost answer must not stop whoever waits for ever.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE.as_secs().cast_signed(), 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Carries a transaction out, whole or not at all.
    pub(super) fn commit(&mut self, batch: &FinalizedBatch) -> io::Result<()> {
        let mut pages = batch.iter();
        let page = pages.next().unwrap_or_default();
        if pages.next().is_some() {
            // The kernel takes a transaction from one message; what does not end in it is undone.
            return Err(io::Error::other("the transaction does not fit its page"));
        }
        // Larger than what is allowed to everybody, where there are thousands of destinations.
        setsockopt(&self.socket, sockopt::SndBufForce, &(page.len() + SLACK))?;
        setsockopt(&self.socket, sockopt::RcvBufForce, &(page.len() + SLACK))?;
        self.send(page)?;
        let mut expected = batch.sequence_numbers();
        let mut buffer = buffer();
        while !expected.is_empty() {
            let read = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for message in NlMessages::new(&buffer[..read]) {
                let sequence =
                    expected.next().ok_or_else(|| io::Error::other("the kernel answers more than was asked"))?;
                mnl::cb_run(message?, sequence, ANY_PORT)?;
            }
        }
        Ok(())
    }

    /// The number of the ruleset, another one after every change that anybody makes.
    pub(super) fn generation(&mut self) -> io::Result<u32> {
        let request = self.request(libc::NFT_MSG_GETGEN, ProtoFamily::Unspec, libc::NLM_F_ACK, |_| {});
        let mut found = None;
        self.ask(&request, |message, found: &mut Option<u32>| (*found = generation(message), 1).1, &mut found)?;
        found.ok_or_else(|| io::Error::other("the kernel does not number its rulesets"))
    }

    /// The tables of the `inet` family that are at work, not dormant.
    pub(super) fn tables(&mut self) -> io::Result<Vec<CString>> {
        self.list(libc::NFT_MSG_GETTABLE, table, Vec::new)
    }

    /// The rules of the `inet` table `name`; none where there is no such table.
    pub(super) fn rules(&mut self, name: &CStr) -> io::Result<Rules> {
        Ok(self.list(libc::NFT_MSG_GETRULE, rule, || (name.to_owned(), Rules::default()))?.1)
    }

    /// Everything of a kind, as it was at one moment: the kernel says so when somebody changed anything meanwhile, and is
    /// asked again.
    fn list<T>(&mut self, kind: libc::c_int, each: mnl::Callback<T>, empty: impl Fn() -> T) -> io::Result<T> {
        let mut tries = 0;
        loop {
            let request = self.request(kind, ProtoFamily::Inet, libc::NLM_F_DUMP, |_| {});
            let mut found = empty();
            match self.ask(&request, each, &mut found) {
                Ok(()) => return Ok(found),
                Err(error) if error.kind() == io::ErrorKind::Interrupted && tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn request(
        &mut self,
        kind: libc::c_int,
        family: ProtoFamily,
        flags: libc::c_int,
        body: impl FnOnce(*mut libc::nlmsghdr),
    ) -> Vec<u8> {
        self.sequence += 1;
        let mut buffer = buffer();
        let word = |number: libc::c_int| u16::try_from(number).expect("the kernel's own small numbers");
        // SAFETY: the buffer is larger than any header, and aligned as the allocator aligns.
        let header = unsafe {
            let at = buffer.as_mut_ptr().cast();
            sys::nftnl_nlmsg_build_hdr(at, word(kind), family as u16, word(flags), self.sequence)
        };
        body(header);
        // SAFETY: the call above has made the header, in the buffer.
        buffer.truncate(unsafe { (*header).nlmsg_len } as usize);
        buffer
    }

    /// After an error the rest of the answer is read away, so that the next one is not taken for it.
    fn ask<T>(&mut self, request: &[u8], each: mnl::Callback<T>, found: &mut T) -> io::Result<()> {
        let answered = self.answered(request, each, found);
        if answered.is_err() {
            let mut buffer = buffer();
            while recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok_and(|read| read > 0) {}
        }
        answered
    }

    fn answered<T>(&mut self, request: &[u8], each: mnl::Callback<T>, found: &mut T) -> io::Result<()> {
        self.send(request)?;
        let mut buffer = buffer();
        loop {
            let read = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for message in NlMessages::new(&buffer[..read]) {
                if matches!(mnl::cb_run2(message?, self.sequence, ANY_PORT, each, found)?, CbResult::Stop) {
                    return Ok(());
                }
            }
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        match send(self.socket.as_raw_fd(), message, MsgFlags::empty())? {
            sent if sent == message.len() => Ok(()),
            _ => Err(io::Error::other("the kernel took a part of a message")),
        }
    }
}

/// A transaction with room for `elements` elements of sets beside its rules.
pub(super) fn batch(elements: usize) -> nftnl::Batch {
    let room = SLACK + elements * ELEMENT;
    nftnl::Batch::with_page_size(u32::try_from(room).unwrap_or(u32::MAX / 2))
}

fn buffer() -> Vec<u8> {
    vec![0; nftnl::nft_nlmsg_maxsize() as usize]
}

fn generation(message: &libc::nlmsghdr) -> Option<u32> {
    // SAFETY: the library hands the callback a whole message, as long as its header says.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const *message).cast::<u8>(), message.nlmsg_len as usize) };
    // The header, the family's header, and then the first attribute: its length, its kind, its value.
    let attribute = bytes.get(size_of::<libc::nlmsghdr>() + FAMILY_HEADER..)?;
    let (kind, value) = (attribute.get(2..4)?, attribute.get(4..8)?);
    (kind == NFTA_GEN_ID.to_ne_bytes()).then(|| u32::from_be_bytes(value.try_into().expect("four bytes")))
}

fn table(message: &libc::nlmsghdr, found: &mut Vec<CString>) -> libc::c_int {
    // SAFETY: the table is ours from its allocation to its end here; the name is read before that end, and is there
    // because the kernel names every table.
    unsafe {
        let table = sys::nftnl_table_alloc();
        if table.is_null() {
            return -1;
        }
        let read = sys::nftnl_table_nlmsg_parse(message, table);
        if read >= 0 && sys::nftnl_table_get_u32(table, sys::NFTNL_TABLE_FLAGS as u16) & DORMANT == 0 {
            found.push(CStr::from_ptr(sys::nftnl_table_get_str(table, sys::NFTNL_TABLE_NAME as u16)).to_owned());
        }
        sys::nftnl_table_free(table);
        if read < 0 { read } else { 1 }
    }
}

fn rule(message: &libc::nlmsghdr, (name, found): &mut (CString, Rules)) -> libc::c_int {
    // SAFETY: the rule is ours from its allocation to its end here, and so is the iterator over its expressions; the
    // kernel names the table of every rule.
    unsafe {
        let rule = sys::nftnl_rule_alloc();
        if rule.is_null() {
            return -1;
        }
        let read = sys::nftnl_rule_nlmsg_parse(message, rule);
        if read >= 0 && CStr::from_ptr(sys::nftnl_rule_get_str(rule, sys::NFTNL_RULE_TABLE as u16)) == name.as_c_str() {
            found.handles.push(sys::nftnl_rule_get_u64(rule, sys::NFTNL_RULE_HANDLE as u16));
            let expressions = sys::nftnl_expr_iter_create(rule);
            while !expressions.is_null() {
                let expression = sys::nftnl_expr_iter_next(expressions);
                if expression.is_null() {
                    sys::nftnl_expr_iter_destroy(expressions);
                    break;
                }
                let kind = CStr::from_ptr(sys::nftnl_expr_get_str(expression, sys::NFTNL_EXPR_NAME as u16));
                if kind == c"counter" {
                    found.packets += sys::nftnl_expr_get_u64(expression, sys::NFTNL_EXPR_CTR_PACKETS as u16);
                }
            }
        }
        sys::nftnl_rule_free(rule);
        if read < 0 { read } else { 1 }
    }
}

/// `struct nfgenmsg`, in bytes.
const FAMILY_HEADER: usize = 4;
/// `NFTA_GEN_ID`
const NFTA_GEN_ID: u16 = 1;
/// `NFT_TABLE_F_DORMANT`
const DORMANT: u32 = 1;
/// The kernel alone can send to such a socket.
const ANY_PORT: u32 = 0;
/// What a transaction takes besides elements of sets.
const SLACK: usize = 256 * 1024;
/// More than one element of a set takes, and the kernel's accounting for it.
const ELEMENT: usize = 96;
/// How often a list that was changed while it was read is read again: others change theirs a few times a second at most.
const TRIES: u32 = 100;
/// How long an answer of the kernel may take.
const PATIENCE: Duration = Duration::from_secs(10);
