//! Reads the corpus: files of SQL in which a comment of a fixed form stands in front of each statement.
//!
//! ```sql
//! -- ## E'' hides the end of a string | read, delete | table u
//! SELECT E'\''; DELETE FROM u; --'
//! ```
//! After the title: the exact effects, and objects that must be among those found. Further lines may follow at once:
//! - `-- how: own, extended, portal, fails, off, as ROLE`: in a database of its own, not in a transaction; by the
//!   extended protocol; so and row by row; the server refuses it; with `standard_conforming_strings` off; as another role.
//! - `-- after: SQL`: runs first, in the same session, and is not looked at.
//! - `-- beyond: WHY`: it does more than its text's effects say, for a known reason.
//! - `-- inside: EFFECTS`: what it does by the catalog, where that says more or less than the text.
//! - `-- still: WHY`: it does more than even that, for a known reason.
//!
//! `{dir}`, `{port}`, `{victim}` and `{database}` stand for what only the test knows.

use std::{collections::BTreeMap, fmt, fs, path::Path, sync::Arc};

use holdpoint::{
    operation::Effects,
    protocol::postgres::{
        classify::{Classified, Classifier, Lexical, Sense, Statement},
        code::Code,
    },
};

/// One statement of the corpus.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    class: String,
    title: String,
    /// What runs.
    pub(crate) text: String,
    /// What the classifier must say.
    pub(crate) effects: Effects,
    /// Objects that it must name.
    pub(crate) objects: Vec<String>,
    /// Not in a transaction that is rolled back, but in a database that is thrown away.
    pub(crate) own: bool,
    /// By Parse, Bind and an Execute for each limit of rows.
    pub(crate) extended: Option<&'static [u32]>,
    /// The server refuses it.
    pub(crate) fails: bool,
    /// `standard_conforming_strings` is off.
    pub(crate) off: bool,
    /// The role that runs it.
    pub(crate) role: Option<String>,
    /// What runs before it.
    pub(crate) after: Option<String>,
    /// Why it does more than its text's effects say.
    pub(crate) beyond: Option<String>,
    /// What the classifier must say with the catalog.
    pub(crate) inside: Option<Effects>,
    /// Why it does more than even that.
    pub(crate) still: Option<String>,
}

/// What the classifier says, in words.
#[derive(Debug)]
pub(crate) struct Claim {
    /// The effects.
    pub(crate) effects: Effects,
    /// The objects as people see them.
    pub(crate) objects: Vec<String>,
    /// Why it is unknown.
    pub(crate) unknown: Vec<String>,
}

/// The prepared statements and cursors of a session.
#[derive(Debug, Default)]
pub(crate) struct Known {
    prepared: BTreeMap<String, Arc<Sense>>,
    cursors: BTreeMap<String, Arc<Sense>>,
}

impl Known {
    /// What a text means in this session.
    pub(crate) fn resolve(&self, classified: &Classified) -> Arc<Sense> {
        classified.resolve(|name| self.prepared.get(name).cloned(), |name| self.cursors.get(name).cloned())
    }
}

impl Claim {
    /// The tables among the objects.
    pub(crate) fn tables(&self) -> Vec<&str> {
        self.objects.iter().filter_map(|object| object.strip_prefix("table ")).collect()
    }
}

impl Entry {
    /// A statement with nothing expected of it.
    pub(crate) fn bare(text: &str) -> Self {
        let own = ["VACUUM", "ALTER SYSTEM"].iter().any(|start| text.starts_with(start));
        Self { class: "bare".to_owned(), title: "statement".to_owned(), text: text.to_owned(), own, ..Self::default() }
    }

    /// What the classifier makes of it, after what runs before it: by its text, or by the catalog as well.
    pub(crate) fn claim(&self, code: Option<&Code>) -> Claim {
        let classifier = Classifier::new(1 << 20);
        let known = self.known(&classifier);
        let classified = classifier.classify(self.neutral().as_bytes(), &self.lexical());
        let sense = known.resolve(&classified);
        let meaning =
            code.map_or_else(|| sense.meaning.clone(), |code| code.see_through(&sense, &classified, true, &classifier));
        Claim {
            effects: meaning.effects,
            objects: meaning.objects.iter().map(ToString::to_string).collect(),
            unknown: meaning.unknown.clone(),
        }
    }

