//! What is protected: a [`Resource`], read from a `resource:` document.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Approval, Decide, OnHold,
    error::{Origin, suggestion},
    fields::{self, Fields, Notes},
    rule::{self, ApprovalTerms, DECIDE, ON_HOLD},
    trial::{self, Trial},
    yaml::{Node, Place, Tree, brief},
};
use crate::operation::ProtocolName;

/// What is protected: a backend that guarded workloads reach only through the gateway.
#[derive(Debug)]
pub struct Resource {
    /// Its name, unique in the set.
    pub name: Arc<str>,
    /// The protocol that is spoken there.
    pub protocol: ProtocolName,
    /// Where it is. At least one.
    pub endpoints: Vec<Endpoint>,
    /// What happens to an operation that no policy matches.
    pub default: Decide,
    /// Who is asked when the default holds, and whom policies without approvers of their own ask.
    pub approval: Option<Arc<Approval>>,
    /// What the client of an operation held by the default sees.
    pub on_hold: OnHold,
    /// What is masked in its replies, in the order in which it is written.
    pub masks: Vec<MaskRule>,
    /// `tls`, `credential` and the section named like the protocol, as written: the protocol reads them itself.
    pub extra: Map<String, Value>,
    /// Where it is written.
    pub origin: Origin,
    /// What policies inherit from its `approval`.
    pub(super) terms: ApprovalTerms,
    /// Tests of its default, written beside it.
    pub(super) trials: Vec<Trial>,
}

/// Where a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host as written: an address or a name.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The addresses that need no resolver: a literal address, or both loopbacks for `localhost`.
    /// Empty for any other name, which whoever dials or intercepts must resolve.
    pub addresses: Vec<IpAddr>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Endpoint {
    /// Reads `host:port`; an IPv6 address stands in brackets.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wanted = "expected `host:port`, such as `10.0.3.7:5432`, `db.example:5432` or `[::1]:5432`";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("it has no port; {wanted}"))?;
        let port: u16 = match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("`{}` is no port from 1 to 65535; {wanted}", brief(port))),
        };
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let addresses = match bracketed {
            Some(inside) => {
                vec![IpAddr::V6(inside.parse().map_err(|_| format!("not an IPv6 address in []; {wanted}"))?)]
            }
            None if host.contains(':') => return Err(format!("an IPv6 address needs brackets; {wanted}")),
            None if host.eq_ignore_ascii_case("localhost") => {
                vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
            }
            None => host.parse::<Ipv4Addr>().map(IpAddr::V4).into_iter().collect(),
        };
        if addresses.iter().any(IpAddr::is_unspecified) {
            return Err("the unspecified address is no destination; name each address".to_owned());
        }
        if addresses.is_empty() && !is_host_name(host) {
            return Err(format!("`{}` is neither an address nor a host name; {wanted}", brief(host)));
        }
        let host = bracketed.unwrap_or(host).trim_end_matches('.').to_ascii_lowercase();
        // A mapped address is the IPv4 address: the kernel and the guard see only that one.
        Ok(Self { host, port, addresses: addresses.iter().map(IpAddr::to_canonical).collect() })
    }
}

fn is_host_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    // All digits and dots is an address written wrong (`10.0.3.777`), never a name.
    host.len() <= 253 && host.split('.').all(label) && !host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// One thing to mask in replies, as plain data: the mask compiles it, and an [`Inspector`] has it checked at load.
///
/// Serialises as it is written in the file: `{"column": "public.customers.email", "with": "partial"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MaskRule {
    /// What it speaks of.
    #[serde(flatten)]
    pub target: MaskTarget,
    /// What stands in place of a value.
    pub with: MaskWith,
    /// Where it is written.
    #[serde(skip)]
    pub origin: Origin,
}

/// What a [`MaskRule`] speaks of, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskTarget {
    /// A column by lineage, whatever the reply calls it: a glob over `schema.table.column`.
    Column(String),
    /// A column by the name that the reply gives it: a glob.
    Name(String),
    /// Values that look like something: the detectors' names.
    Detect(Vec<String>),
}

