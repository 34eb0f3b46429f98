//! When a rule applies: `match:`, `when:` and the exceptions under `unless:`.
//!
//! # Correctness
//! The same words mean two things, depending on which side is the safe one:
//!
//! - a rule that holds or refuses is **touched**: one shared effect, one object that matches, is enough;
//! - a rule that allows must **cover** the operation: all its effects, and all its objects of the kinds it names.
//!   Effect `unknown` is covered only where the rule names it.
//!
//! An exception (`unless`) is the other way round: what takes a hold away must cover, what takes an allow away is
//! touched. What cannot be told ([`Truth::Unsure`]) ends, through the same symmetry, on the strict side.

use std::sync::Arc;

use super::{
    Decide, Resource,
    fields::{self, Fields, Notes},
    pattern::{Pattern, Patterns, Qualified, Truth},
    subject::Subject,
    when::{Facts, When},
    yaml::{Node, Tree, brief},
};
use crate::{
    operation::{Effect, Effects, Object, Operation},
    workload::{Process, Workload},
};

/// How much of an operation a condition must speak of to match it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    /// A part is enough: matching makes the verdict stricter.
    Touch,
    /// All of it: matching makes the verdict more lenient.
    Cover,
}

impl Sense {
    /// How a rule that decides this matches.
    pub(super) fn of(decide: Decide) -> Self {
        if decide == Decide::Allow { Sense::Cover } else { Sense::Touch }
    }

    /// How its exceptions match.
    pub(super) fn of_exception(decide: Decide) -> Self {
        if decide == Decide::Allow { Sense::Touch } else { Sense::Cover }
    }
}

/// The part of a condition that was decisive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aspect {
    Workload,
    Resource,
    Kind,
    Effects,
    Objects,
    When,
}

/// The answer of a condition, with the part that kept it from a plain yes.
pub(super) type Answer = (Truth, Option<Aspect>);

/// What must hold for a rule, or for an exception, to apply. Everything that is written must hold.
#[derive(Debug, Default)]
pub(super) struct Condition {
    pub(super) subject: Subject,
    pub(super) resources: Option<Patterns>,
    pub(super) effects: Option<Effects>,
    objects: Vec<ObjectMatch>,
    kinds: Option<Patterns>,
    pub(super) when: Option<When>,
}

/// Objects of one kind, or of any, by name.
#[derive(Debug)]
struct ObjectMatch {
    kind: Option<Pattern>,
    names: Vec<Qualified>,
}

const KEYS: [&str; 5] = ["workload", "resource", "effects", "objects", "kinds"];
const EXCEPTION_KEYS: [&str; 6] = ["workload", "resource", "effects", "objects", "kinds", "when"];

impl Condition {
    /// Reads `match:`; the rule's own `when` stands beside it, not in it.
    pub(super) fn read_match(node: &Node, notes: &mut Notes) -> Option<Self> {
        Self::read(Fields::read(node, "match", &KEYS, notes)?, notes)
    }

    /// Reads `unless:`: one exception or a list of them.
    pub(super) fn read_exceptions(node: &Node, notes: &mut Notes) -> Vec<Self> {
        let nodes = fields::one_or_many(node).iter();
        nodes.filter_map(|node| Self::read_exception(node, notes)).collect()
    }

    fn read_exception(node: &Node, notes: &mut Notes) -> Option<Self> {
        let fields = Fields::read(node, "unless", &EXCEPTION_KEYS, notes)?;
        if fields.entries().is_empty() {
            notes.note(node.at, "`unless` says nothing, which would except everything; expected what it excepts");
            return None;
        }
        Self::read(fields, notes)
    }

