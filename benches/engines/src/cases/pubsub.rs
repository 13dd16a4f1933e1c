//! Publish and subscribe, one to one: each engine against its bare client.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dpat_pubsub::{Delivery, PubSub, Subject, Subscription};
use futures_util::StreamExt as _;
use redis::AsyncCommands as _;
use tokio::sync::{Mutex, Semaphore};

use super::PAYLOAD;
use crate::harness::{Case, Contender, Timed, nanos};
use crate::servers::{Servers, named};

pub(super) const NOTES: &str = "\
Both sides have one connection that publishes and one that is subscribed to the same subject, which is made once: what is \
measured checks no text again. A message is under way from its \
publication until it has been read; so many may be. Nothing is kept, and nothing is synced.";

const WORK: &str = "\
    One publishes, one receives, at most so many messages under way; a single operation lasts from publishing to reading.";

/// Sends messages through a window: `publish` gives one to the client, `receive` takes the next one out.
async fn through<P, PF, R, RF>(count: u64, window: usize, publish: P, receive: R) -> Timed
where
    P: Fn(Bytes) -> PF + Send + 'static,
    PF: Future<Output = ()> + Send + 'static,
    R: Fn() -> RF,
    RF: Future<Output = Bytes>,
{
    let room = Arc::new(Semaphore::new(window));
    let start = Instant::now();
    let publisher = tokio::spawn({
        let room = Arc::clone(&room);
        async move {
            for _ in 0..count {
                room.acquire().await.expect("never closed").forget();
                let mut payload = vec![7; PAYLOAD];
                let at = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                payload[..8].copy_from_slice(&at.to_le_bytes());
                publish(payload.into()).await;
            }
        }
    });
    let mut each = Vec::new();
    for _ in 0..count {
        let payload = receive().await;
        let mut at = [0; 8];
        at.copy_from_slice(&payload[..8]);
        let at = std::time::Duration::from_nanos(u64::from_le_bytes(at));
        each.push(nanos(start.elapsed().saturating_sub(at)));
        room.add_permits(1);
    }
    publisher.await.expect("it does not panic");
    Timed {
        elapsed: start.elapsed(),
        each,
    }
}

fn case(engine: String, in_flight: usize, ours: Contender, peer: Contender) -> Case {
    Case {
        pattern: "pubsub",
        operation: "publish and receive",
        engine,
        in_flight,
        least: 1,
        work: WORK,
        ours,
        peers: vec![peer],
    }
}

/// Ours: what publishes, and what reads with the hub that it is of.
fn ours(
    name: &str,
    in_flight: usize,
    hub: PubSub,
    (readers, reader): (PubSub, Subscription),
) -> Contender {
    let reader = Arc::new(Mutex::new(reader));
    let subject: Subject = "bench.one".parse().expect("a subject");
    Contender::new(name, move |count| {
        let _open = &readers;
        let (hub, reader, subject) = (hub.clone(), Arc::clone(&reader), subject.clone());
        async move {
            let publish = move |payload| {
                let (hub, subject) = (hub.clone(), subject.clone());
                async move {
                    hub.publish(subject, payload).await.expect("published");
                }
            };
            let receive = || async {
                match reader.lock().await.recv().await.expect("open") {
                    Delivery::Message(message) => message.payload().clone(),
                    Delivery::Lagged(lost) => panic!("{lost} were lost"),
                }
            };
            through(count, in_flight, publish, receive).await
        }
    })
}

pub(super) async fn nats(servers: &Servers, in_flight: usize) -> Vec<Case> {
    use dpat_nats::{Config, Connection, CorePubSub};
    let (url, engine) = (servers.nats.url(), named(&servers.nats));
    let config = Config::new(&url).expect("a URL");
    let open = || async { Connection::open(&config).await.expect("connected") };
    let hub = CorePubSub::new(&open().await).hub();
    let readers = CorePubSub::new(&open().await).hub();
    let reader = readers.subscribe("bench.one").capacity(1_000).await;
    let reader = reader.expect("subscribed");
    let ours = ours("dpat-nats", in_flight, hub, (readers, reader));

    let client = super::nats::connect(&url).await;
    let reader = super::nats::connect(&url).await;
    let subscriber = reader.subscribe("bare.one").await.expect("subscribed");
    reader.flush().await.expect("flushed");
    let subscriber = Arc::new(Mutex::new(subscriber));
    let peer = Contender::new("async-nats", move |count| {
        let (client, subscriber) = (client.clone(), Arc::clone(&subscriber));
        async move {
            let publish = move |payload| {
                let client = client.clone();
                async move {
                    let published = client.publish("bare.one", payload).await;
                    published.expect("published");
                }
            };
            let receive = || async {
                let next = subscriber.lock().await.next().await;
                next.expect("subscribed").payload
            };
            through(count, in_flight, publish, receive).await
        }
    });
    vec![case(engine, in_flight, ours, peer)]
}

pub(super) async fn redis(servers: &Servers, in_flight: usize) -> Vec<Case> {
    use dpat_redis::{ChannelHub, Config};
    let (url, engine) = (servers.redis.url(), named(&servers.redis));
    let config = Config::new(&url, "pubsub").expect("a name");
    let hub = ChannelHub::open(&config).await.expect("connected").hub();
    let reader = hub.subscribe("bench.one").capacity(1_000).await;
    let reader = reader.expect("subscribed");
    let ours = ours("dpat-redis", in_flight, hub.clone(), (hub, reader));

    let client = redis::Client::open(&*url).expect("a URL");
    let connection = client.get_multiplexed_async_connection().await;
    let connection = connection.expect("connected");
    let mut subscriber = client.get_async_pubsub().await.expect("connected");
    let subscribed = subscriber.subscribe("bare:one").await;
    subscribed.expect("subscribed");
    let subscriber = Arc::new(Mutex::new(subscriber.into_on_message()));
    let peer = Contender::new("redis", move |count| {
        let (connection, subscriber) = (connection.clone(), Arc::clone(&subscriber));
        async move {
            let publish = move |payload: Bytes| {
                let mut connection = connection.clone();
                async move {
                    let told: Result<i64, _> = connection.publish("bare:one", &payload[..]).await;
                    told.expect("published");
                }
            };
            let receive = || async {
                let next = subscriber.lock().await.next().await;
                let payload = next.expect("subscribed").get_payload::<Vec<u8>>();
                Bytes::from(payload.expect("bytes"))
            };
            through(count, in_flight, publish, receive).await
        }
    });
    vec![case(engine, in_flight, ours, peer)]
}
