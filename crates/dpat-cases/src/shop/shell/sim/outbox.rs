//! The outbox of a simulated store, as a relay sees it: what it changes takes the time of a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use dpat_core::{Sleep, Wall};
use dpat_outbox::{
    Batch, Claim, Claimed, Lag, MemoryOutbox, Outcome, Parked, Position, Repair, Repaired, Replay,
    Replayed, Settled, Settlement, Store, StoreError, Ticket,
};
use dpat_sim::async_node::AsyncNode;

use super::store::commit_takes;
use crate::sync::Mutex;

/// The keys of the events that are known to have arrived, as durable as their rows.
pub(super) type Arrived = Mutex<BTreeSet<String>>;

/// An outbox in memory, in one life of its node.
pub(super) struct SimOutbox {
    node: AsyncNode,
    outbox: MemoryOutbox,
    arrived: Arc<Arrived>,
    /// The keys of the events that this life holds.
    held: Mutex<BTreeMap<Position, String>>,
}

impl SimOutbox {
    pub(super) fn new(node: AsyncNode, outbox: MemoryOutbox, arrived: Arc<Arrived>) -> Self {
        Self {
            node,
            outbox,
            arrived,
            held: Mutex::new(BTreeMap::new()),
        }
    }

    /// Waits as for a disk. A crash meanwhile ends the relay: what was done before is kept, what comes after is not done.
    async fn commit(&self) {
        let takes = commit_takes(&self.node);
        self.node.time().sleep(takes).await;
    }
}

#[async_trait]
impl Store for SimOutbox {
    async fn claim(&self, claim: &Claim) -> Result<Batch, StoreError> {
        let batch = self.outbox.claim(claim).await?;
        // Looking at an outbox in which nothing is due changes nothing.
        if !batch.rows.is_empty() {
            self.commit().await;
        }
        let key = |row: &Claimed| row.event.key().unwrap_or_default().to_owned();
        let keys = batch.rows.iter().map(|row| (row.position, key(row)));
        self.held.lock().extend(keys);
        Ok(batch)
    }

    async fn settle(
        &self,
        now: Wall,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        self.commit().await;
        let settled = self.outbox.settle(now, settlements).await?;
        let mut held = self.held.lock();
        for (settlement, settled) in settlements.iter().zip(&settled) {
            // What is lost is under another claim by now, maybe one of this life.
            if *settled == Settled::Done {
                let key = held.remove(&settlement.position);
                if settlement.outcome == Outcome::Sent {
                    self.arrived.lock().extend(key);
                }
            }
        }
        Ok(settled)
    }

    async fn wait(&self, seen: Ticket) {
        self.outbox.wait(seen).await;
    }

    async fn lag(&self) -> Result<Lag, StoreError> {
        self.outbox.lag().await
    }

    async fn purge(&self, sent_before: Wall, max: usize) -> Result<usize, StoreError> {
        self.commit().await;
        self.outbox.purge(sent_before, max).await
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
        self.commit().await;
        self.outbox.repair(now, position, repair).await
    }

    async fn replay(&self, now: Wall, replay: &Replay) -> Result<Replayed, StoreError> {
        self.commit().await;
        self.outbox.replay(now, replay).await
    }
}
