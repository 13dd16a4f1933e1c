//! Telling another service about a change, exactly when the change is durable.
//!
//! The event is a row that the change's own transaction writes; a relay delivers rows at least once and removes
//! them. The receiver makes it once ([`super::idempotency`]).

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dpat_core::{Backoff, Clock, Deadline, Sleep};
use futures_util::StreamExt;

use super::domain::OrderCompleted;
use super::service::ports::{
    Env, Peer, Read, Reply, Request, Step, Store, StoreError, Table, Transport, Write, decode,
    encode,
};
use super::work::WorkQueue;

/// Events: `event_id` → event.
pub const OUTBOX: Table = Table("outbox");

/// How many events are on their way at once.
const IN_FLIGHT_MAX: usize = 64;

/// Adds an event to the caller's transaction.
///
/// # Errors
/// Whatever the store reports.
pub fn append(tx: &mut dyn Write, event: &OrderCompleted) -> Result<(), StoreError> {
    tx.put(OUTBOX, &event.event_id, &encode(event)?)
}

/// Returns every event that is not known to be delivered.
///
/// # Errors
/// Whatever the store reports.
pub fn pending(tx: &dyn Read) -> Result<Vec<OrderCompleted>, StoreError> {
    let mut events = Vec::new();
    let mut bad = None;
    tx.scan(OUTBOX, "", &mut |_, row| match decode(OUTBOX, row) {
        Ok(event) => {
            events.push(event);
            true
        }
        Err(error) => {
            bad = Some(error);
            false
        }
    })?;
    bad.map_or(Ok(events), Err)
}

/// Delivers events to shipping.
#[derive(Clone, Debug)]
pub struct Relay<E> {
    env: E,
    queue: WorkQueue<OrderCompleted>,
    waiting: Arc<AtomicU64>,
    backoff: Backoff,
    attempt_timeout: Duration,
}

impl<E: Env> Relay<E> {
    /// Makes a relay that has nothing to do yet.
    pub fn new(env: E, backoff: Backoff, attempt_timeout: Duration) -> Self {
        Self {
            env,
            queue: WorkQueue::default(),
            waiting: Arc::default(),
            backoff,
            attempt_timeout,
        }
    }

    /// Tells the relay of an event whose transaction is durable.
    pub fn notify(&self, event: OrderCompleted) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.queue.push(event);
    }

    /// Returns how many events are not known to be delivered.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes up the events that a predecessor left.
    ///
    /// # Errors
    /// Whatever the store reports.
    pub fn resume(&self) -> Result<(), StoreError> {
        for event in self.env.store().read(|tx| pending(tx))? {
            self.notify(event);
        }
        Ok(())
    }

    /// Sends one event once, past any outbox.
    ///
    /// Returns whether it is known to have arrived.
    pub async fn send(&self, event: &OrderCompleted) -> bool {
        let Ok(body) = encode(event) else {
            return false;
        };
        let deadline = Deadline::after(self.env.time().now(), self.attempt_timeout);
        let request = Request::new(Step::Ship, &event.order_id, Bytes::from(body));
        let answer = self
            .env
            .transport()
            .call(Peer::Shipping, request, deadline)
            .await;
        matches!(answer, Ok(Reply::Done))
    }

    /// Delivers whatever comes; ends only if the store is gone.
    ///
    /// # Errors
    /// Whatever the store reports.
    pub async fn run(&self) -> Result<(), StoreError> {
        // At most one error can matter: the store is gone.
        let failed = self
            .queue
            .stream()
            .map(|event| self.deliver(event))
            .buffer_unordered(IN_FLIGHT_MAX)
            .filter_map(|result| core::future::ready(result.err()));
        match core::pin::pin!(failed).next().await {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn deliver(&self, event: OrderCompleted) -> Result<(), StoreError> {
        let mut delays = self.backoff.delays();
        while !self.send(&event).await {
            let delay = delays.next_delay(self.env.entropy());
            self.env.time().sleep(delay).await;
        }
        self.env
            .store()
            .transact(move |tx| tx.remove(OUTBOX, &event.event_id))
            .await?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}
