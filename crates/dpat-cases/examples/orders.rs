//! A small order service: its handlers know no engine, its constructors know one each.
//!
//! The page "From one process to PostgreSQL and NATS" of the book is about it:
//! `cargo run -p dpat-cases --example orders -- embedded`

#![allow(clippy::print_stdout)] // an example speaks to people

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{SystemEntropy, TokioTime};
use dpat_idempotency::{Answer, AnyStore, Fingerprint, Key, MemoryStore, Responses, RunError};
use dpat_pubsub::{Delivery, PubSub};
use dpat_queue::{Message, Outcome, Queue, SendError};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

// ANCHOR: service
/// The order service: what it remembers, what it leaves to be done, and where it tells of it.
struct Orders {
    responses: Responses<TokioTime>,
    queue: Queue,
    hub: PubSub,
}
// ANCHOR_END: service

// ANCHOR: handlers
impl Orders {
    /// Takes an order once, however often it is sent, and leaves it to be packed.
    async fn place(
        &self,
        id: &str,
        body: &'static str,
    ) -> std::result::Result<Answer, RunError<SendError>> {
        let key = Key::new("orders", id).expect("ids of this example are short");
        let same_body = Fingerprint::of(&[body.as_bytes()]);
        let take = |_attempt| async {
            self.queue.send(Message::new(body)).await?;
            Ok(Bytes::from("accepted"))
        };
        self.responses.run(&key, same_body, take).await
    }

    /// Packs the next order, tells of it, and only then settles it.
    async fn pack(&self) -> Result<()> {
        let delivery = self.queue.receive().await?;
        let order = delivery.payload().clone();
        self.hub.publish("orders.packed", order).await?;
        self.queue.settle(delivery.receipt, Outcome::Done).await?;
        Ok(())
    }
}
// ANCHOR_END: handlers

// ANCHOR: embedded
/// Everything in this process.
fn embedded() -> Result<Orders> {
    Ok(Orders {
        responses: remembering(MemoryStore::new()),
        queue: Queue::builder().in_memory(TokioTime)?,
        hub: PubSub::builder().name("orders").build()?,
    })
}

fn remembering(store: impl Into<AnyStore>) -> Responses<TokioTime> {
    Responses::new(Default::default(), store, TokioTime, SystemEntropy)
}
// ANCHOR_END: embedded

// ANCHOR: postgres
/// What is remembered and what is to be done are in PostgreSQL; who listens is in this process.
async fn postgres(url: &str) -> Result<Orders> {
    use dpat_postgres::{Config, QueueSettings, QueueStore, ResponseLimits, ResponseStore};

    let config = Config::new(url, "orders")?;
    let responses = ResponseStore::open(&config, ResponseLimits::DEFAULT).await?;
    let queue = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime).await?;
    Ok(Orders {
        responses: remembering(AnyStore::new(responses)),
        queue: queue.queue(),
        ..embedded()?
    })
}
// ANCHOR_END: postgres

// ANCHOR: nats
/// Everything is on NATS, for as many processes as there are.
async fn nats(url: &str) -> Result<Orders> {
    use dpat_nats::{Config, Connection, CorePubSub, QueueSettings, StreamQueue};
    use dpat_nats::{ResponseStore, StoreSettings};

    let connection = Connection::open(&Config::new(url)?.name("orders")?).await?;
    let settings = StoreSettings::new("order-responses")?.bytes_max(16 << 20);
    let responses = ResponseStore::open(&connection, settings).await?;
    let settings = QueueSettings::new("orders")?.bytes_max(16 << 20);
    let queue = StreamQueue::open(&connection, settings.dead_bytes_max(1 << 20)).await?;
    Ok(Orders {
        responses: remembering(AnyStore::new(responses)),
        queue: queue.queue(),
        hub: CorePubSub::new(&connection).hub(),
    })
}
// ANCHOR_END: nats

#[tokio::main]
async fn main() -> Result<()> {
    let engine = std::env::args().nth(1).unwrap_or_default();
    let url = |variable: &str| {
        std::env::var(variable).map_err(|_| format!("{variable} is not set: the URL of a server"))
    };
    let orders = match engine.as_str() {
        "embedded" => embedded()?,
        "postgres" => postgres(&url("DPAT_POSTGRES_URL")?).await?,
        "nats" => nats(&url("DPAT_NATS_URL")?).await?,
        _ => return Err("which one: embedded, postgres or nats?".into()),
    };
    let mut told = orders.hub.subscribe("orders.*").capacity(10).await?;

    // The second time is a customer who has not heard the first answer.
    for _ in 0..2 {
        let answer = orders.place("order-7", "order-7: 2 cups").await?;
        let how = if answer.replayed { "again" } else { "first" };
        println!("{how}: {}", String::from_utf8_lossy(&answer.response));
    }
    orders.pack().await?;
    if let Delivery::Message(message) = told.recv().await? {
        let order = String::from_utf8_lossy(message.payload());
        println!("{}: {order}", message.subject());
    }
    let left = orders.queue.receive_batch(1, Duration::ZERO).await?;
    println!("left to be packed: {}", left.len());
    Ok(())
}
