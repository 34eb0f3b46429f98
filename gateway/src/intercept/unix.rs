//! UNIX sockets that guarded workloads may not connect to: the patterns, the automaton that the kernel program walks, and
//! the program's loading.
//!
//! # Security
//!
//! The kernel program sees the path as it is dialled and cannot follow it. A name without a slash is therefore refused in
//! every directory, and a path also by its last name wherever its directory is not told plainly: a relative path, one with
//! `.` or `..` in it, one below `/proc`. A symbolic link, hard link or bind mount under *another last name* is not seen:
//! that a workload has no such thing is for whoever gives it its mounts.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::maps::{Array, Map, MapData};
use gateway_ebpf::{MAX_UNIX_STATES, UNIX_REFUSED, UnixRow, maps};

use super::{InterceptError, bpf};

/// Refused whatever the settings say: whoever speaks to a container runtime can start a process that nobody guards.
pub(super) const ALWAYS: [&str; 11] = [
    "docker.sock",
    "docker.raw.sock",
    "dockershim.sock",
    "cri-dockerd.sock",
    "containerd.sock",
    "containerd.sock.ttrpc",
    "crio.sock",
    "podman.sock",
    "buildkitd.sock",
    "/run/containerd/s/**",
    "@/containerd-shim/**",
];

/// The programs: one text, two hooks (`enum bpf_attach_type`).
pub(super) const PROGRAMS: [(&str, u32); 2] = [("connect_unix", 49), ("sendmsg_unix", 50)];

/// The name of that text in the object.
const TEXT: &str = "unix";

/// The states, the first first.
#[derive(Debug)]
pub(super) struct Automaton(Vec<UnixRow>);

impl Automaton {
    /// Of the built-in patterns and these.
    ///
    /// # Errors
    /// A pattern is empty or neither a name nor a whole path, or they need too many states.
    pub(super) fn new(patterns: &[String]) -> Result<Self, InterceptError> {
        let mut nodes = Vec::new();
        let mut first = Vec::new();
        for pattern in ALWAYS.into_iter().chain(patterns.iter().map(String::as_str)) {
            for tokens in readings(pattern)? {
                first.push(nodes.len());
                nodes.extend(tokens);
                nodes.push(Node::End);
            }
        }
        Self::determined(&nodes, first)
    }

    /// The subset construction.
    fn determined(nodes: &[Node], first: Vec<usize>) -> Result<Self, InterceptError> {
        let first = closed(nodes, first);
        let named: BTreeSet<u8> = nodes.iter().filter_map(|node| node.byte()).chain([b'/']).collect();
        let mut sets = vec![first.clone()];
        let mut numbers = HashMap::from([(first, 0_u16)]);
        let mut rows: Vec<UnixRow> = Vec::new();
        while let Some(set) = sets.get(rows.len()).cloned() {
            let mut row = UnixRow { next: [0; 256] };
            row.next[0] = if set.iter().any(|&at| nodes[at] == Node::End) { UNIX_REFUSED } else { 0 };
            // All bytes that no pattern names lead to the same state.
            let other = (1..=u8::MAX).find(|byte| !named.contains(byte));
            for byte in other.into_iter().chain(named.iter().copied()) {
                let next = closed(nodes, set.iter().flat_map(|&at| steps(nodes[at], at, byte)).flatten().collect());
                let number = match numbers.get(&next) {
                    Some(&known) => known,
                    None => {
                        let number = u16::try_from(sets.len()).unwrap_or(u16::MAX);
                        if u32::from(number) >= MAX_UNIX_STATES {
                            return Err(InterceptError::UnixPatterns);
                        }
                        numbers.insert(next.clone(), number);
                        sets.push(next);
                        number
                    }
                };
                if other == Some(byte) {
                    row.next[1..].fill(number);
                } else {
                    row.next[usize::from(byte)] = number;
                }
            }
            rows.push(row);
        }
        Ok(Self(rows))
    }

    /// How many entries the program's map needs.
    pub(super) fn states(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(MAX_UNIX_STATES)
    }

    /// Writes itself into the program's map, and gives that.
    pub(super) fn fill(&self, map: Map) -> Result<OwnedFd, InterceptError> {
        let refused = || InterceptError::map(maps::UNIX_PATHS);
        let Map::Array(data) = map else { return Err(refused()(aya::maps::MapError::InvalidMapType { map_type: 0 })) };
        let fd = data.fd().as_fd().try_clone_to_owned();
        let mut array = Array::<MapData, UnixRow>::try_from(Map::Array(data)).map_err(refused())?;
        for (state, row) in self.0.iter().enumerate() {
            array.set(u32::try_from(state).unwrap_or(u32::MAX), row, 0).map_err(refused())?;
        }
        fd.map_err(InterceptError::io("keep", maps::UNIX_PATHS))
    }

