//! Buffers that are full.

use crate::{drain, one, publish, run};
use dpat_pubsub::{Closed, Delivery, KeyOf, Overflow, PubSub};
use dpat_testkit::Task;

#[test]
fn a_publisher_waits_for_room_and_goes_on_in_order() {
    let (_hub, mut subscription, mut publisher) = one(2, Overflow::Await);
    publish(&mut publisher, 0..2);
    let mut publishing = Task::new(async move {
        for number in 2..5 {
            publisher.publish(number.to_string()).await.unwrap();
        }
        publisher
    });
    publishing.assert_pending();
    assert_eq!(subscription.stats().waiting, 2, "the capacity is exact");
    for number in 0..2 {
        let got = run(subscription.recv()).unwrap().message().unwrap();
        assert_eq!(got.payload(), &number.to_string());
    }
    assert!(publishing.is_woken());
    publishing.assert_pending();
    assert_eq!(drain(&mut subscription), ["2", "3", "4"]);
    let _publisher = publishing.assert_ready();
}

#[test]
fn those_with_room_do_not_wait_for_those_without() {
    let (hub, mut slow, mut publisher) = one(1, Overflow::Await);
    let subscribe = hub.subscribe("*").capacity(9).overflow(Overflow::Await);
    let mut quick = subscribe.now().unwrap();
    publish(&mut publisher, 0..1);
    let mut publishing = Task::new(publisher.publish("1"));
    publishing.assert_pending();
    assert_eq!(drain(&mut quick), ["0", "1"]);
    assert_eq!(drain(&mut slow), ["0", "1"]);
    let published = publishing.assert_ready().unwrap();
    assert_eq!((published.reached, published.lost), (Some(2), 0));
}

#[test]
fn publishers_that_wait_are_served_in_the_order_of_their_coming() {
    let (hub, mut subscription, mut publisher) = one(1, Overflow::Await);
    publish(&mut publisher, 0..1);
    let mut waiting: Vec<_> = (1..5_u32)
        .map(|number| {
            let hub = hub.clone();
            let mut task =
                Task::new(async move { hub.publish("a", number.to_string()).await.unwrap() });
            task.assert_pending();
            task
        })
        .collect();
    // A later one does not pass them.
    let late = publisher.publish_now("late").unwrap();
    assert_eq!(late.lost, 1);
    assert_eq!(drain(&mut subscription), ["0", "-1", "1", "2", "3", "4"]);
    for task in &mut waiting {
        task.assert_ready();
    }
}

#[test]
fn a_disconnected_subscriber_reads_what_it_has_and_is_told_why() {
    let (_hub, mut subscription, mut publisher) = one(2, Overflow::Disconnect);
    publish(&mut publisher, 0..2);
    let third = publisher.publish_now("2").unwrap();
    assert_eq!((third.reached, third.lost), (Some(0), 1));
    let fourth = publisher.publish_now("3").unwrap();
    assert_eq!((fourth.reached, fourth.lost), (Some(0), 0), "it is gone");
    assert_eq!(drain(&mut subscription), ["0", "1", "-1", "closed"]);
    let end = run(subscription.recv());
    assert!(
        matches!(end, Err(Closed::Overflow { capacity: 2 })),
        "{end:?}"
    );
}

#[test]
fn conflation_by_subject_keeps_the_latest_of_each() {
    let hub = PubSub::default();
    let conflate = Overflow::Conflate(KeyOf::subject());
    let subscribe = hub.subscribe("price.*").capacity(2).overflow(conflate);
    let mut prices = subscribe.now().unwrap();
    for (metal, price) in [("gold", "1"), ("tin", "2"), ("gold", "3"), ("gold", "4")] {
        hub.publish_now(format!("price.{metal}"), price).unwrap();
    }
    let stats = prices.stats();
    assert_eq!((stats.waiting, stats.conflated, stats.lost), (2, 2, 0));
    assert_eq!(drain(&mut prices), ["4", "2"]);
}

#[test]
fn conflation_by_a_function_loses_the_oldest_key_when_it_must() {
    let by_first = KeyOf::new(|message| message.payload().slice(..1));
    let (_hub, mut subscription, mut publisher) = one(2, Overflow::Conflate(by_first));
    for payload in ["a1", "b1", "a2", "c1"] {
        publisher.publish_now(payload).unwrap();
    }
    assert_eq!(drain(&mut subscription), ["-1", "b1", "c1"]);
}

#[test]
fn a_lag_is_told_before_the_message_that_follows_it() {
    let (_hub, mut subscription, mut publisher) = one(3, Overflow::DropOldest);
    publish(&mut publisher, 0..3);
    assert_eq!(
        run(subscription.recv()).unwrap(),
        Delivery::Message(message("0"))
    );
    publish(&mut publisher, 3..6);
    assert_eq!(drain(&mut subscription), ["-2", "3", "4", "5"]);
    let stats = subscription.stats();
    assert_eq!((stats.accepted, stats.taken, stats.lost), (6, 4, 2));
}

fn message(payload: &'static str) -> dpat_pubsub::Message {
    dpat_pubsub::Message::new("a".parse().unwrap(), payload.into())
}

#[test]
fn a_slow_reader_of_a_log_is_told_exactly_what_it_missed() {
    let (_hub, mut subscription, mut publisher) = one(10, Overflow::DropOldest);
    let mut next = 0_u64;
    // Bursts of all lengths around the segments of the log.
    for burst in (0..150).chain([1_000, 3, 32, 64, 33]) {
        publish(&mut publisher, 0..burst);
        let (mut seen, mut lost) = (0, 0);
        for got in drain(&mut subscription) {
            match got.strip_prefix('-') {
                Some(count) => lost += count.parse::<u64>().unwrap(),
                None => seen += 1,
            }
        }
        assert_eq!(seen, u64::from(burst).min(10));
        assert_eq!(seen + lost, u64::from(burst));
        next += u64::from(burst);
    }
    assert_eq!(subscription.stats().accepted, next);
}
