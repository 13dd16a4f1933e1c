//! Failures, full disks and rotten sectors: only where they are asked for, and they say what they did.

use std::collections::BTreeSet;

use dpat_core::{Classify, Effect};
use dpat_model::{Fault, NodeIx};
use dpat_sim::disk::{Odds, SECTOR_BYTES, SimDisk, Strike};
use dpat_storage::{ErrorKind, File, ROOT, Storage, StorageError};

use super::{content, disk_with, names};

const NODE: NodeIx = NodeIx(0);

fn refused<T>(result: Result<T, StorageError>) -> (ErrorKind, Effect) {
    match result {
        Ok(_) => panic!("it was done"),
        Err(error) => (error.kind(), error.effect()),
    }
}

#[test]
fn a_full_disk_refuses_with_nothing_done() {
    let disk = disk_with(1, Odds::MIXED, b"old");
    disk.set_full(true);
    let mut file = disk.open("f").unwrap();
    let full = (ErrorKind::NoSpace, Effect::NotDone);
    assert_eq!(refused(file.append(b"x")), full);
    assert_eq!(refused(file.write_at(2, b"xy")), full);
    assert_eq!(refused(file.truncate(4)), full);
    assert_eq!(refused(disk.create("g")), full);
    assert_eq!(refused(disk.create_dir("d")), full);
    assert_eq!(content(&disk, "f"), b"old");
    assert_eq!(names(&disk), ["f"]);
    // What needs no room goes on.
    file.write_at(0, b"new").unwrap();
    file.sync_data().unwrap();
    disk.rename("f", "g").unwrap();
    disk.sync_dir(ROOT).unwrap();
    let disk = disk.crash();
    assert_eq!(refused(disk.create("h")), full, "a restart makes no room");
    disk.remove("g").unwrap();
    disk.set_full(false);
    drop(disk.create("h").unwrap());
}

#[test]
fn a_disk_is_full_at_its_limit_and_removing_makes_room() {
    let disk = SimDisk::with_bytes_max(1, 1_000);
    let mut file = disk.create("f").unwrap();
    file.append(&[1; 900]).unwrap();
    assert_eq!(refused(file.append(&[1; 100])).0, ErrorKind::NoSpace);
    assert_eq!(refused(disk.create("g")).0, ErrorKind::NoSpace);
    file.truncate(100).unwrap();
    file.append(&[1; 800]).unwrap();
    disk.remove("f").unwrap();
    assert_eq!(
        refused(disk.create("g").and_then(|mut g| g.append(&[1; 900]))).0,
        ErrorKind::NoSpace
    );
    drop(file);
    disk.sync_dir(ROOT).unwrap();
    disk.open("g").unwrap().append(&[1; 900]).unwrap();
}

#[test]
fn corrupt_sectors_are_where_they_were_asked_for() {
    for seed in 0..20 {
        let old = vec![0x55; 10 * SECTOR_BYTES + 7];
        let disk = disk_with(seed, Odds::MIXED, &old);
        let flips = disk.corrupt(3);
        let sectors: BTreeSet<_> = flips
            .iter()
            .map(|flip| flip.offset / SECTOR_BYTES as u64)
            .collect();
        assert_eq!(sectors.len(), 3, "one flip a sector");
        let mut expected = old.clone();
        for flip in &flips {
            assert_eq!((flip.path.as_str(), flip.mask.count_ones()), ("f", 1));
            expected[usize::try_from(flip.offset).unwrap()] ^= flip.mask;
        }
        assert_eq!(content(&disk, "f"), expected);
        assert_eq!(content(&disk.crash(), "f"), expected);
    }
    let disk = disk_with(1, Odds::MIXED, b"old");
    assert_eq!(disk.corrupt(9).len(), 1, "there is but one sector");
    disk.flip("f", 0, 0xFF).unwrap();
    disk.flip("f", 99, 0xFF).unwrap();
    assert!(disk.flip("g", 0, 1).is_err());
}

#[test]
fn failing_writes_happen_in_part_whole_or_not() {
    let left: BTreeSet<_> = (0..100)
        .map(|seed| {
            let disk = disk_with(seed, Odds::ALL, b"");
            disk.strike_at(disk.operations() + 1, Strike::Fail);
            let mut file = disk.open("f").unwrap();
            assert_eq!(
                refused(file.append(&[1; 1_000])),
                (ErrorKind::Io, Effect::Unknown)
            );
            match content(&disk, "f").len() {
                0 => "not",
                1_000 => "whole",
                _ => "in part",
            }
        })
        .collect();
    assert_eq!(left, ["not", "whole", "in part"].into());
}

