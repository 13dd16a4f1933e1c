//! Keeps the money.

use dpat_codec::Flat;
use dpat_core::{Clock, Deadline};
use serde::{Deserialize, Serialize};

use super::ports::{
    CallError, Env, Gauges, Read, Reply, Request, Service, Step, Store, StoreError, Table, Write,
    decode, encode, parse,
};
use super::{bad_body, unavailable};
use crate::shop::domain::{CARD_LIMIT_CENTS, Reason};
use crate::shop::idempotency::{self, Memory, Message};
use crate::shop::workflow::micros;

/// Every movement: `order_id/number` → [`Entry`]. Nothing is ever changed or removed.
pub const LEDGER: Table = Table("ledger");

/// What moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// From the customer.
    Charge,
    /// Back to the customer.
    Refund,
}

/// One movement of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which way.
    pub kind: Kind,
    /// How much.
    pub cents: u64,
    /// Whose money.
    pub customer: String,
    /// When, in microseconds since the start of the run.
    pub at_us: u64,
}

impl Flat for Entry {}

#[derive(Debug, Serialize, Deserialize)]
struct Body {
    customer: String,
    cents: u64,
}

/// The payment service.
#[derive(Clone, Debug)]
pub struct Payment<E> {
    env: E,
    memory: Memory,
}

impl<E: Env> Payment<E> {
    /// Makes a payment service that remembers its charges, or not.
    pub fn new(env: E, memory: Memory) -> Self {
        Self { env, memory }
    }

    async fn charge(&self, request: Request) -> Result<Reply, CallError> {
        let body: Body = parse(&request.body).map_err(|_| bad_body())?;
        let message = Message::of(&self.env, "charge", &request.order_id, &request.body)
            .map_err(|_| bad_body())?;
        let memory = self.memory;
        let at_us = micros(self.env.time().now());
        self.env
            .store()
            .transact(move |tx| {
                idempotency::once(tx, memory, &message, |tx| {
                    if body.cents > CARD_LIMIT_CENTS {
                        return Ok(Reply::Refused(Reason::CardDeclined));
                    }
                    let entry = Entry {
                        kind: Kind::Charge,
                        cents: body.cents,
                        customer: body.customer.clone(),
                        at_us,
                    };
                    append(tx, &request.order_id, &entry)?;
                    Ok(Reply::Done)
                })
            })
            .await
            .map_err(|error| unavailable(&error))
    }

    async fn void(&self, request: Request) -> Result<Reply, CallError> {
        let message = Message::of(&self.env, "charge", &request.order_id, &request.body)
            .map_err(|_| bad_body())?;
        let at_us = micros(self.env.time().now());
        self.env
            .store()
            .transact(move |tx| {
                idempotency::cancel(tx, &message, |tx| refund(tx, &request.order_id, at_us))
            })
            .await
            .map_err(|error| unavailable(&error))
    }
}

/// Returns the movements of one order, oldest first.
///
/// # Errors
/// Whatever the store reports.
pub fn movements(tx: &(impl Read + ?Sized), order_id: &str) -> Result<Vec<Entry>, StoreError> {
    let mut rows = Vec::new();
    tx.scan(LEDGER, &format!("{order_id}/"), &mut |_, row| {
        rows.push(decode(LEDGER, row));
        true
    })?;
    rows.into_iter().collect()
}

fn append(tx: &mut dyn Write, order_id: &str, entry: &Entry) -> Result<(), StoreError> {
    let number = movements(tx, order_id)?.len();
    tx.put(LEDGER, &format!("{order_id}/{number:06}"), &encode(entry)?)
}

/// Gives back everything that was taken for an order.
fn refund(tx: &mut dyn Write, order_id: &str, at_us: u64) -> Result<(), StoreError> {
    let taken = movements(tx, order_id)?;
    for entry in taken {
        if entry.kind == Kind::Charge {
            let entry = Entry {
                kind: Kind::Refund,
                at_us,
                ..entry
            };
            append(tx, order_id, &entry)?;
        }
    }
    Ok(())
}

impl<E: Env> Service for Payment<E> {
    async fn handle(&self, request: Request, _deadline: Deadline) -> Result<Reply, CallError> {
        match request.step {
            Step::Charge => self.charge(request).await,
            Step::Void => self.void(request).await,
            _ => Ok(Reply::NotFound),
        }
    }

    async fn run(&self) -> Result<(), StoreError> {
        idempotency::keep(&self.env).await
    }

    async fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}