    fn read(fields: Fields<'_>, notes: &mut Notes) -> Option<Self> {
        let subject = fields.find("workload").map(|node| Subject::read(node, notes));
        let resources = fields.find("resource").map(|node| fields::patterns(node, "resource", notes));
        let effects = fields.find("effects").map(|node| fields::effects(node, notes));
        let objects = fields.find("objects").map(|node| read_objects(node, notes));
        let kinds = fields.find("kinds").map(|node| fields::patterns(node, "kinds", notes));
        let when = fields.find("when").map(|node| read_when(node, notes));
        // Everything is read before anything is given up, so that every error is noted.
        Some(Self {
            subject: subject.unwrap_or_else(|| Some(Subject::default()))?,
            resources: transposed(resources)?,
            effects: transposed(effects)?,
            objects: objects.unwrap_or_default(),
            kinds: transposed(kinds)?,
            when: transposed(when)?,
        })
    }

    /// What can be told once for a connection.
    pub(super) fn of_connection(&self, workload: &Workload, process: &Process, resource: &Resource) -> Answer {
        let named = self.resources.as_ref().is_none_or(|patterns| patterns.is_match(&resource.name));
        if !named {
            return (Truth::No, Some(Aspect::Resource));
        }
        match self.subject.truth(workload, process) {
            Truth::Yes => (Truth::Yes, None),
            other => (other, Some(Aspect::Workload)),
        }
    }

    /// What depends on the operation. `facts` is called only where everything before `when` matches.
    pub(super) fn of_operation<'f>(
        &self,
        operation: &Operation,
        effects: Effects,
        sense: Sense,
        facts: &mut dyn FnMut() -> &'f Facts,
    ) -> Answer {
        if !self.covers_effects(effects, sense) {
            return (Truth::No, Some(Aspect::Effects));
        }
        if !self.kinds.as_ref().is_none_or(|kinds| kinds.is_match(&operation.kind)) {
            return (Truth::No, Some(Aspect::Kind));
        }
        let objects = self.objects_truth(&operation.meaning.objects, sense);
        if objects == Truth::No {
            return (Truth::No, Some(Aspect::Objects));
        }
        let when = self.when.as_ref().map_or(Truth::Yes, |when| when.truth(facts()).0);
        match when.min(objects) {
            Truth::Yes => (Truth::Yes, None),
            lowest if lowest == when => (lowest, Some(Aspect::When)),
            lowest => (lowest, Some(Aspect::Objects)),
        }
    }

    /// Whether anything here depends on the operation.
    pub(super) fn is_about_operation(&self) -> bool {
        self.effects.is_some() || self.kinds.is_some() || self.when.is_some() || !self.objects.is_empty()
    }

    fn covers_effects(&self, effects: Effects, sense: Sense) -> bool {
        match (self.effects, sense) {
            (Some(named), Sense::Touch) => named.intersects(effects),
            (Some(named), Sense::Cover) => effects.within(named),
            (None, _) => true,
        }
    }

    fn objects_truth(&self, objects: &[Object], sense: Sense) -> Truth {
        if self.objects.is_empty() {
            return Truth::Yes;
        }
        let best = |object: &Object| self.objects.iter().map(|m| m.truth(object)).max().unwrap_or(Truth::No);
        match sense {
            Sense::Touch => objects.iter().map(best).max().unwrap_or(Truth::No),
            // No object at all is not covered: a rule about objects says nothing about an operation without any.
            Sense::Cover => {
                let spoken_of = objects.iter().filter(|object| self.objects.iter().any(|m| m.is_about(object)));
                spoken_of.map(best).min().unwrap_or(Truth::No)
            }
        }
    }

    /// Why `aspect` was decisive, for `explain`.
    pub(super) fn describe(&self, aspect: Aspect, operation: &Operation, effects: Effects, facts: &Facts) -> String {
        match aspect {
            Aspect::Workload => format!("the workload is not (or not surely) {}", self.subject),
            Aspect::Resource => {
                format!("the resource is not {}", self.resources.as_ref().map_or(String::new(), Patterns::to_string))
            }
            Aspect::Kind => format!(
                "the operation is `{}`, not {}",
                brief(&operation.kind),
                self.kinds.as_ref().map_or(String::new(), Patterns::to_string)
            ),
            Aspect::Effects => {
                let found = if effects.is_empty() { "none".to_owned() } else { effects.to_string() };
                format!("the effects are {found}; it speaks of {}", self.effects.unwrap_or(Effects::NONE))
            }
            Aspect::Objects => {
                let touched: Vec<String> = operation.meaning.objects.iter().map(Object::to_string).collect();
                let named: Vec<String> = self.objects.iter().map(ObjectMatch::to_string).collect();
                let touched = if touched.is_empty() { "none".to_owned() } else { brief(&touched.join(", ")) };
                format!("the objects are {touched}; it speaks of {}", named.join(", "))
            }
            Aspect::When => self.when.as_ref().map_or_else(String::new, |when| match when.truth(facts) {
                (_, Some(error)) => format!("`when` cannot be evaluated: {error}"),
                (truth, None) => format!("`when` is {}: {}", truth == Truth::Yes, brief(when.as_str())),
            }),
        }
    }
}

