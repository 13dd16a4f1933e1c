//! What is done with the rows, each call in transactions that are over when it returns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Clock, Wall};
use dpat_queue::{
    BackendError, DeadLetter, Delivery, ManageError, Message, MessageId, Outcome, Peeked,
    REASON_BYTES_MAX, Receipt, SendError, Sent, SettleError, Settlement, Stats,
};
use tokio::time::Instant;

use super::QueueStore;
use super::message::{decode, encode, size};
use crate::connection::Session;
use crate::error::EngineError;
use crate::gauge::Room;
use crate::sql::{limit, nanos, number, unsigned};
use crate::tx::{Row, Run, Value};

/// How often a receive looks again because what it found waits behind others of its key.
const ROUNDS_MAX: usize = 8;

/// How many rows a step of a tick changes.
const TICK: i64 = 1_000;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Whether there is something to receive, and when time has something to do.
pub(super) struct Look {
    pub(super) paused: bool,
    pub(super) ready: bool,
    pub(super) next: Option<Wall>,
    ends: Option<Wall>,
    forgets: Option<Wall>,
}

/// A message as it stands, locked.
struct Held {
    id: i64,
    key: Option<String>,
    bytes: u64,
    is_live: bool,
    count: i64,
    is_held: bool,
    leased_until: Option<i64>,
    ends: Option<i64>,
}

/// A message that is handed out.
struct Taken {
    id: i64,
    count: i64,
    base: i64,
    lapsed: bool,
}

/// What may be handed out, by the index.
enum Ready {
    Loose(Taken),
    Keyed { id: i64, key: String },
}

fn id(of: i64) -> MessageId {
    MessageId::new(unsigned(of).into())
}

/// No message has an id beyond the largest integer.
fn key(id: MessageId) -> i64 {
    i64::try_from(id.get()).unwrap_or(i64::MAX)
}

fn wall(nanos: i64) -> Wall {
    Wall::from_nanos(unsigned(nanos))
}

