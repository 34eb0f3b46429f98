//! What can go wrong with the record, each with what to do next.

use std::path::PathBuf;

/// The record cannot be opened, written or read.
///
/// Cloneable, because one failed write or sync answers everybody who waits for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another process has the store open for writing.
    #[error(
        "the record in {} is in use by another holdpoint gateway; stop that one or give this one its own directory",
        dir.display()
    )]
    InUse {
        /// The store.
        dir: PathBuf,
    },
    /// There is nothing to read.
    #[error("there is no record in {}; name the gateway's record directory with --store", dir.display())]
    Missing {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The directory holds something else.
    #[error("{} is not a holdpoint record: {why}; choose another directory, nothing in it was changed", dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store was written by a newer version.
    #[error(
        "the record in {} is a store of format {found}, this holdpoint reads up to {reads}: use the newer binary",
        dir.display()
    )]
    NewerFormat {
        /// The store.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version knows.
        reads: u32,
    },
    /// The operating system does not let us.
    #[error("no permission for the record: {why}; run as the user that owns {} or as root", path.display())]
    Denied {
        /// The store, or the file in it.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// The store's own checks fail.
    #[error(
        "the record in {} is damaged: {why}; copy the directory before anything else, then run `holdpoint verify --store {}`",
        dir.display(), dir.display()
    )]
    Damaged {
        /// The store.
        dir: PathBuf,
        /// What the check said.
        why: String,
    },
    /// No space left. Nothing is forwarded until there is.
    #[error(
        "the disk that holds the record in {} is full; make room there, recording goes on by itself (operations are \
         refused until then)",
        dir.display()
    )]
    Full {
        /// The store.
        dir: PathBuf,
    },
    /// A write failed; the entry may or may not be in the record, so what it describes must not happen.
    #[error("cannot write the record in {}: {why}; operations are refused until a write succeeds again", dir.display())]
    Write {
        /// The store.
        dir: PathBuf,
        /// The system's words.
        why: String,
    },
    /// Making entries durable failed. After that nothing says which of them are on the disk, so this is final.
    #[error(
        "cannot make the record in {} durable: {why}; check the disk, then restart the gateway (operations are refused \
         until then)",
        dir.display()
    )]
    Sync {
        /// The store.
        dir: PathBuf,
        /// The system's words.
        why: String,
    },
    /// Reading failed.
    #[error("cannot read the record in {}: {why}", dir.display())]
    Read {
        /// The store.
        dir: PathBuf,
        /// The system's words.
        why: String,
    },
    /// An entry's bytes make no sense to this version.
    #[error("entry {position} of the record cannot be read: {why}; `holdpoint verify` tells whether it was altered")]
    Unreadable {
        /// The entry's position.
        position: u64,
        /// What is wrong.
        why: String,
    },
    /// A write failed while this entry waited for the disk; the record has been opened again since.
    #[error("a failed write interrupted recording; it goes on, and what waited for the disk is refused")]
    Reopened,
    /// A thread panicked while it wrote.
    #[error("recording stopped after an internal failure; restart the gateway (operations are refused until then)")]
    Broken,
}
