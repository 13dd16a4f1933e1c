//! Hands messages out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dpat_core::Wall;
use dpat_queue::{Delivery, Receipt};
use tokio::time::Instant;

use super::QueueStore;
use super::rows::{BEGIN, LOOK_COLUMNS, Look, count32, first, id};
use crate::connection::Session;
use crate::error::EngineError;
use crate::sql::{limit, nanos};
use crate::tx::{Row, Run, Value};

/// How often a receive looks again because all that it found waits behind others of its key, each time at four times as many.
const ROUNDS_MAX: usize = 6;

/// How many it looks at, at most.
const BREADTH_MAX: usize = 1_000;

/// When a receive looks again that found everything locked by others.
const SKIPPED: Duration = Duration::from_millis(10);

/// In the token of a receipt, beside the count: the message has a key.
pub(super) const KEYED: u128 = 1 << 64;

/// What a receive found.
pub(super) struct Found {
    pub(super) deliveries: Vec<Delivery>,
    /// It is worth another look at once.
    pub(super) again: bool,
}

/// What a receive took, and where it stands in the order.
struct Taken {
    order: (i64, i64),
    delivery: Delivery,
    is_redelivered: bool,
    is_lapsed: bool,
}

/// What may be handed out of the messages with keys, locked by their turns.
struct Ready {
    order: (i64, i64),
    id: i64,
    key: String,
}

impl QueueStore {
    pub(super) async fn receive_now(
        &self,
        max: usize,
    ) -> Result<(Found, Option<Wall>), EngineError> {
        let mut session = self.shared.pool.session().await?;
        let (mut look, taken) = self.look_and_take(&mut session, max).await?;
        let mut found = self.found(taken, false);
        // Where there is more to it than to look and take.
        if found.deliveries.is_empty() {
            let has_passed = look.has_passed(self.now());
            if has_passed {
                look = self.tick(&mut session).await?;
            }
            if look.paused || !(look.loose || look.keyed) {
                session.done();
                return Ok((found, look.next.filter(|_| !look.paused)));
            }
            found = match look.keyed {
                // All that it found was locked by others.
                false if !has_passed => {
                    session.done();
                    found
                }
                false => self.take_loose(session, max).await?,
                true => self.take(session, max).await?,
            };
        } else {
            session.done();
        }
        let next = look.next;
        let soon = self.now() + SKIPPED;
        let next = match found.deliveries.is_empty() {
            true => Some(next.map_or(soon, |next| next.min(soon))),
            false => next,
        };
        Ok((found, next))
    }

    fn lease(&self) -> i64 {
        nanos(self.now() + self.shared.settings.visibility)
    }

    /// In one statement: it takes nothing where a message with a key is ready, or time has something to do.
    async fn look_and_take(
        &self,
        session: &mut Session,
        max: usize,
    ) -> Result<(Look, Vec<Taken>), EngineError> {
        let params = [
            Value::Int(limit(max)),
            Value::Int(self.shared.holder),
            Value::Int(self.lease()),
            Value::Int(nanos(self.now())),
        ];
        let asked = Instant::now();
        let text = &self.shared.statements.receive;
        let mut rows = session.change(text, &params).await?;
        let row = first(&mut rows)?;
        let look = self.looked(row, asked)?;
        let is_none = row.is_null(LOOK_COLUMNS);
        let taken = match is_none {
            true => Vec::new(),
            false => self.taken(rows, LOOK_COLUMNS)?,
        };
        Ok((look, taken))
    }

    /// Where no message with a key is ready: in one statement.
    async fn take_loose(&self, mut session: Session, max: usize) -> Result<Found, EngineError> {
        let params = [
            Value::Int(limit(max)),
            Value::Int(self.shared.holder),
            Value::Int(self.lease()),
        ];
        let text = &self.shared.statements.claim_loose;
        let rows = session.change(text, &params).await?;
        let taken = self.taken(rows, 0)?;
        session.done();
        Ok(self.found(taken, false))
    }

    async fn take(&self, mut session: Session, max: usize) -> Result<Found, EngineError> {
        let statements = &self.shared.statements;
        session.batch(BEGIN).await?;
        let (keyed, again) = self.ready(&mut session, max).await?;
        let mut ready: Vec<((i64, i64), i64, Option<String>)> = keyed
            .into_iter()
            .map(|one| (one.order, one.id, Some(one.key)))
            .collect();
        if !again {
            let params = [Value::Int(limit(max))];
            for mut row in session.rows(&statements.loose, &params).await? {
                ready.push(((-row.int(1)?, row.int(2)?), row.int(0)?, None));
            }
        }
        ready.sort_by_key(|(order, ..)| *order);
        ready.truncate(max);
        let ids: Vec<i64> = ready.iter().map(|one| one.1).collect();
        let keys: Vec<&str> = ready.iter().filter_map(|one| one.2.as_deref()).collect();
        let mut taken = Vec::new();
        if !ids.is_empty() {
            let params = [
                Value::Ints(&ids),
                Value::Int(self.shared.holder),
                Value::Int(self.lease()),
                Value::Texts(&keys),
            ];
            let rows = session.rows(&statements.claim, &params).await?;
            taken = self.taken(rows, 0)?;
        }
        session.commit().await?;
        Ok(self.found(taken, again))
    }

