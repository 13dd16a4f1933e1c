//! Ships what is paid for.

use dpat_core::{Clock, Deadline};
use serde::{Deserialize, Serialize};

use super::ports::{
    CallError, Env, Gauges, Reply, Request, Service, Step, Store, StoreError, Table, Write, encode,
};
use super::{bad_body, unavailable};
use crate::shop::domain::{Item, OrderCompleted};
use crate::shop::idempotency::{self, Memory, Message};
use crate::shop::workflow::micros;

/// Every parcel: `order_id/number` → [`Shipment`].
pub const SHIPMENTS: Table = Table("shipments");

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

/// The shipping service.
#[derive(Clone, Debug)]
pub struct Shipping<E> {
    env: E,
}

impl<E: Env> Shipping<E> {
    /// Makes a shipping service.
    pub fn new(env: E) -> Self {
        Self { env }
    }

    async fn ship(&self, request: Request) -> Result<Reply, CallError> {
        let event: OrderCompleted =
            serde_json::from_slice(&request.body).map_err(|_| bad_body())?;
        let message = Message::of(&self.env, "ship", &event.event_id, &request.body)
            .map_err(|_| bad_body())?;
        let at_us = micros(self.env.time().now());
        self.env
            .store()
            .transact(move |tx| {
                idempotency::once(tx, Memory::On, &message, |tx| pack(tx, event, at_us))
            })
            .await
            .map_err(|error| unavailable(&error))
    }
}

fn pack(tx: &mut dyn Write, event: OrderCompleted, at_us: u64) -> Result<Reply, StoreError> {
    let mut number = 0_usize;
    tx.scan(SHIPMENTS, &format!("{}/", event.order_id), &mut |_, _| {
        number += 1;
        true
    })?;
    let key = format!("{}/{number:06}", event.order_id);
    let shipment = Shipment {
        event_id: event.event_id,
        items: event.items,
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
        idempotency::keep(&self.env).await
    }

    fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}
