//! Futures dropped at every await: nothing is lost, nothing done twice, nobody is left waiting.

use std::cell::RefCell;
use std::rc::Rc;

use dpat_storage::MemStorage;
use dpat_testkit::{End, Task, drop_at_every_await};
use dpat_wal::{Committer, Position, Reader, Wal};

use crate::{all, append, open, small};

struct State {
    wal: Wal<MemStorage>,
    committer: Option<Task<Box<dyn Future<Output = ()> + Unpin>>>,
}

fn run(committer: Committer<MemStorage>) -> Task<Box<dyn Future<Output = ()> + Unpin>> {
    Task::new(Box::new(Box::pin(committer.run())))
}

impl State {
    fn new() -> Self {
        let (wal, _) = open(MemStorage::new(), small());
        let committer = Some(run(wal.committer().unwrap()));
        Self { wal, committer }
    }

    fn drive(&mut self) {
        if let Some(committer) = &mut self.committer {
            assert!(committer.poll().is_pending());
        }
    }

    /// The log works on, and holds these records.
    fn check(mut self, records: &[&str]) {
        let mut after = Task::new(self.wal.append(b"after"));
        while after.poll().is_pending() {
            if let Some(committer) = &mut self.committer {
                assert!(committer.poll().is_pending());
            }
        }
        drop(after);
        let mut expected = records.to_vec();
        expected.push("after");
        assert_eq!(all(&self.wal), expected);
    }
}

#[test]
fn an_append_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let state = State::new();
            let wal = state.wal.clone();
            (async move { wal.append(b"record").await.unwrap() }, state)
        },
        State::drive,
        |state, end| match end {
            // Taken in at the first poll, it is on its way.
            End::Dropped { polls: 0, .. } => state.check(&[]),
            End::Dropped { .. } => state.check(&["record"]),
            End::Completed(position) => {
                assert_eq!(position, Position(0));
                state.check(&["record"]);
            }
        },
    );
    assert_eq!(awaits, 1);
}

#[test]
fn an_append_that_waits_for_room_may_be_dropped_at_every_await() {
    let large = [b'l'; 128];
    let text = std::str::from_utf8(&large).unwrap();
    let awaits = drop_at_every_await(
        || {
            let state = State::new();
            for _ in 0..6 {
                drop(state.wal.append(&large).submit().unwrap());
            }
            let wal = state.wal.clone();
            (async move { wal.append(&large).await.unwrap() }, state)
        },
        State::drive,
        |state, end| {
            let mut expected = vec![text; 6];
            // Polled again after the commit, it was taken in.
            if !matches!(end, End::Dropped { polls: 0 | 1, .. }) {
                expected.push(text);
            }
            state.check(&expected);
        },
    );
    assert_eq!(awaits, 2);
}

#[test]
fn a_sync_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let state = State::new();
            let wal = state.wal.clone();
            drop(wal.append(b"record").submit().unwrap());
            (async move { wal.sync().await.unwrap() }, state)
        },
        State::drive,
        |state, _| state.check(&["record"]),
    );
    assert_eq!(awaits, 1);
}

/// A reader that comes back when the future that has it is dropped.
struct Lent {
    reader: Option<Reader<MemStorage>>,
    to: Rc<RefCell<Option<Reader<MemStorage>>>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.to.borrow_mut() = self.reader.take();
    }
}

#[test]
fn a_waiting_reader_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let (wal, _) = open(MemStorage::new(), small());
            let back = Rc::new(RefCell::new(None));
            let mut lent = Lent {
                reader: wal.reader(Position(0)).ok(),
                to: Rc::clone(&back),
            };
            let future = async move {
                let reader = lent.reader.as_mut().unwrap();
                let first = reader.next().await.unwrap().unwrap().position;
                (first, reader.next().await.unwrap().unwrap().position)
            };
            (future, (wal, back))
        },
        |(wal, _)| append(wal, &["record"]),
        |(wal, back), end| {
            // No record is lost: it is read next.
            let mut reader = back.borrow_mut().take().unwrap();
            let read = reader.position();
            append(&wal, &["last"]);
            let next = reader.next_ready().unwrap().unwrap();
            assert_eq!(next.position, read);
            if let End::Completed(positions) = end {
                assert_eq!(positions, (Position(0), Position(1)));
                assert_eq!(next.bytes, b"last");
            }
        },
    );
    assert_eq!(awaits, 2);
}

#[test]
fn a_committer_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let (wal, _) = open(MemStorage::new(), small());
            let committer = wal.committer().unwrap();
            let mut waiting = Box::pin(Task::new(Box::pin({
                let wal = wal.clone();
                async move { wal.append(b"record").await.unwrap() }
            })));
            waiting.assert_pending();
            (committer.run(), (Some(wal), waiting, 0))
        },
        |(wal, waiting, drives)| {
            // First the commit, then the end of the log.
            *drives += 1;
            if *drives == 2 {
                assert_eq!(waiting.assert_ready(), Position(0));
                *wal = None;
            }
        },
        |(wal, mut waiting, drives), _| {
            if let Some(wal) = wal {
                if drives < 2 {
                    assert_eq!(waiting.assert_ready(), Position(0));
                }
                assert_eq!(all(&wal), ["record"]);
            }
        },
    );
    assert!(awaits >= 2, "{awaits}");
}
