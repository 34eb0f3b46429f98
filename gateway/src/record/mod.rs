//! The record: `append(Entry) -> Receipt`. Every operation is here before its backend sees it.
//!
//! Entries form one hash chain per node, from the first one on. RocksDB is known only inside [`store`].
//!
//! # Correctness
//! A [`Receipt`] can only be made here, and only for an entry that is durable at its declared level; the gate cannot
//! make a cleared operation without one.

pub mod entry;
