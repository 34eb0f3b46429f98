//! A resource's mask rules: as they are written, and compiled.
//!
//! Names match without regard to ASCII case, so that `"SSN"` and `ssn` are both caught.

use globset::{GlobBuilder, GlobMatcher};

use super::{Detector, Detectors, Method};

/// One entry of a resource's `mask:` list: `{ column: "public.customers.email", with: partial }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskRule {
    /// What is masked.
    pub select: Select,
    /// How.
    pub with: Method,
}

/// What a rule masks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// A stored column, wherever its values turn up. Each part is a glob.
    Column {
        /// The schema; `*` when the rule names only table and column.
        schema: String,
        /// The table or view.
        table: String,
        /// The column.
        column: String,
    },
    /// Every result column and every stored column of this name (a glob), in any table.
    Name(String),
    /// Values that look like this, in any column and any message.
    Detect(Vec<Detector>),
}

/// A mask rule that cannot be used, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not `schema.table.column` or `table.column`.
    #[error(
        "`{0}` is not a column; write schema.table.column or table.column (quote a part that has a dot in it), or use `name:` for a column of that name in any table"
    )]
    Column(String),
    /// Not a glob.
    #[error("`{glob}` is not a valid pattern: {why}")]
    Glob {
        /// The pattern as written.
        glob: String,
        /// What is wrong with it.
        why: String,
    },
    /// `detect:` without a detector.
    #[error("`detect` names no detector; expected some of {}", Detector::names())]
    NoDetector,
}

impl Select {
    /// Reads `schema.table.column` or `table.column`; a part in double quotes may contain dots, and `""` is a quote.
    ///
    /// # Errors
    /// When there are not two or three parts, one is empty, or a quote is left open.
    pub fn column(written: &str) -> Result<Self, RuleError> {
        let wrong = || RuleError::Column(written.to_owned());
        let mut parts = vec![String::new()];
        let mut in_quotes = false;
        let mut chars = written.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '"' if in_quotes && chars.peek() == Some(&'"') => {
                    chars.next();
                    parts.last_mut().expect("never empty").push('"');
                }
                '"' => in_quotes = !in_quotes,
                '.' if !in_quotes => parts.push(String::new()),
                other => parts.last_mut().expect("never empty").push(other),
            }
        }
        if in_quotes || parts.iter().any(String::is_empty) {
            return Err(wrong());
        }
        if parts.len() == 2 {
            parts.insert(0, "*".to_owned());
        }
        let [schema, table, column] = parts.try_into().map_err(|_| wrong())?;
        Ok(Select::Column { schema, table, column })
    }
}

/// A column as a rule names it so that [`Select::column`] reads this column and no other: each part quoted where it has to
/// be, and what a glob would take for more than itself in brackets.
pub fn written(schema: &str, table: &str, column: &str) -> String {
    let parts = [schema, table, column].map(|name| {
        let mut part = String::with_capacity(name.len());
        for char in name.chars() {
            match char {
                '*' | '?' | '[' | ']' | '{' | '}' | '\\' => part.extend(['[', char, ']']),
                '"' => part.push_str("\"\""),
                char => part.push(char),
            }
        }
        if part.contains(['.', '"']) { format!("\"{part}\"") } else { part }
    });
    parts.join(".")
}

/// A pattern with what it was written as.
#[derive(Debug, Clone)]
struct Pattern {
    written: String,
    matcher: GlobMatcher,
}

impl Pattern {
    fn compile(written: &str) -> Result<Self, RuleError> {
        let glob = GlobBuilder::new(written).case_insensitive(true).literal_separator(false).build();
        let glob = glob.map_err(|error| RuleError::Glob { glob: written.to_owned(), why: error.kind().to_string() })?;
        Ok(Self { written: written.to_owned(), matcher: glob.compile_matcher() })
    }

    fn matches(&self, name: &str) -> bool {
        self.written == "*" || self.matcher.is_match(name)
    }
}

#[derive(Debug, Clone)]
struct ColumnRule {
    schema: Pattern,
    table: Pattern,
    column: Pattern,
    with: Method,
}

