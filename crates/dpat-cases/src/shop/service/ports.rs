//! What the services need from the outside, and nothing else.

use core::future::Future;
use core::time::Duration;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dpat_codec::{Codec, Flat, Postcard};
use dpat_core::{Class, Classify, Deadline, Effect, Entropy, Sleep, Wall};
use dpat_idempotency::inbox::Markers;
use dpat_outbox::{Appended, Event};
use dpat_queue::Queue;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::shop::chaos::Fate;
use crate::shop::domain::Reason;
use crate::shop::notices::Notices;

/// A service of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// The front door.
    Gateway,
    /// Keeps orders and drives them.
    Order,
    /// Keeps the stock.
    Inventory,
    /// Keeps the money.
    Payment,
    /// Ships what is paid for.
    Shipping,
}

impl Peer {
    /// Every service, in the order in which they are started.
    pub const ALL: [Self; 5] = [
        Self::Inventory,
        Self::Payment,
        Self::Shipping,
        Self::Order,
        Self::Gateway,
    ];

    /// Says whether this service ever calls the other.
    #[must_use]
    pub const fn calls(self, other: Self) -> bool {
        match self {
            Self::Gateway => matches!(other, Self::Order),
            Self::Order => matches!(other, Self::Inventory | Self::Payment | Self::Shipping),
            Self::Inventory | Self::Payment | Self::Shipping => false,
        }
    }

    /// Returns the name used in scripts, labels and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Payment => "payment",
            Self::Shipping => "shipping",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Take an order.
    Accept,
    /// Tell where an order stands.
    Status,
    /// Set goods aside.
    Reserve,
    /// Give them back.
    Release,
    /// Take money.
    Charge,
    /// Give it back.
    Void,
    /// Ship a paid order: done once the event is in the queue.
    Ship,
    /// Pack a parcel, from the queue. No request asks for it.
    Pack,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 8] = [
        Self::Accept,
        Self::Status,
        Self::Reserve,
        Self::Release,
        Self::Charge,
        Self::Void,
        Self::Ship,
        Self::Pack,
    ];

    /// Returns the name used in paths and scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Status => "status",
            Self::Reserve => "reserve",
            Self::Release => "release",
            Self::Charge => "charge",
            Self::Void => "void",
            Self::Ship => "ship",
            Self::Pack => "pack",
        }
    }

    /// Finds a step by its name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }
}

/// One call to another service.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked for.
    pub step: Step,
    /// For which order.
    pub order_id: String,
    /// Counts the sendings of this call, from 0.
    pub attempt: u32,
    /// JSON.
    pub body: Bytes,
}

impl Request {
    /// Makes the first sending of a call.
    #[must_use]
    pub fn new(step: Step, order_id: &str, body: Bytes) -> Self {
        Self {
            step,
            order_id: order_id.to_owned(),
            attempt: 0,
            body,
        }
    }
}

/// What a service answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, now or earlier.
    Done,
    /// The order is durable and will be worked on.
    Accepted,
    /// The business refuses; asking again changes nothing.
    Refused(Reason),
    /// The same id with another body is known.
    Conflict,
    /// No such order.
    NotFound,
    /// The request itself is wrong.
    Invalid(String),
    /// JSON to show.
    Document(Bytes),
}

/// A call without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct CallError {
    /// What kind of failure.
    pub class: Class,
    /// Whether the call may have had its effect.
    pub effect: Effect,
    /// When the other side asks to be called again.
    pub retry_after: Option<Duration>,
    /// For people.
    pub detail: &'static str,
}

impl CallError {
    /// The call surely had no effect.
    #[must_use]
    pub const fn not_done(class: Class, detail: &'static str) -> Self {
        Self {
            class,
            effect: Effect::NotDone,
            retry_after: None,
            detail,
        }
    }

    /// The call may have had its effect.
    #[must_use]
    pub const fn unknown(class: Class, detail: &'static str) -> Self {
        Self {
            class,
            effect: Effect::Unknown,
            retry_after: None,
            detail,
        }
    }

    /// Adds when to come back.
    #[must_use]
    pub const fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }
}

impl Classify for CallError {
    fn class(&self) -> Class {
        self.class
    }
    fn effect(&self) -> Effect {
        self.effect
    }
    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Reaches the other services.
///
/// Cancel safety: a dropped call may or may not have had its effect.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Sends a request and waits for its answer until the deadline.
    fn call(
        &self,
        peer: Peer,
        request: Request,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send;
}

/// The name of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// A store that cannot do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store is gone; the node must restart.
    #[error("the store is closed")]
    Closed,
    /// The engine failed.
    #[error("store: {0}")]
    Engine(String),
    /// A row that does not decode.
    #[error("table {table}: a row does not decode: {reason}")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// Why.
        reason: String,
    },
}

/// Reads rows.
pub trait Read {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Calls `row` for each key that starts with `prefix`, in order, until it returns `false`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError>;

    /// Calls `key` with the key of each event of the outbox that is known to have arrived.
    ///
    /// # Errors
    /// [`StoreError`].
    fn acknowledged(&self, key: &mut dyn FnMut(&str)) -> Result<(), StoreError>;
}

