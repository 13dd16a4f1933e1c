//! The port.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use dpat_core::{Class, Classify, Clock, Instant, Sleep, Wall};
use dpat_outbox::Ticket;
use dpat_queue::{
    Backend, BackendError, Capabilities, Capability, DeadLetter, Delivery, ManageError, Message,
    MessageId, OrderScope, Peeked, Receipt, ReceiveError, SendError, Sent, SettleError, Settlement,
    Stats,
};

use super::QueueStore;
use super::rows::backend;

/// How many messages a receive returns at most.
pub(super) const BATCH_MAX: usize = 1_000;

/// How many messages a purge removes in one transaction.
const PURGE_STEP: usize = 1_000;

impl QueueStore {
    /// Waits for a change, the time `next`, the next look by the clock, or the deadline.
    async fn pause(&self, seen: Ticket, next: Option<Wall>, deadline: Option<Instant>) {
        let time = &self.shared.time;
        let poll = self.shared.settings.poll;
        let next = next.map_or(poll, |next| next.since(self.now()).min(poll));
        // A message that is due and was taken by another is not looked for without end.
        let mut until = time.now() + next.max(Duration::from_millis(1));
        if let Some(deadline) = deadline {
            until = until.min(deadline);
        }
        let mut changed = pin!(self.shared.signal.changed(seen));
        let mut slept = pin!(time.sleep_until(until));
        poll_fn(|cx| {
            let over = changed.as_mut().poll(cx).is_ready() || slept.as_mut().poll(cx).is_ready();
            match over {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

/// The same for each of a batch.
fn each<R, E: From<BackendError>>(
    all: Result<Vec<Result<R, E>>, impl Into<BackendError>>,
    answers: usize,
) -> Vec<Result<R, E>> {
    match all {
        Ok(done) => done,
        Err(error) => {
            let error = error.into();
            (0..answers).map(|_| Err(error.clone().into())).collect()
        }
    }
}

#[async_trait]
impl Backend for QueueStore {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::of(&Capability::ALL)
            .with_order(OrderScope::Queue)
            .with_survival(self.shared.survives)
            .with_message_bytes_max(self.shared.settings.message_bytes_max)
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        let all = batch.len();
        let sent = self.send_together(batch).await;
        self.notify();
        each(sent, all)
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        let max = max.min(BATCH_MAX);
        let deadline = self.shared.time.now() + wait;
        loop {
            if self.shared.is_closed() {
                return Err(ReceiveError::Closed);
            }
            if max == 0 {
                return Ok(Vec::new());
            }
            // Before the look: what changes after it is not missed.
            let seen = self.shared.signal.ticket();
            let (found, next) = self.receive_together(max).await?;
            if found.again && found.deliveries.is_empty() {
                continue;
            }
            if !found.deliveries.is_empty() || self.shared.time.now() >= deadline {
                return Ok(found.deliveries);
            }
            self.pause(seen, next, Some(deadline)).await;
        }
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
        let all = batch.len();
        let settled = self.settle_together(batch).await;
        self.notify();
        each(settled, all)
    }

    async fn drain(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.notify();
        loop {
            let seen = self.shared.signal.ticket();
            let next = match self.leased().await {
                Ok(None) => return,
                Ok(next) => next,
                Err(error) if error.class() == Class::Transient => None,
                // It cannot tell, now or later; leases end by themselves.
                Err(_) => return,
            };
            self.pause(seen, next, None).await;
        }
    }

    async fn extend(&self, batch: Vec<Receipt>, by: Duration) -> Vec<Result<(), SettleError>> {
        each(self.extend_now(&batch, by).await, batch.len())
    }

    async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        Ok(self.dead_now(after, max).await.map_err(backend)?)
    }

    async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        self.replay_now(id).await
    }

    async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        Ok(self.discard_now(id).await.map_err(backend)?)
    }

    async fn peek(&self, after: Option<MessageId>, max: usize) -> Result<Vec<Peeked>, ManageError> {
        Ok(self.peek_now(after, max).await.map_err(backend)?)
    }

    async fn purge(&self) -> Result<u64, ManageError> {
        let mut purged = 0;
        loop {
            let (looked_at, step) = self.purge_step(PURGE_STEP).await.map_err(backend)?;
            purged += step as u64;
            if looked_at < PURGE_STEP {
                self.shared.stats.with(|stats| stats.purged += purged);
                return Ok(purged);
            }
        }
    }

    async fn stats(&self) -> Result<Stats, ManageError> {
        Ok(self.stats_now().await.map_err(backend)?)
    }

    async fn set_paused(&self, paused: bool) -> Result<(), ManageError> {
        self.pause_now(paused).await.map_err(backend)?;
        self.notify();
        Ok(())
    }
}
