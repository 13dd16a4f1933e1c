//! Telling another service about a change, exactly when the change is durable: dpat-outbox, as the order service uses it.
//!
//! The change's own transaction writes the event; a relay delivers it at least once, and marks it. The receiver makes it
//! once ([`super::idempotency`]).

use core::time::Duration;

use async_trait::async_trait;
use dpat_core::{Class, Clock, Deadline, Uuid7Generator};
use dpat_outbox::{Delivery, Event, PublishError, Relay, RelayConfig, Sink};

use super::domain::OrderCompleted;
use super::service::ports::{Env, Peer, Reply, Request, Step, Store, StoreError, Transport, json};
use super::service::shipping::EntropyOf;
use super::workflow::ATTEMPTS_PER_TRY;

/// The topic of completed orders.
pub const COMPLETED: &str = "orders.completed";

/// Writes down that an order is completed.
///
/// # Errors
/// [`StoreError::Engine`], which does not happen for the ids of this program.
pub fn event<E: Env>(
    env: &E,
    ids: &Uuid7Generator,
    completed: &OrderCompleted,
) -> Result<Event, StoreError> {
    let failed = |error: &dyn std::error::Error| StoreError::Engine(error.to_string());
    let id = ids
        .next(env.time().wall(), env.entropy())
        .map_err(|error| failed(&error))?;
    Event::builder(id, COMPLETED)
        .key(&completed.order_id)
        .dedup(&completed.event_id)
        .payload(json(completed)?)
        .build()
        .map_err(|error| failed(&error))
}

/// Delivers events to shipping, by a call that shipping answers once the event is in its queue.
#[derive(Clone, Debug)]
pub struct ToShipping<E> {
    env: E,
    timeout: Duration,
}

impl<E: Env> ToShipping<E> {
    /// Makes a way to shipping; a delivery may take so long.
    pub const fn new(env: E, timeout: Duration) -> Self {
        Self { env, timeout }
    }

    /// Sends an event once; `attempt` counts the sendings before.
    ///
    /// # Errors
    /// [`PublishError`] of a delivery that is not known to have arrived.
    pub async fn send(&self, event: &Event, attempt: u32) -> Result<(), PublishError> {
        let deadline = Deadline::after(self.env.time().now(), self.timeout);
        let order_id = event.key().unwrap_or_default();
        let mut request = Request::new(Step::Ship, order_id, event.payload().clone());
        request.attempt = attempt;
        let transport = self.env.transport();
        match transport.call(Peer::Shipping, request, deadline).await {
            Ok(Reply::Done) => Ok(()),
            Ok(_) => Err(PublishError::new(Class::Permanent, "shipping refuses it")),
            Err(error) => Err(PublishError::of(error)),
        }
    }
}

#[async_trait]
impl<E: Env> Sink for ToShipping<E> {
    async fn publish(&self, delivery: Delivery<'_>) -> Result<(), PublishError> {
        let sendings = (delivery.attempt - 1).saturating_mul(ATTEMPTS_PER_TRY);
        self.send(delivery.event, sendings).await
    }
}

/// Makes the relay between the outbox of a service and shipping.
pub fn relay<E: Env>(env: &E, config: RelayConfig, to: ToShipping<E>) -> Relay<E::Time> {
    Relay::new(
        config,
        env.store().outbox(),
        std::sync::Arc::new(to),
        env.time().clone(),
        EntropyOf(env.clone()),
    )
}
