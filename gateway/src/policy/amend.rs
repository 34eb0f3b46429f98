//! A resource's document as its people wrote it, with more at the end of its `mask` list.
//!
//! Where the list stands in lines of its own, or there is none, every line and comment of theirs stays. Where it does not
//! (`mask: [...]`, or all in braces), each key is written anew, on one line.
//!
//! # Correctness
//! The result is read again: it is returned only if it says what the document said before, with these rules behind.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::yaml::{self, LARGEST_FILE, Node, Tree};

/// A line for the list, without its indentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskLine {
    /// `# …`, on one line.
    Comment(String),
    /// A rule in force: its mapping in YAML's short form, and why it is there.
    Rule {
        /// `{ column: "public.customers.email", with: partial }`.
        rule: String,
        /// Stands behind it as a comment, on one line.
        why: String,
    },
}

/// Why a document cannot be amended.
#[derive(Debug, thiserror::Error)]
pub enum AmendError {
    /// It has changed since, or was none.
    #[error("the file has no resource `{0}` any more; it was changed in this moment: try again")]
    Gone(String),
    /// More than a file may have.
    #[error(
        "with {rules} rules more the file would be larger than the {LARGEST_FILE} bytes or 100000 nodes that a policy file may have; look at one schema at a time, with --schema"
    )]
    TooLarge {
        /// How many were to be added.
        rules: usize,
    },
    /// A fault of ours, or YAML beyond what is understood here.
    #[error(
        "the document of resource `{0}` cannot be added to; write its `mask` as a list with one rule on a line, and try again"
    )]
    NotUnderstood(String),
}

/// The document of resource `name` in `source`, with `lines` at the end of its `mask` list.
///
/// # Errors
/// There is none, it would become too large, or what came out would not say the same.
pub fn with_masks(source: &str, name: &str, lines: &[MaskLine]) -> Result<String, AmendError> {
    let node = document(source, name).ok_or_else(|| AmendError::Gone(name.to_owned()))?;
    let wanted = wanted(&node, lines).ok_or_else(|| AmendError::NotUnderstood(name.to_owned()))?;
    let kept = inserted(source, &node, lines);
    let candidates = [kept, Some(rewritten(&node, lines))];
    let mut too_large = false;
    for text in candidates.into_iter().flatten() {
        too_large |= text.len() as u64 > LARGEST_FILE;
        match yaml::documents(text.as_bytes()) {
            Ok(documents) => {
                if let [only] = &documents[..]
                    && only.to_json() == wanted
                    && !too_large
                {
                    return Ok(text);
                }
            }
            Err(broken) => too_large |= broken.message.contains("than a policy file may hold"),
        }
    }
    if too_large {
        let rules = lines.iter().filter(|line| matches!(line, MaskLine::Rule { .. })).count();
        return Err(AmendError::TooLarge { rules });
    }
    Err(AmendError::NotUnderstood(name.to_owned()))
}

/// Text as YAML's double-quoted form, on one line of characters that a person sees.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(char),
            _ if char.is_alphanumeric() => out.push(char),
            _ => write!(out, "\\U{:08x}", u32::from(char)).expect("a string takes every text"),
        }
    }
    out.push('"');
    out
}

/// The root of the document that is resource `name`.
fn document(source: &str, name: &str) -> Option<Node> {
    let is_it =
        |node: &Node| matches!(entry(node, "resource"), Some(Node { tree: Tree::Text(text), .. }) if text == name);
    yaml::documents(source.as_bytes()).ok()?.into_iter().find(is_it)
}

fn entry<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Tree::Map(entries) = &node.tree else { return None };
    entries.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
}

/// What the result has to say.
fn wanted(node: &Node, lines: &[MaskLine]) -> Option<Value> {
    let mut all = node.to_json();
    let mut rules = Vec::new();
    for line in lines {
        if let MaskLine::Rule { rule, .. } = line {
            rules.push(yaml::documents(rule.as_bytes()).ok()?.first()?.to_json());
        }
    }
    if !rules.is_empty() {
        let masks = all.as_object_mut()?.entry("mask").or_insert_with(|| json!([]));
        masks.as_array_mut()?.extend(rules);
    }
    Some(all)
}

