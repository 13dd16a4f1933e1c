//! The port: each method one transaction that is over when it returns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use dpat_core::Wall;
use dpat_outbox::{
    Batch, Claim, Lag, Parked, Phase, Position, Repair, Repaired, Replay, ReplayFrom, Replayed,
    RowState, Settled, Settlement, Store, StoreError, Ticket,
};

use super::claims::{Claiming, contents, next_due};
use super::row::{Row, Written, event, position, row};
use super::{Outbox, counts};
use crate::connection::Session;
use crate::error::EngineError;
use crate::sql::{limit, nanos, number, unsigned};
use crate::tx::{Run, Value};

/// [`Lag`] counts no further than this: a million of each.
pub const LAG_ROWS_MAX: u64 = 1_000_000;

/// When to look again after everything was in the hands of other relays.
const LOOKED_AGAIN: Duration = Duration::from_millis(20);

impl Outbox {
    async fn claim_now(&self, claim: &Claim) -> Result<Batch, EngineError> {
        let statements = &self.shared.statements;
        // Before the look: what changes after it is not missed.
        let seen = self.ticket();
        let mut session = self.shared.pool.session().await?;
        let due = next_due(&mut session, statements).await?;
        if due.is_none_or(|due| due > claim.now) {
            session.done();
            return Ok(Batch {
                rows: Vec::new(),
                seen,
                next_due: due,
            });
        }
        session
            .batch("BEGIN ISOLATION LEVEL READ COMMITTED")
            .await?;
        let taken = Claiming::new(&mut session, statements, claim).run().await?;
        let mut due = next_due(&mut session, statements).await?;
        match taken.changed {
            true => session.commit().await?,
            false => {
                session.rollback().await?;
                due = due.map(|due| due.max(claim.now.saturating_add(LOOKED_AGAIN)));
            }
        }
        Ok(Batch {
            rows: taken.claimed,
            seen,
            next_due: due,
        })
    }

    /// Locks rows in the order that everybody keeps: lanes, then positions.
    async fn locked(
        &self,
        session: &mut Session,
        positions: &[i64],
    ) -> Result<BTreeMap<i64, Row>, EngineError> {
        let statements = &self.shared.statements;
        let params = [Value::Ints(positions)];
        session.rows(&statements.lock_lanes, &params).await?;
        let mut rows = BTreeMap::new();
        for mut read in session.rows(&statements.lock_rows, &params).await? {
            let row = row(&mut read, statements)?;
            rows.insert(row.position, row);
        }
        Ok(rows)
    }

    /// Writes changed states, and finds the first of their keys anew.
    async fn write(
        &self,
        session: &mut Session,
        changed: &[(i64, Option<&str>, &RowState)],
    ) -> Result<(), EngineError> {
        let statements = &self.shared.statements;
        let mut written = Written::default();
        for (position, key, state) in changed {
            written.add(*position, state, key.is_none());
        }
        written.write(session, statements).await?;
        let keys = changed.iter().filter_map(|(_, key, _)| *key);
        self.promote(session, &keys.collect()).await
    }

    async fn promote(
        &self,
        session: &mut Session,
        keys: &BTreeSet<&str>,
    ) -> Result<(), EngineError> {
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<&str> = keys.iter().copied().collect();
        let params = [Value::Texts(&keys)];
        session
            .rows(&self.shared.statements.promote, &params)
            .await?;
        Ok(())
    }

