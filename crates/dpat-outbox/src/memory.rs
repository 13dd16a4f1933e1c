//! An outbox in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use dpat_core::{Class, Classify, Effect, Uuid7, Wall};

use crate::error::{AppendError, StoreError};
use crate::event::Event;
use crate::row::{Lane, Phase, Position, RowState, Settled, Settlement};
use crate::signal::{Signal, Ticket};
use crate::store::{
    Appended, Batch, Claim, Claimed, Lag, Limits, Parked, Repair, Repaired, Replay, ReplayFrom,
    Replayed, Store,
};
use crate::sync::Mutex;

/// An outbox in memory beside rows of your own, for tests and to see a relay work. Clones share it.
///
/// Transactions overlap: positions are drawn at append, and a transaction that drew an earlier one may commit later, as in
/// a database with sequences. One that read or wrote what another changed meanwhile fails at its commit.
#[derive(Clone, Debug, Default)]
pub struct MemoryOutbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
    signal: Signal,
}

#[derive(Debug, Default)]
struct State {
    last_position: u64,
    commits: u64,
    rows: BTreeMap<Position, Row>,
    lanes: BTreeMap<Lane, InLane>,
    ready: BTreeSet<(Wall, Lane)>,
    backlog: BTreeSet<Position>,
    backlog_bytes: u64,
    parked: BTreeSet<Position>,
    sent: BTreeSet<(Wall, Position)>,
    ids: BTreeMap<Uuid7, Position>,
    dedups: BTreeMap<String, Uuid7>,
    /// The caller's own rows, and the commit that last changed each.
    own: BTreeMap<Vec<u8>, Vec<u8>>,
    changed: BTreeMap<Vec<u8>, u64>,
}

/// What is in a lane, and from when the first of it can be claimed, as it stands among those that are ready.
#[derive(Debug, Default)]
struct InLane {
    positions: BTreeSet<Position>,
    due: Option<Wall>,
}

#[derive(Clone, Debug)]
struct Row {
    event: Event,
    bytes: u64,
    state: RowState,
}

/// In which indexes a row is.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    in_lane: bool,
    /// The bytes that it counts for.
    backlog: Option<u64>,
    parked: bool,
    sent: Option<Wall>,
}

impl Indexed {
    const NOWHERE: Self = Self {
        in_lane: false,
        backlog: None,
        parked: false,
        sent: None,
    };

    fn of(row: &Row) -> Self {
        Self {
            in_lane: row.state.due().is_some(),
            backlog: row.state.is_backlog().then_some(row.bytes),
            parked: matches!(row.state.phase(), Phase::Parked { .. }),
            sent: row.state.sent_at(),
        }
    }
}

/// A transaction of a [`MemoryOutbox`]. Dropping it rolls it back.
#[derive(Debug)]
pub struct MemoryTx {
    shared: Arc<Shared>,
    /// The commits that had been made when it began.
    seen: u64,
    events: BTreeMap<Position, Row>,
    touched: BTreeSet<Vec<u8>>,
    own: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// Another transaction changed the same. Nothing was committed; do it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another transaction changed the same rows")]
pub struct Contended;

impl Classify for Contended {
    fn class(&self) -> Class {
        Class::Conflict
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

impl MemoryOutbox {
    /// Makes an empty outbox with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty outbox with limits.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared {
                limits,
                ..Shared::default()
            }),
        }
    }

    /// Begins a transaction.
    #[must_use]
    pub fn begin(&self) -> MemoryTx {
        MemoryTx {
            seen: self.shared.state.with(|state| state.commits),
            shared: Arc::clone(&self.shared),
            events: BTreeMap::new(),
            touched: BTreeSet::new(),
            own: BTreeMap::new(),
        }
    }

    /// Reads a committed row of your own.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.shared.state.with(|state| state.own.get(key).cloned())
    }
}

