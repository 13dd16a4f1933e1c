//! What the shop talks about.

use std::fmt;

use dpat_codec::Flat;
use serde::{Deserialize, Serialize};

/// A card issuer declines any single charge above this.
pub const CARD_LIMIT_CENTS: u64 = 500_000;
/// Most items in one order.
pub const ITEMS_MAX: usize = 100;
/// Longest id of an order, a customer or an SKU, in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Most units of one item.
pub const QUANTITY_MAX: u32 = 10_000;
/// Largest payment.
pub const PAYMENT_CENTS_MAX: u64 = 1_000_000_000;

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// What is bought.
    pub sku: String,
    /// How many units; at least one.
    pub quantity: u32,
}

/// What a customer sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Chosen by the client; the idempotency key of the whole flow.
    pub order_id: String,
    /// Who pays.
    pub customer: String,
    /// What is bought.
    pub items: Vec<Item>,
    /// What is charged in total.
    pub payment_cents: u64,
}

/// A field of an order that breaks its limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct OrderError {
    /// The field, with an index where there is one.
    pub field: String,
    /// The limit that it breaks.
    pub reason: String,
}

impl OrderError {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

fn check_id(field: impl fmt::Display, id: &str) -> Result<(), OrderError> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(OrderError::new(
            field.to_string(),
            format!("must have 1 to {ID_BYTES_MAX} bytes, has {}", id.len()),
        ));
    }
    // Ids are part of keys and paths.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    if !id.bytes().all(allowed) {
        return Err(OrderError::new(
            field.to_string(),
            "may contain only ASCII letters, digits and - _ . :",
        ));
    }
    Ok(())
}

impl Order {
    /// Checks every limit.
    ///
    /// # Errors
    /// The first field that breaks its limit.
    pub fn validate(&self) -> Result<(), OrderError> {
        check_id("order_id", &self.order_id)?;
        check_id("customer", &self.customer)?;
        if self.items.is_empty() || self.items.len() > ITEMS_MAX {
            return Err(OrderError::new(
                "items",
                format!("must have 1 to {ITEMS_MAX}, has {}", self.items.len()),
            ));
        }
        for (index, item) in self.items.iter().enumerate() {
            check_id(format_args!("items[{index}].sku"), &item.sku)?;
            if item.quantity == 0 || item.quantity > QUANTITY_MAX {
                return Err(OrderError::new(
                    format!("items[{index}].quantity"),
                    format!("must be 1 to {QUANTITY_MAX}, is {}", item.quantity),
                ));
            }
        }
        if self.payment_cents == 0 || self.payment_cents > PAYMENT_CENTS_MAX {
            return Err(OrderError::new(
                "payment_cents",
                format!(
                    "must be 1 to {PAYMENT_CENTS_MAX}, is {}",
                    self.payment_cents
                ),
            ));
        }
        Ok(())
    }

    /// Returns a 64-bit FNV-1a hash of the order's canonical form.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        hash.text(&self.order_id);
        hash.text(&self.customer);
        for item in &self.items {
            hash.text(&item.sku);
            hash.number(u64::from(item.quantity));
        }
        hash.number(self.payment_cents);
        hash.finish()
    }
}

/// FNV-1a with 64 bits: the same on every platform and release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Hashes a text with its length, so that neighbours cannot run together.
    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// Returns the hash, mixed so that its high bits are usable too.
    pub(crate) fn finish(self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// How many units of an SKU there are before the first order.
///
/// Rare goods run out, so that some orders are refused.
#[must_use]
pub fn opening_stock(sku: &str) -> u64 {
    if sku.starts_with("rare-") {
        10
    } else {
        1_000_000_000
    }
}

/// Why an order was not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There are not enough units.
    OutOfStock,
    /// The card issuer refuses.
    CardDeclined,
    /// The step was cancelled before it arrived.
    Cancelled,
    /// A service could not be reached in time.
    Unavailable,
}

impl Reason {
    /// Says whether the refusal is the business's own, and no fault.
    #[must_use]
    pub const fn is_business(self) -> bool {
        matches!(self, Self::OutOfStock | Self::CardDeclined)
    }

    /// Returns the name used on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutOfStock => "out_of_stock",
            Self::CardDeclined => "card_declined",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Durable, nothing done yet.
    Accepted,
    /// The goods are set aside; the charge may have been tried.
    Reserved,
    /// On the way back.
    Compensating,
    /// Paid for; the event to ship it is recorded. Terminal.
    Completed,
    /// Undone. Terminal.
    Compensated,
}

impl State {
    /// Says whether nothing more happens to the order.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }

    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Reserved,
        Self::Compensating,
        Self::Completed,
        Self::Compensated,
    ];

    /// Finds a state by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Returns the name used on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Reserved => "reserved",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
        }
    }
}

/// One change of an order's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The state entered.
    pub state: State,
    /// When, in microseconds since the start of the run.
    pub at_us: u64,
}

/// An order as the order service keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// What was ordered.
    pub order: Order,
    /// Identifies the body, to tell a repetition from a conflict.
    pub fingerprint: u64,
    /// Where it stands.
    pub state: State,
    /// Why it is or was undone.
    pub reason: Option<Reason>,
    /// Whether the charge may have been tried, so that it must be voided.
    pub charge_tried: bool,
    /// Every state entered, oldest first.
    pub history: Vec<Change>,
}

impl Flat for OrderRecord {}

impl OrderRecord {
    /// Returns when the order was accepted, in microseconds since the start of the run.
    #[must_use]
    pub fn accepted_at_us(&self) -> u64 {
        self.history.first().map_or(0, |change| change.at_us)
    }

    /// Returns when the order became terminal.
    #[must_use]
    pub fn done_at_us(&self) -> Option<u64> {
        self.history
            .last()
            .filter(|change| change.state.is_terminal())
            .map(|change| change.at_us)
    }

    /// Enters a state.
    pub fn enter(&mut self, state: State, at_us: u64) {
        self.state = state;
        self.history.push(Change { state, at_us });
    }
}

/// Tells shipping that an order is paid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCompleted {
    /// Identifies the event; shipping acts once on each.
    pub event_id: String,
    /// Which order.
    pub order_id: String,
    /// What to ship.
    pub items: Vec<Item>,
}
