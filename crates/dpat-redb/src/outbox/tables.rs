//! The tables of an outbox: rows, and the indexes by which they are found.
//!
//! | table | key → value | for |
//! |---|---|---|
//! | `meta` | name → number | schema, last position, bytes of the backlog |
//! | `events` | position → event | what is sent; written once |
//! | `states` | position → bytes of the event, lane, state | what changes |
//! | `lanes` | lane, position → from when on it can be claimed | order within a key |
//! | `ready` | from when on, lane → () | the first of each lane that can be claimed |
//! | `backlog` | position → since when | lag |
//! | `parked` | position → () | dead letters |
//! | `sent` | when, position → () | retention |
//! | `ids`, `dedups` | id, deduplication key → position | double appends |

use std::ops::Bound;

use dpat_core::Wall;
use dpat_outbox::{Event, Lag, Lane, Parked, Phase, Position, RowState};
use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, Value, WriteTransaction,
};

use crate::config::Config;
use crate::error::EngineError;
use crate::schema::{self, Meta};

pub(super) const LAST_POSITION: &str = "last_position";
pub(super) const BACKLOG_BYTES: &str = "backlog_bytes";

pub(super) type States = (u64, &'static [u8], &'static [u8]);
pub(super) type LaneKey = (&'static [u8], u64);
pub(super) type ReadyKey = (u64, &'static [u8]);

/// The names of the tables.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) meta: String,
    pub(super) events: String,
    pub(super) states: String,
    lanes: String,
    ready: String,
    backlog: String,
    parked: String,
    sent: String,
    ids: String,
    pub(super) dedups: String,
}

/// The tables within a transaction.
pub(super) struct Tables<'t> {
    pub(super) names: &'t Names,
    pub(super) meta: Meta<'t>,
    pub(super) events: Table<'t, u64, &'static [u8]>,
    pub(super) states: Table<'t, u64, States>,
    pub(super) lanes: Table<'t, LaneKey, u64>,
    pub(super) ready: Table<'t, ReadyKey, ()>,
    pub(super) backlog: Table<'t, u64, u64>,
    pub(super) parked: Table<'t, u64, ()>,
    pub(super) sent: Table<'t, (u64, u64), ()>,
    pub(super) ids: Table<'t, u128, u64>,
    pub(super) dedups: Table<'t, &'static str, u128>,
}

/// What is committed, for questions.
pub(super) struct Snapshot<'n> {
    names: &'n Names,
    meta: ReadOnlyTable<&'static str, u64>,
    events: ReadOnlyTable<u64, &'static [u8]>,
    states: ReadOnlyTable<u64, States>,
    ready: ReadOnlyTable<ReadyKey, ()>,
    backlog: ReadOnlyTable<u64, u64>,
    parked: ReadOnlyTable<u64, ()>,
    sent: ReadOnlyTable<(u64, u64), ()>,
}

/// A row without its event.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Of the event, as it is stored.
    pub(super) bytes: u64,
    pub(super) lane: Lane,
    pub(super) state: RowState,
}

impl Names {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            meta: config.table("meta"),
            events: config.table("events"),
            states: config.table("states"),
            lanes: config.table("lanes"),
            ready: config.table("ready"),
            backlog: config.table("backlog"),
            parked: config.table("parked"),
            sent: config.table("sent"),
            ids: config.table("ids"),
            dedups: config.table("dedups"),
        }
    }

    pub(super) fn open<'t>(&'t self, tx: &'t WriteTransaction) -> Result<Tables<'t>, EngineError> {
        fn table<'t, K: Key + 'static, V: Value + 'static>(
            tx: &'t WriteTransaction,
            name: &str,
        ) -> Result<Table<'t, K, V>, EngineError> {
            tx.open_table(TableDefinition::new(name))
                .map_err(EngineError::of)
        }
        Ok(Tables {
            names: self,
            meta: table(tx, &self.meta)?,
            events: table(tx, &self.events)?,
            states: table(tx, &self.states)?,
            lanes: table(tx, &self.lanes)?,
            ready: table(tx, &self.ready)?,
            backlog: table(tx, &self.backlog)?,
            parked: table(tx, &self.parked)?,
            sent: table(tx, &self.sent)?,
            ids: table(tx, &self.ids)?,
            dedups: table(tx, &self.dedups)?,
        })
    }

    pub(super) fn read(&self, tx: &ReadTransaction) -> Result<Snapshot<'_>, EngineError> {
        fn table<K: Key + 'static, V: Value + 'static>(
            tx: &ReadTransaction,
            name: &str,
        ) -> Result<ReadOnlyTable<K, V>, EngineError> {
            tx.open_table(TableDefinition::new(name))
                .map_err(EngineError::of)
        }
        Ok(Snapshot {
            names: self,
            meta: table(tx, &self.meta)?,
            events: table(tx, &self.events)?,
            states: table(tx, &self.states)?,
            ready: table(tx, &self.ready)?,
            backlog: table(tx, &self.backlog)?,
            parked: table(tx, &self.parked)?,
            sent: table(tx, &self.sent)?,
        })
    }
}