impl MemoryTx {
    /// Adds an event to the transaction; a relay sees it once the transaction is committed.
    ///
    /// # Errors
    /// [`AppendError::Full`].
    pub fn append(&mut self, event: &Event, now: Wall) -> Result<Appended, AppendError> {
        let bytes = event.encode().len() as u64;
        let own = self.events.values().map(|row| (&row.event, row.bytes));
        let (mut own_rows, mut own_bytes) = (1, bytes);
        for (earlier, bytes) in own {
            if earlier.id() == event.id()
                || earlier
                    .dedup()
                    .is_some_and(|one| event.dedup() == Some(one))
            {
                return Ok(Appended::Duplicate(earlier.id()));
            }
            own_rows += 1;
            own_bytes += bytes;
        }
        let Shared { limits, state, .. } = &*self.shared;
        let appended = state.with(|state| {
            if let Some(id) = state.known(event) {
                return Ok(Appended::Duplicate(id));
            }
            let full = |field, limit| Err(AppendError::Full { field, limit });
            if state.backlog.len() as u64 + own_rows > limits.backlog_rows {
                return full("backlog_rows", limits.backlog_rows);
            }
            if state.backlog_bytes + own_bytes > limits.backlog_bytes {
                return full("backlog_bytes", limits.backlog_bytes);
            }
            state.last_position += 1;
            Ok(Appended::New(Position(state.last_position)))
        })?;
        if let Appended::New(position) = appended {
            let row = Row {
                event: event.clone(),
                bytes,
                state: RowState::appended(now),
            };
            self.events.insert(position, row);
        }
        Ok(appended)
    }

    /// Reads a row of your own as this transaction sees it.
    #[must_use]
    pub fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.touched.insert(key.to_vec());
        match self.own.get(key) {
            Some(own) => own.clone(),
            None => self.shared.state.with(|state| state.own.get(key).cloned()),
        }
    }

    /// Writes a row of your own.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.touched.insert(key.to_vec());
        self.own.insert(key.to_vec(), Some(value.to_vec()));
    }

    /// Removes a row of your own.
    pub fn remove(&mut self, key: &[u8]) {
        self.touched.insert(key.to_vec());
        self.own.insert(key.to_vec(), None);
    }

    /// Makes everything visible at once, or nothing.
    ///
    /// # Errors
    /// [`Contended`].
    pub fn commit(self) -> Result<(), Contended> {
        let Self {
            shared,
            seen,
            events,
            touched,
            own,
        } = self;
        shared.state.with(|state| {
            let changed =
                |key: &Vec<u8>| state.changed.get(key).is_some_and(|commit| *commit > seen);
            let known = |row: &Row| state.known(&row.event).is_some();
            if touched.iter().any(changed) || events.values().any(known) {
                return Err(Contended);
            }
            state.commits += 1;
            let commit = state.commits;
            for (key, value) in own {
                state.changed.insert(key.clone(), commit);
                match value {
                    Some(value) => drop(state.own.insert(key, value)),
                    None => drop(state.own.remove(&key)),
                }
            }
            for (position, row) in events {
                state.ids.insert(row.event.id(), position);
                if let Some(dedup) = row.event.dedup() {
                    state.dedups.insert(dedup.to_owned(), row.event.id());
                }
                state.insert(position, row);
            }
            Ok(())
        })?;
        shared.signal.notify();
        Ok(())
    }
}

impl State {
    /// The event that is there already with the same id or deduplication key.
    fn known(&self, event: &Event) -> Option<Uuid7> {
        if self.ids.contains_key(&event.id()) {
            return Some(event.id());
        }
        event
            .dedup()
            .and_then(|dedup| self.dedups.get(dedup).copied())
    }

    fn insert(&mut self, position: Position, row: Row) {
        let lane = Lane::of(&row.event, position);
        self.index(position, &lane, Indexed::NOWHERE, Indexed::of(&row));
        self.rows.insert(position, row);
        self.schedule(&lane);
    }

    fn remove(&mut self, position: Position) -> Option<Row> {
        let row = self.rows.remove(&position)?;
        let lane = Lane::of(&row.event, position);
        self.index(position, &lane, Indexed::of(&row), Indexed::NOWHERE);
        self.schedule(&lane);
        Some(row)
    }

    /// Forgets an event altogether.
    fn forget(&mut self, position: Position) {
        if let Some(row) = self.remove(position) {
            self.ids.remove(&row.event.id());
            if let Some(dedup) = row.event.dedup() {
                self.dedups.remove(dedup);
            }
        }
    }

    /// Changes a row with its indexes; none if there is no such row.
    ///
    /// The event may become another, but none of another lane.
    fn change<R>(&mut self, position: Position, change: impl FnOnce(&mut Row) -> R) -> Option<R> {
        let row = self.rows.get_mut(&position)?;
        let before = Indexed::of(row);
        let result = change(row);
        let after = Indexed::of(row);
        let lane = Lane::of(&row.event, position);
        self.index(position, &lane, before, after);
        self.schedule(&lane);
        Some(result)
    }

