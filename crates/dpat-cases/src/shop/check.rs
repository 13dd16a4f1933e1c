//! The invariants, recomputed from the stores after the end.
//!
//! Nothing here trusts a counter: every number is counted anew from the rows that survived.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dpat_codec::Flat;
use dpat_core::Sleep;
use dpat_model::Script;
use dpat_queue::{ManageError, Message, Queue};
use serde::{Deserialize, Serialize};

use super::chaos::{self, Do};
use super::domain::{Item, OrderCompleted, OrderRecord, State, opening_stock};
use super::driver::Sent;
use super::engine::StoreSite;
use super::journal::{self, Call, Entry as JournalEntry, Injected, Queued};
use super::policy::{BUDGET_FLOOR, BUDGET_RATIO, BUDGET_WINDOW, MINIMUM_CALLS, OPEN_TIME, PROBES};
use super::record::{Check, FirstBad, Violation};
use super::service::inventory::{HOLDS, Hold, STOCK, Units};
use super::service::payment::{Entry, Kind, LEDGER};
use super::service::ports::{Peer, Read, Reply, Store, StoreError, Table, decode};
use super::service::shipping::{QUEUE_BYTES_MAX, SHIPMENTS, Shipment};
use super::supervisor::Outage;
use super::workflow::{ATTEMPTS_PER_TRY, ORDERS};

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
    /// Orders whose event the queue has acknowledged to the relay.
    pub acknowledged: BTreeSet<String>,
    /// Orders whose event waits in the queue.
    pub queued: BTreeSet<String>,
    /// Orders whose event was given up.
    pub dead: BTreeMap<String, Dead>,
}

/// An event that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// Why.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

