//! What is known of each backend's catalog, shared by its connections, and how it is asked for.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::mask::{Catalog, CatalogReader, catalog::lookup_sql};
use crate::mask::Masks;

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

/// How long a look is good for. Renaming a column past the gateway stays unnoticed for so long.
const FRESH: Duration = Duration::from_secs(60);