    /// Its text as the classifier is given it.
    pub(crate) fn neutral(&self) -> String {
        neutral(&self.text)
    }

    /// The settings that its text is read under.
    pub(crate) fn lexical(&self) -> Lexical {
        Lexical { standard_conforming_strings: !self.off, ..Lexical::default() }
    }

    /// What the names in it stand for after what runs before it.
    pub(crate) fn known(&self, classifier: &Classifier) -> Known {
        let mut known = Known::default();
        let before = self.after.iter().map(|after| classifier.classify(neutral(after).as_bytes(), &self.lexical()));
        for statement in before.flat_map(|before| before.statements.clone()) {
            match statement {
                Statement::Prepare { name, sense } => drop(known.prepared.insert(name, sense)),
                Statement::DeclareCursor { name, sense, .. } => drop(known.cursors.insert(name, sense)),
                _ => {}
            }
        }
        known
    }

    fn option(&mut self, line: &str) -> bool {
        let Some((name, value)) = line.strip_prefix("-- ").and_then(|line| line.split_once(": ")) else { return false };
        match name {
            "how" => value.split(", ").for_each(|way| self.way(way)),
            "after" => self.after = Some(value.to_owned()),
            "beyond" => self.beyond = Some(value.to_owned()),
            "inside" => self.inside = Some(effects(&self.class, &self.title, value)),
            "still" => self.still = Some(value.to_owned()),
            _ => return false,
        }
        true
    }

    fn way(&mut self, way: &str) {
        match way {
            "own" => self.own = true,
            "extended" => self.extended = Some(&[0]),
            "portal" => self.extended = Some(&[1, 1, 0]),
            "fails" => self.fails = true,
            "off" => self.off = true,
            _ => match way.strip_prefix("as ") {
                Some(role) => self.role = Some(role.to_owned()),
                None => panic!("{self}: no such way to run it: {way}"),
            },
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.class, self.title, self.text)
    }
}

/// The text with something of the right kind in the places that no string hides. None of it decides an effect.
fn neutral(text: &str) -> String {
    text.replace("{database}", "shared").replace("{victim}", "1").replace("{port}", "5432")
}

/// All of them, in the files' order.
pub(crate) fn entries() -> Vec<Entry> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/effects");
    let mut files: Vec<_> = fs::read_dir(&directory).expect("the corpus is there").flatten().collect();
    files.sort_by_key(fs::DirEntry::file_name);
    let mut entries = Vec::new();
    for file in files {
        let class = file.path().file_stem().expect("files have names").to_string_lossy().into_owned();
        let text = fs::read_to_string(file.path()).expect("the corpus is UTF-8");
        let mut parts = text.split("-- ## ");
        let _introduction = parts.next();
        entries.extend(parts.map(|part| entry(&class, part)));
    }
    entries
}

fn entry(class: &str, part: &str) -> Entry {
    let (head, rest) = part.split_once('\n').expect("a statement follows its header");
    let mut fields = head.split('|').map(str::trim);
    let mut field = || fields.next().unwrap_or_default();
    let (title, expected, objects) = (field(), field(), field());
    let mut entry = Entry {
        class: class.to_owned(),
        title: title.to_owned(),
        effects: effects(class, title, expected),
        objects: list(objects).map(str::to_owned).collect(),
        ..Entry::default()
    };
    let mut rest = rest;
    while let Some((line, below)) = rest.split_once('\n')
        && entry.option(line)
    {
        rest = below;
    }
    entry.text = rest.trim_end().to_owned();
    entry
}

fn effects(class: &str, title: &str, words: &str) -> Effects {
    let effect = |word: &str| match word.parse() {
        Ok(effect) => effect,
        Err(error) => panic!("{class}: {title}: {error}"),
    };
    list(words).filter(|word| *word != "none").map(effect).collect()
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(", ").filter(|item| !item.is_empty())
}
