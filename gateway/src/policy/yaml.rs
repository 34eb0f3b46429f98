//! Policy files as trees in which every node knows its line and column.
//!
//! Decoding happens in two steps, so that one run can report everything that is wrong: YAML becomes a [`Node`] here,
//! and the readers beside this module take what they need from it and note what they do not understand.
//!
//! # Security
//! Whoever can write a policy file rules the gateway, but a mistake must not stop it: depth, nodes, aliases and size
//! are bounded, and duplicate keys are errors.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// No honest policy file comes near one mebibyte.
pub(super) const LARGEST_FILE: u64 = 1024 * 1024;

/// Deeper nesting than any policy has, and shallow enough for any thread's stack.
const DEEPEST: usize = 24;

/// A line and a column, from 1; zero where YAML did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) tree: Tree,
}

/// A mapping's key and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) at: Place,
    pub(super) name: String,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

impl Node {
    /// What it is, in words for an error.
    pub(super) fn noun(&self) -> String {
        match &self.tree {
            Tree::Null => "nothing".to_owned(),
            Tree::Bool(value) => format!("the truth value `{value}`"),
            Tree::Number(value) => format!("the number {value}"),
            Tree::Text(text) => format!("the text `{}`", brief(text)),
            Tree::List(_) => "a list".to_owned(),
            Tree::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The value without its places, for sections that a protocol reads itself.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(value) => Value::Number(value.clone()),
            Tree::Text(text) => Value::String(text.clone()),
            Tree::List(nodes) => Value::Array(nodes.iter().map(Node::to_json).collect()),
            Tree::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.name.clone(), node.to_json())).collect())
            }
        }
    }
}

/// Text cut to what fits in an error, with control characters made visible.
pub(super) fn brief(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown.replace("\\\"", "\"").replace("\\'", "'")
}

/// The file is no YAML; nothing after the place could be read.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) at: Place,
    pub(super) message: String,
}

/// Every document of a file that is not empty.
pub(super) fn documents(bytes: &[u8]) -> Result<Vec<Node>, Broken> {
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| broken(&error, text))
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_nodes: 100_000,
            max_events: 400_000,
            max_documents: 2_000,
            max_aliases: 200,
            max_anchors: 200,
            max_recorded_anchor_events: 20_000,
            max_recorded_anchor_bytes: 1024 * 1024,
            max_merge_keys: 200,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 200,
        },
        // `on`, `off`, `yes` and `no` are names here, never truth values.
        strict_booleans: true,
        with_snippet: false,
    }
}

fn broken(error: &serde_saphyr::Error, text: &str) -> Broken {
    let at: Place = error.location().map(Place::from).unwrap_or_default();
    let said = error.render();
    let suffix = format!(" at line {}, column {}", at.line, at.column);
    let message = said.strip_suffix(&suffix).unwrap_or(&said).trim_start_matches("error: ");
    // What follows is the library speaking to its programmer.
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
    if let Some((_, breach)) = message.split_once("budget breached: ") {
        let limit = breach.split([' ', '{', '(']).next().unwrap_or_default();
        return Broken { at, message: format!("this is more than a policy file may hold (limit: {limit})") };
    }
    match indented_by_tab(text, at.line) {
        Some(line) if message.contains("a tab") || message.contains("tabs") => {
            let message = "a tab indents this line, which YAML forbids; indent with spaces".to_owned();
            Broken { at: Place { line, column: 1 }, message }
        }
        _ => Broken { at, message: format!("this is not valid YAML: {message}") },
    }
}

/// The first line from `line` on whose indentation has a tab.
fn indented_by_tab(text: &str, line: u64) -> Option<u64> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let numbered = text.lines().zip(1u64..).skip_while(|(_, n)| *n < line);
    numbered.filter(|(text, _)| text[..indentation(text)].contains('\t')).map(|(_, n)| n).next()
}

fn not_utf8(bytes: &[u8], valid: usize) -> Broken {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line = before.lines().count().max(1) as u64 + u64::from(before.ends_with('\n'));
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) as u64 + 1;
    let message = format!("byte {:#04x} is not UTF-8; save the file as UTF-8", bytes[valid]);
    Broken { at: Place { line, column }, message }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Tree>::deserialize(deserializer)?;
        Ok(Node { at: spanned.referenced.into(), tree: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Tree::Null, Tree::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::Text(text))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(Tree::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key { at: key.referenced.into(), name: key.value };
            entries.push((key, map.next_value()?));
        }
        Ok(Tree::Map(entries))
    }
}
