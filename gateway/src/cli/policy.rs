//! `holdpoint policy`: check files, run the tests beside the rules, say why an operation would be held.
//!
//! All three load the files as the gateway does, protocols' and masks' own objections included, and talk to nothing.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use crate::{
    app,
    operation::{Effect, Effects, Meaning, Operation},
    policy::{Caller, Decide, Explanation, Failure, Mode, PolicySet, Resource, TrialReport},
    visible::{visible, visible_start},
};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong in the files
    Check(Files),
    /// Run the tests beside the rules
    Test(Files),
    /// Say what would happen to a statement, and why
    Explain(Explain),
}

/// Where the files are.
#[derive(Debug, clap::Args)]
struct Files {
    /// The directory of the policy files, or one file
    #[arg(value_name = "DIR", env = "HOLDPOINT_POLICIES", default_value = "/etc/holdpoint/policies")]
    path: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Explain {
    /// The directory of the policy files, or one file
    #[arg(long, value_name = "DIR", env = "HOLDPOINT_POLICIES", default_value = "/etc/holdpoint/policies")]
    policies: PathBuf,
    /// The resource; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
    /// The workload's name
    #[arg(long, value_name = "NAME", default_value = "bot")]
    workload: String,
    /// A fact of the caller: namespace, service_account, image, unit, user, executable or executable_sha256
    #[arg(long = "fact", value_name = "FACT=VALUE", value_parser = pair)]
    facts: Vec<(String, String)>,
    /// A label of the workload
    #[arg(long = "label", value_name = "LABEL=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// The session's state, such as role=app
    #[arg(long = "state", value_name = "NAME=VALUE", value_parser = pair)]
    state: Vec<(String, String)>,
    /// Judge an operation with these effects instead of what the protocol makes of the statement
    #[arg(long = "effect", value_name = "EFFECT")]
    effects: Vec<Effect>,
    /// The operation's kind, such as connect
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The statement
    #[arg(required_unless_present = "effects", allow_hyphen_values = true)]
    statement: Option<String>,
}

/// Turns a statement into the operation that the protocol of that name would make of it.
pub type Classify<'c> = dyn Fn(&Resource, &str) -> Option<Operation> + 'c;

/// Runs it.
///
/// # Errors
/// The arguments name something that is not there. What is wrong in the files is printed, and the exit code is 1.
pub fn run(args: Args, classify: &Classify<'_>) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Check(files) => Ok(check(&files)),
        Command::Test(files) => Ok(test(&files, classify)),
        Command::Explain(explain) => self::explain(&explain, classify),
    }
}

