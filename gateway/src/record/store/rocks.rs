//! RocksDB: options, opening, and its errors in our words.
//!
//! # Correctness
//! - `manual_wal_flush` stays off, so that a write that returned is in the kernel.
//! - Recovery is point-in-time: what follows the first record of the log that does not check out is cut. After a power
//!   loss that is the torn tail; if it is ever more, an older checkpoint tells (`holdpoint verify --against`).
//! - There is no size cap: nothing here deletes entries.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rocksdb::{
    BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, IteratorMode,
    LogLevel, WriteBatch,
};

use super::{Direction, Raw, column, format::FORMAT};
use crate::record::{Options, RecordError};

pub(super) struct Rocks {
    db: DB,
    dir: PathBuf,
    /// Whether this follows another process.
    follows: bool,
}

impl Rocks {
    /// Opens for writing, and makes the store where there is none.
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Self, RecordError> {
        let exists = is_store(dir)?;
        if exists {
            refuse_foreign(dir)?;
        } else {
            make_dir(dir)?;
        }
        let mut global = global_options();
        global.create_if_missing(true);
        global.create_missing_column_families(true);
        let columns = descriptors(options.memtable_bytes);
        let db =
            DB::open_cf_descriptors(&global, dir, columns).map_err(|error| explain(dir, Doing::Opening, &error))?;
        Ok(Self { db, dir: dir.to_owned(), follows: false })
    }

    /// Opens for reading, as a follower of whichever process writes. RocksDB wants a directory for a follower's own
    /// log: it is in `temporary`, and gone when this returns, so that a reader that is killed leaves nothing behind.
    pub(super) fn open_secondary(dir: &Path, temporary: &Path) -> Result<Self, RecordError> {
        if !is_store(dir)? {
            return Err(RecordError::Missing { dir: dir.to_owned() });
        }
        refuse_foreign(dir)?;
        let scratch = Scratch::within(temporary).map_err(|error| RecordError::Read {
            dir: dir.to_owned(),
            why: format!("no place for the reader's own log in {}: {error}", temporary.display()),
        })?;
        let mut global = global_options();
        // A follower must keep the files open that the writer may delete.
        global.set_max_open_files(-1);
        // A store of an older format lacks what only a writer brings.
        let there = DB::list_cf(&global, dir).map_err(|error| explain(dir, Doing::Opening, &error))?;
        let columns = || {
            let all = descriptors(Options::default().memtable_bytes).into_iter();
            all.filter(|column| there.iter().any(|name| name == column.name())).collect::<Vec<_>>()
        };
        let open = || DB::open_cf_descriptors_as_secondary(&global, dir, &scratch.0, columns());
        // The writer may replace files between our listing and our opening them: look again.
        let db = (0..3).fold(open(), |db, _| db.or_else(|_| open()));
        let followed = db.map_err(|error| explain(dir, Doing::Reading, &error)).and_then(|db| {
            let rocks = Self { db, dir: dir.to_owned(), follows: true };
            rocks.catch_up().map(|()| rocks)
        });
        match followed {
            // A follower takes a torn log for damage. Recovery knows better, and shows what a gateway would start with.
            Err(RecordError::Damaged { .. }) => Self::open_read_only(dir, &global, columns()),
            followed => followed,
        }
    }

    fn open_read_only(
        dir: &Path,
        global: &rocksdb::Options,
        columns: Vec<ColumnFamilyDescriptor>,
    ) -> Result<Self, RecordError> {
        let db = DB::open_cf_descriptors_read_only(global, dir, columns, false);
        let db = db.map_err(|error| explain(dir, Doing::Reading, &error))?;
        Ok(Self { db, dir: dir.to_owned(), follows: false })
    }

    pub(super) fn fetch(&self, column: &str, key: &[u8]) -> Result<Option<Vec<u8>>, RecordError> {
        let found = self.db.get_cf(self.column(column), key);
        found.map_err(|error| explain(&self.dir, Doing::Reading, &error))
    }

