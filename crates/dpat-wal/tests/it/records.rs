//! What is appended is there, in order, also after it was opened again.

use dpat_core::{Class, Classify, Effect};
use dpat_sim::disk::SimDisk;
use dpat_storage::{ErrorKind, File, FsStorage, MemStorage, Storage};
use dpat_testkit::{assert_clone, assert_send, assert_send_sync};
use dpat_wal::{
    Append, AppendError, Appending, Batch, Committer, Config, CorruptionKind, OpenError, Position,
    Reader, Snapshot, SnapshotWriter, Wal,
};

use crate::{all, append, open, small};

#[test]
fn handles_cross_threads() {
    assert_send_sync::<Wal<MemStorage>>();
    assert_clone::<Wal<MemStorage>>();
    assert_send_sync::<Append<'_, MemStorage>>();
    assert_send_sync::<Appending<MemStorage>>();
    assert_send_sync::<Committer<MemStorage>>();
    assert_send::<Reader<MemStorage>>();
    assert_send::<Snapshot<MemStorage>>();
    assert_send::<SnapshotWriter<MemStorage>>();
    assert_send_sync::<Config>();
    assert_send_sync::<OpenError>();
    assert_send_sync::<AppendError>();
}

#[test]
fn records_are_there_in_order_after_reopening() {
    let storage = MemStorage::new();
    let (wal, recovery) = open(storage.clone(), small());
    assert_eq!((recovery.first, recovery.end), (Position(0), Position(0)));
    let records: Vec<String> = (0..40).map(|n| format!("record {n}")).collect();
    for (n, record) in (0..).zip(&records) {
        let at = wal.append(record.as_bytes()).wait().unwrap();
        assert_eq!(at, Position(n));
    }
    assert_eq!(all(&wal), records);
    drop(wal);
    let (wal, recovery) = open(storage, small());
    assert_eq!(recovery.end, Position(40));
    assert_eq!((recovery.torn, recovery.marked), (None, true));
    assert_eq!(all(&wal), records);
    append(&wal, &["one more"]);
    assert_eq!(all(&wal).len(), 41);
}

#[test]
fn real_files_hold_a_log_too() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3_u64 {
        let storage = FsStorage::open(folder.path()).unwrap();
        let (wal, recovery) = open(storage, small().directory("log").preallocate_bytes(256));
        assert_eq!(recovery.end, Position(20 * round));
        assert_eq!(recovery.torn, None);
        for n in 0..20 {
            append(&wal, &[&format!("{round}.{n}")]);
        }
        assert_eq!(all(&wal).len() as u64, 20 * (round + 1));
        if round == 1 {
            wal.close().unwrap();
        }
    }
}

#[test]
fn empty_and_largest_records_are_records() {
    let (wal, _) = open(MemStorage::new(), small());
    let largest = "x".repeat(128);
    append(&wal, &["", &largest, ""]);
    assert_eq!(all(&wal), ["", &largest, ""]);
    let error = wal.append(&[0; 129]).wait().unwrap_err();
    assert_eq!(error.to_string(), "record: 129 bytes, the limit is 128");
    assert_eq!(
        (error.class(), error.effect()),
        (Class::InvalidInput, Effect::NotDone)
    );
    assert_eq!(all(&wal).len(), 3);
}

#[test]
fn a_batch_is_appended_as_one() {
    let storage = MemStorage::new();
    let (wal, _) = open(storage.clone(), small());
    append(&wal, &["before"]);
    let batch: Batch = ["a", "", "ccc"].into_iter().collect();
    assert_eq!(wal.append_batch(&batch).wait().unwrap(), Position(1));
    let mut one = Batch::new();
    one.push(b"alone");
    assert_eq!(wal.append_batch(&one).wait().unwrap(), Position(4));
    drop(wal);
    let (wal, _) = open(storage, small());
    assert_eq!(all(&wal), ["before", "a", "", "ccc", "alone"]);
    let mut reader = wal.reader(Position(0)).unwrap();
    let mut following = Vec::new();
    while let Some(record) = reader.next_ready().unwrap() {
        following.push(record.following);
    }
    assert_eq!(following, [0, 2, 1, 0, 0]);
    assert_eq!(wal.read(Position(3)).unwrap().as_deref(), Some(&b"ccc"[..]));
}

