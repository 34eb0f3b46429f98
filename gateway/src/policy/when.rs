//! `when`: a condition in CEL over the operation, the caller and the resource.
//!
//! # Security
//! The expression is the operator's, the data is the bot's. The interpreter has no step limit of its own, so the work
//! is bounded before it starts: programs are short, loops nest at most twice, patterns are literals, and an operation
//! whose lists or texts would make the evaluation long is not evaluated. What is not evaluated, and what fails, is
//! [`Truth::Unsure`]: it counts as a match for a rule that holds or refuses and as none for one that allows.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock, OnceLock},
};

use cel::{
    Context, Env, Program, Value,
    common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue},
    objects::Key,
};

use super::{Resource, error::suggestion, pattern::Truth, yaml::brief};
use crate::{
    operation::Operation,
    workload::{Process, Workload},
};

/// Longer than any condition that a person can review.
const LONGEST_PROGRAM: usize = 4096;

/// Loops inside loops inside loops are no policy.
const DEEPEST_LOOP: u32 = 2;

/// Evaluation's estimated steps (about 100 ns each) above which it is not begun.
const MOST_STEPS: u64 = 200_000;

/// Longer texts are left out of `operation`, so that a condition over them fails rather than takes long.
const LONGEST_TEXT: usize = 256 * 1024;

/// What a condition can speak of.
const ROOTS: [&str; 4] = ["operation", "workload", "process", "resource"];
const WORKLOAD: [&str; 10] =
    ["name", "path", "unit", "namespace", "service_account", "pod", "owner", "image", "image_digest", "labels"];
const PROCESS: [&str; 8] = ["pid", "uid", "gid", "user", "comm", "executable", "executable_sha256", "command_line"];
const RESOURCE: [&str; 2] = ["name", "protocol"];

/// The functions that a condition may call; the rest of CEL's library (time, bytes) has nothing to work on here.
const FUNCTIONS: [&str; 14] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "dyn",
    "type",
    "max",
    "min",
];

/// What CEL expands before functions are looked up; here only to be suggested.
const MACROS: [&str; 6] = ["has", "all", "exists", "exists_one", "map", "filter"];

/// CEL's standard environment, built once.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled condition.
#[derive(Debug)]
pub(super) struct When {
    source: String,
    program: Program,
    nodes: u64,
    loops: u32,
}

impl When {
    /// Compiles `source`.
    ///
    /// # Errors
    /// What is wrong with it, in words, with the place inside the expression where CEL gives one.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        if source.len() > LONGEST_PROGRAM {
            return Err(format!("it is {} bytes long; the longest is {LONGEST_PROGRAM}", source.len()));
        }
        // The parser is generated code that has been seen to panic on odd input; a policy must not stop the gateway.
        let compiled = catch_unwind(AssertUnwindSafe(|| ENV.compile(source)));
        let program = match compiled {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => return Err(parse_errors(&errors)),
            Err(_) => return Err("it is not a CEL expression that can be read".to_owned()),
        };
        let mut survey = Survey::default();
        survey.walk(program.expression(), 0)?;
        Ok(Self { source: source.to_owned(), nodes: survey.nodes, loops: survey.deepest, program })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it holds, and why that cannot be told where it cannot.
    pub(super) fn truth(&self, facts: &Facts) -> (Truth, Option<String>) {
        if self.steps(facts) > MOST_STEPS {
            return (Truth::Unsure, Some("the operation is too large to be evaluated".to_owned()));
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.program.execute(&facts.context)));
        match result {
            Ok(Ok(Value::Bool(holds))) => (holds.into(), None),
            Ok(Ok(other)) => (Truth::Unsure, Some(format!("it gives {:?}, not true or false", other.type_of()))),
            Ok(Err(error)) => (Truth::Unsure, Some(brief(&error.to_string()))),
            Err(_) => (Truth::Unsure, Some("evaluating it failed inside the interpreter".to_owned())),
        }
    }

    /// An upper estimate: every node once per turn of the loops around it, longer where texts are compared.
    fn steps(&self, facts: &Facts) -> u64 {
        let turns = facts.longest_list.max(1).saturating_pow(self.loops);
        let weight = 1 + facts.longest_text / 1024;
        self.nodes.saturating_mul(turns).saturating_mul(weight)
    }
}

