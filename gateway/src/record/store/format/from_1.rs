//! From format 1 to 2: which entries concern the desk. Those of requests and grants are indexed already, so only these
//! are read. A run that was cut short is run again from the start.

use crate::record::{
    RecordError,
    outbox::concerns_the_desk,
    read,
    store::{
        Direction, Store,
        column::{DeskEntries, Entries, Fact, Meta, RequestEntries},
    },
};

/// Entries written together.
const TOGETHER: usize = 10_000;

pub(super) fn run(store: &Store) -> Result<(), RecordError> {
    let mut positions = store.scan::<RequestEntries>(None, Direction::Forward);
    loop {
        let mut batch = store.batch();
        let mut any = false;
        for item in positions.by_ref().take(TOGETHER) {
            let ((_, position), ()) = item?;
            any = true;
            let Some(value) = store.fetch::<Entries>(&position)? else { continue };
            if concerns_the_desk(&read::open(position, &value)?.entry.body) {
                batch.put::<DeskEntries>(&position, &());
            }
        }
        if any {
            store.write(batch)?;
            continue;
        }
        batch.put::<Meta>(&Fact::Format, &2u32.to_be_bytes().to_vec());
        store.write(batch)?;
        return store.sync();
    }
}
