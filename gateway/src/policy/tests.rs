//! What judging promises, what errors say, and what a reload leaves alone.

mod errors;
mod judging;
mod loading;
mod reloading;
mod starter;

use std::sync::Arc;

use super::*;
use crate::operation::{Effect, Effects, Meaning, Object, Operation};

/// Parses one file that must be right.
fn set(yaml: &str) -> Arc<PolicySet> {
    match PolicySet::parse([("test.yaml", yaml.as_bytes())]) {
        Ok(set) => Arc::new(set),
        Err(errors) => panic!("the policy should be right:\n{errors}\n--\n{yaml}"),
    }
}

/// The errors of one file that must be wrong.
fn errors(yaml: &[u8]) -> String {
    match PolicySet::parse([("test.yaml", yaml)]) {
        Ok(_) => panic!("the policy should be wrong:\n{}", String::from_utf8_lossy(yaml)),
        Err(errors) => errors.to_string(),
    }
}

/// Reads the tests' own notation: `read,write table:public.orders kind=copy tables=2`, a classifier of a line.
fn operation(notation: &str) -> Operation {
    let mut words = notation.split_whitespace();
    let mut meaning = Meaning::default();
    let mut kind = "query";
    let effects = words.next().unwrap_or_default();
    meaning.effects = effects.split(',').filter_map(|word| word.parse::<Effect>().ok()).collect::<Effects>();
    if meaning.effects.contains(Effect::Unknown) {
        meaning.unknown.push("the body of a DO block".to_owned());
    }
    let mut state = crate::operation::State::new();
    for word in words {
        if let Some((of, name)) = word.split_once(':') {
            let (schema, name) = match name.split_once('.') {
                Some((schema, name)) => (Some(schema.to_owned()), name),
                None => (None, name),
            };
            meaning.objects.push(Object { kind: of.to_owned().into(), schema, name: name.to_owned() });
        } else if let Some(value) = word.strip_prefix("kind=") {
            kind = value;
        } else if let Some((name, value)) = word.split_once('=') {
            state.insert(name.to_owned().into(), value.to_owned());
        }
    }
    let tables = meaning
        .objects
        .iter()
        .filter(|object| object.kind == "table")
        .map(|object| serde_json::json!({ "schema": object.schema, "name": object.name }));
    meaning.fields.insert("tables", tables.collect());
    meaning.fields.insert("statements", serde_json::json!(1));
    Operation {
        kind: kind.to_owned().into(),
        text: notation.to_owned().into(),
        parameters: Vec::new(),
        meaning: Arc::new(meaning),
        state: Arc::new(state),
    }
}

fn classify(resource: &Resource, statement: &str) -> Option<Operation> {
    (resource.protocol.as_str() == "postgres").then(|| operation(statement))
}

/// Judges on the first resource of `set`, as `caller`.
fn judge(set: &Arc<PolicySet>, caller: &Caller, notation: &str) -> Verdict {
    let resource = set.resources().first().expect("tests have a resource");
    set.scope(&caller.workload, &caller.process, Some(resource)).judge(&operation(notation))
}

/// The resource that most tests use: everything is held by default, by the dba group.
const ORDERS: &str = "
resource: orders-db
protocol: postgres
endpoints: ['10.0.3.7:5432', 'orders-db.prod.svc:5432', '[::1]:5432']
default: hold
approval: { from: [{ group: dba }] }
";
