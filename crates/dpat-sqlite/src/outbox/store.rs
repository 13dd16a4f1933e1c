//! The port: each method one transaction that is over when it returns.

use async_trait::async_trait;
use dpat_core::Wall;
use dpat_outbox::{
    Batch, Claim, Lag, Parked, Position, Repair, Repaired, Replay, Replayed, Settled, Settlement,
    Store, StoreError, Ticket,
};

use super::Outbox;
use super::rows::OutboxTx;
use crate::connection;
use crate::error::EngineError;

impl Outbox {
    /// Works in a transaction of its own; commits it unless `changed` says that there is nothing to commit.
    fn write<R>(
        &self,
        work: impl FnOnce(&mut OutboxTx<'_>) -> Result<R, EngineError>,
        changed: impl FnOnce(&R) -> bool,
    ) -> Result<R, EngineError> {
        self.shared
            .own
            .write(|tx| work(&mut self.within(tx)), changed)
    }

    fn claim_now(&self, claim: &Claim) -> Result<Batch, EngineError> {
        // Before the look: what changes after it is not missed.
        let seen = self.ticket();
        let next_due = self.next_due()?;
        if next_due.is_none_or(|due| due > claim.now) {
            // Without waiting for a writer, and without a commit.
            return Ok(Batch {
                rows: Vec::new(),
                seen,
                next_due,
            });
        }
        self.write(
            |outbox| {
                Ok(Batch {
                    rows: outbox.claim(claim)?,
                    seen,
                    next_due: outbox.next_due()?,
                })
            },
            |batch| !batch.rows.is_empty(),
        )
    }

    async fn on<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<R, EngineError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let outbox = self.clone();
        let threads = self.shared.own.threads;
        let result = connection::run(threads, move || work(&outbox)).await;
        Ok(result?)
    }
}

#[async_trait]
impl Store for Outbox {
    async fn claim(&self, claim: &Claim) -> Result<Batch, StoreError> {
        let claim = claim.clone();
        self.on(move |outbox| outbox.claim_now(&claim)).await
    }

    async fn settle(
        &self,
        now: Wall,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        let settlements = settlements.to_vec();
        self.on(move |outbox| outbox.write(|tx| tx.settle(now, &settlements), |_| true))
            .await
    }

    async fn wait(&self, seen: Ticket) {
        self.shared.signal.changed(seen).await;
    }

    async fn lag(&self) -> Result<Lag, StoreError> {
        self.on(Outbox::lag_now).await
    }

    async fn purge(&self, sent_before: Wall, max: usize) -> Result<usize, StoreError> {
        self.on(move |outbox| outbox.write(|tx| tx.purge(sent_before, max), |rows| *rows > 0))
            .await
    }

    async fn parked(&self, after: Option<Position>, max: usize) -> Result<Vec<Parked>, StoreError> {
        self.on(move |outbox| outbox.parked_now(after, max)).await
    }

    async fn repair(
        &self,
        now: Wall,
        position: Position,
        repair: &Repair,
    ) -> Result<Repaired, StoreError> {
        let repair = repair.clone();
        let repaired = self
            .on(move |outbox| {
                let done = |repaired: &Repaired| *repaired == Repaired::Done;
                outbox.write(|tx| tx.repair(now, position, &repair), done)
            })
            .await?;
        self.notify();
        Ok(repaired)
    }

    async fn replay(&self, now: Wall, replay: &Replay) -> Result<Replayed, StoreError> {
        let replay = replay.clone();
        let replayed = self
            .on(move |outbox| outbox.write(|tx| tx.replay(now, &replay), |done| done.rows > 0))
            .await?;
        self.notify();
        Ok(replayed)
    }
}
