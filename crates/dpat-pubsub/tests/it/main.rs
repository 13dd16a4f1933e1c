//! The one integration binary.

#![allow(clippy::unwrap_used)] // the helpers are tests as well

mod alloc;
mod cancel;
mod close;
mod conformance;
mod groups;
mod mutants;
mod observe;
mod overflow;
mod pitfalls;
mod request;
mod retain;
mod route;
#[cfg(feature = "spill")]
mod spill;
mod threads;
mod typed;

use dpat_pubsub::{Delivery, Overflow, PubSub, Publisher, Subscription};
use dpat_testkit::{CountingAllocator, assert_send_sync};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Runs a future that never waits for time.
#[track_caller]
fn run<F: Future>(future: F) -> F::Output {
    dpat_testkit::run_with(|| false, future)
}

/// Reads everything that is there: texts, `-n` for a lag, `closed` at the end.
#[track_caller]
fn drain(subscription: &mut Subscription) -> Vec<String> {
    let mut got = Vec::new();
    loop {
        match subscription.try_recv() {
            Ok(Some(Delivery::Message(message))) => {
                got.push(String::from_utf8(message.payload().to_vec()).unwrap());
            }
            Ok(Some(Delivery::Lagged(lost))) => got.push(format!("-{lost}")),
            Ok(None) => return got,
            Err(_) => {
                got.push("closed".to_owned());
                return got;
            }
        }
    }
}

/// A hub, a subscription to `a`, and a publisher for it.
fn one(capacity: usize, overflow: Overflow) -> (PubSub, Subscription, Publisher) {
    let hub = PubSub::default();
    let subscribe = hub.subscribe("a").capacity(capacity).overflow(overflow);
    let subscription = subscribe.now().unwrap();
    let publisher = hub.publisher("a").unwrap();
    (hub, subscription, publisher)
}

/// Publishes the numbers of a range without waiting.
fn publish(publisher: &mut Publisher, numbers: std::ops::Range<u32>) {
    for number in numbers {
        publisher.publish_now(number.to_string()).unwrap();
    }
}

#[test]
fn handles_are_send_and_sync() {
    assert_send_sync::<PubSub>();
    assert_send_sync::<Publisher>();
    assert_send_sync::<dpat_pubsub::Message>();
    assert_send_sync::<dpat_pubsub::Closed>();
    assert_send_sync::<dpat_pubsub::PublishError>();
    dpat_testkit::assert_send::<Subscription>();
    dpat_testkit::assert_send::<dpat_pubsub::Recv<'_>>();
    let hub = PubSub::default();
    let _uses = dpat_testkit::assert_send_static(async move {
        let mut publisher = hub.publisher("a").unwrap();
        publisher.publish("x").await.unwrap();
        hub.subscribe("a").await.unwrap().recv().await.unwrap();
    });
}
