//! Queue groups.

use crate::{drain, publish, run};
use dpat_pubsub::{Overflow, PubSub, SubscribeError, Subscription};
use dpat_testkit::Task;

fn member(hub: &PubSub) -> Subscription {
    let subscribe = hub
        .subscribe("a")
        .capacity(4)
        .overflow(Overflow::DropNewest);
    subscribe.group("workers").now().unwrap()
}

#[test]
fn the_members_share_a_buffer() {
    let hub = PubSub::default();
    let (mut one, mut other) = (member(&hub), member(&hub));
    let mut publisher = hub.publisher("a").unwrap();
    let published = publisher.publish_now("0").unwrap();
    assert_eq!(published.reached, Some(1), "a group counts once");
    publish(&mut publisher, 1..6);
    assert_eq!(one.stats().waiting, 4);
    assert_eq!(run(one.recv()).unwrap().message().unwrap().payload(), "0");
    assert_eq!(drain(&mut other), ["1", "2", "3", "-2"]);
    assert_eq!(drain(&mut one), [""; 0]);
}

#[test]
fn what_a_member_leaves_behind_is_there_for_the_others() {
    let hub = PubSub::default();
    let (one, mut other) = (member(&hub), member(&hub));
    publish(&mut hub.publisher("a").unwrap(), 0..3);
    drop(one);
    assert_eq!(drain(&mut other), ["0", "1", "2"]);
}

#[test]
fn a_message_wakes_one_member_and_a_member_that_goes_passes_it_on() {
    let hub = PubSub::default();
    let (mut one, mut other) = (member(&hub), member(&hub));
    let mut publisher = hub.publisher("a").unwrap();
    let mut first = Task::new(one.recv());
    let mut second = Task::new(other.recv());
    first.assert_pending();
    second.assert_pending();
    publish(&mut publisher, 0..1);
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    second.assert_ready().unwrap();
    drop(second);
    // Each of two messages wakes one.
    let mut first = Task::new(one.recv());
    let mut second = Task::new(other.recv());
    first.assert_pending();
    second.assert_pending();
    publish(&mut publisher, 0..2);
    assert!(first.is_woken() && second.is_woken());
}

#[test]
fn a_group_ends_with_its_last_member() {
    let hub = PubSub::default();
    let (one, other) = (member(&hub), member(&hub));
    let mut publisher = hub.publisher("a").unwrap();
    drop(one);
    publish(&mut publisher, 0..1);
    drop(other);
    assert_eq!(publisher.publish_now("x").unwrap().reached, Some(0));
    assert_eq!(drain(&mut member(&hub)), [""; 0], "a new group begins");
}

#[test]
fn the_members_have_the_same_settings() {
    let hub = PubSub::default();
    let _first = member(&hub);
    let with = |capacity, overflow| {
        let subscribe = hub.subscribe("a").capacity(capacity).overflow(overflow);
        subscribe.group("workers").now()
    };
    for (capacity, overflow, wanted) in [
        (5, Overflow::DropNewest, "capacity"),
        (4, Overflow::Await, "overflow"),
    ] {
        match with(capacity, overflow) {
            Err(SubscribeError::Group { field, group }) => {
                assert_eq!((field, &*group), (wanted, "workers"));
            }
            other => panic!("{other:?}"),
        }
    }
    // Another filter, or another name, is another group.
    assert!(hub.subscribe("*").group("workers").now().is_ok());
    assert!(hub.subscribe("a").group("others").now().is_ok());
}

#[test]
fn a_group_may_lose_the_oldest() {
    let hub = PubSub::default();
    let subscribe = || hub.subscribe("a").capacity(2).group("g").now().unwrap();
    let (mut one, mut other) = (subscribe(), subscribe());
    publish(&mut hub.publisher("a").unwrap(), 0..5);
    assert_eq!(
        drain(&mut one),
        ["-3", "3", "4"],
        "one member is told of it"
    );
    assert_eq!(drain(&mut other), [""; 0]);
}
