//! Where the record lies: RocksDB, or memory for tests. The only place that knows RocksDB.
//!
//! Both keep the same [`column`]s, so everything above (chain, indexes, reading, verifying) is one code for both.
//!
//! # Correctness
//! A batch is all or nothing. A successful [`Store::write`] is in the kernel (it survives a killed process); a
//! successful [`Store::sync`] has everything written before it on the disk. After a power loss the last record of the
//! write-ahead log may be torn: it is cut, and everything before it is kept.

pub(in crate::record) mod column;
mod format;
mod memory;
mod rocks;

use std::path::{Path, PathBuf};

use self::{
    column::{Column, Fact, Key, Meta, Value},
    memory::Memory,
    rocks::Rocks,
};
use super::{Options, RecordError};

/// An open store.
pub(in crate::record) struct Store {
    dir: PathBuf,
    engine: Engine,
}

enum Engine {
    Rocks(Rocks),
    Memory(Memory),
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::record) enum Direction {
    Forward,
    Backward,
}

type Raw = (Vec<u8>, Vec<u8>);
type RawScan<'a> = Box<dyn Iterator<Item = Result<Raw, RecordError>> + 'a>;

impl Store {
    /// Opens for writing; makes the store where there is none. One process at a time.
    pub(in crate::record) fn open(dir: &Path, options: &Options) -> Result<Self, RecordError> {
        let store = Self { dir: dir.to_owned(), engine: Engine::Rocks(Rocks::open(dir, options)?) };
        format::prepare(&store)?;
        Ok(store)
    }

    /// Opens for reading, beside a running gateway or without one. Writes nothing into the directory.
    pub(in crate::record) fn open_to_read(dir: &Path) -> Result<Self, RecordError> {
        Self::open_to_read_with(dir, &std::env::temp_dir())
    }

    fn open_to_read_with(dir: &Path, temporary: &Path) -> Result<Self, RecordError> {
        let store = Self { dir: dir.to_owned(), engine: Engine::Rocks(Rocks::open_secondary(dir, temporary)?) };
        match format::found(&store)? {
            Some(found) => format::check(&store, found).map(|()| store),
            None => Err(RecordError::NotAStore { dir: dir.to_owned(), why: "it has no format version".to_owned() }),
        }
    }

    /// A store in memory, with the same columns.
    pub(in crate::record) fn in_memory() -> Result<Self, RecordError> {
        let store = Self { dir: PathBuf::from("memory"), engine: Engine::Memory(Memory::default()) };
        format::prepare(&store)?;
        Ok(store)
    }

    /// The node's random key: where its chain begins.
    pub(in crate::record) fn node(&self) -> Result<[u8; 32], RecordError> {
        let key = self.fetch::<Meta>(&Fact::Node)?.ok_or_else(|| self.damaged("its node key is missing"))?;
        key.try_into().map_err(|_| self.damaged("its node key is not thirty-two bytes"))
    }

    /// One value.
    pub(in crate::record) fn fetch<C: Column>(&self, key: &C::Key) -> Result<Option<C::Value>, RecordError> {
        let key = key.to_bytes();
        let value = match &self.engine {
            Engine::Rocks(rocks) => rocks.fetch(C::NAME, key.as_ref())?,
            Engine::Memory(memory) => memory.fetch(C::NAME, key.as_ref()),
        };
        value.map(|value| C::Value::from_bytes(value).map_err(|why| self.odd::<C>(&why))).transpose()
    }

    /// Keys and values from `from` on (it included), in key order or against it.
    pub(in crate::record) fn scan<'a, C: Column + 'a>(
        &'a self,
        from: Option<&C::Key>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(C::Key, C::Value), RecordError>> + use<'a, C> {
        let from = from.map(|key| key.to_bytes().as_ref().to_vec());
        let raw: RawScan<'a> = match &self.engine {
            Engine::Rocks(rocks) => Box::new(rocks.scan(C::NAME, from, direction)),
            Engine::Memory(memory) => Box::new(memory.scan(C::NAME, from, direction).map(Ok)),
        };
        raw.map(|item| {
            let (key, value) = item?;
            let key = C::Key::from_bytes(&key).ok_or_else(|| self.odd::<C>("a key of the wrong width"))?;
            Ok((key, C::Value::from_bytes(value).map_err(|why| self.odd::<C>(&why))?))
        })
    }

    /// The greatest key with its value.
    pub(in crate::record) fn newest<C: Column>(&self) -> Result<Option<(C::Key, C::Value)>, RecordError> {
        self.scan::<C>(None, Direction::Backward).next().transpose()
    }

    /// An empty batch.
    pub(in crate::record) fn batch(&self) -> Batch<'_> {
        match &self.engine {
            Engine::Rocks(rocks) => Batch::Rocks(rocks.batch()),
            Engine::Memory(_) => Batch::Memory(Vec::new()),
        }
    }

    /// Writes the batch as one; in the kernel when this returns.
    pub(in crate::record) fn write(&self, batch: Batch<'_>) -> Result<(), RecordError> {
        match (&self.engine, batch) {
            (Engine::Rocks(rocks), Batch::Rocks(batch)) => rocks.write(batch),
            (Engine::Memory(memory), Batch::Memory(changes)) => {
                memory.write(changes);
                Ok(())
            }
            _ => unreachable!("a batch is made by the store that it is written to"),
        }
    }

    /// Puts everything written so far on the disk.
    pub(in crate::record) fn sync(&self) -> Result<(), RecordError> {
        match &self.engine {
            Engine::Rocks(rocks) => rocks.sync(),
            Engine::Memory(_) => Ok(()),
        }
    }

    /// Reads what the writing process wrote since; nothing to do where this process is the one that writes.
    pub(in crate::record) fn catch_up(&self) -> Result<(), RecordError> {
        match &self.engine {
            Engine::Rocks(rocks) => rocks.catch_up(),
            Engine::Memory(_) => Ok(()),
        }
    }

    fn damaged(&self, why: &str) -> RecordError {
        RecordError::Damaged { dir: self.dir.clone(), why: why.to_owned() }
    }

    fn odd<C: Column>(&self, why: &str) -> RecordError {
        self.damaged(&format!("in `{}`: {why}", C::NAME))
    }
}

/// Changes that are written together or not at all.
pub(in crate::record) enum Batch<'a> {
    Rocks(rocks::Batch<'a>),
    Memory(Vec<memory::Change>),
}

impl Batch<'_> {
    /// Sets a value.
    pub(in crate::record) fn put<C: Column>(&mut self, key: &C::Key, value: &C::Value) {
        self.put_bytes::<C>(key, &value.to_bytes());
    }

    /// Sets a value that is encoded already.
    pub(in crate::record) fn put_bytes<C: Column>(&mut self, key: &C::Key, value: &[u8]) {
        let key = key.to_bytes();
        match self {
            Batch::Rocks(batch) => batch.put(C::NAME, key.as_ref(), value),
            Batch::Memory(changes) => changes.push((C::NAME, key.as_ref().to_vec(), Some(value.to_vec()))),
        }
    }

    /// Removes a key.
    pub(in crate::record) fn delete<C: Column>(&mut self, key: &C::Key) {
        let key = key.to_bytes();
        match self {
            Batch::Rocks(batch) => batch.delete(C::NAME, key.as_ref()),
            Batch::Memory(changes) => changes.push((C::NAME, key.as_ref().to_vec(), None)),
        }
    }
}

#[cfg(test)]
mod tests;
