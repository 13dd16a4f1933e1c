//! Group commit: many appenders, one sync; room; who commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dpat_core::{Class, Classify, Effect};
use dpat_sim::disk::SimDisk;
use dpat_storage::{MemStorage, Operation};
use dpat_testkit::Task;
use dpat_wal::{AppendError, Durability, Position};

use crate::{all, append, open, small};

/// How often a log has synced its content since it was last asked.
fn syncs(disk: &SimDisk) -> usize {
    let steps = disk.take_steps();
    let is_sync = |step: &&dpat_sim::disk::Step| step.operation == Operation::SyncData;
    steps.iter().filter(is_sync).count()
}

#[test]
fn one_sync_commits_all_that_wait() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    disk.record_steps();
    let submitted: Vec<_> = (0..5).map(|n| wal.append(&[n]).submit().unwrap()).collect();
    assert_eq!(wal.durable(), Position(0));
    for (n, appending) in (0..).zip(submitted) {
        assert_eq!(appending.position(), Position(n));
        assert_eq!(appending.wait().unwrap(), Position(n));
    }
    assert_eq!(syncs(&disk), 1);
    append(&wal, &["alone"]);
    assert_eq!(syncs(&disk), 1);
}

#[test]
fn a_future_without_a_committer_commits_itself() {
    let (wal, _) = open(MemStorage::new(), small());
    let mut first = Task::new(wal.append(b"first"));
    assert_eq!(first.assert_ready().unwrap(), Position(0));
    let submitted = wal.append(b"second").submit().unwrap();
    let mut third = Task::new(wal.append(b"third"));
    assert_eq!(third.assert_ready().unwrap(), Position(2));
    assert_eq!(Task::new(submitted).assert_ready().unwrap(), Position(1));
}

#[test]
fn with_a_committer_futures_wait_for_it() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(disk.clone(), small());
    let committer = wal.committer().unwrap();
    assert!(wal.committer().is_none(), "there is one already");
    let mut run = Task::new(committer.run());
    run.assert_pending();
    let mut appends: Vec<_> = (0..3).map(|_| Task::new(wal.append(b"x"))).collect();
    disk.record_steps();
    for append in &mut appends {
        append.assert_pending();
    }
    assert!(run.is_woken());
    run.assert_pending();
    assert_eq!(syncs(&disk), 1);
    for (n, append) in (0..).zip(&mut appends) {
        assert!(append.is_woken());
        assert_eq!(append.assert_ready().unwrap(), Position(n));
    }
    drop(appends);
    // A thread that waits does not wait for the committer.
    append(&wal, &["by itself"]);
    wal.close().unwrap();
    assert!(run.is_woken());
    run.assert_ready();
}

#[test]
fn a_committer_that_goes_leaves_its_work_to_those_that_wait() {
    let (wal, _) = open(MemStorage::new(), small());
    let committer = wal.committer().unwrap();
    let mut append = Task::new(wal.append(b"x"));
    append.assert_pending();
    drop(committer);
    assert!(append.is_woken());
    assert_eq!(append.assert_ready().unwrap(), Position(0));
    assert!(wal.committer().is_some(), "its place is free");
}

#[test]
fn a_committer_ends_with_the_last_handle_and_commits_before() {
    let storage = MemStorage::new();
    let (wal, _) = open(storage.clone(), small());
    let mut run = Task::new(wal.committer().unwrap().run());
    run.assert_pending();
    let submitted = wal.append(b"submitted").submit().unwrap();
    drop(wal);
    run.assert_pending();
    run.assert_ready();
    assert_eq!(submitted.wait().unwrap(), Position(0));
    drop(run);
    let (wal, _) = open(storage, small());
    assert_eq!(all(&wal), ["submitted"]);
}

#[test]
fn what_nobody_waits_for_goes_with_the_last_handle() {
    let storage = MemStorage::new();
    let (wal, _) = open(storage.clone(), small());
    let submitted = wal.append(b"submitted").submit().unwrap();
    drop(wal);
    let error = submitted.wait().unwrap_err();
    assert!(matches!(error, AppendError::Closed), "{error}");
    let (wal, _) = open(storage, small());
    assert!(all(&wal).is_empty());
}

