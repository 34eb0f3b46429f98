//! All resources and rules of a directory, checked as a whole and never changed afterwards.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::{
    Approval, Approver, Decide, Endpoint, Mode, Resource, Who,
    error::{Origin, PolicyError, PolicyErrors, nearest},
    fields::Notes,
    files::{self, Source},
    pattern::Pattern,
    resource::{self, Inspector},
    rule::{self, Rule},
    yaml::{self, Node, Place, Tree, brief},
};
use crate::operation::Digest;

/// All resources and rules, compiled. Immutable: a reload makes a new one.
#[derive(Debug)]
pub struct PolicySet {
    resources: Vec<Arc<Resource>>,
    rules: Vec<Arc<Rule>>,
    by_address: HashMap<(IpAddr, u16), usize>,
    by_name: HashMap<(String, u16), usize>,
    digest: Digest,
    generation: u64,
}

impl PolicySet {
    /// Loads every policy file below `path` (or `path` itself).
    ///
    /// # Errors
    /// Everything that is wrong in any of the files; with one error there is no set.
    pub fn load(path: &Path) -> Result<Self, PolicyErrors> {
        Self::load_inspected(path, &|_| Vec::new())
    }

    /// Loads like [`PolicySet::load`], with what protocols and the mask have to say about each resource.
    ///
    /// # Errors
    /// Everything that is wrong in any of the files, objections included.
    pub fn load_inspected(path: &Path, inspect: &Inspector) -> Result<Self, PolicyErrors> {
        match files::read(path) {
            Ok(sources) => Self::compile(&sources, inspect),
            Err(errors) => Err(PolicyErrors::some(errors).expect("reading fails only with an error")),
        }
    }

    /// Loads from memory: pairs of a file's name and its bytes.
    ///
    /// # Errors
    /// As [`PolicySet::load`].
    pub fn parse<'s>(files: impl IntoIterator<Item = (&'s str, &'s [u8])>) -> Result<Self, PolicyErrors> {
        let sources: Vec<Source> = files
            .into_iter()
            .map(|(name, bytes)| Source { name: Path::new(name).into(), bytes: bytes.to_owned() })
            .collect();
        Self::compile(&sources, &|_| Vec::new())
    }

    fn compile(sources: &[Source], inspect: &Inspector) -> Result<Self, PolicyErrors> {
        let mut draft = Draft::default();
        for source in sources {
            draft.read(source, inspect);
        }
        draft.check();
        match PolicyErrors::some(std::mem::take(&mut draft.errors)) {
            Some(errors) => Err(errors),
            None => Ok(draft.finish(digest(sources))),
        }
    }

    /// The digest of all files: their names and bytes, in the order of their names.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many policies there are.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Which load of its [`super::Policies`] this is, from 1; 0 for a set that was loaded by itself.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn with_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// The resources, in the order of the files.
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// The resource of that name.
    pub fn resource_named(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|resource| &*resource.name == name)
    }

    /// Every endpoint of every resource, for whoever intercepts and resolves names.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Arc<Resource>, &Endpoint)> {
        self.resources.iter().flat_map(|resource| resource.endpoints.iter().map(move |endpoint| (resource, endpoint)))
    }

    /// The resource at `addr`, or at the host name that the destination was resolved from.
    ///
    /// A literal address wins over a name. IPv4-mapped addresses are the IPv4 address.
    pub fn resource_for(&self, addr: SocketAddr, name: Option<&str>) -> Option<&Arc<Resource>> {
        let by_address = self.by_address.get(&(addr.ip().to_canonical(), addr.port()));
        let by_name = || {
            let name = name?.trim_end_matches('.').to_ascii_lowercase();
            self.by_name.get(&(name, addr.port()))
        };
        by_address.or_else(by_name).map(|index| &self.resources[*index])
    }

    /// Everybody whom a policy or a resource names as an approver, with who names them.
    pub fn approvers(&self) -> impl Iterator<Item = (&str, Who)> {
        let of_rules = self.rules.iter().flat_map(|rule| rule.terms.approvers().map(|who| (&*rule.name, who)));
        let of_resources =
            self.resources.iter().flat_map(|resource| resource.terms.approvers().map(|who| (&*resource.name, who)));
        of_rules.chain(of_resources)
    }

    /// The policies, in the order of the files, as people see them.
    pub fn views(&self) -> impl Iterator<Item = RuleView<'_>> {
        self.rules.iter().map(|rule| RuleView {
            name: &rule.name,
            origin: &rule.origin,
            decide: rule.decide,
            mode: rule.mode,
            reason: &rule.reason,
            asks: rule.terms.approvers().map(|who| who.to_string()).collect(),
        })
    }

    pub(super) fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }
}

/// A policy, as people see it.
#[derive(Debug, Clone)]
pub struct RuleView<'s> {
    /// Its name.
    pub name: &'s str,
    /// Where it is written.
    pub origin: &'s Origin,
    /// What it decides.
    pub decide: Decide,
    /// Whether it acts.
    pub mode: Mode,
    /// Why, in its words.
    pub reason: &'s str,
    /// Whom it names, in words; empty where the resource or nobody says.
    pub asks: BTreeSet<String>,
}

