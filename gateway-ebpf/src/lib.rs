//! What the kernel programs and the gateway say to each other: map layouts, map names, and pure helpers.
//!
//! Every structure here lies in a BPF map or in the programs' read-only data, so its layout is fixed: `repr(C)`,
//! explicit padding, and sizes asserted at compile time for both targets. Nothing here allocates or can panic.
//! A change of a layout needs a new [`LAYOUT`]: maps of another layout are never opened.
//!
//! The crate has two targets: this library, and `main.rs`, the programs. The gateway uses the library directly.

#![no_std]

/// Version of everything that stays pinned while the gateway is replaced. Part of the pins' path.
pub const LAYOUT: u32 = 2;

/// The names of the maps, as the programs declare them and as they are pinned.
pub mod maps {
    /// One slot that holds the current rule table, an LPM trie from [`RuleKey`](super::RuleKey) to [`Rule`](super::Rule).
    pub const RULES: &str = "RULES";
    /// [`Tuple`](super::Tuple) → [`Facts`](super::Facts) of redirected connections that the gateway has not accepted yet.
    pub const ARRIVALS: &str = "ARRIVALS";
    /// A socket's cookie → the [`Facts`](super::Facts) of its redirected connect, until the connection or the socket ends.
    pub const DIALLED: &str = "DIALLED";
    /// A guarded cgroup, or 0 for all of them → [`Refusals`](super::Refusals), one count per processor.
    pub const REFUSED: &str = "REFUSED";
    /// What a UDP socket last [`Asked`](super::Asked), as long as there is the socket.
    pub const ASKED: &str = "ASKED";
    /// [`Tuple`](super::Tuple) → [`Asked`](super::Asked): where the queries that come from there were sent.
    pub const QUERIES: &str = "QUERIES";
    /// All of those; each is pinned under its name.
    pub const PINNED: [&str; 8] = [RULES, ARRIVALS, DIALLED, REFUSED, VETHS, OURS, ASKED, QUERIES];
    /// The automaton that knows refused UNIX paths, one [`UnixRow`](super::UnixRow) per state. Not pinned: it is part of
    /// the program's settings, and the next gateway brings its own.
    pub const UNIX_PATHS: &str = "UNIX_PATHS";
    /// The host's side of a workload's veth, by its interface number → the number that the host has given the workload's
    /// network namespace.
    pub const VETHS: &str = "VETHS";
    /// What the gateway attaches to its own sockets towards backends, so that the program on [`VETHS`] knows them. Gone with
    /// the socket.
    pub const OURS: &str = "OURS";
}

/// The names of the programs' read-only settings, written by the loader.
pub mod settings {
    /// [`Listener`](super::Listener): where intercepted connections go.
    pub const LISTENER: &str = "LISTENER";
    /// [`Own`](super::Own): whose connections are never intercepted.
    pub const OWN: &str = "OWN";
    /// Not 0: queries for names go to the gateway.
    pub const NAMES: &str = "NAMES";
    /// [`Offsets`](super::Offsets): where the kernel keeps what identifies an executable.
    pub const OFFSETS: &str = "OFFSETS";
}

/// Rules in one table, at most. The table is built anew for every change, so this is a bound, not a reservation.
pub const MAX_RULES: u32 = 65_536;

/// Redirected connections that may be open at the same time, unless the loader says otherwise; as many may wait for
/// their accept. More than the gateway has descriptors for on most machines; about 11 MiB of kernel memory.
pub const DEFAULT_CONNECTIONS: u32 = 32_768;

/// The port of name servers, whatever the transport.
pub const NAME_PORT: u16 = 53;

/// Queries that may be on their way to the gateway.
pub const MAX_ASKING: u32 = 16_384;

/// Guarded cgroups that can have counts of their own.
pub const MAX_GUARDS: u32 = 4096;

/// Interfaces of workloads that can be watched on the host's side.
pub const MAX_VETHS: u32 = 4096;

