//! The bare client of NATS.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};
use async_nats::jetstream::{self, Context};
use dpat_core::{Clock as _, SystemClock};
use futures_util::StreamExt as _;

use super::{SAME, payload};
use crate::harness::{Contender, nothing};

/// A work queue that has no more than each message.
const PLAIN: &str = "async-nats@plain stream";

/// Connects.
pub(super) async fn connect(url: &str) -> async_nats::Client {
    async_nats::connect(url).await.expect("connected")
}

/// A work queue in a file, with one durable consumer.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    /// Bounded, refusing what is too much, remembering what was sent; each message says when it was sent.
    Same,
}

struct Bare {
    kind: Kind,
    context: Context,
    stream: jetstream::stream::Stream,
    consumer: PullConsumer,
    subject: String,
}

async fn bare(url: &str, name: &str, kind: Kind) -> Bare {
    let context = jetstream::new(connect(url).await);
    let mut config = Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.ready")],
        retention: RetentionPolicy::WorkQueue,
        ..Config::default()
    };
    if kind == Kind::Same {
        config.max_messages = 1_000_000;
        config.discard = DiscardPolicy::New;
        config.duplicate_window = Duration::from_secs(300);
    }
    let stream = context.create_stream(config).await.expect("a stream");
    let consumer = pull::Config {
        durable_name: Some("all".to_owned()),
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 100_000,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(consumer).await.expect("a consumer");
    Bare {
        kind,
        context,
        stream,
        consumer,
        subject: format!("{name}.ready"),
    }
}

impl Bare {
    async fn send(&self) {
        let subject = self.subject.clone();
        let sent = match self.kind {
            Kind::Plain => self.context.publish(subject, payload()).await,
            Kind::Same => {
                let mut headers = HeaderMap::new();
                headers.insert("Sent", SystemClock.wall().as_nanos().to_string());
                let sent = self
                    .context
                    .publish_with_headers(subject, headers, payload());
                sent.await
            }
        };
        sent.expect("sent").await.expect("acknowledged");
    }

    async fn receive(&self) -> jetstream::Message {
        let asked = self.consumer.batch().max_messages(1);
        let asked = asked.expires(Duration::from_secs(5));
        let mut batch = asked.messages().await.expect("asked");
        let message = batch.next().await.expect("a message");
        message.expect("received")
    }
}

/// The bare client, that sends: first what does the same work.
pub(super) async fn senders(url: &str, in_flight: usize) -> Vec<Contender> {
    let mut all = Vec::new();
    for (name, kind, stream) in kinds() {
        let bare = Arc::new(bare(url, &format!("{stream}-send-{in_flight}"), kind).await);
        all.push(sender(&name, bare, in_flight));
    }
    all
}

/// The bare client, in full cycles: first what does the same work.
pub(super) async fn cyclers(url: &str, in_flight: usize) -> Vec<Contender> {
    let mut all = Vec::new();
    for (name, kind, stream) in kinds() {
        let bare = Arc::new(bare(url, &format!("{stream}-cycle-{in_flight}"), kind).await);
        all.push(cycler(&name, bare, in_flight));
    }
    all
}

fn kinds() -> [(String, Kind, &'static str); 2] {
    [
        (format!("async-nats@{SAME}"), Kind::Same, "same"),
        (PLAIN.to_owned(), Kind::Plain, "plain"),
    ]
}

fn sender(name: &str, bare: Arc<Bare>, in_flight: usize) -> Contender {
    let purged = Arc::clone(&bare);
    Contender::tasks(
        name,
        in_flight,
        move || {
            let bare = Arc::clone(&bare);
            async move { bare.send().await }
        },
        move || {
            let bare = Arc::clone(&purged);
            async move {
                bare.stream.purge().await.expect("purged");
            }
        },
    )
}

fn cycler(name: &str, bare: Arc<Bare>, in_flight: usize) -> Contender {
    Contender::tasks(
        name,
        in_flight,
        move || {
            let bare = Arc::clone(&bare);
            async move {
                bare.send().await;
                let message = bare.receive().await;
                message.double_ack().await.expect("settled");
            }
        },
        nothing,
    )
}
