//! Which callers a rule speaks of: conditions over [`Workload`] and [`Process`].

use std::path::PathBuf;

use super::{
    fields::{self, Fields, Notes},
    pattern::{Pattern, Patterns, Truth},
    yaml::{Node, brief},
};
use crate::{
    operation::Digest,
    workload::{CgroupId, Process, Workload, labels},
};

/// Who calls. Everything that is written must hold; of several globs for one fact, one must match.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    facts: Vec<(Fact, Patterns)>,
    labels: Vec<(String, Patterns)>,
}

/// A fact about the caller that rules can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    Name,
    Unit,
    Namespace,
    ServiceAccount,
    Pod,
    Owner,
    Image,
    ImageDigest,
    User,
    Executable,
    Sha256,
}

const FACTS: [(&str, Fact); 11] = [
    ("name", Fact::Name),
    ("unit", Fact::Unit),
    (labels::NAMESPACE, Fact::Namespace),
    (labels::SERVICE_ACCOUNT, Fact::ServiceAccount),
    (labels::POD, Fact::Pod),
    (labels::OWNER, Fact::Owner),
    (labels::IMAGE, Fact::Image),
    (labels::IMAGE_DIGEST, Fact::ImageDigest),
    ("user", Fact::User),
    ("executable", Fact::Executable),
    ("executable_sha256", Fact::Sha256),
];

const KEYS: [&str; 12] = [
    "name",
    "unit",
    labels::NAMESPACE,
    labels::SERVICE_ACCOUNT,
    labels::POD,
    labels::OWNER,
    labels::IMAGE,
    labels::IMAGE_DIGEST,
    "user",
    "executable",
    "executable_sha256",
    "labels",
];

impl Subject {
    pub(super) fn read(node: &Node, notes: &mut Notes) -> Option<Self> {
        let fields = Fields::read(node, "workload", &KEYS, notes)?;
        let mut subject = Subject::default();
        for (key, fact) in FACTS {
            let Some(value) = fields.find(key) else { continue };
            if fact == Fact::Sha256 {
                check_sha256(value, notes);
            }
            subject.facts.push((fact, fields::patterns(value, key, notes)?));
        }
        if let Some(labels) = fields.find("labels") {
            for (key, value) in Fields::any(labels, "labels", notes)?.entries() {
                subject.labels.push((key.name.clone(), fields::patterns(value, "labels", notes)?));
            }
        }
        Some(subject)
    }

    pub(super) fn truth(&self, workload: &Workload, process: &Process) -> Truth {
        let facts = self.facts.iter().map(|(fact, patterns)| fact.truth(patterns, workload, process));
        let labels = self.labels.iter().map(|(key, patterns)| known(workload, workload.labels.get(key), patterns));
        facts.chain(labels).min().unwrap_or(Truth::Yes)
    }

    /// A caller that this speaks of, for tests that do not say who calls.
    pub(super) fn example(&self) -> Option<Caller> {
        let mut caller = Caller::default();
        for (fact, patterns) in &self.facts {
            caller.put(*fact, patterns.example()?);
        }
        for (key, patterns) in &self.labels {
            caller.workload.labels.insert(key.clone(), patterns.example()?);
        }
        Some(caller)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let facts = self.facts.iter().map(|(fact, patterns)| format!("{} {patterns}", fact.as_str()));
        let labels = self.labels.iter().map(|(key, patterns)| format!("label {key} {patterns}"));
        f.write_str(&facts.chain(labels).collect::<Vec<_>>().join(" and "))
    }
}

impl Fact {
    fn as_str(self) -> &'static str {
        FACTS.iter().find(|(_, fact)| *fact == self).map_or("", |(name, _)| name)
    }

    fn truth(self, patterns: &Patterns, workload: &Workload, process: &Process) -> Truth {
        match self {
            // The name of one who is not known is only a stand-in.
            Fact::Name if workload.doubt().is_some() => Truth::Unsure,
            Fact::Name => known(workload, Some(&workload.name), patterns),
            Fact::Unit => known(workload, workload.unit.as_ref(), patterns),
            Fact::Namespace | Fact::ServiceAccount | Fact::Pod | Fact::Owner => {
                known(workload, workload.labels.get(self.as_str()), patterns)
            }
            Fact::Image | Fact::ImageDigest => match workload.labels.get(self.as_str()) {
                // Every container of a pod has an image: where none is known, it is not known yet.
                None if workload.labels.contains_key(labels::POD) => Truth::Unsure,
                image => known(workload, image, patterns),
            },
            Fact::User => user(patterns, process),
            Fact::Executable => {
                let path = process.executable.as_ref().map(|path| path.to_string_lossy());
                verified(process, path.map(|path| patterns.is_match(&path)))
            }
            Fact::Sha256 => verified(process, process.sha256.map(|digest| patterns.is_match(&digest.to_string()))),
        }
    }
}

