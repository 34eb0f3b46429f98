//! What is known of each backend's catalog, shared by its connections, and how it is asked for.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    code::{Code, CodeReader},
    dialect::{Phase, PostgresDialect},
    mask::{Catalog, CatalogReader, catalog::lookup_sql},
    replies::Fate,
    wire,
};
use crate::{
    gate::{Exchange, Unmaskable},
    mask::Masks,
    operation::Frame,
};

/// One database of one backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Backend {
    address: SocketAddr,
    database: String,
}

/// What is known of each.
#[derive(Debug, Default)]
pub(crate) struct Catalogs(Mutex<HashMap<Backend, Known>>);

#[derive(Debug)]
struct Known {
    catalog: Arc<Catalog>,
    /// The rules that it was asked for: for others it says nothing.
    masks: Arc<Masks>,
    at: Instant,
    doubted: bool,
}

/// A look into a catalog, under way.
#[derive(Debug)]
pub(crate) struct Lookup {
    sql: String,
    masks: Arc<Masks>,
    found: Option<CatalogReader>,
}

impl Backend {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, database: String::new() }
    }

    pub(super) fn database(&mut self, name: &str) {
        name.clone_into(&mut self.database);
    }
}

impl Catalogs {
    /// What is known; `None` before the first look.
    pub(super) fn of(&self, backend: &Backend, masks: &Arc<Masks>) -> Option<Arc<Catalog>> {
        self.known().get(backend).filter(|known| Arc::ptr_eq(&known.masks, masks)).map(|known| known.catalog.clone())
    }

    /// Whether it is time to look (again).
    pub(super) fn is_wanted(&self, backend: &Backend, masks: &Arc<Masks>) -> bool {
        let stale = |known: &Known| known.doubted || known.at.elapsed() > FRESH || !Arc::ptr_eq(&known.masks, masks);
        self.known().get(backend).is_none_or(stale)
    }

    /// Something happened that may have changed it.
    pub(super) fn doubt(&self, backend: &Backend) {
        if let Some(known) = self.known().get_mut(backend) {
            known.doubted = true;
        }
    }