/// A resource's mask rules, compiled. Where several match, the method that reveals least wins.
#[derive(Debug, Clone, Default)]
pub struct Masks {
    columns: Vec<ColumnRule>,
    names: Vec<(Pattern, Method)>,
    detectors: Option<Detectors>,
}

impl Masks {
    /// Compiles `rules`.
    ///
    /// # Errors
    /// When a pattern is not a glob or a `detect` list is empty.
    pub fn compile<'a>(rules: impl IntoIterator<Item = &'a MaskRule>) -> Result<Self, RuleError> {
        let mut masks = Masks::default();
        for rule in rules {
            masks.add(rule)?;
        }
        Ok(masks)
    }

    /// Compiles `rule` and adds it.
    ///
    /// # Errors
    /// When a pattern is not a glob or the `detect` list is empty; nothing is added then.
    pub fn add(&mut self, rule: &MaskRule) -> Result<(), RuleError> {
        match &rule.select {
            Select::Column { schema, table, column } => self.columns.push(ColumnRule {
                schema: Pattern::compile(schema)?,
                table: Pattern::compile(table)?,
                column: Pattern::compile(column)?,
                with: rule.with,
            }),
            Select::Name(name) => self.names.push((Pattern::compile(name)?, rule.with)),
            Select::Detect(detectors) if detectors.is_empty() => return Err(RuleError::NoDetector),
            Select::Detect(detectors) => {
                let compiled = self.detectors.get_or_insert_with(Detectors::default);
                detectors.iter().for_each(|detector| compiled.add(*detector, rule.with));
            }
        }
        Ok(())
    }

    /// Whether nothing is masked.
    pub fn is_empty(&self) -> bool {
        !self.has_columns() && self.detectors.is_none()
    }

    /// Whether any rule names columns, so that lineage matters.
    pub fn has_columns(&self) -> bool {
        !self.columns.is_empty() || !self.names.is_empty()
    }

    /// How a stored column is masked, if it is. A `name` rule names stored columns too: an alias does not undo it.
    pub fn for_column(&self, schema: &str, table: &str, column: &str) -> Option<Method> {
        let by_column = self
            .columns
            .iter()
            .filter(|rule| rule.column.matches(column) && rule.table.matches(table) && rule.schema.matches(schema));
        by_column.map(|rule| rule.with).max().max(self.for_name(column))
    }

    /// How a result column of this name is masked, whatever it holds.
    pub fn for_name(&self, result_name: &str) -> Option<Method> {
        self.names.iter().filter(|(pattern, _)| pattern.matches(result_name)).map(|(_, with)| *with).max()
    }

    /// Whether a column of this name could be masked in some table.
    pub fn mentions(&self, column: &str) -> bool {
        self.for_name(column).is_some() || self.columns.iter().any(|rule| rule.column.matches(column))
    }

    /// Whether a relation that a text names so could have this column, masked; `None` asks for any that a rule names with
    /// its table.
    pub fn could_mask(&self, schema: Option<&str>, table: &str, column: Option<&str>) -> bool {
        let of_table =
            |rule: &&ColumnRule| rule.table.matches(table) && schema.is_none_or(|schema| rule.schema.matches(schema));
        let is_it = |rule: &ColumnRule| column.is_none_or(|column| rule.column.matches(column));
        self.columns.iter().filter(of_table).any(is_it) || column.is_some_and(|column| self.for_name(column).is_some())
    }

    /// What is looked for in values, if anything.
    pub fn detectors(&self) -> Option<&Detectors> {
        self.detectors.as_ref()
    }

    /// The patterns of masked columns as written: schema, table, column. For a protocol that asks a catalog.
    pub fn column_patterns(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let columns = self
            .columns
            .iter()
            .map(|rule| (rule.schema.written.as_str(), rule.table.written.as_str(), rule.column.written.as_str()));
        columns.chain(self.names.iter().map(|(name, _)| ("*", "*", name.written.as_str())))
    }
}

#[cfg(test)]
mod tests;
