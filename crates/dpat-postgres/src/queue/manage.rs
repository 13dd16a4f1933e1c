//! Looks, and what operators do.

use std::sync::Arc;

use dpat_core::Wall;
use dpat_queue::{DeadLetter, ManageError, MessageId, Peeked, Stats};

use super::QueueStore;
use super::rows::{BEGIN, Held, backend, count, count32, first, id, key, wall};
use crate::error::EngineError;
use crate::sql::{limit, nanos, number, unsigned};
use crate::tx::{Row, Run, Value};

impl QueueStore {
    /// Ends all leases.
    pub(super) async fn release_now(&self) -> Result<u64, EngineError> {
        let statements = &self.shared.statements;
        let mut session = self.shared.pool.begin().await?;
        session.rows(&statements.lock_all_turns, &[]).await?;
        let now = [Value::Int(nanos(self.now()))];
        let mut rows = session.rows(&statements.release_all, &now).await?;
        session.commit_and_tell(self.telling()).await?;
        self.notify();
        Ok(unsigned(first(&mut rows)?.int(0)?))
    }

    /// When the first lease of this handle ends; none: it has none.
    pub(super) async fn leased(&self) -> Result<Option<Wall>, EngineError> {
        let params = [
            Value::Int(self.shared.holder),
            Value::Int(nanos(self.now())),
        ];
        let mut session = self.shared.pool.session().await?;
        let mut rows = session
            .rows(&self.shared.statements.leased, &params)
            .await?;
        session.done();
        let until = rows.first_mut().map(|row| row.int(0)).transpose()?;
        Ok(until.map(wall))
    }

