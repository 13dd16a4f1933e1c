//! What the catalogue's sketch gets wrong.

use crate::{drain, one, publish};
use dpat_pubsub::{Overflow, PubSub};

#[test]
fn pitfall_1_2_messages_keep_their_order() {
    // The sketch starts a task for each message and subscriber.
    let (_hub, mut subscription, mut publisher) = one(1_000, Overflow::DropOldest);
    publish(&mut publisher, 0..1_000);
    let wanted: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    assert_eq!(drain(&mut subscription), wanted);
}

#[test]
fn pitfall_1_2_a_slow_subscriber_has_a_bounded_buffer() {
    // The sketch has a task for each message that nobody reads.
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let (_hub, subscription, mut publisher) = one(10, overflow);
        publish(&mut publisher, 0..10_000);
        assert_eq!(subscription.stats().waiting, 10);
    }
}

#[test]
fn pitfall_1_2_a_loss_is_counted_in_its_place() {
    // The sketch loses in silence.
    let (_hub, mut subscription, mut publisher) = one(2, Overflow::DropOldest);
    publish(&mut publisher, 0..100);
    assert_eq!(drain(&mut subscription), ["-98", "98", "99"]);
}

#[test]
fn pitfall_1_2_subscribers_come_and_go_while_others_publish() {
    // The sketch uses the list of subscribers outside its lock.
    let hub = PubSub::default();
    let mut stays = hub.subscribe("a").capacity(100_000).now().unwrap();
    let published = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut publisher = hub.publisher("a").unwrap();
            let mut published = 0;
            while published < 20_000 {
                published += publisher.publish_now("x").map(|_| 1).unwrap();
            }
            published
        });
        for filter in ["a", "*", ">", "b"].into_iter().cycle() {
            drop(hub.subscribe(filter).now().unwrap());
            if publisher.is_finished() {
                break;
            }
        }
        publisher.join().unwrap()
    });
    assert_eq!(drain(&mut stays).len(), published);
}
