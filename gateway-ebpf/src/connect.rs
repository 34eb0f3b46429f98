//! `connect4` and `connect6`: pass, intercept or refuse.
//!
//! Also run for connected UDP sockets and for whatever else calls `connect`; only TCP (and MPTCP, which arrives as its
//! first subflow) can be intercepted, so where a rule intercepts, everything else is refused, but for queries to name
//! servers, which [`names`] takes.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    btf_maps::lpm_trie::Key,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_get_netns_cookie,
        bpf_get_socket_cookie, bpf_ktime_get_ns,
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use aya_log_ebpf::warn;
use gateway_ebpf::{Action, Endpoint, Facts, NAME_PORT, Reason, Rule, RuleKey, Tuple};

use crate::{maps, names, process, refusal};

/// The call goes on.
pub(crate) const GO: i32 = 1;
/// The call fails with `EPERM`.
pub(crate) const EPERM: i32 = 0;

pub(crate) const IPPROTO_TCP: u32 = 6;
pub(crate) const IPPROTO_UDP: u32 = 17;
pub(crate) const IPPROTO_MPTCP: u32 = 262;

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    let dialled = Endpoint::v4(address4(&ctx), port(&ctx)).effective();
    let decision = decide(&ctx, &dialled);
    if decision.is(Action::Pass) {
        return GO;
    }
    if decision.is(Action::Refuse) {
        return refusal::refuse(decision.reason);
    }
    if !remember(&ctx, &dialled, decision.generation) {
        return refusal::refuse(Reason::Full as u32);
    }
    redirect4(&ctx, maps::listener().v4);
    GO
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    let asked = Endpoint::new(address6(&ctx), port(&ctx));
    let (dialled, decision) = decide6(&ctx, &asked);
    if decision.is(Action::Pass) {
        return GO;
    }
    if decision.is(Action::Refuse) {
        return refusal::refuse(decision.reason);
    }
    if !remember(&ctx, &dialled, decision.generation) {
        return refusal::refuse(Reason::Full as u32);
    }
    let listener = maps::listener();
    // A mapped address stays mapped, since its socket may be bound to one; any other goes to `::1`, since its socket
    // may be IPV6_V6ONLY. A V6ONLY socket cannot reach a mapped address in the first place.
    if dialled.is_v4() && !asked.is_any_v6() {
        redirect6(&ctx, &Endpoint::loopback_v4(listener.v4));
    } else {
        redirect6(&ctx, &Endpoint::loopback_v6(listener.v6));
    }
    GO
}

/// What to do with a connect.
///
/// Numbers and no enum with a payload: what an enum leaves unset is for the compiler free to copy, and where its
/// register allocation happens to do so the verifier refuses the whole program ("R5 !read_ok").
#[derive(Clone, Copy)]
pub(crate) struct Decision {
    /// An [`Action`]; a greater one is stricter.
    action: u32,
    /// The intercepting rule's, else 0.
    generation: u32,
    /// A [`Reason`], where it refuses.
    pub(crate) reason: u32,
}

impl Decision {
    const PASS: Self = Self { action: Action::Pass as u32, generation: 0, reason: 0 };

    #[inline(always)]
    const fn refuse(reason: Reason) -> Self {
        Self { action: Action::Refuse as u32, generation: 0, reason: reason as u32 }
    }

    #[inline(always)]
    pub(crate) fn is(&self, action: Action) -> bool {
        self.action == action as u32
    }
}

/// What an IPv6 socket's destination stands for, and what to do with it.
#[inline(always)]
pub(crate) fn decide6(ctx: &SockAddrContext, asked: &Endpoint) -> (Endpoint, Decision) {
    let dialled = asked.effective();
    let decision = decide(ctx, &dialled);
    if asked.is_any_v6() {
        // The kernel makes `::1` of `::`, or 127.0.0.1 for a socket bound to a mapped address: the stricter counts.
        let mapped = Endpoint::loopback_v4(asked.port);
        let other = decide(ctx, &mapped);
        if other.action > decision.action {
            return (mapped, other);
        }
    }
    (dialled, decision)
}

#[inline(always)]
pub(crate) fn decide(ctx: &SockAddrContext, dialled: &Endpoint) -> Decision {
    if is_listener(dialled) {
        // Redirected by the same programs on a cgroup further up. Whoever dials this by himself leaves nothing for the
        // gateway to find, and is closed there.
        return Decision::PASS;
    }
    let Some(rules) = maps::RULES.get(0) else { return Decision::refuse(Reason::Rule) };
    let (mut action, mut generation) = (Action::Pass as u32, 0);
    if let Some(rule) = look_up(rules, dialled) {
        (action, generation) = (rule.action, rule.generation);
    }
    // Whatever a rule lets pass: names are learnt from every name server.
    let asks = dialled.port == NAME_PORT && maps::names();
    if (action == Action::Pass as u32 && !asks) || process::is_gateway() {
        return Decision::PASS;
    }
    if action != Action::Pass as u32 && action != Action::Intercept as u32 {
        return Decision::refuse(Reason::Rule);
    }
    let protocol = protocol(ctx);
    let stream = protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
    if !stream && !(asks && protocol == IPPROTO_UDP) {
        // An echo request to a name server's port is no query.
        return if action == Action::Pass as u32 { Decision::PASS } else { Decision::refuse(Reason::NotTcp) };
    }
    let action = Action::Intercept as u32;
    Decision { action, generation, reason: 0 }
}

