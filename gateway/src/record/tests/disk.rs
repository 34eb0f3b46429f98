//! Killed processes, torn logs, full disks: what was acknowledged is there afterwards, and the chain is whole.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::*;
use crate::record::RecordError;

const CHILD_DIR: &str = "HOLDPOINT_TEST_RECORD";

#[test]
#[ignore = "the child of a_killed_writer_loses_nothing_that_it_acknowledged; does nothing by itself"]
fn child_that_appends() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let recorder = Recorder::open(Path::new(&dir), &Options::default()).expect("opens");
    let mut out = std::io::stdout().lock();
    loop {
        let receipt = recorder.append_written(allowed("SELECT 1")).expect("written");
        writeln!(out, "ack {}", receipt.position()).and_then(|()| out.flush()).expect("the parent reads");
    }
}

fn appending_child(dir: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this test's binary"))
        .args(["--exact", "record::tests::disk::child_that_appends", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut acknowledged = 0;
    for round in 1..=6 {
        let mut child = appending_child(dir.path());
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut killed = false;
        for line in lines {
            let line = line.expect("readable");
            let Some(position) = line.strip_prefix("ack ") else { continue };
            acknowledged = position.parse().expect("a position");
            if !killed && acknowledged % (300 * round + 17) == 0 {
                if round == 1 {
                    let second = Recorder::open(dir.path(), &Options::default()).err().expect("one writer only");
                    assert!(matches!(second, RecordError::InUse { .. }), "{second}");
                }
                child.kill().expect("SIGKILL");
                killed = true;
            }
        }
        child.wait().expect("ended");
        let records = Records::open(dir.path()).expect("opens after the kill");
        let found = verify(&records, None).expect("readable");
        assert!(found.is_whole(), "{:#?}", found.findings);
        assert!(found.head.position >= acknowledged, "{} of {acknowledged}", found.head.position);
    }
}

/// The log file that the newest entries are in.
fn newest_log(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).expect("readable").map(|file| file.expect("readable").path());
    files.filter(|path| path.extension().is_some_and(|ext| ext == "log")).max().expect("a write-ahead log")
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = TempDir::new().expect("a temporary directory");
    for file in fs::read_dir(dir).expect("readable") {
        let file = file.expect("readable");
        fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
    }
    copy
}

#[test]
fn a_torn_tail_is_cut_and_everything_before_it_is_kept() {
    let dir = TempDir::new().expect("a temporary directory");
    let recorder = Recorder::open(dir.path(), &Options::default()).expect("opens");
    append(&recorder, &approved_session());
    let log = newest_log(dir.path());
    let before = fs::metadata(&log).expect("there").len();
    append(&recorder, &[allowed("SELECT 'the last record'")]);
    let after = fs::metadata(&log).expect("there").len();
    drop(recorder);
    let name = log.file_name().expect("a file");
    for kept in (before..after).step_by(13).chain([after - 1]) {
        for garbage in [&b""[..], &[0; 4096], &[0xa5; 64]] {
            let torn = copy_of(dir.path());
            let bytes = fs::read(torn.path().join(name)).expect("readable");
            let cut = usize::try_from(kept).expect("a small file");
            let damaged = [&bytes[..cut], garbage].concat();
            // Zeros may happen to be the very bytes that were cut off.
            let newest = if damaged.starts_with(&bytes) { 9 } else { 8 };
            fs::write(torn.path().join(name), damaged).expect("written");
            let found = verify(&Records::open(torn.path()).expect("opens to read"), None).expect("readable");
            assert!(found.is_whole() && found.head.position == newest, "{kept}: {found:#?}");
            let recorder = Recorder::open(torn.path(), &Options::default()).expect("opens to write");
            assert_eq!(recorder.append_written(allowed("SELECT 1")).expect("written").position(), newest + 1);
            assert!(verified(&recorder).is_whole());
        }
    }
}

#[test]
fn a_flipped_bit_in_the_files_is_found() {
    let dir = TempDir::new().expect("a temporary directory");
    // Small enough that entries reach sorted files.
    let options = Options { memtable_bytes: 64 << 10, ..Options::default() };
    let recorder = Recorder::open(dir.path(), &options).expect("opens");
    for number in 0..3_000 {
        append(&recorder, &[allowed(&format!("SELECT {number} /* {:x} */", number * 7_919))]);
    }
    let head = recorder.head().expect("readable");
    drop(recorder);
    let files = fs::read_dir(dir.path()).expect("readable").map(|file| file.expect("readable").path());
    let largest = files
        .filter(|path| path.extension().is_some_and(|ext| ext == "sst"))
        .max_by_key(|path| fs::metadata(path).expect("there").len())
        .expect("a sorted file");
    let mut bytes = fs::read(&largest).expect("readable");
    bytes[1_000] ^= 0x10;
    fs::write(&largest, bytes).expect("written");
    match Records::open(dir.path()) {
        Err(error) => assert!(matches!(error, RecordError::Damaged { .. }), "{error}"),
        Ok(records) => match verify(&records, Some(head)) {
            Ok(found) => assert!(!found.is_whole()),
            Err(error) => assert!(matches!(error, RecordError::Damaged { .. }), "{error}"),
        },
    }
}

#[test]
fn a_record_that_may_not_be_read_says_so() {
    let dir = TempDir::new().expect("a temporary directory");
    drop(Recorder::open(dir.path(), &Options::default()).expect("opens"));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o000)).expect("changed");
    // Root may read everything; as nobody (for this thread's file accesses only) it may not.
    let path = dir.path().to_owned();
    let (writing, reading) = std::thread::spawn(move || {
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
        (Recorder::open(&path, &Options::default()).err(), Records::open(&path).err())
    })
    .join()
    .expect("no panic");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("changed back");
    for error in [writing, reading] {
        let error = error.expect("no permission");
        assert!(matches!(error, RecordError::Denied { .. }), "{error}");
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    }
}

