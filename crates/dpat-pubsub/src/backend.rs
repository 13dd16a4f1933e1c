//! The port: what a backend other than memory does.

use crate::config::{Capabilities, Wanted};
use crate::error::{BackendError, Closed};
use crate::message::{Delivery, Message, Published};
use crate::subject::Subject;
use crate::subscription::Stats;
use std::task::{Context, Poll};

/// An engine that messages are published to and subscribed at.
///
/// At most once: a message that is lost is lost, and counted where the backend can tell. The callers of a backend check
/// limits, names and capabilities before; what comes here is valid.
///
/// Dropping a future of these methods leaves the effect unknown, and nothing behind: a subscription that was not
/// returned yet ends.
#[async_trait::async_trait]
pub trait Backend: Send + Sync {
    /// Returns the name that errors have for it.
    fn name(&self) -> &'static str;

    /// Returns what it can do. What is not in the set is never asked for.
    fn capabilities(&self) -> Capabilities;

    /// Returns the largest payload, in bytes.
    fn payload_bytes_max(&self) -> usize;

    /// Publishes a message: hands it over so that messages from one caller arrive in their order.
    async fn publish(&self, message: Message) -> Result<Published, BackendError>;

    /// Subscribes. Once it has returned, every message published by this process is seen.
    async fn subscribe(&self, wanted: Wanted) -> Result<Box<dyn Source>, BackendError>;

    /// Returns a subject that nobody has subscribed to, for the answers to a request.
    fn inbox(&self) -> Subject;

    /// Ends all subscriptions, once they have read what they have. Publishing fails from now on.
    async fn close(&self);
}

/// The messages of one subscription at a [`Backend`]. Dropping it unsubscribes.
pub trait Source: Send {
    /// Returns what is next, or waits. A waker of an earlier call may be forgotten.
    ///
    /// # Errors
    /// [`Closed`] once nothing more will come, and everything that did was returned.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Closed>>;

    /// Returns what is next, if something is there.
    ///
    /// # Errors
    /// As [`poll_next`](Self::poll_next).
    fn try_next(&mut self) -> Result<Option<Delivery>, Closed>;

    /// Returns what it has seen, as far as it counts.
    fn stats(&self) -> Stats;
}
