//! The port.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use dpat_core::{Classify, Clock, Instant, Sleep};
use dpat_queue::{
    Backend, BackendError, Capabilities, Capability, DeadLetter, Delivery, ManageError, Message,
    MessageId, OrderScope, Peeked, Receipt, ReceiveError, SendError, Sent, SettleError, Settlement,
    Stats,
};
use tokio::sync::watch;

use super::QueueStore;
use super::body::size;
use super::calls::Received;
use crate::error::EngineError;
use crate::join::{Brought, Most};

/// How many messages a receive returns at most.
const BATCH_MAX: usize = 1_000;

/// How many messages, and how many bytes beyond the first of them, are sent or settled by one script.
const STEP_MAX: usize = 128;
const STEP_BYTES_MAX: usize = 8 << 20;

/// How much of what is asked for at one time goes together.
pub(super) const TOGETHER: Most = Most {
    items: STEP_MAX,
    bytes: STEP_BYTES_MAX,
};

impl QueueStore {
    /// What one script can do goes with others of its kind.
    async fn send_together(
        &self,
        items: Vec<Message>,
        by: tokio::time::Instant,
    ) -> Result<Vec<Result<Sent, SendError>>, EngineError> {
        let bytes = items.iter().map(size).sum();
        let shared = Arc::clone(&self.shared);
        let run = |batch: Vec<Message>, by| async move { shared.send(&batch, by).await };
        let late = |begun| self.shared.link.late(begun);
        let brought = Brought { items, bytes, by };
        self.shared.sends.join(brought, run, late).await
    }

    async fn settle_together(
        &self,
        items: Vec<Settlement>,
        by: tokio::time::Instant,
    ) -> Result<Vec<Result<(), SettleError>>, EngineError> {
        let shared = Arc::clone(&self.shared);
        let run = |batch: Vec<Settlement>, by| async move { shared.settle(&batch, by).await };
        let late = |begun| self.shared.link.late(begun);
        let brought = Brought {
            items,
            bytes: 0,
            by,
        };
        self.shared.settlements.join(brought, run, late).await
    }

    async fn receive_together(&self, max: usize) -> Result<Received, EngineError> {
        let by = self.shared.link.deadline();
        let shared = Arc::clone(&self.shared);
        let run = |wanted: Vec<usize>, by| async move {
            let all: usize = wanted.iter().sum();
            let mut received = shared.receive(all.min(BATCH_MAX), by).await?;
            received.more |= all > BATCH_MAX && received.deliveries.len() == BATCH_MAX;
            Ok(received.share(&wanted))
        };
        let late = |begun| self.shared.link.late(begun);
        let brought = Brought {
            items: vec![max],
            bytes: 0,
            by,
        };
        let mut received = self.shared.receives.join(brought, run, late).await?;
        received
            .pop()
            .ok_or_else(|| EngineError::unreadable("receive"))
    }

    /// Waits for a change, the time `next`, the next look, or the deadline.
    async fn pause(
        &self,
        mut changes: watch::Receiver<u64>,
        next: Option<Duration>,
        deadline: Option<Instant>,
    ) {
        let time = &self.shared.time;
        let poll = self.shared.settings.poll;
        // A message that is due and was taken by another is not looked for without end.
        let next = next.unwrap_or(poll).max(Duration::from_millis(1)).min(poll);
        let mut until = time.now() + next;
        if let Some(deadline) = deadline {
            until = until.min(deadline);
        }
        let mut changed = pin!(changes.changed());
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

    /// Where the scripts cannot tell them, tells the receives of this handle.
    fn tell(&self) {
        if !self.shared.wakes.is_live() {
            self.shared.wakes.notify();
        }
    }
}

/// The ends of pieces that one script each can do.
fn pieces<T>(batch: &[T], size: impl Fn(&T) -> usize) -> Vec<std::ops::Range<usize>> {
    let (mut pieces, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (at, one) in batch.iter().enumerate() {
        let size = size(one);
        if at > begin && (at - begin == STEP_MAX || bytes + size > STEP_BYTES_MAX) {
            pieces.push(begin..at);
            (begin, bytes) = (at, 0);
        }
        bytes += size;
    }
    if begin < batch.len() {
        pieces.push(begin..batch.len());
    }
    pieces
}

/// Notes what a piece came to; if it failed, what is behind it is not begun.
fn note<R, E>(
    answers: &mut Vec<Result<R, E>>,
    done: Result<Vec<Result<R, E>>, EngineError>,
    piece: usize,
    all: usize,
) -> bool
where
    E: From<BackendError>,
{
    match done {
        Ok(done) => {
            answers.extend(done);
            true
        }
        Err(error) => {
            let failed = |error: &EngineError| Err(BackendError::from(error.clone()).into());
            answers.extend((0..piece).map(|_| failed(&error)));
            let before = error.before();
            answers.extend((answers.len()..all).map(|_| failed(&before)));
            false
        }
    }
}

#[async_trait]
impl Backend for QueueStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::of(&Capability::ALL)
            .without(Capability::TransactionalSend)
            .with_order(OrderScope::Queue)
            .with_survival(self.shared.info.durability.into())
            .with_message_bytes_max(self.shared.settings.message_bytes_max)
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        let all = batch.len();
        if self.shared.is_closed() {
            return batch.iter().map(|_| Err(SendError::Closed)).collect();
        }
        let by = self.shared.link.deadline();
        let mut answers = Vec::with_capacity(all);
        let pieces = pieces(&batch, size);
        if pieces.len() == 1 {
            let sent = self.send_together(batch, by).await;
            note(&mut answers, sent, all, all);
            self.tell();
            return answers;
        }
        for piece in pieces {
            let piece = &batch[piece];
            let sent = self.shared.send(piece, by).await;
            if !note(&mut answers, sent, piece.len(), all) {
                break;
            }
        }
        self.tell();
        answers
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        let shared = &self.shared;
        let max = max.min(BATCH_MAX);
        let deadline = shared.time.now() + wait;
        loop {
            if shared.is_closed() {
                return Err(ReceiveError::Closed);
            }
            if max == 0 {
                return Ok(Vec::new());
            }
            // Before the look: what changes after it is not missed.
            let changes = shared.wakes.watch();
            let received = self.receive_together(max).await;
            let received = received.map_err(BackendError::from)?;
            if !received.deliveries.is_empty() {
                return Ok(received.deliveries);
            }
            if received.more {
                // Others have got all that one script gives out.
                continue;
            }
            if shared.time.now() >= deadline {
                return Ok(received.deliveries);
            }
            if shared.wakes.listen(shared.link.deadline()).await {
                // What was said before is to be looked for.
                continue;
            }
            self.pause(changes, received.next, Some(deadline)).await;
        }
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
        let by = self.shared.link.deadline();
        let all = batch.len();
        let mut answers = Vec::with_capacity(all);
        if all <= STEP_MAX {
            let settled = self.settle_together(batch, by).await;
            note(&mut answers, settled, all, all);
            self.shared.wakes.notify();
            return answers;
        }
        for piece in pieces(&batch, |_| 0) {
            let piece = &batch[piece];
            let settled = self.shared.settle(piece, by).await;
            if !note(&mut answers, settled, piece.len(), batch.len()) {
                break;
            }
        }
        // A queue that is drained waits for it, and this is not told by a script.
        self.shared.wakes.notify();
        answers
    }