/// What stands in place of a masked value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskWith {
    /// A fixed mark.
    Redact,
    /// A part of the value, the rest hidden.
    Partial,
    /// A digest: equal values stay equal.
    Hash,
    /// Nothing at all (SQL's NULL).
    Null,
}

const MASK_WITH: [(&str, MaskWith); 4] =
    [("redact", MaskWith::Redact), ("partial", MaskWith::Partial), ("hash", MaskWith::Hash), ("null", MaskWith::Null)];

/// What somebody who knows more than policy has against a resource: its protocol about a section, the mask about a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// The resource's key that it is about (`tls`, `postgres`, `mask`, …).
    pub key: String,
    /// Which entry, where the key holds a list.
    pub index: Option<usize>,
    /// What is wrong and what was expected.
    pub message: String,
}

/// Looks at each resource while a set is loaded, so that what only a protocol or the mask understands is refused with
/// file and line as well. An objection refuses the whole set.
pub type Inspector = dyn Fn(&Resource) -> Vec<Objection> + Send + Sync;

/// Where in its document an objection belongs.
pub(super) fn place_of(node: &Node, objection: &Objection) -> Place {
    let Tree::Map(entries) = &node.tree else { return node.at };
    let Some((_, value)) = entries.iter().find(|(key, _)| key.name == objection.key) else { return node.at };
    match (objection.index, &value.tree) {
        (Some(index), Tree::List(nodes)) => nodes.get(index).map_or(value.at, |node| node.at),
        _ => value.at,
    }
}

const KEYS: [&str; 9] =
    ["resource", "protocol", "endpoints", "default", "approval", "on_hold", "mask", "tests", "description"];

/// Sections that every protocol may have; each protocol checks them itself.
const PROTOCOL_KEYS: [&str; 2] = ["tls", "credential"];

/// Reads a `resource:` document.
pub(super) fn read(node: &Node, notes: &mut Notes) -> Option<Resource> {
    let fields = Fields::any(node, "resource", notes)?;
    let name = fields.find("resource").and_then(|node| fields::name(node, "resource", notes));
    let protocol = read_protocol(&fields, notes);
    let extra = read_extra(&fields, protocol, notes);
    let endpoints = read_endpoints(&fields, notes);
    let default = fields
        .need("default", "`default: hold`, `allow` or `refuse`: what happens when no policy matches", notes)
        .and_then(|node| fields::word(node, "default", &DECIDE, notes));
    let terms = match fields.find("approval") {
        Some(node) => rule::read_approval(node, notes).unwrap_or_default(),
        None => ApprovalTerms::default(),
    };
    let approval = terms.clone().settle(&ApprovalTerms::default());
    if default == Some(Decide::Hold) && approval.is_none() && terms.is_sound() {
        notes.note(
            fields.find("default").map_or(node.at, |node| node.at),
            "`default: hold` needs somebody to ask; expected `approval: { from: [{ group: NAME }] }` in the resource",
        );
    }
    let masks = read_masks(&fields, notes);
    let trials = trial::read_all(&fields, notes);
    Some(Resource {
        name: name?.into(),
        protocol: protocol?.to_owned().into(),
        endpoints,
        default: default?,
        approval: approval.map(Arc::new),
        on_hold: fields.word("on_hold", &ON_HOLD, notes).unwrap_or_default(),
        masks,
        extra,
        origin: notes.origin(node.at),
        terms,
        trials,
    })
}

fn read_protocol<'n>(fields: &Fields<'n>, notes: &mut Notes) -> Option<&'n str> {
    let node = fields.need("protocol", "the protocol's name, such as `protocol: postgres`", notes)?;
    let found = fields::name(node, "protocol", notes)?;
    if !found.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        notes.note(node.at, format!("`{}` is no protocol's name; expected one such as `postgres`", brief(found)));
        return None;
    }
    Some(found)
}

