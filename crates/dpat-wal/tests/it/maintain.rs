//! Compaction and snapshots.

use dpat_core::{Class, Classify};
use dpat_sim::disk::{Image, SimDisk};
use dpat_storage::{File, MemStorage, Operation, ROOT, Storage};
use dpat_wal::{MaintainError, Position, ReadError, Wal};

use crate::{all, append, open, rest, small};

fn names<S: Storage>(storage: &S) -> Vec<String> {
    let entries = storage.list(ROOT).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

fn snapshot<S: Storage>(wal: &Wal<S>, at: u64, state: &[u8]) {
    let mut writer = wal.snapshot(Position(at)).unwrap();
    writer.write(state).unwrap();
    writer.finish().unwrap();
}

#[test]
fn compaction_removes_whole_segments_and_remembers_the_mark() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    for n in 0..30 {
        append(&wal, &[&format!("{n:012}")]);
    }
    // Eight records a segment.
    wal.compact(Position(17)).unwrap();
    assert_eq!(wal.first(), Position(17));
    let expected = [
        "00000000000000000016.wal",
        "00000000000000000017-0000000000.low",
        "00000000000000000024.wal",
    ];
    assert_eq!(names(&disk), expected);
    assert_eq!(all(&wal).len(), 13);
    assert_eq!(all(&wal)[0], "000000000017");
    // It never goes down, and the same again is nothing to do.
    wal.compact(Position(3)).unwrap();
    wal.compact(Position(17)).unwrap();
    assert_eq!(wal.first(), Position(17));
    wal.compact(Position(30)).unwrap();
    assert!(all(&wal).is_empty());
    drop(wal);
    // Durable when it returned, although the removals were not synced.
    let (wal, recovery) = open(disk.crash_to(Image::Synced), small());
    assert_eq!((recovery.first, recovery.end), (Position(30), Position(30)));
    append(&wal, &["after"]);
    assert_eq!(
        wal.read(Position(30)).unwrap().as_deref(),
        Some(&b"after"[..])
    );
}

#[test]
fn a_mark_survives_moves_that_fail_and_a_full_disk() {
    let mut moved = 0;
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (wal, _) = open(disk.clone(), small());
        for n in 0..30 {
            append(&wal, &[&format!("{n:012}")]);
        }
        wal.compact(Position(10)).unwrap();
        // It may have been renamed all the same, or not.
        disk.fail_next(Operation::Rename);
        wal.compact(Position(20)).unwrap_err();
        disk.set_full(true);
        let again = wal.compact(Position(20));
        drop(wal);
        let disk = disk.crash();
        disk.set_full(false);
        let (wal, recovery) = open(disk, small());
        assert!(recovery.first >= Position(10), "{seed}: {recovery:?}");
        if again.is_ok() {
            moved += 1;
            assert_eq!(recovery.first, Position(20));
        }
        wal.compact(Position(25)).unwrap();
        assert_eq!(all(&wal).len(), 5);
    }
    assert!(moved > 0);
}

