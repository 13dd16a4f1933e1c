//! Where events go.

use async_trait::async_trait;
use dpat_core::Wall;

use crate::error::PublishError;
use crate::event::Event;
use crate::row::Position;

/// An event on its way out.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Delivery<'a> {
    /// The event. Its id is the same at every attempt.
    pub event: &'a Event,
    /// Its place in the outbox.
    pub position: Position,
    /// Counts from 1 since it was appended, repaired or replayed; a crash of the relay is not counted.
    pub attempt: u32,
    /// How often it was replayed on purpose.
    pub replays: u32,
    /// When it was appended.
    pub appended_at: Wall,
}

/// Whatever an outbox relays to: a queue, a topic, a service.
///
/// Delivery is at least once: the same event can come again, after an error, a time-out, or a crash between the
/// acknowledgement and its record. Events of one key come one after the other, others at the same time.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Hands an event over, and returns once the other side has acknowledged that it keeps it.
    ///
    /// # Errors
    /// [`PublishError`], whose class decides whether the event is tried again or parked.
    ///
    /// # Cancel safety
    /// The relay drops the future at its time limit; the event may have been handed over, and comes again.
    async fn publish(&self, delivery: Delivery<'_>) -> Result<(), PublishError>;
}
