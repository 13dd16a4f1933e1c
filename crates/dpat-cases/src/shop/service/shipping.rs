//! Ships what is paid for: takes events into a queue, and packs a parcel for each.
//!
//! An event is acknowledged to the relay once it is in the queue, and to the queue once the parcel is in the store. What comes
//! twice is packed once, by the inbox.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dpat_codec::Flat;
use dpat_core::{Backoff, Class, Classify, Clock, Deadline, Effect, Entropy, Instant, Sleep};
use dpat_queue::{
    Builder, Capability, ConfigError, Delivery, Failure, Message, Outcome, Queue, SendError, Stats,
    WhenFull, Worker,
};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};

use super::ports::{
    CallError, Env, Gauges, Reply, Request, Service, Step, Store, StoreError, Table, Write, encode,
    parse,
};
use super::{bad_body, unavailable};
use crate::shop::chaos::Fate;
use crate::shop::domain::{Item, OrderCompleted};
use crate::shop::idempotency::{self, Memory};
use crate::shop::workflow::micros;

/// Every parcel: `order_id/number` → [`Shipment`].
pub const SHIPMENTS: Table = Table("shipments");

/// The point at which an event was taken from the queue, and nothing done yet.
pub const RECEIVED: &str = "shipment.received";

/// How many bytes may wait in the queue: 32 KiB, about 70 events.
pub const QUEUE_BYTES_MAX: u64 = 32 << 10;
/// The largest event.
pub const EVENT_BYTES_MAX: usize = 16 << 10;
/// How many parcels are packed at once, and how many events wait for a packer.
const PACKERS: usize = 8;
/// How often an event is tried before it becomes a dead letter.
pub const ATTEMPTS_MAX: u32 = 5;
/// How long packing one parcel may take.
const PACK_TIMEOUT: Duration = Duration::from_secs(10);
/// When to come again to a full queue.
const FULL_FOR: Duration = Duration::from_millis(50);
/// How often a queue that does not answer at once is asked what it has.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Returns the limits of the queue; without backpressure it takes whatever comes.
pub fn queue_limits(backpressure: bool) -> Builder {
    let builder = Queue::builder().message_bytes_max(EVENT_BYTES_MAX);
    match backpressure {
        // Whoever sends waits for room, as long as its caller is patient: the relay keeps the rest in the outbox.
        true => builder.bytes_max(QUEUE_BYTES_MAX).when_full(WhenFull::Wait),
        false => builder.bytes_max(1 << 40).messages_max(100_000_000),
    }
}

/// One parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    /// The event that caused it.
    pub event_id: String,
    /// What is in it.
    pub items: Vec<Item>,
    /// When it was packed, in microseconds since the start of the run.
    pub at_us: u64,
}

impl Flat for Shipment {}

/// The shipping service.
#[derive(Clone, Debug)]
pub struct Shipping<E: Env> {
    env: E,
    queue: Queue,
    worker: Worker<E::Time>,
    /// The most bytes that ever waited, in this life.
    high: Arc<AtomicU64>,
    /// What waited when a queue that does not answer at once was last asked.
    asked: Arc<AtomicU64>,
}

/// Packs what comes from the queue.
#[derive(Clone, Debug)]
struct Packer<E> {
    env: E,
    queue: Queue,
    /// Whether an event is acknowledged after it has taken effect.
    acknowledges: bool,
}

/// The entropy of an environment, for those who want one of their own.
pub(crate) struct EntropyOf<E>(pub(crate) E);

impl<E: Env> Entropy for EntropyOf<E> {
    fn next_u64(&self) -> u64 {
        self.0.entropy().next_u64()
    }
}

impl<E: Env> Shipping<E> {
    /// Makes a shipping service on a queue; `acknowledges` is whether it tells the queue of an effect, or of a receipt.
    ///
    /// # Errors
    /// A constant of this module that the worker refuses.
    pub fn new(env: E, queue: Queue, acknowledges: bool) -> Result<Self, ConfigError> {
        let packer = Packer {
            env: env.clone(),
            queue: queue.clone(),
            acknowledges,
        };
        let handler = move |delivery| {
            let packer = packer.clone();
            async move { packer.handle(delivery).await }
        };
        let backoff = Backoff::constant(Duration::from_millis(100));
        let worker = Worker::builder(queue.clone())
            .concurrency(PACKERS)
            .prefetch(PACKERS)
            .attempts_max(ATTEMPTS_MAX)
            .backoff(backoff)
            .handler_timeout(PACK_TIMEOUT)
            .build(env.time().clone(), EntropyOf(env.clone()), handler)?;
        Ok(Self {
            env,
            queue,
            worker,
            high: Arc::default(),
            // Until it has been asked it may have some.
            asked: Arc::new(AtomicU64::new(1)),
        })
    }

    async fn ship(&self, request: Request) -> Result<Reply, CallError> {
        let event: OrderCompleted = parse(&request.body).map_err(|_| bad_body())?;
        let mut message = Message::new(request.body.clone());
        if self.queue.capabilities().has(Capability::OrderedKeys) {
            message = message.key(event.order_id.as_str());
        }
        self.queue
            .send(message)
            .await
            .map_err(|error| refused(&error))?;
        if let Some(stats) = self.stats_at_once() {
            self.note(&stats, &event.order_id);
        }
        Ok(Reply::Done)
    }

