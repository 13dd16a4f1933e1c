//! What every call does with the rows: time passes, rows are locked, counted and removed.

use std::collections::{BTreeMap, BTreeSet};

use dpat_core::{Clock, Wall};
use dpat_queue::{BackendError, Message, MessageId, REASON_BYTES_MAX};
use tokio::time::Instant;

use super::message::decode;
use super::{QueueClock, QueueStore};
use crate::connection::Session;
use crate::error::EngineError;
use crate::sql::{nanos, unsigned};
use crate::tx::{Row, Run, Value};

/// How many rows a step of a tick changes.
const TICK: i64 = 1_000;

pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Whether there is something to receive, and when time has something to do.
pub(super) struct Look {
    pub(super) paused: bool,
    /// Of messages without a key.
    pub(super) loose: bool,
    pub(super) keyed: bool,
    pub(super) next: Option<Wall>,
    ends: Option<Wall>,
    forgets: Option<Wall>,
}

/// How many columns a look has.
pub(super) const LOOK_COLUMNS: usize = 7;

impl Look {
    /// Whether time has something to do by then.
    pub(super) fn has_passed(&self, now: Wall) -> bool {
        let times = [self.next, self.ends, self.forgets];
        times.into_iter().flatten().any(|time| time <= now)
    }
}

/// A message as it stands, locked.
pub(super) struct Held {
    pub(super) id: i64,
    pub(super) key: Option<String>,
    pub(super) bytes: u64,
    pub(super) is_live: bool,
    pub(super) count: i64,
    pub(super) is_held: bool,
    pub(super) leased_until: Option<i64>,
    pub(super) ends: Option<i64>,
}

impl Held {
    pub(super) fn has_ended(&self, now: Wall) -> bool {
        self.ends.is_some_and(|ends| ends <= nanos(now))
    }
}

pub(super) fn id(of: i64) -> MessageId {
    MessageId::new(unsigned(of).into())
}

/// No message has an id beyond the largest integer.
pub(super) fn key(id: MessageId) -> i64 {
    i64::try_from(id.get()).unwrap_or(i64::MAX)
}

pub(super) fn wall(nanos: i64) -> Wall {
    Wall::from_nanos(unsigned(nanos))
}

