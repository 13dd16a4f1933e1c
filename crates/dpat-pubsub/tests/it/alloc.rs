//! What a message costs in allocations.

use crate::{one, run};
use bytes::Bytes;
use dpat_pubsub::{Overflow, PubSub};
use dpat_testkit::allocations;

#[test]
fn a_message_that_nobody_wants_allocates_nothing() {
    let hub = PubSub::default();
    let mut publisher = hub.publisher("a").unwrap();
    let payload = Bytes::from_static(b"payload");
    publisher.publish_now(payload.clone()).unwrap();
    let ((), count) = allocations(|| {
        for _ in 0..100 {
            run_once(publisher.publish(payload.clone()));
        }
    });
    assert_eq!(count, 0);
}

/// Polls a future that is ready at once.
fn run_once<F: Future>(future: F) {
    let future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.poll(&mut cx).is_ready());
}

#[test]
fn a_message_is_one_allocation_whatever_the_number_of_subscribers() {
    let hub = PubSub::default();
    let mut subscriptions: Vec<_> = (0..10)
        .map(|n| {
            let overflow = [Overflow::DropOldest, Overflow::Await][n % 2].clone();
            hub.subscribe("a").overflow(overflow).now().unwrap()
        })
        .collect();
    let mut publisher = hub.publisher("a").unwrap();
    let payload = Bytes::from_static(b"payload");
    let mut round = || {
        run_once(publisher.publish(payload.clone()));
        for subscription in &mut subscriptions {
            run_once(subscription.recv());
        }
    };
    // Buffers and the first segment of the log.
    (0..64).for_each(|_| round());
    let ((), count) = allocations(|| (0..32).for_each(|_| round()));
    // And one segment of the log for 32 messages, with the list that the old one leaves by.
    assert_eq!(count, 32 + 2);
}

#[test]
fn waiting_and_waking_allocate_nothing_more() {
    let (_hub, mut subscription, mut publisher) = one(4, Overflow::Await);
    let payload = Bytes::from_static(b"payload");
    let mut round = || {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut receiving = std::pin::pin!(subscription.recv());
        assert!(receiving.as_mut().poll(&mut cx).is_pending());
        run_once(publisher.publish(payload.clone()));
        assert!(receiving.poll(&mut cx).is_ready());
    };
    round();
    let ((), count) = allocations(|| (0..100).for_each(|_| round()));
    assert_eq!(count, 100, "the messages");
    run(async {});
}
