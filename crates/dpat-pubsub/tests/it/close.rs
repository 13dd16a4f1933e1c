//! Ends.

use crate::{drain, one, publish, run};
use dpat_pubsub::{Closed, Overflow, PubSub, PublishError, SubscribeError};
use dpat_testkit::Task;

#[test]
fn what_is_in_the_buffers_is_read_after_the_close() {
    for overflow in [Overflow::DropOldest, Overflow::Await] {
        let (hub, mut subscription, mut publisher) = one(9, overflow);
        publish(&mut publisher, 0..3);
        run(hub.close());
        assert_eq!(drain(&mut subscription), ["0", "1", "2", "closed"]);
        assert!(matches!(run(subscription.recv()), Err(Closed::Hub)));
        assert!(matches!(
            publisher.publish_now("x"),
            Err(PublishError::Closed)
        ));
        assert!(matches!(
            hub.publish_now("a", "x"),
            Err(PublishError::Closed)
        ));
        assert!(matches!(
            hub.subscribe("a").now(),
            Err(SubscribeError::Closed)
        ));
    }
}

#[test]
fn a_hub_ends_with_its_last_handle_and_publisher() {
    for overflow in [Overflow::DropOldest, Overflow::Await] {
        let (hub, mut subscription, publisher) = one(9, overflow);
        let mut receiving = Task::new(async move { subscription.recv().await });
        receiving.assert_pending();
        drop(hub);
        assert!(!receiving.is_woken(), "there is a publisher");
        drop(publisher);
        assert!(receiving.is_woken());
        assert!(matches!(receiving.assert_ready(), Err(Closed::Hub)));
    }
}

#[test]
fn publishers_that_wait_are_released() {
    let (hub, subscription, mut publisher) = one(1, Overflow::Await);
    publish(&mut publisher, 0..1);
    let mut waits = Task::new(publisher.publish("1"));
    waits.assert_pending();
    // By the subscriber that leaves.
    drop(subscription);
    assert!(waits.is_woken());
    waits.assert_ready().unwrap();
    drop(waits);
    // By the close.
    let subscribe = hub.subscribe("a").capacity(1).overflow(Overflow::Await);
    let mut subscription = subscribe.now().unwrap();
    publish(&mut publisher, 0..1);
    let mut waits = Task::new(publisher.publish("1"));
    waits.assert_pending();
    run(hub.close());
    assert!(waits.is_woken());
    waits.assert_ready().unwrap();
    assert_eq!(drain(&mut subscription), ["0", "closed"]);
}

#[test]
fn retained_hubs_close_too() {
    let hub = PubSub::builder().retain("a", 1).build().unwrap();
    let mut publisher = hub.publisher("a").unwrap();
    publish(&mut publisher, 0..1);
    run(hub.close());
    assert!(matches!(
        publisher.publish_now("x"),
        Err(PublishError::Closed)
    ));
}