fn rows<T: serde::de::DeserializeOwned + Flat>(
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

/// Returns which order a message of the queue is about; not every engine carries keys.
fn order_of(message: &Message) -> String {
    let event = serde_json::from_slice::<OrderCompleted>(message.payload());
    event.map_or_else(
        |_| message.get_key().unwrap_or_default().to_owned(),
        |event| event.order_id,
    )
}

/// Strips the number from `order_id/number`.
fn owner(key: &str) -> String {
    key.rsplit_once('/')
        .map_or(key, |(owner, _)| owner)
        .to_owned()
}

impl Stores {
    /// Reads all rows of one service.
    ///
    /// # Errors
    /// Whatever the store reports.
    pub fn of(peer: Peer, tx: &dyn Read) -> Result<Self, StoreError> {
        let mut stores = Self::default();
        match peer {
            Peer::Order => {
                stores.orders = rows(tx, ORDERS)?.into_iter().collect();
                tx.acknowledged(&mut |order_id| {
                    stores.acknowledged.insert(order_id.to_owned());
                })?;
            }
            Peer::Inventory => {
                let stock = rows(tx, STOCK)?.into_iter();
                stores.stock = stock.map(|(sku, Units(units))| (sku, units)).collect();
                let holds = rows(tx, HOLDS)?.into_iter();
                stores.holds = holds
                    .map(|(order_id, Hold { items })| (order_id, items))
                    .collect();
            }
            Peer::Payment => {
                for (key, entry) in rows(tx, LEDGER)? {
                    stores.ledger.entry(owner(&key)).or_default().push(entry);
                }
            }
            Peer::Shipping => {
                for (key, shipment) in rows(tx, SHIPMENTS)? {
                    let parcels = stores.shipments.entry(owner(&key)).or_default();
                    parcels.push(shipment);
                }
            }
            Peer::Gateway => {}
        }
        Ok(stores)
    }

    /// Adds the rows of another service.
    pub fn add(&mut self, other: Self) {
        self.orders.extend(other.orders);
        self.acknowledged.extend(other.acknowledged);
        self.stock.extend(other.stock);
        self.holds.extend(other.holds);
        self.ledger.extend(other.ledger);
        self.shipments.extend(other.shipments);
    }

    /// Opens the stores of a run that has ended, and reads all rows.
    ///
    /// # Errors
    /// Whatever the stores report.
    pub async fn read(
        site: impl Fn(Peer) -> StoreSite,
        time: &impl Sleep,
    ) -> Result<Self, StoreError> {
        let mut stores = Self::default();
        for peer in Peer::ALL {
            let (store, owner) = site(peer)
                .open(Arc::new(AtomicBool::new(false)), time)
                .await?;
            let found = store.read(move |tx| Self::of(peer, tx)).await;
            drop(store);
            owner.join()?;
            stores.add(found?);
        }
        Ok(stores)
    }

    /// Looks at what is left in the queue of shipping.
    ///
    /// # Errors
    /// Whatever the queue reports.
    pub async fn look_at(&mut self, queue: &Queue) -> Result<(), StoreError> {
        const PAGE: usize = 1_000;
        let failed = |error: ManageError| StoreError::Engine(format!("the queue: {error}"));
        let mut after = None;
        loop {
            let page = queue.peek(after, PAGE).await.map_err(failed)?;
            self.queued
                .extend(page.iter().map(|one| order_of(&one.message)));
            after = page.last().map(|one| one.id);
            if page.len() < PAGE {
                break;
            }
        }
        let mut after = None;
        loop {
            let page = queue.dead_letters(after, PAGE).await.map_err(failed)?;
            after = page.last().map(|letter| letter.id);
            let full = page.len() == PAGE;
            for letter in page {
                let dead = Dead {
                    reason: letter.reason.to_string(),
                    attempts: letter.count,
                };
                self.dead.insert(order_of(&letter.message), dead);
            }
            if !full {
                return Ok(());
            }
        }
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
                unit: None,
            },
            first: None,
        }
    }

    /// Starts a highest value, in a unit, at zero.
    #[must_use]
    fn highest(invariant: &str, says: &str, limit: u64, unit: &str) -> Self {
        let mut tally = Self::new(invariant, says, limit);
        tally.check.unit = Some(unit.to_owned());
        tally
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
        "the event of every completed order reaches the queue and takes effect at most once, and no other does",
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
        if parcels == 0 && !stores.acknowledged.contains(order_id) {
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

/// What the queue has acknowledged takes effect, waits, or is a dead letter.
#[must_use]
pub fn nothing_lost(stores: &Stores) -> Tally {
    let mut tally = Tally::new(
        "nothing_lost",
        "every event that the queue acknowledged has taken effect, waits, or is a dead letter",
        0,
    );
    for order_id in &stores.acknowledged {
        tally.look();
        let kept = stores.shipments.contains_key(order_id)
            || stores.queued.contains(order_id)
            || stores.dead.contains_key(order_id);
        if !kept {
            let record = stores.orders.get(order_id);
            let at_ms = record.and_then(OrderRecord::done_at_us).unwrap_or(0) / 1_000;
            let event = "the queue took the event, and nothing came of it".to_owned();
            tally.bad(1, Some(order_id), at_ms, event);
        }
    }
    tally
}

/// What waits in the queue stays within its limit.
///
/// Counted are the bytes that waited when it was fullest.
#[must_use]
pub fn bounded_memory(history: &History) -> Tally {
    let says = "the bytes that wait in the queue stay within its limit";
    let mut tally = Tally::highest("bounded_memory", says, QUEUE_BYTES_MAX, "bytes");
    let mut queued: Vec<&Queued> = history.queued.iter().collect();
    queued.sort_by_key(|queued| queued.at_us);
    for queued in queued {
        tally.look();
        let more = queued.bytes.saturating_sub(tally.check.count);
        if queued.bytes <= QUEUE_BYTES_MAX {
            tally.check.count += more;
        } else {
            let event = format!("{} bytes wait in the queue", queued.bytes);
            tally.bad(more, Some(&queued.order_id), queued.at_us / 1_000, event);
        }
    }
    tally
}

/// What cannot be handled is given up, and nothing else is.
#[must_use]
pub fn dead_letters(stores: &Stores, script: &Script) -> Tally {
    let mut tally = Tally::new(
        "dead_letters",
        "exactly the events that cannot be handled are dead letters",
        0,
    );
    let poison = |order_id: &str| chaos::means(script, Do::Error, order_id);
    for (order_id, dead) in &stores.dead {
        tally.look();
        if !poison(order_id) {
            let event = format!("a dead letter: {}", dead.reason);
            tally.bad(1, Some(order_id), 0, event);
        }
    }
    for (order_id, record) in &stores.orders {
        if record.state == State::Completed && poison(order_id) {
            tally.look();
            if !stores.dead.contains_key(order_id) {
                let event = "its event cannot be handled, and is no dead letter".to_owned();
                tally.bad(1, Some(order_id), 0, event);
            }
        }
    }
    tally
}

/// What the journals of all nodes tell.
#[derive(Debug, Default)]
pub struct History {
    /// Every call that failed, and every call about an order that is watched.
    pub calls: Vec<Call>,
    /// Every fault of a single request.
    pub faults: Vec<Injected>,
    /// How full the queue was, each time that it was fuller than before.
    pub queued: Vec<Queued>,
}

impl History {
    /// Reads the journals.
    ///
    /// # Errors
    /// Whatever the file system reports.
    pub fn read(path: impl Fn(Peer) -> std::path::PathBuf) -> std::io::Result<Self> {
        let mut history = Self::default();
        for peer in Peer::ALL {
            journal::read(&path(peer), |entry| history.add(entry))?;
        }
        Ok(history)
    }

    /// Adds an entry of a journal.
    pub fn add(&mut self, entry: JournalEntry) {
        match entry {
            JournalEntry::Call(call) => self.calls.push(call),
            JournalEntry::Fault(fault) => self.faults.push(fault),
            JournalEntry::Queued(queued) => self.queued.push(queued),
        }
    }
}

/// One lost request alone stops no order.
///
/// An order that a patient customer gave up is not looked at: on the way to the gateway it met more than that one error,
/// and the customers keep no journal.
#[must_use]
pub fn transient_survived(stores: &Stores, history: &History, patient: bool) -> Tally {
    let mut tally = Tally::new(
        "transient_survived",
        "every order whose only fault was one transient error is completed",
        0,
    );
    let mut failures = BTreeMap::<&str, u32>::new();
    for call in history.calls.iter().filter(|call| call.failed) {
        *failures.entry(&call.order_id).or_default() += 1;
    }
    let mut errors = BTreeMap::<&str, (u32, &Injected)>::new();
    for fault in &history.faults {
        // A late answer that came in time is no fault to the order.
        if fault.kind != Do::Latency.name() {
            errors.entry(&fault.order_id).or_insert((0, fault)).0 += 1;
        }
    }
    for (order_id, (count, fault)) in errors {
        let only = count == 1 && failures.get(order_id) == Some(&1);
        if !only || fault.kind != Do::Error.name() {
            continue;
        }
        let record = stores.orders.get(order_id);
        if record.is_none() && patient {
            continue;
        }
        if record.is_some_and(|record| {
            record
                .reason
                .is_some_and(super::domain::Reason::is_business)
        }) {
            continue;
        }
        tally.look();
        let state = record.map(|record| record.state);
        if state != Some(State::Completed) {
            tally.bad(
                1,
                Some(order_id),
                fault.at_us / 1_000,
                format!(
                    "one error at {} {}, and the order is {}",
                    fault.target,
                    fault.step.name(),
                    state.map_or("rejected", State::name)
                ),
            );
        }
    }
    tally
}

/// A service that is away is left in peace.
///
/// Counted for the caller that disturbs most: the calls that it sent and that failed, after the first
/// [`MINIMUM_CALLS`] failures of the outage were known to it. A breaker lets [`PROBES`] through each time its open time
/// ends.
#[must_use]
pub fn spared_calls(history: &History, outages: &[Outage]) -> Tally {
    let says = "calls to a service that is away, after the caller's first failures, stay within the breaker's probes";
    let mut worst = Tally::new("spared_calls", says, u64::from(PROBES));
    let mut worst_excess = None;
    let mut looked_at = 0;
    for outage in outages {
        let length = outage.until_us.saturating_sub(outage.from_us);
        let open_us = u64::try_from(OPEN_TIME.as_micros()).unwrap_or(u64::MAX);
        let limit = u64::from(PROBES) * (length / open_us + 1);
        let mut callers = BTreeMap::<(Peer, u32), Vec<&Call>>::new();
        for call in &history.calls {
            let within = call.start_us >= outage.from_us && call.start_us < outage.until_us;
            if call.to == outage.peer && call.failed && within {
                let caller = callers.entry((call.from, call.incarnation)).or_default();
                caller.push(call);
            }
        }
        for calls in callers.values_mut() {
            looked_at += 1;
            calls.sort_by_key(|call| call.end_us);
            let known = calls.iter().enumerate().find(|(number, call)| {
                *number + 1 >= MINIMUM_CALLS as usize && call.streak >= MINIMUM_CALLS
            });
            let Some((_, known)) = known else { continue };
            let known_us = known.end_us;
            let mut later: Vec<&&Call> = calls
                .iter()
                .filter(|call| call.start_us > known_us)
                .collect();
            later.sort_by_key(|call| call.start_us);
            let count = later.len() as u64;
            let excess = i128::from(count) - i128::from(limit);
            if worst_excess.is_some_and(|worst| worst >= excess) {
                continue;
            }
            worst_excess = Some(excess);
            worst = Tally::new("spared_calls", says, limit);
            let first = usize::try_from(limit)
                .ok()
                .and_then(|limit| later.get(limit));
            match first {
                Some(call) => worst.bad(
                    count,
                    Some(&call.order_id),
                    call.start_us / 1_000,
                    format!("{} calls {} although it is away", call.from, call.to),
                ),
                None => worst.check.count = count,
            }
        }
    }
    worst.check.looked_at = looked_at;
    worst
}

/// Retries stay a small share of the requests.
///
/// Counted for the pair of services with the most retries, from a journal of every call: within each window the
/// budget allows [`BUDGET_RATIO`] × requests + [`BUDGET_FLOOR`] a second.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)] // small counts
pub fn retry_amplification(history: &History) -> Tally {
    let says = "retries between two services stay within the budget's share of the requests";
    let mut pairs = BTreeMap::<(Peer, u32, Peer), Vec<&Call>>::new();
    for call in &history.calls {
        let pair = (call.from, call.incarnation, call.to);
        pairs.entry(pair).or_default().push(call);
    }
    let mut worst = Tally::new("retry_amplification", says, 0);
    let mut worst_excess = None;
    for ((from, _, to), mut calls) in pairs {
        calls.sort_by_key(|call| call.start_us);
        let is_retry = |call: &&&Call| !call.attempt.is_multiple_of(ATTEMPTS_PER_TRY);
        let retries: Vec<&&Call> = calls.iter().filter(is_retry).collect();
        let requests = calls.len() - retries.len();
        let begin = calls.first().map_or(0, |call| call.start_us);
        let end = calls.last().map_or(0, |call| call.start_us);
        let window_us = BUDGET_WINDOW.as_micros() as u64;
        let windows = (end - begin) / window_us + 1;
        let floor = u64::from(BUDGET_FLOOR) * BUDGET_WINDOW.as_secs();
        let limit = (requests as f64 * BUDGET_RATIO) as u64 + floor * windows;
        let count = retries.len() as u64;
        let excess = i128::from(count) - i128::from(limit);
        if worst_excess.is_some_and(|worst| worst >= excess) {
            continue;
        }
        worst_excess = Some(excess);
        worst = Tally::new("retry_amplification", says, limit);
        worst.check.looked_at = calls.len() as u64;
        match usize::try_from(limit)
            .ok()
            .and_then(|limit| retries.get(limit))
        {
            Some(call) => worst.bad(
                count,
                Some(&call.order_id),
                call.start_us / 1_000,
                format!("{from} retries {to} beyond its budget: {requests} requests"),
            ),
            None => worst.check.count = count,
        }
    }
    worst
}
