//! The columns as ordered maps, for tests of what stands on the record.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use super::{Direction, Raw};

/// Column, key, and the value or its removal.
pub(in crate::record) type Change = (&'static str, Vec<u8>, Option<Vec<u8>>);

#[derive(Default)]
pub(super) struct Memory(RwLock<BTreeMap<(&'static str, Vec<u8>), Vec<u8>>>);

impl Memory {
    pub(super) fn fetch(&self, column: &'static str, key: &[u8]) -> Option<Vec<u8>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&(column, key.to_vec())).cloned()
    }

    pub(super) fn scan(
        &self,
        column: &'static str,
        from: Option<Vec<u8>>,
        direction: Direction,
    ) -> impl Iterator<Item = Raw> + use<> {
        let inside = |key: &[u8]| match (&from, direction) {
            (None, _) => true,
            (Some(from), Direction::Forward) => key >= from.as_slice(),
            (Some(from), Direction::Backward) => key <= from.as_slice(),
        };
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Raw> = map
            .iter()
            .filter(|((name, key), _)| *name == column && inside(key))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        if direction == Direction::Backward {
            found.reverse();
        }
        found.into_iter()
    }

    pub(super) fn write(&self, changes: Vec<Change>) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (column, key, value) in changes {
            match value {
                Some(value) => map.insert((column, key), value),
                None => map.remove(&(column, key)),
            };
        }
    }
}