pub(super) fn read_row(
    names: &Names,
    states: &impl ReadableTable<u64, States>,
    position: u64,
) -> Result<Option<Row>, EngineError> {
    let Some(guard) = states.get(position).map_err(EngineError::of)? else {
        return Ok(None);
    };
    let (bytes, lane, state) = guard.value();
    let state = RowState::decode(state)
        .map_err(|error| EngineError::corrupt(&names.states, position, error))?;
    Ok(Some(Row {
        bytes,
        lane: Lane::from_bytes(lane),
        state,
    }))
}

/// A row that an index names.
pub(super) fn row(
    names: &Names,
    states: &impl ReadableTable<u64, States>,
    position: u64,
) -> Result<Row, EngineError> {
    read_row(names, states, position)?.ok_or_else(|| {
        EngineError::inconsistent(&names.states, position, "an index names it, and it is gone")
    })
}

pub(super) fn event(
    names: &Names,
    events: &impl ReadableTable<u64, &'static [u8]>,
    position: u64,
) -> Result<Event, EngineError> {
    let Some(guard) = events.get(position).map_err(EngineError::of)? else {
        let what = "its state is there, and the event is gone";
        return Err(EngineError::inconsistent(&names.events, position, what));
    };
    Event::decode(guard.value())
        .map_err(|error| EngineError::corrupt(&names.events, position, error))
}

pub(super) fn next_due(
    ready: &impl ReadableTable<ReadyKey, ()>,
) -> Result<Option<Wall>, EngineError> {
    let first = ready.first().map_err(EngineError::of)?;
    Ok(first.map(|(key, _)| Wall::from_nanos(key.value().0)))
}

impl Snapshot<'_> {
    pub(super) fn next_due(&self) -> Result<Option<Wall>, EngineError> {
        next_due(&self.ready)
    }

    pub(super) fn lag(&self) -> Result<Lag, EngineError> {
        let first = self.backlog.first().map_err(EngineError::of)?;
        Ok(Lag {
            backlog_rows: self.backlog.len().map_err(EngineError::of)?,
            backlog_bytes: schema::get(&self.meta, BACKLOG_BYTES)?.unwrap_or(0),
            oldest: first.map(|(_, since)| Wall::from_nanos(since.value())),
            parked: self.parked.len().map_err(EngineError::of)?,
            sent: self.sent.len().map_err(EngineError::of)?,
        })
    }

    pub(super) fn rows(
        &self,
        after: Option<Position>,
        max: usize,
    ) -> Result<Vec<(Position, Event, RowState)>, EngineError> {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.0));
        let found = self.states.range((from, Bound::Unbounded));
        let mut rows = Vec::new();
        for entry in found.map_err(EngineError::of)?.take(max) {
            let position = entry.map_err(EngineError::of)?.0.value();
            let state = row(self.names, &self.states, position)?.state;
            let event = event(self.names, &self.events, position)?;
            rows.push((Position(position), event, state));
        }
        Ok(rows)
    }

    pub(super) fn parked(
        &self,
        after: Option<Position>,
        max: usize,
    ) -> Result<Vec<Parked>, EngineError> {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.0));
        let found = self.parked.range((from, Bound::Unbounded));
        let mut parked = Vec::new();
        for entry in found.map_err(EngineError::of)?.take(max) {
            let position = entry.map_err(EngineError::of)?.0.value();
            let row = row(self.names, &self.states, position)?;
            let Phase::Parked { at, blocks, reason } = row.state.phase() else {
                let what = "listed as parked, and it is not";
                return Err(EngineError::inconsistent(
                    &self.names.parked,
                    position,
                    what,
                ));
            };
            parked.push(Parked {
                position: Position(position),
                event: event(self.names, &self.events, position)?,
                reason: reason.clone(),
                at: Wall::from_nanos(*at),
                attempts: row.state.attempts(),
                blocks: *blocks,
            });
        }
        Ok(parked)
    }
}
