//! The handle.

use std::fmt;
use std::future::{Future, pending};
use std::mem;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use dpat_core::AnyTime;

use crate::at_once::{AtOnce, Attempt, Later};
use crate::backend::Backend;
use crate::capability::{Capabilities, Capability, Requirements, Unmet};
use crate::config::{Builder, Config};
use crate::embedded::Embedded;
use crate::error::{ManageError, ReceiveError, SendError, SettleError, Unsupported};
use crate::machine::Machine;
use crate::message::{
    DeadLetter, Delivery, Message, MessageId, Outcome, Peeked, Receipt, Sent, Settlement, Stats,
};

/// How long [`Queue::receive`] waits at an engine before it asks again.
const ENGINE_WAIT: Duration = Duration::from_secs(20);

/// A queue: in memory, on a log, or an engine. Cloning shares it.
///
/// A message that was sent is delivered until it is settled as done or rejected. A delivery is leased; if its lease ends
/// first, another one follows, and the receipt of the earlier one is refused from then on.
///
/// # Examples
/// ```
/// # dpat_testkit::run_with(|| false, async {
/// use dpat_core::ManualTime;
/// use dpat_queue::{Message, Outcome, Queue};
///
/// let queue = Queue::builder().in_memory(ManualTime::new())?;
/// let sent = queue.send(Message::new("order 7")).await?;
///
/// let delivery = queue.receive().await?;
/// assert_eq!((delivery.id(), delivery.count), (sent.id, 1));
/// queue.settle(delivery.receipt, Outcome::Done).await?;
/// assert_eq!(queue.stats().await?.done, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Queue {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Embedded(Arc<Embedded>),
    Engine(Arc<dyn Backend>),
}