/// What kept a guarded process from something. The number is its place in [`Refusals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// A rule refuses the destination.
    Rule = 0,
    /// The destination is intercepted, and this is not TCP: UDP, above all.
    NotTcp = 1,
    /// Too many intercepted connections were open.
    Full = 2,
    /// The gateway's own port was to be bound, or a datagram sent there by hand.
    Port = 3,
    /// The socket is of a kind that no other hook would see.
    Socket = 4,
    /// The UNIX socket is on the refuse list.
    Unix = 5,
    /// The connection was intercepted, and no gateway answered it.
    Unanswered = 6,
    /// A packet left a namespace that no socket of the gateway had sent.
    Packet = 7,
}

impl Reason {
    /// All of them, in order.
    pub const ALL: [Reason; 8] = [
        Reason::Rule,
        Reason::NotTcp,
        Reason::Full,
        Reason::Port,
        Reason::Socket,
        Reason::Unix,
        Reason::Unanswered,
        Reason::Packet,
    ];
}

/// How often each [`Reason`] has refused something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Refusals {
    /// By [`Reason`].
    pub count: [u64; 8],
}

/// One state of the automaton over UNIX paths: the next state for each byte. No path contains a zero byte, so that place
/// says instead, with [`UNIX_REFUSED`], that a path ending here is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct UnixRow {
    /// By byte.
    pub next: [u16; 256],
}

/// At the zero byte's place of a [`UnixRow`].
pub const UNIX_REFUSED: u16 = 1;

/// States that the automaton may have; 512 bytes each.
pub const MAX_UNIX_STATES: u32 = 4096;

/// The longest path in a UNIX socket's address, in bytes.
pub const UNIX_PATH_BYTES: usize = 108;

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Action {
    /// Not governed: it goes where it was dialled, and nothing is proxied.
    Pass = 0,
    /// It goes to the gateway's listener.
    Intercept = 1,
    /// `connect` fails with `EPERM`.
    Refuse = 2,
}

impl Action {
    /// The action that `word`, a [`Rule`]'s, stands for. A word from elsewhere refuses.
    pub const fn from_word(word: u32) -> Self {
        match word {
            0 => Action::Pass,
            1 => Action::Intercept,
            _ => Action::Refuse,
        }
    }

    /// The stricter of two: refuse over intercept over pass.
    #[must_use]
    pub const fn stricter(self, other: Action) -> Action {
        if self as u32 >= other as u32 { self } else { other }
    }
}

/// An address and a port. IPv4 addresses are in their IPv4-mapped form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Endpoint {
    /// The address's sixteen bytes, as four words in network order.
    pub addr: [u32; 4],
    /// The port, in the host's order.
    pub port: u16,
    /// Zero.
    pub padding: u16,
}

/// The third word of every IPv4-mapped address, in network order.
const MAPPED: u32 = 0xffff_u32.to_be();
/// 127.0.0.1, in network order.
const LOOPBACK: u32 = 0x7f00_0001_u32.to_be();

impl Endpoint {
    /// Of an address's four words in network order, as a socket names it.
    pub const fn new(addr: [u32; 4], port: u16) -> Self {
        Self { addr, port, padding: 0 }
    }

    /// Of an IPv4 address in network order.
    pub const fn v4(addr: u32, port: u16) -> Self {
        Self::new([0, 0, MAPPED, addr], port)
    }

    /// Whether the address is an IPv4 one.
    pub const fn is_v4(&self) -> bool {
        self.addr[0] == 0 && self.addr[1] == 0 && self.addr[2] == MAPPED
    }

    /// Whether the address is `::`, which the kernel takes for a loopback address of the socket's liking.
    pub const fn is_any_v6(&self) -> bool {
        self.addr[0] == 0 && self.addr[1] == 0 && self.addr[2] == 0 && self.addr[3] == 0
    }

