//! Who gets a message.

use crate::{drain, publish, run};
use dpat_pubsub::{Overflow, PubSub, SubscribeError};

#[test]
fn a_publisher_sees_who_comes_and_goes() {
    let hub = PubSub::default();
    let mut publisher = hub.publisher("a.b").unwrap();
    let reached = |publisher: &mut dpat_pubsub::Publisher| {
        publisher.publish_now("x").unwrap().reached.unwrap()
    };
    assert_eq!(reached(&mut publisher), 0);
    let subscribe = |filter: &str| hub.subscribe(filter).now().unwrap();
    let one = subscribe("a.b");
    assert_eq!(reached(&mut publisher), 1);
    let (two, three) = (subscribe("*.b"), subscribe(">"));
    assert_eq!(reached(&mut publisher), 3);
    let four = subscribe("a.b");
    assert_eq!(reached(&mut publisher), 4, "a reader more of the same log");
    drop(one);
    assert_eq!(reached(&mut publisher), 3);
    drop((two, four));
    assert_eq!(reached(&mut publisher), 1);
    drop(three);
    assert_eq!(reached(&mut publisher), 0);
}

#[test]
fn subscribers_to_one_filter_have_their_own_capacity_and_policy() {
    let hub = PubSub::default();
    let subscribe = |capacity, overflow| {
        let subscribe = hub.subscribe("a").capacity(capacity).overflow(overflow);
        subscribe.now().unwrap()
    };
    let mut subscriptions = [
        subscribe(2, Overflow::DropOldest),
        subscribe(4, Overflow::DropOldest),
        subscribe(2, Overflow::DropNewest),
        subscribe(9, Overflow::Await),
    ];
    let mut publisher = hub.publisher("a").unwrap();
    publish(&mut publisher, 0..5);
    let got = subscriptions.each_mut().map(drain);
    assert_eq!(got[0], ["-3", "3", "4"]);
    assert_eq!(got[1], ["-1", "1", "2", "3", "4"]);
    assert_eq!(got[2], ["0", "1", "-3"]);
    assert_eq!(got[3], ["0", "1", "2", "3", "4"]);
}

#[test]
fn there_are_as_many_subscriptions_as_the_limit_says() {
    let hub = PubSub::builder().subscriptions_max(2).build().unwrap();
    let first = hub.subscribe("a").now().unwrap();
    let _second = hub.subscribe("b").now().unwrap();
    let third = hub.subscribe("c").now();
    assert!(
        matches!(third, Err(SubscribeError::Full { max: 2 })),
        "{third:?}"
    );
    drop(first);
    assert!(hub.subscribe("c").now().is_ok());
}

#[test]
fn bad_settings_are_named() {
    let hub = PubSub::default();
    let refused = |subscribe: dpat_pubsub::Subscribe<'_>| subscribe.now().unwrap_err().to_string();
    assert_eq!(
        refused(hub.subscribe("a..b")),
        "subject: the token at byte 2 is empty"
    );
    assert_eq!(
        refused(hub.subscribe("a").capacity(0)),
        "capacity: 0 is not within 1..=1048576"
    );
    assert_eq!(
        refused(hub.subscribe("a").replay(1025)),
        "replay: 1025 is not within 0..=1024"
    );
    assert_eq!(
        refused(hub.subscribe("a").group("a b")),
        "group: \"a b\" is not a name of 1 to 64 bytes without white space"
    );
    assert_eq!(
        refused(hub.subscribe("a").group("g").replay(1)),
        "replay: cannot be together with group"
    );
}

#[test]
fn bad_messages_are_named_and_reach_nobody() {
    use dpat_core::{Classify, Effect};
    use dpat_pubsub::Draft;

    let hub = PubSub::builder().payload_bytes_max(3).build().unwrap();
    let mut all = hub.subscribe(">").now().unwrap();
    let refused = |draft: Draft| {
        let error = hub.publish_now("a", draft).unwrap_err();
        assert_eq!(error.effect(), Effect::NotDone);
        error.to_string()
    };
    assert_eq!(refused("1234".into()), "payload: 4 is more than 3");
    let headers =
        |count: usize| (0..count).fold(Draft::default(), |draft, _| draft.header("name", "value"));
    assert_eq!(refused(headers(33)), "headers: 33 is more than 32");
    assert_eq!(
        refused(Draft::default().header("name", "x".repeat(8189))),
        "header bytes: 8193 is more than 8192"
    );
    assert_eq!(
        refused(Draft::default().header("na:me", "")),
        "header \"na:me\": a name is visible ASCII without a colon"
    );
    assert_eq!(
        refused(Draft::default().header("name", "a\nb")),
        "header \"name\": the value has a control character"
    );
    assert!(hub.publish_now("a.*", "1").is_err());
    assert!(hub.publish_now("a", headers(32)).is_ok());
    assert_eq!(drain(&mut all), [""]);
}

#[test]
fn what_comes_from_one_filter_comes_from_the_other_in_the_same_order() {
    let hub = PubSub::default();
    let mut subscriptions = ["a.*", ">", "*.b"].map(|filter| hub.subscribe(filter).now().unwrap());
    for number in 0..200 {
        run(hub.publish("a.b", number.to_string())).unwrap();
    }
    let [one, other, last] = subscriptions.each_mut().map(drain);
    assert_eq!(one.len(), 200);
    assert!(one == other && other == last);
}

#[test]
fn a_log_lets_go_what_everybody_has_read() {
    use bytes::Bytes;

    struct Counted(std::sync::Arc<[u8; 7]>);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
    }
    let hub = PubSub::default();
    let mut quick = hub.subscribe("a").now().unwrap();
    let slow = hub.subscribe("a").capacity(100).now().unwrap();
    let mut publisher = hub.publisher("a").unwrap();
    let alive = std::sync::Arc::new(*b"payload");
    for _ in 0..1_000 {
        let payload = Bytes::from_owner(Counted(std::sync::Arc::clone(&alive)));
        publisher.publish_now(payload).unwrap();
        run(quick.recv()).unwrap();
    }
    // What the slow one may still read, and up to two segments of 32.
    let kept = std::sync::Arc::strong_count(&alive) - 1;
    assert!((100..=164).contains(&kept), "{kept}");
    assert_eq!(slow.stats().waiting, 100);
    drop(slow);
    publish(&mut publisher, 0..32);
    drain(&mut quick);
    publish(&mut publisher, 0..32);
    assert_eq!(std::sync::Arc::strong_count(&alive), 1);
}