/// Reads and writes rows, markers of an inbox among them, and events of an outbox.
pub trait Write: Read + Markers<Error = StoreError> {
    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put(&mut self, table: Table, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Removes a key, if it is there.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remove(&mut self, table: Table, key: &str) -> Result<(), StoreError>;

    /// Adds an event to the outbox; none, if it is full.
    ///
    /// # Errors
    /// [`StoreError`].
    fn append(&mut self, event: &Event, now: Wall) -> Result<Option<Appended>, StoreError>;

    /// Forgets up to `max` markers that were written before `before`, and returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    fn forget(&mut self, before: Wall, max: usize) -> Result<usize, StoreError>;
}

/// Keeps the state of one service.
pub trait Store: Clone + Send + Sync + 'static {
    /// Runs `work` in a transaction and resolves once its writes are durable.
    ///
    /// The store may group the transactions of many callers into one commit, one after the other: each sees the
    /// writes of those before it. So `work` decides first and writes afterwards; an error that it returns fails the
    /// whole group, and nothing of the group is kept. A store that was away in the middle runs `work` again, from the start.
    ///
    /// Cancel safety: a dropped call may or may not be committed.
    fn transact<R, F>(&self, work: F) -> impl Future<Output = Result<R, StoreError>> + Send
    where
        R: Send + 'static,
        F: Fn(&mut dyn Write) -> Result<R, StoreError> + Send + 'static;

    /// Reads the latest durable state.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read<R, F>(&self, work: F) -> impl Future<Output = Result<R, StoreError>> + Send
    where
        R: Send + 'static,
        F: Fn(&dyn Read) -> Result<R, StoreError> + Send + 'static;

    /// Returns the outbox as its relay sees it.
    fn outbox(&self) -> Arc<dyn dpat_outbox::Store>;

    /// Returns how many events are neither sent nor given up.
    ///
    /// # Errors
    /// [`StoreError`].
    fn backlog(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// Everything that a service may touch.
pub trait Env: Clone + Send + Sync + 'static {
    /// Clock and timer; the clock counts from the start of the run.
    type Time: Sleep<Sleeping: Send> + Clone + Send + Sync + 'static;
    /// The other services.
    type Transport: Transport;
    /// Its own state.
    type Store: Store;

    /// Returns the clock.
    fn time(&self) -> &Self::Time;
    /// Returns the way to the other services.
    fn transport(&self) -> &Self::Transport;
    /// Returns the store.
    fn store(&self) -> &Self::Store;
    /// Returns the source of randomness.
    fn entropy(&self) -> &dyn Entropy;
    /// Returns the queue of this node, if it has one.
    fn queue(&self) -> Option<&Queue>;
    /// Says whether the queue is on a server, or on other threads, so that it does not answer at once.
    fn is_remote(&self) -> bool {
        false
    }
    /// Returns where this node tells what becomes of orders.
    fn notices(&self) -> Notices {
        Notices::default()
    }
    /// Asks what a fault script does to a piece of work that came from the queue.
    fn fate(&self, work: &Request) -> Fate;
    /// Writes down that the queue is fuller than ever: how many bytes, and by which order.
    fn note_queued(&self, bytes: u64, order_id: &str);
    /// Marks a point between two effects, where a test or a fault script may stop the node for ever.
    fn at_point(&self, point: &'static str, order_id: &str) -> impl Future<Output = ()> + Send;
}

/// A service: answers requests and works in the background.
pub trait Service: Clone + Send + Sync + 'static {
    /// Answers one request.
    ///
    /// Cancel safety: none; the shell polls it to its end, whoever still listens. A request that is dropped half-way
    /// may leave durable work that only the next start takes up.
    fn handle(
        &self,
        request: Request,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send;

    /// Takes up what a predecessor left; called once, before the first request.
    ///
    /// # Errors
    /// Whatever the store reports.
    fn resume(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        core::future::ready(Ok(()))
    }

    /// Does the background work; ends only if the store is gone.
    fn run(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the numbers to show.
    fn gauges(&self) -> impl Future<Output = Gauges> + Send;

    /// Returns where this service tells what becomes of orders, if it does.
    fn notices(&self) -> Option<&Notices> {
        None
    }
}

/// The numbers that a service shows about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauges {
    /// Orders accepted since the service started, and those it resumed.
    pub accepted: u64,
    /// Orders completed since the service started.
    pub completed: u64,
    /// Orders compensated since the service started.
    pub compensated: u64,
    /// Orders that are not terminal yet.
    pub open: u64,
    /// Events that wait for the relay.
    pub outbox: u64,
    /// Events that wait in the queue, or are being handled.
    #[serde(default)]
    pub queued: u64,
}

/// The form of rows.
const ROWS: Postcard = Postcard::DEFAULT;
/// Most rows have no more.
const ROW_BYTES: usize = 128;

/// Decodes a row.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn decode<T: DeserializeOwned + Flat>(table: Table, row: &[u8]) -> Result<T, StoreError> {
    ROWS.decode_flat(row).map_err(|error| StoreError::Corrupt {
        table: table.0,
        reason: error.to_string(),
    })
}

/// Encodes a row.
///
/// # Errors
/// [`StoreError::Engine`], which does not happen for the types of this crate.
pub fn encode<T: Serialize + Flat>(value: &T) -> Result<Vec<u8>, StoreError> {
    let mut row = Vec::with_capacity(ROW_BYTES);
    let encoded = ROWS.encode_flat(value, &mut row);
    encoded.map_err(|error| StoreError::Engine(error.to_string()))?;
    Ok(row)
}

/// Reads the body of a request or of an event.
///
/// # Errors
/// What is wrong with it.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(body) {
        // Looked at as a whole, so that its texts need not be one by one.
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    }
}

/// Encodes the body of a request or of an event: JSON.
///
/// # Errors
/// [`StoreError::Engine`], which does not happen for the types of this crate.
pub fn json<T: Serialize>(value: &T) -> Result<Bytes, StoreError> {
    let encoded = serde_json::to_vec(value).map(Bytes::from);
    encoded.map_err(|error| StoreError::Engine(error.to_string()))
}