/// A fact of the workload. Where the workload itself could not be identified, nothing that is not known is certain.
fn known(workload: &Workload, value: Option<&String>, patterns: &Patterns) -> Truth {
    match value {
        _ if workload.path.is_empty() => Truth::Unsure,
        Some(value) => patterns.is_match(value).into(),
        None if workload.doubt().is_some() => Truth::Unsure,
        None => Truth::No,
    }
}

/// The user by name or, for patterns of digits, by number. A user without a name may be any.
fn user(patterns: &Patterns, process: &Process) -> Truth {
    let uid = process.uid.to_string();
    match &process.user {
        _ if patterns.is_match(&uid) => Truth::Yes,
        Some(name) => patterns.is_match(name).into(),
        None if patterns.iter().all(|pattern| pattern.as_str().bytes().all(|b| b.is_ascii_digit())) => Truth::No,
        None => Truth::Unsure,
    }
}

/// A fact of the executable: certain only where the file that was read is the one that the kernel saw connecting.
fn verified(process: &Process, matches: Option<bool>) -> Truth {
    match matches {
        Some(matches) if process.verified => matches.into(),
        _ => Truth::Unsure,
    }
}

fn check_sha256(node: &Node, notes: &mut Notes) {
    for node in fields::one_or_many(node) {
        let Some(text) = fields::text(node, "executable_sha256", notes) else { continue };
        let hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !hex && Pattern::new(text).is_ok() {
            notes.note(
                node.at,
                format!("`{}` is no SHA-256; expected 64 lower-case hex digits, as `sha256sum` prints", brief(text)),
            );
        }
    }
}

/// Who calls, in a test or in `explain`.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The workload.
    pub workload: Workload,
    /// The process.
    pub process: Process,
}

impl Default for Caller {
    fn default() -> Self {
        let workload = Workload {
            cgroup: CgroupId(0),
            name: "test".to_owned(),
            // Not empty: an empty path says that the workload could not be identified.
            path: "test".to_owned(),
            unit: None,
            labels: Default::default(),
        };
        let process = Process {
            pid: 1,
            uid: 65534,
            gid: 65534,
            user: Some("nobody".to_owned()),
            comm: "test".to_owned(),
            executable: Some(PathBuf::from("/usr/bin/test")),
            sha256: Some(Digest([0; 32])),
            verified: true,
            command_line: Vec::new(),
        };
        Self { workload, process }
    }
}

impl Caller {
    /// A caller with nothing known but the workload's name.
    pub fn named(name: &str) -> Self {
        let mut caller = Caller::default();
        name.clone_into(&mut caller.workload.name);
        name.clone_into(&mut caller.workload.path);
        caller
    }

    /// Sets a fact by the name that rules use for it (`namespace`, `user`, …); `false` where there is no such fact.
    pub fn set(&mut self, fact: &str, value: &str) -> bool {
        match FACTS.iter().find(|(name, _)| *name == fact) {
            Some((_, fact)) => self.put(*fact, value.to_owned()),
            None => return false,
        }
        true
    }

    fn put(&mut self, fact: Fact, value: String) {
        match fact {
            Fact::Name => self.workload.name = value,
            Fact::Unit => self.workload.unit = Some(value),
            Fact::Namespace | Fact::ServiceAccount | Fact::Pod | Fact::Owner | Fact::Image | Fact::ImageDigest => {
                self.workload.labels.insert(fact.as_str().to_owned(), value);
            }
            Fact::User => match value.parse() {
                Ok(uid) => self.process.uid = uid,
                Err(_) => self.process.user = Some(value),
            },
            Fact::Executable => self.process.executable = Some(PathBuf::from(value)),
            Fact::Sha256 => self.process.sha256 = digest(&value),
        }
    }

    /// Reads a test's `workload:`, plain values and no globs.
    pub(super) fn read(node: &Node, notes: &mut Notes) -> Option<Self> {
        let fields = Fields::read(node, "workload", &KEYS, notes)?;
        let mut caller = Caller::default();
        for (key, fact) in FACTS {
            let Some(value) = fields.find(key) else { continue };
            caller.put(fact, fields::text(value, key, notes)?.to_owned());
        }
        if let Some(labels) = fields.find("labels") {
            for (key, value) in Fields::any(labels, "labels", notes)?.entries() {
                let value = fields::text(value, "labels", notes)?.to_owned();
                caller.workload.labels.insert(key.name.clone(), value);
            }
        }
        Some(caller)
    }
}

fn digest(hex: &str) -> Option<Digest> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[n * 2..n * 2 + 2], 16).ok()?;
    }
    Some(Digest(bytes))
}
