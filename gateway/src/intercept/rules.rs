//! The rule table: which destinations pass, which are intercepted, which are refused.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    str::FromStr,
};

use aya::maps::{ArrayOfMaps, LpmTrie, MapData, lpm_trie::Key};
use gateway_ebpf::{Endpoint, MAX_RULES, RuleKey, maps::RULES};

pub use gateway_ebpf::Action;

use super::{InterceptError, bpf};

/// What to do with connections to some destinations.
///
/// # Precedence
///
/// The longest prefix that names the connection's port wins; when none does, the longest prefix for any port.
/// Of two rules for the same network and port, the stricter: refuse over intercept over pass.
/// What no rule matches passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The destinations.
    pub to: Network,
    /// The port; `None` is any port.
    pub port: Option<u16>,
    /// What to do.
    pub action: Action,
}

/// An address and how many of its first bits count. An IPv4-mapped network is the IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    addr: IpAddr,
    prefix: u8,
}

impl Network {
    /// Every IPv4 address.
    pub const ALL_V4: Network = Network { addr: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), prefix: 0 };
    /// Every IPv6 address.
    pub const ALL_V6: Network = Network { addr: IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), prefix: 0 };

    /// The network of `prefix` bits around `addr`; `None` when the family has no so many bits.
    pub fn new(addr: IpAddr, prefix: u8) -> Option<Self> {
        match addr {
            IpAddr::V4(_) => (prefix <= 32).then_some(Self { addr, prefix }),
            IpAddr::V6(v6) if prefix <= 128 => match v6.to_ipv4_mapped() {
                Some(v4) if prefix >= 96 => Some(Self { addr: v4.into(), prefix: prefix - 96 }),
                _ => Some(Self { addr, prefix }),
            },
            IpAddr::V6(_) => None,
        }
    }
}

impl Network {
    /// Its address, whose bits behind the prefix count for nothing.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Its address without the bits that do not count, so that 10.1.2.3/8 and 10.0.0.0/8 are one.
    pub(super) fn first(&self) -> IpAddr {
        match self.addr {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                std::net::Ipv4Addr::from(u32::from(v4) & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                std::net::Ipv6Addr::from(u128::from(v6) & mask).into()
            }
        }
    }

    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.addr.is_ipv4() && Self { addr: ip, prefix: self.prefix }.first() == self.first()
    }

    /// How many bits count.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl From<IpAddr> for Network {
    fn from(addr: IpAddr) -> Self {
        let addr = addr.to_canonical();
        Self { addr, prefix: if addr.is_ipv4() { 32 } else { 128 } }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

/// The text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address or network; expected one like 10.0.3.7, 10.0.0.0/8 or fd00::/8")]
pub struct NoNetwork(pub String);

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.split_once('/') {
            None => text.parse::<IpAddr>().ok().map(Network::from),
            Some((addr, prefix)) => {
                // `str::parse` also takes "+8"
                let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
                let prefix = prefix.parse().ok().filter(|_| digits);
                addr.parse().ok().zip(prefix).and_then(|(addr, prefix)| Network::new(addr, prefix))
            }
        };
        parsed.ok_or_else(|| NoNetwork(text.to_owned()))
    }
}

/// The words of an address, and back.
pub(super) fn endpoint(addr: SocketAddr) -> Endpoint {
    let octets = match addr.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let word = |n: usize| u32::from_ne_bytes(octets[n..n + 4].try_into().expect("four bytes"));
    Endpoint::new([word(0), word(4), word(8), word(12)], addr.port())
}

/// As the gateway dials it: an IPv4-mapped address is an IPv4 address.
pub(super) fn socket_addr(endpoint: &Endpoint) -> SocketAddr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(endpoint.addr) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    SocketAddr::new(IpAddr::from(octets).to_canonical(), endpoint.port)
}

/// `BPF_F_NO_PREALLOC`: the kernel knows tries only like this.
const NO_PREALLOC: u32 = 1;

type Trie = LpmTrie<MapData, RuleKey, gateway_ebpf::Rule>;

/// The slot from which the programs take the table.
pub(super) struct Table {
    slot: ArrayOfMaps<MapData, Trie>,
    /// The same map; the library's own does not say which trie is in it.
    fd: OwnedFd,
    generation: u32,
    /// The id of the trie that is in force.
    trie: Option<u32>,
    /// What is in it; `None` while it is an earlier gateway's.
    rules: Option<Vec<Rule>>,
}

impl Table {
    /// The table that is in force goes on; where there is none yet, an empty one is put there.
    pub(super) fn open(slot: ArrayOfMaps<MapData, Trie>, fd: OwnedFd) -> Result<Self, InterceptError> {
        let mut table = Self { slot, fd, generation: 0, trie: None, rules: None };
        match table.slot.get(&0, 0) {
            Ok(current) => {
                table.generation = generation(&current);
                table.trie = bpf::first_slot(table.fd.as_fd()).ok().flatten();
            }
            Err(_) => table.replace(&[])?,
        }
        Ok(table)
    }

    /// Whether the trie that was put there last is there still. Nobody can have changed it: it is frozen.
    ///
    /// # Errors
    /// It is not; in words.
    pub(super) fn in_force(&self) -> Result<(), String> {
        match bpf::first_slot(self.fd.as_fd()) {
            Ok(Some(there)) if Some(there) == self.trie => Ok(()),
            Ok(Some(_)) => Err("the rule table was exchanged for another".to_owned()),
            Ok(None) => Err("the rule table was taken away".to_owned()),
            Err(error) => Err(format!("the rule table cannot be asked for: {error}")),
        }
    }

