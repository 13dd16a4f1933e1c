//! Futures dropped at every await: no message is lost, and nobody is left waiting.

use std::future::Future as _;
use std::mem::{size_of, size_of_val};
use std::task::{Context, Waker};
use std::time::Duration;

use dpat_core::ManualTime;
use dpat_queue::{Message, Outcome, Queue, Settlement, WhenFull, Worker};
use dpat_testkit::{End, Task, drop_at_every_await};

use crate::world::{SECOND, built, now, queue, receive, run, send, text, texts};

#[test]
fn a_receive_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let time = ManualTime::new();
            let queue = queue(&time);
            let here = queue.clone();
            (async move { here.receive().await.unwrap() }, queue)
        },
        |queue| send(queue, &["a"]),
        |queue, end| match end {
            End::Completed(delivery) => assert_eq!(text(&delivery), "a"),
            End::Dropped { driven, .. } => {
                let expected: &[&str] = if driven { &["a"] } else { &[] };
                assert_eq!(texts(&queue), expected);
            }
        },
    );
    assert_eq!(awaits, 1);
}

#[test]
fn a_receiver_that_is_dropped_passes_its_message_and_its_watch_on() {
    let time = ManualTime::new();
    let queue = queue(&time);
    let mut first = Task::new(queue.receive());
    let mut second = Task::new(queue.receive());
    first.assert_pending();
    second.assert_pending();
    send(&queue, &["a"]);
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert_eq!(text(&second.assert_ready().unwrap()), "a");

    // The one who looks at the clock leaves: another one takes over.
    let mut first = Task::new(queue.receive());
    let mut second = Task::new(queue.receive());
    first.assert_pending();
    second.assert_pending();
    now(queue.send(Message::new("b").delay(SECOND))).unwrap();
    while first.is_woken() || second.is_woken() {
        first.assert_pending();
        second.assert_pending();
    }
    drop(first);
    if second.is_woken() {
        second.assert_pending();
    }
    time.advance(SECOND);
    assert!(second.is_woken());
    assert!(second.poll().is_ready());
}

#[test]
fn a_send_that_waits_for_room_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let time = ManualTime::new();
            let full = built(&time, |builder| {
                builder.messages_max(1).when_full(WhenFull::Wait)
            });
            send(&full, &["first"]);
            let here = full.clone();
            (
                async move { here.send(Message::new("second")).await.unwrap() },
                full,
            )
        },
        |queue| {
            for delivery in receive(queue, 1) {
                now(queue.settle(delivery.receipt, Outcome::Done)).unwrap();
            }
        },
        |queue, end| {
            let expected: &[&str] = match end {
                End::Completed(_) => &["second"],
                End::Dropped { driven: true, .. } => &[],
                End::Dropped { .. } => &["first"],
            };
            assert_eq!(texts(&queue), expected);
        },
    );
    assert_eq!(awaits, 1);
}

#[test]
fn senders_that_wait_get_the_room_in_turn_and_pass_it_on() {
    let time = ManualTime::new();
    let full = built(&time, |builder| {
        builder.messages_max(1).when_full(WhenFull::Wait)
    });
    send(&full, &["0"]);
    let mut waiting: Vec<_> = ["1", "2", "3"]
        .map(|text| Task::new(full.send(Message::new(text))))
        .into_iter()
        .collect();
    waiting.iter_mut().for_each(Task::assert_pending);
    let take = || {
        let delivery = receive(&full, 1).pop().unwrap();
        now(full.settle(delivery.receipt, Outcome::Done)).unwrap();
        text(&delivery).to_owned()
    };
    assert_eq!(take(), "0");
    // The first in line is woken and goes: the room is the next one's.
    drop(waiting.remove(0));
    assert!(waiting[0].is_woken());
    waiting[0].assert_ready().unwrap();
    assert_eq!(take(), "2");
    waiting[1].assert_ready().unwrap();
    assert_eq!(take(), "3");
}

#[test]
fn a_drain_may_be_dropped_and_the_queue_stays_closed() {
    let awaits = drop_at_every_await(
        || {
            let time = ManualTime::new();
            let queue = queue(&time);
            send(&queue, &["a"]);
            let delivery = receive(&queue, 1).pop().unwrap();
            let here = queue.clone();
            (async move { here.drain().await }, (queue, delivery))
        },
        |(queue, delivery)| now(queue.settle(delivery.receipt, Outcome::Done)).unwrap(),
        |(queue, _), end| {
            let sent = now(queue.send(Message::new("b")));
            let polled = !matches!(end, End::Dropped { polls: 0, .. });
            assert_eq!(sent.is_err(), polled);
        },
    );
    assert_eq!(awaits, 1);
}

/// A worker on three messages, with a retry among them.
fn working() -> (impl Future<Output = ()>, (Queue, ManualTime)) {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["a", "b", "c"]);
    let worker = Worker::builder(queue.clone())
        .concurrency(2)
        .build(
            time.clone(),
            dpat_core::SplitMix64::new(1),
            |delivery| async move {
                crate::world::turn().await;
                if delivery.payload() == "b" && delivery.attempt == 1 {
                    return Err(dpat_queue::Failure::retry("once").after(Duration::from_millis(1)));
                }
                Ok(())
            },
        )
        .unwrap();
    let future = async move {
        let stop = crate::world::until(|| worker.stats().done == 3);
        worker.run_until(stop).await.unwrap();
    };
    (future, (queue, time))
}

#[test]
fn a_worker_may_be_dropped_at_every_await_and_nothing_is_lost() {
    let awaits = drop_at_every_await(
        working,
        |(_, time)| {
            time.advance_to_next_wake();
        },
        |(queue, time), end| {
            let stats = now(queue.stats()).unwrap();
            assert_eq!(stats.done + stats.ready + stats.waiting + stats.leased, 3);
            if matches!(end, End::Completed(())) {
                assert_eq!(stats.done, 3);
            }
            // What it held comes to the next one.
            let left = 3 - stats.done;
            let rest = async {
                for _ in 0..left {
                    let delivery = queue.receive().await.unwrap();
                    queue.settle(delivery.receipt, Outcome::Done).await.unwrap();
                }
            };
            run(&time, rest);
            assert_eq!(now(queue.stats()).unwrap().done, 3);
        },
    );
    assert!(awaits >= 3, "{awaits}");
}

#[test]
fn calls_for_one_message_carry_no_more_than_what_they_were_given() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["m"]);
    let receipt = receive(&queue, 1)[0].receipt;
    let three_words = 3 * size_of::<usize>();
    let sending = size_of_val(&queue.send(Message::new("m")));
    assert!(sending <= size_of::<Message>() + three_words);
    assert!(size_of_val(&queue.receive()) <= three_words);
    let settling = size_of_val(&queue.settle(receipt, Outcome::Done));
    assert!(settling <= size_of::<Settlement>() + three_words);
    assert_eq!(now(queue.stats()).unwrap().sent, 1, "none was polled");
}

#[test]
fn a_send_that_is_polled_after_its_end_sends_nothing() {
    let time = ManualTime::new();
    let queue = queue(&time);
    let mut sending = std::pin::pin!(queue.send(Message::new("m")));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sending.as_mut().poll(&mut cx).is_ready());
    assert!(sending.as_mut().poll(&mut cx).is_pending());
    assert!(sending.as_mut().poll(&mut cx).is_pending());
    assert_eq!(texts(&queue), ["m"]);
}
