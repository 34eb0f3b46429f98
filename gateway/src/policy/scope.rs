//! Judging: the rules that concern one connection, and what they say about each operation on it.

use std::{
    cell::OnceCell,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::Value;

use super::{
    Approval, Caller, Decide, Mode, OnHold, PolicySet, Resource, Verdict,
    condition::{Answer, Condition, Sense, judged_effects},
    error::Origin,
    pattern::Truth,
    rule::Rule,
    set::approval,
    terms::ApprovalTerms,
    when::{CallerFacts, Facts},
};
use crate::{
    operation::{Effect, Effects, Operation},
    workload::{Process, Workload},
};

/// The rule's name in a verdict about a destination that no resource names.
pub const NO_RESOURCE: &str = "no resource";

/// The rules that concern one connection: caller and resource are settled, only operations vary.
///
/// Cheap to keep beside a connection. When [`super::Policies::generation`] is no longer [`Scope::generation`],
/// [`Scope::renew`] makes the scope of the new set.
#[derive(Debug)]
pub struct Scope {
    caller: Arc<Caller>,
    resource: Option<Arc<Resource>>,
    rules: Vec<Scoped>,
    fallback: Fallback,
    generation: u64,
    facts: OnceLock<CallerFacts>,
}

/// A rule as it stands for one connection.
#[derive(Debug)]
struct Scoped {
    rule: Arc<Rule>,
    /// What its conditions on caller and resource said: never `No`, or it would not be here.
    truth: Truth,
    /// Which of its exceptions may apply, and what their conditions on caller and resource said.
    exceptions: Vec<(usize, Truth)>,
    approval: Option<Arc<Approval>>,
    lock_time: Duration,
}

/// What happens where no rule matches.
#[derive(Debug)]
struct Fallback {
    decide: Decide,
    rule: Arc<str>,
    reason: Arc<str>,
    approval: Option<Arc<Approval>>,
    lock_time: Duration,
    on_hold: OnHold,
}

impl PolicySet {
    /// The rules that concern connections of this caller to this resource (`None`: a destination that no resource names).
    pub fn scope(self: &Arc<Self>, workload: &Workload, process: &Process, resource: Option<&Arc<Resource>>) -> Scope {
        let caller = Caller { workload: workload.clone(), process: process.clone() };
        self.scope_of(Arc::new(caller), resource.cloned())
    }

    fn scope_of(&self, caller: Arc<Caller>, resource: Option<Arc<Resource>>) -> Scope {
        let rules = match &resource {
            Some(resource) => self.rules().iter().filter_map(|rule| scoped(rule, &caller, resource)).collect(),
            None => Vec::new(),
        };
        let fallback = Fallback::of(resource.as_deref());
        Scope { caller, resource, rules, fallback, generation: self.generation(), facts: OnceLock::new() }
    }
}

fn scoped(rule: &Arc<Rule>, caller: &Caller, resource: &Resource) -> Option<Scoped> {
    let of = |condition: &Condition| condition.of_connection(&caller.workload, &caller.process, resource).0;
    let truth = of(&rule.condition);
    if truth == Truth::No || (truth == Truth::Unsure && rule.decide == Decide::Allow) {
        return None;
    }
    let exceptions: Vec<(usize, Truth)> = rule
        .exceptions
        .iter()
        .enumerate()
        .map(|(index, exception)| (index, of(exception)))
        .filter(|(_, truth)| *truth != Truth::No)
        .collect();
    // An exception for this caller whatever it does: the rule is not there.
    let always = |(index, truth): &(usize, Truth)| {
        let excepted = !rule.exceptions[*index].is_about_operation();
        excepted && (*truth == Truth::Yes || rule.decide == Decide::Allow)
    };
    if exceptions.iter().any(always) {
        return None;
    }
    let approval = if rule.decide.asks_people() { approval(rule, resource) } else { None };
    let lock_time = rule.terms.lock_time(&resource.terms);
    Some(Scoped { rule: Arc::clone(rule), truth, exceptions, approval, lock_time })
}

impl Scope {
    /// What policy says about `operation`. Pure: no clock, no network, no store.
    pub fn judge(&self, operation: &Operation) -> Verdict {
        let effects = judged_effects(operation);
        let facts = OnceCell::new();
        let mut best: Option<&Scoped> = None;
        let mut observed: Option<&Scoped> = None;
        for scoped in &self.rules {
            let place = if scoped.rule.mode == Mode::Enforce { &mut best } else { &mut observed };
            if place.is_some_and(|place| place.strictness() >= scoped.strictness()) {
                continue;
            }
            if scoped.matches(operation, effects, &|| self.facts(&facts, operation)) {
                *place = Some(scoped);
            }
        }
        let mut verdict = match best {
            Some(scoped) => scoped.verdict(),
            None => self.fallback.verdict(operation, effects),
        };
        let stricter = observed.filter(|observed| observed.rule.decide > verdict.decide);
        verdict.observed = stricter.map(|observed| (observed.rule.decide, Arc::clone(&observed.rule.name)));
        verdict
    }

    fn facts<'f>(&self, cell: &'f OnceCell<Facts>, operation: &Operation) -> &'f Facts {
        let resource = self.resource.as_deref().expect("a scope without a resource has no rules that could ask");
        cell.get_or_init(|| {
            let caller = CallerFacts::once(&self.facts, &self.caller.workload, &self.caller.process, resource);
            Facts::new(caller, operation)
        })
    }

    /// The resource that this is about.
    pub fn resource(&self) -> Option<&Arc<Resource>> {
        self.resource.as_ref()
    }

    /// Which generation of the policies this was made from.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The same connection under another set. A resource that is gone, or that now speaks another protocol, is none:
    /// everything on the connection is refused from then on.
    #[must_use]
    pub fn renew(&self, set: &Arc<PolicySet>) -> Scope {
        let old = self.resource.as_ref();
        let found = old.and_then(|old| set.resource_named(&old.name).filter(|new| new.protocol == old.protocol));
        set.scope_of(Arc::clone(&self.caller), found.cloned())
    }
}