    /// As the kernel program walks it.
    #[cfg(test)]
    fn refuses(&self, path: &[u8]) -> bool {
        let mut state = 0;
        let mut before = 0;
        for &byte in path {
            if byte == b'/' && before == b'/' {
                continue;
            }
            before = byte;
            let byte = if byte == 0 { b'@' } else { byte };
            state = usize::from(self.0[state].next[usize::from(byte)]);
        }
        self.0[state].next[0] == UNIX_REFUSED
    }
}

/// A place in a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    /// This byte.
    Byte(u8),
    /// This byte, or nothing.
    Perhaps(u8),
    /// `?`: any byte but a slash.
    One,
    /// `*`: any bytes but slashes.
    Many,
    /// `**`: any bytes.
    All,
    /// Nothing, or anything that ends with a slash; [`Node::Inside`] follows.
    Directories,
    /// Somewhere in those.
    Inside,
    /// The pattern's end.
    End,
}

impl Node {
    fn byte(self) -> Option<u8> {
        match self {
            Node::Byte(byte) | Node::Perhaps(byte) => Some(byte),
            _ => None,
        }
    }
}

/// Where `byte` leads from `node`.
fn steps(node: Node, at: usize, byte: u8) -> [Option<usize>; 2] {
    let slash = byte == b'/';
    match node {
        Node::Byte(wanted) | Node::Perhaps(wanted) => [(byte == wanted).then_some(at + 1), None],
        Node::One => [(!slash).then_some(at + 1), None],
        Node::Many => [(!slash).then_some(at), None],
        Node::All => [Some(at), None],
        Node::Directories => [Some(at + 1), slash.then_some(at + 2)],
        Node::Inside => [Some(at), slash.then_some(at + 1)],
        Node::End => [None, None],
    }
}

/// With the places that are reached without a byte; sorted.
fn closed(nodes: &[Node], mut set: Vec<usize>) -> Vec<usize> {
    let mut looked = 0;
    while let Some(&at) = set.get(looked) {
        looked += 1;
        let next = match nodes[at] {
            Node::Many | Node::All | Node::Perhaps(_) => at + 1,
            Node::Directories => at + 2,
            _ => continue,
        };
        if !set.contains(&next) {
            set.push(next);
        }
    }
    set.sort_unstable();
    set.dedup();
    set
}

/// Every way in which what `pattern` means may be dialled.
fn readings(pattern: &str) -> Result<Vec<Vec<Node>>, InterceptError> {
    let wrong = || InterceptError::UnixPattern { pattern: pattern.to_owned() };
    if pattern.is_empty() || pattern == "@" {
        return Err(wrong());
    }
    if pattern.starts_with('@') {
        return Ok(vec![nodes(pattern)]);
    }
    if !pattern.contains('/') {
        return Ok(vec![below("", pattern)]);
    }
    let (directory, name) = pattern.strip_prefix('/').and_then(|_| pattern.rsplit_once('/')).ok_or_else(wrong)?;
    if name.is_empty() {
        return Err(wrong());
    }
    let mut readings: Vec<_> =
        spellings(directory).iter().map(|directory| nodes(&format!("{directory}/{name}"))).collect();
    // A name of nothing but wildcards would refuse every such path.
    if name.bytes().any(|byte| byte != b'*' && byte != b'?') {
        readings.push(nodes(name));
        readings.push([vec![Node::One, Node::Many], below("/", name)].concat());
        let dots = [Node::All, Node::Byte(b'/'), Node::Byte(b'.'), Node::Perhaps(b'.')];
        readings.push([dots.to_vec(), below("/", name)].concat());
        readings.push(below("/proc/", name));
    }
    Ok(readings)
}

/// `name` anywhere below `start`.
fn below(start: &str, name: &str) -> Vec<Node> {
    [nodes(start), vec![Node::Directories, Node::Inside], nodes(name)].concat()
}

/// The directory as it is written, as it is without links, and below `/run` and `/var/run` alike.
fn spellings(directory: &str) -> Vec<String> {
    let mut spellings = vec![directory.to_owned()];
    if !directory.contains(['*', '?']) {
        spellings.extend(without_links(Path::new(directory)));
    }
    for n in 0..spellings.len() {
        let other = match (spellings[n].strip_prefix("/var/run"), spellings[n].strip_prefix("/run")) {
            (Some(rest), _) => format!("/run{rest}"),
            (_, Some(rest)) => format!("/var/run{rest}"),
            _ => continue,
        };
        spellings.push(other);
    }
    spellings.sort();
    spellings.dedup();
    spellings
}

