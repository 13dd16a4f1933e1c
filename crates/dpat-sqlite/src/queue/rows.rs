//! What is done with the rows within one transaction.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Clock, Wall};
use dpat_queue::{
    DeadLetter, Delivery, ManageError, Message, MessageId, Outcome, Peeked, REASON_BYTES_MAX,
    Receipt, SendError, Sent, SettleError, Stats,
};
use rusqlite::{OptionalExtension, Params, Row, Transaction, params};

use super::backend::backend;
use super::message::{Stored, decode};
use super::{QueueSettings, Shared};
use crate::error::EngineError;
use crate::sql::{nanos, number};

/// The queue within a transaction.
///
/// Nothing of it is durable, and nothing can be received, before the commit. After an error of the backend roll the
/// transaction back.
pub struct QueueTx<'t> {
    tx: &'t Transaction<'t>,
    shared: &'t Shared,
}

/// The row of counts.
pub(super) struct Counts {
    live: u64,
    live_bytes: u64,
    dead: u64,
    dead_bytes: u64,
    dedups: u64,
    pub(super) paused: bool,
}

/// Whether there is something to receive.
pub(super) struct Look {
    pub(super) paused: bool,
    pub(super) ready: bool,
    pub(super) next: Option<Wall>,
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn id(of: i64) -> MessageId {
    MessageId::new(unsigned(of).into())
}

/// No message has an id beyond the largest integer.
pub(super) fn key(id: MessageId) -> i64 {
    i64::try_from(id.get()).unwrap_or(i64::MAX)
}

fn wall(nanos: i64) -> Wall {
    Wall::from_nanos(unsigned(nanos))
}

fn count32(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The limit that refuses a message, with so many there.
pub(super) fn full(settings: &QueueSettings, live: u64) -> SendError {
    let (field, limit) = match live >= settings.messages_max {
        true => ("messages_max", settings.messages_max),
        false => ("bytes_max", settings.bytes_max),
    };
    SendError::Full { field, limit }
}

/// Cuts a reason to what is kept of it.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

impl<'t> QueueTx<'t> {
    pub(super) fn new(tx: &'t Transaction<'_>, shared: &'t Shared) -> Self {
        Self { tx, shared }
    }

    pub(super) fn now(&self) -> Wall {
        self.shared.time.wall()
    }

    fn settings(&self) -> &QueueSettings {
        &self.shared.settings
    }

    fn execute(&self, text: &str, params: impl Params) -> Result<usize, EngineError> {
        let mut statement = self.tx.prepare_cached(text).map_err(EngineError::of)?;
        statement.execute(params).map_err(EngineError::of)
    }

    fn find<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, EngineError> {
        let mut statement = self.tx.prepare_cached(text).map_err(EngineError::of)?;
        let found = statement.query_row(params, read).optional();
        found.map_err(EngineError::of)
    }

    fn list<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, EngineError> {
        let mut statement = self.tx.prepare_cached(text).map_err(EngineError::of)?;
        let found = statement.query_map(params, read).map_err(EngineError::of)?;
        found.collect::<Result<_, _>>().map_err(EngineError::of)
    }

    /// A row that is always there.
    fn only<T>(&self, found: Option<T>) -> Result<T, EngineError> {
        let counted = &self.shared.statements.counted;
        found.ok_or_else(|| EngineError::inconsistent(counted, 1, "the row of counts is gone"))
    }

    pub(super) fn counts(&self) -> Result<Counts, EngineError> {
        let counts = self.find(&self.shared.statements.counts, [], |row| {
            Ok(Counts {
                live: unsigned(row.get(0)?),
                live_bytes: unsigned(row.get(1)?),
                dead: unsigned(row.get(2)?),
                dead_bytes: unsigned(row.get(3)?),
                dedups: unsigned(row.get(4)?),
                paused: row.get(5)?,
            })
        })?;
        self.only(counts)
    }

    /// Sends a message; it can be received once the transaction is committed.
    ///
    /// # Errors
    /// [`SendError`]. Unless the backend failed, the transaction may go on without the message.
    pub fn send(&self, message: &Message) -> Result<Sent, SendError> {
        message.check(self.settings().message_bytes_max)?;
        if self.shared.is_closed() {
            return Err(SendError::Closed);
        }
        let sent = self.try_send(message)?;
        self.shared.sent(sent);
        Ok(sent)
    }

    fn try_send(&self, message: &Message) -> Result<Sent, SendError> {
        let statements = &self.shared.statements;
        let now = self.now();
        if let Some(dedup) = message.get_dedup() {
            self.execute(&statements.forget_dedups, [nanos(now)])
                .map_err(backend)?;
            let known = self
                .find(&statements.dedup, [dedup], |row| row.get(0))
                .map_err(backend)?;
            if let Some(known) = known {
                return Ok(Sent::duplicate(id(known)));
            }
            let limit = self.settings().dedup_max;
            if self.counts().map_err(backend)?.dedups >= limit {
                let field = "dedup_max";
                return Err(SendError::Full { field, limit });
            }
        }
        let mut sent = self.insert(message, now).map_err(backend)?;
        if sent.is_none() {
            // What has ended makes room.
            self.tick(now).map_err(backend)?;
            sent = self.insert(message, now).map_err(backend)?;
        }
        let Some(sent) = sent else {
            let live = self.counts().map_err(backend)?.live;
            return Err(full(self.settings(), live));
        };
        if let Some(dedup) = message.get_dedup() {
            let until = nanos(now + self.settings().dedup_window);
            self.execute(&statements.remember, params![dedup, sent, until])
                .map_err(backend)?;
        }
        Ok(Sent::new(id(sent)))
    }

    /// Adds a message, unless a limit is reached.
    fn insert(&self, message: &Message, now: Wall) -> Result<Option<i64>, EngineError> {
        let Stored {
            not_before,
            expires,
            bytes,
            headers,
        } = Stored::of(message, now);
        let params = params![
            message.get_key(),
            message.get_priority(),
            nanos(now),
            not_before,
            expires,
            bytes,
            headers,
            &message.payload()[..],
            number(self.settings().messages_max),
            number(self.settings().bytes_max),
        ];
        self.find(&self.shared.statements.send, params, |row| row.get(0))
    }

    /// Lets time pass: removes what has ended, makes ready what is due. Returns how many rows were changed.
    pub(super) fn tick(&self, now: Wall) -> Result<usize, EngineError> {
        let statements = &self.shared.statements;
        let ended = self.execute(&statements.end, [nanos(now)])?;
        self.shared
            .stats
            .with(|stats| stats.expired += ended as u64);
        Ok(ended + self.execute(&statements.make_ready, [nanos(now)])?)
    }

    pub(super) fn look(&self) -> Result<Look, EngineError> {
        let look = self.find(&self.shared.statements.look, [], |row| {
            Ok(Look {
                paused: row.get(0)?,
                ready: row.get(1)?,
                next: row.get::<_, Option<i64>>(2)?.map(wall),
            })
        })?;
        self.only(look)
    }

    /// Hands messages out, and says how many rows were changed beside.
    pub(super) fn receive(&self, max: usize) -> Result<(Vec<Delivery>, usize), EngineError> {
        let statements = &self.shared.statements;
        let now = self.now();
        let ticked = self.tick(now)?;
        if self.counts()?.paused {
            return Ok((Vec::new(), ticked));
        }
        let lease = self.settings().visibility;
        type Ready = (i64, i64, i64, bool);
        let ready: Vec<Ready> = self.list(&statements.ready, [number(max as u64)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        let mut deliveries = Vec::with_capacity(ready.len());
        for (message, before, base, lapsed) in ready {
            let claim = params![message, self.shared.holder, nanos(now + lease)];
            self.execute(&statements.claim, claim)?;
            let (content, sent_at) = self.message(message)?;
            let count = count32(before.saturating_add(1));
            let receipt = Receipt::new(id(message), count.into());
            let mut delivery = Delivery::new(content, receipt, count, sent_at, lease);
            delivery.attempt = count.saturating_sub(count32(base));
            deliveries.push(delivery);
            self.shared.stats.with(|stats| {
                stats.delivered += 1;
                stats.redelivered += u64::from(count > 1);
                stats.lapsed += u64::from(lapsed);
            });
        }
        Ok((deliveries, ticked))
    }

    /// A message without its times, and when it was sent.
    fn message(&self, message: i64) -> Result<(Message, Wall), EngineError> {
        type Stored = (Option<String>, u8, i64, Option<Vec<u8>>, Vec<u8>);
        let statements = &self.shared.statements;
        let stored: Option<Stored> = self.find(&statements.message, [message], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
            ))
        })?;
        let Some((key, priority, sent_at, headers, payload)) = stored else {
            let what = "its delivery is there, and the message is gone";
            return Err(EngineError::inconsistent(
                &statements.messages,
                message,
                what,
            ));
        };
        let mut content = Message::new(payload).priority(priority);
        if let Some(key) = key {
            content = content.key(key);
        }
        let content = decode(headers.as_deref().unwrap_or_default(), content)
            .map_err(|error| EngineError::corrupt(&statements.messages, message, error))?;
        Ok((content, wall(sent_at)))
    }

    /// What a receipt holds that has a say: its bytes.
    fn held(&self, receipt: Receipt) -> Result<Option<u64>, EngineError> {
        let count = i64::try_from(receipt.token()).unwrap_or(i64::MAX);
        let params = params![key(receipt.id()), count];
        let held = self.find(&self.shared.statements.held, params, |row| row.get(0))?;
        Ok(held.map(unsigned))
    }

    pub(super) fn settle(&self, receipt: Receipt, outcome: &Outcome) -> Result<(), SettleError> {
        let statements = &self.shared.statements;
        let now = self.now();
        let message = key(receipt.id());
        self.tick(now).map_err(backend)?;
        let Some(bytes) = self.held(receipt).map_err(backend)? else {
            return Err(SettleError::Stale);
        };
        match outcome {
            Outcome::Done => self.execute(&statements.delete, [message]),
            Outcome::Retry { delay, reason } => {
                let reason = Some(cut(reason)).filter(|reason| !reason.is_empty());
                let retry = params![message, nanos(now + *delay), reason];
                self.execute(&statements.retry, retry)
            }
            Outcome::Reject { reason } => {
                let full = |field, limit| Err(SettleError::DeadLettersFull { field, limit });
                let counts = self.counts().map_err(backend)?;
                let QueueSettings {
                    dead_max,
                    dead_bytes_max,
                    ..
                } = *self.settings();
                if counts.dead >= dead_max {
                    return full("dead_max", dead_max);
                }
                if counts.dead_bytes.saturating_add(bytes) > dead_bytes_max {
                    return full("dead_bytes_max", dead_bytes_max);
                }
                let reject = params![message, cut(reason), nanos(now)];
                self.execute(&statements.reject, reject)
            }
        }
        .map_err(backend)?;
        self.shared.stats.with(|stats| match outcome {
            Outcome::Done => stats.done += 1,
            Outcome::Retry { .. } => stats.retried += 1,
            Outcome::Reject { .. } => stats.rejected += 1,
        });
        Ok(())
    }

    pub(super) fn extend(&self, receipt: Receipt, by: Duration) -> Result<(), SettleError> {
        let now = self.now();
        self.tick(now).map_err(backend)?;
        if self.held(receipt).map_err(backend)?.is_none() {
            return Err(SettleError::Stale);
        }
        let extend = params![key(receipt.id()), nanos(now + by)];
        self.execute(&self.shared.statements.extend, extend)
            .map_err(backend)?;
        Ok(())
    }

    /// When the first lease of this handle ends; none: it has none.
    pub(super) fn leased(&self) -> Result<Option<Wall>, EngineError> {
        let params = params![self.shared.holder, nanos(self.now())];
        let until = self.find(&self.shared.statements.leased, params, |row| row.get(0))?;
        Ok(until.map(wall))
    }

    pub(super) fn release_all(&self) -> Result<u64, EngineError> {
        let now = nanos(self.now());
        let released = self.execute(&self.shared.statements.release_all, [now])?;
        Ok(released as u64)
    }

    pub(super) fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, EngineError> {
        type Dead = (i64, i64, Option<String>, Option<i64>);
        let params = params![after.map_or(0, key), number(max as u64)];
        let dead: Vec<Dead> = self.list(&self.shared.statements.dead, params, |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        dead.into_iter()
            .map(|(letter, count, reason, at)| {
                let (message, sent_at) = self.message(letter)?;
                Ok(DeadLetter {
                    id: id(letter),
                    message,
                    reason: reason.unwrap_or_default().into(),
                    at: wall(at.unwrap_or(0)),
                    sent_at,
                    count: count32(count),
                })
            })
            .collect()
    }

    fn dead(&self, letter: MessageId) -> Result<Option<u64>, EngineError> {
        let statements = &self.shared.statements;
        let bytes = self.find(&statements.dead_one, [key(letter)], |row| row.get(0))?;
        Ok(bytes.map(unsigned))
    }

    pub(super) fn replay(&self, letter: MessageId) -> Result<bool, ManageError> {
        let statements = &self.shared.statements;
        let now = self.now();
        let Some(bytes) = self.dead(letter).map_err(backend)? else {
            return Ok(false);
        };
        self.tick(now).map_err(backend)?;
        let counts = self.counts().map_err(backend)?;
        let QueueSettings {
            messages_max,
            bytes_max,
            ..
        } = *self.settings();
        let full = |field, limit| Err(ManageError::Full { field, limit });
        if counts.live >= messages_max {
            return full("messages_max", messages_max);
        }
        if counts.live_bytes.saturating_add(bytes) > bytes_max {
            return full("bytes_max", bytes_max);
        }
        let place: Option<i64> = self
            .find(&statements.draw_place, [], |row| row.get(0))
            .map_err(backend)?;
        let place = self.only(place).map_err(backend)?;
        let replay = params![key(letter), place, nanos(now)];
        self.execute(&statements.replay, replay).map_err(backend)?;
        Ok(true)
    }

    pub(super) fn discard(&self, letter: MessageId) -> Result<bool, EngineError> {
        let there = self.dead(letter)?.is_some();
        if there {
            self.execute(&self.shared.statements.delete, [key(letter)])?;
        }
        Ok(there)
    }

    pub(super) fn peek(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<Peeked>, EngineError> {
        type Seen = (i64, i64, Option<String>, Option<i64>);
        let statements = &self.shared.statements;
        let now = nanos(self.now());
        let place = match after {
            None => 0,
            // One that is gone meanwhile had its place not before its id.
            Some(after) => self
                .find(&statements.place, [key(after)], |row| row.get(0))?
                .unwrap_or(key(after)),
        };
        let params = params![place, number(max as u64)];
        let seen: Vec<Seen> = self.list(&statements.peek, params, |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        seen.into_iter()
            .map(|(one, count, reason, leased_until)| {
                let (message, sent_at) = self.message(one)?;
                Ok(Peeked {
                    id: id(one),
                    message,
                    sent_at,
                    count: count32(count),
                    leased: leased_until.is_some_and(|until| until > now),
                    reason: reason.map(Arc::from),
                })
            })
            .collect()
    }

    pub(super) fn purge(&self, max: usize) -> Result<usize, EngineError> {
        let params = params![nanos(self.now()), number(max as u64)];
        self.execute(&self.shared.statements.purge, params)
    }

    pub(super) fn stats(&self) -> Result<Stats, EngineError> {
        let statements = &self.shared.statements;
        let now = self.now();
        let counts = self.counts()?;
        let ready: Option<i64> = self.find(&statements.count_ready, [], |row| row.get(0))?;
        let leased: Option<i64> =
            self.find(&statements.count_leased, [nanos(now)], |row| row.get(0))?;
        let oldest: Option<i64> = self.find(&statements.oldest, [], |row| row.get(0))?;
        let oldest = oldest.map(|oldest| self.message(oldest)).transpose()?;
        let mut stats = self.shared.stats.with(|stats| *stats);
        stats.ready = unsigned(ready.unwrap_or(0));
        stats.leased = unsigned(leased.unwrap_or(0));
        stats.waiting = counts
            .live
            .saturating_sub(stats.ready)
            .saturating_sub(stats.leased);
        stats.dead = counts.dead;
        stats.bytes = counts.live_bytes;
        stats.paused = counts.paused;
        stats.oldest_ns = oldest
            .map(|(_, sent_at)| u64::try_from(now.since(sent_at).as_nanos()).unwrap_or(u64::MAX));
        Ok(stats)
    }

    pub(super) fn set_paused(&self, paused: bool) -> Result<(), EngineError> {
        self.execute(&self.shared.statements.set_paused, [paused])?;
        Ok(())
    }
}

impl fmt::Debug for QueueTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueTx")
            .field("table", &self.shared.statements.messages)
            .finish_non_exhaustive()
    }
}
