//! One thread that publishes and then reads for all subscribers: what handing over costs, without waiting.

use super::{BURST, CAPACITY, case, payload, shape};
use crate::harness::{Case, Contender};
use dpat_pubsub::{Delivery, Overflow, PubSub};
use tokio::sync::broadcast;

/// Nobody waits; the slowest would lose.
pub(super) fn drops(subscribers: usize, burst: u64) -> Case {
    case(
        "publish and receive, slow subscribers lose",
        "One thread publishes 64 bytes of shared payload, and after each burst every subscriber reads all of it; time \
         per message. Nothing is lost, since the bursts fit.",
        ours(subscribers, burst, Overflow::DropOldest),
        vec![tokio(subscribers, burst)],
    )
    .param("shape", shape(1, subscribers))
    .param("burst", burst)
}

/// The publisher would wait for the slowest.
pub(super) fn waits(subscribers: usize, burst: u64) -> Case {
    case(
        "publish and receive, publishers wait",
        "The same, with publishers that would wait for slow subscribers. Nobody does, since the bursts fit.",
        ours(subscribers, burst, Overflow::Await),
        vec![async_broadcast(subscribers, burst)],
    )
    .param("shape", shape(1, subscribers))
    .param("burst", burst)
}

fn ours(subscribers: usize, burst: u64, overflow: Overflow) -> Contender {
    Contender::tasks("dpat-pubsub", 1, move || {
        let hub = PubSub::default();
        let mut subscriptions: Vec<_> = (0..subscribers)
            .map(|_| {
                let subscribe = hub.subscribe("prices.eu.*").capacity(CAPACITY);
                let subscription = subscribe.overflow(overflow.clone()).now();
                subscription.expect("the settings are valid")
            })
            .collect();
        let mut publisher = hub.publisher("prices.eu.gold").expect("a subject");
        let (payload, mut sent) = (payload(), 0);
        async move || {
            let published = publisher.publish(payload.clone()).await;
            published.expect("the hub is open");
            sent += 1;
            if sent % burst != 0 {
                return 0;
            }
            let mut bytes = 0;
            for subscription in &mut subscriptions {
                for _ in 0..burst {
                    match subscription.recv().await {
                        Ok(Delivery::Message(message)) => bytes += message.payload().len(),
                        other => panic!("{other:?}"),
                    }
                }
            }
            bytes
        }
    })
}

fn tokio(subscribers: usize, burst: u64) -> Contender {
    Contender::tasks("tokio", 1, move || {
        let (sender, _) = broadcast::channel(CAPACITY);
        let mut receivers: Vec<_> = (0..subscribers).map(|_| sender.subscribe()).collect();
        let (payload, mut sent) = (payload(), 0);
        async move || {
            sender.send(payload.clone()).expect("there are receivers");
            sent += 1;
            if sent % burst != 0 {
                return 0;
            }
            let mut bytes = 0;
            for receiver in &mut receivers {
                for _ in 0..burst {
                    bytes += receiver.recv().await.expect("nothing is lost").len();
                }
            }
            bytes
        }
    })
}

fn async_broadcast(subscribers: usize, burst: u64) -> Contender {
    Contender::tasks("async-broadcast", 1, move || {
        let (sender, receiver) = async_broadcast::broadcast(CAPACITY);
        let mut receivers = vec![receiver; subscribers];
        let (payload, mut sent) = (payload(), 0);
        async move || {
            let lost = sender.broadcast(payload.clone()).await;
            lost.expect("there are receivers");
            sent += 1;
            if sent % burst != 0 {
                return 0;
            }
            let mut bytes = 0;
            for receiver in &mut receivers {
                for _ in 0..burst {
                    bytes += receiver.recv().await.expect("nothing is lost").len();
                }
            }
            bytes
        }
    })
}

/// Heap bytes of a message.
pub(super) fn bytes() -> Case {
    let run = |name: &'static str| match name {
        "tokio" => Contender::task_bytes(name, || {
            let (sender, _) = broadcast::channel(CAPACITY);
            let mut receivers: Vec<_> = (0..8).map(|_| sender.subscribe()).collect();
            let payload = payload();
            async move || {
                sender.send(payload.clone()).expect("there are receivers");
                for receiver in &mut receivers {
                    receiver.recv().await.expect("nothing is lost");
                }
            }
        }),
        _ => Contender::task_bytes(name, || {
            let hub = PubSub::default();
            let mut subscriptions: Vec<_> = (0..8)
                .map(|_| hub.subscribe("prices.>").now().expect("valid"))
                .collect();
            let mut publisher = hub.publisher("prices.eu.gold").expect("a subject");
            let payload = payload();
            async move || {
                let published = publisher.publish(payload.clone()).await;
                published.expect("the hub is open");
                for subscription in &mut subscriptions {
                    subscription.recv().await.expect("a message");
                }
            }
        }),
    };
    case(
        "publish and receive",
        "Heap bytes of one message for eight subscribers: ours makes one allocation for subject, payload and headers, \
         tokio has its slots.",
        run("dpat-pubsub"),
        vec![run("tokio")],
    )
    .param("shape", shape(1, 8))
    .param("burst", BURST.min(1))
    .bytes()
}
