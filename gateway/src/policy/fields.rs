//! Taking typed values out of a [`Node`], noting everything that is wrong on the way.
//!
//! Every function here answers `None` after it has noted an error, so that reading goes on and finds the next one;
//! whoever loads the files refuses the set if anything was noted.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    error::{Origin, PolicyError, suggestion},
    pattern::{Pattern, Patterns},
    yaml::{Key, Node, Place, Tree, brief},
};
use crate::operation::{Effect, Effects};

/// The errors of one file, as they are found.
pub(super) struct Notes {
    file: Arc<Path>,
    errors: Vec<PolicyError>,
}

impl Notes {
    pub(super) fn new(file: Arc<Path>) -> Self {
        Self { file, errors: Vec::new() }
    }

    pub(super) fn note(&mut self, at: Place, message: impl Into<String>) {
        let at = self.origin(at);
        self.errors.push(PolicyError { at, message: message.into() });
    }

    pub(super) fn origin(&self, at: Place) -> Origin {
        Origin { file: Arc::clone(&self.file), line: at.line, column: at.column }
    }

    pub(super) fn into_errors(self) -> Vec<PolicyError> {
        self.errors
    }
}

/// A mapping whose keys are all known.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n> {
    /// What the mapping is, for errors: `policy`, `approval`, …
    what: &'n str,
    pub(super) at: Place,
    entries: &'n [(Key, Node)],
}

impl<'n> Fields<'n> {
    /// The mapping in `node`; keys that are not in `known` are noted.
    pub(super) fn read(node: &'n Node, what: &'n str, known: &[&str], notes: &mut Notes) -> Option<Self> {
        let fields = Self::any(node, what, notes)?;
        for (key, _) in fields.entries.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            let (name, hint) = (brief(&key.name), suggestion(&key.name, known));
            notes.note(key.at, format!("unknown key `{name}` in {what}, {hint}"));
        }
        Some(fields)
    }

    /// The mapping in `node`, whatever its keys.
    pub(super) fn any(node: &'n Node, what: &'n str, notes: &mut Notes) -> Option<Self> {
        match &node.tree {
            Tree::Map(entries) => Some(Self { what, at: node.at, entries }),
            _ => {
                notes.note(node.at, format!("expected a mapping for {what}, found {}", node.noun()));
                None
            }
        }
    }

    pub(super) fn entries(&self) -> &'n [(Key, Node)] {
        self.entries
    }

    /// The value of `key`, if it is written.
    pub(super) fn find(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(k, _)| k.name == key).map(|(_, node)| node)
    }

    /// The value of `key`, which must be written.
    pub(super) fn need(&self, key: &str, expected: &str, notes: &mut Notes) -> Option<&'n Node> {
        let found = self.find(key);
        if found.is_none() {
            notes.note(self.at, format!("{} has no `{key}`; expected {expected}", self.what));
        }
        found
    }

    /// The text of `key`, if it is written.
    pub(super) fn text(&self, key: &str, notes: &mut Notes) -> Option<&'n str> {
        text(self.find(key)?, key, notes)
    }

    /// One of a closed list of words, if `key` is written.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)], notes: &mut Notes) -> Option<T> {
        word(self.find(key)?, key, words, notes)
    }
}

/// A text that is not empty.
pub(super) fn text<'n>(node: &'n Node, what: &str, notes: &mut Notes) -> Option<&'n str> {
    match &node.tree {
        Tree::Text(text) if text.trim().is_empty() => {
            notes.note(node.at, format!("`{what}` is empty; expected text"));
            None
        }
        Tree::Text(text) => Some(text),
        _ => {
            notes.note(
                node.at,
                format!("expected text for `{what}`, found {}; quote it if it is meant so", node.noun()),
            );
            None
        }
    }
}

/// A name that people write and read: no control characters, at most 200 characters.
pub(super) fn name<'n>(node: &'n Node, what: &str, notes: &mut Notes) -> Option<&'n str> {
    let found = text(node, what, notes)?;
    if found.chars().any(char::is_control) || found.chars().count() > 200 || found.trim() != found {
        notes.note(
            node.at,
            format!(
                "`{what}` must be at most 200 characters on one line, without spaces around it; found `{}`",
                brief(found)
            ),
        );
        return None;
    }
    Some(found)
}

/// One of a closed list of words.
pub(super) fn word<T: Copy>(node: &Node, what: &str, words: &[(&str, T)], notes: &mut Notes) -> Option<T> {
    let found = match &node.tree {
        Tree::Text(text) => words.iter().find(|(word, _)| word == text),
        _ => None,
    };
    if found.is_none() {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = match &node.tree {
            Tree::Text(text) => suggestion(text, &known),
            _ => format!("expected one of {}", known.join(", ")),
        };
        notes.note(node.at, format!("`{what}` cannot be {}; {hint}", node.noun()));
    }
    found.map(|(_, value)| *value)
}

/// The nodes of a list, or the one node that stands in its place.
pub(super) fn one_or_many(node: &Node) -> &[Node] {
    match &node.tree {
        Tree::List(nodes) => nodes,
        _ => std::slice::from_ref(node),
    }
}

/// The nodes of a list that is not empty, or the one node that stands in its place.
pub(super) fn some<'n>(node: &'n Node, what: &str, notes: &mut Notes) -> &'n [Node] {
    let nodes = one_or_many(node);
    if nodes.is_empty() {
        notes.note(node.at, format!("`{what}` is an empty list, which would match nothing; leave it out to match all"));
    }
    nodes
}

/// A span of time in words (`15m`, `1h 30s`), more than nothing and at most 30 days.
pub(super) fn duration(node: &Node, what: &str, notes: &mut Notes) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    let Tree::Text(text) = &node.tree else {
        notes.note(node.at, format!("expected a duration such as `15m` for `{what}`, found {}", node.noun()));
        return None;
    };
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => {
            notes.note(node.at, format!("`{what}` must be more than zero"));
            None
        }
        Ok(duration) if duration > LONGEST => {
            notes.note(node.at, format!("`{what}` is `{}`; the longest is 30 days", brief(text)));
            None
        }
        Ok(duration) => Some(duration),
        Err(error) => {
            let shown = brief(text);
            notes.note(node.at, format!("`{shown}` is no duration for `{what}` ({error}); expected one such as `15m`"));
            None
        }
    }
}

/// A whole number from 1 to `most`.
pub(super) fn count(node: &Node, what: &str, most: u32, notes: &mut Notes) -> Option<u32> {
    let found = match &node.tree {
        Tree::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=most).contains(n)),
        _ => None,
    };
    if found.is_none() {
        notes.note(node.at, format!("expected a whole number from 1 to {most} for `{what}`, found {}", node.noun()));
    }
    found
}

/// One effect or a list of them.
pub(super) fn effects(node: &Node, notes: &mut Notes) -> Option<Effects> {
    let words = Effect::ALL.map(|effect| (effect.as_str(), effect));
    let found: Effects =
        some(node, "effects", notes).iter().filter_map(|node| word(node, "effects", &words, notes)).collect();
    Some(found)
}

/// One glob or a list of them.
pub(super) fn patterns(node: &Node, what: &str, notes: &mut Notes) -> Option<Patterns> {
    Some(Patterns::new(some(node, what, notes).iter().filter_map(|node| pattern(node, what, notes)).collect()))
}

/// One glob.
pub(super) fn pattern(node: &Node, what: &str, notes: &mut Notes) -> Option<Pattern> {
    let glob = text(node, what, notes)?;
    match Pattern::new(glob) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            notes.note(node.at, format!("`{}` is no glob for `{what}`: {error}", brief(glob)));
            None
        }
    }
}
