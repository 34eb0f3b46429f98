//! The store's format: its version from the first day, and how an older store becomes a current one.
//!
//! # History
//! 1. November 2026: the first.
//! 2. November 2026: which entries concern the desk (`desk_entries`), and what channels keep (`cursors`, `announced`).

mod from_1;

use super::{
    Store,
    column::{Entries, Fact, Meta},
};
use crate::record::{RecordError, entry::Timestamp};

/// The format that this version writes, and the newest that it reads.
pub(in crate::record) const FORMAT: u32 = 2;

/// One step from a format to the next: one file each, registered here, run in order at open.
struct Upgrade {
    from: u32,
    run: fn(&Store) -> Result<(), RecordError>,
}

/// Every upgrade, oldest first.
const UPGRADES: [Upgrade; 1] = [Upgrade { from: 1, run: from_1::run }];

/// The format that the store says it has; `None` for one that was never written to.
pub(super) fn found(store: &Store) -> Result<Option<u32>, RecordError> {
    let Some(bytes) = store.fetch::<Meta>(&Fact::Format)? else { return Ok(None) };
    let bytes: [u8; 4] = bytes.try_into().map_err(|_| store.damaged("its format version is not four bytes"))?;
    Ok(Some(u32::from_be_bytes(bytes)))
}

/// Refuses what only a newer version understands.
pub(super) fn check(store: &Store, found: u32) -> Result<(), RecordError> {
    if found > FORMAT {
        return Err(RecordError::NewerFormat { dir: store.dir.clone(), found, reads: FORMAT });
    }
    Ok(())
}

/// Makes a new store, or brings an older one up to date.
pub(super) fn prepare(store: &Store) -> Result<(), RecordError> {
    match found(store)? {
        Some(found) => {
            check(store, found)?;
            UPGRADES.iter().filter(|upgrade| upgrade.from >= found).try_for_each(|upgrade| (upgrade.run)(store))
        }
        None if store.newest::<Entries>()?.is_some() => Err(store.damaged("it has entries but no format version")),
        None => initialise(store),
    }
}

fn initialise(store: &Store) -> Result<(), RecordError> {
    let mut batch = store.batch();
    batch.put::<Meta>(&Fact::Node, &random_key(store)?.to_vec());
    batch.put::<Meta>(&Fact::Created, &Timestamp::now().0.to_be_bytes().to_vec());
    batch.put::<Meta>(&Fact::Format, &FORMAT.to_be_bytes().to_vec());
    store.write(batch)?;
    store.sync()
}

fn random_key(store: &Store) -> Result<[u8; 32], RecordError> {
    use std::io::Read;
    let mut key = [0; 32];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key));
    read.map_err(|error| RecordError::Write { dir: store.dir.clone(), why: format!("/dev/urandom: {error}") })?;
    Ok(key)
}
