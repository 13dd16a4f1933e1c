//! The outbox as a relay sees it: what it claims and settles shares the commits of everybody else.

use async_trait::async_trait;
use dpat_core::{Class, Classify, Effect, Wall};
use dpat_outbox::{
    Batch, Claim, Claimed, Lag, Parked, Position, Repair, Repaired, Replay, Replayed, Settled,
    Settlement, Store, StoreError, Ticket,
};
use tokio::sync::mpsc;

use super::group::{self, Job};
use crate::shop::service::ports;

/// What a relay does within the transaction of a group.
pub(super) trait OutboxRows {
    fn claim(&mut self, claim: &Claim) -> Result<Vec<Claimed>, ports::StoreError>;
    fn next_due(&mut self) -> Result<Option<Wall>, ports::StoreError>;
    fn settle(
        &mut self,
        now: Wall,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, ports::StoreError>;
    fn purge(&mut self, sent_before: Wall, max: usize) -> Result<usize, ports::StoreError>;
    fn repair(
        &mut self,
        now: Wall,
        position: Position,
        repair: &Repair,
    ) -> Result<Repaired, ports::StoreError>;
    fn replay(&mut self, now: Wall, replay: &Replay) -> Result<Replayed, ports::StoreError>;
}

/// An outbox of which a relay can ask what needs no writer.
pub(super) trait Watched: Store + Clone {
    /// What [`Store::wait`] takes.
    fn ticket(&self) -> Ticket;
    /// From when on something can be claimed, as far as it is committed.
    fn next_due(&self) -> Result<Option<Wall>, StoreError>;
    /// Tells relays to look.
    fn notify(&self);
}

fn of_rows(error: impl Classify + std::fmt::Display) -> ports::StoreError {
    match error.class() {
        Class::Corrupt => ports::StoreError::Corrupt {
            table: "outbox",
            reason: error.to_string(),
        },
        _ => group::engine(error),
    }
}

/// The outboxes of engines that are embedded are alike.
macro_rules! embedded {
    ($($engine:ident),*) => {$(
        impl OutboxRows for $engine::OutboxTx<'_> {
            fn claim(&mut self, claim: &Claim) -> Result<Vec<Claimed>, ports::StoreError> {
                Self::claim(self, claim).map_err(of_rows)
            }
            fn next_due(&mut self) -> Result<Option<Wall>, ports::StoreError> {
                Self::next_due(self).map_err(of_rows)
            }
            fn settle(
                &mut self,
                now: Wall,
                settlements: &[Settlement],
            ) -> Result<Vec<Settled>, ports::StoreError> {
                Self::settle(self, now, settlements).map_err(of_rows)
            }
            fn purge(&mut self, sent_before: Wall, max: usize) -> Result<usize, ports::StoreError> {
                Self::purge(self, sent_before, max).map_err(of_rows)
            }
            fn repair(
                &mut self,
                now: Wall,
                position: Position,
                repair: &Repair,
            ) -> Result<Repaired, ports::StoreError> {
                Self::repair(self, now, position, repair).map_err(of_rows)
            }
            fn replay(&mut self, now: Wall, replay: &Replay) -> Result<Replayed, ports::StoreError> {
                Self::replay(self, now, replay).map_err(of_rows)
            }
        }

        impl Watched for $engine::Outbox {
            fn ticket(&self) -> Ticket {
                Self::ticket(self)
            }
            fn next_due(&self) -> Result<Option<Wall>, StoreError> {
                Ok(Self::next_due(self)?)
            }
            fn notify(&self) {
                Self::notify(self);
            }
        }
    )*};
}

embedded!(dpat_redb, dpat_sqlite);

/// An outbox whose changes go through the writer of its store.
pub(super) struct GroupOutbox<O> {
    jobs: mpsc::Sender<Box<dyn Job>>,
    outbox: O,
}

impl<O> GroupOutbox<O> {
    pub(super) fn new(jobs: &mpsc::Sender<Box<dyn Job>>, outbox: O) -> Self {
        Self {
            jobs: jobs.clone(),
            outbox,
        }
    }

    /// Works in a transaction of the writer; resolves once it is durable.
    async fn on<R: Send + 'static>(
        &self,
        work: impl Fn(&mut dyn OutboxRows) -> Result<R, ports::StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let done = group::transact(self.jobs.clone(), move |rows| work(rows.outbox()?));
        done.await.map_err(store_error)
    }
}

/// A store that has failed once does not come back in this life of its node.
fn store_error(error: ports::StoreError) -> StoreError {
    let class = match &error {
        ports::StoreError::Corrupt { .. } => Class::Corrupt,
        ports::StoreError::Closed | ports::StoreError::Engine(_) => Class::Permanent,
    };
    StoreError::new(class, Effect::Unknown, error.to_string()).with_source(error)
}

#[async_trait]
impl<O: Watched> Store for GroupOutbox<O> {
    async fn claim(&self, claim: &Claim) -> Result<Batch, StoreError> {
        // Before the look: what changes after it is not missed.
        let seen = self.outbox.ticket();
        let next_due = self.outbox.next_due()?;
        if next_due.is_none_or(|due| due > claim.now) {
            return Ok(Batch {
                rows: Vec::new(),
                seen,
                next_due,
            });
        }
        let claim = claim.clone();
        self.on(move |outbox| {
            Ok(Batch {
                rows: outbox.claim(&claim)?,
                seen,
                next_due: outbox.next_due()?,
            })
        })
        .await
    }

    async fn settle(
        &self,
        now: Wall,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        let settlements = settlements.to_vec();
        self.on(move |outbox| outbox.settle(now, &settlements))
            .await
    }

    async fn wait(&self, seen: Ticket) {
        self.outbox.wait(seen).await;
    }

    async fn lag(&self) -> Result<Lag, StoreError> {
        self.outbox.lag().await
    }

    async fn purge(&self, sent_before: Wall, max: usize) -> Result<usize, StoreError> {
        self.on(move |outbox| outbox.purge(sent_before, max)).await
    }

    async fn parked(&self, after: Option<Position>, max: usize) -> Result<Vec<Parked>, StoreError> {
        self.outbox.parked(after, max).await
    }

    async fn repair(
        &self,
        now: Wall,
        position: Position,
        repair: &Repair,
    ) -> Result<Repaired, StoreError> {
        let repair = repair.clone();
        let repaired = self
            .on(move |outbox| outbox.repair(now, position, &repair))
            .await?;
        self.outbox.notify();
        Ok(repaired)
    }

    async fn replay(&self, now: Wall, replay: &Replay) -> Result<Replayed, StoreError> {
        let replay = replay.clone();
        let replayed = self.on(move |outbox| outbox.replay(now, &replay)).await?;
        self.outbox.notify();
        Ok(replayed)
    }
}
