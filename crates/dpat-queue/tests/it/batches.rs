//! Settlements in batches: each for itself, and answered in order.

use std::time::Duration;

use dpat_queue::conformance::{Harness, Setup};
use dpat_queue::{Outcome, Queue, SettleError, Settlement};

use crate::memory::InMemory;
use crate::world::{now, receive, send};

fn settle(queue: &Queue, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
    now(queue.settle_batch(batch))
}

fn reject() -> Outcome {
    Outcome::Reject {
        reason: "no such order".to_owned(),
    }
}

fn a_batch_answers_in_order<H: Harness>(harness: &H) {
    let world = harness.open(&Setup::DEFAULT);
    let queue = harness.queue(&world);
    send(queue, &["a", "b", "c", "d"]);
    let out = receive(queue, 4);
    let of = |at: usize, outcome: Outcome| Settlement {
        receipt: out[at].receipt,
        outcome,
    };
    let batch = vec![
        of(0, Outcome::Done),
        of(0, Outcome::Done),
        of(1, Outcome::release()),
        of(2, reject()),
        of(2, Outcome::Done),
        of(3, Outcome::Done),
        of(1, reject()),
    ];
    let stale: Vec<bool> = settle(queue, batch)
        .into_iter()
        .map(|answer| match answer {
            Ok(()) => false,
            Err(SettleError::Stale) => true,
            Err(other) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(stale, [false, true, false, false, true, false, true]);
    let stats = now(queue.stats()).unwrap();
    assert_eq!((stats.done, stats.retried, stats.rejected), (2, 1, 1));
    assert_eq!((stats.ready, stats.leased, stats.dead), (1, 0, 1));
}

#[test]
fn settlements_of_a_batch_stand_each_for_itself_in_memory() {
    a_batch_answers_in_order(&InMemory);
}

#[cfg(feature = "wal")]
#[test]
fn settlements_of_a_batch_stand_each_for_itself_on_a_log() {
    a_batch_answers_in_order(&crate::wal::OnLog);
}

#[cfg(feature = "wal")]
#[test]
fn settlements_of_a_batch_are_durable_when_it_is_answered() {
    let harness = crate::wal::OnLog;
    let world = harness.open(&Setup::DEFAULT);
    let queue = harness.queue(&world);
    send(queue, &["a", "b", "c"]);
    let out = receive(queue, 3);
    let done = |at: usize| Settlement {
        receipt: out[at].receipt,
        outcome: Outcome::Done,
    };
    for answer in settle(queue, vec![done(0), done(2)]) {
        answer.unwrap();
    }
    let world = harness.reopen(world, &Setup::DEFAULT);
    let left = receive(harness.queue(&world), 3);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].payload(), "b");
}

/// A frame holds the largest message and the largest batch of claims; a batch of long reasons is larger.
#[cfg(feature = "wal")]
#[test]
fn a_batch_of_long_reasons_fits_into_a_small_log() {
    const MESSAGES: usize = 1_000;
    let log = dpat_wal::Config::builder()
        .segment_bytes(1 << 20)
        .frame_bytes_max(128 << 10)
        .preallocate_bytes(0);
    let builder = Queue::builder().message_bytes_max(1 << 10);
    let opened = dpat_queue::WalQueue::open(
        dpat_storage::MemStorage::new(),
        log.build().unwrap(),
        builder,
        dpat_core::ManualTime::new(),
    );
    let queue = opened.unwrap().0.queue().clone();
    send(&queue, &["a"; MESSAGES]);
    let retries = receive(&queue, MESSAGES)
        .into_iter()
        .map(|delivery| Settlement {
            receipt: delivery.receipt,
            outcome: Outcome::Retry {
                delay: Duration::ZERO,
                reason: "x".repeat(dpat_queue::REASON_BYTES_MAX),
            },
        });
    for answer in settle(&queue, retries.collect()) {
        answer.unwrap();
    }
    let done = receive(&queue, MESSAGES)
        .into_iter()
        .map(|delivery| Settlement {
            receipt: delivery.receipt,
            outcome: Outcome::Done,
        });
    for answer in settle(&queue, done.collect()) {
        answer.unwrap();
    }
    let stats = now(queue.stats()).unwrap();
    assert_eq!((stats.retried, stats.done), (1_000, 1_000));
}

#[test]
fn a_batch_makes_no_more_dead_letters_than_there_is_room_for() {
    let queue = Queue::builder().dead_max(2);
    let queue = queue.in_memory(dpat_core::ManualTime::new()).unwrap();
    send(&queue, &["a", "b", "c", "d"]);
    let out = receive(&queue, 4);
    let batch = out.iter().map(|delivery| Settlement {
        receipt: delivery.receipt,
        outcome: reject(),
    });
    let answers = settle(&queue, batch.collect());
    let refused = |answer: &Result<(), SettleError>| {
        matches!(
            answer,
            Err(SettleError::DeadLettersFull {
                field: "dead_max",
                limit: 2
            })
        )
    };
    let refused: Vec<bool> = answers.iter().map(refused).collect();
    assert_eq!(refused, [false, false, true, true]);
}

/// A receipt is as good as its lease until the message is handed out again, and done work is not done twice.
#[test]
fn what_was_done_after_its_lease_is_settled_if_nobody_has_it() {
    let harness = InMemory;
    let setup = Setup::DEFAULT;
    let world = harness.open(&setup);
    let queue = harness.queue(&world);
    send(queue, &["a"]);
    let late = receive(queue, 1).remove(0);
    harness.advance(&world, late.lease + Duration::from_secs(1));
    now(queue.settle(late.receipt, Outcome::Done)).unwrap();
    assert!(receive(queue, 1).is_empty());
    send(queue, &["b"]);
    let late = receive(queue, 1).remove(0);
    harness.advance(&world, late.lease + Duration::from_secs(1));
    let again = receive(queue, 1).remove(0);
    let settled = now(queue.settle(late.receipt, Outcome::Done));
    assert!(matches!(settled, Err(SettleError::Stale)), "{settled:?}");
    now(queue.settle(again.receipt, Outcome::Done)).unwrap();
}
