//! Rows: what is read of them, and the columns that a state is written to.

use dpat_core::Wall;
use dpat_outbox::{Event, Phase, Position, RowState};
use rusqlite::{OptionalExtension, Params, Transaction, params};

use super::statements::Statements;
use crate::error::EngineError;
use crate::sql::{nanos, number};

/// A row without its event.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) position: i64,
    /// Of the event, as it is stored.
    pub(super) bytes: u64,
    pub(super) state: RowState,
}

/// Reads an integer that was never negative.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A limit of rows as SQL has it.
pub(super) fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

pub(super) fn position(of: i64) -> Position {
    Position(unsigned(of))
}

/// A statement within a transaction.
pub(super) fn rows(
    tx: &Transaction<'_>,
    statements: &Statements,
    text: &str,
    params: impl Params,
) -> Result<Vec<Row>, EngineError> {
    let mut statement = tx.prepare_cached(text).map_err(EngineError::of)?;
    let mut found = statement.query(params).map_err(EngineError::of)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(EngineError::of)? {
        let position: i64 = row.get(0).map_err(EngineError::of)?;
        let bytes: i64 = row.get(1).map_err(EngineError::of)?;
        let appended_at: i64 = row.get(2).map_err(EngineError::of)?;
        let state = row.get_ref(3).map_err(EngineError::of)?;
        let state = match state
            .as_blob_or_null()
            .map_err(|error| EngineError::corrupt(&statements.states, position, error))?
        {
            None => RowState::appended(Wall::from_nanos(unsigned(appended_at))),
            Some(state) => RowState::decode(state)
                .map_err(|error| EngineError::corrupt(&statements.states, position, error))?,
        };
        rows.push(Row {
            position,
            bytes: unsigned(bytes),
            state,
        });
    }
    Ok(rows)
}

pub(super) fn read_row(
    tx: &Transaction<'_>,
    statements: &Statements,
    position: Position,
) -> Result<Option<Row>, EngineError> {
    let found = rows(tx, statements, &statements.row, [number(position.0)])?;
    Ok(found.into_iter().next())
}

pub(super) fn event(
    tx: &Transaction<'_>,
    statements: &Statements,
    position: i64,
) -> Result<Event, EngineError> {
    let mut statement = tx
        .prepare_cached(&statements.event)
        .map_err(EngineError::of)?;
    let found: Option<Vec<u8>> = statement
        .query_row([position], |row| row.get(0))
        .optional()
        .map_err(EngineError::of)?;
    let Some(bytes) = found else {
        let what = "its state is there, and the event is gone";
        return Err(EngineError::inconsistent(
            &statements.events,
            position,
            what,
        ));
    };
    Event::decode(&bytes).map_err(|error| EngineError::corrupt(&statements.events, position, error))
}

/// Writes a state, and the columns that follow from it.
pub(super) fn set_state(
    tx: &Transaction<'_>,
    statements: &Statements,
    position: i64,
    state: &RowState,
) -> Result<(), EngineError> {
    let (phase, reason) = match state.phase() {
        Phase::Pending { .. } => ("pending", None),
        Phase::Claimed { .. } => ("claimed", None),
        Phase::Sent { .. } => ("sent", None),
        Phase::Parked { reason, .. } => ("parked", Some(reason)),
    };
    let mut statement = tx
        .prepare_cached(&statements.set_state)
        .map_err(EngineError::of)?;
    statement
        .execute(params![
            position,
            phase,
            state.attempts(),
            nanos(state.entered_at()),
            state.due().map(nanos),
            state.sent_at().map(nanos),
            reason,
            &state.encode()[..],
        ])
        .map_err(EngineError::of)?;
    Ok(())
}
