//! What an operation would touch, as its backend estimates it before anything has run.

use schemars::JsonSchema;
use serde::Serialize;

use super::Digest;

/// What an operation would touch, for people: they see it beside the operation, and approve it with that. Estimates, but
/// for what ran already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Impact {
    /// What it would change, or give where it changes nothing.
    pub estimates: Vec<Estimate>,
    /// What it acts on.
    pub touched: Vec<Touched>,
    /// What is not known, and why; empty where nothing is missing.
    pub missing: String,
    /// What ran in its transaction already, in order, and would be committed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub ran: Vec<Ran>,
}

/// One operation that ran and is not committed yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Ran {
    /// It, made visible.
    pub statement: String,
    /// How many rows it changed or gave, where the backend has said so.
    pub rows: Option<u64>,
}

/// How much of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Estimate {
    /// `insert`, `update`, `delete`, `merge` or `return`.
    pub what: String,
    /// In or from what; empty for an answer's rows.
    pub on: String,
    /// How many rows.
    pub rows: u64,
}

/// One thing that it acts on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Touched {
    /// Its name, with its schema.
    pub name: String,
    /// How many rows it has, where the backend has ever counted.
    pub rows: Option<u64>,
    /// How large it is.
    pub bytes: Option<u64>,
    /// The locks that the session would hold on it, in the backend's words.
    pub locks: Vec<String>,
}

impl Impact {
    /// Nothing is known.
    pub fn unknown(why: &str) -> Self {
        Self { missing: why.to_owned(), ..Self::default() }
    }

    /// For people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let ran = self.ran.iter().map(|Ran { statement, rows }| {
            let rows = rows.map_or_else(String::new, |rows| format!("{rows} rows: "));
            format!("commit {rows}{statement}")
        });
        let estimates = self.estimates.iter().map(|Estimate { what, on, rows }| match on.as_str() {
            "" => format!("{what} about {rows} rows"),
            on => format!("{what} about {rows} rows of {on}"),
        });
        let touched = self.touched.iter().map(|Touched { name, rows, bytes, locks }| {
            let rows = rows.map_or_else(|| "rows never counted".to_owned(), |rows| format!("about {rows} rows"));
            let bytes = bytes.map_or_else(String::new, |bytes| format!(", {}", size(bytes)));
            let locks = if locks.is_empty() { String::new() } else { format!(", {}", locks.join(" and ")) };
            format!("{name} has {rows}{bytes}{locks}")
        });
        let missing = (!self.missing.is_empty()).then(|| format!("not known: {}", self.missing));
        ran.chain(estimates).chain(touched).chain(missing).collect()
    }

    /// The digest of `approved` together with this: what people approve once they see both.
    pub fn bound_to(&self, approved: &Digest) -> Digest {
        let mut bytes = b"holdpoint impact 1".to_vec();
        bytes.extend(approved.0);
        let mut put = |field: &[u8]| {
            bytes.extend((field.len() as u64).to_be_bytes());
            bytes.extend(field);
        };
        let number = |number: Option<u64>| number.map_or_else(Vec::new, |number| number.to_be_bytes().to_vec());
        put(&(self.estimates.len() as u64).to_be_bytes());
        for Estimate { what, on, rows } in &self.estimates {
            put(what.as_bytes());
            put(on.as_bytes());
            put(&rows.to_be_bytes());
        }
        put(&(self.touched.len() as u64).to_be_bytes());
        for Touched { name, rows, bytes, locks } in &self.touched {
            put(name.as_bytes());
            put(&number(*rows));
            put(&number(*bytes));
            put(&(locks.len() as u64).to_be_bytes());
            locks.iter().for_each(|lock| put(lock.as_bytes()));
        }
        put(self.missing.as_bytes());
        for Ran { statement, rows } in &self.ran {
            put(statement.as_bytes());
            put(&number(*rows));
        }
        Digest::of(&bytes)
    }
}

/// Bytes, for people.
fn size(bytes: u64) -> String {
    let mut rest = bytes;
    for unit in ["bytes", "KiB", "MiB"] {
        if rest < 10 * 1024 {
            return format!("{rest} {unit}");
        }
        rest /= 1024;
    }
    format!("{rest} GiB")
}
