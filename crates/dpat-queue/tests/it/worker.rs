//! The worker: attempts, leases, limits and its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dpat_core::{Backoff, Clock, ManualTime, Sleep, SplitMix64};
use dpat_queue::{ConfigError, Delivery, Failure, Message, Queue, Worker, WorkerBuilder};

use crate::world::{SECOND, built, now, queue, receive, run, send, text, texts};

type Handled = Result<(), Failure>;

fn worker<F: Future<Output = Handled> + Send + 'static>(
    builder: WorkerBuilder,
    time: &ManualTime,
    handler: impl Fn(Delivery) -> F + Send + Sync + 'static,
) -> Worker<ManualTime> {
    builder
        .build(time.clone(), SplitMix64::new(1), handler)
        .unwrap()
}

/// Runs a worker until the condition holds, looking at it every millisecond.
fn run_until(worker: &Worker<ManualTime>, time: &ManualTime, holds: impl Fn() -> bool) {
    let stop = async {
        while !holds() {
            time.sleep(Duration::from_millis(1)).await;
        }
    };
    run(time, worker.run_until(stop)).unwrap();
}

fn second() -> Backoff {
    Backoff::constant(SECOND)
}

#[test]
fn what_is_handled_is_done_once() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["a", "b", "c"]);
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let worker = worker(Worker::builder(queue.clone()), &time, move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    });
    run_until(&worker, &time, || worker.stats().done == 3);
    time.advance(100 * SECOND);
    assert_eq!(texts(&queue), Vec::<String>::new());
    assert_eq!(seen.load(Ordering::Relaxed), 3);
}

#[test]
fn a_failure_comes_again_after_a_delay_and_is_given_up_with_its_reason() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["bad"]);
    let began = time.now();
    let builder = Worker::builder(queue.clone())
        .attempts_max(3)
        .backoff(second());
    let worker = worker(builder, &time, |_| async {
        Err(Failure::retry("no gateway"))
    });
    run_until(&worker, &time, || worker.stats().rejected == 1);
    assert_eq!(worker.stats().retried, 2);
    assert!(time.now().since(began) >= 2 * SECOND);
    let letters = now(queue.dead_letters(None, 10)).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(&*letters[0].reason, "given up after 3 attempts: no gateway");
    assert_eq!(letters[0].count, 3);
}

#[test]
fn pitfall_1_3_a_failure_is_retried_then_kept_with_its_reason() {
    // The sketch prints it and forgets the message.
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["order 7"]);
    let builder = Worker::builder(queue.clone())
        .attempts_max(2)
        .backoff(second());
    let worker = worker(builder, &time, |_| async { Err(Failure::retry("boom")) });
    run_until(&worker, &time, || worker.stats().rejected == 1);
    let letters = now(queue.dead_letters(None, 10)).unwrap();
    assert_eq!(letters[0].message.payload(), "order 7");
    assert!(letters[0].reason.ends_with("boom"));
    assert!(now(queue.replay(letters[0].id)).unwrap());
    assert_eq!(texts(&queue), ["order 7"]);
}

#[test]
fn pitfall_1_3_a_message_of_a_worker_that_died_comes_again() {
    // The sketch has taken it out of the channel by then.
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["order 7"]);
    let hangs = worker(Worker::builder(queue.clone()), &time, |_| {
        std::future::pending()
    });
    let mut running = dpat_testkit::Task::new(hangs.run());
    while hangs.stats().running == 0 {
        running.assert_pending();
    }
    drop(running);
    assert_eq!(texts(&queue), Vec::<String>::new(), "it is leased");
    time.advance(31 * SECOND);
    let again = receive(&queue, 1);
    assert_eq!((text(&again[0]), again[0].count), ("order 7", 2));
}

#[test]
fn pitfall_1_3_a_waiting_worker_can_be_stopped() {
    // The sketch's worker waits in the queue, where it hears nobody.
    let time = ManualTime::new();
    let queue = queue(&time);
    let worker = worker(Worker::builder(queue), &time, |_| async { Ok(()) });
    let began = time.now();
    run(&time, worker.run_until(time.sleep(SECOND))).unwrap();
    assert_eq!(time.now().since(began), SECOND);
}