    async fn drain(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.wakes.notify();
        // By then every lease that was not extended has ended.
        let time = &self.shared.time;
        let hopeless = time.now() + self.shared.settings.visibility;
        loop {
            let changes = self.shared.wakes.watch();
            let next = match self.shared.leased().await {
                Ok(None) => return,
                Ok(next) => next,
                Err(error) if error.class().is_retryable() && time.now() < hopeless => None,
                // It cannot tell, now or later.
                Err(_) => return,
            };
            self.pause(changes, next, None).await;
        }
    }

    async fn extend(&self, batch: Vec<Receipt>, by: Duration) -> Vec<Result<(), SettleError>> {
        let deadline = self.shared.link.deadline();
        let mut answers = Vec::with_capacity(batch.len());
        for piece in pieces(&batch, |_| 0) {
            let piece = &batch[piece];
            let extended = self.shared.extend(piece, by, deadline).await;
            if !note(&mut answers, extended, piece.len(), batch.len()) {
                break;
            }
        }
        answers
    }

    async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        let letters = self.shared.dead_letters(after, max.min(BATCH_MAX)).await;
        Ok(letters.map_err(BackendError::from)?)
    }

    async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        let replayed = self.shared.replay(id).await;
        self.tell();
        replayed
    }

    async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        Ok(self.shared.discard(id).await.map_err(BackendError::from)?)
    }

    async fn peek(&self, after: Option<MessageId>, max: usize) -> Result<Vec<Peeked>, ManageError> {
        let peeked = self.shared.peek(after, max.min(BATCH_MAX)).await;
        Ok(peeked.map_err(BackendError::from)?)
    }

    async fn purge(&self) -> Result<u64, ManageError> {
        Ok(self.shared.purge().await.map_err(BackendError::from)?)
    }

    async fn stats(&self) -> Result<Stats, ManageError> {
        Ok(self.shared.stats().await.map_err(BackendError::from)?)
    }

    async fn set_paused(&self, paused: bool) -> Result<(), ManageError> {
        let set = self.shared.set_paused(paused).await;
        self.tell();
        Ok(set.map_err(BackendError::from)?)
    }
}

#[cfg(test)]
mod tests {
    use dpat_core::Effect;

    use super::*;

    #[test]
    fn a_batch_is_cut_where_one_script_has_enough() {
        let sizes = |sizes: &[usize]| -> Vec<(usize, usize)> {
            let pieces = pieces(sizes, |size| *size).into_iter();
            pieces.map(|piece| (piece.start, piece.end)).collect()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[1, 2]), [(0, 2)]);
        assert_eq!(sizes(&[STEP_BYTES_MAX, 1, 2]), [(0, 1), (1, 3)]);
        assert_eq!(
            sizes(&[1; STEP_MAX + 1]),
            [(0, STEP_MAX), (STEP_MAX, STEP_MAX + 1)]
        );
        assert_eq!(
            sizes(&[2 * STEP_BYTES_MAX, 2 * STEP_BYTES_MAX]),
            [(0, 1), (1, 2)]
        );
    }

    #[test]
    fn what_is_behind_a_failure_is_not_begun() {
        let mut answers: Vec<Result<(), SettleError>> = vec![Ok(())];
        let failed = Err(EngineError::timeout("a"));
        assert!(!note(&mut answers, failed, 2, 5));
        let effects = answers
            .iter()
            .skip(1)
            .map(|one| one.as_ref().unwrap_err().effect());
        let effects: Vec<_> = effects.collect();
        use Effect::{NotDone, Unknown};
        assert_eq!(effects, [Unknown, Unknown, NotDone, NotDone]);
    }
}