fn parse_errors(errors: &cel::ParseErrors) -> String {
    let Some(first) = errors.errors.first() else { return "it is not CEL".to_owned() };
    let (line, column) = first.pos;
    let place = match (line, column) {
        (1, column) if column > 0 => format!(" (character {column} of the expression)"),
        (line, column) if line > 1 => format!(" (line {line}, character {column} of the expression)"),
        _ => String::new(),
    };
    format!("{}{place}", first.msg.trim())
}

/// What a look at a whole program finds: its size, its loops, and names that nothing stands behind.
#[derive(Default)]
struct Survey<'e> {
    nodes: u64,
    deepest: u32,
    bound: Vec<&'e str>,
}

impl<'e> Survey<'e> {
    fn walk(&mut self, node: &'e IdedExpr, depth: u32) -> Result<(), String> {
        self.nodes += 1;
        self.deepest = self.deepest.max(depth);
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => {
                if let Expr::Ident(root) = &select.operand.expr {
                    self.field(root, &select.field)?;
                }
                self.walk(&select.operand, depth)
            }
            Expr::Call(call) => {
                function(&call.func_name)?;
                if call.func_name == "matches" {
                    literal_pattern(call.args.last())?;
                }
                call.target.iter().try_for_each(|target| self.walk(target, depth))?;
                call.args.iter().try_for_each(|arg| self.walk(arg, depth))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.walk(element, depth)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr, depth)),
            Expr::Struct(_) => Err("it makes a message; expected a condition over the operation".to_owned()),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
        }
    }

    fn entry(&mut self, entry: &'e EntryExpr, depth: u32) -> Result<(), String> {
        match entry {
            EntryExpr::StructField(field) => self.walk(&field.value, depth),
            EntryExpr::MapEntry(entry) => {
                self.walk(&entry.key, depth)?;
                self.walk(&entry.value, depth)
            }
        }
    }

    fn comprehension(&mut self, c: &'e cel::common::ast::ComprehensionExpr, depth: u32) -> Result<(), String> {
        if depth >= DEEPEST_LOOP {
            return Err(format!("its loops nest deeper than {DEEPEST_LOOP}"));
        }
        self.walk(&c.iter_range, depth)?;
        self.walk(&c.accu_init, depth)?;
        let outside = self.bound.len();
        self.bound.push(&c.iter_var);
        self.bound.extend(c.iter_var2.as_deref());
        self.bound.push(&c.accu_var);
        self.walk(&c.loop_cond, depth + 1)?;
        self.walk(&c.loop_step, depth + 1)?;
        self.walk(&c.result, depth)?;
        self.bound.truncate(outside);
        Ok(())
    }

    fn ident(&self, name: &str) -> Result<(), String> {
        const TYPES: [&str; 10] =
            ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];
        if self.bound.contains(&name) || ROOTS.contains(&name) || TYPES.contains(&name) {
            return Ok(());
        }
        Err(format!("there is no `{}`; {}", brief(name), suggestion(name, &ROOTS)))
    }

    fn field(&self, root: &str, field: &str) -> Result<(), String> {
        if self.bound.contains(&root) {
            return Ok(());
        }
        let known: &[&str] = match root {
            "workload" => &WORKLOAD,
            "process" => &PROCESS,
            "resource" => &RESOURCE,
            // An operation's fields are its protocol's to name.
            _ => return Ok(()),
        };
        match known.contains(&field) {
            true => Ok(()),
            false => Err(format!("`{root}` has no `{}`; {}", brief(field), suggestion(field, known))),
        }
    }
}

