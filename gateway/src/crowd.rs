//! How many connections each one has open, so that nobody takes the descriptors of all.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Who → open connections. A cheap handle.
#[derive(Debug)]
pub struct Crowd<K>(Arc<Mutex<HashMap<K, usize>>>);

/// One connection's place in the crowd, given back when it is dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash + Copy>(Crowd<K>, K);

impl<K: Eq + Hash + Copy> Crowd<K> {
    /// A place for one more of `who`, if there is `room` beside those that are open.
    pub fn enter(&self, who: K, room: impl FnOnce(&HashMap<K, usize>) -> bool) -> Option<Place<K>> {
        let mut open = self.lock();
        if !room(&open) {
            return None;
        }
        *open.entry(who).or_default() += 1;
        Some(Place(self.clone(), who))
    }

    /// How many there are of all.
    pub fn count(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // The counts are whole at every point where a holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Copy> Drop for Place<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.0.lock().entry(self.1) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl<K> Clone for Crowd<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Crowd<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}