    /// Puts the last rules in force again. An earlier gateway's are not known: until this one has put its own in force,
    /// an empty slot refuses everything.
    pub(super) fn restore(&mut self) -> Result<(), InterceptError> {
        let unknown = || InterceptError::io("restore the rules of", RULES)(std::io::ErrorKind::NotFound.into());
        let rules = self.rules.take().ok_or_else(unknown)?;
        let done = self.replace(&rules);
        self.rules = Some(rules);
        done
    }

    /// Puts a new table in force, all at once: every connect sees the old one or the new one.
    pub(super) fn replace(&mut self, rules: &[Rule]) -> Result<(), InterceptError> {
        let keys = keys(rules);
        let count = keys.len() + 1;
        if count > MAX_RULES as usize {
            return Err(InterceptError::TooManyRules { count: keys.len(), most: MAX_RULES - 1 });
        }
        let refused = || InterceptError::map(RULES);
        let mut trie = Trie::create(MAX_RULES, NO_PREALLOC).map_err(refused())?;
        let generation = self.generation.wrapping_add(1);
        for ((key, bits), action) in keys {
            let rule = gateway_ebpf::Rule { action: action as u32, generation };
            trie.insert(&Key::new(bits, key), rule, 0).map_err(refused())?;
        }
        trie.insert(&MARK, gateway_ebpf::Rule { action: Action::Pass as u32, generation }, 0).map_err(refused())?;
        self.slot.set(0, &trie, 0).map_err(refused())?;
        self.generation = generation;
        self.trie = bpf::first_slot(self.fd.as_fd()).map_err(InterceptError::io("read", RULES))?;
        if let Some(id) = self.trie {
            freeze(id);
        }
        self.rules = Some(rules.to_vec());
        Ok(())
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }
}

/// Nobody changes this table any more, not even root: whoever wants other rules in force has to exchange it, which shows.
fn freeze(trie: u32) {
    let frozen = MapData::from_id(trie).map_err(std::io::Error::other).and_then(|map| bpf::freeze(map.fd().as_fd()));
    if let Err(error) = frozen {
        tracing::warn!(%error, "the rule table can be changed by others");
    }
}

/// No connection has family 0: this entry tells the next gateway the table's generation.
const MARK: Key<RuleKey> = Key::new(RuleKey::all_bits(), RuleKey { family: 0, padding: 0, port: 0, addr: [0; 4] });

fn generation(trie: &Trie) -> u32 {
    trie.get(&MARK, 0).map_or(0, |rule| rule.generation)
}

/// One action per key: the strictest.
fn keys(rules: &[Rule]) -> HashMap<(RuleKey, u32), Action> {
    let mut keys = HashMap::with_capacity(rules.len());
    for rule in rules {
        let key = RuleKey::of(&endpoint(SocketAddr::new(rule.to.first(), rule.port.unwrap_or(0))), false);
        match keys.entry((key, key.prefix_bits(rule.to.prefix))) {
            Entry::Vacant(free) => {
                free.insert(rule.action);
            }
            Entry::Occupied(mut taken) => {
                let stricter = taken.get().stricter(rule.action);
                taken.insert(stricter);
            }
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(to: &str, port: Option<u16>, action: Action) -> Rule {
        Rule { to: to.parse().expect("a network"), port, action }
    }

    #[test]
    fn networks_are_read_and_shown() {
        for (text, shown) in [
            ("10.0.3.7", "10.0.3.7/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("::ffff:10.0.3.7", "10.0.3.7/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("fd00::/8", "fd00::/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(text.parse::<Network>().map(|network| network.to_string()), Ok(shown.to_owned()));
        }
        for wrong in ["", "10.0.3", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/+8", "db.internal"] {
            assert_eq!(wrong.parse::<Network>(), Err(NoNetwork(wrong.to_owned())));
        }
    }

    #[test]
    fn one_key_has_one_action_the_strictest() {
        let keys = keys(&[
            rule("10.0.0.0/8", Some(5432), Action::Intercept),
            rule("10.1.2.3/8", Some(5432), Action::Refuse),
            rule("10.9.9.9/8", Some(5432), Action::Pass),
            rule("10.0.0.0/8", None, Action::Pass),
            rule("10.0.0.0/9", Some(5432), Action::Pass),
        ]);
        let mut actions: Vec<_> =
            keys.into_iter().map(|((key, bits), action)| (bits, u16::from_be(key.port), action)).collect();
        actions.sort();
        assert_eq!(
            actions,
            [(32 + 96 + 8, 0, Action::Pass), (32 + 96 + 8, 5432, Action::Refuse), (32 + 96 + 9, 5432, Action::Pass)]
        );
    }

    #[test]
    fn addresses_go_to_the_kernel_and_come_back() {
        for text in ["10.0.3.7:5432", "[fd00::7]:5432", "0.0.0.0:0", "[::]:1"] {
            let addr: SocketAddr = text.parse().expect("an address");
            assert_eq!(socket_addr(&endpoint(addr)), addr);
        }
        let mapped: SocketAddr = "[::ffff:10.0.3.7]:5432".parse().expect("an address");
        assert_eq!(socket_addr(&endpoint(mapped)), "10.0.3.7:5432".parse().expect("an address"));
    }
}
