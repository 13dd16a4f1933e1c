//! The port between a relay and whatever keeps the events.

use async_trait::async_trait;
use dpat_core::{Uuid7, Wall};
use std::time::Duration;

use crate::error::StoreError;
use crate::event::Event;
use crate::row::{Position, Settled, Settlement, Token};
use crate::signal::Ticket;

/// How much may wait to be sent before appending is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events that are neither sent nor parked.
    pub backlog_rows: u64,
    /// Their bytes, as they are stored.
    pub backlog_bytes: u64,
}

impl Limits {
    /// A million events, 1 GiB.
    pub const DEFAULT: Self = Self {
        backlog_rows: 1_000_000,
        backlog_bytes: 1 << 30,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The event has this position, once the transaction commits.
    New(Position),
    /// An event with the same deduplication key or id is there already: this one, and nothing was written.
    Duplicate(Uuid7),
}

/// What a relay asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Names the claim.
    pub token: Token,
    /// The time.
    pub now: Wall,
    /// How long the claim holds.
    pub lease: Duration,
    /// At most so many events,
    pub rows_max: usize,
    /// at most so many bytes, as they are stored (but always one event),
    pub bytes_max: usize,
    /// and at most so many of one key.
    pub lane_rows_max: usize,
}

/// An event that a relay holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its place.
    pub position: Position,
    /// The event.
    pub event: Event,
    /// Failed attempts before.
    pub attempts: u32,
    /// How often it was replayed.
    pub replays: u32,
    /// When it was appended.
    pub appended_at: Wall,
    /// When it was first claimed since it was appended, repaired or replayed.
    pub first_claim: Wall,
}

/// What a claim got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The events; those of one key in their order.
    pub rows: Vec<Claimed>,
    /// For [`Store::wait`].
    pub seen: Ticket,
    /// When there may be more to claim, if nothing is appended meanwhile: a retry is due, or another's lease ends.
    pub next_due: Option<Wall>,
}

/// How far the relays are behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Events that are neither sent nor parked.
    pub backlog_rows: u64,
    /// Their bytes, as they are stored.
    pub backlog_bytes: u64,
    /// Since when the first of them in the order of positions is under way.
    pub oldest: Option<Wall>,
    /// Events that were given up.
    pub parked: u64,
    /// Events that were sent and are still kept.
    pub sent: u64,
}

/// An event that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Its place.
    pub position: Position,
    /// The event.
    pub event: Event,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Wall,
    /// Failed attempts.
    pub attempts: u32,
    /// Whether the later events of its key wait for it.
    pub blocks: bool,
}

/// What is done about an event that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It is tried again.
    Retry,
    /// It is tried again with another content. The id, the key and the deduplication key stay.
    Replace(Event),
    /// It is removed, unsent.
    Discard,
}

/// What a repair did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// It was done.
    Done,
    /// There is no such event, or it is not parked; nothing was done.
    NotParked,
    /// The replacement has another id, key or deduplication key; nothing was done.
    OtherIdentity,
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayFrom {
    /// At a place.
    Position(Position),
    /// At a time of appending.
    Time(Wall),
}

/// Which events are sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// From where on.
    pub from: ReplayFrom,
    /// Only those of this topic.
    pub topic: Option<String>,
    /// Only those behind this place: where an earlier step ended.
    pub after: Option<Position>,
    /// Looks at so many events at most.
    pub max: usize,
}

/// What a step of a replay did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// How many are under way again.
    pub rows: u64,
    /// Where to go on; none at the end.
    pub next: Option<Position>,
}

/// A place for events, and for where each of them stands.
///
/// Appending is not here: it is a function of each backend over its own transactions. What a transaction has appended is
/// claimed once it is committed, whenever that is; nothing is found by a cursor over positions.
///
/// A claim gives out, of each key, the first events that are not sent, in their order, unless one of them is claimed by
/// another, waits for its time, or is parked and blocks. No lock and no transaction stays open after a method has returned.
/// Every method is atomic and, once it has returned, durable.
///
/// The feature `conformance` has these sentences as tests.
#[async_trait]
pub trait Store: Send + Sync {
    /// Claims events for sending.
    ///
    /// # Errors
    /// [`StoreError`]. With `Effect::Unknown`, events may be claimed; they are free again when the lease ends.
    ///
    /// # Cancel safety
    /// As with an error.
    async fn claim(&self, claim: &Claim) -> Result<Batch, StoreError>;

    /// Ends claims, each as its relay says; the answers in the same order.
    ///
    /// # Errors
    /// [`StoreError`]; the settlements can be repeated.
    ///
    /// # Cancel safety
    /// All of them are made or none; repeat them.
    async fn settle(
        &self,
        now: Wall,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError>;

    /// Returns when something may have been appended, repaired or replayed since the claim that gave `seen`.
    ///
    /// A store that cannot tell waits for ever; relays also look by the clock.
    ///
    /// # Cancel safety
    /// Nothing is missed.
    async fn wait(&self, seen: Ticket);

    /// Tells how far the relays are behind.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn lag(&self) -> Result<Lag, StoreError>;

    /// Removes up to `max` events that were sent before `sent_before`, with their deduplication keys, and returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn purge(&self, sent_before: Wall, max: usize) -> Result<usize, StoreError>;

    /// Returns up to `max` events that were given up, in the order of their places, from the first behind `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn parked(&self, after: Option<Position>, max: usize) -> Result<Vec<Parked>, StoreError>;

    /// Does something about an event that was given up.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn repair(
        &self,
        now: Wall,
        position: Position,
        repair: &Repair,
    ) -> Result<Repaired, StoreError>;

    /// Puts sent events under way again, with their ids, in steps.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn replay(&self, now: Wall, replay: &Replay) -> Result<Replayed, StoreError>;
}
