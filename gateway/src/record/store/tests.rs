//! Stores that are not what they should be, each with an error of its own.

use std::fs;

use rocksdb::DB;
use tempfile::TempDir;

use super::*;
use crate::record::{Recorder, Records, samples::one_of_each};

fn made() -> TempDir {
    let dir = TempDir::new().expect("a temporary directory");
    drop(Store::open(dir.path(), &Options::default()).expect("opens"));
    dir
}

fn both_errors(dir: &Path) -> [RecordError; 2] {
    [
        Store::open(dir, &Options::default()).err().expect("refused for writing"),
        Store::open_to_read(dir).err().expect("refused for reading"),
    ]
}

#[test]
fn a_newer_format_asks_for_the_newer_binary() {
    let dir = made();
    let store = Store::open(dir.path(), &Options::default()).expect("opens");
    let mut batch = store.batch();
    batch.put::<Meta>(&Fact::Format, &3u32.to_be_bytes().to_vec());
    store.write(batch).expect("written");
    drop(store);
    let refused = |dir: &Path| {
        for error in both_errors(dir) {
            let words = error.to_string();
            assert!(words.contains("store of format 3, this holdpoint reads up to 2"), "{words}");
            assert!(words.contains("use the newer binary"), "{words}");
        }
    };
    refused(dir.path());
    // The same when the newer format has columns that this version has never heard of.
    let options = rocksdb::Options::default();
    let names = DB::list_cf(&options, dir.path()).expect("listed");
    let mut db = DB::open_cf(&options, dir.path(), names).expect("opens");
    db.create_cf("merkle", &options).expect("made");
    drop(db);
    refused(dir.path());
}

#[test]
fn a_store_in_use_says_so_and_can_be_read() {
    let dir = made();
    let _first = Store::open(dir.path(), &Options::default()).expect("opens");
    let error = Store::open(dir.path(), &Options::default()).err().expect("one writer only");
    assert!(matches!(error, RecordError::InUse { .. }), "{error}");
    Store::open_to_read(dir.path()).expect("readers are welcome");
}

#[test]
fn a_reader_leaves_nothing_behind_even_if_it_is_killed() {
    let (dir, temporary) = (made(), TempDir::new().expect("a temporary directory"));
    let writer = Store::open(dir.path(), &Options::default()).expect("opens");
    let reader = Store::open_to_read_with(dir.path(), temporary.path()).expect("opens");
    // Here it may be killed. And it reads on: what is written later, and moved to other files meanwhile.
    assert_eq!(fs::read_dir(temporary.path()).expect("listed").count(), 0);
    for turn in 0..3_u32 {
        let mut batch = writer.batch();
        batch.put::<Meta>(&Fact::Format, &turn.to_be_bytes().to_vec());
        writer.write(batch).expect("written");
        reader.catch_up().expect("catches up");
        assert_eq!(reader.fetch::<Meta>(&Fact::Format).expect("readable"), Some(turn.to_be_bytes().to_vec()));
    }
    drop(reader);
    let odd = Store::open_to_read_with(dir.path(), &temporary.path().join("absent")).err().expect("no place");
    assert!(odd.to_string().contains("no place for the reader's own log"), "{odd}");
}

#[test]
fn what_is_no_record_is_left_alone() {
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "text").expect("written");
    for error in both_errors(&file) {
        assert!(matches!(error, RecordError::NotAStore { .. }), "{error}");
    }
    let error = Store::open(dir.path(), &Options::default()).err().expect("somebody's directory");
    assert!(error.to_string().contains("it holds `file`"), "{error}");
    let foreign = TempDir::new().expect("a temporary directory");
    DB::open_default(foreign.path()).expect("opens").put("key", "value").expect("written");
    for error in both_errors(foreign.path()) {
        assert!(error.to_string().contains("another program's RocksDB"), "{error}");
    }
    let names = DB::list_cf(&rocksdb::Options::default(), foreign.path()).expect("listed");
    assert_eq!(names, ["default"], "nothing was added to it");
    let nothing = Store::open_to_read(&dir.path().join("nothing")).err().expect("not there");
    assert!(matches!(nothing, RecordError::Missing { .. }), "{nothing}");
}

#[test]
fn damaged_files_say_so() {
    let dir = made();
    fs::write(dir.path().join("CURRENT"), "MANIFEST-999999\n").expect("written");
    for error in both_errors(dir.path()) {
        assert!(matches!(error, RecordError::Damaged { .. } | RecordError::Read { .. }), "{error}");
    }
    fs::remove_file(dir.path().join("CURRENT")).expect("removed");
    let error = Store::open(dir.path(), &Options::default()).err().expect("no new store over an old one");
    assert!(!matches!(error, RecordError::Missing { .. }), "{error}");
}

#[test]
fn the_directory_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().expect("a temporary directory");
    let path = dir.path().join("deep/record");
    drop(Store::open(&path, &Options::default()).expect("opens"));
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
}

/// The names and widths are the format; a change is a new one.
#[test]
fn the_columns_of_format_2() {
    assert_eq!(
        column::NAMES,
        [
            "meta",
            "entries",
            "sessions",
            "session_entries",
            "open_requests",
            "request_entries",
            "desk_entries",
            "cursors",
            "announced"
        ]
    );
    assert_eq!(format::FORMAT, 2);
    let session = crate::record::samples::SESSION;
    assert_eq!((session, 258).to_bytes()[15..], [0x11, 0, 0, 0, 0, 0, 0, 1, 2]);
    let channel = column::ChannelKey([0x22; 16]);
    assert_eq!((channel, crate::record::samples::REQUEST).to_bytes()[15..18], [0x22, 0x33, 0x33]);
}

#[test]
fn a_store_of_the_first_format_is_read_as_it_is_and_indexed_when_it_is_opened_to_write() {
    let dir = TempDir::new().expect("a temporary directory");
    let recorder = Recorder::open(dir.path(), &Options::default()).expect("opens");
    for entry in one_of_each() {
        let _ = recorder.append_written(entry).expect("the disk takes it");
    }
    drop(recorder);
    let store = Store::open(dir.path(), &Options::default()).expect("opens");
    let indexed = |store: &Store| {
        let positions = store.scan::<column::DeskEntries>(None, Direction::Forward);
        positions.map(|item| item.expect("readable").0).collect::<Vec<_>>()
    };
    let made = indexed(&store);
    assert!(made.len() > 6, "{made:?}");
    let mut batch = store.batch();
    batch.put::<Meta>(&Fact::Format, &1u32.to_be_bytes().to_vec());
    store.write(batch).expect("written");
    drop(store);
    let options = rocksdb::Options::default();
    let names = DB::list_cf(&options, dir.path()).expect("listed");
    let mut db = DB::open_cf(&options, dir.path(), names).expect("opens");
    for name in ["desk_entries", "cursors", "announced"] {
        db.drop_cf(name).expect("it is there");
    }
    drop(db);
    let before = Records::open(dir.path()).expect("an old store can be read");
    assert_eq!(before.entries(1).count(), one_of_each().len());
    drop(before);
    let store = Store::open(dir.path(), &Options::default()).expect("upgraded");
    assert_eq!(indexed(&store), made);
    assert_eq!(store.fetch::<Meta>(&Fact::Format).expect("readable"), Some(2u32.to_be_bytes().to_vec()));
}