    pub(super) async fn dead_now(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, EngineError> {
        let params = [Value::Int(after.map_or(0, key)), Value::Int(limit(max))];
        let mut session = self.shared.pool.session().await?;
        let rows = session.rows(&self.shared.statements.dead, &params).await?;
        let seen = rows.into_iter().map(seen);
        let seen = seen.collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<i64> = seen.iter().map(|one| one.0).collect();
        let mut messages = self.messages(&mut session, &ids).await?;
        session.done();
        // One that is gone between the two looks is not listed.
        let letters = seen.into_iter().filter_map(|(letter, count, reason, at)| {
            let (message, sent_at) = messages.remove(&letter)?;
            Some(DeadLetter {
                id: id(letter),
                message,
                reason: reason.unwrap_or_default().into(),
                at: wall(at.unwrap_or(0)),
                sent_at,
                count: count32(count),
            })
        });
        Ok(letters.collect())
    }

    pub(super) async fn replay_now(&self, letter: MessageId) -> Result<bool, ManageError> {
        let letter = key(letter);
        let mut session = self.shared.pool.session().await.map_err(backend)?;
        self.tick(&mut session).await.map_err(backend)?;
        session.batch(BEGIN).await.map_err(backend)?;
        let held = self.locked(&mut session, &[letter]).await;
        let held = held.map_err(backend)?.remove(&letter);
        let Some(held) = held.filter(|held| !held.is_live) else {
            session.rollback().await.map_err(backend)?;
            return Ok(false);
        };
        let settings = self.shared.settings;
        let most = [Value::Int(number(settings.messages_max).saturating_add(1))];
        let statements = &self.shared.statements;
        let counted = count(&mut session, &statements.count_live, &most).await;
        let (rows, bytes) = counted.map_err(backend)?;
        let full = |field, limit| Err(ManageError::Full { field, limit });
        if rows >= settings.messages_max {
            session.rollback().await.map_err(backend)?;
            return full("messages_max", settings.messages_max);
        }
        if bytes.saturating_add(held.bytes) > settings.bytes_max {
            session.rollback().await.map_err(backend)?;
            return full("bytes_max", settings.bytes_max);
        }
        let params = [Value::Int(letter), Value::Int(nanos(self.now()))];
        session
            .rows(&statements.replay, &params)
            .await
            .map_err(backend)?;
        let committed = session.commit_and_tell(self.telling()).await;
        committed.map_err(backend)?;
        self.notify();
        Ok(true)
    }

    pub(super) async fn discard_now(&self, letter: MessageId) -> Result<bool, EngineError> {
        let letter = key(letter);
        let mut session = self.shared.pool.begin().await?;
        let held = self.locked(&mut session, &[letter]).await?.remove(&letter);
        let dead: Vec<&Held> = held.iter().filter(|held| !held.is_live).collect();
        self.delete(&mut session, &dead, self.now()).await?;
        session.commit().await?;
        Ok(!dead.is_empty())
    }

    pub(super) async fn peek_now(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<Peeked>, EngineError> {
        let statements = &self.shared.statements;
        let mut session = self.shared.pool.session().await?;
        self.tick(&mut session).await?;
        let place = match after {
            None => 0,
            // One that is gone meanwhile had its place not before its id.
            Some(after) => {
                let params = [Value::Int(key(after))];
                let mut rows = session.rows(&statements.place, &params).await?;
                let place = rows.first_mut().map(|row| row.int(0)).transpose()?;
                place.unwrap_or(key(after))
            }
        };
        let params = [Value::Int(place), Value::Int(limit(max))];
        let rows = session.rows(&statements.peek, &params).await?;
        let seen = rows.into_iter().map(seen);
        let seen = seen.collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<i64> = seen.iter().map(|one| one.0).collect();
        let mut messages = self.messages(&mut session, &ids).await?;
        session.done();
        let now = nanos(self.now());
        // One that is gone between the two looks is not listed.
        let peeked = seen
            .into_iter()
            .filter_map(|(one, count, reason, leased_until)| {
                let (message, sent_at) = messages.remove(&one)?;
                Some(Peeked {
                    id: id(one),
                    message,
                    sent_at,
                    count: count32(count),
                    leased: leased_until.is_some_and(|until| until > now),
                    reason: reason.map(Arc::from),
                })
            });
        Ok(peeked.collect())
    }

    /// Removes up to `max` messages that are not out, and says how many it looked at, and how many it removed.
    pub(super) async fn purge_step(&self, max: usize) -> Result<(usize, usize), EngineError> {
        let mut session = self.shared.pool.session().await?;
        self.tick(&mut session).await?;
        let now = self.now();
        let params = [Value::Int(nanos(now)), Value::Int(limit(max))];
        session.batch(BEGIN).await?;
        let text = &self.shared.statements.purgeable;
        let found = session.rows(text, &params).await?;
        let found: Result<Vec<i64>, _> = found.into_iter().map(|mut row| row.int(0)).collect();
        let found = found?;
        let held = self.locked(&mut session, &found).await?;
        let is_out = |held: &Held| held.leased_until.is_some_and(|until| until > nanos(now));
        let gone = held.values().filter(|held| held.is_live && !is_out(held));
        let gone: Vec<&Held> = gone.collect();
        self.delete(&mut session, &gone, now).await?;
        session.commit().await?;
        Ok((found.len(), gone.len()))
    }

    pub(super) async fn stats_now(&self) -> Result<Stats, EngineError> {
        let statements = &self.shared.statements;
        let settings = self.shared.settings;
        let mut session = self.shared.pool.session().await?;
        let look = self.tick(&mut session).await?;
        let now = self.now();
        let most = [Value::Int(number(settings.messages_max).saturating_add(1))];
        let (live, bytes) = count(&mut session, &statements.count_live, &most).await?;
        let most = [Value::Int(number(settings.dead_max).saturating_add(1))];
        let (dead, _) = count(&mut session, &statements.count_dead, &most).await?;
        let params = [Value::Int(nanos(now))];
        let mut rows = session.rows(&statements.count_ready, &params).await?;
        let ready = unsigned(first(&mut rows)?.int(0)?);
        let mut rows = session.rows(&statements.count_leased, &params).await?;
        let leased = unsigned(first(&mut rows)?.int(0)?);
        let mut rows = session.rows(&statements.oldest, &[]).await?;
        session.done();
        let oldest = rows.first_mut().map(|row| row.int(0)).transpose()?;
        let mut stats = self.shared.stats.with(|stats| *stats);
        stats.ready = ready;
        stats.leased = leased;
        stats.waiting = live.saturating_sub(ready).saturating_sub(leased);
        stats.dead = dead;
        stats.bytes = bytes;
        stats.paused = look.paused;
        let age = |sent_at| u64::try_from(now.since(sent_at).as_nanos()).unwrap_or(u64::MAX);
        stats.oldest_ns = oldest.map(wall).map(age);
        Ok(stats)
    }

    pub(super) async fn pause_now(&self, paused: bool) -> Result<(), EngineError> {
        let params = [Value::Bool(paused)];
        let mut session = self.shared.pool.begin().await?;
        let text = &self.shared.statements.set_paused;
        session.rows(text, &params).await?;
        session.commit_and_tell(self.telling()).await
    }
}

type Seen = (i64, i64, Option<String>, Option<i64>);

fn seen(mut row: Row) -> Result<Seen, EngineError> {
    Ok((
        row.int(0)?,
        row.int(1)?,
        row.maybe_text(2)?,
        row.maybe_int(3)?,
    ))
}
