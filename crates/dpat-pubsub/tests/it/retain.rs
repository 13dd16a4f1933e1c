//! Retained messages.

use crate::{drain, run};
use dpat_pubsub::{Delivery, PubSub, Subscription};

fn hub(last: usize) -> PubSub {
    let hub = PubSub::builder().retain("price.>", last);
    hub.retained_subjects_max(3).build().unwrap()
}

fn replay(hub: &PubSub, filter: &str, last: usize) -> Vec<String> {
    drain(&mut hub.subscribe(filter).replay(last).now().unwrap())
}

#[test]
fn the_last_messages_of_each_subject_come_in_the_order_of_their_publication() {
    let hub = hub(2);
    for (subject, payload) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")] {
        hub.publish_now(format!("price.{subject}"), payload)
            .unwrap();
    }
    hub.publish_now("other", "6").unwrap();
    assert_eq!(replay(&hub, ">", 9), ["2", "3", "4", "5"]);
    assert_eq!(replay(&hub, "price.*", 1), ["4", "5"]);
    assert_eq!(replay(&hub, "price.b", 2), ["2", "5"]);
    assert_eq!(replay(&hub, ">", 0), [""; 0]);
    hub.forget("price.b").unwrap();
    assert_eq!(replay(&hub, ">", 1), ["4"]);
}

#[test]
fn the_subject_that_was_quiet_longest_makes_room() {
    let hub = hub(1);
    let mut publishers: Vec<_> = (0..4)
        .map(|n| hub.publisher(format!("price.{n}")).unwrap())
        .collect();
    for (at, payload) in [(0, "a"), (1, "b"), (2, "c"), (0, "d"), (3, "e")] {
        publishers[at].publish_now(payload).unwrap();
    }
    assert_eq!(replay(&hub, ">", 1), ["c", "d", "e"]);
    // The one that lost its place takes another's.
    publishers[1].publish_now("f").unwrap();
    assert_eq!(replay(&hub, ">", 1), ["d", "e", "f"]);
}

#[test]
fn a_replay_may_be_larger_than_the_buffer() {
    let hub = hub(10);
    for number in 0..10 {
        hub.publish_now("price.a", number.to_string()).unwrap();
    }
    let subscribe = hub.subscribe("price.a").capacity(1).replay(10);
    let mut subscription = subscribe.now().unwrap();
    hub.publish_now("price.a", "live").unwrap();
    assert_eq!(subscription.stats().waiting, 11);
    assert_eq!(drain(&mut subscription).len(), 11);
}

#[test]
fn no_message_is_missing_or_twice_between_the_replay_and_the_live_ones() {
    const COUNT: u64 = 3_000;
    let hub = PubSub::builder().retain("a", 1024).build().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = hub.publisher("a").unwrap();
            for number in 1..=COUNT {
                publisher.publish_now(number.to_string()).unwrap();
            }
        });
        for _ in 0..50 {
            let subscribe = hub.subscribe("a").capacity(5_000).replay(1024);
            let mut subscription = subscribe.now().unwrap();
            let mut last = None;
            for _ in 0..20 {
                match next(&mut subscription) {
                    Some(number) => {
                        if let Some(last) = last {
                            assert_eq!(number, last + 1);
                        }
                        last = Some(number);
                    }
                    None => break,
                }
            }
        }
    });
}

fn next(subscription: &mut Subscription) -> Option<u64> {
    match subscription.try_recv().unwrap()? {
        Delivery::Message(message) => std::str::from_utf8(message.payload()).ok()?.parse().ok(),
        Delivery::Lagged(lost) => panic!("lost {lost}"),
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let hub = PubSub::builder()
        .retain("a.b", 1)
        .retain("a.*", 3)
        .build()
        .unwrap();
    for number in 0..5 {
        run(hub.publish("a.b", number.to_string())).unwrap();
        run(hub.publish("a.c", number.to_string())).unwrap();
    }
    assert_eq!(replay(&hub, "a.b", 9), ["4"]);
    assert_eq!(replay(&hub, "a.c", 9), ["2", "3", "4"]);
}
