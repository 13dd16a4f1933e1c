//! The port: each method one transaction that is over when it returns.

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
    Stats, Survives,
};

use super::QueueStore;
use super::rows::QueueTx;
use crate::connection;
use crate::error::EngineError;

/// How many messages a receive returns at most.
const BATCH_MAX: usize = 1_000;

/// How many messages a purge removes in one transaction.
const PURGE_STEP: usize = 1_000;

/// What the queue says of a failure of the database.
pub(super) fn backend(error: EngineError) -> BackendError {
    BackendError::new(error.class(), error.effect(), error)
}

impl QueueStore {
    async fn on<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<R, EngineError> + Send + 'static,
    ) -> Result<R, BackendError> {
        let store = self.clone();
        let threads = self.shared.own.threads;
        let result = connection::run(threads, move || work(&store)).await;
        result.map_err(backend)
    }

    /// Works in a transaction of its own; commits it unless `changed` says that there is nothing to commit.
    async fn write<R: Send + 'static>(
        &self,
        work: impl FnOnce(&QueueTx<'_>) -> Result<R, EngineError> + Send + 'static,
        changed: impl FnOnce(&R) -> bool + Send + 'static,
    ) -> Result<R, BackendError> {
        let written = self
            .on(move |store| {
                store
                    .shared
                    .own
                    .write(|tx| work(&store.within(tx)), changed)
            })
            .await;
        self.notify();
        written
    }

    /// Does something to each of a batch in one transaction, which is rolled back if the database fails.
    async fn each<T, R, E>(
        &self,
        batch: Vec<T>,
        work: impl Fn(&QueueTx<'_>, &T) -> Result<R, E> + Send + 'static,
        failed: impl Fn(&E) -> Option<&BackendError> + Send + 'static,
    ) -> Vec<Result<R, E>>
    where
        T: Send + 'static,
        R: Send + 'static,
        E: From<BackendError> + Send + 'static,
    {
        let answers = batch.len();
        let store = self.clone();
        let all = self
            .on(move |_| {
                let mut fatal = None;
                let done = store.shared.own.write(
                    |tx| {
                        let within = store.within(tx);
                        let mut done = Vec::with_capacity(batch.len());
                        for one in &batch {
                            let result = work(&within, one);
                            fatal = result.as_ref().err().and_then(&failed).cloned();
                            done.push(result);
                            if fatal.is_some() {
                                break;
                            }
                        }
                        Ok((done, fatal.clone()))
                    },
                    |(_, fatal)| fatal.is_none(),
                )?;
                Ok(done)
            })
            .await;
        self.notify();
        let error = match all {
            Ok((done, None)) => return done,
            Ok((_, Some(error))) | Err(error) => error,
        };
        (0..answers).map(|_| Err(error.clone().into())).collect()
    }

    /// Waits for a change, the time `next`, the next look for other processes, or the deadline.
    async fn pause(&self, seen: Ticket, next: Option<Wall>, deadline: Option<Instant>) {
        let time = &self.shared.time;
        let poll = self.shared.settings.poll;
        let next = next.map_or(poll, |next| next.since(time.wall()).min(poll));
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

    fn look_now(&self, max: usize) -> Result<(Vec<Delivery>, Option<Wall>), EngineError> {
        let own = &self.shared.own;
        let look = own.read(|tx| self.within(tx).look())?;
        let now = self.shared.time.wall();
        let due = look.ready || look.next.is_some_and(|next| next <= now);
        if look.paused || !due {
            // Without waiting for a writer, and without a commit.
            return Ok((Vec::new(), look.next.filter(|_| !look.paused)));
        }
        let received = own.write(
            |tx| self.within(tx).receive(max),
            |(deliveries, ticked)| !deliveries.is_empty() || *ticked > 0,
        );
        let next = look.next.filter(|next| *next > now);
        Ok((received?.0, next))
    }
}

#[async_trait]
impl Backend for QueueStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::of(&Capability::ALL)
            .with_order(OrderScope::Queue)
            .with_survival(Survives::PowerLoss)
            .with_message_bytes_max(self.shared.settings.message_bytes_max)
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        self.each(batch, |tx, message| tx.send(message), failed_send)
            .await
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
            let (deliveries, next) = self.on(move |store| store.look_now(max)).await?;
            if !deliveries.is_empty() || self.shared.time.now() >= deadline {
                return Ok(deliveries);
            }
            self.pause(seen, next, Some(deadline)).await;
        }
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
        self.each(
            batch,
            |tx, one| tx.settle(one.receipt, &one.outcome),
            failed_settle,
        )
        .await
    }

    async fn drain(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.notify();
        loop {
            let seen = self.shared.signal.ticket();
            let leased = self
                .on(|store| store.shared.own.read(|tx| store.within(tx).leased()))
                .await;
            let next = match leased {
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
        self.each(
            batch,
            move |tx, receipt| tx.extend(*receipt, by),
            failed_settle,
        )
        .await
    }

    async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        let letters = self.on(move |store| {
            let own = &store.shared.own;
            own.read(|tx| store.within(tx).dead_letters(after, max))
        });
        Ok(letters.await?)
    }

    async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        self.write(
            move |tx| Ok(tx.replay(id)),
            |replayed| matches!(replayed, Ok(true)),
        )
        .await?
    }

    async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        let discarded = self.write(move |tx| tx.discard(id), |discarded| *discarded);
        Ok(discarded.await?)
    }

    async fn peek(&self, after: Option<MessageId>, max: usize) -> Result<Vec<Peeked>, ManageError> {
        let peeked = self.on(move |store| {
            let own = &store.shared.own;
            own.write(
                |tx| {
                    let tx = store.within(tx);
                    Ok((tx.tick(store.shared.time.wall())?, tx.peek(after, max)?))
                },
                |(ticked, _)| *ticked > 0,
            )
        });
        Ok(peeked.await?.1)
    }

    async fn purge(&self) -> Result<u64, ManageError> {
        let mut purged = 0;
        loop {
            let step = self
                .write(
                    |tx| {
                        tx.tick(tx.now())?;
                        tx.purge(PURGE_STEP)
                    },
                    |_| true,
                )
                .await?;
            purged += step as u64;
            if step < PURGE_STEP {
                self.shared.stats.with(|stats| stats.purged += purged);
                return Ok(purged);
            }
        }
    }

    async fn stats(&self) -> Result<Stats, ManageError> {
        let stats = self.on(move |store| {
            let own = &store.shared.own;
            own.write(
                |tx| {
                    let tx = store.within(tx);
                    Ok((tx.tick(store.shared.time.wall())?, tx.stats()?))
                },
                |(ticked, _)| *ticked > 0,
            )
        });
        Ok(stats.await?.1)
    }

    async fn set_paused(&self, paused: bool) -> Result<(), ManageError> {
        let set = self.write(move |tx| tx.set_paused(paused), |()| true);
        Ok(set.await?)
    }
}

fn failed_send(error: &SendError) -> Option<&BackendError> {
    match error {
        SendError::Backend(error) => Some(error),
        _ => None,
    }
}

fn failed_settle(error: &SettleError) -> Option<&BackendError> {
    match error {
        SettleError::Backend(error) => Some(error),
        _ => None,
    }
}