impl Scoped {
    /// Orders rules that match: the stricter decision; of holds, the one that asks more of people.
    fn strictness(&self) -> impl Ord + use<> {
        (self.rule.decide, self.approval.as_ref().map(|approval| approval.strictness()))
    }

    fn matches<'f>(&self, operation: &Operation, effects: Effects, facts: &dyn Fn() -> &'f Facts) -> bool {
        let sense = Sense::of(self.rule.decide);
        let (truth, _) = self.rule.condition.of_operation(operation, effects, sense, &mut || facts());
        let truth = truth.min(self.truth);
        if truth == Truth::No || (truth == Truth::Unsure && self.rule.decide == Decide::Allow) {
            return false;
        }
        let excepted = self.exceptions.iter().map(|(index, of_connection)| {
            let sense = Sense::of_exception(self.rule.decide);
            let exception = &self.rule.exceptions[*index];
            exception.of_operation(operation, effects, sense, &mut || facts()).0.min(*of_connection)
        });
        let excepted = excepted.max().unwrap_or(Truth::No);
        applies(self.rule.decide, truth.min(excepted.not()))
    }

    fn verdict(&self) -> Verdict {
        let rule = &self.rule;
        if rule.decide.asks_people() && self.approval.is_none() {
            // Loading refuses such a rule; if one is here all the same, nobody could ever approve.
            return Verdict { decide: Decide::Refuse, ..self.as_written() };
        }
        self.as_written()
    }

    fn as_written(&self) -> Verdict {
        Verdict {
            decide: self.rule.decide,
            rule: Arc::clone(&self.rule.name),
            reason: Arc::clone(&self.rule.reason),
            approval: self.approval.clone(),
            lock_time: self.lock_time,
            on_hold: self.rule.on_hold,
            observed: None,
        }
    }
}

/// What cannot be told counts on the strict side.
fn applies(decide: Decide, truth: Truth) -> bool {
    match truth {
        Truth::Yes => true,
        Truth::Unsure => decide != Decide::Allow,
        Truth::No => false,
    }
}

impl Fallback {
    fn of(resource: Option<&Resource>) -> Self {
        let Some(resource) = resource else {
            return Self {
                decide: Decide::Refuse,
                rule: NO_RESOURCE.into(),
                reason: "no resource names this destination, so nothing may go there".into(),
                approval: None,
                lock_time: Duration::ZERO,
                on_hold: OnHold::Wait,
            };
        };
        let name = &resource.name;
        let reason = match resource.default {
            Decide::Allow => format!("no policy matches, and {name} allows by default"),
            Decide::Hold => format!("no policy matches, and {name} asks for a person's approval by default"),
            Decide::HoldCommit => {
                format!("no policy matches, and {name} asks for a person's approval of every commit by default")
            }
            Decide::Refuse => format!("no policy matches, and {name} refuses by default"),
        };
        Self {
            decide: resource.default,
            rule: format!("default of {name}").into(),
            reason: reason.into(),
            approval: resource.approval.clone(),
            lock_time: resource.terms.lock_time(&ApprovalTerms::default()),
            on_hold: resource.on_hold,
        }
    }