impl ObjectMatch {
    fn is_about(&self, object: &Object) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind.is_match(&object.kind))
    }

    fn truth(&self, object: &Object) -> Truth {
        if !self.is_about(object) {
            return Truth::No;
        }
        let names = self.names.iter().map(|name| name.truth(object.schema.as_deref(), &object.name));
        names.max().unwrap_or(Truth::No)
    }
}

impl std::fmt::Display for ObjectMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(kind) = &self.kind {
            write!(f, "{} ", kind.as_str())?;
        }
        f.write_str(&self.names.iter().map(Qualified::to_string).collect::<Vec<_>>().join(" or "))
    }
}

/// The effects that judging goes by. A classifier may say that a statement has no effect (an empty one); where it said
/// nothing at all the operation is unknown.
pub(super) fn judged_effects(operation: &Operation) -> Effects {
    let meaning = &operation.meaning;
    let silent = meaning.effects.is_empty() && meaning.fields.is_empty();
    if silent { Effects::of(Effect::Unknown) } else { meaning.effects }
}

/// Reads a `when` beside a rule or in an exception.
pub(super) fn read_when(node: &Node, notes: &mut Notes) -> Option<When> {
    let source = fields::text(node, "when", notes)?;
    match When::compile(source) {
        Ok(when) => Some(when),
        Err(error) => {
            notes.note(node.at, format!("`when` is no condition that can be used: {error}"));
            None
        }
    }
}

fn read_objects(node: &Node, notes: &mut Notes) -> Vec<ObjectMatch> {
    let nodes = fields::some(node, "objects", notes).iter();
    nodes.filter_map(|node| read_object(node, notes)).collect()
}

fn read_object(node: &Node, notes: &mut Notes) -> Option<ObjectMatch> {
    if let Tree::Text(_) = node.tree {
        return Some(ObjectMatch { kind: None, names: vec![qualified(node, "objects", notes)?] });
    }
    let fields = Fields::read(node, "objects", &["kind", "name"], notes)?;
    let kind = fields.find("kind").map(|node| fields::pattern(node, "kind", notes));
    let names = match fields.find("name") {
        Some(node) => {
            let nodes = fields::some(node, "name", notes).iter();
            nodes.filter_map(|node| qualified(node, "name", notes)).collect()
        }
        None => vec![Qualified::new("*").expect("a plain star is a glob")],
    };
    Some(ObjectMatch { kind: transposed(kind)?, names })
}

fn qualified(node: &Node, what: &str, notes: &mut Notes) -> Option<Qualified> {
    let text = fields::text(node, what, notes)?;
    match Qualified::new(text) {
        Ok(glob) => Some(glob),
        Err(error) => {
            notes.note(node.at, format!("`{}` is no glob for `{what}`: {error}", brief(text)));
            None
        }
    }
}

/// Not written is fine, written wrong (already noted) is not.
pub(super) fn transposed<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

/// A name that appears in every verdict; shared, so that judging clones a pointer.
pub(super) type Name = Arc<str>;