/// A set that is being put together.
#[derive(Default)]
struct Draft {
    resources: Vec<Resource>,
    rules: Vec<Rule>,
    errors: Vec<PolicyError>,
    /// The first file, for what is wrong with the set as a whole.
    first: Option<Origin>,
    /// A document could not be read, so what it would have named is not known to be missing.
    incomplete: bool,
}

impl Draft {
    fn read(&mut self, source: &Source, inspect: &Inspector) {
        let mut notes = Notes::new(Arc::clone(&source.name));
        self.first.get_or_insert_with(|| notes.origin(Place::default()));
        match yaml::documents(&source.bytes) {
            Ok(documents) => documents.iter().for_each(|node| self.document(node, inspect, &mut notes)),
            Err(broken) => {
                self.incomplete = true;
                notes.note(broken.at, broken.message);
            }
        }
        self.errors.extend(notes.into_errors());
    }

    fn document(&mut self, node: &Node, inspect: &Inspector, notes: &mut Notes) {
        let keys = match &node.tree {
            Tree::Map(entries) => entries.iter().map(|(key, _)| (key.name.as_str(), key.at)).collect(),
            _ => Vec::new(),
        };
        let has = |wanted: &str| keys.iter().any(|(key, _)| *key == wanted);
        let read = match (has("resource"), has("policy")) {
            (true, false) => resource::read(node, notes).map(|resource| {
                for objection in inspect(&resource) {
                    notes.note(resource::place_of(node, &objection), objection.message.as_str());
                }
                self.resources.push(resource);
            }),
            (false, true) => rule::read(node, notes).map(|rule| self.rules.push(rule)),
            _ => {
                notes.note(node.at, not_a_document(node, &keys));
                None
            }
        };
        self.incomplete |= read.is_none();
    }

    fn check(&mut self) {
        self.check_names();
        self.check_endpoints();
        self.check_targets();
        self.check_approvers();
        self.check_trials();
        self.check_presence();
    }

    /// A file that was emptied by accident must not take the place of a set that governs something.
    fn check_presence(&mut self) {
        if self.resources.is_empty() && !self.incomplete {
            let first = self.rules.first().map(|rule| rule.origin.clone()).or_else(|| self.first.clone());
            let Some(at) = first else { return };
            self.error(&at, "there is no resource; expected a document with `resource: NAME`".to_owned());
        }
    }

    fn error(&mut self, at: &Origin, message: String) {
        self.errors.push(PolicyError { at: at.clone(), message });
    }

    fn check_names(&mut self) {
        let mut seen: BTreeMap<(&str, Arc<str>), Origin> = BTreeMap::new();
        let mut twice = Vec::new();
        let resources = self.resources.iter().map(|resource| ("resource", &resource.name, &resource.origin));
        let rules = self.rules.iter().map(|rule| ("policy", &rule.name, &rule.origin));
        for (kind, name, origin) in resources.chain(rules) {
            if let Some(first) = seen.get(&(kind, Arc::clone(name))) {
                twice.push((origin.clone(), format!("{kind} `{name}` is written twice; the first is at {first}")));
            } else {
                seen.insert((kind, Arc::clone(name)), origin.clone());
            }
        }
        for (at, message) in twice {
            self.error(&at, message);
        }
    }

    fn check_endpoints(&mut self) {
        let mut owners: HashMap<(String, u16), Arc<str>> = HashMap::new();
        let mut clashes = Vec::new();
        for resource in &self.resources {
            for endpoint in &resource.endpoints {
                let mut hosts: Vec<String> = endpoint.addresses.iter().map(IpAddr::to_string).collect();
                if hosts.is_empty() {
                    hosts.push(endpoint.host.clone());
                }
                for host in hosts {
                    let owner = owners.entry((host, endpoint.port)).or_insert_with(|| Arc::clone(&resource.name));
                    if *owner != resource.name {
                        let message = format!("endpoint `{endpoint}` belongs to resource `{owner}` already");
                        clashes.push((resource.origin.clone(), message));
                    }
                }
            }
        }
        for (at, message) in clashes {
            self.error(&at, message);
        }
    }

    /// A rule about resources that do not exist would silently never apply: a spelling error must not open a door.
    fn check_targets(&mut self) {
        let names: Vec<Arc<str>> = self.resources.iter().map(|resource| Arc::clone(&resource.name)).collect();
        let missing = |pattern: &Pattern| !names.iter().any(|name| pattern.is_match(name));
        let mut lost = Vec::new();
        for rule in self.rules.iter().filter(|_| !self.incomplete) {
            let conditions = std::iter::once(&rule.condition).chain(&rule.exceptions);
            let patterns = conditions.filter_map(|condition| condition.resources.as_ref());
            for pattern in patterns.flat_map(super::pattern::Patterns::iter).filter(|pattern| missing(pattern)) {
                let hint = match nearest(pattern.as_str(), names.iter().map(|name| &**name)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("expected one of {}", names.join(", ")),
                };
                let shown = brief(pattern.as_str());
                lost.push((rule.origin.clone(), format!("policy `{}`: no resource `{shown}`; {hint}", rule.name)));
            }
        }
        for (at, message) in lost {
            self.error(&at, message);
        }
    }

