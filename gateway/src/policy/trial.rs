//! Tests beside the rules: a statement, who sends it, and what the whole set must say.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

use super::{
    Caller, Decide, Explanation, PolicySet, Resource,
    error::Origin,
    fields::{self, Fields, Notes},
    rule::DECIDE,
    set::is_about,
    yaml::{Node, Tree, brief},
};
use crate::operation::{Effects, Meaning, Operation, State};

/// Turns a statement into the operation that the protocol would make of it; `None` where there is no such protocol.
pub type Classify<'c> = dyn Fn(&Resource, &str) -> Option<Operation> + 'c;

/// One test, as written beside a policy or a resource.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) origin: Origin,
    what: What,
    kind: Option<String>,
    caller: Option<Caller>,
    state: State,
    pub(super) resource: Option<String>,
    expect: Decide,
}

/// What is judged.
#[derive(Debug)]
enum What {
    /// A statement, for the protocol's classifier.
    Statement(String),
    /// Effects alone, for operations that have no statement (`connect`).
    Effects(Effects),
}

const KEYS: [&str; 8] = ["sql", "statement", "effects", "kind", "workload", "state", "resource", "expect"];

/// Reads `tests:`.
pub(super) fn read_all(fields: &Fields<'_>, notes: &mut Notes) -> Vec<Trial> {
    let Some(node) = fields.find("tests") else { return Vec::new() };
    match &node.tree {
        Tree::List(nodes) => nodes.iter().filter_map(|node| read(node, notes)).collect(),
        _ => {
            notes.note(
                node.at,
                format!(
                    "expected a list for `tests`, such as `- {{ sql: \"SELECT 1\", expect: allow }}`, found {}",
                    node.noun()
                ),
            );
            Vec::new()
        }
    }
}

fn read(node: &Node, notes: &mut Notes) -> Option<Trial> {
    let fields = Fields::read(node, "test", &KEYS, notes)?;
    let expect = fields
        .need("expect", "`expect: allow`, `hold`, `hold_commit` or `refuse`", notes)
        .and_then(|node| fields::word(node, "expect", &DECIDE, notes));
    let what = match (fields.find("sql"), fields.find("statement"), fields.find("effects")) {
        (Some(sql), None, None) => What::Statement(fields::text(sql, "sql", notes)?.to_owned()),
        (None, Some(statement), None) => What::Statement(fields::text(statement, "statement", notes)?.to_owned()),
        (None, None, Some(effects)) => What::Effects(fields::effects(effects, notes)?),
        _ => {
            notes.note(node.at, "a test has exactly one of `sql`, `statement` or `effects`");
            return None;
        }
    };
    Some(Trial {
        origin: notes.origin(node.at),
        what,
        kind: fields.text("kind", notes).map(str::to_owned),
        caller: match fields.find("workload") {
            Some(node) => Some(Caller::read(node, notes)?),
            None => None,
        },
        state: read_state(&fields, notes),
        resource: fields.text("resource", notes).map(str::to_owned),
        expect: expect?,
    })
}

fn read_state(fields: &Fields<'_>, notes: &mut Notes) -> State {
    let Some(state) = fields.find("state").and_then(|node| Fields::any(node, "state", notes)) else {
        return State::new();
    };
    let entries = state.entries().iter();
    entries
        .filter_map(|(key, node)| Some((Cow::from(key.name.clone()), fields::text(node, "state", notes)?.to_owned())))
        .collect()
}

/// What running all tests of a set gave.
#[derive(Debug)]
pub struct TrialReport {
    /// How many tests there are.
    pub run: usize,
    /// Those that failed, in the order of the files.
    pub failures: Vec<TrialFailure>,
    /// Policies and resources without a single test.
    pub untested: Vec<Arc<str>>,
}

/// A test that failed.
#[derive(Debug)]
pub struct TrialFailure {
    /// Where the test is written.
    pub origin: Origin,
    /// Beside which policy or resource.
    pub beside: Arc<str>,
    /// What was judged, in words.
    pub what: String,
    /// Why it failed.
    pub why: Failure,
}

