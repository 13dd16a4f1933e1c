//! The commit with several threads, again and again: nobody is left waiting, whoever commits.

use std::task::Poll;
use std::thread;

use dpat_core::SplitMix64;
use dpat_storage::MemStorage;

use crate::sync::wait;
use crate::{Append, AppendError, Config, Position, Wal};

/// How often each check runs.
const ROUNDS: usize = 200;

fn rounds(check: impl Fn()) {
    for _ in 0..ROUNDS {
        check();
    }
}

fn log() -> Wal<MemStorage> {
    let config = Config::builder()
        .segment_bytes(1024)
        .frame_bytes_max(16)
        .pending_bytes_max(48)
        .preallocate_bytes(0)
        .entropy(SplitMix64::new(1));
    Wal::open(MemStorage::new(), config.build().unwrap())
        .unwrap()
        .0
}

/// Waits as a task on an executor does: the thread is only there to poll.
fn poll_to_end(mut append: Append<'_, MemStorage>) -> Result<Position, AppendError> {
    wait(|waker| {
        let mut cx = std::task::Context::from_waker(waker);
        Future::poll(std::pin::Pin::new(&mut append), &mut cx)
    })
}

fn records(wal: &Wal<MemStorage>) -> Vec<Vec<u8>> {
    let mut reader = wal.reader(Position::ZERO).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_ready().unwrap() {
        records.push(record.bytes.to_vec());
    }
    records
}

#[test]
fn every_appender_is_answered() {
    rounds(|| {
        let wal = log();
        let threads: Vec<_> = [1_u8, 2]
            .into_iter()
            .map(|n| {
                let wal = wal.clone();
                thread::spawn(move || wal.append(&[n]).wait().unwrap())
            })
            .collect();
        let mine = wal.append(&[3]).wait().unwrap();
        assert!(mine < wal.durable());
        let mut positions: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        positions.push(mine);
        let found = records(&wal);
        for (n, position) in [1, 2, 3].into_iter().zip(&positions) {
            assert_eq!(found[usize::try_from(position.0).unwrap()], [n]);
        }
        assert_eq!(found.len(), 3);
    });
}

#[test]
fn futures_and_threads_without_a_committer_are_answered() {
    rounds(|| {
        let wal = log();
        let other = wal.clone();
        let thread = thread::spawn(move || poll_to_end(other.append(&[1])).unwrap());
        let mine = wal.append(&[2]).wait().unwrap();
        let theirs = thread.join().unwrap();
        assert_ne!(mine, theirs);
        assert_eq!(records(&wal).len(), 2);
    });
}

#[test]
fn a_committer_commits_and_ends() {
    rounds(|| {
        let wal = log();
        let committer = wal.committer().unwrap();
        let runs = thread::spawn(move || committer.run_blocking());
        let position = poll_to_end(wal.append(&[1])).unwrap();
        assert_eq!(position, Position(0));
        drop(wal);
        runs.join().unwrap();
    });
}

#[test]
fn a_committer_that_goes_leaves_nobody_waiting() {
    rounds(|| {
        let wal = log();
        let committer = wal.committer().unwrap();
        let goes = thread::spawn(move || drop(committer));
        poll_to_end(wal.append(&[1])).unwrap();
        goes.join().unwrap();
        assert_eq!(records(&wal).len(), 1);
    });
}

#[test]
fn who_finds_no_room_gets_some() {
    rounds(|| {
        let wal = log();
        // A second frame does not fit beside it.
        let full = wal.append(&[0; 16]).submit().unwrap();
        let other = wal.clone();
        let thread = thread::spawn(move || other.append(&[1; 16]).wait().unwrap());
        wal.append(&[2; 16]).wait().unwrap();
        thread.join().unwrap();
        full.wait().unwrap();
        assert_eq!(records(&wal).len(), 3);
    });
}

#[test]
fn a_reader_that_waits_is_told() {
    rounds(|| {
        let wal = log();
        let mut reader = wal.reader(Position::ZERO).unwrap();
        let thread = thread::spawn(move || {
            let first = reader
                .next_blocking()
                .unwrap()
                .map(|record| record.bytes.to_vec());
            (first, reader.next_blocking().unwrap().is_none())
        });
        wal.append(&[1]).wait().unwrap();
        drop(wal);
        assert_eq!(thread.join().unwrap(), (Some(vec![1]), true));
    });
}

#[test]
fn closing_answers_everybody() {
    rounds(|| {
        let wal = log();
        let other = wal.clone();
        let thread = thread::spawn(move || other.append(&[1]).wait());
        wal.close().unwrap();
        let answer = thread.join().unwrap();
        assert!(
            matches!(answer, Ok(Position(0)) | Err(AppendError::Closed)),
            "{answer:?}"
        );
    });
}

#[test]
fn a_sync_covers_what_was_submitted_before() {
    rounds(|| {
        let wal = log();
        let other = wal.clone();
        let thread = thread::spawn(move || other.append(&[1]).wait().unwrap());
        drop(wal.append(&[2]).submit().unwrap());
        wal.sync_blocking().unwrap();
        assert!(records(&wal).contains(&vec![2]));
        thread.join().unwrap();
    });
}

#[test]
fn a_wake_before_the_wait_is_not_lost() {
    let mut polls = 0;
    let answer = wait(|waker| {
        polls += 1;
        waker.wake_by_ref();
        if polls < 4 {
            Poll::Pending
        } else {
            Poll::Ready(polls)
        }
    });
    assert_eq!(answer, 4);
}
