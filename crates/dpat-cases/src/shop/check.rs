//! The invariants, recomputed from the stores after the end.
//!
//! Nothing here trusts a counter: every number is counted anew from the rows that survived.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::domain::{Item, OrderRecord, State, opening_stock};
use super::driver::Sent;
use super::record::{Check, FirstBad, Violation};
use super::service::inventory::{HOLDS, STOCK};
use super::service::payment::{Entry, Kind, LEDGER};
use super::service::ports::{Peer, Read, Reply, Store, StoreError, Table, decode};
use super::service::shipping::{SHIPMENTS, Shipment};
use super::shell::redb;
use super::workflow::ORDERS;

/// The rows of all stores.
#[derive(Debug, Default)]
pub struct Stores {
    /// By order id.
    pub orders: BTreeMap<String, OrderRecord>,
    /// Units on hand by SKU; absent means untouched.
    pub stock: BTreeMap<String, u64>,
    /// By order id.
    pub holds: BTreeMap<String, Vec<Item>>,
    /// By order id, oldest first.
    pub ledger: BTreeMap<String, Vec<Entry>>,
    /// By order id, oldest first.
    pub shipments: BTreeMap<String, Vec<Shipment>>,
}

fn rows<T: for<'de> serde::Deserialize<'de>>(
    tx: &dyn Read,
    table: Table,
) -> Result<Vec<(String, T)>, StoreError> {
    let mut rows = Vec::new();
    tx.scan(table, "", &mut |key, row| {
        rows.push(decode(table, row).map(|row| (key.to_owned(), row)));
        true
    })?;
    rows.into_iter().collect()
}

/// Strips the number from `order_id/number`.
fn owner(key: &str) -> String {
    key.rsplit_once('/')
        .map_or(key, |(owner, _)| owner)
        .to_owned()
}

impl Stores {
    /// Opens the stores of a run that has ended, and reads all rows.
    ///
    /// # Errors
    /// Whatever the stores report.
    pub fn read(path: impl Fn(Peer) -> std::path::PathBuf) -> Result<Self, StoreError> {
        let mut stores = Self::default();
        with_store(&path(Peer::Order), |tx| {
            stores.orders = rows(tx, ORDERS)?.into_iter().collect();
            Ok(())
        })?;
        with_store(&path(Peer::Inventory), |tx| {
            stores.stock = rows(tx, STOCK)?.into_iter().collect();
            stores.holds = rows(tx, HOLDS)?.into_iter().collect();
            Ok(())
        })?;
        with_store(&path(Peer::Payment), |tx| {
            for (key, entry) in rows(tx, LEDGER)? {
                stores.ledger.entry(owner(&key)).or_default().push(entry);
            }
            Ok(())
        })?;
        with_store(&path(Peer::Shipping), |tx| {
            for (key, shipment) in rows(tx, SHIPMENTS)? {
                stores
                    .shipments
                    .entry(owner(&key))
                    .or_default()
                    .push(shipment);
            }
            Ok(())
        })?;
        Ok(stores)
    }

    fn in_state(&self, state: State) -> u64 {
        let of_state = |record: &&OrderRecord| record.state == state;
        self.orders.values().filter(of_state).count() as u64
    }

    /// Counts completed orders.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.in_state(State::Completed)
    }

    /// Counts compensated orders.
    #[must_use]
    pub fn compensated(&self) -> u64 {
        self.in_state(State::Compensated)
    }
}

fn with_store(
    path: &Path,
    work: impl FnOnce(&dyn Read) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (store, owner) = redb::open(path, Arc::new(AtomicBool::new(false)))?;
    let result = store.read(work);
    drop(store);
    owner.join()?;
    result
}

/// Counts how often one invariant is broken, and keeps the first time.
#[derive(Debug)]
pub struct Tally {
    check: Check,
    first: Option<FirstBad>,
}

impl Tally {
    /// Starts at zero.
    #[must_use]
    pub fn new(invariant: &str, says: &str, limit: u64) -> Self {
        Self {
            check: Check {
                invariant: invariant.to_owned(),
                says: says.to_owned(),
                looked_at: 0,
                count: 0,
                limit,
            },
            first: None,
        }
    }

