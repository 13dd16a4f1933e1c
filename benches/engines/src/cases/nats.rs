//! The bare client of NATS.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use async_nats::jetstream::{self, Context};
use futures_util::StreamExt as _;

use super::payload;
use crate::harness::{Contender, nothing};

const NAME: &str = "async-nats";

/// Connects.
pub(super) async fn connect(url: &str) -> async_nats::Client {
    async_nats::connect(url).await.expect("connected")
}

/// A work queue in a file, with one durable consumer.
struct Bare {
    context: Context,
    stream: jetstream::stream::Stream,
    consumer: PullConsumer,
    subject: String,
}

async fn bare(url: &str, name: &str) -> Bare {
    let context = jetstream::new(connect(url).await);
    let config = Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.ready")],
        retention: RetentionPolicy::WorkQueue,
        ..Config::default()
    };
    let stream = context.create_stream(config).await.expect("a stream");
    let consumer = pull::Config {
        durable_name: Some("all".to_owned()),
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 100_000,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(consumer).await.expect("a consumer");
    Bare {
        context,
        stream,
        consumer,
        subject: format!("{name}.ready"),
    }
}

impl Bare {
    async fn send(&self) {
        let sent = self.context.publish(self.subject.clone(), payload()).await;
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

pub(super) async fn sender(url: &str, in_flight: usize) -> Contender {
    let bare = Arc::new(bare(url, &format!("bare-send-{in_flight}")).await);
    let purged = Arc::clone(&bare);
    Contender::tasks(
        NAME,
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

pub(super) async fn cycler(url: &str, in_flight: usize) -> Contender {
    let bare = Arc::new(bare(url, &format!("bare-cycle-{in_flight}")).await);
    Contender::tasks(
        NAME,
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