    pub(super) fn scan<'a>(
        &'a self,
        column: &str,
        from: Option<Vec<u8>>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<Raw, RecordError>> + use<'a> {
        let mode = match (&from, direction) {
            (None, Direction::Forward) => IteratorMode::Start,
            (None, Direction::Backward) => IteratorMode::End,
            (Some(from), Direction::Forward) => IteratorMode::From(from, rocksdb::Direction::Forward),
            (Some(from), Direction::Backward) => IteratorMode::From(from, rocksdb::Direction::Reverse),
        };
        self.db.iterator_cf(self.column(column), mode).map(|item| match item {
            Ok((key, value)) => Ok((key.into_vec(), value.into_vec())),
            Err(error) => Err(explain(&self.dir, Doing::Reading, &error)),
        })
    }

    pub(super) fn batch(&self) -> Batch<'_> {
        Batch { rocks: self, changes: WriteBatch::with_capacity_bytes(1024) }
    }

    pub(super) fn write(&self, batch: Batch<'_>) -> Result<(), RecordError> {
        self.db.write(batch.changes).map_err(|error| explain(&self.dir, Doing::Writing, &error))
    }

    pub(super) fn sync(&self) -> Result<(), RecordError> {
        self.db.flush_wal(true).map_err(|error| explain(&self.dir, Doing::Syncing, &error))
    }

    pub(super) fn catch_up(&self) -> Result<(), RecordError> {
        if !self.follows {
            return Ok(());
        }
        self.db.try_catch_up_with_primary().map_err(|error| explain(&self.dir, Doing::Reading, &error))
    }

    fn column(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every column of this format is opened with the store")
    }
}

/// Changes on their way to RocksDB.
pub(in crate::record) struct Batch<'a> {
    rocks: &'a Rocks,
    changes: WriteBatch,
}

impl Batch<'_> {
    pub(super) fn put(&mut self, column: &str, key: &[u8], value: &[u8]) {
        self.changes.put_cf(self.rocks.column(column), key, value);
    }

    pub(super) fn delete(&mut self, column: &str, key: &[u8]) {
        self.changes.delete_cf(self.rocks.column(column), key);
    }
}

fn global_options() -> rocksdb::Options {
    let mut options = rocksdb::Options::default();
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_manual_wal_flush(false);
    options.set_recycle_log_file_num(0);
    options.set_paranoid_checks(true);
    // One appender at a time, by the chain's nature: RocksDB's machinery for many only costs.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_enable_pipelined_write(false);
    // Small columns would otherwise pin old logs for ever.
    options.set_max_total_wal_size(128 << 20);
    // Flush beside compaction, no more: the node's processors belong to its workloads.
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_bytes_per_sync(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options
}

fn descriptors(memtable_bytes: usize) -> Vec<ColumnFamilyDescriptor> {
    let descriptor = |name: &str| ColumnFamilyDescriptor::new(name, column_options(name, memtable_bytes));
    column::NAMES.iter().copied().chain([rocksdb::DEFAULT_COLUMN_FAMILY_NAME]).map(descriptor).collect()
}

fn column_options(name: &str, memtable_bytes: usize) -> rocksdb::Options {
    let entries = name == <column::Entries as column::Column>::NAME;
    let mut options = rocksdb::Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(if entries { memtable_bytes } else { memtable_bytes / 4 });
    options.set_max_write_buffer_number(if entries { 3 } else { 2 });
    // Keys arrive in order, so compaction only moves files: it must never stall an append.
    options.set_level_zero_file_num_compaction_trigger(8);
    options.set_level_zero_slowdown_writes_trigger(1_000);
    options.set_level_zero_stop_writes_trigger(2_000);
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(if entries { 16 << 10 } else { 4 << 10 });
    options.set_block_based_table_factory(&blocks);
    options
}

/// Whether a RocksDB lies in `dir`; an error for anything else that should not be touched.
fn is_store(dir: &Path) -> Result<bool, RecordError> {
    let other = |why: &str| RecordError::NotAStore { dir: dir.to_owned(), why: why.to_owned() };
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(other("it is a file")),
        Err(error) => return Err(denied_or_read(dir, &error)),
    };
    match fs::File::open(dir.join("CURRENT")) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // What an earlier, interrupted creation may leave behind is ours to use.
            let ours = |name: &str| name == "LOCK" || name == "IDENTITY" || name.starts_with("LOG");
            let foreign = listed.flatten().map(|entry| entry.file_name()).find(|n| !n.to_str().is_some_and(ours));
            match foreign {
                Some(name) if name.to_string_lossy().starts_with("MANIFEST-") => {
                    Err(RecordError::Damaged { dir: dir.to_owned(), why: "its file CURRENT is missing".to_owned() })
                }
                Some(name) => Err(other(&format!("it holds `{}`", name.to_string_lossy()))),
                None => Ok(false),
            }
        }
        Err(error) => Err(denied_or_read(&dir.join("CURRENT"), &error)),
    }
}

