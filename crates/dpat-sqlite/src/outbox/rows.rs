//! What is done with the rows within one transaction.

use std::fmt;

use dpat_core::{Uuid7, Wall};
use dpat_outbox::{
    AppendError, Appended, Claim, Claimed, Event, Lag, Limits, Parked, Phase, Position, Repair,
    Repaired, Replay, ReplayFrom, Replayed, Settled, Settlement,
};
use rusqlite::{OptionalExtension, Transaction, params};

use super::row::{Row, event, limit, position, read_row, rows, set_state, unsigned};
use super::statements::Statements;
use crate::error::EngineError;
use crate::sql::{nanos, number};

/// The outbox within a transaction.
///
/// The methods are those of [`dpat_outbox::Store`], for whoever groups several of them, or other work, into one commit.
/// Nothing of it is durable before the commit. After an error roll the transaction back.
pub struct OutboxTx<'t> {
    tx: &'t Transaction<'t>,
    statements: &'t Statements,
    limits: Limits,
}

impl fmt::Debug for OutboxTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxTx")
            .field("table", &self.statements.events)
            .finish_non_exhaustive()
    }
}

/// The limit that refuses an event, with so many there.
pub(super) fn full(limits: Limits, rows: u64) -> AppendError {
    let (field, limit) = match rows >= limits.backlog_rows {
        true => ("backlog_rows", limits.backlog_rows),
        false => ("backlog_bytes", limits.backlog_bytes),
    };
    AppendError::Full { field, limit }
}

/// Reads the id of an event that is there in place of this one.
pub(super) fn known_id(
    statements: &Statements,
    event: &Event,
    found: [u8; 16],
) -> Result<Uuid7, EngineError> {
    Uuid7::from_bytes(found).map_err(|error| {
        let row = event.dedup().unwrap_or_default();
        EngineError::corrupt(&statements.events, row, error)
    })
}

impl<'t> OutboxTx<'t> {
    pub(super) fn new(tx: &'t Transaction<'_>, statements: &'t Statements, limits: Limits) -> Self {
        Self {
            tx,
            statements,
            limits,
        }
    }