    fn verdict(&self, operation: &Operation, effects: Effects) -> Verdict {
        let asks = effects.iter().any(Effect::must_be_named);
        let decide = match self.decide {
            // What cannot be seen through, or around a mask, is never allowed by default, and nobody may mean that it
            // is refused.
            Decide::Allow | Decide::HoldCommit if asks => Decide::Hold,
            decide => decide,
        };
        let decide = if decide.asks_people() && self.approval.is_none() { Decide::Refuse } else { decide };
        Verdict {
            decide,
            rule: Arc::clone(&self.rule),
            reason: if asks { self.named_reason(operation, effects, decide) } else { Arc::clone(&self.reason) },
            approval: self.approval.clone().filter(|_| decide.asks_people()),
            lock_time: self.lock_time,
            on_hold: self.on_hold,
            observed: None,
        }
    }

    /// Why something that must be named is not allowed.
    fn named_reason(&self, operation: &Operation, effects: Effects, decide: Decide) -> Arc<str> {
        if &*self.rule == NO_RESOURCE {
            return Arc::clone(&self.reason);
        }
        let meaning = &operation.meaning;
        let (what, effect) = if effects.contains(Effect::Unknown) {
            let why = match meaning.unknown.join(", ") {
                why if why.is_empty() => "nothing is known of it".to_owned(),
                why => why,
            };
            (format!("what this does cannot be seen through ({why})"), Effect::Unknown)
        } else {
            let columns = meaning.fields.get("revealed").and_then(Value::as_array).into_iter().flatten();
            let columns: Vec<_> = columns.filter_map(Value::as_str).collect();
            let columns = if columns.is_empty() { "some".to_owned() } else { columns.join(", ") };
            (format!("this computes with or tests masked columns ({columns}), which could tell them"), Effect::Reveal)
        };
        let end = match (decide, self.decide) {
            (Decide::Refuse, Decide::Allow) => {
                "so a person would have to approve it, but the resource names nobody".to_owned()
            }
            (Decide::Refuse, _) => format!("and no policy that matches allows `{effect}`"),
            _ => "so a person must look at it".to_owned(),
        };
        format!("{what}, {end}").into()
    }
}

/// Why a verdict is what it is.
#[derive(Debug)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// Every rule of the set, in order.
    pub considered: Vec<Considered>,
}

/// One rule, as it was considered.
#[derive(Debug)]
pub struct Considered {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Where it is written.
    pub origin: Origin,
    /// What it decides where it matches.
    pub decide: Decide,
    /// Whether it acts or only says what it would have done.
    pub mode: Mode,
    /// Whether it matched.
    pub matched: bool,
    /// Why it did or did not, in words.
    pub why: String,
}

impl PolicySet {
    /// Judges `operation` and says, for every rule, whether it matched and why.
    pub fn explain(self: &Arc<Self>, caller: &Caller, resource: &Arc<Resource>, operation: &Operation) -> Explanation {
        let scope = self.scope(&caller.workload, &caller.process, Some(resource));
        let facts = Facts::new(&CallerFacts::new(&caller.workload, &caller.process, resource), operation);
        let considered = self.rules().iter().map(|rule| consider(rule, caller, resource, operation, &facts)).collect();
        Explanation { verdict: scope.judge(operation), considered }
    }
}

fn consider(rule: &Rule, caller: &Caller, resource: &Resource, operation: &Operation, facts: &Facts) -> Considered {
    let effects = judged_effects(operation);
    let answer = |condition: &Condition, sense: Sense| -> Answer {
        let connection = condition.of_connection(&caller.workload, &caller.process, resource);
        if connection.0 == Truth::No {
            return connection;
        }
        let operation = condition.of_operation(operation, effects, sense, &mut || facts);
        if connection.0 < operation.0 { connection } else { operation }
    };
    let (truth, aspect) = answer(&rule.condition, Sense::of(rule.decide));
    let described = |condition: &Condition, aspect| condition.describe(aspect, operation, effects, facts);
    let excepted = rule.exceptions.iter().map(|exception| answer(exception, Sense::of_exception(rule.decide)).0);
    let excepted = excepted.max().unwrap_or(Truth::No);
    let matched = applies(rule.decide, truth.min(excepted.not()));
    let why = match (truth, aspect, excepted) {
        (Truth::No | Truth::Unsure, Some(aspect), _) => {
            let uncertain =
                if truth == Truth::Unsure && matched { "; what cannot be told counts as a match" } else { "" };
            format!("{}{uncertain}", described(&rule.condition, aspect))
        }
        (_, _, Truth::Yes) => "an exception (`unless`) applies".to_owned(),
        (_, _, Truth::Unsure) => {
            format!(
                "whether an exception (`unless`) applies cannot be told, so it {}",
                if matched { "does not" } else { "does" }
            )
        }
        _ => "everything in it holds".to_owned(),
    };
    Considered {
        rule: Arc::clone(&rule.name),
        origin: rule.origin.clone(),
        decide: rule.decide,
        mode: rule.mode,
        matched,
        why,
    }
}
