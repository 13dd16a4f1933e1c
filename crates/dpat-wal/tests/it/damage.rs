//! Bits that flip on the medium are reported, whatever they are, and never cost a record in silence.

use std::collections::BTreeMap;

use dpat_sim::disk::{Image, Odds, SimDisk};
use dpat_storage::Storage;
use dpat_wal::testing::{Action, Damage, Ledger, Restart, Workload};

/// A disk that a workload has left behind, closed or killed and then without power.
pub(crate) fn left_by(workload: &Workload, seed: u64, closed: bool) -> (SimDisk, Ledger) {
    let mut workload = workload.clone();
    if closed {
        let last = [Action::Append { bytes: 8 }, Action::Restart(Restart::Close)];
        workload.actions.extend(last);
    }
    let disk = SimDisk::new(seed);
    let mut ledger = Ledger::default();
    let mut last = disk.clone();
    workload.run(&disk, &mut ledger, |disk, how| {
        last = match how {
            Restart::PowerCut => disk.crash(),
            _ => disk.kill(),
        };
        Some(last.clone())
    });
    (last.crash_to(Image::Synced), ledger)
}

/// All files of the log, with their lengths.
fn files(disk: &SimDisk) -> Vec<(String, u64)> {
    let directory = if disk.metadata("log").is_ok() {
        "log"
    } else {
        ""
    };
    let entries = disk.list(directory).unwrap();
    let path = |name: &str| match directory {
        "" => name.to_owned(),
        directory => format!("{directory}/{name}"),
    };
    entries
        .iter()
        .map(|entry| path(&entry.name))
        .map(|path| (path.clone(), disk.metadata(&path).unwrap().len))
        .collect()
}

/// Flips one bit of every byte, and counts what the log says.
fn flip_all(closed: bool) -> BTreeMap<Damage, u64> {
    let workload = Workload::of_every_kind();
    let (disk, ledger) = left_by(&workload, 1, closed);
    let mut said = BTreeMap::new();
    for (path, len) in files(&disk) {
        for offset in 0..len {
            let disk = disk.fork();
            disk.flip(&path, offset, 1 << (offset % 8)).unwrap();
            match workload.check_damaged(&disk, &ledger, closed) {
                Ok(damage) => *said.entry(damage).or_default() += 1,
                Err(message) => panic!("{path} byte {offset}: {message}"),
            }
        }
    }
    said
}

#[test]
fn every_flipped_bit_of_a_closed_log_is_reported_or_harmless() {
    let said = flip_all(true);
    assert_eq!(said.get(&Damage::Torn), None, "{said:?}");
    assert!(said[&Damage::Reported] > 500, "{said:?}");
}

#[test]
fn a_flipped_bit_after_a_crash_is_reported_or_at_worst_a_torn_tail() {
    let said = flip_all(false);
    assert!(said[&Damage::Reported] > 500, "{said:?}");
    assert!(said[&Damage::Torn] > 0, "{said:?}");
    assert!(said[&Damage::Torn] < said[&Damage::Reported], "{said:?}");
}

#[test]
fn corrupt_sectors_of_drawn_logs_are_reported_or_harmless() {
    let mut reported = 0;
    for seed in 0..60 {
        let workload = Workload::drawn(seed, 20);
        let (disk, ledger) = left_by(&workload, seed, true);
        for flips in 1..4 {
            let disk = disk.fork();
            disk.set_odds(Odds::ALL);
            let flipped = disk.corrupt(flips);
            // Of two, one may be in the last record and the other in the mark behind it, its only proof.
            match workload.check_damaged(&disk, &ledger, flips == 1) {
                Ok(damage) => reported += u64::from(damage == Damage::Reported),
                Err(message) => panic!("seed {seed}, {flipped:?}: {message}"),
            }
        }
    }
    assert!(reported > 60, "{reported}");
}

#[test]
fn a_missing_file_is_reported() {
    let workload = Workload::of_every_kind();
    let (disk, ledger) = left_by(&workload, 1, true);
    let mut reported = 0;
    for (path, _) in files(&disk) {
        let disk = disk.fork();
        disk.remove(&path).unwrap();
        if path.ends_with(".wal") {
            reported += 1;
            let said = workload.check_damaged(&disk, &ledger, true);
            assert!(matches!(said, Ok(Damage::Reported)), "{path}: {said:?}");
        }
    }
    assert!(reported > 1);
}