/// Keys that are not policy's own: known ones are kept for the protocol, others are errors.
fn read_extra(fields: &Fields<'_>, protocol: Option<&str>, notes: &mut Notes) -> Map<String, Value> {
    let mut known: Vec<&str> = KEYS.into_iter().chain(PROTOCOL_KEYS).collect();
    known.extend(protocol);
    let mut extra = Map::new();
    for (key, node) in fields.entries() {
        if KEYS.contains(&key.name.as_str()) {
            continue;
        }
        if known.contains(&key.name.as_str()) {
            extra.insert(key.name.clone(), node.to_json());
        } else {
            let hint = suggestion(&key.name, &known);
            notes.note(key.at, format!("unknown key `{}` in resource, {hint}", brief(&key.name)));
        }
    }
    extra
}

fn read_endpoints(fields: &Fields<'_>, notes: &mut Notes) -> Vec<Endpoint> {
    let Some(node) = fields.need("endpoints", "a list such as `endpoints: [\"10.0.3.7:5432\"]`", notes) else {
        return Vec::new();
    };
    let nodes = fields::one_or_many(node);
    if nodes.is_empty() {
        notes.note(node.at, "`endpoints` is empty; expected at least one `host:port`");
    }
    let mut endpoints = Vec::new();
    for node in nodes {
        let Some(text) = fields::text(node, "endpoints", notes) else { continue };
        match Endpoint::parse(text) {
            Ok(endpoint) if endpoints.contains(&endpoint) => {
                notes.note(node.at, format!("endpoint `{endpoint}` is listed twice"));
            }
            Ok(endpoint) => endpoints.push(endpoint),
            Err(error) => notes.note(node.at, format!("`{}` is no endpoint: {error}", brief(text))),
        }
    }
    endpoints
}

fn read_masks(fields: &Fields<'_>, notes: &mut Notes) -> Vec<MaskRule> {
    let Some(node) = fields.find("mask") else { return Vec::new() };
    let Tree::List(nodes) = &node.tree else {
        notes.note(
            node.at,
            format!(
                "expected a list for `mask`, such as `- {{ name: \"*email*\", with: partial }}`, found {}",
                node.noun()
            ),
        );
        return Vec::new();
    };
    nodes.iter().filter_map(|node| read_mask(node, notes)).collect()
}

fn read_mask(node: &Node, notes: &mut Notes) -> Option<MaskRule> {
    let fields = Fields::read(node, "mask", &["column", "name", "detect", "with"], notes)?;
    let with = fields
        .need("with", "`with: redact`, `partial`, `hash` or `null`", notes)
        .and_then(|node| read_mask_with(node, notes));
    let targets: Vec<&str> =
        ["column", "name", "detect"].into_iter().filter(|key| fields.find(key).is_some()).collect();
    let [kind] = targets[..] else {
        notes.note(node.at, "a mask speaks of exactly one of `column`, `name` or `detect`");
        return None;
    };
    let value = fields.find(kind)?;
    let target = match kind {
        "column" => MaskTarget::Column(fields::text(value, kind, notes)?.to_owned()),
        "name" => MaskTarget::Name(fields::pattern(value, kind, notes)?.as_str().to_owned()),
        _ => MaskTarget::Detect(read_detectors(value, notes)),
    };
    Some(MaskRule { target, with: with?, origin: notes.origin(node.at) })
}

/// `with: null` is YAML's own null, and is meant.
fn read_mask_with(node: &Node, notes: &mut Notes) -> Option<MaskWith> {
    match node.tree {
        Tree::Null => Some(MaskWith::Null),
        _ => fields::word(node, "with", &MASK_WITH, notes),
    }
}

fn read_detectors(node: &Node, notes: &mut Notes) -> Vec<String> {
    let nodes = fields::some(node, "detect", notes);
    nodes.iter().filter_map(|node| fields::name(node, "detect", notes)).map(str::to_owned).collect()
}
