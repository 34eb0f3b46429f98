//! Globs over names, and three-valued answers to "does this match?".

use globset::{GlobBuilder, GlobMatcher};

/// Whether a condition holds. What cannot be told is neither yes nor no: it counts as a match where a match makes
/// the verdict stricter, and as none where a match makes it more lenient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Truth {
    /// It does not hold.
    No,
    /// It cannot be told: a fact is missing or is not certain.
    Unsure,
    /// It holds.
    Yes,
}

impl Truth {
    pub(super) fn not(self) -> Self {
        match self {
            Truth::No => Truth::Yes,
            Truth::Unsure => Truth::Unsure,
            Truth::Yes => Truth::No,
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Truth::Yes } else { Truth::No }
    }
}

/// One glob: `*` any run of characters (slashes and dots too), `?` one, `[a-z]` a class, `{a,b}` either, `\` escapes.
/// Letters match in their own case only.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    matches: Matches,
}

#[derive(Debug, Clone)]
enum Matches {
    Everything,
    Exactly,
    Glob(Box<GlobMatcher>),
}

impl Pattern {
    /// Reads a glob.
    ///
    /// # Errors
    /// It is none, or too long; the message says why, without the glob.
    pub fn new(text: &str) -> Result<Self, String> {
        const LONGEST: usize = 500;
        if text.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let matches = match text {
            "*" => Matches::Everything,
            _ if !text.contains(['*', '?', '[', ']', '{', '}', '\\']) => Matches::Exactly,
            _ => {
                let glob = GlobBuilder::new(text).backslash_escape(true).empty_alternates(true).build();
                Matches::Glob(Box::new(glob.map_err(|error| error.kind().to_string())?.compile_matcher()))
            }
        };
        Ok(Self { text: text.to_owned(), matches })
    }

    /// Whether it speaks of `name`.
    pub fn is_match(&self, name: &str) -> bool {
        match &self.matches {
            Matches::Everything => true,
            Matches::Exactly => self.text == name,
            Matches::Glob(glob) => glob.is_match(name),
        }
    }

    pub(super) fn is_everything(&self) -> bool {
        matches!(self.matches, Matches::Everything)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A name that this glob matches, for tests that do not name a workload.
    pub(super) fn example(&self) -> Option<String> {
        let mut name = String::new();
        let mut chars = self.text.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' | '?' => name.push('x'),
                '[' => name.push(chars.by_ref().take_while(|c| *c != ']').next()?),
                '{' => {
                    let choice: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    name.push_str(choice.split(',').next()?);
                }
                '\\' => name.push(chars.next()?),
                c => name.push(c),
            }
        }
        self.is_match(&name).then_some(name)
    }
}

/// Several globs, of which one must match.
#[derive(Debug, Clone)]
pub(super) struct Patterns(Vec<Pattern>);

impl Patterns {
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    pub(super) fn is_match(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(name))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter()
    }

    pub(super) fn example(&self) -> Option<String> {
        self.0.first()?.example()
    }
}

impl std::fmt::Display for Patterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<&str> = self.0.iter().map(Pattern::as_str).collect();
        f.write_str(&shown.join(", "))
    }
}

/// A glob over `schema.name`. Without a dot it speaks of the name alone.
#[derive(Debug, Clone)]
pub(super) struct Qualified {
    schema: Option<Pattern>,
    name: Pattern,
}

impl Qualified {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(Pattern::new(schema)?), Pattern::new(name)?),
            None => (None, Pattern::new(text)?),
        };
        if name.as_str().is_empty() || schema.as_ref().is_some_and(|schema| schema.as_str().is_empty()) {
            return Err("expected `name` or `schema.name`".to_owned());
        }
        Ok(Self { schema, name })
    }

    /// Whether it speaks of `name` in `schema`.
    ///
    /// Where only one side states a schema the answer depends on the session's search path, so it is
    /// [`Truth::Unsure`] — unless the glob takes any schema.
    pub(super) fn truth(&self, schema: Option<&str>, name: &str) -> Truth {
        if !self.name.is_match(name) {
            return Truth::No;
        }
        match (&self.schema, schema) {
            (Some(glob), _) if glob.is_everything() => Truth::Yes,
            (None, _) if self.name.is_everything() => Truth::Yes,
            (Some(glob), Some(schema)) => glob.is_match(schema).into(),
            (None, None) => Truth::Yes,
            (Some(_), None) | (None, Some(_)) => Truth::Unsure,
        }
    }
}

impl std::fmt::Display for Qualified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{}.{}", schema.as_str(), self.name.as_str()),
            None => f.write_str(self.name.as_str()),
        }
    }
}
