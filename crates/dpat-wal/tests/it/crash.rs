//! Every crash point, with every kind of action before it and after it.

use dpat_sim::disk::{CrashFailure, CrashPoints, CrashReport, Image, SimDisk, Strike};
use dpat_storage::Operation;
use dpat_wal::testing::{Ledger, Restart, Shape, Workload};

/// The next life of a disk that goes down. What strikes is the end, or the work goes on after it.
pub(crate) fn restart(disk: &SimDisk, how: Restart, goes_on: bool) -> Option<SimDisk> {
    match (disk.down_by(), how) {
        (Some(_), _) => goes_on.then(|| disk.restart(Image::Drawn(disk.operations()))),
        (None, Restart::PowerCut) => Some(disk.crash()),
        (None, _) => Some(disk.kill()),
    }
}

pub(crate) fn enumerate(
    points: &CrashPoints,
    workload: &Workload,
    goes_on: bool,
) -> Result<CrashReport, CrashFailure> {
    points.run(
        |disk, ledger: &mut Ledger| {
            workload.run(disk, ledger, |disk, how| restart(disk, how, goes_on));
        },
        |disk, ledger, _| workload.check(disk, ledger).map(drop),
    )
}

/// The fixed workload, with and without allocating ahead.
fn workloads() -> [Workload; 2] {
    let workload = Workload::of_every_kind();
    let shape = Shape {
        preallocate_bytes: 0,
        in_directory: false,
        ..workload.shape
    };
    [workload.clone(), Workload { shape, ..workload }]
}

#[track_caller]
fn passes(points: &CrashPoints, workload: &Workload, goes_on: bool) -> CrashReport {
    match enumerate(points, workload, goes_on) {
        Ok(report) => report,
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn every_crash_point_of_every_action_keeps_what_was_promised() {
    for workload in workloads() {
        for goes_on in [false, true] {
            let points = CrashPoints::new(1).crash_recovery(false).images(10);
            let report = passes(&points, &workload, goes_on);
            for operation in [
                Operation::WriteAt,
                Operation::SyncData,
                Operation::Create,
                Operation::Rename,
                Operation::Remove,
                Operation::SyncDir,
                Operation::Truncate,
            ] {
                for strike in [Strike::Crash, Strike::Kill] {
                    let struck = report.struck.get(&(strike, operation));
                    assert!(struck.is_some(), "{operation} is never struck: {report:?}");
                }
            }
        }
    }
}

#[test]
fn every_crash_point_of_every_recovery_keeps_what_was_promised() {
    let workload = &workloads()[0];
    let report = passes(&CrashPoints::new(2).images(1), workload, false);
    assert!(report.recoveries > 5_000, "{report:?}");
}

#[test]
fn every_failing_call_is_answered_with_the_truth() {
    for workload in workloads() {
        let points = CrashPoints::new(3).strikes(&[Strike::Fail]);
        let report = passes(&points.crash_recovery(false), &workload, true);
        let reads = report.struck.get(&(Strike::Fail, Operation::ReadAt));
        assert!(reads.is_some(), "{report:?}");
    }
}

#[test]
fn a_disk_that_is_full_from_any_call_on_loses_nothing() {
    for workload in workloads() {
        let points = CrashPoints::new(4).strikes(&[Strike::Full]);
        passes(&points.crash_recovery(false), &workload, true);
    }
}

#[test]
fn drawn_workloads_keep_what_was_promised_at_every_crash_point() {
    for seed in 0..12 {
        let workload = Workload::drawn(seed, 14);
        let points = CrashPoints::new(seed).strikes(&Strike::ALL).images(2);
        passes(&points.crash_recovery(false), &workload, true);
    }
}

#[test]
fn records_in_doubt_are_found_or_not() {
    let (mut found, mut acknowledged, mut doubts) = (0, 0, 0);
    for seed in 0..40 {
        let workload = Workload::drawn(seed, 30);
        let disk = SimDisk::new(seed);
        for strike in 0..6 {
            disk.strike_at(strike * 23 + seed, Strike::Crash);
        }
        let mut ledger = Ledger::default();
        workload.run(&disk, &mut ledger, |disk, how| {
            let next = restart(disk, how, true);
            // Strikes end with a life.
            next.inspect(|disk| disk.strike_at(disk.operations() + 37, Strike::Crash))
        });
        doubts += ledger.in_doubt();
        workload.check(&disk.crash(), &ledger).unwrap();
        found += ledger.found();
        acknowledged += ledger.acknowledged();
    }
    assert!(found > 10 && doubts > 0, "{found} found, {doubts} open");
    assert!(acknowledged > 500, "{acknowledged}");
}