    /// The same port on the address that the kernel would really connect to: `0.0.0.0` means 127.0.0.1, and `::` means `::1`.
    #[must_use]
    pub const fn effective(self) -> Self {
        if self.is_v4() && self.addr[3] == 0 {
            Self::v4(LOOPBACK, self.port)
        } else if self.is_any_v6() {
            Self::new([0, 0, 0, 1_u32.to_be()], self.port)
        } else {
            self
        }
    }

    /// Whether the address is 127.0.0.1 or `::1`, or one of which the kernel makes them, on one of `listener`'s ports:
    /// whoever were bound there would be sent the connections that are meant for the gateway.
    pub const fn takes_from(self, listener: Listener) -> bool {
        let at = self.effective();
        let v4 = at.is_v4() && at.addr[3] == LOOPBACK;
        let v6 = at.addr[0] == 0 && at.addr[1] == 0 && at.addr[2] == 0 && at.addr[3] == 1_u32.to_be();
        at.port != 0 && (at.port == listener.v4 || at.port == listener.v6) && (v4 || v6)
    }

    /// 127.0.0.1, on `port`.
    pub const fn loopback_v4(port: u16) -> Self {
        Self::v4(LOOPBACK, port)
    }

    /// `::1`, on `port`.
    pub const fn loopback_v6(port: u16) -> Self {
        Self::new([0, 0, 0, 1_u32.to_be()], port)
    }
}

/// The key of the rule table's trie, without the prefix length. Its first 32 bits are always matched exactly.
///
/// # Precedence
///
/// A connection is looked up twice: with its port, then with port 0, which stands for any port.
/// The longest prefix that names the port wins; only when none does, the longest prefix for any port.
/// The loader keeps, of two rules for the same network and port, the [stricter](Action::stricter).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct RuleKey {
    /// 4 or 6, so that `::/0` does not swallow IPv4.
    pub family: u8,
    /// Zero.
    pub padding: u8,
    /// The port in network order; 0 is any port.
    pub port: u16,
    /// The address as in [`Endpoint::addr`].
    pub addr: [u32; 4],
}

impl RuleKey {
    /// The key of exactly this endpoint, under its own port or under any port.
    pub const fn of(endpoint: &Endpoint, any_port: bool) -> Self {
        let family = if endpoint.is_v4() { 4 } else { 6 };
        let port = if any_port { 0 } else { endpoint.port.to_be() };
        Self { family, padding: 0, port, addr: endpoint.addr }
    }

    /// Bits to match for a network of `prefix` bits of its own family (0–32, or 0–128).
    pub const fn prefix_bits(&self, prefix: u8) -> u32 {
        let own = if self.family == 4 { 96 + prefix as u32 } else { prefix as u32 };
        EXACT_BITS + own
    }

    /// Bits to match for one address.
    pub const fn all_bits() -> u32 {
        EXACT_BITS + 128
    }
}

/// Family, padding and port.
const EXACT_BITS: u32 = 32;

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// An [`Action`]'s word.
    pub action: u32,
    /// Which replacement of the table put it there; counts from 1.
    pub generation: u32,
}

/// A redirected connection, as the gateway's accepted socket names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Tuple {
    /// The cookie of the network namespace in which the connection was made (`SO_NETNS_COOKIE`).
    pub netns: u64,
    /// The client's address, as in [`Endpoint::addr`].
    pub client: [u32; 4],
    /// The client's port, in the host's order.
    pub client_port: u16,
    /// The gateway's port, in the host's order.
    pub gateway_port: u16,
    /// Zero.
    pub padding: u32,
}

impl Tuple {
    /// Before anything is known.
    pub const UNKNOWN: Self = Self { netns: 0, client: [0; 4], client_port: 0, gateway_port: 0, padding: 0 };
}

