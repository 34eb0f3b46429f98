//! What is protected: a [`Resource`], read from a `resource:` document.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use serde_json::{Map, Value};

use super::{
    Approval, Decide, OnHold,
    error::{Origin, suggestion},
    fields::{self, Fields, Notes},
    rule::{DECIDE, ON_HOLD},
    terms::{self, ApprovalTerms},
    trial::{self, Trial},
    yaml::{Node, Place, Tree, brief},
};
use crate::{
    mask::{Detector, MaskRule, Masks, Method, RuleError, Select},
    operation::ProtocolName,
};

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
    /// What is masked in its replies.
    pub masks: Arc<Masks>,
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

/// What somebody who knows more than policy has against a resource: its protocol about a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// The resource's key that it is about (`tls`, `postgres`, …).
    pub key: String,
    /// What is wrong and what was expected.
    pub message: String,
}

/// Looks at each resource while a set is loaded, so that what only a protocol understands is refused with file and line
/// as well. An objection refuses the whole set.
pub type Inspector = dyn Fn(&Resource) -> Vec<Objection> + Send + Sync;

/// Where in its document an objection belongs.
pub(super) fn place_of(node: &Node, objection: &Objection) -> Place {
    let Tree::Map(entries) = &node.tree else { return node.at };
    entries.iter().find(|(key, _)| key.name == objection.key).map_or(node.at, |(_, value)| value.at)
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
        .need(
            "default",
            "`default: hold`, `hold_commit`, `allow` or `refuse`: what happens when no policy matches",
            notes,
        )
        .and_then(|node| fields::word(node, "default", &DECIDE, notes));
    let terms = match fields.find("approval") {
        Some(node) => terms::read(node, notes).unwrap_or_default(),
        None => ApprovalTerms::default(),
    };
    let approval = terms.clone().settle(&ApprovalTerms::default());
    if default.is_some_and(Decide::asks_people) && approval.is_none() && terms.is_sound() {
        notes.note(
            fields.find("default").map_or(node.at, |node| node.at),
            "`default: hold` or `hold_commit` needs somebody to ask; expected `approval: { from: [{ group: NAME }] }` in the resource",
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
        masks: Arc::new(masks),
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

fn read_masks(fields: &Fields<'_>, notes: &mut Notes) -> Masks {
    let mut masks = Masks::default();
    let Some(node) = fields.find("mask") else { return masks };
    let Tree::List(nodes) = &node.tree else {
        notes.note(
            node.at,
            format!(
                "expected a list for `mask`, such as `- {{ name: \"*email*\", with: partial }}`, found {}",
                node.noun()
            ),
        );
        return masks;
    };
    for node in nodes {
        read_mask(node, &mut masks, notes);
    }
    masks
}

fn read_mask(node: &Node, masks: &mut Masks, notes: &mut Notes) -> Option<()> {
    let fields = Fields::read(node, "mask", &["column", "name", "detect", "with"], notes)?;
    let with = fields
        .need("with", "`with: redact`, `partial`, `hash` or `null`", notes)
        .and_then(|node| read_method(node, notes));
    let targets: Vec<&str> =
        ["column", "name", "detect"].into_iter().filter(|key| fields.find(key).is_some()).collect();
    let [kind] = targets[..] else {
        notes.note(node.at, "a mask speaks of exactly one of `column`, `name` or `detect`");
        return None;
    };
    let value = fields.find(kind)?;
    let select = match kind {
        "column" => Select::column(fields::text(value, kind, notes)?),
        "name" => Ok(Select::Name(fields::text(value, kind, notes)?.to_owned())),
        _ => Ok(Select::Detect(read_detectors(value, notes)?)),
    };
    let mut wrong = |error: RuleError| notes.note(value.at, error.to_string());
    let rule = MaskRule { select: select.map_err(&mut wrong).ok()?, with: with? };
    masks.add(&rule).map_err(wrong).ok()
}

/// `with: null` is YAML's own null, and is meant.
fn read_method(node: &Node, notes: &mut Notes) -> Option<Method> {
    match node.tree {
        Tree::Null => Some(Method::Null),
        _ => fields::word(node, "with", &Method::ALL.map(|method| (method.as_str(), method)), notes),
    }
}

/// `None` where none is left.
fn read_detectors(node: &Node, notes: &mut Notes) -> Option<Vec<Detector>> {
    let words = Detector::ALL.map(|detector| (detector.as_str(), detector));
    let nodes = fields::some(node, "detect", notes);
    let detectors: Vec<_> = nodes.iter().filter_map(|node| fields::word(node, "detect", &words, notes)).collect();
    (!detectors.is_empty()).then_some(detectors)
}