#[test]
fn a_message_that_kills_its_worker_each_time_is_given_up() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["poison"]);
    for _ in 0..3 {
        // A worker that receives it and dies.
        assert_eq!(receive(&queue, 1).len(), 1);
        time.advance(2 * SECOND);
    }
    let builder = Worker::builder(queue.clone()).attempts_max(3);
    let worker = worker(builder, &time, |_| async {
        panic!("it must not be handled")
    });
    run_until(&worker, &time, || worker.stats().rejected == 1);
    let letters = now(queue.dead_letters(None, 10)).unwrap();
    assert_eq!(
        &*letters[0].reason,
        "given up after 3 attempts: none of them was settled"
    );
}

#[test]
fn a_handler_that_panics_has_failed_and_the_others_go_on() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["panics", "good"]);
    let builder = Worker::builder(queue.clone())
        .attempts_max(2)
        .backoff(second());
    let worker = worker(builder, &time, |delivery| async move {
        assert_eq!(delivery.payload(), "good", "as it should");
        Ok(())
    });
    run_until(&worker, &time, || worker.stats().rejected == 1);
    assert_eq!(worker.stats().done, 1);
    let letters = now(queue.dead_letters(None, 10)).unwrap();
    assert_eq!(
        &*letters[0].reason,
        "given up after 2 attempts: the handler panicked"
    );
}

#[test]
fn errors_that_will_not_pass_are_rejected_at_once() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["no number"]);
    let worker = worker(Worker::builder(queue), &time, |delivery| async move {
        let numbers = dpat_queue::Typed::<u64, _>::new(dpat_codec::Postcard::DEFAULT);
        // Some bytes behind the number: no retry will make them go.
        numbers.value(&delivery)?;
        Ok(())
    });
    run_until(&worker, &time, || worker.stats().rejected == 1);
    assert_eq!(worker.stats().retried, 0);
}

#[test]
fn leases_are_kept_up_while_handlers_run_and_messages_wait() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["slow 1", "slow 2", "slow 3"]);
    let sleep = time.clone();
    let builder = Worker::builder(queue.clone())
        .concurrency(1)
        .prefetch(2)
        .lease(SECOND);
    let worker = worker(builder, &time, move |_| {
        let sleep = sleep.clone();
        // Ten leases long.
        async move {
            sleep.sleep(10 * SECOND).await;
            Ok(())
        }
    });
    run_until(&worker, &time, || worker.stats().done == 3);
    let stats = now(queue.stats()).unwrap();
    assert_eq!(
        (stats.delivered, stats.redelivered, stats.lapsed),
        (3, 0, 0)
    );
}

#[test]
fn the_heartbeat_stops_before_a_message_is_settled() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["a"]);
    let sleep = time.clone();
    let builder = Worker::builder(queue.clone())
        .lease(SECOND)
        .attempts_max(2)
        .backoff(Backoff::constant(SECOND / 10));
    let worker = worker(builder, &time, move |delivery| {
        let sleep = sleep.clone();
        async move {
            if delivery.attempt == 1 {
                // It fails exactly when its lease would be extended.
                sleep.sleep(SECOND / 3).await;
                return Err(Failure::retry("once"));
            }
            Ok(())
        }
    });
    let began = time.now();
    run_until(&worker, &time, || worker.stats().done == 1);
    // An extension after the retry would have held the message for a whole lease.
    assert!(time.now().since(began) < SECOND);
    assert_eq!(worker.stats().lost, 0);
}

#[test]
fn no_more_is_handled_and_held_than_was_asked_for() {
    let time = ManualTime::new();
    let queue = queue(&time);
    for number in 0..50 {
        send(&queue, &[&number.to_string()]);
    }
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (counter, highest, sleep) = (Arc::clone(&running), Arc::clone(&most), time.clone());
    let builder = Worker::builder(queue.clone())
        .concurrency(3)
        .prefetch(4)
        .lease(SECOND);
    let worker = worker(builder, &time, move |_| {
        let (counter, sleep) = (Arc::clone(&counter), sleep.clone());
        highest.fetch_max(
            counter.fetch_add(1, Ordering::Relaxed) + 1,
            Ordering::Relaxed,
        );
        async move {
            sleep.sleep(SECOND / 10).await;
            counter.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        }
    });
    let leased = std::cell::Cell::new(0);
    run_until(&worker, &time, || {
        leased.set(now(queue.stats()).unwrap().leased.max(leased.get()));
        worker.stats().done == 50
    });
    assert_eq!(most.load(Ordering::Relaxed), 3);
    assert_eq!(leased.get(), 7);
}