/// What the kernel knew at `connect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Facts {
    /// When, on the monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// The connecting process's cgroup (v2).
    pub cgroup: u64,
    /// The socket's cookie, unique until the machine restarts.
    pub cookie: u64,
    /// When the process started, in nanoseconds since boot; 0 where the kernel's types are not known.
    pub started_ns: u64,
    /// The inode of the process's executable; 0 where the kernel's types are not known.
    pub exe_inode: u64,
    /// The device of that inode, in the kernel's own encoding (major in the upper 12 bits, minor in the lower 20).
    pub exe_device: u32,
    /// The process (thread group), as the first PID namespace numbers it.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The real user.
    pub uid: u32,
    /// The real group.
    pub gid: u32,
    /// The [`Rule::generation`] that intercepted it.
    pub generation: u32,
    /// What was dialled.
    pub dialled: Endpoint,
    /// The thread's name, filled up with zeros.
    pub comm: [u8; 16],
    /// 1 between `connect` and the moment at which the connection's own address is known.
    pub armed: u32,
    /// What the gateway's accepted socket will show. Until that moment only its network namespace is known.
    pub arrival: Tuple,
}

/// A query for a name that was sent to the gateway in place of a name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Asked {
    /// Whose it is: the cgroup of the process that asked.
    pub cgroup: u64,
    /// The cookie of the socket's network namespace.
    pub netns: u64,
    /// The name server.
    pub server: Endpoint,
    /// Zero.
    pub padding: u32,
}

/// Where intercepted connections go: loopback ports, in the host's order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Listener {
    /// The port on 127.0.0.1.
    pub v4: u16,
    /// The port on `::1`.
    pub v6: u16,
}

/// The gateway itself. Its connections are its own business; all three must match, so that neither a reused process
/// number nor a process beside it in the cgroup passes for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Own {
    /// Its cgroup.
    pub cgroup: u64,
    /// When it started, in hundredths of a second since boot; 0 leaves this unchecked.
    pub started_ticks: u64,
    /// Its process number in the first PID namespace; 0 is nobody.
    pub pid: u32,
    /// Zero.
    pub padding: u32,
}

/// Byte offsets in the running kernel's own structures. All zero when they are not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `mm_struct.exe_file`
    pub mm_exe_file: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `inode.i_ino`
    pub inode_number: u32,
    /// `inode.i_sb`
    pub inode_super: u32,
    /// `super_block.s_dev`
    pub super_device: u32,
    /// `task_struct.group_leader`
    pub task_leader: u32,
    /// `task_struct.start_boottime`
    pub task_started: u32,
}

impl Offsets {
    /// Whether the loader found them. No structure has `mm` first.
    pub const fn known(&self) -> bool {
        self.task_mm != 0
    }
}

/// Nanoseconds in the unit of `/proc/PID/stat`'s start time (`USER_HZ`, which is 100 on every Linux).
pub const TICK_NS: u64 = 10_000_000;

const _: () = {
    assert!(size_of::<Endpoint>() == 20);
    assert!(size_of::<RuleKey>() == 20);
    assert!(size_of::<Rule>() == 8);
    assert!(size_of::<Tuple>() == 32);
    assert!(size_of::<Facts>() == 136);
    assert!(size_of::<Asked>() == 40);
    assert!(size_of::<Listener>() == 4);
    assert!(size_of::<Own>() == 24);
    assert!(size_of::<Offsets>() == 32);
    assert!(size_of::<Refusals>() == 64);
    assert!(size_of::<UnixRow>() == 512);
};

#[cfg(not(target_arch = "bpf"))]
mod host {
    use super::{Asked, Endpoint, Facts, Listener, Offsets, Own, Refusals, Rule, RuleKey, Tuple, UnixRow};

    // SAFETY: plain integers in `repr(C)`, every padding byte a field of its own.
    unsafe impl aya::Pod for Endpoint {}
    // SAFETY: as above.
    unsafe impl aya::Pod for RuleKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Rule {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tuple {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Facts {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Asked {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Listener {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Own {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Refusals {}
    // SAFETY: as above.
    unsafe impl aya::Pod for UnixRow {}
}

#[cfg(test)]
mod tests;
