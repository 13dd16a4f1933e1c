//! Keeps the indexes in step with the rows.

use dpat_core::Wall;
use dpat_outbox::{Lane, Phase};
use redb::ReadableTable;

use super::tables::{BACKLOG_BYTES, Row, Tables, row};
use crate::error::EngineError;
use crate::schema;

impl Tables<'_> {
    pub(super) fn row(&self, position: u64) -> Result<Row, EngineError> {
        row(self.names, &self.states, position)
    }

    /// Adds a row with its indexes.
    pub(super) fn insert(&mut self, position: u64, row: &Row) -> Result<(), EngineError> {
        let before = self.head(&row.lane)?;
        self.index(position, row)?;
        self.schedule(&row.lane, before)
    }

    /// Changes a row with its indexes.
    pub(super) fn change<R>(
        &mut self,
        position: u64,
        mut row: Row,
        change: impl FnOnce(&mut Row) -> R,
    ) -> Result<R, EngineError> {
        let before = self.head(&row.lane)?;
        self.unindex(position, &row)?;
        let result = change(&mut row);
        self.index(position, &row)?;
        self.schedule(&row.lane, before)?;
        Ok(result)
    }

    /// Forgets an event altogether.
    pub(super) fn forget(&mut self, position: u64) -> Result<(), EngineError> {
        let row = self.row(position)?;
        let event = super::tables::event(self.names, &self.events, position)?;
        let before = self.head(&row.lane)?;
        self.unindex(position, &row)?;
        self.schedule(&row.lane, before)?;
        self.states.remove(position).map_err(EngineError::of)?;
        self.events.remove(position).map_err(EngineError::of)?;
        let id = u128::from_be_bytes(event.id().to_bytes());
        self.ids.remove(id).map_err(EngineError::of)?;
        if let Some(dedup) = event.dedup() {
            self.dedups.remove(dedup).map_err(EngineError::of)?;
        }
        Ok(())
    }

    fn index(&mut self, position: u64, row: &Row) -> Result<(), EngineError> {
        let lane = row.lane.as_bytes();
        let value = (row.bytes, lane, &*row.state.encode());
        self.states
            .insert(position, value)
            .map_err(EngineError::of)?;
        if let Some(due) = row.state.due() {
            self.lanes
                .insert((lane, position), due.as_nanos())
                .map_err(EngineError::of)?;
        }
        if row.state.is_backlog() {
            let since = row.state.entered_at().as_nanos();
            self.backlog
                .insert(position, since)
                .map_err(EngineError::of)?;
            self.add_bytes(|bytes| bytes.saturating_add(row.bytes))?;
        }
        match row.state.phase() {
            Phase::Parked { .. } => {
                self.parked.insert(position, ()).map_err(EngineError::of)?;
            }
            Phase::Sent { at } => {
                self.sent
                    .insert((*at, position), ())
                    .map_err(EngineError::of)?;
            }
            Phase::Pending { .. } | Phase::Claimed { .. } => {}
        }
        Ok(())
    }

    fn unindex(&mut self, position: u64, row: &Row) -> Result<(), EngineError> {
        if row.state.due().is_some() {
            let key = (row.lane.as_bytes(), position);
            self.lanes.remove(key).map_err(EngineError::of)?;
        }
        if row.state.is_backlog() {
            self.backlog.remove(position).map_err(EngineError::of)?;
            self.add_bytes(|bytes| bytes.saturating_sub(row.bytes))?;
        }
        match row.state.phase() {
            Phase::Parked { .. } => {
                self.parked.remove(position).map_err(EngineError::of)?;
            }
            Phase::Sent { at } => {
                let key = (*at, position);
                self.sent.remove(key).map_err(EngineError::of)?;
            }
            Phase::Pending { .. } | Phase::Claimed { .. } => {}
        }
        Ok(())
    }

    fn add_bytes(&mut self, add: impl FnOnce(u64) -> u64) -> Result<(), EngineError> {
        let bytes = schema::get(&self.meta, BACKLOG_BYTES)?.unwrap_or(0);
        schema::put(&mut self.meta, BACKLOG_BYTES, add(bytes))
    }

    /// From when on the first of a lane can be claimed.
    fn head(&self, lane: &Lane) -> Result<Option<u64>, EngineError> {
        let lane = lane.as_bytes();
        let mut rows = self
            .lanes
            .range((lane, 0)..=(lane, u64::MAX))
            .map_err(EngineError::of)?;
        let first = rows.next().transpose().map_err(EngineError::of)?;
        Ok(first.map(|(_, due)| due.value()))
    }

    /// Lists a lane under the time of its first row instead of `before`; one that is blocked is not listed.
    fn schedule(&mut self, lane: &Lane, before: Option<u64>) -> Result<(), EngineError> {
        const NEVER: u64 = Wall::MAX.as_nanos();
        let after = self.head(lane)?;
        if before == after {
            return Ok(());
        }
        let lane = lane.as_bytes();
        if let Some(before) = before.filter(|before| *before != NEVER) {
            self.ready.remove((before, lane)).map_err(EngineError::of)?;
        }
        if let Some(after) = after.filter(|after| *after != NEVER) {
            self.ready
                .insert((after, lane), ())
                .map_err(EngineError::of)?;
        }
        Ok(())
    }
}