    /// Moves a row in the indexes from where it was to where it is.
    fn index(&mut self, position: Position, lane: &Lane, before: Indexed, after: Indexed) {
        match (before.in_lane, after.in_lane) {
            (false, true) => {
                let in_lane = self.lanes.entry(lane.clone()).or_default();
                in_lane.positions.insert(position);
            }
            (true, false) => {
                if let Some(in_lane) = self.lanes.get_mut(lane) {
                    in_lane.positions.remove(&position);
                }
            }
            _ => {}
        }
        if before.backlog != after.backlog {
            if let Some(bytes) = before.backlog {
                self.backlog.remove(&position);
                self.backlog_bytes -= bytes;
            }
            if let Some(bytes) = after.backlog {
                self.backlog.insert(position);
                self.backlog_bytes += bytes;
            }
        }
        match (before.parked, after.parked) {
            (false, true) => drop(self.parked.insert(position)),
            (true, false) => drop(self.parked.remove(&position)),
            _ => {}
        }
        if before.sent != after.sent {
            if let Some(at) = before.sent {
                self.sent.remove(&(at, position));
            }
            if let Some(at) = after.sent {
                self.sent.insert((at, position));
            }
        }
    }

    /// Notes from when a lane can be claimed: when its first event can. Forgets a lane without events.
    fn schedule(&mut self, lane: &Lane) {
        let Some(in_lane) = self.lanes.get_mut(lane) else {
            return;
        };
        let first = in_lane.positions.first();
        let due = first.and_then(|first| self.rows.get(first)?.state.due());
        let due = due.filter(|due| *due != Wall::MAX);
        if due != in_lane.due {
            if let Some(noted) = in_lane.due {
                self.ready.remove(&(noted, lane.clone()));
            }
            if let Some(due) = due {
                self.ready.insert((due, lane.clone()));
            }
            in_lane.due = due;
        }
        if in_lane.positions.is_empty() {
            self.lanes.remove(lane);
        }
    }

    fn claim(&mut self, claim: &Claim) -> Vec<Claimed> {
        let due = self.ready.iter().take_while(|(due, _)| *due <= claim.now);
        let lanes: Vec<Lane> = due
            .take(claim.rows_max)
            .map(|(_, lane)| lane.clone())
            .collect();
        let mut claimed = Vec::new();
        let mut bytes = 0;
        for lane in lanes {
            let in_lane = self.lanes.get(&lane).into_iter();
            let positions = in_lane.flat_map(|in_lane| &in_lane.positions);
            let positions: Vec<Position> = positions.take(claim.lane_rows_max).copied().collect();
            for position in positions {
                let size = self.rows.get(&position).map_or(0, |row| row.bytes);
                let bytes_max = claim.bytes_max as u64;
                let first = claimed.is_empty();
                if claimed.len() == claim.rows_max || (!first && bytes + size > bytes_max) {
                    return claimed;
                }
                let taken = self.change(position, |row| {
                    let taken = row.state.claim(claim.token, claim.now, claim.lease);
                    taken.then(|| Claimed {
                        position,
                        event: row.event.clone(),
                        attempts: row.state.attempts(),
                        replays: row.state.replays(),
                        appended_at: row.state.appended_at(),
                        first_claim: row.state.first_claim().unwrap_or(claim.now),
                    })
                });
                let Some(taken) = taken.flatten() else { break };
                bytes += size;
                claimed.push(taken);
            }
        }
        claimed
    }

    fn replay(&mut self, now: Wall, replay: &Replay) -> Replayed {
        let from = match (replay.from, replay.after) {
            (ReplayFrom::Position(from), Some(after)) if from > after => Bound::Included(from),
            (_, Some(after)) => Bound::Excluded(after),
            (ReplayFrom::Position(from), None) => Bound::Included(from),
            (ReplayFrom::Time(_), None) => Bound::Unbounded,
        };
        let looked_at = self.rows.range((from, Bound::Unbounded)).take(replay.max);
        let looked_at: Vec<Position> = looked_at.map(|(position, _)| *position).collect();
        let mut rows = 0;
        for position in &looked_at {
            let again = self.change(*position, |row| {
                let young = match replay.from {
                    ReplayFrom::Position(_) => true,
                    ReplayFrom::Time(from) => row.state.appended_at() >= from,
                };
                let topic = replay
                    .topic
                    .as_deref()
                    .is_none_or(|topic| row.event.topic() == topic);
                young && topic && row.state.replay(now)
            });
            rows += u64::from(again == Some(true));
        }
        Replayed {
            rows,
            next: (looked_at.len() == replay.max)
                .then(|| looked_at.last().copied())
                .flatten(),
        }
    }