fn count32(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Cuts a reason to what is kept of it.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

fn first(rows: &mut [Row]) -> Result<&mut Row, EngineError> {
    rows.first_mut().ok_or_else(|| EngineError::column(0))
}

fn backend(error: EngineError) -> BackendError {
    error.into()
}

impl QueueStore {
    fn now(&self) -> Wall {
        self.shared.time.wall()
    }

    pub(super) async fn send_on(
        &self,
        on: &mut impl Run,
        message: &Message,
    ) -> Result<Sent, SendError> {
        message.check(self.shared.settings.message_bytes_max)?;
        if self.shared.is_closed() {
            return Err(SendError::Closed);
        }
        let sent = self.try_send(on, message).await?;
        self.shared.stats.with(|stats| match sent.duplicate {
            true => stats.duplicates += 1,
            false => stats.sent += 1,
        });
        Ok(sent)
    }

    async fn try_send(&self, on: &mut impl Run, message: &Message) -> Result<Sent, SendError> {
        let now = self.now();
        let duplicate = |known| Sent {
            id: id(known),
            duplicate: true,
        };
        let mut drawn = None;
        if let Some(dedup) = message.get_dedup() {
            if let Some(known) = self.known(on, dedup, now).await.map_err(backend)? {
                return Ok(duplicate(known));
            }
            self.dedup_room(on, now).await?;
        }
        self.room(on, size(message) as u64).await?;
        if let Some(dedup) = message.get_dedup() {
            drawn = self.remember(on, dedup, now).await.map_err(backend)?;
            if drawn.is_none() {
                let known = self.known(on, dedup, now).await.map_err(backend)?;
                return Ok(duplicate(known.unwrap_or(0)));
            }
        }
        let sent = self.insert(on, message, drawn, now).await;
        Ok(Sent {
            id: id(sent.map_err(backend)?),
            duplicate: false,
        })
    }

    async fn known(
        &self,
        on: &mut impl Run,
        dedup: &str,
        now: Wall,
    ) -> Result<Option<i64>, EngineError> {
        let params = [Value::Text(dedup), Value::Int(nanos(now))];
        let mut rows = on.rows(&self.shared.statements.dedup, &params).await?;
        rows.first_mut().map(|row| row.int(0)).transpose()
    }

    async fn remember(
        &self,
        on: &mut impl Run,
        dedup: &str,
        now: Wall,
    ) -> Result<Option<i64>, EngineError> {
        let until = nanos(now + self.shared.settings.dedup_window);
        let params = [
            Value::Text(dedup),
            Value::Int(until),
            Value::Int(nanos(now)),
        ];
        let mut rows = on.rows(&self.shared.statements.remember, &params).await?;
        rows.first_mut().map(|row| row.int(0)).transpose()
    }

    async fn dedup_room(&self, on: &mut impl Run, now: Wall) -> Result<(), SendError> {
        let limit = self.shared.settings.dedup_max;
        let room = Room {
            rows: limit,
            bytes: u64::MAX,
        };
        let began = Instant::now();
        let dedups = &self.shared.dedups;
        if !dedups.with(|gauge| gauge.has_room(room, 0, began)) {
            let params = [
                Value::Int(number(limit).saturating_add(1)),
                Value::Int(nanos(now)),
            ];
            let text = &self.shared.statements.count_dedups;
            let (rows, _) = count(on, text, &params).await.map_err(backend)?;
            dedups.with(|gauge| gauge.counted(rows, 0, began, Instant::now()));
            if rows >= limit {
                let field = "dedup_max";
                return Err(SendError::Full { field, limit });
            }
        }
        dedups.with(|gauge| gauge.added(0));
        Ok(())
    }

    /// Counts if the last count says too little.
    async fn room(&self, on: &mut impl Run, bytes: u64) -> Result<(), SendError> {
        let settings = &self.shared.settings;
        let room = Room {
            rows: settings.messages_max,
            bytes: settings.bytes_max,
        };
        let began = Instant::now();
        let gauge = &self.shared.gauge;
        if !gauge.with(|gauge| gauge.has_room(room, bytes, began)) {
            let full = |field, limit| Err(SendError::Full { field, limit });
            let most = [Value::Int(number(room.rows).saturating_add(1))];
            let text = &self.shared.statements.count_live;
            let (rows, counted) = count(on, text, &most).await.map_err(backend)?;
            gauge.with(|gauge| gauge.counted(rows, counted, began, Instant::now()));
            if rows >= room.rows {
                return full("messages_max", room.rows);
            }
            if counted.saturating_add(bytes) > room.bytes {
                return full("bytes_max", room.bytes);
            }
        }
        gauge.with(|gauge| gauge.added(bytes));
        Ok(())
    }

    async fn insert(
        &self,
        on: &mut impl Run,
        message: &Message,
        drawn: Option<i64>,
        now: Wall,
    ) -> Result<i64, EngineError> {
        let not_before = message.delay_from(now).map_or(now, |delay| now + delay);
        let expires = message.get_ttl().map(|ttl| nanos(not_before + ttl));
        let headers = encode(message.headers());
        let params = [
            Value::MaybeInt(drawn),
            Value::MaybeText(message.get_key()),
            Value::Int(message.get_priority().into()),
            Value::Int(nanos(now)),
            Value::Int(nanos(not_before)),
            Value::MaybeInt(expires),
            Value::Int(limit(size(message))),
            Value::MaybeBytes(headers.as_deref()),
            Value::Bytes(message.payload()),
            Value::Bool(self.shared.pool.config.notifies),
        ];
        let mut rows = on.rows(&self.shared.statements.send, &params).await?;
        first(&mut rows)?.int(0)
    }

    pub(super) async fn look(&self, on: &mut impl Run) -> Result<Look, EngineError> {
        let mut rows = on.rows(&self.shared.statements.look, &[]).await?;
        let row = first(&mut rows)?;
        Ok(Look {
            paused: row.maybe_int(0)?.unwrap_or(0) != 0,
            ready: row.maybe_int(1)?.is_some(),
            next: row.maybe_int(2)?.map(wall),
            ends: row.maybe_int(3)?.map(wall),
            forgets: row.maybe_int(4)?.map(wall),
        })
    }

    /// Lets time pass, in transactions of its own: removes what has ended, makes ready what is due.
    pub(super) async fn tick(&self, session: &mut Session) -> Result<Look, EngineError> {
        let statements = &self.shared.statements;
        let now = self.now();
        let params = [Value::Int(nanos(now))];
        loop {
            let look = self.look(session).await?;
            let passed = |time: Option<Wall>| time.is_some_and(|time| time <= now);
            if passed(look.forgets) {
                session.change(&statements.forget_dedups, &params).await?;
            }
            if passed(look.ends) {
                self.end(session, now).await?;
            }
            let mut made = 0;
            if passed(look.next) {
                let mut rows = session.change(&statements.make_ready, &params).await?;
                made = first(&mut rows)?.int(0)?;
            }
            if !passed(look.ends) && made < TICK {
                return match made {
                    0 => Ok(look),
                    _ => self.look(session).await,
                };
            }
        }
    }

    async fn end(&self, session: &mut Session, now: Wall) -> Result<(), EngineError> {
        let params = [Value::Int(nanos(now))];
        session.batch(BEGIN).await?;
        let found = session.rows(&self.shared.statements.ended, &params).await?;
        let found: Result<Vec<i64>, _> = found.into_iter().map(|mut row| row.int(0)).collect();
        let held = self.locked(session, &found?).await?;
        let ended = held
            .values()
            .filter(|held| held.ends.is_some_and(|ends| ends <= nanos(now)));
        let ended: Vec<&Held> = ended.collect();
        self.delete(session, &ended).await?;
        session.batch("COMMIT").await?;
        let expired = ended.len() as u64;
        self.shared.stats.with(|stats| stats.expired += expired);
        Ok(())
    }

    /// Locks rows in the order that everybody keeps: turns, then ids.
    async fn locked(
        &self,
        session: &mut Session,
        ids: &[i64],
    ) -> Result<BTreeMap<i64, Held>, EngineError> {
        let statements = &self.shared.statements;
        let params = [Value::Ints(ids)];
        session.rows(&statements.lock_turns, &params).await?;
        let rows = session.rows(&statements.lock_rows, &params).await?;
        let held = rows.into_iter().map(|mut row| {
            let id = row.int(0)?;
            Ok((
                id,
                Held {
                    id,
                    key: row.maybe_text(1)?,
                    bytes: unsigned(row.int(2)?),
                    is_live: row.maybe_int(3)?.is_some(),
                    count: row.int(4)?,
                    is_held: row.maybe_int(5)?.is_some(),
                    leased_until: row.maybe_int(6)?,
                    ends: row.maybe_int(7)?,
                },
            ))
        });
        held.collect()
    }

    async fn delete(&self, session: &mut Session, gone: &[&Held]) -> Result<(), EngineError> {
        if gone.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = gone.iter().map(|held| held.id).collect();
        let params = [Value::Ints(&ids)];
        session.rows(&self.shared.statements.delete, &params).await?;
        let keys = gone.iter().filter_map(|held| held.key.as_deref());
        self.promote(session, keys.collect()).await
    }

    async fn promote(
        &self,
        session: &mut Session,
        keys: BTreeSet<&str>,
    ) -> Result<(), EngineError> {
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<&str> = keys.into_iter().collect();
        let params = [Value::Texts(&keys)];
        session
            .rows(&self.shared.statements.promote, &params)
            .await?;
        Ok(())
    }

    /// Hands messages out.
    pub(super) async fn hand_out(
        &self,
        mut session: Session,
        max: usize,
    ) -> Result<Vec<Delivery>, EngineError> {
        let statements = &self.shared.statements;
        session.batch(BEGIN).await?;
        let mut taken: Vec<Taken> = Vec::new();
        let until = nanos(self.now() + self.shared.settings.visibility);
        for _ in 0..ROUNDS_MAX {
            let left = max - taken.len();
            let (now_taken, behind) = self.ready(&mut session, left).await?;
            if !behind.is_empty() {
                let params = [Value::Ints(&behind)];
                session.rows(&statements.demote, &params).await?;
            }
            let ids: Vec<i64> = now_taken.iter().map(|one| one.id).collect();
            if !ids.is_empty() {
                let params = [
                    Value::Ints(&ids),
                    Value::Int(self.shared.holder),
                    Value::Int(until),
                ];
                session.rows(&statements.claim, &params).await?;
            }
            taken.extend(now_taken);
            if behind.is_empty() || taken.len() == max {
                break;
            }
        }
        let ids: Vec<i64> = taken.iter().map(|one| one.id).collect();
        let mut messages = self.messages(&mut session, &ids).await?;
        let lease = self.shared.settings.visibility;
        let mut deliveries = Vec::with_capacity(taken.len());
        for one in &taken {
            let (content, sent_at) = self.one_of(&mut messages, one.id)?;
            let count = count32(one.count.saturating_add(1));
            let receipt = Receipt::new(id(one.id), count.into());
            let mut delivery = Delivery::new(content, receipt, count, sent_at, lease);
            delivery.attempt = count.saturating_sub(count32(one.base));
            deliveries.push(delivery);
        }
        session.commit().await?;
        self.shared.stats.with(|stats| {
            for one in &taken {
                stats.delivered += 1;
                stats.redelivered += u64::from(one.count > 0);
                stats.lapsed += u64::from(one.lapsed);
            }
        });
        Ok(deliveries)
    }

    /// What may be handed out, locked; and what the index shows too early.
    async fn ready(
        &self,
        session: &mut Session,
        max: usize,
    ) -> Result<(Vec<Taken>, Vec<i64>), EngineError> {
        let statements = &self.shared.statements;
        let params = [Value::Int(limit(max))];
        let mut ready = Vec::new();
        for mut row in session.rows(&statements.loose, &params).await? {
            let taken = Taken {
                id: row.int(0)?,
                count: row.int(3)?,
                base: row.int(4)?,
                lapsed: row.maybe_int(5)?.is_some(),
            };
            ready.push(((-row.int(1)?, row.int(2)?), Ready::Loose(taken)));
        }
        let mut keys = BTreeSet::new();
        for mut row in session.rows(&statements.keyed, &params).await? {
            let order = (-row.int(1)?, row.int(2)?);
            let (id, key) = (row.int(0)?, row.text(3)?);
            keys.insert(key.clone());
            ready.push((order, Ready::Keyed { id, key }));
        }
        let mut firsts = self.firsts(session, &keys).await?;
        ready.sort_by_key(|(order, _)| *order);
        let mut taken = Vec::new();
        let mut behind = Vec::new();
        for (_, one) in ready {
            match one {
                Ready::Loose(one) if taken.len() < max => taken.push(one),
                Ready::Loose(_) => {}
                Ready::Keyed { id, key } => match firsts.get(&key) {
                    Some((first, due)) if first.id == id => {
                        if *due <= nanos(self.now()) && taken.len() < max {
                            taken.extend(firsts.insert(key, (taken_already(), i64::MAX)).map(|one| one.0));
                        }
                    }
                    Some(_) => behind.push(id),
                    None => {}
                },
            }
        }
        Ok((taken, behind))
    }

    /// The first message of each key, as it is now that the turns are locked, and when it is due.
    async fn firsts(
        &self,
        session: &mut Session,
        keys: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, (Taken, i64)>, EngineError> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let params = [Value::Texts(&keys)];
        let rows = session
            .rows(&self.shared.statements.firsts, &params)
            .await?;
        let firsts = rows.into_iter().map(|mut row| {
            let taken = Taken {
                id: row.int(1)?,
                count: row.int(3)?,
                base: row.int(4)?,
                lapsed: row.maybe_int(5)?.is_some(),
            };
            Ok((row.text(0)?, (taken, row.int(2)?)))
        });
        firsts.collect()
    }

    /// Messages without their times, and when each was sent.
    async fn messages(
        &self,
        session: &mut Session,
        ids: &[i64],
    ) -> Result<BTreeMap<i64, (Message, Wall)>, EngineError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let statements = &self.shared.statements;
        let params = [Value::Ints(ids)];
        let rows = session.rows(&statements.contents, &params).await?;
        let messages = rows.into_iter().map(|mut row| {
            let id = row.int(0)?;
            let priority = u8::try_from(row.int(2)?).unwrap_or(0);
            let mut content = Message::new(row.bytes(5)?).priority(priority);
            if let Some(key) = row.maybe_text(1)? {
                content = content.key(key);
            }
            let headers = row.maybe_bytes(4)?.unwrap_or_default();
            let content = decode(&headers, content)
                .map_err(|error| EngineError::corrupt(&statements.messages, id, error))?;
            Ok((id, (content, wall(row.int(3)?))))
        });
        messages.collect()
    }

    fn one_of(
        &self,
        messages: &mut BTreeMap<i64, (Message, Wall)>,
        id: i64,
    ) -> Result<(Message, Wall), EngineError> {
        messages.remove(&id).ok_or_else(|| {
            let what = "its delivery is there, and the message is gone";
            EngineError::inconsistent(&self.shared.statements.messages, id, what)
        })
    }

    pub(super) async fn settle_now(
        &self,
        batch: &[Settlement],
    ) -> Result<Vec<Result<(), SettleError>>, EngineError> {
        let statements = &self.shared.statements;
        let mut session = self.shared.pool.session().await?;
        self.tick(&mut session).await?;
        session.batch(BEGIN).await?;
        let now = self.now();
        let ids: Vec<i64> = batch.iter().map(|one| key(one.receipt.id())).collect();
        let mut held = self.locked(&mut session, &ids).await?;
        let rejects = batch
            .iter()
            .any(|one| matches!(one.outcome, Outcome::Reject { .. }));
        let settings = self.shared.settings;
        let mut dead = match rejects {
            true => {
                let most = [Value::Int(number(settings.dead_max).saturating_add(1))];
                count(&mut session, &statements.count_dead, &most).await?
            }
            false => (0, 0),
        };
        let mut done = Vec::new();
        let (mut retried, mut dues, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        let (mut rejected, mut whys) = (Vec::new(), Vec::new());
        let mut settled = Vec::with_capacity(batch.len());
        for one in batch {
            let Some(row) = live(&mut held, one.receipt) else {
                settled.push(Err(SettleError::Stale));
                continue;
            };
            match &one.outcome {
                Outcome::Done => done.push(row.id),
                Outcome::Retry { delay, reason } => {
                    retried.push(row.id);
                    dues.push(nanos(now + *delay));
                    reasons.push(Some(cut(reason)).filter(|reason| !reason.is_empty()));
                }
                Outcome::Reject { reason } => {
                    let (field, limit) = if dead.0 >= settings.dead_max {
                        ("dead_max", settings.dead_max)
                    } else if dead.1.saturating_add(row.bytes) > settings.dead_bytes_max {
                        ("dead_bytes_max", settings.dead_bytes_max)
                    } else {
                        ("", 0)
                    };
                    if !field.is_empty() {
                        settled.push(Err(SettleError::DeadLettersFull { field, limit }));
                        continue;
                    }
                    dead = (dead.0 + 1, dead.1 + row.bytes);
                    rejected.push(row.id);
                    whys.push(cut(reason));
                }
            }
            row.is_held = false;
            settled.push(Ok(()));
        }
        if !retried.is_empty() {
            let params = [
                Value::Ints(&retried),
                Value::Ints(&dues),
                Value::MaybeTexts(&reasons),
            ];
            session.rows(&statements.retry, &params).await?;
        }
        if !rejected.is_empty() {
            let params = [
                Value::Ints(&rejected),
                Value::Texts(&whys),
                Value::Int(nanos(now)),
            ];
            session.rows(&statements.reject, &params).await?;
        }
        if !done.is_empty() {
            let params = [Value::Ints(&done)];
            session.rows(&statements.delete, &params).await?;
        }
        let keys = held.values().filter_map(|held| held.key.as_deref());
        self.promote(&mut session, keys.collect()).await?;
        if self.shared.pool.config.notifies && !held.is_empty() {
            session.rows(&statements.notify, &[]).await?;
        }
        session.commit().await?;
        self.shared.stats.with(|stats| {
            stats.done += done.len() as u64;
            stats.retried += retried.len() as u64;
            stats.rejected += rejected.len() as u64;
        });
        Ok(settled)
    }

    pub(super) async fn extend_now(
        &self,
        batch: &[Receipt],
        by: Duration,
    ) -> Result<Vec<Result<(), SettleError>>, EngineError> {
        let mut session = self.shared.pool.session().await?;
        self.tick(&mut session).await?;
        session.batch(BEGIN).await?;
        let ids: Vec<i64> = batch.iter().map(|receipt| key(receipt.id())).collect();
        let mut held = self.locked(&mut session, &ids).await?;
        let mut extended = Vec::new();
        let answers = batch.iter().map(|receipt| match live(&mut held, *receipt) {
            Some(row) => {
                extended.push(row.id);
                Ok(())
            }
            None => Err(SettleError::Stale),
        });
        let answers: Vec<_> = answers.collect();
        let until = nanos(self.now() + by);
        let params = [Value::Ints(&extended), Value::Int(until)];
        session.rows(&self.shared.statements.extend, &params).await?;
        session.commit().await?;
        Ok(answers)
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
        session.commit().await.map_err(backend)?;
        self.notify();
        Ok(true)
    }

    pub(super) async fn discard_now(&self, letter: MessageId) -> Result<bool, EngineError> {
        let letter = key(letter);
        let mut session = self.shared.pool.begin().await?;
        let held = self.locked(&mut session, &[letter]).await?.remove(&letter);
        let dead: Vec<&Held> = held.iter().filter(|held| !held.is_live).collect();
        self.delete(&mut session, &dead).await?;
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
        let now = nanos(self.now());
        let params = [Value::Int(now), Value::Int(limit(max))];
        let mut session = self.shared.pool.session().await?;
        self.tick(&mut session).await?;
        session.batch(BEGIN).await?;
        let text = &self.shared.statements.purgeable;
        let found = session.rows(text, &params).await?;
        let found: Result<Vec<i64>, _> = found.into_iter().map(|mut row| row.int(0)).collect();
        let found = found?;
        let held = self.locked(&mut session, &found).await?;
        let is_out = |held: &Held| held.leased_until.is_some_and(|until| until > now);
        let gone = held.values().filter(|held| held.is_live && !is_out(held));
        let gone: Vec<&Held> = gone.collect();
        self.delete(&mut session, &gone).await?;
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
        let mut rows = session.rows(&statements.count_ready, &[]).await?;
        let ready = unsigned(first(&mut rows)?.int(0)?);
        let params = [Value::Int(nanos(now))];
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
        let statements = &self.shared.statements;
        let mut session = self.shared.pool.begin().await?;
        session.rows(&statements.set_paused, &params).await?;
        if self.shared.pool.config.notifies {
            session.rows(&statements.notify, &[]).await?;
        }
        session.commit().await
    }
}

/// In the place of a message of a key that is handed out: no other of the key is.
const fn taken_already() -> Taken {
    Taken {
        id: -1,
        count: 0,
        base: 0,
        lapsed: false,
    }
}

/// What a receipt holds that has a say.
fn live(held: &mut BTreeMap<i64, Held>, receipt: Receipt) -> Option<&mut Held> {
    let count = i64::try_from(receipt.token()).unwrap_or(i64::MAX);
    let row = held.get_mut(&key(receipt.id()))?;
    (row.is_live && row.is_held && row.count == count).then_some(row)
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

/// Rows and bytes of a count.
async fn count(
    on: &mut impl Run,
    text: &str,
    params: &[Value<'_>],
) -> Result<(u64, u64), EngineError> {
    let mut rows = on.rows(text, params).await?;
    let row = first(&mut rows)?;
    Ok((unsigned(row.int(0)?), unsigned(row.int(1)?)))
}