    /// Adds an event.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(&mut self, event: &Event, now: Wall) -> Result<Appended, AppendError> {
        let encoded = event.encode();
        if let Some(position) = self.insert(event, &encoded, now)? {
            return Ok(Appended::New(position));
        }
        if let Some(id) = self.known(event)? {
            return Ok(Appended::Duplicate(id));
        }
        Err(full(self.limits, self.counts()?.backlog_rows))
    }

    /// Adds an event, unless it is there or a limit is reached.
    fn insert(
        &self,
        event: &Event,
        encoded: &[u8],
        now: Wall,
    ) -> Result<Option<Position>, EngineError> {
        let mut statement = self
            .tx
            .prepare_cached(&self.statements.append)
            .map_err(EngineError::of)?;
        let inserted = statement.query_row(
            params![
                &event.id().to_bytes()[..],
                event.topic(),
                event.key(),
                event.dedup(),
                nanos(now),
                encoded,
                number(self.limits.backlog_rows),
                number(self.limits.backlog_bytes),
            ],
            |row| row.get(0),
        );
        let inserted = inserted.optional().map_err(EngineError::of)?;
        Ok(inserted.map(position))
    }

    /// The event that is there already with the same id or deduplication key.
    fn known(&self, event: &Event) -> Result<Option<Uuid7>, EngineError> {
        let mut statement = self
            .tx
            .prepare_cached(&self.statements.appended)
            .map_err(EngineError::of)?;
        let id = event.id().to_bytes();
        let found: Option<[u8; 16]> = statement
            .query_row(params![&id[..], event.dedup()], |row| row.get(0))
            .optional()
            .map_err(EngineError::of)?;
        found
            .map(|found| known_id(self.statements, event, found))
            .transpose()
    }

    /// All of a lag but the oldest.
    fn counts(&self) -> Result<Lag, EngineError> {
        let mut statement = self
            .tx
            .prepare_cached(&self.statements.counts)
            .map_err(EngineError::of)?;
        let counts = statement.query_row([], |row| {
            Ok(Lag {
                backlog_rows: unsigned(row.get(0)?),
                backlog_bytes: unsigned(row.get(1)?),
                oldest: None,
                parked: unsigned(row.get(2)?),
                sent: unsigned(row.get(3)?),
            })
        });
        let counts = counts.optional().map_err(EngineError::of)?;
        counts.ok_or_else(|| {
            EngineError::inconsistent(&self.statements.counted, 1, "the row of counts is gone")
        })
    }

    /// Claims events, as [`Store::claim`](dpat_outbox::Store::claim).
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn claim(&mut self, claim: &Claim) -> Result<Vec<Claimed>, EngineError> {
        let Self { tx, statements, .. } = *self;
        let mut claimed = Vec::new();
        let mut bytes = 0_u64;
        for (first, key) in self.heads(claim)? {
            let lane = match key {
                None => rows(tx, statements, &statements.row, [first])?,
                Some(key) => {
                    let params = params![key, limit(claim.lane_rows_max)];
                    rows(tx, statements, &statements.lane, params)?
                }
            };
            for row in lane.into_iter().take(claim.lane_rows_max) {
                let too_large = bytes.saturating_add(row.bytes) > claim.bytes_max as u64;
                if claimed.len() == claim.rows_max || (!claimed.is_empty() && too_large) {
                    return Ok(claimed);
                }
                let mut state = row.state;
                if !state.claim(claim.token, claim.now, claim.lease) {
                    break;
                }
                set_state(tx, statements, row.position, &state)?;
                claimed.push(Claimed {
                    position: position(row.position),
                    event: event(tx, statements, row.position)?,
                    attempts: state.attempts(),
                    replays: state.replays(),
                    appended_at: state.appended_at(),
                    first_claim: state.first_claim().unwrap_or(claim.now),
                });
                bytes = bytes.saturating_add(row.bytes);
            }
        }
        Ok(claimed)
    }

    /// The first events of the lanes that can be claimed, and their keys.
    fn heads(&self, claim: &Claim) -> Result<Vec<(i64, Option<String>)>, EngineError> {
        let mut statement = self
            .tx
            .prepare_cached(&self.statements.heads)
            .map_err(EngineError::of)?;
        let found = statement.query_map(params![nanos(claim.now), limit(claim.rows_max)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        found
            .map_err(EngineError::of)?
            .collect::<Result<_, _>>()
            .map_err(EngineError::of)
    }

    /// Returns from when on something can be claimed.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn next_due(&self) -> Result<Option<Wall>, EngineError> {
        let mut statement = self
            .tx
            .prepare_cached(&self.statements.next_due)
            .map_err(EngineError::of)?;
        let found = statement.query_row([], |row| row.get(0)).optional();
        let found = found.map_err(EngineError::of)?;
        Ok(found.map(|head| Wall::from_nanos(unsigned(head))))
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
        let Self { tx, statements, .. } = *self;
        let mut settled = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let one = match read_row(tx, statements, settlement.position)? {
                None => Settled::Lost,
                Some(row) => {
                    let mut state = row.state.clone();
                    let one = state.settle(settlement.token, &settlement.outcome, now);
                    if state != row.state {
                        set_state(tx, statements, row.position, &state)?;
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
        let params = params![nanos(sent_before), limit(max)];
        let mut statement = self
            .tx
            .prepare_cached(&self.statements.purge)
            .map_err(EngineError::of)?;
        statement.execute(params).map_err(EngineError::of)
    }

    /// Tells how far the relays are behind, as [`Store::lag`](dpat_outbox::Store::lag).
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn lag(&self) -> Result<Lag, EngineError> {
        let mut first: Option<(i64, i64)> = None;
        for phase in ["pending", "claimed"] {
            let mut statement = self
                .tx
                .prepare_cached(&self.statements.oldest)
                .map_err(EngineError::of)?;
            let found = statement
                .query_row([phase], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
                .map_err(EngineError::of)?;
            first = first.into_iter().chain(found).min();
        }
        Ok(Lag {
            oldest: first.map(|(_, since)| Wall::from_nanos(unsigned(since))),
            ..self.counts()?
        })
    }

    /// Lists events that were given up, as [`Store::parked`](dpat_outbox::Store::parked).
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn parked(&self, after: Option<Position>, max: usize) -> Result<Vec<Parked>, EngineError> {
        let Self { tx, statements, .. } = *self;
        let after = after.map_or(-1, |after| number(after.0));
        let found = rows(
            tx,
            statements,
            &statements.parked,
            params![after, limit(max)],
        )?;
        found
            .into_iter()
            .map(|row| {
                let Phase::Parked { at, blocks, reason } = row.state.phase() else {
                    let what = "listed as parked, and it is not";
                    return Err(EngineError::inconsistent(
                        &statements.states,
                        row.position,
                        what,
                    ));
                };
                Ok(Parked {
                    position: position(row.position),
                    event: event(tx, statements, row.position)?,
                    reason: reason.clone(),
                    at: Wall::from_nanos(*at),
                    attempts: row.state.attempts(),
                    blocks: *blocks,
                })
            })
            .collect()
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
        let Self { tx, statements, .. } = *self;
        let Some(Row {
            position,
            mut state,
            ..
        }) = read_row(tx, statements, position)?
        else {
            return Ok(Repaired::NotParked);
        };
        if !state.retry(now) {
            return Ok(Repaired::NotParked);
        }
        match repair {
            Repair::Discard => {
                self.execute(&statements.forget, [position])?;
                return Ok(Repaired::Done);
            }
            Repair::Retry => {}
            Repair::Replace(new) => {
                let old = event(tx, statements, position)?;
                if (old.id(), old.key(), old.dedup()) != (new.id(), new.key(), new.dedup()) {
                    return Ok(Repaired::OtherIdentity);
                }
                let encoded = new.encode();
                let content = params![position, new.topic(), &encoded[..]];
                self.execute(&statements.set_event, content)?;
                let bytes = params![position, limit(encoded.len())];
                self.execute(&statements.set_bytes, bytes)?;
            }
        }
        set_state(tx, statements, position, &state)?;
        Ok(Repaired::Done)
    }

    /// Puts sent events under way again, as [`Store::replay`](dpat_outbox::Store::replay).
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn replay(&mut self, now: Wall, replay: &Replay) -> Result<Replayed, EngineError> {
        let Self { tx, statements, .. } = *self;
        let behind = replay.after.map_or(0, |after| after.0.saturating_add(1));
        let from = match replay.from {
            ReplayFrom::Position(from) => from.0.max(behind),
            ReplayFrom::Time(_) => behind,
        };
        let params = params![number(from), limit(replay.max)];
        let looked_at = rows(tx, statements, &statements.rows_from, params)?;
        let last = looked_at.last().map(|row| position(row.position));
        let full = looked_at.len() == replay.max;
        let mut replayed = 0;
        for row in looked_at {
            let mut state = row.state;
            let young = match replay.from {
                ReplayFrom::Position(_) => true,
                ReplayFrom::Time(from) => state.appended_at() >= from,
            };
            if !young || !state.replay(now) {
                continue;
            }
            if let Some(topic) = &replay.topic
                && self.topic(row.position)?.as_ref() != Some(topic)
            {
                continue;
            }
            set_state(tx, statements, row.position, &state)?;
            replayed += 1;
        }
        Ok(Replayed {
            rows: replayed,
            next: last.filter(|_| full),
        })
    }

    fn topic(&self, position: i64) -> Result<Option<String>, EngineError> {
        let mut statement = self
            .tx
            .prepare_cached(&self.statements.topic)
            .map_err(EngineError::of)?;
        statement
            .query_row([position], |row| row.get(0))
            .optional()
            .map_err(EngineError::of)
    }

    fn execute(&self, text: &str, params: impl rusqlite::Params) -> Result<(), EngineError> {
        let mut statement = self.tx.prepare_cached(text).map_err(EngineError::of)?;
        statement.execute(params).map_err(EngineError::of)?;
        Ok(())
    }
}