    /// Keeps what a look found. A look that failed leaves what was known, in doubt.
    pub(super) fn learn(&self, backend: &Backend, lookup: &mut Lookup) {
        let Some(found) = lookup.found.take() else {
            tracing::warn!(
                ?backend,
                "cannot look into the backend's catalog: relations that are not known are masked whole"
            );
            return;
        };
        let catalog = Arc::new(found.finish(&lookup.masks));
        let known = Known { catalog, masks: lookup.masks.clone(), at: Instant::now(), doubted: false };
        self.known().insert(backend.clone(), known);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Backend, Known>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

impl Lookup {
    /// `None` when no rule needs the catalog.
    pub(super) fn new(masks: &Arc<Masks>) -> Option<Self> {
        Some(Self { sql: lookup_sql(masks)?, masks: masks.clone(), found: Some(CatalogReader::default()) })
    }

    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    /// One `DataRow`. A row that cannot be read fails the look: half a catalog is worse than none.
    pub(super) fn row(&mut self, message: &[u8]) {
        let read = self.found.as_mut().map(|found| found.row(message));
        if !matches!(read, Some(Ok(()))) {
            self.fail();
        }
    }

    pub(super) fn fail(&mut self) {
        self.found = None;
    }
}

/// What stands behind the names of each database.
#[derive(Debug, Default)]
pub(crate) struct Codes(Mutex<HashMap<Backend, Standing>>);

#[derive(Debug, Default)]
struct Standing {
    /// What the last look that worked found.
    code: Option<Arc<Code>>,
    /// When that was.
    looked: Option<Instant>,
    /// How often something may have changed it, and how often so when the last look began.
    changes: u64,
    seen: u64,
}

/// A look at what stands behind names, under way.
#[derive(Debug)]
pub(crate) struct Inspection {
    found: Option<CodeReader>,
    /// What the session began with, where that is asked as well, ahead of it.
    began: Option<Vec<u8>>,
    /// Whether anything but that is asked.
    pub(super) looks: bool,
    is_failed: bool,
    /// How many of its statements are answered.
    answered: usize,
    /// The changes known of when it began.
    changes: u64,
}

impl Standing {
    fn is_old(&self) -> bool {
        self.seen != self.changes || self.looked.is_none_or(|looked| looked.elapsed() > FRESH)
    }
}

impl Codes {
    /// What is known, and whether it is fresh: younger than a minute, with nothing seen since that may have changed it.
    pub(super) fn of(&self, backend: &Backend) -> Option<(Arc<Code>, bool)> {
        let all = self.all();
        let standing = all.get(backend)?;
        Some((standing.code.clone()?, !standing.is_old()))
    }

    /// Whether it is time to look (again).
    pub(super) fn is_wanted(&self, backend: &Backend) -> bool {
        self.all().get(backend).is_none_or(Standing::is_old)
    }

    /// Something goes to the backend, or ended there, that may have changed it.
    pub(super) fn doubt(&self, backend: &Backend) {
        self.all().entry(backend.clone()).or_default().changes += 1;
    }

    /// Begins a look.
    pub(super) fn inspection(&self, backend: &Backend) -> Inspection {
        let changes = self.all().get(backend).map_or(0, |standing| standing.changes);
        Inspection {
            found: Some(CodeReader::default()),
            began: None,
            looks: true,
            is_failed: false,
            answered: 0,
            changes,
        }
    }

    /// Keeps what a look found, and says whether it worked. What changed while it was under way makes it old at once.
    /// A look that failed changes nothing for others: the session itself may have made it fail.
    pub(super) fn learn(&self, backend: &Backend, inspection: &mut Inspection) -> bool {
        if !inspection.looks {
            return !inspection.is_failed;
        }
        let Some(found) = inspection.found.take() else {
            tracing::warn!(?backend, "cannot look behind the names of a database: what a statement names is unknown");
            return false;
        };
        let code = Arc::new(found.finish());
        tracing::debug!(?backend, known = ?code.size(), "looked behind the names of a database");
        let standing = Standing { code: Some(code), looked: Some(Instant::now()), ..Standing::default() };
        let mut all = self.all();
        let before = all.entry(backend.clone()).or_default();
        *before = Standing { changes: before.changes, seen: inspection.changes, ..standing };
        true
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Backend, Standing>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

impl Inspection {
    /// One `DataRow`. A row that cannot be read fails the look.
    pub(super) fn row(&mut self, message: &[u8]) {
        match &mut self.began {
            Some(began) if self.answered == 0 => began.extend(message),
            _ => {
                if self.found.as_mut().and_then(|found| found.row(message)).is_none() {
                    self.fail();
                }
            }
        }
    }

    /// A statement is answered.
    pub(super) fn answered(&mut self) {
        self.answered += 1;
    }

    /// It asks what the session began with as well, and that comes first.
    pub(super) fn asks_beginning(&mut self) {
        self.began = Some(Vec::new());
    }

    /// What the session began with, as it was answered; `None` where that was not asked or failed.
    pub(super) fn beginning(&mut self) -> Option<Vec<u8>> {
        self.began.take().filter(|_| !self.is_failed)
    }

    pub(super) fn fail(&mut self) {
        (self.found, self.is_failed) = (None, true);
    }
}

impl PostgresDialect {
    pub(super) fn wants_lookup(&self) -> bool {
        // In another encoding names would come back in other bytes than the rules have, for every connection.
        self.lexical.utf8
            && self.masker.masks.has_columns()
            && self.shared.catalogs.is_wanted(&self.backend, &self.masker.masks)
    }

    /// Asks on the bot's connection, at a point where that changes nothing: idle, outside a transaction, and before
    /// the client hears that the backend is ready.
    pub(super) fn look_up(&mut self, exchange: &mut Exchange) -> Fate {
        let Some(lookup) = Lookup::new(&self.masker.masks) else { return Fate::Pass };
        let mut out = BytesMut::new();
        wire::ask_apart(&mut out, &self.apart, lookup.sql());
        exchange.own = Some(("catalog lookup", Frame::new(out.freeze())));
        self.phase = Phase::LookingUp(Box::new(lookup));
        Fate::Swallow
    }

    pub(super) fn looked_up(&mut self, message: &[u8]) -> Result<Fate, Unmaskable> {
        let Phase::LookingUp(lookup) = &mut self.phase else { unreachable!("only called while looking up") };
        match message[0] {
            b'D' => lookup.row(message),
            b'1' | b'2' | b'3' | b'C' => {}
            other => {
                return Err(Unmaskable::Malformed(format!(
                    "a message of type {:?} during a catalog lookup",
                    char::from(other)
                )));
            }
        }
        Ok(Fate::Swallow)
    }
}

/// How long a look is good for. Renaming a column past the gateway stays unnoticed for so long.
pub(super) const FRESH: Duration = Duration::from_secs(60);