    async fn settle_now(
        &self,
        now: Wall,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, EngineError> {
        let places = settlements.iter().map(|one| number(one.position.0));
        let places: Vec<i64> = places.collect();
        let mut session = self.shared.pool.begin().await?;
        let mut rows = self.locked(&mut session, &places).await?;
        let mut changed = BTreeSet::new();
        let settled = settlements.iter().zip(&places).map(|(one, place)| {
            let Some(row) = rows.get_mut(place) else {
                return Settled::Lost;
            };
            let before = row.state.clone();
            let settled = row.state.settle(one.token, &one.outcome, now);
            if row.state != before {
                changed.insert(*place);
            }
            settled
        });
        let settled: Vec<Settled> = settled.collect();
        let changed = rows.values().filter(|row| changed.contains(&row.position));
        let changed: Vec<_> = changed
            .map(|row| (row.position, row.key.as_deref(), &row.state))
            .collect();
        self.write(&mut session, &changed).await?;
        session.commit().await?;
        Ok(settled)
    }

    async fn lag_now(&self) -> Result<Lag, EngineError> {
        let statements = &self.shared.statements;
        let mut session = self.shared.pool.session().await?;
        let most = [Value::Int(number(LAG_ROWS_MAX))];
        let (backlog_rows, backlog_bytes) =
            counts(&mut session.rows(&statements.backlog, &most).await?)?;
        let mut one = session.rows(&statements.oldest, &[]).await?;
        let oldest = match one.first_mut() {
            None => None,
            Some(row) => Some(Wall::from_nanos(unsigned(row.int(0)?))),
        };
        let mut others = [0; 2];
        for (text, count) in [&statements.count_parked, &statements.count_sent]
            .into_iter()
            .zip(&mut others)
        {
            if let Some(row) = session.rows(text, &most).await?.first_mut() {
                *count = unsigned(row.int(0)?);
            }
        }
        session.done();
        let [parked, sent] = others;
        Ok(Lag {
            backlog_rows,
            backlog_bytes,
            oldest,
            parked,
            sent,
        })
    }

    async fn purge_now(&self, sent_before: Wall, max: usize) -> Result<usize, EngineError> {
        let params = [Value::Int(nanos(sent_before)), Value::Int(limit(max))];
        let mut session = self.shared.pool.begin().await?;
        let mut rows = session.rows(&self.shared.statements.purge, &params).await?;
        let purged = match rows.first_mut() {
            None => 0,
            Some(row) => row.int(0)?,
        };
        session.commit().await?;
        Ok(usize::try_from(purged).unwrap_or(0))
    }

    async fn parked_now(
        &self,
        after: Option<Position>,
        max: usize,
    ) -> Result<Vec<Parked>, EngineError> {
        let statements = &self.shared.statements;
        let after = after.map_or(-1, |after| number(after.0));
        let params = [Value::Int(after), Value::Int(limit(max))];
        let mut session = self.shared.pool.session().await?;
        let found = session.rows(&statements.parked, &params).await?;
        session.done();
        let parked = found.into_iter().map(|mut read| {
            let row = row(&mut read, statements)?;
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
                event: event(row.position, &read.bytes(5)?, statements)?,
                reason: reason.clone(),
                at: Wall::from_nanos(*at),
                attempts: row.state.attempts(),
                blocks: *blocks,
            })
        });
        parked.collect()
    }

    async fn repair_now(
        &self,
        now: Wall,
        place: Position,
        repair: &Repair,
    ) -> Result<Repaired, EngineError> {
        let statements = &self.shared.statements;
        let place = number(place.0);
        let mut session = self.shared.pool.begin().await?;
        let found = self.locked(&mut session, &[place]).await?.remove(&place);
        let Some(Row { key, mut state, .. }) = found else {
            session.rollback().await?;
            return Ok(Repaired::NotParked);
        };
        if !state.retry(now) {
            session.rollback().await?;
            return Ok(Repaired::NotParked);
        }
        let key = key.as_deref();
        match repair {
            Repair::Discard => {
                let params = [Value::Int(place)];
                session.rows(&statements.forget, &params).await?;
                self.promote(&mut session, &key.into_iter().collect())
                    .await?;
                session.commit().await?;
                return Ok(Repaired::Done);
            }
            Repair::Retry => {}
            Repair::Replace(new) => {
                let mut contents = contents(&mut session, statements, &[place]).await?;
                let old = contents.remove(&place).unwrap_or_default();
                let old = event(place, &old, statements)?;
                if (old.id(), old.key(), old.dedup()) != (new.id(), new.key(), new.dedup()) {
                    session.rollback().await?;
                    return Ok(Repaired::OtherIdentity);
                }
                let encoded = new.encode();
                let params = [
                    Value::Int(place),
                    Value::Text(new.topic()),
                    Value::Bytes(&encoded),
                ];
                session.rows(&statements.set_event, &params).await?;
            }
        }
        self.write(&mut session, &[(place, key, &state)]).await?;
        session.commit().await?;
        Ok(Repaired::Done)
    }

    async fn replay_now(&self, now: Wall, replay: &Replay) -> Result<Replayed, EngineError> {
        let behind = replay.after.map_or(0, |after| after.0.saturating_add(1));
        let from = match replay.from {
            ReplayFrom::Position(from) => from.0.max(behind),
            ReplayFrom::Time(_) => behind,
        };
        let params = [Value::Int(number(from)), Value::Int(limit(replay.max))];
        let mut session = self.shared.pool.begin().await?;
        let mut looked_at = Vec::new();
        let mut wanted = Vec::new();
        for mut read in session.rows(&self.shared.statements.from, &params).await? {
            let place = read.int(0)?;
            looked_at.push(place);
            let topic = read.text(1)?;
            if replay.topic.as_ref().is_none_or(|only| *only == topic) {
                wanted.push(place);
            }
        }
        let mut rows = self.locked(&mut session, &wanted).await?;
        rows.retain(|_, row| {
            let young = match replay.from {
                ReplayFrom::Position(_) => true,
                ReplayFrom::Time(from) => row.state.appended_at() >= from,
            };
            young && row.state.replay(now)
        });
        let changed: Vec<_> = rows
            .values()
            .map(|row| (row.position, row.key.as_deref(), &row.state))
            .collect();
        self.write(&mut session, &changed).await?;
        session.commit().await?;
        let full = looked_at.len() == replay.max;
        let last = looked_at.last().map(|place| position(*place));
        Ok(Replayed {
            rows: rows.len() as u64,
            next: last.filter(|_| full),
        })
    }
}

#[async_trait]
impl Store for Outbox {
    async fn claim(&self, claim: &Claim) -> Result<Batch, StoreError> {
        Ok(self.claim_now(claim).await?)
    }

    async fn settle(
        &self,
        now: Wall,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        Ok(self.settle_now(now, settlements).await?)
    }

    async fn wait(&self, seen: Ticket) {
        self.shared.signal.changed(seen).await;
    }

    async fn lag(&self) -> Result<Lag, StoreError> {
        Ok(self.lag_now().await?)
    }

    async fn purge(&self, sent_before: Wall, max: usize) -> Result<usize, StoreError> {
        Ok(self.purge_now(sent_before, max).await?)
    }

    async fn parked(&self, after: Option<Position>, max: usize) -> Result<Vec<Parked>, StoreError> {
        Ok(self.parked_now(after, max).await?)
    }

    async fn repair(
        &self,
        now: Wall,
        position: Position,
        repair: &Repair,
    ) -> Result<Repaired, StoreError> {
        let repaired = self.repair_now(now, position, repair).await?;
        self.notify();
        Ok(repaired)
    }

    async fn replay(&self, now: Wall, replay: &Replay) -> Result<Replayed, StoreError> {
        let replayed = self.replay_now(now, replay).await?;
        self.notify();
        Ok(replayed)
    }
}
