//! Reading: from anywhere, behind the writers, across segments, and as the log grows.

use std::thread;

use dpat_core::{Class, Classify};
use dpat_sim::disk::SimDisk;
use dpat_storage::{MemStorage, Operation};
use dpat_testkit::Task;
use dpat_wal::{Batch, Position, ReadError};

use crate::{all, append, open, rest, small};

#[test]
fn every_position_is_found_in_old_and_new_segments() {
    let storage = MemStorage::new();
    // Large enough for several entries of the index in a segment.
    let config = || {
        small()
            .segment_bytes(1 << 20)
            .frame_bytes_max(4096)
            .pending_bytes_max(1 << 16)
    };
    let (wal, _) = open(storage.clone(), config());
    let record = |n: u64| [n.to_le_bytes(); 300].concat();
    let count = 1500;
    for n in 0..count {
        drop(wal.append(&record(n)).submit());
        if n % 16 == 15 {
            wal.sync_blocking().unwrap();
        }
    }
    wal.sync_blocking().unwrap();
    assert_eq!(wal.durable(), Position(count));
    for again in 0..2 {
        let (wal, _) = match again {
            0 => (wal.clone(), None),
            _ => {
                let (wal, recovery) = open(storage.clone(), config().without_lock());
                (wal, Some(recovery))
            }
        };
        for n in (0..count).step_by(37).chain([count - 1]) {
            let found = wal.read(Position(n)).unwrap().unwrap();
            assert_eq!(found, record(n), "position {n}");
        }
        assert_eq!(wal.read(Position(count)).unwrap(), None);
        // What reading it whole has taught makes no difference.
        let mut reader = wal.reader(Position(0)).unwrap();
        let mut read = 0;
        while let Some(one) = reader.next_ready().unwrap() {
            assert_eq!(one.bytes, record(read));
            read += 1;
        }
        assert_eq!(read, count);
        for n in (5..count).step_by(101) {
            assert_eq!(wal.read(Position(n)).unwrap().unwrap(), record(n));
        }
    }
}

#[test]
fn a_reader_may_begin_in_the_middle_of_a_batch() {
    let (wal, _) = open(MemStorage::new(), small());
    let batch: Batch = ["a", "b", "c", "d"].into_iter().collect();
    wal.append_batch(&batch).wait().unwrap();
    append(&wal, &["e"]);
    for from in 0..=5 {
        let mut reader = wal.reader(Position(from)).unwrap();
        let expected: Vec<&str> = ["a", "b", "c", "d", "e"]
            .into_iter()
            .skip(usize::try_from(from).unwrap())
            .collect();
        assert_eq!(rest(&mut reader), expected, "from {from}");
    }
    // Behind the end is fine, too.
    let mut reader = wal.reader(Position(7)).unwrap();
    assert_eq!(reader.next_ready().unwrap(), None);
    append(&wal, &["f", "g", "h"]);
    assert_eq!(rest(&mut reader), ["h"]);
}

#[test]
fn readers_see_nothing_that_is_not_durable() {
    let (wal, _) = open(SimDisk::new(1), small());
    append(&wal, &["durable"]);
    let submitted = wal.append(b"submitted").submit().unwrap();
    let mut reader = wal.reader(Position(0)).unwrap();
    assert_eq!(rest(&mut reader), ["durable"]);
    submitted.wait().unwrap();
    assert_eq!(rest(&mut reader), ["submitted"]);
}

#[test]
fn a_waiting_reader_is_told_of_new_records_and_of_the_end() {
    let (wal, _) = open(MemStorage::new(), small());
    let mut reader = wal.reader(Position(0)).unwrap();
    let mut next = Task::new(async move {
        let record = reader.next().await.unwrap().unwrap();
        let first = (record.position, record.bytes.to_vec());
        let second = reader.next().await.unwrap().map(|record| record.position);
        let third = reader.next().await.unwrap().is_none();
        (first, second, third)
    });
    next.assert_pending();
    let submitted = wal.append(b"one").submit().unwrap();
    assert!(!next.is_woken(), "it is not durable yet");
    submitted.wait().unwrap();
    assert!(next.is_woken());
    next.assert_pending();
    append(&wal, &["two"]);
    assert!(next.is_woken());
    next.assert_pending();
    wal.close().unwrap();
    assert!(next.is_woken());
    let (first, second, third) = next.assert_ready();
    assert_eq!(first, (Position(0), b"one".to_vec()));
    assert_eq!((second, third), (Some(Position(1)), true));
}

#[test]
fn a_reader_outlives_the_handles() {
    let (wal, _) = open(MemStorage::new(), small());
    append(&wal, &["one", "two"]);
    let mut reader = wal.reader(Position(1)).unwrap();
    drop(wal);
    assert_eq!(rest(&mut reader), ["two"]);
    assert_eq!(reader.next_blocking().unwrap(), None);
}

#[test]
fn readers_follow_writers_across_segments() {
    const RECORDS: u64 = 400;
    for _ in 0..3 {
        let (wal, _) = open(SimDisk::new(7), small().preallocate_bytes(128));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut reader = wal.reader(Position(0)).unwrap();
                thread::spawn(move || {
                    let mut expected = 0_u64;
                    while let Some(record) = reader.next_blocking().unwrap() {
                        assert_eq!(record.position, Position(expected));
                        assert_eq!(record.bytes, expected.to_string().as_bytes());
                        expected += 1;
                    }
                    expected
                })
            })
            .collect();
        for n in 0..RECORDS {
            wal.append(n.to_string().as_bytes()).wait().unwrap();
        }
        wal.close().unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), RECORDS);
        }
    }
}

#[test]
fn damage_is_reported_where_it_is_and_reading_goes_on_behind_it() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    for _ in 0..12 {
        append(&wal, &["twelve bytes"]);
    }
    drop(wal);
    // In the payload of the third record of the first segment, which is not the last.
    let disk = disk.kill();
    disk.flip("00000000000000000000.wal", 64 + 2 * 48 + 32, 1)
        .unwrap();
    let (wal, _) = open(disk, small());
    let mut reader = wal.reader(Position(0)).unwrap();
    for _ in 0..2 {
        assert!(reader.next_ready().unwrap().is_some());
    }
    for _ in 0..2 {
        let error = reader.next_ready().unwrap_err();
        assert_eq!(error.class(), Class::Corrupt);
        let ReadError::Corrupt(corruption) = error else {
            panic!("{error}");
        };
        assert_eq!(corruption.position, Position(2));
        assert_eq!(corruption.offset, 64 + 2 * 48);
        assert_eq!(reader.position(), Position(2), "it is not skipped");
    }
    let mut behind = wal.reader(Position(3)).unwrap();
    assert_eq!(rest(&mut behind).len(), 9);
}

#[test]
fn a_read_that_failed_can_be_tried_again() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    for n in 0..20 {
        append(&wal, &[&format!("{n}")]);
    }
    let expected = all(&wal);
    for failing in 0..12 {
        let mut reader = wal.reader(Position(0)).unwrap();
        let mut records = Vec::new();
        let mut failures = 0;
        loop {
            if records.len() == failing && failures == 0 {
                disk.fail_next(Operation::ReadAt);
            }
            match reader.next_ready() {
                Ok(Some(record)) => records.push(String::from_utf8(record.bytes.to_vec()).unwrap()),
                Ok(None) => break,
                Err(ReadError::Storage(_)) => failures += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(records, expected);
    }
}