/// A small file system of its own, gone when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let options = format!("size={size}");
        nix::mount::mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        )
        .expect("root may mount; run as root");
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("record")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Ten kilobytes that no compression makes smaller.
fn incompressible(seed: u64) -> Entry {
    let blocks =
        (0u64..320).flat_map(|n| crate::operation::Digest::of(&[seed.to_be_bytes(), n.to_be_bytes()].concat()).0);
    Entry { session: None, ..entry(Body::Control { what: "noise".to_owned(), wire: blocks.collect() }) }
}

#[tokio::test]
#[ignore = "needs root: cargo test -p gateway --lib a_full_disk -- --ignored"]
async fn a_full_disk_fails_closed_until_there_is_room_and_loses_nothing() {
    let disk = SmallDisk::new("12m");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![1; 6 << 20]).expect("there is room");
    let options = Options { memtable_bytes: 1 << 20, ..Options::default() };
    let recorder = Recorder::open(&disk.path(), &options).expect("opens");
    let mut acknowledged = 0;
    // Compressing the log into a sorted file may make room a few times; then it stays full.
    let mut failures = 0;
    while failures < 5 {
        assert!(acknowledged < 100_000, "a small disk fills up");
        match recorder.append(incompressible(acknowledged), Durability::Synced).await {
            Ok(receipt) => (acknowledged, failures) = (receipt.position(), 0),
            Err(error) => {
                assert!(matches!(error, RecordError::Full { .. }), "{error}");
                failures += 1;
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
        }
    }
    fs::remove_file(&ballast).expect("removed");
    let deadline = Instant::now() + Duration::from_secs(20);
    let receipt = loop {
        match recorder.append(allowed("SELECT 1"), Durability::Synced).await {
            Ok(receipt) => break receipt,
            Err(error) => assert!(Instant::now() < deadline, "room was made, and still: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(receipt.position() > acknowledged, "{} after {acknowledged}", receipt.position());
    let found = verified(&recorder);
    assert!(found.is_whole() && found.entries == receipt.position(), "{found:#?}");
}