    /// Counts, if the queue is one that answers at once: embedded ones do.
    fn stats_at_once(&self) -> Option<Stats> {
        let stats = (!self.env.is_remote()).then(|| self.queue.stats().now_or_never());
        stats.flatten()?.ok()
    }

    fn note(&self, stats: &Stats, order_id: &str) {
        if self.high.fetch_max(stats.bytes, Ordering::Relaxed) < stats.bytes {
            self.env.note_queued(stats.bytes, order_id);
        }
    }

    /// Asks a queue that does not answer at once, again and again.
    async fn ask(&self) -> Infallible {
        loop {
            if let Ok(stats) = self.queue.stats().await {
                let waiting = stats.ready + stats.waiting + stats.leased;
                self.asked.store(waiting, Ordering::Relaxed);
                self.note(&stats, "");
            }
            self.env.time().sleep(ASK_EVERY).await;
        }
    }
}

fn refused(error: &SendError) -> CallError {
    match (error, error.effect()) {
        (SendError::Full { .. }, _) => CallError::not_done(Class::Overloaded, "the queue is full")
            .with_retry_after(Some(FULL_FOR)),
        (_, Effect::NotDone) => CallError::not_done(error.class(), "the queue refuses"),
        (_, Effect::Unknown) => CallError::unknown(Class::Unavailable, "the queue failed"),
    }
}

impl<E: Env> Packer<E> {
    async fn handle(&self, delivery: Delivery) -> Result<(), Failure> {
        let event: OrderCompleted = parse(delivery.payload())
            .map_err(|error| Failure::reject(format!("the event does not decode: {error}")))?;
        if !self.acknowledges {
            // What `--without ack` does: whatever happens from here on, nobody sends it again.
            let _told = self.queue.settle(delivery.receipt, Outcome::Done).await;
        }
        self.env.at_point(RECEIVED, &event.order_id).await;
        let mut work = Request::new(Step::Pack, &event.order_id, delivery.payload().clone());
        work.attempt = delivery.attempt.saturating_sub(1);
        let fate = self.env.fate(&work);
        match fate {
            Fate::Pass | Fate::Drop => {}
            Fate::Error => return Err(Failure::retry("injected error")),
            Fate::Late(by) => self.env.time().sleep(by).await,
            Fate::Hang { until_us } => {
                let until = Instant::from_nanos(until_us.saturating_mul(1_000));
                self.env.time().sleep_until(until).await;
                return Err(Failure::retry("injected hang"));
            }
        }
        let message = idempotency::Message::of(&self.env, "ship", &event.event_id, &work.body)
            .map_err(Failure::reject)?;
        let at_us = micros(self.env.time().now());
        self.env
            .store()
            .transact(move |tx| {
                idempotency::once(tx, Memory::On, &message, |tx| pack(tx, &event, at_us))
            })
            .await
            .map_err(|error| Failure::retry(unavailable(&error)))?;
        match fate {
            Fate::Drop => Err(Failure::retry("injected: done, and the answer lost")),
            _ => Ok(()),
        }
    }
}

fn pack(tx: &mut dyn Write, event: &OrderCompleted, at_us: u64) -> Result<Reply, StoreError> {
    let mut number = 0_usize;
    tx.scan(SHIPMENTS, &format!("{}/", event.order_id), &mut |_, _| {
        number += 1;
        true
    })?;
    let key = format!("{}/{number:06}", event.order_id);
    let shipment = Shipment {
        event_id: event.event_id.clone(),
        items: event.items.clone(),
        at_us,
    };
    tx.put(SHIPMENTS, &key, &encode(&shipment)?)?;
    Ok(Reply::Done)
}

impl<E: Env> Service for Shipping<E> {
    async fn handle(&self, request: Request, _deadline: Deadline) -> Result<Reply, CallError> {
        match request.step {
            Step::Ship => self.ship(request).await,
            _ => Ok(Reply::NotFound),
        }
    }

    async fn run(&self) -> Result<(), StoreError> {
        let work = async {
            match self.worker.run().await {
                Ok(()) => Err(StoreError::Closed),
                Err(error) => Err(StoreError::Engine(error.to_string())),
            }
        };
        let work = core::pin::pin!(work);
        let keep = core::pin::pin!(idempotency::keep(&self.env));
        let both = select(work, keep);
        if self.stats_at_once().is_some() {
            return both.await.factor_first().0;
        }
        let ask = core::pin::pin!(self.ask());
        match select(both, ask).await {
            Either::Left((ended, _)) => ended.factor_first().0,
            Either::Right((never, _)) => match never {},
        }
    }

    async fn gauges(&self) -> Gauges {
        let waiting = match self.stats_at_once() {
            Some(stats) => stats.ready + stats.waiting + stats.leased,
            None => self.asked.load(Ordering::Relaxed),
        };
        Gauges {
            queued: waiting,
            ..Gauges::default()
        }
    }
}
