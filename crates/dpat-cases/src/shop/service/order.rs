//! Keeps orders and drives each of them to its end.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dpat_core::{Class, Clock, Deadline, Uuid7Generator};
use dpat_outbox::{Relay, RelayConfig};
use futures_util::StreamExt;
use futures_util::future::{Either, select};

use super::ports::{
    CallError, Env, Gauges, Reply, Request, Service, Step, Store, StoreError, decode, encode, parse,
};
use super::{bad_body, unavailable};
use crate::shop::domain::{Order, OrderRecord, State};
use crate::shop::notices::Notices;
use crate::shop::outbox::{self, ToShipping};
use crate::shop::work::WorkQueue;
use crate::shop::workflow::{self, FlowConfig, OPEN, ORDERS, micros};

/// How the order service works.
#[derive(Clone, Debug)]
pub struct OrderConfig {
    /// The flow of one order.
    pub flow: FlowConfig,
    /// How many orders are worked on at once.
    pub concurrency: usize,
    /// How many orders may wait; beyond that new ones are turned away.
    pub backlog_max: usize,
    /// How events are relayed to shipping.
    pub relay: RelayConfig,
    /// How long one delivery may take.
    pub delivery_timeout: Duration,
}

/// The order service.
#[derive(Clone, Debug)]
pub struct OrderService<E: Env> {
    env: E,
    config: OrderConfig,
    queue: WorkQueue<OrderRecord>,
    relay: Relay<E::Time>,
    shipping: ToShipping<E>,
    ids: Arc<Uuid7Generator>,
    counts: Arc<Counts>,
    notices: Notices,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    completed: AtomicU64,
    compensated: AtomicU64,
}

impl<E: Env> OrderService<E> {
    /// Makes an order service.
    pub fn new(env: E, config: OrderConfig) -> Self {
        let shipping = ToShipping::new(env.clone(), config.delivery_timeout);
        Self {
            queue: WorkQueue::default(),
            relay: outbox::relay(&env, config.relay.clone(), shipping.clone()),
            shipping,
            ids: Arc::default(),
            counts: Arc::default(),
            notices: env.notices(),
            env,
            config,
        }
    }

    async fn accept(&self, request: Request) -> Result<Reply, CallError> {
        if self.queue.len() >= self.config.backlog_max {
            return Err(
                CallError::not_done(Class::Overloaded, "too many orders wait")
                    .with_retry_after(Some(Duration::from_secs(1))),
            );
        }
        let order: Order = parse(&request.body).map_err(|_| bad_body())?;
        let mut record = OrderRecord {
            fingerprint: order.fingerprint(),
            order,
            state: State::Accepted,
            reason: None,
            charge_tried: false,
            history: Vec::with_capacity(4),
        };
        record.enter(State::Accepted, micros(self.env.time().now()));
        let order_id = record.order.order_id.clone();
        let row = encode(&record).map_err(|error| unavailable(&error))?;
        let known = self
            .env
            .store()
            .transact(move |tx| {
                if let Some(row) = tx.get(ORDERS, &order_id)? {
                    let known: OrderRecord = decode(ORDERS, &row)?;
                    return Ok(Some(known.fingerprint));
                }
                tx.put(ORDERS, &order_id, &row)?;
                tx.put(OPEN, &order_id, b"")?;
                Ok(None)
            })
            .await
            .map_err(|error| unavailable(&error))?;
        match known {
            None => {
                self.notices.tell(&record, self.env.time().now());
                self.enqueue(record);
                Ok(Reply::Accepted)
            }
            Some(known) if known == record.fingerprint => Ok(Reply::Accepted),
            Some(_) => Ok(Reply::Conflict),
        }
    }

    fn enqueue(&self, record: OrderRecord) {
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        self.queue.push(record);
    }

    async fn status(&self, order_id: String) -> Result<Reply, CallError> {
        let row = self
            .env
            .store()
            .read(move |tx| tx.get(ORDERS, &order_id))
            .await
            .map_err(|error| unavailable(&error))?;
        let Some(row) = row else {
            return Ok(Reply::NotFound);
        };
        let record: OrderRecord = decode(ORDERS, &row).map_err(|error| unavailable(&error))?;
        let document = serde_json::json!({
            "order_id": record.order.order_id,
            "state": record.state,
            "reason": record.reason,
            "history": record.history,
        });
        Ok(Reply::Document(document.to_string().into()))
    }

    async fn drive(&self, record: OrderRecord) -> Result<(), StoreError> {
        let (ids, notices) = (&self.ids, &self.notices);
        let finished = workflow::drive(&self.env, &self.config.flow, ids, notices, record).await?;
        let counter = match finished.state {
            State::Completed => &self.counts.completed,
            _ => &self.counts.compensated,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(event) = finished.event
            && !self.config.flow.outbox
        {
            // The dual write that an outbox replaces: whatever happens here, nobody will tell shipping again.
            let _arrived = self.shipping.send(&event, 0).await;
        }
        Ok(())
    }

    async fn work(&self) -> Result<(), StoreError> {
        let failed = self
            .queue
            .stream()
            .map(|record| self.drive(record))
            .buffer_unordered(self.config.concurrency)
            .filter_map(|result| core::future::ready(result.err()));
        match core::pin::pin!(failed).next().await {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl<E: Env> Service for OrderService<E> {
    async fn handle(&self, request: Request, _deadline: Deadline) -> Result<Reply, CallError> {
        match request.step {
            Step::Accept => self.accept(request).await,
            Step::Status => self.status(request.order_id).await,
            _ => Ok(Reply::NotFound),
        }
    }

    async fn resume(&self) -> Result<(), StoreError> {
        let open = self.env.store().read(|tx| {
            let mut ids = Vec::new();
            tx.scan(OPEN, "", &mut |id, _| {
                ids.push(id.to_owned());
                true
            })?;
            let mut records = Vec::with_capacity(ids.len());
            for id in ids {
                if let Some(row) = tx.get(ORDERS, &id)? {
                    records.push(decode::<OrderRecord>(ORDERS, &row)?);
                }
            }
            Ok(records)
        });
        for record in open.await? {
            self.enqueue(record);
        }
        // The relay finds by itself what a predecessor left.
        Ok(())
    }

    async fn run(&self) -> Result<(), StoreError> {
        let work = core::pin::pin!(self.work());
        let relay = core::pin::pin!(self.relay.run());
        match select(work, relay).await {
            Either::Left((result, _)) => result,
            Either::Right((error, _)) => Err(StoreError::Engine(error.to_string())),
        }
    }

    async fn gauges(&self) -> Gauges {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let accepted = read(&self.counts.accepted);
        let completed = read(&self.counts.completed);
        let compensated = read(&self.counts.compensated);
        Gauges {
            accepted,
            completed,
            compensated,
            open: accepted.saturating_sub(completed + compensated),
            // A store that does not tell may have some.
            outbox: self.env.store().backlog().await.unwrap_or(1),
            queued: 0,
        }
    }

    fn notices(&self) -> Option<&Notices> {
        Some(&self.notices)
    }
}