    fn repair(&mut self, now: Wall, position: Position, repair: &Repair) -> Repaired {
        let Some(row) = self.rows.get(&position) else {
            return Repaired::NotParked;
        };
        if !self.parked.contains(&position) {
            return Repaired::NotParked;
        }
        match repair {
            Repair::Discard => self.forget(position),
            Repair::Retry => drop(self.change(position, |row| row.state.retry(now))),
            Repair::Replace(event) => {
                let identity = |event: &Event| {
                    let text = |text: Option<&str>| text.map(str::to_owned);
                    (event.id(), text(event.key()), text(event.dedup()))
                };
                if identity(event) != identity(&row.event) {
                    return Repaired::OtherIdentity;
                }
                self.change(position, |row| {
                    row.bytes = event.encode().len() as u64;
                    row.event = event.clone();
                    row.state.retry(now)
                });
            }
        }
        Repaired::Done
    }
}

#[async_trait]
impl Store for MemoryOutbox {
    async fn claim(&self, claim: &Claim) -> Result<Batch, StoreError> {
        // Before the look: what changes after it is not missed.
        let seen = self.shared.signal.ticket();
        Ok(self.shared.state.with(|state| Batch {
            rows: state.claim(claim),
            seen,
            next_due: state.ready.first().map(|(due, _)| *due),
        }))
    }

    async fn settle(
        &self,
        now: Wall,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        Ok(self.shared.state.with(|state| {
            let settle = |settlement: &Settlement| {
                let Settlement {
                    position,
                    token,
                    outcome,
                } = settlement;
                state
                    .change(*position, |row| row.state.settle(*token, outcome, now))
                    .unwrap_or(Settled::Lost)
            };
            settlements.iter().map(settle).collect()
        }))
    }

    async fn wait(&self, seen: Ticket) {
        self.shared.signal.changed(seen).await;
    }

    async fn lag(&self) -> Result<Lag, StoreError> {
        Ok(self.shared.state.with(|state| Lag {
            backlog_rows: state.backlog.len() as u64,
            backlog_bytes: state.backlog_bytes,
            oldest: state
                .backlog
                .first()
                .and_then(|first| Some(state.rows.get(first)?.state.entered_at())),
            parked: state.parked.len() as u64,
            sent: state.sent.len() as u64,
        }))
    }

    async fn purge(&self, sent_before: Wall, max: usize) -> Result<usize, StoreError> {
        Ok(self.shared.state.with(|state| {
            let old = state.sent.iter().take(max);
            let old = old.take_while(|(at, _)| *at < sent_before);
            let old: Vec<Position> = old.map(|(_, position)| *position).collect();
            old.iter().for_each(|position| state.forget(*position));
            old.len()
        }))
    }

    async fn parked(&self, after: Option<Position>, max: usize) -> Result<Vec<Parked>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.shared.state.with(|state| {
            let parked = state.parked.range((from, Bound::Unbounded)).take(max);
            let parked = parked.filter_map(|position| {
                let row = state.rows.get(position)?;
                let Phase::Parked { at, blocks, reason } = row.state.phase() else {
                    return None;
                };
                Some(Parked {
                    position: *position,
                    event: row.event.clone(),
                    reason: reason.clone(),
                    at: Wall::from_nanos(*at),
                    attempts: row.state.attempts(),
                    blocks: *blocks,
                })
            });
            parked.collect()
        }))
    }

    async fn repair(
        &self,
        now: Wall,
        position: Position,
        repair: &Repair,
    ) -> Result<Repaired, StoreError> {
        let repaired = self
            .shared
            .state
            .with(|state| state.repair(now, position, repair));
        self.shared.signal.notify();
        Ok(repaired)
    }

    async fn replay(&self, now: Wall, replay: &Replay) -> Result<Replayed, StoreError> {
        let replayed = self.shared.state.with(|state| state.replay(now, replay));
        self.shared.signal.notify();
        Ok(replayed)
    }
}
