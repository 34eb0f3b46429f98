//! The server that the corpus runs on, and how one statement is run and watched.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    path::Path,
};

use holdpoint::{
    operation::Effect,
    protocol::postgres::code::{Code, CodeReader, lookup_sql},
};
use tests::{Lab, Postgres};

use crate::{
    corpus::Entry,
    facts::{self, Fact, Look},
    subject::{Reply, Subject},
};

/// A server with the world on it.
pub(crate) struct Stage {
    // Before the lab, whose directory it lives in.
    pg: Postgres,
    _lab: Lab,
    admin: RefCell<Subject>,
    shared: RefCell<Subject>,
    victim: RefCell<Subject>,
    count: Cell<usize>,
}

/// What the rows of a lookup say.
pub(crate) fn read(rows: &[Vec<u8>]) -> Code {
    let mut reader = CodeReader::default();
    for row in rows {
        reader.row(row).expect("the lookup's rows can be read");
    }
    reader.finish()
}

/// What one statement did.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Everything that effects must account for.
    pub(crate) facts: Vec<Fact>,
    /// Why the server refused it.
    pub(crate) error: Option<String>,
}

impl Stage {
    /// Starts the server, and makes the world and a first copy of it.
    pub(crate) fn set(name: &str) -> Self {
        let lab = Lab::new(name);
        let pg = Postgres::start(&lab);
        let port = pg.port();
        let out = pg.dir().join("out");
        fs::create_dir(&out).expect("the data directory is the lab's");
        let owner = fs::metadata(pg.dir()).expect("it exists");
        std::os::unix::fs::chown(&out, Some(std::os::unix::fs::MetadataExt::uid(&owner)), None)
            .expect("tests are root");
        let mut admin = Subject::log_in(port, "postgres", "postgres");
        admin.must(
            "CREATE ROLE clerk; CREATE ROLE boss; CREATE ROLE spare; CREATE TABLE log AS SELECT 'far'::text AS what",
        );
        admin.must("CREATE DATABASE world");
        make_world(&pg);
        admin.must("CREATE DATABASE shared TEMPLATE world");
        let shared = RefCell::new(Subject::log_in(port, "postgres", "shared"));
        let victim = RefCell::new(Subject::log_in(port, "postgres", "postgres"));
        Self { admin: RefCell::new(admin), pg, _lab: lab, shared, victim, count: Cell::new(0) }
    }

    /// What the catalog says of this world.
    pub(crate) fn code(&self) -> Code {
        read(&self.lookup())
    }

    /// The rows that the catalog answers to the gateway's lookup, but those of the witness's event triggers.
    pub(crate) fn lookup(&self) -> Vec<Vec<u8>> {
        let reply = self.shared.borrow_mut().query(&lookup_sql());
        assert_eq!(reply.error, None, "the lookup works");
        let is_event_trigger = |row: &Vec<u8>| row.get(7..12) == Some(b"\0\0\0\x01e");
        reply.messages.into_iter().filter(|row| !is_event_trigger(row)).collect()
    }

    /// Runs the statement in its place and tells what it did.
    pub(crate) fn perform(&self, entry: &Entry) -> Seen {
        let mut seen = if entry.own { self.apart(entry) } else { self.rolled_back(entry) };
        if self.victim.borrow_mut().query("SELECT 1").error.is_some() {
            seen.facts.push(Fact::new("another session was ended", &[Effect::Admin]));
            *self.victim.borrow_mut() = Subject::log_in(self.pg.port(), "postgres", "postgres");
        }
        seen
    }

    /// In a transaction of the shared session, so that the session's own statistics tell of this statement alone.
    fn rolled_back(&self, entry: &Entry) -> Seen {
        let mut subject = self.shared.borrow_mut();
        subject.must("BEGIN");
        let seen = self.watch(&mut subject, entry, "shared");
        drop(subject.query("ROLLBACK"));
        // What outlives a transaction must not outlive the statement.
        if subject.query("DISCARD ALL").error.is_some() {
            *subject = Subject::log_in(self.pg.port(), "postgres", "shared");
        }
        seen
    }

