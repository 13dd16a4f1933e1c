//! What is done with the rows within one transaction.

use std::fmt;
use std::ops::Bound;

use dpat_core::{Uuid7, Wall};
use dpat_outbox::{
    AppendError, Appended, Claim, Claimed, Event, Lane, Limits, Phase, Position, Repair, Repaired,
    Replay, ReplayFrom, Replayed, RowState, Settled, Settlement,
};
use redb::{ReadableTable, ReadableTableMetadata};

use super::tables::{BACKLOG_BYTES, LAST_POSITION, Row, Tables, event, next_due, read_row};
use crate::error::EngineError;
use crate::schema;

/// The outbox within a transaction, its tables open.
///
/// The methods are those of [`dpat_outbox::Store`], for whoever groups several of them, or other work, into one commit.
/// Nothing of it is durable before the commit. After an error roll the transaction back.
pub struct OutboxTx<'t> {
    tables: Tables<'t>,
    limits: Limits,
}

impl fmt::Debug for OutboxTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxTx")
            .field("meta", &self.tables.names.meta)
            .finish_non_exhaustive()
    }
}

impl<'t> OutboxTx<'t> {
    pub(super) fn new(tables: Tables<'t>, limits: Limits) -> Self {
        Self { tables, limits }
    }

    /// Adds an event.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(&mut self, event: &Event, now: Wall) -> Result<Appended, AppendError> {
        if let Some(id) = self.known(event)? {
            return Ok(Appended::Duplicate(id));
        }
        let encoded = event.encode();
        let bytes = encoded.len() as u64;
        let tables = &mut self.tables;
        let full = |field, limit| Err(AppendError::Full { field, limit });
        let backlog = tables.backlog.len().map_err(EngineError::of)?;
        if backlog >= self.limits.backlog_rows {
            return full("backlog_rows", self.limits.backlog_rows);
        }
        let waiting = schema::get(&tables.meta, BACKLOG_BYTES)?.unwrap_or(0);
        if waiting.saturating_add(bytes) > self.limits.backlog_bytes {
            return full("backlog_bytes", self.limits.backlog_bytes);
        }
        let position = schema::get(&tables.meta, LAST_POSITION)?.unwrap_or(0) + 1;
        schema::put(&mut tables.meta, LAST_POSITION, position)?;
        let id = u128::from_be_bytes(event.id().to_bytes());
        tables.ids.insert(id, position).map_err(EngineError::of)?;
        if let Some(dedup) = event.dedup() {
            tables.dedups.insert(dedup, id).map_err(EngineError::of)?;
        }
        tables
            .events
            .insert(position, &*encoded)
            .map_err(EngineError::of)?;
        let position = Position(position);
        let row = Row {
            bytes,
            lane: Lane::of(event, position),
            state: RowState::appended(now),
        };
        tables.insert(position.0, &row)?;
        Ok(Appended::New(position))
    }

    /// The event that is there already with the same id or deduplication key.
    fn known(&self, event: &Event) -> Result<Option<Uuid7>, EngineError> {
        let id = u128::from_be_bytes(event.id().to_bytes());
        if self.tables.ids.get(id).map_err(EngineError::of)?.is_some() {
            return Ok(Some(event.id()));
        }
        let Some(dedup) = event.dedup() else {
            return Ok(None);
        };
        let Some(found) = self.tables.dedups.get(dedup).map_err(EngineError::of)? else {
            return Ok(None);
        };
        Uuid7::from_bytes(found.value().to_be_bytes())
            .map(Some)
            .map_err(|error| EngineError::corrupt(&self.tables.names.dedups, dedup, error))
    }

    /// Claims events, as [`Store::claim`](dpat_outbox::Store::claim).
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn claim(&mut self, claim: &Claim) -> Result<Vec<Claimed>, EngineError> {
        let tables = &mut self.tables;
        let until = claim.now.as_nanos().saturating_add(1);
        let due = tables.ready.range(..(until, &[][..]));
        let mut lanes = Vec::new();
        for entry in due.map_err(EngineError::of)?.take(claim.rows_max) {
            let key = entry.map_err(EngineError::of)?.0;
            lanes.push(Lane::from_bytes(key.value().1));
        }
        let mut claimed = Vec::new();
        let mut bytes = 0_u64;
        for lane in lanes {
            for position in tables.first(&lane, claim.lane_rows_max)? {
                let row = tables.row(position)?;
                let size = row.bytes;
                let too_large = bytes.saturating_add(size) > claim.bytes_max as u64;
                if claimed.len() == claim.rows_max || (!claimed.is_empty() && too_large) {
                    return Ok(claimed);
                }
                let mut state = row.state.clone();
                if !state.claim(claim.token, claim.now, claim.lease) {
                    break;
                }
                claimed.push(Claimed {
                    position: Position(position),
                    event: event(tables.names, &tables.events, position)?,
                    attempts: state.attempts(),
                    replays: state.replays(),
                    appended_at: state.appended_at(),
                    first_claim: state.first_claim().unwrap_or(claim.now),
                });
                tables.change(position, row, |row| row.state = state)?;
                bytes = bytes.saturating_add(size);
            }
        }
        Ok(claimed)
    }

    /// Returns from when on something can be claimed.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn next_due(&self) -> Result<Option<Wall>, EngineError> {
        next_due(&self.tables.ready)
    }

    /// Ends claims, as [`Store::settle`](dpat_outbox::Store::settle).
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn settle(
        &mut self,
        now: Wall,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, EngineError> {
        let tables = &mut self.tables;
        let mut settled = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let position = settlement.position.0;
            let one = match read_row(tables.names, &tables.states, position)? {
                None => Settled::Lost,
                Some(row) => {
                    let mut state = row.state.clone();
                    let one = state.settle(settlement.token, &settlement.outcome, now);
                    if state != row.state {
                        tables.change(position, row, |row| row.state = state)?;
                    }
                    one
                }
            };
            settled.push(one);
        }
        Ok(settled)
    }

    /// Removes events that were sent long ago, as [`Store::purge`](dpat_outbox::Store::purge).
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn purge(&mut self, sent_before: Wall, max: usize) -> Result<usize, EngineError> {
        let tables = &mut self.tables;
        let old = tables.sent.range(..(sent_before.as_nanos(), 0));
        let mut positions = Vec::new();
        for entry in old.map_err(EngineError::of)?.take(max) {
            positions.push(entry.map_err(EngineError::of)?.0.value().1);
        }
        for position in &positions {
            tables.forget(*position)?;
        }
        Ok(positions.len())
    }

    /// Does something about an event that was given up, as [`Store::repair`](dpat_outbox::Store::repair).
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn repair(
        &mut self,
        now: Wall,
        position: Position,
        repair: &Repair,
    ) -> Result<Repaired, EngineError> {
        let tables = &mut self.tables;
        let Some(row) = read_row(tables.names, &tables.states, position.0)? else {
            return Ok(Repaired::NotParked);
        };
        if !matches!(row.state.phase(), Phase::Parked { .. }) {
            return Ok(Repaired::NotParked);
        }
        match repair {
            Repair::Discard => tables.forget(position.0)?,
            Repair::Retry => {
                tables.change(position.0, row, |row| row.state.retry(now))?;
            }
            Repair::Replace(new) => {
                let old = event(tables.names, &tables.events, position.0)?;
                if (old.id(), old.key(), old.dedup()) != (new.id(), new.key(), new.dedup()) {
                    return Ok(Repaired::OtherIdentity);
                }
                let encoded = new.encode();
                tables
                    .events
                    .insert(position.0, &*encoded)
                    .map_err(EngineError::of)?;
                tables.change(position.0, row, |row| {
                    row.bytes = encoded.len() as u64;
                    row.state.retry(now)
                })?;
            }
        }
        Ok(Repaired::Done)
    }

    /// Puts sent events under way again, as [`Store::replay`](dpat_outbox::Store::replay).
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn replay(&mut self, now: Wall, replay: &Replay) -> Result<Replayed, EngineError> {
        let tables = &mut self.tables;
        let from = match (replay.from, replay.after) {
            (ReplayFrom::Position(from), Some(after)) if from > after => Bound::Included(from.0),
            (_, Some(after)) => Bound::Excluded(after.0),
            (ReplayFrom::Position(from), None) => Bound::Included(from.0),
            (ReplayFrom::Time(_), None) => Bound::Unbounded,
        };
        let found = tables.states.range((from, Bound::Unbounded));
        let mut looked_at = Vec::new();
        for entry in found.map_err(EngineError::of)?.take(replay.max) {
            looked_at.push(entry.map_err(EngineError::of)?.0.value());
        }
        let mut rows = 0;
        for position in &looked_at {
            let row = tables.row(*position)?;
            let mut state = row.state.clone();
            let young = match replay.from {
                ReplayFrom::Position(_) => true,
                ReplayFrom::Time(from) => state.appended_at() >= from,
            };
            if !young || !state.replay(now) {
                continue;
            }
            if let Some(topic) = &replay.topic
                && event(tables.names, &tables.events, *position)?.topic() != topic
            {
                continue;
            }
            tables.change(*position, row, |row| row.state = state)?;
            rows += 1;
        }
        let full = looked_at.len() == replay.max;
        Ok(Replayed {
            rows,
            next: full
                .then(|| looked_at.last().copied().map(Position))
                .flatten(),
        })
    }
}

impl Tables<'_> {
    /// The first rows of a lane.
    fn first(&self, lane: &Lane, max: usize) -> Result<Vec<u64>, EngineError> {
        let lane = lane.as_bytes();
        let rows = self.lanes.range((lane, 0)..=(lane, u64::MAX));
        let rows = rows.map_err(EngineError::of)?.take(max);
        rows.map(|entry| Ok(entry.map_err(EngineError::of)?.0.value().1))
            .collect()
    }
}
