//! The port: what an engine does to be a queue.

use std::time::Duration;

use async_trait::async_trait;

use crate::capability::{Capabilities, Capability};
use crate::error::{ManageError, ReceiveError, SendError, SettleError, Unsupported};
use crate::message::{
    DeadLetter, Delivery, Message, MessageId, Peeked, Receipt, Sent, Settlement, Stats,
};

/// An engine that keeps messages until they are settled.
///
/// At least once: a message that was sent is delivered until it is done or rejected, whoever dies meanwhile; a delivery that
/// is not settled within its lease is followed by another one. The count of a delivery rises when the message is handed out.
///
/// [`Queue`](crate::Queue) checks limits and capabilities before, so that what comes here is valid and offered. Methods of a
/// capability that is not declared are never called; as they stand, they refuse.
///
/// Dropping a future of these methods leaves its effect unknown. What was received and not returned comes again.
///
/// The feature `conformance` has these sentences as tests.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Returns the name that errors have for it.
    fn name(&self) -> &'static str;

    /// Returns what it can do.
    fn capabilities(&self) -> Capabilities;

    /// Sends messages; of each, its id, or whether it was not sent or may have been. In the order of the batch.
    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>>;

    /// Receives up to `max` messages; waits up to `wait` for the first. Empty: there was none.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError>;

    /// Settles deliveries, each for itself. When it returns, what is settled stays settled.
    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>>;

    /// Stops sending and receiving, and waits until nothing that was handed out is unsettled and leased.
    async fn drain(&self);

    /// Makes leases end `by` from now. [`Capability::Extend`].
    async fn extend(&self, batch: Vec<Receipt>, by: Duration) -> Vec<Result<(), SettleError>> {
        let _ = by;
        let refused = || Err(SettleError::Unsupported(self.lacks(Capability::Extend)));
        batch.iter().map(|_| refused()).collect()
    }

    /// Lists up to `max` dead letters behind `after`. [`Capability::DeadLetters`].
    async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        let _ = (after, max);
        Err(self.lacks(Capability::DeadLetters).into())
    }

    /// Makes a dead letter a message again; false if there is none. [`Capability::DeadLetters`].
    async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        let _ = id;
        Err(self.lacks(Capability::DeadLetters).into())
    }

    /// Removes a dead letter; false if there is none. [`Capability::DeadLetters`].
    async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        let _ = id;
        Err(self.lacks(Capability::DeadLetters).into())
    }

    /// Lists up to `max` messages behind `after`. [`Capability::Inspect`].
    async fn peek(&self, after: Option<MessageId>, max: usize) -> Result<Vec<Peeked>, ManageError> {
        let _ = (after, max);
        Err(self.lacks(Capability::Inspect).into())
    }

    /// Removes all messages that are not out, and returns how many. [`Capability::Inspect`].
    async fn purge(&self) -> Result<u64, ManageError> {
        Err(self.lacks(Capability::Inspect).into())
    }

    /// Counts. [`Capability::Inspect`].
    async fn stats(&self) -> Result<Stats, ManageError> {
        Err(self.lacks(Capability::Inspect).into())
    }

    /// Stops or resumes delivery. [`Capability::Pause`].
    async fn set_paused(&self, paused: bool) -> Result<(), ManageError> {
        let _ = paused;
        Err(self.lacks(Capability::Pause).into())
    }

    /// Makes the error for what is not offered.
    fn lacks(&self, capability: Capability) -> Unsupported {
        Unsupported {
            backend: self.name(),
            capability,
        }
    }
}