#[inline(always)]
fn is_listener(endpoint: &Endpoint) -> bool {
    let (listener, addr) = (maps::listener(), &endpoint.addr);
    let v4 = Endpoint::loopback_v4(listener.v4).addr;
    let v6 = Endpoint::loopback_v6(listener.v6).addr;
    (addr[0] | addr[1]) == 0
        && ((endpoint.port == listener.v4 && addr[2] == v4[2] && addr[3] == v4[3])
            || (endpoint.port == listener.v6 && addr[2] == v6[2] && addr[3] == v6[3]))
}

/// See the precedence at [`RuleKey`].
#[inline(always)]
pub(crate) fn look_up<'a>(rules: &'a maps::Rules, dialled: &Endpoint) -> Option<&'a Rule> {
    let mut key = Key::new(RuleKey::all_bits(), RuleKey::of(dialled, false));
    if let Some(rule) = rules.get(&key) {
        return Some(rule);
    }
    key.data.port = 0;
    rules.get(&key)
}

/// Leaves under the socket's cookie what the gateway will ask for. Whether there was room.
#[inline(always)]
fn remember(ctx: &SockAddrContext, dialled: &Endpoint, generation: u32) -> bool {
    if protocol(ctx) == IPPROTO_UDP {
        return names::remember(ctx, dialled);
    }
    let ids = bpf_get_current_pid_tgid();
    let users = bpf_get_current_uid_gid();
    let executable = process::executable().unwrap_or_default();
    // All at once: what is filled in bit by bit is first zeroed byte by byte.
    let facts = Facts {
        // SAFETY: takes nothing.
        at_ns: unsafe { bpf_ktime_get_ns() },
        cgroup: process::cgroup(),
        cookie: cookie(ctx),
        started_ns: process::started_ns(),
        exe_inode: executable.inode,
        exe_device: executable.device,
        pid: (ids >> 32) as u32,
        tid: ids as u32,
        uid: users as u32,
        gid: (users >> 32) as u32,
        generation,
        dialled: *dialled,
        comm: bpf_get_current_comm().unwrap_or_default(),
        armed: 1,
        // SAFETY: the context is this hook's own.
        arrival: Tuple { netns: unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) }, ..Tuple::UNKNOWN },
    };
    if maps::DIALLED.insert(facts.cookie, &facts, 0).is_err() {
        warn!(ctx, "connect refused: too many intercepted connections are open");
        return false;
    }
    true
}

/// A number that is the socket's own until the machine restarts.
#[inline(always)]
pub(crate) fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the context is this hook's own.
    unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) }
}

// The verifier wants every access to the context to be one word at a constant offset: hence the volatile accesses
// ("dereference of modified ctx ptr" and "invalid bpf_context access" are what it says otherwise).

#[inline(always)]
pub(crate) fn protocol(ctx: &SockAddrContext) -> u32 {
    // SAFETY: the context is this hook's own.
    unsafe { (&raw const (*ctx.sock_addr).protocol).read_volatile() }
}

#[inline(always)]
pub(crate) fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: the context is this hook's own. The field holds the port in network order in its first two bytes.
    u16::from_be(unsafe { (&raw const (*ctx.sock_addr).user_port).read_volatile() } as u16)
}

#[inline(always)]
pub(crate) fn address4(ctx: &SockAddrContext) -> u32 {
    // SAFETY: the context is this hook's own.
    unsafe { (&raw const (*ctx.sock_addr).user_ip4).read_volatile() }
}

#[inline(always)]
pub(crate) fn address6(ctx: &SockAddrContext) -> [u32; 4] {
    let addr: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the context is this hook's own.
    unsafe {
        [
            (&raw const (*addr).user_ip6[0]).read_volatile(),
            (&raw const (*addr).user_ip6[1]).read_volatile(),
            (&raw const (*addr).user_ip6[2]).read_volatile(),
            (&raw const (*addr).user_ip6[3]).read_volatile(),
        ]
    }
}

#[inline(always)]
pub(crate) fn redirect4(ctx: &SockAddrContext, port: u16) {
    name4(ctx, &Endpoint::loopback_v4(port));
}

#[inline(always)]
pub(crate) fn redirect6(ctx: &SockAddrContext, to: &Endpoint) {
    name6(ctx, to);
}

/// Writes `endpoint` into the context of an IPv4 socket.
#[inline(always)]
pub(crate) fn name4(ctx: &SockAddrContext, endpoint: &Endpoint) {
    let addr: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the context is this hook's own, and both fields may be written.
    unsafe {
        (&raw mut (*addr).user_ip4).write_volatile(endpoint.addr[3]);
        (&raw mut (*addr).user_port).write_volatile(u32::from(endpoint.port.to_be()));
    }
}

/// Writes `endpoint` into the context of an IPv6 socket.
#[inline(always)]
pub(crate) fn name6(ctx: &SockAddrContext, endpoint: &Endpoint) {
    let addr: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the context is this hook's own, and all these fields may be written.
    unsafe {
        (&raw mut (*addr).user_ip6[0]).write_volatile(endpoint.addr[0]);
        (&raw mut (*addr).user_ip6[1]).write_volatile(endpoint.addr[1]);
        (&raw mut (*addr).user_ip6[2]).write_volatile(endpoint.addr[2]);
        (&raw mut (*addr).user_ip6[3]).write_volatile(endpoint.addr[3]);
        (&raw mut (*addr).user_port).write_volatile(u32::from(endpoint.port.to_be()));
    }
}
