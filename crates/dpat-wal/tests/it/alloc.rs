//! What an append asks of the allocator.

use dpat_storage::{File, FsStorage, Storage};
use dpat_testkit::{Task, allocations};
use dpat_wal::{Batch, Config, Position, Wal};

/// Real files, whose writes do not allocate.
fn log(folder: &tempfile::TempDir) -> Wal<FsStorage> {
    let storage = FsStorage::open(folder.path()).unwrap();
    Wal::open(storage, Config::default()).unwrap().0
}

#[test]
fn an_append_in_steady_state_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wal = log(&folder);
    let batch: Batch = ["a", "b"].into_iter().collect();
    for _ in 0..4 {
        wal.append(b"record").wait().unwrap();
        wal.append_batch(&batch).wait().unwrap();
    }
    let (_, count) = allocations(|| {
        for _ in 0..10 {
            wal.append(b"record").wait().unwrap();
            wal.append_batch(&batch).wait().unwrap();
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn a_future_in_steady_state_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wal = log(&folder);
    wal.append(b"record").wait().unwrap();
    wal.append(b"record").wait().unwrap();
    let mut task = Task::new(async {
        for _ in 0..10 {
            wal.append(b"record").await.unwrap();
        }
    });
    let (_, count) = allocations(|| task.assert_ready());
    assert_eq!(count, 0);
}

#[test]
fn reading_in_steady_state_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wal = log(&folder);
    for _ in 0..100 {
        drop(wal.append(b"record").submit().unwrap());
    }
    wal.sync_blocking().unwrap();
    let mut reader = wal.reader(Position(0)).unwrap();
    reader.next_ready().unwrap();
    let (read, count) = allocations(|| {
        let mut read = 0;
        while let Some(record) = reader.next_ready().unwrap() {
            read += record.bytes.len();
        }
        read
    });
    assert_eq!((read, count), (99 * 6, 0));
}

#[test]
fn files_of_a_log_are_only_as_long_as_they_must_be_once_closed() {
    let folder = tempfile::tempdir().unwrap();
    log(&folder).close().unwrap();
    let storage = FsStorage::open(folder.path()).unwrap();
    let file = storage.open("00000000000000000000.wal").unwrap();
    assert_eq!(file.len().unwrap(), 64 + 32);
}
