//! Batches: each message for itself, and answered in order.

use std::time::Duration;

use dpat_core::{Classify as _, Effect};
use dpat_queue::conformance::{Harness, Setup};
use dpat_queue::{Builder, Message, Outcome, Queue, SendError, SettleError, Settlement, WhenFull};
use dpat_testkit::{End, Task, drop_at_every_await};

use crate::memory::InMemory;
use crate::world::{done, now, receive, send, text, texts};

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

fn messages<const N: usize>(texts: [&str; N]) -> Vec<Message> {
    texts.map(|text| Message::new(text.to_owned())).into()
}

/// In memory, and on a log.
fn on_each(builder: impl Fn() -> Builder, test: impl Fn(&Queue)) {
    let time = dpat_core::ManualTime::new();
    test(&builder().in_memory(time.clone()).unwrap());
    #[cfg(feature = "wal")]
    {
        let storage = dpat_storage::MemStorage::new();
        let opened = dpat_queue::WalQueue::open(storage, crate::wal::config(), builder(), time);
        test(opened.unwrap().0.queue());
    }
}

/// A queue of two messages, whose senders wait for room.
fn waiting() -> Builder {
    Queue::builder().messages_max(2).when_full(WhenFull::Wait)
}

#[test]
fn a_batch_that_does_not_fit_waits_in_its_order() {
    on_each(waiting, |queue| {
        let mut sending = Task::new(queue.send_batch(messages(["a", "b", "c", "d", "e"])));
        sending.assert_pending();
        let mut seen = Vec::new();
        for _ in 0..5 {
            let out = receive(queue, 1);
            seen.push(text(&out[0]).to_owned());
            done(queue, &out[0]);
            if seen.len() < 3 {
                sending.assert_pending();
            }
            if seen.len() == 3 {
                let sent = sending.assert_ready();
                assert!(sent.into_iter().all(|answer| answer.is_ok()));
            }
        }
        assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    });
}

#[test]
fn messages_of_a_batch_stand_each_for_itself() {
    let builder = || Queue::builder().messages_max(3).message_bytes_max(4);
    on_each(builder, |queue| {
        let mut batch = messages(["a", "too long", "b", "again", "c", "d"]);
        batch[0] = Message::new("a").dedup("once");
        batch[3] = Message::new("a").dedup("once");
        let answers = now(queue.send_batch(batch));
        let ids = answers
            .iter()
            .map(|one| one.as_ref().ok().map(|sent| sent.id));
        let ids: Vec<_> = ids.collect();
        assert!(ids[0].is_some() && ids[0] == ids[3]);
        assert!(ids[0] < ids[2] && ids[2] < ids[4]);
        let refused = |at: usize| answers[at].as_ref().unwrap_err();
        assert!(
            matches!(refused(1), SendError::Invalid(_)),
            "{:?}",
            answers[1]
        );
        assert!(
            matches!(refused(5), SendError::Full { .. }),
            "{:?}",
            answers[5]
        );
        assert_eq!(refused(5).effect(), Effect::NotDone);
        assert_eq!(texts(queue), ["a", "b", "c"]);
    });
}

#[test]
fn a_send_of_a_batch_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let time = dpat_core::ManualTime::new();
            let queue = waiting().in_memory(time).unwrap();
            let here = queue.clone();
            let sending = async move { here.send_batch(messages(["a", "b", "c", "d"])).await };
            (sending, queue)
        },
        |queue| {
            for delivery in receive(queue, 1) {
                done(queue, &delivery);
            }
        },
        |queue, end| {
            let left = texts(&queue);
            match end {
                End::Completed(answers) => assert!(answers.iter().all(Result::is_ok)),
                // What was taken in is there, in its order, and nothing else.
                End::Dropped { .. } => assert!(left.is_sorted() && left.len() <= 2, "{left:?}"),
            }
        },
    );
    assert!(awaits >= 2, "{awaits}");
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
