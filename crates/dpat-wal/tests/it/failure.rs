//! Failures of the storage: what callers are told, and what the log does then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dpat_core::{Class, Classify, Effect};
use dpat_sim::disk::{Image, SimDisk};
use dpat_storage::{
    Entry, ErrorKind, File, MemStorage, Metadata, Operation, Storage, StorageError,
};
use dpat_testkit::Task;
use dpat_wal::{AppendError, MaintainError, Position};

use crate::{all, append, open, small};

#[test]
fn a_failed_sync_is_final_and_tells_who_is_in_doubt() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    append(&wal, &["safe"]);
    let mut reader = wal.reader(Position(1)).unwrap();
    let mut tail = Task::new(async move { reader.next().await.unwrap().is_none() });
    tail.assert_pending();
    let first = wal.append(b"first").submit().unwrap();
    let second = wal.append(b"second").submit().unwrap();
    disk.fail_next(Operation::SyncData);
    for appending in [first, second] {
        let error = appending.wait().unwrap_err();
        assert!(matches!(error, AppendError::InDoubt(_)), "{error}");
        assert_eq!(error.effect(), Effect::Unknown);
        assert_eq!(error.class(), Class::Permanent);
    }
    let error = wal.append(b"late").wait().unwrap_err();
    assert!(matches!(error, AppendError::Failed(_)), "{error}");
    assert_eq!(error.effect(), Effect::NotDone);
    assert!(matches!(
        wal.compact(Position(1)),
        Err(MaintainError::Failed(_))
    ));
    assert!(matches!(
        wal.snapshot(Position(1)),
        Err(MaintainError::Failed(_))
    ));
    assert!(wal.sync_blocking().is_err());
    assert!(tail.is_woken(), "there will be no more records");
    assert!(tail.assert_ready());
    // What was durable can still be read, and is there when it is opened again.
    assert_eq!(all(&wal), ["safe"]);
    assert!(matches!(wal.close(), Err(MaintainError::Failed(_))));
    let (wal, _) = open(disk.crash(), small());
    assert_eq!(all(&wal)[0], "safe");
}

#[test]
fn what_waits_behind_a_failed_group_was_surely_not_written() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    let mut run = Task::new(wal.committer().unwrap().run());
    run.assert_pending();
    let mut under_way = Task::new(wal.append(b"under way"));
    under_way.assert_pending();
    disk.fail_next(Operation::SyncData);
    run.assert_pending();
    run.assert_ready();
    let error = under_way.assert_ready().unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    let error = wal.append(b"late").submit().map(drop).unwrap_err();
    assert_eq!(error.effect(), Effect::NotDone);
}

#[test]
fn a_full_disk_refuses_records_and_the_log_goes_on() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    append(&wal, &["before"]);
    disk.set_full(true);
    let group: Vec<_> = (0..3)
        .map(|_| wal.append(b"refused").submit().unwrap())
        .collect();
    for appending in group {
        let error = appending.wait().unwrap_err();
        assert!(matches!(error, AppendError::Refused(_)), "{error}");
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Overloaded, Effect::NotDone)
        );
    }
    assert_eq!(wal.durable(), Position(1));
    disk.set_full(false);
    // The position is given to the next.
    assert_eq!(wal.append(b"after").wait().unwrap(), Position(1));
    assert_eq!(all(&wal), ["before", "after"]);
    drop(wal);
    let (wal, _) = open(disk.crash_to(Image::Synced), small());
    assert_eq!(all(&wal), ["before", "after"]);
}

#[test]
fn a_full_disk_lets_no_segment_begin_and_compaction_makes_room() {
    let disk = SimDisk::with_bytes_max(1, 2_000);
    let (wal, _) = open(disk.clone(), small());
    let mut written = 0;
    let error = loop {
        match wal.append(b"twelve bytes").wait() {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the disk is never full");
    };
    assert_eq!(error.class(), Class::Overloaded);
    wal.compact(Position(written)).unwrap();
    // The removals give room back once they are on the disk.
    disk.sync_dir(dpat_storage::ROOT).unwrap();
    assert_eq!(
        wal.append(b"twelve bytes").wait().unwrap(),
        Position(written)
    );
}

#[test]
fn a_write_that_failed_in_the_middle_leaves_nothing_behind() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let (wal, _) = open(disk.clone(), small());
        append(&wal, &["before"]);
        let group: Vec<_> = (0..4)
            .map(|_| wal.append(b"a refused one").submit().unwrap())
            .collect();
        disk.fail_next(Operation::WriteAt);
        for appending in group {
            let error = appending.wait().unwrap_err();
            assert!(matches!(error, AppendError::Refused(_)), "{error}");
            assert_eq!(error.effect(), Effect::NotDone);
        }
        // As long as the first that was refused.
        append(&wal, &["and after it."]);
        drop(wal);
        for image in [Image::Synced, Image::Written, Image::Drawn(seed)] {
            let (wal, _) = open(disk.fork().crash_to(image), small());
            assert_eq!(all(&wal), ["before", "and after it."], "{image}");
        }
    }
}