pub(super) fn count32(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Cuts a reason to what is kept of it.
pub(super) fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

pub(super) fn first(rows: &mut [Row]) -> Result<&mut Row, EngineError> {
    rows.first_mut().ok_or_else(|| EngineError::column(0))
}

pub(super) fn backend(error: EngineError) -> BackendError {
    error.into()
}

impl QueueStore {
    /// What time it is for the queue.
    pub(super) fn now(&self) -> Wall {
        let own = || self.shared.time.wall();
        match self.shared.settings.clock {
            QueueClock::Caller => own(),
            QueueClock::Server => {
                let now = Instant::now();
                let read = self.shared.clock.with(|clock| clock.now(now));
                read.unwrap_or_else(own)
            }
        }
    }

    /// Takes what the server's clock showed between asking and now.
    pub(super) fn read_clock(&self, nanos: i64, asked: Instant) {
        let (server, answered) = (wall(nanos), Instant::now());
        self.shared
            .clock
            .with(|clock| clock.read(server, asked, answered));
    }

    pub(super) async fn look(&self, on: &mut impl Run) -> Result<Look, EngineError> {
        let asked = Instant::now();
        let mut rows = on.rows(&self.shared.statements.look, &[]).await?;
        self.looked(first(&mut rows)?, asked)
    }

    /// Reads what a look returns, in the first columns.
    pub(super) fn looked(&self, row: &mut Row, asked: Instant) -> Result<Look, EngineError> {
        self.read_clock(row.int(0)?, asked);
        Ok(Look {
            paused: row.maybe_int(1)?.unwrap_or(0) != 0,
            loose: row.maybe_int(2)?.is_some(),
            keyed: row.maybe_int(3)?.is_some(),
            next: row.maybe_int(4)?.map(wall),
            ends: row.maybe_int(5)?.map(wall),
            forgets: row.maybe_int(6)?.map(wall),
        })
    }

    /// Lets time pass, in transactions of its own: removes what has ended, makes ready what is due.
    pub(super) async fn tick(&self, session: &mut Session) -> Result<Look, EngineError> {
        let statements = &self.shared.statements;
        loop {
            let look = self.look(session).await?;
            let now = self.now();
            let params = [Value::Int(nanos(now))];
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
        let ended: Vec<&Held> = held.values().filter(|held| held.has_ended(now)).collect();
        self.delete(session, &ended, now).await?;
        session.batch("COMMIT").await?;
        let expired = ended.len() as u64;
        self.shared.stats.with(|stats| stats.expired += expired);
        Ok(())
    }

    /// Locks rows in the order that everybody keeps: turns, then ids.
    pub(super) async fn locked(
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

    pub(super) async fn delete(
        &self,
        session: &mut Session,
        gone: &[&Held],
        now: Wall,
    ) -> Result<(), EngineError> {
        if gone.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = gone.iter().map(|held| held.id).collect();
        let params = [Value::Ints(&ids)];
        session
            .rows(&self.shared.statements.delete, &params)
            .await?;
        let keys: BTreeSet<&str> = gone.iter().filter_map(|held| held.key.as_deref()).collect();
        self.promote(session, &keys, now).await?;
        Ok(())
    }

    /// Lets the first message of each key be found; returns how many were not found, and of how many keys there is one.
    pub(super) async fn promote(
        &self,
        session: &mut Session,
        keys: &BTreeSet<&str>,
        now: Wall,
    ) -> Result<(i64, i64), EngineError> {
        if keys.is_empty() {
            return Ok((0, 0));
        }
        let keys: Vec<&str> = keys.iter().copied().collect();
        let params = [Value::Texts(&keys), Value::Int(nanos(now))];
        let mut rows = session
            .rows(&self.shared.statements.promote, &params)
            .await?;
        let row = first(&mut rows)?;
        Ok((row.int(0)?, row.int(1)?))
    }

    /// The statement that tells the receivers of all processes, if they are to be told.
    pub(super) fn telling(&self) -> Option<&str> {
        let notifies = self.shared.pool.config.notifies;
        notifies.then_some(&*self.shared.statements.notify)
    }

    /// Messages without their times, and when each was sent.
    pub(super) async fn messages(
        &self,
        session: &mut Session,
        ids: &[i64],
    ) -> Result<BTreeMap<i64, (Message, Wall)>, EngineError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let params = [Value::Ints(ids)];
        let rows = session
            .rows(&self.shared.statements.contents, &params)
            .await?;
        let messages = rows.into_iter().map(|mut row| {
            let id = row.int(0)?;
            Ok((id, self.message(&mut row, id, 1)?))
        });
        messages.collect()
    }

    /// Reads key, priority, time of sending, headers and payload from the columns from this one on.
    pub(super) fn message(
        &self,
        row: &mut Row,
        id: i64,
        at: usize,
    ) -> Result<(Message, Wall), EngineError> {
        let priority = u8::try_from(row.int(at + 1)?).unwrap_or(0);
        let mut content = Message::new(row.bytes(at + 4)?).priority(priority);
        if let Some(key) = row.maybe_text(at)? {
            content = content.key(key);
        }
        let headers = row.maybe_bytes(at + 3)?.unwrap_or_default();
        let table = &self.shared.statements.messages;
        let content =
            decode(&headers, content).map_err(|error| EngineError::corrupt(table, id, error))?;
        Ok((content, wall(row.int(at + 2)?)))
    }
}

/// Rows and bytes of a count.
pub(super) async fn count(
    on: &mut impl Run,
    text: &str,
    params: &[Value<'_>],
) -> Result<(u64, u64), EngineError> {
    let mut rows = on.rows(text, params).await?;
    let row = first(&mut rows)?;
    Ok((unsigned(row.int(0)?), unsigned(row.int(1)?)))
}