fn function(name: &str) -> Result<(), String> {
    let is_operator = !name.bytes().all(|b| b.is_ascii_alphanumeric());
    match is_operator || FUNCTIONS.contains(&name) {
        true => Ok(()),
        false => {
            let known: Vec<&str> = FUNCTIONS.into_iter().chain(MACROS).collect();
            Err(format!("there is no function `{}`; {}", brief(name), suggestion(name, &known)))
        }
    }
}

/// A pattern that comes from the operation would let a bot choose how long matching takes.
fn literal_pattern(argument: Option<&IdedExpr>) -> Result<(), String> {
    let Some(Expr::Literal(LiteralValue::String(pattern))) = argument.map(|argument| &argument.expr) else {
        return Err("`matches` takes its pattern as a literal string".to_owned());
    };
    let pattern = regex::RegexBuilder::new(pattern.inner()).size_limit(1024 * 1024).build();
    pattern.map(|_| ()).map_err(|error| {
        // The last line says what is wrong; those before it draw the place.
        let said = error.to_string();
        let said = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("`matches` has no valid pattern: {}", brief(said))
    })
}

/// What conditions are evaluated against; built only when a rule with `when` otherwise matches.
pub(super) struct Facts {
    context: Context<'static, 'static>,
    longest_list: u64,
    longest_text: u64,
}

impl Facts {
    pub(super) fn new(caller: &CallerFacts, operation: &Operation) -> Self {
        let mut context = Context::with_env(Arc::clone(&ENV));
        let mut measure = Measure::default();
        let operation = operation_value(operation);
        for value in [&operation, &caller.workload, &caller.process, &caller.resource] {
            measure.see(value);
        }
        context.add_variable_from_value("operation", operation);
        context.add_variable_from_value("workload", caller.workload.clone());
        context.add_variable_from_value("process", caller.process.clone());
        context.add_variable_from_value("resource", caller.resource.clone());
        Self { context, longest_list: measure.list, longest_text: measure.text }
    }
}

/// The part of [`Facts`] that stays the same for a connection.
#[derive(Debug)]
pub(super) struct CallerFacts {
    workload: Value,
    process: Value,
    resource: Value,
}

impl CallerFacts {
    pub(super) fn new(workload: &Workload, process: &Process, resource: &Resource) -> Self {
        Self {
            workload: workload_value(workload),
            process: process_value(process),
            resource: map([
                ("name", Some(string(&resource.name))),
                ("protocol", Some(string(resource.protocol.as_str()))),
            ]),
        }
    }

    /// The same, made at the first use.
    pub(super) fn once<'c>(
        cell: &'c OnceLock<CallerFacts>,
        workload: &Workload,
        process: &Process,
        resource: &Resource,
    ) -> &'c CallerFacts {
        cell.get_or_init(|| CallerFacts::new(workload, process, resource))
    }
}

#[derive(Default)]
struct Measure {
    list: u64,
    text: u64,
}

impl Measure {
    fn see(&mut self, value: &Value) {
        match value {
            Value::List(items) => {
                self.list = self.list.max(items.len() as u64);
                items.iter().for_each(|item| self.see(item));
            }
            Value::Map(entries) => {
                self.list = self.list.max(entries.map.len() as u64);
                entries.map.values().for_each(|item| self.see(item));
            }
            Value::String(text) => self.text = self.text.max(text.len() as u64),
            _ => {}
        }
    }
}