#[test]
fn a_worker_that_is_told_to_stop_handles_what_it_has_and_gives_the_rest_back() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["quick", "slow", "later"]);
    let sleep = time.clone();
    let builder = Worker::builder(queue.clone())
        .concurrency(2)
        .prefetch(0)
        .drain_timeout(2 * SECOND);
    let worker = worker(builder, &time, move |delivery| {
        let sleep = sleep.clone();
        async move {
            let quick = delivery.payload() == "quick";
            sleep.sleep(if quick { SECOND } else { 60 * SECOND }).await;
            Ok(())
        }
    });
    let began = time.now();
    run(&time, worker.run_until(time.sleep(SECOND / 2))).unwrap();
    assert_eq!(time.now().since(began), 5 * SECOND / 2);
    assert_eq!(worker.stats().done, 1);
    // At once, not after its lease.
    assert_eq!(texts(&queue), ["slow", "later"]);
}

#[test]
fn a_handler_that_hangs_is_cut_and_its_message_tried_again() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["hangs"]);
    let builder = Worker::builder(queue.clone())
        .handler_timeout(5 * SECOND)
        .attempts_max(2)
        .backoff(second());
    let worker = worker(builder, &time, |_| std::future::pending());
    run_until(&worker, &time, || worker.stats().rejected == 1);
    let letters = now(queue.dead_letters(None, 10)).unwrap();
    assert_eq!(
        &*letters[0].reason,
        "given up after 2 attempts: not handled within 5s"
    );
}

#[test]
fn a_worker_ends_with_its_queue() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["a"]);
    let worker = worker(Worker::builder(queue.clone()), &time, |_| async { Ok(()) });
    let drains = async {
        crate::world::until(|| worker.stats().done == 1).await;
        queue.drain().await;
    };
    let (ran, ()) = run(&time, futures_util::future::join(worker.run(), drains));
    ran.unwrap();
}

#[test]
fn keys_are_handled_in_order_by_many_handlers() {
    let time = ManualTime::new();
    let queue = built(&time, |builder| builder.visibility(60 * SECOND));
    for number in 0..40 {
        let message = Message::new(number.to_string()).key(format!("key {}", number % 4));
        now(queue.send(message)).unwrap();
    }
    let seen: Arc<std::sync::Mutex<BTreeMap<String, Vec<u32>>>> = Arc::default();
    let (log, sleep) = (Arc::clone(&seen), time.clone());
    let builder = Worker::builder(queue)
        .concurrency(8)
        .attempts_max(3)
        .backoff(second());
    let worker = worker(builder, &time, move |delivery: Delivery| {
        let (log, sleep) = (Arc::clone(&log), sleep.clone());
        async move {
            let number: u32 = text(&delivery).parse().unwrap();
            sleep
                .sleep(Duration::from_millis(u64::from(number * 7 % 13)))
                .await;
            if number % 5 == 0 && delivery.attempt == 1 {
                return Err(Failure::retry("the first time"));
            }
            let key = delivery.key().unwrap().to_owned();
            log.lock().unwrap().entry(key).or_default().push(number);
            Ok(())
        }
    });
    run_until(&worker, &time, || worker.stats().done == 40);
    for numbers in seen.lock().unwrap().values() {
        assert_eq!(numbers.len(), 10);
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

#[test]
fn a_configuration_outside_of_its_range_names_field_and_limit() {
    let time = ManualTime::new();
    let refused = |set: fn(WorkerBuilder) -> WorkerBuilder| -> ConfigError {
        let builder = set(Worker::builder(queue(&time)));
        let built = builder.build(time.clone(), SplitMix64::new(1), |_| async { Ok(()) });
        built.err().unwrap()
    };
    let text = |set| refused(set).to_string();
    assert_eq!(
        text(|worker| worker.concurrency(0)),
        "concurrency: 0 is not between 1 and 10000"
    );
    assert_eq!(
        text(|worker| worker.attempts_max(0)),
        "attempts_max: 0 is not between 1 and 4294967295"
    );
    assert_eq!(
        text(|worker| worker.lease(Duration::ZERO)),
        "lease: 0 is not between 3 and 43200000"
    );
    let queue = |set: fn(dpat_queue::Builder) -> dpat_queue::Builder| {
        set(Queue::builder())
            .in_memory(time.clone())
            .err()
            .unwrap()
            .to_string()
    };
    assert_eq!(
        queue(|builder| builder.waiters_max(0)),
        "waiters_max: 0 is not between 1 and 1000000"
    );
    assert_eq!(
        queue(|builder| builder.visibility(Duration::ZERO)),
        "visibility: 0 is not between 1 and 86400000"
    );
}