    /// In a database that is thrown away, without a transaction around it, with a listener on the same database.
    fn apart(&self, entry: &Entry) -> Seen {
        self.count.set(self.count.get() + 1);
        let name = format!("apart_{}", self.count.get());
        self.admin.borrow_mut().must(&format!("CREATE DATABASE {name} TEMPLATE world"));
        let mut listener = Subject::log_in(self.pg.port(), "postgres", &name);
        listener.must("LISTEN news");
        let mut subject = Subject::log_in(self.pg.port(), "postgres", &name);
        let mut seen = self.watch(&mut subject, entry, &name);
        let heard = listener.query("SELECT 1").notified;
        if heard > 0 {
            seen.facts.push(Fact::new(format!("{heard} notifications came"), &[Effect::Transfer]));
        }
        drop((subject, listener));
        let mut admin = self.admin.borrow_mut();
        admin.must(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        for text in UNDO {
            admin.must(text);
        }
        seen
    }

    fn watch(&self, subject: &mut Subject, entry: &Entry, database: &str) -> Seen {
        if entry.off {
            subject.must("SET standard_conforming_strings = off");
        }
        if let Some(role) = &entry.role {
            subject.must(&format!("SET ROLE {role}"));
        }
        if let Some(after) = &entry.after {
            subject.must(&self.filled(after, database));
        }
        let mut before = self.look(subject, &[CONTENTS, STATE, STATISTICS]);
        let text = self.filled(&entry.text, database);
        let reply = match entry.extended {
            Some(rows) => subject.extended(&text, rows),
            None => subject.query(&text),
        };
        let after = if reply.error.is_some() {
            self.look_after_error(subject)
        } else {
            self.look(subject, &[STATISTICS, CONTENTS, STATE])
        };
        if reply.error.is_some() {
            // Looking back over the end of a transaction: its own numbers are gone.
            before.retain(|(kind, _), _| !TRANSIENT.contains(&kind.as_str()));
        }
        let mut facts = facts::differences(&before, &after);
        facts.extend(reply.told.iter().filter_map(|line| facts::told(line)));
        facts.extend(returned(&reply));
        Seen { facts, error: reply.error }
    }

    fn look_after_error(&self, subject: &mut Subject) -> Look {
        drop(subject.query("ROLLBACK"));
        if subject.query("SELECT 1").error.is_some() {
            return Look::new();
        }
        let mut after = self.look(subject, &[CONTENTS, STATE]);
        after.retain(|(kind, _), _| !TRANSIENT.contains(&kind.as_str()));
        after
    }

    fn look(&self, subject: &mut Subject, views: &[&str]) -> Look {
        let mut look = Look::new();
        for view in views {
            for row in subject.must(view) {
                let mut columns = row.into_iter().map(Option::unwrap_or_default);
                let mut next = || columns.next().unwrap_or_default();
                look.insert((next(), next()), next());
            }
        }
        for place in ["out", "postgresql.auto.conf", "."] {
            files(&self.pg.dir().join(place), &mut look);
        }
        look
    }

    /// The text with the places filled in that only this run knows.
    fn filled(&self, text: &str, database: &str) -> String {
        text.replace("{dir}", &self.pg.dir().display().to_string())
            .replace("{port}", &self.pg.port().to_string())
            .replace("{database}", database)
            .replace("{victim}", &self.victim.borrow().pid.to_string())
    }
}

/// Rows that came back were read.
fn returned(reply: &Reply) -> Option<Fact> {
    let count = reply.rows.len();
    (count > 0 || reply.copied_out)
        .then(|| Fact::new(format!("{count} rows came back"), &[Effect::Read, Effect::Transfer, Effect::Admin]))
}

fn make_world(pg: &Postgres) {
    let mut maker = Subject::log_in(pg.port(), "postgres", "world");
    for text in
        [include_str!("../../corpus/effects-world/world.sql"), include_str!("../../corpus/effects-world/witness.sql")]
    {
        let text = text
            .replace("{dir}", &pg.dir().display().to_string())
            .replace("{port}", &pg.port().to_string())
            .replace("{database}", "world");
        maker.must(&text);
    }
}

/// Names and sizes of the files in a directory, or of one file.
fn files(path: &Path, look: &mut Look) {
    let list: BTreeMap<_, _> = match fs::read_dir(path) {
        Ok(entries) => entries
            .flatten()
            .map(|entry| (entry.path(), entry.metadata().map_or(0, |data| if data.is_dir() { 0 } else { data.len() })))
            .collect(),
        Err(_) => [(path.to_owned(), fs::metadata(path).map_or(0, |data| data.len()))].into(),
    };
    for (path, length) in list {
        if path.extension().is_none_or(|end| end != "log" && end != "pid") {
            look.insert(("file".to_owned(), path.display().to_string()), length.to_string());
        }
    }
}

const CONTENTS: &str = "SELECT * FROM witness.contents()";
const STATISTICS: &str = "SELECT * FROM witness.statistics()";
const STATE: &str = "SELECT * FROM witness.state(pg_catalog.current_setting('search_path'))";

/// Takes back what a statement may have left behind outside its database.
const UNDO: [&str; 3] = [
    "DROP DATABASE IF EXISTS made",
    "ALTER SYSTEM RESET ALL",
    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots",
];

/// What a transaction's end takes with it.
const TRANSIENT: [&str; 6] = ["inserted", "updated", "deleted", "scanned", "lock", "transaction"];