#[test]
fn whoever_finds_no_room_waits_or_is_refused() {
    let (wal, _) = open(MemStorage::new(), small().waiters_max(3));
    let run = wal.committer().unwrap();
    // Frames of 160 bytes: six fit into 1024.
    let record = [7; 128];
    let submitted: Vec<_> = (0..6)
        .map(|_| wal.append(&record).submit().unwrap())
        .collect();
    let error = wal.append(&record).submit().unwrap_err();
    assert_eq!(
        error.to_string(),
        "pending_bytes_max: the limit of 1024 is reached"
    );
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Overloaded, Effect::NotDone)
    );
    let mut waiting: Vec<_> = (0..3).map(|_| Task::new(wal.append(&record))).collect();
    for append in &mut waiting {
        append.assert_pending();
    }
    let mut crowded = Task::new(wal.append(&record));
    let error = crowded.assert_ready().unwrap_err();
    assert_eq!(error.to_string(), "waiters_max: the limit of 3 is reached");
    // One commit makes room for all that wait.
    let mut run = Task::new(run.run());
    run.assert_pending();
    for append in &mut waiting {
        assert!(append.is_woken());
        append.assert_pending();
    }
    run.assert_pending();
    for (n, append) in (6..).zip(&mut waiting) {
        assert_eq!(append.assert_ready().unwrap(), Position(n));
    }
    assert!(submitted.into_iter().all(|one| one.wait().is_ok()));
}

#[test]
fn threads_append_each_record_once_and_share_syncs() {
    const THREADS: usize = 8;
    const EACH: usize = 50;
    for with_committer in [false, true] {
        let disk = SimDisk::new(1);
        let config = small().segment_bytes(4096).pending_bytes_max(400);
        let (wal, _) = open(disk.clone(), config);
        disk.record_steps();
        let committer = with_committer.then(|| wal.committer().unwrap());
        let committer = committer.map(|one| thread::spawn(move || one.run_blocking()));
        let threads: Vec<_> = (0..THREADS)
            .map(|of| {
                let wal = wal.clone();
                thread::spawn(move || {
                    let mut positions = Vec::new();
                    for n in 0..EACH {
                        let record = format!("{of}/{n}");
                        positions.push(wal.append(record.as_bytes()).wait().unwrap());
                    }
                    positions
                })
            })
            .collect();
        let mut records = all(&wal);
        let positions: Vec<Vec<_>> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        let mut seen = 0;
        records.clone_from(&all(&wal));
        for (of, positions) in positions.iter().enumerate() {
            assert!(positions.is_sorted(), "a thread's records are in its order");
            for (n, position) in positions.iter().enumerate() {
                let at = usize::try_from(position.0).unwrap();
                assert_eq!(records[at], format!("{of}/{n}"));
                seen += 1;
            }
        }
        assert_eq!((seen, records.len()), (THREADS * EACH, THREADS * EACH));
        assert!(syncs(&disk) <= THREADS * EACH + 32);
        wal.close().unwrap();
        if let Some(thread) = committer {
            thread.join().unwrap();
        }
    }
}

#[test]
fn futures_and_threads_mix_without_a_committer() {
    let (wal, _) = open(MemStorage::new(), small().segment_bytes(4096));
    let done = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|of| {
            let (wal, done) = (wal.clone(), Arc::clone(&done));
            thread::spawn(move || {
                for _ in 0..100 {
                    if of % 2 == 0 {
                        wal.append(b"x").wait().unwrap();
                    } else {
                        dpat_testkit::run_with(
                            || {
                                thread::yield_now();
                                true
                            },
                            wal.append(b"y"),
                        )
                        .unwrap();
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!((done.load(Ordering::Relaxed), all(&wal).len()), (400, 400));
}

#[test]
fn without_power_loss_nothing_is_synced_until_it_is_asked_for() {
    let disk = SimDisk::new(1);
    let config = || small().durability(Durability::ProcessKill);
    let (wal, _) = open(disk.clone(), config());
    disk.record_steps();
    append(&wal, &["a", "b", "c"]);
    assert_eq!(syncs(&disk), 0);
    wal.sync_blocking().unwrap();
    assert_eq!(syncs(&disk), 1);
    append(&wal, &["d"]);
    let mut sync = Task::new(wal.sync());
    sync.assert_ready().unwrap();
    drop(sync);
    assert_eq!(syncs(&disk), 1);
    append(&wal, &["e"]);
    drop(wal);
    // A killed process loses nothing, a power cut what was not synced.
    let disk = disk.kill();
    let (wal, _) = open(disk.clone(), config());
    assert_eq!(all(&wal), ["a", "b", "c", "d", "e"]);
    drop(wal);
    let (wal, _) = open(disk.crash_to(dpat_sim::disk::Image::Synced), config());
    assert_eq!(all(&wal), ["a", "b", "c", "d"]);
}

#[test]
fn full_segments_are_synced_whatever_is_configured() {
    let disk = SimDisk::new(1);
    let config = || small().durability(Durability::ProcessKill);
    let (wal, _) = open(disk.clone(), config());
    for _ in 0..20 {
        append(&wal, &["twelve bytes"]);
    }
    drop(wal);
    let (wal, recovery) = open(disk.crash_to(dpat_sim::disk::Image::Synced), config());
    assert_eq!(recovery.torn, None);
    // 8 frames of 48 bytes and a mark fit into a segment of 512.
    assert_eq!(all(&wal).len(), 16);
}