    /// Counts one thing looked at.
    pub fn look(&mut self) {
        self.check.looked_at += 1;
    }

    /// Counts `count` breaks.
    pub fn bad(&mut self, count: u64, order_id: Option<&str>, at_ms: u64, event: String) {
        self.check.count += count;
        if self.first.as_ref().is_none_or(|first| at_ms < first.at_ms) {
            self.first = Some(FirstBad {
                order_id: order_id.map(str::to_owned),
                at_ms,
                event,
            });
        }
    }

    /// Returns how often it is broken.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.check.count
    }

    /// Says whether it holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.check.count <= self.check.limit
    }
}

/// The result of all checks.
#[derive(Debug, Default)]
pub struct Findings {
    /// Every invariant.
    pub checks: Vec<Check>,
    /// Those that do not hold.
    pub violations: Vec<Violation>,
}

impl Findings {
    /// Adds an invariant; returns how often it is broken.
    pub fn add(&mut self, tally: Tally) -> u64 {
        let count = tally.count();
        if !tally.holds() {
            self.violations.push(Violation {
                invariant: tally.check.invariant.clone(),
                count,
                limit: tally.check.limit,
                first: tally.first,
            });
        }
        self.checks.push(tally.check);
        count
    }
}

/// Every order that a customer saw accepted is there.
#[must_use]
pub fn acknowledged_durable(stores: &Stores, sent: &[Sent]) -> Tally {
    let mut tally = Tally::new(
        "acknowledged_durable",
        "every order answered with 202 is in the order store",
        0,
    );
    for sent in sent {
        if sent.answer != Ok(Reply::Accepted) {
            continue;
        }
        tally.look();
        if !stores.orders.contains_key(&sent.order_id) {
            tally.bad(
                1,
                Some(&sent.order_id),
                sent.answered_us / 1_000,
                "202 was sent, but the order is not in the store".to_owned(),
            );
        }
    }
    tally
}

/// Every accepted order reaches exactly one terminal state, and stays there.
#[must_use]
pub fn terminal_once(stores: &Stores) -> Tally {
    let mut tally = Tally::new(
        "terminal_once",
        "every accepted order reaches exactly one terminal state",
        0,
    );
    for (order_id, record) in &stores.orders {
        tally.look();
        let terminal = |change: &&super::domain::Change| change.state.is_terminal();
        let reached = record.history.iter().filter(terminal).count();
        if reached != 1 || !record.state.is_terminal() {
            tally.bad(
                1,
                Some(order_id),
                record.history.last().map_or(0, |last| last.at_us / 1_000),
                format!("{reached} terminal states, now {}", record.state.name()),
            );
        }
    }
    tally
}

/// Units on hand and units held are what there was; only completed orders hold any.
#[must_use]
pub fn stock_conserved(stores: &Stores) -> Tally {
    let mut tally = Tally::new(
        "stock_conserved",
        "opening stock = on hand + held, and exactly the completed orders hold their items",
        0,
    );
    let mut held = BTreeMap::<&str, u64>::new();
    for items in stores.holds.values() {
        for item in items {
            *held.entry(&item.sku).or_default() += u64::from(item.quantity);
        }
    }
    let skus: BTreeSet<&str> = held
        .keys()
        .copied()
        .chain(stores.stock.keys().map(String::as_str))
        .collect();
    for sku in skus {
        tally.look();
        let opening = opening_stock(sku);
        let on_hand = stores.stock.get(sku).copied().unwrap_or(opening);
        let taken = held.get(sku).copied().unwrap_or(0);
        if on_hand + taken != opening {
            tally.bad(
                opening.abs_diff(on_hand + taken),
                None,
                0,
                format!("{sku}: {on_hand} on hand + {taken} held, opened with {opening}"),
            );
        }
    }
    for (order_id, record) in &stores.orders {
        tally.look();
        let holds = stores.holds.get(order_id);
        let right = match record.state {
            State::Completed => holds == Some(&record.order.items),
            State::Compensated => holds.is_none(),
            // An order that is not terminal is counted elsewhere.
            _ => true,
        };
        if !right {
            tally.bad(
                1,
                Some(order_id),
                record.done_at_us().unwrap_or(0) / 1_000,
                format!("{} and holds {holds:?}", record.state.name()),
            );
        }
    }
    tally
}

