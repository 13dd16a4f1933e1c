//! Queues in virtual time, and futures that run in it.

use std::time::Duration;

use dpat_core::ManualTime;
use dpat_queue::{Builder, Delivery, Message, Outcome, Queue};
use dpat_testkit::run_with;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A queue in memory, leases of a second.
pub(crate) fn queue(time: &ManualTime) -> Queue {
    built(time, |builder| builder)
}

pub(crate) fn built(time: &ManualTime, set: impl FnOnce(Builder) -> Builder) -> Queue {
    let builder = Queue::builder().visibility(SECOND);
    set(builder).in_memory(time.clone()).unwrap()
}

/// Runs a future to its end; time passes when it waits.
pub(crate) fn run<F: Future>(time: &ManualTime, future: F) -> F::Output {
    run_with(|| time.advance_to_next_wake(), future)
}

/// Runs a future that has nothing to wait for.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    run_with(|| false, future)
}

pub(crate) fn send(queue: &Queue, texts: &[&str]) {
    for text in texts {
        now(queue.send(Message::new((*text).to_owned()))).unwrap();
    }
}

pub(crate) fn receive(queue: &Queue, max: usize) -> Vec<Delivery> {
    now(queue.receive_batch(max, Duration::ZERO)).unwrap()
}

pub(crate) fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(delivery.payload()).unwrap()
}

pub(crate) fn texts(queue: &Queue) -> Vec<String> {
    let received = receive(queue, 1_000);
    received.iter().map(|one| text(one).to_owned()).collect()
}

pub(crate) fn done(queue: &Queue, delivery: &Delivery) {
    now(queue.settle(delivery.receipt, Outcome::Done)).unwrap();
}

/// Gives the others a turn.
pub(crate) async fn turn() {
    tokio::task::yield_now().await;
}

/// Waits until something holds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        turn().await;
    }
}