impl Queue {
    /// Starts to configure an embedded queue.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn in_memory(config: Config, time: AnyTime) -> Self {
        Self::embedded(Embedded::new(config, time, Machine::new(config)))
    }

    pub(crate) fn embedded(embedded: Embedded) -> Self {
        Self {
            kind: Kind::Embedded(Arc::new(embedded)),
        }
    }

    /// Makes a queue of an engine.
    #[must_use]
    pub fn on(backend: Arc<dyn Backend>) -> Self {
        Self {
            kind: Kind::Engine(backend),
        }
    }

    #[cfg(feature = "wal")]
    pub(crate) fn shell(&self) -> Option<&Arc<Embedded>> {
        match &self.kind {
            Kind::Embedded(queue) => Some(queue),
            Kind::Engine(_) => None,
        }
    }

    /// Returns the backend's name: `memory`, `wal`, or that of the engine.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        match &self.kind {
            Kind::Embedded(queue) => queue.name(),
            Kind::Engine(engine) => engine.name(),
        }
    }

    /// Returns what the queue can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        match &self.kind {
            Kind::Embedded(queue) => queue.capabilities(),
            Kind::Engine(engine) => engine.capabilities(),
        }
    }

    /// Checks what the program needs; call it at the start.
    ///
    /// # Errors
    /// [`Unmet`] names the first guarantee that is missing.
    pub fn require(&self, needs: &Requirements) -> Result<(), Unmet> {
        needs.check(self.backend_name(), &self.capabilities())
    }

    fn offers(&self, capability: Capability) -> Result<(), Unsupported> {
        if self.capabilities().has(capability) {
            return Ok(());
        }
        Err(Unsupported {
            backend: self.backend_name(),
            capability,
        })
    }

    /// Checks a message for an engine.
    fn admit(&self, message: &Message) -> Result<(), SendError> {
        let offered = self.capabilities();
        message.check(offered.message_bytes_max)?;
        match message.wants(|capability| offered.has(capability)) {
            None => Ok(()),
            Some(capability) => Err(self.offers(capability).err().map_or(
                // It was not offered a moment ago.
                SendError::Closed,
                SendError::Unsupported,
            )),
        }
    }

    /// Sends a message, and returns once it is as safe as the queue [declares](Capabilities::survives).
    ///
    /// # Errors
    /// [`SendError`]; its effect says whether the message may have been sent.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing was sent; dropped later, the message is on its way. In memory it is sent by
    /// one poll.
    #[inline]
    pub fn send(
        &self,
        message: Message,
    ) -> impl Future<Output = Result<Sent, SendError>> + Send + use<'_> {
        let message = Some(message);
        AtOnce::First(Sending {
            queue: self,
            message,
        })
    }

    async fn send_later(&self, message: Message) -> Result<Sent, SendError> {
        match &self.kind {
            Kind::Embedded(queue) => queue.send(message).await,
            Kind::Engine(engine) => {
                self.admit(&message)?;
                let sent = engine.send(vec![message]).await;
                first(sent).unwrap_or(Err(SendError::Closed))
            }
        }
    }

    /// Sends messages, each for itself: some may be refused. The answers are in the order of the batch.
    ///
    /// # Cancel safety
    /// As [`send`](Self::send), for each message.
    pub async fn send_batch(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        let engine = match &self.kind {
            Kind::Embedded(queue) => return queue.send_all(batch).await,
            Kind::Engine(engine) => engine,
        };
        let refused: Vec<_> = batch
            .iter()
            .map(|message| self.admit(message).err())
            .collect();
        let admitted = batch.into_iter().zip(&refused);
        let admitted = admitted.filter(|(_, refused)| refused.is_none());
        let sent = engine
            .send(admitted.map(|(message, _)| message).collect())
            .await;
        let mut sent = sent.into_iter();
        let answer = |refused: Option<SendError>| match refused {
            Some(error) => Err(error),
            None => sent.next().unwrap_or(Err(SendError::Closed)),
        };
        refused.into_iter().map(answer).collect()
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// [`ReceiveError`].
    ///
    /// # Cancel safety
    /// Dropping it loses nothing. On a log, a message that was on its way out is free again at once, its count one higher; at
    /// an engine, when its lease ends.
    #[inline]
    pub fn receive(&self) -> impl Future<Output = Result<Delivery, ReceiveError>> + Send + use<'_> {
        AtOnce::First(Receiving { queue: self })
    }

    async fn receive_later(&self) -> Result<Delivery, ReceiveError> {
        match &self.kind {
            Kind::Embedded(queue) => queue.receive_one().await,
            Kind::Engine(engine) => loop {
                if let Some(delivery) = engine.receive(1, ENGINE_WAIT).await?.pop() {
                    return Ok(delivery);
                }
            },
        }
    }

    /// Receives up to `max` messages; waits up to `wait` for the first. Empty: there was none.
    ///
    /// # Errors
    /// [`ReceiveError`].
    ///
    /// # Cancel safety
    /// As [`receive`](Self::receive).
    pub async fn receive_batch(
        &self,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, ReceiveError> {
        match &self.kind {
            Kind::Embedded(queue) => queue.receive(max, wait).await,
            Kind::Engine(engine) => engine.receive(max, wait).await,
        }
    }

    /// Settles a delivery. Once it has returned, that stays.
    ///
    /// # Errors
    /// [`SettleError::Stale`] if the message was settled or handed out again; its effect otherwise says whether it may be
    /// settled. Settling again is always possible.
    ///
    /// # Cancel safety
    /// Dropped before its end, the delivery may be settled or not. In memory it is settled by one poll.
    #[inline]
    pub fn settle(
        &self,
        receipt: Receipt,
        outcome: Outcome,
    ) -> impl Future<Output = Result<(), SettleError>> + Send + use<'_> {
        AtOnce::First(Settling {
            queue: self,
            receipt,
            outcome,
        })
    }

    async fn settle_later(&self, settlement: Settlement) -> Result<(), SettleError> {
        match &self.kind {
            Kind::Embedded(queue) => queue.settle(settlement.receipt, &settlement.outcome).await,
            Kind::Engine(engine) => {
                let settled = engine.settle(vec![settlement]).await;
                first(settled).unwrap_or(Err(SettleError::Stale))
            }
        }
    }

    /// Settles deliveries, each for itself. The answers are in the order of the batch.
    ///
    /// # Cancel safety
    /// As [`settle`](Self::settle), for each delivery.
    pub async fn settle_batch(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
        match &self.kind {
            Kind::Embedded(queue) => {
                let settlements = batch.iter();
                let pairs = settlements.map(|one| (one.receipt, &one.outcome));
                queue.settle_all(pairs).await
            }
            Kind::Engine(engine) => engine.settle(batch).await,
        }
    }

    /// Makes the leases of deliveries end `by` from now. The answers are in the order of the batch.
    ///
    /// # Cancel safety
    /// At an engine, some leases may be extended; embedded, it is done by one poll.
    pub async fn extend(&self, batch: Vec<Receipt>, by: Duration) -> Vec<Result<(), SettleError>> {
        if let Err(unsupported) = self.offers(Capability::Extend) {
            let refused = || Err(SettleError::Unsupported(unsupported));
            return batch.iter().map(|_| refused()).collect();
        }
        match &self.kind {
            Kind::Embedded(queue) => {
                let receipts = batch.into_iter();
                receipts.map(|receipt| queue.extend(receipt, by)).collect()
            }
            Kind::Engine(engine) => engine.extend(batch, by).await,
        }
    }

    /// Ends the use of the queue: nothing is sent and nothing handed out any more, through any clone; completes when nothing
    /// is out that is unsettled and leased. Settling goes on.
    ///
    /// # Cancel safety
    /// Once it was polled, the queue stays closed.
    pub async fn drain(&self) {
        match &self.kind {
            Kind::Embedded(queue) => queue.drain().await,
            Kind::Engine(engine) => engine.drain().await,
        }
    }

    /// Lists up to `max` dead letters behind `after`, by their ids.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        self.offers(Capability::DeadLetters)?;
        match &self.kind {
            Kind::Embedded(queue) => Ok(queue.dead_letters(after, max)),
            Kind::Engine(engine) => engine.dead_letters(after, max).await,
        }
    }

    /// Makes a dead letter a message again, behind all others, with its id and without its end; its attempts are counted
    /// anew. False: there is no such dead letter.
    ///
    /// # Errors
    /// [`ManageError`]; it can be repeated.
    pub async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        self.offers(Capability::DeadLetters)?;
        match &self.kind {
            Kind::Embedded(queue) => queue.replay(id).await,
            Kind::Engine(engine) => engine.replay(id).await,
        }
    }

    /// Removes a dead letter. False: there is no such.
    ///
    /// # Errors
    /// [`ManageError`]; it can be repeated.
    pub async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        self.offers(Capability::DeadLetters)?;
        match &self.kind {
            Kind::Embedded(queue) => queue.discard(id).await,
            Kind::Engine(engine) => engine.discard(id).await,
        }
    }

    /// Lists up to `max` messages behind `after`, in the order of their places, and changes nothing.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn peek(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<Peeked>, ManageError> {
        self.offers(Capability::Inspect)?;
        match &self.kind {
            Kind::Embedded(queue) => Ok(queue.peek(after, max)),
            Kind::Engine(engine) => engine.peek(after, max).await,
        }
    }

    /// Removes all messages that are not out, dead letters excepted, and returns how many.
    ///
    /// # Errors
    /// [`ManageError`]; it can be repeated.
    pub async fn purge(&self) -> Result<u64, ManageError> {
        self.offers(Capability::Inspect)?;
        match &self.kind {
            Kind::Embedded(queue) => queue.purge().await,
            Kind::Engine(engine) => engine.purge().await,
        }
    }

    /// Counts.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn stats(&self) -> Result<Stats, ManageError> {
        self.offers(Capability::Inspect)?;
        match &self.kind {
            Kind::Embedded(queue) => Ok(queue.stats()),
            Kind::Engine(engine) => engine.stats().await,
        }
    }

    /// Stops delivery, or resumes it. What is out stays out, and sending goes on.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn set_paused(&self, paused: bool) -> Result<(), ManageError> {
        self.offers(Capability::Pause)?;
        match &self.kind {
            Kind::Embedded(queue) => queue.set_paused(paused).await,
            Kind::Engine(engine) => engine.set_paused(paused).await,
        }
    }

    /// How many messages one receive may return; engines decide themselves.
    pub(crate) fn batch_max(&self) -> usize {
        match &self.kind {
            Kind::Embedded(queue) => queue.batch_max(),
            Kind::Engine(_) => usize::MAX,
        }
    }
}