#[test]
fn a_batch_has_limits() {
    let (wal, _) = open(MemStorage::new(), small());
    let error = wal.append_batch(&Batch::new()).wait().unwrap_err();
    assert!(matches!(error, AppendError::Empty));
    let batch: Batch = (0..26).map(|_| "1").collect();
    let error = wal.append_batch(&batch).wait().unwrap_err();
    // 26 bytes, and four for the length of each.
    assert_eq!(error.to_string(), "batch: 130 bytes, the limit is 128");
    let mut batch = batch;
    batch.clear();
    assert!(batch.is_empty());
    batch.extend(["x"; 25]);
    assert_eq!(wal.append_batch(&batch).wait().unwrap(), Position(0));
    assert_eq!(batch.len(), 25);
}

#[test]
fn segments_are_files_of_the_configured_size() {
    let storage = MemStorage::new();
    let (wal, _) = open(storage.clone(), small().directory("log"));
    for _ in 0..40 {
        append(&wal, &["twelve bytes"]);
    }
    let entries = storage.list("log").unwrap();
    assert!(entries.len() > 3, "{entries:?}");
    assert_eq!(entries[1].name, "00000000000000000000.wal");
    for entry in &entries {
        let len = storage
            .metadata(&format!("log/{}", entry.name))
            .unwrap()
            .len;
        assert!(len <= 512, "{entry:?} has {len}");
    }
    assert_eq!(all(&wal).len(), 40);
}

#[test]
fn a_segment_grows_ahead_in_steps() {
    let storage = MemStorage::new();
    let (wal, _) = open(storage.clone(), small().preallocate_bytes(256));
    let len = || storage.metadata("00000000000000000000.wal").unwrap().len;
    let mut seen = Vec::new();
    for _ in 0..9 {
        append(&wal, &["twelve bytes"]);
        seen.push(len());
    }
    assert_eq!(seen, [256, 256, 256, 512, 512, 512, 512, 512, 480]);
    assert_eq!(all(&wal).len(), 9);
}

#[test]
fn the_storage_has_one_log_at_a_time() {
    let storage = MemStorage::new();
    let (wal, _) = open(storage.clone(), small());
    let error = Wal::open(storage.clone(), small().build().unwrap()).unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    let OpenError::Storage(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind(), ErrorKind::Locked);
    wal.close().unwrap();
    let held = storage.lock().unwrap();
    let (first, _) = open(storage.clone(), small().directory("a").without_lock());
    let (second, _) = open(storage, small().directory("b").without_lock());
    append(&first, &["in a"]);
    append(&second, &["in b"]);
    assert_eq!(all(&first), ["in a"]);
    drop(held);
}

#[test]
fn a_log_opens_with_other_limits_than_it_was_written_with() {
    let storage = MemStorage::new();
    let (wal, _) = open(storage.clone(), small());
    let large = "l".repeat(120);
    append(&wal, &[&large, &large]);
    drop(wal);
    let smaller = || small().frame_bytes_max(16).segment_bytes(200);
    let (wal, recovery) = open(storage.clone(), smaller());
    assert_eq!(recovery.end, Position(2));
    append(&wal, &["small"]);
    assert_eq!(all(&wal), [&large, &large, "small"]);
    drop(wal);
    let (wal, _) = open(storage, small());
    append(&wal, &[&large]);
    assert_eq!(all(&wal).len(), 4);
}