fn without_links(directory: &Path) -> Option<String> {
    let existing = directory.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    let (part, real): (&Path, PathBuf) = existing?;
    let whole = real.join(directory.strip_prefix(part).ok()?);
    Some(whole.to_str()?.trim_end_matches('/').to_owned())
}

fn nodes(pattern: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut rest = pattern.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (node, after) = match rest {
            [b'/', b'*', b'*', b'/', ..] => {
                nodes.extend([Node::Byte(b'/'), Node::Directories]);
                (Node::Inside, &rest[4..])
            }
            // The kernel takes any number of slashes for one.
            [b'/', b'/', ..] => {
                rest = after;
                continue;
            }
            [b'*', b'*', after @ ..] => (Node::All, after),
            [b'*', after @ ..] => (Node::Many, after),
            [b'?', after @ ..] => (Node::One, after),
            _ => (Node::Byte(byte), after),
        };
        nodes.push(node);
        rest = after;
    }
    nodes
}

/// Loads the text for each hook. `paths` and `refused` are its maps.
///
/// The library's loader knows neither hook, so the object is read again and its one program given to the kernel by hand.
///
/// # Errors
/// In the kernel's words; `EINVAL` before Linux 6.7.
pub(super) fn load(object: &[u8], paths: BorrowedFd<'_>, refused: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let odd = |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let mut object = aya_obj::Object::parse(object).map_err(|error| odd(&error))?;
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    let declared = std::mem::take(&mut object.maps);
    // The other programs' maps are named here only because all are linked at once.
    let fd = |name: &str| if name == maps::UNIX_PATHS { paths.as_raw_fd() } else { refused.as_raw_fd() };
    let found = declared.iter().map(|(name, map)| (name.as_str(), fd(name), map));
    object.relocate_maps(found, &sections).map_err(|error| odd(&error))?;
    object.relocate_calls(&sections).map_err(|error| odd(&error))?;
    let program = object.programs.get(TEXT).ok_or_else(|| odd(&"the object lacks it"))?;
    let function = object.functions.get(&program.function_key()).ok_or_else(|| odd(&"the object lacks its text"))?;
    let load = |(name, attach_type): &(&str, u32)| {
        bpf::load_sock_addr(&function.instructions, &program.license, name, *attach_type)
    };
    PROGRAMS.iter().map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &[&str], refused: &[&str], free: &[&str]) {
        let patterns: Vec<_> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let automaton = Automaton::new(&patterns).expect("they are patterns");
        for path in refused {
            assert!(automaton.refuses(path.as_bytes()), "{path} is free");
        }
        for path in free {
            assert!(!automaton.refuses(path.as_bytes()), "{path} is refused");
        }
    }

    #[test]
    fn a_name_is_refused_in_every_directory() {
        check(
            &[],
            &[
                "/var/run/docker.sock",
                "/run//docker.sock",
                "docker.sock",
                "../run/docker.sock",
                "/proc/self/cwd/docker.sock",
                "/run/user/1000/podman/podman.sock",
                "/run/containerd/s/0a1b",
                "\0/containerd-shim/0a1b.sock",
            ],
            &["/run/mydocker.sock", "/run/docker.sock2", "/run/docker.sock/x", "/run/docker.soc", "", "/", "\0dbus"],
        );
    }

    #[test]
    fn a_path_is_refused_as_it_stands_and_by_its_name_where_its_directory_is_hidden() {
        check(
            &["/srv/agent/agent.sock", "/run/user/*/bus", "/srv/all/*", "/opt/**/x?.sock", "@broker"],
            &[
                "/srv/agent/agent.sock",
                "/srv//agent///agent.sock",
                "agent.sock",
                "agent/agent.sock",
                "/srv/agent/../agent/agent.sock",
                "/srv/./agent/agent.sock",
                "/proc/self/cwd/agent.sock",
                "/run/user/1000/bus",
                "/var/run/user/1000/bus",
                "/srv/all/whatever",
                "/opt/x1.sock",
                "/opt/a/b/x2.sock",
                "\0broker",
            ],
            &[
                "/var/bot/agent.sock",
                "/srv/agent/agent.sockets",
                "/run/user/1000/a/bus",
                "/srv/all/below/this",
                "all/whatever",
                "/srv/a..b/agent.sock",
                "/opt/x.sock",
                "broker.sock",
            ],
        );
    }

    #[test]
    fn what_is_no_pattern_is_the_operators_mistake() {
        for wrong in ["", "/", "run/docker", "/run/", "@"] {
            let error = Automaton::new(&[wrong.to_owned()]).map(drop).expect_err(wrong).to_string();
            assert!(error.contains("unix_refused"), "{error}");
        }
        let many: Vec<_> = (0..24).map(|n| format!("/srv/*{n}*{n}*")).collect();
        assert!(matches!(Automaton::new(&many), Err(InterceptError::UnixPatterns)));
    }
}
