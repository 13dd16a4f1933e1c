//! Futures dropped at every await.

use crate::{drain, one, publish, run};
use dpat_core::ManualTime;
use dpat_pubsub::{Overflow, PubSub};
use dpat_testkit::drop_at_every_await;
use std::time::Duration;

#[test]
fn a_publish_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let (hub, slow, mut publisher) = one(1, Overflow::Await);
            let subscribe = hub.subscribe("a").capacity(2).overflow(Overflow::Await);
            let slower = subscribe.now().unwrap();
            publish(&mut publisher, 0..1);
            publish(&mut hub.publisher("a").unwrap(), 1..2);
            let future = async move { publisher.publish("2").await.unwrap() };
            (future, (hub, [slow, slower], vec![Vec::new(), Vec::new()]))
        },
        |(_, subscriptions, got)| {
            // The one with less room first.
            let at = usize::from(!got[0].is_empty());
            let more = drain(&mut subscriptions[at]);
            got[at].extend(more);
        },
        |(_hub, mut subscriptions, mut got), end| {
            for (got, subscription) in got.iter_mut().zip(&mut subscriptions) {
                got.extend(drain(subscription));
            }
            // The message is there, or counted, or never began its way.
            let polled = !matches!(end, dpat_testkit::End::Dropped { polls: 0, .. });
            for (got, before) in got.iter().zip([&["0", "-1"][..], &["0", "1"]]) {
                let got: Vec<&str> = got.iter().map(String::as_str).collect();
                match got.strip_prefix(before) {
                    Some(["2" | "-1"]) if polled => {}
                    Some([]) if !polled => {}
                    // A loss that follows one which was not told yet is told with it.
                    _ => assert!(polled && got == ["0", "-2"], "{end:?}: {got:?}"),
                }
            }
        },
    );
    assert_eq!(awaits, 2);
}

#[test]
fn a_receive_may_be_dropped_at_every_await() {
    for overflow in [Overflow::DropOldest, Overflow::Await] {
        let awaits = drop_at_every_await(
            || {
                let (hub, subscription, publisher) = one(4, overflow.clone());
                let shared = std::rc::Rc::new(std::cell::RefCell::new(subscription));
                let held = std::rc::Rc::clone(&shared);
                #[allow(
                    clippy::await_holding_refcell_ref,
                    reason = "one task; the borrow ends with the future"
                )]
                let future = async move { held.borrow_mut().recv().await.unwrap() };
                (future, (hub, shared, publisher))
            },
            |(_, _, publisher)| publish(publisher, 0..1),
            |(_hub, shared, mut publisher), end| {
                publish(&mut publisher, 1..2);
                let mut subscription = shared.borrow_mut();
                let got = drain(&mut subscription);
                let driven = matches!(end, dpat_testkit::End::Dropped { driven: true, .. });
                // What was not returned is still there.
                let wanted: &[&str] = if driven { &["0", "1"] } else { &["1"] };
                assert_eq!(got, wanted, "{end:?}");
            },
        );
        assert_eq!(awaits, 1);
    }
}

#[test]
fn a_request_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let hub = PubSub::default();
            let time = ManualTime::new();
            let requests = hub.subscribe("a").now().unwrap();
            let requester = hub.requester(time.clone()).timeout(Duration::from_secs(1));
            let future = async move { requester.request("a", "?").await.unwrap() };
            (future, (hub, requests, time))
        },
        |(hub, requests, _)| {
            let request = run(requests.recv()).unwrap().message().unwrap();
            run(hub.reply(&request, "!")).unwrap();
        },
        |(hub, requests, time), _| {
            drop(requests);
            assert_eq!(time.sleepers(), 0, "no timer is left behind");
            let reached = hub.publish_now("_inbox.0", "late").unwrap().reached;
            assert_eq!(reached, Some(0), "no inbox is left behind");
        },
    );
    assert_eq!(awaits, 1);
}

#[test]
fn a_subscribe_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let hub = PubSub::default();
            let subscriber = hub.clone();
            let future = async move { subscriber.subscribe("a").await.map(drop) };
            (future, hub)
        },
        |_| (),
        |hub, _| assert_eq!(hub.publish_now("a", "").unwrap().reached, Some(0)),
    );
    assert_eq!(awaits, 0);
}
