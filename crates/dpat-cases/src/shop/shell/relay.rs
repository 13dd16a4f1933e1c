//! The outbox as a relay sees it: what it claims and settles shares the commits of everybody else.

use async_trait::async_trait;
use dpat_core::{Class, Effect, Wall};
use dpat_outbox::{
    Batch, Claim, Lag, Parked, Position, Repair, Repaired, Replay, Replayed, Settled, Settlement,
    Store, StoreError, Ticket,
};
use dpat_redb::{EngineError, Outbox, OutboxTx};
use tokio::sync::mpsc;

use super::group::{self, Job};
use super::rows::Ground;
use crate::shop::service::ports;

/// An outbox whose changes go through the writer of its store.
pub(super) struct GroupOutbox {
    jobs: mpsc::Sender<Job>,
    outbox: Outbox,
}

impl GroupOutbox {
    pub(super) fn new(jobs: mpsc::Sender<Job>, ground: &Ground) -> Self {
        Self {
            jobs,
            outbox: ground.outbox().clone(),
        }
    }

    /// Works in a transaction of the writer; resolves once it is durable.
    async fn on<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut OutboxTx<'_>) -> Result<R, EngineError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let done = group::transact(self.jobs.clone(), move |rows| {
            let mut work = Some(work);
            let mut result = None;
            rows.on_outbox(&mut |outbox| {
                if let Some(work) = work.take() {
                    result = Some(work(outbox)?);
                }
                Ok(())
            })?;
            result.ok_or(ports::StoreError::Closed)
        });
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
impl Store for GroupOutbox {
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
        Ok(self.outbox.lag_now()?)
    }

    async fn purge(&self, sent_before: Wall, max: usize) -> Result<usize, StoreError> {
        self.on(move |outbox| outbox.purge(sent_before, max)).await
    }

    async fn parked(&self, after: Option<Position>, max: usize) -> Result<Vec<Parked>, StoreError> {
        Ok(self.outbox.parked_now(after, max)?)
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