/// Why a test failed.
#[derive(Debug)]
pub enum Failure {
    /// The verdict is another one.
    Verdict {
        /// What the test expects.
        expected: Decide,
        /// What the set says, and why.
        got: Box<Explanation>,
        /// What the classifier made of the statement.
        effects: Effects,
    },
    /// It could not be run.
    NotRun(String),
}

impl PolicySet {
    /// Runs every test of the set, each against the whole set.
    ///
    /// A test that names no resource uses the one that it stands beside, or the first that its policy is about; a test
    /// that names no workload is sent by one that its policy is about.
    pub fn test(self: &Arc<Self>, classify: &Classify<'_>) -> TrialReport {
        let mut report = TrialReport { run: 0, failures: Vec::new(), untested: Vec::new() };
        for resource in self.resources() {
            let caller = || Some(Caller::default());
            self.test_beside(&resource.name, &resource.trials, Some(resource), &caller, classify, &mut report);
        }
        for rule in self.rules() {
            let resource = self.resources().iter().find(|resource| is_about(rule, resource));
            let caller = || rule.condition.subject.example();
            self.test_beside(&rule.name, &rule.trials, resource, &caller, classify, &mut report);
            if rule.trials.is_empty() {
                report.untested.push(Arc::clone(&rule.name));
            }
        }
        report
    }

    fn test_beside(
        self: &Arc<Self>,
        beside: &Arc<str>,
        trials: &[Trial],
        resource: Option<&Arc<Resource>>,
        caller: &dyn Fn() -> Option<Caller>,
        classify: &Classify<'_>,
        report: &mut TrialReport,
    ) {
        for trial in trials {
            report.run += 1;
            let named = trial.resource.as_deref().and_then(|name| self.resource_named(name));
            let caller = trial.caller.clone().or_else(caller);
            if let Err(why) = self.try_one(trial, named.or(resource), caller, classify) {
                let (origin, what) = (trial.origin.clone(), trial.to_string());
                report.failures.push(TrialFailure { origin, beside: Arc::clone(beside), what, why });
            }
        }
    }

    fn try_one(
        self: &Arc<Self>,
        trial: &Trial,
        resource: Option<&Arc<Resource>>,
        caller: Option<Caller>,
        classify: &Classify<'_>,
    ) -> Result<(), Failure> {
        let resource = resource.ok_or_else(|| Failure::NotRun("no resource for it".to_owned()))?;
        let caller = caller.ok_or_else(|| {
            Failure::NotRun(
                "no workload can be made up that the policy's globs match; give it a `workload:`".to_owned(),
            )
        })?;
        let operation = trial.operation(resource, classify)?;
        let got = self.explain(&caller, resource, &operation);
        if got.verdict.decide == trial.expect {
            return Ok(());
        }
        Err(Failure::Verdict { expected: trial.expect, got: Box::new(got), effects: operation.meaning.effects })
    }
}

impl Trial {
    fn operation(&self, resource: &Resource, classify: &Classify<'_>) -> Result<Operation, Failure> {
        let mut operation = match &self.what {
            What::Effects(effects) => bare(*effects),
            What::Statement(statement) => classify(resource, statement).ok_or_else(|| {
                Failure::NotRun(format!("there is no protocol `{}` that could read it", resource.protocol))
            })?,
        };
        if let Some(kind) = &self.kind {
            operation.kind = kind.clone().into();
        }
        if !self.state.is_empty() {
            Arc::make_mut(&mut operation.state).extend(self.state.clone());
        }
        Ok(operation)
    }
}

/// An operation of which only the effects are known.
pub(super) fn bare(effects: Effects) -> Operation {
    Operation {
        kind: "test".into(),
        text: Bytes::new(),
        parameters: Vec::new(),
        meaning: Arc::new(Meaning { effects, ..Meaning::default() }),
        state: Arc::default(),
    }
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.what {
            What::Statement(statement) => f.write_str(&brief(statement)),
            What::Effects(effects) => write!(f, "an operation with effects {effects}"),
        }
    }
}