#[test]
fn a_failed_sync_leaves_each_write_in_doubt_for_ever() {
    let left: BTreeSet<_> = (0..200)
        .map(|seed| {
            let disk = disk_with(seed, Odds::MIXED, b"__");
            let mut file = disk.open("f").unwrap();
            file.write_at(0, b"a").unwrap();
            file.write_at(1, b"b").unwrap();
            disk.strike_at(disk.operations(), Strike::Fail);
            assert_eq!(
                refused(file.sync_data()),
                (ErrorKind::SyncFailed, Effect::Unknown)
            );
            assert_eq!(refused(file.sync_data()).0, ErrorKind::AfterFailedSync);
            // A new handle reads the cache, and its sync means nothing for what was before.
            let mut again = disk.open("f").unwrap();
            assert_eq!(content(&disk, "f"), b"ab");
            again.sync_data().unwrap();
            content(&disk.crash(), "f")
        })
        .collect();
    let expected: [&[u8]; 4] = [b"__", b"a_", b"_b", b"ab"];
    assert_eq!(left, expected.map(<[u8]>::to_vec).into());
}

#[test]
fn a_failed_directory_sync_leaves_each_name_in_doubt() {
    let left: BTreeSet<_> = (0..200)
        .map(|seed| {
            let disk = disk_with(seed, Odds::MIXED, b"");
            drop(disk.create("a").unwrap());
            drop(disk.create("b").unwrap());
            disk.strike_at(disk.operations(), Strike::Fail);
            assert_eq!(refused(disk.sync_dir(ROOT)).0, ErrorKind::SyncFailed);
            let after = (ErrorKind::AfterFailedSync, Effect::NotDone);
            assert_eq!(refused(disk.create("c")), after);
            let disk = disk.kill();
            disk.sync_dir(ROOT).unwrap();
            names(&disk.crash()).join("")
        })
        .collect();
    assert_eq!(left, ["f", "af", "bf", "abf"].map(str::to_owned).into());
}

#[test]
fn strikes_take_the_disk_down_until_it_is_restarted() {
    for (strike, image) in [(Strike::Crash, "old"), (Strike::Kill, "old1")] {
        let disk = disk_with(1, Odds::NONE, b"old");
        let mut file = disk.open("f").unwrap();
        file.append(b"1").unwrap();
        disk.strike_at(disk.operations(), strike);
        assert_eq!(refused(file.sync_data()).0, ErrorKind::Closed);
        assert_eq!(disk.down_by(), Some(strike));
        assert_eq!(
            refused(file.append(b"2")),
            (ErrorKind::Closed, Effect::NotDone)
        );
        assert_eq!(refused(disk.list(ROOT)).0, ErrorKind::Closed);
        let disk = disk.restart(dpat_sim::disk::Image::Drawn(0));
        assert_eq!(disk.down_by(), None);
        assert_eq!(content(&disk, "f"), image.as_bytes());
    }
}

#[test]
fn every_disk_fault_of_a_script_is_obeyed_and_taken_back() {
    let per_million = 1_000_000;
    let lost = Fault::DiskLost {
        node: NODE,
        per_million,
    };
    let disk = disk_with(1, Odds::ALL, b"old");
    disk.open("f").unwrap().append(b"er").unwrap();
    assert!(disk.apply(&lost));
    assert_eq!(content(&disk.fork().crash(), "f"), b"old");
    assert!(disk.undo(&lost));
    assert_eq!(content(&disk.fork().crash(), "f"), b"older");

    let torn = Fault::DiskTorn {
        node: NODE,
        per_million,
    };
    let mut file = disk.open("f").unwrap();
    file.sync_data().unwrap();
    file.append(&[1; 100_000]).unwrap();
    assert!(disk.apply(&torn));
    let pieces: BTreeSet<_> = (0..50)
        .map(|seed| {
            let image = dpat_sim::disk::Image::Drawn(seed);
            content(&disk.fork().crash_to(image), "f")
        })
        .collect();
    assert!(pieces.len() > 10, "{} images", pieces.len());
    assert!(disk.undo(&torn));

    let reorder = Fault::DiskReorder {
        node: NODE,
        per_million,
    };
    assert!(disk.apply(&reorder) && disk.undo(&reorder));

    let error = Fault::DiskError {
        node: NODE,
        per_million,
        for_us: None,
    };
    assert!(disk.apply(&error));
    assert_eq!(refused(disk.create("g")).0, ErrorKind::Io);
    assert_eq!(
        refused(disk.open("f").unwrap().sync_data()).0,
        ErrorKind::SyncFailed
    );
    content(&disk, "f");
    assert!(disk.undo(&error));

    let full = Fault::DiskFull {
        node: NODE,
        for_us: None,
    };
    assert!(disk.apply(&full));
    assert_eq!(refused(disk.create("h")).0, ErrorKind::NoSpace);
    assert!(disk.undo(&full));
    drop(disk.create("h").unwrap());

    let before = content(&disk, "f");
    let corrupt = Fault::DiskCorrupt {
        node: NODE,
        sectors: 1,
    };
    assert!(disk.apply(&corrupt));
    let flipped = content(&disk, "f");
    assert_eq!(before.len(), flipped.len());
    assert!(disk.undo(&corrupt));

    let other = Fault::Restart { node: NODE };
    assert!(!disk.apply(&other) && !disk.undo(&other));
}