#[test]
fn a_closed_log_refuses_and_is_marked() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    let other = wal.clone();
    append(&wal, &["kept"]);
    let submitted = wal.append(b"submitted").submit().unwrap();
    wal.close().unwrap();
    assert_eq!(submitted.wait().unwrap(), Position(1));
    let error = other.append(b"late").wait().unwrap_err();
    assert!(matches!(error, AppendError::Closed));
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Unavailable, Effect::NotDone)
    );
    assert!(other.append(b"late").submit().is_err());
    assert!(other.sync_blocking().is_err());
    assert!(other.compact(Position(1)).is_err());
    assert!(other.snapshot(Position(1)).is_err());
    // Reading goes on, and closing again is refused.
    assert_eq!(all(&other), ["kept", "submitted"]);
    assert!(other.close().is_err());
    let (_, recovery) = open(disk.crash(), small());
    assert_eq!((recovery.end, recovery.marked), (Position(2), true));
}

#[test]
fn a_torn_tail_is_cut_off_and_told() {
    let storage = MemStorage::new();
    let (wal, _) = open(storage.clone(), small());
    append(&wal, &["whole", "torn"]);
    drop(wal);
    // The head, two frames of 40 bytes, and the mark.
    let mut file = storage.open("00000000000000000000.wal").unwrap();
    assert_eq!(file.len().unwrap(), 64 + 2 * 40 + 32);
    file.truncate(64 + 40 + 36).unwrap();
    let (wal, recovery) = open(storage, small());
    let torn = recovery.torn.unwrap();
    assert_eq!((torn.offset, torn.bytes), (104, 36));
    assert_eq!(
        (torn.position, torn.path.as_str()),
        (Position(1), "00000000000000000000.wal")
    );
    assert!(!recovery.marked);
    assert_eq!(all(&wal), ["whole"]);
    append(&wal, &["next"]);
    assert_eq!(all(&wal), ["whole", "next"]);
}

#[test]
fn damage_before_a_mark_is_no_torn_tail() {
    let storage = MemStorage::new();
    let (wal, _) = open(storage.clone(), small());
    append(&wal, &["whole", "rotten"]);
    drop(wal);
    let mut file = storage.open("00000000000000000000.wal").unwrap();
    file.write_at(64 + 40 + 33, b"!").unwrap();
    let error = Wal::open(storage, small().build().unwrap()).unwrap_err();
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Corrupt, Effect::NotDone)
    );
    let OpenError::Corrupt(corruption) = error else {
        panic!("{error}");
    };
    assert_eq!(corruption.kind, CorruptionKind::Frame);
    assert_eq!((corruption.offset, corruption.position), (104, Position(1)));
    assert_eq!(
        corruption.to_string(),
        "\"00000000000000000000.wal\" at byte 104, position 1: \
         a record that was durable is damaged or missing"
    );
}

#[test]
fn an_unknown_version_is_told_by_its_number() {
    let storage = MemStorage::new();
    drop(open(storage.clone(), small()));
    let mut file = storage.open("00000000000000000000.wal").unwrap();
    let mut head = [0; 64];
    file.read_exact_at(0, &mut head).unwrap();
    head[8] = 9;
    let crc = crc32c(&[&head[..12], &head[16..]].concat());
    head[12..16].copy_from_slice(&crc.to_le_bytes());
    file.write_at(0, &head).unwrap();
    let error = Wal::open(storage, small().build().unwrap()).unwrap_err();
    assert!(
        error.to_string().ends_with("version 9 is not known"),
        "{error}"
    );
}

/// Bit by bit, as the polynomial says: another implementation than the one under test.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn other_files_in_the_directory_are_left_alone() {
    let storage = MemStorage::new();
    for name in ["notes.txt", "1.wal", "x.snap", "segment.tmp"] {
        drop(storage.create(name).unwrap());
    }
    storage.create_dir("00000000000000000009.wal").unwrap();
    let (wal, _) = open(storage.clone(), small());
    append(&wal, &["fine"]);
    assert_eq!(all(&wal), ["fine"]);
    // Its own leftovers go.
    assert!(storage.metadata("segment.tmp").is_err());
    assert!(storage.metadata("notes.txt").is_ok());
}