    fn check_approvers(&mut self) {
        let mut nobody = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.decide.asks_people() && rule.mode == Mode::Enforce) {
            if !rule.terms.is_sound() {
                continue;
            }
            for resource in self.resources.iter().filter(|resource| is_about(rule, resource)) {
                let (policy, name) = (&rule.name, &resource.name);
                let Some(approval) = rule.terms.clone().settle(&resource.terms) else {
                    nobody.push((
                        rule.origin.clone(),
                        format!(
                            "policy `{policy}` holds, but nobody could approve on `{name}`; \
                             expected `approval: {{ from: [{{ group: NAME }}] }}` here or in the resource"
                        ),
                    ));
                    continue;
                };
                let lock_time = rule.terms.lock_time(&resource.terms);
                let is_late = |approver: &Approver| approver.after >= lock_time;
                if rule.terms.counts_inherited_steps(&resource.terms) {
                    nobody.push((
                        rule.origin.clone(),
                        format!(
                            "policy `{policy}` has `quorum`, but `{name}` asks in steps, which say themselves how many \
                             are needed; write `from` beside it, or `steps`"
                        ),
                    ));
                }
                if rule.decide == Decide::HoldCommit && approval.approvers().all(is_late) {
                    let lock_time = humantime::format_duration(lock_time);
                    nobody.push((
                        rule.origin.clone(),
                        format!(
                            "policy `{policy}` holds commits on `{name}` for no longer than {lock_time} (`lock_time`), \
                             which ends before anybody in `from` may decide; make it longer than their `after`"
                        ),
                    ));
                }
            }
        }
        for (at, message) in nobody {
            self.error(&at, message);
        }
    }

    fn check_trials(&mut self) {
        let names: Vec<Arc<str>> = self.resources.iter().map(|resource| Arc::clone(&resource.name)).collect();
        let of_rules = self.rules.iter().flat_map(|rule| &rule.trials);
        let trials = of_rules.chain(self.resources.iter().flat_map(|resource| &resource.trials));
        let lost: Vec<_> = trials
            .filter_map(|trial| Some((trial, trial.resource.as_deref()?)))
            .filter(|(_, wanted)| !self.incomplete && !names.iter().any(|name| &**name == *wanted))
            .map(|(trial, wanted)| (trial.origin.clone(), format!("no resource `{}` for this test", brief(wanted))))
            .collect();
        for (at, message) in lost {
            self.error(&at, message);
        }
    }

    fn finish(self, digest: Digest) -> PolicySet {
        let (mut by_address, mut by_name) = (HashMap::new(), HashMap::new());
        for (index, resource) in self.resources.iter().enumerate() {
            for endpoint in &resource.endpoints {
                by_name.insert((endpoint.host.clone(), endpoint.port), index);
                by_address.extend(endpoint.addresses.iter().map(|ip| ((*ip, endpoint.port), index)));
            }
        }
        PolicySet {
            resources: self.resources.into_iter().map(Arc::new).collect(),
            rules: self.rules.into_iter().map(Arc::new).collect(),
            by_address,
            by_name,
            digest,
            generation: 0,
        }
    }
}

/// Whom a rule asks about a resource.
pub(super) fn approval(rule: &Rule, resource: &Resource) -> Option<Arc<Approval>> {
    rule.terms.clone().settle(&resource.terms).map(Arc::new)
}

/// Whether a rule speaks of a resource at all.
pub(super) fn is_about(rule: &Rule, resource: &Resource) -> bool {
    rule.condition.resources.as_ref().is_none_or(|patterns| patterns.is_match(&resource.name))
}

fn not_a_document(node: &Node, keys: &[(&str, Place)]) -> String {
    match &node.tree {
        Tree::Map(_) if keys.iter().filter(|(key, _)| ["resource", "policy"].contains(key)).count() == 2 => {
            "this document is a resource and a policy at once; separate them with a line `---` \
             (a policy names its resource inside `match:`)"
                .to_owned()
        }
        Tree::Map(_) => {
            let near = keys.iter().find_map(|(key, _)| Some((key, nearest(key, ["resource", "policy"])?)));
            let hint = near.map(|(key, near)| format!("; did you mean `{near}` by `{}`?", brief(key)));
            format!("expected a document with `resource: NAME` or `policy: NAME`{}", hint.unwrap_or_default())
        }
        _ => format!("expected a document with `resource: NAME` or `policy: NAME`, found {}", node.noun()),
    }
}

fn digest(sources: &[Source]) -> Digest {
    let mut hasher = Sha256::new();
    for source in sources {
        let name = source.name.file_name().unwrap_or_default().as_encoded_bytes();
        for part in [name, &source.bytes] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    Digest(hasher.finalize().into())
}