    /// Locks the turns of messages with keys that may be handed out. What is behind others of its key is shown no longer.
    ///
    /// True: there may be more before what it returns, or there was something to do that the next look sees.
    async fn ready(
        &self,
        session: &mut Session,
        max: usize,
    ) -> Result<(Vec<Ready>, bool), EngineError> {
        let mut breadth = max;
        for _ in 0..ROUNDS_MAX {
            let shown = self.shown(session, breadth).await?;
            let is_all = shown.len() < breadth;
            let keys: BTreeSet<&str> = shown.iter().map(|one| one.key.as_str()).collect();
            let now = self.now();
            let firsts = self.firsts(session, &keys, now).await?;
            let is_first = |one: &Ready| firsts.get(&one.key).is_none_or(|first| first.0 == one.id);
            let behind: Vec<&Ready> = shown.iter().filter(|one| !is_first(one)).collect();
            let mut promoted = 0;
            if !behind.is_empty() {
                let ids: Vec<i64> = behind.iter().map(|one| one.id).collect();
                let keys = behind.iter().map(|one| one.key.as_str()).collect();
                let params = [Value::Ints(&ids)];
                session
                    .rows(&self.shared.statements.demote, &params)
                    .await?;
                (promoted, _) = self.promote(session, &keys, now).await?;
            }
            if promoted == 0 && (is_all || behind.is_empty()) {
                let may = |one: &Ready| firsts.get(&one.key) == Some(&(one.id, true));
                return Ok((shown.into_iter().filter(may).collect(), false));
            }
            breadth = (breadth * 4).min(BREADTH_MAX);
        }
        Ok((Vec::new(), true))
    }

    async fn shown(
        &self,
        session: &mut Session,
        breadth: usize,
    ) -> Result<Vec<Ready>, EngineError> {
        let params = [Value::Int(limit(breadth))];
        let rows = session.rows(&self.shared.statements.keyed, &params).await?;
        let shown = rows.into_iter().map(|mut row| {
            Ok(Ready {
                order: (-row.int(1)?, row.int(2)?),
                id: row.int(0)?,
                key: row.text(3)?,
            })
        });
        shown.collect()
    }

    /// The first message of each key, as it is now that the turns are locked, and whether it is due.
    async fn firsts(
        &self,
        session: &mut Session,
        keys: &BTreeSet<&str>,
        now: Wall,
    ) -> Result<BTreeMap<String, (i64, bool)>, EngineError> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keys: Vec<&str> = keys.iter().copied().collect();
        let params = [Value::Texts(&keys), Value::Int(nanos(now))];
        let rows = session
            .rows(&self.shared.statements.firsts, &params)
            .await?;
        let firsts = rows
            .into_iter()
            .map(|mut row| Ok((row.text(0)?, (row.int(1)?, row.int(2)? != 0))));
        firsts.collect()
    }

    /// Reads what was claimed, in the columns from this one on.
    fn taken(&self, rows: Vec<Row>, at: usize) -> Result<Vec<Taken>, EngineError> {
        let lease = self.shared.settings.visibility;
        let taken = rows.into_iter().map(|mut row| {
            let message = row.int(at)?;
            let (content, sent_at) = self.message(&mut row, message, at + 5)?;
            let (count, base) = (row.int(at + 2)?, row.int(at + 3)?);
            let order = (-i64::from(content.get_priority()), row.int(at + 1)?);
            let keyed = content.get_key().map_or(0, |_| KEYED);
            let token = keyed | u128::from(count.cast_unsigned());
            let receipt = Receipt::new(id(message), token);
            let mut delivery = Delivery::new(content, receipt, count32(count), sent_at, lease);
            delivery.attempt = count32(count.saturating_sub(base));
            Ok(Taken {
                order,
                delivery,
                is_redelivered: count > 1,
                is_lapsed: row.int(at + 4)? != 0,
            })
        });
        taken.collect()
    }

    fn found(&self, mut taken: Vec<Taken>, again: bool) -> Found {
        taken.sort_by_key(|one| one.order);
        self.shared.stats.with(|stats| {
            for one in &taken {
                stats.delivered += 1;
                stats.redelivered += u64::from(one.is_redelivered);
                stats.lapsed += u64::from(one.is_lapsed);
            }
        });
        Found {
            deliveries: taken.into_iter().map(|one| one.delivery).collect(),
            again,
        }
    }
}
