//! Keeps the stock.

use dpat_codec::Flat;
use dpat_core::Deadline;
use serde::{Deserialize, Serialize};

use super::ports::{
    CallError, Env, Gauges, Read, Reply, Request, Service, Step, Store, StoreError, Table, Write,
    decode, encode, parse,
};
use super::{bad_body, unavailable};
use crate::shop::domain::{Item, Reason, opening_stock};
use crate::shop::idempotency::{self, Memory, Message};

/// Units on hand: `sku` → [`Units`]. A missing row is the opening stock.
pub const STOCK: Table = Table("stock");
/// What is set aside or sold: `order_id` → [`Hold`].
pub const HOLDS: Table = Table("holds");

/// How many units there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units(pub u64);

/// What an order has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its items.
    pub items: Vec<Item>,
}

impl Flat for Units {}
impl Flat for Hold {}

/// The inventory service.
#[derive(Clone, Debug)]
pub struct Inventory<E> {
    env: E,
}

impl<E: Env> Inventory<E> {
    /// Makes an inventory service.
    pub fn new(env: E) -> Self {
        Self { env }
    }

    async fn reserve(&self, request: Request) -> Result<Reply, CallError> {
        let hold: Hold = parse(&request.body).map_err(|_| bad_body())?;
        let message = Message::of(&self.env, "reserve", &request.order_id, &request.body)
            .map_err(|_| bad_body())?;
        self.env
            .store()
            .transact(move |tx| {
                idempotency::once(tx, Memory::On, &message, |tx| {
                    take(tx, &request.order_id, &hold)
                })
            })
            .await
            .map_err(|error| unavailable(&error))
    }

    async fn release(&self, request: Request) -> Result<Reply, CallError> {
        let message = Message::of(&self.env, "reserve", &request.order_id, &request.body)
            .map_err(|_| bad_body())?;
        self.env
            .store()
            .transact(move |tx| {
                idempotency::cancel(tx, &message, |tx| give_back(tx, &request.order_id))
            })
            .await
            .map_err(|error| unavailable(&error))
    }
}

/// Returns how many units of an SKU are on hand.
///
/// # Errors
/// Whatever the store reports.
pub fn on_hand(tx: &(impl Read + ?Sized), sku: &str) -> Result<u64, StoreError> {
    match tx.get(STOCK, sku)? {
        Some(row) => decode(STOCK, &row).map(|Units(units)| units),
        None => Ok(opening_stock(sku)),
    }
}

fn take(tx: &mut dyn Write, order_id: &str, hold: &Hold) -> Result<Reply, StoreError> {
    // One SKU may stand on several lines: add up before looking.
    let mut wanted = std::collections::BTreeMap::<&str, u64>::new();
    for item in &hold.items {
        *wanted.entry(&item.sku).or_default() += u64::from(item.quantity);
    }
    let mut left = Vec::with_capacity(wanted.len());
    for (sku, quantity) in wanted {
        match on_hand(tx, sku)?.checked_sub(quantity) {
            Some(rest) => left.push((sku, rest)),
            None => return Ok(Reply::Refused(Reason::OutOfStock)),
        }
    }
    for (sku, rest) in left {
        tx.put(STOCK, sku, &encode(&Units(rest))?)?;
    }
    tx.put(HOLDS, order_id, &encode(hold)?)?;
    Ok(Reply::Done)
}

fn give_back(tx: &mut dyn Write, order_id: &str) -> Result<(), StoreError> {
    let Some(row) = tx.get(HOLDS, order_id)? else {
        return Ok(());
    };
    let hold: Hold = decode(HOLDS, &row)?;
    for item in hold.items {
        let units = on_hand(tx, &item.sku)?.saturating_add(u64::from(item.quantity));
        tx.put(STOCK, &item.sku, &encode(&Units(units))?)?;
    }
    tx.remove(HOLDS, order_id)
}

impl<E: Env> Service for Inventory<E> {
    async fn handle(&self, request: Request, _deadline: Deadline) -> Result<Reply, CallError> {
        match request.step {
            Step::Reserve => self.reserve(request).await,
            Step::Release => self.release(request).await,
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