fn load(path: &std::path::Path) -> Result<Arc<PolicySet>, ExitCode> {
    PolicySet::load_inspected(path, &*app::inspector()).map(Arc::new).map_err(|errors| {
        let count = counted(errors.iter().count(), "error", "errors");
        eprintln!("{errors}\n{count}; nothing was loaded");
        ExitCode::FAILURE
    })
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn check(files: &Files) -> ExitCode {
    match load(&files.path) {
        Ok(set) => {
            let resources = counted(set.resources().len(), "resource", "resources");
            let rules = counted(set.rule_count(), "policy", "policies");
            println!("{resources}, {rules}: no errors (digest {})", set.digest());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn test(files: &Files, classify: &Classify<'_>) -> ExitCode {
    let set = match load(&files.path) {
        Ok(set) => set,
        Err(code) => return code,
    };
    let report = set.test(classify);
    print!("{}", told(&report));
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A test report in words.
fn told(report: &TrialReport) -> String {
    let mut text = String::new();
    for failure in &report.failures {
        let what = visible(failure.what.as_bytes());
        let _ = writeln!(text, "FAILED {} beside {}: {what}", failure.origin, failure.beside);
        match &failure.why {
            Failure::NotRun(why) => {
                let _ = writeln!(text, "    could not be run: {why}");
            }
            Failure::Verdict { expected, got, effects } => {
                let _ = writeln!(text, "    expected {expected}, got {}", decided(got));
                let _ = writeln!(text, "    effects: {effects}");
                text.push_str(&considered(got, *expected));
            }
        }
    }
    for name in &report.untested {
        let _ = writeln!(text, "note: {name} has no test beside it");
    }
    let passed = report.run - report.failures.len();
    let _ = writeln!(text, "{passed} of {} tests passed", report.run);
    text
}

fn decided(explanation: &Explanation) -> String {
    let verdict = &explanation.verdict;
    format!("{} by {}: {}", verdict.decide, verdict.rule, visible(verdict.reason.as_bytes()))
}

/// The rules that tell why a test failed: those that matched, and those that would have given what was expected.
fn considered(explanation: &Explanation, expected: Decide) -> String {
    let telling = explanation.considered.iter().filter(|rule| rule.matched || rule.decide == expected);
    telling.fold(String::new(), |mut text, rule| {
        let matched = if rule.matched { "matched" } else { "did not match" };
        let _ = writeln!(text, "    {} ({}) {matched}: {}", rule.rule, rule.decide, visible(rule.why.as_bytes()));
        text
    })
}

fn explain(args: &Explain, classify: &Classify<'_>) -> anyhow::Result<ExitCode> {
    let set = match load(&args.policies) {
        Ok(set) => set,
        Err(code) => return Ok(code),
    };
    let resource = resource(&set, args.resource.as_deref())?;
    let operation = operation(args, resource, classify)?;
    let explanation = set.explain(&caller(args)?, resource, &operation);
    print!("{}", explained(&explanation, resource, &operation));
    Ok(ExitCode::SUCCESS)
}

fn resource<'s>(set: &'s PolicySet, name: Option<&str>) -> anyhow::Result<&'s Arc<Resource>> {
    let known = || set.resources().iter().map(|resource| &*resource.name).collect::<Vec<_>>().join(", ");
    match (name, set.resources()) {
        (Some(name), _) => {
            set.resource_named(name).with_context(|| format!("no resource `{name}`; expected one of {}", known()))
        }
        (None, [only]) => Ok(only),
        (None, _) => bail!("there are several resources; say which with --resource: {}", known()),
    }
}

fn operation(args: &Explain, resource: &Resource, classify: &Classify<'_>) -> anyhow::Result<Operation> {
    let text = args.statement.as_deref().unwrap_or_default();
    let mut operation = if args.effects.is_empty() {
        classify(resource, text).with_context(|| format!("there is no protocol `{}`", resource.protocol))?
    } else {
        let effects: Effects = args.effects.iter().copied().collect();
        Operation {
            kind: "query".into(),
            text: text.to_owned().into(),
            parameters: Vec::new(),
            meaning: Arc::new(Meaning { effects, ..Meaning::default() }),
            state: Arc::default(),
        }
    };
    if let Some(kind) = &args.kind {
        operation.kind = kind.clone().into();
    }
    let state = args.state.iter().map(|(name, value)| (name.clone().into(), value.clone()));
    Arc::make_mut(&mut operation.state).extend(state);
    Ok(operation)
}

fn caller(args: &Explain) -> anyhow::Result<Caller> {
    let mut caller = Caller::named(&args.workload);
    for (fact, value) in &args.facts {
        if !caller.set(fact, value) {
            bail!(
                "there is no fact `{fact}`; expected namespace, service_account, pod, owner, image, image_digest, unit, user, \
                 executable or executable_sha256 (labels have --label)"
            );
        }
    }
    caller.workload.labels.extend(args.labels.iter().cloned());
    Ok(caller)
}

/// An explanation in words: what was judged, every rule, the verdict.
fn explained(explanation: &Explanation, resource: &Resource, operation: &Operation) -> String {
    const LONGEST: usize = 200;
    let mut text = String::new();
    let meaning = &operation.meaning;
    let objects: Vec<String> = meaning.objects.iter().map(|object| visible(object.to_string().as_bytes())).collect();
    let none = |list: String| if list.is_empty() { "none".to_owned() } else { list };
    let _ = writeln!(text, "{} on {} ({})", operation.kind, resource.name, resource.protocol);
    if !operation.text.is_empty() {
        let _ = writeln!(text, "  statement  {}", visible_start(&operation.text, LONGEST));
    }
    let _ = writeln!(text, "  effects    {}", none(meaning.effects.to_string()));
    let _ = writeln!(text, "  objects    {}", none(objects.join(", ")));
    for why in &meaning.unknown {
        let _ = writeln!(text, "  unknown    {}", visible(why.as_bytes()));
    }
    for rule in &explanation.considered {
        let mark = if rule.matched { "+" } else { "-" };
        let observe = if rule.mode == Mode::Observe { ", only observing" } else { "" };
        let _ = writeln!(text, "{mark} {} ({}{observe}) at {}", rule.rule, rule.decide, rule.origin);
        let _ = writeln!(text, "    {}", visible(rule.why.as_bytes()));
    }
    let _ = writeln!(text, "= {}", decided(explanation));
    text.push_str(&asked(explanation));
    text
}

/// Whom a hold asks, and what a policy that only observes would have done.
fn asked(explanation: &Explanation) -> String {
    let mut text = String::new();
    let verdict = &explanation.verdict;
    if let Some(approval) = &verdict.approval {
        let _ = writeln!(text, "  asks       {}", visible(approval.to_string().as_bytes()));
    }
    if let Some((decide, rule)) = &verdict.observed {
        let _ = writeln!(text, "  observed   {rule} would {decide}");
    }
    text
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