#[test]
fn answers_are_remembered_for_a_while() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    let kept = wal.append(b"kept").submit().unwrap();
    append(&wal, &["x"]);
    disk.set_full(true);
    let refused = wal.append(b"refused").submit().unwrap();
    for _ in 0..63 {
        assert!(wal.append(b"x").wait().is_err());
    }
    let asked = wal.append(b"asked in time").submit().unwrap();
    for _ in 0..63 {
        assert!(wal.append(b"x").wait().is_err());
    }
    assert!(matches!(asked.wait(), Err(AppendError::Refused(_))));
    for late in [kept, refused] {
        let error = late.wait().unwrap_err();
        assert!(matches!(error, AppendError::Forgotten), "{error}");
        assert_eq!(error.effect(), Effect::Unknown);
    }
}

/// A storage whose writes panic when they are told to.
#[derive(Clone)]
struct Panics {
    inner: MemStorage,
    now: Arc<AtomicBool>,
}

struct PanicFile {
    inner: <MemStorage as Storage>::File,
    now: Arc<AtomicBool>,
}

impl Storage for Panics {
    type File = PanicFile;
    type Lock = <MemStorage as Storage>::Lock;

    fn create(&self, path: &str) -> Result<PanicFile, StorageError> {
        let now = Arc::clone(&self.now);
        self.inner
            .create(path)
            .map(|inner| PanicFile { inner, now })
    }
    fn open(&self, path: &str) -> Result<PanicFile, StorageError> {
        let now = Arc::clone(&self.now);
        self.inner.open(path).map(|inner| PanicFile { inner, now })
    }
    fn metadata(&self, path: &str) -> Result<Metadata, StorageError> {
        self.inner.metadata(path)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.inner.remove(path)
    }
    fn create_dir(&self, path: &str) -> Result<(), StorageError> {
        self.inner.create_dir(path)
    }
    fn remove_dir(&self, path: &str) -> Result<(), StorageError> {
        self.inner.remove_dir(path)
    }
    fn list(&self, path: &str) -> Result<Vec<Entry>, StorageError> {
        self.inner.list(path)
    }
    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        self.inner.sync_dir(path)
    }
    fn lock(&self) -> Result<Self::Lock, StorageError> {
        self.inner.lock()
    }
}

impl File for PanicFile {
    fn path(&self) -> &str {
        self.inner.path()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.inner.read_at(offset, buffer)
    }
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        assert!(!self.now.load(Ordering::SeqCst), "told to panic");
        self.inner.write_at(offset, data)
    }
    fn append(&mut self, data: &[u8]) -> Result<u64, StorageError> {
        self.inner.append(data)
    }
    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        self.inner.truncate(len)
    }
    fn sync_data(&mut self) -> Result<(), StorageError> {
        self.inner.sync_data()
    }
    fn len(&self) -> Result<u64, StorageError> {
        self.inner.len()
    }
}

#[test]
fn a_storage_that_panics_fails_the_log_and_leaves_nobody_waiting() {
    let now = Arc::new(AtomicBool::new(false));
    let storage = Panics {
        inner: MemStorage::new(),
        now: Arc::clone(&now),
    };
    let (wal, _) = open(storage, small());
    append(&wal, &["before"]);
    let waiting = wal.append(b"waiting").submit().unwrap();
    now.store(true, Ordering::SeqCst);
    let panicked = catch_unwind(AssertUnwindSafe(|| wal.append(b"leads").wait()));
    assert!(panicked.is_err());
    let error = waiting.wait().unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    let AppendError::InDoubt(cause) = error else {
        panic!("{error}");
    };
    assert_eq!(cause.kind(), ErrorKind::Closed);
    assert!(wal.append(b"late").wait().is_err());
    assert_eq!(all(&wal), ["before"]);
    assert!(wal.close().is_err());
}
