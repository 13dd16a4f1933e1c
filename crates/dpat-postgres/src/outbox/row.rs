//! Rows: what is read of them, and the columns that a state is written to.

use dpat_core::Wall;
use dpat_outbox::{Event, Phase, Position, RowState};

use super::statements::Statements;
use crate::error::EngineError;
use crate::sql::{nanos, unsigned};
use crate::tx::{self, Run, Value};

/// A row without its event.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) position: i64,
    pub(super) key: Option<String>,
    /// Of the event, as it is stored.
    pub(super) bytes: u64,
    pub(super) state: RowState,
}

pub(super) fn position(of: i64) -> Position {
    Position(unsigned(of))
}

/// Reads position, key, bytes, `appended_at`, state.
pub(super) fn row(read: &mut tx::Row, statements: &Statements) -> Result<Row, EngineError> {
    let position = read.int(0)?;
    Ok(Row {
        position,
        key: read.maybe_text(1)?,
        bytes: unsigned(read.int(2)?),
        state: state(position, read.int(3)?, read.maybe_bytes(4)?, statements)?,
    })
}

pub(super) fn state(
    position: i64,
    appended_at: i64,
    state: Option<Vec<u8>>,
    statements: &Statements,
) -> Result<RowState, EngineError> {
    match state {
        None => Ok(RowState::appended(Wall::from_nanos(unsigned(appended_at)))),
        Some(state) => RowState::decode(&state)
            .map_err(|error| EngineError::corrupt(&statements.states, position, error)),
    }
}

pub(super) fn event(
    position: i64,
    bytes: &[u8],
    statements: &Statements,
) -> Result<Event, EngineError> {
    Event::decode(bytes).map_err(|error| EngineError::corrupt(&statements.events, position, error))
}

/// States that are to be written, in columns.
#[derive(Default)]
pub(super) struct Written {
    positions: Vec<i64>,
    phases: Vec<&'static str>,
    attempts: Vec<i64>,
    entered_at: Vec<i64>,
    due: Vec<Option<i64>>,
    head: Vec<Option<i64>>,
    sent_at: Vec<Option<i64>>,
    reasons: Vec<Option<String>>,
    states: Vec<Vec<u8>>,
}

impl Written {
    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Adds a state; of what is a head, `due` is where a claim finds it.
    pub(super) fn add(&mut self, position: i64, state: &RowState, is_head: bool) {
        let (phase, reason) = match state.phase() {
            Phase::Pending { .. } => ("pending", None),
            Phase::Claimed { .. } => ("claimed", None),
            Phase::Sent { .. } => ("sent", None),
            Phase::Parked { reason, .. } => ("parked", Some(reason.clone())),
        };
        let due = state.due().map(nanos);
        self.positions.push(position);
        self.phases.push(phase);
        self.attempts.push(i64::from(state.attempts()));
        self.entered_at.push(nanos(state.entered_at()));
        self.due.push(due);
        let head = due.filter(|due| is_head && *due != i64::MAX);
        self.head.push(head);
        self.sent_at.push(state.sent_at().map(nanos));
        self.reasons.push(reason);
        self.states.push(state.encode().to_vec());
    }

    pub(super) async fn write(
        &self,
        on: &mut impl Run,
        statements: &Statements,
    ) -> Result<(), EngineError> {
        if self.is_empty() {
            return Ok(());
        }
        let reasons: Vec<Option<&str>> = self.reasons.iter().map(Option::as_deref).collect();
        let states: Vec<&[u8]> = self.states.iter().map(Vec::as_slice).collect();
        let params = [
            Value::Ints(&self.positions),
            Value::Texts(&self.phases),
            Value::Ints(&self.attempts),
            Value::Ints(&self.entered_at),
            Value::MaybeInts(&self.due),
            Value::MaybeInts(&self.head),
            Value::MaybeInts(&self.sent_at),
            Value::MaybeTexts(&reasons),
            Value::BytesList(&states),
        ];
        on.rows(&statements.set_states, &params).await?;
        Ok(())
    }
}