struct Sending<'a> {
    queue: &'a Queue,
    message: Option<Message>,
}

impl<'a> Attempt<'a> for Sending<'a> {
    type Output = Result<Sent, SendError>;

    #[inline]
    fn now(&mut self) -> Poll<Self::Output> {
        match &self.queue.kind {
            Kind::Embedded(queue) => queue.send_at_once(&mut self.message),
            Kind::Engine(_) => Poll::Pending,
        }
    }

    fn later(&mut self) -> Later<'a, Self::Output> {
        match self.message.take() {
            Some(message) => Box::pin(self.queue.send_later(message)),
            // It was polled after its end.
            None => Box::pin(pending()),
        }
    }
}

struct Receiving<'a> {
    queue: &'a Queue,
}

impl<'a> Attempt<'a> for Receiving<'a> {
    type Output = Result<Delivery, ReceiveError>;

    #[inline]
    fn now(&mut self) -> Poll<Self::Output> {
        match &self.queue.kind {
            Kind::Embedded(queue) => queue.receive_at_once(),
            Kind::Engine(_) => Poll::Pending,
        }
    }

    fn later(&mut self) -> Later<'a, Self::Output> {
        Box::pin(self.queue.receive_later())
    }
}

struct Settling<'a> {
    queue: &'a Queue,
    receipt: Receipt,
    outcome: Outcome,
}

impl<'a> Attempt<'a> for Settling<'a> {
    type Output = Result<(), SettleError>;

    #[inline]
    fn now(&mut self) -> Poll<Self::Output> {
        match &self.queue.kind {
            Kind::Embedded(queue) => queue.settle_at_once(self.receipt, &self.outcome),
            Kind::Engine(_) => Poll::Pending,
        }
    }

    fn later(&mut self) -> Later<'a, Self::Output> {
        let receipt = self.receipt;
        let outcome = mem::replace(&mut self.outcome, Outcome::Done);
        Box::pin(self.queue.settle_later(Settlement { receipt, outcome }))
    }
}

fn first<T>(answers: Vec<T>) -> Option<T> {
    answers.into_iter().next()
}

/// A queue is a sink of futures, and must be usable from every thread.
#[allow(dead_code, reason = "checked when it is compiled")]
fn futures_are_send(queue: &Queue) {
    fn check(_: impl Future + Send) {}
    check(queue.receive());
    check(queue.drain());
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("backend", &self.backend_name())
            .finish_non_exhaustive()
    }
}