/// `operation`: the protocol's own fields, under the names that every protocol has in common.
fn operation_value(operation: &Operation) -> Value {
    let meaning = &operation.meaning;
    let mut fields: HashMap<Key, Value> =
        meaning.fields.iter().map(|(name, value)| (Key::from(*name), json(value))).collect();
    let objects = meaning.objects.iter().map(|object| {
        map([
            ("kind", Some(string(&object.kind))),
            ("schema", object.schema.as_deref().map(string)),
            ("name", Some(string(&object.name))),
        ])
    });
    let state = operation.state.iter().map(|(name, value)| (Key::from(name.as_ref()), string(value)));
    let parameters = operation.parameters.iter().map(|parameter| {
        let text = parameter.value.as_ref().filter(|_| !parameter.binary).map(|value| text(value));
        let value = if parameter.value.is_none() { Some(Value::Null) } else { text.flatten() };
        map([("kind", Some(string(&parameter.kind))), ("binary", Some(parameter.binary.into())), ("value", value)])
    });
    let common = [
        ("kind", Some(string(&operation.kind))),
        ("text", text(&operation.text)),
        ("effects", Some(list(meaning.effects.iter().map(|effect| string(effect.as_str()))))),
        ("objects", Some(list(objects))),
        ("unknown", Some(list(meaning.unknown.iter().map(|why| string(why))))),
        ("parameters", Some(list(parameters))),
        ("state", Some(Value::Map(state.collect::<HashMap<_, _>>().into()))),
    ];
    for (name, value) in common {
        match value {
            Some(value) => fields.insert(name.into(), value),
            // Left out, so that speaking of it fails; a protocol's field must not stand in for it.
            None => fields.remove(&Key::from(name)),
        };
    }
    Value::Map(fields.into())
}

fn workload_value(workload: &Workload) -> Value {
    let label = |name: &str| workload.labels.get(name).map(|value| string(value));
    let labels: HashMap<Key, Value> =
        workload.labels.iter().map(|(name, value)| (Key::from(name.as_str()), string(value))).collect();
    map([
        ("name", Some(string(&workload.name))),
        ("path", Some(string(&workload.path))),
        ("unit", workload.unit.as_deref().map(string)),
        ("namespace", label("namespace")),
        ("service_account", label("service_account")),
        ("pod", label("pod")),
        ("owner", label("owner")),
        ("image", label("image")),
        ("image_digest", label("image_digest")),
        ("labels", Some(Value::Map(labels.into()))),
    ])
}

/// Facts of an executable that was not the one that connected are left out: a condition over them must not hold.
fn process_value(process: &Process) -> Value {
    let executable = process.executable.as_ref().filter(|_| process.verified);
    let sha256 = process.sha256.filter(|_| process.verified);
    map([
        ("pid", Some(i64::from(process.pid).into())),
        ("uid", Some(i64::from(process.uid).into())),
        ("gid", Some(i64::from(process.gid).into())),
        ("user", process.user.as_deref().map(string)),
        ("comm", Some(string(&process.comm))),
        ("executable", executable.and_then(|path| path.to_str()).map(string)),
        ("executable_sha256", sha256.map(|digest| string(&digest.to_string()))),
        ("command_line", Some(list(process.command_line.iter().map(|argument| string(argument))))),
    ])
}

fn map<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let present = fields.into_iter().filter_map(|(name, value)| Some((Key::from(name), value?)));
    Value::Map(present.collect::<HashMap<Key, Value>>().into())
}

fn list(values: impl Iterator<Item = Value>) -> Value {
    Value::List(Arc::new(values.collect()))
}

fn string(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

/// A text as sent. Not UTF-8, or too long: no text, so that conditions over it fail.
fn text(bytes: &[u8]) -> Option<Value> {
    if bytes.len() > LONGEST_TEXT {
        return None;
    }
    std::str::from_utf8(bytes).ok().map(string)
}

fn json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        // CEL's own literals are signed, so that `operation.statements == 1` compares like with like.
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => number.as_u64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::UInt),
        },
        serde_json::Value::String(text) => string(text),
        serde_json::Value::Array(items) => list(items.iter().map(json)),
        serde_json::Value::Object(entries) => {
            let entries = entries.iter().map(|(name, value)| (Key::from(name.as_str()), json(value)));
            Value::Map(entries.collect::<HashMap<_, _>>().into())
        }
    }
}