#[test]
fn compacted_records_are_refused_by_name() {
    let (wal, _) = open(MemStorage::new(), small());
    for n in 0..30 {
        append(&wal, &[&format!("{n:012}")]);
    }
    let mut behind = wal.reader(Position(3)).unwrap();
    assert_eq!(behind.next_ready().unwrap().unwrap().position, Position(3));
    wal.compact(Position(20)).unwrap();
    let error = wal.reader(Position(19)).unwrap_err();
    assert_eq!(error.class(), Class::InvalidInput);
    assert_eq!(
        error.to_string(),
        "position 19 is compacted, the log begins at 20"
    );
    // A reader that is behind finishes the segment that it holds open, and then is told.
    let mut read = 4;
    let error = loop {
        match behind.next_ready() {
            Ok(Some(record)) => {
                assert_eq!(record.position, Position(read));
                read += 1;
            }
            Ok(None) => panic!("it reached the end"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            ReadError::Compacted {
                position: Position(8),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(rest(&mut wal.reader(Position(20)).unwrap()).len(), 10);
}

#[test]
fn only_what_is_durable_is_compacted_or_snapshotted() {
    let (wal, _) = open(MemStorage::new(), small());
    append(&wal, &["one"]);
    let submitted = wal.append(b"two").submit().unwrap();
    for error in [
        wal.compact(Position(2)).unwrap_err(),
        wal.snapshot(Position(2)).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, MaintainError::NotDurable { .. }), "{error}");
        assert_eq!(error.class(), Class::InvalidInput);
    }
    submitted.wait().unwrap();
    wal.compact(Position(2)).unwrap();
    snapshot(&wal, 2, b"state");
}

#[test]
fn snapshots_hold_the_state_and_the_newest_are_kept() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    assert!(wal.latest_snapshot().unwrap().is_none());
    assert_eq!(wal.oldest_snapshot(), None);
    for at in 0..4_u64 {
        append(&wal, &["record"]);
        // Of no chunk, of one, of several.
        let state = vec![u8::try_from(at).unwrap(); usize::try_from(at * 200_000).unwrap()];
        snapshot(&wal, at, &state);
    }
    assert_eq!(wal.oldest_snapshot(), Some(Position(2)));
    drop(wal);
    let (wal, recovery) = open(disk.crash_to(Image::Synced), small());
    assert_eq!(recovery.snapshot, Some(Position(3)));
    let mut newest = wal.latest_snapshot().unwrap().unwrap();
    assert_eq!(newest.position(), Position(3));
    let mut chunks = Vec::new();
    while let Some(chunk) = newest.next_chunk().unwrap() {
        assert!(chunk.iter().all(|byte| *byte == 3));
        chunks.push(chunk.len());
    }
    assert_eq!(chunks, [262_144, 262_144, 75_712]);
    let mut before = wal.snapshot_before(Position(2)).unwrap().unwrap();
    assert_eq!(before.position(), Position(2));
    assert_eq!(before.read_to_end().unwrap(), vec![2; 400_000]);
    assert!(wal.snapshot_before(Position(1)).unwrap().is_none());
    snapshot(&wal, 3, b"again");
    let mut again = wal.latest_snapshot().unwrap().unwrap();
    assert_eq!(again.read_to_end().unwrap(), b"again");
    assert_eq!(wal.oldest_snapshot(), Some(Position(2)));
}

#[test]
fn a_snapshot_that_is_not_finished_was_never_there() {
    let storage = MemStorage::new();
    let (wal, _) = open(storage.clone(), small());
    append(&wal, &["one"]);
    let mut writer = wal.snapshot(Position(1)).unwrap();
    writer.write(&[1; 300_000]).unwrap();
    let error = wal.snapshot(Position(1)).map(drop).unwrap_err();
    assert!(matches!(error, MaintainError::Busy { what: "snapshot" }));
    assert_eq!(error.class(), Class::Overloaded);
    drop(writer);
    assert!(wal.latest_snapshot().unwrap().is_none());
    snapshot(&wal, 1, b"whole");
    drop(wal);
    drop(storage.create("snapshot.tmp").unwrap());
    let (wal, _) = open(storage.clone(), small());
    assert!(storage.metadata("snapshot.tmp").is_err(), "leftovers go");
    let mut newest = wal.latest_snapshot().unwrap().unwrap();
    assert_eq!(newest.read_to_end().unwrap(), b"whole");
}

#[test]
fn a_damaged_snapshot_is_reported_and_the_one_before_serves() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    append(&wal, &["one", "two"]);
    snapshot(&wal, 1, b"older");
    snapshot(&wal, 2, b"newer");
    let path = "00000000000000000002-0000000000.snap";
    let len = disk.metadata(path).unwrap().len;
    for offset in 0..len {
        let fork = disk.fork().kill();
        fork.flip(path, offset, 1).unwrap();
        let (wal, recovery) = open(fork, small());
        assert_eq!(recovery.snapshot, Some(Position(2)));
        let read = wal
            .latest_snapshot()
            .and_then(|newest| newest.unwrap().read_to_end());
        match read {
            // Padding and the reserved bytes of the head.
            Ok(state) => assert_eq!(state, b"newer", "byte {offset}"),
            Err(ReadError::Corrupt(_)) => {
                let mut before = wal.snapshot_before(Position(1)).unwrap().unwrap();
                assert_eq!(before.read_to_end().unwrap(), b"older");
            }
            Err(other) => panic!("{other}"),
        }
    }
    // Cut anywhere, it is not taken for a whole one.
    for cut in 0..len {
        let fork = disk.fork().kill();
        fork.open(path).unwrap().truncate(cut).unwrap();
        let (wal, _) = open(fork, small());
        let read = wal
            .latest_snapshot()
            .and_then(|newest| newest.unwrap().read_to_end());
        assert!(matches!(read, Err(ReadError::Corrupt(_))), "cut at {cut}");
    }
}

#[test]
fn a_compaction_that_failed_leaves_the_log_whole() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    for n in 0..30 {
        append(&wal, &[&format!("{n:012}")]);
    }
    wal.compact(Position(9)).unwrap();
    disk.fail_next(Operation::Rename);
    let error = wal.compact(Position(17)).unwrap_err();
    assert!(matches!(error, MaintainError::Storage(_)), "{error}");
    assert_eq!(all(&wal).len(), 21);
    append(&wal, &["and on"]);
    // Whether the name had changed or not, the next one finds its way.
    wal.compact(Position(18)).unwrap();
    disk.fail_next(Operation::Remove);
    assert!(wal.compact(Position(25)).is_err());
    assert_eq!(wal.first(), Position(25), "the mark is durable");
    drop(wal);
    let (wal, recovery) = open(disk.crash(), small());
    assert_eq!((recovery.first, recovery.end), (Position(25), Position(31)));
    assert_eq!(all(&wal).len(), 6);
}