fn written(lines: &[MaskLine], indent: usize, out: &mut String) {
    for line in lines {
        out.extend(std::iter::repeat_n(' ', indent));
        match line {
            MaskLine::Comment(text) => _ = writeln!(out, "# {text}"),
            MaskLine::Rule { rule, why } => _ = writeln!(out, "- {rule}  # {why}"),
        }
    }
}

/// The list's key, where there is none yet: a list of comments alone would be no list.
fn key(lines: &[MaskLine]) -> &'static str {
    if lines.iter().any(|line| matches!(line, MaskLine::Rule { .. })) { "mask:\n" } else { "# mask:\n" }
}

/// The document's own lines with the new ones between them; `None` where they have no place of their own.
fn inserted(source: &str, node: &Node, lines: &[MaskLine]) -> Option<String> {
    let Tree::Map(entries) = &node.tree else { return None };
    let all: Vec<&str> = source.lines().collect();
    let marks = |line: &str| {
        ["---", "..."]
            .iter()
            .any(|mark| line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])))
    };
    let first = usize::try_from(entries.first()?.0.at.line).ok()?.checked_sub(1)?;
    let in_lines = entries.iter().all(|(key, _)| key.at.column == 1);
    if !in_lines || all.get(first)?.starts_with('{') {
        return None;
    }
    let start = all[..first].iter().rposition(|line| marks(line)).map_or(0, |mark| mark + 1);
    let end = all[first..].iter().position(|line| marks(line)).map_or(all.len(), |mark| first + mark);
    let (at, indent, new_key) = match entries.iter().find(|(key, _)| key.name == "mask") {
        None => (end_of(&all, start, end, 0), 2, true),
        Some((key, list)) => {
            let Tree::List(items) = &list.tree else { return None };
            let item = items.first()?;
            let line = *all.get(usize::try_from(item.at.line).ok()?.checked_sub(1)?)?;
            let before: String = line.chars().take(usize::try_from(item.at.column).ok()?.checked_sub(1)?).collect();
            let indent = before.find('-')?;
            if before.trim() != "-" {
                return None;
            }
            let next = entries.iter().map(|(other, _)| other.at.line).filter(|line| *line > key.at.line).min();
            let next = next.and_then(|line| usize::try_from(line).ok()).map_or(end, |line| line - 1);
            (end_of(&all, start, next, indent), indent, false)
        }
    };
    let mut text = String::new();
    for line in &all[start..at] {
        _ = writeln!(text, "{line}");
    }
    if new_key {
        text.push_str(key(lines));
    }
    written(lines, indent, &mut text);
    for line in &all[at..end] {
        _ = writeln!(text, "{line}");
    }
    Some(text)
}

/// Behind the last line before `end` that is not blank and no comment about what follows.
fn end_of(all: &[&str], start: usize, end: usize, indent: usize) -> usize {
    let follows = |line: &str| {
        let inner = line.trim_start();
        inner.is_empty() || inner.starts_with('#') && line.len() - inner.len() < indent.max(1)
    };
    all[start..end].iter().rposition(|line| !follows(line)).map_or(start, |last| start + last + 1)
}

/// Every key on a line of its own, the mask's rules too.
fn rewritten(node: &Node, lines: &[MaskLine]) -> String {
    let mut text = String::new();
    let Tree::Map(entries) = &node.tree else { return text };
    for (key, value) in entries.iter().filter(|(key, _)| key.name != "mask") {
        _ = writeln!(text, "{}: {}", quoted(&key.name), value.to_json());
    }
    let old: Vec<Value> = match entry(node, "mask") {
        Some(Node { tree: Tree::List(items), .. }) => items.iter().map(Node::to_json).collect(),
        _ => Vec::new(),
    };
    match (&old[..], entry(node, "mask")) {
        ([], None) => text.push_str(key(lines)),
        ([], Some(_)) if key(lines).starts_with('#') => text.push_str("mask: []\n"),
        _ => text.push_str("mask:\n"),
    }
    for rule in old {
        _ = writeln!(text, "  - {rule}");
    }
    written(lines, 2, &mut text);
    text
}

#[cfg(test)]
mod tests;
