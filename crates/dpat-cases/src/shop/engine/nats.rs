//! The queue on JetStream, and notices on NATS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dpat_core::{Class, Classify as _, Effect};
use dpat_nats::{Config, Connection, CorePubSub, EngineError, QueueSettings, StreamQueue};
use dpat_pubsub::PubSub;
use dpat_queue::{
    Backend, BackendError, Capabilities, Capability, DeadLetter, Delivery, ManageError, Message,
    MessageId, Peeked, Queue, Receipt, ReceiveError, SendError, Sent, SettleError, Settlement,
    Stats,
};
use tokio::time::Instant;

use super::Place;
use super::queue::LEASE;
use crate::shop::service::ports::StoreError;
use crate::shop::service::shipping::{EVENT_BYTES_MAX, QUEUE_BYTES_MAX};

/// How many messages are read at once of what is left.
const PAGE: usize = 1_000;
/// How long what is left may take to be read: all of it may be out, and comes again when its leases end.
const READ_MAX: Duration = Duration::from_secs(60);

fn failed(error: &dyn std::error::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

async fn connect(place: &Place) -> Result<Connection, StoreError> {
    let config = Config::new(place.url.reveal()).map_err(|error| failed(&error))?;
    let config = config.name("dpat-shop").map_err(|error| failed(&error))?;
    Connection::open(&config)
        .await
        .map_err(|error| failed(&error))
}

/// Opens the hub of a run.
pub(super) async fn hub(place: &Place) -> Result<PubSub, StoreError> {
    Ok(CorePubSub::new(&connect(place).await?).hub())
}

/// Opens or creates the queue of a run.
pub(super) async fn queue(place: &Place, backpressure: bool) -> Result<Queue, StoreError> {
    let connection = connect(place).await?;
    let settings = QueueSettings::new(&place.run)
        .map_err(|error| failed(&error))?
        .visibility(LEASE)
        .message_bytes_max(EVENT_BYTES_MAX);
    // The server sets aside what is allowed, so that the other side has a limit too, which no run comes near.
    let settings = match backpressure {
        true => settings.bytes_max(QUEUE_BYTES_MAX),
        false => settings.messages_max(100_000_000),
    };
    let stream = StreamQueue::open(&connection, settings)
        .await
        .map_err(|error| failed(&error))?;
    Ok(Queue::on(Arc::new(Counted {
        queue: stream.queue(),
        stream,
    })))
}

/// A queue on JetStream that the shop can count, by what the server tells, and whose rest it can read once nobody else does.
struct Counted {
    stream: StreamQueue,
    queue: Queue,
}

fn not_counted(error: EngineError) -> ManageError {
    BackendError::new(error.class(), error.effect(), error).into()
}

fn not_read(error: ReceiveError) -> ManageError {
    match error {
        ReceiveError::Backend(error) => error.into(),
        other => BackendError::new(other.class(), Effect::NotDone, other).into(),
    }
}

#[async_trait]
impl Backend for Counted {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn capabilities(&self) -> Capabilities {
        let own = self.queue.capabilities();
        let mut all: Vec<Capability> = Capability::ALL
            .into_iter()
            .filter(|one| own.has(*one))
            .collect();
        all.push(Capability::Inspect);
        Capabilities::of(&all)
            .with_order(own.order)
            .with_survival(own.survives)
            .with_message_bytes_max(own.message_bytes_max)
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        self.stream.send(batch).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        self.stream.receive(max, wait).await
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
        self.stream.settle(batch).await
    }

    async fn drain(&self) {
        self.stream.drain().await;
    }

    async fn extend(&self, batch: Vec<Receipt>, by: Duration) -> Vec<Result<(), SettleError>> {
        self.stream.extend(batch, by).await
    }

    async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        self.stream.dead_letters(after, max).await
    }

    /// Receives all that is left, in one page, and settles none of it; fails if it does not come in time.
    async fn peek(&self, after: Option<MessageId>, _: usize) -> Result<Vec<Peeked>, ManageError> {
        let mut seen = BTreeMap::new();
        if after.is_some() {
            return Ok(Vec::new());
        }
        let until = Instant::now() + READ_MAX;
        loop {
            let left = self.stream.status().await.map_err(not_counted)?.messages;
            if seen.len() as u64 >= left {
                break;
            }
            if Instant::now() >= until {
                // A part would read as if the rest were lost.
                let seen = seen.len();
                let what =
                    format!("{seen} of the {left} messages that are left came within {READ_MAX:?}");
                let error = std::io::Error::other(what);
                return Err(BackendError::new(Class::Timeout, Effect::NotDone, error).into());
            }
            let page = self
                .stream
                .receive(PAGE, Duration::from_secs(1))
                .await
                .map_err(not_read)?;
            for one in page {
                let id = one.id();
                let peeked = Peeked {
                    id,
                    message: Message::new(one.payload().clone()),
                    sent_at: one.sent_at,
                    count: one.count,
                    leased: true,
                    reason: None,
                };
                seen.insert(id, peeked);
            }
        }
        Ok(seen.into_values().collect())
    }

    async fn stats(&self) -> Result<Stats, ManageError> {
        let status = self.stream.status().await.map_err(not_counted)?;
        let mut stats = Stats::default();
        stats.ready = status.fresh;
        stats.leased = status.out;
        stats.dead = status.dead;
        stats.bytes = status.bytes;
        stats.redelivered = status.redelivered;
        Ok(stats)
    }
}