/// Refuses a RocksDB that is somebody else's, or a newer format's with columns that this version does not know.
fn refuse_foreign(dir: &Path) -> Result<(), RecordError> {
    let options = rocksdb::Options::default();
    let names = DB::list_cf(&options, dir).map_err(|error| explain(dir, Doing::Opening, &error))?;
    let known = |name: &String| column::NAMES.contains(&name.as_str()) || name == rocksdb::DEFAULT_COLUMN_FAMILY_NAME;
    let ours = names.iter().any(|name| column::NAMES.contains(&name.as_str()));
    if ours && names.iter().all(known) {
        return Ok(());
    }
    let meta = <column::Meta as column::Column>::NAME;
    if !names.iter().any(|name| name == meta) {
        // An empty default column alone is what an interrupted creation leaves.
        let db = DB::open_for_read_only(&options, dir, false).map_err(|error| explain(dir, Doing::Reading, &error))?;
        let fresh = names.iter().all(known) && db.iterator(IteratorMode::Start).next().is_none();
        let why = "it is another program's RocksDB".to_owned();
        return if fresh { Ok(()) } else { Err(RecordError::NotAStore { dir: dir.to_owned(), why }) };
    }
    let db = DB::open_cf_for_read_only(&options, dir, [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, meta], false);
    let db = db.map_err(|error| explain(dir, Doing::Reading, &error))?;
    let column = db.cf_handle(meta).expect("the column was just opened");
    let key = column::Key::to_bytes(&column::Fact::Format);
    let format = db.get_cf(column, key).map_err(|error| explain(dir, Doing::Reading, &error))?;
    match format.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) {
        Some(found) if found > FORMAT => Err(RecordError::NewerFormat { dir: dir.to_owned(), found, reads: FORMAT }),
        _ => {
            let odd: Vec<_> = names.iter().filter(|name| !known(name)).map(String::as_str).collect();
            let why = format!("it has columns that no format up to {FORMAT} has: {}", odd.join(", "));
            Err(RecordError::NotAStore { dir: dir.to_owned(), why })
        }
    }
}

/// The record holds statements and data: nobody but its owner reads it.
fn make_dir(dir: &Path) -> Result<(), RecordError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => RecordError::Full { dir: dir.to_owned() },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => denied_or_read(dir, &error),
        _ => RecordError::Write { dir: dir.to_owned(), why: error.to_string() },
    })
}

fn denied_or_read(path: &Path, error: &io::Error) -> RecordError {
    let why = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            RecordError::Denied { path: path.to_owned(), why }
        }
        _ => RecordError::Read { dir: path.to_owned(), why },
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Opening,
    Reading,
    Writing,
    Syncing,
}

/// RocksDB answers in words only: its own categories first, then the system's messages inside them.
fn explain(dir: &Path, doing: Doing, error: &rocksdb::Error) -> RecordError {
    let why = error.as_ref().to_owned();
    let dir = dir.to_owned();
    if doing == Doing::Syncing {
        return RecordError::Sync { dir, why };
    }
    if why.contains("/LOCK: ") && !why.contains("Permission denied") {
        return RecordError::InUse { dir };
    }
    if why.contains("No space left on device") || why.contains("Disk quota exceeded") {
        return RecordError::Full { dir };
    }
    if why.contains("Permission denied") || why.contains("Read-only file system") {
        return RecordError::Denied { path: dir, why };
    }
    match (error.kind(), doing) {
        (rocksdb::ErrorKind::Corruption, _) => RecordError::Damaged { dir, why },
        (_, Doing::Writing) => RecordError::Write { dir, why },
        (_, _) => RecordError::Read { dir, why },
    }
}

/// A directory of our own, gone with this. Nobody else can have made it: that would be an error.
struct Scratch(PathBuf);

impl Scratch {
    fn within(temporary: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("holdpoint-reader-{}", uuid::Uuid::now_v7().simple());
        let path = temporary.join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing is lost if it stays: it holds a log that nobody reads.
        let _ = fs::remove_dir_all(&self.0);
    }
}
