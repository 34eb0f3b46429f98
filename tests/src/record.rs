//! The third witness: what the record holds, read as a reviewer reads it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{Lab, Running};

/// The whole record at one moment.
#[derive(Debug)]
pub struct Record {
    /// Its sessions, oldest first.
    pub sessions: Vec<Session>,
    /// Every entry in order, with those that belong to no session.
    pub events: Vec<Event>,
}

/// One guarded connection's life.
#[derive(Debug)]
pub struct Session {
    /// Its identifier.
    pub id: String,
    /// Its summary, as `holdpoint sessions list -o json` has it.
    pub summary: Value,
    /// Its entries, in order.
    pub events: Vec<Event>,
}

/// One recorded entry, as JSON.
#[derive(Debug, Clone)]
pub struct Event(pub Value);

impl Record {
    pub(crate) fn read(lab: &Lab) -> Self {
        let store = lab.store().display().to_string();
        let dump = Running::start(&mut lab.command(&[&lab.tool("record_dump"), &store])).finish(READ_LIMIT).ok();
        let lines = values(&dump.stdout);
        let events: Vec<_> = lines.iter().filter_map(|line| line.get("entry")).cloned().map(Event).collect();
        let mut by_session: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for event in &events {
            if let Some(session) = event.0["session"].as_str() {
                by_session.entry(session.to_owned()).or_default().push(event.clone());
            }
        }
        let summaries = lines.iter().filter_map(|line| line.get("summary"));
        let mut sessions: Vec<_> = summaries.map(|summary| Session::of(summary, &mut by_session)).collect();
        // Identifiers sort by time.
        sessions.sort_by(|one, other| one.id.cmp(&other.id));
        Self { sessions, events }
    }

    /// Every entry.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// The entries of `kind` (`operation`, `requested`, `decided`, `closed`, …) that contain `marker`.
    pub fn of(&self, kind: &str, marker: &str) -> Vec<&Event> {
        self.events().filter(|event| event.is(kind) && event.contains(marker)).collect()
    }

    /// The operations whose text contains `marker` and that were forwarded.
    pub fn forwarded(&self, marker: &str) -> usize {
        self.of("operation", marker).iter().filter(|event| event.flag("forwarded")).count()
    }

    /// The operations whose text contains `marker` and that were refused.
    pub fn refused(&self, marker: &str) -> usize {
        self.of("operation", marker).iter().filter(|event| !event.flag("forwarded")).count()
    }

    /// How the requests whose entries follow from `marker` ended, in order.
    pub fn outcome(&self, request: &str) -> Vec<String> {
        let closed = self.events().filter(|event| event.is("closed") && event.text("request") == request);
        closed.map(|event| event.text("outcome")).collect()
    }

    /// Whether any entry contains `text` anywhere.
    pub fn contains(&self, text: &str) -> bool {
        self.events().any(|event| event.contains(text))
    }
}

impl Session {
    fn of(summary: &Value, events: &mut BTreeMap<String, Vec<Event>>) -> Self {
        let id = summary["session"].as_str().unwrap_or_else(|| panic!("a session without an id: {summary}")).to_owned();
        let events = events.remove(&id).unwrap_or_default();
        Self { id, summary: summary.clone(), events }
    }
}

impl Event {
    /// Whether this is an entry of `kind`.
    pub fn is(&self, kind: &str) -> bool {
        self.0["body"]["type"] == kind
    }

    /// The first field called `key`, however deep, as text; empty where there is none.
    pub fn text(&self, key: &str) -> String {
        match find(&self.0, key) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    /// The first field called `key`, which must be true or false.
    ///
    /// # Panics
    /// When it is neither.
    #[track_caller]
    pub fn flag(&self, key: &str) -> bool {
        find(&self.0, key).and_then(Value::as_bool).unwrap_or_else(|| panic!("no flag {key} in {}", self.0))
    }

    /// When it was recorded, in nanoseconds since the Unix epoch.
    pub fn at(&self) -> u64 {
        find(&self.0, "at").and_then(Value::as_u64).unwrap_or_else(|| panic!("no time in {}", self.0))
    }

    /// Whether any text in it contains `marker`.
    pub fn contains(&self, marker: &str) -> bool {
        any_text(&self.0, &|text| text.contains(marker))
    }
}

/// The values of a command's JSON output: an array, or one value a line.
pub(crate) fn values(json: &str) -> Vec<Value> {
    if let Ok(Value::Array(values)) = serde_json::from_str(json) {
        return values;
    }
    let each = serde_json::Deserializer::from_str(json).into_iter();
    each.map(|value| value.unwrap_or_else(|error| panic!("not JSON ({error}): {json}"))).collect()
}

/// Thousands of sessions, on a busy machine.
const READ_LIMIT: Duration = Duration::from_secs(120);

fn find<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|value| find(value, key))),
        Value::Array(values) => values.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

fn any_text(value: &Value, wanted: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => wanted(text),
        Value::Object(map) => map.values().any(|value| any_text(value, wanted)),
        Value::Array(values) => values.iter().any(|value| any_text(value, wanted)),
        _ => false,
    }
}
