//! An outbox with a bug, as people write them: the one in memory, with something done wrong around it.

// The state of the bugs needs a lock.
#![allow(clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use dpat_core::Wall;
use dpat_outbox::conformance::{End, Harness};
use dpat_outbox::{
    AppendError, Appended, Batch, Claim, Event, Lag, Limits, MemoryOutbox, Outcome, Parked,
    Position, Repair, Repaired, Replay, Replayed, Settled, Settlement, Store, StoreError, Ticket,
    Token,
};

use crate::memory::InMemory;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    HeadersAreDropped,
    RollbackCommits,
    LeaseIsIgnored,
    TokenIsIgnored,
    RepetitionIsLost,
    ReleaseWaits,
    RowsMaxIsIgnored,
    LaneMaxIsIgnored,
    BytesMaxIsIgnored,
    DedupIsIgnored,
    LimitsAreIgnored,
    WaitIsDeaf,
    ReopenForgets,
    KeysAreIgnored,
    RetryFreesTheKey,
    EverythingHasOneKey,
    AlwaysBlocks,
    NeverBlocks,
    CursorOverPositions,
    RepairSaysDone,
    DiscardRetries,
    ReplayIgnoresTheTopic,
    ReplayIsASend,
    PurgesEarly,
    PurgeIgnoresMax,
    LagForgetsTheParked,
}

pub(crate) struct Buggy {
    bug: Option<Bug>,
    inner: MemoryOutbox,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    holders: BTreeMap<Position, Token>,
    highest: Option<Position>,
    /// What waits for its retry, and is out of the way meanwhile.
    waiting: Vec<(Wall, Position)>,
}

impl Buggy {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn outcome(&self, settlement: &Settlement, now: Wall) -> Outcome {
        let outcome = &settlement.outcome;
        match outcome {
            Outcome::Release if self.has(Bug::ReleaseWaits) => Outcome::Retry {
                not_before: now + Duration::from_nanos(50),
            },
            Outcome::Retry { not_before } if self.has(Bug::RetryFreesTheKey) => {
                let waiting = (*not_before, settlement.position);
                self.state.lock().unwrap().waiting.push(waiting);
                Outcome::Park {
                    blocks: false,
                    reason: String::new(),
                }
            }
            Outcome::Park { reason, .. } if self.has(Bug::AlwaysBlocks) => Outcome::Park {
                blocks: true,
                reason: reason.clone(),
            },
            Outcome::Park { reason, .. } if self.has(Bug::NeverBlocks) => Outcome::Park {
                blocks: false,
                reason: reason.clone(),
            },
            other => other.clone(),
        }
    }
}

#[async_trait::async_trait]
impl Store for Buggy {
    async fn claim(&self, claim: &Claim) -> Result<Batch, StoreError> {
        let mut claim = claim.clone();
        if self.has(Bug::LeaseIsIgnored) {
            claim.lease = Duration::ZERO;
        }
        if self.has(Bug::RowsMaxIsIgnored) {
            claim.rows_max = 1_000;
        }
        if self.has(Bug::LaneMaxIsIgnored) {
            claim.lane_rows_max = 1_000;
        }
        if self.has(Bug::BytesMaxIsIgnored) {
            claim.bytes_max = usize::MAX;
        }
        let due: Vec<Position> = {
            let mut state = self.state.lock().unwrap();
            let (due, waiting) = std::mem::take(&mut state.waiting)
                .into_iter()
                .partition(|(at, _)| *at <= claim.now);
            state.waiting = waiting;
            let due: Vec<(Wall, Position)> = due;
            due.into_iter().map(|(_, position)| position).collect()
        };
        for position in due {
            self.inner
                .repair(claim.now, position, &Repair::Retry)
                .await?;
        }
        let mut batch = self.inner.claim(&claim).await?;
        let mut state = self.state.lock().unwrap();
        for row in &batch.rows {
            state.holders.insert(row.position, claim.token);
        }
        if self.has(Bug::CursorOverPositions) {
            let highest = state.highest;
            batch
                .rows
                .retain(|row| highest.is_none_or(|highest| row.position > highest));
            let now = batch.rows.iter().map(|row| row.position).max();
            state.highest = now.max(highest);
        }
        if self.has(Bug::HeadersAreDropped) {
            for row in &mut batch.rows {
                let event = Event::builder(row.event.id(), row.event.topic());
                row.event = event.payload(row.event.payload().clone()).build().unwrap();
            }
        }
        Ok(batch)
    }

    async fn settle(&self, now: Wall, all: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        let mut settled = Vec::new();
        for settlement in all {
            let mut settlement = Settlement {
                outcome: self.outcome(settlement, now),
                ..settlement.clone()
            };
            if self.has(Bug::TokenIsIgnored) {
                let holder = self
                    .state
                    .lock()
                    .unwrap()
                    .holders
                    .get(&settlement.position)
                    .copied();
                settlement.token = holder.unwrap_or(settlement.token);
            }
            let before = self.inner.lag().await?;
            let one = self.inner.settle(now, &[settlement]).await?[0];
            let same = self.inner.lag().await? == before;
            settled.push(match self.has(Bug::RepetitionIsLost) && same {
                true => Settled::Lost,
                false => one,
            });
        }
        Ok(settled)
    }