/// What a completed order costs is charged; what an undone order was charged is refunded.
///
/// Charges beyond the first are the business of [`single_charge`].
#[must_use]
pub fn money_conserved(stores: &Stores) -> Tally {
    let mut tally = Tally::new(
        "money_conserved",
        "a completed order is charged what it costs and not refunded; an undone order is refunded what it was charged",
        0,
    );
    for (order_id, record) in &stores.orders {
        tally.look();
        let entries = stores.ledger.get(order_id).map_or(&[][..], Vec::as_slice);
        let sum = |kind: Kind| -> u64 {
            let of_kind = entries.iter().filter(|entry| entry.kind == kind);
            of_kind.map(|entry| entry.cents).sum()
        };
        let right = match record.state {
            State::Completed => {
                let price = record.order.payment_cents;
                let charges = |entry: &Entry| entry.kind == Kind::Charge && entry.cents == price;
                !entries.is_empty() && entries.iter().all(charges)
            }
            State::Compensated => sum(Kind::Charge) == sum(Kind::Refund),
            _ => true,
        };
        if !right {
            tally.bad(
                1,
                Some(order_id),
                record.done_at_us().unwrap_or(0) / 1_000,
                format!(
                    "{}: charged {} and refunded {} cents for an order of {}",
                    record.state.name(),
                    sum(Kind::Charge),
                    sum(Kind::Refund),
                    record.order.payment_cents
                ),
            );
        }
    }
    for (order_id, entries) in &stores.ledger {
        if !stores.orders.contains_key(order_id) {
            let at_ms = entries.first().map_or(0, |entry| entry.at_us / 1_000);
            tally.bad(1, Some(order_id), at_ms, "no such order".to_owned());
        }
    }
    tally
}

/// No order is charged twice.
#[must_use]
pub fn single_charge(stores: &Stores) -> Tally {
    let mut tally = Tally::new("single_charge", "no order is charged more than once", 0);
    for (order_id, entries) in &stores.ledger {
        tally.look();
        let charges: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.kind == Kind::Charge)
            .collect();
        if let [_, second, ..] = charges[..] {
            tally.bad(
                charges.len() as u64 - 1,
                Some(order_id),
                second.at_us / 1_000,
                format!("charged {} times {} cents", charges.len(), second.cents),
            );
        }
    }
    tally
}

/// Every completed order is shipped exactly once, and no other.
#[must_use]
pub fn event_once(stores: &Stores) -> (Tally, u64) {
    let mut tally = Tally::new(
        "event_once",
        "the event of every completed order takes effect exactly once, and no other does",
        0,
    );
    let mut lost = 0;
    for (order_id, record) in &stores.orders {
        if record.state != State::Completed {
            continue;
        }
        tally.look();
        let parcels = stores.shipments.get(order_id).map_or(0, Vec::len) as u64;
        let at_ms = record.done_at_us().unwrap_or(0) / 1_000;
        if parcels == 0 {
            lost += 1;
            let event = "completed, but its event never reached shipping".to_owned();
            tally.bad(1, Some(order_id), at_ms, event);
        } else if parcels > 1 {
            let event = format!("shipped {parcels} times");
            tally.bad(parcels - 1, Some(order_id), at_ms, event);
        }
    }
    for (order_id, parcels) in &stores.shipments {
        let completed = |record: &OrderRecord| record.state == State::Completed;
        if !stores.orders.get(order_id).is_some_and(completed) {
            let at_ms = parcels.first().map_or(0, |parcel| parcel.at_us / 1_000);
            let event = "shipped, but not completed".to_owned();
            tally.bad(parcels.len() as u64, Some(order_id), at_ms, event);
        }
    }
    (tally, lost)
}