    async fn wait(&self, seen: Ticket) {
        if self.has(Bug::WaitIsDeaf) {
            std::future::pending::<()>().await;
        }
        self.inner.wait(seen).await;
    }

    async fn lag(&self) -> Result<Lag, StoreError> {
        let mut lag = self.inner.lag().await?;
        if self.has(Bug::LagForgetsTheParked) {
            lag.parked = 0;
        }
        Ok(lag)
    }

    async fn purge(&self, before: Wall, max: usize) -> Result<usize, StoreError> {
        let before = match self.has(Bug::PurgesEarly) {
            true => before + Duration::from_nanos(1),
            false => before,
        };
        let max = match self.has(Bug::PurgeIgnoresMax) {
            true => 1_000,
            false => max,
        };
        self.inner.purge(before, max).await
    }

    async fn parked(&self, after: Option<Position>, max: usize) -> Result<Vec<Parked>, StoreError> {
        self.inner.parked(after, max).await
    }

    async fn repair(&self, now: Wall, at: Position, how: &Repair) -> Result<Repaired, StoreError> {
        let how = match how {
            Repair::Discard if self.has(Bug::DiscardRetries) => &Repair::Retry,
            how => how,
        };
        let repaired = self.inner.repair(now, at, how).await?;
        Ok(match self.has(Bug::RepairSaysDone) {
            true => Repaired::Done,
            false => repaired,
        })
    }

    async fn replay(&self, now: Wall, replay: &Replay) -> Result<Replayed, StoreError> {
        let mut replay = replay.clone();
        if self.has(Bug::ReplayIgnoresTheTopic) {
            replay.topic = None;
        }
        let before = self.inner.lag().await?;
        let replayed = self.inner.replay(now, &replay).await?;
        if self.has(Bug::ReplayIsASend) && before.sent > 0 {
            return Ok(Replayed {
                rows: 0,
                ..replayed
            });
        }
        Ok(replayed)
    }
}

/// Makes outboxes with the bug.
pub(crate) struct Outboxes(pub(crate) Option<Bug>);

impl Outboxes {
    fn around(&self, inner: MemoryOutbox) -> Buggy {
        Buggy {
            bug: self.0,
            inner,
            state: Mutex::default(),
        }
    }

    /// What the bug makes of an event before it is appended.
    fn event(&self, event: &Event) -> Event {
        let rebuilt = |key: Option<&str>, dedup: Option<&str>| {
            let mut rebuilt = Event::builder(event.id(), event.topic());
            if let Some(key) = key {
                rebuilt = rebuilt.key(key);
            }
            if let Some(dedup) = dedup {
                rebuilt = rebuilt.dedup(dedup);
            }
            rebuilt.payload(event.payload().clone()).build().unwrap()
        };
        match self.0 {
            Some(Bug::DedupIsIgnored) => rebuilt(event.key(), None),
            Some(Bug::KeysAreIgnored) => rebuilt(None, event.dedup()),
            Some(Bug::EverythingHasOneKey) => rebuilt(Some("all"), event.dedup()),
            _ => event.clone(),
        }
    }
}

impl Harness for Outboxes {
    type Outbox = Buggy;

    fn fresh(&self, limits: Limits) -> Buggy {
        self.around(match self.0 {
            Some(Bug::LimitsAreIgnored) => MemoryOutbox::new(),
            _ => MemoryOutbox::with_limits(limits),
        })
    }

    fn reopen(&self, outbox: Buggy) -> Buggy {
        match self.0 {
            Some(Bug::ReopenForgets) => self.around(MemoryOutbox::new()),
            _ => outbox,
        }
    }

    fn in_tx(
        &self,
        outbox: &Buggy,
        now: Wall,
        events: &[Event],
        end: End,
    ) -> Result<Vec<Appended>, AppendError> {
        let events: Vec<Event> = events.iter().map(|event| self.event(event)).collect();
        let end = match (self.0, end) {
            (Some(Bug::RollbackCommits), End::Rollback) => End::Commit,
            (_, end) => end,
        };
        InMemory.in_tx(&outbox.inner, now, &events, end)
    }

    fn overlap(
        &self,
        outbox: &Buggy,
        now: Wall,
        early: &Event,
        late: &Event,
        between: &mut dyn FnMut(),
    ) -> bool {
        InMemory.overlap(&outbox.inner, now, early, late, between)
    }

    // Whoever waits for ever has found something; it need not take a million polls.
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        dpat_testkit::run_with(|| false, future)
    }
}
